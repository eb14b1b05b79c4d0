package engine_test

import (
	"net/http"
	"testing"
	"time"
)

// evenStale lets an answer be kept that is too old when it comes, to be given should the
// origin fail.
const evenStale = ", stale-if-error=86400"

// outdated checks that an answer is stale when it comes: it is not given without asking.
func outdated(c *caching, fields ...string) {
	c.t.Helper()
	c.page(ok(fields...)).asksAgain()
}

func fresh(c *caching, fields ...string) {
	c.t.Helper()
	c.page(ok(fields...)).kept()
}

// RFC 9111 4.2.1: the first of s-maxage, max-age, Expires less Date, a guess.
func TestCachingFreshnessPrecedence(t *testing.T) {
	bothModes(t, func(c *caching) {
		old := ago(24 * time.Hour)
		fresh(c, "Cache-Control", "s-maxage=60, max-age=0", "Expires", ago(time.Hour))
		outdated(c, "Cache-Control", "s-maxage=0, max-age=60", "Expires", in(time.Hour))
		fresh(c, "Cache-Control", "max-age=60", "Expires", ago(time.Hour))
		outdated(c, "Cache-Control", "max-age=0", "Expires", in(time.Hour))
		fresh(c, "Expires", in(time.Hour))
		outdated(c, "Expires", ago(time.Hour), "Last-Modified", old)
		fresh(c, "Last-Modified", old)
		outdated(c)
	})
}

// RFC 9111 5.3: a date that cannot be read lies in the past, above all 0.
func TestCachingExpiresInvalid(t *testing.T) {
	bothModes(t, func(c *caching) {
		for _, expires := range []string{"0", "-1", "soon", "Sun Nov", "Thu, 01 Jan 2099 00:00:00 CET"} {
			outdated(c, "Expires", expires)
			outdated(c, "Expires", expires, "Last-Modified", ago(240*time.Hour))
			fresh(c, "Expires", expires, "Cache-Control", "max-age=60")
		}
	})
}

// RFC 9111 4.2.1, RFC 9110 5.6.7: what is compared with Expires is Date, in any of the
// three forms of a date.
func TestCachingExpiresLessDate(t *testing.T) {
	bothModes(t, func(c *caching) {
		now := time.Now().UTC()
		fresh(c, "Date", ago(10*time.Second), "Expires", in(50*time.Second))
		outdated(c, "Date", in(time.Hour), "Expires", in(time.Minute))
		outdated(c, "Date", ago(2*time.Hour), "Expires", ago(time.Hour))
		fresh(c, "Expires", now.Add(time.Hour).Format("Monday, 02-Jan-06 15:04:05 GMT"))
		fresh(c, "Expires", now.Add(time.Hour).Format(time.ANSIC))
	})
}

// RFC 9111 4.2.1: of an age that is sent twice the first counts, and one that is no number
// makes the answer stale. 1.2.2: one too large is large.
func TestCachingMaxAgeMalformed(t *testing.T) {
	bothModes(t, func(c *caching) {
		fresh(c, "Cache-Control", "max-age=60, max-age=0")
		outdated(c, "Cache-Control", "max-age=0, max-age=60")
		outdated(c, "Cache-Control", "max-age=0", "Cache-Control", "max-age=60")
		outdated(c, "Cache-Control", "max-age=1m")
		outdated(c, "Cache-Control", "max-age=-5")
		outdated(c, "Cache-Control", "s-maxage=x, max-age=60")
		fresh(c, "Cache-Control", "max-age=99999999999999999999")
	})
}

// RFC 9111 5.2: names match in any case, an argument is a token or in quotes, and what is
// not known is ignored.
func TestCachingDirectiveForms(t *testing.T) {
	bothModes(t, func(c *caching) {
		fresh(c, "Cache-Control", "MAX-Age=60")
		fresh(c, "Cache-Control", `max-age="60"`)
		fresh(c, "Cache-Control", `community="UCI, no-store", max-age=60`)
		fresh(c, "Cache-Control", "x=1,, max-age=60 ,y")
		outdated(c, "Cache-Control", "x", "Cache-Control", "NO-STORE, max-age=60")
	})
}

// RFC 9111 4.2.2: a tenth of the time since the last change, for statuses that allow a
// guess and where nothing is said.
func TestCachingHeuristicFreshness(t *testing.T) {
	bothModes(t, func(c *caching) {
		fresh(c, "Last-Modified", ago(10*time.Hour))
		fresh(c, "Last-Modified", ago(10*time.Hour), "Age", "3000")
		outdated(c, "Last-Modified", ago(10*time.Hour), "Age", "4000")
		outdated(c, "Last-Modified", in(time.Hour))
		outdated(c, "Last-Modified", "yesterday")
		fresh(c, "Cache-Control", "public", "Last-Modified", ago(10*time.Hour))
	})
}

// RFC 9111 4.2.2: heuristic_ttl bounds the guess.
func TestCachingHeuristicBound(t *testing.T) {
	c := openCaching(t, byRFC+", heuristic_ttl: 10")
	fresh(c, "Last-Modified", ago(1000*time.Hour), "Age", "5")
	outdated(c, "Last-Modified", ago(1000*time.Hour), "Age", "10")
	c = openCaching(t, byRFC+", heuristic_ttl: 0")
	outdated(c, "Last-Modified", ago(1000*time.Hour))
}

// RFC 9111 4.2.3: an answer was as old when it came as Age says, or as Date says if that
// is more.
func TestCachingAgeCorrection(t *testing.T) {
	bothModes(t, func(c *caching) {
		f := func(want int, fields ...string) {
			t.Helper()
			p := c.page(ok(append(fields, "Cache-Control", "max-age=3600")...))
			p.want(1, "Miss")
			age(c.t, p.want(1, "Hit"), want)
		}
		f(0)
		f(100, "Age", "100")
		f(100, "Date", ago(100*time.Second))
		f(200, "Age", "200", "Date", ago(100*time.Second))
		f(200, "Age", "100", "Date", ago(200*time.Second))
		f(0, "Date", in(time.Hour))
		outdated(c, "Cache-Control", "max-age=60", "Age", "60")
		outdated(c, "Cache-Control", "max-age=60", "Date", ago(61*time.Second))
		fresh(c, "Cache-Control", "max-age=60", "Age", "30")
	})
}

// RFC 9111 5.1: of several values the first counts, and none that is no number.
func TestCachingAgeMalformed(t *testing.T) {
	bothModes(t, func(c *caching) {
		f := func(want int, ages ...string) {
			t.Helper()
			fields := []string{"Cache-Control", "max-age=3600"}
			for _, a := range ages {
				fields = append(fields, "Age", a)
			}
			p := c.page(ok(fields...))
			p.want(1, "Miss")
			age(c.t, p.want(1, "Hit"), want)
		}
		f(100, "100, 200")
		f(200, "200", "100")
		f(0, "old")
		f(0, "-7")
		f(0, "7.5")
		outdated(c, "Cache-Control", "max-age=3600", "Age", "99999999999999999999")
	})
}

// RFC 9111 4, 5.1: what is given without asking has an Age, in place of the one it came
// with; what was just asked for has the origin's.
func TestCachingAgeOnHits(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", "max-age=3600", "Age", "100", "ETag", `"a"`))
		field(c.t, p.want(1, "Miss").Header, "Age", "100")
		age(c.t, p.want(1, "Hit"), 100)
		resp, _ := c.do(http.MethodHead, p.path, "")
		age(c.t, resp, 100)
		resp, _ = p.get("If-None-Match", `"a"`)
		age(c.t, resp, 100)
		resp, _ = p.get("Range", "bytes=0-1")
		age(c.t, resp, 100)
		p = c.page(ok("Cache-Control", "no-store"))
		field(c.t, p.want(1, "Bypass").Header, "Age", "")
	})
}

// RFC 9110 6.6.1: Date stays the origin's; where it sent none it is when the answer came.
func TestCachingDateOnHits(t *testing.T) {
	bothModes(t, func(c *caching) {
		date := ago(30 * time.Second)
		p := c.page(ok("Cache-Control", "max-age=60", "Date", date))
		field(c.t, p.want(1, "Miss").Header, "Date", date)
		field(c.t, p.want(1, "Hit").Header, "Date", date)
		p = c.page(ok("Cache-Control", "max-age=60", "Date", "-"))
		p.want(1, "Miss")
		got, err := http.ParseTime(p.want(1, "Hit").Header.Get("Date"))
		if d := time.Since(got); err != nil || d > 10*time.Second || d < -time.Second {
			c.t.Errorf("%v, %v", got, err)
		}
	})
}

// RFC 9111 4.2.4: what is stale is not given without asking, as long as the origin answers.
func TestCachingStaleNotServed(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", "max-age=10", "Age", "20", "ETag", `"a"`))
		p.asksAgain()
		p = c.page(ok("Cache-Control", "max-age=10"+evenStale, "Age", "20"))
		p.asksAgain()
	})
}

// RFC 9111 4.2: an answer becomes stale with time.
func TestCachingFreshnessEnds(t *testing.T) {
	c := openCaching(t, byRFC)
	p := c.page(ok("Cache-Control", "max-age=60", "Age", "59", "ETag", `"a"`))
	p.want(1, "Miss")
	eventually(t, "the answer to be stale", func() bool {
		resp, _ := p.get()
		return resp.Header.Get("X-Answer") == "2"
	})
}
