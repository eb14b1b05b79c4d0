package ratelimiting

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
	"github.com/sluice-gateway/sluice/engine/redis/redistest"
)

// block is the redis block that leads to a server.
func block(s *redistest.Server, more string) string {
	return fmt.Sprintf("redis: {host: 127.0.0.1, port: %d%s}", s.Port, more)
}

// TestGatewaysAdmitExactly runs three gateways at one Redis under concurrent load.
func TestGatewaysAdmitExactly(t *testing.T) {
	s := redistest.Start(t)
	f := func(document string, want int64) {
		t.Helper()
		s.Do("FLUSHALL")
		var passed, odd atomic.Int64
		var wg sync.WaitGroup
		for range 3 {
			g := pipelinetest.Open(t, document, Spec, Advanced)
			for range 4 {
				wg.Go(func() {
					x := at(pipelinetest.NewExchange("GET", "/"), 7)
					for range 60 {
						x.Ctx.Response.Reset()
						g.Chain.Begin(x)
						if g.Chain.Request(x) == pipeline.Next {
							passed.Add(1)
						} else if x.Ctx.Response.StatusCode() != 429 {
							odd.Add(1)
						}
						x.ApplyStaged()
					}
				})
			}
		}
		wg.Wait()
		if n := passed.Load(); n != want || odd.Load() != 0 {
			t.Errorf("admitted %d, want exactly %d; %d answers other than 429\n%s", n, want, odd.Load(), document)
		}
	}
	f(document("minute: 250, hour: 300, policy: redis, "+block(s, "")), 250)
	f(document("hour: 300, policy: redis, cost: {default: 7}, "+block(s, "")), 42)
	f(documentAdvanced("limit: [250], window_size: [600], sync_rate: 0, strategy: redis, "+block(s, "")), 250)
	f(documentAdvanced("limit: [300, 200], window_size: [600, 60], window_type: fixed, sync_rate: 0, strategy: redis, "+block(s, "")), 200)
}

func TestInstancesShareNoCounters(t *testing.T) {
	s := redistest.Start(t)
	g := pipelinetest.Open(t, document("minute: 5, policy: redis, "+block(s, ""))+
		"- {name: rate-limiting, service: a, config: {minute: 5, policy: redis, "+block(s, "")+"}}\n", Spec)
	x := at(g.Exchange("GET", "/"), 0)
	g.Serve(x) // pipelinetest runs both instances
	if got := header(x, "X-RateLimit-Remaining-Minute"); got != "4" {
		t.Errorf("Remaining %q after one request, want 4", got)
	}
	if keys := s.Do("DBSIZE"); keys != "2" {
		t.Errorf("keys in Redis: %s, want one for each instance", keys)
	}
}

// TestBatchedStaysWithinItsBound: of k gateways that flush every s with a round trip d
// and admit r a second each, k × r × (s + d) may be admitted beyond the limit.
func TestBatchedStaysWithinItsBound(t *testing.T) {
	const limit = 100
	s := redistest.Start(t)
	settings := "policy: redis, sync_rate: 0.02, " + block(s, "")
	var gateways []*pipelinetest.Gateway
	for range 3 {
		gateways = append(gateways, pipelinetest.Open(t, document(fmt.Sprintf("hour: %d, ", limit)+settings), Spec))
	}
	send := func(i int) bool {
		x := at(gateways[i].Exchange("GET", "/"), 0)
		gateways[i].Serve(x)
		return x.Ctx.Response.StatusCode() == 200
	}
	admitted, out := 0, [3]bool{}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !out[0] || !out[1] || !out[2] {
		<-tick.C
		for i := range gateways {
			if !out[i] && send(i) {
				admitted++
			} else {
				out[i] = true
			}
		}
	}
	// 200 a second from each, flushed every 20 ms, and half a second for a slow machine.
	if most := limit + 3*200*52/100; admitted < limit || admitted > most || admitted == 3*limit {
		t.Errorf("three gateways admitted %d, want from %d to %d", admitted, limit, most)
	}
	t.Logf("three gateways admitted %d of %d", admitted, limit)
}

func TestBatchedKeepsTheLimitWhileAway(t *testing.T) {
	s := redistest.Start(t)
	s.Kill()
	g := pipelinetest.Open(t, document("hour: 3, policy: redis, fault_tolerant: false, sync_rate: 0.02, "+block(s, "")), Spec)
	for i, want := range []int{200, 200, 200, 429} {
		x := at(g.Exchange("GET", "/"), 0)
		g.Serve(x)
		if got := x.Ctx.Response.StatusCode(); got != want {
			t.Errorf("request %d: status %d, want %d", i, got, want)
		}
	}
	redistest.Eventually(t, "failed pushes are counted", func() bool { return counted(g, "store_errors") > 0 })
	s.Restart()
	redistest.Eventually(t, "what was counted is told", func() bool { return s.Do("DBSIZE") == "1" })
}

// counted returns the value of a metric of the document's first plugin.
func counted(g *pipelinetest.Gateway, what string) int {
	var b strings.Builder
	g.Env.Metrics.WritePrometheus(&b)
	_, after, _ := strings.Cut(b.String(), fmt.Sprintf("sluice_ratelimiting_%s_total{plugin=%q} ", what, g.Env.Document.Plugins[0].ID))
	n, _ := strconv.Atoi(strings.SplitN(after, "\n", 2)[0])
	return n
}

// timeoutSlack is what a busy machine may add to a timeout.
const timeoutSlack = 400 * time.Millisecond

func TestStoreStopsAnswering(t *testing.T) {
	const timeout = 100 * time.Millisecond
	f := func(document string, status int, remaining string, body string) {
		t.Helper()
		s := redistest.Start(t)
		g := pipelinetest.Open(t, strings.ReplaceAll(document, "REDIS", block(s, ", timeout: 100")), Spec, Advanced)
		send := func() *pipeline.Exchange {
			x := at(g.Exchange("GET", "/", "Accept", "text/plain"), 0)
			g.Serve(x)
			return x
		}
		if got := header(send(), "X-RateLimit-Remaining-Hour"); got != "8" {
			t.Fatalf("before: Remaining %q", got)
		}
		s.Stop()
		for i := range 20 {
			start := time.Now()
			x := send()
			if took := time.Since(start); took > timeout+timeoutSlack {
				t.Errorf("request %d waited %v, the timeout is %v", i, took, timeout)
			}
			if x.Ctx.Response.StatusCode() != status || !strings.HasPrefix(string(x.Ctx.Response.Body()), body) {
				t.Errorf("request %d: %d %q", i, x.Ctx.Response.StatusCode(), x.Ctx.Response.Body())
			}
			if got := header(x, "X-RateLimit-Remaining-Hour"); i == 0 && got != remaining {
				t.Errorf("while away: Remaining %q, want %q", got, remaining)
			}
			if status == 200 && remaining != "" && i == 7 {
				break // the limit holds here too
			}
		}
		if n := counted(g, "store_errors"); n < 8 {
			t.Errorf("%d errors of the store are counted", n)
		}
		if n := counted(g, "uncounted_requests"); (n == 20) != (status == 200 && remaining == "") {
			t.Errorf("%d requests are counted as let through", n)
		}
		s.Continue()
		redistest.Eventually(t, "Redis counts again", func() bool {
			before := counted(g, "store_errors")
			return send().Ctx.Response.StatusCode() != 500 && counted(g, "store_errors") == before
		})
	}
	f(document("hour: 9, policy: redis, REDIS"), 200, "", "ok")
	f(document("hour: 9, policy: redis, fault_tolerant: false, REDIS"), 500, "", "An unexpected error occurred")
	f(documentAdvanced("limit: [9], window_size: [3600], strategy: redis, sync_rate: 0, REDIS"), 200, "8", "ok")
}

// TestNothingIsLeftRunning reloads and closes gateways that push counts.
func TestNothingIsLeftRunning(t *testing.T) {
	s := redistest.Start(t)
	before := runtime.NumGoroutine()
	keeper := pipeline.NewKeeper()
	var holders []*pipeline.Holder
	send := func(settings, remaining string) {
		t.Helper()
		env := pipelinetest.NewEnv(t, documentAdvanced("limit: [9], window_size: [3600], strategy: redis, sync_rate: 0.02, "+settings+block(s, "")), Advanced)
		holders = append(holders, keeper.Hold())
		hooks, err := Advanced.Build(env.Document.Plugins[0], pipeline.NewEnv(*env, holders[len(holders)-1]))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(hooks.Close) // may come late
		x := at(pipelinetest.NewExchange("GET", "/"), 0)
		hooks.Request(x)
		if x.ApplyStaged(); header(x, "RateLimit-Remaining") != remaining {
			t.Errorf("{%s}: remaining %s, want %s", settings, header(x, "RateLimit-Remaining"), remaining)
		}
	}
	send("", "8")
	send("error_code: 503, ", "7") // the counters are kept
	send("namespace: n, ", "8")
	for _, h := range holders {
		if err := h.Release(); err != nil {
			t.Error(err)
		}
	}
	redistest.Eventually(t, "all goroutines have ended", func() bool { return runtime.NumGoroutine() <= before })
}

// TestBatchedDoesNotWait: a push that gets no answer holds up no request.
func TestBatchedDoesNotWait(t *testing.T) {
	s := redistest.Start(t)
	g := pipelinetest.Open(t, document("hour: 1000000, policy: redis, sync_rate: 0.02, "+block(s, ", timeout: 300")), Spec)
	told(g, 0)
	redistest.Eventually(t, "the first push", func() bool { return s.Do("DBSIZE") == "1" })
	s.Stop()
	worst := time.Duration(0)
	redistest.Eventually(t, "a push has failed", func() bool {
		start := time.Now()
		if got := told(g, 0); got != "200" {
			t.Errorf("status %s", got)
		}
		worst = max(worst, time.Since(start))
		return counted(g, "store_errors") > 0
	})
	s.Continue()
	if worst > 250*time.Millisecond {
		t.Errorf("a request waited %v", worst)
	}
}

func TestStoreLosesItsData(t *testing.T) {
	s := redistest.Start(t)
	g := pipelinetest.Open(t, document("hour: 9, policy: redis, "+block(s, "")), Spec)
	remaining := func() string {
		x := at(g.Exchange("GET", "/"), 0)
		g.Serve(x)
		return header(x, "X-RateLimit-Remaining-Hour")
	}
	f := func(want string) {
		t.Helper()
		if got := remaining(); got != want {
			t.Errorf("Remaining %q, want %q", got, want)
		}
	}
	f("8")
	f("7")
	s.Do("FLUSHALL")
	f("8")
	s.Do("SCRIPT", "FLUSH")
	f("7")
	s.Kill()
	s.Restart()
	redistest.Eventually(t, "counted from nothing after a restart", func() bool { return remaining() == "8" })
	f("7")
}

// TestSameAnswersEverywhere sends random sequences of requests to counters in this
// process, in Redis, and in both, and compares all answers with all headers.
func TestSameAnswersEverywhere(t *testing.T) {
	s := redistest.Start(t)
	f := func(t *testing.T, seed uint64, of func(string) string, settings, exact, batched string) {
		t.Helper()
		here := pipelinetest.Open(t, of(settings), Spec, Advanced)
		others := map[string]*pipelinetest.Gateway{
			"exact":   pipelinetest.Open(t, of(settings+", "+exact+", "+block(s, "")), Spec, Advanced),
			"batched": pipelinetest.Open(t, of(settings+", "+batched+", "+block(s, "")), Spec, Advanced),
		}
		s.Do("FLUSHALL")
		r := rand.New(rand.NewPCG(seed, 1))
		step := []int64{1, 100, 2000, 10000}[r.IntN(4)]
		now := int64(0)
		for i := range 120 {
			now += r.Int64N(step)
			if r.IntN(40) == 0 {
				now += 70_000
			}
			method, ip := []string{"GET", "POST"}[r.IntN(2)], fmt.Sprintf("198.51.100.%d", r.IntN(2))
			answer := func(g *pipelinetest.Gateway) (all, reset string) {
				x := at(g.Exchange(method, "/"), 0)
				x.Start += now * int64(time.Millisecond)
				x.ClientIP = caller{ip: ip}.exchange(g).ClientIP
				g.Serve(x)
				h := &x.Ctx.Response.Header
				for name, value := range h.All() {
					switch string(name) {
					case "Date":
					case "Ratelimit-Reset", "Retry-After", "Ratelimit":
						reset += fmt.Sprintf("%s: %s\n", name, value)
					default:
						all += fmt.Sprintf("%s: %s\n", name, value)
					}
				}
				return strconv.Itoa(x.Ctx.Response.StatusCode()) + "\n" + all, reset
			}
			want, reset := answer(here)
			for name, g := range others {
				got, at := answer(g)
				// Exact mode knows rounded counts of sliding windows, from which it tells
				// a client to come back a little later.
				if got != want || at != reset && (name != "exact" || strings.Contains(settings, "fixed") || !strings.HasPrefix(got, "429")) {
					t.Fatalf("{%s}, seed %d, request %d after %d ms: %s says\n%s%s\nlocal says\n%s%s", settings, seed, i, now, name, got, at, want, reset)
				}
			}
		}
	}
	// Each in a test of its own, so that no gateway of another still pushes counts.
	for seed := range uint64(6) {
		t.Run("plain", func(t *testing.T) {
			f(t, seed, document, "minute: 12, hour: 40, limit_by: ip, header_style: both, cost: {methods: {POST: 3}}", "policy: redis", "policy: redis, sync_rate: 0.02")
		})
		for _, settings := range []string{
			"window_type: fixed, limit: [7, 12, 40], window_size: [5, 60, 600]",
			"limit: [12], window_size: [60]",
			"limit: [12, 40], window_size: [60, 600], disable_penalty: true, cost: {methods: {POST: 3}}",
			"limit: [12, 5], window_size: [60, 20], header_style: both",
		} {
			t.Run("advanced", func(t *testing.T) {
				f(t, seed, documentAdvanced, "identifier: ip, "+settings, "strategy: redis, sync_rate: 0", "strategy: redis, sync_rate: 0.02")
			})
		}
	}
}

func TestWhereTheRedisIs(t *testing.T) {
	f := func(document, want string) {
		t.Helper()
		env := pipelinetest.NewEnv(t, document, Spec, Advanced)
		p := env.Document.Plugins[0]
		spec := Spec
		if p.Name == advancedName {
			spec = Advanced
		}
		switch _, err := spec.Build(p, env); {
		case want == "" && err != nil:
			t.Errorf("%v\n%s", err, document)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("\n got %v\nwant %s", err, want)
		}
	}
	connections := func(names ...string) string {
		text := "gateway:\n  redis:\n"
		for _, name := range names {
			text += "    " + name + ": {host: 127.0.0.1, port: 1}\n"
		}
		return text
	}
	f(document("minute: 5, policy: redis"), "redis.host: required field missing")
	f(document("minute: 5, policy: cluster"), `policy: "cluster" counts in the Redis of the deployment, and there is none: set gateway.redis.default.host, or use "local"`)
	f(document("minute: 5, policy: redis")+connections("default"), "")
	f(document("minute: 5, policy: redis")+connections("counters"), "")
	f(document("minute: 5, policy: cluster")+connections("counters"), "")
	f(document("minute: 5, policy: cluster")+connections("a", "b"), "name one of them default")
	f(document("minute: 5, policy: cluster")+connections("a", "default"), "")
	f(document("minute: 5, policy: redis, redis: {name: b}")+connections("a", "b"), "")
	f(document("minute: 5, policy: redis, redis: {name: c}")+connections("a", "b"), `gateway.redis has no connection "c"`)
	f(document("minute: 5, policy: redis, redis_host: 127.0.0.1, redis_port: 1"), "")
	f(documentAdvanced("limit: [5], window_size: [60], strategy: redis, sync_rate: 0"), "") // Kong: 127.0.0.1
	f(documentAdvanced("limit: [5], window_size: [60], strategy: cluster, sync_rate: 1"), `strategy: "cluster" counts in the Redis of the deployment`)
	f(documentAdvanced("limit: [5], window_size: [60], strategy: cluster, sync_rate: -1"), "")
}

func TestNoAllocationsBatched(t *testing.T) {
	s := redistest.Start(t)
	f := func(document string, c caller) {
		t.Helper()
		g := pipelinetest.Open(t, document, Spec, Advanced)
		x := c.exchange(g)
		consumer, credential := x.Consumer, x.Credential
		g.Allocs(x, func(x *pipeline.Exchange) { x.Consumer, x.Credential = consumer, credential })
	}
	// Pushing allocates, so that it is not to happen while allocations are counted.
	f(document("second: 100000, minute: 100000, hour: 100000, day: 100000, month: 100000, year: 100000, policy: redis, sync_rate: 3600, "+block(s, "")), caller{consumer: "bob"})
	f(document("minute: 100000, policy: redis, limit_by: ip, sync_rate: 3600, "+block(s, "")), caller{ip: "2001:db8::1"})
	f(document("minute: 1, policy: redis, sync_rate: 3600, "+block(s, "")), caller{})
	f(documentAdvanced("limit: [1], window_size: [60], strategy: redis, compound_identifier: [consumer, ip], sync_rate: 3600, "+block(s, "")), caller{consumer: "bob"})
}

func BenchmarkBatched(b *testing.B) {
	s := redistest.Start(b)
	benchmark(b, document("minute: 1000000000, hour: 1000000000, policy: redis, sync_rate: 0.5, "+block(s, "")), Spec)
}

func BenchmarkExact(b *testing.B) {
	s := redistest.Start(b)
	benchmark(b, document("minute: 1000000000, hour: 1000000000, policy: redis, "+block(s, "")), Spec)
}

func BenchmarkSliding(b *testing.B) {
	benchmark(b, documentAdvanced("limit: [1000000000, 1000000000], window_size: [60, 3600]"), Advanced)
}

func BenchmarkRequest(b *testing.B) {
	benchmark(b, document("minute: 1000000000, hour: 1000000000"), Spec)
}

func benchmark(b *testing.B, document string, spec pipeline.Spec) {
	g := pipelinetest.Open(b, document, spec)
	x := caller{consumer: "bob"}.exchange(g)
	g.Chain.Begin(x)
	b.ReportAllocs()
	for b.Loop() {
		consumer, credential, route, service, ctx, start := x.Consumer, x.Credential, x.Route, x.Service, x.Ctx, x.Start
		x.Reset()
		x.Consumer, x.Credential, x.Route, x.Service, x.Ctx, x.Start = consumer, credential, route, service, ctx, start
		g.Chain.Request(x)
	}
}
