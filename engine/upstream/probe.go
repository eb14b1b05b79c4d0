package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/lb"
)

// probe is what active checking remembers of an address.
type probe struct {
	due   atomic.Int64 // Now() of the next one, 0 before the first is planned
	under atomic.Bool  // one is under way
}

// prober checks the addresses of a group actively, while the group leads its roster.
type prober struct {
	group  *group
	rules  *config.ActiveHealthcheck
	client *http.Client // nil for type tcp
	dial   func(ctx context.Context, address string) (net.Conn, error)
	tls    *tls.Config // nil without TLS
	slots  chan struct{}
	host   string // Host field, "" for the target's name
}

// probeTick is how often the prober looks for what is due (Kong: 100 ms).
const probeTick = 100 * time.Millisecond

// newProber returns the prober of g, nil if its upstream has no active checks.
func newProber(g *group, dial func(ctx context.Context, address string) (net.Conn, error), settings *tls.Config) *prober {
	if g.entity == nil {
		return nil
	}
	a := &g.entity.Healthchecks.Active
	if a.Healthy.Interval <= 0 && a.Unhealthy.Interval <= 0 {
		return nil
	}
	p := &prober{group: g, rules: a, dial: dial, tls: settings, slots: make(chan struct{}, a.Concurrency), host: g.entity.HostHeader}
	if a.Type == "http" || a.Type == "https" {
		p.client = &http.Client{
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				DisableKeepAlives: true, DisableCompression: true,
				DialContext:    func(ctx context.Context, _, address string) (net.Conn, error) { return p.dial(ctx, address) },
				DialTLSContext: func(ctx context.Context, _, address string) (net.Conn, error) { return p.dialTLS(ctx, address) },
			},
		}
	}
	return p
}

// startProbes runs the prober of g, if it has one, until g is closed or another
// group leads. Called with g.mu held.
func (g *group) startProbes() {
	if g.prober == nil || g.probing {
		return
	}
	g.probing = true
	g.chores.Go(func() {
		for again := true; again; again = g.probesAgain() {
			g.prober.run()
		}
	})
}

// probesAgain reports whether g has come to lead again while its prober was on its way
// out, and notes that probing ends if not.
func (g *group) probesAgain() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.probing = !g.closed && g.prober.leads()
	return g.probing
}

// leads reports whether probes are this prober's to make.
func (p *prober) leads() bool {
	return p.group.roster.leader.Load() == p.group && p.group.ctx.Err() == nil
}

func (p *prober) run() {
	tick := time.NewTicker(probeTick)
	defer tick.Stop()
	for p.leads() {
		select {
		case <-p.group.ctx.Done():
			return
		case <-tick.C:
			p.round()
		}
	}
}

// round starts the probes that are due. While as many as may run at a time are under
// way, the others wait for their turn. Kong: an address of weight 0 is not checked.
func (p *prober) round() {
	gen := p.group.live.Load()
	now := pipeline.Now()
	first := rand.IntN(len(gen.addresses) + 1) // nobody is always the last
	for n := range gen.addresses {
		i := (first + n) % len(gen.addresses)
		a := gen.addresses[i]
		if gen.targets[i].Weight <= 0 || a.probe.under.Load() || !p.due(a, now) {
			continue
		}
		select {
		case p.slots <- struct{}{}:
		case <-p.group.ctx.Done():
			return
		}
		if !p.leads() || !a.probe.under.CompareAndSwap(false, true) {
			<-p.slots
			continue
		}
		p.group.chores.Go(func() {
			defer func() {
				if r := recover(); r != nil {
					p.group.meters.panicked("probing "+a.dial, r)
				}
				a.probe.under.Store(false)
				<-p.slots
			}()
			p.check(a)
		})
		now = pipeline.Now()
	}
}

// due reports whether a is to be probed now, and plans its next probe. The first comes
// at a random moment of the interval and each later one up to a tenth of it early or
// late, so that thousands of targets do not beat together, also when a reload or a
// change of sides gives them another interval.
func (p *prober) due(a *address, now int64) bool {
	interval := seconds(p.rules.Healthy.Interval)
	if a.state.Circuit(now) != lb.Closed {
		interval = seconds(p.rules.Unhealthy.Interval)
	}
	if interval <= 0 {
		a.probe.due.Store(0)
		return false
	}
	due := a.probe.due.Load()
	switch {
	case due == 0, due-now > interval+interval/jitter:
		a.probe.due.Store(now + rand.Int64N(interval))
		return false
	case now < due:
		return false
	}
	a.probe.due.Store(now + interval - interval/jitter + rand.Int64N(2*interval/jitter+1))
	return true
}

// jitter is the part of an interval by which probes are early or late.
const jitter = 10

// check probes a once and tells its health.
func (p *prober) check(a *address) {
	timeout := time.Duration(seconds(p.rules.Timeout))
	if timeout <= 0 {
		timeout = time.Second
	}
	ctx, cancel := context.WithTimeout(p.group.ctx, timeout)
	defer cancel()
	e := p.ask(ctx, a)
	if !p.leads() {
		return // cut short, not failed; or asked by settings that are none any more
	}
	p.group.count(e)
	p.group.changed(a, a.state.Probe(e, pipeline.Now()))
}

// ask makes one probe. A connection alone is a success for type tcp, and for grpc,
// which is not spoken here yet.
func (p *prober) ask(ctx context.Context, a *address) lb.Event {
	if p.client == nil {
		connect := p.dial
		if p.tls != nil {
			connect = p.dialTLS
		}
		c, err := connect(ctx, a.dial)
		if err != nil {
			return probeFault(err)
		}
		_ = c.Close() // it was only to be had
		return lb.Success
	}
	scheme := "http://"
	if p.tls != nil {
		scheme = "https://"
	}
	req, err := http.NewRequestWithContext(context.WithValue(ctx, hostKey{}, a.host), http.MethodGet, scheme+a.dial+p.rules.HTTPPath, http.NoBody)
	if err != nil {
		return lb.HTTPFailure // a path that cannot be asked for
	}
	switch {
	case p.host != "":
		req.Host = p.host
	case p.tls != nil:
		req.Host = string(a.fieldTLS)
	default:
		req.Host = string(a.field)
	}
	for name, values := range p.rules.Headers {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return probeFault(err)
	}
	_, err = io.CopyN(io.Discard, resp.Body, 4<<10)
	_ = resp.Body.Close()
	if err != nil && err != io.EOF && !isTimeout(err) {
		return probeFault(err) // it broke off, as it would for clients; else the status is what counts
	}
	if resp.StatusCode >= len(p.group.rules.probes) {
		return lb.Ignored
	}
	return p.group.rules.probes[resp.StatusCode]
}

// probeFault tells what failed by Kong's kinds: what answers, but not in HTTP, is an
// HTTP failure.
func probeFault(err error) lb.Event {
	var op *net.OpError
	var handshake tlsError
	switch {
	case isTimeout(err):
		return lb.Timeout
	case errors.As(err, &op), brokenByPeer(err), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &handshake):
		return lb.TCPFailure
	}
	return lb.HTTPFailure
}

// hostKey is the context key of the name that TLS asks an address for.
type hostKey struct{}

func (p *prober) dialTLS(ctx context.Context, address string) (net.Conn, error) {
	c, err := p.dial(ctx, address)
	if err != nil {
		return nil, err
	}
	settings := p.tls
	if settings.ServerName == "" {
		settings = settings.Clone()
		settings.ServerName, _ = ctx.Value(hostKey{}).(string)
		if settings.ServerName == "" {
			settings.InsecureSkipVerify = true // a connection is all that is asked for
		}
	}
	t := tls.Client(c, settings)
	if err := t.HandshakeContext(ctx); err != nil {
		_ = c.Close() // the handshake's error is the one to report
		return nil, tlsError{err}
	}
	return t, nil
}

// tlsError marks an error of a handshake.
type tlsError struct{ error }

func (e tlsError) Unwrap() error { return e.error }

// count counts a probe by what it found.
func (g *group) count(e lb.Event) {
	switch {
	case e == lb.Success:
		g.meters.probes[probeHealthy].Inc()
	case e >= lb.HTTPFailure:
		g.meters.probes[probeUnhealthy].Inc()
	default:
		g.meters.probes[probeIgnored].Inc()
	}
}
