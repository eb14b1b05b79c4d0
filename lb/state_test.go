package lb

import (
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"
)

// passive are the settings of an upstream that only its traffic judges; probed
// those of one with active probes of healthy and unhealthy targets.
var (
	passive = Settings{
		Passive: HealthLimits{HTTPFailures: 3, TCPFailures: 2, Timeouts: 2},
		Down:    Recovery{Open: 4 * aSecond, OpenMax: 8 * aSecond, Successes: 2},
	}
	probed = Settings{
		Active:  HealthLimits{Successes: 2, HTTPFailures: 2, TCPFailures: 2, Timeouts: 2},
		Passive: HealthLimits{Successes: 1, TCPFailures: 2},
		Circuit: CircuitSettings{Consecutive: 3, Recovery: Recovery{Open: 4 * aSecond, OpenMax: 8 * aSecond}},
	}
)

// Each letter is what happens in its second: o h t x is a request that ends so at
// once, f one with a status of the circuit's list only, - one with a status of no
// list; O H T X are probes; U and D an operator's force; a space is nothing. The
// answer is the side after it, 1 for in, 0 for out, t for one that may have a trial;
// where a request was refused it is r, after a trial it is T if it left the target
// half-open, I if in, R if out again.
func TestState(t *testing.T) {
	f := func(set *Settings, events, want string) {
		t.Helper()
		s := NewState()
		s.Configure(set, 0)
		var got strings.Builder
		for i, c := range events {
			got.WriteByte(play(s, c, int64(i+1)*aSecond))
		}
		if got.String() != want {
			t.Errorf("%q gave\n%q, want\n%q", events, got.String(), want)
		}
	}
	f(&passive, "oohhohh", "111110r")
	// Passive checks only: out for 4 s, then trials, two in a row bring it back.
	f(&passive, "tt"+"   "+"oo"+"oto", "10"+"000"+"TI"+"111")
	f(&passive, "tt"+"ooo"+"h"+"ooooooo"+"oo"+"tt", "10"+"rrr"+"R"+"rrrrrrr"+"TI"+"10")
	// A status of no list is an answer, so a trial that passed.
	f(&passive, "tt"+"   "+"--", "10"+"000"+"TI")
	// Never by time when an operator put it out; in at once when one put it in.
	f(&passive, "D"+"ooooooooo"+"U"+"to", "0"+"rrrrrrrrr"+"1"+"11")
	f(&passive, "tU"+"tt", "11"+"10")

	// Active probes: traffic puts it out, only probes bring it back.
	f(&probed, "tt"+"ooooooooo"+"OTOO"+"o", "10"+"rrrrrrrrr"+"0001"+"1")
	f(&probed, "HOHH"+"ooooo"+"OO", "1110"+"rrrrr"+"01")
	f(&probed, "D"+"oooooo"+"OO", "0"+"rrrrrr"+"01")
	// Its circuit opens by itself: trials after 4 s, or probes after 4 s.
	f(&probed, "fff"+"OOO"+"o"+"o", "110"+"000"+"I"+"1")
	f(&probed, "fff"+"OOO"+"OO"+"o", "110"+"000"+"t1"+"1")
	f(&probed, "fff"+"OOO"+"O-"+"o", "110"+"000"+"tI"+"1")
	// A probe that fails then opens it again, for twice as long.
	f(&probed, "fff"+"OOO"+"HOOOOOOO"+"OO"+"o", "110"+"000"+"00000000"+"t1"+"1")
	// Health that goes down while it is open keeps it out until probes say otherwise.
	f(&probed, "fff"+"TT"+"       "+"oOO", "110"+"00"+"0000000"+"r01")
	f(&probed, "fff"+"   "+"t"+"    "+"    "+"oo", "110"+"000"+"R"+"0000"+"000t"+"I1")
}

// play has one event happen and says what the target is after it; see TestState.
func play(s *State, c rune, now int64) byte {
	r := &Request{Now: now}
	probes := map[rune]Event{'O': Success, 'H': HTTPFailure, 'T': TCPFailure, 'X': Timeout}
	side := func(in, trial, out byte) byte {
		switch {
		case s.circuit.gate.Load() == 0:
			return in
		case s.Peek(now):
			return trial
		}
		return out
	}
	switch {
	case c == ' ':
	case c == 'U' || c == 'D':
		s.Force(c == 'U', now)
	case probes[c] != 0:
		s.Probe(probes[c], now)
	default:
		if !s.Usable(r) {
			return 'r'
		}
		e := eventLetters[c]
		if c == 'f' {
			e = Ignored | Fault
		}
		s.Report(e, r, now)
		if r.Trial {
			return side('I', 'T', 'R')
		}
	}
	return side('1', 't', '0')
}

// Every report of a change is returned once.
func TestStateChanges(t *testing.T) {
	s := NewState()
	f := func(got, want Change, healthy bool, circuit CircuitState, now int64) {
		t.Helper()
		if got != want || s.Healthy() != healthy || s.Circuit(now) != circuit {
			t.Errorf("at %d: change %v, healthy %v, %v; want %v, %v, %v", now, got, s.Healthy(), s.Circuit(now), want, healthy, circuit)
		}
	}
	report := func(e Event, began, now int64) Change { return s.Report(e, &Request{Now: began}, now) }
	trial := func(e Event, now int64) Change {
		r := &Request{Now: now}
		if !s.Usable(r) || !r.Trial {
			t.Errorf("at %d: no trial", now)
		}
		return s.Report(e, r, now)
	}
	f(report(TCPFailure, 1, 1), Unchanged, true, Closed, 1) // not configured
	f(s.Configure(&passive, 1), Unchanged, true, Closed, 1)
	f(report(TCPFailure, 1, 2), Unchanged, true, Closed, 2)
	f(report(TCPFailure, 1, 3), Down, false, Open, 3)
	f(report(TCPFailure, 1, 4), Unchanged, false, Open, 4)
	f(report(Success, 1, 5), Unchanged, false, Open, 5)
	if got := s.RetryAfter(3 + aSecond); got != 3*aSecond {
		t.Errorf("RetryAfter: %d", got)
	}
	at := 3 + 4*aSecond
	f(Unchanged, Unchanged, false, HalfOpen, at)
	f(report(Success, 1, at), Unchanged, false, HalfOpen, at)
	f(trial(Success, at), Unchanged, false, HalfOpen, at)
	f(trial(Abandoned, at), Unchanged, false, HalfOpen, at)
	f(trial(Success, at), Up, true, Closed, at)
	// What began before it came back counts for nothing.
	f(report(TCPFailure, 1, at), Unchanged, true, Closed, at)
	f(report(TCPFailure, 1, at), Unchanged, true, Closed, at)
	f(s.Force(false, at), Down, false, Open, at)
	f(s.Force(false, at), Unchanged, false, Open, at)
	if got := s.RetryAfter(at); got != math.MaxInt64 {
		t.Errorf("RetryAfter when forced: %d", got)
	}
	f(s.Force(true, at), Up, true, Closed, at)
	f(s.Force(true, at), Unchanged, true, Closed, at)
}

// What is read together is one cache line, what is written lies apart.
func TestStateLayout(t *testing.T) {
	var s State
	if got := unsafe.Offsetof(s.circuit) + unsafe.Offsetof(s.circuit.since) + 8; got > 64 {
		t.Errorf("what every pick and report reads ends at %d", got)
	}
	if at, size := unsafe.Offsetof(s.inFlight), unsafe.Sizeof(s); at != 384 || size != 512 {
		t.Errorf("inFlight at %d of %d", at, size)
	}
}

// The trial of another target does not pass for this one's.
func TestUsableResetsTrial(t *testing.T) {
	s := NewState()
	r := &Request{Trial: true}
	if !s.Usable(r) || r.Trial {
		t.Error("Trial is left over")
	}
}

func TestStateConfigure(t *testing.T) {
	down := func(set *Settings) *State {
		s := NewState()
		s.Configure(set, 0)
		for range 2 {
			s.Report(TCPFailure, &Request{Now: 1}, 1)
		}
		if s.Peek(2) {
			t.Fatal("not out")
		}
		return s
	}
	f := func(s *State, set *Settings, want Change, now int64, peek bool) {
		t.Helper()
		if got := s.Configure(set, 2); got != want || s.Peek(now) != peek {
			t.Errorf("change %v, at %d: %v; want %v, %v", got, now, s.Peek(now), want, peek)
		}
	}
	f(down(&passive), &passive, Unchanged, 2, false)
	f(down(&passive), &passive, Unchanged, 5*aSecond, true)
	f(down(&passive), &probed, Unchanged, 1000*aSecond, false)
	f(down(&probed), &passive, Unchanged, 3*aSecond, false)
	f(down(&probed), &passive, Unchanged, 5*aSecond, true)
	f(down(&probed), &Settings{}, Up, 2, true)
	s := NewState()
	s.Force(false, 1)
	f(s, &passive, Unchanged, 1000*aSecond, false)
	s = NewState()
	s.Configure(&probed, 0)
	for range 3 {
		s.Report(Ignored|Fault, &Request{}, 1)
	}
	f(s, &passive, Up, 2, true)
}

// However traffic, probes, an operator and reloads race, in the end the target is
// in exactly if nothing keeps it out, and as many changes were told of as happened.
func TestStateConcurrent(t *testing.T) {
	mixed := probed
	mixed.Down = Recovery{Open: 20}
	mixed.Circuit.Open = 30
	for _, set := range []*Settings{&passive, &probed, &mixed} {
		s := NewState()
		s.Configure(set, 0)
		var clock, down, up atomic.Int64
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(g), 9))
				for range 5000 {
					var change Change
					now := clock.Add(1)
					e := [...]Event{Ignored, Success, Success, HTTPFailure, TCPFailure, Timeout, Ignored | Fault}[rnd.IntN(7)]
					switch rnd.IntN(20) {
					case 0, 1, 2, 3, 4:
						change = s.Probe(e, now)
					case 5:
						change = s.Force(rnd.IntN(2) == 0, now)
					case 6:
						change = s.Configure(set, now)
					default:
						r := &Request{Now: now, Shard: uint64(g)}
						if s.Usable(r) {
							change = s.Report(e, r, clock.Add(1))
						}
					}
					switch change {
					case Down:
						down.Add(1)
					case Up:
						up.Add(1)
					}
				}
			})
		}
		wg.Wait()
		c := &s.circuit
		out := int64(0)
		if c.gate.Load() != 0 {
			out = 1
		}
		if down.Load() == 0 || down.Load()-up.Load() != out {
			t.Errorf("%d down, %d up, gate %d", down.Load(), up.Load(), c.gate.Load())
		}
		if (c.cause == causeNone) != (out == 0) || s.Healthy() != (c.cause == causeNone || c.cause == causeTripped) {
			t.Errorf("gate %d, cause %d, healthy %v", c.gate.Load(), c.cause, s.Healthy())
		}
	}
}

func TestStateInFlight(t *testing.T) {
	s := NewState()
	s.SetLimit(2)
	f := func(full, usable bool) {
		t.Helper()
		if s.Full() != full || s.Usable(&Request{}) != usable || s.Peek(0) != usable {
			t.Errorf("%d under way: full %v", s.InFlight(), s.Full())
		}
	}
	f(false, true)
	s.Begin()
	f(false, true)
	if !s.TryBegin() || s.TryBegin() {
		t.Error("TryBegin does not keep the limit")
	}
	f(true, false)
	s.End()
	f(false, true)
	s.Begin()
	s.SetLimit(0)
	f(false, true)
	// A full target gives no trial away.
	s.Configure(&passive, 0)
	s.Report(Timeout, &Request{}, 1)
	s.Report(Timeout, &Request{}, 1)
	s.SetLimit(1)
	if r := (&Request{Now: 100 * aSecond}); s.Usable(r) || s.circuit.trials != 0 {
		t.Error("a full target gave a trial")
	}
	if got := s.InFlight(); got != 2 {
		t.Errorf("%d under way, want 2", got)
	}
}

func TestStateInFlightConcurrent(t *testing.T) {
	s := NewState()
	s.SetLimit(3)
	var running atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5000 {
				if s.TryBegin() {
					if n := running.Add(1); n > 3 {
						t.Errorf("%d at a time", n)
					}
					running.Add(-1)
					s.End()
				}
			}
		})
	}
	wg.Wait()
	if got := s.InFlight(); got != 0 {
		t.Errorf("%d left under way", got)
	}
}

func TestStateLatency(t *testing.T) {
	s := NewState()
	f := func(now, want int64) {
		t.Helper()
		if got := s.Latency(now); math.Abs(float64(got-want)) > float64(want)/500+1 {
			t.Errorf("at %d: %d, want %d", now, got, want)
		}
	}
	start := 1000 * aSecond
	f(start, 0)
	s.Observe(start, 100*aMillisecond)
	f(start, 100*aMillisecond)
	// A peak at once, lower ones by and by: half-way to the sample's 1/e after 10 s.
	s.Observe(start+aSecond, 500*aMillisecond)
	f(start+aSecond, 500*aMillisecond)
	s.Observe(start+11*aSecond, 100*aMillisecond)
	f(start+11*aSecond, 247*aMillisecond) // 500/e + 100*(1-1/e)
	// Without samples it fades, but never to unknown.
	f(start+21*aSecond, 90869*aMillisecond/1000)
	f(start+10000*aSecond, 1)
	// A clock that is read late does no harm.
	f(start, 247*aMillisecond)
	s.Observe(start, 300*aMillisecond)
	f(start+11*aSecond, 300*aMillisecond)
	s.Observe(start, 1)
	f(start+11*aSecond, 300*aMillisecond)
	s.Observe(start+12*aSecond, -5)
	f(start+12*aSecond, 271451*aMillisecond/1000)
}

// At any rate of samples the estimate is that of the textbook.
func TestStateLatencyRate(t *testing.T) {
	for _, every := range []int64{50_000, aMillisecond, 20 * aMillisecond, aSecond} {
		s := NewState()
		s.Observe(0, 1000*aMillisecond)
		now := int64(0)
		for now < 20*aSecond {
			now += every
			s.Observe(now, 10*aMillisecond)
		}
		x := math.Exp(-2)
		want := 1000*x + 10*(1-x)
		if got := float64(s.Latency(now)) / float64(aMillisecond); math.Abs(got-want) > want/50 {
			t.Errorf("a sample every %d ns: %.1f ms, want %.1f", every, got, want)
		}
	}
}
