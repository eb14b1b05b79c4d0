package engine_test

import (
	"io"
	"net/http"
	"testing"
)

// What is tried again for its status is passed on in the service's own words where the
// failure that it is leaves no target to try again at.
func TestLastWordsAreTheServices(t *testing.T) {
	words := role{answer: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Reason", "maintenance")
		w.WriteHeader(503)
		_, _ = io.WriteString(w, "the service's own words")
	}}
	f := func(text, count string, requests int) {
		t.Helper()
		s := newStage(t)
		g := s.start(text)
		s.everywhere(words)
		s.cast("d:1", words)
		a := g.send(noRedirects, "GET", "/", http.NoBody)
		if a.status() != 503 || a.body != "the service's own words" || a.resp.Header.Get("X-Reason") != "maintenance" {
			t.Errorf("%d %v %s", a.status(), a.resp.Header, a.body)
		}
		if got := a.resp.Header.Get("X-Retry-Count"); got != count || s.arrived() != requests {
			t.Errorf("X-Retry-Count %q after %d requests, want %q after %d", got, s.arrived(), count, requests)
		}
	}
	const retry = "plugins:\n- {name: proxy-retry, config: {jitter: 0, retries: 5, " + quick + "}}\n"
	const circuit, passive = "circuit_breaker: {consecutive_failures: 1, open_duration: 60}", "healthchecks: {passive: {open_duration: 60, unhealthy: {http_failures: 1}}}"
	f(balanced(circuit, "")+retry, "2", 3)
	f(balanced(passive, "")+retry, "2", 3)
	f(one(circuit, "")+retry, "", 1)
	f(balanced("", "")+retry, "5", 6)                                                                                           // targets that stay are tried until the retries are used up
	f(balanced(passive+"\nfailover: v", "")+standby+retry, "5", 3)                                                              // others stand in
	f(balanced("healthchecks: {threshold: 50, passive: {open_duration: 60, unhealthy: {http_failures: 1}}}", "")+retry, "1", 2) // too little is left
}

// standby are targets that are not among those of balanced.
const standby = `
upstreams:
- name: v
  targets: [{target: "d:1"}]
`

// X-Retry-Count says how many attempts were made again, not how many were wanted.
func TestRetryCountIsOfAttempts(t *testing.T) {
	f := func(r role, upstream, count string, status int) {
		t.Helper()
		s := newStage(t)
		g := s.start(balanced(upstream, "") + "plugins:\n- {name: proxy-retry, config: {jitter: 0, retries: 4, " + quick + "}}\n")
		s.everywhere(r)
		a := g.send(noRedirects, "GET", "/", http.NoBody)
		if got := a.resp.Header.Get("X-Retry-Count"); a.status() != status || got != count {
			t.Errorf("%s: %d, X-Retry-Count %q, want %d and %q", upstream, a.status(), got, status, count)
		}
	}
	const circuit = "circuit_breaker: {consecutive_failures: 1, open_duration: 60}"
	f(role{}, circuit, "", 200)
	f(role{refuse: true}, circuit, "2", 503)
	f(role{drop: true}, circuit, "2", 503)
	f(role{refuse: true}, "", "4", 502)
	f(role{status: 500}, "", "4", 500)
}

// An attempt whose answer the policy would rather not pass on, but has to, and that then
// breaks off, is one failure and not two.
func TestBrokenAnswerIsOneFailure(t *testing.T) {
	s := newStage(t)
	g := s.start(one("circuit_breaker: {consecutive_failures: 3, open_duration: 60}", "") +
		"plugins:\n- {name: proxy-retry, config: {jitter: 0, retries: 1, " + quick + "}}\n")
	s.cast("a:1", role{answer: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "600") // more patience than the policy has
		w.Header().Set("Content-Length", "100")
		w.WriteHeader(503)
		_, _ = io.WriteString(w, "abc")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}})
	a := g.send(noRedirects, "GET", "/", http.NoBody)
	if _, circuit := g.state("a:1"); a.status() != 502 || s.arrived() != 2 || circuit != "closed" {
		t.Errorf("%d after %d attempts, then the circuit is %s", a.status(), s.arrived(), circuit)
	}
}

// A circuit that is open for long says for how long.
func TestRetryAfterOfLongCircuits(t *testing.T) {
	f := func(upstream, service, after string) {
		t.Helper()
		s := newStage(t)
		g := s.start(one(upstream, "retries: 0\n"+service))
		s.cast("a:1", role{status: 500})
		g.expect("500")
		if a := g.send(noRedirects, "GET", "/", http.NoBody); a.status() != 503 || a.resp.Header.Get("Retry-After") != after {
			t.Errorf("%s %s: %d, Retry-After %q", upstream, service, a.status(), a.resp.Header.Get("Retry-After"))
		}
	}
	f("", "circuit_breaker: {consecutive_failures: 1, open_duration: 900}", "900")
	f("circuit_breaker: {consecutive_failures: 1, open_duration: 900}", "", "900")
	f("", "circuit_breaker: {consecutive_failures: 1, open_duration: 30}", "30")
}
