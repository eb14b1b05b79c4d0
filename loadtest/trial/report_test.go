package trial

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"strings"
	"testing"
	"time"
)

// reported is a report with the figures that thresholds are about.
func reported(t *Thresholds) *Report {
	p := NewProfile()
	p.Thresholds = *t
	r := newReport(&Options{Profile: p, ProfileName: "p|<b>.yaml", Build: Build{Version: "v1", Commit: "0123456789abcdef", Go: "go1"}})
	r.figure(figureRatio, "x", []float64{1.3, 1.35, 1.5})
	for i, q := range quantiles {
		r.figure(q.name, "ms", []float64{float64(i) + 1, float64(i) + 1.5, float64(i) + 2})
	}
	r.figure(figureMemory, "MiB", []float64{30, 20, 25})
	r.figure(figureFailures, "%", []float64{0.05})
	r.Requests, r.Failed, r.FailedHow = 2000, 1, "1 another status"
	r.warn("a <warning>")
	r.judge(t)
	return r
}

func TestJudge(t *testing.T) {
	f := func(th Thresholds, missed ...string) *Report {
		t.Helper()
		if th.Failures == 0 {
			th.Failures = 0.001
		}
		r := reported(&th)
		var names []string
		for _, j := range r.Missed() {
			names = append(names, j.Name)
		}
		if strings.Join(names, " ") != strings.Join(missed, " ") || (r.Verdict == Fine) != (len(missed) == 0) {
			t.Errorf("%+v: %s, missed %v, want %v", th, r.Verdict, names, missed)
		}
		return r
	}
	ms := func(n float64) Duration { return Duration(n * float64(time.Millisecond)) }
	f(Thresholds{})
	f(Thresholds{WireRatio: 1.35})
	f(Thresholds{WireRatio: 1.34}, "wire_ratio")
	f(Thresholds{P50: ms(1.5), P95: ms(2.4), P99: ms(3.5), P999: ms(4.4)}, "p95", "p999")
	f(Thresholds{Failures: 0.0004}, "failures")
	f(Thresholds{Memory: 30 << 20})
	f(Thresholds{Memory: 29 << 20}, "memory") // the largest counts
	if r := f(Thresholds{WireRatio: 1.4}); !r.Judged[0].Close || r.Judged[0].verdict() != "fine, closely" {
		t.Errorf("%+v", r.Judged[0])
	}
	if r := f(Thresholds{WireRatio: 1.2}, "wire_ratio"); r.Judged[0].Close || r.Judged[0].verdict() != "MISSED" {
		t.Errorf("%+v", r.Judged[0])
	}
	// Failures are judged without being asked for.
	if r := reported(&Thresholds{}); r.Verdict != Missed || r.Missed()[0].Name != "failures" {
		t.Errorf("%s, %v", r.Verdict, r.Missed())
	}
}

func TestFormats(t *testing.T) {
	r := reported(&Thresholds{WireRatio: 1.2, P99: Duration(time.Second), Failures: 0.01})
	for format, wants := range map[string][]string{
		"text":     {"wire_ratio  1.20x  1.35x", "1.30x to 1.50x", "MISSED", "warning: a <warning>", "1 of 2000 requests: 1 another status", "v1, commit 0123456789ab, go1", "missed: wire_ratio is 1.35x, limit 1.20x\n"},
		"markdown": {"## Gateway trial: p\\|&lt;b>.yaml\n", "| wire_ratio | 1.20x | 1.35x | 1.30x to 1.50x | **MISSED** |", "| p99 | 1s | 3.5ms | 3ms to 4ms | fine |", "- warning: a &lt;warning>"},
		"json":     {`"verdict":"missed"`, `"commit":"0123456789abcdef"`, `"kernel"`, `"met":false`},
		"junit":    {`tests="3" failures="1" errors="0"`, `<failure message="wire_ratio is missed: measured 1.35x, limit 1.20x (median of the rounds within 1.30x to 1.50x)">`},
	} {
		text := string(r.Render(format))
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in:\n%s", format, want, text)
			}
		}
	}
	line := r.Render("json")
	var back Report
	if err := json.Unmarshal(line, &back); err != nil || bytes.Count(line, []byte("\n")) != 1 || back.Judged[0].Limit != 1.2 {
		t.Errorf("%v: %s", err, line)
	}
	again, err := ReadReport(append([]byte("{}\n"), line...))
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range Formats {
		if !bytes.Equal(again.Render(format), r.Render(format)) {
			t.Errorf("%s of a report that was read again:\n%s", format, again.Render(format))
		}
	}
	for _, wrong := range []string{"", "{}", "text", string(line) + "{}"} {
		if _, err := ReadReport([]byte(wrong)); err == nil || !strings.Contains(err.Error(), "--format json") {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	var suite junitSuite
	if err := xml.Unmarshal(r.Render("junit"), &suite); err != nil || len(suite.Cases) != 3 || suite.Cases[0].Failure == nil || suite.Cases[1].Failure != nil {
		t.Errorf("%v: %+v", err, suite)
	}
}

// TestFailureIsReported holds that every format says why there are no figures.
func TestFailureIsReported(t *testing.T) {
	p := NewProfile()
	r, err := Run(t.Context(), &Options{Profile: p, Document: document(t, "services: [{name: a, url: 'http://a.internal'}]")})
	if !errors.Is(err, errNothingToAsk) || r.Verdict != Failed {
		t.Fatalf("%v, %s", err, r.Verdict)
	}
	for _, format := range Formats {
		if !strings.Contains(string(r.Render(format)), "no request to send") {
			t.Errorf("%s:\n%s", format, r.Render(format))
		}
	}
	var suite junitSuite
	if err := xml.Unmarshal(r.Render("junit"), &suite); err != nil || suite.Errors != 1 || suite.Cases[0].Error == nil {
		t.Errorf("%v: %+v", err, suite)
	}
}

func TestAmounts(t *testing.T) {
	f := func(v float64, unit, want string) {
		t.Helper()
		if got := amount(v, unit); got != want {
			t.Errorf("%g %s: %q, want %q", v, unit, got, want)
		}
	}
	f(1.234567, "ms", "1.23ms")
	f(0.0123456, "ms", "12.3µs")
	f(1234.5, "ms", "1.23s")
	f(0, "ms", "0s")
	f(12345.6, "/s", "12346/s")
	f(1.356, "x", "1.36x")
	f(0.05, "%", "0.05%")
	f(23.456, "MiB", "23.46 MiB")
}
