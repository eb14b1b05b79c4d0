package engine_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// compressed are settings of a cache that compresses.
const compressed = "compression: {enabled: true}, "

// prose is n bytes of text that can be compressed.
func prose(n int) string {
	return strings.Repeat("It was the best of times, it was the worst of times. ", n/53+1)[:n]
}

// decode takes an encoding off a body, with a decoder that knows nothing of ours.
func unencoded(t *testing.T, coding, body string) string {
	t.Helper()
	var b []byte
	var err error
	switch coding {
	case "gzip":
		r, rerr := gzip.NewReader(strings.NewReader(body))
		if rerr != nil {
			t.Fatal(rerr)
		}
		b, err = io.ReadAll(r)
	case "br":
		var out bytes.Buffer
		_, err = fasthttp.WriteUnbrotli(&out, []byte(body))
		b = out.Bytes()
	case "zstd":
		b, err = fasthttp.AppendUnzstdBytes(nil, []byte(body))
	default:
		return body
	}
	if err != nil {
		t.Fatalf("%s: %v", coding, err)
	}
	return string(b)
}

// encodings asks for a path as a client that accepts something, and checks what comes.
func (g *gateway) encodings(t *testing.T, path, accept, coding, body string) *http.Response {
	t.Helper()
	var headers []string
	if accept != "-" {
		headers = []string{"Accept-Encoding", accept}
	}
	resp, got := g.ask(path, headers...)
	if c := resp.Header.Get("Content-Encoding"); c != coding || unencoded(t, c, got) != body || coding != "" && len(got) >= len(body) {
		t.Errorf("%s for %q: %d, encoding %q, %d bytes of %d; want %q", path, accept, resp.StatusCode, c, len(got), len(body), coding)
	}
	return resp
}

// Each client gets an answer in an encoding that he accepts, from one request at the
// origin; decoded they are all the same.
func TestCacheCompression(t *testing.T) {
	for mode, settings := range cacheModes {
		for _, size := range []int{1024, 60 << 10, 300 << 10} {
			body := prose(size)
			s := newStage(t)
			g := s.start(keeping(compressed + settings))
			s.cast("o:1", role{answer: func(w http.ResponseWriter, r *http.Request) {
				if got := r.Header.Values("Accept-Encoding"); len(got) > 0 {
					t.Errorf("the origin is asked for %q", got)
				}
				sized(body, "Etag", `"e"`)(w, r)
			}})
			first := g.encodings(t, "/x", "gzip", map[bool]string{true: "gzip"}[size <= 64<<10], body)
			if first.Header.Get("X-Cache-Status") != "Miss" || first.Header.Get("Vary") != "Accept-Encoding" {
				t.Errorf("%s, %d: %s, Vary %q", mode, size, first.Header.Get("X-Cache-Status"), first.Header.Get("Vary"))
			}
			eventually(t, "it is kept", func() bool { return g.cacheCount("stored_total") >= 1 })
			for accept, coding := range map[string]string{
				"br": "br", "gzip": "gzip", "zstd": "zstd", "gzip, br, zstd": "br", "br;q=0, zstd, gzip": "zstd", "gzip;q=1, br;q=0.5": "br", "*": "br",
				"x-gzip": "gzip", "-": "", "": "", "identity": "", "deflate": "", "gzip;q=0": "", "identity, gzip;q=0.5": "", "br;q=0, *;q=0": "",
			} {
				resp := g.encodings(t, "/x", accept, coding, body)
				tag := `"e"`
				if coding != "" {
					tag = `W/"e"`
				}
				if resp.Header.Get("X-Cache-Status") != "Hit" || resp.Header.Get("Vary") != "Accept-Encoding" || resp.Header.Get("Etag") != tag {
					t.Errorf("%s, %d, %q: %s, Vary %q, Etag %s", mode, size, accept, resp.Header.Get("X-Cache-Status"), resp.Header.Get("Vary"), resp.Header.Get("Etag"))
				}
			}
			if n := s.hits("o:1"); n != 1 {
				t.Errorf("%d requests at the origin", n)
			}
			if n := g.cacheCount("encoded_total"); n != 3 {
				t.Errorf("%s, %d: %d times encoded", mode, size, n)
			}
		}
	}
}

// The tag of an encoded answer is good for asking whether it has changed, and so is the
// origin's.
func TestCacheCompressionAndConditions(t *testing.T) {
	s := newStage(t)
	g := s.start(keeping(compressed + "rfc: true"))
	s.cast("o:1", role{answer: sized(prose(5000), "Etag", `"e"`)})
	g.fill("/x")
	for _, tag := range []string{`W/"e"`, `"e"`, `"a", W/"e"`, "*"} {
		for _, accept := range []string{"gzip", "br", "identity"} {
			resp := g.expects("/x", "Hit", 304, "", "Accept-Encoding", accept, "If-None-Match", tag)
			if resp.Header.Get("Vary") != "Accept-Encoding" {
				t.Errorf("Vary %q", resp.Header.Get("Vary"))
			}
		}
	}
	g.encodings(t, "/x", "gzip", "gzip", prose(5000))
	resp, body := g.ask("/x", "Accept-Encoding", "gzip", "If-None-Match", `W/"other"`)
	if resp.StatusCode != 200 || unencoded(t, "gzip", body) != prose(5000) {
		t.Errorf("%d", resp.StatusCode)
	}
	// Ranges are of what the origin has.
	g.expects("/x", "Hit", 206, prose(5000)[10:20], "Accept-Encoding", "gzip", "Range", "bytes=10-19")
	// HEAD tells of no other body than GET.
	a := g.send(noRedirects, "HEAD", "/x", http.NoBody, "Host", cacheHost, "Accept-Encoding", "gzip")
	if a.status() != 200 || a.body != "" || a.resp.Header.Get("X-Cache-Status") != "Hit" {
		t.Errorf("HEAD: %d %v", a.status(), a.resp.Header)
	}
}

// What is too small, too large, encoded already, of another type or not to be changed
// goes as it is.
func TestCacheCompressionLeavesAlone(t *testing.T) {
	f := func(body, settings string, headers ...string) {
		t.Helper()
		s := newStage(t)
		g := s.start(keeping(strings.Replace(compressed, "enabled: true", "enabled: true"+settings, 1) + "cache_ttl: 300"))
		s.cast("o:1", role{answer: sized(body, headers...)})
		for _, says := range []string{"Miss", "Hit", "Hit"} {
			resp := g.expects("/x", says, 200, body, "Accept-Encoding", "gzip, br, zstd")
			want := ""
			if len(headers) > 1 && headers[0] == "Content-Encoding" {
				want = headers[1]
			}
			if got := resp.Header.Get("Content-Encoding"); got != want {
				t.Errorf("%v: Content-Encoding %q, want %q", headers, got, want)
			}
		}
		if n := s.hits("o:1"); n != 1 {
			t.Errorf("%d requests at the origin", n)
		}
	}
	f(prose(1023), "")
	f(prose(1025), ", max_length: 1k")
	f(prose(5000), "", "Content-Encoding", "gzip")
	f(prose(5000), "", "Content-Type", "image/png")
	f(prose(5000), ", types: [application/json]")
	f(prose(5000), "", "Cache-Control", "max-age=60, no-transform")
	f(pattern(5000, 71), "") // does not become smaller
	f("", "")
}

// A body that becomes no smaller is not compressed again and again.
func TestCacheCompressionInVain(t *testing.T) {
	s := newStage(t)
	g := s.start(keeping(compressed + "cache_ttl: 300"))
	s.cast("o:1", role{answer: sized(pattern(60<<10, 72))})
	g.fill("/x")
	for range 20 {
		g.expects("/x", "Hit", 200, pattern(60<<10, 72), "Accept-Encoding", "gzip")
	}
	if n := g.cacheCount("encoded_total"); n > 2 {
		t.Errorf("%d times encoded in vain", n)
	}
}

// Encodings go with the answer they are of: purged, replaced or made stale.
func TestCacheCompressionFollowsTheAnswer(t *testing.T) {
	s := newStage(t)
	g := s.start(keeping(compressed + "cache_ttl: 300, serve_stale_on_error: true"))
	answer := func(body string) role { return role{answer: sized(body, "Surrogate-Key", "k", "Etag", `"e"`)} }
	for i, p := range []*pipeline.Purge{{}, {Path: "/x"}, {Path: "/x", Exact: true}, {Keys: []string{"k"}}, {Soft: true}, {Soft: true, Keys: []string{"k"}}} {
		old, body := prose(5000+i), prose(6000+i)
		s.cast("o:1", answer(old))
		g.ask("/x")
		for _, coding := range []string{"gzip", "br", "zstd"} {
			g.encodings(t, "/x", coding, coding, old)
			g.encodings(t, "/x", coding, coding, old)
		}
		g.Purge(p)
		if p.Soft {
			s.cast("o:1", failing(503))
			for _, coding := range []string{"gzip", "br", "zstd"} {
				resp := g.encodings(t, "/x", coding, coding, old)
				if says := resp.Header.Get("X-Cache-Status"); says != "Stale" || resp.Header.Get("Warning") == "" {
					t.Errorf("%+v: %s", p, says)
				}
			}
		}
		s.cast("o:1", answer(body))
		for _, coding := range []string{"gzip", "br", "zstd", ""} {
			g.encodings(t, "/x", coding, coding, body)
		}
		g.Purge(&pipeline.Purge{})
		if n := g.cacheCount("entries"); n != 0 {
			t.Errorf("%+v: %d entries are left", p, n)
		}
	}
}

// A service that lets the answer stand (304) makes its encodings fresh, too.
func TestCacheCompressionOverRevalidation(t *testing.T) {
	s := newStage(t)
	g := s.start(keeping(compressed + "rfc: true"))
	s.cast("o:1", role{answer: func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") == `"e"` {
			w.Header().Set("Etag", `"e"`)
			w.Header().Set("Cache-Control", forever)
			w.WriteHeader(304)
			return
		}
		sized(prose(5000), "Etag", `"e"`)(w, r)
	}})
	g.fill("/x")
	g.encodings(t, "/x", "gzip", "gzip", prose(5000))
	for range 3 {
		g.Purge(softPurge)
		if resp := g.encodings(t, "/x", "gzip", "gzip", prose(5000)); resp.Header.Get("X-Cache-Status") != "Refresh" || resp.Header.Get("Etag") != `W/"e"` {
			t.Errorf("%v", resp.Header)
		}
		if resp := g.encodings(t, "/x", "gzip", "gzip", prose(5000)); resp.Header.Get("X-Cache-Status") != "Hit" {
			t.Errorf("%v", resp.Header)
		}
	}
}

// A crowd that misses what will be compressed costs one request, and everyone gets his
// encoding.
func TestCacheStampedeOfEncodings(t *testing.T) {
	for _, size := range []int{5000, 200 << 10} {
		s := newStage(t)
		g := s.start(keeping(compressed + "rfc: true, coalesce_timeout: 20000"))
		s.cast("o:1", role{hold: true, answer: sized(prose(size))})
		codings := []string{"gzip", "br", "zstd", "identity"}
		list := g.crowd(200, "/x", func(i int) []string { return []string{"Accept-Encoding", codings[i%4]} })
		g.awaitWaiting(199)
		s.cast("o:1", role{answer: sized(prose(size))})
		for i, p := range list {
			a := p.wait(t)
			coding := a.resp.Header.Get("Content-Encoding")
			if coding != "" && coding != codings[i%4] || unencoded(t, coding, a.body) != prose(size) {
				t.Errorf("%s: %q, %d bytes, %v", codings[i%4], coding, len(a.body), a.err)
			}
		}
		if n := s.hits("o:1"); n != 1 {
			t.Errorf("%d requests at the origin", n)
		}
	}
}

// Many who want the same encoding at the same time have it made once.
func TestCacheEncodesOnce(t *testing.T) {
	body := prose(900 << 10)
	s := newStage(t)
	g := s.start(keeping(compressed + "cache_ttl: 300"))
	s.cast("o:1", role{answer: sized(body)})
	g.fill("/x")
	eventually(t, "it is kept", func() bool { return g.cacheCount("stored_total") == 1 })
	list := g.crowd(100, "/x", func(int) []string { return []string{"Accept-Encoding", "br"} })
	for _, p := range list {
		a := p.wait(t)
		if coding := a.resp.Header.Get("Content-Encoding"); unencoded(t, coding, a.body) != body {
			t.Errorf("%q, %d bytes, %v", coding, len(a.body), a.err)
		}
	}
	if n := g.cacheCount("encoded_total"); n > 3 {
		t.Errorf("%d times encoded", n)
	}
}
