package downstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/socket"
)

// Timeouts bound how long a client may take. nginx has the same four.
type Timeouts struct {
	Idle  time.Duration // between the requests of a connection (keepalive_timeout)
	Head  time.Duration // to send a request's header (client_header_timeout)
	Body  time.Duration // between two pieces of a request's body (client_body_timeout)
	Write time.Duration // to take a piece of an answer (send_timeout)
}

// Defaults returns t with nginx's defaults for what is zero.
func (t Timeouts) Defaults() Timeouts {
	return Timeouts{
		Idle: cmp.Or(t.Idle, 75*time.Second), Head: cmp.Or(t.Head, 60*time.Second),
		Body: cmp.Or(t.Body, 60*time.Second), Write: cmp.Or(t.Write, 60*time.Second),
	}
}

// Server serves the connections of any number of listeners.
// Its exported fields must be set before Serve and not changed after.
type Server struct {
	Handler Handler          // the fast lane
	General *fasthttp.Server // everything else
	Node    *pipeline.Node   // counts connections
	Log     *slog.Logger

	Timeouts       Timeouts
	ConnectionsMax int64 // more are closed as they come
	Refused        interface{ Inc() }

	accepted atomic.Uint64
	draining atomic.Bool
	quit     chan struct{}
	once     sync.Once
	ended    sync.Once

	mu        sync.Mutex
	listeners map[net.Listener]bool
	lanes     map[*lane]bool
	general   map[net.Conn]int64 // Now() since the connection is idle, 0 while it serves
	conns     sync.WaitGroup
}

func (s *Server) init() {
	s.once.Do(func() {
		s.quit = make(chan struct{})
		s.listeners = map[net.Listener]bool{}
		s.lanes = map[*lane]bool{}
		s.general = map[net.Conn]int64{}
		s.General.ConnState = s.noteState
		go s.sweep()
	})
}

// Serve accepts connections of l until the server drains or l fails.
// A non-nil config makes it a TLS listener. It closes l.
func (s *Server) Serve(l net.Listener, config *tls.Config) error {
	s.mu.Lock()
	s.init()
	if s.draining.Load() {
		s.mu.Unlock()
		return l.Close()
	}
	s.listeners[l] = true
	// Who accepts counts too: a connection that comes as draining begins is waited for.
	s.conns.Add(1)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
		_ = l.Close() // already closed when draining
		s.conns.Done()
	}()
	backoff := time.Millisecond
	for {
		c, err := l.Accept()
		if err != nil {
			var temporary interface{ Temporary() bool }
			if !s.draining.Load() && errors.As(err, &temporary) && temporary.Temporary() {
				// Out of descriptors, most likely: others will close some.
				s.Log.Warn("accept", "error", err)
				time.Sleep(backoff)
				backoff = min(2*backoff, time.Second)
				continue
			}
			if s.draining.Load() || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		backoff = time.Millisecond
		s.Node.Accepted.Add(1)
		if s.Node.Active.Add(1) > s.ConnectionsMax {
			s.Node.Active.Add(-1)
			s.Refused.Inc()
			_ = c.Close() // refused
			continue
		}
		s.conns.Add(1)
		go s.serveConn(c, config)
	}
}

// serveConn serves one connection to its end.
func (s *Server) serveConn(c net.Conn, config *tls.Config) {
	tunneled := false
	defer func() {
		if r := recover(); r != nil {
			// The steps of a request recover for themselves: this is the lane's own.
			s.Log.Error("panic while serving a connection", "panic", r, "stack", string(debug.Stack()))
		}
		if tunneled {
			return // the tunnel ends it
		}
		_ = c.Close() // closed before in most cases
		s.connEnded()
	}()
	peer := NewPeer(c.RemoteAddr(), c.LocalAddr())
	peer.ID = s.accepted.Add(1)
	if config != nil {
		tunneled = s.serveTLS(c, config, peer)
		return
	}
	raw, ok := socket.New(c)
	if !ok {
		tunneled = s.serveGeneral(s.peerConn(c, peer, nil))
		return
	}
	l := &lane{server: s, nc: c, raw: raw, peer: peer}
	l.step = l.advance
	l.req.Peer = &l.peer
	s.mu.Lock()
	s.lanes[l] = true
	s.mu.Unlock()
	handOver := l.run()
	s.mu.Lock()
	delete(s.lanes, l)
	s.mu.Unlock()
	if handOver {
		if err := c.SetReadDeadline(time.Time{}); err == nil {
			tunneled = s.serveGeneral(s.peerConn(c, peer, l.handOver))
		}
	}
}

// connEnded counts a connection that is over.
func (s *Server) connEnded() {
	s.Node.Active.Add(-1)
	s.conns.Done()
}

// handshakeTimeout bounds a TLS handshake.
const handshakeTimeout = 10 * time.Second

func (s *Server) serveTLS(c net.Conn, config *tls.Config, peer Peer) (tunneled bool) {
	t := &tlsConn{Conn: tls.Server(c, config), peer: peer, writeTimeout: s.Timeouts.Write}
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	err := t.HandshakeContext(ctx)
	cancel()
	if err != nil {
		return false // scanners and clients that do not trust us; nothing to tell anyone
	}
	t.peer.TLS, t.peer.SNI = true, t.ConnectionState().ServerName
	return s.serveGeneral(t)
}

func (s *Server) peerConn(c net.Conn, peer Peer, held []byte) *peerConn {
	return &peerConn{Conn: c, peer: peer, held: held, writeTimeout: s.Timeouts.Write}
}

// serveGeneral serves a connection by the general server. It returns true when a
// tunnel has taken the connection over.
func (s *Server) serveGeneral(c net.Conn) (tunneled bool) {
	s.mu.Lock()
	s.general[c] = pipeline.Now()
	s.mu.Unlock()
	err := s.General.ServeConn(c)
	s.mu.Lock()
	delete(s.general, c)
	s.mu.Unlock()
	if err != nil && !errors.Is(err, io.EOF) {
		s.Log.Debug("connection ended", "error", err)
	}
	return takeoverOf(c).end()
}

func (s *Server) noteState(c net.Conn, state fasthttp.ConnState) {
	if state == fasthttp.StateHijacked { // told by the goroutine of serveGeneral
		takeoverOf(c).hijacked = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.general[c]; !ok {
		return
	}
	s.general[c] = 0
	if state == fasthttp.StateIdle || state == fasthttp.StateNew {
		s.general[c] = pipeline.Now()
	}
}

// Draining reports whether answers should end their connections.
func (s *Server) Draining() bool { return s.draining.Load() }

// Drain stops accepting, lets requests under way finish, closes connections as
// they become idle and returns when none is left or ctx is done; what is left
// then is closed and an error says how many.
func (s *Server) Drain(ctx context.Context) error {
	s.mu.Lock()
	s.init()
	s.draining.Store(true)
	for l := range s.listeners {
		_ = l.Close() // Serve returns
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.conns.Wait()
		close(done)
	}()
	defer s.ended.Do(func() { close(s.quit) })
	tick := time.NewTicker(drainTick)
	defer tick.Stop()
	for {
		s.closeIdle()
		select {
		case <-done:
			return nil
		case <-ctx.Done():
			return s.cut()
		case <-tick.C:
		}
	}
}

// drainTick is how often a draining server looks for idle connections.
const drainTick = 20 * time.Millisecond

// drainGrace is how long a connection may be idle while the server drains, for
// a request that is on its way.
const drainGrace = 250 * time.Millisecond

func (s *Server) closeIdle() {
	now := pipeline.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.lanes {
		if since := l.idleSince.Load(); since != 0 && now-since > int64(drainGrace) {
			l.poke() // it serves what has arrived meanwhile, or closes
		}
	}
	for c, since := range s.general {
		if since != 0 && now-since > int64(drainGrace) {
			_ = c.SetReadDeadline(time.Unix(1, 0)) // its read fails and it ends
		}
	}
}

// cut ends whatever is left, without waiting for anything: the goroutines that
// serve may be waiting for services that hang.
func (s *Server) cut() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.lanes) + len(s.general)
	for l := range s.lanes {
		_ = l.raw.Shutdown() // a connection that has gone is cut already
	}
	for c := range s.general {
		switch t := c.(type) {
		case *peerConn:
			c = t.Conn // do not linger
		case *tlsConn:
			c = t.NetConn() // no farewell
		}
		_ = c.Close() // likewise
	}
	if n == 0 {
		return nil
	}
	return &CutError{Connections: n}
}

// CutError says how many connections were closed in the middle of a request.
type CutError struct{ Connections int }

// Error implements error.
func (e *CutError) Error() string {
	return fmt.Sprintf("%d connections closed in the middle of a request", e.Connections)
}

// poke makes a waiting lane look at its connection.
func (l *lane) poke() {
	l.poked.Store(true)
	_ = l.nc.SetReadDeadline(time.Unix(1, 0)) // a closed connection needs no poke
}

// sweepInterval is how often idle lanes are looked at, and so how long the end
// of a connection may go unnoticed when it arrived together with a request.
const sweepInterval = time.Second

// sweep looks once at every lane that has become idle for more than an interval.
func (s *Server) sweep() {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	var due []*lane
	for {
		select {
		case <-s.quit:
			return
		case <-tick.C:
		}
		now := pipeline.Now()
		due = due[:0]
		s.mu.Lock()
		for l := range s.lanes {
			since := l.idleSince.Load()
			if since != 0 && since != l.swept && now-since > int64(sweepInterval) {
				l.swept = since
				due = append(due, l)
			}
		}
		s.mu.Unlock()
		for _, l := range due {
			if l.raw.Ended() {
				l.poke()
			}
		}
		clear(due)
	}
}

// quiet is the logger of contexts: the gateway logs for itself.
type quiet struct{}

// Printf implements fasthttp.Logger.
func (quiet) Printf(string, ...any) {}
