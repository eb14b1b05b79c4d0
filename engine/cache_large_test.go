//go:build linux

package engine_test

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// Bodies of every size are given again as they came, whether they are kept or not.
func TestCacheSizes(t *testing.T) {
	const most = 2 << 20
	const kept, either, passed = "Hit", "", "Bypass or Miss"
	sizes := map[int]string{
		0: kept, 1: kept, 64<<10 - 1: kept, 64 << 10: kept, 64<<10 + 1: kept, 128 << 10: kept, 1 << 20: kept, most - 4<<10: kept,
		most - 1: either, most: either, // the header counts, too
		most + 1: passed, most + 64<<10: passed,
	}
	for mode, settings := range cacheModes {
		s := newStage(t)
		g := s.start(keeping(settings + ", memory: {size: 64m, max_object_size: 2m}"))
		s.cast("o:1", role{answer: func(w http.ResponseWriter, r *http.Request) {
			n, _ := strconv.Atoi(r.URL.Query().Get("n"))
			if r.URL.Path == "/sized" {
				sized(pattern(n, 21))(w, r)
				return
			}
			chunked(pattern(n, 21))(w, r)
		}})
		for size, want := range sizes {
			for _, path := range []string{"/sized", "/chunked"} {
				path, body := fmt.Sprintf("%s?n=%d", path, size), pattern(size, 21)
				stored := g.cacheCount("stored_total")
				for i := range 3 {
					a := g.send(noRedirects, "GET", path, http.NoBody, "Host", cacheHost)
					if a.err != nil || a.body != body {
						t.Errorf("%s %s: %d, %d bytes, %v", mode, path, a.status(), len(a.body), a.err)
						continue
					}
					if hit := a.resp.Header.Get("X-Cache-Status") == "Hit"; i == 0 && hit || i > 0 && want != either && hit != (want == kept) {
						t.Errorf("%s %s, request %d: %s, want %s", mode, path, i, a.resp.Header.Get("X-Cache-Status"), want)
					}
					if want == kept {
						eventually(t, path+" is kept", func() bool { return g.cacheCount("stored_total") > stored })
					}
				}
			}
		}
	}
}

// Parts of a kept answer are the parts of its body, however large it is.
func TestCacheRangesOfLarge(t *testing.T) {
	for _, size := range []int{1000, 64 << 10, 3 << 20} {
		body := pattern(size, 22)
		s := newStage(t)
		g := s.start(keeping("cache_ttl: 300"))
		s.cast("o:1", role{answer: sized(body, "Etag", `"e"`)})
		g.fill("/x")
		eventually(t, "it is kept", func() bool { return g.cacheCount("stored_total") == 1 })
		f := func(part string, from, to int) {
			t.Helper()
			resp := g.expects("/x", "Hit", 206, body[from:to], "Range", "bytes="+part)
			if got, want := resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-%d/%d", from, to-1, size); got != want {
				t.Errorf("%s of %d: Content-Range %q, want %q", part, size, got, want)
			}
		}
		f("0-0", 0, 1)
		f("0-", 0, size)
		f("7-99", 7, 100)
		f("-1", size-1, size)
		f(fmt.Sprint("-", size+5), 0, size)
		f(fmt.Sprint(size-1, "-"), size-1, size)
		f(fmt.Sprintf("%d-%d", size/2, size+9), size/2, size)
		if size > 1<<20 {
			f("65535-65537", 65535, 65538)
			f("131000-2621999", 131000, 2622000)
		}
		g.expects("/x", "Hit", 200, body, "Range", "bytes=0-1,5-6")
		g.expects("/x", "Hit", 200, body, "Range", "bytes=5-1")
		g.expects("/x", "Hit", 200, body, "Range", "bytes=0-9", "If-Range", `"other"`)
		g.expects("/x", "Hit", 206, body[:10], "Range", "bytes=0-9", "If-Range", `"e"`)
		resp := g.expects("/x", "Hit", 416, "", "Range", fmt.Sprintf("bytes=%d-", size))
		if got := resp.Header.Get("Content-Range"); got != fmt.Sprint("bytes */", size) {
			t.Errorf("416 with Content-Range %q", got)
		}
		if n := s.hits("o:1"); n != 1 {
			t.Errorf("%d requests at the origin", n)
		}
	}
}

// Answers on their way to slow clients stay whole while they are purged, pushed out and
// replaced.
func TestCacheHitsOutliveTheirEntry(t *testing.T) {
	const size = 2 << 20
	s := newStage(t)
	g := s.start(keeping("cache_ttl: 300, memory: {size: 32m, max_object_size: 4m}"))
	body := pattern(size, 23)
	bodies := role{answer: func(w http.ResponseWriter, r *http.Request) {
		seed, _ := strconv.Atoi(r.URL.Query().Get("seed"))
		sized(pattern(size, uint32(seed)))(w, r)
	}}
	s.cast("o:1", role{answer: sized(body)})
	g.fill("/x")
	eventually(t, "it is kept", func() bool { return g.cacheCount("stored_total") == 1 })
	var slow []*slowClient
	for range 4 {
		c := g.slowly("/x")
		if resp := c.head(); resp.Header.Get("X-Cache-Status") != "Hit" {
			t.Fatal(resp.Header)
		}
		slow = append(slow, c)
	}
	if n := g.Purge(&pipeline.Purge{}); n != 1 {
		t.Errorf("%d purged", n)
	}
	s.cast("o:1", bodies)
	for seed := range 30 {
		g.fill(fmt.Sprint("/y?seed=", 100+seed))
	}
	if n := g.cacheCount("evictions_total"); n == 0 {
		t.Error("nothing was evicted")
	}
	for i, c := range slow {
		if got, err := c.rest(); got != body || err != nil {
			t.Errorf("client %d: %d bytes, %v", i, len(got), err)
		}
	}
	eventually(t, "nothing is held for readers", func() bool { return g.cacheCount("limbo_bytes") == 0 })
}

// Clients who read slowly cost no copy of what they read.
func TestCacheSlowReadersCostLittle(t *testing.T) {
	const size, readers, most = 8 << 20, 100, 96 << 20
	s := newStage(t)
	g := s.start(keeping("cache_ttl: 300, memory: {size: 128m, max_object_size: 16m}"))
	body := pattern(size, 24)
	s.cast("o:1", role{answer: sized(body)})
	g.fill("/x")
	eventually(t, "it is kept", func() bool { return g.cacheCount("stored_total") == 1 })
	g.expects("/x", "Hit", 200, body)
	before := residentBytes(t)
	var slow []*slowClient
	for range readers {
		c := g.slowly("/x")
		if resp := c.head(); resp.Header.Get("X-Cache-Status") != "Hit" {
			t.Fatal(resp.Header)
		}
		slow = append(slow, c)
	}
	if grown := residentBytes(t) - before; grown > most {
		t.Errorf("%d readers of %d MiB cost %d MiB", readers, size>>20, grown>>20)
	}
	for i, c := range slow[:3] {
		if n, err := io.Copy(io.Discard, c.resp.Body); n != size || err != nil {
			t.Errorf("client %d: %d bytes, %v", i, n, err)
		}
	}
}

// The same holds while the answer is still coming, of which all read along.
func TestCacheSlowFollowersCostLittle(t *testing.T) {
	const size, readers, most = 8 << 20, 100, 96 << 20
	s := newStage(t)
	g := s.start(keeping("cache_ttl: 300, memory: {size: 128m, max_object_size: 16m}"))
	p := newTap(pattern(size, 25), false)
	p.first = 1 << 20
	s.cast("o:1", role{answer: p.answer})
	slow := []*slowClient{g.slowly("/x")}
	p.await(t)
	before := residentBytes(t)
	for range readers {
		slow = append(slow, g.slowly("/x"))
	}
	g.awaitWaiting(readers)
	close(p.goes)
	eventually(t, "it is kept", func() bool { return g.cacheCount("stored_total") == 1 })
	for _, c := range slow {
		c.head()
	}
	if grown := residentBytes(t) - before - size; grown > most {
		t.Errorf("%d readers of %d MiB cost %d MiB", readers, size>>20, grown>>20)
	}
	for i, c := range slow[:3] {
		if body, err := c.rest(); body != p.body || err != nil {
			t.Errorf("client %d: %d bytes, %v", i, len(body), err)
		}
	}
}
