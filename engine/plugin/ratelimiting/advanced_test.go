package ratelimiting

import (
	"hash/maphash"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
	"github.com/sluice-gateway/sluice/engine/redis/redistest"
)

func TestAdvancedSettingsRefused(t *testing.T) {
	f := func(settings, want string) {
		t.Helper()
		_, err := read(documentAdvanced(settings))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("{%s}:\n got %v\nwant %s", settings, err, want)
		}
	}
	const one = "limit: [5], window_size: [60], "
	f("", "limit: required field missing")
	f("limit: [5]", "window_size: required field missing")
	f("limit: [], window_size: []", "length must be at least 1")
	f("limit: [5, 6], window_size: [60]", "You must provide the same number of windows and limits")
	f("limit: [-1], window_size: [60]", "limit[0]: value should be")
	f("limit: [1e300], window_size: [60]", "limit[0]: value should be at most")
	f("limit: [5], window_size: [0]", "window_size[0]: value should be")
	f("limit: [5], window_size: [0.5]", "window_size[0]: value should be")
	f("limit: [5], window_size: [1.5]", "window_size[0]: expected whole seconds, got 1.5")
	f("limit: [5], window_size: [99999999999]", "window_size[0]: value should be")
	f("limit: ["+strings.Repeat("1,", 17)+"], window_size: [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]", "length must be at most 16")
	f(one+"window_type: tumbling", "window_type: expected one of: sliding, fixed")
	f(one+"identifier: cookie", "identifier: expected one of: ip, credential, consumer")
	f(one+"identifier: header", "header_name: required field missing")
	f(one+"identifier: path", "path: required field missing")
	f(one+"compound_identifier: [ip, header]", "header_name: required field missing")
	f(one+"compound_identifier: [ip, moon]", "compound_identifier[1]: expected one of")
	f(one+"strategy: redis", "sync_rate: required field missing")
	f(one+"strategy: cluster", "sync_rate: required field missing")
	f(one+"sync_rate: 0", "sync_rate: sync_rate can only be used with strategy redis or cluster")
	f(one+"strategy: redis, sync_rate: 0.01", "sync_rate: value should be -1, 0 or between 0.02 and 86400")
	f(one+"strategy: redis, sync_rate: -2", "sync_rate: value should be -1, 0 or between 0.02 and 86400")
	f(one+"retry_after_jitter_max: -1", "retry_after_jitter_max: value should be")
	f(one+"enforce_consumer_groups: true", "consumer_groups: required field missing")
	f(one+"throttling: {enabled: true, interval: 0}", "throttling.interval: value must be greater than 0")
	f(one+"throttling: {queue_limit: 0}", "throttling.queue_limit: value should be")
	f(one+"redis: {host: a, sentinel_addresses: [a]}", `sentinel_addresses[0]: expected host:port, got "a"`)
	f(one+"redis: {sentinel_addresses: [\"a:1\"]}", "sentinel_master: required field missing")
	f(one+"redis: {timeout: 100, connect_timeout: 200}", "timeout is the older name of connect_timeout")
	f(one+"namespace: ''", "namespace: length must be at least 1")
	f(one+"limits: [1]", "unknown field")
}

func TestAdvancedSettingsAccepted(t *testing.T) {
	f := func(settings string) {
		t.Helper()
		if _, err := read(documentAdvanced("limit: [5], window_size: [60], " + settings)); err != nil {
			t.Errorf("{%s}: %v", settings, err)
		}
	}
	f("dictionary_name: kong_rate_limiting_counters, lock_dictionary_name: kong_locks, disable_penalty: false, hide_client_headers: false")
	f("identifier: consumer-group, header_name: null, path: null, sync_rate: -1, namespace: null, consumer_groups: null, compound_identifier: null")
	f("strategy: redis, sync_rate: 0.5, redis: {host: redis, port: 6379, database: 0, timeout: 2000}")
	f("strategy: redis, sync_rate: 0, redis: {sentinel_master: m, sentinel_role: master, sentinel_nodes: [{host: a, port: 1}], sentinel_username: u, sentinel_password: p}")
	f("strategy: redis, sync_rate: 0, redis: {cluster_addresses: [\"a:1\", \"b:2\"]}")
	f("strategy: redis, sync_rate: 0, redis: {cluster_nodes: [{ip: a, port: 1}], cluster_max_redirections: 3, keepalive_pool_size: 5, keepalive_backlog: 1}")
	f("strategy: redis, sync_rate: 0, redis: {connect_timeout: 1, send_timeout: 1, read_timeout: 1, username: u, password: p, ssl: true, ssl_verify: true, server_name: n}")
	f("throttling: {enabled: false, interval: 5, retry_times: 3, queue_limit: 5}, error_code: 503, error_message: Later")
}

// told is what a client is told: the status and the named headers.
func told(g *pipelinetest.Gateway, seconds float64, names ...string) string {
	x := at(g.Exchange("GET", "/"), 0)
	x.Start += int64(seconds * float64(time.Second))
	g.Serve(x)
	got := strconv.Itoa(x.Ctx.Response.StatusCode())
	for _, name := range names {
		got += " " + header(x, name)
	}
	return got
}

func TestWindowTypes(t *testing.T) {
	type step struct {
		seconds float64
		want    string
	}
	f := func(settings string, steps ...step) {
		t.Helper()
		g := pipelinetest.Open(t, documentAdvanced(settings), Advanced)
		for _, s := range steps {
			if got := told(g, s.seconds, "X-RateLimit-Remaining-10", "RateLimit-Reset", "Retry-After"); got != s.want {
				t.Errorf("{%s} after %v s: %s, want %s", settings, s.seconds, got, s.want)
			}
		}
	}
	// Fixed: four at the end of a window and four at the beginning of the next.
	f("limit: [4], window_size: [10], window_type: fixed",
		step{9, "200 3 1 "}, step{9, "200 2 1 "}, step{9.1, "200 1 1 "}, step{9.9, "200 0 1 "}, step{9.9, "429 0 1 1"},
		step{10, "200 3 10 "}, step{10, "200 2 10 "}, step{10.5, "200 1 10 "}, step{11, "200 0 9 "}, step{11, "429 0 9 9"},
		step{20, "200 3 10 "})
	// Sliding: what the window before held counts by the share that is left of it.
	f("limit: [4], window_size: [10], disable_penalty: true",
		step{9, "200 3 1 "}, step{9, "200 2 1 "}, step{9.1, "200 1 1 "}, step{9.9, "200 0 1 "},
		step{10, "429 0 3 3"},   // 4 of before: one of them has gone at 12.5
		step{12.4, "429 0 1 1"}, // 3.04
		step{12.5, "200 0 8 "},  // 3 + this one
		step{15, "200 0 5 "},    // 1 + 2 + this one
		step{19.9, "200 0 1 "},  // 2 + 0.04 + this one, rounded up
		step{20, "200 0 10 "},   // 3 + this one
		step{20, "429 0 4 4"},   // 1 + 3: one of them has gone at 23.3
		step{23.4, "200 0 7 "},  // 1 + 2 + this one
		step{80.5, "200 3 10 "}) // long after
	// The penalty: refused ones count, so that who does not stop stays out.
	f("limit: [2], window_size: [10]",
		step{0, "200 1 10 "}, step{0, "200 0 10 "}, step{0, "429 0 17 17"}, step{0, "429 0 18 18"}, step{9, "429 0 9 9"},
		step{10, "429 0 10 10"}, step{20, "200 0 10 "})
	f("limit: [2], window_size: [10], disable_penalty: true",
		step{0, "200 1 10 "}, step{0, "200 0 10 "}, step{0, "429 0 15 15"}, step{0, "429 0 15 15"}, step{15, "200 0 5 "})
	f("limit: [0], window_size: [10], window_type: fixed", step{0, "429 0 10 10"})
	f("limit: [1.5], window_size: [10], window_type: fixed", step{0, "200 0 10 "}, step{0, "429 0 10 10"})
	f("limit: [3, 2], window_size: [10, 10], window_type: fixed", step{0, "200 1 10 "}) // the lower one counts
}

func TestAdvancedHeaderNames(t *testing.T) {
	g := pipelinetest.Open(t, documentAdvanced("limit: [10, 20, 30, 40, 50, 60, 70], window_size: [1, 30, 60, 3600, 86400, 2592000, 31536000], window_type: fixed"), Advanced)
	x := g.Do("GET", "/")
	var got []string
	for name, value := range x.Ctx.Response.Header.All() {
		if n, ok := strings.CutPrefix(string(name), "X-Ratelimit-Remaining-"); ok {
			got = append(got, n+"="+string(value))
		}
	}
	if want := "Second=9 30=19 Minute=29 Hour=39 Day=49 Month=59 Year=69"; strings.Join(got, " ") != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestHeaderStyles(t *testing.T) {
	f := func(style string, kong, draft bool) {
		t.Helper()
		g := pipelinetest.Open(t, documentAdvanced("limit: [2, 50], window_size: [60, 90], window_type: fixed, header_style: "+style), Advanced)
		for i, want := range []string{`"minute";r=1;t=45`, `"minute";r=0;t=45`, `"minute";r=0;t=45`} {
			x := at(g.Exchange("GET", "/"), 15)
			g.Serve(x)
			if !draft {
				want = ""
			}
			if got := header(x, "RateLimit"); got != want {
				t.Errorf("%s, request %d: RateLimit: %s, want %s", style, i, got, want)
			}
			if got := header(x, "RateLimit-Policy"); (got == `"minute";q=2;w=60, "90";q=50;w=90`) != draft {
				t.Errorf("%s: RateLimit-Policy: %s", style, got)
			}
			if got := header(x, "RateLimit-Limit") + header(x, "X-RateLimit-Limit-Minute"); (got == "22") != kong {
				t.Errorf("%s: %s", style, got)
			}
			if got := header(x, "Retry-After"); (got == "45") != (i == 2) {
				t.Errorf("%s, request %d: Retry-After %q", style, i, got)
			}
		}
	}
	f("kong", true, false)
	f("draft", false, true)
	f("both", true, true)
}

func TestRetryAfterJitter(t *testing.T) {
	g := pipelinetest.Open(t, documentAdvanced("limit: [1], window_size: [60], window_type: fixed, retry_after_jitter_max: 3"), Advanced)
	told(g, 15)
	seen := map[string]bool{}
	for range 200 {
		reset, after, _ := strings.Cut(strings.TrimPrefix(told(g, 15, "RateLimit-Reset", "Retry-After"), "429 "), " ")
		if seen[after] = true; reset != "45" {
			t.Fatalf("RateLimit-Reset has jitter: %s", reset)
		}
	}
	if len(seen) != 4 || !seen["45"] || !seen["48"] {
		t.Errorf("Retry-After is one of %v, want 45 to 48", seen)
	}
}

func TestNamespaces(t *testing.T) {
	// f tells whether two instances, the second on a service, share counters.
	f := func(first, second string, shared bool) {
		t.Helper()
		g := pipelinetest.Open(t, documentAdvanced("limit: [10], "+first)+"- {name: rate-limiting-advanced, service: a, config: {limit: [10], "+second+"}}\n", Advanced)
		x := g.Do("GET", "/", "X-A", "same", "X-B", "same") // pipelinetest runs both instances
		if got := header(x, "RateLimit-Remaining"); (got == "8") != shared {
			t.Errorf("{%s} and {%s}: remaining %s, want shared: %v", first, second, got, shared)
		}
	}
	f("window_size: [60]", "window_size: [60]", false)
	f("window_size: [60], namespace: a", "window_size: [60], namespace: a", true)
	f("window_size: [60], namespace: a", "window_size: [60], namespace: a, error_code: 503", true)
	f("window_size: [60], namespace: a", "window_size: [60], namespace: b", false)
	f("window_size: [60], namespace: a", "window_size: [30], namespace: a", false)
	f("window_size: [60], namespace: a", "window_size: [60], namespace: a, window_type: fixed", false)
	f("window_size: [60], namespace: a, identifier: header, header_name: X-A", "window_size: [60], namespace: a, identifier: header, header_name: x-a", true)
	f("window_size: [60], namespace: a, identifier: header, header_name: X-A", "window_size: [60], namespace: a, identifier: header, header_name: X-B", false)
	f("window_size: [60], namespace: a, identifier: service", "window_size: [60], namespace: a", false)
}

func TestCompoundIdentity(t *testing.T) {
	f := func(settings string, first, second caller, shared bool) {
		t.Helper()
		g := pipelinetest.Open(t, documentAdvanced("limit: [1], window_size: [60], "+settings), Advanced)
		g.Serve(first.exchange(g))
		x := second.exchange(g)
		g.Serve(x)
		if refused := x.Ctx.Response.StatusCode() == 429; refused != shared {
			t.Errorf("{%s}: %+v and %+v share a counter: %v, want %v", settings, first, second, refused, shared)
		}
	}
	bob := caller{consumer: "bob"}
	both := "compound_identifier: [consumer, ip], identifier: service"
	f(both, bob, bob, true)
	f(both, bob, caller{consumer: "bob", ip: "198.51.100.7"}, false)
	f(both, bob, caller{consumer: "eve"}, false)
	f(both, bob, caller{consumer: "bob", service: 1}, true)
	f("compound_identifier: [header, path], header_name: X-Device-ID, path: /search", caller{header: "a", path: "search"}, caller{header: "a", path: "search", ip: "198.51.100.7"}, true)
	f("compound_identifier: [header, path], header_name: X-Device-ID, path: /search", caller{header: "a", path: "search"}, caller{header: "b", path: "search"}, false)
	f("identifier: route", bob, caller{ip: "198.51.100.7"}, true)
	f("compound_identifier: [ip]", bob, caller{consumer: "eve"}, true)
}

// bobID is made from his name, as the document gives none.
const bobID = "def4f7d3-9863-5ad2-8fa9-c949bf26f55e"

// TestSharedNames holds that what two callers are counted under in Redis is the same
// only if it is here.
func TestSharedNames(t *testing.T) {
	var seeds [kinds]maphash.Seed
	for i := range seeds {
		seeds[i] = maphash.MakeSeed()
	}
	seen := map[string]string{}
	for _, settings := range []string{
		"identifier: ip", "identifier: consumer", "identifier: credential", "identifier: service", "identifier: route",
		"identifier: header, header_name: X-Device-ID", "identifier: header, header_name: X-Other", "identifier: path, path: /search", "identifier: consumer-group",
		"compound_identifier: [consumer, ip]", "compound_identifier: [header, ip], header_name: X-Device-ID",
	} {
		g := pipelinetest.Open(t, documentAdvanced("limit: [1], window_size: [60], "+settings), Advanced)
		c := advancedDefaults
		if err := config.Decode(g.Env.Document.Plugins[0].Config, &c).Err(); err != nil {
			t.Fatal(err)
		}
		p := c.plan("id")
		id := newIdentifier(&p, "", &seeds)
		for _, c := range []caller{
			{}, {ip: "2001:db8::1"}, {consumer: "bob"}, {consumer: "eve", path: "search"}, {header: "192.0.2.1"}, {header: "a/ip:9:192.0.2.1"},
			{header: strings.Repeat("long", 100)}, {anyone: true}, {service: 1},
		} {
			x := c.exchange(g)
			name, hash := string(id.append(nil, x)), strconv.FormatUint(id.hash(x), 16)
			if old, ok := seen[name]; ok && old != hash {
				t.Errorf("{%s} %+v: %s stands for two", settings, c, name)
			}
			seen[name] = hash
		}
	}
	// They are the same in every process, so that a newer gateway finds them.
	for _, name := range []string{
		"ip:192.0.2.1", "ip:2001:db8::1", "path:/search", "header:x-device-id:192.0.2.1", "credential:key of nobody",
		"consumer:" + bobID, "+consumer:36:" + bobID + "/ip:9:192.0.2.1",
	} {
		if seen[name] == "" {
			t.Errorf("no caller is counted under %s, only under %q", name, slices.Sorted(maps.Keys(seen)))
		}
	}
}

func TestThrottling(t *testing.T) {
	// The retries of a throttled request fall in the second after.
	g := pipelinetest.Open(t, documentAdvanced("limit: [2], window_size: [1], window_type: fixed, throttling: {enabled: true, interval: 0.02, retry_times: 60, queue_limit: 1}"), Advanced)
	send := func() (status int, took time.Duration) {
		x := at(g.Exchange("GET", "/"), 0)
		start := time.Now()
		g.Chain.Begin(x)
		if g.Chain.Request(x) == pipeline.Next {
			return 200, time.Since(start)
		}
		return x.Ctx.Response.StatusCode(), time.Since(start)
	}
	f := func(status int, atLeast time.Duration) {
		t.Helper()
		if got, took := send(); got != status || took < atLeast {
			t.Errorf("status %d after %v, want %d after %v", got, took, status, atLeast)
		}
	}
	f(200, 0)
	f(200, 0)
	var wg sync.WaitGroup
	wg.Go(func() { f(200, 900*time.Millisecond) })
	redistest.Eventually(t, "one waits", func() bool { return counted(g, "delayed_requests") == 1 })
	f(429, 0) // the queue is full
	wg.Wait()
	if n := counted(g, "queue_overflows"); n != 1 {
		t.Errorf("%d overflows", n)
	}
}

func TestThrottlingGivesUp(t *testing.T) {
	g := pipelinetest.Open(t, documentAdvanced("limit: [1], window_size: [600], throttling: {enabled: true, interval: 0.02, retry_times: 2}"), Advanced)
	told(g, 0)
	start := time.Now()
	if got := told(g, 0, "X-RateLimit-Remaining-600"); got != "429 0" || time.Since(start) < 40*time.Millisecond {
		t.Errorf("%s after %v", got, time.Since(start))
	}
}

func TestAdvancedCountersSurviveReload(t *testing.T) {
	keeper := pipeline.NewKeeper()
	load := func(settings string) *pipeline.Chain {
		t.Helper()
		env := pipelinetest.NewEnv(t, documentAdvanced(settings), Advanced)
		holder := keeper.Hold()
		t.Cleanup(func() { _ = holder.Release() })
		hooks, err := Advanced.Build(env.Document.Plugins[0], pipeline.NewEnv(*env, holder))
		if err != nil {
			t.Fatal(err)
		}
		return pipeline.NewChain([]pipeline.Link{{Everyone: &hooks}})
	}
	f := func(c *pipeline.Chain, want pipeline.Verdict) {
		t.Helper()
		x := at(pipelinetest.NewExchange("GET", "/"), 0)
		c.Begin(x)
		if got := c.Request(x); got != want {
			t.Errorf("verdict %v, want %v", got, want)
		}
	}
	f(load("limit: [1], window_size: [60]"), pipeline.Next)
	f(load("limit: [1], window_size: [60], error_code: 503, disable_penalty: false"), pipeline.Done)
	f(load("limit: [4], window_size: [60]"), pipeline.Next)
	f(load("limit: [1], window_size: [30]"), pipeline.Next)
}

func TestAdvancedNoAllocations(t *testing.T) {
	f := func(settings string, c caller) {
		t.Helper()
		g := pipelinetest.Open(t, documentAdvanced(settings), Advanced)
		x := c.exchange(g)
		consumer, credential := x.Consumer, x.Credential
		g.Allocs(x, func(x *pipeline.Exchange) { x.Consumer, x.Credential = consumer, credential })
	}
	f("limit: [100000, 200000], window_size: [60, 3600]", caller{consumer: "bob"})
	f("limit: [100000], window_size: [30], window_type: fixed, header_style: both", caller{})
	f("limit: [1], window_size: [60], header_style: both, retry_after_jitter_max: 5", caller{}) // refusals
	f("limit: [100000], window_size: [60], compound_identifier: [consumer, header, ip], header_name: X-Device-ID", caller{consumer: "bob", header: "d1"})
	f("limit: [100000], window_size: [60], cost: {default: 2, methods: {GET: 3}, routes: {r: 4}, header: X-Cost}", caller{})
}
