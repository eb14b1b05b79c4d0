package engine_test

import (
	"bufio"
	"net/http"
	"strings"
	"testing"
	"time"
)

const lasting = "max-age=60"

// keeps and refuses check whether an answer is kept.
func (c *caching) keeps(a says, headers ...string) {
	c.t.Helper()
	c.page(a).kept(headers...)
}

func (c *caching) refuses(a says, headers ...string) {
	c.t.Helper()
	c.page(a).notKept(headers...)
}

// RFC 9111 5.2.2.5: no-store.
func TestCachingNoStore(t *testing.T) {
	bothModes(t, func(c *caching) {
		c.refuses(ok("Cache-Control", "no-store"))
		c.refuses(ok("Cache-Control", "max-age=60, no-store", "ETag", `"a"`))
		c.refuses(ok("Cache-Control", "no-store, max-age=60, public"))
		c.refuses(ok("Cache-Control", lasting, "Cache-Control", "no-store"))
		c.refuses(ok("Cache-Control", "no-store=x, max-age=60"))
	})
}

// RFC 9111 5.2.2.7: private is for no shared cache.
func TestCachingPrivate(t *testing.T) {
	bothModes(t, func(c *caching) {
		c.refuses(ok("Cache-Control", "private"))
		c.refuses(ok("Cache-Control", "private, max-age=60"))
		c.refuses(ok("Cache-Control", "private, s-maxage=60, public"))
		c.refuses(ok("Cache-Control", `private, private="x-mine", max-age=60`))
	})
}

// RFC 9111 5.2.2.7: with names, those fields are for who asked alone.
func TestCachingPrivateFields(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", `max-age=60, private="X-Mine, X-Ours"`, "X-Mine", "secret", "X-Ours", "a", "X-Ours", "b", "X-All", "1"))
		h := p.want(1, "Miss").Header
		field(c.t, h, "X-Mine", "secret")
		field(c.t, h, "X-Ours", "a|b")
		h = p.want(1, "Hit").Header
		field(c.t, h, "X-Mine", "")
		field(c.t, h, "X-Ours", "")
		field(c.t, h, "X-All", "1")
	})
}

// RFC 9111 5.2.2.7: who asked gets them also where his condition is weighed here.
func TestCachingPrivateFieldsOfConditional(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", `max-age=60, private="X-Mine"`, "X-Mine", "secret", "ETag", `"a"`))
		field(c.t, p.want(1, "Miss", "If-None-Match", `"b"`).Header, "X-Mine", "secret")
		field(c.t, p.want(1, "Hit", "If-None-Match", `"b"`).Header, "X-Mine", "")
	})
}

// RFC 9111 5.2.2.4: with names, those fields are not given without asking.
func TestCachingNoCacheFields(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", `max-age=60, no-cache="x-once"`, "X-Once", "1", "X-All", "1"))
		field(c.t, p.want(1, "Miss").Header, "X-Once", "1")
		h := p.want(1, "Hit").Header
		field(c.t, h, "X-Once", "")
		field(c.t, h, "X-All", "1")
	})
}

// RFC 9111 5.2.2.4: no-cache is never given without asking; with rfc it is kept and asked
// about.
func TestCachingNoCache(t *testing.T) {
	bothModes(t, func(c *caching) {
		c.page(ok("Cache-Control", "no-cache, max-age=60", "ETag", `"a"`)).asksAgain()
		c.page(ok("Cache-Control", "no-cache", "Last-Modified", ago(time.Hour))).asksAgain()
		c.page(ok("Cache-Control", "no-cache, max-age=60")).asksAgain("Cache-Control", "max-stale")
		c.page(ok("Cache-Control", `no-cache, no-cache="x", max-age=60`)).asksAgain()
	})
	c := openCaching(t, byRFC)
	p := c.page(ok("Cache-Control", "no-cache, max-age=60", "ETag", `"a"`), says{status: 304})
	p.want(1, "Miss")
	p.want(1, "Refresh")
	p.want(1, "Refresh")
	field(t, p.asked(3), "If-None-Match", `"a"`)
}

// RFC 9111 5.2.2.3: with must-understand, a status must be known; if it is, no-store does
// not count.
func TestCachingMustUnderstand(t *testing.T) {
	c := openCaching(t, byRFC)
	c.keeps(ok("Cache-Control", "must-understand, no-store, max-age=60"))
	c.keeps(says{status: 404, fields: []string{"Cache-Control", "must-understand, max-age=60"}})
	c.refuses(says{status: 299, fields: []string{"Cache-Control", "must-understand, max-age=60"}})
	c.refuses(says{status: 599, fields: []string{"Cache-Control", "must-understand, no-store, max-age=60"}})
	c.refuses(ok("Cache-Control", "must-understand, private, max-age=60"))
}

// RFC 9111 3, RFC 9110 15.1: which statuses are kept without and with word of how long.
func TestCachingStatuses(t *testing.T) {
	c := openCaching(t, byRFC)
	modified := ago(1000 * time.Hour)
	for _, status := range []int{200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 451, 501} {
		c.keeps(says{status: status, fields: []string{"Last-Modified", modified, "X-Answer", "1"}})
	}
	for _, status := range []int{201, 202, 205, 302, 303, 307, 400, 401, 403, 406, 409, 412, 413, 415, 418, 422, 500, 502, 503, 504, 299, 499, 599} {
		c.refuses(says{status: status, fields: []string{"Last-Modified", modified}})
	}
	for _, status := range []int{201, 202, 302, 303, 307, 400, 403, 409, 422, 500, 503, 299, 499, 599} {
		c.keeps(says{status: status, fields: []string{"Cache-Control", lasting}})
		c.keeps(says{status: status, fields: []string{"Cache-Control", "s-maxage=60"}})
		c.keeps(says{status: status, fields: []string{"Expires", in(time.Hour)}})
	}
	c.keeps(says{status: 302, fields: []string{"Cache-Control", "public", "Last-Modified", modified}})
}

// RFC 6585 3 to 6: these are never kept.
func TestCachingStatusesForbidden(t *testing.T) {
	c := openCaching(t, byRFC)
	for _, status := range []int{428, 429, 431, 511} {
		c.refuses(says{status: status, fields: []string{"Cache-Control", "public, max-age=60"}})
	}
}

// RFC 9111 3: interim answers are not final.
func TestCachingInterimNotKept(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(says{do: func(w http.ResponseWriter, _ *http.Request) {
			h := w.Header()
			h.Set("Link", "</a.css>; rel=preload")
			h.Set("Cache-Control", "max-age=3600")
			w.WriteHeader(http.StatusEarlyHints)
			h.Del("Link")
			h.Set("Cache-Control", "no-store")
			h.Set("X-Answer", "1")
			w.WriteHeader(http.StatusOK)
		}})
		for n := range 2 {
			if p.get(); p.hits() != n+1 {
				c.t.Errorf("%d requests at the origin, want %d", p.hits(), n+1)
			}
		}
	})
}

// RFC 9111 3.3, 3.4: a part is not kept, and so not put together with others.
func TestCachingPartialNotKept(t *testing.T) {
	bothModes(t, func(c *caching) {
		part := says{status: 206, body: "ans", fields: []string{"Cache-Control", lasting, "Content-Range", "bytes 0-2/10", "ETag", `"a"`}}
		p := c.page(part)
		p.want(1, "Bypass")
		c.page(part).asksAgain("Range", "bytes=0-2")
		p = c.page(part, ok("Cache-Control", lasting, "ETag", `"a"`))
		p.get("Range", "bytes=0-2")
		p.want(2, "Miss")
		p.want(2, "Hit")
	})
}

// RFC 9111 3: 304 is no answer of its own.
func TestCachingNotModifiedNotKept(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(says{status: 304, fields: []string{"Cache-Control", lasting, "ETag", `"a"`}}, ok("Cache-Control", lasting))
		p.get()
		p.want(2, "Miss")
		p.want(2, "Hit")
	})
}

// RFC 9111 3.3: what breaks off is not kept.
func TestCachingIncompleteNotKept(t *testing.T) {
	bothModes(t, func(c *caching) {
		for _, framing := range []string{"Content-Length: 100\r\n\r\nten bytes.", "Transfer-Encoding: chunked\r\n\r\na\r\nten bytes.\r\n"} {
			p := c.page(says{do: func(w http.ResponseWriter, _ *http.Request) {
				conn, rw, err := http.NewResponseController(w).Hijack()
				if err != nil {
					c.t.Error(err)
					return
				}
				_, _ = rw.WriteString("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nCache-Control: max-age=60\r\n" + framing)
				_ = rw.Flush()
				_ = conn.Close()
			}}, ok("Cache-Control", lasting))
			a := c.send(noRedirects, http.MethodGet, p.path, http.NoBody)
			if a.err == nil && a.status() == http.StatusOK {
				c.t.Errorf("half an answer is whole: %q", a.body)
			}
			p.want(2, "Miss")
			p.want(2, "Hit")
		}
	})
}

// RFC 9111 3.5: an answer to a request with Authorization is kept only where it says so.
func TestCachingAuthorization(t *testing.T) {
	bothModes(t, func(c *caching) {
		who := []string{"Authorization", "Basic YWRhOmFkYQ=="}
		c.refuses(ok("Cache-Control", lasting), who...)
		c.refuses(ok("Expires", in(time.Hour)), who...)
		c.refuses(ok("Last-Modified", ago(100*time.Hour)), who...)
		c.refuses(ok("Cache-Control", "max-age=60, proxy-revalidate"), who...)
		c.keeps(ok("Cache-Control", "max-age=60, public"), who...)
		c.keeps(ok("Cache-Control", "max-age=60, must-revalidate"), who...)
		c.keeps(ok("Cache-Control", "s-maxage=60"), who...)
	})
}

// RFC 9111 3.5: nobody else is ever given it.
func TestCachingAuthorizationOfStranger(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", lasting))
		p.want(1, "Bypass", "Authorization", "Basic YWRh")
		p.want(2, "Bypass", "Authorization", "Basic Z3JhY2U=")
		p.want(3, "Miss")
		p.want(3, "Hit", "Authorization", "Basic YWRh") // it is for everybody
	})
}

// RFC 9111 3.5: nor is it in Kong's mode, where the service alone knows whose it is.
func TestCachingAuthorizationKong(t *testing.T) {
	c := openCaching(t, "cache_ttl: 60")
	p := c.page(ok())
	p.want(1, "Bypass", "Authorization", "Basic YWRh")
	p.want(2, "Miss")
	p.want(3, "Bypass", "Authorization", "Basic YWRh")
}

// RFC 9111 7.3: a cookie is for one. What sets one is not kept, in any mode.
func TestCachingSetCookieNotKept(t *testing.T) {
	for _, settings := range []string{byRFC, byControl, "cache_ttl: 60"} {
		c := openCaching(t, settings)
		p := c.page(ok("Cache-Control", "public, max-age=60", "Set-Cookie", "id=1"))
		field(t, p.want(1, "Bypass").Header, "Set-Cookie", "id=1")
		field(t, p.want(2, "Bypass").Header, "Set-Cookie", "id=1")
	}
	bothModes(t, func(c *caching) {
		for _, said := range []string{`private="set-cookie"`, `no-cache="Set-Cookie"`} {
			p := c.page(ok("Cache-Control", "max-age=60, "+said, "Set-Cookie", "id=1", "Set-Cookie", "b=2"))
			field(c.t, p.want(1, "Miss").Header, "Set-Cookie", "id=1|b=2")
			field(c.t, p.want(1, "Hit").Header, "Set-Cookie", "")
		}
	})
}

// RFC 9111 3.1: every field is kept as it was sent, known or not, lines and all.
func TestCachingFieldsKept(t *testing.T) {
	for _, settings := range []string{byRFC, byControl + `, content_type: ["text/plain;charset=UTF-8"]`} {
		c := openCaching(t, settings)
		lines := []string{
			`Etag: W/"a,b"`, "Content-Type: text/plain;charset=UTF-8", "Content-Language: de, en", "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT",
			"Cache-Control: max-age=60", "Cache-Control: x-unknown=\"a, b\"", "Link: </a>; rel=a", "Link: </b>; rel=b, </c>; rel=c",
			"X-Latin: caf\xe9", "X-Spaced: a  b\tc", "X-Empty:", "Server: origin/1.0", "Date: " + ago(10*time.Second), "Content-Location: /there", "Content-Encoding: x-none",
			"Access-Control-Allow-Origin: *", "Www-Authenticate: Basic realm=\"x\"", "Expires: 0", "Warning: 214 - \"made up\"", "X-Answer: 1",
		}
		p := c.page(says{do: func(w http.ResponseWriter, _ *http.Request) {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				c.t.Error(err)
				return
			}
			_, _ = rw.WriteString("HTTP/1.1 200 OK\r\n" + strings.Join(lines, "\r\n") + "\r\nContent-Length: 2\r\n\r\nok")
			_ = rw.Flush()
			_ = conn.Close()
		}})
		for _, secure := range []bool{false, true} {
			for _, status := range []string{"Miss", "Hit"} {
				conn := c.dial(secure)
				_, _ = conn.Write([]byte("GET " + p.path + " HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n"))
				var got []string
				for s := bufio.NewScanner(conn); s.Scan() && s.Text() != ""; {
					got = append(got, s.Text())
				}
				all := "\n" + strings.Join(got, "\n") + "\n"
				for _, l := range append(lines, "X-Cache-Status: "+status) {
					if n := strings.Count(strings.ReplaceAll(all, ": \n", ":\n"), "\n"+l+"\n"); n != 1 {
						c.t.Errorf("TLS %t, %s: %d times %q in %q", secure, status, n, l, got)
					}
				}
			}
		}
	}
}

// RFC 9111 3.1: fields of one connection, and of proxies' authentication, are not kept.
func TestCachingConnectionFieldsNotKept(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", lasting, "Connection", "close, X-Hop, x-other", "X-Hop", "1", "X-Other", "1", "Keep-Alive", "timeout=5", "Upgrade", "h2c",
			"Proxy-Connection", "close", "Proxy-Authenticate", "Basic realm=x", "Proxy-Authentication-Info", "x=1", "Te", "trailers", "X-All", "1"))
		p.want(1, "Miss")
		h := p.want(1, "Hit").Header
		for _, name := range []string{"X-Hop", "X-Other", "Keep-Alive", "Upgrade", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authentication-Info", "Te"} {
			field(c.t, h, name, "")
		}
		field(c.t, h, "X-All", "1")
	})
}

// RFC 9111 3: a method that is not known to be cacheable is not kept.
func TestCachingMethodsNotKept(t *testing.T) {
	bothModes(t, func(c *caching) {
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "QUERY", "MADEUP"} {
			p := c.page(ok("Cache-Control", "public, max-age=60", "Content-Location", "/elsewhere"))
			for n := 1; n <= 2; n++ {
				resp, _ := c.do(method, p.path, "")
				p.check(resp, n, "Bypass")
			}
			p.want(3, "Miss")
		}
	})
}

// RFC 9111 2, 4: the key is the target URI, host and arguments included.
func TestCachingTargetURI(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", lasting))
		n := 0
		for _, query := range []string{"", "?a=1", "?a=2", "?a=1&b=2", "?A=1", "?a=1&a=2", "?a=2&a=1", "?a", "?a="} {
			for _, host := range []string{"one.example", "two.example", "one.example:81"} {
				n++
				for _, status := range []string{"Miss", "Hit"} {
					resp, _ := c.get(p.path+query, "Host", host)
					p.check(resp, n, status)
				}
			}
		}
		resp, _ := c.get(p.path, "Host", "ONE.Example")
		p.check(resp, 1, "Hit")
	})
}

// RFC 9110 4.2.3: arguments in another order are another URI.
func TestCachingTargetURIArgumentOrder(t *testing.T) {
	c := openCaching(t, byRFC)
	p := c.page(ok("Cache-Control", lasting))
	for n, query := range []string{"?a=1&b=2", "?b=2&a=1"} {
		resp, _ := c.get(p.path + query)
		p.check(resp, n+1, "Miss")
	}
}
