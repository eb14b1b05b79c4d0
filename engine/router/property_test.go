package router

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// source yields choices, from a random generator or from fuzzed bytes.
type source func(n int) int

func (s source) pick(from []string) string { return from[s(len(from))] }

// some returns up to most different elements of from, often none.
func (s source) some(from []string, most int) []string {
	var out []string
	if s(2) == 0 {
		return nil
	}
	for range 1 + s(most) {
		out = append(out, s.pick(from))
	}
	return out
}

// The alphabets are small so that rules overlap and tie.
var (
	genMethods = []string{"GET", "POST", "PURGE"}
	genHosts   = []string{
		"a.com", "b.a.com", "c.b.a.com", "a.com:8443", "B.A.com:80", "*.a.com", "*.b.a.com", "*.a.com:8443",
		"*.com", "a.*", "b.*", "b.a.*", "b.*:80", "*.b.a.com:80", "[::1]", "[::1]:80",
	}
	genPaths = []string{
		"/", "/a", "/a/", "/ab", "/a/b", "/a/b/c", "/abcdefghijklmnopqrstuvwxyz0123456789", "/abcdefghijklmnopqrstuvwxyz0123456789/x",
		"~/", "~/a", "~/a/(?<id>[^/]+)", "~/a/b$", "~/ab?", "~/a/\\d+/x", "~/(a|ab)/b", "~/a.*c$", "~/(?i)A", "~/[a-c]", "~/a/[a-z]+/c", "~/()", "~/a/b|/b",
	}
	genNames  = []string{"X-A", "x-a", "X-B", "Version"}
	genValues = []string{"v1", "V1", "v2", "", "~*^v", "~*\\D", "~*A", "~*v1|v2", "a"}
	genSNIs   = []string{"a.com", "*.a.com", "a.*", "b.a.com.", "B.a.com"}

	reqHosts = []string{
		"a.com", "A.com", "b.a.com", "c.b.a.com", "a.com:8443", "b.a.com:80", "x.a.com:8443", "c.b.A.com:80", "a.org", "b.org:80",
		"b.a.org", "", ".a.com", "com", "a.", "a.com:", "x.com", "[::1]", "[::1]:80", "a.com:99999", "a.x", "b.a.x:80",
	}
	reqPaths = []string{
		"/", "/a", "/a/", "/ab", "/abc", "/a/b", "/a/b/", "/a/b/c", "/a/12/x", "/ab/b", "/b", "/abcdefghijklmnopqrstuvwxyz0123456789/xy",
		"/abcdefghijklmnopqrstuvwxyz012345678", "/A", "/c", "/a/z/c", "", "/a//c",
	}
	reqValues = []string{"v1", "V1", "v2", "", "a", "A", "zz", "7"}
	reqSNIs   = []string{"", "a.com", "A.com.", "b.a.com", "a.org", ".a.com"}
)

func (s source) rule(i int) Rule[int] {
	r := Rule[int]{
		Value: i, ID: fmt.Sprintf("id-%d", s(4)), CreatedAt: int64(s(3)), RegexPriority: s(3),
		Methods: s.some(genMethods, 2), Hosts: s.some(genHosts, 3), Paths: s.some(genPaths, 4),
	}
	if s(4) == 0 {
		r.SNIs = s.some(genSNIs, 2)
	}
	for range s(3) {
		r.Headers = append(r.Headers, Header{Name: s.pick(genNames), Values: s.some(genValues, 12)})
	}
	return r
}

func (s source) request() refRequest {
	q := refRequest{
		method: s.pick([]string{"GET", "POST", "PURGE", "get", "HEAD"}), host: s.pick(reqHosts), path: s.pick(reqPaths),
		sni: s.pick(reqSNIs), tls: s(2) == 0, headers: refHeaders{}, listenPort: []int{80, 8443, 8000}[s(3)],
	}
	for range s(5) {
		name := strings.ToLower(s.pick(genNames))
		q.headers[name] = append(q.headers[name], s.pick(reqValues))
	}
	return q
}

// checkEqual holds the table and the reference equal for some random requests.
func checkEqual(t *testing.T, s source, ruleCount, requestCount int) {
	t.Helper()
	rules := make([]Rule[int], ruleCount)
	for i := range rules {
		rules[i] = s.rule(i)
	}
	for _, flavor := range []Flavor{Traditional, TraditionalCompatible, Expressions} {
		table, err := New(rules, flavor)
		if err != nil {
			t.Fatalf("New: %v", err)
		}
		subs := refSplit(rules, flavor)
		for i := range requestCount {
			q := s.request()
			value, pathLen, found := refMatch(subs, q, flavor)
			r := q.request()
			var m Match[int]
			table.Match(r, &m)
			if m.Value != value || m.PathLen != pathLen || m.Found != found {
				t.Fatalf("flavor %d, %+v:\ntable     rule %d, %d bytes, %v: %+v\nreference rule %d, %d bytes, %v: %+v",
					flavor, q, m.Value, m.PathLen, m.Found, rules[m.Value], value, pathLen, found, rules[value])
			}
			if i%8 != 0 { // Explain looks at every rule
				continue
			}
			c := table.Explain(r, 3)
			if won := len(c) > 0 && c[0].Won; won != found || found && c[0].Value != value {
				t.Fatalf("flavor %d, %+v: Explain says %+v, reference rule %d, %v", flavor, q, c, value, found)
			}
		}
	}
}

func TestTableEqualsReference(t *testing.T) {
	rounds := 600
	if testing.Short() {
		rounds = 60
	}
	for seed := range rounds {
		rng := rand.New(rand.NewPCG(uint64(seed), 1))
		checkEqual(t, rng.IntN, 1+rng.IntN(40), 30)
	}
	// Many rules on few paths, so that lists get branches in branches.
	for seed := range rounds / 120 {
		rng := rand.New(rand.NewPCG(uint64(seed), 2))
		checkEqual(t, rng.IntN, 800, 60)
	}
}

func FuzzTableEqualsReference(f *testing.F) {
	f.Add([]byte("a few bytes to choose rules by, and then some more for the requests"))
	f.Fuzz(func(t *testing.T, choices []byte) {
		at := 0
		s := source(func(n int) int {
			if at == len(choices) {
				return 0
			}
			at++
			return int(choices[at-1]) % n
		})
		checkEqual(t, s, 1+s(12), 8)
	})
}
