package lb

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// naiveSequence is the algorithm of nginx's ngx_http_upstream_get_peer, line by line.
func naiveSequence(shares []int, total int) []int32 {
	var turn []int32
	current := make([]int, len(shares))
	for range total {
		best := None
		for i, share := range shares {
			current[i] += share
			if share > 0 && (best == None || current[i] > current[best]) {
				best = i
			}
		}
		current[best] -= total
		turn = append(turn, int32(best))
	}
	return turn
}

func TestRoundRobinTurn(t *testing.T) {
	f := func(weights, want []int) {
		t.Helper()
		rr := NewRoundRobin(weighing(weights...))
		got := make([]int, len(want))
		for i := range got {
			got[i] = rr.Pick(&Request{})
		}
		if !slices.Equal(got, want) {
			t.Errorf("weights %v: got %v, want %v", weights, got, want)
		}
	}
	f(nil, []int{None, None})
	f([]int{0, 0}, []int{None})
	f([]int{-1, 2}, []int{1, 1})
	f([]int{7}, []int{0, 0, 0})
	f([]int{100, 100, 100}, []int{0, 1, 2, 0, 1, 2})
	f([]int{100, 0, 100}, []int{0, 2, 0, 2})
	// The example nginx's commit gives: no burst of the first.
	f([]int{5, 1, 1}, []int{0, 0, 1, 0, 2, 0, 0})
}

func TestRoundRobinAgreesWithNginx(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		weights := make([]int, 1+rng.IntN(20))
		for i := range weights {
			weights[i] = rng.IntN(1 + rng.IntN(50))
		}
		targets := weighing(weights...)
		shares, total := reduce(targets, sequenceMax)
		if got, want := sequence(targets, sequenceMax), naiveSequence(shares, total); !slices.Equal(got, want) {
			t.Fatalf("weights %v: got %v, want %v", weights, got, want)
		}
	}
}

func TestRoundRobinProportion(t *testing.T) {
	f := func(weights []int, turn int) {
		t.Helper()
		rr := NewRoundRobin(weighing(weights...))
		// Shares are rounded when a turn is scaled down: one pick a target at most.
		if got := len(rr.sequence); got < turn-len(weights) || got > turn+len(weights) {
			t.Errorf("weights %v: a turn of %d picks, want %d", weights, got, turn)
		}
		turn = len(rr.sequence)
		counts := make([]int, len(weights))
		for range turn {
			counts[rr.Pick(&Request{Shard: 5})]++
		}
		sum := 0
		for _, w := range weights {
			sum += w
		}
		for i, w := range weights {
			want := float64(w) * float64(turn) / float64(sum)
			if diff := float64(counts[i]) - want; diff > 1.5 || diff < -1.5 {
				t.Errorf("weights %v: target %d came %d times in %d, want %.1f", weights, i, counts[i], turn, want)
			}
		}
	}
	f([]int{90, 10}, 10)
	f([]int{500, 300, 200}, 10)
	f([]int{65535, 65534, 3}, sequenceMax)
}

// A turn shared by many goroutines of one shard still gives each target exactly
// its share.
func TestRoundRobinConcurrent(t *testing.T) {
	rr := NewRoundRobin(weighing(90, 10))
	const goroutines, picks = 8, 1000
	var mu sync.Mutex
	var wg sync.WaitGroup
	total := [2]int{}
	for range goroutines {
		wg.Go(func() {
			own := [2]int{}
			for range picks {
				own[rr.Pick(&Request{})]++
			}
			mu.Lock()
			total[0] += own[0]
			total[1] += own[1]
			mu.Unlock()
		})
	}
	wg.Wait()
	if total != [2]int{7200, 800} {
		t.Errorf("got %v, want [7200 800]", total)
	}
}

// Clients of one request each, with Shards as connections count them.
func TestRoundRobinSpreadsClients(t *testing.T) {
	const clients = 160_000
	weights := []int{1, 2, 3, 4}
	rr := NewRoundRobin(weighing(weights...))
	counts := make([]int, len(weights))
	for i := range clients {
		counts[rr.Pick(&Request{Shard: uint64(i)})]++
	}
	for i, w := range weights {
		if want := clients * w / 10; counts[i] < want*99/100 || counts[i] > want*101/100 {
			t.Errorf("target %d got %d clients, want %d", i, counts[i], want)
		}
	}
	// Even the very first ones do not all come to one.
	rr = NewRoundRobin(weighing(1, 1, 1, 1))
	counts = make([]int, 4)
	for i := range 16 {
		counts[rr.Pick(&Request{Shard: uint64(i)})]++
	}
	if slices.Max(counts) > 6 {
		t.Errorf("the first 16 clients went to %v", counts)
	}
}

// The share of a target that is out falls on all others in proportion, not on the
// one after it.
func TestRoundRobinShareOfTheUnusable(t *testing.T) {
	f := func(weights []int, out ...int) {
		t.Helper()
		targets := weighing(weights...)
		sum := 0
		for i, w := range weights {
			if slices.Contains(out, i) {
				targets[i].State.Force(false, 0)
			} else {
				sum += w
			}
		}
		rr := NewRoundRobin(targets)
		counts := make([]int, len(weights))
		const turns = 100
		for range sum * turns {
			counts[rr.Pick(&Request{})]++
		}
		for i, w := range weights {
			if !slices.Contains(out, i) && counts[i] != w*turns {
				t.Errorf("weights %v without %v: target %d came %d times, want %d", weights, out, i, counts[i], w*turns)
			}
		}
	}
	f([]int{1, 1, 1, 1, 1}, 2)
	f([]int{1, 1, 1, 1, 1}, 0, 1)
	f([]int{5, 1, 3}, 0)
	f([]int{1, 2, 3, 4, 5}, 1, 3)
}

// What a list takes to build is bounded: a turn has so many picks, and each of them
// looks at so many different shares. (BenchmarkRingBuild has the time.)
func TestRoundRobinBuildIsBounded(t *testing.T) {
	f := func(name string, weights []int) {
		t.Helper()
		shares, total := reduce(weighing(weights...), sequenceMax)
		different := map[int]bool{}
		for _, s := range shares {
			different[s] = true
		}
		t.Logf("%s: %d picks, %d different shares", name, total, len(different))
		if total > sequenceMax+len(weights) || len(different) > 362 {
			t.Errorf("%s: %d picks, %d different shares", name, total, len(different))
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	weights := make([]int, 10_000)
	for i := range weights {
		weights[i] = 1 + rng.IntN(65_535)
	}
	weights[0] = 65_521 // a prime
	f("10,000 targets of coprime weights", weights)
	weights = weights[:0]
	for w := range 361 {
		weights = append(weights, w+1)
	}
	f("as many different shares as there can be", weights)
}
