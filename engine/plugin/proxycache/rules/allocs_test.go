//go:build !race

package rules

import "testing"

// TestRulesDoNotAllocate runs every function with what makes it work hardest.
func TestRulesDoNotAllocate(t *testing.T) {
	f := func(name string, hot func()) {
		t.Helper()
		if n := testing.AllocsPerRun(100, hot); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
	var (
		control   = []byte(`Max-Age="60", s-maxage=5, no-cache="a, b", private, ext="a\"b", x="y`)
		dict      = []byte(`max-age=5;a=1, no-cache="a", x=(1 "b";c :YQ==:), y=@1, z=%"a", w=1.5`)
		surrogate = []byte(`max-age=5+6, content="ESI/1.0", no-store;x`)
		vary      = []byte("Origin, Accept-Encoding, accept-language, X-A, X-B")
		encodings = []byte("gzip, deflate;q=0.5, br, zstd, *;q=0")
		list      = []byte(`"a", W/"b", "c,d", x, "e"`)
		etag      = []byte(`"e"`)
		name      = []byte("Accept-Encoding")
		other     = []byte("X-Other")
		dates     = [][]byte{[]byte("Sun, 06 Nov 1994 08:49:37 GMT"), []byte("Sunday, 06-Nov-94 08:49:37 GMT"), []byte("Sun Nov  6 08:49:37 1994")}
		rangeOf   = []byte("bytes=0-5")
		method    = []byte("POST")
		d         Directives
		m         Demands
		dst       = make([]byte, 0, 4096)
	)
	f("directives", func() {
		d.Reset()
		d.Add(control)
		d.AddTargeted(dict)
		d.AddSurrogate(surrogate)
		m.Reset()
		m.Add(control)
		m.AddPragma(control)
	})
	f("date", func() {
		for _, b := range dates {
			ParseDate(b, now)
		}
		dst = AppendDate(dst[:0], now)
	})
	f("decision", func() {
		facts := Facts{Status: 200, Directives: &d, Date: now, Expires: now, LastModified: 0, Age: ParseAge(control)}
		Storable(&facts, true)
		ms, _ := Lifetime(&facts, day)
		Decide(&d, &m, CurrentAge(CorrectedInitialAge(&facts, now, now), now, now), ms)
		MayServeOnError(&d, &m, 1, ms)
	})
	f("vary", func() {
		dst, _ = AppendVaryNames(dst[:0], vary)
		dst = AppendSelecting(dst, name, encodings, true)
		dst = AppendSelecting(dst, other, vary, true)
		AcceptedCodings(encodings, true)
	})
	f("conditions", func() {
		MatchStrong(list, etag)
		c := Conditions{IfNoneMatch: list, HasIfNoneMatch: true, IfModifiedSince: dates[0], Now: now}
		NotModified(&c, etag, now, now)
		IfRange(dates[1], etag, now, now)
		ParseRange(rangeOf, 10)
	})
	f("fields", func() {
		StoredField(name)
		Updatable(name)
		ListHas(vary, other)
		Invalidates(method, 200)
	})
	f("status", func() {
		dst = AppendCacheStatus(dst[:0], &Status{Forward: URIMiss, ForwardStatus: 200, Stored: true, HasTTL: true, TTL: 5, Key: list, Detail: NoStore.String()})
	})
}
