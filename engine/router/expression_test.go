package router

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

var exprRequest = Request{
	Method: []byte("GET"), Host: []byte("Api.Example.com:8443"), Path: []byte("/Users/17/orders/"),
	SNI: "API.example.com.", TLS: true, Query: []byte("a=1&b=x+y&b=%5A&flag&c%5Bd%5D=e"), Protocol: "https",
	Headers: refHeaders{"x-tag": {"One", "Two"}, "accept": {"text/html"}},
	Src:     netip.MustParseAddrPort("10.1.2.3:5000"), Dst: netip.MustParseAddrPort("[2001:db8::1]:8443"),
}

// evaluate parses text and evaluates it without a table.
func evaluate(tb testing.TB, text string, r *Request) (bool, pathMatch) {
	tb.Helper()
	e, err := parseExpression(text)
	if err != nil {
		tb.Fatalf("%s: %v", text, err)
	}
	var s search
	s.begin(r, true)
	return e.holds(&s), s.seen
}

func TestExpressionHolds(t *testing.T) {
	f := func(text string, want bool) {
		t.Helper()
		r := exprRequest
		if got, _ := evaluate(t, text, &r); got != want {
			t.Errorf("%s is %v", text, got)
		}
	}
	f(`http.method == "GET"`, true)
	f(`http.method == "get"`, false)
	f(`lower(http.method) == "get"`, true)
	f(`http.method != "GET"`, false)
	f(`http.host == "api.example.com"`, true)
	f(`http.host == "API.example.com"`, true)
	f(`http.host =^ ".example.com"`, true)
	f(`http.host ~ "^api\\."`, true)
	f(`http.host ~ r#"^api\.e"#`, true)
	f(`http.host contains "example"`, true)
	f(`http.host contains "sample"`, false)
	f(`http.path == "/Users/17/orders/"`, true)
	f(`lower(http.path) ^= "/users"`, true)
	f(`http.path ^= "/users"`, false)
	f(`http.path ~ r#"^/Users/\d+/"#`, true)
	f(`http.path.segments.0 == "Users"`, true)
	f(`http.path.segments.2 == "orders"`, true)
	f(`http.path.segments.3 != "x"`, false)
	f(`http.path.segments.0_1 == "Users/17"`, true)
	f(`http.path.segments.1_2 =^ "/orders"`, true)
	f(`http.path.segments.1_3 ^= "17"`, false)
	f(`http.path.segments.len == 3`, true)
	f(`http.path.segments.len >= 4`, false)
	f(`http.headers.accept == "text/html"`, true)
	f(`http.headers.x_tag == "One"`, false)
	f(`any(http.headers.x_tag) == "One"`, true)
	f(`any(lower(http.headers.x_tag)) == "two"`, true)
	f(`lower(any(http.headers.x_tag)) == "three"`, false)
	f(`http.headers.x_tag ~ "^[OT]"`, true)
	f(`http.headers.x_tag != "Two"`, false)
	f(`http.headers.missing != "x"`, false)
	f(`any(http.headers.missing) != "x"`, false)
	f(`!(http.headers.missing == "x")`, true)
	f(`http.queries.a == "1"`, true)
	f(`http.queries.b == "x y"`, false)
	f(`any(http.queries.b) == "x y"`, true)
	f(`any(http.queries.b) == "Z"`, true)
	f(`any(lower(http.queries.b)) == "z"`, true)
	f(`http.queries.flag == ""`, true)
	f(`http.queries.none == ""`, false)
	f(`net.protocol == "https"`, true)
	f(`net.src.ip == 10.1.2.3`, true)
	f(`net.src.ip != 10.1.2.4`, true)
	f(`net.src.ip in 10.0.0.0/8`, true)
	f(`net.src.ip in 10.9.9.9/8`, true)
	f(`net.src.ip not in 10.0.0.0/8`, false)
	f(`net.src.ip in 2001:db8::/32`, false)
	f(`net.dst.ip in 2001:db8::/32`, true)
	f(`net.dst.ip == 2001:db8::1`, true)
	f(`net.dst.port == 8443 && net.port == 0x20fb && net.src.port < 5001 && net.src.port > -1 && net.src.port <= 5000`, true)
	f(`tls.sni == "api.example.com"`, true)
	f(`http.method == "GET" || http.method == "A" && http.method == "B"`, true)
	f(`(http.method == "GET" || http.method == "A") && http.method == "B"`, false)
	f(`!(http.method == "A" || !(http.method == "GET"))`, true)
	f("\n http.method\t==\r\n\"GET\"", true)
	f(`http.path contains "\"\\\n\r\t"`, false)
	bare := Request{}
	for _, text := range []string{
		`net.src.port != 1`, `net.src.ip != 1.2.3.4`, `tls.sni != "x"`, `http.host != "x"`, `http.headers.a != "x"`,
		`http.queries.a != "x"`, `http.path.segments.0 != "x"`, `net.protocol != "x"`,
	} {
		if got, _ := evaluate(t, text, &bare); got {
			t.Errorf("%s holds for a request without such a value", text)
		}
	}
}

func TestExpressionPathMatch(t *testing.T) {
	f := func(text string, wantLen int, wantRegexp bool) {
		t.Helper()
		r := exprRequest
		ok, seen := evaluate(t, text, &r)
		if !ok || seen.len != wantLen || (seen.regexp != nil) != wantRegexp {
			t.Errorf("%s: %v, %+v", text, ok, seen)
		}
	}
	f(`http.path ^= "/Users"`, 6, false)
	f(`http.path == "/Users/17/orders/"`, 0, false)
	f(`http.path ~ "^/Users/(\\d+)"`, 9, true)
	f(`http.path ~ "orders"`, 0, true)
	f(`http.path ~ "^"`, 0, true)
	f(`http.path ^= "/U" && http.path ^= "/Users"`, 6, false)
	f(`http.path ^= "/Users" && http.method == "PUT" || http.path ^= "/U"`, 2, false)
	f(`http.path ^= "/Users" && http.method == "PUT" || http.method == "GET"`, 0, false)
	f(`!(http.path ^= "/none") && !(http.path ^= "/Users" && http.method == "PUT")`, 0, false)
}

func TestExpressionErrors(t *testing.T) {
	f := func(text string, line, column int, want string) {
		t.Helper()
		err := ValidateExpression(text)
		e, ok := errors.AsType[*ExpressionError](err)
		if !ok || e.Line != line || e.Column != column || !strings.Contains(e.Reason, want) {
			t.Errorf("%s: %v, want %d:%d: %s", text, err, line, column, want)
		}
	}
	f(``, 1, 1, "want a field, got the end")
	f(`http.path`, 1, 10, "want an operator, got the end")
	f(`http.path ==`, 1, 13, "want a value, got the end")
	f(`http.path == http.host`, 1, 14, "want a value, got http.host")
	f(`"a" == http.path`, 1, 1, "want a field")
	f(`http.pth == "a"`, 1, 1, `unknown field "http.pth"`)
	f(`http.headers.X == "a"`, 1, 1, "unknown field")
	f(`http.headers. == "a"`, 1, 1, "unknown field")
	f("http.path == \"a\" &&\n  http.method = \"b\"", 2, 15, "unexpected character '='")
	f(`http.path == "a" http.path`, 1, 18, "want && or ||")
	f(`(http.path == "a"`, 1, 18, "want ), got the end")
	f(`!http.path == "a"`, 1, 2, "want ( after !")
	f(`http.path > "a"`, 1, 13, "operator > cannot be used on a field of type String")
	f(`http.path == 1`, 1, 14, "want a value of type String, got Int")
	f(`net.src.port == "80"`, 1, 17, "want a value of type Int, got String")
	f(`net.src.port ~ "80"`, 1, 16, "operator ~ cannot be used on a field of type Int")
	f(`net.src.ip in 10.0.0.1`, 1, 15, "want a value of type IpCidr, got IpAddr")
	f(`net.src.ip == 10.0.0.0/8`, 1, 15, "want a value of type IpAddr, got IpCidr")
	f(`net.src.ip not 10.0.0.0/8`, 1, 16, "want in after not")
	f(`http.path in "a"`, 1, 14, "operator in cannot be used")
	f(`lower(net.src.port) == 1`, 1, 1, "lower() wants a String")
	f(`upper(http.path) == "a"`, 1, 1, "unknown field")
	f(`http.path == "a`, 1, 14, "not closed")
	f(`http.path == "a\`, 1, 14, "not closed")
	f(`http.path == r#"a"`, 1, 14, "not closed")
	f(`http.path == "\d"`, 1, 15, `unknown escape \d`)
	f(`http.path ~ "(?=a)"`, 1, 13, "look-around is unsupported")
	f(`net.src.ip == 1.2.3.400`, 1, 15, "is no field, number, address or network")
	for _, name := range []string{"", "abc", "a_c", "1_2_3", "1_", "_1", "2_1", "len0"} {
		f(`http.path.segments.`+name+` == "a"`, 1, 1, "unknown field")
	}
	f(strings.Repeat("(", 1000), 1, nestingMax+1, "nested deeper")
	f(strings.Repeat("lower(", 1000), 1, 6*nestingMax, "nested deeper")
	f(strings.Repeat(" ", expressionBytesMax+1), 1, 1, "longer than")
	if err := ValidateExpression(`http.path ~ "(?<!a)"`); !errors.Is(err, ErrLookaround) {
		t.Errorf("look-behind: %v", err)
	}
}

var (
	exprTests = []string{
		`http.host == "a.com"`, `http.host == "b.com"`, `http.host == "A.com"`, `http.host != "a.com"`, `http.host =^ ".com"`, `http.host == ""`,
		`http.path ^= "/a"`, `http.path ^= "/a/b"`, `http.path ^= "/"`, `http.path == "/a"`, `http.path == "/"`, `http.path ^= ""`, `http.path == ""`,
		`lower(http.path) ^= "/a"`, `http.path ~ "^/a/(b|c)"`, `http.path ~ "^/"`, `http.path ~ "b$"`, `http.path ~ "(?m)^/a"`, `http.path ~ "^/a|^/b"`,
		`http.method == "GET"`, `http.method == "get"`, `http.method == "POST"`, `lower(http.method) == "get"`, `http.method != "GET"`, `http.method == ""`,
		`http.headers.x_a == "v1"`, `any(http.headers.x_a) == "v2"`, `tls.sni == "a.com"`, `http.path.segments.len > 1`, `net.dst.port == 80`,
	}
	exprPaths = []string{"/", "/a", "/a/b", "/a/b/c", "/A", "/b", "/ab", "", "/a/c"}
)

func (s source) expression(depth int) string {
	switch n := s(8); {
	case depth == 0 || n < 2:
		return s.pick(exprTests)
	case n < 5:
		return s.expression(depth-1) + " && " + s.expression(depth-1)
	case n < 6:
		return s.expression(depth-1) + " || " + s.expression(depth-1)
	case n < 7:
		return "(" + s.expression(depth-1) + ")"
	}
	return "!(" + s.expression(depth-1) + ")"
}

// checkExpressions holds a table equal to evaluating every rule in order.
func checkExpressions(t *testing.T, s source, ruleCount, requestCount int) {
	t.Helper()
	var rules, others []Rule[int]
	for i := range ruleCount {
		if s(5) == 0 {
			others = append(others, s.rule(1000+i))
		} else {
			rules = append(rules, Rule[int]{Value: i, ID: fmt.Sprint(s(3)), Expression: s.expression(3), Priority: uint64(s(3))})
		}
	}
	table, err := New(slices.Concat(others, rules), Expressions)
	if err != nil {
		t.Fatal(err)
	}
	slices.SortStableFunc(rules, func(a, b Rule[int]) int {
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), strings.Compare(b.ID, a.ID))
	})
	subs := refSplit(others, Expressions)
	for range requestCount {
		q := s.request()
		q.method = s.pick([]string{"GET", "get", "POST", ""})
		q.path = s.pick(exprPaths)
		q.host = s.pick([]string{"a.com", "b.com:80", "A.COM", "c.com", "", ":80"})
		r := q.request()
		if q.method == "" {
			r.Method = nil
		}
		want, won := Match[int]{}, ""
		for i := 0; i < len(rules) && !want.Found; i++ {
			if ok, seen := evaluate(t, rules[i].Expression, r); ok {
				want, won = Match[int]{Value: rules[i].Value, Found: true, PathLen: seen.len}, rules[i].Expression
			}
		}
		if !want.Found {
			want.Value, want.PathLen, want.Found = refMatch(subs, q, Expressions)
		}
		var m Match[int]
		table.Match(r, &m)
		if m.Value != want.Value || m.PathLen != want.PathLen || m.Found != want.Found {
			t.Fatalf("%+v: table %+v, evaluation %+v %s\n%+v", q, m, want, won, rules)
		}
	}
}

func TestExpressionsEqualEvaluation(t *testing.T) {
	rounds := 600
	if testing.Short() {
		rounds = 100
	}
	for seed := range rounds {
		rng := rand.New(rand.NewPCG(uint64(seed), 3))
		checkExpressions(t, rng.IntN, 1+rng.IntN(60), 20)
	}
}

func FuzzExpression(f *testing.F) {
	for _, s := range exprTests {
		f.Add(s)
	}
	f.Add(`!(net.src.ip not in 10.0.0.0/8 || any(lower(http.headers.a)) contains r#"x"#)`)
	f.Fuzz(func(t *testing.T, text string) {
		e, err := parseExpression(text)
		if err != nil {
			if x, ok := errors.AsType[*ExpressionError](err); !ok || x.Offset > len(text) || x.Line < 1 || x.Column < 1 {
				t.Fatalf("%q: %#v", text, err)
			}
			return
		}
		r := exprRequest
		var s search
		s.begin(&r, true)
		want := e.holds(&s)
		// What a part was parsed from parses again to the same thing.
		if again, _ := evaluate(t, e.text, &r); again != want {
			t.Fatalf("%q holds %v, its text %q %v", text, want, e.text, again)
		}
		table, err := New([]Rule[int]{{Value: 1, Expression: text}}, Expressions)
		if err != nil {
			t.Fatal(err)
		}
		var m Match[int]
		if table.Match(&r, &m); m.Found != want || m.PathLen != s.seen.len {
			t.Fatalf("%q: table %+v, evaluation %v %+v", text, m, want, s.seen)
		}
	})
}

func FuzzExpressionsEqualEvaluation(f *testing.F) {
	f.Add([]byte("some bytes to choose expressions by"))
	f.Fuzz(func(t *testing.T, choices []byte) {
		at := 0
		checkExpressions(t, func(n int) int {
			if at == len(choices) {
				return 0
			}
			at++
			return int(choices[at-1]) % n
		}, 6, 6)
	})
}
