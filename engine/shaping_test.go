package engine_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// awaitQueued waits until n requests have had to wait in a queue since the start.
func (g *gateway) awaitQueued(n int) {
	g.t.Helper()
	eventually(g.t, fmt.Sprintf("%d requests in queues", n), func() bool { return g.metric(fmt.Sprintf("sluice_upstream_queue_waits_total %d", n)) })
}

// turnedAway checks an answer of a gateway that has no room.
func turnedAway(t *testing.T, a *answer) {
	t.Helper()
	if a.err != nil {
		t.Fatal(a.err)
	}
	if a.status() != 503 || a.resp.Header.Get("Retry-After") != "1" || !strings.Contains(a.body, `"message":"The upstream server is currently unavailable"`) {
		t.Errorf("%d %v %s", a.status(), a.resp.Header, a.body)
	}
}

// limits are the settings that bound requests or connections, and how many requests
// may be under way over the three targets with them.
var limits = []struct {
	upstream, service string
	atOnce            int
}{
	{"", "limits: {requests: 2, queue: 1, queue_timeout: 20000}", 2},
	{"limits: {requests: 2, queue: 1, queue_timeout: 20000}", "", 2},
	{"limits: {connections: 2, queue: 1, queue_timeout: 20000}", "", 2},
	{"limits: {target_requests: 1, queue: 1, queue_timeout: 20000}", "", 3},
	{"limits: {target_connections: 1, queue: 1, queue_timeout: 20000}", "", 3},
	{"max_connections: 1\nlimits: {queue: 1, queue_timeout: 20000}", "", 3},
	{"algorithm: least-connections\nlimits: {target_requests: 1, queue: 1, queue_timeout: 20000}", "", 3},
	{"algorithm: latency\nlimits: {target_requests: 1, queue: 1, queue_timeout: 20000}", "", 3},
	{"algorithm: consistent-hashing\nhash_on: path\nlimits: {target_requests: 1, queue: 1, queue_timeout: 20000}", "", 3},
}

// Up to the limit requests pass, one more waits, the next is turned away. Who waits is
// served as soon as another is done.
func TestLimits(t *testing.T) {
	for _, l := range limits {
		t.Run(l.upstream+l.service, func(t *testing.T) {
			s := newStage(t)
			g := s.start(balanced(l.upstream, l.service))
			s.everywhere(role{hold: true})
			var under []*pending
			for i := range l.atOnce {
				under = append(under, g.background("/"))
				s.awaitActive("", i+1)
			}
			under = append(under, g.background("/"))
			g.awaitQueued(1)
			turnedAway(t, g.send(noRedirects, "GET", "/", http.NoBody))
			if s.arrived() != l.atOnce {
				t.Errorf("%d requests at the targets, want %d", s.arrived(), l.atOnce)
			}
			for _, name := range targets {
				s.cast(name, role{})
			}
			if got := statuses(t, under); got[0] != 200 || got[len(got)-1] != 200 {
				t.Errorf("under way: %v", got)
			}
			if a := g.send(noRedirects, "GET", "/", http.NoBody); a.status() != 200 {
				t.Errorf("later: %d", a.status())
			}
		})
	}
}

// However many come at the same time, no target sees more than the limit; those who
// may wait are all served.
func TestLimitsAreExact(t *testing.T) {
	const clients, each = 200, 5
	for _, l := range limits {
		settings := strings.NewReplacer("queue: 1", "queue: 1000").Replace(l.upstream)
		t.Run(settings+l.service, func(t *testing.T) {
			s := newStage(t)
			s.counts = strings.Contains(settings, "connections:")
			g := s.start(balanced(settings, "retries: 0\n"+strings.NewReplacer("queue: 1", "queue: 1000").Replace(l.service)))
			s.everywhere(role{answer: func(w http.ResponseWriter, r *http.Request) {
				<-time.After(100 * time.Microsecond)
				if r.URL.RawQuery == "stream" {
					w.(http.Flusher).Flush() // of unknown length
				}
				_, _ = io.WriteString(w, "ok")
			}})
			var wg sync.WaitGroup
			for i := range clients {
				wg.Go(func() {
					c := kept(t)
					for n := range each {
						path := fmt.Sprintf("/%d", n)
						if i%2 == 0 {
							path += "?stream"
						}
						if a := g.send(c, "GET", path, http.NoBody); a.status() != 200 || a.body != "ok" {
							t.Errorf("%d %q %v", a.status(), a.body, a.err)
							return
						}
					}
				})
			}
			wg.Wait()
			perTarget := strings.Contains(l.upstream, "target_") || strings.Contains(l.upstream, "max_")
			s.look("a:1", func(*actor) {
				if !perTarget && s.peak > l.atOnce {
					t.Errorf("%d requests at a time, the limit is %d", s.peak, l.atOnce)
				}
				if strings.Contains(l.upstream, "{connections:") && s.most > l.atOnce {
					t.Errorf("%d connections at a time, the limit is %d", s.most, l.atOnce)
				}
			})
			for _, name := range targets {
				s.look(name, func(a *actor) {
					if perTarget && a.peak > 1 {
						t.Errorf("%d requests at a time at %s, the limit is 1", a.peak, name)
					}
					if strings.Contains(l.upstream, "_connections") && a.most > 1 {
						t.Errorf("%d connections to %s, the limit is 1", a.most, name)
					}
				})
			}
		})
	}
}

// Who waits first is served first.
func TestQueueIsInOrder(t *testing.T) {
	for _, l := range limits {
		t.Run(l.upstream+l.service, func(t *testing.T) {
			s := newStage(t)
			more := strings.NewReplacer("queue: 1", "queue: 100", "requests: 2", "requests: 1", "{connections: 2", "{connections: 1")
			g := s.start(strings.Replace(balanced(more.Replace(l.upstream), more.Replace(l.service)), `[{target: "a:1"}, {target: "b:1"}, {target: "c:1"}]`, `[{target: "a:1"}]`, 1))
			s.cast("a:1", role{hold: true})
			under := []*pending{g.background("/first")}
			s.awaitActive("a:1", 1)
			var want []string
			for i := range 20 {
				path := fmt.Sprintf("/%02d", i)
				want = append(want, path)
				under = append(under, g.background(path))
				g.awaitQueued(i + 1)
			}
			s.cast("a:1", role{})
			statuses(t, under)
			var got []string
			s.look("a:1", func(a *actor) {
				for _, r := range a.requests[1:] {
					got = append(got, r.URL.Path)
				}
			})
			if !slices.Equal(got, want) {
				t.Errorf("served in the order %v", got)
			}
		})
	}
}

// Nobody waits longer than queue_timeout, nor longer than the request may take.
func TestQueueTimeout(t *testing.T) {
	f := func(upstream, service, plugins string, status int) {
		t.Helper()
		s := newStage(t)
		g := s.start(balanced(upstream, service) + plugins)
		s.everywhere(role{hold: true})
		var under []*pending
		for i := range 3 {
			under = append(under, g.background("/free"))
			s.awaitActive("", i+1)
		}
		began := time.Now()
		a := g.send(noRedirects, "GET", "/", http.NoBody)
		if d := time.Since(began); d < 100*time.Millisecond || d > 15*time.Second {
			t.Errorf("waited %s", d)
		}
		if status == 503 {
			turnedAway(t, a)
		} else if a.status() != status || a.resp.Header.Get("X-Upstream-Timeout") != "request-timeout" {
			t.Errorf("%d %v, want %d", a.status(), a.resp.Header, status)
		}
		s.everywhere(role{})
		statuses(t, under)
		if a := g.send(noRedirects, "GET", "/", http.NoBody); a.status() != 200 {
			t.Errorf("later: %d", a.status())
		}
	}
	f("", "limits: {requests: 3, queue: 1, queue_timeout: 100}", "", 503)
	f("limits: {requests: 3, queue: 1, queue_timeout: 100}", "", "", 503)
	f("limits: {target_requests: 1, queue: 1, queue_timeout: 100}", "", "", 503)
	const deadline = `
- name: other
  host: u
  routes: [{name: free, paths: [/free]}]
plugins:
- {name: request-timeout, route: r, config: {http_timeout: 100}}
`
	f("limits: {requests: 3, queue: 1, queue_timeout: 20000}", "", deadline, 504)
	f("limits: {target_requests: 1, queue: 1, queue_timeout: 20000}", "", deadline, 504)
}

// A streamed answer counts until its end, a broken one until it breaks, and so does a
// tunnel.
func TestStreamsCountUntilTheirEnd(t *testing.T) {
	for _, l := range []string{"limits: {requests: 1}", "limits: {target_requests: 1}", "limits: {connections: 1}", "limits: {target_connections: 1}"} {
		t.Run(l, func(t *testing.T) {
			s := newStage(t)
			g := s.start(strings.Replace(balanced(l, ""), `[{target: "a:1"}, {target: "b:1"}, {target: "c:1"}]`, `[{target: "a:1"}]`, 1))
			next := make(chan struct{})
			s.cast("a:1", role{answer: func(w http.ResponseWriter, _ *http.Request) {
				_, _ = io.WriteString(w, "some")
				w.(http.Flusher).Flush()
				<-next
			}})
			for _, reads := range []bool{true, false} {
				resp, err := noRedirects.Get("http://" + g.addr + "/")
				if err != nil || resp.StatusCode != 200 {
					t.Fatalf("%v %v", resp, err)
				}
				turnedAway(t, g.send(noRedirects, "GET", "/", http.NoBody))
				if reads {
					next <- struct{}{}
					if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "some" {
						t.Errorf("%q %v", b, err)
					}
				}
				resp.Body.Close() // else the client leaves in the middle
				if !reads {
					next <- struct{}{}
				}
				eventually(t, "room", func() bool {
					return g.metric(`sluice_upstream_requests_in_flight{upstream="u"} 0`) || g.inFlight("a:1") == 0
				})
			}
			s.cast("a:1", role{})
			if a := g.send(noRedirects, "GET", "/", http.NoBody); a.status() != 200 {
				t.Errorf("later: %d", a.status())
			}
		})
	}
}

// inFlight returns how many requests are counted at a target.
func (g *gateway) inFlight(target string) int64 {
	for t := range g.Fleet().Targets() {
		if t.Target == target {
			return t.InFlight
		}
	}
	return -1
}

// The room of a client that leaves while it waits goes to the next.
func TestLeavingTheQueue(t *testing.T) {
	s := newStage(t)
	g := s.start(balanced("", "limits: {requests: 1, queue: 10, queue_timeout: 20000}"))
	s.everywhere(role{hold: true})
	first := g.background("/")
	s.awaitActive("", 1)
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, "GET /gone HTTP/1.1\r\nHost: a\r\n\r\n")
	g.awaitQueued(1)
	last := g.background("/last")
	g.awaitQueued(2)
	_ = c.Close()
	s.everywhere(role{})
	if got := statuses(t, []*pending{first, last}); fmt.Sprint(got) != "[200 200]" {
		t.Errorf("%v", got)
	}
}

// Limits are those of the live document; what is under way goes on being counted.
func TestLimitsAreReloaded(t *testing.T) {
	for _, kind := range []string{"service", "requests", "target_requests"} {
		t.Run(kind, func(t *testing.T) {
			text := func(n int) string {
				upstream, service := fmt.Sprintf("limits: {%s: %d}", kind, n), ""
				if kind == "service" {
					upstream, service = "", fmt.Sprintf("limits: {requests: %d}", n)
				}
				return strings.Replace(balanced(upstream, service), `[{target: "a:1"}, {target: "b:1"}, {target: "c:1"}]`, `[{target: "a:1"}]`, 1)
			}
			s := newStage(t)
			g := s.start(text(1))
			s.cast("a:1", role{hold: true})
			under := []*pending{g.background("/")}
			s.awaitActive("a:1", 1)
			turnedAway(t, g.send(noRedirects, "GET", "/", http.NoBody))
			g.apply(text(2))
			under = append(under, g.background("/"))
			s.awaitActive("a:1", 2)
			turnedAway(t, g.send(noRedirects, "GET", "/", http.NoBody))
			g.apply(text(1))
			turnedAway(t, g.send(noRedirects, "GET", "/", http.NoBody))
			s.cast("a:1", role{})
			if got := statuses(t, under); fmt.Sprint(got) != "[200 200]" {
				t.Errorf("%v", got)
			}
			if a := g.send(noRedirects, "GET", "/", http.NoBody); a.status() != 200 {
				t.Errorf("later: %d", a.status())
			}
		})
	}
}
