package bench

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
	"github.com/sluice-gateway/sluice/engine/plugin"
	"github.com/sluice-gateway/sluice/loadtest/stats"
)

// chainConsumers are the caller, the route and the service of every chain.
const chainConsumers = "consumers:\n- {username: alice, keyauth_credentials: [{key: alice-key}]}\nservices:\n- {name: s, url: 'http://s', routes: [{name: r, paths: [/]}]}\n"

// BenchmarkChain is the policy of a request without its sockets: the hooks of
// the headline benchmark, one after another and all together.
func BenchmarkChain(b *testing.B) {
	one := map[string]string{
		"key-auth":             "plugins:\n- name: key-auth\n",
		"rate-limiting":        "plugins:\n- {name: rate-limiting, config: {minute: 1000000000, policy: local, limit_by: ip}}\n",
		"correlation-id":       "plugins:\n- name: correlation-id\n",
		"request-transformer":  "plugins:\n- {name: request-transformer, config: {add: {headers: ['X-A:1', 'X-B:$(request_id)']}, remove: {headers: [X-C]}}}\n",
		"response-transformer": "plugins:\n- {name: response-transformer, config: {add: {headers: ['X-A:1']}, remove: {headers: [Server]}}}\n",
		"prometheus":           "plugins:\n- {name: prometheus, config: {status_code_metrics: true, latency_metrics: true, bandwidth_metrics: true}}\n",
		"all": "plugins:\n- name: key-auth\n- {name: rate-limiting, config: {minute: 1000000000, policy: local, limit_by: consumer}}\n- name: correlation-id\n" +
			"- {name: prometheus, config: {status_code_metrics: true, latency_metrics: true, bandwidth_metrics: true}}\n",
	}
	for _, name := range []string{"key-auth", "rate-limiting", "correlation-id", "request-transformer", "response-transformer", "prometheus", "all"} {
		b.Run(name, func(b *testing.B) {
			g := pipelinetest.Open(b, one[name]+chainConsumers, plugin.All.All...)
			x := g.Exchange("GET", "/api/items", "apikey", "alice-key", "User-Agent", "bench", "Accept", "*/*")
			b.ReportAllocs()
			for b.Loop() {
				g.Again(x)
				x.Ctx.Request.Header.Del("Kong-Request-Id")
				g.Serve(x)
			}
		})
	}
}

// chainMix is a route's plugins, one more after the other: what most routes have first, what
// few have last. Each has a name of its own but the last, a second transformer at the same
// scope, which a document may have outside Kong's strict reading. The mix answers no
// request by itself and keeps no answer: one that ended the chain would make the rest look
// free. What each costs depends on its settings, which are those of small real documents;
// file-log, which makes a line of JSON of every request, costs the most by far and comes late.
var chainMix = []string{
	`{name: prometheus, config: {status_code_metrics: true, latency_metrics: true, bandwidth_metrics: true}}`,
	`{name: key-auth}`,
	`{name: rate-limiting, config: {minute: 1000000000, hour: 1000000000, policy: local, limit_by: consumer}}`,
	`{name: correlation-id, config: {header_name: X-Correlation-ID, generator: uuid, echo_downstream: true}}`,
	`{name: request-transformer, config: {remove: {headers: [X-Internal]}, add: {headers: ["X-Gateway:sluice", "X-Request:$(request_id)"]}}}`,
	`{name: response-transformer, config: {remove: {headers: [X-Powered-By]}, add: {headers: ["X-Content-Type-Options:nosniff"]}}}`,
	`{name: proxy-retry, config: {retries: 3, retry_on: [502, 503]}}`,
	`{name: upstream-timeout, config: {read_timeout: 120000}}`,
	`{name: concurrency-limiting, config: {max: 1000, limit_by: consumer}}`,
	`{name: rate-limiting-advanced, config: {limit: [1000000000], window_size: [60], identifier: consumer}}`,
	`{name: quota, config: {quota: {month: 1000000000}, state_dir: FOLDER}}`,
	`{name: request-timeout, config: {http_timeout: 5000}}`,
	`{name: response-ratelimiting, config: {limits: {videos: {minute: 1000000000}}, limit_by: consumer}}`,
	`{name: proxy-cache, config: {strategy: memory, content_type: [application/json]}}`,
	`{name: custom-cache-invalidator, config: {invalidate_on: [POST, PUT]}}`,
	`{name: canary, config: {percentage: 10, hash: ip, upstream_host: canary.internal}}`,
	`{name: request-transformer-advanced, config: {replace: {headers: ["User-Agent:gateway"]}}}`,
	`{name: response-transformer-advanced, config: {add: {headers: ["X-Frame-Options:DENY"]}}}`,
	`{name: file-log, config: {path: FOLDER/requests.log}}`,
	`{name: request-transformer, config: {add: {querystring: ["source:gateway"]}}}`,
}

// openChain opens the first n plugins of the mix, and a request for them.
func openChain(tb testing.TB, n int) (*pipelinetest.Gateway, *pipeline.Exchange) {
	var document strings.Builder
	document.WriteString(chainConsumers)
	if n > 0 {
		document.WriteString("plugins:\n")
	}
	folder := tb.TempDir()
	for _, p := range chainMix[:n] {
		document.WriteString("- " + strings.ReplaceAll(p, "FOLDER", folder) + "\n")
	}
	g := pipelinetest.Open(tb, document.String(), plugin.All.All...)
	return g, g.Exchange("GET", "/api/items", "apikey", "alice-key", "User-Agent", "bench", "Accept", "*/*")
}

// serveChain serves the request of openChain once more, as it came: transformers have
// changed it.
func serveChain(g *pipelinetest.Gateway, x *pipeline.Exchange) {
	g.Again(x)
	h := &x.Ctx.Request.Header
	h.Reset()
	h.SetMethod("GET")
	h.SetHost("api.example.com")
	h.Set("apikey", "alice-key")
	h.Set("User-Agent", "bench")
	h.Set("Accept", "*/*")
	x.Ctx.Request.SetRequestURI("/api/items")
	x.Query, x.HasQuery = x.Query[:0], false
	g.Serve(x)
}

// BenchmarkChainPlugins is a request through the hooks of so many plugins, without its
// sockets. ns/plugin is what one adds: the time above that of a chain without any, measured
// in turns with it, by their number.
func BenchmarkChainPlugins(b *testing.B) {
	for _, n := range []int{0, 1, 2, 5, 10, 20} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			bare, nothing := openChain(b, 0)
			g, x := openChain(b, n)
			b.ReportAllocs()
			for b.Loop() {
				serveChain(g, x)
			}
			if n > 0 {
				b.ReportMetric(chainAdds(func() { serveChain(g, x) }, func() { serveChain(bare, nothing) })/float64(n), "ns/plugin")
			}
		})
	}
}

// chainAdds returns by how many nanoseconds a request takes longer than a bare one: the median
// of many short turns, so that what else the machine does meanwhile hardly counts.
func chainAdds(request, bare func()) float64 {
	const turns, requests = 25, 100
	took := func(f func()) float64 {
		start := time.Now()
		for range requests {
			f()
		}
		return float64(time.Since(start)) / requests
	}
	adds := make([]float64, turns)
	for i := range adds {
		adds[i] = took(request) - took(bare)
	}
	return stats.Median(adds)
}

// TestChainMix makes sure that the mix is what it says: every plugin is built, the request
// goes through all of them to the service, and what they do can be seen.
func TestChainMix(t *testing.T) {
	names := map[string]bool{}
	for n := range len(chainMix) + 1 {
		g, x := openChain(t, n)
		for range 3 {
			serveChain(g, x)
		}
		if got := x.Ctx.Response.StatusCode(); got != 200 || x.Source != pipeline.SourceService {
			t.Fatalf("%d plugins: answer %d from %v, want 200 from the service", n, got, x.Source)
		}
		if got := len(g.Env.Document.Plugins); got != n {
			t.Errorf("%d plugins: the document has %d", n, got)
		}
		for _, p := range g.Env.Document.Plugins {
			names[p.Name] = true
		}
	}
	if len(names) != len(chainMix)-1 {
		t.Errorf("%d names of plugins among %d: %v", len(names), len(chainMix), names)
	}
	g, x := openChain(t, len(chainMix))
	serveChain(g, x)
	if x.Consumer == nil || x.Consumer.Username != "alice" {
		t.Errorf("key-auth has found %v", x.Consumer)
	}
	f := func(of, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %q, want %q", of, got, want)
		}
	}
	response, request := &x.Ctx.Response.Header, &x.Ctx.Request.Header
	f("response-transformer", string(response.Peek("X-Content-Type-Options")), "nosniff")
	f("response-transformer-advanced", string(response.Peek("X-Frame-Options")), "DENY")
	f("request-transformer", string(request.Peek("X-Gateway")), "sluice")
	f("request-transformer-advanced", string(request.Peek("User-Agent")), "gateway")
	f("the second request-transformer", string(x.Query), "source=gateway")
}
