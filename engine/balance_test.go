package engine_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// balanced returns a document with one upstream of targets a:1, b:1 and c:1 and a
// service over it, with more settings for both.
func balanced(upstream, service string) string {
	return `
_format_version: "3.0"
upstreams:
- name: u
  targets: [{target: "a:1"}, {target: "b:1"}, {target: "c:1"}]
` + indent(upstream) + `
services:
- name: s
  host: u
` + indent(service) + `
  routes:
  - name: r
    paths: [/, "~/tenants/(?<tenant>[^/]+)/"]
    strip_path: false
`
}

// indent makes lines the settings of an entity.
func indent(lines string) string {
	var b strings.Builder
	for line := range strings.Lines(lines) {
		b.WriteString("  " + strings.TrimRight(line, "\n") + "\n")
	}
	return b.String()
}

// targets are the addresses of balanced.
var targets = []string{"a:1", "b:1", "c:1"}

// get200 sends a GET over a client of its own and returns who answered it.
func (g *gateway) get200(path string, headers ...string) string {
	g.t.Helper()
	a := g.send(noRedirects, http.MethodGet, path, http.NoBody, headers...)
	if a.status() != http.StatusOK {
		g.t.Fatalf("%s %v: %d %s %v", path, headers, a.status(), a.body, a.err)
	}
	return a.origin(g.t)
}

// spread returns how many of n different inputs go to each target, and fails unless
// each of them always goes to the same.
func (g *gateway) spread(n int, input func(i int) (path string, headers []string)) map[string]int {
	g.t.Helper()
	found := map[string]int{}
	for i := range n {
		path, headers := input(i)
		first := g.get200(path, headers...)
		found[first]++
		if again := g.get200(path, headers...); again != first {
			g.t.Fatalf("%s %v went to %s, then to %s", path, headers, first, again)
		}
	}
	return found
}

// Every input of consistent hashing: the same one always leads to the same target,
// different ones to all of them.
func TestHashInputs(t *testing.T) {
	const consumers = "\nplugins:\n- {name: key-auth, config: {anonymous: nobody}}\nconsumers:\n- {username: nobody}\n"
	var list strings.Builder
	for i := range 24 {
		fmt.Fprintf(&list, "- {username: u%d, keyauth_credentials: [{key: k%d}]}\n", i, i)
	}
	header := func(name string) func(i int) (string, []string) {
		return func(i int) (string, []string) {
			return fmt.Sprintf("/%d", i), []string{name, fmt.Sprintf("value %d", i)}
		}
	}
	f := func(settings, more string, input func(i int) (string, []string)) {
		t.Helper()
		s := newStage(t)
		g := s.start("gateway: {trusted_ips: [127.0.0.1]}" + balanced("algorithm: consistent-hashing\n"+settings, "") + more)
		if found := g.spread(24, input); len(found) != 3 {
			t.Errorf("%s: %v", settings, found)
		}
	}
	f("hash_on: header\nhash_on_header: X-User", "", header("x-user"))
	f("hash_on: cookie\nhash_on_cookie: sid", "", func(i int) (string, []string) { return "/", []string{"Cookie", fmt.Sprintf("a=b; sid=%d", i)} })
	f("hash_on: ip", "", func(i int) (string, []string) { return "/", []string{"X-Real-IP", fmt.Sprintf("198.51.100.%d", i)} })
	f("hash_on: path", "", func(i int) (string, []string) { return fmt.Sprintf("/%d?%d", i, i), nil })
	f("hash_on: query_arg\nhash_on_query_arg: user", "", func(i int) (string, []string) { return fmt.Sprintf("/?x=1&user=%d", i), nil })
	f("hash_on: uri_capture\nhash_on_uri_capture: tenant", "", func(i int) (string, []string) { return fmt.Sprintf("/tenants/t%d/x", i), nil })
	f("hash_on: uri_capture\nhash_on_uri_capture: \"1\"", "", func(i int) (string, []string) { return fmt.Sprintf("/tenants/t%d/x", i), nil })
	f("hash_on: consumer", consumers+list.String(), func(i int) (string, []string) { return "/", []string{"apikey", fmt.Sprintf("k%d", i)} })
	f("hash_on: header\nhash_on_header: X-User\nhash_ring: nginx", "", header("X-User"))
	f("hash_on: header\nhash_on_header: X-User\nhash_balance_factor: 200", "", header("X-User"))
}

// What is missing is made up for by hash_fallback.
func TestHashFallbacks(t *testing.T) {
	f := func(settings string, input func(i int) (string, []string)) {
		t.Helper()
		s := newStage(t)
		g := s.start("gateway: {trusted_ips: [127.0.0.1]}" + balanced("algorithm: consistent-hashing\n"+settings, ""))
		if found := g.spread(24, input); len(found) != 3 {
			t.Errorf("%s: %v", settings, found)
		}
	}
	ip := func(i int) (string, []string) {
		return fmt.Sprintf("/%d", i%2), []string{"X-Real-IP", fmt.Sprintf("198.51.100.%d", i)}
	}
	f("hash_on: header\nhash_on_header: X-User\nhash_fallback: ip", ip)
	f("hash_on: consumer\nhash_fallback: ip", ip)
	f("hash_on: query_arg\nhash_on_query_arg: user\nhash_fallback: ip", ip)
	f("hash_on: uri_capture\nhash_on_uri_capture: tenant\nhash_fallback: ip", ip)
	f("hash_on: consumer\nhash_fallback: header\nhash_fallback_header: X-Tenant", func(i int) (string, []string) {
		return fmt.Sprintf("/%d", i%2), []string{"X-Tenant", fmt.Sprint(i)}
	})
	f("hash_on: header\nhash_on_header: X-User\nhash_fallback: query_arg\nhash_fallback_query_arg: user", func(i int) (string, []string) {
		return fmt.Sprintf("/?user=%d", i), nil
	})
	f("hash_on: header\nhash_on_header: X-User\nhash_fallback: path", func(i int) (string, []string) { return fmt.Sprintf("/%d", i), nil })
	f("hash_on: header\nhash_on_header: X-User\nhash_fallback: uri_capture\nhash_fallback_uri_capture: tenant", func(i int) (string, []string) {
		return fmt.Sprintf("/tenants/t%d/x", i), nil
	})
	f("hash_on: header\nhash_on_header: X-User\nhash_fallback: cookie\nhash_on_cookie: sid", func(i int) (string, []string) {
		return "/", []string{"Cookie", fmt.Sprintf("sid=%d", i)}
	})
}

// Where nothing that is hashed on is there, requests spread over all targets. In Kong
// all of them go to the one that the empty text leads to.
func TestNothingToHash(t *testing.T) {
	for _, settings := range []string{
		"hash_on: header\nhash_on_header: X-User", "hash_on: consumer", "hash_on: query_arg\nhash_on_query_arg: user",
		"hash_on: uri_capture\nhash_on_uri_capture: tenant", "hash_on: cookie\nhash_on_cookie: sid", "hash_on: none",
	} {
		g := newStage(t).start(balanced("algorithm: consistent-hashing\n"+settings, ""))
		found := map[string]int{}
		for range 60 { // that one target of three gets none of them has a chance of 3*(2/3)^60
			found[g.get200("/")]++
		}
		if len(found) != 3 {
			t.Errorf("%s: %v", settings, found)
		}
	}
}

// A client without the cookie is given one, which leads it to where its first request
// went.
func TestHashCookie(t *testing.T) {
	g := newStage(t).start(balanced("algorithm: consistent-hashing\nhash_on: cookie\nhash_on_cookie: sid\nhash_on_cookie_path: /shop", ""))
	for range 10 {
		first := g.send(noRedirects, "GET", "/", http.NoBody)
		cookies := first.resp.Cookies()
		if len(cookies) != 1 || cookies[0].Name != "sid" || cookies[0].Path != "/shop" || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteLaxMode {
			t.Fatalf("cookies %v", first.resp.Header["Set-Cookie"])
		}
		for range 3 {
			next := g.send(noRedirects, "GET", "/", http.NoBody, "Cookie", "sid="+cookies[0].Value)
			if got, want := next.origin(t), first.origin(t); got != want {
				t.Errorf("went to %s, before to %s", got, want)
			}
			if c := next.resp.Header["Set-Cookie"]; c != nil {
				t.Errorf("given another cookie: %v", c)
			}
		}
	}
}

// A target of weight 0 gets no new requests; those under way finish, and its
// connections are not cut.
func TestWeightZeroDrains(t *testing.T) {
	s := newStage(t)
	text := balanced("", "")
	g := s.start(text)
	for _, name := range targets {
		s.cast(name, role{hold: true})
	}
	var under []*pending
	for i := range 3 {
		under = append(under, g.background("/"))
		s.awaitActive("", i+1)
	}
	g.apply(strings.Replace(text, `{target: "a:1"}`, `{target: "a:1", weight: 0}`, 1))
	s.cast("b:1", role{})
	s.cast("c:1", role{})
	for range 20 {
		if got := g.get200("/"); got == "a:1" {
			t.Error("a request went to the target of weight 0")
		}
	}
	s.cast("a:1", role{})
	if got := statuses(t, under); fmt.Sprint(got) != "[200 200 200]" {
		t.Errorf("under way: %v", got)
	}
	if n := s.hits("a:1"); n != 1 {
		t.Errorf("%d requests at the target of weight 0, want 1", n)
	}
	g.apply(text)
	found := map[string]bool{}
	for range 30 {
		found[g.get200("/")] = true
	}
	if !found["a:1"] {
		t.Error("with its weight back the target gets nothing")
	}
}

// Two services over one upstream share its turns, health and connections, each with
// settings of its own.
func TestServicesShareAnUpstream(t *testing.T) {
	s := newStage(t)
	s.counts = true
	g := s.start(balanced("healthchecks: {passive: {unhealthy: {http_failures: 1}}}", "retries: 0") + `
- name: other
  host: u
  path: /base
  retries: 0
  routes: [{name: o, paths: [/other]}]
`)
	s.cast("a:1", role{status: 500})
	c := kept(t)
	for range 6 { // until one has been at a:1
		g.send(c, "GET", "/", http.NoBody)
	}
	g.await("a:1", "unhealthy")
	for range 20 {
		a := g.send(c, "GET", "/other/x", http.NoBody)
		if e := echoed(t, a.body); e.Origin == "a:1" || e.URI != "/base/x" {
			t.Errorf("%+v", e)
		}
	}
	for _, name := range targets {
		s.look(name, func(a *actor) {
			if a.most > 1 {
				t.Errorf("%d connections to %s for one request at a time", a.most, name)
			}
		})
	}
}

// The least loaded target gets the next request, by weight.
func TestLeastConnectionsByWeight(t *testing.T) {
	s := newStage(t)
	g := s.start(strings.Replace(balanced("algorithm: least-connections", ""), `{target: "a:1"}`, `{target: "a:1", weight: 300}`, 1))
	for _, name := range targets {
		s.cast(name, role{hold: true})
	}
	var under []*pending
	for i := range 10 {
		under = append(under, g.background("/"))
		s.awaitActive("", i+1)
	}
	for name, want := range map[string]int{"a:1": 6, "b:1": 2, "c:1": 2} {
		if n := s.hits(name); n != want {
			t.Errorf("%d requests under way at %s, want %d", n, name, want)
		}
		s.cast(name, role{})
	}
	statuses(t, under)
}
