package ratelimiting

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"
	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
	"github.com/sluice-gateway/sluice/engine/redis/redistest"
	"github.com/sluice-gateway/sluice/engine/snapshot"
)

func TestCost(t *testing.T) {
	f := func(cost, method string, want string, headers ...string) {
		t.Helper()
		g := pipelinetest.Open(t, document("minute: 100, cost: {"+cost+"}"), Spec)
		x := at(g.Exchange(method, "/", headers...), 0)
		g.Serve(x)
		if got := header(x, "X-RateLimit-Remaining-Minute"); got != want || x.Ctx.Response.StatusCode() != 200 {
			t.Errorf("{%s} %s %q: %d, remaining %q, want %q", cost, method, headers, x.Ctx.Response.StatusCode(), got, want)
		}
	}
	f("", "GET", "99")
	f("default: 3", "GET", "97")
	f("default: 0", "GET", "") // not limited, and told nothing
	f("methods: {POST: 5}", "POST", "95")
	f("methods: {POST: 5}", "GET", "99")
	f("methods: {POST: 5, OPTIONS: 0}", "OPTIONS", "")
	f("routes: {r: 7}, methods: {GET: 5}", "GET", "93")
	f("header: X-Cost", "GET", "80", "X-Cost", "20")
	f("header: x-cost, max: 10", "GET", "90", "X-Cost", "20")
	f("header: X-Cost", "GET", "0", "X-Cost", "99999999999999999999999")
	f("header: X-Cost, default: 5", "GET", "95", "X-Cost", "2") // never cheaper
	f("header: X-Cost, default: 5", "GET", "95", "X-Cost", "-2")
	f("header: X-Cost, default: 5", "GET", "95", "X-Cost", "7.5")
	f("default: 5", "GET", "95", "X-Cost", "20") // not asked for
}

func TestCostBeyondWhatRemains(t *testing.T) {
	g := pipelinetest.Open(t, document("minute: 10, cost: {methods: {POST: 6, PUT: 11}}"), Spec)
	f := func(method, want string) {
		t.Helper()
		x := at(g.Exchange(method, "/"), 15)
		g.Serve(x)
		if got := fmt.Sprint(x.Ctx.Response.StatusCode(), " ", header(x, "X-RateLimit-Remaining-Minute"), " ", header(x, "Retry-After")); got != want {
			t.Errorf("%s: %s, want %s", method, got, want)
		}
	}
	f("POST", "200 4 ")
	f("POST", "429 4 45") // refused, so not counted
	f("GET", "200 3 ")
	f("PUT", "429 3 45") // never fits
}

func TestCostOfUnknownRoute(t *testing.T) {
	env := pipelinetest.NewEnv(t, document("minute: 5, cost: {routes: {nowhere: 3}}"), Spec)
	if _, err := Spec.Build(env.Document.Plugins[0], env); err == nil || !strings.Contains(err.Error(), `cost.routes: no route "nowhere"`) {
		t.Errorf("%v", err)
	}
}

// gateway is a whole snapshot: documents as they are written, scopes as they apply.
type gateway struct {
	t *testing.T
	*snapshot.Snapshot
}

func compile(t *testing.T, text string, dial func(context.Context, string) (net.Conn, error)) (*gateway, error) {
	t.Helper()
	specs := &pipeline.Specs{All: []pipeline.Spec{Spec, Advanced}}
	d, err := config.Read([]config.Source{{Name: "t.yaml", Data: []byte(text)}}, config.Options{Catalog: specs})
	if err != nil {
		return nil, err
	}
	s, err := snapshot.Compile(pipeline.Env{Document: d, Log: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet(), Node: &pipeline.Node{}, Dial: dial}, pipeline.NewKeeper(), specs)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := s.Release()(); err != nil {
			t.Error(err)
		}
	})
	return &gateway{t, s}, nil
}

func mustCompile(t *testing.T, text string) *gateway {
	t.Helper()
	g, err := compile(t, text, nil)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// get sends a request through the hooks of the route it matches.
func (g *gateway) get(path, consumer string, headers ...string) *pipeline.Exchange {
	g.t.Helper()
	ctx := &fasthttp.RequestCtx{}
	ctx.Request.Header.SetMethod("GET")
	for i := 0; i+1 < len(headers); i += 2 {
		ctx.Request.Header.Set(headers[i], headers[i+1])
	}
	q := &snapshot.Query{}
	q.Request.Method, q.Request.Path, q.Request.Host, q.Request.Headers = []byte("GET"), []byte(path), []byte("a"), &ctx.Request.Header
	r := g.Match(q)
	x := &pipeline.Exchange{}
	x.Reset()
	x.Ctx, x.Errors, x.ClientIP, x.Path = ctx, g.Errors, netip.MustParseAddr("192.0.2.1"), []byte(path)
	at(x, 0)
	if consumer != "" {
		if x.Consumer = g.Consumers.Find(consumer); x.Consumer == nil {
			g.t.Fatalf("no consumer %q", consumer)
		}
	}
	r.Chain.Begin(x)
	if r.Chain.Request(x) == pipeline.Next {
		ctx.Response.SetStatusCode(200)
	}
	x.ApplyStaged()
	r.Chain.Response(x)
	return x
}

// limits returns what is admitted of n requests and the limit a client is told.
func (g *gateway) limits(n int, path, consumer, name string) string {
	g.t.Helper()
	admitted, limit := 0, ""
	for range n {
		x := g.get(path, consumer)
		if x.Ctx.Response.StatusCode() == 200 {
			admitted++
		}
		limit = header(x, name)
	}
	return fmt.Sprintf("%d %s", admitted, limit)
}

func (g *gateway) expect(n int, path, consumer, name, want string) {
	g.t.Helper()
	if got := g.limits(n, path, consumer, name); got != want {
		g.t.Errorf("%d x %s of %q: %s, want %s", n, path, consumer, got, want)
	}
}

const tiers = `
_format_version: "3.0"
services:
- {name: a, url: "http://a.internal", routes: [{name: r, paths: [/]}]}
consumer_groups:
- name: free
  plugins: [{name: rate-limiting, config: {minute: 3}}]
- name: pro
  plugins: [{name: rate-limiting, config: {minute: 9}}]
- {name: enterprise}
consumers:
- {username: fred, groups: [{name: free}]}
- {username: fay, groups: [{name: free}]}
- {username: paul, groups: [{name: pro}]}
- {username: both, groups: [{name: pro}, {name: free}]}
- {username: erin, groups: [{name: enterprise}]}
- username: own
  groups: [{name: free}]
  plugins: [{name: rate-limiting, config: {minute: 5}}]
`

func TestTiersByConsumerGroup(t *testing.T) {
	g := mustCompile(t, tiers)
	const name = "X-RateLimit-Limit-Minute"
	g.expect(20, "/", "fred", name, "3 3")
	g.expect(20, "/", "fay", name, "3 3") // a counter of her own
	g.expect(20, "/", "paul", name, "9 9")
	g.expect(20, "/", "both", name, "3 3") // the first group by name
	g.expect(20, "/", "own", name, "5 5")  // a consumer's settings go before his group's
	g.expect(20, "/", "erin", name, "20 ") // no instance: unlimited
	g.expect(20, "/", "", name, "20 ")
}

// TestOlderConsumerGroups: a group's instance has only what differs, and takes the
// rest from the instance that enforces the group.
func TestOlderConsumerGroups(t *testing.T) {
	document := func(groups string) string {
		return `
_format_version: "3.0"
services:
- {name: a, url: "http://a.internal", routes: [{name: r, paths: [/]}]}
consumer_groups:
- name: gold
  plugins: [{name: rate-limiting-advanced, config: {limit: [7], window_size: [60], window_type: fixed}}]
consumers: [{username: bob, groups: [{name: gold}]}, {username: eve}]
plugins:
- name: rate-limiting-advanced
  config: {limit: [3], window_size: [60], identifier: header, header_name: X-Device-ID, error_code: 503, enforce_consumer_groups: ` + groups + "}\n"
	}
	f := func(groups, member, limit string, status int) {
		t.Helper()
		g := mustCompile(t, document(groups))
		var last *pipeline.Exchange
		for i := range 10 {
			last = g.get("/", member, "X-Device-ID", "d")
			if x := g.get("/", member, "X-Device-ID", "e"); i == 0 && x.Ctx.Response.StatusCode() != 200 {
				t.Errorf("{%s} the first of another device: %d", groups, x.Ctx.Response.StatusCode())
			}
		}
		if got := header(last, "X-RateLimit-Limit-Minute"); got != limit || last.Ctx.Response.StatusCode() != status {
			t.Errorf("{%s} %s: limit %s, status %d; want %s, %d", groups, member, got, last.Ctx.Response.StatusCode(), limit, status)
		}
	}
	f("true, consumer_groups: [gold]", "bob", "7", 503)
	f("true, consumer_groups: [gold]", "eve", "3", 503)
	f("false, consumer_groups: [gold]", "bob", "7", 429) // an instance like any other
	f("false", "bob", "7", 429)
	if _, err := compile(t, document("true, consumer_groups: [silver]"), nil); err == nil || !strings.Contains(err.Error(), `consumer_groups[0]: no consumer group "silver"`) {
		t.Errorf("%v", err)
	}
}

// TestPatterns loads what the patterns document says of rate limiting, as it is.
func TestPatterns(t *testing.T) {
	pattern := func(name, before string) string {
		t.Helper()
		text, err := os.ReadFile("testdata/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		return before + string(text)
	}
	const service = "services:\n- {name: a, url: \"http://a.internal\", routes: [{name: r, paths: [/]}]}\n"
	minute := "X-RateLimit-Limit-Minute"

	g := mustCompile(t, pattern("global", service))
	g.expect(1100, "/", "", minute, "1000 1000")

	g = mustCompile(t, pattern("consumer", service))
	g.expect(20, "/", "free-user-123", minute, "10 10")
	g.expect(1100, "/", "premium-user-456", minute, "1000 1000")
	g.expect(1100, "/", "enterprise-user-789", minute, "1100 ")

	g = mustCompile(t, pattern("endpoint", ""))
	g.expect(200, "/api/search", "", minute, "10 10")
	g.expect(200, "/api/users", "", minute, "100 100")
	g.expect(200, "/health", "", minute, "200 ")

	g = mustCompile(t, pattern("tiers", service))
	g.expect(100, "/", "free-tier-customer", minute, "60 60")

	g = mustCompile(t, pattern("device", service))
	for range 100 {
		g.get("/", "", "X-Device-ID", "phone")
	}
	if got := g.get("/", "", "X-Device-ID", "phone").Ctx.Response.StatusCode(); got != 429 {
		t.Errorf("a device beyond its limit: %d", got)
	}
	if got := g.get("/", "", "X-Device-ID", "tablet").Ctx.Response.StatusCode(); got != 200 {
		t.Errorf("another device: %d", got)
	}

	s := redistest.Start(t)
	dialled := make(chan string, 1)
	dial := func(ctx context.Context, address string) (net.Conn, error) {
		select {
		case dialled <- address:
		default:
		}
		var d net.Dialer
		return d.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", s.Port))
	}
	g, err := compile(t, pattern("sliding", service), dial)
	if err != nil {
		t.Fatal(err)
	}
	g.expect(120, "/", "", minute, "100 100")
	if address := <-dialled; address != "redis:6379" {
		t.Errorf("counts in %s", address)
	}
	redistest.Eventually(t, "the counts are pushed", func() bool { return s.Do("DBSIZE") != "0" })
}
