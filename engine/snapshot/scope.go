package snapshot

import (
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// rank returns the place of an instance in Kong's table of scopes (lower wins)
// for a given route, whose service is known: the instance is already known to
// apply there.
func rank(p *config.Plugin) int {
	route, service := p.Route != "", p.Service != ""
	switch {
	case p.Consumer != "":
		switch {
		case route && service:
			return 1
		case route:
			return 3
		case service:
			return 4
		}
		return 8
	case p.ConsumerGroup != "":
		switch {
		case route && service:
			return 2
		case route:
			return 5
		case service:
			return 6
		}
		return 9
	case route && service:
		return 7
	case route:
		return 10
	case service:
		return 11
	}
	return 12
}

// instance is one enabled, built plugin of the document.
type instance struct {
	plugin *config.Plugin
	hooks  *pipeline.Hooks
}

// scopes finds the instances of one plugin that apply to a route.
type scopes struct {
	everywhere []instance            // neither route nor service
	byRoute    map[string][]instance // with a route, by its id
	byService  map[string][]instance // with a service and no route
}

func newScopes() *scopes {
	return &scopes{byRoute: map[string][]instance{}, byService: map[string][]instance{}}
}

func (s *scopes) add(i instance) {
	switch p := i.plugin; {
	case p.Route != "":
		s.byRoute[p.Route] = append(s.byRoute[p.Route], i)
	case p.Service != "":
		s.byService[p.Service] = append(s.byService[p.Service], i)
	default:
		s.everywhere = append(s.everywhere, i)
	}
}

// links resolves which settings apply where route and service are those ids,
// "" for none: one link, or none. Only where the document has several instances
// at the very scope that wins (which the reader warns of) do they all apply, a
// link each, in the document's order.
func (s *scopes) links(route, service string) []pipeline.Link {
	var v variants
	v.take(s.everywhere, service)
	if service != "" {
		v.take(s.byService[service], service)
	}
	if route != "" {
		v.take(s.byRoute[route], service)
	}
	links := make([]pipeline.Link, v.depth())
	for i := range links {
		links[i] = v.link(i)
	}
	return links
}

// variants are the instances of one plugin that apply to a route.
type variants struct {
	rank     int                 // of everyone
	everyone []*pipeline.Hooks   // the instances of the winning scope
	scoped   [][]pipeline.Scoped // by consumer or group and rank, in order of appearance
}

func (v *variants) take(list []instance, service string) {
	for _, i := range list {
		p := i.plugin
		if p.Service != "" && p.Service != service {
			continue // bound to this route by way of another service
		}
		r := rank(p)
		if p.Consumer != "" || p.ConsumerGroup != "" {
			v.takeScoped(pipeline.Scoped{Consumer: p.Consumer, Group: p.ConsumerGroup, Rank: r, Hooks: i.hooks})
			continue
		}
		switch {
		case len(v.everyone) == 0 || r < v.rank:
			v.rank, v.everyone = r, []*pipeline.Hooks{i.hooks}
		case r == v.rank:
			v.everyone = append(v.everyone, i.hooks)
		}
	}
}

func (v *variants) takeScoped(s pipeline.Scoped) {
	for i, same := range v.scoped {
		if same[0].Consumer == s.Consumer && same[0].Group == s.Group && same[0].Rank == s.Rank {
			v.scoped[i] = append(same, s)
			return
		}
	}
	v.scoped = append(v.scoped, []pipeline.Scoped{s})
}

func (v *variants) depth() int {
	n := len(v.everyone)
	for _, same := range v.scoped {
		n = max(n, len(same))
	}
	return n
}

// nothing stands for a plugin that a caller has no further instance of.
var nothing = &pipeline.Hooks{}

func (v *variants) link(i int) pipeline.Link {
	l := pipeline.Link{Rank: v.rank}
	if i < len(v.everyone) {
		l.Everyone = v.everyone[i]
	}
	for _, same := range v.scoped {
		s := same[0]
		if s.Hooks = nothing; i < len(same) {
			s.Hooks = same[i].Hooks
		}
		l.Scoped = append(l.Scoped, s)
	}
	return l
}
