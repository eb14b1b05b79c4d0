package engine_test

import (
	"net/http"
	"testing"
	"time"
)

// RFC 9111 5.2.1.4: no-cache wants the origin asked. With rfc its answer is kept, as it is
// after the reload of a page.
func TestCachingRequestNoCache(t *testing.T) {
	c := openCaching(t, byRFC)
	p := c.page(ok("Cache-Control", lasting, "ETag", `"a"`), unchanged("Cache-Control", lasting), ok("Cache-Control", lasting, "ETag", `"b"`))
	p.want(1, "Miss")
	p.want(1, "Refresh", "Cache-Control", "no-cache")
	field(t, p.asked(2), "If-None-Match", `"a"`)
	p.want(3, "Refresh", "Cache-Control", "x, NO-CACHE")
	p.want(3, "Hit")
	p = c.page(ok("Cache-Control", lasting))
	p.want(1, "Miss", "Cache-Control", "no-cache")
	p.want(1, "Hit")
}

// Kong: with cache_control, a request with no-cache or no-store passes by.
func TestCachingRequestNoCacheKong(t *testing.T) {
	c := openCaching(t, byControl)
	p := c.page(ok("Cache-Control", lasting))
	p.want(1, "Miss")
	p.want(2, "Bypass", "Cache-Control", "no-cache")
	p.want(3, "Bypass", "Cache-Control", "no-store")
	p.want(4, "Bypass", "Pragma", "no-cache")
	p.want(1, "Hit")
}

// RFC 9111 5.2.1.5: what is fetched for a request with no-store is not kept, nor is what
// was kept before touched.
func TestCachingRequestNoStore(t *testing.T) {
	c := openCaching(t, byRFC)
	p := c.page(ok("Cache-Control", lasting))
	for n := 1; n <= 2; n++ {
		if resp, _ := p.get("Cache-Control", "no-store"); resp.Header.Get("X-Answer") != string(rune('0'+n)) {
			t.Errorf("%d: %v", n, resp.Header)
		}
	}
	p.want(3, "Miss")
	p.want(3, "Hit")
	c.page(ok("Cache-Control", lasting)).asksAgain("Cache-Control", "no-store, max-age=5")
}

// RFC 9111 5.2.1.1: max-age, up to which age an answer is wanted.
func TestCachingRequestMaxAge(t *testing.T) {
	bothModes(t, func(c *caching) {
		f := func(headers string, hit bool, fields ...string) {
			c.t.Helper()
			p := c.page(ok(append(fields, "ETag", `"a"`)...))
			p.want(1, "Miss")
			if hit {
				p.want(1, "Hit", "Cache-Control", headers)
			} else {
				p.want(2, "Refresh", "Cache-Control", headers)
			}
		}
		f("max-age=3600", true, "Cache-Control", "max-age=7200", "Age", "600")
		f("max-age=60", false, "Cache-Control", "max-age=7200", "Age", "600")
		f("max-age=0", false, "Cache-Control", "max-age=7200", "Age", "1")
		f("max-age=x", false, "Cache-Control", "max-age=7200", "Age", "1")
		f("max-age=7200", true, "Cache-Control", "max-age=900", "Age", "600")
	})
}

// RFC 9111 5.2.1.3: min-fresh, for how long an answer is to be fresh yet.
func TestCachingRequestMinFresh(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", "max-age=600", "Age", "100"))
		p.want(1, "Miss")
		p.want(1, "Hit", "Cache-Control", "min-fresh=400")
		p.want(2, "Refresh", "Cache-Control", "min-fresh=501")
	})
}

// RFC 9111 5.2.1.2, 4.2.4: max-stale takes what is stale, if nothing forbids it.
func TestCachingRequestMaxStale(t *testing.T) {
	bothModes(t, func(c *caching) {
		f := func(control, demand string, given bool) {
			c.t.Helper()
			p := c.page(ok("Cache-Control", control+evenStale, "Age", "20", "ETag", `"a"`))
			p.want(1, "Miss")
			if given {
				age(c.t, p.want(1, "Hit", "Cache-Control", demand), 20)
			} else {
				p.want(2, "Refresh", "Cache-Control", demand)
			}
		}
		f("max-age=10", "max-stale", true)
		f("max-age=10", "max-stale=60", true)
		f("max-age=10", "max-stale=5", false)
		f("max-age=10", "max-stale=60, max-age=90", true)
		f("max-age=10", "max-stale=60, max-age=15", false)
		f("max-age=10, must-revalidate", "max-stale", false)
		f("max-age=10, proxy-revalidate", "max-stale", false)
		f("s-maxage=10", "max-stale", false)
	})
}

// RFC 9111 5.2.1.7: only-if-cached is answered from the cache, or with 504: the origin is
// not asked.
func TestCachingOnlyIfCached(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", "max-age=60, stale-if-error=60", "ETag", `"a"`))
		f := func(method string, headers ...string) {
			c.t.Helper()
			before := p.hits()
			resp, _ := c.do(method, p.path, "", append(headers, "Cache-Control", "only-if-cached")...)
			if resp.StatusCode != 504 || p.hits() != before {
				c.t.Errorf("%s %v: %d, and %d requests at the origin: %v", method, headers, resp.StatusCode, p.hits()-before, resp.Header)
			}
		}
		f("GET")
		p.want(1, "Miss")
		p.want(1, "Hit", "Cache-Control", "only-if-cached")
		f("GET", "Cache-Control", "max-age=0, min-fresh=90")
	})
}

// RFC 9111 5.2.1.7: so are requests that go alone otherwise.
func TestCachingOnlyIfCachedAlone(t *testing.T) {
	bothModes(t, func(c *caching) {
		f := func(method, version string) {
			c.t.Helper()
			p := c.page(ok("Cache-Control", lasting))
			resp, _ := c.raw(method + " " + p.path + " " + version + "\r\nHost: api.example.com\r\nCache-Control: only-if-cached\r\n\r\n")
			if resp.StatusCode != 504 || p.hits() != 0 {
				c.t.Errorf("%s %s: %d, and %d requests at the origin: %v", method, version, resp.StatusCode, p.hits(), resp.Header)
			}
		}
		f("HEAD", "HTTP/1.1")
		f("GET", "HTTP/1.0")
		f("GET", "HTTP/1.1\r\nRange: bytes=0-1")
		f("GET", "HTTP/1.1\r\nAuthorization: Basic YWRh")
		f("GET", "HTTP/1.1\r\nIf-None-Match: \"a\"")
	})
}

// RFC 9111 5.4: Pragma counts where there is no Cache-Control.
func TestCachingPragma(t *testing.T) {
	c := openCaching(t, byRFC)
	p := c.page(ok("Cache-Control", lasting))
	p.want(1, "Miss")
	p.want(2, "Refresh", "Pragma", "no-cache")
	p.want(2, "Hit", "Pragma", "no-cache", "Cache-Control", "max-age=60")
	p.want(2, "Hit", "Pragma", "x")
	c.keeps(ok("Cache-Control", lasting, "Pragma", "no-cache")) // it is none of an answer's
}

// RFC 9111 5.2.3: what a request asks for that is not known does not count.
func TestCachingRequestUnknownDirective(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", lasting))
		p.want(1, "Miss", "Cache-Control", "x-made-up, y=1")
		p.want(1, "Hit", "Cache-Control", `z="no-cache, no-store"`)
	})
}

// RFC 9111 5.2: a request's directives go on to the origin, known or not, and so does
// Pragma.
func TestCachingRequestDirectivesGoOn(t *testing.T) {
	bothModes(t, func(c *caching) {
		for _, control := range []string{"x-made-up, max-age=5", "no-cache", "no-store", "max-stale"} {
			p := c.page(ok("Cache-Control", lasting))
			p.get("Cache-Control", control, "Pragma", "no-cache")
			field(c.t, p.asked(1), "Cache-Control", control)
			field(c.t, p.asked(1), "Pragma", "no-cache")
		}
	})
}

// RFC 9111 5.2.1.6, 5.2.2.6, RFC 9110 7.7: who says no-transform gets the bytes as they are.
func TestCachingNoTransform(t *testing.T) {
	c := openCaching(t, byRFC+", compression: {enabled: true, min_length: 1}")
	long := func(fields ...string) says {
		return says{body: string(make([]byte, 4096)), fields: append(fields, "ETag", `"a"`)}
	}
	f := func(p *page, encoding string, headers ...string) {
		t.Helper()
		for range 2 {
			resp, body := p.get(append(headers, "Accept-Encoding", "gzip")...)
			encoding := encoding
			if resp.Header.Get("X-Cache-Status") == "Miss" && resp.Header.Get("Content-Encoding") == "" {
				encoding = "" // the body was still coming: it is given as it comes
			}
			if resp.Header.Get("Content-Encoding") != encoding || encoding == "" && (len(body) != 4096 || resp.Header.Get("ETag") != `"a"`) {
				t.Errorf("%v: %d bytes, %v", headers, len(body), resp.Header)
			}
		}
	}
	f(c.page(long("Cache-Control", lasting)), "gzip")
	f(c.page(long("Cache-Control", "max-age=60, no-transform")), "")
	f(c.page(long("Cache-Control", lasting)), "", "Cache-Control", "no-transform")
}

// RFC 9111 4, RFC 9110 9.3.2: HEAD is served by what GET has left, without the body.
func TestCachingHeadFromGet(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", lasting, "ETag", `"a"`))
		_, body := p.get()
		resp, none := c.do(http.MethodHead, p.path, "")
		p.check(resp, 1, "Hit")
		if none != "" || resp.ContentLength != int64(len(body)) || resp.Header.Get("ETag") != `"a"` {
			c.t.Errorf("%q, %d bytes announced, %v", none, resp.ContentLength, resp.Header)
		}
		resp, _ = c.do(http.MethodHead, p.path, "", "If-None-Match", `"a"`)
		if resp.StatusCode != 304 {
			c.t.Errorf("got %d", resp.StatusCode)
		}
		resp, _ = c.do(http.MethodHead, p.path, "", "Range", "bytes=0-1")
		if resp.StatusCode != 200 {
			c.t.Errorf("a range of a HEAD: %d", resp.StatusCode)
		}
	})
}

// RFC 9111 3, 4: the answer to HEAD does not serve GET.
func TestCachingHeadNotKept(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", lasting))
		resp, _ := c.do(http.MethodHead, p.path, "")
		p.check(resp, 1, "Miss")
		_, body := p.get()
		if body != "answer 2" {
			c.t.Errorf("got %q", body)
		}
	})
}

// RFC 9111 4.3.5: a HEAD that says the representation is another one makes what is kept
// stale.
func TestCachingHeadInvalidates(t *testing.T) {
	c := openCaching(t, byRFC)
	p := c.page(ok("Cache-Control", lasting, "ETag", `"a"`), ok("Cache-Control", lasting, "ETag", `"b"`))
	p.want(1, "Miss")
	resp, _ := c.do(http.MethodHead, p.path, "", "Cache-Control", "no-cache")
	if p.hits() != 2 || resp.Header.Get("X-Answer") != "2" {
		t.Errorf("%d requests at the origin: %v", p.hits(), resp.Header)
	}
	if resp, _ := p.get(); resp.Header.Get("X-Answer") != "3" {
		t.Errorf("what is out of date is given: %v", resp.Header)
	}
}

// RFC 9111 4.3.5: one that agrees with what is kept leaves it as it is.
func TestCachingHeadAgrees(t *testing.T) {
	c := openCaching(t, byRFC)
	p := c.page(ok("Cache-Control", lasting, "ETag", `"a"`, "Content-Length", "8", "Last-Modified", ago(time.Hour)))
	p.want(1, "Miss")
	c.do(http.MethodHead, p.path, "", "Cache-Control", "no-cache")
	if resp, _ := p.get(); p.hits() != 2 || resp.Header.Get("X-Cache-Status") != "Hit" {
		t.Errorf("%d requests at the origin: %v", p.hits(), resp.Header)
	}
}
