package rules

import (
	"fmt"
	"strings"
	"testing"
)

// RFC 9111 4.1: no request matches Vary with a member *.
func TestVaryStarNeverMatches(t *testing.T) {
	f := func(in string, want Reason) {
		t.Helper()
		if got := Vary([]byte(in)); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
		if dst, got := AppendVaryNames([]byte("x"), []byte(in)); got != want || want != MayStore && string(dst) != "x" {
			t.Errorf("%q: names %q, %q, want %q", in, dst, got, want)
		}
	}
	for _, in := range []string{"*", "*, *", "*,*", ", *", "*, Foo", "Foo, *", "Foo\t,\t*\t"} {
		f(in, VaryStar)
	}
	for _, in := range []string{"", " , ", "Foo", "Foo*", "*Foo", "**"} {
		f(in, MayStore)
	}
}

// RFC 9110 12.5.5: Vary is a set of names, in any order and case.
func TestVaryNames(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		got, r := AppendVaryNames([]byte("x:"), []byte(in))
		if r != MayStore || string(got) != "x:"+want {
			t.Errorf("%q: got %q %q, want %q", in, got, r, want)
		}
	}
	f("", "")
	f("Origin", "origin")
	f("Origin, Accept-Encoding", "accept-encoding,origin")
	f("accept-encoding ,ORIGIN,,origin\t", "accept-encoding,origin")
	f("ab, a, abc", "a,ab,abc")
}

// TestVaryBounded: too many names, and what are no names, are a reason not to store.
func TestVaryBounded(t *testing.T) {
	f := func(n int, want Reason) {
		t.Helper()
		var names []string
		for i := range n {
			names = append(names, fmt.Sprintf("x-%d", i), fmt.Sprintf("X-%d", i))
		}
		got, r := AppendVaryNames(nil, []byte(strings.Join(names, ",")))
		if r != want || r == MayStore && strings.Count(string(got), ",") != n-1 {
			t.Errorf("%d: got %q %q, want %q", n, got, r, want)
		}
	}
	f(VaryNamesMax, MayStore)
	f(VaryNamesMax+1, TooManyVary)
	for _, in := range []string{"a b", `"a"`, "a;b", "a\x00", "ä"} {
		if _, r := AppendVaryNames(nil, []byte(in)); r != TooManyVary {
			t.Errorf("%q: %q", in, r)
		}
	}
}

func selecting(name, value string) string {
	return string(AppendSelecting(nil, []byte(name), []byte(value), true))
}

// RFC 9111 4.1: requests match whose fields differ in white space, or in the lines
// they are spread over, alone.
func TestVarySelectingNormalized(t *testing.T) {
	f := func(name, a, b string, want bool) {
		t.Helper()
		if got := selecting(name, a) == selecting(name, b); got != want {
			t.Errorf("%s: %q and %q: match %v, want %v", name, a, b, got, want)
		}
	}
	f("foo", "1, 2", "1,2", true)
	f("foo", " 1 ,,\t2 ", "1,2", true)
	f("foo", "1,2", "2,1", false)
	f("foo", "1 2", "12", false)
	f("foo", "a", "A", false)
	f("foo", `"a, b"`, `"a,b"`, false)
	f("foo", `"a, b", c`, `"a, b",c`, true)
	f("foo", `"a, b`, `"a,b`, true)
	f("foo", "1\n", "1", false)
	f("foo", "1\n2", "1 2", true)
	f("Accept-Language", "en-GB, de;Q=0.5", "en-gb,de;q=0.5", true)
	f("accept-language", "en, de", "de, en", false)
	f("Accept-Encoding", "gzip, br;q=0.5", "BR,GZIP", true)
	f("Cookie", "a=1, b", "a=1,b", false)
	f("User-Agent", "KHTML, like", "KHTML,like", false)
	f("authorization", "X a, b", "X a,b", false)
	f("referer", "/a, b", "/a,b", false)
}

// RFC 9111 4.1: a field that is absent matches only where it is absent.
func TestVarySelectingAbsent(t *testing.T) {
	absent := string(AppendSelecting(nil, []byte("foo"), nil, false))
	for _, value := range []string{"", "-", ",", " "} {
		if got := selecting("foo", value); got == absent {
			t.Errorf("%q is absent", value)
		}
	}
	if absent != string(AppendSelecting(nil, []byte("accept-encoding"), nil, false)) {
		t.Error("absent fields differ")
	}
}

// TestVarySelectingJoins: the parts of a key cannot be taken for one another.
func TestVarySelectingJoins(t *testing.T) {
	if selecting("a", "1")+selecting("b", "2") == selecting("a", "1\n=2") {
		t.Error("a value passes for two")
	}
}

// RFC 9111 4.1, RFC 9110 12.5.3: Accept-Encoding is the set of what is accepted.
func TestVaryAcceptEncodingNormalized(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		if got := string(AppendCodings([]byte("x:"), []byte(in))); got != "x:"+want {
			t.Errorf("%q: got %q, want %q", in, got[2:], want)
		}
	}
	f("", "")
	f("identity", "")
	f("gzip, deflate, br, zstd", "br,deflate,gzip,zstd")
	f("br;q=1.0, gzip;q=0.8, *;q=0.1", "*,br,gzip")
	f("gzip;q=0, br", "br")
	f("gzip;q=0, *", "*,gzip;q=0")
	f("x-gzip, GZIP", "gzip")
	f("gzip, gzip;q=0", "")
	f("b, a;q=0, c, *, d;q=0", "*,b,c,a;q=0,d;q=0")
	f("identity;q=0, gzip", "gzip,identity;q=0")
	f("*;q=0, gzip", "gzip,identity;q=0")
	f("*;q=0, identity", "")
	f("*;q=0", "identity;q=0")
	f("*, identity;q=0", "*,identity;q=0")
	f("gzip;q=2, br", "gzip;q=2, br") // malformed
	f("dcb, br", "br,dcb")            // unknown here, not to the origin
	f(strings.Repeat("gzip,", 100), "gzip")
	f("a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q", "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q")
}

// RFC 9110 12.5.3: what is accepted, and what is preferred.
func TestAcceptedCodings(t *testing.T) {
	f := func(in string, accepted, preferred Codings) {
		t.Helper()
		if a, p := AcceptedCodings([]byte(in), true); a != accepted || p != preferred {
			t.Errorf("%q: got %b %v, want %b %v", in, a, p, accepted, preferred)
		}
	}
	const all = Identity | Gzip | Zstd | Brotli
	f("", Identity, Identity)
	f("gzip", Identity|Gzip, Gzip)
	f("X-GZIP", Identity|Gzip, Gzip)
	f("gzip, deflate, br, zstd", all, Brotli)
	f("gzip, zstd", Identity|Gzip|Zstd, Zstd)
	f("gzip;q=1, br;q=0.5", Identity|Gzip|Brotli, Gzip)
	f("gzip;q=0.001", Identity|Gzip, Gzip)
	f("gzip;q=0.5, identity", Identity|Gzip, Identity)
	f("gzip;q=0.5, identity;q=0.5", Identity|Gzip, Gzip)
	f("gzip;q=0", Identity, Identity)
	f("gzip; Q=0.000 , br ;\tq=1.000", Identity|Brotli, Brotli)
	f("identity;q=0", 0, 0)
	f("identity;q=0, gzip", Gzip, Gzip)
	f("*", all, Brotli)
	f("*;q=0", 0, 0)
	f("*;q=0, gzip", Gzip, Gzip)
	f("*;q=0, identity;q=0.1", Identity, Identity)
	f("*;q=0.5, gzip", all, Gzip)
	f("*, br;q=0", Identity|Gzip|Zstd, Zstd)
	f("br, br;q=0", Identity, Identity)
	f("deflate", Identity, Identity)
	if a, p := AcceptedCodings(nil, false); a != all || p != Identity {
		t.Errorf("absent: %b %v", a, p)
	}
}

// RFC 9110 12.4.2: a malformed weight makes no offer.
func TestAcceptedCodingsMalformed(t *testing.T) {
	for _, in := range []string{
		"br;q=", "br;q", "br;", "br;q=2", "br;q=1.001", "br;q=0.0001", "br;q=-1", "br;q=.5", "br;q=1.0000", "br;q=0,5x y", "br;q=a", "br;x=1",
		"br;q=0.5;x", "br q=1", "br=1", ";q=1", "br;q= 1", "br;q=1e0", "\"br\"", "br\x00", "br;q=0.\x00",
	} {
		if a, p := AcceptedCodings([]byte(in), true); a != Identity || p != Identity {
			t.Errorf("%q: got %b %v", in, a, p)
		}
	}
}

// TestCodingNames: names and codings are each other's inverse.
func TestCodingNames(t *testing.T) {
	for _, c := range []Codings{Identity, Gzip, Zstd, Brotli} {
		if got := CodingOf([]byte(strings.ToUpper(c.String()))); got != c {
			t.Errorf("%v: got %v", c, got)
		}
	}
	if CodingOf([]byte("deflate")) != 0 || Codings(3).String() != "unknown" {
		t.Error("an unknown coding is known")
	}
}
