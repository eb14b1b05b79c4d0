package upstream

import (
	"crypto/sha256"
	"iter"
	"net/netip"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/lb"
)

// Fleet is everything that the services of one snapshot lead to, for those who look at
// its health or change it by hand. Immutable and safe for concurrent use.
type Fleet struct {
	groups []*group
	guards []namedGuard
}

type namedGuard struct {
	name string
	*guard
}

// Lead makes the settings of this snapshot those that count for what outlives
// snapshots: limits, circuits, probes. To be called once it is live.
func (f *Fleet) Lead() {
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
	var list []pipeline.TargetHealth
	for _, m := range g.targets {
		found := false
		for i, a := range gen.addresses {
			if a.target != m.text {
				continue
			}
			found = true
			list = append(list, pipeline.TargetHealth{
				Upstream: g.name, Target: m.text, Address: a.dial, State: g.stateOf(a, now), Weight: gen.targets[i].Weight,
				Circuit: a.state.Circuit(now).String(), InFlight: a.state.InFlight(), Connections: a.open.Load(),
			})
		}
		if !found {
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
