package lb

import (
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Times as tests write them, in nanoseconds.
const (
	aMillisecond = int64(1e6)
	aSecond      = int64(1e9)
)

func newCircuit(set CircuitSettings) *Circuit {
	c := &Circuit{}
	c.Configure(&set, 0)
	return c
}

// Each letter is a request at its second: o and x end well or badly at once where
// the circuit lets them through; the answer is what became of it: the letter, in
// upper case for a trial, or a dash when it was refused.
func TestCircuit(t *testing.T) {
	f := func(set CircuitSettings, requests, want string) {
		t.Helper()
		c := newCircuit(set)
		var got strings.Builder
		for i, r := range requests {
			now := int64(i+1) * aSecond
			ok, trial := c.Allow(now)
			if r == ' ' || !ok {
				got.WriteByte(map[bool]byte{true: ' ', false: '-'}[r == ' '])
				if ok {
					c.Abandon(Attempt{Began: now, Trial: trial}, now)
				}
				continue
			}
			c.Record(Attempt{Began: now, Trial: trial}, r == 'o', now)
			if trial {
				r += 'A' - 'a'
			}
			got.WriteRune(r)
		}
		if got.String() != want {
			t.Errorf("%+v: %q gave %q, want %q", set, requests, got.String(), want)
		}
	}
	set := CircuitSettings{Consecutive: 3, Recovery: Recovery{Open: 4 * aSecond, OpenMax: 10 * aSecond}}
	f(set, "oooo", "oooo")
	f(set, "xxoxxoxx", "xxoxxoxx")
	f(set, "xxxooooo", "xxx---Oo")
	// A failed trial doubles the open time, up to the most, and a close halves it back.
	f(set, "xxx"+"xxxx"+"xxxxxxxx"+"xxxxxxxxxx"+"xxxxxxxxxx",
		"xxx"+"---X"+"-------X"+"---------X"+"---------X")
	f(set, "xxx"+"xxxx"+"oooooooo"+"xxx"+"oooo", "xxx"+"---X"+"-------O"+"xxx"+"---O")
	// After it closed, failures are counted from the start.
	f(set, "xxx"+"oooo"+"xxoxx", "xxx"+"---O"+"xxoxx")
	set.Successes = 3
	f(set, "xxx"+"ooooooo", "xxx"+"---OOOo")
	f(set, "xxx"+"oooooxoooooooooo", "xxx"+"---OOX-------OOO")
	// Without anything to open it, it never does.
	f(CircuitSettings{}, strings.Repeat("x", 100), strings.Repeat("x", 100))

	rate := CircuitSettings{ErrorRate: 50, Window: 8 * aSecond, MinRequests: 6, Recovery: Recovery{Open: 4 * aSecond}}
	f(rate, "xxxxx"+"x"+"o", "xxxxx"+"x"+"-")
	f(rate, "oxoxox"+"o", "oxoxox"+"-")
	f(rate, "ooxooxooxoox", "ooxooxooxoox")
	// Failures of more than a window ago are forgotten; so is what was before a close.
	f(rate, "xxxxx"+strings.Repeat(" ", 8)+"xxxxx", "xxxxx"+strings.Repeat(" ", 8)+"xxxxx")
	f(rate, "xxxxxx"+"oooo"+"xxxxx", "xxxxxx"+"---O"+"xxxxx")
}

// The share of failures is exact within the window, and the window as long as said.
func TestCircuitErrorRateWindow(t *testing.T) {
	const window = 16 * aSecond
	for age := range 20 * int64(10) {
		c := newCircuit(CircuitSettings{ErrorRate: 50, Window: window, MinRequests: 20, Recovery: Recovery{Open: aSecond}})
		began := 1000*aSecond + age*37*aMillisecond
		for i := range 19 {
			c.Record(Attempt{Began: began, Shard: uint64(i)}, false, began)
		}
		now := began + age*100*aMillisecond
		opened := c.Record(Attempt{Began: now}, false, now) == Down
		switch {
		case now-began < window*15/16 && !opened:
			t.Errorf("failures of %d ms ago were forgotten", (now-began)/aMillisecond)
		case now-began >= window && opened:
			t.Errorf("failures of %d ms ago still counted", (now-began)/aMillisecond)
		}
	}
}

// Reports that come late close nothing, open nothing and free no slot.
func TestCircuitLateReports(t *testing.T) {
	set := CircuitSettings{Consecutive: 2, Recovery: Recovery{Open: 10, OpenMax: 10, Trials: 2, Successes: 2, Lease: 100}}
	c := newCircuit(set)
	record := func(began int64, trial, ok bool, now int64, want CircuitState) {
		t.Helper()
		c.Record(Attempt{Began: began, Trial: trial}, ok, now)
		if got := c.State(now); got != want {
			t.Errorf("at %d: %v, want %v", now, got, want)
		}
	}
	allow := func(now int64, want string) {
		t.Helper()
		ok, trial := c.Allow(now)
		if got := map[[2]bool]string{{true, false}: "yes", {true, true}: "trial", {false, false}: "no"}[[2]bool{ok, trial}]; got != want {
			t.Errorf("at %d: %s, want %s", now, got, want)
		}
	}
	record(1, false, false, 2, Closed)
	record(1, false, false, 3, Open)
	record(1, false, true, 4, Open) // began while closed
	allow(12, "no")
	allow(13, "trial")
	record(1, false, true, 14, HalfOpen)
	record(1, false, false, 14, HalfOpen)
	allow(14, "trial")
	allow(15, "no")
	record(13, true, false, 20, Open) // until 30
	record(14, true, true, 21, Open)  // the other of that time
	record(14, true, false, 21, Open)
	allow(30, "trial")
	record(14, true, true, 31, HalfOpen)
	allow(31, "trial")
	allow(32, "no")
	record(14, true, true, 33, HalfOpen) // frees no slot
	allow(33, "no")
	record(30, true, true, 40, HalfOpen)
	record(31, true, true, 41, Closed)
	record(31, true, true, 41, Closed)
	record(2, false, false, 42, Closed) // failures of before it closed
	record(2, false, false, 43, Closed)
	record(31, true, false, 43, Closed)
	record(42, false, false, 44, Closed)
	record(43, false, false, 45, Open)
}

// Slots of trials that nobody reports come back when their lease has ended, and the
// reports that come all the same are ignored.
func TestCircuitLease(t *testing.T) {
	c := newCircuit(CircuitSettings{Consecutive: 1, Recovery: Recovery{Open: 10, Trials: 2, Lease: 50}})
	c.Record(Attempt{Began: 1}, false, 1)
	for _, now := range []int64{11, 15} {
		if _, trial := c.Allow(now); !trial {
			t.Fatalf("no trial at %d", now)
		}
	}
	if got := c.RetryAfter(20); got != 45 {
		t.Errorf("RetryAfter with all trials under way: %d, want 45", got)
	}
	if ok, _ := c.Allow(64); ok {
		t.Fatal("a slot came back before its lease ended")
	}
	for range 2 {
		if _, trial := c.Allow(65); !trial {
			t.Fatal("a slot did not come back")
		}
	}
	c.Record(Attempt{Began: 11, Trial: true}, true, 66)
	c.Abandon(Attempt{Began: 15, Trial: true}, 66)
	if ok, _ := c.Allow(66); ok || c.State(66) != HalfOpen {
		t.Fatal("a report of a lost trial counted")
	}
	c.Abandon(Attempt{Began: 65, Trial: true}, 67)
	if _, trial := c.Allow(67); !trial {
		t.Fatal("an abandoned trial kept its slot")
	}
	c.Record(Attempt{Began: 67, Trial: true}, true, 68)
	if got := c.State(68); got != Closed {
		t.Errorf("%v, want closed", got)
	}
}

func TestCircuitOpenClose(t *testing.T) {
	c := &Circuit{}
	if got := c.Open(1); got != Unchanged {
		t.Errorf("not configured: %v", got)
	}
	set := CircuitSettings{Consecutive: 5, Recovery: Recovery{Open: 10}}
	c.Configure(&set, 1)
	f := func(got, want Change, now, retryAfter int64, state string) {
		t.Helper()
		if got != want || c.RetryAfter(now) != retryAfter || c.State(now).String() != state {
			t.Errorf("at %d: %v, RetryAfter %d, %v; want %v, %d, %s", now, got, c.RetryAfter(now), c.State(now), want, retryAfter, state)
		}
	}
	f(Unchanged, Unchanged, 1, 0, "closed")
	f(c.Open(10), Down, 10, 10, "open")
	f(c.Open(12), Unchanged, 15, 5, "open")
	f(Unchanged, Unchanged, 20, 0, "half_open")
	f(c.Close(21), Up, 21, 0, "closed")
	f(c.Close(22), Unchanged, 22, 0, "closed")
	c.Open(30)
	f(c.Configure(&CircuitSettings{}, 31), Up, 31, 0, "closed")
}

// Fewer trials at a time than are under way: none is given until enough have ended.
func TestCircuitReloadTrials(t *testing.T) {
	rec := Recovery{Open: 10, Trials: 4, Successes: 9}
	c := newCircuit(CircuitSettings{Consecutive: 1, Recovery: rec})
	c.Record(Attempt{Began: 1}, false, 1)
	for range 3 {
		c.Allow(20)
	}
	rec.Trials = 2
	c.Configure(&CircuitSettings{Consecutive: 1, Recovery: rec}, 21)
	for i, want := range []bool{false, false, true} {
		if ok, _ := c.Allow(22); ok != want {
			t.Errorf("after %d reports: %v, want %v", i, ok, want)
		}
		c.Record(Attempt{Began: 20, Trial: true}, true, 22)
	}
}

// Never are more trials under way than may be.
func TestCircuitTrialsConcurrent(t *testing.T) {
	const trials = 3
	c := newCircuit(CircuitSettings{Consecutive: 1, Recovery: Recovery{Open: 10, Trials: trials, Successes: 1 << 30}})
	c.Record(Attempt{Began: 1}, false, 1)
	var clock, running, given atomic.Int64
	clock.Store(20)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 20000 {
				now := clock.Add(1)
				ok, trial := c.Allow(now)
				if !ok {
					continue
				}
				if n := running.Add(1); n > trials || !trial {
					t.Errorf("%d trials at a time", n)
				}
				given.Add(1)
				if a := (Attempt{Began: now, Trial: true}); (i+g)%3 == 0 {
					running.Add(-1)
					c.Abandon(a, now)
				} else {
					running.Add(-1)
					c.Record(a, true, now)
				}
			}
		})
	}
	wg.Wait()
	if given.Load() < trials {
		t.Errorf("only %d trials", given.Load())
	}
}

// Whatever happens at the same time, changes are told once each, and the circuit
// ends up in one piece.
func TestCircuitConcurrent(t *testing.T) {
	c := newCircuit(CircuitSettings{
		Consecutive: 2, ErrorRate: 60, Window: aSecond, MinRequests: 10,
		Recovery: Recovery{Open: 50, OpenMax: 200, Trials: 3, Successes: 4, Lease: 1000},
	})
	var clock, down, up atomic.Int64
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 1))
			for range 20000 {
				now := clock.Add(1)
				ok, trial := c.Allow(now)
				if !ok || trial && rnd.IntN(50) == 0 {
					continue // refused, or lost
				}
				switch c.Record(Attempt{Began: now, Shard: uint64(g), Trial: trial}, rnd.IntN(3) != 0, clock.Add(1)) {
				case Down:
					down.Add(1)
				case Up:
					up.Add(1)
				}
			}
		})
	}
	wg.Wait()
	want := int64(0)
	if c.gate.Load() != 0 {
		want = 1
	}
	if down.Load() < 10 || down.Load()-up.Load() != want {
		t.Errorf("%d down, %d up, gate %d", down.Load(), up.Load(), c.gate.Load())
	}
	now := clock.Load() + 2000
	if c.Close(now); c.RetryAfter(now) != 0 || c.State(now) != Closed {
		t.Error("cannot be closed")
	}
}

// Many goroutines that all see the open time end get as many trials as there are
// slots and not one more.
func TestCircuitTrialsExact(t *testing.T) {
	for round := range int64(200) {
		c := newCircuit(CircuitSettings{Consecutive: 1, Recovery: Recovery{Open: 10, Trials: 3}})
		c.Record(Attempt{Began: round}, false, round)
		var given atomic.Int64
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 50 {
					if _, trial := c.Allow(round + 10); trial {
						given.Add(1)
					}
				}
			})
		}
		wg.Wait()
		if got := given.Load(); got != 3 {
			t.Fatalf("%d trials, want 3", got)
		}
	}
}

// TestTally compares with a list of all events.
func TestTally(t *testing.T) {
	const window = 1600
	rnd := rand.New(rand.NewPCG(3, 3))
	tl := newTally(window)
	type event struct {
		at     int64
		marked bool
	}
	var events []event
	now := int64(1 << 40)
	for range 1500 {
		now += int64(rnd.IntN(40))
		if rnd.IntN(100) == 0 {
			now += int64(rnd.IntN(3 * window))
		}
		e := event{now, rnd.IntN(3) == 0}
		events = append(events, e)
		tl.add(rnd.Uint64(), now, e.marked)
		// The slot that now is in and the 15 before it.
		var all, marked uint64
		for _, e := range events {
			if e.at/100 > now/100-16 {
				all++
				if e.marked {
					marked++
				}
			}
		}
		if a, m := tl.sum(now); a != all || m != marked {
			t.Fatalf("at %d: %d, %d; want %d, %d", now, a, m, all, marked)
		}
	}
}

// A full slot is halved: the ratio stays.
func TestTallyFull(t *testing.T) {
	tl := newTally(16 * aSecond)
	for i := range tallyMax + 1000 {
		tl.add(0, aSecond/2, i%4 == 0)
	}
	all, marked := tl.sum(aSecond / 2)
	if ratio := float64(marked) / float64(all); all < tallyMax/2 || all > tallyMax || math.Abs(ratio-0.25) > 0.001 {
		t.Errorf("%d of %d marked", marked, all)
	}
}
