package quota

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
	"github.com/sluice-gateway/sluice/engine/plugin/requesttermination"
)

func document(settings string) string {
	return `
_format_version: "3.0"
services:
- {name: a, url: "http://a.internal"}
routes:
- {name: r, service: a, paths: [/]}
consumers:
- {username: bob, custom_id: b-1}
- {username: eve}
- {custom_id: c-1}
consumer_groups:
- {name: starter}
- {name: professional}
plugins:
- name: quota
  instance_name: plan
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
	f("", "quota: required field missing")
	f("quota: {}", "quota: at least one of these fields must be non-empty: 'second', 'minute', 'hour', 'day', 'month', 'year'")
	f("quota: 5", "quota: expected a record")
	f("quota: {month: 0}", "quota.month: value should be between 1 and")
	f("quota: {month: 1.5}", "quota.month: expected an integer")
	f("quota: {month: 90071992547409930}", "quota.month: value should be between 1 and")
	f("quota: {month: 100, year: 50}", "quota.year: The limit for year(50) cannot be lower than the limit for month(100)")
	f("quota: {week: 5}", "unknown field")
	f("quota: {month: 5}, reset_on: monday", "reset_on: expected one of: first_day, anniversary, or a day of the month from 1 to 31")
	f("quota: {month: 5}, reset_on: 0", "reset_on: expected one of")
	f("quota: {month: 5}, reset_on: 32", "reset_on: expected one of")
	f("quota: {month: 5}, reset_on: [1]", "reset_on: expected one of")
	f("quota: {month: 5}, timezone: Mars/Olympus", `timezone: unknown time zone "Mars/Olympus"`)
	f("quota: {month: 5}, timezone: Local", `timezone: unknown time zone "Local"`)
	f("quota: {month: 5}, consumer_groups: [{name: a}]", "consumer_groups[0].quota: required field missing")
	f("quota: {month: 5}, consumer_groups: [{quota: 5}]", "consumer_groups[0].name: required field missing")
	f("quota: {month: 5}, consumer_groups: [{name: a, quota: 1}, {name: a, quota: 2}]", "consumer_groups[1].name: group 'a' has a quota already")
	f("quota: {month: 5}, warn_at: 101", "warn_at: value should be between 0 and 100")
	f("quota: {month: 5}, strategy: postgres", "strategy: expected one of: local, cluster, redis")
	f("quota: {month: 5}, keys_max: 1", "keys_max: value should be between")
	f("quota: {month: 5}, error_code: 42", "error_code: value should be between 100 and 599")
}

func TestSettingsAccepted(t *testing.T) {
	f := func(settings string) {
		t.Helper()
		if _, err := read(document(settings)); err != nil {
			t.Errorf("{%s}: %v", settings, err)
		}
	}
	f("quota: {month: 5}")
	f("quota: {second: 1, minute: 1, hour: 1, day: 1, month: 2, year: 9007199254740992}")
	f("quota: {month: 5}, reset_on: 15, timezone: Asia/Kolkata")
	f("quota: {month: 5}, reset_on: '31'")
	f("quota: {month: 5}, reset_on: anniversary")
	f("quota: {day: 5}, reset_on: 15") // a warning
	f("quota: {month: 5}, strategy: redis, redis_host: localhost, fault_tolerant: false")
	f("quota: {month: 5}, strategy: redis, redis: {host: localhost, timeout: 100}")
	f("quota: {month: 5}, strategy: cluster")
}

func TestResetOnIsWrittenBack(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		d, err := read(document("quota: {month: 5}, reset_on: " + text))
		if err != nil {
			t.Fatal(err)
		}
		c := defaults
		faults := config.Decode(d.Plugins[0].Config, &c)
		if err := faults.Err(); err != nil {
			t.Fatal(err)
		}
		if n := c.ResetOn.MarshalNode(); n.Value != want || (n.Type == config.Int) != (want[0] < 'a') {
			t.Errorf("%s: %+v", text, n)
		}
	}
	f("first_day", "first_day")
	f("1", "first_day")
	f("15", "15")
	f("anniversary", "anniversary")
}

func TestExampleLoads(t *testing.T) {
	example, err := os.ReadFile("example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(example), "/var/lib/sluice/", t.TempDir(), 1)
	g := pipelinetest.Open(t, text, Spec, requesttermination.Spec)
	if x := g.Do("GET", "/search"); x.Ctx.Response.StatusCode() != 200 || header(x, "X-Quota-Limit") != "50000" {
		t.Errorf("status %d, headers\n%s", x.Ctx.Response.StatusCode(), x.Ctx.Response.Header.String())
	}
}

// open opens a gateway with files of its own.
func open(t testing.TB, settings string) *pipelinetest.Gateway {
	t.Helper()
	return pipelinetest.Open(t, document(settings+", state_dir: "+t.TempDir()), Spec)
}

// at sets the time of an exchange, which must not be in the past.
func at(x *pipeline.Exchange, when string) *pipeline.Exchange {
	u, err := time.Parse(time.RFC3339, when)
	if err != nil {
		panic(err)
	}
	x.Start = (u.UnixMilli() - pipeline.WallMillis(0)) * int64(time.Millisecond)
	return x
}

func header(x *pipeline.Exchange, name string) string {
	return string(x.Ctx.Response.Header.Peek(name))
}

func headers(x *pipeline.Exchange) string {
	var all []string
	for _, name := range []string{"X-Quota-Limit", "X-Quota-Remaining", "X-Quota-Reset", "X-Quota-Warning", "Retry-After"} {
		all = append(all, header(x, name))
	}
	return strings.Join(all, " ")
}

func TestQuota(t *testing.T) {
	g := open(t, "quota: {day: 3, month: 5}")
	f := func(when string, status int, want string) {
		t.Helper()
		x := at(g.Exchange("GET", "/", "Accept", "text/plain"), when)
		g.Serve(x)
		if got := headers(x); x.Ctx.Response.StatusCode() != status || got != want {
			t.Errorf("%s: %d %q, want %d %q", when, x.Ctx.Response.StatusCode(), got, status, want)
		}
		if status == 429 && !strings.HasPrefix(string(x.Ctx.Response.Body()), "API quota exceeded\n") {
			t.Errorf("%q", x.Ctx.Response.Body())
		}
	}
	f("2031-03-01T12:00:00Z", 200, "3 2 43200  ")
	f("2031-03-01T18:00:00Z", 200, "3 1 21600  ")
	f("2031-03-01T23:59:59Z", 200, "3 0 1 80 ")
	f("2031-03-01T23:59:59Z", 429, "3 0 1 80 1")
	f("2031-03-02T00:00:00Z", 200, "5 1 2592000 80 ")
	f("2031-03-02T00:00:00Z", 200, "5 0 2592000 80 ")
	f("2031-03-30T00:00:00Z", 429, "5 0 172800 80 172800")
	f("2031-04-01T00:00:00Z", 200, "3 2 86400  ")
}

func TestWhenItBeginsAnew(t *testing.T) {
	// f uses a quota of 1 up and tells when the next begins.
	f := func(settings, when, want string) {
		t.Helper()
		g := open(t, settings)
		x := at(g.Exchange("GET", "/"), when)
		g.Serve(x)
		var reset int64
		fmt.Sscan(header(x, "X-Quota-Reset"), &reset)
		u, _ := time.Parse(time.RFC3339, when)
		next := u.Add(time.Duration(reset) * time.Second)
		if got := next.UTC().Format(time.RFC3339); got != want {
			t.Errorf("{%s} at %s: anew at %s, want %s", settings, when, got, want)
		}
		for shift, status := range map[time.Duration]int{-time.Second: 429, 0: 200} {
			x := at(g.Exchange("GET", "/"), next.Add(shift).UTC().Format(time.RFC3339))
			g.Chain.Begin(x)
			if shift < 0 {
				g.Chain.Request(x)
				if got := x.Ctx.Response.StatusCode(); got != status {
					t.Errorf("{%s}: status %d just before %s", settings, got, want)
				}
			}
		}
		x = at(g.Exchange("GET", "/"), next.UTC().Format(time.RFC3339))
		g.Serve(x)
		if got := x.Ctx.Response.StatusCode(); got != 200 {
			t.Errorf("{%s}: status %d at %s", settings, got, want)
		}
	}
	f("quota: {month: 1}", "2031-01-31T10:00:00Z", "2031-02-01T00:00:00Z")
	f("quota: {year: 1}", "2031-01-31T10:00:00Z", "2032-01-01T00:00:00Z")
	f("quota: {month: 1}, reset_on: 15", "2031-01-31T10:00:00Z", "2031-02-15T00:00:00Z")
	f("quota: {month: 1}, reset_on: 31", "2031-01-31T10:00:00Z", "2031-02-28T00:00:00Z")
	f("quota: {month: 1}, reset_on: anniversary", "2031-01-31T10:00:00Z", "2031-02-28T10:00:00Z")
	f("quota: {month: 1}, timezone: Europe/Berlin", "2031-01-31T10:00:00Z", "2031-01-31T23:00:00Z")
	f("quota: {month: 1}, timezone: America/New_York", "2031-03-31T10:00:00Z", "2031-04-01T04:00:00Z")
	f("quota: {day: 1}, timezone: Asia/Kolkata", "2031-03-31T10:00:00Z", "2031-03-31T18:30:00Z")
	f("quota: {day: 1}, reset_on: 15", "2031-03-31T10:00:00Z", "2031-04-01T00:00:00Z")
}

// send sends one request and returns its status.
func send(g *pipelinetest.Gateway, shape func(x *pipeline.Exchange)) *pipeline.Exchange {
	x := at(g.Exchange("GET", "/"), "2031-03-01T12:00:00Z")
	if shape != nil {
		shape(x)
	}
	g.Serve(x)
	return x
}

func by(g *pipelinetest.Gateway, consumer string, groups ...int) func(x *pipeline.Exchange) {
	return func(x *pipeline.Exchange) {
		c := *g.Env.Consumers.Find(consumer)
		for _, i := range groups {
			c.Groups = append(c.Groups, g.Env.Document.ConsumerGroups[i])
		}
		x.Consumer = &c
		x.Credential = &pipeline.Credential{ID: "key of " + consumer, Consumer: &c}
	}
}

func TestWhoseQuota(t *testing.T) {
	g := open(t, "quota: {month: 10}")
	f := func(shape func(x *pipeline.Exchange), left string) {
		t.Helper()
		if got := header(send(g, shape), "X-Quota-Remaining"); got != left {
			t.Errorf("%s left, want %s", got, left)
		}
	}
	from := func(ip string, shape func(x *pipeline.Exchange)) func(x *pipeline.Exchange) {
		return func(x *pipeline.Exchange) {
			x.ClientIP = netip.MustParseAddr(ip)
			if shape != nil {
				shape(x)
			}
		}
	}
	f(by(g, "bob"), "9")
	f(from("198.51.100.7", by(g, "bob")), "8")
	f(by(g, "eve"), "9")
	f(nil, "9")
	f(from("198.51.100.7", nil), "9")
	f(from("2001:db8::1", nil), "9")
	f(nil, "8")
	key := func(x *pipeline.Exchange) { x.Credential = &pipeline.Credential{ID: "key of nobody"} }
	f(key, "9")
	f(from("198.51.100.7", key), "8")
	// A credential that has the id of a consumer is another caller.
	f(func(x *pipeline.Exchange) { x.Credential = &pipeline.Credential{ID: g.Env.Consumers.Find("bob").ID} }, "9")
}

func TestGroups(t *testing.T) {
	g := open(t, "quota: {day: 1000, month: 5000}, consumer_groups: [{name: starter, quota: 10}, {name: professional, quota: 100}]")
	f := func(shape func(x *pipeline.Exchange), want string) {
		t.Helper()
		if got := header(send(g, shape), "X-Quota-Limit"); got != want {
			t.Errorf("limit %s, want %s", got, want)
		}
	}
	f(by(g, "bob"), "1000")
	f(by(g, "bob", 0), "10")
	f(by(g, "bob", 1), "100")
	f(by(g, "bob", 0, 1), "100") // the highest
	f(nil, "1000")
}

func TestUnknownGroupIsSaid(t *testing.T) {
	s := load(t, pipeline.NewKeeper(), t.TempDir(), "quota: {month: 5}, consumer_groups: [{name: enterprise, quota: 10}, {name: starter, quota: 1}]")
	defer s.release(t)
	if got := s.log.String(); strings.Count(got, "level=WARN") != 1 || !strings.Contains(got, "consumer_group=enterprise") {
		t.Errorf("log %q", got)
	}
}

func TestWhatCounts(t *testing.T) {
	// f sends a request whose service answers with a status, 0 for none, and returns
	// what is left of 10 after it.
	f := func(settings string, service int, left string) {
		t.Helper()
		g := open(t, "quota: {month: 10}"+settings)
		x := at(g.Exchange("GET", "/"), "2031-03-01T12:00:00Z")
		g.Chain.Begin(x)
		g.Chain.Request(x)
		if service == 0 {
			x.Answer(pipeline.NewReply(502, "An invalid response was received from the upstream server"))
		} else {
			x.Source, x.UpstreamStatus = pipeline.SourceService, service
			x.Ctx.Response.SetStatusCode(200) // another plugin may have changed it
		}
		g.Chain.Response(x)
		g.Chain.Log(x)
		g.Chain.Log(x) // does nothing more
		if got := header(send(g, nil), "X-Quota-Remaining"); got != left {
			t.Errorf("{%s} %d: %s left, want %s", settings, service, got, left)
		}
	}
	f("", 200, "8")
	f("", 101, "8")
	f("", 404, "8")
	f("", 500, "9")
	f("", 503, "9")
	f("", 0, "9")
	f(", count_errors: true", 200, "8")
	f(", count_errors: true", 503, "8")
	f(", count_errors: true", 0, "8")
}

// TestLostExchange is a request whose Log hooks never run.
func TestLostExchange(t *testing.T) {
	g := open(t, "quota: {month: 10}")
	x := at(g.Exchange("GET", "/"), "2031-03-01T12:00:00Z")
	g.Chain.Begin(x)
	g.Chain.Request(x)
	x.Ctx.Request.Reset()
	if got := header(send(g, nil), "X-Quota-Remaining"); got != "9" {
		t.Errorf("%s left, want 9", got)
	}
}

func TestRefundOfAnEarlierPeriod(t *testing.T) {
	g := open(t, "quota: {month: 10}")
	x := at(g.Exchange("GET", "/"), "2031-03-31T23:59:59Z")
	g.Chain.Begin(x)
	g.Chain.Request(x)
	next := func() string {
		y := at(g.Exchange("GET", "/"), "2031-04-01T00:00:01Z")
		g.Serve(y)
		return header(y, "X-Quota-Remaining")
	}
	first := next()
	g.Chain.Log(x) // no answer: given back, to March
	if second := next(); first != "9" || second != "8" {
		t.Errorf("%s, then %s left, want 9, 8", first, second)
	}
}

func TestExactUnderConcurrency(t *testing.T) {
	const limit = 200
	g := open(t, fmt.Sprintf("quota: {month: %d}", limit))
	var served, failed atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range limit {
				x := at(pipelinetest.NewExchange("GET", "/"), "2031-03-01T12:00:00Z")
				g.Chain.Begin(x)
				if g.Chain.Request(x) == pipeline.Done {
					continue
				}
				if i%3 == 0 {
					failed.Add(1)
					x.UpstreamStatus = 500
				} else {
					served.Add(1)
					x.UpstreamStatus = 200
				}
				g.Chain.Log(x)
			}
		})
	}
	wg.Wait()
	if served.Load() != limit || failed.Load() == 0 {
		t.Errorf("%d served of a quota of %d, %d failed", served.Load(), limit, failed.Load())
	}
}

func TestWarning(t *testing.T) {
	f := func(settings string, want ...string) {
		t.Helper()
		g := open(t, "quota: {month: 4}"+settings)
		var got []string
		for range 5 {
			got = append(got, header(send(g, nil), "X-Quota-Warning"))
		}
		if strings.Join(got, ",") != strings.Join(want, ",") {
			t.Errorf("{%s}: %q, want %q", settings, got, want)
		}
	}
	f("", "", "", "", "80", "80")
	f(", warn_at: 50", "", "50", "50", "50", "50")
	f(", warn_at: 51", "", "", "51", "51", "51")
	f(", warn_at: 100", "", "", "", "100", "100")
	f(", warn_at: 0", "", "", "", "", "")
	f(", hide_client_headers: true", "", "", "", "", "")
}

func TestHiddenHeaders(t *testing.T) {
	g := open(t, "quota: {month: 1}, hide_client_headers: true")
	for _, status := range []int{200, 429} {
		x := send(g, nil)
		if x.Ctx.Response.StatusCode() != status || strings.TrimSpace(headers(x)) != "" {
			t.Errorf("status %d, headers %q", x.Ctx.Response.StatusCode(), headers(x))
		}
	}
}

func TestRefusalInOwnWords(t *testing.T) {
	g := open(t, "quota: {month: 1}, error_code: 402, error_message: Pay")
	send(g, nil)
	x := send(g, func(x *pipeline.Exchange) { x.Ctx.Request.Header.Set("Accept", "text/plain") })
	if x.Ctx.Response.StatusCode() != 402 || !strings.HasPrefix(string(x.Ctx.Response.Body()), "Pay\n") || x.Source != pipeline.SourceGateway {
		t.Errorf("%d %q", x.Ctx.Response.StatusCode(), x.Ctx.Response.Body())
	}
}

func TestNoAllocations(t *testing.T) {
	f := func(settings, consumer string, status int) {
		t.Helper()
		g := open(t, settings)
		answer := []byte("ok")
		g.Service = func(x *pipeline.Exchange) {
			x.Ctx.Response.SetStatusCode(status)
			x.Ctx.Response.SetBodyRaw(answer)
		}
		x := g.Exchange("GET", "/")
		c := g.Env.Consumers.Find(consumer)
		g.Allocs(x, func(x *pipeline.Exchange) { x.Consumer = c })
	}
	all := "quota: {second: 1000000, minute: 1000000, hour: 1000000, day: 1000000, month: 1000000, year: 1000000}"
	f(all, "bob", 200)
	f(all, "", 200)
	f(all+", timezone: Europe/Berlin", "bob", 200)
	f(all+", reset_on: anniversary", "bob", 503) // given back
	f(all+", count_errors: true", "bob", 200)
	f("quota: {month: 100000}, consumer_groups: [{name: starter, quota: 1000000}]", "bob", 200)
	f("quota: {month: 1}", "bob", 200) // refusals
}

func BenchmarkRequest(b *testing.B) {
	g := open(b, "quota: {month: 1000000000}, timezone: Europe/Berlin")
	x := g.Exchange("GET", "/")
	x.Consumer = g.Env.Consumers.Find("bob")
	g.Chain.Begin(x)
	b.ReportAllocs()
	for b.Loop() {
		consumer, ctx := x.Consumer, x.Ctx
		x.Reset()
		x.Consumer, x.Ctx, x.UpstreamStatus = consumer, ctx, 200
		g.Chain.Request(x)
		g.Chain.Log(x)
	}
}
