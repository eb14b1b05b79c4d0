package engine_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// one returns balanced with the target a:1 only.
func one(upstream, service string) string {
	return strings.Replace(balanced(upstream, service), `[{target: "a:1"}, {target: "b:1"}, {target: "c:1"}]`, `[{target: "a:1"}]`, 1)
}

// status sends a GET and returns what it was answered.
func (g *gateway) status(path string) int {
	g.t.Helper()
	a := g.send(noRedirects, "GET", path, http.NoBody)
	if a.err != nil {
		g.t.Fatal(a.err)
	}
	return a.status()
}

// several sends n requests and returns the statuses in order, such as "500 500 503".
func (g *gateway) several(n int) string {
	g.t.Helper()
	var got []string
	for range n {
		got = append(got, fmt.Sprint(g.status("/")))
	}
	return strings.Join(got, " ")
}

// expect compares what several requests in a row are answered.
func (g *gateway) expect(want string) {
	g.t.Helper()
	if got := g.several(len(strings.Fields(want))); got != want {
		g.t.Errorf("got %s, want %s", got, want)
	}
}

// The circuit of a service opens by failures in a row; a success in between forgets
// them. What it says while open is the service's own, and nothing reaches a target.
func TestServiceCircuitOpens(t *testing.T) {
	f := func(answer, plugins string, status int, contentType, body string) {
		t.Helper()
		s := newStage(t)
		g := s.start(one("", "retries: 0\ncircuit_breaker: {consecutive_failures: 3, open_duration: 60"+answer+"}") + plugins)
		s.cast("a:1", role{status: 500})
		g.expect("500 500")
		s.cast("a:1", role{status: 404})
		g.expect("404")
		s.cast("a:1", role{status: 503})
		g.expect("503 503 503")
		before := s.hits("a:1")
		a := g.send(noRedirects, "GET", "/", http.NoBody)
		after := a.resp.Header.Get("Retry-After")
		if a.status() != status || a.resp.Header.Get("Content-Type") != contentType || !strings.Contains(a.body, body) || after != "60" {
			t.Errorf("%s: %d, Retry-After %q, %s: %s", answer, a.status(), after, a.resp.Header.Get("Content-Type"), a.body)
		}
		if s.hits("a:1") != before {
			t.Errorf("%s: a request reached the target", answer)
		}
		for state, n := range map[string]int{"open": 1, "closed": 0, "half_open": 0} {
			if line := fmt.Sprintf("sluice_service_circuit_state{service=%q,state=%q} %d", "s", state, n); !g.metric(line) {
				t.Errorf("no metric %s", line)
			}
		}
		if !g.metric("sluice_service_circuit_opened_total 1") {
			t.Error("the opening was not counted")
		}
	}
	const json = "application/json; charset=utf-8"
	f("", "", 503, json, `"message":"The upstream server is currently unavailable"`)
	f(", message: Closed", "", 503, json, `{"message":"Closed"}`)
	f(", status_code: 429", "", 429, json, `"message":"The upstream server is currently unavailable"`)
	f(", status_code: 200, content_type: text/html, body: <p>soon</p>", "", 200, "text/html", "<p>soon</p>")
	const off = "plugins:\n- {name: request-termination, enabled: false, config: {status_code: 418, message: Resting}}\n"
	f("", off, 418, json, `{"message":"Resting"}`)
	f(", message: Closed", off, 503, json, `{"message":"Closed"}`)
	// One that answers some requests only leaves the others to Kong's answer.
	f("", "plugins:\n- {name: request-termination, enabled: false, config: {status_code: 418, trigger: X-Other}}\n", 503, json, `"message":"The upstream server is currently unavailable"`)
}

// Faults of transport are failures, whatever statuses says; those of the client are not.
func TestServiceCircuitCounts(t *testing.T) {
	s := newStage(t)
	text := one("", "retries: 0\nread_timeout: 100\ncircuit_breaker: {consecutive_failures: 2, open_duration: 60, statuses: [429]}")
	g := s.start(text)
	s.cast("a:1", role{status: 500})
	g.expect("500 500 500 500")
	s.cast("a:1", role{status: 429})
	g.expect("429 429 503")
	s2 := newStage(t)
	g2 := s2.start(text)
	s2.cast("a:1", role{refuse: true})
	g2.expect("502")
	s2.cast("a:1", role{hold: true})
	g2.expect("504 503")
}

func TestServiceCircuitByErrorRate(t *testing.T) {
	s := newStage(t)
	g := s.start(one("", "retries: 0\ncircuit_breaker: {error_rate: 50, window: 60, min_requests: 10, open_duration: 60}"))
	s.cast("a:1", role{status: 500})
	g.expect("500 500 500 500")
	s.cast("a:1", role{})
	g.expect("200 200 200 200 200")
	s.cast("a:1", role{status: 500})
	g.expect("500 503 503") // 5 of 10
	if got := g.several(20); strings.Contains(got, "500") {
		t.Errorf("after it opened: %s", got)
	}
}

// Half-open it lets through half_open_requests at a time; successes in a row close it,
// a failure opens it again for twice as long.
func TestServiceCircuitTrials(t *testing.T) {
	s := newStage(t)
	g := s.start(one("", "retries: 0\ncircuit_breaker: {consecutive_failures: 1, open_duration: 0.3, half_open_requests: 2, successes: 3}"))
	s.cast("a:1", role{status: 500})
	g.expect("500")
	g.await("s", "half_open")
	began := time.Now()
	g.expect("500")
	g.await("s", "half_open")
	if d := time.Since(began); d < 600*time.Millisecond {
		t.Errorf("after a failed trial it was open for %s, want twice 300 ms", d)
	}
	s.cast("a:1", role{hold: true})
	trials := []*pending{g.background("/"), g.background("/")}
	s.awaitActive("a:1", 2)
	g.expect("503 503")
	s.cast("a:1", role{})
	if got := statuses(t, trials); fmt.Sprint(got) != "[200 200]" {
		t.Errorf("trials %v", got)
	}
	if _, state := g.state("s"); state != "half_open" {
		t.Errorf("%s after two of three successes", state)
	}
	g.expect("200 200 200 200")
	if _, state := g.state("s"); state != "closed" {
		t.Errorf("%s after three successes", state)
	}
}

// The circuit of a target keeps that target out; the others go on. With all of them out
// the answer is 503 at once, and trials bring them back.
func TestTargetCircuits(t *testing.T) {
	s := newStage(t)
	g := s.start(balanced("circuit_breaker: {consecutive_failures: 2, open_duration: 60, statuses: [418]}", "retries: 0"))
	s.cast("a:1", role{status: 418})
	c := kept(t)
	for range 6 {
		g.send(c, "GET", "/", http.NoBody)
	}
	if _, circuit := g.state("a:1"); circuit != "open" {
		t.Fatalf("the circuit of a:1 is %s", circuit)
	}
	before := s.hits("a:1")
	g.expect("200 200 200 200 200 200")
	if s.hits("a:1") != before {
		t.Error("a request reached a target whose circuit is open")
	}
	s.cast("b:1", role{refuse: true})
	s.cast("c:1", role{refuse: true})
	for range 4 {
		g.send(c, "GET", "/", http.NoBody)
	}
	a := g.send(c, "GET", "/", http.NoBody)
	if a.status() != 503 || !strings.Contains(a.body, "failure to get a peer from the ring-balancer") || a.resp.Header.Get("Retry-After") == "" {
		t.Errorf("%d %v %s", a.status(), a.resp.Header, a.body)
	}
	// By trials, of which each target has its own.
	s = newStage(t)
	g = s.start(balanced("circuit_breaker: {error_rate: 100, min_requests: 2, open_duration: 0.2, successes: 2}", "retries: 0"))
	s.everywhere(role{status: 500})
	eventually(t, "all circuits to open", func() bool { return g.status("/") == 503 })
	s.everywhere(role{})
	for _, name := range targets {
		g.await(name, "half_open")
	}
	for _, name := range targets {
		eventually(t, name+" to be closed", func() bool {
			g.expect("200")
			_, circuit := g.state(name)
			return circuit == "closed"
		})
	}
}

// Passive checks count as Kong's do: without a limit of successes failures are never
// forgotten, and each kind counts by itself.
func TestPassiveLimits(t *testing.T) {
	f := func(limits string, plays []role, out bool) {
		t.Helper()
		s := newStage(t)
		g := s.start(one("healthchecks: {passive: {open_duration: 60, "+limits+"}}", "retries: 0\nread_timeout: 100"))
		for _, r := range plays {
			if health, _ := g.state("a:1"); health != "healthy" {
				t.Errorf("%s: %s too early", limits, health)
			}
			s.cast("a:1", r)
			g.status("/")
		}
		if health, _ := g.state("a:1"); (health == "unhealthy") != out {
			t.Errorf("%s: %s", limits, health)
		}
	}
	bad, good, refuse, hold := role{status: 500}, role{}, role{refuse: true}, role{hold: true}
	f("unhealthy: {http_failures: 2}", []role{bad, good, good, bad}, true)
	f("healthy: {successes: 1}, unhealthy: {http_failures: 2}", []role{bad, good, bad}, false)
	f("unhealthy: {http_failures: 2, tcp_failures: 2, timeouts: 2}", []role{bad, refuse, hold}, false)
	f("unhealthy: {http_failures: 2, tcp_failures: 2, timeouts: 2}", []role{bad, refuse, hold, refuse}, true)
	f("unhealthy: {timeouts: 1}", []role{bad, refuse, hold}, true)
}

// Every attempt counts, those that a retry makes up for too.
func TestRetriedAttemptsCount(t *testing.T) {
	s := newStage(t)
	g := s.start(balanced("healthchecks: {passive: {unhealthy: {http_failures: 2, tcp_failures: 2}}}", "") +
		"plugins:\n- {name: proxy-retry, config: {backoff: {type: constant, base: 0}}}\n")
	s.cast("a:1", role{status: 503, after: "0"})
	s.cast("b:1", role{refuse: true})
	for range 12 {
		g.expect("200")
	}
	g.await("a:1", "unhealthy") // 503 is in both lists
	g.await("b:1", "unhealthy")
}

// Kong: an upstream whose available weight is at or below the threshold has no peer.
func TestUpstreamThreshold(t *testing.T) {
	s := newStage(t)
	g := s.start(balanced("healthchecks: {threshold: 50, active: {healthy: {interval: 3600}}}", "retries: 0"))
	set := func(target string, healthy bool) {
		t.Helper()
		if !g.Fleet().SetHealth("u", target, "", healthy) {
			t.Fatalf("no target %s", target)
		}
	}
	set("a:1", false)
	g.expect("200 200 200")
	set("b:1", false)
	if a := g.send(noRedirects, "GET", "/", http.NoBody); a.status() != 503 || !strings.Contains(a.body, "failure to get a peer from the ring-balancer") {
		t.Errorf("%d %s", a.status(), a.body)
	}
	if healthy, known := g.Fleet().Healthy("u"); healthy || !known {
		t.Errorf("healthy %t, known %t", healthy, known)
	}
	set("b:1", true)
	g.expect("200 200 200")
	if n := s.hits("a:1"); n != 0 {
		t.Errorf("%d requests at what was put out by hand", n)
	}
	if g.Fleet().SetHealth("u", "z:1", "", false) || g.Fleet().SetHealth("z", "a:1", "", false) {
		t.Error("what there is not was put out")
	}
}

// What is refused without an attempt has no retries to tell of, whatever the requests
// before it had.
func TestRefusalsCountNoRetries(t *testing.T) {
	s := newStage(t)
	g := s.start(one("", "circuit_breaker: {consecutive_failures: 3, open_duration: 60}") +
		"plugins:\n- {name: proxy-retry, config: {retries: 2, backoff: {type: constant, base: 0.01}}}\n")
	s.cast("a:1", role{status: 503})
	c := kept(t)
	for range 3 {
		if a := g.send(c, "GET", "/", http.NoBody); a.resp.Header.Get("X-Retry-Count") != "2" {
			t.Errorf("%d %v", a.status(), a.resp.Header)
		}
	}
	for range 20 {
		if a := g.send(c, "GET", "/", http.NoBody); a.status() != 503 || a.origin(t) != "" || a.resp.Header.Get("X-Retry-Count") != "" {
			t.Errorf("%d %v", a.status(), a.resp.Header)
		}
	}
}
