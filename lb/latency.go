package lb

import "sync/atomic"

const (
	// latencyExactMax is up to how many targets a pick looks at all of them: a
	// latency as it is now takes 9 ns to work out.
	latencyExactMax = 4
	// usualPeriod is how long the mean of all latencies is good for, in nanoseconds.
	usualPeriod = 10e6
)

// Latency picks the target with the least latency × (requests in flight + 1) ÷
// weight, where the latency is State's peak EWMA (Finagle's). Up to 4 targets it
// looks at all of them; above that it takes the better of two drawn in proportion
// to their weights, like LeastConnections, so the slowest targets get next to
// nothing and a fast one cannot be flooded by all clients at once.
//
// A target of which no latency is known counts as one of the mean of the others
// (Kong): it is neither flooded nor left out. The mean is that of the last 10 ms.
//
// The caller counts and measures: State.Begin, State.End, State.Observe. Safe for
// concurrent use. A changed set of targets is another Latency.
type Latency struct {
	choice
	_     [64]byte
	usual atomic.Int64 // the mean, at least 1
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
		l.average(r.Now)
	}
	return l.pick(r, l.usual.Load())
}

// average works out the mean of all known latencies. It is as far from an exact
// one as latencies move in 10 ms; to work it out takes 9 ns a target.
func (l *Latency) average(now int64) {
	var sum, known int64
	for _, t := range l.order {
		if latency := l.members[t].state.Latency(now); latency > 0 {
			sum += latency
			known++
		}
	}
	if known > 0 {
		l.usual.Store(max(sum/known, 1))
	}
}
