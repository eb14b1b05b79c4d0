package engine_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// results returns how often the cache has said what, without zeros.
func (g *gateway) results() map[string]int {
	said := map[string]int{}
	for _, r := range []string{"hit", "miss", "refresh", "stale", "bypass"} {
		if n := g.cacheCount("requests_total", `result="`+r+`"`); n > 0 {
			said[r] = n
		}
	}
	return said
}

// Every request is counted once, as what its client was told.
func TestCacheMetrics(t *testing.T) {
	s := newStage(t)
	g := s.start(keeping("rfc: true, serve_stale_on_error: true"))
	s.cast("o:1", role{answer: sized("0123456789", "Surrogate-Key", "k", "Etag", `"e"`)})
	g.fill("/a", "/b", "/c")
	for range 4 {
		g.ask("/a")
	}
	tells(t, g.results(), "hit:4 miss:3")
	if n := g.cacheCount("stored_total"); n != 3 {
		t.Errorf("%d stored", n)
	}
	if n := g.cacheCount("served_bytes_total"); n != 40 {
		t.Errorf("%d bytes served", n)
	}
	if n := g.cacheCount("entries"); n != 3 {
		t.Errorf("%d entries", n)
	}
	g.Purge(softPurge)
	g.ask("/a")
	tells(t, g.results(), "hit:4 miss:3 refresh:1")
	s.cast("o:1", role{refuse: true})
	g.ask("/b")
	tells(t, g.results(), "hit:4 miss:3 refresh:1 stale:1")
	a := g.send(noRedirects, "GET", "/d", http.NoBody, "Host", cacheHost)
	if a.status() != 502 {
		t.Errorf("%d", a.status())
	}
	tells(t, g.results(), "hit:4 miss:4 refresh:1 stale:1")
	s.cast("o:1", role{answer: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Etag", `"e"`)
		w.WriteHeader(304)
	}})
	g.ask("/c")
	tells(t, g.results(), "hit:4 miss:4 refresh:2 stale:1")
	if n := g.cacheCount("not_modified_total"); n != 1 {
		t.Errorf("%d not modified", n)
	}
	g.ask("/a", "If-None-Match", `"e"`)
	tells(t, g.results(), "hit:5 miss:4 refresh:2 stale:1")
	g.Purge(&pipeline.Purge{})
	if n := g.cacheCount("purged_total"); n != 3 {
		t.Errorf("%d purged", n)
	}
}

// What passes by is counted by its reason.
func TestCacheMetricsOfBypasses(t *testing.T) {
	f := func(settings, reason string, request []string, headers ...string) {
		t.Helper()
		s := newStage(t)
		text := keeping(settings)
		if strings.HasPrefix(settings, "content_type") {
			text = strings.Replace(text, `content_type: ["*/*"], `, "", 1)
		}
		g := s.start(text)
		s.cast("o:1", role{answer: sized("body", headers...)})
		if len(headers) > 0 && headers[0] == "status" {
			s.cast("o:1", failing(418))
		}
		a := g.send(noRedirects, request[0], "/x", http.NoBody, append([]string{"Host", cacheHost}, request[1:]...)...)
		if a.err != nil {
			t.Fatal(a.err)
		}
		says := a.resp.Header.Get("X-Cache-Status")
		if n := g.cacheCount("bypasses_total", `reason="`+reason+`"`); says != "Bypass" || n != 1 {
			var b strings.Builder
			g.WriteMetrics(&b)
			found := "none"
			for line := range strings.Lines(b.String()) {
				if strings.HasPrefix(line, "sluice_cache_bypasses_total") {
					found = strings.TrimSpace(line)
				}
			}
			t.Errorf("{%s} %v %v: %s, %d for %q; counted is %s", settings, request, headers, says, n, reason, found)
		}
		tells(t, g.results(), "bypass:1")
	}
	const kong, directed, rfc = "cache_ttl: 300", "cache_control: true", "rfc: true"
	get := []string{"GET"}
	f(kong, "method", []string{"POST"})
	f(kong, "status", get, "status", "418")
	f("content_type: [text/html]", "content-type", get)
	f(kong, "set-cookie", get, "Set-Cookie", "a=b")
	f(kong, "authorization", []string{"GET", "Authorization", "x"})
	f(kong, "condition", []string{"GET", "If-Match", `"x"`})
	f(kong, "event-stream", get, "Content-Type", "text/event-stream")
	f(directed, "request-no-store", []string{"GET", "Cache-Control", "no-store"})
	f(directed, "request-no-cache", []string{"GET", "Cache-Control", "no-cache"})
	f(directed, "no-store", get, "Cache-Control", "no-store")
	f(directed, "private", get, "Cache-Control", "private")
	f(directed, "no-cache", get, "Cache-Control", "no-cache")
	f(directed, "not-fresh", get, "Cache-Control", "max-age=0")
	f(rfc, "authorization", []string{"GET", "Authorization", "x"}, "Cache-Control", "max-age=60")
	f(rfc, "vary", get, "Vary", "*")
	f(kong, "surrogate-keys", get, "Surrogate-Key", strings.Repeat("k ", 5)+"a b c d e f g h i j k l m n o p q r s t u v w x y z")
	f("cache_ttl: 300, memory: {size: 4m, max_object_size: 1}", "too-large", get)
}

// Requests that waited for another, who lost patience and who read along are counted.
func TestCacheMetricsOfFlights(t *testing.T) {
	s := newStage(t)
	g := s.start(keeping("cache_ttl: 300"))
	s.cast("o:1", role{hold: true, answer: sized("x")})
	list := g.crowd(10, "/x", nil)
	g.awaitWaiting(9)
	s.cast("o:1", role{answer: sized("x")})
	allGet(t, list, "x")
	tells(t, g.results(), "hit:9 miss:1")
	p := newTap(pattern(200<<10, 81), true)
	s.cast("o:1", role{answer: p.answer})
	list = g.crowd(5, "/y", nil)
	g.awaitWaiting(13)
	close(p.goes)
	allGet(t, list, p.body)
	tells(t, g.results(), "hit:13 miss:2")
	if n := g.cacheCount("coalesced_late_total"); n != 0 {
		t.Errorf("%d late", n)
	}
}

// Ages are counted in buckets that add up.
func TestCacheMetricsOfAges(t *testing.T) {
	s := newStage(t)
	g := s.start(keeping("rfc: true"))
	for path, age := range map[string]string{"/0": "0", "/5": "5", "/50": "50", "/5000": "5000", "/100000": "100000"} {
		s.cast("o:1", role{answer: sized("x", "Age", age, "Cache-Control", "max-age=200000")})
		g.fill(path)
		g.ask(path)
	}
	for le, want := range map[string]int{"1": 1, "10": 2, "60": 3, "600": 3, "3600": 3, "21600": 4, "86400": 4, "+Inf": 5} {
		if n := g.cacheCount("age_seconds_bucket", `le="`+le+`"`); n != want {
			t.Errorf("up to %s s: %d, want %d", le, n, want)
		}
	}
	if n := g.cacheCount("age_seconds_count"); n != 5 {
		t.Errorf("%d in all", n)
	}
}

// What is asked for beside requests, and what the store refuses, is counted.
func TestCacheMetricsOfBackground(t *testing.T) {
	s := newStage(t)
	g := s.start(keeping("cache_ttl: 300, stale_while_revalidate: 60"))
	s.cast("o:1", role{answer: sized("x")})
	g.fill("/x")
	g.Purge(softPurge)
	g.expects("/x", "Stale", 200, "x")
	eventually(t, "it is asked for anew", func() bool { return g.cacheCount("stored_total") == 2 })
	if n := g.cacheCount("background_fetches_total"); n != 1 {
		t.Errorf("%d in the background", n)
	}
	tells(t, g.results(), "miss:1 stale:1")
}
