package engine_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// softPurge makes all answers stale.
var softPurge = &pipeline.Purge{Soft: true}

// library is a document with two services, one route of the first for the path /b below
// it, and a cache of its own settings for both.
func library(settings string) string {
	return `
_format_version: "3.0"
services:
- {name: one, url: "http://o:1", routes: [{name: r1, paths: [/one], strip_path: false}, {name: r2, paths: [/one/b], strip_path: false}]}
- {name: two, url: "http://o:1", routes: [{name: r3, paths: [/two], strip_path: false}, {name: r4, paths: [/], hosts: [root.test]}]}
plugins:
- {name: proxy-cache, instance_name: cache, config: {content_type: ["*/*"], ` + settings + `}}
`
}

// tagged answers with what the path's last segment says in Surrogate-Key, and its first
// in Cache-Tag.
func tagged(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	sized(r.RequestURI, "Surrogate-Key", "all last-"+parts[len(parts)-1], "Cache-Tag", "first-"+parts[0]+", tag of two words")(w, r)
}

// A purge takes what meets all of its conditions, and nothing else.
func TestCachePurge(t *testing.T) {
	s := newStage(t)
	g := s.start(library("cache_ttl: 300"))
	s.cast("o:1", role{answer: tagged})
	ids := document(t, library("cache_ttl: 300"))
	route := map[string]string{}
	for _, r := range ids.Routes {
		route[r.Name] = r.ID
	}
	services := map[string]string{}
	for _, v := range ids.Services {
		services[v.Name] = v.ID
	}
	all := []string{"/one", "/one/a", "/one/a?x=1", "/one/a?x=2", "/one/a/", "/one/aa", "/one/a/b", "/one/b", "/one/b/a", "/one/A", "/two", "/two/a"}
	f := func(p *pipeline.Purge, gone ...string) {
		t.Helper()
		g.Purge(&pipeline.Purge{})
		g.fill(all...)
		if n := g.Purge(p); n != len(gone) {
			t.Errorf("%+v: %d purged, want %d", p, n, len(gone))
		}
		want := map[string]bool{}
		for _, path := range gone {
			want[path] = true
		}
		for _, path := range all {
			if s.asked(g, path) != want[path] {
				t.Errorf("%+v: %s is gone: %v", p, path, !want[path])
			}
		}
	}
	f(&pipeline.Purge{}, all...)
	f(&pipeline.Purge{Path: "/"}, all...)
	f(&pipeline.Purge{Path: "/one/a"}, "/one/a", "/one/a?x=1", "/one/a?x=2", "/one/a/", "/one/a/b")
	f(&pipeline.Purge{Path: "/one/a/"}, "/one/a", "/one/a?x=1", "/one/a?x=2", "/one/a/", "/one/a/b")
	f(&pipeline.Purge{Path: "/one/a", Exact: true}, "/one/a", "/one/a?x=1", "/one/a?x=2", "/one/a/")
	f(&pipeline.Purge{Path: "/one/aa"}, "/one/aa")
	f(&pipeline.Purge{Path: "/on"})
	f(&pipeline.Purge{Path: "/one/a/b/c"})
	f(&pipeline.Purge{Keys: []string{"last-a"}}, "/one/a", "/one/a?x=1", "/one/a?x=2", "/one/a/", "/one/b/a", "/two/a")
	f(&pipeline.Purge{Keys: []string{"first-two"}}, "/two", "/two/a")
	f(&pipeline.Purge{Keys: []string{"tag of two words"}}, all...)
	f(&pipeline.Purge{Keys: []string{"tag"}})
	f(&pipeline.Purge{Keys: []string{"Last-a"}})
	f(&pipeline.Purge{Keys: []string{"nothing", "last-aa", "last-b"}}, "/one/aa", "/one/a/b", "/one/b")
	f(&pipeline.Purge{Route: route["r2"]}, "/one/b", "/one/b/a")
	f(&pipeline.Purge{Service: services["two"]}, "/two", "/two/a")
	f(&pipeline.Purge{Plugin: ids.Plugins[0].ID}, all...)
	f(&pipeline.Purge{Plugin: "another"})
	// Conditions are all to be met.
	f(&pipeline.Purge{Service: services["one"], Keys: []string{"last-a"}, Path: "/one/b"}, "/one/b/a")
	f(&pipeline.Purge{Service: services["two"], Path: "/one"})
	f(&pipeline.Purge{Route: route["r1"], Keys: []string{"last-a", "last-b"}, Path: "/one/a", Exact: true}, "/one/a", "/one/a?x=1", "/one/a?x=2", "/one/a/")
	f(&pipeline.Purge{Route: route["r1"], Service: services["two"]})
	// One entry by its key.
	resp, _ := g.ask("/two/a")
	f(&pipeline.Purge{Entry: resp.Header.Get("X-Cache-Key")}, "/two/a")
	f(&pipeline.Purge{Entry: strings.ToUpper(resp.Header.Get("X-Cache-Key")[:32])}, "/two/a")
	f(&pipeline.Purge{Entry: "no key"})
	f(&pipeline.Purge{Entry: resp.Header.Get("X-Cache-Key"), Path: "/one"})
}

// Paths deeper than what is told apart are purged with their neighbours, never less.
func TestCachePurgeOfDeepPaths(t *testing.T) {
	s := newStage(t)
	g := s.start(library("cache_ttl: 300"))
	s.cast("o:1", role{answer: tagged})
	deep := "/one"
	var paths []string
	for i := range 14 {
		deep += fmt.Sprint("/", i)
		paths = append(paths, deep, deep+"/", deep+"x")
	}
	for i := 0; i < len(paths); i += 3 {
		g.Purge(&pipeline.Purge{})
		g.fill(paths...)
		g.Purge(&pipeline.Purge{Path: paths[i]})
		for n, path := range paths {
			below := strings.HasPrefix(path+"/", paths[i]+"/")
			if gone := s.asked(g, path); below && !gone || gone && !below && (i < 18 || n < 15) {
				t.Errorf("purge of %s: %s is gone: %v", paths[i], path, gone)
			}
		}
		g.Purge(&pipeline.Purge{})
		g.fill(paths...)
		g.Purge(&pipeline.Purge{Path: paths[i], Exact: true})
		for _, path := range paths {
			if gone := s.asked(g, path); gone != (strings.TrimSuffix(path, "/") == paths[i]) {
				t.Errorf("purge of exactly %s: %s is gone: %v", paths[i], path, gone)
			}
		}
	}
}

// With ignore_uri_case a path is purged in whatever letters it is written.
func TestCachePurgeIgnoresCase(t *testing.T) {
	s := newStage(t)
	g := s.start(library("cache_ttl: 300, ignore_uri_case: true"))
	s.cast("o:1", role{answer: tagged})
	for _, p := range []*pipeline.Purge{{Path: "/one/Q"}, {Path: "/one/q", Exact: true}, {Path: "/one/q"}} {
		g.fill("/one/Q", "/one/c")
		if s.asked(g, "/one/q") {
			t.Error("paths that differ in case are not one")
		}
		if n := g.Purge(p); n != 1 {
			t.Errorf("%+v: %d purged", p, n)
		}
		g.Purge(&pipeline.Purge{Path: "/one/c"})
		if !s.asked(g, "/one/Q") {
			t.Errorf("%+v does not purge it", p)
		}
		g.Purge(&pipeline.Purge{})
	}
}

// All answers of a path go with it: of every host, query, method, variant and consumer.
func TestCachePurgeTakesVariants(t *testing.T) {
	s := newStage(t)
	g := s.start(library("rfc: true"))
	s.cast("o:1", role{answer: func(w http.ResponseWriter, r *http.Request) {
		sized(r.Header.Get("Accept-Language"), "Vary", "Accept-Language", "Surrogate-Key", "k")(w, r)
	}})
	for _, p := range []*pipeline.Purge{{Path: "/one"}, {Path: "/one", Exact: true}, {Keys: []string{"k"}}, {}} {
		for _, host := range []string{"c.test", "d.test"} {
			for _, l := range []string{"de", "en"} {
				for _, says := range []string{"Miss", "Hit"} {
					g.expects("/one", says, 200, l, "Host", host, "Accept-Language", l)
				}
			}
		}
		g.Purge(p)
		for _, host := range []string{"c.test", "d.test"} {
			for _, l := range []string{"de", "en"} {
				if !s.asked(g, "/one", "Host", host, "Accept-Language", l) {
					t.Errorf("%+v: %s of %s is still there", p, l, host)
				}
			}
		}
		g.Purge(&pipeline.Purge{})
	}
}

// An entry purged softly is asked for again, and serves while that fails.
func TestCacheSoftPurge(t *testing.T) {
	s := newStage(t)
	g := s.start(library("cache_ttl: 300, serve_stale_on_error: true"))
	s.cast("o:1", role{answer: tagged})
	g.fill("/one/a", "/one/c")
	if n := g.Purge(&pipeline.Purge{Path: "/one/a", Soft: true}); n != 1 {
		t.Errorf("%d purged", n)
	}
	s.cast("o:1", failing(503))
	g.expects("/one/a", "Stale", 200, "/one/a")
	g.expects("/one/c", "Hit", 200, "/one/c")
	s.cast("o:1", role{answer: tagged})
	g.expects("/one/a", "Refresh", 200, "/one/a")
	g.expects("/one/a", "Hit", 200, "/one/a")
	g.Purge(&pipeline.Purge{Path: "/one/a", Soft: true})
	g.Purge(&pipeline.Purge{Path: "/one/a"})
	s.cast("o:1", failing(503))
	g.expects("/one/a", "Bypass", 503, "")
}

// What is asked for before a purge is kept by nobody, and not given to who asks after it.
func TestCachePurgeWhileAsking(t *testing.T) {
	f := func(name string, p *tap, held bool) {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			g := s.start(keeping("cache_ttl: 300"))
			s.cast("o:1", role{answer: p.answer, hold: held})
			before := []*pending{g.background("/x", "Host", cacheHost)}
			if held {
				s.awaitActive("o:1", 1)
			} else {
				p.await(t)
			}
			before = append(before, g.crowd(5, "/x", nil)...)
			g.awaitWaiting(5)
			g.Purge(&pipeline.Purge{Path: "/x"})
			s.look("o:1", func(a *actor) { a.role = role{answer: sized("new")} }) // for who comes now
			after := g.crowd(5, "/x", nil)
			eventually(t, "who came after the purge waits or asks", func() bool { return g.cacheCount("coalesced_total") == 10 || s.hits("o:1") > 1 })
			if held {
				s.cast("o:1", role{answer: sized("new")})
			}
			close(p.goes)
			for i, pending := range before {
				if a := pending.wait(t); a.err != nil || a.body != p.body && a.body != "new" {
					t.Errorf("request %d: %d, %d bytes, %v", i, a.status(), len(a.body), a.err)
				}
			}
			for i, pending := range after {
				if a := pending.wait(t); a.body != "new" {
					t.Errorf("request %d after the purge got what was asked for before it: %d, %d bytes, %v", i, a.status(), len(a.body), a.err)
				}
			}
			if _, body := g.ask("/x"); body != "new" {
				t.Error("what was asked for before the purge is kept")
			}
		})
	}
	f("small", newTap(pattern(800, 51), true), true)
	f("large", newTap(pattern(300<<10, 52), true), true)
	f("streamed", newTap(pattern(300<<10, 53), true), false)
	f("chunked", newTap(pattern(300<<10, 54), false), false)
}

// A purge while many wait for one request costs one more, not one for each of them.
func TestCachePurgeOfHotKey(t *testing.T) {
	for kind, answer := range map[string]http.HandlerFunc{"small": sized("before"), "large": sized(pattern(100<<10, 56))} {
		s := newStage(t)
		g := s.start(keeping("cache_ttl: 300, coalesce_timeout: 20000"))
		s.cast("o:1", role{hold: true, answer: answer})
		list := g.crowd(200, "/x", nil)
		g.awaitWaiting(199)
		g.Purge(&pipeline.Purge{Path: "/x"})
		s.cast("o:1", role{answer: sized("after")})
		for _, p := range list {
			if a := p.wait(t); a.status() != 200 {
				t.Errorf("%s: %d %v", kind, a.status(), a.err)
			}
		}
		if n := s.hits("o:1"); n != 2 {
			t.Errorf("%s: %d requests at the origin", kind, n)
		}
		g.expects("/x", "Hit", 200, "after")
	}
}

// Purges under load: what is given after a purge was asked for after it.
func TestCachePurgeUnderLoad(t *testing.T) {
	s := newStage(t)
	g := s.start(keeping("cache_ttl: 300"))
	var version int
	s.cast("o:1", role{answer: func(w http.ResponseWriter, r *http.Request) {
		s.look("o:1", func(*actor) { sized(strconv.Itoa(version))(w, r) })
	}})
	stop := make(chan struct{})
	done := make(chan struct{})
	for range 8 {
		go func() {
			c := kept(t)
			for {
				select {
				case <-stop:
					done <- struct{}{}
					return
				default:
					g.send(c, http.MethodGet, "/x", http.NoBody, "Host", cacheHost)
				}
			}
		}()
	}
	c := kept(t)
	for i := range 300 {
		s.look("o:1", func(*actor) { version = i })
		g.Purge(&pipeline.Purge{Path: "/x", Exact: i%2 == 0})
		a := g.send(c, http.MethodGet, "/x", http.NoBody, "Host", cacheHost)
		if a.body != strconv.Itoa(i) {
			t.Errorf("after purge %d: %q, %v", i, a.body, a.err)
		}
	}
	close(stop)
	for range 8 {
		<-done
	}
}

// An answer is shown to the operator as it is given to clients.
func TestCacheKeptAnswer(t *testing.T) {
	s := newStage(t)
	g := s.start(library("cache_ttl: 300"))
	ids := document(t, library("cache_ttl: 300"))
	s.cast("o:1", role{answer: sized(pattern(100<<10, 55), "X-Of-Service", "yes")})
	resp := g.expects("/one/a", "Miss", 200, pattern(100<<10, 55))
	eventually(t, "it is kept", func() bool { return g.cacheCount("stored_total") == 1 })
	key := resp.Header.Get("X-Cache-Key")
	for _, plugin := range []string{"", ids.Plugins[0].ID} {
		a, ok := g.KeptAnswer(key, plugin)
		if !ok || a.Key != key || a.Status != 200 || string(a.Body) != pattern(100<<10, 55) || a.TTL != 300 || a.Stored == 0 {
			t.Fatalf("%q: %v, %d, %d bytes, ttl %d", plugin, ok, a.Status, len(a.Body), a.TTL)
		}
		if text := fmt.Sprint(a.Fields); !strings.Contains(text, "[X-Of-Service yes]") || strings.Contains(text, "X-Cache") {
			t.Errorf("%s", text)
		}
	}
	for _, wrong := range [][2]string{{"", ""}, {"zz", ""}, {key[:20], ""}, {strings.Repeat("0", 64), ""}, {key, "another"}} {
		if _, ok := g.KeptAnswer(wrong[0], wrong[1]); ok {
			t.Errorf("%q is found", wrong)
		}
	}
	if n := g.Purge(&pipeline.Purge{Entry: key, Plugin: ids.Plugins[0].ID}); n != 1 {
		t.Errorf("%d purged", n)
	}
	if _, ok := g.KeptAnswer(key, ""); ok {
		t.Error("a purged answer is shown")
	}
}
