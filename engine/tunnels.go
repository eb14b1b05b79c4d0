package engine

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/sluice-gateway/sluice/engine/tunnel"
)

// upgrade returns the protocol that x's client may change to, nil where it may not, or
// asks for none: WebSocket on any route (RFC 6455 section 4.2.1), another one where the
// route names it. The service then gets an ordinary request.
func upgrade(x *exchange) []byte {
	h := &x.Ctx.Request.Header
	if !h.IsHTTP11() || h.ConnectionClose() || h.ContentLength() > 0 || x.arrival.head.Chunked {
		return nil // a body would be read as the start of the other protocol
	}
	if !slices.ContainsFunc(h.PeekAll("Connection"), namesUpgrade) {
		return nil // not meant for us
	}
	values := h.PeekAll("Upgrade")
	if len(values) != 1 || bytes.IndexByte(values[0], ',') >= 0 {
		return nil // a choice of protocols is not offered
	}
	wanted := values[0]
	if bytes.EqualFold(wanted, []byte("websocket")) {
		if !h.IsGet() {
			return nil
		}
		return wanted
	}
	for _, allowed := range x.route.Upgrades {
		if bytes.EqualFold(wanted, []byte(allowed)) {
			return wanted
		}
	}
	return nil
}

// namesUpgrade reports whether a Connection field lists upgrade.
func namesUpgrade(field []byte) bool {
	for name := range bytes.SplitSeq(field, []byte{','}) {
		if bytes.EqualFold(bytes.TrimSpace(name), []byte("upgrade")) {
			return true
		}
	}
	return false
}

// tunnels are the connections that have changed their protocol. Safe for concurrent use.
type tunnels struct {
	mu   sync.Mutex
	open map[*tunnel.Tunnel]time.Time // since when
	shut bool                         // no tunnel may go on

	up, down *metrics.Counter
	ended    map[tunnel.Cause]*metrics.Counter
}

func newTunnels(set *metrics.Set) *tunnels {
	t := &tunnels{
		open:  map[*tunnel.Tunnel]time.Time{},
		up:    set.NewCounter(`sluice_tunnel_bytes_total{direction="up"}`),
		down:  set.NewCounter(`sluice_tunnel_bytes_total{direction="down"}`),
		ended: map[tunnel.Cause]*metrics.Counter{},
	}
	for c := tunnel.ClientClosed; c <= tunnel.Closed; c++ {
		t.ended[c] = set.NewCounter(fmt.Sprintf("sluice_tunnels_ended_total{cause=%q}", c))
	}
	set.NewGauge("sluice_tunnel_pipes_refused_total", func() float64 { return float64(tunnel.PipesRefused()) })
	set.NewGauge("sluice_tunnels", func() float64 { return float64(t.count()) })
	return t
}

func (t *tunnels) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.open)
}

// openTunnel passes bytes between the client of x and the service once the 101 has been
// sent. The exchange ends with the tunnel, whatever is reloaded meanwhile.
func (e *Engine) openTunnel(x *exchange) {
	x.BytesOut = int64(len(x.Ctx.Response.Header.Header()))
	e.server.Tunnel(x.Ctx, func(client net.Conn, pending []byte) {
		side := x.Tunnel
		t := tunnel.New(tunnel.End{Conn: client, Pending: pending}, tunnel.End{Conn: side.Conn, Pending: side.Pending},
			tunnel.Settings{Idle: side.Idle})
		defer e.finish(x)
		defer side.End()
		x.Tunnel = nil
		r := e.tunnels.run(t)
		x.BytesIn += r.Up
		x.BytesOut += r.Down
	}, func() { e.finish(x) })
}

func (t *tunnels) run(one *tunnel.Tunnel) tunnel.Result {
	t.mu.Lock()
	t.open[one] = time.Now()
	if t.shut {
		one.Close()
	}
	t.mu.Unlock()
	r := one.Run()
	t.mu.Lock()
	delete(t.open, one)
	t.mu.Unlock()
	t.up.Add(int(r.Up))
	t.down.Add(int(r.Down))
	if c := t.ended[r.Cause]; c != nil {
		c.Inc()
	}
	return r
}

// dropTunnel closes the service's side of a tunnel that was never opened.
func (x *exchange) dropTunnel() {
	if t := x.Tunnel; t != nil {
		x.Tunnel = nil
		_ = t.Conn.Close() // the service sees its end
		t.End()
	}
}

// drainTunnelsTick is how often a draining gateway closes some of its tunnels.
const drainTunnelsTick = 50 * time.Millisecond

// drain closes all tunnels by the time ctx is done, the oldest first and evenly over the
// time there is, so that their clients do not all come back at once.
func (t *tunnels) drain(ctx context.Context, until time.Time) {
	began := time.Now()
	window := until.Sub(began) * 8 / 10 // the rest is for those that end late
	tick := time.NewTicker(drainTunnelsTick)
	defer tick.Stop()
	total := max(t.count(), 1)
	closed := 0
	for {
		share := 1.0
		if passed := time.Since(began); passed < window {
			share = float64(passed) / float64(window)
		}
		closed += t.closeOldest(int(share*float64(total)+0.5) - closed)
		if share >= 1 {
			t.closeOldest(t.count())
		}
		select {
		case <-ctx.Done():
			t.close()
			return
		case <-tick.C:
		}
	}
}

// close ends all tunnels, those too that open from now on.
func (t *tunnels) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.shut = true
	for one := range t.open {
		one.Close()
	}
}

// closeOldest closes up to n tunnels and returns how many.
func (t *tunnels) closeOldest(n int) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n = min(n, len(t.open))
	if n <= 0 {
		return 0
	}
	oldest := slices.SortedFunc(maps.Keys(t.open), func(a, b *tunnel.Tunnel) int { return t.open[a].Compare(t.open[b]) })
	for _, one := range oldest[:n] {
		delete(t.open, one)
		one.Close()
	}
	return n
}
