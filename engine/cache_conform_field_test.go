package engine_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// RFC 9213 2.2: CDN-Cache-Control goes before Cache-Control and Expires.
func TestCachingTargeted(t *testing.T) {
	bothModes(t, func(c *caching) {
		fresh(c, "CDN-Cache-Control", "max-age=60", "Cache-Control", "no-store")
		fresh(c, "CDN-Cache-Control", "max-age=60", "Cache-Control", "private, no-cache", "Expires", "0")
		outdated(c, "CDN-Cache-Control", "no-store", "Cache-Control", "public, max-age=60")
		outdated(c, "CDN-Cache-Control", "max-age=0", "Cache-Control", "s-maxage=60", "Expires", in(time.Minute))
		outdated(c, "CDN-Cache-Control", "private, max-age=60", "Cache-Control", lasting)
		outdated(c, "CDN-Cache-Control", "no-cache", "Cache-Control", lasting)
		fresh(c, "CDN-Cache-Control", "max-age=60, s-maxage=30", "Cache-Control", "max-age=0", "Age", "20")
		// Freshness is not looked for in fields that do not count.
		outdated(c, "CDN-Cache-Control", "x-made-up", "Cache-Control", lasting, "Expires", in(time.Minute))
		// The other way about, what Cache-Control forbids does not count either.
		p := c.page(ok("CDN-Cache-Control", "max-age=60", "Cache-Control", `private="x-mine"`, "X-Mine", "1"))
		p.want(1, "Miss")
		field(c.t, p.want(1, "Hit").Header, "X-Mine", "1")
	})
}

// RFC 9213 2.1: it is a Dictionary. Lines add up, the last of two counts, parameters do not,
// what is of another type is.
func TestCachingTargetedForms(t *testing.T) {
	bothModes(t, func(c *caching) {
		fresh(c, "CDN-Cache-Control", "max-age=0, max-age=60")
		fresh(c, "CDN-Cache-Control", "max-age=0", "CDN-Cache-Control", "max-age=60")
		outdated(c, "CDN-Cache-Control", "max-age=60", "CDN-Cache-Control", "no-store")
		fresh(c, "CDN-Cache-Control", "max-age=60;x=1, y=(a b)")
		fresh(c, "CDN-Cache-Control", "max-age=60, no-store=?0")
		outdated(c, "CDN-Cache-Control", `max-age="60"`, "Cache-Control", lasting)
		outdated(c, "CDN-Cache-Control", "max-age=60.5", "Cache-Control", lasting)
	})
}

// RFC 9213 2.1, 2.2: one that is malformed or empty is as none.
func TestCachingTargetedMalformed(t *testing.T) {
	bothModes(t, func(c *caching) {
		for _, bad := range []string{"", "max-age=60,", "no-store, max-age=", "Max-Age=0", "max-age=0 no-store", `no-store, x="`, "no-store; ;", "no-store, /", "no-store, x=é"} {
			fresh(c, "CDN-Cache-Control", bad, "Cache-Control", lasting)
			outdated(c, "CDN-Cache-Control", bad, "Cache-Control", "no-store, max-age=60")
		}
	})
}

// RFC 9213 2.2, 3.1: it goes on to the client, who may be a cache of the same operator.
func TestCachingTargetedGoesOn(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("CDN-Cache-Control", "max-age=60", "Cache-Control", "no-store"))
		for _, status := range []string{"Miss", "Hit"} {
			h := p.want(1, status).Header
			field(c.t, h, "Cdn-Cache-Control", "max-age=60")
			field(c.t, h, "Cache-Control", "no-store")
		}
	})
}

// Edge Architecture 1.0: Surrogate-Control goes before Cache-Control, after
// CDN-Cache-Control, and no further than the gateway.
func TestCachingSurrogateControl(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Surrogate-Control", "max-age=60", "Cache-Control", "no-store"))
		for _, status := range []string{"Miss", "Hit"} {
			field(c.t, p.want(1, status).Header, "Surrogate-Control", "")
		}
		p = c.page(ok("Surrogate-Control", "no-store", "Cache-Control", lasting))
		field(c.t, p.want(1, "Bypass").Header, "Surrogate-Control", "")
		outdated(c, "Surrogate-Control", "max-age=0", "Cache-Control", lasting)
		fresh(c, "Surrogate-Control", `content="ESI/1.0"`, "Cache-Control", lasting)
		fresh(c, "Surrogate-Control", "no-store;abc", "Cache-Control", lasting)
		fresh(c, "Surrogate-Control", "no-store", "CDN-Cache-Control", "max-age=60")
		p = c.page(ok("Surrogate-Control", "max-age=10+60", "Age", "20"))
		p.want(1, "Miss")
		p.want(1, "Stale")
	})
}

// member matches Cache-Status against a pattern.
func member(t testing.TB, resp *http.Response, want string) {
	t.Helper()
	lines := resp.Header.Values("Cache-Status")
	if len(lines) == 0 || !regexp.MustCompile("^sluice"+want+"$").MatchString(lines[len(lines)-1]) {
		t.Errorf("Cache-Status %q, want sluice%s", lines, want)
	}
}

// RFC 9211 2: what Cache-Status says.
func TestCachingCacheStatus(t *testing.T) {
	c := openCaching(t, byRFC)
	p := c.page(ok("Cache-Control", lasting, "ETag", `"a"`), unchanged("Cache-Control", lasting), ok("Cache-Control", "no-store"))
	member(t, p.want(1, "Miss"), "; fwd=uri-miss; fwd-status=200; stored")
	member(t, p.want(1, "Hit"), "; hit; ttl=(59|60)")
	member(t, p.want(1, "Hit", "If-None-Match", `"a"`), "; hit; ttl=(59|60)")
	member(t, p.want(1, "Refresh", "Cache-Control", "no-cache"), "; fwd=request; fwd-status=304; stored")
	member(t, p.want(3, "Bypass", "Cache-Control", "no-cache"), "; fwd=request; fwd-status=200; detail=no-store")
	resp, _ := c.do("POST", p.path, "")
	member(t, resp, "; fwd=method; fwd-status=200")
	p = c.page(old("ETag", `"a"`), unchanged("Cache-Control", lasting))
	p.want(1, "Miss")
	member(t, p.want(1, "Refresh"), "; fwd=stale; fwd-status=304; stored")
	p = c.page(ok("Cache-Control", lasting, "Vary", "X-A"))
	member(t, p.want(1, "Miss", "X-A", "1"), "; fwd=uri-miss; fwd-status=200; stored")
	member(t, p.want(2, "Miss", "X-A", "2"), "; fwd=vary-miss; fwd-status=200; stored")
	p = c.page(ok("Cache-Control", "max-age=10, stale-if-error=60", "Age", "20"), says{status: 503})
	p.want(1, "Miss")
	member(t, p.want(1, "Hit", "Cache-Control", "max-stale"), "; hit; ttl=-1[01]")
	p = c.page(ok("Cache-Control", lasting))
	resp, _ = p.get("Range", "bytes=0-0")
	member(t, resp, "; fwd=uri-miss; fwd-status=200(; detail=[a-z-]+)?")
}

// RFC 9211 2.1, 2.2: hit says that nobody was asked, fwd that somebody was.
func TestCachingCacheStatusTruth(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", lasting, "ETag", `"a"`))
		resp, _ := p.get("Cache-Control", "only-if-cached")
		member(c.t, resp, "(; detail=[a-z-]+)?")
		member(c.t, p.want(1, "Miss", "If-None-Match", `"b"`), "; fwd=uri-miss; fwd-status=200; stored")
		p = c.page(ok("Cache-Control", "max-age=10, stale-if-error=60", "Age", "20"), says{status: 503})
		p.want(1, "Miss")
		member(c.t, p.want(1, "Stale"), "; fwd=stale; fwd-status=503(; ttl=-1[01])?(; detail=[a-z-]+)?")
	})
}

// RFC 9211 2: what caches nearer to the origin said stays, and stands before.
func TestCachingCacheStatusOrder(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", lasting, "Cache-Status", "Origin; hit", "Cache-Status", "Shield; fwd=stale"))
		for _, status := range []string{"Miss", "Hit"} {
			for _, secure := range []bool{false, true} {
				resp, _ := c.rawTo(secure, "GET "+p.path+" HTTP/1.1\r\nHost: api.example.com\r\nX: "+status+"\r\n\r\n")
				lines := resp.Header.Values("Cache-Status")
				if len(lines) != 3 || lines[0] != "Origin; hit" || lines[1] != "Shield; fwd=stale" || !strings.HasPrefix(lines[2], "sluice; ") {
					c.t.Errorf("TLS %t, %s: %q", secure, status, lines)
				}
			}
		}
	})
}
