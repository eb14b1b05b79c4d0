package lb

import (
	"math/rand/v2"
	"testing"
)

// Up to 4 targets the fastest is picked until what is under way makes up for it.
func TestLatencyMinimum(t *testing.T) {
	f := func(weights []int, latency []int64, inFlight []int, want int) {
		t.Helper()
		targets := weighing(weights...)
		for i := range targets {
			if latency[i] > 0 {
				targets[i].State.Observe(1, latency[i]*1e6)
			}
			for range inFlight[i] {
				targets[i].State.Begin()
			}
		}
		l := NewLatency(targets)
		for range 20 {
			if got := l.Pick(&Request{Now: 1}); got != want {
				t.Errorf("weights %v, latencies %v, in flight %v: got %d, want %d", weights, latency, inFlight, got, want)
			}
		}
	}
	f([]int{1, 1, 1}, []int64{30, 10, 20}, []int{0, 0, 0}, 1)
	f([]int{1, 1, 1}, []int64{30, 10, 20}, []int{0, 4, 0}, 2)
	f([]int{1, 1, 4}, []int64{30, 10, 20}, []int{0, 0, 0}, 2)
	// One of which nothing is known counts as 10 ms, like the fastest.
	f([]int{1, 1, 1}, []int64{30, 10, 0}, []int{0, 1, 0}, 2)
	f([]int{1, 1, 1}, []int64{30, 10, 0}, []int{0, 4, 1}, 2)
	f([]int{1, 1, 1}, []int64{30, 10, 0}, []int{0, 4, 3}, 0)
	// Nothing is known of any.
	f([]int{1, 1}, []int64{0, 0}, []int{1, 0}, 1)
}

// serving runs a closed loop of clients against targets that take the given
// milliseconds, and returns how many requests each got.
func serving(b Balancer, targets []Target, takes []int64, clients, requests int) []int {
	type answer struct {
		target int
		at     int64
		began  int64
	}
	busy := make([]answer, 0, clients)
	counts := make([]int, len(targets))
	now := int64(1)
	for range requests {
		if len(busy) == clients {
			first := 0
			for i := range busy {
				if busy[i].at < busy[first].at {
					first = i
				}
			}
			a := busy[first]
			busy[first] = busy[len(busy)-1]
			busy = busy[:len(busy)-1]
			now = a.at
			targets[a.target].State.Observe(now, now-a.began)
			targets[a.target].State.End()
		}
		got := b.Pick(&Request{Shard: rand.Uint64(), Now: now})
		counts[got]++
		targets[got].State.Begin()
		busy = append(busy, answer{got, now + takes[got]*1e6, now})
	}
	return counts
}

// Slow targets get little, and a new one neither all of the traffic nor none.
func TestLatencyShares(t *testing.T) {
	for _, n := range []int{4, 20} {
		targets := weighing(cycle(n, 1)...)
		takes := make([]int64, n)
		for i := range takes {
			takes[i] = 10
		}
		takes[0] = 100
		const requests = 20_000
		counts := serving(NewLatency(targets), targets, takes, 4*n, requests)
		t.Logf("%d targets: the slow one got %d of %d", n, counts[0], requests)
		if each := requests / n; counts[0] > each/3 || counts[0] == 0 {
			t.Errorf("%d targets: the slow one got %d of %d requests", n, counts[0], requests)
		}
		// A new one joins: another balancer, the same States.
		targets = append(targets, Target{Name: "new", Weight: 1, State: NewState()})
		counts = serving(NewLatency(targets), targets, append(takes, 10), 4*n, requests)
		t.Logf("%d targets: the new one got %d of %d", n, counts[n], requests)
		if each := requests / (n + 1); counts[n] > each*3 || counts[n] < each/3 {
			t.Errorf("%d targets: the new one got %d of %d requests", n, counts[n], requests)
		}
	}
}

// A new target is tried also where requests come one at a time.
func TestLatencyTriesTheUnknown(t *testing.T) {
	targets := weighing(1, 1)
	takes := []int64{10, 10}
	serving(NewLatency(targets), targets, takes, 1, 100)
	targets = append(targets, Target{Name: "new", Weight: 1, State: NewState()})
	counts := serving(NewLatency(targets), targets, append(takes, 5), 1, 300)
	if counts[2] < 150 {
		t.Errorf("the new one, the fastest, got %d of 300 requests", counts[2])
	}
}
