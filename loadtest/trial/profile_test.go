package trial

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/examples"
)

func environment(name string) (string, bool) {
	value, ok := map[string]string{"API_KEY": "alice-key", "EMPTY": "", "LINES": "a\r\nb"}[name]
	return value, ok
}

func TestProfileDefaultsAndValues(t *testing.T) {
	p, err := ReadProfile("p.yaml", []byte(`
requests:
- path: /a
- method: POST
  path: /b?x=1
  host: api.example.com:8080
  headers: {apikey: "key ${API_KEY}", X-Other: "${UNSET:-fallback}", X-Empty: "${EMPTY:-fallback}"}
  body: "{}"
  status: 201
  weight: 3
service: {latency: 5ms}
rate: 250
thresholds: {wire_ratio: 1.4, p99: 20ms, failures: 0.5%, memory: 64m}
`), environment)
	if err != nil {
		t.Fatal(err)
	}
	if r := p.Requests[0]; r.Method != "GET" || r.Host != "localhost" || r.Weight != 1 || r.Status != 0 {
		t.Errorf("defaults of a request: %+v", r)
	}
	h := p.Requests[1].Headers
	if h["apikey"] != "key alice-key" || h["X-Other"] != "fallback" || h["X-Empty"] != "fallback" {
		t.Errorf("headers: %v", h)
	}
	if p.Connections != 64 || p.Rounds != 5 || p.Service.BodyBytes != 1024 || p.Service.Status != 200 || p.Rate != (Rate{PerSecond: 250}) {
		t.Errorf("%+v", p)
	}
	want := Thresholds{WireRatio: 1.4, P99: Duration(20 * time.Millisecond), Failures: 0.005, Memory: 64 << 20}
	if p.Thresholds != want {
		t.Errorf("thresholds: %+v", p.Thresholds)
	}
}

// TestProfileRefused holds what is said of a wrong profile: where, what, and what would
// be right.
func TestProfileRefused(t *testing.T) {
	f := func(text string, wants ...string) {
		t.Helper()
		_, err := ReadProfile("p.yaml", []byte(text), environment)
		if err == nil {
			t.Errorf("accepted:\n%s", text)
			return
		}
		if _, ok := errors.AsType[config.Faults](err); !ok {
			t.Errorf("%T is no list of faults", err)
		}
		for _, want := range wants {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q is not in:\n%v", want, err)
			}
		}
	}
	f("", "expected one profile, got 0")
	f("rounds: 1\n---\nrounds: 2", "got 2 YAML documents")
	f("rounds: 3\ntreshholds: {p99: 1s}", "p.yaml:2:1: treshholds: unknown field", `did you mean "thresholds"?`)
	f("thresholds: {p90: 1s}", "p.yaml:1:14", `did you mean "p50"?`)
	f("rounds: 0", "p.yaml:1:9: rounds: value should be between 1 and 100")
	f("rounds: three", "expected an integer", `"three"`)
	f("connections: 5000", "value should be between 1 and 4096")
	f("duration: 2", "duration: expected a duration with its unit such as 500ms or 2s", `got "2"`)
	f("duration: 1ms", "should be between 100ms and 10m0s, got 1ms")
	f("warm_up: 1h", "should be at most 10m0s, got 1h")
	f("rate: fast", "rate: expected requests per second such as 2000", `got "fast"`)
	f("rate: 0", "between 1 and 1000000")
	f(`rate: "300%"`, "between 1% and 200%")
	f("rate: NaN", "between 1 and 1000000")
	f("rate: 2\nduration: 1s", "p.yaml:1:7: rate: 2/s for 1s is 2 requests a measurement; at least 10")
	f("service: {latency: 20s}", "should be at most 10s, got 20s")
	f("service: {latency: 2s}", "should be at most half of duration, which is 2s, got 2s")
	f("service: {status: 101}", "value should be between 200 and 599")
	f("thresholds: {failures: 2}", "expected a share between 0 and 1", `got "2"`)
	f("thresholds: {memory: lots}", "expected a size such as 8m")
	f("requests: [{method: GET}]", "requests[0].path: required field missing")
	f("requests: [{path: x}]", "expected a path from / on", `got "x"`)
	f("requests: [{path: /a b}]", "escaped as it goes over the wire")
	f("requests: [{path: /, method: 'G T'}]", "expected a method such as GET")
	f("requests: [{path: /, host: 'a b'}]", "expected a host name")
	f("requests: [{path: /, status: 100}]", "should be between 200 and 599, got 100")
	f("requests: [{path: /, weight: 0}]", "value should be between 1 and 1000")
	f("requests: [{path: /, headers: {Host: x}}]", "stands in its own field: host")
	f("requests: [{path: /, headers: {content-length: '3'}}]", "written by the generator")
	f("requests: [{path: /, headers: {'a b': x}}]", "is not a name of a header field")
	f("requests:\n- path: /\n  headers:\n    apikey: ${NO_KEY}", "p.yaml:4:13: requests[0].headers.apikey: environment variable NO_KEY is not set", "${NO_KEY:-default}")
	f("requests: [{path: /, headers: {x: '${LINES}'}}]", "one line without control characters")
	f("rounds: 1\nrounds: 2", "duplicate key")
	f("requests: ["+strings.Repeat("{path: /},", requestsMax+1)+"]", "at most 1000 requests, got 1001")
}

func TestExampleProfile(t *testing.T) {
	p, err := ReadProfile("profile.yaml", examples.Profile, environment)
	if err != nil {
		t.Fatal(err)
	}
	if p.Thresholds.WireRatio == 0 || p.Thresholds.P99 == 0 {
		t.Error("the example shows no thresholds")
	}
	// The part that is commented out is a profile, too.
	_, shown, ok := strings.Cut(string(examples.Profile), "#\n# requests:\n")
	shown, _, end := strings.Cut(shown, "\n\n")
	if !ok || !end {
		t.Fatal("the example shows no requests")
	}
	p, err = ReadProfile("p.yaml", []byte("requests:\n"+strings.ReplaceAll("\n"+shown, "\n# ", "\n")), environment)
	if err != nil || p.Requests[0].Headers["apikey"] != "alice-key" {
		t.Errorf("%+v, %v", p, err)
	}
}
