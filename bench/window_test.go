package bench

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/bench/workload"
	"github.com/sluice-gateway/sluice/limiter"
)

const windowNow = workload.Now

var windowSink atomic.Int64

var (
	windowPeriods = []limiter.Period{limiter.Minute, limiter.Hour, limiter.Day}
	windowLimits  = []int64{1 << 40, 1 << 40, 1 << 40}
)

// BenchmarkWindow is one decision of the limiter.
func BenchmarkWindow(b *testing.B) {
	b.Run("periods=1/keys=1", func(b *testing.B) { benchmarkWindow(b, 1, 1) })
	b.Run("periods=1/keys=1000", func(b *testing.B) { benchmarkWindow(b, 1, 1000) })
	b.Run("periods=1/keys=100000", func(b *testing.B) { benchmarkWindow(b, 1, 100_000) })
	b.Run("periods=1/keys=1000000", func(b *testing.B) { benchmarkWindow(b, 1, 1_000_000) })
	b.Run("periods=3/keys=1000", func(b *testing.B) { benchmarkWindow(b, 3, 1000) })
	b.Run("periods=3/keys=1000000", func(b *testing.B) { benchmarkWindow(b, 3, 1_000_000) })
}

// windowKeys returns hashes as a plugin would make them, in random order.
func windowKeys(n int) []uint64 {
	r := rand.New(rand.NewPCG(1, 2))
	distinct := make([]uint64, n)
	for i := range distinct {
		distinct[i] = r.Uint64()
	}
	keys := make([]uint64, 1<<16)
	for i := range keys {
		keys[i] = distinct[r.IntN(n)]
	}
	return keys
}

func filledWindows(periods, n int) (w *limiter.Windows, keys []uint64) {
	keys = windowKeys(n)
	w = limiter.NewWindows(windowPeriods[:periods], 1<<20)
	var used [3]int64
	r := rand.New(rand.NewPCG(1, 2))
	for range n {
		w.Take(r.Uint64(), windowNow, windowLimits, used[:])
	}
	return w, keys
}

func benchmarkWindow(b *testing.B, periods, n int) {
	w, keys := filledWindows(periods, n)
	runtime.GC()
	b.ReportAllocs()
	b.ResetTimer()
	b.ReportMetric(float64(w.Bytes())/float64(w.Len()), "B/key")
	defer workload.ReportCPU(b)()
	b.RunParallel(func(pb *testing.PB) {
		var used [3]int64
		sum, i := int64(0), rand.IntN(len(keys))
		for pb.Next() {
			i++
			w.Take(keys[i&(len(keys)-1)], windowNow+int64(i>>20), windowLimits, used[:])
			sum += used[0]
		}
		windowSink.Add(sum)
	})
}

// BenchmarkSliding is one decision in windows of any size, fixed and sliding, with
// milliseconds that go on: no two decisions of a key share one.
func BenchmarkSliding(b *testing.B) {
	for _, kind := range []string{"fixed", "sliding"} {
		for _, windows := range []int{1, 3} {
			for _, keys := range []int{1, 1000, 1_000_000} {
				b.Run(fmt.Sprintf("kind=%s/windows=%d/keys=%d", kind, windows, keys), func(b *testing.B) {
					benchmarkSliding(b, kind == "fixed", windows, keys)
				})
			}
		}
	}
}

var slidingSeconds = []int64{60, 3600, 86400}

func filledSliding(fixed bool, windows, n int) (s *limiter.Sliding, keys []uint64) {
	s = limiter.NewSliding(limiter.SlidingConfig{Seconds: slidingSeconds[:windows], Fixed: fixed, KeysMax: 1 << 20})
	var used [3]int64
	r := rand.New(rand.NewPCG(1, 2))
	for range n {
		s.Take(r.Uint64(), windowNow*1000-30_000, 1, windowLimits, used[:])
	}
	r = rand.New(rand.NewPCG(1, 2))
	for range n { // so that the previous window is not empty either
		s.Take(r.Uint64(), windowNow*1000, 1, windowLimits, used[:])
	}
	return s, windowKeys(n)
}

func benchmarkSliding(b *testing.B, fixed bool, windows, n int) {
	s, keys := filledSliding(fixed, windows, n)
	runtime.GC() // what filling left behind is not part of it
	b.ReportAllocs()
	b.ResetTimer()
	b.ReportMetric(float64(s.Bytes())/float64(s.Len()), "B/key")
	defer workload.ReportCPU(b)()
	b.RunParallel(func(pb *testing.PB) {
		var used [3]int64
		sum, i := int64(0), rand.IntN(len(keys))
		for pb.Next() {
			i++
			s.Take(keys[i&(len(keys)-1)], windowNow*1000+int64(i>>10)%30_000, 1, windowLimits, used[:])
			sum += used[0]
		}
		windowSink.Add(sum)
	})
}

// BenchmarkQuota is one decision of a quota that is written down each second,
// which costs the same again for each key that changed.
func BenchmarkQuota(b *testing.B) {
	for _, c := range []limiter.Calendar{{Period: limiter.Month}, {Period: limiter.Month, ResetOn: limiter.Anniversary}} {
		b.Run(fmt.Sprintf("reset_on=%d", c.ResetOn), func(b *testing.B) {
			q, keys := limiter.NewQuotas([]limiter.Calendar{c}, 1<<20), windowKeys(1000)
			b.ReportAllocs()
			defer workload.ReportCPU(b)()
			b.RunParallel(func(pb *testing.PB) {
				var used [1]int64
				i := rand.IntN(len(keys))
				for pb.Next() {
					i++
					q.Take(keys[i&(len(keys)-1)], windowNow, 1, windowLimits, used[:])
				}
			})
		})
	}
	b.Run("journal=1000", func(b *testing.B) {
		q, keys := limiter.NewQuotas([]limiter.Calendar{{Period: limiter.Month}}, 1<<20), windowKeys(1000)
		var used [1]int64
		var journal []byte
		b.ReportAllocs()
		for b.Loop() {
			for _, key := range keys[:1000] {
				q.Add(key, windowNow, 1, used[:])
			}
			journal = q.Journal(journal[:0])
		}
		b.ReportMetric(float64(len(journal)), "B")
	})
}

// BenchmarkConcurrency is Enter and Leave of one request.
func BenchmarkConcurrency(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			c, keys := limiter.NewConcurrency(1<<20), windowKeys(n)
			b.ReportAllocs()
			defer workload.ReportCPU(b)()
			b.RunParallel(func(pb *testing.PB) {
				i := rand.IntN(len(keys))
				for pb.Next() {
					i++
					if key := keys[i&(len(keys)-1)]; c.Enter(key, 1000) {
						c.Leave(key)
					}
				}
			})
		})
	}
}

// BenchmarkGradient is Acquire and Release of one request.
func BenchmarkGradient(b *testing.B) {
	g := limiter.NewGradient(limiter.GradientConfig{LimitMin: 1000})
	b.ReportAllocs()
	defer workload.ReportCPU(b)()
	b.RunParallel(func(pb *testing.PB) {
		now := int64(windowNow)
		for pb.Next() {
			if now += 1000; g.Acquire() {
				g.Release(now, time.Millisecond, false)
			}
		}
	})
}

// BenchmarkGC is a whole garbage collection beside the counters of a million keys.
func BenchmarkGC(b *testing.B) {
	const n = 1_000_000
	b.Run("keys=0", func(b *testing.B) {
		for b.Loop() {
			runtime.GC()
		}
	})
	b.Run("windows", func(b *testing.B) {
		w, _ := filledWindows(1, n)
		for b.Loop() {
			runtime.GC()
		}
		runtime.KeepAlive(w)
	})
	b.Run("sliding", func(b *testing.B) {
		s, _ := filledSliding(false, 1, n)
		for b.Loop() {
			runtime.GC()
		}
		runtime.KeepAlive(s)
	})
}

// BenchmarkWindowRefused is the decision for a caller above his limit.
func BenchmarkWindowRefused(b *testing.B) {
	w := limiter.NewWindows([]limiter.Period{limiter.Day}, 1<<10)
	refuse := make([]int64, 16)[:1] // a line of its own: RunParallel's counter is small, too
	b.ReportAllocs()
	defer workload.ReportCPU(b)()
	b.RunParallel(func(pb *testing.PB) {
		var used [1]int64
		key := rand.Uint64()
		for pb.Next() {
			w.Take(key, windowNow, refuse, used[:])
		}
	})
}

// BenchmarkWindowFull is a newcomer in a full table: the longest walk, and a key
// to be forgotten.
func BenchmarkWindowFull(b *testing.B) {
	w := limiter.NewWindows([]limiter.Period{limiter.Day}, 1<<16)
	var used [1]int64
	r := rand.New(rand.NewPCG(1, 2))
	for range 1 << 18 {
		w.Take(r.Uint64(), windowNow, windowLimits, used[:])
	}
	b.ReportAllocs()
	b.ResetTimer()
	defer workload.ReportCPU(b)()
	b.RunParallel(func(pb *testing.PB) {
		var used [1]int64
		r := rand.New(rand.NewPCG(rand.Uint64(), 2))
		for pb.Next() {
			w.Take(r.Uint64(), windowNow, windowLimits, used[:])
		}
	})
}

// BenchmarkWindowPassed is a minute's first request of each of 100,000 keys: the
// entry is there, its window has passed.
func BenchmarkWindowPassed(b *testing.B) {
	w, keys := filledWindows(1, 100_000)
	b.ReportAllocs()
	b.ResetTimer()
	defer workload.ReportCPU(b)()
	b.RunParallel(func(pb *testing.PB) {
		var used [1]int64
		i, now := rand.IntN(len(keys)), int64(windowNow)
		for pb.Next() {
			if i++; i&0xffff == 0 {
				now += 60
			}
			w.Take(keys[i&0xffff], now, windowLimits, used[:])
		}
	})
}
