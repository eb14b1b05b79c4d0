package rivals

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"testing"

	fastrouter "github.com/fasthttp/router"
	"github.com/go-chi/chi/v5"
	"github.com/julienschmidt/httprouter"
	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/bench/workload"
	"github.com/sluice-gateway/sluice/engine/router"
)

// The router beside others, on what all of them can do: a GET of a path that one route has,
// or of one that looks alike and none has. Hosts, headers, methods, SNIs, nested prefixes
// and regular expressions, which ours matches too, have no row here: see BenchmarkRouter.
//
//   - static is /api/v1/service-N/items, alike for all. What the others find as a whole path is
//     a prefix for ours, as in Kong: it would take /api/v1/service-N/items/7 as well, which
//     nobody asks for here.
//   - param is /api/v1/service-N/items/{id}, and the id is read. Ours has no parameters: there
//     the route is a regular expression with a named group of digits (theirs takes any segment;
//     [^/]+ would match as fast, and 100,000 of them take minutes to load), and
//     the group is found by a second run of it. The gateway does that only for a request whose
//     plugins ask for it: ours-unread is what it costs where none does.
//   - Each is asked by the call that its authors give to who embeds it, without the dispatch of
//     a request: Match, Lookup, Lookup, Find. Each has the path in the type that it wants.

// routerRequests is how many different requests a benchmark cycles through.
const routerRequests = 4096

// routerPath is the path of a request in both types.
type routerPath struct {
	text  string
	bytes []byte
}

// routerShape makes the paths of route i: as each kind of router writes them, and requested.
type routerShape struct {
	name                 string
	param                bool
	ours, braces, colons string
	hit, miss            string
}

var routerShapes = []routerShape{
	{
		name: "static", ours: "/api/v1/service-%d/items", braces: "/api/v1/service-%d/items", colons: "/api/v1/service-%d/items",
		hit: "/api/v1/service-%d/items", miss: "/api/v1/service-%d/other",
	},
	{
		name: "param", param: true, ours: `~/api/v1/service-%d/items/(?<id>\d+)$`, braces: "/api/v1/service-%d/items/{id}",
		colons: "/api/v1/service-%d/items/:id", hit: "/api/v1/service-%[1]d/items/%[1]d", miss: "/api/v1/service-%d/other/42",
	},
}

// routerRival opens a router over n routes of one shape. Not safe for concurrent use.
type routerRival struct {
	name string
	open func(tb testing.TB, s *routerShape, n int) routerHandle
	// routesMax is how many routes it is opened with at most, 0 for any number.
	routesMax int
}

// routerHandle is an open router. find is what is timed: whether a route was found, and the
// value of its parameter, if it has one. which tells the route's number, -1 for none.
type routerHandle struct {
	find  func(p *routerPath) (param string, ok bool)
	which func(p *routerPath) int
}

var routerRivals = []routerRival{
	{"ours", openOurRouter, 0},
	{"ours-unread", openOurRouterUnread, 0},
	// The time to add a route grows with their number: 10,000 take about 4 s, 100,000 minutes.
	{"fasthttp-router", openFasthttpRouter, 10_000},
	{"httprouter", openHTTPRouter, 0},
	{"chi", openChi, 0},
}

func openOurRouter(tb testing.TB, s *routerShape, n int) routerHandle {
	rules := make([]router.Rule[int], n)
	for i := range rules {
		rules[i] = router.Rule[int]{Value: i, Paths: []string{fmt.Sprintf(s.ours, i)}}
	}
	table, err := router.New(rules, router.Traditional)
	if err != nil {
		tb.Fatal(err)
	}
	r := router.Request{Method: []byte("GET"), Host: []byte("api.example.com"), Headers: &fasthttp.RequestHeader{}}
	var m router.Match[int]
	find := func(p *routerPath) (string, bool) {
		r.Path = p.bytes
		table.Match(&r, &m)
		if !s.param || !m.Found {
			return "", m.Found
		}
		return m.Captures(p.bytes).Named["id"], true
	}
	return routerHandle{find, func(p *routerPath) int {
		if _, ok := find(p); !ok {
			return -1
		}
		return m.Value
	}}
}

func openOurRouterUnread(tb testing.TB, s *routerShape, n int) routerHandle {
	unread := *s
	unread.param = false
	return openOurRouter(tb, &unread, n)
}

func openFasthttpRouter(_ testing.TB, s *routerShape, n int) routerHandle {
	r, got := fastrouter.New(), 0
	for i := range n {
		r.GET(fmt.Sprintf(s.braces, i), func(*fasthttp.RequestCtx) { got = i })
	}
	ctx := &fasthttp.RequestCtx{}
	find := func(p *routerPath) (string, bool) {
		ctx.ResetUserValues()
		h, _ := r.Lookup("GET", p.text, ctx)
		if h == nil || !s.param {
			return "", h != nil
		}
		id, ok := ctx.UserValue("id").(string)
		return id, ok
	}
	return routerHandle{find, func(p *routerPath) int {
		h, _ := r.Lookup("GET", p.text, ctx)
		if h == nil {
			return -1
		}
		h(ctx)
		return got
	}}
}

func openHTTPRouter(_ testing.TB, s *routerShape, n int) routerHandle {
	r, got := httprouter.New(), 0
	for i := range n {
		r.GET(fmt.Sprintf(s.colons, i), func(http.ResponseWriter, *http.Request, httprouter.Params) { got = i })
	}
	find := func(p *routerPath) (string, bool) {
		h, params, _ := r.Lookup("GET", p.text)
		if h == nil || !s.param {
			return "", h != nil
		}
		return params.ByName("id"), true
	}
	return routerHandle{find, func(p *routerPath) int {
		h, params, _ := r.Lookup("GET", p.text)
		if h == nil {
			return -1
		}
		h(nil, nil, params)
		return got
	}}
}

func openChi(_ testing.TB, s *routerShape, n int) routerHandle {
	r, numbers := chi.NewRouter(), make(map[string]int, n)
	for i := range n {
		pattern := fmt.Sprintf(s.braces, i)
		r.Get(pattern, func(http.ResponseWriter, *http.Request) {})
		numbers[pattern] = i
	}
	ctx := chi.NewRouteContext()
	find := func(p *routerPath) (string, bool) {
		ctx.Reset()
		pattern := r.Find(ctx, "GET", p.text)
		if pattern == "" || !s.param {
			return "", pattern != ""
		}
		return ctx.URLParam("id"), true
	}
	return routerHandle{find, func(p *routerPath) int {
		ctx.Reset()
		if i, ok := numbers[r.Find(ctx, "GET", p.text)]; ok {
			return i
		}
		return -1
	}}
}

// newRouterPaths spreads requests evenly over n routes, in random order.
func newRouterPaths(format string, n int) []routerPath {
	paths := make([]routerPath, routerRequests)
	for i, at := range rand.New(rand.NewPCG(1, 2)).Perm(routerRequests) {
		text := fmt.Sprintf(format, at*n/routerRequests)
		paths[i] = routerPath{text, []byte(text)}
	}
	return paths
}

// TestRouterRivals makes sure that all of them answer the same requests with the same routes
// and parameters, the first and the last route among them, and none for what nobody has.
func TestRouterRivals(t *testing.T) {
	const n = 1000
	for i := range routerShapes {
		s := &routerShapes[i]
		for _, rival := range routerRivals {
			t.Run(s.name+"/"+rival.name, func(t *testing.T) {
				h := rival.open(t, s, n)
				for i := range n {
					text := fmt.Sprintf(s.hit, i)
					hit := &routerPath{text, []byte(text)}
					wantParam := ""
					if s.param && rival.name != "ours-unread" {
						wantParam = strconv.Itoa(i)
					}
					if param, ok := h.find(hit); !ok || param != wantParam {
						t.Fatalf("%s: found %v with parameter %q, want %q", text, ok, param, wantParam)
					}
					if got := h.which(hit); got != i {
						t.Fatalf("%s: route %d, want %d", text, got, i)
					}
				}
				for _, miss := range append(newRouterPaths(s.miss, n)[:n], routerPath{"/", []byte("/")}) {
					if _, ok := h.find(&miss); ok {
						t.Fatalf("%s: found", miss.text)
					}
					if got := h.which(&miss); got != -1 {
						t.Fatalf("%s: route %d, want none", miss.text, got)
					}
				}
			})
		}
	}
}

var routerSink int

// BenchmarkRouterRivals is one decision among so many routes.
func BenchmarkRouterRivals(b *testing.B) {
	for i := range routerShapes {
		s := &routerShapes[i]
		for _, n := range workload.Sizes(1, 10, 100, 1000, 10_000, 100_000) {
			for _, rival := range routerRivals {
				if rival.name == "ours-unread" && !s.param {
					continue // the same as ours
				}
				if rival.routesMax > 0 && n > rival.routesMax {
					b.Logf("%s has no row of %d routes: it takes too long to build", rival.name, n)
					continue
				}
				var h routerHandle
				for _, kind := range []string{"hit", "miss"} {
					b.Run(fmt.Sprintf("%s/%d/%s/%s", s.name, n, kind, rival.name), func(b *testing.B) {
						if h.find == nil {
							h = rival.open(b, s, n)
						}
						format := map[string]string{"hit": s.hit, "miss": s.miss}[kind]
						benchmarkRouterRival(b, h, newRouterPaths(format, n), kind == "hit")
					})
				}
			}
		}
	}
}

func benchmarkRouterRival(b *testing.B, h routerHandle, paths []routerPath, want bool) {
	for i := range paths {
		if _, ok := h.find(&paths[i]); ok != want {
			b.Fatalf("%s: found %v", paths[i].text, ok)
		}
	}
	b.ReportAllocs()
	sum := 0
	for i := 0; b.Loop(); i++ {
		param, _ := h.find(&paths[i&(routerRequests-1)])
		sum += len(param)
	}
	routerSink += sum
}
