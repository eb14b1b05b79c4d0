package rules

import "testing"

func lifetime(t *testing.T, f *Facts, ms int64, explicit bool) {
	t.Helper()
	if got, is := Lifetime(f, day); got != ms || is != explicit {
		t.Errorf("%+v %+v: got %d %v, want %d %v", *f, *f.Directives, got, is, ms, explicit)
	}
}

// RFC 9111 4.2.1: in a shared cache s-maxage wins over max-age.
func TestFreshnessSharedMaxAgeWins(t *testing.T) {
	lifetime(t, answer("max-age=100, s-maxage=5"), 5*second, true)
	lifetime(t, answer("max-age=100, s-maxage=0"), 0, true)
	lifetime(t, answer("max-age=100, s-maxage=x"), 0, true)
}

// RFC 9111 4.2.1, 5.3: max-age wins over Expires, valid or not.
func TestFreshnessMaxAgeWinsOverExpires(t *testing.T) {
	f := answer("max-age=100")
	f.Expires = now - hour
	lifetime(t, f, 100*second, true)
	f.Expires, f.InvalidExpires = Absent, true
	lifetime(t, f, 100*second, true)
	f = answer("max-age=0")
	f.Expires = now + hour
	lifetime(t, f, 0, true)
}

// RFC 9111 4.2.1: Expires counts from Date.
func TestFreshnessExpiresFromDate(t *testing.T) {
	f := answer()
	f.Expires = now + hour
	lifetime(t, f, hour, true)
	f.Expires = now
	lifetime(t, f, 0, true)
	f.Expires = now - hour
	lifetime(t, f, 0, true)
	f.Expires = -62167219200 * second // the year 0
	lifetime(t, f, 0, true)
	f.Expires, f.Date = now+hour, Absent
	lifetime(t, f, 0, true)
}

// RFC 9111 5.3: an Expires that is no date lies in the past.
func TestFreshnessInvalidExpiresIsPast(t *testing.T) {
	f := answer("public")
	f.InvalidExpires, f.LastModified = true, now-day
	lifetime(t, f, 0, true)
}

// RFC 9111 1.2.2: what overflows is 2^31 seconds.
func TestFreshnessBounded(t *testing.T) {
	lifetime(t, answer("max-age=99999999999999999999"), SecondsMax*second, true)
	f := answer()
	f.Date, f.Expires = 0, 253402300799*second
	lifetime(t, f, SecondsMax*second, true)
}

// RFC 9111 4.2.2: without an explicit lifetime it is a tenth of the time since the
// last change, up to a bound.
func TestFreshnessHeuristicTenth(t *testing.T) {
	f := answer()
	f.LastModified = now - 100*minute
	lifetime(t, f, 10*minute, false)
	f.LastModified = now - 100*day
	lifetime(t, f, day, false)
	f.LastModified = now + hour
	lifetime(t, f, 0, false)
	f.LastModified = Absent
	lifetime(t, f, 0, false)
	f.LastModified, f.Date = now, Absent
	lifetime(t, f, 0, false)
	f = answer()
	f.LastModified = now - day
	if ms, _ := Lifetime(f, -1); ms != 0 {
		t.Errorf("a negative bound: %d", ms)
	}
}

// RFC 9111 4.2.2: nothing is guessed beside an explicit lifetime.
func TestFreshnessHeuristicNotBesideExplicit(t *testing.T) {
	f := answer("max-age=0")
	f.LastModified = now - day
	lifetime(t, f, 0, true)
}

// RFC 9111 4.2.2: nothing is guessed for other statuses, unless they are public.
func TestFreshnessHeuristicStatuses(t *testing.T) {
	for _, code := range []int{201, 202, 302, 403, 502, 503, 504, 599} {
		f := status(code)
		f.LastModified = now - 100*minute
		lifetime(t, f, 0, false)
		f.Directives.Add([]byte("public"))
		lifetime(t, f, 10*minute, false)
	}
}

// RFC 9111 4.2.3: the age at receipt is the greater of what the clocks say and what
// the caches and the waiting say.
func TestAgeCorrectedInitial(t *testing.T) {
	f := func(date, age, request, response, want int64) {
		t.Helper()
		facts := answer()
		facts.Date, facts.Age = date, age
		if got := CorrectedInitialAge(facts, request, response); got != want {
			t.Errorf("got %d, want %d", got, want)
		}
	}
	f(now, Absent, now, now, 0)
	f(now, 30, now, now, 30*second)
	f(now, 30, now-2*second, now, 32*second)        // relative to when the request was sent
	f(now-minute, 30, now-2*second, now, minute)    // the clocks know of more
	f(now+minute, 30, now-2*second, now, 32*second) // the origin's is ahead
	f(Absent, 30, now, now, 30*second)
	f(Absent, Absent, now-1500, now, 1500)
	f(now, Absent, now+hour, now, 0) // our own went backwards
	f(now, SecondsMax, now-hour, now, SecondsMax*second)
	f(-62167219200*second, 1, now, now, SecondsMax*second)
}

// RFC 9111 4.2.3: the current age counts on from receipt.
func TestAgeCurrent(t *testing.T) {
	f := func(initial, response, at, want int64) {
		t.Helper()
		if got := CurrentAge(initial, response, at); got != want {
			t.Errorf("got %d, want %d", got, want)
		}
	}
	f(0, now, now, 0)
	f(5*second, now, now+1500, 6500)
	f(5*second, now, now-hour, 5*second)
	f(SecondsMax*second, now, now+hour, SecondsMax*second)
}

// RFC 9111 5.1: the first member of Age counts, and no other than a number.
func TestAgeParse(t *testing.T) {
	f := func(in string, want int64) {
		t.Helper()
		if got := ParseAge([]byte(in)); got != want {
			t.Errorf("%q: got %d, want %d", in, got, want)
		}
	}
	f("0", 0)
	f("7200", 7200)
	f(" 7200\t", 7200)
	f("7200, 0", 7200)
	f("0, 7200", 0)
	f("2147483647", 1<<31-1)
	f("2147483649", SecondsMax)
	f("999999999999999999999", SecondsMax)
	for _, in := range []string{"", "abc", "-7200", "+1", "7200.0", "7200;foo=bar", `"7200"`, ", 7200", "72 00", "1\x00", "x, 7200"} {
		f(in, Absent)
	}
}
