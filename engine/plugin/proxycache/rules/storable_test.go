package rules

import "testing"

// answer returns the facts of a 200 with these directives, sent at now, without
// validators or Expires.
func answer(lines ...string) *Facts {
	return &Facts{Status: 200, Directives: response(lines...), Date: now, Expires: Absent, LastModified: Absent, Age: Absent}
}

func status(code int, lines ...string) *Facts {
	f := answer(lines...)
	f.Status = code
	return f
}

func storable(t *testing.T, facts *Facts, authorized bool, want Reason) {
	t.Helper()
	if got := Storable(facts, authorized); got != want {
		t.Errorf("%d %+v: got %q, want %q", facts.Status, *facts.Directives, got, want)
	}
}

// RFC 9111 3: no-store in the answer forbids to store it.
func TestStorableNoStore(t *testing.T) {
	storable(t, answer("no-store"), false, NoStore)
	storable(t, answer("no-store, max-age=5, public"), true, NoStore)
}

// RFC 9111 5.2.1.5: no-store in the request forbids to store the answer to it.
func TestStorableRequestNoStore(t *testing.T) {
	f := answer("max-age=5, public")
	f.RequestNoStore = true
	storable(t, f, false, RequestNoStore)
}

// RFC 9111 3, 5.2.2.7: a shared cache does not store what is private, but may store
// what is so in some fields only.
func TestStorablePrivate(t *testing.T) {
	storable(t, answer("private, max-age=5"), false, Private)
	storable(t, answer(`private="set-cookie", max-age=5`), false, MayStore)
	storable(t, answer(`private="set-cookie", private, max-age=5`), false, Private)
}

// RFC 9111 3.5: the answer to a request with credentials is stored only with
// must-revalidate, public or s-maxage.
func TestStorableAuthorization(t *testing.T) {
	for _, refused := range []string{"", "max-age=5", "proxy-revalidate, max-age=5", `private="x", max-age=5`, "no-cache", "public=1, max-age=5"} {
		storable(t, answer(refused), true, Authorization)
		storable(t, answer(refused), false, MayStore)
	}
	storable(t, answer("max-age=5, must-revalidate"), true, MayStore)
	storable(t, answer("max-age=5, public"), true, MayStore)
	storable(t, answer("s-maxage=5"), true, MayStore)
}

// RFC 9111 3: the status is a final one.
func TestStorableFinalStatus(t *testing.T) {
	for _, code := range []int{-1, 0, 100, 103, 199, 1000} {
		storable(t, status(code, "max-age=5, public"), false, InterimStatus)
	}
}

// RFC 9111 3, 3.3, 4.3.4: a part is not stored as a whole, nor is a 304.
func TestStorablePartialAndNotModified(t *testing.T) {
	storable(t, status(206, "max-age=5, public"), false, PartialStatus)
	storable(t, status(304, "max-age=5, public"), false, ValidatingStatus)
}

// RFC 6585 3 to 6: 428, 429, 431 and 511 must not be stored.
func TestStorableStatusForbids(t *testing.T) {
	for _, code := range []int{428, 429, 431, 511} {
		storable(t, status(code, "max-age=5, public"), false, UncacheableStatus)
	}
}

// RFC 9111 3: without must-understand, a status need not be known.
func TestStorableUnknownStatusWithFreshness(t *testing.T) {
	for _, code := range []int{200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 404, 410, 499, 500, 502, 503, 504, 599} {
		storable(t, status(code, "max-age=5"), false, MayStore)
	}
}

// RFC 9111 3, 5.2.2.3: must-understand wants a status that is understood, and takes
// no-store away then.
func TestStorableMustUnderstand(t *testing.T) {
	storable(t, status(200, "max-age=5, no-store, must-understand"), false, MayStore)
	storable(t, status(599, "max-age=5, no-store, must-understand"), false, NotUnderstood)
	storable(t, status(599, "max-age=5, must-understand"), false, NotUnderstood)
	storable(t, status(200, "max-age=5, no-store, must-understand=1"), false, NoStore)
	storable(t, status(206, "max-age=5, no-store, must-understand"), false, PartialStatus)
	f := func(code int, want bool) {
		t.Helper()
		if Understood(code) != want {
			t.Errorf("%d: want %v", code, want)
		}
	}
	for _, code := range []int{200, 205, 300, 305, 308, 400, 404, 417, 421, 422, 426, 451, 500, 505} {
		f(code, true)
	}
	for _, code := range []int{100, 199, 206, 226, 299, 304, 306, 309, 399, 418, 423, 425, 429, 499, 506, 511, 599} {
		f(code, false)
	}
}

// RFC 9111 3: something says for how long, or permits to guess it.
func TestStorableNeedsFreshness(t *testing.T) {
	storable(t, status(200), false, MayStore)
	storable(t, status(500), false, NoFreshness)
	storable(t, status(302, "no-transform, immutable, stale-if-error=5, must-revalidate"), false, NoFreshness)
	storable(t, status(500, "public"), false, MayStore)
	storable(t, status(500, "max-age=0"), false, MayStore)
	storable(t, status(500, "s-maxage=5"), false, MayStore)
	f := status(500)
	f.Expires = now + hour
	storable(t, f, false, MayStore)
	f.Expires, f.InvalidExpires = Absent, true
	storable(t, f, false, MayStore)
}

// RFC 9110 15.1, RFC 7725 3: the statuses that are heuristically cacheable.
func TestHeuristicallyCacheableStatuses(t *testing.T) {
	want := map[int]bool{200: true, 203: true, 204: true, 206: true, 300: true, 301: true, 308: true, 404: true, 405: true, 410: true, 414: true, 451: true, 501: true}
	for code := -1; code < 1000; code++ {
		if HeuristicallyCacheable(code) != want[code] {
			t.Errorf("%d: want %v", code, want[code])
		}
	}
}

// TestReasonsAreWords: every reason has a word of its own.
func TestReasonsAreWords(t *testing.T) {
	seen := map[string]bool{}
	for r := MayStore; r <= TooManyVary; r++ {
		if s := r.String(); seen[s] || (s == "") != (r == MayStore) {
			t.Errorf("%d is %q", r, s)
		}
		seen[r.String()] = true
	}
	if s := Reason(200).String(); s != "unknown" {
		t.Error(s)
	}
}
