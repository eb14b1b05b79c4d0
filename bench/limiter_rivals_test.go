package bench

import (
	"context"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"net"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"
	"github.com/sethvargo/go-limiter/memorystore"
	"golang.org/x/time/rate"

	"github.com/sluice-gateway/sluice/limiter"
)

// BenchmarkLimiterRivals is one decision for a caller who is named by a string, an
// IPv4 address in text, by ours and by others; never refused, all in one run.
// Ours counts in a fixed calendar window or in a sliding one and includes the hash of
// the name; x/time/rate is a token bucket, one a name in a map under a mutex, as its
// users have it, which also reads the clock; go-limiter is a map of fixed windows
// that reads the clock; redis_rate is a leaky bucket in Redis over loopback, which
// is a round trip of a socket. It is only shown: it does more, as it is shared.
func BenchmarkLimiterRivals(b *testing.B) {
	for _, n := range []int{1, 1000, 1_000_000} {
		keys := rivalKeys(n)
		sample := make([]string, 1<<16)
		for i := range sample {
			sample[i] = keys[rand.IntN(n)]
		}
		run := func(name string, open func(b *testing.B) (decide func(key string) bool)) {
			b.Run(fmt.Sprintf("%s/keys=%d", name, n), func(b *testing.B) {
				decide := open(b)
				for _, key := range keys {
					decide(key)
				}
				benchmarkRival(b, sample, decide)
			})
		}
		run("ours-calendar", openOurWindows)
		run("ours-sliding", openOurSliding)
		run("x-time-rate", func(*testing.B) func(string) bool { return newRateMap().allow })
		run("go-limiter", openMemoryStore)
	}
	b.Run("redis-rate/keys=65536", func(b *testing.B) {
		decide := openRedisRate(b)
		benchmarkRival(b, rivalKeys(1<<16), decide) // as many buckets
	})
}

func benchmarkRival(b *testing.B, sample []string, decide func(string) bool) {
	b.ReportAllocs()
	b.ResetTimer()
	defer reportCPU(b)()
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

// rivalKeys returns n different names.
func rivalKeys(n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)
	}
	return keys
}

func openOurWindows(*testing.B) func(string) bool {
	w, seed := limiter.NewWindows([]limiter.Period{limiter.Minute}, 1<<21), maphash.MakeSeed()
	return func(key string) bool {
		var used [1]int64
		ok, _ := w.Take(maphash.String(seed, key), windowNow, windowLimits, used[:])
		return ok
	}
}

func openOurSliding(*testing.B) func(string) bool {
	s := limiter.NewSliding(limiter.SlidingConfig{Seconds: []int64{60}, KeysMax: 1 << 21})
	seed := maphash.MakeSeed()
	return func(key string) bool {
		var used [1]int64
		ok, _ := s.Take(maphash.String(seed, key), windowNow*1000, 1, windowLimits, used[:])
		return ok
	}
}

// rateMap is what the examples of x/time/rate show for many callers.
type rateMap struct {
	mu sync.Mutex
	m  map[string]*rate.Limiter
}

func newRateMap() *rateMap { return &rateMap{m: map[string]*rate.Limiter{}} }

func (r *rateMap) allow(key string) bool {
	r.mu.Lock()
	l, ok := r.m[key]
	if !ok {
		l = rate.NewLimiter(1e9, 1e9)
		r.m[key] = l
	}
	r.mu.Unlock()
	return l.Allow()
}

func openMemoryStore(b *testing.B) func(string) bool {
	store, err := memorystore.New(&memorystore.Config{Tokens: 1 << 40, Interval: time.Minute})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { store.Close(context.Background()) })
	return func(key string) bool {
		_, _, _, ok, err := store.Take(context.Background(), key)
		return ok && err == nil
	}
}

// openRedisRate starts a Redis of its own on loopback.
func openRedisRate(b *testing.B) func(string) bool {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		b.Fatal("redis-server is missing (apt-get install -y redis-server): ", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	server := exec.Command(path, "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", b.TempDir())
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Addr: fmt.Sprintf("127.0.0.1:%d", port)})
	b.Cleanup(func() {
		client.Close()
		server.Process.Kill()
		server.Wait()
	})
	for i := 0; client.Ping(context.Background()).Err() != nil; i++ {
		if i == 100 {
			b.Fatal("redis-server did not answer within 10 seconds")
		}
		time.Sleep(100 * time.Millisecond)
	}
	limits := redis_rate.NewLimiter(client)
	limit := redis_rate.Limit{Rate: 1e9, Burst: 1e9, Period: time.Minute}
	return func(key string) bool {
		r, err := limits.Allow(context.Background(), key, limit)
		return err == nil && r.Allowed > 0
	}
}
