package lb

import (
	"sync/atomic"
	"testing"
)

var (
	sinkBool   bool
	sinkInt    int64
	sinkChange Change
)

// windowed are settings with everything on that counts.
var windowed = Settings{
	Passive: HealthLimits{Successes: 1, HTTPFailures: 5, TCPFailures: 5, Timeouts: 5},
	Circuit: CircuitSettings{Consecutive: 5, ErrorRate: 50, Window: 10 * aSecond, MinRequests: 100, Recovery: Recovery{Open: 30 * aSecond}},
	Down:    Recovery{Open: 30 * aSecond},
}

func newState(set *Settings) *State {
	s := NewState()
	s.Configure(set, 0)
	return s
}

// An attempt as upstream makes it: asked, counted, reported.
func BenchmarkStateAttempt(b *testing.B) {
	f := func(name string, set *Settings) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			s, r := newState(set), &Request{Now: aSecond}
			for b.Loop() {
				if s.Usable(r) {
					s.Begin()
					sinkChange = s.Report(Success, r, r.Now)
					s.End()
				}
			}
		})
	}
	f("limits", &passive)
	f("error-rate", &windowed)
}

func BenchmarkStateUsable(b *testing.B) {
	f := func(name string, s *State) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			r := &Request{Now: aSecond}
			for b.Loop() {
				sinkBool = s.Usable(r)
			}
		})
	}
	f("in", newState(&passive))
	limited := newState(&passive)
	limited.SetLimit(10)
	f("in-limited", limited)
	out := newState(&probed)
	out.Force(false, 1)
	f("out", out)
	trial := newState(&passive)
	trial.Report(Timeout, &Request{}, 1)
	trial.Report(Timeout, &Request{}, 1)
	trial.Usable(&Request{Now: 100 * aSecond})
	f("trials-taken", trial)
}

func BenchmarkStateReport(b *testing.B) {
	f := func(name string, set *Settings, events ...Event) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			s, r := newState(set), &Request{Now: aSecond}
			for b.Loop() {
				for _, e := range events {
					sinkChange = s.Report(e, r, r.Now)
				}
			}
		})
	}
	f("success", &passive, Success)
	f("ignored", &passive, Ignored)
	f("success-error-rate", &windowed, Success)
	f("failure-success", &probed, HTTPFailure, Success)
	f("failure-success-error-rate", &windowed, TCPFailure, Success, Success)
}

func BenchmarkStateReportParallel(b *testing.B) {
	f := func(name string, set *Settings) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			s := newState(set)
			var shard atomic.Uint64
			b.RunParallel(func(pb *testing.PB) {
				r := &Request{Now: aSecond, Shard: shard.Add(1)}
				for pb.Next() {
					s.Report(Success, r, r.Now)
				}
			})
		})
	}
	f("success", &passive)
	f("success-error-rate", &windowed)
}

func BenchmarkStateLatency(b *testing.B) {
	b.Run("observe-lower", func(b *testing.B) {
		b.ReportAllocs()
		s := newState(&passive)
		s.Observe(aSecond, aSecond)
		for b.Loop() {
			s.Observe(aSecond, aMillisecond)
		}
	})
	b.Run("observe-next-tick", func(b *testing.B) {
		b.ReportAllocs()
		s, now := newState(&passive), aSecond
		for b.Loop() {
			now += 2 * aMillisecond
			s.Observe(now, aMillisecond)
		}
	})
	b.Run("latency-fresh", func(b *testing.B) {
		b.ReportAllocs()
		s := newState(&passive)
		s.Observe(aSecond, aSecond)
		for b.Loop() {
			sinkInt = s.Latency(aSecond + 20*aMillisecond)
		}
	})
	b.Run("latency-old", func(b *testing.B) {
		b.ReportAllocs()
		s := newState(&passive)
		s.Observe(aSecond, aSecond)
		for b.Loop() {
			sinkInt = s.Latency(8 * aSecond)
		}
	})
}

func BenchmarkCircuit(b *testing.B) {
	f := func(name string, set *CircuitSettings) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			c := newCircuit(*set)
			for b.Loop() {
				ok, trial := c.Allow(aSecond)
				sinkChange = c.Record(Attempt{Began: aSecond, Trial: trial}, ok, aSecond)
			}
		})
	}
	f("consecutive", &probed.Circuit)
	f("error-rate", &windowed.Circuit)
}

func BenchmarkBudget(b *testing.B) {
	b.Run("deposit", func(b *testing.B) {
		b.ReportAllocs()
		budget := NewBudget(20, 3)
		for b.Loop() {
			budget.Deposit(1, aSecond)
		}
	})
	b.Run("withdraw", func(b *testing.B) {
		b.ReportAllocs()
		budget := NewBudget(20, 3)
		for b.Loop() {
			sinkBool = budget.Withdraw(aSecond)
		}
	})
}

func BenchmarkRamp(b *testing.B) {
	b.Run("share-record", func(b *testing.B) {
		b.ReportAllocs()
		r := NewRamp(canary, 0)
		for b.Loop() {
			r.Record(1, r.Share() > 50, false, 10*aMillisecond)
		}
	})
	b.Run("advance", func(b *testing.B) {
		b.ReportAllocs()
		r := NewRamp(canary, 0)
		for i := range 1000 {
			r.Record(uint64(i), i%2 == 0, false, int64(i)*aMillisecond)
		}
		now := int64(0)
		for b.Loop() {
			now++
			r.looked = -aSecond
			r.Advance(now)
		}
	})
}
