package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/lb"
)

// newTestProber returns the prober of a group that leads its roster, and one address.
func newTestProber(healthy, unhealthy float64) (*prober, *address) {
	g := &group{roster: newRoster("u"), entity: config.NewUpstream(), rules: &healthRules{}}
	a := &g.entity.Healthchecks.Active
	a.Healthy.Interval, a.Unhealthy.Interval = healthy, unhealthy
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.prober = newProber(g, nil, nil)
	g.roster.leader.Store(g)
	return g.prober, newAddress(g.roster, "127.0.0.1:80", "a:80", "a")
}

// beats runs due every tick of a span that starts at now, and returns when it said yes.
func beats(p *prober, a *address, now, span int64) (at []int64) {
	for n := now; n < now+span; n += int64(probeTick) {
		if p.due(a, n) {
			at = append(at, n)
		}
	}
	return at
}

const second = int64(time.Second)

// Probes come once an interval on the average, the first at any moment of it.
func TestProbesAreDueInTurn(t *testing.T) {
	const runs, interval, turns = 400, 10 * second, 20
	var quarters [4]int
	for range runs {
		p, a := newTestProber(10, 1)
		at := beats(p, a, second, turns*interval)
		if n := len(at); n < turns-3 || n > turns+3 {
			t.Fatalf("%d probes in %d intervals", n, turns)
		}
		quarters[min((at[0]-second)*4/interval, 3)]++
		for i := 1; i < len(at); i++ {
			if d := at[i] - at[i-1]; d < interval*9/10-int64(probeTick) || d > interval*11/10+int64(probeTick) {
				t.Fatalf("two probes are %v apart", time.Duration(d))
			}
		}
	}
	for _, n := range quarters {
		if n < runs/8 {
			t.Errorf("first probes by quarter of the interval: %v", quarters)
		}
	}
}

// A shorter interval, by reload or by a change of sides, counts at once, and does not
// make all probes come at once.
func TestProbesAreDueBySide(t *testing.T) {
	p, a := newTestProber(3600, 1)
	a.state.Configure(&lb.Settings{Active: lb.HealthLimits{TCPFailures: 1, Successes: 1}}, 0)
	if at := beats(p, a, second, 2*second); len(at) > 1 {
		t.Errorf("%d probes of a healthy target", len(at))
	}
	a.state.Probe(lb.TCPFailure, 4*second)
	if at := beats(p, a, 4*second, 10*second); len(at) < 8 || len(at) > 12 {
		t.Errorf("%d probes in 10 intervals of an unhealthy target", len(at))
	}
	early := 0
	for range 100 {
		p, a := newTestProber(1, 0)
		a.probe.due.Store(3600 * second) // planned by a longer interval
		at := beats(p, a, second, 2*second)
		if len(at) == 0 || at[0] > 2*second+int64(probeTick) {
			t.Fatalf("first probe at %v", at)
		}
		if at[0] < second+second/2 {
			early++
		}
	}
	if early < 20 || early > 80 {
		t.Errorf("%d of 100 come in the first half of the interval", early)
	}
	p, a = newTestProber(1, 0)
	a.state.Force(false, second)
	if at := beats(p, a, second, 10*second); len(at) > 0 {
		t.Errorf("%d probes although unhealthy targets are not probed", len(at))
	}
}

// A group that comes to lead again while its prober is on its way out probes on.
func TestProberThatLeadsAgain(t *testing.T) {
	p, _ := newTestProber(1, 1)
	g := p.group
	g.probing = true
	if !g.probesAgain() || !g.probing {
		t.Error("the leader's prober ends")
	}
	g.roster.leader.Store(nil)
	if g.probesAgain() || g.probing {
		t.Error("the prober of one that does not lead goes on")
	}
	g.roster.leader.Store(g)
	g.cancel()
	if g.probesAgain() || g.probing {
		t.Error("the prober of a closed group goes on")
	}
}

func TestProbeFaults(t *testing.T) {
	wrap := func(err error) error { return &url.Error{Op: "Get", URL: "http://a", Err: err} }
	broken := &net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}
	f := func(err error, want lb.Event) {
		t.Helper()
		for _, err := range []error{err, wrap(err)} {
			if got := probeFault(err); got != want {
				t.Errorf("%v: %v, want %v", err, got, want)
			}
		}
	}
	f(context.DeadlineExceeded, lb.Timeout)
	f(&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, lb.Timeout)
	f(tlsError{context.DeadlineExceeded}, lb.Timeout)
	f(&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, lb.TCPFailure)
	f(broken, lb.TCPFailure)
	f(io.EOF, lb.TCPFailure)
	f(io.ErrUnexpectedEOF, lb.TCPFailure)
	f(tlsError{tls.RecordHeaderError{}}, lb.TCPFailure)
	f(errors.New(`net/http: malformed HTTP response "SSH"`), lb.HTTPFailure)
}

// What services send that is no HTTP.
func TestProbesOfWhatIsNotHTTP(t *testing.T) {
	f := func(answer string, want lb.Event) {
		t.Helper()
		p, a := newTestProber(1, 1)
		p.dial = func(context.Context, string) (net.Conn, error) {
			here, there := net.Pipe()
			go func() {
				buf := make([]byte, 4096)
				_, _ = there.Read(buf)
				_, _ = io.WriteString(there, answer)
				_ = there.Close()
			}()
			return here, nil
		}
		p.group.rules = newHealthRules(p.group.entity)
		if got := p.ask(t.Context(), a); got != want {
			t.Errorf("%q: %v, want %v", answer, got, want)
		}
		p.client.CloseIdleConnections()
	}
	f("SSH-2.0-OpenSSH\r\n\r\n", lb.HTTPFailure)
	f("", lb.TCPFailure)
	f("HTTP/1.1 20", lb.HTTPFailure)
	f("HTTP/1.1 200 OK\r\nContent-Le", lb.HTTPFailure)
	f("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nx", lb.TCPFailure) // it breaks off
	f("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"+strings.Repeat("x", 8<<10), lb.Success)
	f("HTTP/1.1 500 \r\n\r\n", lb.HTTPFailure)
	f("HTTP/1.1 418 \r\n\r\n", lb.Ignored)
	f("HTTP/1.1 302 \r\nLocation: http://b/\r\n\r\n", lb.Success)
	f("HTTP/1.0 200 OK\r\n\r\n", lb.Success)
}
