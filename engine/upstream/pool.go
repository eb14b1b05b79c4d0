package upstream

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// poolSettings are what makes two pools of the same address different.
type poolSettings struct {
	address        string // host:port
	tls            *tls.Config
	tlsKey         string // identifies tls in Keep's key
	idleMax        int
	idleTimeout    time.Duration
	requestsMax    int // requests on one connection, 0 for no limit
	connectTimeout time.Duration
	writeTimeout   time.Duration
	dialTCP        func(ctx context.Context, address string) (net.Conn, error)
}

// pool keeps the idle connections of one address, newest first: the oldest are
// left alone until they pass idleTimeout, so that a pool shrinks after a peak.
// Safe for concurrent use.
type pool struct {
	poolSettings

	mu     sync.Mutex
	idle   []*conn
	shut   bool
	open   atomic.Int64 // connections in use and idle
	dials  atomic.Int64
	reuses atomic.Int64
}

func newPool(s poolSettings) *pool { return &pool{poolSettings: s} }

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
		p.Prune(now) // the newest is too old, so all are
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
	p.idle = append(p.idle, c)
	p.mu.Unlock()
	return true
}

// dial makes a new connection within the connect timeout, TLS included.
func (p *pool) dial() (*conn, fault) {
	p.dials.Add(1)
	ctx, cancel := context.WithTimeout(context.Background(), p.connectTimeout)
	defer cancel()
	nc, err := p.dialTCP(ctx, p.address)
	if err != nil {
		return nil, connectFault(err)
	}
	if p.tls != nil {
		t := tls.Client(nc, p.tls)
		if err := t.HandshakeContext(ctx); err != nil {
			_ = nc.Close() // the handshake's error is the one to report
			if isTimeout(err) {
				return nil, fault{kind: KindConnectTime, err: err}
			}
			return nil, fault{kind: KindTLS, err: err}
		}
		nc = t
	}
	p.open.Add(1)
	return newConn(nc, p), fault{}
}

func (p *pool) closed() { p.open.Add(-1) }

// Prune closes connections that have been idle too long. The engine calls it
// now and then, with Now().
func (p *pool) Prune(now int64) {
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

// Close closes the idle connections; those in use are closed when given back.
func (p *pool) Close() error {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.shut = nil, true
	p.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
	return nil
}
