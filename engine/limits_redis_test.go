//go:build linux

package engine_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/redis/redistest"
)

const (
	// redisTimeout is that of the gateways' calls.
	redisTimeout = 600 * time.Millisecond
	// waitSlack is what a request may take longer on a machine that is busy.
	waitSlack = 400 * time.Millisecond
)

// limitRoute is a route with a limit of its own.
type limitRoute struct {
	path   string
	plugin string
	config string
}

// limitsDocument returns a document with the routes, whose plugins count in Redis as
// the block says.
func limitsDocument(service, redis string, routes ...limitRoute) string {
	var b strings.Builder
	fmt.Fprintf(&b, `_format_version: "3.0"
gateway:
  proxy_listen: 127.0.0.1:0
  status_listen: 127.0.0.1:0
  admin_listen: "off"
  log_level: info
services:
- name: api
  url: %s
  routes:
`, service)
	for _, r := range routes {
		fmt.Fprintf(&b, "  - {name: %s, paths: [/%s], strip_path: false}\n", r.path, r.path)
	}
	b.WriteString("plugins:\n")
	for i, r := range routes {
		if strings.Contains(r.config, "redis,") {
			r.config += ", redis: " + redis
		}
		fmt.Fprintf(&b, "- {name: %s, id: %s, route: %s, config: {%s}}\n", r.plugin, limitID(i), r.path, r.config)
	}
	return b.String()
}

// limitID is the id of the plugin of the i-th route.
func limitID(i int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", i) }

// redisAt is the redis block for one server.
func redisAt(port int) string {
	return fmt.Sprintf("{host: 127.0.0.1, port: %d, timeout: %d}", port, redisTimeout.Milliseconds())
}

const (
	perYear   = 200
	perNode   = 20 // of the limit that gateways keep alone while Redis is away
	perSecond = 40
	batched   = 400
	pushed    = 50 * time.Millisecond // sync_rate
)

// The indices of redisRoutes.
const (
	routeYear = iota
	routeStrict
	routeFree
	routeSecond
	routeSliding
	routePenalty
	routeAdvanced
	routeBatched
	routeAlone
)

// redisRoutes are the limits of the suite in Redis.
var redisRoutes = []limitRoute{
	{"year", "rate-limiting", fmt.Sprintf("year: %d, policy: redis, fault_tolerant: true", perYear)},
	{"strict", "rate-limiting", fmt.Sprintf("year: %d, policy: redis, fault_tolerant: false", perYear)},
	{"free", "rate-limiting", "year: 1000000, policy: local"}, // how slow the machine is
	{"second", "rate-limiting", fmt.Sprintf("second: %d, policy: redis, fault_tolerant: true", perSecond)},
	{"sliding", "rate-limiting-advanced", fmt.Sprintf("limit: [%d], window_size: [1], strategy: redis, sync_rate: 0, disable_penalty: true", perSecond)},
	{"penalty", "rate-limiting-advanced", fmt.Sprintf("limit: [%d], window_size: [1], strategy: redis, sync_rate: 0", perSecond)},
	{"advanced", "rate-limiting-advanced", fmt.Sprintf("limit: [%d], window_size: [31536000], window_type: fixed, strategy: redis, sync_rate: 0", perNode)},
	{"batched", "rate-limiting", fmt.Sprintf("year: %d, policy: redis, sync_rate: %g", batched, pushed.Seconds())},
	{"alone", "rate-limiting", fmt.Sprintf("year: %d, policy: redis, sync_rate: %g", perNode, pushed.Seconds())},
}

// redis runs three gateways with one Redis through what may happen to it.
func (s *limitSuite) redis(t *testing.T) {
	server := redistest.Start(t)
	f := s.fleet(t, 3, limitsDocument(s.service.URL, redisAt(server.Port), redisRoutes...))
	within(t, faultPatience, "the gateways have their Redis", f.uses)
	x := &sharing{limitSuite: s, fleet: f, server: server}
	for _, c := range []struct {
		name string
		run  func(t *testing.T)
	}{{"exact", x.exact}, {"batched", x.batched}, {"stopped", x.stopped}, {"restarted", x.restarted}} {
		t.Run(c.name, func(t *testing.T) {
			for _, g := range f {
				g.t = t
			}
			c.run(t)
		})
	}
}

// sharing are three gateways and a Redis.
type sharing struct {
	*limitSuite
	fleet  gateways
	server *redistest.Server

	uncounted, late int // so far
}

// count returns what Redis has counted for a route that has one window.
func (x *sharing) count(t *testing.T, server *redistest.Server, route int) int {
	t.Helper()
	keys := strings.Fields(server.Do("keys", "sluice:"+limitID(route)+":*"))
	if len(keys) != 1 {
		t.Fatalf("keys %q", keys)
	}
	text := ""
	if strings.Contains(redisRoutes[route].config, "sync_rate: 0.") {
		text = server.Do("hget", keys[0], "sum")
	} else {
		text = server.Do("get", keys[0])
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// exact is that the gateways together admit what one would.
func (x *sharing) exact(t *testing.T) {
	l := &stream{fleet: x.fleet, paths: []string{"/year", "/strict", "/second", "/sliding", "/penalty"}, rate: 600, every: 50 * time.Millisecond}
	tries := l.start().runs(t, 3700*time.Millisecond).end()

	x.checkYear(t, tries, x.server)
	if n, hits := with(at(tries, "/year"), http.StatusOK), x.service.got("/year"); n != hits {
		t.Errorf("the service got %d requests, %d were admitted", hits, n)
	}
	got := at(tries, "/second")
	checkAnswered(t, got, "Second", perSecond)
	windows := checkWindows(t, got, "Second", time.Second, perSecond, x.fleet.uncounted(routeSecond))
	second := with(got, http.StatusOK)

	got = at(tries, "/sliding")
	checkAnswered(t, got, "Second", perSecond)
	checkSliding(t, got, time.Second, perSecond)
	sliding := with(got, http.StatusOK)

	got = at(tries, "/penalty")
	checkAnswered(t, got, "Second", perSecond)
	checkSliding(t, got, time.Second, perSecond)
	if n := with(of(got, func(y *try) bool { return y.sent.Sub(got[0].sent) > 2*time.Second }), http.StatusOK); n > 0 {
		t.Errorf("who does not stop was admitted %d times more", n)
	}
	t.Logf("%d requests to 3 gateways in %s, the slowest took %s: exactly %d of a year; %d in %d fixed windows of %d; %d in sliding windows of %d; %d with penalty",
		len(tries), tries[len(tries)-1].sent.Sub(tries[0].sent).Round(time.Millisecond), slowest(tries).Round(time.Millisecond),
		perYear, second, windows, perSecond, sliding, perSecond, with(got, http.StatusOK))
}

// checkYear is that the limits of a year were kept, but for what passed undecided and was
// counted as such. A call that was not answered in time may be counted by Redis too.
func (x *sharing) checkYear(t *testing.T, tries []*try, server *redistest.Server) (uncounted, broken int) {
	t.Helper()
	year, strict := at(tries, "/year"), at(tries, "/strict")
	checkAnswered(t, year, "Year", perYear)
	checkAnswered(t, strict, "Year", perYear)
	checkAnswered(t, at(tries, "/free"), "Year", 0)
	total := x.fleet.uncounted(routeYear)
	uncounted, x.uncounted = total-x.uncounted, total
	late := x.fleet.late()
	late, x.late = late-x.late, late
	for i, n := range []int{with(year, http.StatusOK) - uncounted, with(strict, http.StatusOK)} {
		if counted := x.count(t, server, i); n > perYear || n < perYear-late || counted != perYear {
			t.Errorf("%s: %d admitted, Redis counts %d, want %d; %d passed uncounted, %d calls were late", redisRoutes[i].path, n, counted, perYear, uncounted, late)
		}
	}
	if n := with(year, http.StatusInternalServerError); n > 0 {
		t.Errorf("fault_tolerant: %d answered 500", n)
	}
	return uncounted, with(strict, http.StatusInternalServerError)
}

// late returns how many calls of Redis were not answered in time.
func (f gateways) late() (n int) {
	for _, g := range f {
		for _, m := range regexp.MustCompile(`(?m)^sluice_redis_errors_total\{.*kind="timeout"\} (\d+)$`).FindAllSubmatch(g.metrics(), -1) {
			v, _ := strconv.Atoi(string(m[1]))
			n += v
		}
	}
	return n
}

// batched is that gateways that tell Redis only now and then admit hardly more.
func (x *sharing) batched(t *testing.T) {
	const rate = 600
	l := (&stream{fleet: x.fleet, paths: []string{"/batched"}, rate: rate, every: 5 * time.Millisecond}).start()
	l.awaitAll(t, "/batched", http.StatusTooManyRequests)
	tries := l.runs(t, 300*time.Millisecond).end()
	checkAnswered(t, tries, "Year", batched)
	n := with(tries, http.StatusOK)
	// k × r × (sync_rate + a round trip), where a machine that is busy makes that longer.
	bound := int(rate * (pushed + slowest(tries)).Seconds())
	if n < batched || n > batched+bound {
		t.Errorf("%d admitted, want %d and at most %d more", n, batched, bound)
	}
	within(t, faultPatience, "Redis has it all", func() bool { return x.count(t, x.server, routeBatched) == n })
	t.Logf("%d of %d admitted with a limit of %d: %d too many, the bound is %d", n, len(tries), batched, n-batched, bound)
}

// uncounted returns how many requests of a route passed undecided.
func (f gateways) uncounted(route int) int {
	return f.sum(fmt.Sprintf("sluice_ratelimiting_uncounted_requests_total{plugin=%q}", limitID(route)))
}

// stopped halts Redis for a while under load: every request is answered, none late, and
// what was not counted is.
func (x *sharing) stopped(t *testing.T) {
	f := x.fleet
	l := (&stream{fleet: f, paths: []string{"/year", "/strict", "/second", "/advanced", "/batched", "/free"}, rate: 540}).start()
	for _, path := range []string{"/year", "/strict", "/advanced", "/batched"} {
		l.awaitAll(t, path, http.StatusTooManyRequests)
	}
	before := f.uncounted(routeYear)
	stops := time.Now()
	x.server.Stop()
	alone := (&stream{fleet: f, paths: []string{"/alone"}, rate: 150}).start()
	l.runs(t, 2*time.Second)
	goesOn := time.Now()
	x.server.Continue()
	within(t, faultPatience, "the gateways have their Redis again", f.uses)
	l.awaitAll(t, "/year", http.StatusTooManyRequests)
	l.awaitAll(t, "/strict", http.StatusTooManyRequests)
	year0, second0 := f.uncounted(routeYear), f.uncounted(routeSecond)
	back := time.Now()
	tries := l.runs(t, 1500*time.Millisecond).end()
	x.checkAlone(t, alone.end())

	checkWaits(t, tries, stops.Add(redisTimeout+waitSlack), goesOn)
	year, strict, advanced := at(tries, "/year"), at(tries, "/strict"), at(tries, "/advanced")
	checkAnswered(t, year, "Year", perYear)
	checkAnswered(t, strict, "Year", perYear)
	checkAnswered(t, advanced, "Year", perNode)
	checkAnswered(t, at(tries, "/second"), "Second", perSecond)
	checkAnswered(t, at(tries, "/batched"), "Year", batched)
	passed, uncounted, broken := with(year, http.StatusOK), f.uncounted(routeYear)-before, with(strict, http.StatusInternalServerError)
	if passed != uncounted || passed == 0 || with(year, http.StatusInternalServerError) > 0 {
		t.Errorf("fault_tolerant: %d passed, %d of them counted as such", passed, uncounted)
	}
	if n := with(strict, http.StatusOK); n > 0 || broken == 0 {
		t.Errorf("not fault_tolerant: %d passed, %d were answered 500", n, broken)
	}
	// Once together, and once each while alone.
	if n := with(advanced, http.StatusOK); n != (1+len(f))*perNode {
		t.Errorf("rate-limiting-advanced admitted %d, want %d", n, (1+len(f))*perNode)
	}
	if n := with(at(tries, "/batched"), http.StatusOK); n > 0 {
		t.Errorf("%d admitted by gateways that knew that the limit was reached", n)
	}
	again := of(tries, func(y *try) bool { return y.sent.After(back) })
	if n, more := with(at(again, "/year"), http.StatusOK), f.uncounted(routeYear)-year0; n > more {
		t.Errorf("%d passed after Redis was back, %d of them uncounted", n, more)
	}
	checkFixed(t, at(again, "/second"), time.Second, perSecond, f.uncounted(routeSecond)-second0)
	t.Logf("away for %s: %d requests, the slowest took %s; %d passed uncounted, %d were answered 500", back.Sub(stops).Round(time.Millisecond), len(tries), slowest(tries).Round(time.Millisecond), passed, broken)
}

// checkAlone is that gateways that could tell Redis nothing each kept the limit, and
// that all is merged.
func (x *sharing) checkAlone(t *testing.T, tries []*try) {
	t.Helper()
	checkAnswered(t, tries, "Year", perNode)
	n := with(tries, http.StatusOK)
	if n != len(x.fleet)*perNode {
		t.Errorf("gateways without their Redis admitted %d, want %d", n, len(x.fleet)*perNode)
	}
	within(t, faultPatience, "Redis has it all", func() bool { return x.count(t, x.server, routeAlone) == n })
}

// restarted ends Redis under load and starts it again, empty: counts begin anew.
func (x *sharing) restarted(t *testing.T) {
	f := x.fleet
	l := (&stream{fleet: f, paths: []string{"/year", "/strict", "/second", "/free"}, rate: 800}).start()
	l.awaitAll(t, "/year", http.StatusTooManyRequests)
	l.awaitAll(t, "/strict", http.StatusTooManyRequests)
	loads := f.sum("sluice_redis_script_loads_total")
	x.uncounted, x.late = f.uncounted(routeYear), f.late()
	x.server.Kill()
	l.awaitAll(t, "/strict", http.StatusInternalServerError)
	l.awaitAll(t, "/year", http.StatusOK)
	x.server.Restart()
	within(t, faultPatience, "the gateways have their Redis again", f.uses)
	l.awaitAll(t, "/year", http.StatusTooManyRequests)
	l.awaitAll(t, "/strict", http.StatusTooManyRequests)
	tries := l.runs(t, 200*time.Millisecond).end()
	checkAnswered(t, at(tries, "/second"), "Second", perSecond)
	checkWaits(t, tries, time.Time{}, time.Time{})
	uncounted, broken := x.checkYear(t, tries, x.server)
	if n := f.sum("sluice_redis_script_loads_total"); n == loads {
		t.Error("the new Redis was not given the script")
	}
	t.Logf("%d requests, the slowest took %s; %d passed uncounted, %d were answered 500", len(tries), slowest(tries).Round(time.Millisecond), uncounted, broken)
}

// sentinel runs three gateways with a Redis whose master dies under load.
func (s *limitSuite) sentinel(t *testing.T) {
	g := redistest.Sentinels(t)
	block := fmt.Sprintf("{sentinel_master: main, timeout: %d, sentinel_nodes: [", redisTimeout.Milliseconds())
	for _, n := range g.Sentinels {
		block += fmt.Sprintf("{host: 127.0.0.1, port: %d}, ", n.Port)
	}
	f := s.fleet(t, 3, limitsDocument(s.service.URL, strings.TrimSuffix(block, ", ")+"]}", redisRoutes[:routeFree+1]...))
	within(t, faultPatience, "the gateways have their Redis", f.uses)
	x := &sharing{limitSuite: s, fleet: f}
	l := (&stream{fleet: f, paths: []string{"/year", "/strict", "/free"}, rate: 600}).start()
	l.awaitAll(t, "/year", http.StatusTooManyRequests)
	l.awaitAll(t, "/strict", http.StatusTooManyRequests)
	within(t, faultPatience, "the replica has the counts", func() bool {
		return x.count(t, g.Replica, routeYear) == perYear && x.count(t, g.Replica, routeStrict) == perYear
	})
	dies := time.Now()
	g.Master.Kill()
	l.awaitAll(t, "/strict", http.StatusInternalServerError)
	l.awaitAll(t, "/strict", http.StatusTooManyRequests)
	l.awaitAll(t, "/year", http.StatusTooManyRequests)
	failover := time.Since(dies)
	tries := l.runs(t, 200*time.Millisecond).end()
	checkWaits(t, tries, dies.Add(redisTimeout/4), dies.Add(redisTimeout))
	uncounted, broken := x.checkYear(t, tries, g.Replica)
	if uncounted == 0 || broken == 0 {
		t.Errorf("%d passed uncounted and %d were answered 500 while there was no master", uncounted, broken)
	}
	t.Logf("failed over in %s: %d requests, the slowest took %s; %d passed uncounted, %d were answered 500", failover.Round(time.Millisecond), len(tries), slowest(tries).Round(time.Millisecond), uncounted, broken)
}
