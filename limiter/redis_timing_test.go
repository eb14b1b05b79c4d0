package limiter_test

import (
	"context"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/redis/redistest"
	"github.com/sluice-gateway/sluice/limiter"
)

var timingSink atomic.Int64

// BenchmarkBatchTake is a decision of batched mode.
func BenchmarkBatchTake(b *testing.B) {
	f := func(name string, identities int, sliding bool, sizes ...int64) {
		batch := limiter.NewBatch(nil, "timing", 1<<20)
		ids := make([]string, identities)
		for i := range ids {
			ids[i] = "consumer-" + strconv.Itoa(i)
		}
		own := func() time.Duration {
			var r syscall.Rusage
			if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
				b.Fatal(err)
			}
			return time.Duration(r.Utime.Nano() + r.Stime.Nano())
		}
		run := func(pb func() bool) {
			var used [4]int64
			var spans [4]limiter.Span
			a := limiter.Ask{Now: noon, Cost: 1}
			n := 0
			for i := 0; pb(); i++ {
				a.Now += int64(i & 1)
				for j, size := range sizes {
					spans[j] = limiter.SpanEvery(size, a.Now, 1<<40)
					spans[j].Sliding = sliding
				}
				a.Spans = spans[:len(sizes)]
				batch.Take(ids[n], &a, used[:])
				if n++; n == len(ids) {
					n = 0
				}
			}
			timingSink.Add(used[0])
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			before := own()
			run(b.Loop)
			b.ReportMetric(float64(own()-before)/float64(b.N), "cpu-ns/op")
		})
		b.Run(name+"/parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) { run(pb.Next) })
		})
	}
	f("fixed1/ids100", 100, false, 60)
	f("sliding1/ids100", 100, true, 60)
	f("sliding2/ids100", 100, true, 60, 3600)
	f("sliding1/ids100000", 100_000, true, 60)
}

// BenchmarkBatchFlush is a flush of a thousand identities, one window each.
func BenchmarkBatchFlush(b *testing.B) {
	batch := limiter.NewBatch(connect(b, redistest.Start(b)), "timing", 1<<20)
	b.ReportAllocs()
	var used [1]int64
	for b.Loop() {
		for id := range 1000 {
			a := minute(noon, 1<<40)
			batch.Take(strconv.Itoa(id), &a, used[:])
		}
		if err := batch.Flush(context.Background(), noon); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/identity")
}

// cpu returns the CPU time of this process and of a server.
func cpu(b *testing.B, s *redistest.Server) (own, redis time.Duration) {
	b.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	own = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	for line := range strings.FieldsSeq(s.Do("info", "cpu")) {
		if name, value, ok := strings.Cut(line, ":"); ok && (name == "used_cpu_sys" || name == "used_cpu_user") {
			seconds, err := strconv.ParseFloat(value, 64)
			if err != nil {
				b.Fatal(err)
			}
			redis += time.Duration(seconds * float64(time.Second))
		}
	}
	return own, redis
}

// BenchmarkSharedTake is a decision of exact mode: a round trip over loopback, alone
// and with 64 under way at a time.
func BenchmarkSharedTake(b *testing.B) {
	server := redistest.Start(b)
	client := connect(b, server)
	f := func(name string, parallel int, sliding bool, sizes ...int64) {
		shared := limiter.NewShared(client, "timing"+name)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			own, redis := cpu(b, server)
			one := func(id string) {
				var used [4]int64
				a := limiter.Ask{Now: noon, Cost: 1}
				for _, size := range sizes {
					s := limiter.SpanEvery(size, noon, 1<<40)
					s.Sliding = sliding
					a.Spans = append(a.Spans, s)
				}
				if _, err := shared.Take(context.Background(), id, &a, used[:]); err != nil {
					b.Error(err)
				}
			}
			if parallel == 1 {
				for b.Loop() {
					one("bob")
				}
			} else {
				b.SetParallelism(parallel)
				var n atomic.Int64
				b.RunParallel(func(pb *testing.PB) {
					id := "consumer-" + strconv.FormatInt(n.Add(1), 10)
					for pb.Next() {
						one(id)
					}
				})
			}
			ownAfter, redisAfter := cpu(b, server)
			b.ReportMetric(float64(ownAfter-own)/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(redisAfter-redis)/float64(b.N), "redis-cpu-ns/op")
		})
	}
	f("fixed1/alone", 1, false, 60)
	f("sliding1/alone", 1, true, 60)
	f("fixed1/64", 32, false, 60)
	f("sliding1/64", 32, true, 60)
	f("sliding2/64", 32, true, 60, 3600)
}
