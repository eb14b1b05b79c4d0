package snapshot

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/gaissmai/bart"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/router"
	"github.com/sluice-gateway/sluice/engine/upstream"
)

// product names the gateway in Server and Via.
const product = "sluice"

type compiler struct {
	*Snapshot
	env     *pipeline.Env
	specs   *pipeline.Specs
	opener  *upstream.Opener
	plugins []*scopes // one a spec, nil if the document has none of it
	sealed  map[string]*pipeline.Chain
	opened  map[string]*upstream.Service
	entity  map[string]*config.Service
	named   map[string]bool // ids of routes and services that plugins are bound to
	// fallbacks answer while a circuit is open, by the id of a route or service, ""
	// for everywhere.
	fallbacks map[string]func(*pipeline.Exchange)
	// standIns are the same by their very scope, for plugins that refuse.
	standIns map[bounds]func(*pipeline.Exchange)
	errs     []error
}

// Compile builds the snapshot of env.Document. On error everything it acquired
// has been released and the error joins every fault.
func Compile(base pipeline.Env, keeper *pipeline.Keeper, specs *pipeline.Specs) (*Snapshot, error) {
	holder := keeper.Hold()
	c := &compiler{
		Snapshot: &Snapshot{Document: base.Document, holder: holder},
		specs:    specs,
		sealed:   map[string]*pipeline.Chain{},
		opened:   map[string]*upstream.Service{},
		entity:   map[string]*config.Service{},
		named:    map[string]bool{},

		fallbacks: map[string]func(*pipeline.Exchange){},
		standIns:  map[bounds]func(*pipeline.Exchange){},
	}
	c.errorStyle()
	c.headers()
	c.clientAddress()
	c.BodyMax = int64(base.Document.Gateway.ClientMaxBodySize)
	certs, err := newCertificates(base.Document)
	c.fail(err)
	c.Certificates = certs
	c.Consumers = pipeline.NewConsumers(base.Document)
	base.Consumers, base.Errors = c.Consumers, c.Errors
	c.env = pipeline.NewEnv(base, holder)
	opener, err := upstream.NewOpener(c.env)
	c.fail(err)
	c.opener = opener
	opener.Fallback = c.fallback
	c.env.Destination = opener.Destination
	for _, s := range base.Document.Services {
		c.entity[s.ID] = s
	}
	c.env.StandIn = func(p *config.Plugin) func(*pipeline.Exchange) { return c.standIns[boundsOf(p)] }
	c.buildFallbacks()
	c.buildPlugins()
	c.buildRoutes()
	fleet, err := c.opener.Finish()
	c.fail(err)
	c.Fleet = fleet
	if err := errors.Join(c.errs...); err != nil {
		return nil, errors.Join(err, c.Release()())
	}
	return c.Snapshot, nil
}

func (c *compiler) fail(err error) {
	if err != nil {
		c.errs = append(c.errs, err)
	}
}

func (c *compiler) errorStyle() {
	g := &c.Document.Gateway
	var texts [4]string
	for i, file := range []string{g.ErrorTemplateJSON, g.ErrorTemplateText, g.ErrorTemplateXML, g.ErrorTemplateHTML} {
		if file == "" {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			c.fail(fmt.Errorf("gateway: error template: %w", err))
		}
		texts[i] = string(b)
	}
	server := ""
	if slices.Contains(g.Headers, "server_tokens") || slices.Contains(g.Headers, "Server") {
		server = product
	}
	c.Errors = pipeline.NewErrorStyle(server, g.ErrorDefaultType, texts)
}

func (c *compiler) headers() {
	h := &c.Headers
	for _, name := range c.Document.Gateway.Headers {
		switch name {
		case "server_tokens", "Via":
			h.Via = true
		case "latency_tokens":
			h.UpstreamLatency, h.ProxyLatency, h.ResponseLatency = true, true, true
		case "X-Kong-Upstream-Latency":
			h.UpstreamLatency = true
		case "X-Kong-Proxy-Latency":
			h.ProxyLatency = true
		case "X-Kong-Response-Latency":
			h.ResponseLatency = true
		case "X-Kong-Upstream-Status":
			h.UpstreamStatus = true
		case "X-Kong-Request-Id":
			h.RequestID = true
		}
	}
	h.Debug = c.Document.Gateway.AllowDebugHeader
}

func (c *compiler) clientAddress() {
	g := &c.Document.Gateway
	a := &c.Client
	a.Header = http.CanonicalHeaderKey(g.RealIPHeader)
	a.ProxyHeader = g.RealIPHeader == "proxy_protocol"
	a.Recursive = g.RealIPRecursive
	for _, text := range g.TrustedIPs {
		if text == "unix:" {
			a.TrustsUnix = true
			continue
		}
		prefix, err := parsePrefix(text)
		if err != nil {
			c.fail(fmt.Errorf("gateway: trusted_ips: %q: %w", text, err))
			continue
		}
		if a.trusted == nil {
			a.trusted = &bart.Lite{}
		}
		a.trusted.Insert(prefix)
	}
}

func parsePrefix(text string) (netip.Prefix, error) {
	if strings.Contains(text, "/") {
		p, err := netip.ParsePrefix(text)
		return p.Masked(), err
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	a = a.Unmap()
	return a.Prefix(a.BitLen())
}

// buildPlugins builds every enabled instance, once.
func (c *compiler) buildPlugins() {
	c.plugins = make([]*scopes, len(c.specs.All))
	for _, p := range c.Document.Plugins {
		if !p.Enabled {
			continue
		}
		spec, place, ok := c.specs.Lookup(p.Name)
		if !ok {
			c.fail(fmt.Errorf("plugin %q is not built yet", p.Name))
			continue
		}
		hooks, err := spec.Build(p, c.env)
		if err != nil {
			c.fail(err)
			continue
		}
		if hooks.Close != nil {
			c.closers = append(c.closers, hooks.Close)
		}
		if c.plugins[place] == nil {
			c.plugins[place] = newScopes()
		}
		c.plugins[place].add(instance{p, &hooks})
		c.named[p.Route], c.named[p.Service] = true, true
	}
}

// bounds are what an instance is bound to: ids, "" where it is not.
type bounds struct{ route, service, consumer, group string }

func boundsOf(p *config.Plugin) bounds {
	return bounds{p.Route, p.Service, p.Consumer, p.ConsumerGroup}
}

// buildFallbacks builds the disabled instances of plugins that stand in for a service:
// they are what the patterns call "enabled programmatically" on circuit open, or when
// a quota is exceeded. It comes before the plugins, which may ask for them.
func (c *compiler) buildFallbacks() {
	for _, p := range c.Document.Plugins {
		spec, _, ok := c.specs.Lookup(p.Name)
		if p.Enabled || !ok || !spec.StandsIn {
			continue
		}
		hooks, err := spec.Build(p, c.env)
		if err != nil {
			c.fail(err)
			continue
		}
		if hooks.Close != nil {
			c.closers = append(c.closers, hooks.Close)
		}
		if hooks.Request == nil || hooks.BuffersRequest {
			continue
		}
		answer := func(x *pipeline.Exchange) { hooks.Request(x) }
		if at := boundsOf(p); c.standIns[at] == nil {
			c.standIns[at] = answer
		}
		if p.Consumer != "" || p.ConsumerGroup != "" {
			continue
		}
		if key := cmp.Or(p.Route, p.Service); c.fallbacks[key] == nil {
			c.fallbacks[key] = answer
		}
	}
}

// fallback returns what answers for a route while its circuit is open, nil for Kong's
// own answer: the instance at the route, else at its service, else everywhere.
func (c *compiler) fallback(route, service string) func(*pipeline.Exchange) {
	for _, key := range [...]string{route, service, ""} {
		if f := c.fallbacks[key]; f != nil {
			return f
		}
	}
	return nil
}

// buildRoutes compiles every route and the table that finds them.
func (c *compiler) buildRoutes() {
	c.nowhere = &Route{Index: -1, Chain: c.chain("", "")}
	rules := make([]router.Rule[*Route], 0, len(c.Document.Routes))
	routes := make([]Route, len(c.Document.Routes)) // side by side, for the cache
	for i, e := range c.Document.Routes {
		service := c.entity[e.Service]
		if service != nil && !service.Enabled || !servesHTTP(e.Protocols) {
			continue // a disabled service has no routes
		}
		r := &routes[i]
		*r = Route{
			Entity: e, Index: i, ServiceEntity: service, Chain: c.chain(e.ID, e.Service), Refuses: refusal(e),
			Upgrades: upgrades(e), TunnelsOnly: tunnelsOnly(e.Protocols),
		}
		switch {
		case service == nil:
		case service.Builtin:
			r.Internal = c.env.Builtin[service.Name]
		default:
			r.Service = c.service(service)
			r.Way = c.opener.Way(e, service)
		}
		rules = append(rules, ruleOf(e, r))
	}
	flavors := map[string]router.Flavor{
		"traditional": router.Traditional, "traditional_compatible": router.TraditionalCompatible, "expressions": router.Expressions,
	}
	table, err := router.New(rules, flavors[c.Document.Gateway.RouterFlavor])
	c.fail(err)
	c.table = table
}

// servesHTTP tells routes of the HTTP listeners from stream routes, which have
// no listener yet and are warned of when the document is read.
func servesHTTP(protocols []string) bool {
	return slices.ContainsFunc(protocols, func(p string) bool {
		return p == "http" || p == "https" || p == "grpc" || p == "grpcs" || p == "ws" || p == "wss"
	})
}

// tunnelsOnly reports whether a route takes nothing but WebSocket handshakes.
func tunnelsOnly(protocols []string) bool {
	return !slices.ContainsFunc(protocols, func(p string) bool { return p != "ws" && p != "wss" })
}

// upgrades returns the protocols beside WebSocket that a route lets clients change to:
// those that it names in a condition on the Upgrade header. HTTP/2 is never one: what
// passed through such a tunnel would escape every rule of the gateway.
func upgrades(e *config.Route) []string {
	var allowed []string
	for name, values := range e.Headers {
		if !strings.EqualFold(name, "upgrade") {
			continue
		}
		for _, v := range values {
			if v = strings.ToLower(v); v != "websocket" && !strings.HasPrefix(v, "h2") && !strings.HasPrefix(v, "http/") && !strings.HasPrefix(v, "tls/") {
				allowed = append(allowed, v)
			}
		}
	}
	return allowed
}

func ruleOf(e *config.Route, r *Route) router.Rule[*Route] {
	rule := router.Rule[*Route]{
		Value: r, ID: e.ID, CreatedAt: e.CreatedAt, RegexPriority: e.RegexPriority,
		Methods: e.Methods, Hosts: e.Hosts, Paths: e.Paths, SNIs: e.SNIs,
		Expression: e.Expression, Priority: e.Priority,
	}
	for name, values := range e.Headers {
		rule.Headers = append(rule.Headers, router.Header{Name: name, Values: values})
	}
	slices.SortFunc(rule.Headers, func(a, b router.Header) int { return strings.Compare(a.Name, b.Name) })
	return rule
}

// refusal is what a route that only speaks https answers to a plain request.
func refusal(e *config.Route) *Refusal {
	secure := slices.Contains(e.Protocols, "https") || slices.Contains(e.Protocols, "wss")
	if slices.Contains(e.Protocols, "http") || slices.Contains(e.Protocols, "ws") || !secure {
		return nil
	}
	if e.HTTPSRedirectStatusCode != http.StatusUpgradeRequired {
		return &Refusal{Redirect: e.HTTPSRedirectStatusCode}
	}
	reply := pipeline.NewReply(http.StatusUpgradeRequired, "Please use HTTPS protocol").
		With("Connection", "Upgrade").With("Upgrade", "TLS/1.2, HTTP/1.1")
	return &Refusal{Reply: reply}
}

// service opens each service once, however many routes lead to it.
func (c *compiler) service(e *config.Service) *upstream.Service {
	if s, ok := c.opened[e.ID]; ok {
		return s
	}
	s, err := c.opener.Service(e)
	if err != nil {
		c.fail(fmt.Errorf("service %q: %w", e.Name, err))
	}
	c.opened[e.ID] = s
	return s
}

// chain compiles the hooks that apply to a route and its service. Routes that
// no plugin is bound to share one chain, or one for each service that is bound:
// compiling stays linear in a document of many routes.
func (c *compiler) chain(route, service string) *pipeline.Chain {
	if !c.named[route] {
		route = ""
	}
	if !c.named[service] {
		service = ""
	}
	key := route + "|" + service
	if chain, ok := c.sealed[key]; ok {
		return chain
	}
	var links []pipeline.Link
	for _, s := range c.plugins {
		if s != nil {
			links = append(links, s.links(route, service)...)
		}
	}
	chain := pipeline.NewChain(links)
	c.sealed[key] = chain
	return chain
}
