package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-json"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/dns"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/lb"
)

// forever stands for "no limit" where a duration is needed.
const forever = 100 * 365 * 24 * time.Hour

// Opener opens the services of one snapshot. For one goroutine.
type Opener struct {
	env       *pipeline.Env
	meters    *meters
	resolver  *dns.Resolver // nil where names are dialed as they are
	dial      func(ctx context.Context, address string) (net.Conn, error)
	upstreams map[string]*config.Upstream // by name
	byID      map[string]*config.Upstream
	targets   map[string][]*config.Target // by upstream id
	certs     map[string]*config.Certificate
	cas       map[string]*config.CACertificate
	groups    map[string]*group // by key
	requestID bool
	// Fallback returns what answers for a route and its service, both by id, while a
	// circuit is open; nil for Kong's own answer. To be set before the first Way is used.
	Fallback func(route, service string) func(*pipeline.Exchange)

	fleet *Fleet
}

// NewOpener returns an Opener over env.Document. With env.Dial names are dialed as
// they are; without it they are resolved as the document's gateway block says.
func NewOpener(env *pipeline.Env) (*Opener, error) {
	d := env.Document
	o := &Opener{
		env: env, meters: newMeters(env.Metrics, env.Log), dial: env.Dial,
		upstreams: map[string]*config.Upstream{}, byID: map[string]*config.Upstream{}, targets: map[string][]*config.Target{},
		certs: map[string]*config.Certificate{}, cas: map[string]*config.CACertificate{},
		groups: map[string]*group{}, fleet: &Fleet{},
	}
	for _, u := range d.Upstreams {
		o.upstreams[u.Name], o.byID[u.ID] = u, u
	}
	for _, t := range d.Targets {
		o.targets[t.Upstream] = append(o.targets[t.Upstream], t)
	}
	for _, c := range d.Certificates {
		o.certs[c.ID] = c
	}
	for _, c := range d.CACertificates {
		o.cas[c.ID] = c
	}
	for _, h := range d.Gateway.HeadersUpstream {
		o.requestID = o.requestID || h == "X-Kong-Request-Id"
	}
	var err error
	if o.fleet.front, err = pipeline.Keep(env, "upstream front", func() (*front, error) { return &front{}, nil }); err != nil {
		return o, err
	}
	if o.dial != nil {
		return o, nil
	}
	var dialer net.Dialer
	o.dial = func(ctx context.Context, address string) (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp", address)
	}
	o.resolver, err = openResolver(env)
	return o, err
}

// openResolver returns the resolver for the dns_ properties of the gateway block.
func openResolver(env *pipeline.Env) (*dns.Resolver, error) {
	g := &env.Document.Gateway
	s := dns.Settings{
		Servers: g.DNSResolver, HostsFile: g.DNSHostsfile, Order: g.DNSOrder, SRVOnlyForServiceNames: g.NewDNSClient,
		Timeout:  milliseconds(g.DNSTimeout),
		StaleTTL: time.Duration(seconds(g.DNSStaleTTL)), NotFoundTTL: time.Duration(seconds(g.DNSNotFoundTTL)),
		ErrorTTL: time.Duration(seconds(g.DNSErrorTTL)), CacheSize: g.DNSCacheSize, NoSync: g.DNSNoSync, Log: env.Log,
	}
	if g.DNSValidTTL != nil {
		s.ValidTTL = time.Duration(seconds(*g.DNSValidTTL))
	}
	key := fmt.Sprintf("dns %q %q %q %t %s %s %s %s %s %d %t", s.Servers, s.HostsFile, s.Order, s.SRVOnlyForServiceNames,
		s.Timeout, s.StaleTTL, s.NotFoundTTL, s.ErrorTTL, s.ValidTTL, s.CacheSize, s.NoSync)
	kept, err := pipeline.Keep(env, key, func() (*names, error) {
		r, err := dns.Open(s)
		return &names{r}, err
	})
	if err != nil {
		return nil, fmt.Errorf("gateway: dns: %w", err)
	}
	return kept.Resolver, nil
}

// Way returns how r shapes the requests that go to e.
func (o *Opener) Way(r *config.Route, e *config.Service) Way { return o.newWay(r, e) }

func (o *Opener) newWay(r *config.Route, e *config.Service) Way {
	var fallback func(*pipeline.Exchange)
	if o.Fallback != nil {
		fallback = o.Fallback(r.ID, r.Service)
	}
	return Way{
		Fallback: fallback,
		rule: pathRule{
			service: e.Path, strip: r.StripPath,
			// Kong honours v1 in its traditional router only.
			v1: r.PathHandling == "v1" && o.env.Document.Gateway.RouterFlavor == "traditional",
		},
		preserveHost: r.PreserveHost,
		requestID:    o.requestID,
	}
}

// Service opens e. Connections, health and counts are kept across snapshots.
func (o *Opener) Service(e *config.Service) (*Service, error) {
	s := &Service{
		retries: e.Retries, secure: secure(e.Protocol), meters: o.meters,
		timeouts: pipeline.Timeouts{
			Connect: milliseconds(e.ConnectTimeout), Write: milliseconds(e.WriteTimeout), Read: milliseconds(e.ReadTimeout),
		},
		bodyMax:       int64(o.env.Document.Gateway.ClientMaxBodySize),
		clientTimeout: o.env.ClientBodyTimeout,
	}
	var err, gerr error
	u := o.upstreams[e.Host]
	if s.transport, err = o.transport(e, u); err == nil {
		if u == nil {
			s.groups, err = o.plain(e)
		} else {
			s.groups, err = o.balanced(u)
		}
	}
	if e.CircuitBreaker.Enabled() || e.Limits.Requests > 0 {
		var kept *guarded
		kept, gerr = pipeline.Keep(o.env, "service guard "+e.ID+" "+net.JoinHostPort(e.Host, strconv.Itoa(e.Port)), func() (*guarded, error) { return &guarded{}, nil })
		s.guard = newGuard(e, kept)
		known := slices.ContainsFunc(o.fleet.guards, func(g namedGuard) bool { return g.guarded == kept })
		if !known { // a canary of several routes is one
			o.fleet.guards = append(o.fleet.guards, namedGuard{cmp.Or(e.Name, e.ID), s.guard})
		}
	}
	return s, errors.Join(err, gerr)
}

// Destination opens e for a plugin that leads requests elsewhere.
func (o *Opener) Destination(e *config.Service) (pipeline.Destination, error) {
	s, err := o.Service(e)
	return &destination{service: s, entity: e, opener: o.newWay}, err
}

// destination is a service that routes do not lead to by themselves.
type destination struct {
	service *Service
	entity  *config.Service
	opener  func(*config.Route, *config.Service) Way
}

// Forward implements pipeline.Destination.
func (d *destination) Forward(x *pipeline.Exchange) {
	k := calls.Get().(*call)
	k.own = d.opener(x.Route, d.entity)
	d.service.forward(k, x, &k.own)
}

// Healthy implements pipeline.Destination.
func (d *destination) Healthy() bool { return d.service.Healthy() }

// plain opens the group of a service whose host is no upstream.
func (o *Opener) plain(e *config.Service) ([]*group, error) {
	text := net.JoinHostPort(e.Host, strconv.Itoa(e.Port))
	m, err := newMember(nil, text, 1)
	if err != nil {
		return nil, err
	}
	g, err := o.group("host "+text, nil, text, []*member{m})
	return []*group{g}, err
}

// balanced opens the group of an upstream, and of those that stand in for it: the
// chain ends where it would come back.
func (o *Opener) balanced(u *config.Upstream) ([]*group, error) {
	var groups []*group
	for u != nil {
		g, err := o.upstream(u)
		if err != nil {
			return nil, err
		}
		if slices.Contains(groups, g) {
			break
		}
		groups, u = append(groups, g), o.byID[u.Failover]
	}
	return groups, nil
}

// upstream opens the group of u.
func (o *Opener) upstream(u *config.Upstream) (*group, error) {
	key, err := json.Marshal(u)
	var members []*member
	for _, t := range o.targets[u.ID] {
		m, merr := newMember(t, t.Target, t.Weight)
		if merr != nil {
			err = errors.Join(err, merr)
			continue
		}
		members = append(members, m)
		key = fmt.Appendf(key, " %s=%d", t.Target, t.Weight)
	}
	if err != nil {
		return nil, err
	}
	return o.group("upstream "+string(key), u, u.Name, members)
}

// group opens a group once a snapshot, and keeps it as long as its settings stay.
func (o *Opener) group(key string, u *config.Upstream, name string, members []*member) (*group, error) {
	if o.resolver != nil {
		key += fmt.Sprintf(" dns=%p", o.resolver)
	}
	var tlsKey strings.Builder
	probeTLS, err := o.probeTLS(u, &tlsKey)
	if err != nil {
		return nil, err
	}
	key += tlsKey.String()
	if g := o.groups[key]; g != nil {
		return g, nil
	}
	kind := "host "
	if u != nil {
		kind = "upstream "
	}
	r, err := pipeline.Keep(o.env, "upstream roster "+kind+name, func() (*roster, error) { return newRoster(name), nil })
	if err != nil {
		return nil, err
	}
	g, err := pipeline.Keep(o.env, "upstream group "+key, func() (*group, error) {
		g := &group{
			key: key, name: name, entity: u, roster: r, resolver: o.resolver, rules: newHealthRules(u),
			meters: o.meters, log: o.env.Log,
		}
		g.shape()
		g.prober = newProber(g, o.dial, probeTLS)
		g.open(members)
		return g, nil
	})
	if err != nil {
		return nil, err
	}
	o.groups[key] = g
	o.fleet.groups = append(o.fleet.groups, g)
	return g, nil
}

// shape works out what the settings of the upstream ask of a request.
func (g *group) shape() {
	u := g.entity
	if u == nil {
		return
	}
	g.limits = limitsOf(u)
	if u.HostHeader != "" {
		g.hostHeader = []byte(u.HostHeader)
	}
	ring := u.Algorithm == "consistent-hashing"
	if ring {
		g.hash, g.hashKey = newHasher(u), lb.Hash
		if u.HashRing == "nginx" {
			g.hashKey = lb.NginxHash
		}
	}
	g.timed = u.Algorithm == "latency"
	g.counted = g.timed || u.Algorithm == "least-connections" || ring && u.HashBalanceFactor > 0 || g.limits.targetRequests > 0
}

// settleMax bounds how long a configuration waits for the first answers of DNS before
// it goes live. Names without an answer then are followed on.
const settleMax = 2 * time.Second

// Finish opens the upstreams that no service leads to, since they are probed and have
// a health as in Kong, waits for names to be resolved, and returns what was opened.
func (o *Opener) Finish() (*Fleet, error) {
	var failed error
	for _, u := range o.env.Document.Upstreams {
		_, err := o.upstream(u)
		failed = errors.Join(failed, err)
	}
	until := time.Now().Add(settleMax)
	for _, g := range o.fleet.groups {
		g.wait(time.Until(until))
	}
	return o.fleet, failed
}

// hostField returns the Host field for a target: the port only if it is not the
// protocol's own.
func hostField(host, port, protocol string) string {
	if port == "80" && !secure(protocol) || port == "443" && secure(protocol) {
		if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
			return "[" + host + "]"
		}
		return host
	}
	return net.JoinHostPort(host, port)
}

func secure(protocol string) bool {
	switch protocol {
	case "https", "grpcs", "tls", "wss":
		return true
	}
	return false
}

// transport returns how connections to e are made.
func (o *Opener) transport(e *config.Service, u *config.Upstream) (*transport, error) {
	g := &o.env.Document.Gateway
	t := transportSettings{
		idleMax:     g.UpstreamKeepalivePoolSize,
		idleTimeout: time.Duration(g.UpstreamKeepaliveIdleTimeout) * time.Second,
		requestsMax: g.UpstreamKeepaliveMaxRequests,
		dial:        o.dial,
	}
	if t.idleTimeout == 0 {
		t.idleTimeout = forever
	}
	var tlsKey strings.Builder
	if secure(e.Protocol) {
		var err error
		if t.tls, err = o.serviceTLS(e, u, &tlsKey); err != nil {
			return nil, err
		}
	}
	key := fmt.Sprintf("upstream transport tls=%q idle=%d/%s requests=%d", tlsKey.String(), t.idleMax, t.idleTimeout, t.requestsMax)
	return pipeline.Keep(o.env, key, func() (*transport, error) { return newTransport(t), nil })
}

func milliseconds(n int) time.Duration { return time.Duration(n) * time.Millisecond }
