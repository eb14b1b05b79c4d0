package concurrencylimiting

import (
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
)

func shieldOf(t *testing.T, g *pipelinetest.Gateway, settings *Adaptive) *shield {
	t.Helper()
	env := *g.Env
	env.Plugin = g.Env.Document.Plugins[0]
	kept, err := keepShields(settings, &env)
	if err != nil {
		t.Fatal(err)
	}
	if len(kept) != 2 {
		t.Errorf("%d services have a limit, want the 2 with routes", len(kept))
	}
	return kept[g.Env.Document.Services[0]]
}

func adaptive(min, max, start int) *Adaptive {
	a := new(Adaptive)
	a.SetDefaults()
	a.Min, a.Max, a.Start = min, max, start
	return a
}

func TestAdaptiveSheds(t *testing.T) {
	g := pipelinetest.Open(t, document("adaptive: {min: 1, max: 3, start: 3}"), Spec)
	var under []*pipeline.Exchange
	for range 3 {
		x := g.Exchange("GET", "/")
		if !begin(g, x) {
			t.Fatal("refused below the limit")
		}
		under = append(under, x)
	}
	x := g.Exchange("GET", "/", "Accept", "text/plain")
	if begin(g, x) {
		t.Fatal("admitted above the limit")
	}
	r := &x.Ctx.Response
	if r.StatusCode() != 503 || !strings.HasPrefix(string(r.Body()), "The service is overloaded\n") || string(r.Header.Peek("Retry-After")) != "1" {
		t.Errorf("shed with %d %q, Retry-After %q", r.StatusCode(), r.Body(), r.Header.Peek("Retry-After"))
	}
	other := g.Exchange("GET", "/b")
	other.Service = g.Env.Document.Services[1]
	if !begin(g, other) {
		t.Error("another service is shed too")
	}
	none := g.Exchange("GET", "/")
	none.Service = nil
	if !begin(g, none) {
		t.Error("a route without service is shed")
	}
	for _, x := range append(under, other, none) {
		end(g, x, 200, time.Millisecond)
	}
	s := shieldOf(t, g, adaptive(1, 3, 3))
	var b strings.Builder
	s.Expose(&b)
	want := `sluice_adaptive_limit_requests{service="a",settings="1-3-3-1.5-0.2-0.1"} 3
sluice_adaptive_requests{service="a",settings="1-3-3-1.5-0.2-0.1"} 0
sluice_adaptive_shed_total{service="a",settings="1-3-3-1.5-0.2-0.1"} 1
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	kind, name, report := s.Report()
	text, err := json.Marshal(report)
	if kind != "adaptive" || name != "a" || err != nil || string(text) != `{"limit":3,"requests":0,"shed":1}` {
		t.Errorf("%s %s %s %v", kind, name, text, err)
	}
}

// TestAdaptiveFollowsLatency drives the limit with latencies that are told, not
// waited for: windows end by the time between releases, so they are short here.
func TestAdaptiveFollowsLatency(t *testing.T) {
	g := pipelinetest.Open(t, document("adaptive: {min: 2, max: 500, start: 100, window: 0.001}"), Spec)
	settings := adaptive(2, 500, 100)
	settings.Window = 0.001
	s := shieldOf(t, g, settings)
	round := func(latency time.Duration, status int) {
		var under []*pipeline.Exchange
		for range max(s.gradient.Limit()*3/4, 20) {
			if x := g.Exchange("GET", "/"); begin(g, x) {
				under = append(under, x)
			}
		}
		for until := pipeline.Now() + int64(time.Millisecond); pipeline.Now() < until; { // a window passes
		}
		for _, x := range under {
			end(g, x, status, latency)
		}
	}
	for range 30 {
		round(10*time.Millisecond, 200)
	}
	calm := s.gradient.Limit()
	if calm <= 100 {
		t.Errorf("limit %d while the latency stays, began with 100", calm)
	}
	for range 15 {
		round(100*time.Millisecond, 200)
	}
	slow := s.gradient.Limit()
	if slow >= calm*3/4 {
		t.Errorf("limit %d after the latency rose tenfold, was %d", slow, calm)
	}
	round(0, 504)
	round(0, 503)
	if got := s.gradient.Limit(); got > slow {
		t.Errorf("limit %d after timeouts, was %d", got, slow)
	}
	if n := s.gradient.InFlight(); n != 0 {
		t.Errorf("%d left in flight", n)
	}
}

func TestStreamsTakeNothingOfTheService(t *testing.T) {
	g := pipelinetest.Open(t, document("max: 1, adaptive: {min: 1, max: 1, start: 1}"), Spec)
	s := shieldOf(t, g, adaptive(1, 1, 1))
	f := func(become func(x *pipeline.Exchange), want int) {
		t.Helper()
		x := g.Exchange("GET", "/")
		if !begin(g, x) {
			t.Fatal("refused")
		}
		become(x)
		x.UpstreamHeaders = pipeline.Now()
		g.Chain.Response(x)
		if got := s.gradient.InFlight(); got != want {
			t.Errorf("%d in flight at the service once the answer has begun, want %d", got, want)
		}
		if y := g.Exchange("GET", "/"); begin(g, y) {
			t.Error("the caller's own count ended with the header")
		}
		g.Chain.Log(x)
		if got := s.gradient.InFlight(); got != 0 {
			t.Errorf("%d left in flight", got)
		}
	}
	f(func(x *pipeline.Exchange) { x.Tunnel = &pipeline.Tunnel{}; x.Ctx.Response.SetStatusCode(101) }, 0)
	f(func(x *pipeline.Exchange) { x.Ctx.Response.Header.SetContentType("text/event-stream; charset=utf-8") }, 0)
	f(func(x *pipeline.Exchange) { x.Ctx.Response.Header.SetContentType("text/plain") }, 1)
}

func TestInstancesShareAShield(t *testing.T) {
	text := document("adaptive: {min: 1, max: 1, start: 1}") +
		"- {name: concurrency-limiting, consumer: bob, config: {adaptive: {min: 1, max: 1, start: 1, error_message: Later}}}\n" +
		"- {name: concurrency-limiting, consumer: eve, config: {adaptive: {min: 1, max: 2, start: 1}}}\n"
	env := pipelinetest.NewEnv(t, text, Spec)
	verdict := func(i int) pipeline.Verdict {
		hooks, err := Spec.Build(env.Document.Plugins[i], env)
		if err != nil {
			t.Fatal(err)
		}
		x := pipelinetest.NewExchange("GET", "/")
		x.Service = env.Document.Services[0]
		return hooks.Request(x)
	}
	if got := [3]pipeline.Verdict{verdict(0), verdict(1), verdict(2)}; got != [3]pipeline.Verdict{pipeline.Next, pipeline.Done, pipeline.Next} {
		t.Errorf("verdicts %v", got)
	}
}
