package limiter_test

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/redis"
	"github.com/sluice-gateway/sluice/engine/redis/redistest"
	"github.com/sluice-gateway/sluice/limiter"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC).UnixMilli()

// connect opens a client of its own, as a gateway process would.
func connect(tb testing.TB, servers ...*redistest.Server) *redis.Client {
	tb.Helper()
	s := redis.Settings{Port: servers[0].Port, ReadTimeout: time.Second, ConnectTimeout: time.Second}
	if len(servers) > 1 {
		for _, n := range servers {
			s.Cluster = append(s.Cluster, n.Addr())
		}
	}
	c, err := redis.Open(s, redis.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return c
}

// take is one decision that may not fail.
func take(t *testing.T, s *limiter.Shared, identity string, a limiter.Ask) (bool, []int64) {
	t.Helper()
	used := make([]int64, len(a.Spans))
	ok, err := s.Take(context.Background(), identity, &a, used)
	if err != nil {
		t.Fatal(err)
	}
	return ok, used
}

func TestSharedCountsAllOrNothing(t *testing.T) {
	server := redistest.Start(t)
	s := limiter.NewShared(connect(t, server), "test")
	f := func(seconds, cost int64, penalty, wantOK bool, want ...int64) {
		t.Helper()
		now := noon + 1000*seconds
		ok, used := take(t, s, "bob", limiter.Ask{Now: now, Cost: cost, CountRefused: penalty, Spans: []limiter.Span{
			limiter.SpanOf(limiter.Minute, now, 3), limiter.SpanOf(limiter.Hour, now, 5),
		}})
		if ok != wantOK || !slices.Equal(used, want) {
			t.Errorf("at %d s, cost %d: %v %v, want %v %v", seconds, cost, ok, used, wantOK, want)
		}
	}
	f(0, 1, false, true, 1, 1)
	f(1, 2, false, true, 3, 3)
	f(2, 1, false, false, 3, 3)
	f(61, 3, false, false, 0, 3) // refused by the hour: the minute is not counted either
	f(62, 2, false, true, 2, 5)
	f(63, 0, false, true, 2, 5) // nothing is counted, and it would fit
	f(130, 1, true, false, 1, 6)
	f(131, 1, true, false, 2, 7)
	f(3600, 1, false, true, 1, 1)
	if ttl, _ := strconv.Atoi(server.Do("ttl", "sluice:test:{bob}:60:"+strconv.FormatInt(noon/1000, 10))); ttl < 100 || ttl > 120 {
		t.Errorf("a minute is kept for %d s, want 120", ttl)
	}
	for key := range strings.FieldsSeq(server.Do("keys", "*")) {
		if server.Do("ttl", key) == "-1" {
			t.Errorf("%s stays", key)
		}
	}
}

func TestSharedPeekAndAdd(t *testing.T) {
	server := redistest.Start(t)
	s := limiter.NewShared(connect(t, server), "test")
	a := limiter.Ask{Now: noon, Cost: 7, Spans: []limiter.Span{limiter.SpanEvery(60, noon, 10)}}
	var used [1]int64
	f := func(got bool, err error, want bool, wantUsed int64) {
		t.Helper()
		if got != want || err != nil || used[0] != wantUsed {
			t.Errorf("%v %v used %d; want %v used %d", got, err, used[0], want, wantUsed)
		}
	}
	ctx := context.Background()
	ok, err := s.Peek(ctx, "bob", &a, used[:])
	f(ok, err, true, 0)
	f(true, s.Add(ctx, "bob", &a, used[:]), true, 7)
	ok, err = s.Peek(ctx, "bob", &a, used[:])
	f(ok, err, false, 7)
	f(true, s.Add(ctx, "bob", &a, used[:]), true, 14)
	if keys := server.Do("dbsize"); keys != "1" {
		t.Errorf("%s keys: peeking counts", keys)
	}
}

func TestSharedRefusesNonsense(t *testing.T) {
	s := limiter.NewShared(nil, "test")
	f := func(a limiter.Ask) {
		t.Helper()
		if _, err := s.Take(context.Background(), "bob", &a, make([]int64, 20)); !errors.Is(err, limiter.ErrAsk) {
			t.Errorf("%+v: %v", a, err)
		}
	}
	minute := limiter.SpanEvery(60, noon, 1)
	f(limiter.Ask{Now: noon, Cost: 1})
	f(limiter.Ask{Now: noon, Cost: -1, Spans: []limiter.Span{minute}})
	f(limiter.Ask{Now: noon, Cost: 1, Spans: []limiter.Span{minute, minute}})
	f(limiter.Ask{Now: noon, Cost: 1, Spans: []limiter.Span{{Size: limiter.SizeMax + 1}}})
	f(limiter.Ask{Now: noon, Cost: 1, Spans: []limiter.Span{{Size: 0}}})
	f(limiter.Ask{Now: noon, Cost: 1, Spans: make([]limiter.Span, limiter.SpansMax+1)})
}

// TestIdentitiesAreApart is that no name a caller chooses reaches another's counter or
// another slot.
func TestIdentitiesAreApart(t *testing.T) {
	server := redistest.Start(t)
	s := limiter.NewShared(connect(t, server), "na{me")
	names := []string{"a", "a}", "{a}", "}", "", "a b", "a\r\nb", "a:60", strings.Repeat("x", 64), strings.Repeat("x", 65), strings.Repeat("x", 9000), "é", "\xff", "#ca978112ca1bbdcafac231b39a23dc4d"}
	for round := range int64(2) {
		for _, name := range names {
			ok, used := take(t, s, name, limiter.Ask{Now: noon, Cost: 1, Spans: []limiter.Span{limiter.SpanEvery(60, noon, 2)}})
			if !ok || used[0] != round+1 {
				t.Errorf("%.20q: %v %v in round %d", name, ok, used, round)
			}
		}
	}
	for key := range strings.FieldsSeq(server.Do("keys", "*")) {
		if strings.Count(key, "{") != 1 || strings.Count(key, "}") != 1 || len(key) > 200 {
			t.Errorf("key %q", key)
		}
	}
}

// naive is what every kind of counter must agree with: one count a window, and
// fractions.
type naive map[string]int64

func (n naive) take(identity string, a *limiter.Ask) (bool, []int64) {
	ok, used := true, make([]int64, len(a.Spans))
	name := func(s limiter.Span, start int64) string { return fmt.Sprint(identity, " ", s.Size, " ", start) }
	for i, s := range a.Spans {
		rate := new(big.Rat).SetInt64(n[name(s, s.Start)])
		if s.Sliding {
			part := big.NewRat(1000*s.Size-(a.Now-1000*s.Start), 1000*s.Size)
			rate.Add(rate, part.Mul(part, new(big.Rat).SetInt64(n[name(s, s.Start-s.Size)])))
		}
		ok = ok && new(big.Rat).Add(rate, new(big.Rat).SetInt64(a.Cost)).Cmp(new(big.Rat).SetInt64(s.Limit)) <= 0
		up := new(big.Int).Add(rate.Num(), new(big.Int).Sub(rate.Denom(), big.NewInt(1)))
		used[i] = up.Div(up, rate.Denom()).Int64()
	}
	if ok || a.CountRefused {
		for i, s := range a.Spans {
			n[name(s, s.Start)] += a.Cost
			used[i] += a.Cost
		}
	}
	return ok, used
}

// TestAllCountersAgree drives Shared, Batch and, where it can express the windows,
// Sliding with the same random events, and holds each against the naive counter.
func TestAllCountersAgree(t *testing.T) {
	client := connect(t, redistest.Start(t))
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 7))
		sizes := []int64{1, 2, 7, 30, 60, 90, 3600, 86400, 2592000, 31536000, limiter.SizeMax}
		r.Shuffle(len(sizes), func(i, j int) { sizes[i], sizes[j] = sizes[j], sizes[i] })
		sizes = sizes[:1+r.IntN(4)]
		sliding, penalty, big := r.IntN(3) > 0, r.IntN(2) > 0, r.IntN(4) == 0
		limits := make([]int64, len(sizes))
		for i := range limits {
			limits[i] = 1 + r.Int64N(60)
			if big {
				limits[i] = 1<<48 + r.Int64N(1<<50)
			}
		}
		name := "agree" + strconv.FormatUint(seed, 10)
		shared, batch, exact := limiter.NewShared(client, name), limiter.NewBatch(client, name+"b", 1000), naive{}
		local := limiter.NewSliding(limiter.SlidingConfig{Seconds: sizes, Fixed: !sliding, Penalty: penalty && sliding, KeysMax: 1000})
		now := noon + r.Int64N(1e9)
		for step := range 400 {
			if r.IntN(3) == 0 {
				now += r.Int64N(700 * slices.Min(sizes))
			}
			if r.IntN(100) == 0 {
				now += r.Int64N(2500 * slices.Max(sizes))
			}
			cost := r.Int64N(4)
			if big {
				cost = r.Int64N(1 << 44)
			}
			a := limiter.Ask{Now: now, Cost: cost, CountRefused: penalty && sliding}
			for i, size := range sizes {
				s := limiter.SpanEvery(size, now, limits[i])
				s.Sliding = sliding
				a.Spans = append(a.Spans, s)
			}
			id := r.Uint64N(3)
			identity := strconv.FormatUint(id, 10)
			wantOK, want := exact.take(identity, &a)
			if ok, used := take(t, shared, identity, a); ok != wantOK || !slices.Equal(used, want) {
				t.Fatalf("seed %d step %d: shared %v %v, want %v %v for %+v", seed, step, ok, used, wantOK, want, a)
			}
			used := make([]int64, len(sizes))
			if ok, _ := batch.Take(identity, &a, used); ok != wantOK || !slices.Equal(used, want) {
				t.Fatalf("seed %d step %d: batch %v %v, want %v %v for %+v", seed, step, ok, used, wantOK, want, a)
			}
			if ok, _ := local.Take(id+1, now, cost, limits, used); ok != wantOK || !slices.Equal(used, want) {
				t.Fatalf("seed %d step %d: local %v %v, want %v %v for %+v", seed, step, ok, used, wantOK, want, a)
			}
			if r.IntN(10) == 0 {
				if err := batch.Flush(context.Background(), now); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// TestSharedAgreesWithWindows is the same for calendar windows.
func TestSharedAgreesWithWindows(t *testing.T) {
	client := connect(t, redistest.Start(t))
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 8))
		var periods []limiter.Period
		var limits []int64
		for p := limiter.Second; p <= limiter.Year; p++ {
			if r.IntN(2) == 0 || p == limiter.Year && periods == nil {
				periods, limits = append(periods, p), append(limits, 1+r.Int64N(40))
			}
		}
		windows := limiter.NewWindows(periods, 1000)
		shared := limiter.NewShared(client, "calendar"+strconv.FormatUint(seed, 10))
		now := noon
		for range 500 {
			if r.IntN(20) == 0 {
				now += r.Int64N(100_000)
			}
			if r.IntN(100) == 0 {
				now += r.Int64N(40 * 86400_000)
			}
			a := limiter.Ask{Now: now, Cost: 1}
			for i, p := range periods {
				a.Spans = append(a.Spans, limiter.SpanOf(p, now, limits[i]))
			}
			id, want := 1+r.Uint64N(2), make([]int64, len(periods))
			wantOK, _ := windows.Take(id, now/1000, limits, want)
			if ok, used := take(t, shared, strconv.FormatUint(id, 10), a); ok != wantOK || !slices.Equal(used, want) {
				t.Fatalf("seed %d: %v %v, want %v %v for %+v", seed, ok, used, wantOK, want, a)
			}
		}
	}
}

// admitted is how many events three gateways let pass together, eight goroutines each,
// for every identity.
func admitted(t *testing.T, stores []limiter.Scripter, identities int, a limiter.Ask) []int64 {
	t.Helper()
	counts := make([]atomic.Int64, identities)
	var wg sync.WaitGroup
	for _, store := range stores {
		s := limiter.NewShared(store, "load")
		for g := range 8 {
			wg.Go(func() {
				used := make([]int64, len(a.Spans))
				for i := range 400 {
					id := (g + i) % identities
					ok, err := s.Take(context.Background(), "id"+strconv.Itoa(id), &a, used)
					if err != nil {
						t.Error(err)
						return
					}
					if ok {
						counts[id].Add(1)
					}
				}
			})
		}
	}
	wg.Wait()
	sums := make([]int64, identities)
	for i := range counts {
		sums[i] = counts[i].Load()
	}
	return sums
}

func TestSharedIsExactAmongThreeGateways(t *testing.T) {
	f := func(servers ...*redistest.Server) {
		t.Helper()
		stores := []limiter.Scripter{connect(t, servers...), connect(t, servers...), connect(t, servers...)}
		for window := range int64(3) {
			now := noon + 60_000*window
			a := limiter.Ask{Now: now, Cost: 1, Spans: []limiter.Span{limiter.SpanOf(limiter.Minute, now, 321), limiter.SpanOf(limiter.Day, now, 800)}}
			want := int64(321)
			if window == 2 {
				want = 800 - 2*321
			}
			for id, n := range admitted(t, stores, 5, a) {
				if n != want {
					t.Errorf("window %d, identity %d: %d admitted, want exactly %d", window, id, n, want)
				}
			}
		}
	}
	f(redistest.Start(t))
	f(redistest.Cluster(t, 3)...)
}

func TestSharedStartsAnewWhenRedisIsEmptied(t *testing.T) {
	server := redistest.Start(t)
	s := limiter.NewShared(connect(t, server), "test")
	a := limiter.Ask{Now: noon, Cost: 2, Spans: []limiter.Span{limiter.SpanEvery(60, noon, 2)}}
	for range 2 {
		if ok, _ := take(t, s, "bob", a); !ok {
			t.Error("refused with nothing counted")
		}
		if ok, _ := take(t, s, "bob", a); ok {
			t.Error("admitted over the limit")
		}
		server.Do("flushall")
		server.Do("script", "flush")
	}
}

// TestSharedNeverAdmitsMore is three gateways whose Redis is stopped, continued and
// killed under them: calls fail, but none is admitted over the limit.
func TestSharedNeverAdmitsMore(t *testing.T) {
	server := redistest.Start(t)
	const limit = 2000
	var admitted, failed atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		s := limiter.NewShared(connect(t, server), "outage")
		for range 4 {
			wg.Go(func() {
				tick := time.NewTicker(time.Millisecond)
				defer tick.Stop()
				var used [1]int64
				for {
					select {
					case <-stop:
						return
					case <-tick.C:
					}
					a := limiter.Ask{Now: noon, Cost: 1, Spans: []limiter.Span{limiter.SpanEvery(60, noon, limit)}}
					ok, err := s.Take(context.Background(), "bob", &a, used[:])
					switch {
					case err != nil:
						failed.Add(1)
					case ok:
						admitted.Add(1)
					}
				}
			})
		}
	}
	for range 2 {
		n, f := admitted.Load(), failed.Load()
		redistest.Eventually(t, "events are admitted", func() bool { return admitted.Load() > n+200 })
		server.Stop()
		redistest.Eventually(t, "calls fail", func() bool { return failed.Load() > f+50 })
		server.Continue()
	}
	key := "sluice:outage:{bob}:60:" + strconv.FormatInt(noon/1000, 10)
	redistest.Eventually(t, "the window is full", func() bool { return server.Do("get", key) == strconv.Itoa(limit) })
	close(stop)
	wg.Wait()
	// A call whose answer came too late was counted but not admitted.
	if n := admitted.Load(); n > limit || n < limit-2*12*2 {
		t.Errorf("%d admitted, limit %d", n, limit)
	}
	if got := server.Do("get", key); got != strconv.Itoa(limit) {
		t.Errorf("%s counted, want %d: refused events do not count", got, limit)
	}
}
