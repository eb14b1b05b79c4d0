package engine_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// crowdSize is how many clients miss the same answer at the same time.
var crowdSize = map[bool]int{false: 1000, true: 300}[underRace]

// A thousand clients that miss one answer at the same time cost the service one request,
// and all get the same answer whole.
func TestCacheStampede(t *testing.T) {
	small, large := pattern(900, 1), pattern(100<<10, 2)
	bodies := map[string]http.HandlerFunc{"small": sized(small), "large": sized(large), "chunked": chunked(large)}
	for mode, settings := range cacheModes {
		for kind, answer := range bodies {
			t.Run(mode+"/"+kind, func(t *testing.T) {
				s := newStage(t)
				g := s.start(keeping(settings + ", coalesce_timeout: 60000"))
				s.cast("o:1", role{hold: true, answer: answer})
				list := g.crowd(crowdSize, "/x", nil)
				g.awaitWaiting(crowdSize - 1)
				s.cast("o:1", role{answer: answer})
				body := large
				if kind == "small" {
					body = small
				}
				tells(t, allGet(t, list, body), fmt.Sprintf("Hit:%d Miss:1", crowdSize-1))
				if n := s.hits("o:1"); n != 1 {
					t.Errorf("%d requests at the origin", n)
				}
				eventually(t, "the answer is kept", func() bool { return g.cacheCount("stored_total") == 1 })
				g.expects("/x", "Hit", 200, body)
			})
		}
	}
}

// Clients who come while the answer is coming read along too.
func TestCacheLateFollowers(t *testing.T) {
	for _, known := range []bool{true, false} {
		s := newStage(t)
		g := s.start(keeping("cache_ttl: 300"))
		p := newTap(pattern(300<<10, 3), known)
		s.cast("o:1", role{answer: p.answer})
		list := g.crowd(20, "/x", nil)
		p.await(t)
		list = append(list, g.crowd(80, "/x", nil)...)
		g.awaitWaiting(99)
		close(p.goes)
		tells(t, allGet(t, list, p.body), "Hit:99 Miss:1")
		if n := s.hits("o:1"); n != 1 {
			t.Errorf("length known %v: %d requests at the origin", known, n)
		}
	}
}

// speaks answers in the language that the client asks for.
func speaks(bodies map[string]string, answer func(body string, headers ...string) http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer(bodies[r.Header.Get("Accept-Language")], "Vary", "Accept-Language")(w, r)
	}
}

// Clients of different languages cost one request a language.
func TestCacheStampedeOfLanguages(t *testing.T) {
	const languages, each = 8, 25
	f := func(name, settings string, size int, answer func(body string, headers ...string) http.HandlerFunc) {
		t.Run(name, func(t *testing.T) {
			bodies := map[string]string{}
			for i := range languages {
				bodies[fmt.Sprint("l", i)] = pattern(size, uint32(i))
			}
			tongues := slices.Sorted(maps.Keys(bodies))
			s := newStage(t)
			g := s.start(keeping(settings + ", coalesce_timeout: 60000"))
			all := speaks(bodies, answer)
			s.cast("o:1", role{hold: true, answer: all})
			list := g.crowd(languages*each, "/x", func(i int) []string { return []string{"Accept-Language", tongues[i%languages]} })
			flights := 1
			if strings.Contains(settings, "vary_headers") {
				flights = languages
			}
			g.awaitWaiting(languages*each - flights)
			s.cast("o:1", role{answer: all})
			for i, p := range list {
				if a := p.wait(t); a.err != nil || a.body != bodies[tongues[i%languages]] {
					t.Fatalf("%s got %d, %d bytes, %v", tongues[i%languages], a.status(), len(a.body), a.err)
				}
			}
			if n := s.hits("o:1"); n != languages {
				t.Errorf("%d requests at the origin for %d languages", n, languages)
			}
			for _, l := range tongues {
				g.expects("/x", "Hit", 200, bodies[l], "Accept-Language", l)
			}
		})
	}
	f("kong/small", "vary_headers: [Accept-Language]", 500, sized)
	f("kong/large", "vary_headers: [Accept-Language]", 100<<10, sized)
	f("rfc/small", "rfc: true", 500, sized)
	f("rfc/large", "rfc: true", 100<<10, sized)
	f("rfc/chunked", "rfc: true", 100<<10, chunked)
}

// What is too old is asked for once, whether the service sends it anew or lets it stand.
func TestCacheStampedeOfExpired(t *testing.T) {
	f := func(name, settings string, size int, headers ...string) {
		t.Run(name, func(t *testing.T) {
			body := pattern(size, 5)
			s := newStage(t)
			g := s.start(keeping(settings + ", coalesce_timeout: 60000"))
			var unchanged atomic.Int64
			answer := func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("If-None-Match") != "" {
					unchanged.Add(1)
					w.Header().Set("Cache-Control", forever)
					w.Header().Set("Etag", r.Header.Get("If-None-Match"))
					w.WriteHeader(http.StatusNotModified)
					return
				}
				sized(body, headers...)(w, r)
			}
			s.cast("o:1", role{answer: answer})
			g.fill("/x")
			eventually(t, "it is kept", func() bool { return g.cacheCount("stored_total") == 1 })
			s.expire(g, settings)
			s.cast("o:1", role{hold: true, answer: answer})
			list := g.crowd(300, "/x", nil)
			g.awaitWaiting(299)
			s.cast("o:1", role{answer: answer})
			tells(t, allGet(t, list, body), "Hit:299 Refresh:1")
			if n := s.hits("o:1"); n != 2 {
				t.Errorf("%d requests at the origin", n)
			}
			if want := int64(len(headers) / 2); unchanged.Load() != want {
				t.Errorf("%d conditional requests, want %d", unchanged.Load(), want)
			}
		})
	}
	f("kong", "cache_ttl: 1, storage_ttl: 60", 500)
	f("kong/large", "cache_ttl: 300", 100<<10)
	f("rfc", "rfc: true", 500)
	f("rfc/tagged", "rfc: true", 500, "Etag", `"one"`)
	f("rfc/large", "rfc: true", 100<<10)
	f("rfc/large tagged", "rfc: true", 100<<10, "Etag", `"one"`)
}

// expire makes what g keeps too old: by waiting, where that does not take long.
func (s *stage) expire(g *gateway, settings string) {
	if strings.Contains(settings, "cache_ttl: 1,") {
		<-time.After(1050 * time.Millisecond)
		return
	}
	g.Purge(softPurge)
}

// The first client may leave while the others wait for his answer.
func TestCacheLeaderLeaves(t *testing.T) {
	body := pattern(600<<10, 6)
	f := func(name string, p *tap, early bool) {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			g := s.start(keeping("cache_ttl: 300"))
			s.cast("o:1", role{answer: p.answer, hold: early})
			leader := g.slowly("/x")
			s.awaitActive("o:1", 1)
			if !early {
				p.await(t)
				_, _ = io.CopyN(io.Discard, leader.head().Body, 1000)
			}
			list := g.crowd(50, "/x", nil)
			g.awaitWaiting(50)
			_ = leader.c.Close()
			if early {
				s.cast("o:1", role{answer: p.answer})
				p.await(t)
			}
			close(p.goes)
			said := allGet(t, list, p.body)
			if n := s.hits("o:1"); n != 1 || said["Hit"] != 50 {
				t.Errorf("%d requests at the origin, %v", n, said)
			}
			eventually(t, "it is kept", func() bool { return g.cacheCount("stored_total") == 1 })
			g.expects("/x", "Hit", 200, p.body)
		})
	}
	f("large", newTap(body, true), false)
	f("large, early", newTap(body, true), true)
	f("chunked", newTap(body, false), false)
	f("chunked, early", newTap(body, false), true)
	f("small, early", newTap(body[:800], true), true)
}

// Where the first request fails the next one asks: only the first client is told of it.
func TestCacheLeaderFails(t *testing.T) {
	good := role{answer: sized("good")}
	f := func(name string, bad role, status int) {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			g := s.start(keeping("cache_ttl: 300, coalesce_timeout: 5000", "connect_timeout: 1500"))
			s.cast("o:1", bad)
			began := time.Now()
			list := g.crowd(100, "/x", nil)
			g.awaitWaiting(99)
			s.cast("o:1", good)
			got := statuses(t, list)
			if n := slices.Index(got, status); got[0] != 200 || n != 99 {
				t.Errorf("%v, want 99 times 200 and once %d", got, status)
			}
			if d := time.Since(began); d > 5*time.Second {
				t.Errorf("it took %s", d)
			}
			if n := s.hits("o:1"); n > 2 {
				t.Errorf("%d requests at the origin", n)
			}
			g.expects("/x", "Hit", 200, "good")
		})
	}
	f("500", role{hold: true, answer: coded(500)}, 500)
	f("503", role{hold: true, answer: coded(503)}, 503)
	f("connection", role{mute: true}, 504)
	f("broken", role{hold: true, answer: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }}, 502)
}

// Where all fail, all are told so, in time.
func TestCacheAllFail(t *testing.T) {
	for mode, settings := range cacheModes {
		s := newStage(t)
		g := s.start(keeping(settings + ", coalesce_timeout: 2000"))
		s.cast("o:1", role{refuse: true})
		began := time.Now()
		list := g.crowd(200, "/refused", nil)
		if got := slices.Compact(statuses(t, list)); len(got) != 1 || got[0] != 502 {
			t.Errorf("%s: %v", mode, got)
		}
		s.cast("o:1", failing(500))
		if got := slices.Compact(statuses(t, g.crowd(200, "/500", nil))); len(got) != 1 || got[0] != 500 {
			t.Errorf("%s: %v", mode, got)
		}
		if d := time.Since(began); d > 4*time.Second {
			t.Errorf("%s: it took %s", mode, d)
		}
	}
}

// A service that does not answer holds nobody up for longer than coalesce_timeout.
func TestCacheFollowersLoseTheirPatience(t *testing.T) {
	s := newStage(t)
	g := s.start(keeping("cache_ttl: 300, coalesce_timeout: 200"))
	s.cast("o:1", role{hold: true, answer: sized("late")})
	list := g.crowd(10, "/x", nil)
	s.awaitActive("o:1", 10)
	s.cast("o:1", role{answer: sized("late")})
	allGet(t, list, "late")
	if n := g.cacheCount("coalesced_late_total"); n != 9 {
		t.Errorf("%d gave up, want 9", n)
	}
}

// What comes is not kept: everyone asks, and from then on nobody waits for another.
func TestCacheStampedeOfUncacheable(t *testing.T) {
	large := pattern(100<<10, 7)
	f := func(name, settings string, answer http.HandlerFunc, body string) {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			g := s.start(keeping(settings + ", coalesce_timeout: 20000"))
			s.cast("o:1", role{hold: true, answer: answer})
			list := g.crowd(100, "/x", nil)
			g.awaitWaiting(99)
			began := time.Now()
			s.cast("o:1", role{answer: answer})
			tells(t, allGet(t, list, body), "Bypass:100")
			if d := time.Since(began); d > 5*time.Second {
				t.Errorf("it took %s", d)
			}
			if n := s.hits("o:1"); n != 100 {
				t.Errorf("%d requests at the origin", n)
			}
			s.cast("o:1", role{hold: true, answer: answer})
			list = g.crowd(20, "/x", nil)
			s.awaitActive("o:1", 20) // side by side
			s.cast("o:1", role{answer: answer})
			allGet(t, list, body)
			s.cast("o:1", role{answer: sized("kept now")})
			g.expects("/x", "Miss", 200, "kept now")
			g.expects("/x", "Hit", 200, "kept now")
		})
	}
	f("kong/cookie", "cache_ttl: 300", sized("mine", "Set-Cookie", "a=b"), "mine")
	f("kong/large", "cache_ttl: 300", sized(large, "Set-Cookie", "a=b"), large)
	f("rfc/no-store", "rfc: true", sized("mine", "Cache-Control", "no-store"), "mine")
	f("rfc/private", "rfc: true", chunked(large, "Cache-Control", "private"), large)
	f("rfc/vary", "rfc: true", sized("mine", "Vary", "*"), "mine")
	f("too large", "cache_ttl: 300, memory: {size: 4m, max_object_size: 64k}", sized(large), large)
}
