package engine_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// ways are forms of one request that the gateway reads in different ways.
var ways = []struct {
	name, version, fields, body string
	secure, alone               bool
}{
	{name: "plain", version: "1.1"},
	{name: "HTTP/1.0", version: "1.0"},
	{name: "HTTP/1.0 kept alive", version: "1.0", fields: "Connection: keep-alive\r\n"},
	{name: "closing", version: "1.1", fields: "Connection: close\r\n"},
	{name: "TLS", version: "1.1", secure: true},
	{name: "TLS, HTTP/1.0", version: "1.0", secure: true},
	{name: "folded", version: "1.1", fields: "X-Many: " + strings.Repeat("a", 5000) + "\r\n"},
}

// onlyKept asks whether an answer is kept.
const onlyKept = "Cache-Control: only-if-cached\r\n"

// The same answers come out of every lane: whole, for HEAD, in part, for a condition, and
// where they are too large to lie in one piece.
func TestCachingLanes(t *testing.T) {
	bothModes(t, func(c *caching) {
		for _, size := range []int{10, 200_000} {
			whole := strings.Repeat(digits, size/10)
			date := ago(30 * time.Second)
			a := says{body: whole, fields: []string{"Cache-Control", lasting, "ETag", `"a"`, "X-Two", "1", "X-Two", "2", "Date", date}}
			for _, w := range ways {
				p := c.page(a)
				ask := func(method, more string) (*http.Response, string) {
					c.t.Helper()
					return c.rawTo(w.secure, fmt.Sprintf("%s %s HTTP/%s\r\nHost: api.example.com\r\n%s%s\r\n", method, p.path, w.version, w.fields, more))
				}
				f := func(status int, body, method, more string) {
					c.t.Helper()
					resp, got := ask(method, more)
					p.check(resp, 1, "Hit")
					if resp.StatusCode != status || got != body || len(resp.TransferEncoding) > 0 || status != 304 && method == "GET" && resp.ContentLength != int64(len(body)) {
						c.t.Errorf("%s, %s %q of %d: %d, %d bytes, %d announced, %v", w.name, method, more, size, resp.StatusCode, len(got), resp.ContentLength, resp.Header)
					}
					field(c.t, resp.Header, "X-Two", "1|2")
					if status != 416 { // which says nothing of the whole
						field(c.t, resp.Header, "Etag", `"a"`)
					}
					age(c.t, resp, 30)
					if got := resp.Header.Get("Date"); more == "" && got != date {
						c.t.Errorf("%s, %s of %d: Date %s, want %s", w.name, method, size, got, date)
					}
				}
				if resp, got := ask("GET", ""); got != whole || resp.Header.Get("Date") != date {
					c.t.Errorf("%s: a miss of %d has %d bytes, Date %s, want %s: %v", w.name, size, len(got), resp.Header.Get("Date"), date, resp.Header)
				}
				eventually(c.t, "the answer to be kept", func() bool {
					resp, _ := ask("GET", onlyKept)
					return resp.StatusCode == 200
				})
				f(200, whole, "GET", "")
				f(200, "", "HEAD", "")
				f(206, "123", "GET", "Range: bytes=1-3\r\n")
				f(206, "789", "GET", "Range: bytes=-3\r\n")
				f(416, "", "GET", fmt.Sprintf("Range: bytes=%d-\r\n", size))
				f(304, "", "GET", "If-None-Match: W/\"a\"\r\n")
				f(304, "", "HEAD", "If-None-Match: \"a\"\r\n")
				f(200, whole, "GET", "If-None-Match: \"b\"\r\n")
			}
		}
	})
}

// So does a refreshed answer, and one after a condition that is weighed here.
func TestCachingLanesRefresh(t *testing.T) {
	c := openCaching(t, byRFC)
	for _, w := range ways {
		p := c.page(old("ETag", `"a"`), unchanged("Cache-Control", lasting))
		ask := func(status, cache int, name, more string) {
			t.Helper()
			resp, body := c.rawTo(w.secure, fmt.Sprintf("GET %s HTTP/%s\r\nHost: api.example.com\r\n%s%s\r\n", p.path, w.version, w.fields, more))
			p.check(resp, 1, name)
			if resp.StatusCode != status || status == 200 && body != "answer 1" || p.hits() != cache {
				t.Errorf("%s: %d %q, %d requests at the origin", w.name, resp.StatusCode, body, p.hits())
			}
		}
		ask(200, 1, "Miss", "If-None-Match: \"b\"\r\n")
		ask(304, 2, "Refresh", "If-None-Match: \"a\"\r\n")
		ask(200, 2, "Hit", "")
	}
}

// A chunked answer is kept and given with its length.
func TestCachingChunked(t *testing.T) {
	bothModes(t, func(c *caching) {
		for _, size := range []int{10, 200_000} {
			whole := strings.Repeat(digits, size/10)
			for _, secure := range []bool{false, true} {
				p := c.page(says{do: func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Cache-Control", lasting)
					w.Header().Set("Content-Type", "text/plain")
					w.Header().Set("X-Answer", "1")
					for at := 0; at < len(whole); at += 10_000 {
						_, _ = w.Write([]byte(whole[at:min(at+10_000, len(whole))]))
						_ = http.NewResponseController(w).Flush()
					}
				}})
				ask := func(version, more string) (*http.Response, string) {
					return c.rawTo(secure, "GET "+p.path+" HTTP/"+version+"\r\nHost: api.example.com\r\n"+more+"\r\n")
				}
				if resp, body := ask("1.1", ""); body != whole {
					c.t.Errorf("%d bytes, %v", len(body), resp.Header)
				}
				eventually(c.t, "the answer to be kept", func() bool {
					resp, _ := ask("1.1", onlyKept)
					return resp.StatusCode == 200
				})
				for _, version := range []string{"1.0", "1.1"} {
					if resp, body := ask(version, ""); body != whole || resp.ContentLength != int64(size) || p.hits() != 1 {
						c.t.Errorf("HTTP/%s: %d bytes, %d announced, %d requests at the origin", version, len(body), resp.ContentLength, p.hits())
					}
				}
			}
		}
	})
}

// A request with a body: GET gets its answer, POST reaches the origin and makes go what is
// kept, however the body is framed.
func TestCachingRequestBody(t *testing.T) {
	bothModes(t, func(c *caching) {
		for _, secure := range []bool{false, true} {
			for _, framed := range []string{"Content-Length: 4\r\n\r\ndata", "Transfer-Encoding: chunked\r\n\r\n4\r\ndata\r\n0\r\n\r\n"} {
				p := c.page(ok("Cache-Control", lasting))
				ask := func(method, rest string) string {
					c.t.Helper()
					resp, _ := c.rawTo(secure, method+" "+p.path+" HTTP/1.1\r\nHost: api.example.com\r\n"+rest)
					return resp.Header.Get("X-Answer")
				}
				if got := ask("GET", "\r\n"); got != "1" {
					c.t.Errorf("got answer %s", got)
				}
				if got := ask("GET", framed); got != "1" && got != "2" {
					c.t.Errorf("GET with a body, TLS %t, %q: answer %s", secure, framed, got)
				}
				before := p.hits()
				if got := ask("POST", framed); p.hits() != before+1 {
					c.t.Errorf("POST, TLS %t, %q: answer %s", secure, framed, got)
				}
				if ask("GET", "\r\n"); p.hits() != before+2 {
					c.t.Errorf("POST, TLS %t, %q: what was kept is given", secure, framed)
				}
			}
		}
	})
}

// A connection goes on after an answer from the cache.
func TestCachingKeptConnection(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(says{body: strings.Repeat(digits, 20_000), fields: []string{"Cache-Control", lasting}})
		p.get()
		client := kept(c.t)
		eventually(c.t, "the answer to be kept", func() bool {
			return c.send(client, http.MethodGet, p.path, http.NoBody, "Cache-Control", "only-if-cached").status() == 200
		})
		for _, method := range []string{"GET", "HEAD", "GET"} {
			for _, headers := range [][]string{nil, {"Range", "bytes=5-6"}, {"If-None-Match", `"x"`}} {
				a := c.send(client, method, p.path, http.NoBody, headers...)
				want := map[bool]int{true: 206, false: 200}[headers != nil && headers[0] == "Range" && method == "GET"]
				if a.err != nil || a.status() != want {
					c.t.Errorf("%s %v: %d %v", method, headers, a.status(), a.err)
				}
			}
		}
		if p.hits() != 1 {
			c.t.Errorf("%d requests at the origin", p.hits())
		}
	})
}

// An answer that is too large to lie in one piece is weighed, freshened and replaced as any.
func TestCachingLarge(t *testing.T) {
	const size = 200_000
	c := openCaching(t, byRFC)
	whole, other := strings.Repeat(digits, size/10), strings.Repeat("x", size)
	for _, secure := range []bool{false, true} {
		p := c.page(
			says{body: whole, fields: []string{"Cache-Control", "max-age=10, stale-while-revalidate=0", "Age", "20", "ETag", `"a"`}},
			unchanged("Cache-Control", "max-age=60", "X-New", "1"),
			says{body: other, fields: []string{"Cache-Control", "max-age=60", "ETag", `"b"`, "Content-Length", "200000"}},
		)
		ask := func(status, hits int, cache, body string, more ...string) *http.Response {
			t.Helper()
			resp, got := c.rawTo(secure, "GET "+p.path+" HTTP/1.1\r\nHost: api.example.com\r\n"+strings.Join(append(more, "\r\n"), "\r\n"))
			if resp.StatusCode != status || resp.Header.Get("X-Cache-Status") != cache || got != body || p.hits() != hits {
				t.Errorf("TLS %t: %d, %d bytes, want %d, %s, %d bytes; %d requests at the origin: %v", secure, resp.StatusCode, len(got), status, cache, len(body), p.hits(), resp.Header)
			}
			return resp
		}
		// The 304 goes out while the body still comes; it is kept all the same.
		ask(304, 1, "Miss", "", `If-None-Match: "a"`)
		eventually(t, "the answer to be kept", func() bool {
			resp, _ := c.rawTo(secure, "HEAD "+p.path+" HTTP/1.1\r\nHost: api.example.com\r\nCache-Control: max-stale, only-if-cached\r\n\r\n")
			return resp.StatusCode == 200
		})
		field(t, ask(200, 2, "Refresh", whole).Header, "X-New", "1")
		field(t, ask(200, 2, "Hit", whole).Header, "X-New", "1")
		ask(206, 2, "Hit", whole[99_990:100_010], "Range: bytes=99990-100009")
		ask(304, 2, "Hit", "", `If-None-Match: "a"`)
		ask(200, 3, "Refresh", other, "Cache-Control: no-cache")
		eventually(t, "the new answer to be kept", func() bool {
			resp, body := c.rawTo(secure, "GET "+p.path+" HTTP/1.1\r\nHost: api.example.com\r\n"+onlyKept+"\r\n")
			return resp.StatusCode == 200 && body == other
		})
		if p.hits() != 3 {
			t.Errorf("%d requests at the origin", p.hits())
		}
	}
}

// What breaks off while a client reads along breaks off for him, on every lane: he never
// gets a part that looks whole.
func TestCachingBreaksOff(t *testing.T) {
	bothModes(t, func(c *caching) {
		for _, w := range ways {
			p := c.page(says{do: func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("Cache-Control", lasting)
				rw.Header().Set("Content-Type", "text/plain")
				_, _ = rw.Write([]byte(strings.Repeat(digits, 10_000)))
				_ = http.NewResponseController(rw).Flush()
				panic(http.ErrAbortHandler)
			}})
			conn := c.dial(w.secure)
			if _, err := fmt.Fprintf(conn, "GET %s HTTP/%s\r\nHost: api.example.com\r\n%s\r\n", p.path, w.version, w.fields); err != nil {
				c.t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				c.t.Fatal(err)
			}
			// What ends with the connection, as of HTTP/1.0, cannot be told from the whole.
			if n, err := io.Copy(io.Discard, resp.Body); err == nil && resp.StatusCode == 200 && w.version != "1.0" {
				c.t.Errorf("%s: a part of %d bytes looks whole: %v", w.name, n, resp.Header)
			}
			_ = resp.Body.Close()
			_ = conn.Close()
			a := c.send(noRedirects, http.MethodGet, p.path, http.NoBody, "Host", "api.example.com")
			if a.err == nil && a.status() == 200 {
				c.t.Errorf("%s: a part is given whole: %v", w.name, a.resp.Header)
			}
		}
	})
}
