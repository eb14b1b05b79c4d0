package upstream

import (
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"

	"github.com/VictoriaMetrics/metrics"

	"github.com/sluice-gateway/sluice/engine/dns"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/lb"
)

// meters count what happens on the way to services. Safe for concurrent use.
type meters struct {
	faults        *Faults
	retries       *metrics.Counter
	retriesDenied *metrics.Counter // by the budget
	opened        *metrics.Counter // circuits of services
	queue         queueMeters
	targetsDown   *metrics.Counter
	targetsUp     *metrics.Counter
	probes        [3]*metrics.Counter // by what they found
	tunnels       *metrics.Counter
	failovers     *metrics.Counter
	panics        *metrics.Counter
	log           *slog.Logger
}

// panicked counts and logs a panic outside a request's own goroutine, which settles what
// it was about.
func (m *meters) panicked(where string, r any) {
	m.panics.Inc()
	m.log.Error("panic while "+where, "panic", r, "stack", string(debug.Stack()))
}

// Places in meters.probes.
const (
	probeHealthy = iota
	probeUnhealthy
	probeIgnored
)

// queueMeters count who waits for room, and who is turned away.
type queueMeters struct {
	waits   *metrics.Counter
	refused [3]*metrics.Counter // by entry
}

// newMeters returns the counters of set. They live as long as set.
func newMeters(set *metrics.Set, log *slog.Logger) *meters {
	m := &meters{
		faults: NewFaults(set), log: log,
		panics:        set.GetOrCreateCounter("sluice_panics_total"),
		retries:       set.GetOrCreateCounter("sluice_upstream_retries_total"),
		retriesDenied: set.GetOrCreateCounter("sluice_upstream_retries_denied_total"),
		opened:        set.GetOrCreateCounter("sluice_service_circuit_opened_total"),
		targetsDown:   set.GetOrCreateCounter(`sluice_target_changes_total{to="down"}`),
		targetsUp:     set.GetOrCreateCounter(`sluice_target_changes_total{to="up"}`),
		tunnels:       set.GetOrCreateCounter("sluice_tunnels_opened_total"),
		failovers:     set.GetOrCreateCounter("sluice_upstream_failovers_total"),
	}
	m.queue.waits = set.GetOrCreateCounter("sluice_upstream_queue_waits_total")
	for e, reason := range map[entry]string{lineFull: "full", waitOver: "timeout"} {
		m.queue.refused[e] = set.GetOrCreateCounter(fmt.Sprintf("sluice_upstream_queue_refused_total{reason=%q}", reason))
	}
	for o, result := range [...]string{"healthy", "unhealthy", "ignored"} {
		m.probes[o] = set.GetOrCreateCounter(fmt.Sprintf("sluice_health_probes_total{result=%q}", result))
	}
	return m
}

// names is a resolver with its metrics.
type names struct{ *dns.Resolver }

// Expose implements pipeline.Exposer.
func (n *names) Expose(w io.Writer) {
	s := n.Stats()
	t := text{w}
	for _, c := range []struct {
		outcome string
		n       uint64
	}{{"answered", s.Answered}, {"denied", s.Denied}, {"refused", s.Refused}, {"unanswered", s.Unanswered}, {"ignored", s.Ignored}} {
		t.line("sluice_dns_queries_total{outcome=%q} %d\n", c.outcome, c.n)
	}
	t.line("sluice_dns_queries_over_tcp_total %d\n", s.OverTCP)
	t.line("sluice_dns_evictions_total %d\n", s.Evictions)
	t.line("sluice_dns_names %d\n", s.Names)
	t.line("sluice_dns_names_watched %d\n", s.Watches)
	t.line("sluice_dns_lookups_queued %d\n", s.Queued)
}

// text writes metrics; what fails is the collector's connection.
type text struct{ w io.Writer }

func (t text) line(format string, args ...any) { _, _ = fmt.Fprintf(t.w, format, args...) }

// Expose writes what the circuits and queues of a snapshot's services are at, as
// Prometheus text.
func (f *Fleet) Expose(w io.Writer) {
	t, now := text{w}, pipeline.Now()
	for _, g := range f.guards {
		if g.breaks {
			for _, state := range [...]lb.CircuitState{lb.Closed, lb.Open, lb.HalfOpen} {
				t.line("sluice_service_circuit_state{service=%q,state=%q} %d\n", g.name, state, oneIf(g.breaker.State(now) == state))
			}
		}
		if g.limit.limit > 0 {
			t.line("sluice_service_requests_in_flight{service=%q} %d\n", g.name, g.gate.inFlight.Load())
			t.line("sluice_service_queue_length{service=%q} %d\n", g.name, g.gate.line.waiting.Load())
		}
	}
	for _, g := range f.groups {
		if g.entity != nil {
			g.expose(t)
		}
	}
}

func (g *group) expose(t text) {
	r := g.roster
	t.line("sluice_upstream_connections{upstream=%q} %d\n", g.name, r.open.Load())
	t.line("sluice_upstream_unhealthy{upstream=%q} %d\n", g.name, oneIf(g.unhealthy.Load()))
	if g.limits.requests.limit > 0 {
		t.line("sluice_upstream_requests_in_flight{upstream=%q} %d\n", g.name, r.gate.inFlight.Load())
	}
	if g.limits.requests.limit > 0 || g.limits.waitsForTargets {
		t.line("sluice_upstream_queue_length{upstream=%q} %d\n", g.name, r.gate.line.waiting.Load()+r.line.waiting.Load())
	}
}

func oneIf(b bool) int {
	if b {
		return 1
	}
	return 0
}
