package engine_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// released returns a document with a service at old:1 and a canary at new:1, an
// upstream with more settings, for routes /.
func released(canary, upstream, service string) string {
	return `
_format_version: "3.0"
gateway: {trusted_ips: [127.0.0.1]}
upstreams:
- name: next
  targets: [{target: "new:1"}]
` + indent(upstream) + `
services:
- name: s
  url: http://old:1
  retries: 0
` + indent(service) + `
  routes: [{name: r, paths: [/]}]
plugins:
- name: canary
  instance_name: trial
  service: s
  config: {upstream_host: next, canary_by_header_name: X-Canary, ` + canary + `}
`
}

// members returns which of n callers are led to the canary, and fails unless each
// always goes to the same side.
func (g *gateway) members(n int, caller func(i int) []string) map[int]bool {
	g.t.Helper()
	found := map[int]bool{}
	for i := range n {
		first := g.get200("/", caller(i)...)
		if first == "new:1" {
			found[i] = true
		}
		if again := g.get200("/", caller(i)...); again != first {
			g.t.Errorf("caller %d went to %s, then to %s", i, first, again)
		}
	}
	return found
}

// Whoever is led to the canary stays there as its share grows: by header, by address
// and by consumer.
func TestCanaryIsStable(t *testing.T) {
	var consumers strings.Builder
	consumers.WriteString("- {name: key-auth, config: {anonymous: nobody}}\nconsumers:\n- {username: nobody}\n")
	for i := range 60 {
		fmt.Fprintf(&consumers, "- {username: u%d, keyauth_credentials: [{key: k%d}]}\n", i, i)
	}
	f := func(hash, more string, caller func(i int) []string) {
		t.Helper()
		s := newStage(t)
		g := s.start(released("percentage: 0, "+hash, "", "") + more)
		before := map[int]bool{}
		for _, share := range []int{0, 20, 50, 100} {
			g.apply(released(fmt.Sprintf("percentage: %d, %s", share, hash), "", "") + more)
			now := g.members(60, caller)
			for i := range before {
				if !now[i] {
					t.Errorf("%s: caller %d left at %d%%", hash, i, share)
				}
			}
			if n, want := len(now), 60*share/100; n < want-15 || n > want+15 || share == 0 && n > 0 || share == 100 && n < 60 {
				t.Errorf("%s: %d of 60 at %d%%", hash, n, share)
			}
			before = now
		}
	}
	f("hash: header, hash_header: X-User", "", func(i int) []string { return []string{"X-User", fmt.Sprintf("user %d", i)} })
	f("hash: ip", "", func(i int) []string { return []string{"X-Real-IP", fmt.Sprintf("198.51.100.%d", i)} })
	f("hash: consumer", consumers.String(), func(i int) []string { return []string{"apikey", fmt.Sprintf("k%d", i)} })
	// What is missing falls back: to the consumer, then to the address.
	f("hash: header, hash_header: X-User", consumers.String(), func(i int) []string { return []string{"apikey", fmt.Sprintf("k%d", i)} })
	f("hash: consumer", "", func(i int) []string { return []string{"X-Real-IP", fmt.Sprintf("198.51.100.%d", i)} })
}

// Without a hash requests take turns, exactly.
func TestCanaryTakesTurns(t *testing.T) {
	for _, share := range []int{1, 10, 37, 50} {
		g := newStage(t).start(released(fmt.Sprintf("percentage: %d, hash: none, steps: 100", share), "", ""))
		c, canary := kept(t), 0
		for range 300 {
			if a := g.send(c, "GET", "/", http.NoBody); a.origin(t) == "new:1" {
				canary++
			}
		}
		if canary != 3*share {
			t.Errorf("%d of 300 at %d%%", canary, share)
		}
	}
}

// A share that grows with time is what it should be in the middle.
func TestCanarySchedule(t *testing.T) {
	begin := time.Now().Unix() - 4500
	g := newStage(t).start(released(fmt.Sprintf("start: %d, duration: 10000, steps: 10, hash: none", begin), "", ""))
	c, canary := kept(t), 0
	for range 100 {
		if a := g.send(c, "GET", "/", http.NoBody); a.origin(t) == "new:1" {
			canary++
		}
	}
	if canary != 50 { // 45% of ten steps, begun ones count
		t.Errorf("%d of 100 at 45%% in steps of a tenth", canary)
	}
}

// Groups of acl and consumer groups decide in place of a share.
func TestCanaryGroups(t *testing.T) {
	const who = `
- {name: key-auth, config: {anonymous: nobody}}
consumer_groups: [{name: beta}]
consumers:
- {username: nobody}
- {username: a, keyauth_credentials: [{key: a}], acls: [{group: beta}]}
- {username: b, keyauth_credentials: [{key: b}], groups: [{name: beta}]}
- {username: c, keyauth_credentials: [{key: c}]}
`
	f := func(hash string, want map[string]string) {
		t.Helper()
		g := newStage(t).start(released("hash: "+hash+", groups: [beta]", "", "") + who)
		for key, origin := range want {
			if got := g.get200("/", "apikey", key); got != origin {
				t.Errorf("%s: %q went to %s", hash, key, got)
			}
		}
	}
	f("allow", map[string]string{"a": "new:1", "b": "new:1", "c": "old:1"})
	f("deny", map[string]string{"a": "old:1", "b": "old:1", "c": "new:1"})
	g := newStage(t).start(released("hash: allow, groups: [beta]", "", "") + who)
	if got := g.get200("/"); got != "old:1" {
		t.Errorf("nobody went to %s", got)
	}
	if got := g.get200("/", "X-Canary", "always"); got != "new:1" {
		t.Errorf("always went to %s", got)
	}
	if got := g.get200("/", "apikey", "a", "X-Canary", "never"); got != "old:1" {
		t.Errorf("never went to %s", got)
	}
}

// With upstream_fallback the service answers for a canary that is down. Where traffic
// alone tells, the canary gets trials by which it comes back.
func TestCanaryFallback(t *testing.T) {
	const passive = "healthchecks: {passive: {open_duration: 0.2, healthy: {successes: 1}, unhealthy: {tcp_failures: 1}}}"
	s := newStage(t)
	g := s.start(released("percentage: 100, hash: ip, upstream_fallback: true", passive, ""))
	if got := g.get200("/"); got != "new:1" {
		t.Errorf("went to %s", got)
	}
	s.cast("new:1", role{refuse: true})
	eventually(t, "the canary to be out", func() bool {
		g.status("/")
		health, _ := g.state("new:1")
		return health == "unhealthy"
	})
	s.cast("new:1", role{})
	eventually(t, "the canary to be back", func() bool { return g.get200("/") == "new:1" })
	if !g.metric(`sluice_canary_rollbacks_total{plugin="trial",service="s"} 0`) {
		t.Error("no metrics of the canary")
	}
}

// Circuit and limits of the service count its canary apart.
func TestCanaryIsGuardedApart(t *testing.T) {
	s := newStage(t)
	g := s.start(released("percentage: 0", "", "circuit_breaker: {consecutive_failures: 2, open_duration: 60}\nlimits: {requests: 1}"))
	ask := func(canary string) int {
		t.Helper()
		return g.send(noRedirects, "GET", "/", http.NoBody, "X-Canary", canary).status()
	}
	s.cast("new:1", role{status: 500})
	for i, want := range []int{500, 500, 503, 503} {
		if got := ask("always"); got != want {
			t.Errorf("canary, request %d: %d, want %d", i, got, want)
		}
	}
	if got := ask("never"); got != 200 {
		t.Errorf("service: %d", got)
	}
	s.cast("old:1", role{hold: true})
	under := g.background("/")
	s.awaitActive("old:1", 1)
	turnedAway(t, g.send(noRedirects, "GET", "/", http.NoBody))
	g.apply(released("percentage: 0", "", "limits: {requests: 1}"))
	s.cast("new:1", role{})
	if got := ask("always"); got != 200 {
		t.Errorf("canary beside a service at its limit: %d", got)
	}
	s.cast("old:1", role{})
	under.wait(t)
}

// A canary is tried again as the service would be, at its own targets.
func TestCanaryIsRetried(t *testing.T) {
	s := newStage(t)
	text := strings.Replace(released("percentage: 100", "", ""), `[{target: "new:1"}]`, `[{target: "new:1"}, {target: "new:2"}]`, 1)
	g := s.start(text + "- {name: proxy-retry, config: {backoff: {type: constant, base: 0}, retries: 1}}\n")
	s.cast("new:1", role{status: 503})
	for range 10 {
		if got := g.get200("/"); got != "new:2" {
			t.Errorf("went to %s", got)
		}
	}
	if n := s.hits("old:1"); n != 0 {
		t.Errorf("%d requests at the service", n)
	}
}

// A reload that leaves a ramp alone does not begin it anew.
func TestRampSurvivesReload(t *testing.T) {
	const ramp = "hash: none, ramp: {steps: [10, 40], step_duration: 1, min_requests: 5, check_interval: 1, max_latency_ratio: 0}"
	s := newStage(t)
	g := s.start(released(ramp, "", ""))
	c := kept(t)
	for range 60 {
		g.send(c, "GET", "/", http.NoBody)
	}
	const share = `sluice_canary_share_percent{plugin="trial",service="s"} `
	eventually(t, "the second step", func() bool { return g.metric(share + "40") })
	g.apply(released(ramp, "", "") + "- {name: correlation-id}\n")
	if !g.metric(share + "40") {
		t.Error("the ramp began anew")
	}
	canary := 0
	for range 100 {
		if a := g.send(c, "GET", "/", http.NoBody); a.origin(t) == "new:1" {
			canary++
		}
	}
	if canary != 40 {
		t.Errorf("%d of 100 in a step of 40%%", canary)
	}
}
