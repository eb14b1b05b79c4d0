package upstream

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/dns"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/lb"
)

// group is the live form of an upstream, or of the one host of a service without:
// the addresses that its targets have now, and how one is picked. The settings of a
// group never change (a reload with others makes another group over the same
// roster); its addresses follow DNS. Safe for concurrent use.
type group struct {
	key     string // spells out every setting
	name    string
	entity  *config.Upstream // nil for a plain host
	roster  *roster
	prober  *prober // nil without active checks
	meters  *meters
	log     *slog.Logger
	targets []*member
	hash    *hasher // nil unless requests are hashed
	hashKey func(key []byte) uint64
	rules   *healthRules
	limits  limits
	// hostHeader is host_header of the upstream, nil for the target's name.
	hostHeader []byte
	counted    bool // requests in flight are counted by address
	timed      bool // so is how fast it answers
	resolver   *dns.Resolver

	live      atomic.Pointer[generation]
	unhealthy atomic.Bool // available weight is at or below healthchecks.threshold

	assessing sync.Mutex

	mu      sync.Mutex    // publish, and what follows
	pending bool          // a publish is due
	took    time.Duration // by the last one
	closed  bool
	probing bool           // the prober runs
	settled sync.WaitGroup // first answers of DNS
	ready   atomic.Bool    // they are all there
	chores  sync.WaitGroup // the prober and its probes
	ctx     context.Context
	cancel  context.CancelFunc
}

// generation is the addresses of a group at one time. Immutable: a request uses one
// to its end.
type generation struct {
	addresses []*address
	targets   []lb.Target
	balancer  lb.Balancer
	weight    int
}

// member is one target of the document.
type member struct {
	entity *config.Target // nil for a plain host
	text   string         // host:port
	host   string
	port   string
	weight int

	watch    *dns.Watch // nil for what needs no resolving
	answered bool
	answer   dns.Answer
	err      error // why there are no addresses
}

// limits of an upstream.
type limits struct {
	requests        gateSettings
	targetRequests  int64
	connections     int64
	targetConns     int64
	waitsForTargets bool // a target at its limit makes requests wait in the roster's line
}

func limitsOf(u *config.Upstream) limits {
	l := &u.Limits
	timeout := milliseconds(l.QueueTimeout)
	m := limits{
		requests:       gateSettings{limit: int64(l.Requests), queue: l.Queue, timeout: timeout},
		targetRequests: int64(l.TargetRequests), connections: int64(l.Connections),
		targetConns: int64(max(l.TargetConnections, u.MaxConnections)),
	}
	// A connection carries one request at a time.
	if m.targetConns > 0 && (m.targetRequests == 0 || m.targetConns < m.targetRequests) {
		m.targetRequests = m.targetConns
	}
	if m.connections > 0 && (m.requests.limit == 0 || m.connections < m.requests.limit) {
		m.requests.limit = m.connections
	}
	m.waitsForTargets = m.targetRequests > 0
	return m
}

// newMember reads "host:port".
func newMember(e *config.Target, text string, weight int) (*member, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return nil, fmt.Errorf("target %q: %w", text, err)
	}
	return &member{entity: e, text: text, host: host, port: port, weight: weight}, nil
}

// open starts to follow the names among the targets and publishes what is known.
func (g *group) open(targets []*member) {
	g.targets = targets
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.ready.Store(true)
	if g.resolver != nil {
		g.mu.Lock() // answers wait until all names are followed
		for _, m := range targets {
			if _, err := netip.ParseAddr(m.host); err != nil && m.weight > 0 {
				g.follow(m)
			}
		}
		g.mu.Unlock()
	}
	g.publish()
}

// follow watches the name of m. Called with g.mu held.
func (g *group) follow(m *member) {
	g.ready.Store(false)
	g.settled.Add(1)
	m.watch = g.resolver.Watch(m.host, func(a dns.Answer, err error) {
		g.mu.Lock()
		defer g.mu.Unlock()
		m.answer, m.err = a, err
		if !m.answered {
			m.answered = true
			defer g.settled.Done()
		}
		if !g.pending && !g.closed {
			g.pending = true
			time.AfterFunc(max(publishDelay, 4*g.took), g.publishPending)
		}
	})
}

// publishDelay collects changes of many names into one generation. Where making that
// takes long, as a ring of thousands of targets does, a fifth of the time goes there.
const publishDelay = 5 * time.Millisecond

// wait returns when every name has had its first answer, or after patience.
func (g *group) wait(patience time.Duration) {
	if g.ready.Load() {
		return // nothing is resolved, or it was before
	}
	done := make(chan struct{})
	go func() { // ends: a lookup is bounded, and so is the group's life
		g.settled.Wait()
		close(done)
	}()
	select {
	case <-done:
		g.ready.Store(true)
		g.publishPending()
	case <-time.After(patience):
	}
}

// publishPending publishes what follow has been told, unless that was done already.
func (g *group) publishPending() {
	defer func() {
		if r := recover(); r != nil {
			g.meters.panicked("following the names of "+g.name, r)
		}
	}()
	g.mu.Lock()
	pending := g.pending
	g.mu.Unlock()
	if pending {
		g.publish()
	}
}

// publish makes a generation of what the targets' names are known to be.
func (g *group) publish() {
	g.mu.Lock()
	g.pending = false
	if g.closed {
		g.mu.Unlock()
		return
	}
	began := pipeline.Now()
	next := &generation{}
	seen := map[*address]bool{}
	for _, m := range g.targets {
		g.addTo(next, seen, m)
	}
	if g.roster.leader.Load() == g {
		g.configure(next)
	}
	next.balancer = g.newBalancer(next.targets)
	old := g.live.Swap(next)
	g.took = time.Duration(pipeline.Now() - began)
	g.mu.Unlock()
	if old != nil {
		g.roster.give(old.addresses)
	}
	g.assess()
}

// addTo adds the addresses of m to a generation.
func (g *group) addTo(next *generation, seen map[*address]bool, m *member) {
	add := func(a *address, weight int) {
		if seen[a] { // two targets that are one address: the first counts
			g.roster.give([]*address{a})
			return
		}
		seen[a] = true
		next.add(g, a, m.text, weight)
	}
	if m.watch == nil {
		add(g.roster.take(net.JoinHostPort(m.host, m.port), m.text, m.host), m.weight)
		return
	}
	for i := range m.answer.Records {
		r := &m.answer.Records[i]
		port, weight, name := m.port, m.weight, m.host
		if r.Port != 0 {
			port = strconv.Itoa(int(r.Port))
		}
		if r.Weight != 0 {
			weight = r.Weight // an SRV record's weight replaces the target's
		}
		if g.entity != nil && g.entity.UseSRVName && r.Name != "" {
			name = r.Name
		}
		add(g.roster.take(net.JoinHostPort(r.Addr.String(), port), m.text, name), weight)
	}
}

func (n *generation) add(g *group, a *address, text string, weight int) {
	name := a.dial
	if g.entity != nil && g.entity.HashRing == "nginx" {
		name = text // as a server directive has it
	}
	n.addresses = append(n.addresses, a)
	n.targets = append(n.targets, lb.Target{Name: name, Weight: weight, State: a.state})
	n.weight += weight
}

// configure gives the addresses of a generation the settings of g.
func (g *group) configure(gen *generation) {
	g.roster.openMax.Store(g.limits.connections)
	for _, a := range gen.addresses {
		a.openMax.Store(g.limits.targetConns)
		a.state.SetLimit(g.limits.targetRequests)
		if c := a.state.Configure(&g.rules.settings, pipeline.Now()); c != lb.Unchanged {
			g.tell(a, c) // what had put it out is no rule any more
			g.roster.line.wake()
		}
	}
}

// lead makes g the group whose settings count for the addresses of its roster, and
// whose probes run: its snapshot is live now.
func (g *group) lead() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	g.roster.leader.Store(g)
	g.configure(g.live.Load())
	g.assess() // by its own threshold, and the new settings may have put addresses back
	g.startProbes()
}

// newBalancer applies the algorithm.
func (g *group) newBalancer(targets []lb.Target) lb.Balancer {
	if g.entity == nil {
		return lb.NewRoundRobin(targets)
	}
	switch g.entity.Algorithm {
	case "consistent-hashing":
		return lb.NewRing(targets, lb.RingOptions{Nginx: g.entity.HashRing == "nginx", BalanceFactor: g.entity.HashBalanceFactor})
	case "least-connections":
		return lb.NewLeastConnections(targets)
	case "latency":
		return lb.NewLatency(targets)
	}
	return lb.NewRoundRobin(targets)
}

// assess works out whether the group is healthy (Kong: available weight above
// healthchecks.threshold percent). Called whenever an address changes.
func (g *group) assess() {
	g.assessing.Lock() // of two at a time the one that looks first must not write last
	defer g.assessing.Unlock()
	gen := g.live.Load()
	available, total := 0, 0
	for i := range gen.targets {
		t := &gen.targets[i]
		total += max(t.Weight, 0)
		if t.Weight > 0 && t.State.In() {
			available += t.Weight
		}
	}
	healthy := total == 0 || float64(available)*100 > g.threshold()*float64(total)
	if g.unhealthy.Swap(!healthy) == healthy && g.roster.leader.Load() == g {
		g.log.Warn("upstream has changed its health", "upstream", g.name, "healthy", healthy, "available_weight", available, "weight", total)
	}
}

// tell logs and counts that an address has changed sides.
func (g *group) tell(a *address, c lb.Change) {
	if c == lb.Down {
		g.meters.targetsDown.Inc()
		g.log.Warn("target is taken out", "upstream", g.name, "target", a.target, "address", a.dial)
		return
	}
	g.meters.targetsUp.Inc()
	g.log.Warn("target is back", "upstream", g.name, "target", a.target, "address", a.dial)
}

// breaks reports whether targets of g may be taken out by their failures.
func (g *group) breaks() bool { return g.rules.on || g.rules.checks }

func (g *group) threshold() float64 {
	if g.entity == nil {
		return 0
	}
	return g.entity.Healthchecks.Threshold
}

// Close implements io.Closer: no snapshot has these settings any more.
func (g *group) Close() error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return nil
	}
	g.closed = true
	old := g.live.Load()
	g.cancel()
	g.mu.Unlock()
	for _, m := range g.targets {
		if m.watch != nil {
			m.watch.Close()
		}
	}
	g.mu.Lock()
	for _, m := range g.targets {
		if m.watch != nil && !m.answered { // nobody is to wait for it any more
			m.answered = true
			g.settled.Done()
		}
	}
	g.mu.Unlock()
	g.chores.Wait()
	g.roster.leader.CompareAndSwap(g, nil)
	g.roster.give(old.addresses)
	return nil
}
