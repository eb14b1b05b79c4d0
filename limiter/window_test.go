package limiter

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var monday = time.Date(2026, 11, 23, 10, 30, 0, 0, time.UTC).Unix()

type limit struct {
	period Period
	max    int64
}

// limited is a table together with its limits.
type limited struct {
	*Windows
	limits []int64
}

func newLimited(limits []limit, keysMax int) limited {
	var l limited
	var periods []Period
	for _, x := range limits {
		periods, l.limits = append(periods, x.period), append(l.limits, x.max)
	}
	l.Windows = NewWindows(periods, keysMax)
	return l
}

func (l limited) take(key uint64, now int64, used []int64) (ok, forgot bool) {
	return l.Take(key, now, l.limits, used)
}

func TestTakeAdmitsExactlyTheLimit(t *testing.T) {
	w := newLimited([]limit{{Minute, 3}}, 1000)
	var used [1]int64
	f := func(now int64, wantOK bool, wantUsed int64) {
		t.Helper()
		ok, forgot := w.take(7, now, used[:])
		if ok != wantOK || used[0] != wantUsed || forgot {
			t.Errorf("Take at %d = %v, used %d, forgot %v; want %v, used %d", now-monday, ok, used[0], forgot, wantOK, wantUsed)
		}
	}
	f(monday, true, 1)
	f(monday+1, true, 2)
	f(monday+58, true, 3)
	f(monday+58, false, 3)
	f(monday+59, false, 3) // refused events do not count
	f(monday+60, true, 1)
	f(monday+59, true, 2) // a caller's clock slightly behind counts into the open window
	f(monday+59, true, 3)
	f(monday+59, false, 3)
	f(monday+3600, true, 1)
	f(monday, true, 1) // a clock set back by an hour does not lock anyone out
}

func TestTakeCountsAllOrNothing(t *testing.T) {
	w := limited{NewWindows([]Period{Hour, Minute}, 1000), []int64{2, 3}} // limits come shortest first
	var used [2]int64
	f := func(now int64, wantOK bool, minute, hour int64) {
		t.Helper()
		if ok, _ := w.take(7, now, used[:]); ok != wantOK || used[0] != minute || used[1] != hour {
			t.Errorf("Take at %d = %v, used %v; want %v, used [%d %d]", now-monday, ok, used, wantOK, minute, hour)
		}
	}
	f(monday, true, 1, 1)
	f(monday, true, 2, 2)
	f(monday, false, 2, 2)
	f(monday+60, true, 1, 3)
	f(monday+60, false, 1, 3) // refused by the hour: the minute is not counted either
	f(monday+120, false, 0, 3)
	f(monday+1800, true, 1, 1)
}

func TestKeysAreIndependent(t *testing.T) {
	w := newLimited([]limit{{Hour, 1}}, 1<<20)
	var used [1]int64
	const keys = 100_000
	for key := range uint64(keys) { // 0 and 1 share a counter by design of the empty mark
		if ok, forgot := w.take(key+1, monday, used[:]); !ok || forgot {
			t.Fatalf("key %d: ok %v, forgot %v", key, ok, forgot)
		}
	}
	for key := range uint64(keys) {
		if ok, _ := w.take(key+1, monday+9, used[:]); ok {
			t.Fatalf("key %d admitted twice", key)
		}
	}
	if w.Len() != keys {
		t.Errorf("Len = %d, want %d", w.Len(), keys)
	}
}

// naive is what Windows must agree with: a map, one count a window.
type naive map[[3]int64]int64

func (n naive) take(limits []limit, key uint64, now int64) (bool, []int64) {
	ok := true
	for _, l := range limits {
		ok = ok && n[[3]int64{int64(key), int64(l.period), naiveStart(l.period, now)}] < l.max
	}
	var used []int64
	for _, l := range limits {
		k := [3]int64{int64(key), int64(l.period), naiveStart(l.period, now)}
		if ok {
			n[k]++
		}
		used = append(used, n[k])
	}
	return ok, used
}

func TestAgreesWithNaiveCounter(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		var limits []limit
		for p := Second; p <= Year; p++ {
			if r.IntN(2) == 0 {
				limits = append(limits, limit{p, 1 + r.Int64N(40)})
			}
		}
		if limits == nil {
			limits = []limit{{Minute, 5}}
		}
		w, n := newLimited(limits, 1<<16), naive{}
		used := make([]int64, len(limits))
		now := monday
		keys := uint64(1 + r.IntN(3000))
		for range 50_000 {
			if r.IntN(50) == 0 {
				now += r.Int64N(100)
			}
			if r.IntN(10_000) == 0 {
				now += r.Int64N(40 * 86400)
			}
			key := 1 + r.Uint64N(keys)
			ok, forgot := w.take(key, now, used)
			wantOK, wantUsed := n.take(limits, key, now)
			if ok != wantOK || forgot || !slices.Equal(used, wantUsed) {
				t.Fatalf("seed %d, limits %v, key %d at %d: %v %v, want %v %v", seed, limits, key, now, ok, used, wantOK, wantUsed)
			}
		}
	}
}

func TestExactUnderConcurrency(t *testing.T) {
	const goroutines, events, keys, most = 8, 20_000, 5, 1000
	w := newLimited([]limit{{Minute, most}, {Hour, most + 500}}, 1<<16)
	var admitted [2][keys]atomic.Int64
	for minute := range int64(2) {
		var wg sync.WaitGroup
		for g := range goroutines {
			wg.Go(func() {
				var used [2]int64
				r := rand.New(rand.NewPCG(uint64(g), 1))
				for range events {
					key := r.Uint64N(keys)
					if ok, _ := w.take(key+1, monday+60*minute, used[:]); ok {
						admitted[minute][key].Add(1)
					}
					w.take(100+r.Uint64N(10_000), monday+60*minute, used[:]) // others make the shards grow
				}
			})
		}
		wg.Wait()
	}
	for key := range keys {
		if first, second := admitted[0][key].Load(), admitted[1][key].Load(); first != most || second != 500 {
			t.Errorf("key %d: admitted %d and %d, want exactly %d and 500", key, first, second, most)
		}
	}
}

func TestFullTableForgetsTheLeastUsed(t *testing.T) {
	const keysMax = 64 * 100
	w := newLimited([]limit{{Year, 50}}, keysMax)
	var used [1]int64
	const heavy = 200
	for key := range uint64(heavy) {
		for range 50 {
			w.take(key+1, monday, used[:])
		}
	}
	forgotten := uint64(0)
	for key := range uint64(20 * keysMax) {
		ok, forgot := w.take(1_000_000+key, monday, used[:])
		if !ok || used[0] != 1 {
			t.Fatalf("newcomer %d: ok %v, used %d", key, ok, used[0])
		}
		if forgot {
			forgotten++
		}
		if n := w.used(); n > keysMax {
			t.Fatalf("%d keys, bound %d", n, keysMax)
		}
	}
	if w.Forgotten() != forgotten || forgotten < 19*keysMax-heavy {
		t.Errorf("Forgotten = %d, told %d", w.Forgotten(), forgotten)
	}
	for key := range uint64(heavy) {
		if ok, _ := w.take(key+1, monday, used[:]); ok {
			t.Fatalf("heavy key %d was let off by a flood of newcomers", key)
		}
	}
}

// used is Len without locks, for a test that asks after every step.
func (w *Windows) used() int {
	n := 0
	for i := range w.shards {
		n += w.shards[i].used
	}
	return n
}

func TestPassedWindowsAreReclaimed(t *testing.T) {
	w := newLimited([]limit{{Second, 5}, {Minute, 50}}, 1<<20)
	var used [2]int64
	key := uint64(1)
	for minute := range int64(200) {
		for range 5000 {
			key++
			if _, forgot := w.take(key, monday+60*minute, used[:]); forgot {
				t.Fatal("forgot a key in a table that is almost empty")
			}
		}
	}
	// A million keys passed by, 5000 at a time.
	if n := w.Len(); n > 20_000 {
		t.Errorf("the table holds %d keys, want only those of the last windows", n)
	}
	if b := w.Bytes(); b > 2<<20 {
		t.Errorf("the table has %d bytes", b)
	}
}

// TestFullTableKeepsItsChains floods small shards with forgetting and reuse
// mixed, and checks that every key the table says it holds can be found.
func TestFullTableKeepsItsChains(t *testing.T) {
	w := newLimited([]limit{{Minute, 1 << 40}}, 64*20)
	r := rand.New(rand.NewPCG(3, 4))
	var used [1]int64
	now := monday
	for range 200_000 {
		if r.IntN(1000) == 0 {
			now += 20
		}
		w.take(1+r.Uint64N(5000), now, used[:])
	}
	w.checkChains(t)
}

// checkChains checks that every key a table holds can be found and is unlocked.
func (t *table) checkChains(tt *testing.T) {
	tt.Helper()
	for i := range t.shards {
		s := &t.shards[i]
		a, n := s.slots.Load(), 0
		for at := 0; at+t.stride <= len(a.words); at += t.stride {
			key := a.words[at]
			if a.words[at+1]&1 != 0 {
				tt.Fatalf("shard %d: the slot at %d is locked", i, at)
			}
			if key == 0 {
				continue
			}
			n++
			if got, _ := t.find(a, key, always); got != at {
				tt.Fatalf("shard %d: key %d lies at %d but is found at %d", i, key, at, got)
			}
		}
		if n != s.used {
			tt.Fatalf("shard %d: %d keys, used %d", i, n, s.used)
		}
	}
}

func TestChangedLimitFindsTheCounts(t *testing.T) {
	w := NewWindows([]Period{Hour}, 1000)
	var used [1]int64
	f := func(limit int64, wantOK bool, wantUsed int64) {
		t.Helper()
		if ok, _ := w.Take(7, monday, []int64{limit}, used[:]); ok != wantOK || used[0] != wantUsed {
			t.Errorf("limit %d: %v, used %d; want %v, %d", limit, ok, used[0], wantOK, wantUsed)
		}
	}
	f(2, true, 1)
	f(2, true, 2)
	f(2, false, 2)
	f(3, true, 3)
	f(1, false, 3)
}

func TestNewWindowsRefusesNonsense(t *testing.T) {
	f := func(periods ...Period) {
		t.Helper()
		defer func() {
			if recover() == nil {
				t.Errorf("NewWindows(%v) did not panic", periods)
			}
		}()
		NewWindows(periods, 10)
	}
	f()
	f(Minute, Hour, Minute)
}
