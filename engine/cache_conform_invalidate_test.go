package engine_test

import (
	"net/http"
	"strconv"
	"testing"
)

// changes makes a page, has it kept, changes something and reports whether it is kept yet.
func (c *caching) changes(method string, status int, fields ...string) (kept bool) {
	c.t.Helper()
	lastly := ok("Cache-Control", lasting)
	p := c.page(lastly, says{status: status, fields: fields}, lastly)
	p.want(1, "Miss")
	c.do(method, p.path, "")
	resp, _ := p.get()
	return resp.Header.Get("X-Answer") == "1"
}

// RFC 9111 4.4: an unsafe method that does not fail makes go what is kept of the URI.
func TestCachingInvalidation(t *testing.T) {
	bothModes(t, func(c *caching) {
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "MADEUP"} {
			for _, status := range []int{200, 201, 202, 204, 205, 301, 303, 307} {
				if c.changes(method, status) {
					c.t.Errorf("%s, %d: still kept", method, status)
				}
			}
			for _, status := range []int{400, 404, 412, 500, 503} {
				if !c.changes(method, status) {
					c.t.Errorf("%s, %d: gone", method, status)
				}
			}
		}
	})
}

// RFC 9111 4.4, RFC 9110 9.2.1: a safe one does not.
func TestCachingInvalidationNotBySafe(t *testing.T) {
	bothModes(t, func(c *caching) {
		for _, method := range []string{"OPTIONS", "TRACE", "PROPFIND", "QUERY", "REPORT", "SEARCH"} {
			if !c.changes(method, 200) {
				c.t.Errorf("%s: gone", method)
			}
		}
	})
}

// RFC 9111 4.4: all that is kept of the URI goes, whatever it varies by.
func TestCachingInvalidationOfVariants(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", lasting, "Vary", "X-A"))
		p.want(1, "Miss", "X-A", "1")
		p.want(2, "Miss", "X-A", "2")
		c.do("PUT", p.path, "x")
		for n, value := range []string{"1", "2"} {
			if resp, _ := p.get("X-A", value); resp.Header.Get("X-Answer") != strconv.Itoa(n+4) {
				c.t.Errorf("X-A %s: %v", value, resp.Header)
			}
		}
	})
}

// RFC 9111 4.4: arguments are part of the URI that goes.
func TestCachingInvalidationOfQuery(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", lasting))
		resp, _ := c.get(p.path + "?a=1")
		p.check(resp, 1, "Miss")
		c.do("POST", p.path+"?a=1", "")
		resp, _ = c.get(p.path + "?a=1")
		if resp.Header.Get("X-Answer") != "3" {
			c.t.Errorf("still kept: %v", resp.Header)
		}
	})
}

// RFC 9111 4.4: Location and Content-Location may be of another URI of the same origin, and
// must not reach into another's.
func TestCachingInvalidationByLocation(t *testing.T) {
	bothModes(t, func(c *caching) {
		other := c.page(ok("Cache-Control", lasting))
		f := func(name, value string, gone bool) {
			c.t.Helper()
			p := c.page(says{status: 201, fields: []string{name, value}})
			resp, _ := c.get(other.path, "Host", "one.example")
			before := resp.Header.Get("X-Answer")
			c.do("POST", p.path, "", "Host", "one.example")
			resp, _ = c.get(other.path, "Host", "one.example")
			if resp.Header.Get("X-Answer") != before != gone {
				c.t.Errorf("%s: %s: gone %t, want %t", name, value, !gone, gone)
			}
		}
		for _, name := range []string{"Location", "Content-Location"} {
			f(name, other.path, true)
			f(name, "http://one.example"+other.path, true)
			f(name, "http://ONE.example"+other.path+"#top", true)
			f(name, "http://two.example"+other.path, false)
			f(name, "http://one.example:81"+other.path, false)
			f(name, "https://one.example"+other.path, false)
			f(name, "//two.example"+other.path, false)
			f(name, "http://one.example@two.example"+other.path, false)
			f(name, "http://two.example/http://one.example"+other.path, false)
		}
	})
}

// RFC 9111 4.4: nor does what is kept of another origin's URI go with that of one's own.
func TestCachingInvalidationOfHost(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", lasting))
		resp, _ := c.get(p.path, "Host", "one.example")
		p.check(resp, 1, "Miss")
		resp, _ = c.get(p.path, "Host", "two.example")
		p.check(resp, 2, "Miss")
		c.do("DELETE", p.path, "", "Host", "one.example")
		resp, _ = c.get(p.path, "Host", "one.example")
		p.check(resp, 4, "Miss")
		resp, _ = c.get(p.path, "Host", "two.example")
		p.check(resp, 2, "Hit")
	})
}

// RFC 9111 4.4: an answer that was asked for before the change is not kept after it.
func TestCachingInvalidationUnderWay(t *testing.T) {
	bothModes(t, func(c *caching) {
		release := make(chan struct{})
		p := c.page(says{do: func(w http.ResponseWriter, _ *http.Request) {
			<-release
			w.Header().Set("Content-Type", "text/plain")
			w.Header().Set("Cache-Control", lasting)
			w.Header().Set("X-Answer", "1")
		}}, says{status: 204}, ok("Cache-Control", lasting))
		first := c.background(p.path)
		eventually(c.t, "the request to be at the origin", func() bool { return p.hits() == 1 })
		c.do("PUT", p.path, "x")
		close(release)
		if a := first.wait(c.t); a.status() != 200 {
			c.t.Errorf("%d %v", a.status(), a.err)
		}
		resp, _ := p.get()
		if resp.Header.Get("X-Answer") != "3" {
			c.t.Errorf("what was before the change is given after it: %v", resp.Header)
		}
	})
}

// RFC 9111 4: a request with an unsafe method is always sent to the origin.
func TestCachingUnsafeWritesThrough(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", lasting))
		p.want(1, "Miss")
		for n := 2; n <= 3; n++ {
			resp, body := c.do("POST", p.path, "data")
			if p.hits() != n || body != "answer "+strconv.Itoa(n) {
				c.t.Errorf("%d requests at the origin, %q %v", p.hits(), body, resp.Header)
			}
		}
	})
}
