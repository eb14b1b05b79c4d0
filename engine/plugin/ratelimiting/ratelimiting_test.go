package ratelimiting

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
)

func document(settings string) string { return documentOf("rate-limiting", settings) }

func documentAdvanced(settings string) string { return documentOf("rate-limiting-advanced", settings) }

func documentOf(name, settings string) string {
	return `
_format_version: "3.0"
services:
- {name: a, url: "http://a.internal"}
- {name: b, url: "http://b.internal"}
routes:
- {name: r, service: a, paths: [/]}
consumers:
- {username: bob, custom_id: b-1}
- {username: eve}
consumer_groups:
- {name: gold}
- {name: silver}
plugins:
- name: ` + name + `
  config: {` + settings + "}\n"
}

func read(text string) (*config.Document, error) {
	return config.Read([]config.Source{{Name: "test.yaml", Data: []byte(text)}},
		config.Options{Catalog: &pipeline.Specs{All: []pipeline.Spec{Spec, Advanced}}})
}

func TestSettingsRefused(t *testing.T) {
	f := func(settings, want string) {
		t.Helper()
		_, err := read(document(settings))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("{%s}:\n got %v\nwant %s", settings, err, want)
		}
	}
	f("", "at least one of these fields must be non-empty")
	f("limit_by: ip", "at least one of these fields must be non-empty: 'second', 'minute', 'hour', 'day', 'month', 'year'")
	f("minute: 10, hour: 5", "hour: The limit for hour(5.0) cannot be lower than the limit for minute(10.0)")
	f("second: 10, minute: 20, year: 15", "year: The limit for year(15.0) cannot be lower than the limit for minute(20.0)")
	f("minute: 0", "minute: value must be greater than 0")
	f("minute: -1", "minute: value must be greater than 0")
	f("minute: lots", "minute: expected a number")
	f("minute: 1e300", "value should be at most")
	f("minute: 5, limit_by: cookie", "limit_by: expected one of: consumer, credential, ip, service, header, path")
	f("minute: 5, limit_by: header", "header_name: required field missing")
	f("minute: 5, limit_by: path", "path: required field missing")
	f("minute: 5, limit_by: path, path: users", "path: should start with: /")
	f("minute: 5, limit_by: header, header_name: X Device", "header_name: bad header name 'X Device', allowed characters are A-Z, a-z, 0-9, '_', and '-'")
	f("minute: 5, policy: redis, redis: {host: localhost}, redis_host: elsewhere", "both redis_host and redis.host are set, to different values")
	f("minute: 5, policy: redis, redis: {host: localhost, timeout: 5, read_timeout: 6}", "timeout is the older name of read_timeout")
	f("minute: 5, policy: redis, redis_host: localhost, sync_rate: 0.01", "sync_rate: value should be -1 or between 0.02 and 86400")
	f("minute: 5, policy: redis, redis_host: localhost, sync_rate: 0", "sync_rate: value should be -1 or between 0.02 and 86400")
	f("minute: 5, header_style: rfc", "header_style: expected one of: kong, draft, both")
	f("minute: 5, cost: {methods: {post: 5}}", `cost.methods.post: expected a method in upper case, got "post"`)
	f("minute: 5, cost: {methods: {POST: -5}}", "cost.methods.POST: value should be")
	f("minute: 5, cost: {default: -1}", "cost.default: value should be")
	f("minute: 5, cost: {max: 0}", "cost.max: value should be")
	f("minute: 5, cost: {header: X Cost}", "cost.header: bad header name 'X Cost'")
	f("minute: 5, policy: nowhere", "policy: expected one of: local, cluster, redis")
	f("minute: 5, sync_rate: 1", "sync_rate can only be used with the redis policy")
	f("minute: 5, error_code: 42", "error_code: value should be between 100 and 599")
	f("minute: 5, keys_max: 1", "keys_max: value should be between 64 and 134217728")
	f("minutes: 5", "unknown field")
}

func TestSettingsMissing(t *testing.T) {
	_, err := read("_format_version: \"3.0\"\nplugins:\n- name: rate-limiting\n")
	if err == nil || !strings.Contains(err.Error(), "at least one of these fields must be non-empty") {
		t.Errorf("an instance without config: %v", err)
	}
}

func TestSettingsAccepted(t *testing.T) {
	f := func(settings string) {
		t.Helper()
		if _, err := read(document(settings)); err != nil {
			t.Errorf("{%s}: %v", settings, err)
		}
	}
	f("minute: 5")
	f("second: 5, minute: 5, hour: 5, day: 6, month: 7.5, year: 8")
	f("minute: 5, limit_by: consumer-group")
	f("minute: 5, policy: local, fault_tolerant: false, redis_host: localhost, redis_port: 6380, redis_timeout: 100, redis_database: 1")
	f("minute: 5, redis: {host: h, port: 1, timeout: 1, username: u, password: p, database: 2, ssl: true, ssl_verify: true, server_name: s}")
	f("minute: 5, header_name: null, path: null, sync_rate: -1")
}

func TestExampleLoads(t *testing.T) {
	example, err := os.ReadFile("example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	g := pipelinetest.Open(t, string(example), Spec, Advanced)
	x := g.Do("GET", "/users")
	if got := header(x, "X-RateLimit-Remaining-Minute") + " " + header(x, "X-RateLimit-Remaining-30"); x.Ctx.Response.StatusCode() != 200 || got != "99 9" {
		t.Errorf("status %d, remaining %s", x.Ctx.Response.StatusCode(), got)
	}
}

// at sets the time of an exchange to seconds after the start of the next hour.
func at(x *pipeline.Exchange, seconds int64) *pipeline.Exchange {
	now := pipeline.WallMillis(0)
	hour := (now/3_600_000 + 1) * 3_600_000
	x.Start = (hour + seconds*1000 - now) * int64(time.Millisecond)
	return x
}

func header(x *pipeline.Exchange, name string) string {
	return string(x.Ctx.Response.Header.Peek(name))
}

func TestHeadersAndRefusal(t *testing.T) {
	g := pipelinetest.Open(t, document("minute: 2, hour: 3"), Spec)
	f := func(seconds int64, status int, want string) {
		t.Helper()
		x := at(g.Exchange("GET", "/"), seconds)
		g.Serve(x)
		var got []string
		for _, name := range []string{
			"X-RateLimit-Limit-Minute", "X-RateLimit-Remaining-Minute", "X-RateLimit-Limit-Hour", "X-RateLimit-Remaining-Hour",
			"RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "Retry-After",
		} {
			got = append(got, header(x, name))
		}
		if x.Ctx.Response.StatusCode() != status || strings.Join(got, " ") != want {
			t.Errorf("after %d s: status %d, headers %q; want %d, %q", seconds, x.Ctx.Response.StatusCode(), strings.Join(got, " "), status, want)
		}
	}
	f(0, 200, "2 1 3 2 2 1 60 ")
	f(15, 200, "2 0 3 1 2 0 45 ")
	f(20, 429, "2 0 3 1 2 0 40 40")
	f(59, 429, "2 0 3 1 2 0 1 1")
	f(61, 200, "2 1 3 0 3 0 3539 ")
	f(62, 429, "2 1 3 0 3 0 3538 3538")
	f(120, 429, "2 2 3 0 3 0 3480 3480") // refused requests do not count in any window
	f(3600, 200, "2 1 3 2 2 1 60 ")
}

func TestTieGoesToTheLongerWindow(t *testing.T) {
	g := pipelinetest.Open(t, document("second: 5, minute: 5, day: 5"), Spec)
	x := at(g.Exchange("GET", "/"), 0)
	g.Serve(x)
	if got, err := strconv.Atoi(header(x, "RateLimit-Reset")); err != nil || got <= 60 {
		t.Errorf("RateLimit-Reset = %q, want that of the day", header(x, "RateLimit-Reset"))
	}
}

func TestRefusalBody(t *testing.T) {
	f := func(settings, accept string, status int, contentType, body string) {
		t.Helper()
		g := pipelinetest.Open(t, document(settings), Spec)
		g.Serve(at(g.Exchange("GET", "/"), 0))
		x := at(g.Exchange("GET", "/", "Accept", accept), 0)
		g.Serve(x)
		r := &x.Ctx.Response
		if r.StatusCode() != status || string(r.Header.ContentType()) != contentType || string(r.Body()) != body {
			t.Errorf("{%s}: %d %s %q", settings, r.StatusCode(), r.Header.ContentType(), r.Body())
		}
		if x.Source != pipeline.SourceGateway {
			t.Error("the answer is not the gateway's")
		}
	}
	const id = "0123456789abcdef0123456789abcdef"
	f("minute: 1", "*/*", 429, "application/json; charset=utf-8", "{\n  \"message\":\"API rate limit exceeded\",\n  \"request_id\":\""+id+"\"\n}")
	f("minute: 1", "text/plain", 429, "text/plain; charset=utf-8", "API rate limit exceeded\nrequest_id: "+id+"\n")
	f("minute: 1, error_code: 503, error_message: Slow down", "text/plain", 503, "text/plain; charset=utf-8", "Slow down\nrequest_id: "+id+"\n")
	f("minute: 0.5", "text/plain", 429, "text/plain; charset=utf-8", "API rate limit exceeded\nrequest_id: "+id+"\n")
}

func TestHiddenHeaders(t *testing.T) {
	g := pipelinetest.Open(t, document("minute: 1, hide_client_headers: true"), Spec)
	for i, status := range []int{200, 429} {
		x := at(g.Exchange("GET", "/"), 0)
		g.Serve(x)
		if x.Ctx.Response.StatusCode() != status {
			t.Errorf("request %d: status %d, want %d", i, x.Ctx.Response.StatusCode(), status)
		}
		for name := range x.Ctx.Response.Header.All() {
			if n := strings.ToLower(string(name)); strings.Contains(n, "ratelimit") || n == "retry-after" {
				t.Errorf("request %d has header %s", i, name)
			}
		}
	}
}

// caller is who sends a request.
type caller struct {
	consumer string
	ip       string
	header   string
	path     string
	service  int
	anyone   bool // has a credential without consumer
}

func (c caller) exchange(g *pipelinetest.Gateway) *pipeline.Exchange {
	x := at(g.Exchange("GET", "/"+c.path), 0)
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
	if c.anyone {
		x.Credential = &pipeline.Credential{ID: "key of nobody"}
	}
	return x
}

func TestWhoSharesACounter(t *testing.T) {
	// f lets the first caller use up a limit of 1 and tells whether the second is
	// refused.
	f := func(settings string, first, second caller, shared bool) {
		t.Helper()
		g := pipelinetest.Open(t, document("minute: 1, "+settings), Spec)
		g.Serve(first.exchange(g))
		x := second.exchange(g)
		g.Serve(x)
		if refused := x.Ctx.Response.StatusCode() == 429; refused != shared {
			t.Errorf("{%s}: %+v and %+v share a counter: %v, want %v", settings, first, second, refused, shared)
		}
	}
	bob, eve := caller{consumer: "bob"}, caller{consumer: "eve"}
	f("limit_by: consumer", bob, caller{consumer: "bob", ip: "198.51.100.7"}, true)
	f("limit_by: consumer", bob, eve, false)
	f("limit_by: consumer", bob, caller{}, false)
	f("limit_by: consumer", caller{}, caller{}, true)
	f("limit_by: consumer", caller{}, caller{ip: "198.51.100.7"}, false)
	f("limit_by: consumer", caller{anyone: true}, caller{anyone: true, ip: "198.51.100.7"}, true)
	f("limit_by: credential", bob, caller{consumer: "bob", ip: "198.51.100.7"}, true)
	f("limit_by: credential", bob, eve, false)
	f("limit_by: credential", caller{}, caller{ip: "198.51.100.7"}, false)
	f("limit_by: ip", bob, eve, true)
	f("limit_by: ip", bob, caller{consumer: "bob", ip: "198.51.100.7"}, false)
	f("limit_by: ip", caller{ip: "2001:db8::1"}, caller{ip: "2001:db8::2"}, false)
	f("limit_by: service", bob, caller{consumer: "eve", ip: "198.51.100.7"}, true)
	f("limit_by: service", bob, caller{consumer: "bob", service: 1}, false)
	f("limit_by: header, header_name: x-device-id", caller{header: "d1"}, caller{header: "d1", ip: "198.51.100.7"}, true)
	f("limit_by: header, header_name: X-Device-ID", caller{header: "d1"}, caller{header: "d2"}, false)
	f("limit_by: header, header_name: X-Device-ID", caller{}, caller{}, true)
	f("limit_by: header, header_name: X-Device-ID", caller{}, caller{ip: "198.51.100.7"}, false)
	f("limit_by: header, header_name: X-Device-ID", caller{header: "198.51.100.7"}, caller{ip: "198.51.100.7"}, false)
	f("limit_by: path, path: /search", caller{path: "search"}, caller{path: "search", ip: "198.51.100.7"}, true)
	f("limit_by: path, path: /search", caller{path: "search"}, caller{path: "search/x"}, false)
	f("limit_by: path, path: /search", caller{path: "a"}, caller{path: "b"}, true)
	f("limit_by: path, path: /search", caller{path: "a"}, caller{path: "b", ip: "198.51.100.7"}, false)
	f("limit_by: consumer-group", bob, eve, true) // no groups: the same address
	f("limit_by: consumer", bob, caller{consumer: "bob", service: 1}, true)
}

func TestConsumerGroupsShareACounter(t *testing.T) {
	g := pipelinetest.Open(t, document("minute: 1, limit_by: consumer-group"), Spec)
	groups := g.Env.Document.ConsumerGroups
	send := func(ip string, memberships ...*config.ConsumerGroup) int {
		x := caller{consumer: "bob", ip: ip}.exchange(g)
		x.Consumer = &pipeline.Consumer{Consumer: x.Consumer.Consumer, Groups: memberships}
		g.Serve(x)
		return x.Ctx.Response.StatusCode()
	}
	f := func(got, want int) {
		t.Helper()
		if got != want {
			t.Errorf("status %d, want %d", got, want)
		}
	}
	f(send("198.51.100.1", groups[0]), 200)
	f(send("198.51.100.2", groups[0], groups[1]), 429) // the first group counts
	f(send("198.51.100.2", groups[1]), 200)
}

func TestCountersSurviveReload(t *testing.T) {
	keeper := pipeline.NewKeeper()
	var holders []*pipeline.Holder
	load := func(settings string) *pipeline.Chain {
		t.Helper()
		env := pipelinetest.NewEnv(t, document(settings), Spec)
		holders = append(holders, keeper.Hold())
		env = pipeline.NewEnv(*env, holders[len(holders)-1])
		hooks, err := Spec.Build(env.Document.Plugins[0], env)
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
	first := load("minute: 2")
	f(first, pipeline.Next)
	f(load("minute: 2"), pipeline.Next)
	f(first, pipeline.Done)
	f(load("minute: 2, error_message: Enough"), pipeline.Done)
	f(load("minute: 3"), pipeline.Next) // a higher limit finds the counts as they are
	f(load("minute: 3"), pipeline.Done)
	f(load("minute: 3, limit_by: service"), pipeline.Done) // counted by address where there is no service
	f(load("minute: 3, hour: 3"), pipeline.Next)           // another set of periods starts afresh
	for _, h := range holders {
		if err := h.Release(); err != nil {
			t.Error(err)
		}
	}
}

func TestExactUnderConcurrency(t *testing.T) {
	const limit = 500
	g := pipelinetest.Open(t, document(fmt.Sprintf("minute: %d", limit)), Spec)
	var passed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			x := at(pipelinetest.NewExchange("GET", "/"), 0)
			for range limit / 2 {
				x.Ctx.Response.Reset()
				g.Chain.Begin(x)
				if g.Chain.Request(x) == pipeline.Next {
					passed.Add(1)
				}
				x.ApplyStaged()
			}
		})
	}
	wg.Wait()
	if n := passed.Load(); n != limit {
		t.Errorf("admitted %d, want exactly %d", n, limit)
	}
}

func TestFullTableIsCounted(t *testing.T) {
	g := pipelinetest.Open(t, document("hour: 5, limit_by: header, header_name: X-Device-ID, keys_max: 64"), Spec)
	for i := range 200 {
		x := caller{header: strconv.Itoa(i)}.exchange(g)
		g.Serve(x)
		if x.Ctx.Response.StatusCode() != 200 {
			t.Fatalf("newcomer %d is refused", i)
		}
	}
	var b strings.Builder
	g.Env.Metrics.WritePrometheus(&b)
	name := fmt.Sprintf("sluice_ratelimiting_forgotten_keys_total{plugin=%q} ", g.Env.Document.Plugins[0].ID)
	_, after, found := strings.Cut(b.String(), name)
	n, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(after, "\n", 2)[0]))
	if !found || err != nil || n < 100 {
		t.Errorf("metrics: %s", b.String())
	}
}

func TestNoAllocations(t *testing.T) {
	f := func(settings string, c caller) {
		t.Helper()
		g := pipelinetest.Open(t, document(settings), Spec)
		x := c.exchange(g)
		consumer, credential := x.Consumer, x.Credential
		g.Allocs(x, func(x *pipeline.Exchange) { x.Consumer, x.Credential = consumer, credential })
	}
	all := "second: 100000, minute: 100000, hour: 100000, day: 100000, month: 100000, year: 100000, "
	f(all+"limit_by: consumer", caller{consumer: "bob"})
	f(all+"limit_by: consumer", caller{})
	f(all+"limit_by: credential", caller{consumer: "bob"})
	f(all+"limit_by: ip", caller{})
	f(all+"limit_by: ip", caller{ip: "2001:db8::1"})
	f(all+"limit_by: service", caller{})
	f(all+"limit_by: header, header_name: X-Device-ID", caller{header: "d1"})
	f(all+"limit_by: path, path: /search", caller{path: "search"})
	f(all+"limit_by: path, path: /search", caller{path: "other"})
	f(all+"limit_by: consumer-group", caller{consumer: "bob"})
	f("minute: 1", caller{}) // refusals
	f("minute: 1, hide_client_headers: true", caller{})
}
