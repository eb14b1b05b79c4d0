package router

import (
	"fmt"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

// worstCases are the shapes that cost more than the others: each request is the
// one that makes its table work hardest.
var worstCases = []struct {
	name  string
	rules func() []Rule[int]
	host  string
	path  string
	found bool
}{
	{"nested prefixes, last wins/1000", func() []Rule[int] {
		return repeat(1000, func(i int) Rule[int] { return Rule[int]{Paths: []string{strings.Repeat("/a", i+1)}} })
	}, "h.com", strings.Repeat("/a", 1000), true},
	{"nested prefixes, headers fail/100", func() []Rule[int] {
		return repeat(100, func(i int) Rule[int] {
			return Rule[int]{Paths: []string{strings.Repeat("/a", i+1)}, Headers: []Header{{"X-A", []string{"no"}}}}
		})
	}, "h.com", strings.Repeat("/a", 100), false},
	{"regexps, literal inside differs/1000", func() []Rule[int] {
		return repeat(1000, func(i int) Rule[int] { return Rule[int]{Paths: []string{fmt.Sprintf(`~/api/[^/]+/kind-%d/\d+$`, i)}} })
	}, "h.com", "/api/x/kind-999/x", false},
	{"regexps, nothing literal differs/1000", func() []Rule[int] {
		return repeat(1000, func(i int) Rule[int] { return Rule[int]{Paths: []string{fmt.Sprintf(`~/api/[a-z]{1,%d}\d$`, i%50+1)}} })
	}, "h.com", "/api/abcdefghi", false},
	{"header regexps/1000", func() []Rule[int] {
		return repeat(1000, func(i int) Rule[int] {
			return Rule[int]{Paths: []string{"/a"}, Headers: []Header{{"X-A", []string{fmt.Sprintf("~*^w%d$", i)}}}}
		})
	}, "h.com", "/a", false},
	{"header names/1000", func() []Rule[int] {
		return repeat(1000, func(i int) Rule[int] {
			return Rule[int]{Paths: []string{"/a"}, Headers: []Header{{fmt.Sprintf("X-%d", i), []string{"1"}}}}
		})
	}, "h.com", "/a", false},
	{"expressions without a place/1000", func() []Rule[int] {
		return repeat(1000, func(i int) Rule[int] {
			return Rule[int]{Expression: fmt.Sprintf(`http.path =^ "/%d"`, i)}
		})
	}, "h.com", "/a", false},
	{"wildcards of every length/250", func() []Rule[int] {
		return repeat(120, func(i int) Rule[int] {
			return Rule[int]{Hosts: []string{"*" + strings.Repeat(".a", i+1), strings.Repeat("a.", i+1) + "*"}, Methods: []string{"PUT"}}
		})
	}, strings.Repeat("a.", 500) + "a", "/a", false},
	{"host of 16 KiB", func() []Rule[int] {
		return []Rule[int]{{Hosts: []string{"*.a.com"}}, {Hosts: []string{"a.*"}}}
	}, strings.Repeat(".", 16<<10), "/a", false},
	{"methods and headers on one path/100000", func() []Rule[int] {
		methods := []string{"GET", "PUT", "POST", "DELETE"}
		return repeat(100_000, func(i int) Rule[int] {
			return Rule[int]{
				Paths: []string{"/a"}, Methods: methods[i%4 : i%4+1],
				Headers: []Header{{"X-A", []string{fmt.Sprint("v", i/4%100)}}, {"X-B", []string{fmt.Sprint("v", i/400)}}},
			}
		})
	}, "h.com", "/a", true},
}

func repeat(n int, rule func(i int) Rule[int]) []Rule[int] {
	rules := make([]Rule[int], n)
	for i := range rules {
		rules[i] = rule(i)
	}
	return rules
}

func worstRequest(host, path string) *Request {
	header := &fasthttp.RequestHeader{}
	for _, kv := range [][2]string{{"Accept", "*/*"}, {"User-Agent", "bench"}, {"X-A", "V50"}, {"X-B", "v249"}} {
		header.Set(kv[0], kv[1])
	}
	return &Request{Method: []byte("DELETE"), Host: []byte(host), Path: []byte(path), Headers: header}
}

func BenchmarkWorstCase(b *testing.B) {
	for _, c := range worstCases {
		b.Run(c.name, func(b *testing.B) {
			table := mustNew(b, Expressions, c.rules()...)
			r := worstRequest(c.host, c.path)
			var m Match[int]
			b.ReportAllocs()
			for b.Loop() {
				table.Match(r, &m)
			}
			if m.Found != c.found {
				b.Errorf("found %v", m.Found)
			}
		})
	}
}
