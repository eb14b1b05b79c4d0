package rules

import (
	"math"
	"strings"
	"testing"
	"time"
)

// now is the point in time of most tests: 2026-11-23 10:30:05 UTC.
const now = 1795429805 * second

func parsed(t *testing.T, in, want string, now int64) {
	t.Helper()
	ms, ok := ParseDate([]byte(in), now)
	got := "invalid"
	if ok {
		got = time.UnixMilli(ms).UTC().Format("2006-01-02 15:04:05.000")
	}
	if want != "invalid" {
		want += ".000"
	}
	if got != want {
		t.Errorf("%q: got %s, want %s", in, got, want)
	}
}

// RFC 9110 5.6.7: a recipient accepts all three forms.
func TestDateThreeForms(t *testing.T) {
	f := func(in, want string) { t.Helper(); parsed(t, in, want, now) }
	f("Sun, 06 Nov 1994 08:49:37 GMT", "1994-11-06 08:49:37")
	f("Sunday, 06-Nov-94 08:49:37 GMT", "1994-11-06 08:49:37")
	f("Sun Nov  6 08:49:37 1994", "1994-11-06 08:49:37")
	f("Sun Nov 16 08:49:37 1994", "1994-11-16 08:49:37")
	f("Sun Nov 06 08:49:37 1994", "1994-11-06 08:49:37")
	f("Thu, 01 Jan 1970 00:00:00 GMT", "1970-01-01 00:00:00")
	f("Sun, 21 Nov 2286 04:46:39 GMT", "2286-11-21 04:46:39")
	f("Mon, 01 Jan 1900 00:00:00 GMT", "1900-01-01 00:00:00")
	f("Fri, 31 Dec 9999 23:59:59 GMT", "9999-12-31 23:59:59")
	f("Tue, 29 Feb 2000 00:00:00 GMT", "2000-02-29 00:00:00")
	f("Sat, 06 Nov 1994 08:49:37 GMT", "1994-11-06 08:49:37") // a Sunday
}

// RFC 9111 4.2: letters match in any case.
func TestDateInAnyCase(t *testing.T) {
	f := func(in string) { t.Helper(); parsed(t, in, "1994-11-06 08:49:37", now) }
	f("sun, 06 NOV 1994 08:49:37 gmt")
	f("SUNDAY, 06-nov-94 08:49:37 Gmt")
	f("sUN nOV  6 08:49:37 1994")
}

// RFC 9110 5.6.7: two digits of a year more than 50 years ahead are of the past.
func TestDateTwoDigitYear(t *testing.T) {
	f := func(in, today, want string) {
		t.Helper()
		at, err := time.Parse("2006-01-02", today)
		if err != nil {
			t.Fatal(err)
		}
		parsed(t, in, want, at.UnixMilli())
	}
	f("Thursday, 18-Aug-50 02:01:18 GMT", "2026-11-23", "2050-08-18 02:01:18")
	f("Thursday, 18-Aug-76 02:01:18 GMT", "2026-11-23", "2076-08-18 02:01:18")
	f("Thursday, 18-Aug-77 02:01:18 GMT", "2026-11-23", "1977-08-18 02:01:18")
	f("Thursday, 18-Dec-76 02:01:18 GMT", "2026-11-23", "1976-12-18 02:01:18")
	f("Thursday, 18-Aug-99 02:01:18 GMT", "2026-11-23", "1999-08-18 02:01:18")
	f("Thursday, 18-Aug-00 02:01:18 GMT", "2099-11-23", "2100-08-18 02:01:18")
	f("Thursday, 18-Aug-98 02:01:18 GMT", "2100-01-01", "2098-08-18 02:01:18")
	f("Sunday, 29-Feb-00 00:00:00 GMT", "2026-11-23", "2000-02-29 00:00:00")
	f("Sunday, 29-Feb-00 00:00:00 GMT", "2099-11-23", "invalid") // 2100 has none
	f("Sunday, 06-Nov-94 08:49:37 GMT", "1970-01-01", "1994-11-06 08:49:37")
}

// RFC 9111 4.2, 5.3: what deviates from the forms is invalid, and so is every zone
// but GMT.
func TestDateInvalid(t *testing.T) {
	f := func(in string) { t.Helper(); parsed(t, in, "invalid", now) }
	for _, in := range []string{
		"", "0", "-1", "never", "1994-11-06T08:49:37Z",
		"Thu, 18 Aug 2050 02:01:18 AEST", "Thu, 18 Aug 2050 02:01:18 UTC", "Thu, 18 Aug 2050 02:01:18 +0000", "Thu, 18 Aug 2050 02:01:18 Z",
		"Thu, 18 Aug 2050 02:01:18", "Thu, 18 Aug 2050 02:01:18 ", "Thu, 18 Aug 2050 02:01:18 GMTX", "Thu, 18 Aug 2050 02:01:18 GMT ",
		" Thu, 18 Aug 2050 02:01:18 GMT", "Thu, 18 Aug 50 02:01:18 GMT", "Thu 18 Aug 2050 02:01:18 GMT", "Thu, 18  Aug  2050 02:01:18 GMT",
		"Thu, 18-Aug-2050 02:01:18 GMT", "Thu, 18 Aug 2050 02.01.18 GMT", "Thu, 18 Aug 2050 2:01:18 GMT", "Thu, 8 Aug 2050 02:01:18 GMT",
		"Thu,18 Aug 2050 02:01:18 GMT", "Xyz, 18 Aug 2050 02:01:18 GMT", "Thu, 18 Xyz 2050 02:01:18 GMT", "Thu, 18 Aug +205 02:01:18 GMT",
		"Thu, 00 Aug 2050 02:01:18 GMT", "Thu, 32 Aug 2050 02:01:18 GMT", "Thu, 30 Feb 2050 02:01:18 GMT", "Thu, 29 Feb 2050 02:01:18 GMT",
		"Thu, 29 Feb 1900 02:01:18 GMT", "Thu, 31 Apr 2050 02:01:18 GMT", "Thu, 18 Aug 2050 24:00:00 GMT", "Thu, 18 Aug 2050 02:60:18 GMT",
		"Thu, 18 Aug 2050 02:01:61 GMT", "Thu, 18 Aug 2050 02:01:18.5 GMT", "Thu, 18 Aug 20500 02:01:18 GMT",
		"Thursday, 18 Aug 2050 02:01:18 GMT", "Thurs, 18-Aug-50 02:01:18 GMT", "Thursday, 18-Aug-2050 02:01:18 GMT", "Thu Aug 8 02:01:18 2050",
		"Thu Aug 08 02:01:18 2050 GMT", "Thu Aug   8 02:01:18 2050", "Sun Nov  6 08:49:37 94", "Thu, 18 Aug 2050 02:01:1\x00 GMT", "Thu, 18 Aug ２０50 02:01:18 GMT",
	} {
		f(in)
	}
}

// RFC 9111 4.2: a date is never taken to be later than it is.
func TestDateLeapSecond(t *testing.T) {
	parsed(t, "Sat, 31 Dec 2016 23:59:60 GMT", "2016-12-31 23:59:59", now)
}

// RFC 9110 5.6.7: dates are generated as IMF-fixdate.
func TestDateAppend(t *testing.T) {
	f := func(ms int64, want string) {
		t.Helper()
		if got := string(AppendDate([]byte("x"), ms)); got != "x"+want {
			t.Errorf("%d: got %q, want %q", ms, got[1:], want)
		}
	}
	f(784111777*second, "Sun, 06 Nov 1994 08:49:37 GMT")
	f(784111777*second+999, "Sun, 06 Nov 1994 08:49:37 GMT")
	f(0, "Thu, 01 Jan 1970 00:00:00 GMT")
	f(-1, "Wed, 31 Dec 1969 23:59:59 GMT")
	f(math.MaxInt64, "Fri, 31 Dec 9999 23:59:59 GMT")
	f(math.MinInt64, "Sat, 01 Jan 0000 00:00:00 GMT")
}

// TestDateEveryDay compares with the standard library on every day of 400 years and
// the days around the ends of the range.
func TestDateEveryDay(t *testing.T) {
	f := func(from, days int64) {
		t.Helper()
		for i := range days {
			s := (from+i)*86400 + i*7919%86400
			want := time.Unix(s, 0).UTC().Format(imf)
			if got := string(AppendDate(nil, s*second)); got != want {
				t.Fatalf("%d: got %q, want %q", s, got, want)
			}
			if ms, ok := ParseDate([]byte(want), now); !ok || ms != s*second {
				t.Fatalf("%q: got %d %v, want %d", want, ms, ok, s*second)
			}
		}
	}
	f(0, 146097)
	f(-719528, 1000)
	f(2932896-1000, 1000)
}

const (
	imf     = "Mon, 02 Jan 2006 15:04:05 GMT"
	rfc850  = "Monday, 02-Jan-06 15:04:05 GMT"
	asctime = "Mon Jan _2 15:04:05 2006"
)

// naiveDate reads a date with the standard library, which is more lenient: what it
// reads must be written as it was, but for the day of the week.
func naiveDate(in string, now int64) (int64, bool) {
	if n := len(in) - 4; n > 0 && strings.EqualFold(in[n:], " gmt") {
		in = in[:n] + " GMT"
	}
	for _, layout := range []string{imf, rfc850, asctime} {
		at, err := time.Parse(layout, in)
		if err != nil {
			continue
		}
		cut := 3
		if layout == rfc850 {
			cut = strings.IndexByte(in, ',')
			month, dayOfMonth := at.Month(), at.Day()
			limit := time.UnixMilli(now).UTC().AddDate(50, 0, 0)
			year := (limit.Year()/100)*100 + at.Year()%100
			for {
				at = time.Date(year, month, dayOfMonth, at.Hour(), at.Minute(), at.Second(), 0, time.UTC)
				if !at.After(limit) {
					break
				}
				year -= 100
			}
			if at.Month() != month {
				return 0, false
			}
		}
		written := at.Format(layout)
		if layout == asctime && len(in) > 8 && in[8] == '0' {
			written = written[:8] + "0" + written[9:] // the grammar takes both
		}
		if !strings.EqualFold(written[strings.IndexAny(written, ", "):], in[cut:]) {
			return 0, false
		}
		return at.UnixMilli(), true
	}
	return 0, false
}

// FuzzDate: never panics, agrees with the standard library, and survives a round trip.
func FuzzDate(f *testing.F) {
	for _, in := range []string{
		"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "Sun Nov 16 08:49:37 1994",
		"Thu, 29 Feb 2000 23:59:60 GMT", "thursday, 29-feb-00 00:00:00 gmt", "0", "", "Thu, 18 Aug 2050 2:01:18 GMT", "Mon, 01 Jan 0000 00:00:00 GMT", "Sun Nov 01 00:00:00 0000",
	} {
		f.Add([]byte(in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		ms, ok := ParseDate(in, now)
		if strings.Contains(string(in), ":60") {
			return // time.Parse knows no leap seconds
		}
		want, wantOK := naiveDate(string(in), now)
		if ok != wantOK || ms != want {
			t.Fatalf("%q: got %d %v, want %d %v", in, ms, ok, want, wantOK)
		}
		if !ok {
			return
		}
		if ms%second != 0 || ms == Absent {
			t.Fatalf("%q: %d is not in whole seconds", in, ms)
		}
		if back, ok := ParseDate(AppendDate(nil, ms), now); !ok || back != ms {
			t.Fatalf("%q: %d comes back as %d", in, ms, back)
		}
	})
}
