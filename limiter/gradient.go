package limiter

import (
	"math"
	"sync/atomic"
	"time"
)

// Gradient is a limit of requests in flight that follows the latency: it grows
// while latency stays what it was and shrinks when requests begin to queue. Safe
// for concurrent use. Must not be copied.
//
// It is Gradient2 of Netflix concurrency-limits: each sample, the mean latency of a
// window, is compared with a long exponential average,
//
//	gradient = clamp(tolerance × long / short, 0.5, 1)
//	limit    = limit × (1 − smoothing) + (limit × gradient + queue) × smoothing
//
// where queue is the square root of the limit, at least 4; the limit stays as it
// is while less than half of it is used; and the average falls faster than it
// would when it is more than twice the sample. A window with a dropped request, such
// as a timeout, shrinks the limit to 90 %.
//
// # What differs
//
// Under lasting overload a long average learns the latency of the queue, and the
// limit creeps up with it without end: in the simulation of the test, to a hundred
// times the knee within two minutes. Therefore the average rises only with samples
// that show no queue: those of a limit of which less than half is used, and those
// of a probe. A probe is two windows in ProbeEvery in which the limit is halved: the
// first drains the queue, the second moves the average halfway to what it measures
// (Envoy's gradient controller measures its minimum latency so, with a limit of 3).
// A queue is at most half as long then, and 2 is more than the tolerance: each probe
// brings the limit closer to the knee. Only a limit that is in use is probed.
type Gradient struct {
	config GradientConfig

	inFlight atomic.Int64
	limit    atomic.Int64 // what Acquire obeys
	_        [112]byte

	// sample is the sum of latencies in microseconds and, in the low bits, how many.
	sample  atomic.Uint64
	ends    atomic.Int64 // when the window may end
	busy    atomic.Bool  // half of the limit was in use
	dropped atomic.Bool
	closing atomic.Bool // guards what follows
	_       [104]byte

	estimate float64
	long     float64 // microseconds
	probe    int     // windows until the next probe; -1 drains, -2 measures
}

const (
	sampleBits  = 16 // the count of a sample, the rest is its sum
	sampleMax   = 1 << (sampleBits - 1)
	latencyMax  = 1 << 28 // microseconds, 4.5 minutes
	probeDrains = -1
	probeReads  = -2
)

// GradientConfig are the settings of a Gradient. Zero means the default.
type GradientConfig struct {
	LimitMin   int           // default 4
	LimitMax   int           // default 1000
	LimitStart int           // default 20
	Window     time.Duration // shortest time of a sample, default 100ms
	SamplesMin int           // fewest requests of a sample, default 10
	Tolerance  float64       // how much slower than the average is no queue, default 1.5
	Smoothing  float64       // share of a new limit, default 0.2
	LongWindow int           // windows of the long average, default 600
	ProbeEvery int           // windows between probes, default 100
}

func or[T int | float64 | time.Duration](v *T, otherwise T) {
	if *v == 0 {
		*v = otherwise
	}
}

// NewGradient returns a limit with nothing in flight.
func NewGradient(c GradientConfig) *Gradient {
	or(&c.LimitMin, 4)
	or(&c.LimitMax, 1000)
	or(&c.LimitStart, 20)
	or(&c.Window, 100*time.Millisecond)
	or(&c.SamplesMin, 10)
	or(&c.Tolerance, 1.5)
	or(&c.Smoothing, 0.2)
	or(&c.LongWindow, 600)
	or(&c.ProbeEvery, 100)
	c.LimitMin = max(c.LimitMin, 1)
	c.LimitMax = max(c.LimitMax, c.LimitMin)
	c.SamplesMin = min(c.SamplesMin, sampleMax)
	g := &Gradient{config: c, probe: c.ProbeEvery}
	g.estimate = float64(min(max(c.LimitStart, c.LimitMin), c.LimitMax))
	g.limit.Store(int64(g.estimate))
	return g
}

// Acquire reports whether one more request may be in flight, and counts it if so:
// then Release must follow once.
func (g *Gradient) Acquire() bool {
	for {
		n, limit := g.inFlight.Load(), g.limit.Load()
		if n*2 >= limit && !g.busy.Load() {
			g.busy.Store(true)
		}
		if n >= limit {
			return false
		}
		if g.inFlight.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release ends a request that took latency. dropped says that it failed as under
// overload, by a timeout or a refusal; its latency does not count. A request whose
// latency says nothing is released with a latency of 0. now is in nanoseconds, from
// any clock that does not go back.
func (g *Gradient) Release(now int64, latency time.Duration, dropped bool) {
	if g.inFlight.Add(-1) < 0 {
		panic("BUG: limiter: Release without Acquire")
	}
	sample := g.sample.Load()
	switch {
	case dropped:
		g.dropped.Store(true)
	case latency > 0:
		us := min(uint64(latency.Microseconds()), latencyMax)
		sample = g.sample.Add(us<<sampleBits | 1)
	}
	n := sample & (1<<sampleBits - 1)
	due := now >= g.ends.Load() && (n >= uint64(g.config.SamplesMin) || g.dropped.Load())
	if (due || n >= sampleMax) && g.closing.CompareAndSwap(false, true) {
		g.close(now)
		g.closing.Store(false)
	}
}

// Limit returns how many requests may be in flight now.
func (g *Gradient) Limit() int { return int(g.limit.Load()) }

// InFlight returns how many requests are.
func (g *Gradient) InFlight() int { return int(g.inFlight.Load()) }

// close ends a window and adapts the limit. One caller at a time.
func (g *Gradient) close(now int64) {
	if g.ends.Load() == 0 {
		g.ends.Store(now + int64(g.config.Window)) // the first request begins the first window
		return
	}
	sample := g.sample.Swap(0)
	busy, dropped := g.busy.Swap(false), g.dropped.Swap(false)
	g.ends.Store(now + int64(g.config.Window))
	n := sample & (1<<sampleBits - 1)
	if n > 0 {
		short := max(float64(sample>>sampleBits)/float64(n), 1)
		g.learn(short, busy)
		if busy && g.probe >= 0 {
			g.adapt(short)
		}
	}
	if dropped {
		g.estimate *= 0.9
	}
	g.estimate = min(max(g.estimate, float64(g.config.LimitMin)), float64(g.config.LimitMax))
	if busy {
		g.step()
	}
	limit := g.estimate
	if g.probe < 0 {
		limit = max(limit/2, float64(g.config.LimitMin))
	}
	g.limit.Store(int64(limit))
}

// learn puts a sample into the long average.
func (g *Gradient) learn(short float64, busy bool) {
	if g.long == 0 {
		g.long = short
	}
	switch {
	case g.probe == probeDrains: // half of it is from before
	case g.probe == probeReads:
		g.long += (short - g.long) / 2
	case short < g.long || !busy:
		g.long += (short - g.long) * 2 / float64(g.config.LongWindow+1)
		if g.long > 2*short {
			g.long *= 0.95
		}
	}
}

// adapt moves the estimate by the gradient.
func (g *Gradient) adapt(short float64) {
	gradient := min(max(g.config.Tolerance*g.long/short, 0.5), 1)
	queue := max(math.Sqrt(g.estimate), 4)
	s := g.config.Smoothing
	g.estimate = g.estimate*(1-s) + (g.estimate*gradient+queue)*s
}

// step counts the windows to the next probe, and those of the probe.
func (g *Gradient) step() {
	switch g.probe {
	case 0:
		g.probe = probeDrains
	case probeDrains:
		g.probe = probeReads
	case probeReads:
		g.probe = g.config.ProbeEvery
	default:
		g.probe--
	}
}
