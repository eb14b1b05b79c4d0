package responseratelimiting

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
)

func document(settings string) string {
	return `
_format_version: "3.0"
services:
- {name: a, url: "http://a.internal"}
routes:
- {name: r, service: a, paths: [/]}
consumers:
- {username: bob}
- {username: eve}
plugins:
- name: response-ratelimiting
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
	f("", "limits: required field missing")
	f("limits: {}", "limits: length must be at least 1")
	f("limits: {videos: {}}", "limits.videos: at least one of these fields must be non-empty: 'second', 'minute', 'hour', 'day', 'month', 'year'")
	f("limits: {videos: 5}", "limits.videos: expected a record")
	f("limits: {videos: {minute: 0}}", "limits.videos.minute: value must be greater than 0")
	f("limits: {videos: {minute: 10, hour: 5}}", "limits.videos.hour: The limit for hour(5.0) cannot be lower than the limit for minute(10.0)")
	f("limits: {videos: {minute: 1e300}}", "value should be at most")
	f("limits: {videos: {weeks: 1}}", "unknown field")
	f(`limits: {"my videos": {minute: 1}}`, "bad header name 'my videos', allowed characters are A-Z")
	f(`limits: {"": {minute: 1}}`, "a limit has no name")
	f("limits: {videos: {minute: 1}}, header_name: X Limit", "header_name: bad header name 'X Limit'")
	f("limits: {videos: {minute: 1}}, limit_by: service", "limit_by: expected one of: consumer, credential, ip")
	f("limits: {videos: {minute: 1}}, policy: nowhere", "policy: expected one of: local, cluster, redis")
	f("limits: {videos: {minute: 1}}, keys_max: 1", "keys_max: value should be between")
	f("limits: {videos: {minute: 1}}, policy: redis, redis_host: a, redis: {host: b}", "both redis_host and redis.host are set, to different values")
}

func TestSettingsAccepted(t *testing.T) {
	f := func(settings string) {
		t.Helper()
		if _, err := read(document("limits: {videos: {minute: 1}}, " + settings)); err != nil {
			t.Errorf("{%s}: %v", settings, err)
		}
	}
	f("")
	f("policy: local, redis: null, header_name: X-Used, limit_by: ip, fault_tolerant: false, block_on_first_violation: true, hide_client_headers: true")
	f("policy: redis, redis: {host: h, port: 1, timeout: 1, username: u, password: p, database: 2, ssl: true, ssl_verify: true, server_name: s}")
	f("policy: redis, redis_host: localhost, redis_port: 6380, redis_timeout: 100, redis_database: 1")
	f("policy: cluster")
}

func TestNoRedis(t *testing.T) {
	f := func(settings, want string) {
		t.Helper()
		env := pipelinetest.NewEnv(t, document("limits: {videos: {minute: 1}}, "+settings), Spec)
		_, err := Spec.Build(env.Document.Plugins[0], env)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("{%s}:\n got %v\nwant %s", settings, err, want)
		}
	}
	f("policy: redis", "redis.host: required field missing")
	f("policy: cluster", `"cluster" counts in the Redis of the deployment, and there is none`)
	f("policy: cluster, redis_host: localhost", `"cluster" counts in the Redis of the deployment`)
}

func TestExampleLoads(t *testing.T) {
	example, err := os.ReadFile("example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	g := pipelinetest.Open(t, string(example), Spec)
	if x := g.Do("GET", "/media"); x.Ctx.Response.StatusCode() != 200 || header(x, "X-RateLimit-Limit-images-hour") != "1000" {
		t.Errorf("status %d, headers\n%s", x.Ctx.Response.StatusCode(), x.Ctx.Response.Header.String())
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

// service answers with a header that says what was used, and remembers what it saw.
type service struct {
	used    []string
	header  string
	asked   int
	videos  string // X-RateLimit-Remaining-videos of the last request
	forgeds int    // how many of them it got
}

func (s *service) answer(x *pipeline.Exchange) {
	s.asked++
	s.videos, s.forgeds = "", 0
	for name, value := range x.Ctx.Request.Header.All() {
		if strings.EqualFold(string(name), "X-RateLimit-Remaining-videos") {
			s.videos = string(value)
			s.forgeds++
		}
	}
	r := &x.Ctx.Response
	r.SetBodyString("a film")
	r.Header.SetContentType("video/mp4")
	r.Header.Set("Etag", `"1"`)
	r.Header.Set("X-Own", "stays")
	for _, used := range s.used {
		r.Header.Add(s.header, used)
	}
}

func open(t testing.TB, settings string) (*pipelinetest.Gateway, *service) {
	t.Helper()
	g := pipelinetest.Open(t, document(settings), Spec)
	s := &service{header: "X-Kong-Limit"}
	g.Service = s.answer
	return g, s
}

func TestCounts(t *testing.T) {
	g, s := open(t, "limits: {videos: {minute: 5, hour: 8}, images: {hour: 100}}")
	f := func(seconds int64, used string, status int, seen, want string) {
		t.Helper()
		s.used = []string{used}
		x := at(g.Exchange("GET", "/", "X-RateLimit-Remaining-videos", "1000", "X-RateLimit-Remaining-Videos", "2000"), seconds)
		g.Serve(x)
		var got []string
		for _, name := range []string{
			"X-RateLimit-Limit-videos-minute", "X-RateLimit-Remaining-videos-minute",
			"X-RateLimit-Limit-videos-hour", "X-RateLimit-Remaining-videos-hour",
			"X-RateLimit-Limit-images-hour", "X-RateLimit-Remaining-images-hour",
		} {
			got = append(got, header(x, name))
		}
		if x.Ctx.Response.StatusCode() != status || strings.Join(got, " ") != want {
			t.Errorf("after %d s, %q: status %d, headers %q; want %d, %q", seconds, used, x.Ctx.Response.StatusCode(), strings.Join(got, " "), status, want)
		}
		if s.videos != seen || s.forgeds != 1 {
			t.Errorf("after %d s: the service saw %q, %d times, want %q", seconds, s.videos, s.forgeds, seen)
		}
		if header(x, "X-Kong-Limit") != "" {
			t.Error("the client sees the service's header")
		}
	}
	f(0, "videos=2, images=1", 200, "5", "5 3 8 6 100 99")
	f(1, "", 200, "3", "5 3 8 6 100 99")
	f(2, "videos=4", 200, "3", "5 0 8 2 100 99")   // the answer that takes the last is delivered
	f(3, "images=10", 200, "0", "5 0 8 2 100 89")  // needs nothing of what has run out
	f(4, "videos=1", 429, "0", "5 0 8 1 100 89")   // too late
	f(60, "videos=1", 200, "1", "5 4 8 0 100 89")  // another minute
	f(120, "videos=1", 429, "0", "5 4 8 0 100 89") // the hour has run out
	f(3600, "videos=1", 200, "5", "5 4 8 7 100 100")
	f(3601, "videos=0", 200, "4", "5 4 8 7 100 100")
}

func TestWithheld(t *testing.T) {
	g, s := open(t, "limits: {videos: {minute: 1}}")
	s.used = []string{"videos=1"}
	g.Serve(at(g.Exchange("GET", "/"), 0))
	x := at(g.Exchange("GET", "/"), 1)
	x.Stage("Ratelimit-Remaining", []byte("7")) // of another plugin
	g.Serve(x)
	r := &x.Ctx.Response
	if s.asked != 2 {
		t.Errorf("the service was asked %d times, want 2", s.asked)
	}
	if r.StatusCode() != 429 || len(r.Body()) != 0 || x.Source != pipeline.SourceGateway || x.UpstreamStatus != 200 {
		t.Errorf("status %d, body %q, source %v", r.StatusCode(), r.Body(), x.Source)
	}
	if header(x, "X-Own") != "stays" || header(x, "Ratelimit-Remaining") != "7" {
		t.Errorf("headers are lost:\n%s", r.Header.String())
	}
	if header(x, "Etag") != "" || header(x, "Content-Type") != "" {
		t.Errorf("headers of the body are left:\n%s", r.Header.String())
	}
}

func TestTunnelIsNotTakenBack(t *testing.T) {
	g, s := open(t, "limits: {videos: {minute: 1}}")
	s.used = []string{"videos=1"}
	g.Serve(at(g.Exchange("GET", "/"), 0))
	g.Service = func(x *pipeline.Exchange) {
		s.answer(x)
		x.Tunnel = &pipeline.Tunnel{}
		x.Ctx.Response.SetStatusCode(101)
	}
	x := at(g.Exchange("GET", "/"), 1)
	g.Serve(x)
	if got := x.Ctx.Response.StatusCode(); got != 101 {
		t.Errorf("status %d", got)
	}
}

func TestBlockOnFirstViolation(t *testing.T) {
	g, s := open(t, "limits: {videos: {minute: 2}, images: {minute: 2}}, block_on_first_violation: true")
	f := func(used string, status int, body string) {
		t.Helper()
		s.used = []string{used}
		x := at(g.Exchange("GET", "/", "Accept", "text/plain"), 0)
		g.Serve(x)
		if got := string(x.Ctx.Response.Body()); x.Ctx.Response.StatusCode() != status || !strings.HasPrefix(got, body) {
			t.Errorf("%q: %d %q, want %d %q", used, x.Ctx.Response.StatusCode(), got, status, body)
		}
	}
	f("videos=1", 200, "a film")
	f("images=5", 200, "a film")
	f("videos=1", 429, "API rate limit exceeded for 'images'\n")
	if s.asked != 2 {
		t.Errorf("the service was asked %d times, want 2", s.asked)
	}
}

func TestHiddenHeaders(t *testing.T) {
	g, s := open(t, "limits: {videos: {minute: 1}}, hide_client_headers: true")
	s.used = []string{"videos=1"}
	for _, status := range []int{200, 429} {
		x := at(g.Exchange("GET", "/"), 0)
		g.Serve(x)
		if x.Ctx.Response.StatusCode() != status || s.videos == "" {
			t.Errorf("status %d, want %d; the service saw %q", x.Ctx.Response.StatusCode(), status, s.videos)
		}
		for name := range x.Ctx.Response.Header.All() {
			if strings.Contains(strings.ToLower(string(name)), "limit") {
				t.Errorf("header %s", name)
			}
		}
	}
}

func TestWhatIsRead(t *testing.T) {
	f := func(left string, used ...string) {
		t.Helper()
		g, s := open(t, "limits: {videos: {minute: 100}, images: {minute: 100}}")
		s.used = used
		x := at(g.Exchange("GET", "/"), 0)
		g.Serve(x)
		if got := header(x, "X-RateLimit-Remaining-videos-minute"); got != left {
			t.Errorf("%q: %s left, want %s", used, got, left)
		}
	}
	f("98", "videos=2")
	f("98", " images = 1 , videos = 2 ")
	f("98", "images=1", "videos=2")
	f("97", "videos=2, videos=3") // the last
	f("100", "Videos=2")
	f("100", "videos")
	f("100", "videos=")
	f("100", "videos=two")
	f("100", "videos=-2")
	f("100", "videos=2.5")
	f("100", "videos=2=3")
	f("100", "=2")
	f("100", ",,")
	f("100", "films=2")
	f("0", "videos=99999999999999999999999999")
}

func TestOtherHeaderName(t *testing.T) {
	g, s := open(t, "limits: {videos: {minute: 100}}, header_name: x-USED")
	s.header, s.used = "X-Used", []string{"videos=2"}
	x := at(g.Exchange("GET", "/"), 0)
	g.Serve(x)
	if header(x, "X-RateLimit-Remaining-videos-minute") != "98" || header(x, "X-Used") != "" {
		t.Error(x.Ctx.Response.Header.String())
	}
}

// TestOnlyTheServiceCounts is that an answer of the gateway, as from a cache, uses
// nothing though it has the header.
func TestOnlyTheServiceCounts(t *testing.T) {
	g, s := open(t, "limits: {videos: {minute: 100}}")
	s.used = []string{"videos=2"}
	x := at(g.Exchange("GET", "/"), 0)
	g.Chain.Begin(x)
	g.Chain.Request(x)
	s.answer(x)
	x.Source = pipeline.SourceGateway
	g.Chain.Response(x)
	if header(x, "X-RateLimit-Remaining-videos-minute") != "100" || header(x, "X-Kong-Limit") != "" {
		t.Error(x.Ctx.Response.Header.String())
	}
	// Answered before this plugin.
	x = at(g.Exchange("GET", "/"), 0)
	g.Chain.Begin(x)
	s.answer(x)
	x.Source = pipeline.SourceGateway
	g.Chain.Response(x)
	if header(x, "X-RateLimit-Remaining-videos-minute") != "" || header(x, "X-Kong-Limit") != "" {
		t.Error(x.Ctx.Response.Header.String())
	}
}

func TestWhoSharesACounter(t *testing.T) {
	type caller struct{ consumer, ip string }
	f := func(settings string, first, second caller, shared bool) {
		t.Helper()
		g, s := open(t, "limits: {videos: {minute: 5}}, "+settings)
		s.used = []string{"videos=1"}
		send := func(c caller) string {
			x := at(g.Exchange("GET", "/"), 0)
			if c.ip != "" {
				x.ClientIP = netip.MustParseAddr(c.ip)
			}
			if c.consumer != "" {
				x.Consumer = g.Env.Consumers.Find(c.consumer)
				x.Credential = &pipeline.Credential{ID: "key of " + c.consumer + c.ip, Consumer: x.Consumer}
			}
			g.Serve(x)
			return header(x, "X-RateLimit-Remaining-videos-minute")
		}
		send(first)
		if got := send(second) == "3"; got != shared {
			t.Errorf("{%s}: %+v and %+v share a counter: %v, want %v", settings, first, second, got, shared)
		}
	}
	bob, away := caller{consumer: "bob"}, caller{consumer: "bob", ip: "198.51.100.7"}
	f("limit_by: consumer", bob, away, true)
	f("limit_by: consumer", bob, caller{consumer: "eve"}, false)
	f("limit_by: consumer", caller{}, caller{}, true)
	f("limit_by: credential", bob, bob, true)
	f("limit_by: credential", bob, away, false)
	f("limit_by: ip", bob, caller{consumer: "eve"}, true)
	f("limit_by: ip", bob, away, false)
}

func TestCountersSurviveReload(t *testing.T) {
	keeper := pipeline.NewKeeper()
	var holders []*pipeline.Holder
	send := func(settings string) string {
		t.Helper()
		holder := keeper.Hold()
		holders = append(holders, holder)
		env := pipeline.NewEnv(*pipelinetest.NewEnv(t, document(settings), Spec), holder)
		hooks, err := Spec.Build(env.Document.Plugins[0], env)
		if err != nil {
			t.Fatal(err)
		}
		x := at(pipelinetest.NewExchange("GET", "/"), 0)
		hooks.Request(x)
		x.Source = pipeline.SourceService
		x.Ctx.Response.Header.Set("X-Kong-Limit", "videos=1")
		hooks.Response(x)
		return header(x, "X-RateLimit-Remaining-videos-minute")
	}
	f := func(settings, want string) {
		t.Helper()
		if got := send(settings); got != want {
			t.Errorf("{%s}: %s left, want %s", settings, got, want)
		}
	}
	f("limits: {videos: {minute: 5}}", "4")
	f("limits: {videos: {minute: 5}}", "3")
	f("limits: {videos: {minute: 10}, images: {minute: 1}}", "7") // another limit, another name
	f("limits: {videos: {minute: 10}}, limit_by: ip", "9")
	for _, h := range holders {
		if err := h.Release(); err != nil {
			t.Error(err)
		}
	}
}

// TestExactUnderConcurrency is that as many answers are delivered as there is to use.
func TestExactUnderConcurrency(t *testing.T) {
	const limit = 300
	g := pipelinetest.Open(t, document(fmt.Sprintf("limits: {videos: {minute: %d}}", limit)), Spec)
	var mu sync.Mutex
	delivered := 0
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range limit / 4 {
				x := at(pipelinetest.NewExchange("GET", "/"), 0)
				g.Chain.Begin(x)
				g.Chain.Request(x)
				x.Source = pipeline.SourceService
				x.Ctx.Response.Header.Set("X-Kong-Limit", "videos=1")
				g.Chain.Response(x)
				if x.Ctx.Response.StatusCode() == 200 {
					mu.Lock()
					delivered++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if delivered != limit {
		t.Errorf("delivered %d, want exactly %d", delivered, limit)
	}
}

func TestForgottenKeysAreCounted(t *testing.T) {
	g, s := open(t, "limits: {videos: {hour: 5}}, limit_by: ip, keys_max: 64")
	s.used = []string{"videos=1"}
	for i := range 300 {
		x := at(g.Exchange("GET", "/"), 0)
		x.ClientIP = netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		g.Serve(x)
	}
	var b strings.Builder
	g.Env.Metrics.WritePrometheus(&b)
	if zero := "forgotten_keys_total{plugin=\"" + g.Env.Document.Plugins[0].ID + "\"} 0\n"; strings.Contains(b.String(), zero) {
		t.Error(b.String())
	}
}

func TestNoAllocations(t *testing.T) {
	f := func(settings, consumer string, used ...string) {
		t.Helper()
		g, s := open(t, settings)
		s.used = used
		answer := []byte("a film")
		g.Service = func(x *pipeline.Exchange) {
			x.Ctx.Response.SetBodyRaw(answer)
			for _, u := range s.used {
				x.Ctx.Response.Header.Add("X-Kong-Limit", u)
			}
		}
		x := g.Exchange("GET", "/")
		c := g.Env.Consumers.Find(consumer)
		g.Allocs(x, func(x *pipeline.Exchange) { x.Consumer = c })
	}
	limits := "limits: {videos: {second: 100000, minute: 100000, hour: 100000, day: 100000, month: 100000, year: 100000}, images: {minute: 100000}}"
	f(limits, "bob", "videos=2, images=1")
	f(limits, "", "videos=2", "images=1")
	f(limits+", limit_by: credential", "bob")
	f(limits+", limit_by: ip", "bob", "videos=1")
	f("limits: {videos: {minute: 1}}", "", "videos=1")                                 // withheld
	f("limits: {videos: {minute: 1}}, block_on_first_violation: true", "", "videos=1") // refused
}

func BenchmarkExchange(b *testing.B) {
	g, _ := open(b, "limits: {videos: {minute: 1000000000, hour: 1000000000}}")
	g.Service = func(x *pipeline.Exchange) { x.Ctx.Response.Header.Set("X-Kong-Limit", "videos=1") }
	x := g.Exchange("GET", "/")
	b.ReportAllocs()
	for b.Loop() {
		g.Again(x)
		g.Serve(x)
	}
}
