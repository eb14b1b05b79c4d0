package lb

import "sync/atomic"

const (
	// latencyExactMax is up to how many targets a pick looks at all of them: a
	// latency as it is now takes 9 ns to work out.
	latencyExactMax = 4
	// usualPeriod is how long the least of all latencies is good for, in nanoseconds.
	usualPeriod = 10e6
)

// Latency picks the target with the least latency × (requests in flight + 1) ÷
// weight, where the latency is State's peak EWMA (Finagle's). Up to 4 targets it
// looks at all of them; above that it takes the better of two drawn in proportion
// to their weights, like LeastConnections, so the slowest targets get next to
// nothing and a fast one cannot be flooded by all clients at once.
//
// A target of which no latency is known counts as the fastest of the others, as it was
// within the last 10 ms: it is tried soon also where requests come one at a time, and
// those under way keep it from being flooded. Kong takes the mean, which is never the
// least where one is looked for.
//
// The caller counts and measures: State.Begin, State.End, State.Observe. Safe for
// concurrent use. A changed set of targets is another Latency.
type Latency struct {
	choice
	_     [64]byte
	usual atomic.Int64 // the least known, at least 1
	read  atomic.Int64 // when it was worked out
}

// NewLatency returns a Latency over targets. One of weight 0 or less is never
// picked.
func NewLatency(targets []Target) *Latency {
	l := &Latency{choice: newChoice(targets, latencyExactMax)}
	l.usual.Store(1)
	l.read.Store(longAgo)
	return l
}

// Pick implements Balancer.
func (l *Latency) Pick(r *Request) int {
	if read := l.read.Load(); r.Now-read >= usualPeriod && l.read.CompareAndSwap(read, r.Now) {
		l.look(r.Now)
	}
	return l.pick(r, l.usual.Load())
}

// look finds the least known latency. It is as far from an exact one as latencies move
// in 10 ms; to find it takes 9 ns a target.
func (l *Latency) look(now int64) {
	least := int64(0)
	for _, t := range l.order {
		if latency := l.members[t].state.Latency(now); latency > 0 && (least == 0 || latency < least) {
			least = latency
		}
	}
	if least > 0 {
		l.usual.Store(least)
	}
}
