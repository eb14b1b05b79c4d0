package engine_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// While entries come, are pushed out, purged and replaced, every client gets one whole
// answer of those that there have been, whatever he asks for.
func TestCacheChurn(t *testing.T) {
	const keys, clients, each = 140, 12, 100
	s := newStage(t)
	g := s.start(keeping("cache_ttl: 300, stale_while_revalidate: 60, memory: {size: 8m, max_object_size: 400k}"))
	size := func(key int) int { return []int{0, 700, 20 << 10, 70 << 10, 150 << 10, 350 << 10, 600 << 10}[key%7] }
	var asked atomic.Uint32
	s.cast("o:1", role{answer: func(w http.ResponseWriter, r *http.Request) {
		key, _ := strconv.Atoi(r.URL.Path[1:])
		version := asked.Add(1)
		tag := fmt.Sprintf("%q", fmt.Sprint(version))
		answer := sized
		if key%2 == 0 {
			answer = chunked
		}
		answer(pattern(size(key), version), "Etag", tag)(w, r)
	}})
	var work sync.WaitGroup
	for n := range clients {
		work.Go(func() {
			c := kept(t)
			dice := rand.New(rand.NewPCG(uint64(n), 1)) //nolint:gosec // G404: not for secrets
			for range each {
				key := dice.IntN(keys)
				g.oneOfThem(t, c, key, size(key), dice)
			}
		})
	}
	stop := make(chan struct{})
	var purges sync.WaitGroup
	purges.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(3 * time.Millisecond):
				g.Purge(&pipeline.Purge{Path: "/" + strconv.Itoa(i%keys), Soft: i%3 == 0})
			}
		}
	})
	work.Wait()
	close(stop)
	purges.Wait()
	if g.cacheCount("evictions_total") == 0 || g.cacheCount("purged_total") == 0 || g.results()["hit"] == 0 {
		t.Errorf("no churn: %v, %d evictions, %d purged", g.results(), g.cacheCount("evictions_total"), g.cacheCount("purged_total"))
	}
	eventually(t, "nothing is held for readers", func() bool { return g.cacheCount("limbo_bytes") == 0 })
}

// oneOfThem asks for a key, whole or in part, and checks what comes by its tag.
func (g *gateway) oneOfThem(t *testing.T, c *http.Client, key, size int, dice *rand.Rand) {
	path := "/" + strconv.Itoa(key)
	var headers []string
	from, to := 0, size
	if dice.IntN(4) == 0 && size > 100 {
		from = dice.IntN(size - 1)
		to = from + 1 + dice.IntN(size-from-1)
		headers = []string{"Range", fmt.Sprintf("bytes=%d-%d", from, to-1)}
	}
	a := g.send(c, http.MethodGet, path, http.NoBody, append([]string{"Host", cacheHost}, headers...)...)
	if a.err != nil {
		if !a.cut() || size < 400<<10 { // who reads along what outgrows the cache is cut
			t.Errorf("%s: %v", path, a.err)
		}
		return
	}
	version, _ := strconv.ParseUint(strings.Trim(a.resp.Header.Get("Etag"), `"`), 10, 32)
	want := pattern(size, uint32(version))
	if a.status() == http.StatusPartialContent {
		want = want[from:to]
	}
	if a.body != want {
		t.Errorf("%s %v: %s %d, %d bytes that are not of version %d", path, headers, a.resp.Header.Get("X-Cache-Status"), a.status(), len(a.body), version)
	}
}

// More answers than there is room for come at the same time: all clients get theirs.
func TestCacheMoreStreamsThanRoom(t *testing.T) {
	const streams = 24
	s := newStage(t)
	g := s.start(keeping("cache_ttl: 300, memory: {size: 8m, max_object_size: 2m}"))
	goes := make(chan struct{})
	s.cast("o:1", role{answer: func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Path[1:])
		p := newTap(pattern(3<<19, uint32(n)), n%2 == 0, "Etag", `"e"`)
		p.goes, p.first = goes, 3<<18
		p.answer(w, r)
	}})
	var list [streams][]*pending
	for n := range list {
		list[n] = g.crowd(3, fmt.Sprint("/", n), nil)
	}
	eventually(t, "all streams to have begun", func() (begun bool) {
		s.look("o:1", func(a *actor) {
			seen := map[string]bool{}
			for _, r := range a.requests {
				seen[r.URL.Path] = true
			}
			begun = len(seen) == streams
		})
		return begun
	})
	close(goes)
	for n := range list {
		allGet(t, list[n], pattern(3<<19, uint32(n)))
	}
	eventually(t, "nothing is held for readers", func() bool { return g.cacheCount("limbo_bytes") == 0 })
}

// Answers of all kinds follow one another on one connection, each framed as it should be.
func TestCacheOnOneConnection(t *testing.T) {
	large := pattern(100<<10, 91)
	for mode, settings := range cacheModes {
		s := newStage(t)
		g := s.start(keeping(settings))
		s.cast("o:1", role{answer: func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/small":
				sized("small", "Etag", `"s"`)(w, r)
			case "/large":
				sized(large, "Etag", `"l"`)(w, r)
			case "/chunked":
				chunked(large)(w, r)
			case "/empty":
				sized("")(w, r)
			case "/404":
				w.Header().Set("Cache-Control", forever)
				w.WriteHeader(404)
				_, _ = io.WriteString(w, "none")
			default:
				sized("private", "Set-Cookie", "a=b", "Cache-Control", "private")(w, r)
			}
		}})
		c, err := net.Dial("tcp", g.addr)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		br := bufio.NewReader(c)
		f := func(method, path, more string, status int, body string) {
			t.Helper()
			if _, err := io.WriteString(c, method+" "+path+" HTTP/1.1\r\nHost: "+cacheHost+"\r\n"+more+"\r\n"); err != nil {
				t.Fatal(err)
			}
			resp, got := readResponse(t, br, method == "HEAD")
			if resp.StatusCode != status || got != body || resp.Close {
				t.Errorf("%s: %s %s %q: %d, %d bytes, closes: %v; want %d, %d bytes", mode, method, path, more, resp.StatusCode, len(got), resp.Close, status, len(body))
			}
		}
		for range 4 {
			f("GET", "/small", "", 200, "small")
			f("GET", "/large", "", 200, large)
			f("GET", "/small", "If-None-Match: \"s\"\r\n", 304, "")
			f("GET", "/chunked", "", 200, large)
			f("GET", "/private", "", 200, "private")
			f("GET", "/empty", "", 200, "")
			f("GET", "/404", "", 404, "none")
			f("GET", "/large", "If-None-Match: \"l\"\r\n", 304, "")
			f("HEAD", "/small", "", 200, "")
			f("HEAD", "/large", "", 200, "")
			f("POST", "/posted", "Content-Length: 0\r\n", 200, "private")
			f("GET", "/large", "Range: bytes=1-1000\r\n", 206, large[1:1001])
			f("GET", "/small", "Range: bytes=9-\r\n", 416, "")
		}
		_ = c.Close()
	}
}

// Clients who want an answer anew do not stand in line for one another.
func TestCacheReloadingClientsDoNotQueue(t *testing.T) {
	for _, demand := range []string{"no-cache", "max-age=0"} {
		s := newStage(t)
		g := s.start(keeping("rfc: true, coalesce_timeout: 20000"))
		s.cast("o:1", role{answer: sized("kept")})
		g.fill("/x")
		s.cast("o:1", role{delay: 200 * time.Millisecond, answer: sized("anew")})
		began := time.Now()
		list := g.crowd(30, "/x", func(int) []string { return []string{"Cache-Control", demand} })
		allGet(t, list, "anew")
		if d := time.Since(began); d > 900*time.Millisecond {
			t.Errorf("%s: 30 clients took %s for an answer of 200 ms", demand, d)
		}
	}
}

// An answer that comes without end is not fetched on when nobody reads it any more.
func TestCacheEndlessAnswerOfNobody(t *testing.T) {
	s := newStage(t)
	g := s.start(keeping("cache_ttl: 300, coalesce_timeout: 200"))
	s.cast("o:1", role{answer: func(w http.ResponseWriter, r *http.Request) {
		setHeaders(w.Header(), nil)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			_, _ = io.WriteString(w, "drop\n")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
		}
	}})
	clients := []*slowClient{g.slowly("/x")}
	s.awaitActive("o:1", 1)
	clients = append(clients, g.slowly("/x"))
	for _, c := range clients {
		if _, err := io.ReadFull(c.head().Body, make([]byte, 20)); err != nil {
			t.Fatal(err)
		}
		_ = c.c.Close()
	}
	s.awaitActive("o:1", 0)
}

// A gateway that ends while answers come leaves nothing behind.
func TestCacheEndsWhileAnswersCome(t *testing.T) {
	leavesNothing(t)
	s := newStage(t)
	g := s.start(keeping("cache_ttl: 300, stale_while_revalidate: 60"))
	s.cast("o:1", role{answer: sized("old")})
	g.fill("/stale")
	g.Purge(softPurge)
	p := newTap(pattern(600<<10, 92), true)
	s.cast("o:1", role{answer: p.answer})
	g.expects("/stale", "Stale", 200, "old")
	p.await(t)
	leader := g.slowly("/x")
	p.await(t)
	list := g.crowd(3, "/x", nil)
	g.awaitWaiting(3)
	_ = leader.c.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		g.end()
	}()
	eventually(t, "the gateway drains", func() bool {
		c, err := net.Dial("tcp", g.addr)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	close(p.goes)
	allGet(t, list, p.body)
	<-ended
}
