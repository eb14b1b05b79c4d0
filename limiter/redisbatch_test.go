package limiter_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/redis/redistest"
	"github.com/sluice-gateway/sluice/limiter"
)

func minute(now, limit int64) limiter.Ask {
	return limiter.Ask{Now: now, Cost: 1, Spans: []limiter.Span{limiter.SpanEvery(60, now, limit)}}
}

// TestBatchKeepsItsBound is the bound in the comment of Batch, on a virtual clock:
// gateways k, each asked r times a second, flush every s seconds.
func TestBatchKeepsItsBound(t *testing.T) {
	client := connect(t, redistest.Start(t))
	f := func(k int, perSecond, everyMillis, limit int64, sliding bool) {
		t.Helper()
		name := fmt.Sprint(t.Name(), k, perSecond, everyMillis, limit, sliding)
		nodes := make([]*limiter.Batch, k)
		for i := range nodes {
			nodes[i] = limiter.NewBatch(client, name, 100)
		}
		start := noon - noon%60_000
		step := 1000 / perSecond
		admitted, peak := int64(0), int64(0)
		var used [1]int64
		for now := start; now < start+60_000; now += step {
			for i, b := range nodes {
				a := minute(now, limit)
				a.Spans[0].Sliding = sliding
				if ok, _ := b.Take("bob", &a, used[:]); ok {
					admitted++
				}
				// Gateways flush at times of their own.
				if (now-start+int64(i)*step)%everyMillis < step {
					if err := b.Flush(context.Background(), now); err != nil {
						t.Fatal(err)
					}
				}
			}
			peak = max(peak, admitted)
		}
		bound := limit + int64(k)*(perSecond*everyMillis/1000+1)
		if peak > bound || peak < limit {
			t.Errorf("k=%d r=%d s=%d ms limit=%d sliding=%v: admitted %d, want %d to %d", k, perSecond, everyMillis, limit, sliding, peak, limit, bound)
		}
		t.Logf("k=%d r=%d/s every %d ms: admitted %d of %d, bound %d", k, perSecond, everyMillis, peak, limit, bound)
	}
	f(1, 10, 1000, 100, false)
	f(3, 10, 1000, 200, false)
	f(3, 50, 100, 1000, false)
	f(5, 20, 500, 300, true)
	f(8, 10, 2000, 100, true)
}

// TestBatchAmongThreeGatewaysWithAnAbsence runs three gateways against one Redis that
// is stopped, continued, and killed at the end of its life.
func TestBatchAmongThreeGatewaysWithAnAbsence(t *testing.T) {
	server := redistest.Start(t)
	const limit, k, flushEvery = 3000, 3, 20 * time.Millisecond
	var nodes [k]*limiter.Batch
	var rounds [k]atomic.Int64
	done := make(chan struct{})
	var flushers sync.WaitGroup
	for i := range nodes {
		b := limiter.NewBatch(connect(t, server), "absence", 1000)
		nodes[i] = b
		flushers.Go(func() {
			tick := time.NewTicker(flushEvery)
			defer tick.Stop()
			for {
				select {
				case <-done:
					return
				case <-tick.C:
					if b.Flush(context.Background(), noon) == nil {
						rounds[i].Add(1)
					}
				}
			}
		})
	}
	var admitted atomic.Int64
	ask := func(n int) { // n events at each gateway, over some time
		var wg sync.WaitGroup
		for _, b := range nodes {
			wg.Go(func() {
				var used [1]int64
				tick := time.NewTicker(time.Millisecond)
				defer tick.Stop()
				for range n / 10 {
					<-tick.C
					for range 10 {
						a := minute(noon, limit)
						if ok, _ := b.Take("bob", &a, used[:]); ok {
							admitted.Add(1)
						}
					}
				}
			})
		}
		wg.Wait()
	}
	synced := func() {
		t.Helper()
		var was [k]int64
		for i := range was {
			was[i] = rounds[i].Load()
		}
		for i := range was {
			redistest.Eventually(t, "flushes succeed", func() bool { return rounds[i].Load() >= was[i]+3 && nodes[i].Pending() == 0 })
		}
	}
	seen := func() (used [k]int64) {
		for i, b := range nodes {
			a := minute(noon, limit)
			b.Peek("bob", &a, used[i:i+1])
		}
		return used
	}
	ask(300)
	synced()
	ask(10) // learn what the others told last
	synced()
	server.Stop()
	before := admitted.Load()
	ask(500) // each decides by itself, and none waits
	if n := admitted.Load() - before; n != 3*500 {
		t.Errorf("%d admitted while Redis was stopped, want all 1500", n)
	}
	server.Continue()
	synced()
	ask(10)
	synced()
	sum := strconv.FormatInt(admitted.Load(), 10)
	key := "sluice:absence:{bob}s:60:" + strconv.FormatInt(noon/1000, 10)
	if got := server.Do("hget", key, "sum"); got != sum {
		t.Errorf("redis has %s, the gateways admitted %s", got, sum)
	}
	ask(2000)
	synced()
	// In each round a gateway may admit what it is asked between two flushes; on a busy
	// machine flushes come late, so the bound here is on what was asked.
	if n := admitted.Load(); n < limit || n > limit+k*2000 {
		t.Errorf("%d admitted, limit %d", n, limit)
	}
	if got := server.Do("hget", key, "sum"); got != strconv.FormatInt(admitted.Load(), 10) {
		t.Errorf("redis has %s, the gateways admitted %d", got, admitted.Load())
	}
	full := admitted.Load()
	ask(100)
	if n := admitted.Load(); n != full {
		t.Errorf("%d admitted after all knew that it was full: %v", n-full, seen())
	}
	server.Restart() // empty
	synced()
	close(done)
	flushers.Wait()
	if used := seen(); used[0] < limit {
		t.Errorf("what was known was lost with Redis: %v", used)
	}
}

// lossy is a store some of whose answers get lost, and some of whose calls arrive
// once more, later.
type lossy struct {
	limiter.Scripter
	r    *rand.Rand
	late []func()
}

var errLost = errors.New("lost")

func (l *lossy) RunMany(ctx context.Context, script string, keys, args [][]string) ([][]int64, []error) {
	outs, errs := make([][]int64, len(keys)), make([]error, len(keys))
	for i := range keys {
		switch l.r.IntN(4) {
		case 0: // never sent
			errs[i] = errLost
		case 1: // the answer got lost
			_, _ = l.Run(ctx, script, keys[i], args[i])
			errs[i] = errLost
		case 2: // arrives later
			l.late = append(l.late, func() { _, _ = l.Run(context.Background(), script, keys[i], args[i]) })
			errs[i] = errLost
		default:
			outs[i], errs[i] = l.Run(ctx, script, keys[i], args[i])
		}
	}
	if len(l.late) > 0 && l.r.IntN(3) == 0 {
		n := l.r.IntN(len(l.late))
		l.late[n]()
		l.late = append(l.late[:n], l.late[n+1:]...)
	}
	return outs, errs
}

func TestBatchCountsNothingTwice(t *testing.T) {
	server := redistest.Start(t)
	client := connect(t, server)
	for seed := range uint64(5) {
		name := "lossy" + strconv.FormatUint(seed, 10)
		r := rand.New(rand.NewPCG(seed, 3))
		stores := []*lossy{{Scripter: client, r: r}, {Scripter: client, r: r}}
		nodes := []*limiter.Batch{limiter.NewBatch(stores[0], name, 1000), limiter.NewBatch(stores[1], name, 1000)} // no shard is ever full
		var counted [5]int64
		var used [2]int64
		for range 400 {
			n := r.IntN(2)
			id := r.IntN(5)
			a := limiter.Ask{Now: noon, Cost: 1 + r.Int64N(3), Spans: []limiter.Span{limiter.SpanEvery(60, noon, 1<<40), limiter.SpanEvery(3600, noon, 1<<40)}}
			a.Spans[1].Sliding = true
			nodes[n].Take(strconv.Itoa(id), &a, used[:])
			counted[id] += a.Cost
			if r.IntN(3) == 0 {
				_ = nodes[n].Flush(context.Background(), noon)
			}
		}
		for n, b := range nodes {
			for tries := 0; b.Pending() > 0 && tries < 1000; tries++ {
				_ = b.Flush(context.Background(), noon)
			}
			for _, late := range stores[n].late {
				late()
			}
		}
		for id, want := range counted {
			for _, size := range []int64{60, 3600} {
				key := fmt.Sprintf("sluice:%s:{%d}s:%d:%d", name, id, size, noon/1000-noon/1000%size)
				if got := server.Do("hget", key, "sum"); got != strconv.FormatInt(want, 10) {
					t.Errorf("seed %d: %s is %s, want %d", seed, key, got, want)
				}
				if server.Do("ttl", key) == "-1" {
					t.Errorf("%s stays", key)
				}
			}
		}
	}
}

func TestBatchInACluster(t *testing.T) {
	servers := redistest.Cluster(t, 3)
	a, b := limiter.NewBatch(connect(t, servers...), "c", 1000), limiter.NewBatch(connect(t, servers...), "c", 1000)
	var used [1]int64
	for _, node := range []*limiter.Batch{a, b} {
		for id := range 300 {
			q := minute(noon, 10)
			q.Cost = int64(1 + id%7)
			node.Take(strconv.Itoa(id), &q, used[:])
		}
		if err := node.Flush(context.Background(), noon); err != nil {
			t.Fatal(err)
		}
	}
	for id := range 300 {
		q := minute(noon, 10)
		b.Peek(strconv.Itoa(id), &q, used[:])
		if want := int64(2 * (1 + id%7)); used[0] != want {
			t.Errorf("identity %d: %d, want %d", id, used[0], want)
		}
	}
}

func TestBatchIsBounded(t *testing.T) {
	b := limiter.NewBatch(connect(t, redistest.Start(t)), "bounded", 640)
	var used [1]int64
	now := noon
	forgotten := uint64(0)
	for id := range 20_000 {
		a := minute(now, 10)
		if _, forgot := b.Take(strconv.Itoa(id), &a, used[:]); forgot {
			forgotten++
		}
		if id%1000 == 0 && (b.Len() > 640 || b.Pending() > 640) {
			t.Fatalf("%d identities, %d pending", b.Len(), b.Pending())
		}
	}
	if b.Forgotten() != forgotten || forgotten < 19_000 {
		t.Errorf("forgotten %d, told %d", b.Forgotten(), forgotten)
	}
	if err := b.Flush(context.Background(), now); err != nil || b.Pending() != 0 {
		t.Fatalf("%v, %d pending", err, b.Pending())
	}
	for id := range 100 { // what Redis has makes room first
		a := minute(now, 10)
		if _, forgot := b.Take("n"+strconv.Itoa(id), &a, used[:]); forgot {
			t.Fatal("forgot counts although others had told theirs")
		}
	}
	now += 120_000
	for range 64 {
		if err := b.Flush(context.Background(), now); err != nil {
			t.Fatal(err)
		}
	}
	if b.Len() != 0 || b.Pending() != 0 {
		t.Errorf("%d identities, %d pending after their windows", b.Len(), b.Pending())
	}
}

// TestBatchRemembersWhatItDropped is an identity that was dropped and comes back: its
// counts in Redis are kept and are added to.
func TestBatchRemembersWhatItDropped(t *testing.T) {
	server := redistest.Start(t)
	b := limiter.NewBatch(connect(t, server), "back", 64) // one a shard
	var used [1]int64
	take := func(id string) {
		a := minute(noon, 1000)
		b.Take(id, &a, used[:])
	}
	flush := func() {
		t.Helper()
		if err := b.Flush(context.Background(), noon); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		for range 10 {
			take("bob")
		}
		flush()
		for id := range 2000 {
			take(strconv.Itoa(id))
		}
		flush()
	}
	take("bob")
	flush()
	take("bob")
	if used[0] != 52 {
		t.Errorf("bob used %d, want 52", used[0])
	}
}

func TestBatchTakeDoesNotAllocate(t *testing.T) {
	b := limiter.NewBatch(connect(t, redistest.Start(t)), "allocs", 1000)
	ids := []string{"a", "b", "c"}
	spans := make([]limiter.Span, 2)
	i := 0
	take := func() {
		var used [2]int64
		i++
		spans[0], spans[1] = limiter.SpanEvery(60, noon, 50), limiter.SpanOf(limiter.Hour, noon, 5000)
		spans[0].Sliding = true
		a := limiter.Ask{Now: noon, Cost: 1, Spans: spans}
		b.Take(ids[i%3], &a, used[:])
	}
	take()
	if n := testing.AllocsPerRun(1000, take); n != 0 {
		t.Errorf("%v allocations a decision, want 0", n)
	}
}

// TestBatchIsSafe is for the race detector: everything at once.
func TestBatchIsSafe(t *testing.T) {
	b := limiter.NewBatch(connect(t, redistest.Start(t)), "safe", 128)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			var used [1]int64
			for i := range 3000 {
				a := minute(noon+int64(i)*100, 50)
				id := strconv.Itoa((i*g + i) % 300)
				b.Take(id, &a, used[:])
				if i%7 == 0 {
					b.Peek(id, &a, used[:])
				}
				if i%500 == 0 {
					_ = b.Flush(context.Background(), a.Now)
				}
			}
		})
	}
	wg.Wait()
}
