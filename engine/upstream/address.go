package upstream

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/lb"
)

// address is one place that requests of an upstream go to: one of the addresses
// that a target's name has. It outlives reloads and changes of DNS, with its
// health, its load and its connections; see roster. Safe for concurrent use.
type address struct {
	dial   string // host:port to connect to
	target string // host:port as the document has it
	host   string // the target's name, or the one an SRV record gave; without port
	name   []byte // the same
	// Host fields for it, by whether the service speaks TLS.
	field, fieldTLS []byte
	state           *lb.State
	roster          *roster

	open    atomic.Int64 // connections, in use and idle
	openMax atomic.Int64 // 0 for no limit

	mu    sync.Mutex // pools grows; and what follows
	shut  bool       // out of use: nothing is kept any more
	pools atomic.Pointer[[]*pool]

	// Of the roster, under its lock.
	users int   // generations that have the address
	gone  int64 // Now() since none has

	probe probe // of the group that is probing, see probe.go
}

// newAddress returns an address that is dialed as host:port and known by name.
func newAddress(r *roster, dial, target, name string) *address {
	_, port, err := net.SplitHostPort(dial)
	if err != nil {
		port = "80" // cannot be: checked when the document was read
	}
	return &address{
		dial: dial, target: target, host: name, name: []byte(name), roster: r, state: lb.NewState(),
		field: []byte(hostField(name, port, "http")), fieldTLS: []byte(hostField(name, port, "https")),
	}
}

// poolsMax bounds the pools of one address: server names come from clients where
// a route has preserve_host. A pool that is out of use gives way to a new one; where
// none is, the new one's connections are not kept.
const poolsMax = 64

// pool returns the connections to a by t, which for TLS differ by server name.
// serverName is copied if it is kept.
func (a *address) pool(t *transport, serverName []byte) *pool {
	if pools := a.pools.Load(); pools != nil {
		for _, p := range *pools { // few, and the first in nearly every deployment
			if p.transport == t && p.serverName == string(serverName) {
				return p
			}
		}
	}
	return a.addPool(t, string(serverName))
}

func (a *address) addPool(t *transport, serverName string) *pool {
	a.mu.Lock()
	defer a.mu.Unlock()
	var pools []*pool
	if old := a.pools.Load(); old != nil {
		pools = *old
	}
	for _, p := range pools {
		if p.transport == t && p.serverName == serverName {
			return p
		}
	}
	if len(pools) >= poolsMax {
		pools = makeRoom(pools)
	}
	p := newPool(a, t, serverName)
	if a.shut || len(pools) >= poolsMax || !t.adopt(p) {
		p.shut = true // its connections end with their request
		return p
	}
	pools = append(slices.Clip(pools), p)
	a.pools.Store(&pools)
	return p
}

// makeRoom returns pools without one that is out of use, if there is such.
func makeRoom(pools []*pool) []*pool {
	now := pipeline.Now()
	for i, p := range pools {
		if p.unused(now) {
			p.abandon(p)
			p.close()
			return slices.Delete(slices.Clone(pools), i, i+1)
		}
	}
	return pools
}

// drop forgets p, which its transport closes.
func (a *address) drop(p *pool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if old := a.pools.Load(); old != nil {
		pools := slices.DeleteFunc(slices.Clone(*old), func(o *pool) bool { return o == p })
		a.pools.Store(&pools)
	}
}

// close closes the idle connections; those in use end with their request.
func (a *address) close() {
	a.mu.Lock()
	a.shut = true
	old := a.pools.Swap(nil)
	a.mu.Unlock()
	if old == nil {
		return
	}
	for _, p := range *old {
		p.abandon(p)
		p.close()
	}
}

// admit counts a connection about to be made and reports whether the limits of
// the address and its upstream allow it. Idle connections give way.
func (a *address) admit() bool {
	if limit := a.openMax.Load(); a.open.Add(1) > limit && limit > 0 && !a.evict() {
		a.open.Add(-1)
		return false
	}
	r := a.roster
	if limit := r.openMax.Load(); r.open.Add(1) > limit && limit > 0 && !r.evict() {
		r.open.Add(-1)
		a.open.Add(-1)
		return false
	}
	return true
}

// closed counts a connection that has ended.
func (a *address) closed() {
	a.open.Add(-1)
	a.roster.open.Add(-1)
}

// evict closes one idle connection and reports whether there was one.
func (a *address) evict() bool {
	pools := a.pools.Load()
	if pools == nil {
		return false
	}
	for _, p := range *pools {
		if c := p.oldest(); c != nil {
			c.close()
			return true
		}
	}
	return false
}

// ip returns the address's IP and port, zero for a name that nothing resolves.
func (a *address) ip() netip.AddrPort {
	ap, err := netip.ParseAddrPort(a.dial)
	if err != nil {
		return netip.AddrPort{}
	}
	return ap
}
