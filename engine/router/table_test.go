package router

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

func mustNew(tb testing.TB, flavor Flavor, rules ...Rule[int]) *Table[int] {
	tb.Helper()
	table, err := New(rules, flavor)
	if err != nil {
		tb.Fatal(err)
	}
	return table
}

func match(table *Table[int], q refRequest) Match[int] {
	var m Match[int]
	table.Match(q.request(), &m)
	return m
}

// The order of the two flavors, one line of the table in the package comment at a
// time: of two rules that match the same request the first must win.
func TestOrder(t *testing.T) {
	q := refRequest{
		method: "GET", host: "a.b.com:80", path: "/abc", sni: "s", tls: true,
		headers: refHeaders{"x": {"1"}, "y": {"1"}}, listenPort: 80,
	}
	x, y := Header{"X", []string{"1"}}, Header{"Y", []string{"1"}}
	f := func(flavor Flavor, winner, loser Rule[int]) {
		t.Helper()
		winner.Value, loser.Value = 1, 2
		for _, rules := range [][]Rule[int]{{winner, loser}, {loser, winner}} {
			if m := match(mustNew(t, flavor, rules...), q); m.Value != 1 {
				t.Errorf("flavor %d: the wrong rule won of\n%+v\n%+v", flavor, winner, loser)
			}
		}
	}
	for _, flavor := range []Flavor{Traditional, TraditionalCompatible} {
		f(flavor, Rule[int]{Methods: []string{"GET"}, SNIs: []string{"s"}}, Rule[int]{Hosts: []string{"a.b.com"}})
		f(flavor, Rule[int]{Hosts: []string{"a.b.com"}}, Rule[int]{Hosts: []string{"*.b.com", "a.b.com"}})
		f(flavor, Rule[int]{Headers: []Header{x, y}}, Rule[int]{Headers: []Header{x, {"x", nil}}})
		f(flavor, Rule[int]{Paths: []string{"~/a"}}, Rule[int]{Paths: []string{"/abc"}})
		f(flavor, Rule[int]{Paths: []string{"~/a"}, RegexPriority: 1}, Rule[int]{Paths: []string{"~/abc"}})
		f(flavor, Rule[int]{Paths: []string{"~/a"}}, Rule[int]{Paths: []string{"~/abc"}, RegexPriority: -1})
		f(flavor, Rule[int]{Paths: []string{"/ab"}}, Rule[int]{Paths: []string{"/a"}, RegexPriority: 1})
	}
	host, path := []string{"a.b.com"}, []string{"/"}
	f(Traditional, Rule[int]{Hosts: []string{"*.b.com"}}, Rule[int]{Paths: path})
	f(TraditionalCompatible, Rule[int]{Hosts: []string{"*.b.com"}, ID: "2"}, Rule[int]{Methods: []string{"GET"}, ID: "1"})
	f(TraditionalCompatible, Rule[int]{Paths: path}, Rule[int]{Hosts: []string{"*.b.com"}, ID: "2"})
	f(Traditional, Rule[int]{Headers: []Header{x}, Paths: []string{"/"}}, Rule[int]{Paths: []string{"/abc"}, Methods: []string{"GET"}})
	f(Traditional, Rule[int]{Hosts: []string{"*.b.com:80"}}, Rule[int]{Hosts: host})
	f(TraditionalCompatible, Rule[int]{Hosts: host}, Rule[int]{Hosts: []string{"*.b.com:80"}})
	f(Traditional, Rule[int]{Headers: []Header{x}, Paths: []string{"~/a"}}, Rule[int]{Headers: []Header{x, y}, Paths: []string{"/abc"}})
	f(TraditionalCompatible, Rule[int]{Headers: []Header{x, y}, Paths: []string{"/abc"}}, Rule[int]{Headers: []Header{x}, Paths: []string{"~/a"}})
	f(Traditional, Rule[int]{Paths: path, CreatedAt: 1, ID: "1"}, Rule[int]{Paths: path, CreatedAt: 2, ID: "2"})
	f(TraditionalCompatible, Rule[int]{Paths: path, CreatedAt: 2, ID: "2"}, Rule[int]{Paths: path, CreatedAt: 1, ID: "1"})

	for _, flavor := range []Flavor{Traditional, TraditionalCompatible, Expressions} {
		table := mustNew(t, flavor, Rule[int]{Value: 1, Paths: path}, Rule[int]{Value: 2, Paths: path})
		if m := match(table, q); m.Value != 1 {
			t.Errorf("flavor %d: of two equal rules the later won", flavor)
		}
	}
}

func TestMatchDetails(t *testing.T) {
	table := mustNew(t, Traditional,
		Rule[int]{Value: 1, Paths: []string{"/foo"}},
		Rule[int]{Value: 2, Paths: []string{`~/u/(?<id>\d+)/(x)?`}, Hosts: []string{"H.com"}},
	)
	if m := match(table, refRequest{path: "/foobar"}); !m.Found || m.Value != 1 || m.PathLen != 4 || m.HasCaptures() {
		t.Errorf("prefix: %+v", m)
	}
	if c := new(Match[int]).Captures([]byte("/")); c.Named != nil || c.Numbered != nil {
		t.Errorf("captures without a match: %+v", c)
	}
	m := match(table, refRequest{path: "/u/17/y", host: "h.COM:99"})
	if !m.Found || m.Value != 2 || m.PathLen != 6 || !m.HasCaptures() {
		t.Errorf("regexp: %+v", m)
	}
	want := Captures{Numbered: []string{"17", ""}, Named: map[string]string{"id": "17"}}
	if got := m.Captures([]byte("/u/17/y")); !reflect.DeepEqual(got, want) {
		t.Errorf("captures %+v, want %+v", got, want)
	}
	if re, skipped := m.Pattern(); re == nil || skipped+len(re.Find([]byte("/u/17/y")[skipped:])) != m.PathLen {
		t.Errorf("pattern %v after %d bytes", re, skipped)
	}
	m = Match[int]{Value: 7, Found: true, PathLen: 9}
	table.Match(&Request{Path: []byte("/none")}, &m)
	if m.Found || m.Value != 0 || m.PathLen != 0 {
		t.Errorf("a miss left %+v", m)
	}
	empty := mustNew(t, Traditional)
	if m := match(empty, refRequest{host: "a", path: "/"}); m.Found || empty.Len() != 0 {
		t.Errorf("the empty table matched: %+v", m)
	}
}

func TestExplain(t *testing.T) {
	table := mustNew(t, Traditional,
		Rule[int]{Value: 1, Paths: []string{"/b", "/a"}, Methods: []string{"POST", "PUT"}},
		Rule[int]{Value: 2, Paths: []string{"/"}},
		Rule[int]{Value: 3, Hosts: []string{"x.com", "*.y.com"}, Paths: []string{"/a"}, Headers: []Header{{"V", []string{"1"}}, {"W", nil}}},
		Rule[int]{Value: 4, Paths: []string{"/"}},
		Rule[int]{Value: 5, SNIs: []string{"s.com"}},
	)
	r := refRequest{method: "GET", host: "z.com", path: "/a/1", headers: refHeaders{"v": {"2", "3"}}, tls: true, sni: "t.com"}.request()
	want := []Candidate[int]{
		{Value: 2, Rule: 1, Path: "/", Won: true},
		{Value: 4, Rule: 3, Path: "/"},
		{Value: 1, Path: "/a", Failed: []Mismatch{{"methods", "GET", "POST or PUT"}}},
		{Value: 5, Rule: 4, Failed: []Mismatch{{"snis", "t.com", "s.com"}}},
		{Value: 3, Rule: 2, Path: "/a", Failed: []Mismatch{
			{"hosts", "z.com", "x.com or *.y.com"}, {"headers", "2, 3", "V: 1"}, {"headers", "", "W"},
		}},
	}
	if got := table.Explain(r, 10); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if got := table.Explain(r, 2); !reflect.DeepEqual(got, want[:2]) {
		t.Errorf("two of them: %+v", got)
	}
	if got := table.Explain(r, -1); len(got) != 0 {
		t.Errorf("none of them: %+v", got)
	}
	byExpr := mustNew(t, Expressions, Rule[int]{Expression: `http.path ^= "/a" && (http.method == "PUT" || tls.sni == "x") && net.src.port == 1`})
	got := byExpr.Explain(r, 1)
	wantFailed := []Mismatch{
		{"expression", "", `http.method == "PUT" || tls.sni == "x"`}, {"expression", "0", "net.src.port == 1"},
	}
	if len(got) != 1 || !reflect.DeepEqual(got[0].Failed, wantFailed) {
		t.Errorf("expression: %+v", got)
	}
}

func TestFaults(t *testing.T) {
	_, err := New([]Rule[int]{
		{Hosts: []string{"ok.com", "a.*.com"}, Methods: []string{"get"}},
		{Paths: []string{"/ok", "~/(?!x)", "x"}, SNIs: []string{"-"}, Headers: []Header{{"Host", nil}, {"A", []string{"~*("}}}},
		{Expression: "true"},
	}, Traditional)
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("error is %T %v", err, err)
	}
	got := make([]string, 0, len(joined.Unwrap()))
	for _, e := range joined.Unwrap() {
		fault, ok := errors.AsType[*RuleError](e)
		if !ok {
			t.Fatalf("fault is %T", e)
		}
		got = append(got, fmt.Sprintf("%d %s %d", fault.Rule, fault.Field, fault.Index))
	}
	want := []string{
		"0 methods 0", "0 hosts 1", "1 headers 0", "1 headers 1", "1 paths 1", "1 paths 2", "2 expression 0", "2 expression 0",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q\n%v", got, want, err)
	}
	if !errors.Is(err, ErrLookaround) || !strings.Contains(err.Error(), `rules[1]: paths[1]: regexp "/(?!x)": (?!: look-around is unsupported`) {
		t.Errorf("look-around is not named: %v", err)
	}
	if _, err := New([]Rule[int]{}, 9); err == nil {
		t.Error("an unknown flavor was accepted")
	}
	if _, err := New([]Rule[int]{{Expression: `http.path == "/"`, Priority: 1 << 46}}, Expressions); err == nil {
		t.Error("a priority that is too high was accepted")
	}
	if _, err := New([]Rule[int]{{Expression: `http.path == "/"`, Paths: []string{"/"}}}, Expressions); err == nil {
		t.Error("an expression mixed with paths was accepted")
	}
}

func TestValidate(t *testing.T) {
	f := func(check func(string) error, value, want string) {
		t.Helper()
		err := check(value)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", value, err, want)
		}
	}
	for _, host := range []string{"a", "A.com", "a.com:1", "*.a.com", "a.*", "*.a:65535", "1.2.3.4", "[::1]", "[::1]:80", "x_y-z.a"} {
		f(ValidateHost, host, "")
	}
	f(ValidateHost, "", "empty label")
	f(ValidateHost, "a..b", "empty label")
	f(ValidateHost, "*", "wildcard")
	f(ValidateHost, "a*.b", "wildcard")
	f(ValidateHost, "*.a.*", "only one")
	f(ValidateHost, "a.com:0", "port")
	f(ValidateHost, "a.com:65536", "port")
	f(ValidateHost, "a.com:", "port")
	f(ValidateHost, ":80", "empty label")
	f(ValidateHost, "a b", "invalid character")
	f(ValidateHost, "b\u00fccher.de", "xn--")
	f(ValidateHost, "[::1", "IPv6")
	f(ValidateHost, "[1.2.3.4]", "IPv6")
	f(ValidateHost, "::1", "invalid character")
	f(ValidateHost, strings.Repeat("a.", 130)+"com", "253")

	f(ValidateSNI, "*.a.com", "")
	f(ValidateSNI, "a.com.", "")
	f(ValidateSNI, "a.com:80", "invalid character")
	f(ValidateSNI, "[::1]", "not a server name")

	f(ValidateMethod, "GET", "")
	f(ValidateMethod, "M-SEARCH", "")
	f(ValidateMethod, "get", "upper-case")
	f(ValidateMethod, "", "empty")
	f(ValidateMethod, "A B", "token")

	f(ValidatePath, "/", "")
	f(ValidatePath, "/a%2Fb/caf\u00e9", "")
	f(ValidatePath, "~/a(?<n>.)$", "")
	f(ValidatePath, "", "should start with: / (fixed path) or ~/ (regex path)")
	f(ValidatePath, "a", "should start with")
	f(ValidatePath, "~a", "should start with")
	f(ValidatePath, "/a//b", `use "/a/b"`)
	f(ValidatePath, "/a/../b", `use "/b"`)
	f(ValidatePath, "/%61", `use "/a"`)
	f(ValidatePath, "/%2f", `use "/%2F"`)
	f(ValidatePath, "/%zz", "malformed")
	f(ValidatePath, "~/a)(b", "unexpected )")
	for _, op := range []string{"(?=", "(?!", "(?<=", "(?<!"} {
		f(ValidatePath, "~/a"+op+"b)", op+": look-around is unsupported (RE2 syntax)")
	}
	f(ValidatePath, `~/(a)\1`, "back-reference is unsupported")
	f(ValidatePath, `~/[(?=]`+"(", "missing closing )")
	f(ValidatePath, `~/a++`, "invalid nested repetition operator")

	h := func(h Header, flavor Flavor, ok bool) {
		t.Helper()
		if err := ValidateHeader(h, flavor); (err == nil) != ok {
			t.Errorf("%+v: %v", h, err)
		}
	}
	h(Header{"X", []string{"a", "~*("}}, Traditional, true) // literal: not the sole value
	h(Header{"X", []string{"~*("}}, Traditional, false)
	h(Header{"X", []string{"a", "~*("}}, TraditionalCompatible, false)
	h(Header{"hOsT", []string{"a"}}, Traditional, false)
	h(Header{"", []string{"a"}}, Traditional, false)
	h(Header{"a b", []string{"a"}}, Traditional, false)
}

// TestRegexpWithoutLiteral checks expressions whose leading literal may or may not
// be cut off.
func TestRegexpWithoutLiteral(t *testing.T) {
	f := func(expr, path string, want int) {
		t.Helper()
		var c regexpCache
		p, prefix, err := c.path(expr)
		if err != nil {
			t.Fatal(err)
		}
		got := -1
		if strings.HasPrefix(path, prefix) {
			got = p.matched([]byte(path))
		}
		if got != want {
			t.Errorf("%q on %q matches %d bytes, want %d (%+v)", expr, path, got, want, p)
		}
		if n, ok := refPath("~"+expr, path); ok != (want >= 0) || ok && n != want {
			t.Errorf("%q on %q: the reference says %d, %v", expr, path, n, ok)
		}
	}
	f("/a", "/abc", 2)
	f("/a$", "/a", 2)
	f("/a$", "/ab", -1)
	f(`/a\b/b`, "/a/b", 4)
	f(`/a\bb`, "/ab", -1)
	f(`/ab+c`, "/abbbcd", 6)
	f(`/a(?i)B`, "/ab", 3)
	f(`/a|/b`, "/b", 2)
	f(`/ab|/ac`, "/ac", 3)
	f(`/a/(b|c)/d$`, "/a/c/d", 6)
	f(`/a/[^/]+/orders$`, "/a/1/orders", 11)
	f(`/a/[^/]+/orders$`, "/a/orders", -1)
	f(`/a/.*/x/.*y$`, "/a/1/x/2y", 9)
	f(`/a/.*/x/.*y$`, "/a/1/z/2y", -1)
	f(`/a(b)?b$`, "/ab", 3)
	f(`/a{2}b`, "/aab", 4)
	f(`/aa*?$`, "/aaa", 4)
	f("/a\ufffd", "/a\xff", 3)
	f("/a\ufffdb", "/a\xffb", 4)
	f(`/a/(?<x>b)c$`, "/a/bc", 5)
}

func TestNodeIsOneCacheLine(t *testing.T) {
	if size := unsafe.Sizeof(node{}); size != 64 {
		t.Errorf("node has %d bytes", size)
	}
}

func TestFold(t *testing.T) {
	all := make([]byte, 0, 256)
	for c := range 256 {
		all = append(all, byte(c))
	}
	lower := lowerString(string(all))
	if !equalFold(all, lower) || hashFold(all) != hashFold([]byte(lower)) {
		t.Error("eight bytes at a time differ from one at a time")
	}
	for n := range 40 {
		b := []byte(strings.Repeat("Ab@[`{Zz", 5)[:n])
		lower := lowerString(string(b))
		if !equalFold(b, lower) || hashFold(b) != hashFold([]byte(lower)) {
			t.Errorf("%q does not equal %q", b, lower)
		}
		for i := range n {
			b[i] ^= 0x40
			if equalFold(b, lower) {
				t.Errorf("%q equals %q", b, lower)
			}
			b[i] ^= 0x40
		}
	}
	var m foldMap
	for i := range 1000 {
		if got := m.add(fmt.Sprintf("Key-%d", i)); got != i {
			t.Fatalf("record %d has number %d", i, got)
		}
	}
	m.seal()
	for i := range 1000 {
		if got := m.add(fmt.Sprintf("kEY-%d", i)); got != i || m.find(fmt.Appendf(nil, "KEY-%d", i)) != &m.records[i] {
			t.Fatalf("record %d is %d", i, got)
		}
	}
	if m.find([]byte("key-1000")) != nil || new(foldMap).find(nil) != nil {
		t.Error("found what is not there")
	}
}
