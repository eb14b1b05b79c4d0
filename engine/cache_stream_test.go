package engine_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Who reads nothing holds up neither the one who asked first nor those who came with him.
func TestCacheSlowFollower(t *testing.T) {
	for _, known := range []bool{true, false} {
		s := newStage(t)
		g := s.start(keeping("cache_ttl: 300, memory: {size: 128m, max_object_size: 16m}"))
		p := newTap(pattern(8<<20, 11), known)
		s.cast("o:1", role{answer: p.answer})
		leader := g.background("/x", "Host", cacheHost)
		p.await(t)
		slow := []*slowClient{g.slowly("/x"), g.slowly("/x")}
		g.awaitWaiting(2)
		list := append(g.crowd(5, "/x", nil), leader)
		g.awaitWaiting(7)
		close(p.goes)
		tells(t, allGet(t, list, p.body), "Hit:5 Miss:1")
		for _, c := range slow {
			if body, err := c.rest(); body != p.body || err != nil || c.resp.Header.Get("X-Cache-Status") != "Hit" {
				t.Errorf("length known %v: %d bytes, %v, %v", known, len(body), err, c.resp.Header)
			}
		}
		if n := s.hits("o:1"); n != 1 {
			t.Errorf("%d requests at the origin", n)
		}
	}
}

// Who asked first may read as slowly as he likes: the others, and those after them, do
// not wait for him.
func TestCacheSlowLeader(t *testing.T) {
	for _, known := range []bool{true, false} {
		s := newStage(t)
		g := s.start(keeping("cache_ttl: 300, memory: {size: 128m, max_object_size: 16m}"))
		p := newTap(pattern(8<<20, 12), known)
		s.cast("o:1", role{answer: p.answer})
		leader := g.slowly("/x")
		p.await(t)
		list := g.crowd(20, "/x", nil)
		g.awaitWaiting(20)
		close(p.goes)
		tells(t, allGet(t, list, p.body), "Hit:20")
		eventually(t, "it is kept", func() bool { return g.cacheCount("stored_total") == 1 })
		g.expects("/x", "Hit", 200, p.body)
		if body, err := leader.rest(); body != p.body || err != nil || leader.resp.Header.Get("X-Cache-Status") != "Miss" {
			t.Errorf("length known %v: %d bytes, %v, %v", known, len(body), err, leader.resp.Header)
		}
		if n := s.hits("o:1"); n != 1 {
			t.Errorf("%d requests at the origin", n)
		}
	}
}

// An origin that breaks off breaks off for all: nobody takes a part for the whole, and
// nothing of it is kept.
func TestCacheOriginBreaksOff(t *testing.T) {
	f := func(name string, known bool, settings string, headers ...string) {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			g := s.start(keeping(settings))
			p := newTap(pattern(300<<10, 13), known, headers...)
			p.breaks = true
			s.cast("o:1", role{answer: p.answer})
			list := g.crowd(1, "/x", nil)
			p.await(t)
			list = append(list, g.crowd(30, "/x", nil)...)
			g.awaitWaiting(30)
			s.cast("o:1", role{answer: sized("another")})
			close(p.goes)
			for i, pending := range list {
				a := pending.wait(t)
				if !a.cut() || !strings.HasPrefix(p.body, a.body) {
					t.Errorf("request %d: %d, %d bytes of %d, %v", i, a.status(), len(a.body), len(p.body), a.err)
				}
			}
			g.expects("/x", "Miss", 200, "another")
			if n := g.cacheCount("entries"); n != 1 {
				t.Errorf("%d entries", n)
			}
		})
	}
	f("length", true, "cache_ttl: 300")
	f("chunked", false, "cache_ttl: 300")
	f("length, rfc", true, "rfc: true", "Etag", `W/"weak"`)
	f("chunked, rfc", false, "rfc: true")
}

// Where the tag of what broke off promises the same bytes, the rest is asked for again;
// an answer with another tag is no rest.
func TestCacheBrokenOffIsResumed(t *testing.T) {
	f := func(tag string, whole bool) {
		t.Helper()
		s := newStage(t)
		g := s.start(keeping("rfc: true"))
		p := newTap(pattern(300<<10, 14), true, "Etag", `"one"`)
		p.breaks = true
		s.cast("o:1", role{answer: p.answer})
		list := g.crowd(1, "/x", nil)
		p.await(t)
		list = append(list, g.crowd(5, "/x", nil)...)
		g.awaitWaiting(5)
		body := p.body
		if !whole {
			body = pattern(300<<10, 15)
		}
		s.cast("o:1", role{answer: sized(body, "Etag", tag)})
		close(p.goes)
		for i, pending := range list {
			a := pending.wait(t)
			if whole && (a.err != nil || a.body != p.body) || !whole && (!a.cut() || !strings.HasPrefix(p.body, a.body)) {
				t.Errorf("%s: request %d: %d, %d bytes, %v", tag, i, a.status(), len(a.body), a.err)
			}
		}
	}
	f(`"one"`, true)
	f(`"two"`, false)
}

// An origin that breaks off breaks off through two caches that read it one from the other.
func TestCacheBehindCacheBreaksOff(t *testing.T) {
	s := newStage(t)
	g := s.start(keeping(`cache_ttl: 300}
  - name: proxy-cache-advanced
    config: {content_type: ["*/*"], cache_ttl: 300, memory: {dictionary_name: other}`))
	p := newTap(pattern(300<<10, 13), true)
	p.breaks = true
	s.cast("o:1", role{answer: p.answer})
	list := g.crowd(1, "/x", nil)
	p.await(t)
	close(p.goes)
	if a := list[0].wait(t); !a.cut() || !strings.HasPrefix(p.body, a.body) {
		t.Errorf("%d, %d bytes of %d, %v", a.status(), len(a.body), len(p.body), a.err)
	}
	for _, name := range []string{"kong_db_cache", "other"} {
		eventually(t, name+" to let the part go", func() bool {
			return g.counter(`sluice_cache_followers_cut_total{cache="`+name+`"}`) == 1 && g.counter(`sluice_cache_bytes{cache="`+name+`"}`) == 0
		})
	}
	s.cast("o:1", role{answer: sized("another")})
	g.expects("/x", "Miss", 200, "another")
}

// outgrown is a cache that an answer of 1 MiB is too large for.
const outgrown = "memory: {size: 4m, max_object_size: 200k}"

// An answer that outgrows what may be kept goes on to the client who asked first. The
// others get its rest by asking again where the tag promises the same bytes, else they
// are cut. Nothing is kept.
func TestCacheAnswerOutgrows(t *testing.T) {
	f := func(name, tag string, resumes bool) {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			g := s.start(keeping("cache_ttl: 300, " + outgrown))
			p := newTap(pattern(1<<20, 16), false)
			p.first = 100 << 10
			if tag != "" {
				p.headers = []string{"Etag", tag}
			}
			s.cast("o:1", role{answer: p.answer})
			leader := g.background("/x", "Host", cacheHost)
			p.await(t)
			list := g.crowd(20, "/x", nil)
			g.awaitWaiting(20)
			close(p.goes)
			allGet(t, []*pending{leader}, p.body)
			for i, pending := range list {
				a := pending.wait(t)
				if resumes && (a.err != nil || a.body != p.body) || !resumes && (!a.cut() || !strings.HasPrefix(p.body, a.body)) {
					t.Errorf("follower %d: %d, %d bytes, %v", i, a.status(), len(a.body), a.err)
				}
			}
			cut, resumed := g.cacheCount("followers_cut_total"), g.cacheCount("followers_resumed_total")
			if resumes && (cut != 0 || resumed != 20) || !resumes && (cut != 20 || resumed != 0) {
				t.Errorf("%d cut, %d resumed", cut, resumed)
			}
			if n := g.cacheCount("stored_total"); n != 0 {
				t.Errorf("%d stored", n)
			}
			g.expects("/x", "Miss", 200, p.body)
			eventually(t, "no bytes held", func() bool { return g.cacheCount("bytes") < 100<<10 })
		})
	}
	f("strong", `"one"`, true)
	f("weak", `W/"one"`, false)
	f("untagged", "", false)
}

// The client who asked first may leave, or read nothing, while his answer outgrows what
// may be kept.
func TestCacheAnswerOutgrowsForAbsentLeader(t *testing.T) {
	for _, leaves := range []bool{true, false} {
		s := newStage(t)
		g := s.start(keeping("cache_ttl: 300, " + outgrown))
		var broken atomic.Int64
		p := newTap(pattern(4<<20, 17), false, "Etag", `"one"`)
		s.cast("o:1", role{answer: func(w http.ResponseWriter, r *http.Request) {
			defer func() {
				if r.Context().Err() != nil {
					broken.Add(1)
				}
			}()
			p.answer(w, r)
		}})
		p.first = 100 << 10
		leader := g.slowly("/x")
		p.await(t)
		list := g.crowd(10, "/x", nil)
		g.awaitWaiting(10)
		if leaves {
			_ = leader.c.Close()
		}
		close(p.goes)
		allGet(t, list, p.body)
		if leaves {
			s.awaitActive("o:1", 0) // the connection is not kept waiting for nobody
			continue
		}
		if body, err := leader.rest(); body != p.body || err != nil {
			t.Errorf("%d bytes, %v", len(body), err)
		}
	}
}

// An answer that comes in drops reaches all who read along as it comes.
func TestCacheFollowersGetWhatThereIs(t *testing.T) {
	s := newStage(t)
	g := s.start(keeping("cache_ttl: 300"))
	next := make(chan string)
	s.cast("o:1", role{answer: func(w http.ResponseWriter, _ *http.Request) {
		setHeaders(w.Header(), nil)
		for piece := range next {
			_, _ = io.WriteString(w, piece)
			_ = http.NewResponseController(w).Flush()
		}
	}})
	clients := []*slowClient{g.slowly("/x")}
	next <- "0"
	for range 5 {
		clients = append(clients, g.slowly("/x"))
	}
	g.awaitWaiting(5)
	for i := range 10 {
		b := make([]byte, 1)
		for n, c := range clients {
			if _, err := io.ReadFull(c.head().Body, b); err != nil || string(b) != fmt.Sprint(i) {
				t.Fatalf("client %d got %q, %v as piece %d", n, b, err, i)
			}
		}
		if i < 9 {
			next <- fmt.Sprint(i + 1)
		}
	}
	close(next)
	for _, c := range clients {
		if rest, err := c.rest(); rest != "" || err != nil {
			t.Errorf("%q, %v at the end", rest, err)
		}
	}
	eventually(t, "it is kept", func() bool { return g.cacheCount("stored_total") == 1 })
	g.expects("/x", "Hit", 200, "0123456789")
}

// An answer that stands still is given up after the read timeout, for all.
func TestCacheOriginStandsStill(t *testing.T) {
	s := newStage(t)
	g := s.start(keeping("cache_ttl: 300", "read_timeout: 300"))
	p := newTap(pattern(300<<10, 18), true)
	s.cast("o:1", role{answer: p.answer})
	list := g.crowd(1, "/x", nil)
	p.await(t)
	list = append(list, g.crowd(10, "/x", nil)...)
	began := time.Now()
	for i, pending := range list {
		if a := pending.wait(t); !a.cut() || !strings.HasPrefix(p.body, a.body) {
			t.Errorf("request %d: %d, %d bytes, %v", i, a.status(), len(a.body), a.err)
		}
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("it took %s", d)
	}
	close(p.goes)
	g.expects("/x", "Miss", 200, p.body)
}
