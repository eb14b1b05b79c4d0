package bench

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/bench/workload"
	"github.com/sluice-gateway/sluice/engine/router"
)

// routerRequests is how many different requests a benchmark cycles through,
// whatever the size of the table, so that sizes differ in the table alone.
const routerRequests = 4096

// routerShape is one kind of table: rule i, and a request that rule i answers or,
// if miss is set, one that looks alike and no rule answers.
type routerShape struct {
	name    string
	rule    func(i int) router.Rule[int]
	request func(i int, miss bool) (host, path, version string)
}

var routerShapes = []routerShape{
	{"path", func(i int) router.Rule[int] {
		return router.Rule[int]{Paths: []string{fmt.Sprintf("/api/v1/service-%d/items", i)}}
	}, func(i int, miss bool) (host, path, version string) {
		if miss {
			return "api.example.com", fmt.Sprintf("/api/v1/service-%d/other", i), ""
		}
		return "api.example.com", fmt.Sprintf("/api/v1/service-%d/items/42", i), ""
	}},
	{"host", func(i int) router.Rule[int] {
		return router.Rule[int]{Hosts: []string{fmt.Sprintf("shop-%d.example.com", i)}}
	}, func(i int, miss bool) (host, path, version string) {
		if miss {
			return fmt.Sprintf("shop-%d.example.org", i), "/v1/items/42", ""
		}
		return fmt.Sprintf("shop-%d.example.com", i), "/v1/items/42", ""
	}},
	{"wildcard", func(i int) router.Rule[int] {
		return router.Rule[int]{Hosts: []string{fmt.Sprintf("*.tenant-%d.example.com", i)}}
	}, func(i int, miss bool) (host, path, version string) {
		if miss {
			return fmt.Sprintf("eu.tenant-%d.example.org", i), "/v1/items/42", ""
		}
		return fmt.Sprintf("eu.tenant-%d.example.com", i), "/v1/items/42", ""
	}},
	{"host+path", func(i int) router.Rule[int] {
		return router.Rule[int]{
			Hosts: []string{fmt.Sprintf("tenant-%d.example.com", i/4)}, Paths: []string{fmt.Sprintf("/v1/area-%d", i%4)},
		}
	}, func(i int, miss bool) (host, path, version string) {
		if miss {
			return fmt.Sprintf("tenant-%d.example.com", i/4), "/v2/area-1/42", ""
		}
		return fmt.Sprintf("tenant-%d.example.com", i/4), fmt.Sprintf("/v1/area-%d/42", i%4), ""
	}},
	{"header", func(i int) router.Rule[int] {
		return router.Rule[int]{
			Paths: []string{"/api"}, Headers: []router.Header{{Name: "X-Version", Values: []string{fmt.Sprintf("v%d", i)}}},
		}
	}, func(i int, miss bool) (host, path, version string) {
		if miss {
			return "api.example.com", "/api/items", fmt.Sprintf("w%d", i)
		}
		return "api.example.com", "/api/items", fmt.Sprintf("v%d", i)
	}},
	{"regexp", func(i int) router.Rule[int] {
		return router.Rule[int]{Paths: []string{fmt.Sprintf(`~/service-%d/(?<id>\d+)$`, i)}}
	}, func(i int, miss bool) (host, path, version string) {
		if miss {
			return "api.example.com", fmt.Sprintf("/service-%d/abc", i), ""
		}
		return "api.example.com", fmt.Sprintf("/service-%d/42", i), ""
	}},
}

// mixedShape takes its rules from all the others, mostly from those with paths
// and hosts.
var mixedShape = routerShape{"mixed", func(i int) router.Rule[int] {
	return mixedFrom(i).rule(i)
}, func(i int, miss bool) (host, path, version string) {
	return mixedFrom(i).request(i, miss)
}}

func mixedFrom(i int) *routerShape {
	return &routerShapes[[...]int{0, 0, 0, 1, 2, 3, 3, 4, 0, 5}[i%10]]
}

func newRouterTable(tb testing.TB, s routerShape, size int, flavor router.Flavor) *router.Table[int] {
	tb.Helper()
	rules := make([]router.Rule[int], size)
	for i := range rules {
		rules[i] = s.rule(i)
		rules[i].Value = i
	}
	table, err := router.New(rules, flavor)
	if err != nil {
		tb.Fatal(err)
	}
	return table
}

// newRouterRequests spreads the requests evenly over the table, in random order.
func newRouterRequests(s routerShape, size int, miss bool) []router.Request {
	requests := make([]router.Request, routerRequests)
	rng := rand.New(rand.NewPCG(1, 2))
	for i, at := range rng.Perm(routerRequests) {
		host, path, version := s.request(at*size/routerRequests, miss)
		header := &fasthttp.RequestHeader{}
		header.Set("Accept", "*/*")
		header.Set("User-Agent", "bench")
		if version != "" {
			header.Set("X-Version", version)
		}
		requests[i] = router.Request{
			Method: []byte("GET"), Host: []byte(host), Path: []byte(path), Headers: header,
			Dst: netip.MustParseAddrPort("127.0.0.1:8000"),
		}
	}
	return requests
}

var routerSink int

func BenchmarkRouter(b *testing.B) {
	for _, s := range append(routerShapes, mixedShape) {
		for _, size := range workload.Sizes(1, 10, 100, 1_000, 10_000, 100_000) {
			var table *router.Table[int]
			for _, miss := range []bool{false, true} {
				kind := map[bool]string{false: "hit", true: "miss"}[miss]
				b.Run(fmt.Sprintf("%s/%d/%s", s.name, size, kind), func(b *testing.B) {
					if table == nil {
						table = newRouterTable(b, s, size, router.Traditional)
					}
					matchAll(b, table, newRouterRequests(s, size, miss), !miss)
				})
			}
		}
	}
}

func matchAll(b *testing.B, table *router.Table[int], requests []router.Request, want bool) {
	b.Helper()
	var m router.Match[int]
	for i := range requests {
		if table.Match(&requests[i], &m); m.Found != want {
			b.Fatalf("request %d %s%s: found %v", i, requests[i].Host, requests[i].Path, m.Found)
		}
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		table.Match(&requests[i&(routerRequests-1)], &m)
		routerSink += m.Value
		i++
	}
}

// BenchmarkRouterParallel has every core match against one table.
func BenchmarkRouterParallel(b *testing.B) {
	s := mixedShape
	table := newRouterTable(b, s, 10_000, router.Traditional)
	// Headers keep scratch space too, so every goroutine has its own requests.
	sets := make([][]router.Request, runtime.GOMAXPROCS(0))
	for i := range sets {
		sets[i] = newRouterRequests(s, 10_000, false)
	}
	var taken atomic.Int32
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		requests := sets[taken.Add(1)-1]
		var m router.Match[int]
		sum := 0
		for i := 0; pb.Next(); i++ {
			table.Match(&requests[i&(routerRequests-1)], &m)
			sum += m.Value
		}
		if sum < 0 {
			b.Error("sum of indices is negative")
		}
	})
}

// BenchmarkRouterBuild is the load time of a table.
func BenchmarkRouterBuild(b *testing.B) {
	for _, size := range workload.Sizes(1_000, 100_000) {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				newRouterTable(b, mixedShape, size, router.Traditional)
			}
		})
	}
}

func BenchmarkRouterNormalizePath(b *testing.B) {
	for _, path := range []string{"/api/v1/service-17/items/42", "/api/v1/caf%C3%A9/items%2f42", "/api/./v1/../v2//items/42"} {
		b.Run(path, func(b *testing.B) {
			raw := []byte(path)
			dst := make([]byte, 0, 128)
			b.ReportAllocs()
			for b.Loop() {
				normal, err := router.NormalizePath(dst, raw)
				if err != nil {
					b.Fatal(err)
				}
				routerSink += len(normal)
			}
		})
	}
}
