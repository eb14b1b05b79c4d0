package engine_test

import (
	"net/http"
	"strings"
	"testing"
)

// RFC 9111 4.1: an answer with Vary is for requests that say the same in those fields.
func TestCachingVarySelection(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", lasting, "Vary", "X-Kind"))
		p.want(1, "Miss", "X-Kind", "a")
		p.want(1, "Hit", "X-Kind", "a", "X-Other", "b")
		p.want(2, "Miss", "X-Kind", "b")
		p.want(2, "Hit", "X-Kind", "b")
		p.want(1, "Hit", "X-Kind", "a")
		field(c.t, p.want(1, "Hit", "x-kind", "a").Header, "Vary", "X-Kind")
	})
}

// RFC 9111 4.1: a field that is absent matches only where it is absent.
func TestCachingVaryAbsent(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", lasting, "Vary", "X-Kind"))
		p.want(1, "Miss")
		p.want(2, "Miss", "X-Kind", "")
		p.want(3, "Miss", "X-Kind", "a")
		p.want(1, "Hit")
		p.want(2, "Hit", "X-Kind", "")
	})
}

// RFC 9111 4.1: several names, in one line or more, must all match.
func TestCachingVarySeveral(t *testing.T) {
	bothModes(t, func(c *caching) {
		for _, vary := range [][]string{{"Vary", "X-A, x-b"}, {"Vary", "X-A", "Vary", "X-B"}} {
			p := c.page(ok(append(vary, "Cache-Control", lasting)...))
			p.want(1, "Miss", "X-A", "1", "X-B", "1")
			p.want(2, "Miss", "X-A", "1", "X-B", "2")
			p.want(3, "Miss", "X-A", "2", "X-B", "1")
			p.want(4, "Miss", "X-A", "1")
			p.want(5, "Miss", "X-B", "1")
			p.want(1, "Hit", "X-B", "1", "X-A", "1")
			p.want(3, "Hit", "X-A", "2", "X-B", "1")
		}
	})
}

// RFC 9111 4.1: * matches nothing, alone or beside others.
func TestCachingVaryStar(t *testing.T) {
	bothModes(t, func(c *caching) {
		c.refuses(ok("Cache-Control", lasting, "Vary", "*"))
		c.refuses(ok("Cache-Control", lasting, "Vary", "X-A, *"))
		c.refuses(ok("Cache-Control", lasting, "Vary", "X-A", "Vary", "*"))
	})
}

// RFC 9111 4.1: white space and the lines of a list may differ, and what means the same;
// the order may not.
func TestCachingVaryNormalized(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", lasting, "Vary", "Accept-Encoding, X-List"))
		p.want(1, "Miss", "Accept-Encoding", "gzip, br", "X-List", "a, b")
		p.want(1, "Hit", "Accept-Encoding", "br,gzip;q=0.5", "X-List", "a,b")
		p.want(1, "Hit", "Accept-Encoding", "BR", "Accept-Encoding", "gzip", "X-List", "a", "X-List", "b")
		p.want(2, "Miss", "Accept-Encoding", "gzip, br", "X-List", "b, a")
		p.want(3, "Miss", "Accept-Encoding", "gzip", "X-List", "a, b")
	})
}

// RFC 9111 4.1: what means who asks is compared to the letter.
func TestCachingVaryVerbatim(t *testing.T) {
	bothModes(t, func(c *caching) {
		for _, name := range []string{"Cookie", "User-Agent", "X-Token"} {
			p := c.page(ok("Cache-Control", "public, max-age=60", "Vary", name))
			p.want(1, "Miss", name, "id=a b")
			p.want(2, "Miss", name, "id=ab")
			p.want(3, "Miss", name, "id=A b")
			p.want(1, "Hit", name, "id=a b")
		}
	})
}

// RFC 9111 4: of several that match the latest is used, also where its Vary is another.
func TestCachingVaryChanges(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", lasting, "Vary", "X-A"), ok("Cache-Control", lasting), ok("Cache-Control", lasting, "Vary", "X-B"))
		p.want(1, "Miss", "X-A", "1")
		p.want(2, "Miss", "X-A", "2")
		p.want(2, "Hit", "X-A", "1")
		p.want(2, "Hit")
		p = c.page(ok("Cache-Control", lasting, "Vary", "X-A"), ok("Cache-Control", lasting, "Vary", "X-B"))
		p.want(1, "Miss", "X-A", "1", "X-B", "1")
		p.want(2, "Miss", "X-A", "2", "X-B", "1")
		p.want(2, "Hit", "X-A", "1", "X-B", "1")
		p.want(2, "Hit", "X-A", "3", "X-B", "1")
	})
}

// RFC 9111 4.1: an answer whose Vary cannot be kept is not.
func TestCachingVaryTooMany(t *testing.T) {
	bothModes(t, func(c *caching) {
		c.refuses(ok("Cache-Control", lasting, "Vary", "X A"))
		c.refuses(ok("Cache-Control", lasting, "Vary", strings.Join(strings.Split("abcdefghijklmnopq", ""), ",")))
	})
}

// RFC 9111 4.3.1, 4.1: the entity tag sent with a question is that of the answer that
// matches the request.
func TestCachingVaryValidation(t *testing.T) {
	c := openCaching(t, byRFC)
	p := c.page(
		ok("Cache-Control", "no-cache", "Vary", "X-A", "ETag", `"one"`), ok("Cache-Control", "no-cache", "Vary", "X-A", "ETag", `"two"`),
		says{status: http.StatusNotModified, fields: []string{"Cache-Control", "no-cache", "Vary", "X-A"}},
	)
	p.want(1, "Miss", "X-A", "1")
	p.want(2, "Miss", "X-A", "2")
	field(t, p.asked(2), "If-None-Match", "")
	p.want(1, "Refresh", "X-A", "1")
	field(t, p.asked(3), "If-None-Match", `"one"`)
	p.want(2, "Refresh", "X-A", "2")
	field(t, p.asked(4), "If-None-Match", `"two"`)
}

// RFC 9111 4.1, 4.3.5: HEAD is served by the one that matches.
func TestCachingVaryHead(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", lasting, "Vary", "X-A"))
		p.want(1, "Miss", "X-A", "1")
		resp, _ := c.do(http.MethodHead, p.path, "", "X-A", "1")
		p.check(resp, 1, "Hit")
		resp, _ = c.do(http.MethodHead, p.path, "", "X-A", "2")
		p.check(resp, 2, "Miss")
	})
}
