package prometheus

import (
	"cmp"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// registry holds every series of the gateway; the value kept across snapshots.
// Safe for concurrent use.
type registry struct {
	node     *pipeline.Node
	overflow atomic.Uint64 // requests of consumers beyond the limit

	mu     sync.Mutex
	series map[seriesKey]*routeSeries
	sorted []*routeSeries // by service and route; nil when series has changed, else never changed itself
	slabs  []slab         // one a shard
	views  []*view        // newest last
}

func newRegistry(node *pipeline.Node) *registry {
	return &registry{node: node, series: map[seriesKey]*routeSeries{}, slabs: make([]slab, shardMask+1)}
}

// open returns a view of the routes of a document. Series that exist go on.
func (g *registry) open(env *pipeline.Env) *view {
	d := env.Document
	services := make(map[string]string, len(d.Services))
	for _, s := range d.Services {
		name := s.Name
		if name == "" {
			name = s.Host
		}
		services[s.ID] = name
	}
	v := &view{registry: g, routes: make([]routeView, len(d.Routes)), hot: make([][]*hot, len(g.slabs))}
	for i := range v.hot {
		v.hot[i] = make([]*hot, len(d.Routes))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, r := range d.Routes {
		k := seriesKey{services[r.Service], r.Name}
		if k.route == "" {
			k.route = r.ID
		}
		s := g.series[k]
		if s == nil {
			s = &routeSeries{key: k, labels: appendLabels(nil, "service", k.service, "route", k.route)}
			for j := range g.slabs {
				s.hot = append(s.hot, g.slabs[j].take())
			}
			g.series[k], g.sorted = s, nil
		}
		s.holders++
		v.routes[i].routeSeries = s
		for j, h := range s.hot {
			v.hot[j][i] = h
		}
	}
	g.views = append(g.views, v)
	return v
}

// hold counts an instance in. The view's last instance closes it.
func (v *view) hold(health bool) {
	v.registry.mu.Lock()
	defer v.registry.mu.Unlock()
	v.holders++
	v.health = v.health || health
}

// release counts an instance out. Series that no view has any more are gone.
func (v *view) release() {
	g := v.registry
	g.mu.Lock()
	defer g.mu.Unlock()
	if v.holders--; v.holders > 0 {
		return
	}
	for i := range v.routes {
		s := v.routes[i].routeSeries
		if s.holders--; s.holders == 0 {
			delete(g.series, s.key)
			g.sorted = nil
			for j, h := range s.hot {
				g.slabs[j].give(h)
			}
		}
	}
	g.views = slices.DeleteFunc(g.views, func(o *view) bool { return o == v })
}

// Expose implements pipeline.Exposer.
func (g *registry) Expose(w io.Writer) {
	g.mu.Lock()
	if g.sorted == nil {
		// Once after a reload: thousands of names take milliseconds, which requests would
		// have to wait for at every scrape.
		g.sorted = slices.SortedFunc(maps.Values(g.series), func(a, b *routeSeries) int {
			return cmp.Or(strings.Compare(a.key.service, b.key.service), strings.Compare(a.key.route, b.key.route))
		})
	}
	list := g.sorted
	health := len(g.views) > 0 && g.views[len(g.views)-1].health
	g.mu.Unlock()
	e := &exposition{w: w}
	e.traffic(list, &g.overflow)
	e.node(g.node)
	if health {
		e.health(g.node)
	}
	e.flush()
}
