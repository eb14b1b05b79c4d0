package engine_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

const warnsStale = `110 - "Response is Stale"`

// fails are the ways in which a service fails, with what is answered where nothing is kept.
var fails = []struct {
	name   string
	role   role
	status int
}{
	{"refused", role{refuse: true}, 502},
	{"mute", role{mute: true}, 504},
	{"timeout", role{hold: true}, 504},
	{"dropped", role{drop: true}, 502},
	{"500", failing(500), 500},
	{"502", failing(502), 502},
	{"503", failing(503), 503},
	{"504", failing(504), 504},
}

// What is kept is given while the service fails, in whatever way, and no longer.
func TestCacheStaleOnError(t *testing.T) {
	for mode, settings := range map[string]string{"kong": "cache_ttl: 300", "directed": "cache_control: true", "rfc": "rfc: true"} {
		s := newStage(t)
		g := s.start(keeping(settings+", serve_stale_on_error: true", "read_timeout: 150\nconnect_timeout: 150"))
		paths := map[string]string{"/small": "small", "/large": pattern(100<<10, 31)}
		good := role{answer: func(w http.ResponseWriter, r *http.Request) { sized(paths[r.URL.Path])(w, r) }}
		s.cast("o:1", good)
		g.fill("/small", "/large")
		eventually(t, "both are kept", func() bool { return g.cacheCount("stored_total") == 2 })
		for _, f := range fails {
			g.Purge(softPurge)
			s.cast("o:1", f.role)
			for path, body := range paths {
				resp := g.expects(path, "Stale", 200, body)
				if got := resp.Header.Get("Warning"); got != warnsStale || resp.Header.Get("Age") == "" {
					t.Errorf("%s, %s: Warning %q, Age %q", mode, f.name, got, resp.Header.Get("Age"))
				}
			}
			if a := g.send(noRedirects, "GET", "/other", http.NoBody, "Host", cacheHost); a.status() != f.status {
				t.Errorf("%s, %s: what is not kept is answered %d, want %d", mode, f.name, a.status(), f.status)
			}
		}
		s.cast("o:1", good)
		for path, body := range paths {
			if resp := g.expects(path, "Refresh", 200, body); resp.Header.Get("Warning") != "" {
				t.Errorf("%s: a fresh answer has Warning", mode)
			}
			eventually(t, path+" is a hit", func() bool {
				resp, _ := g.ask(path)
				return resp.Header.Get("X-Cache-Status") == "Hit"
			})
		}
	}
}

// Other answers of the service are its answer, and serve_stale_on_error is off by default.
func TestCacheNotStaleOnOtherAnswers(t *testing.T) {
	f := func(settings string, r role, status int) {
		t.Helper()
		s := newStage(t)
		g := s.start(keeping(settings, "read_timeout: 150"))
		s.cast("o:1", role{answer: sized("old")})
		g.fill("/x")
		g.Purge(softPurge)
		s.cast("o:1", r)
		if a := g.send(noRedirects, "GET", "/x", http.NoBody, "Host", cacheHost); a.status() != status || a.resp.Header.Get("X-Cache-Status") == "Stale" {
			t.Errorf("%s: %d %v, want %d", settings, a.status(), a.resp.Header, status)
		}
	}
	const serves = ", serve_stale_on_error: true"
	for _, status := range []int{400, 403, 429, 501, 505} {
		f("cache_ttl: 300"+serves, failing(status), status)
		f("rfc: true"+serves, failing(status), status)
	}
	for _, settings := range cacheModes {
		f(settings, failing(503), 503)
		f(settings, role{refuse: true}, 502)
	}
}

// While the circuit of the service or of its only target is open, and while passive
// checks have put it out, the gateway does not even ask.
func TestCacheStaleWhileCircuitIsOpen(t *testing.T) {
	f := func(name, upstream, service, open string) {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			g := s.start(one(upstream, "retries: 0\n"+service) + "plugins:\n- {name: proxy-cache, config: {content_type: [\"*/*\"], cache_ttl: 300, serve_stale_on_error: true}}\n")
			s.cast("a:1", role{answer: sized("kept")})
			g.fill("/x")
			g.Purge(softPurge)
			s.cast("a:1", role{refuse: true})
			g.expects("/x", "Stale", 200, "kept")
			g.expects("/x", "Stale", 200, "kept")
			g.await(open, map[bool]string{true: "unhealthy", false: "open"}[strings.HasPrefix(upstream, "health")])
			s.cast("a:1", role{answer: sized("new")})
			asked := s.dials("a:1")
			for range 5 {
				if resp := g.expects("/x", "Stale", 200, "kept"); resp.Header.Get("Warning") != warnsStale {
					t.Errorf("Warning %q", resp.Header.Get("Warning"))
				}
			}
			if n := s.dials("a:1"); n != asked {
				t.Errorf("%d dials while the circuit was open", n-asked)
			}
			eventually(t, "the service is asked again", func() bool {
				_, body := g.ask("/x")
				return body == "new"
			})
			g.expects("/x", "Hit", 200, "new")
		})
	}
	const open = "consecutive_failures: 2, open_duration: 0.5"
	f("service", "", "circuit_breaker: {"+open+"}", "s")
	f("target", "circuit_breaker: {"+open+"}", "", "a:1")
	f("passive", "healthchecks: {passive: {open_duration: 0.5, healthy: {successes: 1}, unhealthy: {tcp_failures: 2}}}", "", "a:1")
}

// Stale answers serve for as long as the settings or the answer itself allow.
func TestCacheStaleHasAnEnd(t *testing.T) {
	f := func(settings string, covered bool, headers ...string) {
		t.Helper()
		s := newStage(t)
		g := s.start(keeping(settings))
		s.cast("o:1", role{answer: sized("old", headers...)})
		g.fill("/x")
		s.cast("o:1", failing(503))
		says, status, body := "Bypass", 503, ""
		if covered {
			says, status, body = "Stale", 200, "old"
		}
		g.expects("/x", says, status, body)
	}
	const rfc, serves = "rfc: true", ", serve_stale_on_error: true"
	aged := func(age int, more string) []string {
		return []string{"Cache-Control", "max-age=10" + more, "Age", fmt.Sprint(age), "Etag", `"e"`}
	}
	f(rfc+serves+", stale_if_error: 100", true, aged(100, "")...)
	f(rfc+serves+", stale_if_error: 80", false, aged(100, "")...)
	f(rfc+serves+", stale_if_error: 0, storage_ttl: 500", true, aged(100, "")...)
	f(rfc+", stale_if_error: 100", false, aged(100, "")...)
	// The answer's own word counts for more.
	f(rfc+serves+", stale_if_error: 80", true, aged(100, ", stale-if-error=100")...)
	f(rfc+serves+", stale_if_error: 500", false, aged(100, ", stale-if-error=80")...)
	f(rfc, true, aged(100, ", stale-if-error=100")...)
	f("cache_control: true"+serves, false, aged(100, ", stale-if-error=80")...)
	f("cache_control: true"+serves, true, aged(100, ", stale-if-error=100")...)
	// What may not be given unasked may not be given for an error either.
	for _, never := range []string{", must-revalidate", ", proxy-revalidate", ", s-maxage=10", ", no-cache", ", must-revalidate, stale-if-error=1000"} {
		f(rfc+serves, false, aged(100, never)...)
	}
}

// By the clock: storage_ttl and stale_if_error end what the cache keeps in Kong's mode.
func TestCacheStaleEndsByTheClock(t *testing.T) {
	const serves = "cache_ttl: 1, serve_stale_on_error: true, "
	s := newStage(t)
	var gates []*gateway
	for _, more := range []string{"storage_ttl: 2", "stale_if_error: 1"} {
		gates = append(gates, s.start(keeping(serves+more)))
	}
	s.cast("o:1", role{answer: sized("old")})
	for _, g := range gates {
		g.fill("/x")
	}
	s.cast("o:1", failing(503))
	filled := time.Now()
	eventually(t, "both are stale", func() bool { return time.Since(filled) > 1020*time.Millisecond })
	for _, g := range gates {
		g.expects("/x", "Stale", 200, "old")
	}
	eventually(t, "both are gone", func() bool { return time.Since(filled) > 2050*time.Millisecond })
	for _, g := range gates {
		g.expects("/x", "Bypass", 503, "")
	}
}

// Requests that wait for one that fails get what is kept as well, and do not all ask.
func TestCacheStaleForACrowd(t *testing.T) {
	for _, f := range fails[4:] {
		s := newStage(t)
		g := s.start(keeping("cache_ttl: 300, serve_stale_on_error: true"))
		s.cast("o:1", role{answer: sized("old")})
		g.fill("/x")
		g.Purge(softPurge)
		bad := f.role
		bad.hold = true
		s.cast("o:1", bad)
		list := g.crowd(100, "/x", nil)
		g.awaitWaiting(99)
		s.cast("o:1", f.role)
		tells(t, allGet(t, list, "old"), "Stale:100")
		if n := s.hits("o:1"); n != 2 {
			t.Errorf("%s: %d requests at the origin", f.name, n-1)
		}
	}
}

// With stale_while_revalidate nobody waits: the old answer is given at once, and the
// service is asked once, beside the requests.
func TestCacheStaleWhileRevalidate(t *testing.T) {
	f := func(name, settings string, headers ...string) {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			g := s.start(keeping(settings))
			s.cast("o:1", role{answer: sized("old", headers...)})
			g.fill("/x")
			g.Purge(softPurge)
			s.cast("o:1", role{hold: true, answer: sized("new", headers...)})
			began := time.Now()
			for range 5 {
				if resp := g.expects("/x", "Stale", 200, "old"); resp.Header.Get("Warning") != warnsStale {
					t.Errorf("Warning %q", resp.Header.Get("Warning"))
				}
			}
			tells(t, allGet(t, g.crowd(50, "/x", nil), "old"), "Stale:50")
			if d := time.Since(began); d > 2*time.Second {
				t.Errorf("it took %s", d)
			}
			s.awaitActive("o:1", 1)
			if n := s.hits("o:1"); n != 2 {
				t.Errorf("%d requests at the origin", n-1)
			}
			s.cast("o:1", role{answer: sized("new", headers...)})
			s.awaitHit(g, "/x", "new")
			if n := s.hits("o:1"); n != 2 {
				t.Errorf("%d requests at the origin", n-1)
			}
			// What fails is tried again, and meanwhile the old answer serves.
			g.Purge(softPurge)
			s.cast("o:1", failing(503))
			before := s.hits("o:1")
			eventually(t, "it is asked for twice", func() bool {
				g.expects("/x", "Stale", 200, "new")
				return s.hits("o:1") >= before+2
			})
			s.cast("o:1", role{answer: sized("newest", headers...)})
			s.awaitHit(g, "/x", "newest")
		})
	}
	f("kong", "cache_ttl: 300, stale_while_revalidate: 60, serve_stale_on_error: true")
	f("rfc", "rfc: true, stale_while_revalidate: 60")
	f("its own", "rfc: true", "Cache-Control", "max-age=3600, stale-while-revalidate=60")
	f("vary", "rfc: true, stale_while_revalidate: 60", "Vary", "Accept-Language")
}

// awaitHit waits until a path is answered from the cache with a body.
func (s *stage) awaitHit(g *gateway, path, body string) {
	s.t.Helper()
	eventually(s.t, path+" to be a hit", func() bool {
		resp, got := g.ask(path)
		return resp.Header.Get("X-Cache-Status") == "Hit" && got == body
	})
}

// What is asked for beside requests is asked whether it still stands, and may be large.
func TestCacheRevalidatesBeside(t *testing.T) {
	large := pattern(300<<10, 32)
	s := newStage(t)
	g := s.start(keeping("rfc: true, stale_while_revalidate: 60"))
	s.cast("o:1", role{answer: sized(large, "Etag", `"e"`)})
	g.fill("/x")
	eventually(t, "it is kept", func() bool { return g.cacheCount("stored_total") == 1 })
	var tags []string
	s.cast("o:1", role{answer: func(w http.ResponseWriter, r *http.Request) {
		s.look("o:1", func(*actor) { tags = append(tags, r.Header.Get("If-None-Match")) })
		w.Header().Set("Etag", `"e"`)
		w.Header().Set("Cache-Control", forever)
		w.WriteHeader(http.StatusNotModified)
	}})
	g.Purge(softPurge)
	g.expects("/x", "Stale", 200, large)
	s.awaitHit(g, "/x", large)
	s.look("o:1", func(*actor) {
		if !slices.Equal(tags, []string{`"e"`}) {
			t.Errorf("asked with %q", tags)
		}
	})
	newer := pattern(400<<10, 33)
	s.cast("o:1", role{answer: chunked(newer)})
	g.Purge(softPurge)
	g.expects("/x", "Stale", 200, large)
	s.awaitHit(g, "/x", newer)
	// What is not kept any more is gone.
	s.cast("o:1", role{answer: sized("private", "Cache-Control", "private")})
	g.Purge(softPurge)
	g.expects("/x", "Stale", 200, newer)
	eventually(t, "it is gone", func() bool {
		_, body := g.ask("/x")
		return body == "private"
	})
}
