package limiter

import (
	"math/big"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

const mondayMillis = 1795429800_000 // a multiple of 60 s and 10 s

func TestSlidingFollowsTheFormula(t *testing.T) {
	s := NewSliding(SlidingConfig{Seconds: []int64{10}, KeysMax: 64})
	var used [1]int64
	f := func(after, cost, limit int64, wantOK bool, wantUsed int64) {
		t.Helper()
		ok, forgot := s.Take(7, mondayMillis+after, cost, []int64{limit}, used[:])
		if ok != wantOK || used[0] != wantUsed || forgot {
			t.Errorf("Take at %d ms = %v, used %d, forgot %v; want %v, used %d", after, ok, used[0], forgot, wantOK, wantUsed)
		}
	}
	f(0, 8, 10, true, 8)
	f(9_999, 3, 10, false, 8)
	f(9_999, 2, 10, true, 10)
	f(10_000, 1, 10, false, 10) // all of the previous window weighs
	f(10_999, 1, 10, false, 10) // 10 × 0.9001, rounded up
	f(11_000, 1, 10, true, 10)  // 10 × 0.9 + 1
	f(15_000, 4, 10, true, 10)  // 1 + 10 × 0.5 + 4
	f(15_000, 0, 10, true, 10)
	f(14_000, 1, 10, false, 10) // a clock slightly behind counts as the one before
	f(30_000, 10, 10, true, 10) // two windows later nothing is left
	f(1_000, 10, 10, true, 10)  // a clock set back further locks nobody out
}

func TestSlidingFixedWindows(t *testing.T) {
	s := NewSliding(SlidingConfig{Seconds: []int64{30, 7}, Fixed: true, Penalty: true, KeysMax: 64})
	var used [2]int64
	f := func(after int64, wantOK bool, long, short int64) {
		t.Helper()
		if ok, _ := s.Take(7, mondayMillis+after, 1, []int64{3, 2}, used[:]); ok != wantOK || used[0] != long || used[1] != short {
			t.Errorf("Take at %d ms = %v, used %v; want %v, used [%d %d]", after, ok, used, wantOK, long, short)
		}
	}
	// mondayMillis/1000 % 7 is 3: the short window ends 4 seconds later.
	f(0, true, 1, 1)
	f(0, true, 2, 2)
	f(3999, false, 2, 2)
	f(4000, true, 3, 1)
	f(4000, false, 3, 1) // the long window is full; fixed windows know no penalty
	f(30_000, true, 1, 1)
}

func TestSlidingPenalty(t *testing.T) {
	f := func(penalty bool, want int64) {
		t.Helper()
		s := NewSliding(SlidingConfig{Seconds: []int64{1, 60}, Penalty: penalty, KeysMax: 64})
		var used [2]int64
		limits := []int64{2, 1000}
		for range 10 {
			s.Take(7, mondayMillis, 1, limits, used[:])
		}
		if s.Peek(7, mondayMillis, used[:]); used[0] != want || used[1] != want {
			t.Errorf("penalty %v: used %v, want %d in both", penalty, used, want)
		}
	}
	f(true, 10)
	f(false, 2)
}

// slidingNaive is the formula in fractions, with a count for each window since 1970.
type slidingNaive struct {
	counts  map[[3]int64]int64 // key, size, index
	last    map[uint64]int64
	penalty bool
	fixed   bool
}

func (n *slidingNaive) take(key uint64, now, cost int64, sizes, limits []int64) bool {
	if last := n.last[key]; last > now && last-now <= 10_000 {
		now = last
	}
	n.last[key] = now
	ok := true
	for i, seconds := range sizes {
		size := seconds * 1000
		index := now / size
		rate := new(big.Rat).SetInt64(n.counts[[3]int64{int64(key), size, index}] + cost)
		if !n.fixed {
			w := big.NewRat(size-now%size, size)
			rate.Add(rate, w.Mul(w, new(big.Rat).SetInt64(n.counts[[3]int64{int64(key), size, index - 1}])))
		}
		ok = ok && rate.Cmp(new(big.Rat).SetInt64(limits[i])) <= 0
	}
	if ok || n.penalty && !n.fixed {
		for _, seconds := range sizes {
			n.counts[[3]int64{int64(key), seconds * 1000, now / (seconds * 1000)}] += cost
		}
	}
	return ok
}

func TestSlidingAgreesWithFractions(t *testing.T) {
	for seed := range uint64(24) {
		r := rand.New(rand.NewPCG(seed, 1))
		c := SlidingConfig{Fixed: seed%4 == 0, Penalty: seed%2 == 0, KeysMax: 1 << 14}
		var limits []int64
		for range 1 + r.IntN(3) {
			c.Seconds = append(c.Seconds, 1+r.Int64N(100))
			limits = append(limits, 1+r.Int64N(60))
		}
		if seed == 23 { // products beyond 64 bits
			c.Seconds, limits = []int64{SlidingSecondsMax}, []int64{1 << 53}
		}
		s := NewSliding(c)
		n := &slidingNaive{counts: map[[3]int64]int64{}, last: map[uint64]int64{}, penalty: c.Penalty, fixed: c.Fixed}
		used := make([]int64, len(limits))
		now := int64(mondayMillis)
		for step := range 8_000 {
			now += max(r.Int64N(400)-50, -9_000)
			if r.IntN(300) == 0 {
				now += r.Int64N(100_000) * max(1, c.Seconds[0]/1000)
			}
			key, cost := 1+r.Uint64N(20), r.Int64N(4)
			if seed == 23 {
				cost = r.Int64N(1 << 45)
			}
			at := now - r.Int64N(10)*r.Int64N(2)
			ok, forgot := s.Take(key, at, cost, limits, used)
			if want := n.take(key, at, cost, c.Seconds, limits); ok != want || forgot {
				t.Fatalf("seed %d step %d, %+v, limits %v: %v, want %v (used %v)", seed, step, c, limits, ok, want, used)
			}
		}
	}
}

// TestSlidingErrorAgainstALog states how far the approximation is from a log of all
// timestamps, after every decision, with callers that burst and pause.
func TestSlidingErrorAgainstALog(t *testing.T) {
	const seconds, size, limit = 10, 10_000, 50
	worst := 0.0
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 2))
		s := NewSliding(SlidingConfig{Seconds: []int64{seconds}, KeysMax: 64})
		var log []int64
		counts := map[int64]int64{}
		var used [1]int64
		now := int64(mondayMillis)
		within := func(from, to int64) (n int64) { // from < t <= to
			for i := len(log) - 1; i >= 0 && log[i] > from; i-- {
				if log[i] <= to {
					n++
				}
			}
			return n
		}
		for range 5000 {
			now += r.Int64N(1 + []int64{20, 200, 2000}[r.IntN(3)])
			if ok, _ := s.Take(7, now, 1, []int64{limit}, used[:]); ok {
				log = append(log, now)
				counts[now/size]++
			}
			truth, prev := within(now-size, now), counts[now/size-1]
			w := float64(size-now%size) / size
			high, low := float64(prev)*w, float64(prev)*(1-w)
			if d := float64(used[0] - truth); d > high+1 || -d > low+1 { // 1: rounded up, and an event on the edge
				t.Fatalf("seed %d: the formula says %d, the log %d; previous window %d, weight %.3f", seed, used[0], truth, prev, w)
			}
			if truth >= 2*limit {
				t.Fatalf("seed %d: %d events in one size, limit %d", seed, truth, limit)
			}
			worst = max(worst, float64(truth)/limit)
		}
	}
	t.Logf("most events in any %d seconds: %.2f of the limit (bound: below 2)", seconds, worst)
}

func TestSlidingWaitIsExact(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		c := SlidingConfig{Seconds: []int64{1 + r.Int64N(20), 1 + r.Int64N(100)}, Fixed: r.IntN(3) == 0, KeysMax: 64}
		s := NewSliding(c)
		limits := []int64{1 + r.Int64N(30), 1 + r.Int64N(60)}
		now := int64(mondayMillis) + r.Int64N(100_000)
		var used [2]int64
		for range r.IntN(200) {
			s.Add(7, now, r.Int64N(3), used[:])
			now += r.Int64N(500)
		}
		cost := 1 + r.Int64N(3)
		wait := s.Wait(7, now, cost, limits)
		if wait < 0 {
			if cost <= min(limits[0], limits[1]) {
				t.Fatalf("%+v: never", c)
			}
			continue
		}
		fits := func(at int64) bool {
			s.Peek(7, at, used[:])
			return used[0]+cost <= limits[0] && used[1]+cost <= limits[1]
		}
		if wait > 0 && fits(now+wait-1) || !fits(now+wait) {
			t.Fatalf("%+v, limits %v: waits %d ms: one less fits %v, that fits %v", c, limits, wait, fits(now+wait-1), fits(now+wait))
		}
	}
	s := NewSliding(SlidingConfig{Seconds: []int64{1}, KeysMax: 1})
	if w := s.Wait(9, mondayMillis, 1, []int64{1}); w != 0 {
		t.Errorf("an unknown key waits %d ms", w)
	}
}

func TestSlidingExactUnderConcurrency(t *testing.T) {
	const goroutines, events, keys, most = 8, 10_000, 3, 1000
	f := func(fixed bool, wantSecond int64) {
		t.Helper()
		s := NewSliding(SlidingConfig{Seconds: []int64{60, 600}, Fixed: fixed, KeysMax: 1 << 16})
		limits := []int64{most, 1 << 40}
		var admitted [2][keys]atomic.Int64
		for window := range int64(2) {
			var wg sync.WaitGroup
			for g := range goroutines {
				wg.Go(func() {
					var used [2]int64
					r := rand.New(rand.NewPCG(uint64(g), 1))
					for range events {
						key := r.Uint64N(keys)
						if ok, _ := s.Take(key+1, mondayMillis+75_000*window, 1, limits, used[:]); ok {
							admitted[window][key].Add(1)
						}
						s.Take(100+r.Uint64N(10_000), mondayMillis+75_000*window, 1, limits, used[:])
					}
				})
			}
			wg.Wait()
		}
		for key := range keys {
			if a, b := admitted[0][key].Load(), admitted[1][key].Load(); a != most || b != wantSecond {
				t.Errorf("fixed %v, key %d: admitted %d and %d, want exactly %d and %d", fixed, key, a, b, most, wantSecond)
			}
		}
		s.checkChains(t)
	}
	f(true, most)
	f(false, most/4) // a quarter into the next window three quarters of the previous weigh
}

func TestSlidingAddAndPeek(t *testing.T) {
	s := NewSliding(SlidingConfig{Seconds: []int64{10, 60}, KeysMax: 64})
	var used [2]int64
	f := func(want ...int64) {
		t.Helper()
		if !slices.Equal(used[:], want) {
			t.Errorf("used %v, want %v", used, want)
		}
	}
	s.Peek(7, mondayMillis, used[:])
	f(0, 0)
	s.Add(7, mondayMillis, 100, used[:])
	f(100, 100)
	s.Add(7, mondayMillis+15_000, 5, used[:])
	f(55, 105)
	s.Add(7, mondayMillis+15_000, -50, used[:])
	f(50, 55)
	s.Peek(7, mondayMillis+15_000, used[:])
	f(50, 55)
	if ok, _ := s.Take(7, mondayMillis+15_000, 1, []int64{1000, 55}, used[:]); ok {
		t.Error("what was added does not count")
	}
}

func TestSlidingFullAndReclaimed(t *testing.T) {
	s := NewSliding(SlidingConfig{Seconds: []int64{60}, KeysMax: 64 * 20})
	var used [1]int64
	forgotten := uint64(0)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range int64(100_000) {
		if _, forgot := s.Take(r.Uint64(), mondayMillis+i, 1, []int64{9}, used[:]); forgot {
			forgotten++
		}
	}
	if s.Len() > 64*20 || s.Forgotten() != forgotten || forgotten < 90_000 {
		t.Errorf("%d keys, forgot %d, told %d", s.Len(), s.Forgotten(), forgotten)
	}
	before := s.Forgotten()
	for i := range int64(10_000) { // one in five counts, the others have passed
		s.Take(r.Uint64(), mondayMillis+1_000_000+500*i, 1, []int64{9}, used[:])
	}
	if n := s.Forgotten() - before; n > 10 { // none within reach had passed
		t.Errorf("forgot %d keys while most have passed", n)
	}
	s.checkChains(t)
}

func TestNewSlidingRefusesNonsense(t *testing.T) {
	f := func(seconds ...int64) {
		t.Helper()
		defer func() {
			if recover() == nil {
				t.Errorf("NewSliding(%v) did not panic", seconds)
			}
		}()
		NewSliding(SlidingConfig{Seconds: seconds, KeysMax: 10})
	}
	f()
	f(1, 0)
	f(-1)
	f(SlidingSecondsMax + 1)
}

// FuzzSliding runs clocks that jump and costs of any size: it never panics, agrees
// with the fractions, and never admits beyond the limit.
func FuzzSliding(f *testing.F) {
	f.Add(uint64(1), int64(10), int64(5), false, []byte{1, 2, 3, 250, 0, 9})
	f.Add(uint64(7), int64(1), int64(1), true, []byte{0, 0, 255, 255, 128})
	f.Fuzz(func(t *testing.T, seed uint64, seconds, limit int64, penalty bool, steps []byte) {
		seconds, limit = 1+(seconds&0x7fffffff)%1000, 1+limit&0xfffff
		s := NewSliding(SlidingConfig{Seconds: []int64{seconds}, Penalty: penalty, KeysMax: 64})
		n := &slidingNaive{counts: map[[3]int64]int64{}, last: map[uint64]int64{}, penalty: penalty}
		r := rand.New(rand.NewPCG(seed, 1))
		now, latest := int64(mondayMillis), int64(0)
		var used [1]int64
		for _, b := range steps {
			latest = max(latest, now)
			now = max(now+(int64(b)-20)*r.Int64N(100), latest-10_000) // back by up to 10 s in all
			cost := r.Int64N(1 + limit)
			ok, _ := s.Take(1, now, cost, []int64{limit}, used[:])
			if want := n.take(1, now, cost, []int64{seconds}, []int64{limit}); ok != want {
				t.Fatalf("%v, want %v", ok, want)
			}
			if ok && used[0] > limit {
				t.Fatalf("admitted with %d used of %d", used[0], limit)
			}
			if penalty {
				continue // a hostile cost would end the comparison
			}
			if ok, _ := s.Take(1, now, 1<<62+r.Int64N(1<<62), []int64{limit}, used[:]); ok {
				t.Fatal("admitted a cost beyond every limit")
			}
		}
	})
}
