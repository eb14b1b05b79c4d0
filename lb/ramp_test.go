package lb

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

var canary = RampSettings{
	Steps: []float64{5, 25, 100}, StepTime: 60 * aSecond, CheckTime: aSecond, MinRequests: 20,
	MaxErrorRateDelta: 2, MaxLatencyRatio: 1.5,
}

// side is how requests of one side end: a share fails, the others take latency
// give or take a third.
type side struct {
	errors  float64 // percent
	latency int64
}

// drive has a ramp serve perSecond requests a second for some seconds, looks once a
// second and returns what the looks led to, without those that led to nothing.
func drive(r *Ramp, rnd *rand.Rand, start int64, seconds, perSecond int, stable, canary side) (events []RampEvent, now int64) {
	now = start
	for range seconds {
		for range perSecond {
			toCanary := rnd.Float64()*100 < r.Share()
			s := stable
			if toCanary {
				s = canary
			}
			latency := s.latency * int64(667+rnd.IntN(667)) / 1000
			r.Record(rnd.Uint64(), toCanary, rnd.Float64()*100 < s.errors, latency)
		}
		now += aSecond
		if e := r.Advance(now); e != RampStayed {
			events = append(events, e)
		}
	}
	return events, now
}

func TestRamp(t *testing.T) {
	ms := aMillisecond
	all := []RampEvent{RampMoved, RampMoved, RampFinished}
	back := []RampEvent{RampReverted}
	f := func(stable, can side, perSecond int, events []RampEvent, share float64, reason RampReason, within int64) {
		t.Helper()
		for seed := range uint64(5) {
			r := NewRamp(canary, 5*aSecond)
			got, _ := drive(r, rand.New(rand.NewPCG(seed, 1)), 5*aSecond, 200, perSecond, stable, can)
			rep := r.Report()
			if !slices.Equal(got, events) || r.Share() != share || rep.Share != share || rep.Reason != reason || rep.Since > 5*aSecond+within {
				t.Errorf("seed %d: %v, share %v, %+v", seed, got, r.Share(), rep)
			}
		}
	}
	// As good as stable, better, or worse within the guard.
	f(side{0, 10 * ms}, side{0, 10 * ms}, 100, all, 100, RampHolds, 180*aSecond)
	f(side{0, 10 * ms}, side{0, 13 * ms}, 200, all, 100, RampHolds, 180*aSecond)
	f(side{5, 10 * ms}, side{1, 2 * ms}, 100, all, 100, RampHolds, 180*aSecond)
	f(side{0, 10 * ms}, side{0.2, 10 * ms}, 500, all, 100, RampHolds, 180*aSecond)
	// Plainly broken: 5 requests a second go to the canary, so it has its 20 after
	// about 4 s.
	f(side{0, 10 * ms}, side{100, 10 * ms}, 100, back, 0, RampErrors, 10*aSecond)
	f(side{1, 10 * ms}, side{60, 10 * ms}, 100, back, 0, RampErrors, 12*aSecond)
	f(side{0, 10 * ms}, side{0, 100 * ms}, 100, back, 0, RampLatency, 12*aSecond)
	// Quick failures do not make it look fast, slow ones not slow.
	f(side{0, 10 * ms}, side{100, 1}, 100, back, 0, RampErrors, 12*aSecond)
	// Somewhat worse than it may be: found in time, at the latest by the step's figures.
	f(side{1, 10 * ms}, side{9, 10 * ms}, 100, back, 0, RampErrors, 60*aSecond)
	f(side{0, 10 * ms}, side{0, 20 * ms}, 100, back, 0, RampLatency, 60*aSecond)
}

// A canary that breaks late is found soon, although the step was good so far.
func TestRampBreaksLate(t *testing.T) {
	set := canary
	set.StepTime = 7200 * aSecond
	r := NewRamp(set, 0)
	rnd := rand.New(rand.NewPCG(1, 1))
	good := side{0.5, 10 * aMillisecond}
	events, now := drive(r, rnd, 0, 3600, 100, good, good)
	if len(events) != 0 {
		t.Fatalf("%v: %+v", events, r.Report())
	}
	events, _ = drive(r, rnd, now, 15, 100, good, side{30, 10 * aMillisecond})
	if rep := r.Report(); !slices.Equal(events, []RampEvent{RampReverted}) || rep.Canary.ErrorRate < 10 {
		t.Errorf("%v: %+v", events, rep)
	}
}

// With all traffic on the canary it is held against what stable did before.
func TestRampBreaksAtFullLoad(t *testing.T) {
	r := NewRamp(canary, 0)
	rnd := rand.New(rand.NewPCG(1, 1))
	good := side{0, 10 * aMillisecond}
	events, now := drive(r, rnd, 0, 125, 100, good, good)
	if !slices.Equal(events, []RampEvent{RampMoved, RampMoved}) || r.Share() != 100 {
		t.Fatalf("%v: %+v", events, r.Report())
	}
	events, _ = drive(r, rnd, now, 3, 100, good, side{0, 50 * aMillisecond})
	if rep := r.Report(); !slices.Equal(events, []RampEvent{RampReverted}) || rep.Reason != RampLatency || rep.Step != 2 {
		t.Errorf("%v: %+v", events, rep)
	}
}

func TestRampWaits(t *testing.T) {
	r := NewRamp(canary, 0)
	rnd := rand.New(rand.NewPCG(1, 1))
	good := side{0, 10 * aMillisecond}
	events, now := drive(r, rnd, 0, 60, 2, good, good)
	rep := r.Report()
	if len(events) != 0 || !rep.Waiting || rep.Canary.Requests >= 20 || rep.State != RampRunning {
		t.Fatalf("%v: %+v", events, rep)
	}
	if rep.State.String() != "running" || rep.Reason.String() != "" {
		t.Errorf("%v, %v", rep.State, rep.Reason)
	}
	events, _ = drive(r, rnd, now, 10, 100, good, good)
	if rep := r.Report(); !slices.Equal(events, []RampEvent{RampMoved}) || rep.Waiting || rep.Step != 1 {
		t.Errorf("%v: %+v", events, rep)
	}
}

// Rolled back means rolled back, until an operator starts again.
func TestRampReset(t *testing.T) {
	r := NewRamp(canary, 0)
	rnd := rand.New(rand.NewPCG(1, 1))
	good, bad := side{0, 10 * aMillisecond}, side{90, 10 * aMillisecond}
	_, now := drive(r, rnd, 0, 20, 100, good, bad)
	was := r.Report()
	events, now := drive(r, rnd, now, 200, 100, good, good)
	if r.Share() != 0 || len(events) != 0 || r.Report() != was || was.State.String() != "rolled_back" || was.Reason.String() != "error_rate" {
		t.Fatalf("%v: %+v", events, r.Report())
	}
	r.Reset(now)
	if got := (RampReport{Share: 5, Since: now}); r.Report() != got {
		t.Errorf("after Reset: %+v", r.Report())
	}
	events, _ = drive(r, rnd, now, 200, 100, good, good)
	if len(events) != 3 {
		t.Errorf("after Reset: %v, %+v", events, r.Report())
	}
}

func TestRampChecksAtCheckTime(t *testing.T) {
	r := NewRamp(canary, 0)
	for range 100 {
		r.Record(1, true, true, 1)
		r.Record(1, false, false, 1)
	}
	if got := r.Advance(aSecond - 1); got != RampStayed {
		t.Errorf("before CheckTime: %v", got)
	}
	if got := r.Advance(aSecond); got != RampReverted {
		t.Errorf("at CheckTime: %v", got)
	}
}

func TestNewRampRefuses(t *testing.T) {
	f := func(steps []float64) {
		t.Helper()
		defer func() {
			if p, _ := recover().(string); !strings.HasPrefix(p, "BUG: ") {
				t.Errorf("%v: accepted", steps)
			}
		}()
		NewRamp(RampSettings{Steps: steps}, 0)
	}
	f(nil)
	f([]float64{50, 5})
}

// Percentiles are off by no more than the width of a bucket.
func TestRampQuantile(t *testing.T) {
	rnd := rand.New(rand.NewPCG(2, 2))
	for range 200 {
		var s rampSum
		scale := math.Exp2(14 + 20*rnd.Float64())
		latencies := make([]float64, 50+rnd.IntN(500))
		for i := range latencies {
			latencies[i] = scale * (0.5 + rnd.ExpFloat64())
			s.passed[rampBucket(int64(latencies[i]))]++
		}
		slices.Sort(latencies)
		for _, q := range []float64{0.5, 0.9, 0.99, 1} {
			want := latencies[int(math.Ceil(q*float64(len(latencies))))-1]
			if got := s.quantile(q); math.Abs(got/want-1) > 0.125 {
				t.Errorf("%v of %d: %.0f, want %.0f", q, len(latencies), got, want)
			}
		}
	}
	for b := range rampBuckets {
		if got := rampBucket(int64(rampEdge(b))); got != b {
			t.Errorf("bucket %d begins in %d", b, got)
		}
	}
	for _, latency := range []int64{math.MinInt64, -1, 0, 1, 8191, 8192} {
		if got := rampBucket(latency); got != 0 {
			t.Errorf("%d ns in bucket %d", latency, got)
		}
	}
	if got := rampBucket(math.MaxInt64); got != rampBuckets-1 {
		t.Errorf("the longest latency in bucket %d", got)
	}
}

// Nothing that is recorded while looks are taken is lost.
func TestRampConcurrent(t *testing.T) {
	set := canary
	set.MinRequests = 1 << 30
	r := NewRamp(set, 0)
	var wg sync.WaitGroup
	for g := range uint64(8) {
		wg.Go(func() {
			for i := range 2000 {
				r.Record(g, i%4 == 0, i%8 == 0, int64(i)*aMillisecond)
				if i%500 == 0 {
					r.Advance(int64(i) * aSecond)
					r.Report()
				}
			}
		})
	}
	wg.Wait()
	r.Advance(10000 * aSecond)
	if rep := r.Report(); rep.Canary.Requests != 4000 || rep.Canary.Failures != 2000 || rep.Stable.Requests != 12000 || rep.Stable.Failures != 0 {
		t.Errorf("%+v", rep)
	}
}
