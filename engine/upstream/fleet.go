package upstream

import (
	"crypto/sha256"
	"iter"
	"net/netip"
	"sync/atomic"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/lb"
)

// Fleet is everything that the services of one snapshot lead to, for those who look at
// its health or change it by hand. Immutable and safe for concurrent use.
type Fleet struct {
	groups []*group
	guards []namedGuard
	front  *front
}

// front is which Fleet leads, kept across snapshots.
type front struct{ fleet atomic.Pointer[Fleet] }

type namedGuard struct {
	name string
	*guard
}

// Lead makes the settings of this snapshot those that count for what outlives
// snapshots: limits, circuits, probes. What only the snapshot before it has is probed
// no more. To be called once it is live.
func (f *Fleet) Lead() {
	if old := f.front.fleet.Swap(f); old != nil {
		stay := make(map[*group]bool, len(f.groups))
		for _, g := range f.groups {
			stay[g] = true
		}
		for _, g := range old.groups {
			if !stay[g] {
				g.roster.leader.CompareAndSwap(g, nil)
			}
		}
	}
	for _, g := range f.groups {
		g.lead()
	}
	for _, g := range f.guards {
		g.lead()
	}
}

// Targets yields the addresses of every upstream with their health; a target
// without an address once, as itself.
func (f *Fleet) Targets() iter.Seq[pipeline.TargetHealth] {
	return func(yield func(pipeline.TargetHealth) bool) {
		now := pipeline.Now()
		for _, g := range f.groups {
			if g.entity == nil {
				continue
			}
			for _, h := range g.health(now) {
				if !yield(h) {
					return
				}
			}
		}
	}
}

// health lists the addresses of g, target by target.
func (g *group) health(now int64) []pipeline.TargetHealth {
	g.mu.Lock()
	defer g.mu.Unlock()
	gen := g.live.Load()
	of := make(map[string][]int, len(g.targets)) // addresses by target
	for i, a := range gen.addresses {
		of[a.target] = append(of[a.target], i)
	}
	list := make([]pipeline.TargetHealth, 0, len(gen.addresses))
	for _, m := range g.targets {
		for _, i := range of[m.text] {
			a := gen.addresses[i]
			list = append(list, pipeline.TargetHealth{
				Upstream: g.name, Target: m.text, Address: a.dial, State: g.stateOf(a, now), Weight: gen.targets[i].Weight,
				Circuit: a.state.Circuit(now).String(), InFlight: a.state.InFlight(), Connections: a.open.Load(),
			})
		}
		if len(of[m.text]) == 0 {
			list = append(list, pipeline.TargetHealth{Upstream: g.name, Target: m.text, Address: m.text, State: "dns_error", Weight: m.weight})
		}
	}
	return list
}

// stateOf returns the health of a in the words of Kong's metrics.
func (g *group) stateOf(a *address, now int64) string {
	switch {
	case !g.rules.on && !g.rules.checks && a.state.Circuit(now) == lb.Closed:
		return "healthchecks_off"
	case a.state.Circuit(now) == lb.Closed:
		return "healthy"
	}
	return "unhealthy"
}

// Healthy reports the health of an upstream by name, and whether there is one.
// Kong: it is unhealthy where the available weight is at or below its threshold.
func (f *Fleet) Healthy(name string) (healthy, known bool) {
	for _, g := range f.groups {
		if g.entity != nil && g.name == name {
			return !g.unhealthy.Load() && len(g.live.Load().addresses) > 0, true
		}
	}
	return false, false
}

// SetHealth puts the addresses of a target in or out by hand and reports whether there
// are any (Kong: PUT /upstreams/x/targets/y/healthy). only names one of them as ip:port;
// empty is all. Probes may change it again.
func (f *Fleet) SetHealth(upstream, target, only string, healthy bool) bool {
	found := false
	for _, g := range f.groups {
		if g.entity == nil || g.name != upstream {
			continue
		}
		for _, a := range g.live.Load().addresses {
			if a.target != target || only != "" && a.dial != only && !sameAddress(a, only) {
				continue
			}
			found = true
			g.changed(a, a.state.Force(healthy, pipeline.Now()))
		}
	}
	return found
}

func sameAddress(a *address, text string) bool {
	ap, err := netip.ParseAddrPort(text)
	return err == nil && ap == a.ip()
}

// Circuits yields the circuits of services that have one, with their state.
func (f *Fleet) Circuits() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		now := pipeline.Now()
		for _, g := range f.guards {
			if g.breaks && !yield(g.name, g.breaker.State(now).String()) {
				return
			}
		}
	}
}

// digest identifies bytes in keys.
func digest(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:16]
}
