package canary

import (
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// destinations are where the canary of each service is. Immutable.
type destinations map[*config.Service]pipeline.Destination

// scope returns the services that the instance being built applies to.
func scope(env *pipeline.Env) []*config.Service {
	d, p := env.Document, env.Plugin
	key := fmt.Sprintf("canary scope %s|%s", p.Service, p.Route)
	return pipeline.Shared(env, key, func() []*config.Service {
		routed := map[string]bool{}
		for _, r := range d.Routes {
			if (p.Route == "" || p.Route == r.ID) && (p.Service == "" || p.Service == r.Service) {
				routed[r.Service] = true
			}
		}
		var found []*config.Service
		for _, s := range d.Services {
			if routed[s.ID] && s.Enabled && !s.Builtin && proxied(s.Protocol) {
				found = append(found, s)
			}
		}
		return found
	})
}

// proxied tells the services of HTTP routes from those of stream routes.
func proxied(protocol string) bool {
	switch protocol {
	case "tcp", "tls", "tls_passthrough", "udp":
		return false
	}
	return true
}

// opened is what open made for one set of settings.
type opened struct {
	destinations
	err error
}

// open opens the canary of each service. Instances with the same scope and the same
// canary, such as those of many consumers, share them.
func open(c *Config, services []*config.Service, env *pipeline.Env) (destinations, error) {
	if env.Destination == nil {
		return nil, errors.New("requests cannot be led elsewhere here")
	}
	port := -1
	if c.UpstreamPort != nil {
		port = *c.UpstreamPort
	}
	warnOfFallback(c, env)
	key := fmt.Sprintf("canary %s|%s|%s|%d", env.Plugin.Service, env.Plugin.Route, c.UpstreamHost, port)
	o := pipeline.Shared(env, key, func() opened {
		all := make(destinations, len(services))
		for _, s := range services {
			d, err := env.Destination(canaryOf(s, c.UpstreamHost, port))
			if err != nil {
				return opened{nil, fmt.Errorf("canary of service %q: %w", s.Name, err)}
			}
			all[s] = d
		}
		return opened{all, nil}
	})
	return o.destinations, o.err
}

// canaryOf returns s with another host and port, unless empty and negative. Its id
// and name are other ones too, so that nothing counted for s counts for it.
func canaryOf(s *config.Service, host string, port int) *config.Service {
	k := *s
	if host != "" {
		k.Host = host
	}
	if port >= 0 {
		k.Port = port
	}
	suffix := "@" + net.JoinHostPort(k.Host, strconv.Itoa(k.Port))
	k.ID += suffix
	if k.Name != "" {
		k.Name += suffix
	}
	return &k
}

// warnOfFallback says if upstream_fallback cannot notice anything.
func warnOfFallback(c *Config, env *pipeline.Env) {
	if !c.UpstreamFallback {
		return
	}
	for _, u := range env.Document.Upstreams {
		if u.Name == c.UpstreamHost {
			return
		}
	}
	env.Log.Warn("canary: upstream_fallback has no effect: upstream_host is not the name of an upstream, so its health is not known",
		"plugin", env.Plugin.ID, "upstream_host", c.UpstreamHost)
}
