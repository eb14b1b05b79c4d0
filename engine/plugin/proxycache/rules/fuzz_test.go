package rules

import (
	"bytes"
	"maps"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The reference implementations here are regular expressions and maps, one rune a
// byte, so that they have nothing in common with what they check.

const (
	reToken  = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
	reQuoted = `"(?:[^"\\]|\\.)*"`
)

var (
	unquotedPrefix = regexp.MustCompile(`(?s)^(?:[^",]|` + reQuoted + `)*`)
	wellFormed     = regexp.MustCompile(`(?s)^(` + reToken + `)(?:(=)(?:(` + reToken + `)|(` + reQuoted + `)))?$`)
	leadingToken   = regexp.MustCompile("^" + reToken)
	fieldList      = regexp.MustCompile(`^[ \t,]*` + reToken + `(?:[ \t]*,[ \t,]*` + reToken + `)*[ \t,]*$`)
	digits         = regexp.MustCompile(`^[0-9]+$`)
)

// latin returns bytes as a string of runes up to U+00FF.
func latin(b []byte) string {
	r := make([]rune, len(b))
	for i, c := range b {
		r[i] = rune(c)
	}
	return string(r)
}

// unlatin is the inverse of latin.
func unlatin(s string) []byte {
	var b []byte
	for _, r := range s {
		b = append(b, byte(r))
	}
	return b
}

// naiveList cuts a list at commas outside of quotes; balanced says that all quotes
// are closed.
func naiveList(s string) (list []string, balanced bool) {
	balanced = true
	for {
		prefix := unquotedPrefix.FindString(s)
		rest := s[len(prefix):]
		if strings.HasPrefix(rest, `"`) {
			balanced = false
			for element := range strings.SplitSeq(rest, ",") {
				list, prefix = append(list, prefix+element), ""
			}
			rest = ""
		} else {
			list = append(list, prefix)
		}
		if rest == "" {
			break
		}
		s = rest[1:]
	}
	for i := range list {
		list[i] = strings.Trim(list[i], " \t")
	}
	return slices.DeleteFunc(list, func(s string) bool { return s == "" }), balanced
}

func naiveAge(argument string) int64 {
	n, ok := new(big.Int).SetString(argument, 10)
	if !ok || !digits.MatchString(argument) {
		return 0
	}
	if n.Cmp(big.NewInt(SecondsMax)) > 0 {
		return SecondsMax
	}
	return n.Int64()
}

// naiveDirectives returns the arguments of each name in order, in lower case; a plain
// directive has "", a malformed one "malformed".
func naiveDirectives(in string) map[string][]string {
	found := map[string][]string{}
	list, _ := naiveList(in)
	for _, element := range list {
		m := wellFormed.FindStringSubmatch(element)
		name, argument := strings.ToLower(leadingToken.FindString(element)), "malformed"
		switch {
		case m == nil:
		case m[2] == "":
			argument = ""
		case m[3] != "":
			argument = "=" + m[3]
		default:
			argument = "=" + m[4][1:len(m[4])-1]
		}
		found[name] = append(found[name], argument)
	}
	return found
}

func naiveResponse(in string) *Directives {
	found := naiveDirectives(in)
	age := func(name string) int64 {
		if len(found[name]) == 0 {
			return Absent
		}
		return naiveAge(strings.TrimPrefix(found[name][0], "="))
	}
	fields := func(name string) (bool, []byte) {
		all := found[name]
		for _, a := range all {
			if a == "" || a[0] != '=' || !fieldList.MatchString(a[1:]) || !strings.EqualFold(a, all[0]) {
				return true, nil
			}
		}
		if len(all) == 0 {
			return false, nil
		}
		return false, unlatin(all[0][1:])
	}
	has := func(name string) bool { return len(found[name]) > 0 }
	plain := func(name string) bool { return slices.Contains(found[name], "") }
	d := &Directives{
		NoStore: has("no-store"), MustRevalidate: has("must-revalidate"), ProxyRevalidate: has("proxy-revalidate"), NoTransform: has("no-transform"),
		Public: plain("public"), MustUnderstand: plain("must-understand"), Immutable: plain("immutable"),
		MaxAge: age("max-age"), SMaxAge: age("s-maxage"), StaleWhileRevalidate: age("stale-while-revalidate"), StaleIfError: age("stale-if-error"),
	}
	d.NoCache, d.NoCacheFields = fields("no-cache")
	d.Private, d.PrivateFields = fields("private")
	return d
}

var directiveSeeds = []string{
	"", "max-age=5, s-maxage=6", "max-age=1.5,max-age=\"10\"", `no-cache="set-cookie, foo", private`, `private="x", private`, "no-store;x, public=1",
	`ext="a\"b, no-store", max-age=99999999999999999999`, `ext="a, no-store, "b`, "max-age =5,max-age= 5,\tmax-stale", "max-stale=5, min-fresh=-1, only-if-cached, stale-if-error=+1", `"\",",\"`, "MUST-understand, \x00no-cache, immutable\x7f",
}

// FuzzDirectives: agrees with the reference, and a list says what its lines say.
func FuzzDirectives(f *testing.F) {
	for i, seed := range directiveSeeds {
		f.Add([]byte(seed), []byte(directiveSeeds[len(directiveSeeds)-1-i]))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		same(t, a, response(string(a)), naiveResponse(latin(a)))
		joined := string(a) + "," + string(b)
		if _, balanced := naiveList(latin(a)); balanced {
			same(t, joined, response(string(a), string(b)), response(joined))
			if two, one := request(string(a), string(b)), request(joined); *two != *one {
				t.Errorf("%q: %+v in lines, %+v as a list", joined, *two, *one)
			}
		}
		naiveRequest(t, a)
	})
}

// naiveRequest compares the directives of a request with the reference.
func naiveRequest(t *testing.T, in []byte) {
	t.Helper()
	found := naiveDirectives(latin(in))
	age := func(name string) int64 {
		for _, a := range found[name] {
			if a != "" || name != "max-stale" {
				return naiveAge(strings.TrimPrefix(a, "="))
			}
		}
		return Absent
	}
	want := Demands{
		NoCache: len(found["no-cache"]) > 0, NoStore: len(found["no-store"]) > 0, OnlyIfCached: len(found["only-if-cached"]) > 0,
		MaxAge: age("max-age"), MaxStale: age("max-stale"), MinFresh: age("min-fresh"), StaleIfError: age("stale-if-error"),
	}
	want.AnyStale = len(found["max-stale"]) > 0 && want.MaxStale == Absent
	if got := request(string(in)); *got != want {
		t.Errorf("%q:\n got %+v\nwant %+v", in, *got, want)
	}
}

const (
	reKey    = `[a-z*][a-z0-9_.*-]*`
	reString = `"(?:[ !#-\[\]-~]|\\["\\])*"`
	reItem   = `(?:-?[0-9]{1,15}|-?[0-9]{1,12}\.[0-9]{1,3}|` + reString + "|[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*" +
		`|:[A-Za-z0-9+/]*={0,2}:|\?[01]|@-?[0-9]{1,15}|%"(?:[ !#$&-~]|%[0-9a-f]{2})*")`
	reParameters = `(?:; *` + reKey + `(?:=` + reItem + `)?)*`
	reInner      = `\( *(?:` + reItem + reParameters + `(?: +` + reItem + reParameters + `)*)? *\)`
	reMember     = `(` + reKey + `)(?:=(` + reInner + `|` + reItem + `))?` + reParameters
)

var (
	wholeDictionary = regexp.MustCompile(`^ *` + reMember + `(?:[ \t]*,[ \t]*` + reMember + `)*[ \t]*$`)
	firstMember     = regexp.MustCompile(`^[ \t,]*` + reMember + `[ \t]*(?:,|$)`)
)

// FuzzTargeted: accepts what the grammar accepts, and reads the values it has.
func FuzzTargeted(f *testing.F) {
	for _, seed := range []string{
		"max-age=600", "max-age=5;a;b=1, no-store=?0, no-store", `no-cache="a, b", private=("a" b;c)`, "x=:aGk=:, y=@12, z=%\"a%c3%a4\", w=-1.125, v=*a/b",
		"max-age=10000, &&&&&", " a,\tb ", "a,", "public, public=?0, s-maxage=99999999999", "a=( 1  2 )", "stale-if-error=1000000000000000",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		d, s := response("no-store"), latin(in)
		ok := d.AddTargeted(in)
		if want := wholeDictionary.MatchString(s); ok != want {
			t.Fatalf("%q: accepted %v, want %v", in, ok, want)
		}
		if !ok {
			same(t, in, d, response("no-store"))
			return
		}
		values := map[string]string{}
		for m := firstMember.FindStringSubmatch(s); m != nil; m = firstMember.FindStringSubmatch(s) {
			values[m[1]], s = m[2], s[len(m[0]):]
		}
		for name, got := range map[string]int64{"max-age": d.MaxAge, "s-maxage": d.SMaxAge, "stale-while-revalidate": d.StaleWhileRevalidate, "stale-if-error": d.StaleIfError} {
			want := int64(Absent)
			if v, ok := values[name]; ok {
				want = naiveAge(v)
			}
			if got != want {
				t.Errorf("%q: %s is %d, want %d", in, name, got, want)
			}
		}
		for name, got := range map[string]bool{"no-store": d.NoStore, "must-revalidate": d.MustRevalidate, "no-cache": d.NoCache || d.NoCacheFields != nil, "private": d.Private || d.PrivateFields != nil} {
			if v, ok := values[name]; got != (ok && v != "?0") {
				t.Errorf("%q: %s is %v", in, name, got)
			}
		}
	})
}

// FuzzSurrogate: never panics, values are bounded, and what is refused changes nothing.
func FuzzSurrogate(f *testing.F) {
	for _, seed := range []string{"max-age=3600+600", `no-store, content="ESI/1.0"`, "max-age=5;abc, no-store-remote", "max-age=+5", "max-age=1+2+3", `a="`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		d := response("no-store")
		if !d.AddSurrogate(in) {
			same(t, in, d, response("no-store"))
			return
		}
		if d.MaxAge < Absent || d.MaxAge > SecondsMax || d.StaleWhileRevalidate < Absent || d.StaleWhileRevalidate > SecondsMax || !d.NoStore && d.MaxAge == Absent {
			t.Errorf("%q: %+v", in, *d)
		}
	})
}

// FuzzDecide: whatever the directives, the prohibitions hold and lifetimes are bounded.
func FuzzDecide(f *testing.F) {
	for i, seed := range directiveSeeds {
		f.Add(seed, directiveSeeds[len(directiveSeeds)-1-i], int64(i)*minute, int64(5-i)*minute)
	}
	f.Fuzz(func(t *testing.T, answered, demanded string, age, date int64) {
		age, date = min(max(age, 0), lifetimeMax), min(max(date, -lifetimeMax), lifetimeMax)
		d, m := response(answered), request(demanded)
		facts := &Facts{Status: 200, Directives: d, Date: date, Expires: Absent, LastModified: age, Age: d.MaxAge}
		lifetime, explicit := Lifetime(facts, day)
		if lifetime < 0 || lifetime > lifetimeMax || !explicit && lifetime > day {
			t.Fatalf("%q: lifetime %d %v", answered, lifetime, explicit)
		}
		if initial := CorrectedInitialAge(facts, date, age); initial < 0 || initial > lifetimeMax {
			t.Fatalf("%q: age %d", answered, initial)
		}
		v := Decide(d, m, age, lifetime)
		stale := age >= lifetime || d.NoCache
		forbidden := d.NoCache || stale && (d.MustRevalidate || d.ProxyRevalidate || d.SMaxAge != Absent)
		switch {
		case (v == Fresh || v == Demanded) == stale:
			t.Errorf("%v where stale is %v", v, stale)
		case v.MayServe() && (m.NoCache || forbidden):
			t.Errorf("%v where it is forbidden", v)
		case v == StaleWhileRevalidate && d.StaleWhileRevalidate == Absent, v == StaleAllowed && m.MaxStale == Absent && !m.AnyStale:
			t.Errorf("%v where nothing permits it", v)
		case MayServeOnError(d, m, age, lifetime) && (m.NoCache || d.MustRevalidate || d.StaleIfError == Absent && m.StaleIfError == Absent):
			t.Error("served on an error where nothing permits it")
		}
	})
}

// FuzzVary: names agree with the reference, and come back as they are.
func FuzzVary(f *testing.F) {
	for _, seed := range []string{"", "*", "Origin, accept-encoding,,ORIGIN", "a b", "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q", "\x00", "a*"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		want, names := MayStore, map[string]bool{}
		for name := range strings.SplitSeq(latin(in), ",") {
			name = strings.Trim(name, " \t")
			switch {
			case name == "*":
				want = VaryStar
			case name != "" && leadingToken.FindString(name) != name && want == MayStore:
				want = TooManyVary
			case name != "":
				names[strings.ToLower(name)] = true
			}
		}
		if len(names) > VaryNamesMax && want == MayStore {
			want = TooManyVary
		}
		got, r := AppendVaryNames(nil, in)
		if r != want {
			t.Fatalf("%q: %q, want %q", in, r, want)
		}
		if r != MayStore {
			return
		}
		if s := strings.Join(slices.Sorted(maps.Keys(names)), ","); string(got) != s {
			t.Fatalf("%q: got %q, want %q", in, got, s)
		}
		if again, r := AppendVaryNames(nil, got); r != MayStore || !bytes.Equal(again, got) {
			t.Fatalf("%q: %q becomes %q", in, got, again)
		}
	})
}

// FuzzSelecting: a part of a key ends once, does not depend on lines and white space,
// and comes back as it is.
func FuzzSelecting(f *testing.F) {
	for _, seed := range []string{"", "gzip, br;q=0.5, *;q=0", `"a, b" , c`, "a\nb", "en-GB,de;q=0.5", `"`, "identity;q=0, x-gzip", "\xff"} {
		f.Add([]byte(seed), []byte("x, y"))
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		for _, name := range []string{"foo", "accept-encoding", "accept-language", "cookie"} {
			part := selecting(name, string(a))
			value := strings.TrimSuffix(part[1:], "\n")
			if part[0] != '=' || strings.Contains(value, "\n") {
				t.Fatalf("%s: %q", name, part)
			}
			if again := selecting(name, value); again != part && !bytes.Contains(a, []byte("\n")) {
				t.Fatalf("%s: %q becomes %q", name, part, again)
			}
			_, balanced := naiveList(latin(a))
			if one, two := selecting(name, string(a)+","+string(b)), selecting(name, string(a)+"\t, "+string(b)); one != two && name == "foo" && balanced {
				t.Fatalf("%q and %q differ", one, two)
			}
		}
	})
}

var offer = regexp.MustCompile(`^(` + reToken + `)(?:[ \t]*;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?$`)

// FuzzCodings: agrees with the reference, and equal normal forms accept the same.
func FuzzCodings(f *testing.F) {
	for _, seed := range []string{"", "gzip, br;q=0.5", "*;q=0, gzip", "x-gzip;q=1.000, identity;q=0.", "zstd;q=1.001", "br ; Q=0", "*, gzip;q=0", "br, br;q=0", "\""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		list, _ := naiveList(latin(in))
		weights := map[string]float64{}
		for _, element := range list {
			m := offer.FindStringSubmatch(element)
			if m == nil {
				continue
			}
			name, weight := strings.TrimPrefix(strings.ToLower(m[1]), "x-"), 1.0
			if strings.HasPrefix(strings.ToLower(m[1]), "x-") && name != "gzip" {
				continue
			}
			if m[2] != "" {
				weight, _ = strconv.ParseFloat(m[2], 64)
			}
			if old, ok := weights[name]; !ok || weight < old {
				weights[name] = weight
			}
		}
		var accepted, preferred Codings
		best := 0.0
		for _, c := range []Codings{Identity, Gzip, Zstd, Brotli} {
			weight, named := weights[c.String()]
			if rest, ok := weights["*"]; !named && ok {
				weight = rest
			} else if !named && c == Identity {
				weight = 0.0001
			}
			if weight > 0 {
				accepted |= c
				if weight >= best {
					best, preferred = weight, c
				}
			}
		}
		a, p := AcceptedCodings(in, true)
		if a != accepted || p != preferred {
			t.Fatalf("%q: got %b %v, want %b %v", in, a, p, accepted, preferred)
		}
		if normal, _ := AcceptedCodings(AppendCodings(nil, in), true); normal != a {
			t.Fatalf("%q accepts %b, its normal form %b", in, a, normal)
		}
	})
}

var (
	wholeTag  = regexp.MustCompile(`^(W/)?("[!#-~\x{80}-\x{ff}]*")$`)
	tagMember = regexp.MustCompile(`^[ \t]*((?:W/)?"[!#-~\x{80}-\x{ff}]*")[ \t]*(?:,|$)`)
	tagStart  = regexp.MustCompile(`^[ \t]*(?:W/)?"[!#-~\x{80}-\x{ff}]*"`)
)

// FuzzTags: both comparisons agree with the reference.
func FuzzTags(f *testing.F) {
	for _, seed := range []string{`"a"`, `W/"a", "b"`, "*", `"a,b","c"`, `"x"y,"a"`, `"a`, `W/`, "\"\xff\"", `""`, `"a"  "b"`} {
		f.Add([]byte(seed), []byte(`"a"`))
		f.Add([]byte(seed), []byte(`W/"b"`))
	}
	f.Fuzz(func(t *testing.T, list, etag []byte) {
		s := strings.Trim(latin(list), " \t")
		strong, weak := s == "*", s == "*"
		if want := wholeTag.FindStringSubmatch(latin(etag)); want != nil {
			for s != "" {
				m := tagMember.FindStringSubmatch(s)
				if m != nil {
					got := wholeTag.FindStringSubmatch(m[1])
					weak = weak || got[2] == want[2]
					strong = strong || got[2] == want[2] && got[1] == "" && want[1] == ""
					s = s[len(m[0]):]
					continue
				}
				_, s, _ = strings.Cut(s[len(tagStart.FindString(s)):], ",")
			}
		}
		tags(t, string(list), string(etag), strong, weak)
		if IfRange(list, etag, Absent, now) != (wholeTag.MatchString(latin(list)) && !bytes.HasPrefix(list, []byte("W/")) && bytes.Equal(list, etag)) {
			t.Errorf("If-Range %q for %q", list, etag)
		}
	})
}

var wholeRange = regexp.MustCompile(`^(?i:bytes)=[ \t,]*([0-9]*)-([0-9]*)[ \t,]*$`)

// naiveNumber reads digits; what overflows is the largest number.
func naiveNumber(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}

// FuzzRange: agrees with the reference, and a range lies in the body.
func FuzzRange(f *testing.F) {
	for _, seed := range []string{"bytes=0-1", "bytes=-5", "bytes=5-", "bytes=0-1,3-4", "bytes=99999999999999999999-", "BYTES=,1-2,", "bytes=-", "bytes=-0", "x=1-2"} {
		f.Add([]byte(seed), int64(10))
		f.Add([]byte(seed), int64(0))
	}
	f.Fuzz(func(t *testing.T, in []byte, size int64) {
		var want Range
		kind := RangeNone
		m := wholeRange.FindStringSubmatch(latin(in))
		if m != nil && size >= 0 && m[1]+m[2] != "" {
			first, last := naiveNumber(m[1]), naiveNumber(m[2])
			switch {
			case m[1] == "" && last == 0:
				kind = RangeUnsatisfiable
			case m[1] == "" && size == 0, m[1] != "" && m[2] != "" && last < first:
			case m[1] == "":
				want, kind = Range{size - min(last, size), size - 1}, RangeOne
			case first >= size:
				kind = RangeUnsatisfiable
			case m[2] == "":
				want, kind = Range{first, size - 1}, RangeOne
			default:
				want, kind = Range{first, min(last, size-1)}, RangeOne
			}
		}
		got, k := ParseRange(in, size)
		if got != want || k != kind {
			t.Fatalf("%q of %d: got %+v %d, want %+v %d", in, size, got, k, want, kind)
		}
		if k == RangeOne && (got.Start < 0 || got.Start > got.End || got.End >= size) {
			t.Fatalf("%q of %d: %+v", in, size, got)
		}
	})
}

// FuzzCacheStatus: whatever the key and the detail, the member parses.
func FuzzCacheStatus(f *testing.F) {
	f.Add([]byte("GET /a?b"), "no-store", int64(5), uint8(3))
	f.Add([]byte("\"\\\x00\xff"), "a b\r\n", int64(-1), uint8(200))
	f.Fuzz(func(t *testing.T, key []byte, detail string, ttl int64, forward uint8) {
		got := AppendCacheStatus(nil, &Status{Hit: forward == 0, Forward: Forward(forward), HasTTL: true, TTL: ttl, Key: key, Detail: detail})
		d, ok := dictionary(got)
		if !ok {
			t.Fatalf("%q holds nothing", got)
		}
		if _, ok := d.member(); !ok || len(d.rest) > 0 {
			t.Fatalf("%q does not parse", got)
		}
	})
}
