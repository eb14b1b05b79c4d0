package rules

import (
	"reflect"
	"strings"
	"testing"
)

func response(lines ...string) *Directives {
	var d Directives
	d.Reset()
	for _, line := range lines {
		d.Add([]byte(line))
	}
	return &d
}

func request(lines ...string) *Demands {
	var m Demands
	m.Reset()
	for _, line := range lines {
		m.Add([]byte(line))
	}
	return &m
}

// with returns the directives that differ from none as change says.
func with(change func(d *Directives)) *Directives {
	d := response()
	change(d)
	return d
}

func same(t *testing.T, in any, got, want *Directives) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q:\n got %+v\nwant %+v", in, *got, *want)
	}
}

// RFC 9111 5.2.2, RFC 5861, RFC 8246: every directive has its own meaning.
func TestDirectivesKnown(t *testing.T) {
	f := func(in string, change func(d *Directives)) {
		t.Helper()
		same(t, in, response(in), with(change))
	}
	f("", func(*Directives) {})
	f("no-store", func(d *Directives) { d.NoStore = true })
	f("no-cache", func(d *Directives) { d.NoCache = true })
	f("private", func(d *Directives) { d.Private = true })
	f("public", func(d *Directives) { d.Public = true })
	f("must-revalidate", func(d *Directives) { d.MustRevalidate = true })
	f("proxy-revalidate", func(d *Directives) { d.ProxyRevalidate = true })
	f("must-understand", func(d *Directives) { d.MustUnderstand = true })
	f("no-transform", func(d *Directives) { d.NoTransform = true })
	f("immutable", func(d *Directives) { d.Immutable = true })
	f("max-age=5", func(d *Directives) { d.MaxAge = 5 })
	f("s-maxage=6", func(d *Directives) { d.SMaxAge = 6 })
	f("stale-while-revalidate=7", func(d *Directives) { d.StaleWhileRevalidate = 7 })
	f("stale-if-error=8", func(d *Directives) { d.StaleIfError = 8 })
	f("max-age=5,public\t, \t no-transform,,", func(d *Directives) { d.MaxAge, d.Public, d.NoTransform = 5, true, true })
}

// RFC 9111 5.2: names are compared in any case.
func TestDirectivesNameInAnyCase(t *testing.T) {
	same(t, "case", response("MaX-aGe=5, NO-STORE"), response("max-age=5, no-store"))
}

// RFC 9111 5.2.3: unknown directives are ignored, with arguments of any kind.
func TestDirectivesUnknownIgnored(t *testing.T) {
	f := func(in string) {
		t.Helper()
		same(t, in, response(in), response("max-age=5"))
	}
	f("foo, max-age=5")
	f("foo=bar, max-age=5")
	f(`foo="no-store, private", max-age=5`)
	f(`max-age=5, foo="a\", no-store"`)
	f(`community="UCI",max-age=5`)
	f("no-stor, no-store2, x-no-store, max-age=5, , ,")
	f(`"no-store", =no-store, max-age=5`)
	f("\x00no-store, max-age=5, max\x00-age=7")
}

// RFC 9111 5.2: arguments may be tokens or quoted strings, whichever is generated.
func TestDirectivesArgumentQuoted(t *testing.T) {
	same(t, "quoted", response(`max-age="10"`), response("max-age=10"))
	same(t, "token", response(`private=set-cookie`), response(`private="set-cookie"`))
}

// RFC 9111 1.2.2: a number of seconds that is too large is 2^31.
func TestDirectivesAgeOverflow(t *testing.T) {
	f := func(in string, want int64) {
		t.Helper()
		if got := response("max-age=" + in).MaxAge; got != want {
			t.Errorf("%s: got %d, want %d", in, got, want)
		}
	}
	f("0", 0)
	f("003600", 3600)
	f("2147483647", 1<<31-1)
	f("2147483648", 1<<31)
	f("2147483649", 1<<31)
	f("9223372036854775807", 1<<31)
	f("9223372036854775808", 1<<31)
	f("99999999999999999999999999999999", 1<<31)
	f(strings.Repeat("0", 100)+"7", 7)
}

// RFC 9111 4.2.1: an answer with an invalid age is stale.
func TestDirectivesAgeInvalidIsStale(t *testing.T) {
	f := func(in string) {
		t.Helper()
		for _, name := range []string{"max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"} {
			same(t, name+in, response(name+in), response(name+"=0"))
		}
	}
	for _, in := range []string{
		"", "=", `=""`, "=-1", "=+1", "=1.5", "=3600.0", "=1e3", "=0x10", "=a3600", "=3600a", "='3600'", `="3600`,
		`=3600"`, "= 3600", " =3600", "=3600 foo", "=3600;foo", "=1\x00", "=1\t2", "=\"1 \"", "=999999999999999999999x", "=٣",
	} {
		f(in)
	}
}

// RFC 9111 4.2.1: of a directive sent twice the first counts.
func TestDirectivesFirstAgeWins(t *testing.T) {
	f := func(want int64, lines ...string) {
		t.Helper()
		if got := response(lines...).MaxAge; got != want {
			t.Errorf("%q: got %d, want %d", lines, got, want)
		}
	}
	f(1800, "max-age=1800, max-age=1")
	f(1, "max-age=1, max-age=1800")
	f(1800, "max-age=1800", "max-age=1")
	f(0, "max-age=x, max-age=1800")
	f(1800, "max-age=1800, max-age=x")
}

// RFC 9111 4.2.1: of directives in conflict the stricter counts, as does a prohibition
// that is malformed; a permission that is malformed does not.
func TestDirectivesStricterWins(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		same(t, in, response(in), response(want))
	}
	f(`private="x", private`, "private")
	f(`private, private="x"`, "private")
	f(`private="x", private="y"`, "private")
	f(`no-cache="x", no-cache`, "no-cache")
	f(`no-cache="a", no-cache=b`, "no-cache")
	f("no-store=1", "no-store")
	f("no-store;max-age=5", "no-store")
	f("private; max-age=5", "private")
	f("must-revalidate foo", "must-revalidate")
	f("public=1, immutable;x, must-understand=yes", "")
	f(`ext="a, no-store`, "no-store")
	f(`max-age="10, no-store`, "max-age=0, no-store")
}

// RFC 9111 5.2.2.4, 5.2.2.7: no-cache and private with field names concern these only.
func TestDirectivesFieldNames(t *testing.T) {
	f := func(in, noCache, private string) {
		t.Helper()
		d := response(in)
		if d.NoCache || d.Private || string(d.NoCacheFields) != noCache || string(d.PrivateFields) != private {
			t.Errorf("%q: %+v", in, *d)
		}
	}
	f(`no-cache="set-cookie, foo"`, "set-cookie, foo", "")
	f(`no-cache="Set-Cookie",private="X-User"`, "Set-Cookie", "X-User")
	f(`no-cache="a", no-cache="A"`, "a", "")
	f(`private=" a ,, b "`, "", " a ,, b ")
	d := response(`private="Set-Cookie , x"`)
	for name, want := range map[string]bool{"set-cookie": true, "X": true, "": false, "set": false} {
		if ListHas(d.PrivateFields, []byte(name)) != want {
			t.Errorf("%q: want %v", name, want)
		}
	}
}

// RFC 9111 5.2.2.4, 5.2.2.7: what are no field names makes the directive unqualified.
func TestDirectivesFieldNamesInvalid(t *testing.T) {
	f := func(argument string) {
		t.Helper()
		same(t, argument, response("no-cache"+argument, "private"+argument), response("no-cache, private"))
	}
	f("=")
	f(`=""`)
	f(`=" , "`)
	f(`="a b"`)
	f(`="a\"b"`)
	f(`="a`)
	f(`="a"b`)
	f(` ="a"`)
	f("=\"a\x00\"")
}

// RFC 9110 5.3: several lines are one list.
func TestDirectivesLinesAddUp(t *testing.T) {
	same(t, "lines", response("max-age=5", "", "no-cache, public", `private="x"`), response(`max-age=5, no-cache, public, private="x"`))
}

// Quotes that nothing closes must not make the time grow with the square of the length.
func TestDirectivesLinear(t *testing.T) {
	in := strings.Repeat(`"\",`, 1<<18) + "no-store"
	if d := response(in); !d.NoStore {
		t.Errorf("%+v", *d)
	}
}

// RFC 9111 5.2.1, RFC 5861 4: every request directive has its own meaning.
func TestDemandsKnown(t *testing.T) {
	f := func(in string, change func(m *Demands)) {
		t.Helper()
		want := request()
		change(want)
		if got := request(in); *got != *want {
			t.Errorf("%q:\n got %+v\nwant %+v", in, *got, *want)
		}
	}
	f("", func(*Demands) {})
	f("no-cache", func(m *Demands) { m.NoCache = true })
	f("No-Store", func(m *Demands) { m.NoStore = true })
	f("only-if-cached", func(m *Demands) { m.OnlyIfCached = true })
	f("max-age=5", func(m *Demands) { m.MaxAge = 5 })
	f(`max-age="5"`, func(m *Demands) { m.MaxAge = 5 })
	f("max-stale", func(m *Demands) { m.AnyStale = true })
	f("max-stale=5", func(m *Demands) { m.MaxStale = 5 })
	f("max-stale=5, max-stale", func(m *Demands) { m.MaxStale = 5 })
	f("max-stale, max-stale=5", func(m *Demands) { m.MaxStale = 5 })
	f("max-stale=x", func(m *Demands) { m.MaxStale = 0 })
	f("max-stale=", func(m *Demands) { m.MaxStale = 0 })
	f("min-fresh=5, min-fresh=4", func(m *Demands) { m.MinFresh = 5 })
	f("stale-if-error=5", func(m *Demands) { m.StaleIfError = 5 })
	f("max-age=-1", func(m *Demands) { m.MaxAge = 0 })
	f("max-age=99999999999999999999", func(m *Demands) { m.MaxAge = SecondsMax })
	f("public, s-maxage=5, private", func(*Demands) {})
	f(`x="no-cache, no-store"`, func(*Demands) {})
}

// RFC 9111 5.4: Pragma knows no-cache alone.
func TestDemandsPragma(t *testing.T) {
	f := func(in string, want bool) {
		t.Helper()
		m := request()
		m.AddPragma([]byte(in))
		if m.NoCache != want {
			t.Errorf("%q: got %v, want %v", in, m.NoCache, want)
		}
	}
	f("no-cache", true)
	f("x, No-Cache", true)
	f("no-store", false)
	f(`x="no-cache, y"`, false)
	f("no-cache=1", false)
	f("", false)
}
