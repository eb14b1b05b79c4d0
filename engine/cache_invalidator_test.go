package engine_test

import (
	"net/http"
	"testing"
)

// invalidating is a document with two services whose answers are kept, and
// custom-cache-invalidator.
func invalidating(settings, cache string) string {
	return library(cache) + "- {name: custom-cache-invalidator, config: {" + settings + "}}\n"
}

// A request that changes something takes back what is kept of it, where it succeeds.
func TestCacheInvalidator(t *testing.T) {
	all := []string{"/one", "/one/a", "/one/a?x=1", "/one/a/b", "/one/a/b/c", "/one/a/bb", "/one/b", "/two", "/two/a"}
	f := func(settings, method, path string, status int, keys string, gone ...string) {
		t.Helper()
		s := newStage(t)
		g := s.start(invalidating(settings, "cache_ttl: 300"))
		s.cast("o:1", role{answer: func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				tagged(w, r)
				return
			}
			if keys != "" {
				w.Header().Set("Surrogate-Key", keys)
				w.Header().Set("Cache-Tag", "none, "+keys)
			}
			w.WriteHeader(status)
		}})
		g.fill(all...)
		if a := g.send(noRedirects, method, path, http.NoBody, "Host", cacheHost); a.status() != status {
			t.Fatalf("%s %s: %d %v", method, path, a.status(), a.err)
		}
		want := map[string]bool{}
		for _, path := range gone {
			want[path] = true
		}
		for _, path := range all {
			if got := s.asked(g, path); got != want[path] {
				t.Errorf("{%s} %s %s %d: %s is gone: %v", settings, method, path, status, path, got)
			}
		}
	}
	const alone = "propagate: false"
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		f(alone, method, "/one/a", 200, "", "/one/a", "/one/a?x=1")
	}
	f(alone, "PUT", "/one/a?y=2", 201, "", "/one/a", "/one/a?x=1")
	f(alone, "POST", "/one/a", 303, "last-b", "/one/a", "/one/a?x=1")
	for _, status := range []int{400, 404, 409, 500, 503} {
		f("", "POST", "/one/a", status, "all")
	}
	f("", "HEAD", "/one/a", 200, "all")
	f("", "OPTIONS", "/one/a", 200, "all")
	f("invalidate_on: [OPTIONS]", "POST", "/one/a", 200, "all")
	f("invalidate_on: [OPTIONS], propagate: false", "OPTIONS", "/one/a", 200, "", "/one/a", "/one/a?x=1")
	// With what lies above and below it.
	f("", "DELETE", "/one/a/b", 204, "", "/one", "/one/a", "/one/a?x=1", "/one/a/b", "/one/a/b/c")
	f("", "POST", "/one", 200, "", "/one", "/one/a", "/one/a?x=1", "/one/a/b", "/one/a/b/c", "/one/a/bb", "/one/b")
	// With what has a key in common with the answer, at any service.
	f("", "PATCH", "/one/b", 200, "last-c first-two", "/one", "/one/b", "/one/a/b/c", "/two", "/two/a")
}

// A service that cannot be reached has changed nothing.
func TestCacheInvalidatorOnFault(t *testing.T) {
	s := newStage(t)
	g := s.start(invalidating("", "cache_ttl: 300"))
	s.cast("o:1", role{answer: tagged})
	g.fill("/one/a")
	s.cast("o:1", role{refuse: true})
	if a := g.send(noRedirects, "POST", "/one/a", http.NoBody, "Host", cacheHost); a.status() != 502 {
		t.Errorf("%d", a.status())
	}
	g.expects("/one/a", "Hit", 200, "/one/a")
}

// With soft what is taken back serves while the service fails.
func TestCacheInvalidatorSoft(t *testing.T) {
	s := newStage(t)
	g := s.start(invalidating("soft: true", "cache_ttl: 300, serve_stale_on_error: true"))
	s.cast("o:1", role{answer: tagged})
	g.fill("/one", "/one/a", "/one/a/b", "/two/c")
	s.cast("o:1", role{answer: sized("", "Surrogate-Key", "last-c")})
	if a := g.send(noRedirects, "PUT", "/one/a", http.NoBody, "Host", cacheHost); a.status() != 200 {
		t.Errorf("%d", a.status())
	}
	s.cast("o:1", role{refuse: true})
	for _, path := range []string{"/one", "/one/a", "/one/a/b", "/two/c"} {
		g.expects(path, "Stale", 200, path)
	}
	s.cast("o:1", role{answer: tagged})
	for _, path := range []string{"/one", "/one/a", "/one/a/b", "/two/c"} {
		g.expects(path, "Refresh", 200, path)
	}
}

// What was asked for before a change and comes after it is not kept.
func TestCacheInvalidatorWhileAsking(t *testing.T) {
	s := newStage(t)
	g := s.start(invalidating("", "cache_ttl: 300"))
	s.cast("o:1", role{hold: true, answer: sized("before")})
	var held chan struct{}
	p := g.background("/one/a", "Host", cacheHost)
	s.awaitActive("o:1", 1)
	s.look("o:1", func(a *actor) { a.role, a.held, held = role{answer: sized("after")}, nil, a.held })
	if a := g.send(noRedirects, http.MethodPost, "/one/a", http.NoBody, "Host", cacheHost); a.status() != 200 {
		t.Errorf("%d %v", a.status(), a.err)
	}
	close(held)
	allGet(t, []*pending{p}, "before")
	g.expects("/one/a", "Miss", 200, "after")
}

// RFC 9111 section 4.4 in the cache itself: a change takes back its target, Location and
// Content-Location, in the modes that follow it.
func TestCacheInvalidatesByRule(t *testing.T) {
	f := func(settings, method string, status int, location string, gone ...string) {
		t.Helper()
		s := newStage(t)
		g := s.start(library(settings))
		s.cast("o:1", role{answer: func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				tagged(w, r)
				return
			}
			w.Header().Set("Location", location)
			w.WriteHeader(status)
		}})
		all := []string{"/one/a", "/one/a?x=1", "/one/c", "/two/a"}
		g.fill(all...)
		g.send(noRedirects, method, "/one/a", http.NoBody, "Host", cacheHost)
		want := map[string]bool{}
		for _, path := range gone {
			want[path] = true
		}
		for _, path := range all {
			if got := s.asked(g, path); got != want[path] {
				t.Errorf("{%s} %s %d %s: %s is gone: %v", settings, method, status, location, path, got)
			}
		}
	}
	f("rfc: true", "POST", 201, "/one/c", "/one/a", "/one/a?x=1", "/one/c")
	f("rfc: true", "POST", 201, "http://"+cacheHost+"/one/c?y", "/one/a", "/one/a?x=1", "/one/c")
	f("rfc: true", "POST", 201, "http://other.test/one/c", "/one/a", "/one/a?x=1")
	f("cache_control: true", "DELETE", 204, "", "/one/a", "/one/a?x=1")
	f("rfc: true", "PUT", 400, "/one/c")
	f("rfc: true", "OPTIONS", 200, "/one/c")
	f("cache_ttl: 300", "PUT", 200, "/one/c")
}
