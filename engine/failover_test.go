package engine_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// paired returns a document with an upstream u of a:1 and b:1 that v of c:1 takes over
// for.
func paired(upstream, standby string) string {
	text := strings.Replace(balanced("failover: v\n"+upstream, "retries: 0"), `, {target: "c:1"}]`, "]", 1)
	return strings.Replace(text, "\nservices:", "\n- name: v\n  targets: [{target: \"c:1\"}]\n"+indent(standby)+"\nservices:", 1)
}

const probed = "healthchecks: {active: {healthy: {interval: 3600}}}"

// While an upstream has no healthy target another takes over, and gives back.
func TestFailover(t *testing.T) {
	s := newStage(t)
	g := s.start(paired(probed, ""))
	found := func() string {
		t.Helper()
		got := map[string]bool{}
		for range 12 {
			got[g.get200("/")] = true
		}
		return fmt.Sprint(got)
	}
	both, standby := fmt.Sprint(map[string]bool{"a:1": true, "b:1": true}), fmt.Sprint(map[string]bool{"c:1": true})
	if got := found(); got != both {
		t.Errorf("%s", got)
	}
	g.Fleet().SetHealth("u", "a:1", "", false)
	if got := found(); got != fmt.Sprint(map[string]bool{"b:1": true}) {
		t.Errorf("with one: %s", got)
	}
	g.Fleet().SetHealth("u", "b:1", "", false)
	if got := found(); got != standby {
		t.Errorf("with none: %s", got)
	}
	if !g.metric("sluice_upstream_failovers_total 12") {
		t.Error("failovers are not counted")
	}
	g.Fleet().SetHealth("u", "a:1", "", true)
	g.Fleet().SetHealth("u", "b:1", "", true)
	if got := found(); got != both {
		t.Errorf("back: %s", got)
	}
}

// The limits of an upstream hold for what another sends there.
func TestFailoverKeepsLimits(t *testing.T) {
	s := newStage(t)
	g := s.start(paired(probed, "limits: {requests: 1}"))
	for _, name := range []string{"a:1", "b:1"} {
		g.Fleet().SetHealth("u", name, "", false)
	}
	s.cast("c:1", role{hold: true})
	under := g.background("/")
	s.awaitActive("c:1", 1)
	turnedAway(t, g.send(noRedirects, "GET", "/", http.NoBody))
	s.cast("c:1", role{})
	if under.wait(t).status() != 200 || g.status("/") != 200 {
		t.Error("the place was not given back")
	}
}

// The request that fails over has one cookie, though both upstreams hash on it.
func TestFailoverSetsOneCookie(t *testing.T) {
	s := newStage(t)
	const hash = "\nalgorithm: consistent-hashing\nhash_on: cookie\nhash_on_cookie: sid\n"
	g := s.start(paired(probed+hash, strings.TrimPrefix(hash, "\n")))
	for _, name := range []string{"a:1", "b:1"} {
		g.Fleet().SetHealth("u", name, "", false)
	}
	a := g.send(noRedirects, "GET", "/", http.NoBody)
	if c := a.resp.Header["Set-Cookie"]; a.status() != 200 || len(c) != 1 {
		t.Errorf("%d, cookies %v", a.status(), c)
	}
}

// What is known of targets outlives documents, those that change the settings too.
func TestHealthSurvivesReload(t *testing.T) {
	s := newStage(t)
	text := func(checks string) string { return balanced(checks, "retries: 0") }
	const passive = "healthchecks: {passive: {open_duration: 60, unhealthy: {http_failures: %d}}}"
	g := s.start(text(fmt.Sprintf(passive, 2)))
	s.cast("a:1", role{status: 500})
	eventually(t, "a:1 to be out", func() bool {
		g.status("/")
		health, _ := g.state("a:1")
		return health == "unhealthy"
	})
	s.cast("a:1", role{})
	for _, checks := range []string{fmt.Sprintf(passive, 2) + "\nhost_header: example.com", fmt.Sprintf(passive, 5)} {
		g.apply(text(checks))
		g.expect("200 200 200 200 200 200")
		if health, _ := g.state("a:1"); health != "unhealthy" {
			t.Errorf("%s: %s", checks, health)
		}
	}
	g.apply(text(fmt.Sprintf(passive, 5) + "\nalgorithm: least-connections"))
	if health, _ := g.state("a:1"); health != "unhealthy" {
		t.Errorf("another algorithm: %s", health)
	}
	// What cannot judge any more lets it back.
	g.apply(text(""))
	eventually(t, "a:1 to get requests", func() bool { return g.get200("/") == "a:1" })
}

// An upstream that is down as a whole is not when nothing looks at its health any more.
func TestChecksAreTakenAway(t *testing.T) {
	s := newStage(t)
	g := s.start(one("healthchecks: {passive: {open_duration: 0, unhealthy: {tcp_failures: 1}}}", "retries: 0"))
	s.cast("a:1", role{refuse: true})
	g.expect("502 503 503")
	s.cast("a:1", role{})
	g.expect("503")
	g.apply(one("", "retries: 0"))
	g.expect("200 200")
}

func TestServiceCircuitSurvivesReload(t *testing.T) {
	s := newStage(t)
	text := func(failures int) string {
		breaker := ""
		if failures > 0 {
			breaker = fmt.Sprintf("\ncircuit_breaker: {consecutive_failures: %d, open_duration: 60}", failures)
		}
		return one("", "retries: 0"+breaker)
	}
	g := s.start(text(2))
	s.cast("a:1", role{status: 500})
	g.expect("500")
	g.apply(text(2) + "plugins: [{name: correlation-id}]\n")
	g.expect("500 503") // the failure before the reload counts
	s.cast("a:1", role{})
	g.apply(text(5))
	g.expect("503 503")
	g.apply(text(0))
	g.expect("200 200")
}
