//go:build !race

package router

import "testing"

// TestMatchDoesNotAllocate goes through every kind of condition.
func TestMatchDoesNotAllocate(t *testing.T) {
	for _, c := range worstCases {
		table := mustNew(t, Expressions, c.rules()...)
		r := worstRequest(c.host, c.path)
		var m Match[int]
		if n := testing.AllocsPerRun(20, func() { table.Match(r, &m) }); n != 0 || m.Found != c.found {
			t.Errorf("%s: %v allocations, found %v", c.name, n, m.Found)
		}
	}
	r := worstRequest("A.Example.com:8443", "/Users/17/Orders")
	r.SNI, r.TLS, r.Query, r.Protocol = "A.Example.com.", true, []byte("a=%41%42&b"), "https"
	headers := make([]Header, 0, 3)
	for _, v := range []string{"~*^v5", "v50"} {
		headers = append(headers, Header{"X-A", []string{v}})
	}
	tables := []*Table[int]{
		mustNew(t, Traditional, Rule[int]{
			Hosts: []string{"*.example.com:8443"}, Paths: []string{`~/[A-Z]\w+/(?<id>\d+)/`}, Methods: []string{"DELETE"},
			SNIs: []string{"*.example.com"}, Headers: headers,
		}),
		mustNew(t, Expressions, Rule[int]{Expression: `http.host =^ ".example.com" && lower(http.path) ~ "^/users/\\d+" &&
			http.path.segments.0_1 == "Users/17" && any(lower(http.headers.x_a)) == "v50" && http.queries.a == "AB" &&
			lower(http.queries.a) ^= "ab" && tls.sni == "a.example.com" && net.protocol == "https"`}),
	}
	for i, table := range tables {
		var m Match[int]
		if n := testing.AllocsPerRun(100, func() { table.Match(r, &m) }); n != 0 || !m.Found {
			t.Errorf("table %d: %v allocations, found %v", i, n, m.Found)
		}
	}
	raw, dst := []byte("/a/%2e%2e/b%2f/caf%C3%A9"), make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() {
		path, err := NormalizePath(dst, raw)
		if err != nil {
			t.Fatal(err)
		}
		_ = Ambiguities(path)
	}); n != 0 {
		t.Errorf("NormalizePath: %v allocations", n)
	}
}
