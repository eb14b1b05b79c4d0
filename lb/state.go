package lb

import (
	"math"
	"sync/atomic"
)

// State is what changes of a target while it serves: whether it is in rotation,
// how many requests are under way to it, how fast it answers. It outlives the
// balancers that have the target. NewState makes one. Safe for concurrent use;
// not to be copied.
//
// A target is in while its Health is up and its Circuit is closed; the circuit's
// gate is the one word that a pick reads. What puts a target out, and what brings
// it back:
//
//	out by                    back by
//	its circuit's own counts  trials after Circuit.Open, or probes after it
//	health, Down.Open > 0     trials after Down.Open
//	health, Down.Open = 0     probes (Kong: nothing else)
//	Force(false)              Force(true), or probes; never trials
//
// Down.Open is above 0 where only traffic says how targets fare. Kong leaves such
// a target out until an operator puts it back; here it gets trials, one at a time
// by default and first of requests that can be sent again (Request.Careful), and
// enough successes in a row bring it back with its counters at zero. Where active probes look at unhealthy targets no request is risked, and
// the probe's successes decide by Kong's rules.
//
// A target that is healthy but whose circuit opened is probed as an unhealthy
// one should be: once the open time has passed, as many successful probes in a row
// as both limits ask for close the circuit without any traffic, and a failed one
// re-opens it as a failed trial does. Before that they do nothing, since the probe
// may well look at something that never failed.
//
// Requests that began before the last change of sides prove nothing about what
// the target is now. While it is out only trials count, and after it came back
// failures of earlier attempts are ignored.
type State struct {
	// What every pick and report reads is the first cache line: of the circuit, its
	// atomics are first. Only failures and changes write it.
	limit    atomic.Int64
	health   Health
	settings atomic.Pointer[Settings]
	circuit  Circuit
	_        [192]byte
	// What every request writes. The whole is 512 bytes, which the allocator aligns.
	inFlight atomic.Int64
	latency  atomic.Uint64 // see Observe
	_        [112]byte
}

// Settings are how a State judges its target. They do not change; a reload gives
// the State others.
type Settings struct {
	// Active are the limits for probes, Passive those for traffic.
	Active, Passive HealthLimits
	// Circuit is the target's own breaker; the zero value never opens.
	Circuit CircuitSettings
	// Down is how a target comes back that health put out. Open 0: not by trials.
	Down Recovery
}

// NewState returns the State of a target that is in and of which nothing is known.
// Without Configure nothing ever puts it out.
func NewState() *State { return &State{} }

// Configure makes set what the State judges by from now on; counts and the side
// the target is on stay, unless set has nothing any more that could have put
// it out, which brings it back. set must not change afterwards.
func (s *State) Configure(set *Settings, now int64) Change {
	c := &s.circuit
	c.mu.Lock()
	defer c.mu.Unlock()
	s.settings.Store(set)
	c.down = set.Down.complete()
	change := c.configure(&set.Circuit, now)
	if c.cause == causeDown && !set.Active.counts() && !set.Passive.counts() {
		s.health.Force(true)
		return c.close(now)
	}
	return change
}

// Usable reports whether the target may take r now. It sets r.Trial to whether
// that is a trial of a half-open target: then a slot is taken, and the outcome
// must be reported, as Abandoned if the request is not sent after all. To ask
// without taking there is Peek.
func (s *State) Usable(r *Request) bool {
	r.Trial = false
	// Fast path: in. The limit is on the gate's cache line.
	if s.circuit.gate.Load() == 0 {
		return !s.Full()
	}
	if s.Full() || r.Careful && r.Now-s.circuit.gate.Load() < carefulWait {
		return false
	}
	var ok bool
	ok, r.Trial = s.circuit.Allow(r.Now)
	return ok
}

// carefulWait is how long a target that may have a trial waits for a request that
// can be sent again, before it is given one that cannot.
const carefulWait = 1e9

// In reports whether the target is in: not held back by its health or its circuit,
// though it may be full.
func (s *State) In() bool { return s.circuit.gate.Load() == 0 }

// Peek reports whether Usable may say yes at now, and takes nothing.
func (s *State) Peek(now int64) bool {
	g := s.circuit.gate.Load()
	return (g == 0 || now >= g) && !s.Full()
}

// Report takes in how an attempt ended that r was picked for, and returns what
// that did to the target. It is called once for each attempt, with Abandoned where
// there is no outcome. r.Now is still the time of the pick: what began when the
// target was on its other side does not count.
func (s *State) Report(e Event, r *Request, now int64) Change {
	// Fast path: Success or Ignored, and nothing that it could reset.
	if e&^Success == 0 && !r.Trial && s.health.word.Load() == 0 && s.circuit.quiet() {
		return Unchanged
	}
	return s.report(e, r, now)
}

// report is Report where something has to be counted.
func (s *State) report(e Event, r *Request, now int64) Change {
	set := s.settings.Load()
	a := Attempt{Began: r.Now, Shard: r.Shard, Trial: r.Trial}
	switch {
	case set == nil || e == Abandoned && !a.Trial:
		return Unchanged
	case a.Trial:
		return s.trial(e, a, set, now)
	case e.kind() > Success && a.Began < s.circuit.since.Load():
		return Unchanged // began before the target came back
	case e.kind() == Success && s.circuit.gate.Load() != 0:
		return Unchanged // began before the target was put out
	}
	if s.health.Report(e, &set.Passive) != Unchanged {
		return s.settle(now)
	}
	return s.circuit.Record(a, !e.broken(), now)
}

// trial takes in the outcome of a trial.
func (s *State) trial(e Event, a Attempt, set *Settings, now int64) Change {
	// The circuit opened by its own counts: health is up and counts as ever.
	if s.health.Healthy() && s.health.Report(e, &set.Passive) == Down {
		return s.settle(now)
	}
	v := passed
	switch {
	case e == Abandoned:
		v = abandoned
	case e.broken(), e == HTTPFailure && set.Passive.HTTPFailures > 0:
		v = failed
	}
	c := &s.circuit
	c.mu.Lock()
	defer c.mu.Unlock()
	change := c.tried(a, v, now)
	if change == Up {
		s.health.Force(true)
	}
	return change
}

// Probe takes in how an active probe of the target ended, and returns what that
// did to it.
func (s *State) Probe(e Event, now int64) Change {
	set := s.settings.Load()
	if set == nil {
		return Unchanged
	}
	if s.health.Report(e, &set.Active) != Unchanged {
		return s.settle(now)
	}
	if e.kind() < Success || set.Active.limit(e.kind()) == 0 || set.Active.Successes == 0 {
		return Unchanged // a probe that Kong would not count
	}
	return s.circuit.probed(e.kind() == Success, set.Active.Successes, now)
}

// Force puts the target in or out on an operator's word and zeroes its counters.
func (s *State) Force(healthy bool, now int64) Change {
	c := &s.circuit
	c.mu.Lock()
	defer c.mu.Unlock()
	s.health.Force(healthy)
	if healthy {
		return c.close(now)
	}
	return c.shut(causeForced, now)
}

// settle brings the circuit in line with health, which has just changed. Health
// is read again under the lock: of two changes that race, the later one wins.
func (s *State) settle(now int64) Change {
	c := &s.circuit
	c.mu.Lock()
	defer c.mu.Unlock()
	switch healthy := s.health.Healthy(); {
	case healthy && (c.cause == causeDown || c.cause == causeForced):
		return c.close(now)
	case !healthy && (c.cause == causeNone || c.cause == causeTripped):
		return c.shut(causeDown, now)
	}
	return Unchanged
}

// Healthy reports what health says of the target, whatever its circuit does.
func (s *State) Healthy() bool { return s.health.Healthy() }

// Circuit returns what the target's circuit does at now. One that health put out is
// open, or half-open once it may have trials.
func (s *State) Circuit(now int64) CircuitState { return s.circuit.State(now) }

// RetryAfter returns the nanoseconds until the target may be in or take a trial: 0
// for now, math.MaxInt64 where time alone does not bring that.
func (s *State) RetryAfter(now int64) int64 { return s.circuit.RetryAfter(now) }

// Begin counts a request that goes to the target, End one that has ended, whatever
// became of it: tunnels and streams end with their last byte.
func (s *State) Begin() { s.inFlight.Add(1) }

// TryBegin is Begin unless that would exceed the limit. Usable only looks at the
// limit, so requests picked at the same moment may together exceed it; TryBegin
// never lets them. One refused may at that instant keep another out.
func (s *State) TryBegin() bool {
	n := s.inFlight.Add(1)
	if l := s.limit.Load(); l > 0 && n > l {
		s.inFlight.Add(-1)
		return false
	}
	return true
}

// End ends what Begin or TryBegin began.
func (s *State) End() { s.inFlight.Add(-1) }

// InFlight returns how many requests are under way.
func (s *State) InFlight() int64 { return s.inFlight.Load() }

// SetLimit sets how many requests may be under way, 0 for any number. Those under
// way already are not touched.
func (s *State) SetLimit(n int64) { s.limit.Store(n) }

// Full reports whether as many requests are under way as may be.
func (s *State) Full() bool {
	l := s.limit.Load()
	return l > 0 && s.inFlight.Load() >= l
}

// decay is the time in nanoseconds in which a latency loses all but 1/e of its
// weight: Kong's, Finagle's and nginx-ingress's 10 s.
const decay = 10e9

// latencyShift makes ticks of about a millisecond out of nanoseconds: 32 bits of
// them are 52 days, and only differences are used.
const latencyShift = 20

// Observe takes in a latency in nanoseconds. The estimate is Finagle's peak EWMA:
// a latency above it is taken over at once, so that a target that slows down loses
// traffic now; lower ones decay in over 10 s. Estimate and time are one word, a
// float32 and a tick of 1.05 ms. Within a tick a lower latency would weigh next to
// nothing and is left out, which spares a busy target the write: one load.
func (s *State) Observe(now, latency int64) {
	sample := float32(max(latency, 1))
	tick := uint32(now >> latencyShift)
	for {
		w := s.latency.Load()
		v, age := math.Float32frombits(uint32(w)), int32(tick-uint32(w>>32))
		switch {
		case sample >= v: // the first one too
			if age < 0 {
				tick = uint32(w >> 32)
			}
			v = sample
		case age <= 0:
			return
		default:
			k := weight(age)
			v = v*k + sample*(1-k)
		}
		if s.latency.CompareAndSwap(w, uint64(tick)<<32|uint64(math.Float32bits(v))) {
			return
		}
	}
}

// Latency returns the estimate in nanoseconds as it is at now, 0 if nothing is
// known. Without new samples it decays towards 1, so that a target avoided for its
// latency is tried again.
func (s *State) Latency(now int64) int64 {
	w := s.latency.Load()
	if w == 0 {
		return 0
	}
	v := math.Float32frombits(uint32(w))
	if age := int32(uint32(now>>latencyShift) - uint32(w>>32)); age > 0 {
		v *= weight(age)
	}
	return max(int64(v), 1)
}

// weight returns what is left of an estimate after a number of ticks.
func weight(ticks int32) float32 {
	x := float64(ticks) * ((1 << latencyShift) / decay)
	if x < 1.0/32 {
		// Fast path: a target in use. Off by less than 1e-5.
		return float32(1 - x + x*x/2)
	}
	return float32(math.Exp(-x))
}
