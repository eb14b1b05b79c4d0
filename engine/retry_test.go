package engine_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// total returns how many requests have reached targets.
func (s *stage) arrived() (n int) {
	for _, name := range targets {
		n += s.hits(name)
	}
	return n
}

// everywhere gives all targets one role.
func (s *stage) everywhere(r role) {
	for _, name := range targets {
		s.cast(name, r)
	}
}

// retrying returns a document with proxy-retry; settings are its own.
func retrying(settings string) string {
	return balanced("", "") + "plugins:\n- name: proxy-retry\n  config: {jitter: 0, " + settings + "}\n"
}

const quick = "backoff: {type: constant, base: 0.001, max: 1}"

// A connection that fails is followed by one to another target, for any method: no
// byte was sent. A status never is.
func TestRetriesGoToAnotherTarget(t *testing.T) {
	s := newStage(t)
	g := s.start(balanced("", "retries: 2"))
	s.cast("a:1", role{refuse: true})
	s.cast("b:1", role{refuse: true})
	for range 12 {
		if a := g.send(noRedirects, "POST", "/", strings.NewReader("x")); a.status() != 200 || a.origin(t) != "c:1" || a.resp.Header.Get("X-Retry-Count") != "" {
			t.Fatalf("%d by %q, %v", a.status(), a.origin(t), a.resp.Header)
		}
	}
	g.apply(balanced("", "retries: 1"))
	bad := 0
	for range 30 {
		if a := g.send(noRedirects, "GET", "/", http.NoBody); a.status() == 502 {
			bad++
		}
	}
	if bad == 0 || bad == 30 {
		t.Errorf("%d of 30 failed with two of three targets down and one retry", bad)
	}
	s.everywhere(role{status: 503})
	before := s.arrived()
	if a := g.send(noRedirects, "GET", "/", http.NoBody); a.status() != 503 || a.origin(t) == "" || s.arrived() != before+1 {
		t.Errorf("a status was tried again: %d, %d requests", a.status(), s.arrived()-before)
	}
}

// What may have been acted on is sent again only if it may happen twice, then to every
// target before any gets it again.
func TestRetriesAfterBytesWereSent(t *testing.T) {
	f := func(method string, retries, want int) {
		t.Helper()
		s := newStage(t)
		g := s.start(balanced("", fmt.Sprintf("retries: %d", retries)))
		s.everywhere(role{drop: true})
		a := g.send(noRedirects, method, "/", strings.NewReader("x"))
		if a.status() != 502 || s.arrived() != want {
			t.Errorf("%s: %d after %d requests, want 502 after %d", method, a.status(), s.arrived(), want)
		}
		for _, name := range targets {
			if n := s.hits(name); n > (want+2)/3 {
				t.Errorf("%s: %d of %d attempts at %s", method, n, want, name)
			}
		}
	}
	f("GET", 2, 3)
	f("PUT", 5, 6)
	f("POST", 5, 1)
	f("PATCH", 5, 1)
	f("LOCK", 5, 1)
}

// A service that was started anew has closed the connections that were kept: that is
// no attempt, for any method.
func TestRestartedServiceIsNotNoticed(t *testing.T) {
	s := newStage(t)
	g := s.start(balanced("", "retries: 0"))
	c := kept(t)
	for range 5 {
		for _, method := range []string{"GET", "POST", "POST"} {
			if a := g.send(c, method, "/", strings.NewReader("x")); a.status() != 200 {
				t.Fatalf("%s: %d %s", method, a.status(), a.body)
			}
		}
		for _, name := range targets {
			s.cast(name, role{refuse: true})
			eventually(t, "the connections to end", func() (ended bool) {
				s.look(name, func(a *actor) { ended = a.conns == 0 })
				return ended
			})
			s.cast(name, role{})
		}
	}
}

func TestProxyRetryWaits(t *testing.T) {
	s := newStage(t)
	g := s.start(retrying("retries: 3, backoff: {type: linear, base: 0.06, max: 0.15}"))
	s.everywhere(role{status: 503})
	a := g.send(noRedirects, "GET", "/", http.NoBody)
	if a.status() != 503 || a.origin(t) == "" || a.resp.Header.Get("X-Retry-Count") != "3" {
		t.Errorf("%d, %v", a.status(), a.resp.Header)
	}
	var at []time.Time
	for _, name := range targets {
		s.look(name, func(a *actor) { at = append(at, a.arrivals...) })
	}
	if len(at) != 4 {
		t.Fatalf("%d attempts, want 4", len(at))
	}
	// Three targets were asked in turn, one of them again: with waits of 60, 120 and
	// 150 ms the first and the last are 330 ms apart.
	first, last := at[0], at[0]
	for _, a := range at {
		if a.Before(first) {
			first = a
		}
		if a.After(last) {
			last = a
		}
	}
	if d := last.Sub(first); d < 330*time.Millisecond {
		t.Errorf("the attempts took %s, the waits alone are 330 ms", d)
	}
}

// A wait that outlasts the time of the whole request is not begun: what the service
// said last is passed on at once.
func TestProxyRetryKeepsTheDeadline(t *testing.T) {
	s := newStage(t)
	g := s.start(retrying("retries: 3, backoff: {type: constant, base: 30, max: 30}") + "- {name: request-timeout, config: {http_timeout: 9000}}\n")
	s.everywhere(role{status: 502})
	began := time.Now()
	a := g.send(noRedirects, "GET", "/", http.NoBody)
	if a.status() != 502 || a.origin(t) == "" || s.arrived() != 1 || time.Since(began) > 8*time.Second {
		t.Errorf("%d after %d attempts in %s", a.status(), s.arrived(), time.Since(began))
	}
}

// Retry-After of the service is obeyed, up to backoff.max; one that is longer is
// for the client.
func TestProxyRetryAfter(t *testing.T) {
	s := newStage(t)
	g := s.start(retrying("retries: 1, backoff: {type: constant, base: 0.001, max: 1}"))
	s.everywhere(role{status: 503, after: "1"})
	began := time.Now()
	if a := g.send(noRedirects, "GET", "/", http.NoBody); a.status() != 503 || s.arrived() != 2 || time.Since(began) < time.Second {
		t.Errorf("%d after %d attempts in %s", a.status(), s.arrived(), time.Since(began))
	}
	s.everywhere(role{status: 503, after: "2"})
	a := g.send(noRedirects, "GET", "/", http.NoBody)
	if a.status() != 503 || s.arrived() != 3 || a.resp.Header.Get("Retry-After") != "2" || a.resp.Header.Get("X-Retry-Count") != "" {
		t.Errorf("%d after %d attempts, %v", a.status(), s.arrived()-2, a.resp.Header)
	}
}

// Retries do not multiply the load of a service that fails for everyone: they are a
// fifth of the requests, and ten seconds' worth of the minimum.
func TestProxyRetryBudget(t *testing.T) {
	const requests, clients = 50, 8
	f := func(settings string, least, most int, role role) {
		t.Helper()
		s := newStage(t)
		g := s.start(retrying("retries: 3, " + quick + ", " + settings))
		s.everywhere(role)
		var wg sync.WaitGroup
		for range clients {
			wg.Go(func() {
				for range requests {
					g.send(noRedirects, "GET", "/", http.NoBody)
				}
			})
		}
		wg.Wait()
		attempts := s.arrived()
		if role.refuse {
			attempts = s.dials("a:1") + s.dials("b:1") + s.dials("c:1")
		}
		if attempts < least || attempts > most {
			t.Errorf("%s: %d attempts for %d requests, want %d to %d", settings, attempts, requests*clients, least, most)
		}
	}
	f("budget_percent: 20, budget_min_per_second: 0", 440, 480, role{status: 503})
	f("budget_percent: 20, budget_min_per_second: 0", 440, 480, role{refuse: true})
	f("budget_percent: 20, budget_min_per_second: 5", 460, 530, role{status: 503})
	f("budget_percent: 0", 1600, 1600, role{status: 503})
}

// One attempt that takes too long is followed by another, which need not.
func TestProxyRetryPerTry(t *testing.T) {
	s := newStage(t)
	g := s.start(retrying("retries: 2, per_try_timeout: 150, " + quick))
	s.cast("a:1", role{hold: true})
	s.cast("b:1", role{hold: true})
	for range 3 {
		if a := g.send(noRedirects, "GET", "/", http.NoBody); a.status() != 200 || a.origin(t) != "c:1" {
			t.Errorf("%d by %q", a.status(), a.origin(t))
		}
	}
	s.cast("c:1", role{hold: true})
	a := g.send(noRedirects, "GET", "/", http.NoBody)
	if a.status() != 504 || a.resp.Header.Get("X-Retry-Count") != "2" || !strings.Contains(a.body, "The upstream server is timing out") {
		t.Errorf("%d %v %s", a.status(), a.resp.Header, a.body)
	}
	g.apply(retrying("retries: 2, per_try_timeout: 150, retry_on_timeout: false, " + quick))
	before := s.arrived()
	if a := g.send(noRedirects, "GET", "/", http.NoBody); a.status() != 504 || s.arrived() != before+1 {
		t.Errorf("without retry_on_timeout: %d after %d attempts", a.status(), s.arrived()-before)
	}
}

// per_try_timeout ends with the header: a body may take longer, a short one too.
func TestPerTryEndsWithTheHeader(t *testing.T) {
	s := newStage(t)
	g := s.start(retrying("retries: 2, per_try_timeout: 150, " + quick))
	f := func(length int) {
		t.Helper()
		s.everywhere(role{answer: func(w http.ResponseWriter, _ *http.Request) {
			if length > 0 {
				w.Header().Set("Content-Length", fmt.Sprint(length))
			}
			_, _ = io.WriteString(w, "x")
			w.(http.Flusher).Flush()
			<-time.After(300 * time.Millisecond)
			_, _ = w.Write(make([]byte, max(length-1, 1)))
		}})
		before := s.arrived()
		if a := g.send(noRedirects, "GET", "/", http.NoBody); a.status() != 200 || a.err != nil || s.arrived() != before+1 {
			t.Errorf("length %d: %d, %v, %d attempts", length, a.status(), a.err, s.arrived()-before)
		}
	}
	f(10)
	f(100 << 10)
	f(0)
}

// Bodies are kept to be sent again, up to max_body_size, whether their length is known
// or not; larger ones are sent once and whole.
func TestProxyRetryBodies(t *testing.T) {
	s := newStage(t)
	g := s.start(retrying("retries: 1, max_body_size: 200000, " + quick))
	f := func(size int, chunked bool, attempts int) {
		t.Helper()
		s.everywhere(role{status: 503})
		body := strings.Repeat("0123456789", size/10)
		var r io.Reader = strings.NewReader(body)
		if chunked {
			r = io.MultiReader(r) // hides the length
		}
		before := s.arrived()
		a := g.send(noRedirects, "PUT", "/", r)
		if a.status() != 503 || s.arrived() != before+attempts {
			t.Errorf("%d bytes, chunked %t: %d, %d attempts, want %d", size, chunked, a.status(), s.arrived()-before, attempts)
		}
		for _, name := range targets {
			s.look(name, func(a *actor) {
				for _, got := range a.bodies {
					if got != body {
						t.Errorf("%d bytes, chunked %t: %d bytes arrived at %s", size, chunked, len(got), name)
					}
				}
				a.bodies = nil
			})
		}
	}
	for _, chunked := range []bool{false, true} {
		f(1000, chunked, 2)
		f(100000, chunked, 2)
		f(200000, chunked, 2)
		f(200010, chunked, 1)
		f(1000000, chunked, 1)
	}
}

// Each limit on time has its name in the answer.
func TestTimeoutsSayWhich(t *testing.T) {
	f := func(settings, plugins, want string, r role) {
		t.Helper()
		s := newStage(t)
		g := s.start(balanced("", "retries: 0\n"+settings) + "plugins:\n" + plugins)
		s.everywhere(r)
		a := g.send(noRedirects, "GET", "/", http.NoBody)
		if a.status() != 504 || a.resp.Header.Get("X-Upstream-Timeout") != want {
			t.Errorf("%s: %d %v", want, a.status(), a.resp.Header)
		}
	}
	hold, none := role{hold: true}, "- {name: correlation-id}\n"
	f("connect_timeout: 50", none, "connect_timeout", role{mute: true})
	f("read_timeout: 50", none, "read_timeout", hold)
	f("", "- {name: upstream-timeout, config: {read_timeout: 50}}\n", "read_timeout", role{hold: true})
	f("", "- {name: upstream-timeout, config: {connect_timeout: 50}}\n", "connect_timeout", role{mute: true})
	f("", "- {name: request-timeout, config: {http_timeout: 50}}\n", "request-timeout", role{hold: true})
	f("", "- {name: request-timeout, config: {http_timeout: 50}}\n", "request-timeout", role{mute: true})
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	g := start(t, service("http://s:80", "  write_timeout: 100\n  retries: 0\n"), rawOrigin(t, func(net.Conn, int) { <-stop }))
	if resp, _ := g.do("POST", "/", strings.Repeat("x", 32<<20)); resp.StatusCode != 504 || resp.Header.Get("X-Upstream-Timeout") != "write_timeout" {
		t.Errorf("write: %d %v", resp.StatusCode, resp.Header)
	}
}

// After the header the whole request's limit cuts the connection: the client has a
// status already. Limits between pieces do not count the whole.
func TestTimeoutsAfterTheHeader(t *testing.T) {
	pieces := func(length int) role {
		return role{answer: func(w http.ResponseWriter, _ *http.Request) {
			if length > 0 {
				w.Header().Set("Content-Length", fmt.Sprint(length))
			}
			for range 8 {
				_, _ = w.Write(make([]byte, max(length/8, 1)))
				w.(http.Flusher).Flush()
				<-time.After(50 * time.Millisecond)
			}
		}}
	}
	f := func(settings, plugin string, r role, cut bool) {
		t.Helper()
		s := newStage(t)
		g := s.start(balanced("", "retries: 0\n"+settings) + plugin)
		s.everywhere(r)
		a := g.send(noRedirects, "GET", "/", http.NoBody)
		if a.status() != 200 || a.cut() != cut || (a.err != nil) != cut {
			t.Errorf("%s %s: %d, %v, want cut: %t", settings, plugin, a.status(), a.err, cut)
		}
	}
	const whole = "plugins:\n- {name: request-timeout, config: {http_timeout: 150}}\n"
	f("", whole, pieces(800<<10), true)
	f("", whole, pieces(0), true)
	f("read_timeout: 250", "", pieces(800<<10), false)
	f("read_timeout: 250", "", pieces(0), false)
	f("read_timeout: 250", "", pieces(800), false)
}

// Events have no natural end: the limit of the whole does not cut them, silence does.
func TestStreamTimeout(t *testing.T) {
	s := newStage(t)
	g := s.start(balanced("", "retries: 0") + "plugins:\n- {name: request-timeout, config: {http_timeout: 200, stream_timeout: 300}}\n")
	events := func(silence time.Duration) role {
		return role{answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for range 5 {
				_, _ = io.WriteString(w, "data: x\n\n")
				w.(http.Flusher).Flush()
				<-time.After(silence)
			}
		}}
	}
	s.everywhere(events(80 * time.Millisecond))
	if a := g.send(noRedirects, "GET", "/", http.NoBody); a.status() != 200 || a.err != nil || strings.Count(a.body, "data") != 5 {
		t.Errorf("%d %q %v", a.status(), a.body, a.err)
	}
	s.everywhere(events(1500 * time.Millisecond))
	if a := g.send(noRedirects, "GET", "/", http.NoBody); a.status() != 200 || !a.cut() || strings.Count(a.body, "data") != 1 {
		t.Errorf("silence: %d %q %v", a.status(), a.body, a.err)
	}
}
