package engine_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

const digits = "0123456789"

// RFC 9110 14.1.2, 14.2, 15.3.7, 15.5.17: one range of what is kept.
func TestCachingRange(t *testing.T) {
	bothModes(t, func(c *caching) {
		date, expires := ago(time.Second), in(time.Hour)
		p := c.page(says{body: digits, fields: []string{"Cache-Control", lasting, "ETag", `"a"`, "Date", date, "Expires", expires, "Vary", "X-A", "Content-Location", "/there"}})
		p.want(1, "Miss")
		f := func(asked string, status int, body, content string) {
			c.t.Helper()
			resp, got := p.get("Range", asked)
			p.check(resp, 1, "Hit")
			if resp.StatusCode != status || got != body || resp.Header.Get("Content-Range") != content || resp.ContentLength != int64(len(body)) {
				c.t.Errorf("%s: %d %q, %d bytes announced, %v", asked, resp.StatusCode, got, resp.ContentLength, resp.Header)
			}
			if status == 206 {
				for name, want := range map[string]string{"Date": date, "Expires": expires, "Etag": `"a"`, "Cache-Control": lasting, "Vary": "X-A", "Content-Location": "/there"} {
					field(c.t, resp.Header, name, want)
				}
			}
		}
		f("bytes=0-3", 206, "0123", "bytes 0-3/10")
		f("bytes=3-3", 206, "3", "bytes 3-3/10")
		f("bytes=7-", 206, "789", "bytes 7-9/10")
		f("bytes=7-100", 206, "789", "bytes 7-9/10")
		f("bytes=-2", 206, "89", "bytes 8-9/10")
		f("bytes=-100", 206, digits, "bytes 0-9/10")
		f("BYTES=0-0", 206, "0", "bytes 0-0/10")
		f("bytes=10-", 416, "", "bytes */10")
		f("bytes=10-20", 416, "", "bytes */10")
		f("bytes=-0", 416, "", "bytes */10")
		// What does not count, and what may be ignored.
		for _, whole := range []string{"bytes=0-1,4-5", "bytes=5-2", "bytes=x", "lines=0-1", "bytes 0-1", "bytes=", "bytes=1-2x", "bytes=18446744073709551616-1"} {
			f(whole, 200, digits, "")
		}
		if p.hits() != 1 {
			c.t.Errorf("%d requests at the origin", p.hits())
		}
	})
}

// RFC 9110 14.2: only GET has ranges, and only 200.
func TestCachingRangeOfOthers(t *testing.T) {
	c := openCaching(t, byRFC)
	p := c.page(says{status: 404, body: digits, fields: []string{"Cache-Control", lasting}})
	p.want(1, "Miss")
	if resp, body := p.get("Range", "bytes=0-1"); resp.StatusCode != 404 || body != digits {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
}

// RFC 9110 13.1.5: If-Range must be the same entity tag, a strong one, or the very date.
func TestCachingIfRange(t *testing.T) {
	bothModes(t, func(c *caching) {
		now := time.Now()
		at := func(d time.Duration) string { return now.Add(d).UTC().Format(http.TimeFormat) }
		f := func(status int, value string, fields ...string) {
			c.t.Helper()
			p := c.page(says{body: digits, fields: append(fields, "Cache-Control", lasting)})
			p.want(1, "Miss")
			resp, body := p.get("Range", "bytes=1-2", "If-Range", value)
			p.check(resp, 1, "Hit")
			if want := map[int]string{200: digits, 206: "12"}[status]; resp.StatusCode != status || body != want {
				c.t.Errorf("%s for %q: %d %q", value, fields, resp.StatusCode, body)
			}
		}
		f(206, `"a"`, "ETag", `"a"`)
		f(200, `"b"`, "ETag", `"a"`)
		f(200, `W/"a"`, "ETag", `W/"a"`)
		f(200, `"a"`, "ETag", `W/"a"`)
		f(200, `W/"a"`, "ETag", `"a"`)
		f(200, `"a"`)
		f(206, at(-time.Hour), "Last-Modified", at(-time.Hour))
		f(200, at(-time.Minute), "Last-Modified", at(-time.Hour))
		f(200, at(-time.Hour), "ETag", `"a"`)
		f(200, at(0), "Last-Modified", at(0), "Date", at(0))
		f(200, "x", "Last-Modified", at(-time.Hour))
	})
}

// RFC 9110 13.2.2: If-None-Match comes before Range.
func TestCachingRangeAndCondition(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(says{body: digits, fields: []string{"Cache-Control", lasting, "ETag", `"a"`}})
		p.want(1, "Miss")
		if resp, body := p.get("Range", "bytes=1-2", "If-None-Match", `"a"`); resp.StatusCode != 304 || body != "" {
			c.t.Errorf("%d %q", resp.StatusCode, body)
		}
		if resp, body := p.get("Range", "bytes=1-2", "If-None-Match", `"b"`); resp.StatusCode != 206 || body != "12" {
			c.t.Errorf("%d %q", resp.StatusCode, body)
		}
		if resp, _ := p.get("Range", "bytes=1-2", "If-None-Match", `"a"`, "If-Range", `"a"`); resp.StatusCode != 304 {
			c.t.Errorf("with If-Range: %d", resp.StatusCode)
		}
	})
}

// RFC 9111 3.3, 3.4: a range that is not there goes to the origin as it is, and what comes
// is not kept.
func TestCachingRangeMiss(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(says{do: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", lasting)
			w.Header().Set("Etag", `"a"`)
			w.Header().Set("Content-Type", "text/plain")
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(digits))
		}})
		for n := 1; n <= 2; n++ {
			resp, body := p.get("Range", "bytes=1-2", "If-Range", `"a"`)
			if resp.StatusCode != 206 || body != "12" || p.hits() != n {
				c.t.Errorf("%d %q, %d requests at the origin", resp.StatusCode, body, p.hits())
			}
			field(c.t, p.asked(n), "Range", "bytes=1-2")
			field(c.t, p.asked(n), "If-Range", `"a"`)
		}
		if resp, body := p.get(); resp.StatusCode != 200 || body != digits {
			c.t.Errorf("%d %q", resp.StatusCode, body)
		}
		if resp, body := p.get("Range", "bytes=1-2"); resp.StatusCode != 206 || body != "12" || p.hits() != 3 {
			c.t.Errorf("%d %q, %d requests at the origin", resp.StatusCode, body, p.hits())
		}
	})
}

// A range of an answer that is too large to lie in one piece is read from the store.
func TestCachingRangeOfLarge(t *testing.T) {
	bothModes(t, func(c *caching) {
		const size = 200_000
		whole := strings.Repeat(digits, size/10)
		p := c.page(says{body: whole, fields: []string{"Cache-Control", lasting, "Content-Length", strconv.Itoa(size)}})
		p.want(1, "Miss")
		eventually(c.t, "the answer to be kept", func() bool {
			resp, _ := p.get("Cache-Control", "only-if-cached")
			return resp.StatusCode == 200
		})
		resp, body := p.get("Range", "bytes=99995-150004")
		if resp.StatusCode != 206 || body != whole[99995:150005] || resp.Header.Get("Content-Range") != "bytes 99995-150004/200000" {
			c.t.Errorf("%d, %d bytes, %v", resp.StatusCode, len(body), resp.Header)
		}
	})
}
