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

// link resolves which settings apply where route and service are those ids; ""
// for none. ok is false when the plugin does not apply at all.
func (s *scopes) link(route, service string) (l pipeline.Link, ok bool) {
	take := func(list []instance) {
		for _, i := range list {
			if i.plugin.Service != "" && i.plugin.Service != service {
				continue // bound to this route by way of another service
			}
			ok = true
			place(&l, i)
		}
	}
	take(s.everywhere)
	if service != "" {
		take(s.byService[service])
	}
	if route != "" {
		take(s.byRoute[route])
	}
	return l, ok
}

func place(l *pipeline.Link, i instance) {
	r := rank(i.plugin)
	if i.plugin.Consumer == "" && i.plugin.ConsumerGroup == "" {
		if l.Everyone == nil || r < l.Rank {
			l.Everyone, l.Rank = i.hooks, r
		}
		return
	}
	l.Scoped = append(l.Scoped, pipeline.Scoped{
		Consumer: i.plugin.Consumer, Group: i.plugin.ConsumerGroup, Rank: r, Hooks: i.hooks,
	})
}
