package rules

import (
	"strings"
	"testing"
)

func tags(t *testing.T, list, etag string, strong, weak bool) {
	t.Helper()
	if got := MatchStrong([]byte(list), []byte(etag)); got != strong {
		t.Errorf("%s has %s: strong %v, want %v", list, etag, got, strong)
	}
	if got := MatchWeak([]byte(list), []byte(etag)); got != weak {
		t.Errorf("%s has %s: weak %v, want %v", list, etag, got, weak)
	}
}

// RFC 9110 8.8.3.2: the table of comparisons.
func TestTagComparison(t *testing.T) {
	tags(t, `W/"1"`, `W/"1"`, false, true)
	tags(t, `W/"1"`, `W/"2"`, false, false)
	tags(t, `W/"1"`, `"1"`, false, true)
	tags(t, `"1"`, `W/"1"`, false, true)
	tags(t, `"1"`, `"1"`, true, true)
}

// RFC 9110 13.1.1, 13.1.2: a list matches by any member; a comma in a tag ends nothing.
func TestTagList(t *testing.T) {
	for _, list := range []string{
		`"abc", "1", "2"`, `"1", "abc", "2"`, `"1","2","abc"`, ` "1" ,, "abc" `, `W/"abc", "abc"`, `"1, 2","abc"`, `"\","abc"`, `x, "abc"`, `"x" y, "abc"`,
	} {
		tags(t, list, `"abc"`, true, true)
	}
	tags(t, `"a, b"`, `"a, b"`, false, false) // a space is none of its characters
	tags(t, `"a,b", "c"`, `"a,b"`, true, true)
	tags(t, `"x,"abc","y"`, `"abc"`, false, false)
	tags(t, "\"abc\xfc\"", "\"abc\xfc\"", true, true)
	tags(t, `""`, `""`, true, true)
}

// RFC 9110 13.1.2: * matches whatever is stored.
func TestTagStar(t *testing.T) {
	tags(t, "*", `"abc"`, true, true)
	tags(t, " * ", `W/"abc"`, true, true)
	tags(t, "*", "", true, true)
	tags(t, `*, "x"`, `"abc"`, false, false)
	tags(t, `"*"`, `"abc"`, false, false)
}

// RFC 9110 8.8.3: what is no entity tag matches nothing.
func TestTagMalformed(t *testing.T) {
	for _, bad := range []string{"", "abc", `abc"`, `"abc`, `w/"abc"`, `W\"abc"`, `W"abc"`, `W/abc`, `W/`, `W`, `"abc"x`, `x"abc"`, "\"ab\x00c\"", "\"abc\x7f\"", `""abc""`, `W/ "abc"`} {
		tags(t, bad, bad, false, false)
		tags(t, bad, `"abc"`, false, false)
		tags(t, `"abc"`, bad, false, false)
		if _, ok := ParseTag([]byte(bad)); ok {
			t.Errorf("%q is an entity tag", bad)
		}
	}
	if weak, ok := ParseTag([]byte(`W/"a"`)); !weak || !ok {
		t.Error(`W/"a" is none`)
	}
}

// Lists of what is no entity tag must not take time that grows with the square.
func TestTagListLinear(t *testing.T) {
	for _, part := range []string{`"a, `, `"a,"`, `W/,`, `"`, `"x"y`} {
		tags(t, strings.Repeat(part, 1<<18), `"abc"`, false, false)
	}
}

func date(ms int64) []byte { return AppendDate(nil, ms) }

// RFC 9110 13.1.2, 13.2.2, RFC 9111 4.3.2: If-None-Match is compared weakly, and
// If-Modified-Since does not count beside it.
func TestNotModifiedIfNoneMatchFirst(t *testing.T) {
	f := func(list, etag string, since int64, want bool) {
		t.Helper()
		c := Conditions{IfNoneMatch: []byte(list), HasIfNoneMatch: true, IfModifiedSince: date(since), Now: now}
		if got := NotModified(&c, []byte(etag), now-hour, now); got != want {
			t.Errorf("%q for %q: got %v, want %v", list, etag, got, want)
		}
	}
	f(`"a"`, `"a"`, now-day, true)
	f(`W/"a"`, `"a"`, now-day, true)
	f("*", "", now-day, true)
	f(`"b"`, `"a"`, now, false)
	f(`"b"`, "", now, false)
	f("", `"a"`, now, false)
}

// RFC 9110 13.1.3: If-Modified-Since is met by what was modified then or before.
func TestNotModifiedSince(t *testing.T) {
	f := func(since string, lastModified int64, want bool) {
		t.Helper()
		c := Conditions{IfModifiedSince: []byte(since), Now: now}
		if got := NotModified(&c, []byte(`"a"`), lastModified, now); got != want {
			t.Errorf("%q, modified at %d: got %v, want %v", since, lastModified, got, want)
		}
	}
	f("Mon, 23 Nov 2026 10:30:05 GMT", now, true)
	f("Mon, 23 Nov 2026 10:30:05 GMT", now-hour, true)
	f("Mon, 23 Nov 2026 10:30:04 GMT", now, false)
	f("Monday, 23-Nov-26 10:30:05 GMT", now, true)
	f("Mon Nov 23 10:30:05 2026", now, true)
}

// RFC 9110 13.1.3: an If-Modified-Since that is no date does not count.
func TestNotModifiedSinceInvalid(t *testing.T) {
	for _, since := range []string{"", "0", "x", "Mon, 23 Nov 2026 10:30:05 CET", "Mon, 23 Nov 2026 10:30:05 GMT, Mon, 23 Nov 2026 10:30:05 GMT"} {
		c := Conditions{IfModifiedSince: []byte(since), Now: now}
		if NotModified(&c, nil, 0, 0) {
			t.Errorf("%q counts", since)
		}
	}
	if NotModified(&Conditions{}, []byte(`"a"`), now, now) {
		t.Error("no condition is met")
	}
}

// RFC 9111 4.3.2: without Last-Modified, Date takes its place.
func TestNotModifiedSinceByDate(t *testing.T) {
	f := func(since, sent int64, want bool) {
		t.Helper()
		c := Conditions{IfModifiedSince: date(since), Now: now}
		if got := NotModified(&c, nil, Absent, sent); got != want {
			t.Errorf("since %d, sent at %d: got %v, want %v", since, sent, got, want)
		}
	}
	f(now, now, true)
	f(now-hour, now, false)
	f(now, Absent, false)
}

func ifRange(t *testing.T, value, etag string, lastModified, sent int64, want bool) {
	t.Helper()
	if got := IfRange([]byte(value), []byte(etag), lastModified, sent); got != want {
		t.Errorf("%q for %q, %d, %d: got %v, want %v", value, etag, lastModified, sent, got, want)
	}
}

// RFC 9110 13.1.5: an entity tag of If-Range is compared strongly.
func TestIfRangeTagStrong(t *testing.T) {
	ifRange(t, `"a"`, `"a"`, Absent, now, true)
	ifRange(t, `"a"`, `"b"`, Absent, now, false)
	ifRange(t, `W/"a"`, `W/"a"`, Absent, now, false)
	ifRange(t, `W/"a"`, `"a"`, Absent, now, false)
	ifRange(t, `"a"`, `W/"a"`, Absent, now, false)
	ifRange(t, `"a", "b"`, `"a"`, Absent, now, false)
	ifRange(t, `"a`, `"a`, Absent, now, false)
	ifRange(t, "*", `"a"`, Absent, now, false)
	ifRange(t, "a", "a", Absent, now, false)
	ifRange(t, "", "", Absent, now, false)
}

// RFC 9110 13.1.5: a date of If-Range must be exactly that of Last-Modified.
func TestIfRangeDateExact(t *testing.T) {
	const modified = "Mon, 23 Nov 2026 09:30:05 GMT"
	ifRange(t, modified, "", now-hour, now, true)
	ifRange(t, "Monday, 23-Nov-26 09:30:05 GMT", "", now-hour, now, true)
	ifRange(t, modified, "", now-hour-second, now, false)
	ifRange(t, modified, "", now-hour+second, now, false)
	ifRange(t, modified, "", Absent, now, false)
	ifRange(t, modified, `"a"`, now-hour, Absent, false)
	ifRange(t, "x", "", now-hour, now, false)
}

// RFC 9110 8.8.2.2: a date is strong if it is at least a second before Date.
func TestIfRangeDateStrong(t *testing.T) {
	value := string(date(now))
	ifRange(t, value, "", now, now, false)
	ifRange(t, value, "", now, now+second, true)
	ifRange(t, value, "", now, now-second, false)
}
