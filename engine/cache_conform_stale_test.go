package engine_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// RFC 5861 3: what is stale is given at once, and asked for anew beside that, once.
func TestCachingStaleWhileRevalidate(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", "max-age=10, stale-while-revalidate=3600", "Age", "20"), ok("Cache-Control", lasting))
		p.want(1, "Miss")
		age(c.t, p.want(1, "Stale"), 20)
		eventually(c.t, "the new answer", func() bool {
			resp, _ := p.get()
			return resp.Header.Get("X-Answer") == "2" && resp.Header.Get("X-Cache-Status") == "Hit"
		})
		if p.hits() != 2 {
			c.t.Errorf("%d requests at the origin", p.hits())
		}
	})
}

// RFC 5861 3: many at once make one question, and none of them waits for it.
func TestCachingStaleWhileRevalidateOnce(t *testing.T) {
	bothModes(t, func(c *caching) {
		var once sync.Once
		release := make(chan struct{})
		let := func() { once.Do(func() { close(release) }) }
		defer let()
		p := c.page(ok("Cache-Control", "max-age=10, stale-while-revalidate=3600", "Age", "20"), says{do: func(w http.ResponseWriter, _ *http.Request) {
			<-release
			w.Header().Set("Cache-Control", lasting)
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("X-Answer", "2")
		}})
		p.want(1, "Miss")
		var wait sync.WaitGroup
		for range 16 {
			wait.Go(func() {
				if a := c.send(noRedirects, http.MethodGet, p.path, http.NoBody); a.err != nil || a.resp.Header.Get("X-Cache-Status") != "Stale" {
					c.t.Errorf("%v %v", a.resp, a.err)
				}
			})
		}
		wait.Wait()
		let()
		eventually(c.t, "the new answer", func() bool {
			resp, _ := p.get()
			return resp.Header.Get("X-Cache-Status") == "Hit"
		})
		if p.hits() != 2 {
			c.t.Errorf("%d requests at the origin", p.hits())
		}
	})
}

// RFC 5861 3, RFC 9111 4.3.1: beside, it is asked whether the answer still stands.
func TestCachingStaleWhileRevalidateAsks(t *testing.T) {
	c := openCaching(t, byRFC)
	p := c.page(ok("Cache-Control", "max-age=10, stale-while-revalidate=3600", "Age", "20", "ETag", `"a"`), unchanged("Cache-Control", lasting))
	p.want(1, "Miss")
	p.want(1, "Stale", "Range", "bytes=0-", "If-None-Match", `"b"`)
	eventually(t, "the answer to be fresh", func() bool {
		resp, _ := p.get()
		return resp.Header.Get("X-Cache-Status") == "Hit"
	})
	field(t, p.asked(2), "If-None-Match", `"a"`)
	field(t, p.asked(2), "Range", "")
	p.want(1, "Hit")
}

// RFC 5861 3: no longer than it says, and not where that is forbidden.
func TestCachingStaleWhileRevalidateEnds(t *testing.T) {
	bothModes(t, func(c *caching) {
		f := func(control string) {
			c.t.Helper()
			c.page(ok("Cache-Control", control, "Age", "20")).asksAgain()
		}
		f("max-age=10, stale-while-revalidate=5")
		f("max-age=10, stale-while-revalidate=60, must-revalidate")
		f("max-age=10, stale-while-revalidate=60, proxy-revalidate")
		f("s-maxage=10, stale-while-revalidate=60")
		f("max-age=60, stale-while-revalidate=60, no-cache")
		p := c.page(ok("Cache-Control", "max-age=10, stale-while-revalidate=60", "Age", "20"))
		p.want(1, "Miss")
		p.want(2, "Refresh", "Cache-Control", "max-age=60")
	})
}

// Where an answer says nothing, stale_while_revalidate does.
func TestCachingStaleWhileRevalidateSetting(t *testing.T) {
	c := openCaching(t, byRFC+", stale_while_revalidate: 60")
	p := c.page(ok("Cache-Control", "max-age=10", "Age", "20", "ETag", `"a"`))
	p.want(1, "Miss")
	p.want(1, "Stale")
	c.page(ok("Cache-Control", "max-age=10, stale-while-revalidate=0", "Age", "20")).asksAgain()
	c.page(ok("Cache-Control", "max-age=10, must-revalidate", "Age", "20")).asksAgain()
}

// outages are how an origin fails.
var outages = map[string]says{
	"500": {status: 500}, "502": {status: 502}, "503": {status: 503}, "504": {status: 504},
	"drop": {do: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
}

// RFC 5861 4: stale-if-error of the answer, or of the request.
func TestCachingStaleIfError(t *testing.T) {
	bothModes(t, func(c *caching) {
		for name, failing := range outages {
			p := c.page(ok("Cache-Control", "max-age=10, stale-if-error=60", "Age", "20"), failing)
			p.want(1, "Miss")
			resp := p.want(1, "Stale")
			if resp.StatusCode != 200 {
				c.t.Errorf("%s: %d", name, resp.StatusCode)
			}
			age(c.t, resp, 20)
			p = c.page(ok("Cache-Control", "max-age=10, stale-while-revalidate=5, stale-if-error=1", "Age", "20"), failing)
			p.want(1, "Miss")
			p.want(1, "Stale", "Cache-Control", "stale-if-error=60")
		}
	})
}

// RFC 9111 4.2.4: the origin cannot be reached.
func TestCachingStaleIfUnreachable(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", "max-age=10, stale-if-error=60", "Age", "20"))
		p.want(1, "Miss")
		q := c.page(ok("Cache-Control", "max-age=10, must-revalidate, stale-if-error=60", "Age", "20"))
		q.want(1, "Miss")
		c.stage.cast(cachingOrigin, role{refuse: true})
		p.want(1, "Stale")
		if resp, _ := q.get(); resp.StatusCode < 500 {
			c.t.Errorf("must-revalidate: %d %v", resp.StatusCode, resp.Header)
		}
	})
}

// RFC 5861 4: no longer than it says, not for other statuses, and not where that is
// forbidden (RFC 9111 4.2.4, 5.2.2.2, 5.2.2.8, 5.2.2.10).
func TestCachingStaleIfErrorEnds(t *testing.T) {
	bothModes(t, func(c *caching) {
		f := func(control string, status int, headers ...string) {
			c.t.Helper()
			p := c.page(ok("Cache-Control", control, "Age", "20", "ETag", `"a"`), says{status: status})
			p.want(1, "Miss")
			if resp, _ := p.get(headers...); resp.StatusCode != status {
				c.t.Errorf("%s: %d, want %d: %v", control, resp.StatusCode, status, resp.Header)
			}
		}
		f("max-age=10, stale-if-error=5", 500)
		f("max-age=10, stale-if-error=60", 501)
		f("max-age=10, stale-if-error=60", 404)
		f("max-age=10, stale-if-error=60, must-revalidate", 503)
		f("max-age=10, stale-if-error=60, proxy-revalidate", 503)
		f("s-maxage=10, stale-if-error=60", 503)
		f("max-age=10, stale-if-error=60", 503, "Cache-Control", "max-age=60")
		f("max-age=10, must-revalidate, stale-if-error=9", 503, "Cache-Control", "stale-if-error=60")
	})
	c := openCaching(t, byRFC)
	p := c.page(ok("Cache-Control", "no-cache, stale-if-error=60", "ETag", `"a"`), says{status: 503})
	p.want(1, "Miss")
	if resp, _ := p.get(); resp.StatusCode != 503 {
		t.Errorf("no-cache: %d", resp.StatusCode)
	}
}

// RFC 9111 4.2.4: serve_stale_on_error permits it, what an answer says goes before.
func TestCachingStaleOnErrorSetting(t *testing.T) {
	for _, mode := range []string{byRFC, byControl} {
		c := openCaching(t, mode+", serve_stale_on_error: true, stale_if_error: 60")
		f := func(control string, given bool) {
			t.Helper()
			p := c.page(ok("Cache-Control", control, "Age", "20", "Last-Modified", ago(time.Hour), "ETag", `"a"`), says{status: 503})
			resp, _ := p.get()
			if mode == byControl && resp.Header.Get("X-Cache-Status") == "Bypass" {
				return // too old to be kept
			}
			resp, _ = p.get()
			if want := map[bool]string{true: "1", false: "2"}[given]; resp.Header.Get("X-Answer") != want {
				t.Errorf("%s, %s: %d %v", mode, control, resp.StatusCode, resp.Header)
			}
		}
		f("max-age=10", true)
		f("max-age=10, stale-if-error=0", false)
		f("max-age=10, must-revalidate", false)
		f("no-cache", false)
	}
}

// The gateway says that an answer is stale. RFC 9111 5.5: a Warning that came with an
// answer means nothing.
func TestCachingStaleWarning(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", "max-age=10, stale-if-error=60", "Age", "20"), says{status: 503})
		p.want(1, "Miss")
		if resp := p.want(1, "Stale"); !strings.HasPrefix(resp.Header.Get("Warning"), "110 ") {
			c.t.Errorf("%v", resp.Header)
		}
		c.keeps(ok("Cache-Control", lasting, "Warning", `110 - "Response is Stale"`))
	})
}
