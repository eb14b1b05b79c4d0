//go:build !race

package limiter

import (
	"math/rand/v2"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"
)

// TestDecisionsDoNotAllocate runs every hot function on tables that are full, so
// that newcomers replace others.
func TestDecisionsDoNotAllocate(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	f := func(name string, hot func(key uint64)) {
		t.Helper()
		for range 1 << 14 {
			hot(r.Uint64())
		}
		if n := testing.AllocsPerRun(1000, func() { hot(r.Uint64()); hot(7) }); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
	limits := []int64{5, 50}
	var used [2]int64
	w := NewWindows([]Period{Second, Month}, 1<<10)
	f("Windows", func(key uint64) {
		w.Take(key, monday, limits, used[:])
		w.Add(key, monday, 1, used[:])
		w.Peek(key, monday, used[:])
	})
	for _, fixed := range []bool{false, true} {
		s := NewSliding(SlidingConfig{Seconds: []int64{1, 60}, Fixed: fixed, KeysMax: 1 << 10})
		now := int64(mondayMillis)
		f("Sliding", func(key uint64) {
			now += 300
			s.Take(key, now, 1, limits, used[:])
			s.Add(key, now, 1, used[:])
			s.Wait(key, now, 1, limits)
		})
	}
	q := NewQuotas([]Calendar{{Period: Day, Location: zone(t, "Europe/Berlin")}, {Period: Month, ResetOn: Anniversary}}, 1<<10)
	var journal []byte
	now := monday
	f("Quotas", func(key uint64) {
		now += 100
		q.Take(key, now, 1, limits, used[:])
		q.Peek(key, now, used[:])
		q.Refund(key, now, 1)
		q.Ends(key, now, used[:])
		journal = q.Journal(journal[:0])
	})
	c := NewConcurrency(1 << 10)
	f("Concurrency", func(key uint64) {
		if c.Enter(key, 1) {
			c.Leave(key)
		}
	})
	g := NewGradient(GradientConfig{})
	at := int64(0)
	f("Gradient", func(uint64) {
		if at += int64(time.Millisecond); g.Acquire() {
			g.Release(at, time.Millisecond, false)
		}
	})
}

func TestMemoryPerKeyAndWindow(t *testing.T) {
	f := func(limits []limit) {
		t.Helper()
		w := newLimited(limits, 1<<20)
		used := make([]int64, len(limits))
		worst := 0.0
		for key := range uint64(1 << 20) {
			w.take(key+1, monday, used)
			if n := key + 1; n >= 1<<14 && n&0x3fff == 0 {
				worst = max(worst, float64(w.Bytes())/float64(w.Len())/float64(len(limits)))
			}
		}
		if worst > 64 {
			t.Errorf("%d limits: up to %.1f bytes a key and window, want at most 64", len(limits), worst)
		}
		t.Logf("%d limits: at most %.1f bytes a key and window", len(limits), worst)
	}
	f([]limit{{Minute, 5}})
	f([]limit{{Minute, 5}, {Hour, 50}, {Day, 500}})
}

func TestSlidingMemoryPerKey(t *testing.T) {
	f := func(c SlidingConfig, want float64) {
		t.Helper()
		c.KeysMax = 1 << 20
		s := NewSliding(c)
		used, limits := make([]int64, len(c.Seconds)), make([]int64, len(c.Seconds))
		r := rand.New(rand.NewPCG(1, 2))
		worst := 0.0
		for key := 1; key <= 1_000_000; key++ {
			s.Take(r.Uint64(), mondayMillis, 0, limits, used)
			if key >= 1<<14 && key&0x3fff == 0 {
				worst = max(worst, float64(s.Bytes())/float64(s.Len()))
			}
		}
		now := float64(s.Bytes()) / float64(s.Len())
		if now > want || worst > want*1.06 {
			t.Errorf("%+v: %.1f bytes a key at a million, %.1f at most, want %.0f", c, now, worst, want)
		}
		t.Logf("%d windows, fixed %v: %.1f bytes a key at a million, %.1f at most", len(c.Seconds), c.Fixed, now, worst)
	}
	f(SlidingConfig{Seconds: []int64{60}}, 64)
	f(SlidingConfig{Seconds: []int64{1, 60, 3600}}, 128)
	f(SlidingConfig{Seconds: []int64{60}, Fixed: true}, 48)
	f(SlidingConfig{Seconds: []int64{1, 60, 3600}, Fixed: true}, 80)
}

// TestCollectorDoesNotScan compares the bytes a garbage collection would look
// through for pointers, which is exact, before and after a million keys.
func TestCollectorDoesNotScan(t *testing.T) {
	scanned := func() uint64 {
		runtime.GC()
		sample := []metrics.Sample{{Name: "/gc/scan/heap:bytes"}}
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	before := scanned()
	w := NewWindows([]Period{Minute}, 1<<20)
	s := NewSliding(SlidingConfig{Seconds: []int64{60}, KeysMax: 1 << 20})
	q := NewQuotas([]Calendar{{Period: Month}}, 1<<20)
	var used [1]int64
	for key := range uint64(1_000_000) {
		w.Take(key+1, monday, []int64{5}, used[:])
		s.Take(key+1, mondayMillis, 1, []int64{5}, used[:])
		q.Add(key+1, monday, 1, used[:])
	}
	if more := int64(scanned()) - int64(before); more > 256<<10 {
		t.Errorf("%d more bytes to scan with three times a million keys", more)
	}
	runtime.KeepAlive([]any{w, s, q})
}
