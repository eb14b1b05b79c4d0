package upstream

import (
	"bytes"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/lb"
)

// healthRules are the health checks and the circuit breaker of an upstream, compiled.
// Immutable.
type healthRules struct {
	on       bool // traffic is reported
	checks   bool // Kong: health checking is on, else health reads HEALTHCHECKS_OFF
	settings lb.Settings
	// What a status of traffic, or of a probe, means.
	traffic, probes [1000]lb.Event
}

// newHealthRules compiles the rules of u. Kong: checking is on if some active interval
// or some passive unhealthy limit is not 0.
func newHealthRules(u *config.Upstream) *healthRules {
	h := &healthRules{}
	if u == nil {
		return h
	}
	a, p := &u.Healthchecks.Active, &u.Healthchecks.Passive
	h.settings = lb.Settings{
		Active: lb.HealthLimits{
			Successes: a.Healthy.Successes, HTTPFailures: a.Unhealthy.HTTPFailures,
			TCPFailures: a.Unhealthy.TCPFailures, Timeouts: a.Unhealthy.Timeouts,
		},
		Passive: lb.HealthLimits{
			Successes: p.Healthy.Successes, HTTPFailures: p.Unhealthy.HTTPFailures,
			TCPFailures: p.Unhealthy.TCPFailures, Timeouts: p.Unhealthy.Timeouts,
		},
		Circuit: circuitSettings(&u.CircuitBreaker),
	}
	passive := p.Unhealthy.HTTPFailures+p.Unhealthy.TCPFailures+p.Unhealthy.Timeouts > 0
	active := a.Healthy.Interval > 0 || a.Unhealthy.Interval > 0
	h.checks = passive || active
	h.on = passive || u.CircuitBreaker.Enabled() || active && p.Healthy.Successes > 0
	if a.Unhealthy.Interval <= 0 || a.Healthy.Successes == 0 {
		// Nothing probes what is down: trials bring it back. Not in Kong.
		h.settings.Down = lb.Recovery{
			Open: seconds(p.OpenDuration), OpenMax: int64(openMax), Successes: max(p.Healthy.Successes, 1), Lease: int64(trialLease),
		}
	}
	classify(&h.traffic, p.Healthy.HTTPStatuses, p.Unhealthy.HTTPStatuses)
	classify(&h.probes, a.Healthy.HTTPStatuses, a.Unhealthy.HTTPStatuses)
	if u.CircuitBreaker.Enabled() {
		for _, status := range u.CircuitBreaker.Statuses {
			h.traffic[status] |= lb.Fault
		}
	}
	return h
}

// openMax is what the doubling of open_duration stops at.
const openMax = 300 * time.Second

// trialLease is after what time a trial that nobody has reported counts as lost. It is
// longer than the attempts of a request may take with timeouts of everyday: the report
// of a trial that took longer would be ignored.
const trialLease = 15 * time.Minute

// classify fills events; a status in both lists counts as healthy, as in Kong.
func classify(events *[1000]lb.Event, healthy, unhealthy []int) {
	for _, status := range unhealthy {
		events[status] = lb.HTTPFailure
	}
	for _, status := range healthy {
		events[status] = lb.Success
	}
}

func circuitSettings(b *config.CircuitBreaker) lb.CircuitSettings {
	if !b.Enabled() {
		return lb.CircuitSettings{}
	}
	return lb.CircuitSettings{
		Consecutive: b.ConsecutiveFailures, ErrorRate: b.ErrorRate, Window: seconds(b.Window), MinRequests: b.MinRequests,
		Recovery: lb.Recovery{
			Open: seconds(b.OpenDuration), OpenMax: seconds(b.MaxOpenDuration),
			Trials: b.HalfOpenRequests, Successes: b.Successes, Lease: int64(trialLease),
		},
	}
}

// seconds returns n seconds in nanoseconds.
func seconds(n float64) int64 { return int64(n * float64(time.Second)) }

// event returns how the fault of an attempt counts. Unlike in Kong, every failed
// attempt counts, the last one too.
func (f *fault) event() lb.Event {
	if f.misnamed || f.slowClient {
		return lb.Abandoned
	}
	switch f.kind {
	case KindConnectTime, KindReadTime, KindWriteTime:
		return lb.Timeout
	case KindDeadline:
		return lb.Timeout
	case KindConnect, KindTLS, KindClosed, KindMalformed, KindUpgrade:
		return lb.TCPFailure
	case KindResolve:
		return lb.TCPFailure
	}
	return lb.Abandoned // the client's, or ours
}

// report tells the health of a what became of an attempt at it: a status, or a fault.
func (k *call) report(a *address, status int, f *fault) {
	g := k.group
	if !g.rules.on && !k.pick.Trial {
		return // Fast path: nobody asks.
	}
	e := lb.Ignored
	if f.kind != kindNone && f.kind != KindStatus {
		e = f.event()
	} else if status < len(g.rules.traffic) {
		e = g.rules.traffic[status]
	}
	now := k.pick.Now // of a success the time is not looked at
	if e != lb.Success || k.pick.Trial {
		now = pipeline.Now()
	}
	g.changed(a, a.state.Report(e, &k.pick, now))
}

// watch makes b tell the health of the current target how it ends: lb.Ignored stands for
// an end that its status speaks for.
func (k *call) watch(b *body) {
	g := k.group
	if !g.rules.on && !k.pick.Trial {
		return // nobody asks
	}
	a, status := k.gen.addresses[k.pick.Tried[len(k.pick.Tried)-1]], k.x.UpstreamStatus
	r := lb.Request{Now: k.pick.Now, Shard: k.pick.Shard, Trial: k.pick.Trial}
	e := lb.Ignored
	if status < len(g.rules.traffic) {
		e = g.rules.traffic[status]
	}
	b.ending = func(broke lb.Event) {
		if broke != lb.Ignored {
			e = broke
		}
		g.changed(a, a.state.Report(e, &r, pipeline.Now()))
		e, r.Trial = lb.Abandoned, false // told; it may still break off
	}
	if r.Trial {
		b.passes = k.x.UpstreamHeaders + int64(trialTime)
		if bytes.HasPrefix(k.x.Ctx.Response.Header.ContentType(), eventStream) {
			b.ending(lb.Ignored) // nothing may follow for long
		}
	}
}

// trialTime is for how long the answer to a trial must come, if it does not end before:
// it may be one that never ends, which must not keep its target out.
const trialTime = time.Second

// changed takes note of a change of a's health.
func (g *group) changed(a *address, c lb.Change) {
	if c == lb.Unchanged {
		return
	}
	g.tell(a, c)
	g.assess()
	if lead := g.roster.leader.Load(); lead != nil && lead != g {
		lead.assess() // the same address, other settings
	}
	if c == lb.Up {
		g.roster.line.wake()
	}
}
