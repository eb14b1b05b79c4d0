package concurrencylimiting

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goccy/go-json"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
)

func document(settings string) string {
	return `
_format_version: "3.0"
services:
- {name: a, url: "http://a.internal"}
- {name: b, url: "http://b.internal"}
- {name: unused, url: "http://unused.internal"}
routes:
- {name: r, service: a, paths: [/]}
- {name: s, service: b, paths: [/b]}
consumers:
- {username: bob, custom_id: b-1}
- {username: eve}
plugins:
- name: concurrency-limiting
  instance_name: one
  config: {` + settings + "}\n"
}

func read(text string) (*config.Document, error) {
	return config.Read([]config.Source{{Name: "test.yaml", Data: []byte(text)}},
		config.Options{Catalog: &pipeline.Specs{All: []pipeline.Spec{Spec}}})
}

func TestSettingsRefused(t *testing.T) {
	f := func(settings, want string) {
		t.Helper()
		_, err := read(document(settings))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("{%s}:\n got %v\nwant %s", settings, err, want)
		}
	}
	f("", "at least one of these fields must be non-empty: 'max', 'adaptive'")
	f("limit_by: ip", "at least one of these fields must be non-empty")
	f("max: 0", "max: value should be between 1 and 1000000")
	f("max: 2, limit_by: cookie", "limit_by: expected one of: consumer, credential, ip, service, header, path")
	f("max: 2, limit_by: header", "header_name: required field missing")
	f("max: 2, limit_by: path", "path: required field missing")
	f("max: 2, limit_by: path, path: users", "path: should start with: /")
	f("max: 2, limit_by: header, header_name: X Device", "header_name: bad header name 'X Device'")
	f("max: 2, keys_max: 1", "keys_max: value should be between")
	f("max: 2, error_code: 42", "error_code: value should be between 100 and 599")
	f("adaptive: {min: 10, max: 5}", "adaptive.max: min (10) may not be above max (5)")
	f("adaptive: {min: 2000}", "adaptive.min: min (2000) may not be above max (1000)")
	f("adaptive: {start: 2}", "adaptive.start: should be between min (4) and max (1000)")
	f("adaptive: {tolerance: 0.5}", "adaptive.tolerance: value should be between 1 and 100")
	f("adaptive: {smoothing: 0}", "adaptive.smoothing: value must be greater than 0")
	f("limit: 2", "unknown field")
}

func TestSettingsAccepted(t *testing.T) {
	f := func(settings string) {
		t.Helper()
		if _, err := read(document(settings)); err != nil {
			t.Errorf("{%s}: %v", settings, err)
		}
	}
	f("max: 1")
	f("adaptive: {}")
	f("max: 1, adaptive: {min: 1, max: 2000, start: 7, tolerance: 2, smoothing: 1, window: 1, error_code: 429, error_message: No, retry_after: 0}")
	f("max: 5, limit_by: consumer-group, retry_after: 0")
}

func TestExampleLoads(t *testing.T) {
	example, err := os.ReadFile("example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	g := pipelinetest.Open(t, string(example), Spec)
	if x := g.Do("GET", "/reports"); x.Ctx.Response.StatusCode() != 200 {
		t.Errorf("status %d", x.Ctx.Response.StatusCode())
	}
}

// begin sends a request as far as the service, or to its refusal.
func begin(g *pipelinetest.Gateway, x *pipeline.Exchange) bool {
	g.Chain.Begin(x)
	if g.Chain.Request(x) == pipeline.Done {
		g.Chain.Response(x)
		g.Chain.Log(x)
		return false
	}
	x.UpstreamStart = pipeline.Now()
	return true
}

// end answers a request that has begun.
func end(g *pipelinetest.Gateway, x *pipeline.Exchange, status int, latency time.Duration) {
	x.UpstreamHeaders = x.UpstreamStart + int64(latency)
	x.Source, x.UpstreamStatus = pipeline.SourceService, status
	x.Ctx.Response.SetStatusCode(status)
	g.Chain.Response(x)
	g.Chain.Log(x)
}

func TestLimit(t *testing.T) {
	g := pipelinetest.Open(t, document("max: 2, limit_by: ip"), Spec)
	request := func() *pipeline.Exchange { return g.Exchange("GET", "/", "Accept", "text/plain") }
	first, second, third := request(), request(), request()
	if !begin(g, first) || !begin(g, second) {
		t.Fatal("refused below the limit")
	}
	if begin(g, third) {
		t.Fatal("admitted above the limit")
	}
	r := &third.Ctx.Response
	if r.StatusCode() != 429 || !strings.HasPrefix(string(r.Body()), "Too many concurrent requests\n") || string(r.Header.Peek("Retry-After")) != "1" {
		t.Errorf("refused with %d %q, Retry-After %q", r.StatusCode(), r.Body(), r.Header.Peek("Retry-After"))
	}
	if third.Source != pipeline.SourceGateway {
		t.Error("the refusal is not the gateway's")
	}
	other := request()
	other.ClientIP = netip.MustParseAddr("198.51.100.7")
	if !begin(g, other) {
		t.Error("another caller is refused")
	}
	end(g, first, 200, 0)
	if third = request(); !begin(g, third) {
		t.Error("refused though one has ended")
	}
	if begin(g, request()) {
		t.Error("admitted above the limit")
	}
	end(g, second, 500, 0)
	end(g, third, 200, 0)
	end(g, other, 200, 0)
	want := `sluice_concurrency_requests{plugin="one"} 0
sluice_concurrency_callers{plugin="one"} 0
sluice_concurrency_refusals_total{plugin="one"} 2
sluice_concurrency_full_total{plugin="one"} 0
`
	if got := metrics(t, g); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// keptCallers returns what the instance of g keeps.
func keptCallers(t *testing.T, g *pipelinetest.Gateway, c *Config) *callers {
	t.Helper()
	env := *g.Env
	env.Plugin = g.Env.Document.Plugins[0]
	k, err := keepCallers(c, &env)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func metrics(t *testing.T, g *pipelinetest.Gateway) string {
	t.Helper()
	c := defaults
	faults := config.Decode(g.Env.Document.Plugins[0].Config, &c)
	if err := faults.Err(); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	keptCallers(t, g, &c).Expose(&b)
	return b.String()
}

func TestRefusalInOwnWords(t *testing.T) {
	g := pipelinetest.Open(t, document("max: 1, error_code: 503, error_message: Wait, retry_after: 0"), Spec)
	x := g.Exchange("GET", "/")
	begin(g, x)
	y := g.Exchange("GET", "/", "Accept", "text/plain")
	if begin(g, y) {
		t.Fatal("admitted")
	}
	r := &y.Ctx.Response
	if r.StatusCode() != 503 || !strings.HasPrefix(string(r.Body()), "Wait\n") || r.Header.Peek("Retry-After") != nil {
		t.Errorf("%d %q %q", r.StatusCode(), r.Body(), r.Header.Peek("Retry-After"))
	}
	end(g, x, 200, 0)
}

func TestWhoSharesACount(t *testing.T) {
	type caller struct {
		consumer, ip, header, path string
		service                    int
	}
	f := func(settings string, first, second caller, shared bool) {
		t.Helper()
		g := pipelinetest.Open(t, document("max: 1, "+settings), Spec)
		request := func(c caller) *pipeline.Exchange {
			x := g.Exchange("GET", "/"+c.path)
			if c.header != "" {
				x.Ctx.Request.Header.Set("X-Device-ID", c.header)
			}
			if c.ip != "" {
				x.ClientIP = netip.MustParseAddr(c.ip)
			}
			x.Service = g.Env.Document.Services[c.service]
			if c.consumer != "" {
				x.Consumer = g.Env.Consumers.Find(c.consumer)
				x.Credential = &pipeline.Credential{ID: "key of " + c.consumer, Consumer: x.Consumer}
			}
			return x
		}
		x, y := request(first), request(second)
		begin(g, x)
		if refused := !begin(g, y); refused != shared {
			t.Errorf("{%s}: %+v and %+v share a count: %v, want %v", settings, first, second, refused, shared)
		}
		// What names the caller may be changed on the way to the service.
		x.Ctx.Request.Header.Del("X-Device-ID")
		x.Consumer, x.Credential, x.Path = nil, nil, []byte("/other")
		end(g, x, 200, 0)
		if z := request(first); !begin(g, z) && !shared {
			t.Errorf("{%s}: the first request is still counted", settings)
		}
	}
	bob, eve := caller{consumer: "bob"}, caller{consumer: "eve"}
	f("limit_by: consumer", bob, caller{consumer: "bob", ip: "198.51.100.7"}, true)
	f("limit_by: consumer", bob, eve, false)
	f("limit_by: consumer", bob, caller{}, false)
	f("limit_by: credential", bob, eve, false)
	f("limit_by: ip", bob, eve, true)
	f("limit_by: service", bob, caller{consumer: "eve", ip: "198.51.100.7"}, true)
	f("limit_by: service", bob, caller{consumer: "bob", service: 1}, false)
	f("limit_by: header, header_name: x-device-id", caller{header: "d1"}, caller{header: "d1", ip: "198.51.100.7"}, true)
	f("limit_by: header, header_name: X-Device-ID", caller{header: "d1"}, caller{header: "d2"}, false)
	f("limit_by: header, header_name: X-Device-ID", caller{header: "192.0.2.1"}, caller{}, false)
	f("limit_by: path, path: /search", caller{path: "search"}, caller{path: "search", ip: "198.51.100.7"}, true)
	f("limit_by: path, path: /search", caller{path: "search"}, caller{path: "other"}, false)
	f("limit_by: consumer-group", bob, eve, true)
}

func TestExactUnderConcurrency(t *testing.T) {
	const limit = 7
	g := pipelinetest.Open(t, document(fmt.Sprintf("max: %d", limit)), Spec)
	var inFlight, most, admitted atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 500 {
				x := g.Exchange("GET", "/")
				if !begin(g, x) {
					continue
				}
				admitted.Add(1)
				n := inFlight.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				inFlight.Add(-1)
				end(g, x, 200, 0)
			}
		})
	}
	wg.Wait()
	if most.Load() > limit || admitted.Load() == 0 {
		t.Errorf("%d in flight, limit %d; %d admitted", most.Load(), limit, admitted.Load())
	}
	if got := metrics(t, g); !strings.Contains(got, "sluice_concurrency_requests{plugin=\"one\"} 0\n") {
		t.Errorf("left behind:\n%s", got)
	}
}

// TestLostExchange is a request whose Log hooks never run: its client went away after
// it was told to send the body.
func TestLostExchange(t *testing.T) {
	g := pipelinetest.Open(t, document("max: 1, adaptive: {}"), Spec)
	x := g.Exchange("GET", "/")
	if !begin(g, x) {
		t.Fatal("refused")
	}
	x.Ctx.Request.Reset()
	y := g.Exchange("GET", "/")
	if !begin(g, y) {
		t.Error("the lost request is still counted")
	}
	end(g, y, 200, 0)
	if got := metrics(t, g); !strings.Contains(got, "sluice_concurrency_requests{plugin=\"one\"} 0\n") {
		t.Errorf("left behind:\n%s", got)
	}
}

func TestFullTable(t *testing.T) {
	g := pipelinetest.Open(t, document("max: 1, limit_by: header, header_name: X-Device-ID, keys_max: 64"), Spec)
	refused := 0
	for i := range 1000 {
		if !begin(g, g.Exchange("GET", "/", "X-Device-ID", fmt.Sprint(i))) {
			refused++
		}
	}
	got := metrics(t, g)
	if refused == 0 || !strings.Contains(got, fmt.Sprintf("sluice_concurrency_full_total{plugin=\"one\"} %d\n", refused)) {
		t.Errorf("%d refused, metrics\n%s", refused, got)
	}
}

func TestAnsweredBefore(t *testing.T) {
	g := pipelinetest.Open(t, document("max: 1, adaptive: {}"), Spec)
	x := g.Exchange("GET", "/")
	g.Chain.Begin(x)
	x.Answer(pipeline.NewReply(401, "No API key found in request"))
	g.Chain.Response(x)
	g.Chain.Log(x) // leaves nothing that was not entered
	if got := metrics(t, g); !strings.Contains(got, "sluice_concurrency_requests{plugin=\"one\"} 0\n") {
		t.Error(got)
	}
}

func TestReloadKeepsCounts(t *testing.T) {
	keeper := pipeline.NewKeeper()
	load := func(settings string) (*pipeline.Chain, *pipeline.Holder) {
		t.Helper()
		holder := keeper.Hold()
		env := pipeline.NewEnv(*pipelinetest.NewEnv(t, document(settings), Spec), holder)
		hooks, err := Spec.Build(env.Document.Plugins[0], env)
		if err != nil {
			t.Fatal(err)
		}
		return pipeline.NewChain([]pipeline.Link{{Everyone: &hooks}}), holder
	}
	request := func(c *pipeline.Chain) (*pipeline.Exchange, pipeline.Verdict) {
		x := pipelinetest.NewExchange("GET", "/")
		c.Begin(x)
		return x, c.Request(x)
	}
	first, one := load("max: 2")
	a, _ := request(first)
	second, two := load("max: 1, error_message: Enough")
	if _, v := request(second); v != pipeline.Done {
		t.Error("a reload forgot what is in flight")
	}
	first.Log(a)
	b, v := request(second)
	if v != pipeline.Next {
		t.Error("what the old snapshot left is still counted")
	}
	second.Log(b)
	for _, h := range []*pipeline.Holder{one, two} {
		if err := h.Release(); err != nil {
			t.Error(err)
		}
	}
}

func TestLabels(t *testing.T) {
	if got := escape("a\"b\\c\nd\xff"); got != "a\\\"b\\\\c\\nd\uFFFD" {
		t.Errorf("escaped %q", got)
	}
	g := pipelinetest.Open(t, document("max: 1"), Spec)
	c := defaults
	kind, name, report := keptCallers(t, g, &c).Report()
	text, err := json.Marshal(report)
	if kind != "concurrency" || name != "one" || err != nil || string(text) != `{"requests":0,"callers":0,"refusals":0,"full":0}` {
		t.Errorf("%s %s %s %v", kind, name, text, err)
	}
}

func TestNoAllocations(t *testing.T) {
	f := func(settings, consumer string) {
		t.Helper()
		g := pipelinetest.Open(t, document(settings), Spec)
		x := g.Exchange("GET", "/", "X-Device-ID", "d1")
		c := g.Env.Consumers.Find(consumer)
		g.Allocs(x, func(x *pipeline.Exchange) { x.Consumer = c })
	}
	f("max: 5", "bob")
	f("max: 5", "")
	f("max: 5, limit_by: header, header_name: X-Device-ID", "")
	f("max: 5, limit_by: service", "")
	f("max: 5, adaptive: {}", "bob")
	f("adaptive: {}", "")
}

func TestRefusalsDoNotAllocate(t *testing.T) {
	g := pipelinetest.Open(t, document("max: 1"), Spec)
	begin(g, g.Exchange("GET", "/"))
	g.Allocs(g.Exchange("GET", "/"), nil)
}

func BenchmarkRequest(b *testing.B) {
	g := pipelinetest.Open(b, document("max: 5, limit_by: ip"), Spec)
	x := g.Exchange("GET", "/")
	g.Chain.Begin(x)
	b.ReportAllocs()
	for b.Loop() {
		g.Chain.Request(x)
		g.Chain.Log(x)
	}
}
