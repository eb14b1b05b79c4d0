package engine_test

import (
	"net/http"
	"strings"
	"testing"
)

// Kong: neither flag. What an answer says about caching does not count.
func TestCachingKongIgnoresDirectives(t *testing.T) {
	c := openCaching(t, "cache_ttl: 60")
	for _, fields := range [][]string{
		{"Cache-Control", "no-store"}, {"Cache-Control", "private, max-age=0"}, {"Expires", "0"}, {"Age", "5000"}, {"Vary", "*"}, {"CDN-Cache-Control", "no-store"}, {"Pragma", "no-cache"},
	} {
		c.keeps(ok(fields...))
	}
	p := c.page(ok("Vary", "X-A"))
	p.want(1, "Miss", "X-A", "1")
	p.want(1, "Hit", "X-A", "2", "Cache-Control", "no-cache, no-store", "Pragma", "no-cache")
	if h := p.want(1, "Hit", "Cache-Control", "only-if-cached, max-age=0").Header; h.Get("Cache-Status") != "" {
		t.Errorf("Cache-Status %q", h.Get("Cache-Status"))
	}
}

// Kong: Miss, Hit, Refresh once cache_ttl is over, Bypass; Age is the time since it came.
func TestCachingKongStatus(t *testing.T) {
	c := openCaching(t, "cache_ttl: 1, storage_ttl: 60")
	p := c.page(ok("Age", "500"))
	p.want(1, "Miss")
	age(t, p.want(1, "Hit"), 0)
	eventually(t, "the answer to be stale", func() bool {
		resp, _ := p.get()
		return resp.Header.Get("X-Answer") == "2" && resp.Header.Get("X-Cache-Status") == "Refresh"
	})
	p.want(2, "Hit")
	p = c.page(says{status: 500})
	p.want(1, "Bypass")
	resp, _ := c.do("DELETE", p.path, "")
	p.check(resp, 2, "Bypass")
}

// Without storage_ttl an answer is gone after cache_ttl: the next request is a Miss.
func TestCachingKongTTL(t *testing.T) {
	c := openCaching(t, "cache_ttl: 1")
	p := c.page(ok())
	p.kept()
	eventually(t, "the answer to be gone", func() bool {
		resp, _ := p.get()
		status := resp.Header.Get("X-Cache-Status")
		return resp.Header.Get("X-Answer") == "2" && (status == "Miss" || status == "Refresh")
	})
}

// Kong: a type is kept to the letter, parameters included; * stands for any part.
func TestCachingKongContentType(t *testing.T) {
	f := func(c *caching, kept bool, contentType string) {
		t.Helper()
		a := ok("Content-Type", contentType)
		if kept {
			c.keeps(a)
		} else {
			c.refuses(a)
		}
	}
	c := openCaching(t, "cache_ttl: 60")
	f(c, true, "text/plain")
	f(c, true, "application/json")
	f(c, true, "Application/JSON")
	f(c, false, "application/json; charset=utf-8")
	f(c, false, "text/html")
	f(c, false, "-")
	c = openCaching(t, `content_type: ["application/json; charset=utf-8", "image/*"]`)
	f(c, true, "application/json; charset=utf-8")
	f(c, true, "image/png")
	f(c, true, "image/svg+xml; charset=utf-8")
	f(c, false, "application/json")
	f(c, false, "application/json;charset=utf-8")
	f(c, false, "text/plain")
}

// Kong: response_code and request_method say what is kept.
func TestCachingKongSelection(t *testing.T) {
	c := openCaching(t, "cache_ttl: 60")
	for _, status := range []int{200, 301, 404} {
		c.keeps(says{status: status})
	}
	for _, status := range []int{201, 203, 204, 302, 410, 500} {
		c.refuses(says{status: status, fields: []string{"Content-Type", "text/plain"}})
	}
	c = openCaching(t, "response_code: [418, 500], request_method: [POST, GET]")
	c.keeps(says{status: 418})
	c.keeps(says{status: 500})
	c.refuses(ok())
	p := c.page(says{status: 418})
	for _, status := range []string{"Miss", "Hit"} {
		resp, _ := c.do("POST", p.path, "")
		p.check(resp, 1, status)
	}
	p.want(2, "Miss")
	resp, _ := c.do("HEAD", p.path, "")
	p.check(resp, 3, "Bypass")
}

// Kong: HEAD is kept for itself.
func TestCachingKongHead(t *testing.T) {
	c := openCaching(t, "cache_ttl: 60")
	p := c.page(ok())
	p.want(1, "Miss")
	for _, status := range []string{"Miss", "Hit"} {
		resp, _ := c.do(http.MethodHead, p.path, "")
		p.check(resp, 2, status)
		if resp.ContentLength != int64(len("answer 1")) {
			t.Errorf("%s: %d bytes announced", status, resp.ContentLength)
		}
	}
	if _, body := p.get(); body != "answer 1" {
		t.Errorf("got %q", body)
	}
}

// asks sends GETs with the same answer or another one.
func (p *page) asks(answer int, status, query string, headers ...string) {
	p.c.t.Helper()
	resp, _ := p.c.get(p.path+query, headers...)
	p.check(resp, answer, status)
}

// Kong: all arguments are part of the key, in any order, or those of vary_query_params.
func TestCachingKongQuery(t *testing.T) {
	c := openCaching(t, "cache_ttl: 60")
	p := c.page(ok())
	p.asks(1, "Miss", "?b=2&a=1")
	p.asks(1, "Hit", "?a=1&b=2")
	p.asks(2, "Miss", "?a=1&b=3")
	p.asks(3, "Miss", "")
	c = openCaching(t, "vary_query_params: [b, a]")
	p = c.page(ok())
	p.asks(1, "Miss", "?a=1&b=2&c=3")
	p.asks(1, "Hit", "?c=4&b=2&a=1")
	p.asks(2, "Miss", "?a=1&b=3")
	p.asks(3, "Miss", "?a=1")
	p.asks(3, "Hit", "?a=1&A=2&aa=3")
}

// Kong: vary_headers are part of the key, whatever Vary says.
func TestCachingKongHeaders(t *testing.T) {
	c := openCaching(t, "vary_headers: [x-b, X-A]")
	p := c.page(ok())
	p.asks(1, "Miss", "", "X-A", "1", "X-B", "1")
	p.asks(1, "Hit", "", "X-B", "1", "X-A", "1", "X-C", "1")
	p.asks(2, "Miss", "", "X-A", "1", "X-B", "2")
	p.asks(3, "Miss", "", "X-A", "1")
	p.asks(4, "Miss", "", "X-B", "1")
	p.asks(5, "Miss", "")
}

// Kong: ignore_uri_case.
func TestCachingKongCase(t *testing.T) {
	for _, ignore := range []bool{true, false} {
		settings := "cache_ttl: 60"
		if ignore {
			settings = "ignore_uri_case: true"
		}
		c := openCaching(t, settings)
		p := c.pageAt("/Page", ok())
		c.pageAt("/page", ok())
		p.want(1, "Miss")
		resp, _ := c.get("/page")
		if hit := resp.Header.Get("X-Cache-Status") == "Hit"; hit != ignore {
			t.Errorf("ignore_uri_case %t: %v", ignore, resp.Header)
		}
	}
}

const cachingConsumers = `
consumers:
- {username: ada, keyauth_credentials: [{key: ada}]}
- {username: grace, keyauth_credentials: [{key: grace}]}
plugins:
- {name: key-auth, config: {key_names: [apikey]}}`

// Kong: each consumer has his own, also with Authorization, since the gateway knows him.
func TestCachingKongConsumers(t *testing.T) {
	for _, settings := range []string{"cache_ttl: 60", byRFC, byControl} {
		c := openCaching(t, settings, cachingConsumers)
		p := c.page(ok("Cache-Control", lasting))
		p.want(1, "Miss", "apikey", "ada")
		p.want(2, "Miss", "apikey", "grace")
		p.want(1, "Hit", "apikey", "ada")
		p.want(2, "Hit", "apikey", "grace")
		if resp, _ := p.get("apikey", "nobody"); resp.StatusCode != 401 || resp.Header.Get("X-Answer") != "" {
			t.Errorf("%d %v", resp.StatusCode, resp.Header)
		}
	}
	c := openCaching(t, "cache_ttl: 60", cachingConsumers)
	p := c.page(ok())
	p.want(1, "Miss", "apikey", "ada", "Authorization", "Basic YWRh")
	p.want(1, "Hit", "apikey", "ada", "Authorization", "Basic YWRh")
	p.want(2, "Miss", "apikey", "grace", "Authorization", "Basic YWRh")
}

// Kong: X-Cache-Key is 64 hexadecimal digits, the same for the same request and another
// one for another. response_headers turns headers off.
func TestCachingKongHeadersOut(t *testing.T) {
	c := openCaching(t, "cache_ttl: 60")
	p, q := c.page(ok()), c.page(ok())
	key := p.want(1, "Miss").Header.Get("X-Cache-Key")
	if len(key) != 64 || strings.Trim(key, "0123456789abcdef") != "" {
		t.Errorf("key %q", key)
	}
	field(t, p.want(1, "Hit").Header, "X-Cache-Key", key)
	if q.want(1, "Miss").Header.Get("X-Cache-Key") == key {
		t.Error("two pages have one key")
	}
	f := func(settings, absent string) {
		t.Helper()
		c := openCaching(t, settings)
		p := c.page(ok("Cache-Control", lasting))
		p.get()
		resp, _ := p.get()
		if p.hits() != 1 {
			t.Errorf("%d requests at the origin", p.hits())
		}
		for _, name := range []string{"Age", "X-Cache-Status", "X-Cache-Key", "Cache-Status"} {
			if present := resp.Header.Get(name) != ""; present == strings.Contains(absent, "|"+name+"|") {
				t.Errorf("%s: %s %q", settings, name, resp.Header.Get(name))
			}
		}
	}
	f("response_headers: {age: false}", "|Age|Cache-Status|")
	f("response_headers: {X-Cache-Status: false}", "|X-Cache-Status|Cache-Status|")
	f("response_headers: {X-Cache-Key: false}", "|X-Cache-Key|Cache-Status|")
	f("rfc: true, response_headers: {Cache-Status: false}", "|Cache-Status|")
	f("rfc: true", "||")
}

// Kong: what is left of a limit is not kept.
func TestCachingKongLimits(t *testing.T) {
	c := openCaching(t, "cache_ttl: 60")
	p := c.page(ok("X-RateLimit-Remaining-Minute", "7", "RateLimit-Remaining", "7", "X-RateLimit-Limit-Minute", "9"))
	field(t, p.want(1, "Miss").Header, "X-Ratelimit-Remaining-Minute", "7")
	h := p.want(1, "Hit").Header
	field(t, h, "X-Ratelimit-Remaining-Minute", "")
	field(t, h, "Ratelimit-Remaining", "")
	field(t, h, "X-Ratelimit-Limit-Minute", "9")
}

// A kept answer serves conditions and ranges in Kong's mode too.
func TestCachingKongConditions(t *testing.T) {
	c := openCaching(t, "cache_ttl: 60")
	p := c.page(says{body: digits, fields: []string{"ETag", `"a"`}})
	p.want(1, "Miss")
	if resp := p.want(1, "Hit", "If-None-Match", `"a"`); resp.StatusCode != 304 {
		t.Errorf("got %d", resp.StatusCode)
	}
	if resp, body := p.get("Range", "bytes=1-2"); resp.StatusCode != 206 || body != "12" {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
}
