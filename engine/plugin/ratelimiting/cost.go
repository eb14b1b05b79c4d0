package ratelimiting

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// Cost says how much a request counts.
type Cost struct {
	Default int64            `json:"default" min:"0" max:"1000000000" doc:"What a request counts that nothing else here names."`
	Methods map[string]int64 `json:"methods" min:"0" max:"1000000000" doc:"By method, in upper case."`
	Routes  map[string]int64 `json:"routes" min:"0" max:"1000000000" doc:"By name or id of the route; goes before methods."`
	Header  string           `json:"header" len:"1" doc:"Request header that may ask for a higher cost, never for a lower one."`
	Max     int64            `json:"max" min:"1" max:"1000000000" doc:"The most that the header may ask for."`
}

// SetDefaults implements config.Defaulter.
func (c *Cost) SetDefaults() { c.Default, c.Max = 1, 100 }

func (c *Cost) check(r *config.Reporter) {
	if c == nil {
		return
	}
	for _, m := range slices.Sorted(maps.Keys(c.Methods)) {
		if m == "" || m != strings.ToUpper(m) {
			r.Faultf("cost.methods."+m, "expected a method in upper case, got %q", m)
		}
	}
	pipeline.CheckHeaderName(r, "cost.header", c.Header)
}

// costs are a Cost with the routes of its document resolved.
type costs struct {
	byDefault int64
	methods   map[string]int64
	routes    []int64 // by RouteIndex; -1 where the route has no cost of its own
	header    string
	max       int64
}

// resolve returns nil where every request counts 1.
func (c *Cost) resolve(d *config.Document) (*costs, error) {
	if c == nil {
		return nil, nil
	}
	k := &costs{byDefault: c.Default, methods: c.Methods, header: c.Header, max: c.Max}
	if len(c.Routes) == 0 {
		return k, nil
	}
	known := map[string]bool{}
	k.routes = make([]int64, len(d.Routes))
	for i, r := range d.Routes {
		cost, ok := c.Routes[r.ID]
		if known[r.ID] = true; !ok && r.Name != "" {
			cost, ok = c.Routes[r.Name]
			known[r.Name] = true
		}
		if k.routes[i] = -1; ok {
			k.routes[i] = cost
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Routes)) {
		if !known[name] {
			return nil, fmt.Errorf("cost.routes: no route %q", name)
		}
	}
	return k, nil
}

// of is hot: an index, at most one lookup of the method, one header where asked for.
func (k *costs) of(x *pipeline.Exchange) int64 {
	cost := int64(-1)
	if x.RouteIndex >= 0 && x.RouteIndex < len(k.routes) {
		cost = k.routes[x.RouteIndex]
	}
	if cost < 0 {
		var ok bool
		if cost, ok = k.methods[string(x.Method())]; !ok {
			cost = k.byDefault
		}
	}
	if k.header != "" {
		if asked, ok := whole(x.Ctx.Request.Header.Peek(k.header)); ok {
			cost = max(cost, min(asked, k.max))
		}
	}
	return cost
}

// whole reads a decimal number; one too long to matter is the largest there is.
func whole(b []byte) (n int64, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		if n = n*10 + int64(c-'0'); n > 1<<40 {
			n = 1 << 40
		}
	}
	return n, len(b) > 0
}
