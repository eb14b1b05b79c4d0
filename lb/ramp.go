package lb

import (
	"math"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
)

// Ramp gives a canary more of the traffic step by step while it is no worse than
// the stable side, and takes all of it back when it is.
//
// Requests record what came of them on the side they went to. About once a second a
// ticker has the Ramp look at both sides. The guard is looked at twice:
//
//   - All the time, so that a plainly broken canary is gone soon: on what came since
//     the step began, and on batches of the last MinRequests or a little more, so
//     that a canary that breaks late in a long step is not hidden by a good
//     beginning. Many looks at few requests would sooner or later condemn any canary
//     by chance. So here it must be worse than it may be by 3 standard errors.
//   - When StepTime has passed, on the plain figures of the whole step. Only a canary
//     that holds them moves on, any other rolls back.
//
// Errors are compared as percentages of requests, latency by the 90th percentile of
// requests that did not fail: a mean hides a slow tenth, and the quick errors of a
// broken canary make it look fast. Latencies are counted in logarithmic buckets of
// an eighth of a power of two, from 8 µs to 2 minutes, and percentiles interpolated
// in them: off by at most 6 %.
//
// A step of 100 % leaves the stable side without traffic: it is held against the
// stable figures of the step before, and a first step of 100 % against nothing.
//
// Safe for concurrent use: Share is one load, Record one or two additions on memory of
// the shard; the rest takes a lock. Not to be copied.
type Ramp struct {
	share  atomic.Uint64 // bits of a float64
	_      [120]byte
	counts *[rampShards][2]rampCounts // stable, canary

	mu       sync.Mutex // of what follows
	settings RampSettings
	report   RampReport
	looked   int64 // time of the last look
	step     [2]rampSum
	batch    [2]rampSum // counts when the step and the batch began
	before   rampSum    // the stable side during the step before one of 100 %
}

// RampSettings are the course of a Ramp and its guard. Times are in nanoseconds.
type RampSettings struct {
	Steps             []float64 // percentages for the canary, ascending, at least one
	StepTime          int64     // a step lasts at least
	CheckTime         int64     // between looks
	MinRequests       int       // of each side in a step, without which there is no verdict
	MaxErrorRateDelta float64   // percentage points of errors the canary may have more, below 0 to not compare
	MaxLatencyRatio   float64   // its latency to that of stable, 0 to not compare
}

// RampState is where a Ramp stands.
type RampState uint8

// The states. A Ramp leaves the last two by Reset only.
const (
	RampRunning    RampState = iota
	RampDone                 // the last step was held: its share stays, nothing is compared any more
	RampRolledBack           // the canary broke the guard: its share is 0
)

// String returns the state as metrics and the control API write it.
func (s RampState) String() string {
	return [...]string{"running", "done", "rolled_back"}[s]
}

// RampReason is what broke the guard.
type RampReason uint8

// The reasons.
const (
	RampHolds RampReason = iota
	RampErrors
	RampLatency
)

// String returns the reason as metrics and the control API write it.
func (r RampReason) String() string { return [...]string{"", "error_rate", "latency"}[r] }

// RampEvent is what a look led to.
type RampEvent uint8

// The events.
const (
	RampStayed RampEvent = iota
	RampMoved
	RampFinished
	RampReverted
)

// RampSide are the figures of one side.
type RampSide struct {
	Requests  uint64
	Failures  uint64
	ErrorRate float64 // percent
	Latency   int64   // 90th percentile in nanoseconds, 0 if unknown
}

// RampReport is where a Ramp stands and why. Of a Ramp that rolled back the sides
// are the figures that broke the guard.
type RampReport struct {
	State          RampState
	Step           int     // index of the current step, or of the last one
	Share          float64 // percent of the canary
	Since          int64   // when the step began or the Ramp ended
	Waiting        bool    // the step's time has passed, but one side has too few requests
	Reason         RampReason
	Stable, Canary RampSide
}

const (
	rampShards  = 8
	rampOctave  = 8  // buckets of a power of two
	rampFloor   = 13 // 2^13 ns and below is the first bucket
	rampOctaves = 24
	rampBuckets = rampOctave * rampOctaves
)

// rampCounts counts one side in one shard, 7 times 128 bytes: no two share the
// pair of cache lines that processors fetch.
type rampCounts struct {
	passed [rampBuckets]atomic.Uint32 // by latency
	failed atomic.Uint32
	_      [124]byte
}

// rampSum is one side of all shards. Counts wrap, so only differences count.
type rampSum struct {
	passed [rampBuckets]uint32
	failed uint32
}

// NewRamp returns a Ramp in the first step since now.
func NewRamp(settings RampSettings, now int64) *Ramp {
	if len(settings.Steps) == 0 || !slices.IsSorted(settings.Steps) {
		panic("BUG: lb: steps of a ramp must ascend and be at least one")
	}
	settings.MinRequests = max(settings.MinRequests, 1)
	r := &Ramp{settings: settings, counts: new([rampShards][2]rampCounts)}
	r.Reset(now)
	return r
}

// Reset starts again with the first step.
func (r *Ramp) Reset(now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report = RampReport{}
	r.before = rampSum{}
	sums := r.sums()
	r.begin(0, &sums, now)
}

// Share returns the canary's share in percent.
func (r *Ramp) Share() float64 { return math.Float64frombits(r.share.Load()) }

// Record counts a request that went to the canary or to the stable side: whether
// it failed and how long it took. shard is as in Request.
func (r *Ramp) Record(shard uint64, canary, failed bool, latency int64) {
	sides := &r.counts[shard*0x9e3779b97f4a7c15>>61]
	side := &sides[0]
	if canary {
		side = &sides[1]
	}
	if failed {
		side.failed.Add(1)
		return
	}
	side.passed[rampBucket(latency)].Add(1)
}

// Advance looks at what was recorded and says what that led to. It is called about
// once a second and does nothing within CheckTime of the last look.
func (r *Ramp) Advance(now int64) RampEvent {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.report.State != RampRunning || now-r.looked < r.settings.CheckTime {
		return RampStayed
	}
	r.looked = now
	sums := r.sums()
	step := r.since(&r.step, &sums)
	r.show(&step)
	enough := r.enough(&step)
	if enough {
		if why := r.broken(&step, 3); why != RampHolds {
			return r.revert(why, now)
		}
		if batch := r.since(&r.batch, &sums); r.enough(&batch) {
			if why := r.broken(&batch, 3); why != RampHolds {
				r.show(&batch)
				return r.revert(why, now)
			}
			r.batch = sums
		}
	}
	over := now-r.report.Since >= r.settings.StepTime
	r.report.Waiting = over && !enough
	if !over || !enough {
		return RampStayed
	}
	if why := r.broken(&step, 0); why != RampHolds {
		return r.revert(why, now)
	}
	next := r.report.Step + 1
	if next == len(r.settings.Steps) {
		r.report.State, r.report.Since = RampDone, now
		return RampFinished
	}
	r.before = step[0]
	r.begin(next, &sums, now)
	return RampMoved
}

// Report returns where the Ramp stands. While it runs, the sides are the figures of
// the step as the last look found them.
func (r *Ramp) Report() RampReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.report
}

// begin enters a step. The caller holds the lock, as for all that follow.
func (r *Ramp) begin(step int, sums *[2]rampSum, now int64) {
	r.report.Step, r.report.Share, r.report.Since = step, r.settings.Steps[step], now
	r.report.Waiting = false
	r.step, r.batch, r.looked = *sums, *sums, now
	r.share.Store(math.Float64bits(r.report.Share))
}

// revert gives all traffic back to the stable side, for good.
func (r *Ramp) revert(why RampReason, now int64) RampEvent {
	r.report.State, r.report.Reason = RampRolledBack, why
	r.report.Share, r.report.Since, r.report.Waiting = 0, now, false
	r.share.Store(0)
	return RampReverted
}

// alone reports whether the step leaves the stable side without traffic.
func (r *Ramp) alone() bool { return r.report.Share >= 100 }

// since returns what was counted since from.
func (r *Ramp) since(from, sums *[2]rampSum) [2]rampSum {
	d := [2]rampSum{sums[0].minus(&from[0]), sums[1].minus(&from[1])}
	if r.alone() {
		d[0] = r.before
	}
	return d
}

// enough reports whether the counts allow a verdict.
func (r *Ramp) enough(d *[2]rampSum) bool {
	least := uint64(r.settings.MinRequests)
	return d[1].requests() >= least && (r.alone() || d[0].requests() >= least)
}

// broken reports whether the canary broke the guard, by more than a number of
// standard errors of what was counted.
func (r *Ramp) broken(d *[2]rampSum, sigmas float64) RampReason {
	stable, canary := &d[0], &d[1]
	if stable.requests() == 0 {
		return RampHolds
	}
	if limit := r.settings.MaxErrorRateDelta; limit >= 0 {
		n, m, f := float64(canary.requests()), float64(stable.requests()), float64(stable.failed)
		// Deviations are of the rule of succession's estimate: a stable side without a
		// failure among few requests does not prove that none ever fails.
		p := min((f+1)/(m+2)+limit/100, 1)
		margin := sigmas * math.Sqrt(n*p*(1-p)*(1+n/m))
		if float64(canary.failed) > n*(f/m+limit/100)+margin+1e-9 {
			return RampErrors
		}
	}
	least := uint64(r.settings.MinRequests)
	if r.settings.MaxLatencyRatio <= 0 || canary.passes() < least || stable.passes() < least {
		return RampHolds
	}
	// The rank of a percentile among n is off by sqrt(0.9*0.1/n).
	low := canary.quantile(0.9 - sigmas*0.3/math.Sqrt(float64(canary.passes())))
	high := stable.quantile(0.9 + sigmas*0.3/math.Sqrt(float64(stable.passes())))
	if low > high*r.settings.MaxLatencyRatio {
		return RampLatency
	}
	return RampHolds
}

// show puts counts into the report.
func (r *Ramp) show(d *[2]rampSum) {
	r.report.Stable, r.report.Canary = d[0].side(), d[1].side()
}

// sums adds up the shards.
func (r *Ramp) sums() (sums [2]rampSum) {
	for i := range r.counts {
		for j := range sums {
			c, s := &r.counts[i][j], &sums[j]
			s.failed += c.failed.Load()
			for b := range c.passed {
				s.passed[b] += c.passed[b].Load()
			}
		}
	}
	return sums
}

func (s *rampSum) minus(from *rampSum) (d rampSum) {
	d.failed = s.failed - from.failed
	for b := range d.passed {
		d.passed[b] = s.passed[b] - from.passed[b]
	}
	return d
}

// passes returns how many requests did not fail.
func (s *rampSum) passes() (n uint64) {
	for _, c := range &s.passed {
		n += uint64(c)
	}
	return n
}

func (s *rampSum) requests() uint64 { return s.passes() + uint64(s.failed) }

func (s *rampSum) side() RampSide {
	side := RampSide{Requests: s.requests(), Failures: uint64(s.failed)}
	if side.Requests > 0 {
		side.ErrorRate = 100 * float64(s.failed) / float64(side.Requests)
	}
	if s.passes() > 0 {
		side.Latency = int64(s.quantile(0.9))
	}
	return side
}

// quantile returns the latency in nanoseconds that a share q of the requests did not
// exceed, of at least one request.
func (s *rampSum) quantile(q float64) float64 {
	rank := min(max(q, 0), 1) * float64(s.passes())
	last := 0.0
	for b, c := range &s.passed {
		if c == 0 {
			continue
		}
		low, high := rampEdge(b), rampEdge(b+1)
		if rank <= float64(c) {
			return low + (high-low)*rank/float64(c)
		}
		rank -= float64(c)
		last = high
	}
	return last
}

// rampBucket returns the bucket of a latency.
func rampBucket(latency int64) int {
	v := uint64(max(latency, 1<<rampFloor))
	octave := bits.Len64(v) - 1
	return min((octave-rampFloor)*rampOctave+int(v>>(octave-3)&(rampOctave-1)), rampBuckets-1)
}

// rampEdge returns the least latency of a bucket.
func rampEdge(b int) float64 {
	return math.Ldexp(1+float64(b%rampOctave)/rampOctave, b/rampOctave+rampFloor)
}
