package rules

import "testing"

// decide checks the verdict on an answer, of an age and lifetime in milliseconds, for
// a request with these directives.
func decide(t *testing.T, answer, demand string, age, lifetime int64, want Verdict) {
	t.Helper()
	if got := Decide(response(answer), request(demand), age, lifetime); got != want {
		t.Errorf("%q for %q, %d of %d: got %v, want %v", answer, demand, age, lifetime, got, want)
	}
	if demand == "" {
		if got := Decide(response(answer), nil, age, lifetime); got != want {
			t.Errorf("%q for nil, %d of %d: got %v, want %v", answer, age, lifetime, got, want)
		}
	}
}

// RFC 9111 4.2: fresh is what is younger than its lifetime.
func TestDecideFreshness(t *testing.T) {
	decide(t, "", "", 0, 1, Fresh)
	decide(t, "", "", 9999, 10000, Fresh)
	decide(t, "", "", 10000, 10000, Revalidate)
	decide(t, "", "", 0, 0, Revalidate)
	decide(t, "must-revalidate, proxy-revalidate, s-maxage=10", "", 9999, 10000, Fresh)
}

// RFC 9111 5.2.2.4: an answer with no-cache is never given without asking; one with
// field names is.
func TestDecideNoCacheResponse(t *testing.T) {
	decide(t, "no-cache", "", 0, hour, Revalidate)
	decide(t, "no-cache", "max-stale", 0, hour, Revalidate)
	decide(t, "no-cache, stale-while-revalidate=60", "", 0, hour, Revalidate)
	decide(t, `no-cache="set-cookie"`, "", 0, hour, Fresh)
}

// RFC 9111 5.2.1.4: a request with no-cache wants the origin asked.
func TestDecideNoCacheRequest(t *testing.T) {
	decide(t, "", "no-cache", 0, hour, Demanded)
	decide(t, "immutable", "no-cache", 0, hour, Demanded)
	decide(t, "stale-while-revalidate=60", "no-cache, max-stale", hour, hour, Revalidate)
}

// RFC 9111 5.2.1.1: an age up to max-age is wanted.
func TestDecideRequestMaxAge(t *testing.T) {
	decide(t, "", "max-age=5", 5000, hour, Fresh)
	decide(t, "", "max-age=5", 5001, hour, Demanded)
	decide(t, "", "max-age=0", 1, hour, Demanded)
	decide(t, "", "max-age=x", 1, hour, Demanded)
}

// RFC 9111 5.2.1.1: with max-age, nothing stale is wanted unless max-stale is there.
func TestDecideRequestMaxAgeRefusesStale(t *testing.T) {
	decide(t, "stale-while-revalidate=60", "max-age=3600", 10000, 5000, Revalidate)
	decide(t, "", "max-age=3600, max-stale=60", 10000, 5000, StaleAllowed)
	decide(t, "", "max-age=5, max-stale=60", 10000, 5000, Revalidate)
}

// RFC 9111 5.2.1.3: min-fresh wants the answer fresh for some time yet.
func TestDecideRequestMinFresh(t *testing.T) {
	decide(t, "", "min-fresh=5", 5000, 10000, Fresh)
	decide(t, "", "min-fresh=5", 5001, 10000, Demanded)
	decide(t, "", "min-fresh=0, max-stale", 10001, 10000, Revalidate)
	decide(t, "stale-while-revalidate=60", "min-fresh=0", 10001, 10000, Revalidate)
}

// RFC 9111 5.2.1.2: max-stale takes staleness up to its value, or any.
func TestDecideRequestMaxStale(t *testing.T) {
	decide(t, "", "max-stale=5", 15000, 10000, StaleAllowed)
	decide(t, "", "max-stale=5", 15001, 10000, Revalidate)
	decide(t, "", "max-stale=0", 10000, 10000, StaleAllowed)
	decide(t, "", "max-stale", 1000*hour, 10000, StaleAllowed)
	decide(t, "", "max-stale=x", 10001, 10000, Revalidate)
	decide(t, "", "max-stale=5", 9999, 10000, Fresh)
}

// RFC 5861 3: stale-while-revalidate permits staleness up to its value.
func TestDecideStaleWhileRevalidate(t *testing.T) {
	decide(t, "stale-while-revalidate=5", "", 10000, 10000, StaleWhileRevalidate)
	decide(t, "stale-while-revalidate=5", "", 15000, 10000, StaleWhileRevalidate)
	decide(t, "stale-while-revalidate=5", "", 15001, 10000, Revalidate)
	decide(t, "stale-while-revalidate=0", "", 10001, 10000, Revalidate)
	decide(t, "stale-while-revalidate=5", "max-stale=60", 11000, 10000, StaleWhileRevalidate)
	decide(t, "stale-while-revalidate=5", "max-stale=60", 20000, 10000, StaleAllowed)
}

// RFC 9111 4.2.4, 5.2.2.2, 5.2.2.8, 5.2.2.10: what forbids to serve stale answers does
// so whatever permits it.
func TestStaleForbidden(t *testing.T) {
	for _, forbids := range []string{"no-cache", "must-revalidate", "proxy-revalidate", "s-maxage=2", "s-maxage=x", "must-revalidate=1"} {
		d := forbids + ", stale-while-revalidate=60, stale-if-error=60"
		decide(t, d, "", 11000, 10000, Revalidate)
		decide(t, d, "max-stale", 11000, 10000, Revalidate)
		if MayServeStale(response(d), request("max-stale")) || MayServeStale(response(d), nil) {
			t.Errorf("%q may be served stale", d)
		}
		if MayServeOnError(response(d), request("stale-if-error=60"), 11000, 10000) {
			t.Errorf("%q may be served on an error", d)
		}
	}
}

// RFC 9111 5.2.1: a request may forbid it too.
func TestStaleForbiddenByRequest(t *testing.T) {
	f := func(demand string, want bool) {
		t.Helper()
		if got := MayServeStale(response("max-age=5"), request(demand)); got != want {
			t.Errorf("%q: got %v, want %v", demand, got, want)
		}
	}
	f("", true)
	f("only-if-cached", true)
	f("no-cache", false)
	f("no-cache, max-stale", false)
	f("max-age=5", false)
	f("max-age=5, max-stale", true)
	f("min-fresh=5", false)
	f("min-fresh=5, max-stale=1", true)
}

// RFC 5861 4: stale-if-error of the answer or the request permits staleness when the
// origin fails.
func TestStaleIfError(t *testing.T) {
	f := func(answer, demand string, age, lifetime int64, want bool) {
		t.Helper()
		if got := MayServeOnError(response(answer), request(demand), age, lifetime); got != want {
			t.Errorf("%q for %q, %d of %d: got %v, want %v", answer, demand, age, lifetime, got, want)
		}
	}
	f("", "", 11000, 10000, false)
	f("stale-if-error=5", "", 15000, 10000, true)
	f("stale-if-error=5", "", 15001, 10000, false)
	f("stale-if-error=5", "", 5000, 10000, true)
	f("", "stale-if-error=5", 15000, 10000, true)
	f("stale-if-error=1", "stale-if-error=5", 15000, 10000, true)
	f("stale-if-error=5", "no-cache", 11000, 10000, false)
	f("stale-if-error=x", "", 10001, 10000, false)
	f("stale-while-revalidate=60", "", 11000, 10000, false)
	if !MayServeOnError(response("stale-if-error=5"), nil, 11000, 10000) {
		t.Error("a request whose directives do not count is refused")
	}
}

// TestVerdictMayServe: what may be given at once, and the words for it.
func TestVerdictMayServe(t *testing.T) {
	f := func(v Verdict, word string, want bool) {
		t.Helper()
		if v.MayServe() != want || v.String() != word {
			t.Errorf("%v: %v", v, v.MayServe())
		}
	}
	f(Revalidate, "revalidate", false)
	f(Demanded, "demanded", false)
	f(Fresh, "fresh", true)
	f(StaleAllowed, "stale-allowed", true)
	f(StaleWhileRevalidate, "stale-while-revalidate", true)
	if s := Verdict(99).String(); s != "unknown" {
		t.Error(s)
	}
}
