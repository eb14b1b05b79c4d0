package lb

import (
	"slices"
	"sync"
	"testing"
)

func TestRoundRobinTurn(t *testing.T) {
	f := func(weights, want []int) {
		t.Helper()
		r := NewRoundRobin(weights)
		got := make([]int, len(want))
		for i := range got {
			got[i] = r.Pick()
		}
		if !slices.Equal(got, want) {
			t.Errorf("weights %v: got %v, want %v", weights, got, want)
		}
	}
	f(nil, []int{None, None})
	f([]int{0, 0}, []int{None})
	f([]int{7}, []int{0, 0, 0})
	f([]int{100, 100, 100}, []int{0, 1, 2, 0, 1, 2})
	f([]int{100, 0, 100}, []int{0, 2, 0, 2})
	// The example nginx's documentation of smooth round-robin gives: no burst of a.
	f([]int{5, 1, 1}, []int{0, 0, 1, 0, 2, 0, 0})
}

func TestRoundRobinProportion(t *testing.T) {
	f := func(weights []int, turn int) {
		t.Helper()
		r := NewRoundRobin(weights)
		// Shares are rounded when a turn is scaled down: one pick a target at most.
		if got := len(r.sequence); got < turn-len(weights) || got > turn+len(weights) {
			t.Errorf("weights %v: a turn of %d picks, want %d", weights, got, turn)
		}
		turn = len(r.sequence)
		counts := make([]int, len(weights))
		for range turn {
			counts[r.Pick()]++
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

// A turn shared by many goroutines still gives each target exactly its share.
func TestRoundRobinConcurrent(t *testing.T) {
	r := NewRoundRobin([]int{90, 10})
	const goroutines, picks = 8, 1000
	var mu sync.Mutex
	var wg sync.WaitGroup
	total := [2]int{}
	for range goroutines {
		wg.Go(func() {
			own := [2]int{}
			for range picks {
				own[r.Pick()]++
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

func TestRoundRobinPickOther(t *testing.T) {
	r := NewRoundRobin([]int{1, 1, 1})
	for range 6 {
		if got := r.PickOther(func(i int) bool { return i != 1 }); got != 1 {
			t.Fatalf("got %d, want 1", got)
		}
	}
	if got := r.PickOther(func(int) bool { return true }); got != None {
		t.Errorf("got %d, want None", got)
	}
}

func TestRoundRobinPickAllocatesNothing(t *testing.T) {
	r := NewRoundRobin([]int{3, 2, 1})
	if n := testing.AllocsPerRun(1000, func() { r.Pick() }); n != 0 {
		t.Errorf("%v allocations a pick", n)
	}
}
