package rivals

import (
	"context"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"
	"github.com/sethvargo/go-limiter/memorystore"
	"golang.org/x/time/rate"

	"github.com/sluice-gateway/sluice/bench/workload"
	"github.com/sluice-gateway/sluice/engine/redis/redistest"
	"github.com/sluice-gateway/sluice/limiter"
)

// limiterRival opens a limiter of limit decisions a minute for each name. decide says
// whether the caller of that name may pass; it is safe for concurrent use.
type limiterRival struct {
	name string
	open func(tb testing.TB, limit int64) (decide func(key string) bool)
}

// limiterRivals are those that count in this process.
var limiterRivals = []limiterRival{
	{"ours-calendar", openOurWindows},
	{"ours-sliding", openOurSliding},
	{"x-time-rate", func(_ testing.TB, limit int64) func(string) bool { return newRateMap(limit).allow }},
	{"go-limiter", openMemoryStore},
}

// limiterNever is a limit that nobody reaches.
const limiterNever = 1e9

// BenchmarkLimiterRivals is one decision for a caller who is named by a string, an
// IPv4 address in text, by ours and by others; never refused, all in one run.
// Ours counts in a fixed calendar window or in a sliding one and includes the hash of
// the name; x/time/rate is a token bucket, one a name in a map under a mutex, as its
// users have it, which also reads the clock; go-limiter is a map of fixed windows
// that reads the clock; redis_rate is a leaky bucket in Redis over loopback, which
// is a round trip of a socket. It is only shown: it does more, as it is shared.
func BenchmarkLimiterRivals(b *testing.B) {
	for _, n := range workload.Sizes(1, 1000, 1_000_000) {
		keys := limiterKeys(n)
		sample := make([]string, 1<<16)
		for i := range sample {
			sample[i] = keys[rand.IntN(n)]
		}
		for _, rival := range limiterRivals {
			b.Run(fmt.Sprintf("keys=%d/%s", n, rival.name), func(b *testing.B) {
				decide := rival.open(b, limiterNever)
				for _, key := range keys {
					decide(key)
				}
				benchmarkLimiterRival(b, sample, decide)
			})
		}
	}
	b.Run("keys=65536/redis-rate", func(b *testing.B) {
		decide := openRedisRate(b, limiterNever)
		benchmarkLimiterRival(b, limiterKeys(1<<16), decide) // as many buckets
	})
}

func benchmarkLimiterRival(b *testing.B, sample []string, decide func(string) bool) {
	b.ReportAllocs()
	b.ResetTimer()
	defer workload.ReportCPU(b)()
	b.RunParallel(func(pb *testing.PB) {
		i := rand.IntN(len(sample))
		for pb.Next() {
			i++
			if !decide(sample[i&(len(sample)-1)]) {
				b.Error("refused")
				return
			}
		}
	})
}

// BenchmarkLimiterRivalsGC is a whole garbage collection beside the counters of many keys.
func BenchmarkLimiterRivalsGC(b *testing.B) {
	keys := limiterKeys(workload.Size(1_000_000))
	for _, rival := range limiterRivals {
		b.Run(fmt.Sprintf("keys=%d/%s", len(keys), rival.name), func(b *testing.B) {
			decide := rival.open(b, limiterNever)
			for _, key := range keys {
				decide(key)
			}
			b.ReportAllocs()
			for b.Loop() {
				runtime.GC()
			}
			runtime.KeepAlive(decide)
		})
	}
}

// TestLimiterRivals makes sure that all of them limit, each name by itself.
func TestLimiterRivals(t *testing.T) {
	for _, rival := range append(limiterRivals, limiterRival{"redis-rate", openRedisRate}) {
		t.Run(rival.name, func(t *testing.T) {
			const limit = 3
			decide := rival.open(t, limit)
			for i := range limit {
				if !decide("10.0.0.1") {
					t.Fatalf("decision %d of a limit of %d is a refusal", i+1, limit)
				}
			}
			if decide("10.0.0.1") {
				t.Errorf("decision %d passes a limit of %d", limit+1, limit)
			}
			if !decide("10.0.0.2") {
				t.Error("another name is refused for the first one's sake")
			}
		})
	}
}

// limiterKeys returns n different names.
func limiterKeys(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)
	}
	return keys
}

func openOurWindows(_ testing.TB, limit int64) func(string) bool {
	w, seed := limiter.NewWindows([]limiter.Period{limiter.Minute}, 1<<21), maphash.MakeSeed()
	limits := []int64{limit}
	return func(key string) bool {
		var used [1]int64
		ok, _ := w.Take(maphash.String(seed, key), workload.Now, limits, used[:])
		return ok
	}
}

func openOurSliding(_ testing.TB, limit int64) func(string) bool {
	s := limiter.NewSliding(limiter.SlidingConfig{Seconds: []int64{60}, KeysMax: 1 << 21})
	seed, limits := maphash.MakeSeed(), []int64{limit}
	return func(key string) bool {
		var used [1]int64
		ok, _ := s.Take(maphash.String(seed, key), workload.NowMillis, 1, limits, used[:])
		return ok
	}
}

// rateMap is what the examples of x/time/rate show for many callers.
type rateMap struct {
	limit int64
	mu    sync.Mutex
	m     map[string]*rate.Limiter
}

func newRateMap(limit int64) *rateMap { return &rateMap{limit: limit, m: map[string]*rate.Limiter{}} }

func (r *rateMap) allow(key string) bool {
	r.mu.Lock()
	l, ok := r.m[key]
	if !ok {
		l = rate.NewLimiter(rate.Limit(float64(r.limit)/60), int(r.limit))
		r.m[key] = l
	}
	r.mu.Unlock()
	return l.Allow()
}

func openMemoryStore(tb testing.TB, limit int64) func(string) bool {
	store, err := memorystore.New(&memorystore.Config{Tokens: uint64(limit), Interval: time.Minute})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { store.Close(context.Background()) })
	return func(key string) bool {
		_, _, _, ok, err := store.Take(context.Background(), key)
		return ok && err == nil
	}
}

// openRedisRate starts a Redis of its own on loopback.
func openRedisRate(tb testing.TB, limit int64) func(string) bool {
	server := redistest.Start(tb)
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	tb.Cleanup(func() { client.Close() })
	limits := redis_rate.NewLimiter(client)
	of := redis_rate.Limit{Rate: int(limit), Burst: int(limit), Period: time.Minute}
	return func(key string) bool {
		r, err := limits.Allow(context.Background(), key, of)
		return err == nil && r.Allowed > 0
	}
}
