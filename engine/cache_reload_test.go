package engine_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/plugin"
)

// What is kept outlives a reload, whatever else of the document changes.
func TestCacheSurvivesReload(t *testing.T) {
	s := newStage(t)
	g := s.start(keeping("cache_ttl: 300"))
	s.cast("o:1", role{answer: sized("kept")})
	g.fill("/x")
	for _, text := range []string{
		keeping("cache_ttl: 300"),
		keeping("cache_ttl: 100, serve_stale_on_error: true"),
		keeping("cache_ttl: 300, cache_control: true"),
		keeping("cache_ttl: 300, memory: {size: 64m}"),
		keeping("cache_ttl: 300") + "plugins: [{name: correlation-id}]\n",
		strings.Replace(keeping("cache_ttl: 300"), "http://o:1", "http://p:1", 1),
	} {
		g.apply(text)
		g.expects("/x", "Hit", 200, "kept")
	}
	if n := s.hits("o:1") + s.hits("p:1"); n != 1 {
		t.Errorf("%d requests at the origin", n)
	}
	// The new settings hold for what was kept before.
	g.apply(keeping("cache_ttl: 1"))
	began := time.Now()
	eventually(t, "it is too old", func() bool {
		resp, _ := g.ask("/x")
		return resp.Header.Get("X-Cache-Status") == "Refresh"
	})
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("it took %s", d)
	}
	g.apply(strings.Replace(keeping("cache_ttl: 300"), "  - name: proxy-cache", "  - name: proxy-cache\n    enabled: false", 1))
	if !s.asked(g, "/x") {
		t.Error("a plugin that is off answers")
	}
}

// Requests before and after a reload wait for the same one.
func TestCacheFlightsSurviveReload(t *testing.T) {
	s := newStage(t)
	g := s.start(keeping("cache_ttl: 300"))
	s.cast("o:1", role{hold: true, answer: sized("one")})
	list := g.crowd(20, "/x", nil)
	g.awaitWaiting(19)
	for i := range 3 {
		g.apply(keeping(fmt.Sprint("cache_ttl: ", 200+i)))
		list = append(list, g.crowd(20, "/x", nil)...)
		g.awaitWaiting(19 + 20*(i+1))
	}
	s.cast("o:1", role{answer: sized("two")})
	tells(t, allGet(t, list, "one"), "Hit:79 Miss:1")
	g.expects("/x", "Hit", 200, "one")
}

// Answers on their way go on over a reload that does away with their cache.
func TestCacheStreamsSurviveReload(t *testing.T) {
	s := newStage(t)
	g := s.start(keeping("cache_ttl: 300"))
	p := newTap(pattern(6<<20, 61), true)
	s.cast("o:1", role{answer: sized(p.body)})
	g.fill("/hit")
	eventually(t, "it is kept", func() bool { return g.cacheCount("stored_total") == 1 })
	slow := g.slowly("/hit")
	slow.head()
	s.cast("o:1", role{answer: p.answer})
	list := g.crowd(1, "/x", nil)
	p.await(t)
	list = append(list, g.crowd(10, "/x", nil)...)
	g.awaitWaiting(10)
	g.apply(service("http://o:1", ""))
	close(p.goes)
	tells(t, allGet(t, list, p.body), "Hit:10 Miss:1")
	if body, err := slow.rest(); body != p.body || err != nil {
		t.Errorf("a hit: %d bytes, %v", len(body), err)
	}
}

// The memory grows and shrinks with its settings; what fits stays.
func TestCacheMemoryIsResized(t *testing.T) {
	s := newStage(t)
	text := func(size string) string {
		return keeping("cache_ttl: 300, memory: {size: " + size + ", max_object_size: 512k}")
	}
	g := s.start(text("16m"))
	s.cast("o:1", role{answer: sized(pattern(100<<10, 62))})
	paths := make([]string, 0, 100)
	for i := range 100 {
		paths = append(paths, fmt.Sprint("/x/", i))
	}
	g.fill(paths...)
	f := func(size string, capacity int, all bool) {
		t.Helper()
		g.apply(text(size))
		if n := g.cacheCount("capacity_bytes"); n != capacity {
			t.Errorf("%s: %d bytes of capacity", size, n)
		}
		left := 0
		for _, path := range paths {
			a := g.send(noRedirects, "GET", path, nil, "Host", cacheHost, "Cache-Control", "only-if-cached")
			if a.resp.Header.Get("X-Cache-Status") == "Hit" && a.body == pattern(100<<10, 62) {
				left++
			}
		}
		if all != (left == len(paths)) || left == 0 {
			t.Errorf("%s: %d of %d are left", size, left, len(paths))
		}
		if held := g.cacheCount("held_bytes"); held > capacity {
			t.Errorf("%s: %d bytes are held", size, held)
		}
	}
	f("32m", 32<<20, true)
	s.cast("o:1", failing(404)) // what is gone stays gone
	f("4m", 4<<20, false)
	f("16m", 16<<20, false)
}

// Instances that name one memory must mean the same one.
func TestCacheMemoryOfTwoMinds(t *testing.T) {
	s := newStage(t)
	g := s.start(keeping("cache_ttl: 300"))
	f := func(one, two, want string) {
		t.Helper()
		text := library("cache_ttl: 300, memory: {"+one+"}") + "- {name: proxy-cache, service: two, config: {memory: {" + two + "}}}\n"
		err := g.Apply(document(t, text))
		if want == "" && err == nil {
			return
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), `plugin "proxy-cache"`) {
			t.Errorf("{%s} and {%s}: %v, want %q", one, two, err, want)
		}
	}
	f("size: 32m", "size: 16m", "another instance")
	f("dictionary_name: a, size: 32m", "dictionary_name: a", "another instance")
	f("size: 32m, max_object_size: 1m", "size: 32m, max_object_size: 2m", "max_object_size")
	f(`size: 32m, file: "/tmp/none/a"`, "size: 32m", "file")
	f("size: 32m", "size: 32m", "")
	f("size: 32m", "dictionary_name: other, size: 16m", "")
	f("size: 128m", "", "") // the default of gateway.mem_cache_size
	g.apply(keeping("cache_ttl: 300"))
	s.cast("o:1", role{answer: sized("still here")})
	g.fill("/x")
}

// filed are settings of a cache that keeps its memory in a file.
func filed(file, more string) string {
	return keeping(fmt.Sprintf("cache_ttl: 300, memory: {size: 16m, file: %q}%s", file, more))
}

// end shuts a gateway down before its test ends.
func (g *gateway) end() {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := g.Shutdown(ctx); err != nil {
		g.t.Fatal(err)
	}
}

// With a file a gateway that is started again gives what it kept, and what was purged
// stays purged.
func TestCacheFileOutlivesTheGateway(t *testing.T) {
	s := newStage(t)
	text := filed(filepath.Join(t.TempDir(), "cache"), ", serve_stale_on_error: true")
	bodies := map[string]string{"/small": "small", "/large": pattern(700<<10, 63), "/empty": "", "/purged": "purged", "/soft": "soft"}
	g := s.start(text)
	keys := map[string]string{}
	stored := func(path string) int64 {
		a, _ := g.KeptAnswer(keys[path], "")
		return a.Stored
	}
	when := map[string]int64{}
	for path, body := range bodies {
		s.cast("o:1", role{answer: sized(body, "Etag", `"e"`, "Surrogate-Key", "k"+path)})
		keys[path] = g.expects(path, "Miss", 200, body).Header.Get("X-Cache-Key")
		eventually(t, path+" is kept", func() bool { return stored(path) > 0 })
		when[path] = stored(path)
	}
	g.Purge(&pipeline.Purge{Path: "/purged"})
	g.Purge(&pipeline.Purge{Path: "/soft", Soft: true})
	asked := s.hits("o:1")
	for range 3 {
		g.end()
		g = s.start(text)
		s.cast("o:1", role{refuse: true})
		for _, path := range []string{"/small", "/large", "/empty"} {
			g.expects(path, "Hit", 200, bodies[path])
			if at := stored(path); at != when[path] {
				t.Errorf("%s was stored at %d, is said to be at %d", path, when[path], at)
			}
		}
		g.expects("/small", "Hit", 304, "", "If-None-Match", `"e"`)
		g.expects("/soft", "Stale", 200, "soft")
		if a := g.send(noRedirects, "GET", "/purged", nil, "Host", cacheHost); a.status() != 502 {
			t.Errorf("what was purged is answered %d after a restart", a.status())
		}
	}
	if n := s.hits("o:1"); n != asked {
		t.Errorf("%d more requests at the origin", n-asked)
	}
	if n := g.Purge(&pipeline.Purge{Keys: []string{"k/small"}}); n != 1 {
		t.Errorf("%d purged by key after a restart", n)
	}
}

// Reloads of a cache with a file: settings of the file may change, and the cache may come
// and go.
func TestCacheFileOverReloads(t *testing.T) {
	s := newStage(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "cache")
	g := s.start(filed(file, ""))
	s.cast("o:1", role{answer: sized("kept")})
	g.fill("/x")
	g.apply(filed(file, ", serve_stale_on_error: true"))
	g.expects("/x", "Hit", 200, "kept")
	for _, change := range [][2]string{{"size: 16m", "size: 32m"}, {"size: 16m", "size: 16m, max_object_size: 512k"}} {
		text := strings.Replace(filed(file, ""), change[0], change[1], 1)
		if err := g.Apply(document(t, text)); err != nil {
			t.Errorf("%s → %s: %v", change[0], change[1], err)
		}
		if a := g.send(noRedirects, "GET", "/x", nil, "Host", cacheHost); a.status() != 200 || a.body != "kept" {
			t.Errorf("%s: %d %q", change[1], a.status(), a.body)
		}
		g.apply(filed(file, ""))
	}
	g.apply(service("http://o:1", ""))
	g.apply(filed(file, ""))
	g.expects("/x", "Hit", 200, "kept")
	g.apply(filed(filepath.Join(dir, "another"), ""))
	g.expects("/x", "Miss", 200, "kept")
}

// A file that cannot be used is an error that names it, or starts empty; it never ends
// the gateway that runs.
func TestCacheFileFaults(t *testing.T) {
	s := newStage(t)
	s.cast("o:1", role{answer: sized("kept")})
	dir := t.TempDir()
	g := s.start(keeping("cache_ttl: 300"))
	g.fill("/x")
	f := func(file string) {
		t.Helper()
		err := g.Apply(document(t, filed(file, "")))
		if err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), `plugin "proxy-cache"`) {
			t.Errorf("%s: %v", file, err)
		}
		g.expects("/x", "Hit", 200, "kept")
	}
	f(filepath.Join(dir, "no", "such", "folder"))
	f(dir)
	taken := filepath.Join(dir, "taken")
	other := s.start(filed(taken, ""))
	other.fill("/x")
	f(taken)
	other.expects("/x", "Hit", 200, "kept")

	other.end()
	for name, damage := range map[string]func([]byte) []byte{
		"cut":     func(b []byte) []byte { return b[:len(b)/2] },
		"empty":   func([]byte) []byte { return nil },
		"text":    func([]byte) []byte { return []byte("not a cache") },
		"flipped": func(b []byte) []byte { b[100] ^= 1; return b },
	} {
		b, err := os.ReadFile(taken)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, damage(b), 0o600); err != nil {
			t.Fatal(err)
		}
		again := s.start(filed(file, ""))
		if _, body := again.ask("/x"); body != "kept" {
			t.Errorf("%s: %q", name, body)
		}
		again.expects("/x", "Hit", 200, "kept")
		again.end()
	}
}

// What cannot be is said when the document is read, with its place.
func TestCacheSettingsAreChecked(t *testing.T) {
	f := func(settings, want string) {
		t.Helper()
		_, err := config.Read([]config.Source{{Name: "test.yaml", Data: []byte(keeping(settings))}}, config.Options{Catalog: plugin.All})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", settings, err, want)
		}
	}
	f("cache_ttl: 0", "cache_ttl")
	f("cache_ttl: -1", "cache_ttl")
	f("strategy: disk", "strategy")
	f("response_code: []", "response_code")
	f("response_code: [99]", "response_code")
	f("request_method: [DELETE]", "request_method")
	f("memory: {size: 100}", "memory.size")
	f("memory: {size: 16m, max_object_size: 8m}", "memory.max_object_size")
	f("memory: {dictionary_name: \"\"}", "memory.dictionary_name")
	f("vary_headers: [\"a b\"]", "vary_headers")
	f("coalesce_timeout: 0", "coalesce_timeout")
	f("compression: {encodings: [deflate]}", "compression.encodings")
	f("redis: {host: a, timeout: 1, read_timeout: 1}", "timeout")
	f("nothing: 1", "nothing")
}
