package upstream

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"
)

// transport is how connections are made and how long they are kept: the same for
// all services with the same settings. Kept across snapshots. Safe for concurrent use.
type transport struct {
	transportSettings

	mu    sync.Mutex
	pools map[*pool]bool
	shut  bool
}

type transportSettings struct {
	tls         *tls.Config // nil for plain TCP; the server name is the pool's
	idleMax     int
	idleTimeout time.Duration
	requestsMax int // requests on one connection, 0 for no limit
	dial        func(ctx context.Context, address string) (net.Conn, error)
}

func newTransport(s transportSettings) *transport {
	return &transport{transportSettings: s, pools: map[*pool]bool{}}
}

// adopt takes p among the pools to prune and close and reports whether t is open.
func (t *transport) adopt(p *pool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.shut {
		return false
	}
	t.pools[p] = true
	return true
}

func (t *transport) abandon(p *pool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.pools, p)
}

func (t *transport) all() []*pool {
	t.mu.Lock()
	defer t.mu.Unlock()
	pools := make([]*pool, 0, len(t.pools))
	for p := range t.pools {
		pools = append(pools, p)
	}
	return pools
}

// Prune closes connections that have been idle too long. The engine calls it
// now and then, with Now().
func (t *transport) Prune(now int64) {
	for _, p := range t.all() {
		p.prune(now)
	}
}

// Close closes the idle connections; those in use are closed when given back.
func (t *transport) Close() error {
	t.mu.Lock()
	t.shut = true
	t.mu.Unlock()
	for _, p := range t.all() {
		p.address.drop(p)
		p.close()
	}
	return nil
}

// pool keeps the idle connections of one address, newest first: the oldest are
// left alone until they pass idleTimeout, so that a pool shrinks after a peak.
// Safe for concurrent use.
type pool struct {
	*transport
	address    *address
	serverName string // of TLS

	mu      sync.Mutex
	idle    []*conn
	lastPut int64 // Now(), 0 for never
	shut    bool
}

func newPool(a *address, t *transport, serverName string) *pool {
	return &pool{transport: t, address: a, serverName: serverName}
}

// get returns an idle connection or nil.
func (p *pool) get(now int64) *conn {
	p.mu.Lock()
	last := len(p.idle) - 1
	if last < 0 {
		p.mu.Unlock()
		return nil
	}
	c := p.idle[last]
	if now-c.idleFrom >= int64(p.idleTimeout) {
		p.mu.Unlock()
		p.prune(now) // the newest is too old, so all are
		return nil
	}
	p.idle[last] = nil
	p.idle = p.idle[:last]
	p.mu.Unlock()
	c.reused = true
	return c
}

// put takes an idle connection back at now and reports whether it did.
func (p *pool) put(c *conn, now int64) bool {
	if p.requestsMax > 0 && c.requests >= p.requestsMax {
		return false
	}
	c.idleFrom = now
	p.mu.Lock()
	if p.shut || len(p.idle) >= p.idleMax {
		p.mu.Unlock()
		return false
	}
	p.idle, p.lastPut = append(p.idle, c), now
	p.mu.Unlock()
	return true
}

// unused reports whether p keeps nothing at now, and has not for as long as it would.
func (p *pool) unused(now int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle) == 0 && (p.lastPut == 0 || now-p.lastPut >= int64(p.idleTimeout))
}

// oldest takes the connection out that is idle for longest; nil if none is.
func (p *pool) oldest() *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return nil
	}
	c := p.idle[0]
	rest := copy(p.idle, p.idle[1:])
	p.idle[rest] = nil
	p.idle = p.idle[:rest]
	return c
}

// connect makes a new connection within timeout, TLS included.
func (p *pool) connect(timeout time.Duration) (*conn, fault) {
	if !p.address.admit() {
		return nil, fault{kind: KindFull}
	}
	nc, f := p.handshake(timeout)
	if f.kind != kindNone {
		p.address.closed()
		return nil, f
	}
	return newConn(nc, p), f
}

func (p *pool) handshake(timeout time.Duration) (net.Conn, fault) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	nc, err := p.dial(ctx, p.address.dial)
	if err != nil {
		return nil, connectFault(err)
	}
	if p.tls == nil {
		return nc, fault{}
	}
	t := tls.Client(&below{Conn: nc}, p.settingsFor(p.serverName))
	if err := t.HandshakeContext(ctx); err != nil {
		_ = nc.Close() // the handshake's error is the one to report
		if isTimeout(err) {
			return nil, fault{kind: KindConnectTime, err: err}
		}
		return nil, fault{kind: KindTLS, err: err}
	}
	return t, fault{}
}

// settingsFor returns the TLS settings for a server name. crypto/tls sends none
// where it is an address (RFC 6066 section 3), and checks the certificate against it.
func (t *transport) settingsFor(name string) *tls.Config {
	c := t.tls.Clone() // shares the cache of sessions
	c.ServerName = name
	return c
}

// prune closes what has been idle too long.
func (p *pool) prune(now int64) {
	p.mu.Lock()
	n := 0
	for n < len(p.idle) && now-p.idle[n].idleFrom >= int64(p.idleTimeout) {
		n++
	}
	old := append([]*conn(nil), p.idle[:n]...)
	rest := copy(p.idle, p.idle[n:])
	clear(p.idle[rest:])
	p.idle = p.idle[:rest]
	p.mu.Unlock()
	for _, c := range old {
		c.close()
	}
}

// close closes the idle connections; those in use are closed when given back.
func (p *pool) close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.shut = nil, true
	p.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
}
