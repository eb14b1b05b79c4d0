package rules

import "testing"

func targeted(t *testing.T, in string) *Directives {
	t.Helper()
	d := response()
	if !d.AddTargeted([]byte(in)) {
		t.Errorf("%q is refused", in)
	}
	return d
}

// RFC 9213 2.2: max-age, must-revalidate, no-store, no-cache and private are
// understood, and all others as in Cache-Control.
func TestTargetedDirectives(t *testing.T) {
	f := func(in string, change func(d *Directives)) {
		t.Helper()
		same(t, in, targeted(t, in), with(func(d *Directives) { d.Targeted = true; change(d) }))
	}
	f("max-age=600", func(d *Directives) { d.MaxAge = 600 })
	f("must-revalidate", func(d *Directives) { d.MustRevalidate = true })
	f("no-store", func(d *Directives) { d.NoStore = true })
	f("no-cache", func(d *Directives) { d.NoCache = true })
	f("private", func(d *Directives) { d.Private = true })
	f(`no-cache="a, b", private="c"`, func(d *Directives) { d.NoCacheFields, d.PrivateFields = []byte("a, b"), []byte("c") })
	f("s-maxage=5, stale-while-revalidate=6, stale-if-error=7", func(d *Directives) { d.SMaxAge, d.StaleWhileRevalidate, d.StaleIfError = 5, 6, 7 })
	f("public, immutable, must-understand", func(d *Directives) { d.Public, d.Immutable, d.MustUnderstand = true, true, true })
	f("no-transform, proxy-revalidate", func(d *Directives) { d.NoTransform, d.ProxyRevalidate = true, true })
	f("none", func(*Directives) {})
}

// RFC 9213 2.1: parameters are ignored, as are unknown directives.
func TestTargetedParametersIgnored(t *testing.T) {
	f := func(in string) {
		t.Helper()
		same(t, in, targeted(t, in), targeted(t, "max-age=5"))
	}
	f("max-age=5;a;b=1; c=\"x\"")
	f("foobar, max-age=5")
	f(`x=(1 "a";p tok :YQ==: ?0 1.5 @12 %"a%c3%a4");q, max-age=5`)
	f("x=(), y=*a/b:c, z=-1.125, max-age=5")
}

// RFC 9213 2.1: an empty field, and one that does not parse, are as if not there.
func TestTargetedInvalidIgnored(t *testing.T) {
	f := func(in string) {
		t.Helper()
		d := response("no-store")
		if d.AddTargeted([]byte(in)) {
			t.Errorf("%q is accepted", in)
		}
		same(t, in, d, response("no-store"))
	}
	for _, in := range []string{
		"", " ", "\t", ",", "max-age=10000, &&&&&", "MaX-aGe=3600", "max-age =100", "max-age= 100", "max-age=5,", "max-age=5,,no-store",
		"max-age=5 no-store", "max-age=", "max-age=5;", "max-age=5;A", "max-age=1000000000000000", "max-age=1.", "max-age=.5", "max-age=1.1234",
		"max-age=--1", "max-age=+1", "max-age='5'", `a="b`, `a="\b"`, "a=\"\x7f\"", "a=\"ä\"", "a=(1", "a=(1,2)", "a=(1 2", `a=("x"1)`, "a=?2", "a=?",
		"a=:b", "a=:%:", "a=:a=a:", "a=:a===:", "a=@1.5", "a=@", `a=%"%C3"`, `a=%"%c"`, `a=%x`, "1a", "-a", "_a", "a=(1;A)", "a=(", "a=1;b=&", `a=%"b`, "a=%\"\x7f\"", "a=(1 &)", "a=b c", "a\x00", "max-age=5\x00", "\tmax-age=5",
	} {
		f(in)
	}
}

// RFC 9213 2.1: a value of another type is not made to fit; the answer is stale.
func TestTargetedAgeOfOtherType(t *testing.T) {
	f := func(in string, want int64) {
		t.Helper()
		if got := targeted(t, in).MaxAge; got != want {
			t.Errorf("%q: got %d, want %d", in, got, want)
		}
	}
	f("max-age=999999999999999", SecondsMax)
	f("max-age=-0", 0)
	f(`max-age="10"`, 0)
	f("max-age=10.0", 0)
	f("max-age=a10", 0)
	f("max-age", 0)
	f("max-age=(10)", 0)
	f("max-age=-10", 0)
	f("max-age=@10", 0)
}

// RFC 9651 3.2: of a key sent twice the last counts.
func TestTargetedLastWins(t *testing.T) {
	same(t, "ages", targeted(t, "max-age=1, max-age=2"), targeted(t, "max-age=2"))
	same(t, "false", targeted(t, `no-store, private="x", no-store=?0, private, public=?0`), targeted(t, "private"))
	same(t, "types", targeted(t, "no-store=5, no-cache=tok, public=1"), targeted(t, "no-store, no-cache"))
}

// RFC 9213 2.2: Cache-Control and Expires do not count beside a targeted field.
func TestTargetedStandsAlone(t *testing.T) {
	d := response("no-store, s-maxage=1, private")
	d.AddTargeted([]byte("max-age=600"))
	same(t, "alone", d, targeted(t, "max-age=600"))
	f := &Facts{Status: 200, Directives: targeted(t, "none"), Date: 0, Expires: hour, LastModified: Absent}
	if ms, explicit := Lifetime(f, day); ms != 0 || explicit {
		t.Errorf("Expires counts: %d %v", ms, explicit)
	}
	f.Status = 500
	if r := Storable(f, false); r != NoFreshness {
		t.Errorf("Expires counts: %q", r)
	}
}

// Edge Architecture 1.0, 2.2: Surrogate-Control.
func TestSurrogateControl(t *testing.T) {
	f := func(in string, change func(d *Directives)) {
		t.Helper()
		d := response("s-maxage=9, private")
		if !d.AddSurrogate([]byte(in)) {
			t.Errorf("%q is refused", in)
		}
		same(t, in, d, with(func(d *Directives) { d.Targeted = true; change(d) }))
	}
	f("max-age=3600", func(d *Directives) { d.MaxAge = 3600 })
	f("max-age=3600+600", func(d *Directives) { d.MaxAge, d.StaleWhileRevalidate = 3600, 600 })
	f(`no-store, content="ESI/1.0", max-age=5`, func(d *Directives) { d.NoStore, d.MaxAge = true, 5 })
	f("no-store-remote", func(d *Directives) { d.NoStore = true })
	f("max-age=5;abc, max-age=7, no-store;abc", func(d *Directives) { d.MaxAge = 7 })
	f("max-age=x", func(d *Directives) { d.MaxAge = 0 })
	f("max-age=5+", func(d *Directives) { d.MaxAge, d.StaleWhileRevalidate = 5, 0 })
	f("max-age=5+6+7", func(d *Directives) { d.MaxAge, d.StaleWhileRevalidate = 5, 0 })
	f("Max-Age=99999999999999999999+99999999999999999999", func(d *Directives) { d.MaxAge, d.StaleWhileRevalidate = SecondsMax, SecondsMax })
	f(`content="a;b, no-store", max-age=1`, func(d *Directives) { d.MaxAge = 1 })
}

// Edge Architecture 1.0, 2.2: a field that says nothing about caching, or is
// malformed, leaves it to Cache-Control.
func TestSurrogateControlInvalidIgnored(t *testing.T) {
	f := func(in string) {
		t.Helper()
		d := response("no-store")
		if d.AddSurrogate([]byte(in)) {
			t.Errorf("%q is accepted", in)
		}
		same(t, in, d, response("no-store"))
	}
	f("")
	f(" , ")
	f(`content="ESI/1.0"`)
	f("max-age=5;abc")
	f("max-age=")
	f("max-age =5")
	f(`max-age=5, content="ESI`)
	f("max-age=5, =")
}
