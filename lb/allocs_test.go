//go:build !race

package lb

import "testing"

// Nothing that a request calls allocates.
func TestStateAllocs(t *testing.T) {
	f := func(name string, fn func()) {
		t.Helper()
		if n := testing.AllocsPerRun(1000, fn); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	now := aSecond
	for _, set := range []*Settings{&passive, &probed, &windowed} {
		s := newState(set)
		for _, e := range []Event{Ignored, Abandoned, Success, HTTPFailure, TCPFailure, Timeout, Ignored | Fault} {
			f("attempt", func() {
				now += aSecond
				r := Request{Now: now}
				if s.Usable(&r) && s.TryBegin() {
					s.Report(e, &r, now+1)
					s.Observe(now, 1000)
					s.End()
				}
				s.Probe(e, now)
				sinkInt = s.Latency(now) + s.RetryAfter(now)
				sinkBool = s.Peek(now)
			})
		}
	}
}

func TestCircuitAllocs(t *testing.T) {
	now := aSecond
	c := newCircuit(windowed.Circuit)
	if n := testing.AllocsPerRun(1000, func() {
		now += aSecond
		ok, trial := c.Allow(now)
		c.Record(Attempt{Began: now, Trial: trial}, ok && now%3 == 0, now)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestBudgetAllocs(t *testing.T) {
	b := NewBudget(20, 1)
	if n := testing.AllocsPerRun(1000, func() {
		b.Deposit(1, aSecond)
		sinkBool = b.Withdraw(aSecond)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestRampAllocs(t *testing.T) {
	r, now := NewRamp(canary, 0), int64(0)
	if n := testing.AllocsPerRun(1000, func() {
		now += aSecond
		r.Record(uint64(now), r.Share() > 10, false, now)
		r.Advance(now)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
