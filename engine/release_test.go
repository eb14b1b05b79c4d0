package engine_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// Another canary is another release: it begins its ramp with the first step, whatever
// the one before it has earned.
func TestNewCanaryBeginsItsRampAnew(t *testing.T) {
	const ramp = "hash: none, ramp: {steps: [10, 40], step_duration: 1, min_requests: 5, check_interval: 1, max_latency_ratio: 0}"
	const share = `sluice_canary_share_percent{plugin="trial",service="s"} `
	f := func(change string) {
		t.Helper()
		t.Run(change, func(t *testing.T) {
			t.Parallel() // each waits for a step
			s := newStage(t)
			g := s.start(released(ramp, "", ""))
			c := kept(t)
			for range 60 {
				g.send(c, "GET", "/", http.NoBody)
			}
			eventually(t, "the second step", func() bool { return g.metric(share + "40") })
			old, other, _ := strings.Cut(change, " -> ")
			g.apply(strings.Replace(released(ramp, "", ""), old, other, 1))
			if !g.metric(share + "10") {
				t.Error("the new canary has the share of the old one")
			}
			canary := 0
			for range 100 {
				if a := g.send(c, "GET", "/", http.NoBody); a.origin(t) != "old:1" {
					canary++
				}
			}
			if canary != 10 {
				t.Errorf("%d of 100 in a step of 10%%", canary)
			}
		})
	}
	f("upstream_host: next -> upstream_host: other, upstream_port: 1")
	f("upstream_host: next -> upstream_host: next, upstream_port: 2")
	f("upstream_host: next -> upstream_host: next, upstream_uri: /v2")
}

// The circuit of a canary that several routes lead to is one, with one series of each
// metric.
func TestCanaryOfSeveralRoutesIsOne(t *testing.T) {
	s := newStage(t)
	g := s.start(`
_format_version: "3.0"
services:
- name: s
  url: http://old:1
  retries: 0
  circuit_breaker: {consecutive_failures: 2, open_duration: 60}
  routes:
  - {name: r1, paths: [/1], plugins: [{name: canary, config: {percentage: 100, upstream_host: new}}]}
  - {name: r2, paths: [/2], plugins: [{name: canary, config: {percentage: 100, upstream_host: new}}]}
`)
	var b strings.Builder
	g.WriteMetrics(&b)
	seen := map[string]bool{}
	for line := range strings.Lines(b.String()) {
		if series, _, ok := strings.Cut(line, " "); ok && !strings.HasPrefix(line, "#") {
			if seen[series] {
				t.Errorf("two series %s", series)
			}
			seen[series] = true
		}
	}
	if !seen[`sluice_service_circuit_state{service="s@new:1",state="open"}`] {
		t.Error("the circuit of the canary has no metric")
	}
	s.cast("new:1", role{status: 500})
	for i, path := range []string{"/1", "/2", "/1", "/2"} {
		if got, want := g.status(path), []int{500, 500, 503, 503}[i]; got != want {
			t.Errorf("request %d: %d, want %d", i, got, want)
		}
	}
}

// While the circuit of the canary is open the fallback of the route answers, or that of
// the service, as it does for the service itself.
func TestCanaryHasTheRoutesFallback(t *testing.T) {
	f := func(scope, canary, path string) {
		t.Helper()
		s := newStage(t)
		text := released("percentage: 0", "", "circuit_breaker: {consecutive_failures: 1, open_duration: 60}")
		text = strings.Replace(text, "routes: [{name: r, paths: [/]}]", "routes: [{name: r, paths: [/]}, {name: other, paths: [/other]}]", 1)
		g := s.start(text + fmt.Sprintf("- {name: request-termination, enabled: false, %sconfig: {status_code: 418, message: Resting}}\n", scope))
		for _, name := range []string{"old:1", "new:1"} {
			s.cast(name, role{status: 500})
		}
		want := map[bool]int{true: 418, false: 503}[scope != "route: other, " || path == "/other"]
		for i, want := range []int{500, want, want} {
			a := g.send(noRedirects, "GET", path, http.NoBody, "X-Canary", canary)
			if a.status() != want || want == 418 && a.body != `{"message":"Resting"}` {
				t.Errorf("%q, canary %s, %s, request %d: %d %s, want %d", scope, canary, path, i, a.status(), a.body, want)
			}
		}
	}
	for _, canary := range []string{"never", "always"} {
		for _, scope := range []string{"", "service: s, ", "route: other, "} {
			f(scope, canary, "/")
			f(scope, canary, "/other")
		}
	}
}
