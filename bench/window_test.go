package bench

import (
	"math/rand/v2"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/sluice-gateway/sluice/limiter"
)

// windowNow is a Monday in 2026, in seconds since 1970.
const windowNow = 1795429800

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
	b.ReportAllocs()
	b.ResetTimer()
	b.ReportMetric(float64(w.Bytes())/float64(w.Len()), "B/key")
	defer reportCPU(b)()
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

// reportCPU reports what a decision costs its core: unlike the time a parallel
// run takes it shows cores that wait for each other, and it holds on a busy machine.
func reportCPU(b *testing.B) func() {
	before := cpuTime(b)
	return func() {
		b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
	}
}

func cpuTime(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkWindowRefused is the decision for a caller above his limit.
func BenchmarkWindowRefused(b *testing.B) {
	w := limiter.NewWindows([]limiter.Period{limiter.Day}, 1<<10)
	refuse := []int64{0}
	b.ReportAllocs()
	defer reportCPU(b)()
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
	defer reportCPU(b)()
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
	defer reportCPU(b)()
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
