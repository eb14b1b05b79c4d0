package engine_test

import (
	"net/http"
	"testing"
	"time"
)

// old is an answer that is stale when it comes, but can be asked about.
func old(fields ...string) says {
	return ok(append([]string{"Cache-Control", "max-age=10", "Age", "20"}, fields...)...)
}

func unchanged(fields ...string) says {
	return says{status: http.StatusNotModified, fields: fields}
}

// RFC 9111 4.3.1: the question has the entity tag, and the date if there is one.
func TestCachingValidationAsks(t *testing.T) {
	c := openCaching(t, byRFC)
	date := ago(time.Hour)
	f := func(match, since string, fields ...string) {
		t.Helper()
		p := c.page(old(fields...), unchanged())
		p.want(1, "Miss")
		p.want(1, "Refresh")
		field(t, p.asked(1), "If-None-Match", "")
		field(t, p.asked(2), "If-None-Match", match)
		field(t, p.asked(2), "If-Modified-Since", since)
	}
	f(`"a"`, "", "ETag", `"a"`)
	f(`W/"a"`, "", "ETag", `W/"a"`)
	f("", date, "Last-Modified", date)
	f(`"a,b"`, date, "Last-Modified", date, "ETag", `"a,b"`)
}

// RFC 9111 4.3.1: what is no entity tag and no date is not sent as one.
func TestCachingValidationNotWithout(t *testing.T) {
	c := openCaching(t, byRFC)
	for _, fields := range [][]string{{"ETag", "a"}, {"ETag", `"a`}, {"Last-Modified", "long ago"}, {}} {
		p := c.page(ok(append(fields, "Cache-Control", "max-age=10, stale-if-error=60", "Age", "20")...))
		p.asksAgain()
		field(t, p.asked(2), "If-None-Match", "")
		field(t, p.asked(2), "If-Modified-Since", "")
	}
}

// RFC 9111 4.3.1: the client's own conditions are not the cache's. He gets the whole where
// his copy is another.
func TestCachingValidationWithClientCondition(t *testing.T) {
	c := openCaching(t, byRFC)
	p := c.page(old("ETag", `"a"`), unchanged("Cache-Control", lasting))
	p.want(1, "Miss")
	resp := p.want(1, "Refresh", "If-None-Match", `"theirs"`, "If-Modified-Since", ago(0))
	if resp.StatusCode != 200 {
		t.Error(resp.StatusCode)
	}
	field(t, p.asked(2), "If-None-Match", `"a"`)
	field(t, p.asked(2), "If-Modified-Since", "")
	resp, _ = p.get("If-None-Match", `"a"`)
	p.check(resp, 1, "Hit")
	if resp.StatusCode != 304 {
		t.Error(resp.StatusCode)
	}
}

// RFC 9111 4.3.1: a miss is fetched whole, so that it can be kept; who has it gets a 304.
func TestCachingConditionalMiss(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", lasting, "ETag", `"a"`))
		resp := p.want(1, "Miss", "If-None-Match", `"a"`)
		if resp.StatusCode != 304 {
			c.t.Error(resp.StatusCode)
		}
		p.want(1, "Hit")
		p = c.page(ok("Cache-Control", lasting, "ETag", `"a"`))
		resp = p.want(1, "Miss", "If-None-Match", `"b"`)
		if resp.StatusCode != 200 {
			c.t.Error(resp.StatusCode)
		}
		p.want(1, "Hit")
	})
}

// RFC 9111 4.3.4, 3.2: a 304 makes the answer fresh, and puts its fields in place of those
// that are kept: but not those on which the kept bytes depend.
func TestCachingFreshening(t *testing.T) {
	c := openCaching(t, byRFC)
	p := c.page(
		old("ETag", `"a"`, "X-Old", "1", "X-Both", "1", "X-Both", "2", "Content-Encoding", "x-none", "Content-Type", "text/plain", "Expires", "0"),
		unchanged("Cache-Control", "max-age=100", "ETag", `"a"`, "X-New", "2", "X-Both", "3", "Content-Encoding", "gzip", "Content-Range", "bytes 0-1/2",
			"Expires", in(time.Hour), "Age", "5"),
	)
	_, whole := p.get()
	for _, status := range []string{"Refresh", "Hit"} {
		resp, body := p.get()
		p.check(resp, 1, status)
		if resp.StatusCode != 200 || body != whole || resp.ContentLength != int64(len(whole)) {
			t.Errorf("%d, %d bytes announced, %q", resp.StatusCode, resp.ContentLength, body)
		}
		h := resp.Header
		field(t, h, "Cache-Control", "max-age=100")
		field(t, h, "X-Old", "1")
		field(t, h, "X-New", "2")
		field(t, h, "X-Both", "3")
		field(t, h, "Content-Encoding", "x-none")
		field(t, h, "Content-Type", "text/plain")
		field(t, h, "Content-Range", "")
		if h.Get("Expires") == "0" {
			t.Error("the old Expires")
		}
		age(t, resp, 5)
	}
	if p.hits() != 2 {
		t.Errorf("%d requests at the origin", p.hits())
	}
}

// RFC 9111 4.3.4: a 304 that says nothing new makes the answer as fresh as it was at first.
func TestCachingFresheningWithoutFields(t *testing.T) {
	c := openCaching(t, byRFC)
	p := c.page(ok("Cache-Control", "max-age=60", "Age", "60", "ETag", `"a"`), unchanged())
	p.want(1, "Miss")
	age(t, p.want(1, "Refresh"), 0)
	age(t, p.want(1, "Hit"), 0)
}

// RFC 9111 4.3.4: a 304 with a strong entity tag updates only what has the same one.
func TestCachingFresheningOfAnother(t *testing.T) {
	c := openCaching(t, byRFC)
	p := c.page(old("ETag", `"a"`), unchanged("Cache-Control", lasting, "ETag", `"b"`), ok("Cache-Control", lasting, "ETag", `"b"`))
	p.want(1, "Miss")
	if resp, _ := p.get(); resp.Header.Get("X-Answer") == "1" && resp.Header.Get("ETag") == `"b"` {
		t.Errorf("the old body has the new tag: %v", resp.Header)
	}
	if resp, _ := p.get(); resp.Header.Get("X-Answer") != "3" {
		t.Errorf("what was kept is updated by a 304 for another: %v", resp.Header)
	}
}

// RFC 9111 4.3.4, 3: after a 304 that forbids it the answer is not kept any longer.
func TestCachingFresheningForbids(t *testing.T) {
	c := openCaching(t, byRFC)
	for _, said := range []string{"no-store", "private"} {
		p := c.page(old("ETag", `"a"`), unchanged("Cache-Control", said), ok("Cache-Control", lasting))
		p.want(1, "Miss")
		p.want(1, "Refresh")
		p.want(3, "Miss")
		field(t, p.asked(3), "If-None-Match", "")
	}
}

// RFC 9111 4.3.4, 7.3: a cookie that comes with a 304 is for who asked.
func TestCachingFresheningSetsCookie(t *testing.T) {
	c := openCaching(t, byRFC)
	p := c.page(old("ETag", `"a"`), unchanged("Cache-Control", lasting, "Set-Cookie", "id=1"), ok("Cache-Control", lasting))
	p.want(1, "Miss")
	resp, _ := p.get()
	field(t, resp.Header, "Set-Cookie", "id=1")
	resp, _ = p.get()
	field(t, resp.Header, "Set-Cookie", "")
}

// RFC 9111 4.3.3: a whole answer takes the place of what was kept.
func TestCachingValidationReplaces(t *testing.T) {
	c := openCaching(t, byRFC)
	p := c.page(old("ETag", `"a"`, "X-Old", "1"), ok("Cache-Control", lasting, "ETag", `"b"`))
	p.want(1, "Miss")
	field(t, p.want(2, "Refresh").Header, "X-Old", "")
	field(t, p.want(2, "Hit").Header, "ETag", `"b"`)
	p = c.page(old("ETag", `"a"`), says{status: 404, fields: []string{"Cache-Control", lasting}})
	p.want(1, "Miss")
	p.want(2, "Refresh")
	p.want(2, "Hit")
	p = c.page(old("ETag", `"a"`), ok("Cache-Control", "no-store"), ok("Cache-Control", lasting))
	p.want(1, "Miss")
	p.want(2, "Bypass")
	p.want(3, "Miss")
	field(t, p.asked(3), "If-None-Match", "")
}

// RFC 9111 4.3.3: an error of the origin goes on to the client, and the answer stays to be
// asked about.
func TestCachingValidationError(t *testing.T) {
	c := openCaching(t, byRFC)
	for _, status := range []int{500, 502, 503, 504} {
		p := c.page(old("ETag", `"a"`), says{status: status}, unchanged("Cache-Control", lasting))
		p.want(1, "Miss")
		if resp, _ := p.get(); resp.StatusCode != status {
			t.Errorf("got %d, want %d", resp.StatusCode, status)
		}
		p.want(1, "Refresh")
		field(t, p.asked(3), "If-None-Match", `"a"`)
	}
}

// RFC 9111 4.3.2, RFC 9110 13.1.2: If-None-Match is compared weakly, with each of its
// members.
func TestCachingIfNoneMatch(t *testing.T) {
	bothModes(t, func(c *caching) {
		f := func(etag, list string, want int) {
			c.t.Helper()
			p := c.page(ok("Cache-Control", lasting, "ETag", etag))
			p.want(1, "Miss")
			resp, body := p.get("If-None-Match", list)
			p.check(resp, 1, "Hit")
			if resp.StatusCode != want || want == 304 && (body != "" || resp.ContentLength > 0) {
				c.t.Errorf("%s, %s: %d %q", etag, list, resp.StatusCode, body)
			}
		}
		f(`"a"`, `"a"`, 304)
		f(`"a"`, `W/"a"`, 304)
		f(`W/"a"`, `"a"`, 304)
		f(`"a"`, `"b", "a"`, 304)
		f(`"a,b"`, `"a,b"`, 304)
		f(`"a"`, `*`, 304)
		f(`"a"`, `"b"`, 200)
		f(`"a"`, `a`, 200)
		f(`"a"`, `"A"`, 200)
		f("-", `"a"`, 200)
		p := c.page(ok("Cache-Control", lasting, "ETag", `"a"`))
		p.want(1, "Miss")
		if resp, _ := p.get("If-None-Match", `"b"`, "If-None-Match", `"a"`); resp.StatusCode != 304 {
			c.t.Errorf("two lines: %d", resp.StatusCode)
		}
	})
}

// RFC 9111 4.3.2, RFC 9110 13.1.3: If-Modified-Since, which does not count beside
// If-None-Match. Without Last-Modified, Date is meant.
func TestCachingIfModifiedSince(t *testing.T) {
	bothModes(t, func(c *caching) {
		now := time.Now()
		at := func(d time.Duration) string { return now.Add(d).UTC().Format(http.TimeFormat) }
		f := func(want int, fields []string, headers ...string) {
			c.t.Helper()
			p := c.page(ok(append(fields, "Cache-Control", lasting)...))
			p.want(1, "Miss")
			if resp, _ := p.get(headers...); resp.StatusCode != want || resp.Header.Get("X-Cache-Status") != "Hit" {
				c.t.Errorf("%q for %q: %d %v", fields, headers, resp.StatusCode, resp.Header)
			}
		}
		modified := []string{"Last-Modified", at(-time.Hour)}
		f(304, modified, "If-Modified-Since", at(-time.Hour))
		f(304, modified, "If-Modified-Since", at(0))
		f(304, modified, "If-Modified-Since", now.Add(-time.Hour).UTC().Format(time.ANSIC))
		f(200, modified, "If-Modified-Since", at(-time.Hour-time.Second))
		f(200, modified, "If-Modified-Since", "lately")
		f(200, modified, "If-Modified-Since", at(0), "If-None-Match", `"a"`)
		f(200, append(modified, "ETag", `"a"`), "If-Modified-Since", at(0), "If-None-Match", `"b"`)
		f(304, append(modified, "ETag", `"a"`), "If-Modified-Since", at(-2*time.Hour), "If-None-Match", `"a"`)
		f(304, []string{"Date", at(-30 * time.Second)}, "If-Modified-Since", at(-30*time.Second))
		f(200, []string{"Date", at(-30 * time.Second)}, "If-Modified-Since", at(-time.Minute))
	})
}

// RFC 9111 4.3.2: conditions are weighed against 200 alone.
func TestCachingConditionOfOtherStatus(t *testing.T) {
	c := openCaching(t, byRFC)
	for _, status := range []int{301, 404} {
		p := c.page(says{status: status, fields: []string{"Cache-Control", lasting, "ETag", `"a"`}})
		p.want(1, "Miss")
		if resp := p.want(1, "Hit", "If-None-Match", `"a"`); resp.StatusCode != status {
			t.Errorf("got %d, want %d", resp.StatusCode, status)
		}
	}
}

// RFC 9110 15.4.5: what a 304 says, and what not.
func TestCachingNotModifiedFields(t *testing.T) {
	bothModes(t, func(c *caching) {
		date, expires := ago(5*time.Second), in(time.Minute)
		p := c.page(ok("Cache-Control", lasting, "ETag", `"a"`, "Date", date, "Expires", expires, "Vary", "X-A", "Content-Location", "/there",
			"Content-Language", "de", "Content-Encoding", "x-none", "X-Other", "1"))
		p.want(1, "Miss")
		h := p.want(1, "Hit", "If-None-Match", `"a"`).Header
		field(c.t, h, "Cache-Control", lasting)
		field(c.t, h, "Etag", `"a"`)
		field(c.t, h, "Date", date)
		field(c.t, h, "Expires", expires)
		field(c.t, h, "Vary", "X-A")
		field(c.t, h, "Content-Location", "/there")
		for _, name := range []string{"Content-Type", "Content-Encoding", "Content-Language"} {
			field(c.t, h, name, "")
		}
	})
}

// RFC 9111 4.3.2: If-Match and If-Unmodified-Since are for the origin.
func TestCachingOriginConditions(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", lasting, "ETag", `"a"`))
		p.want(1, "Miss")
		p.want(2, "Bypass", "If-Match", `"b"`)
		field(c.t, p.asked(2), "If-Match", `"b"`)
		date := ago(time.Hour)
		p.want(3, "Bypass", "If-Unmodified-Since", date)
		field(c.t, p.asked(3), "If-Unmodified-Since", date)
		p.want(1, "Hit")
	})
}
