package lb

import (
	"math/rand/v2"
	"testing"
)

// crowd keeps total requests in flight while others come and go, and returns how
// much more than its share the fullest target has, as a factor, on average.
func crowd(b Balancer, targets []Target, total int) float64 {
	rng := rand.New(rand.NewPCG(1, 2))
	var held []int
	sum := 0
	for i := range targets {
		sum += targets[i].Weight
	}
	factor, rounds := 0.0, 0
	for n := range 12 * total {
		got := b.Pick(&Request{Shard: rng.Uint64(), Now: int64(n) * 1000})
		targets[got].State.Begin()
		held = append(held, got)
		if len(held) > total {
			i := rng.IntN(len(held))
			targets[held[i]].State.End()
			held[i] = held[len(held)-1]
			held = held[:len(held)-1]
		}
		if n >= 4*total && n%total == 0 {
			most := 0.0
			for i := range targets {
				most = max(most, float64(targets[i].State.InFlight())*float64(sum)/float64(total*targets[i].Weight))
			}
			factor += most
			rounds++
		}
	}
	return factor / float64(rounds)
}

// leastOfAll looks at all targets, however many.
type leastOfAll struct{ choice }

func (l *leastOfAll) Pick(r *Request) int { return l.least(l.order, r, 0) }

// BenchmarkLeastOfAll is what LeastConnections saves above 16 targets.
func BenchmarkLeastOfAll(b *testing.B) {
	l := &leastOfAll{newChoice(weighing(cycle(100, 1, 2, 3)...), exactMax)}
	for _, t := range l.order {
		for range rand.IntN(100) {
			l.members[t].state.Begin()
		}
	}
	b.ReportAllocs()
	r := &Request{}
	for b.Loop() {
		r.Shard += uint64(l.Pick(r))
	}
}

// Up to 16 targets the load is even to one request; above that the better of two
// is near it, where a turn without regard to load is not.
func TestLeastConnectionsLoad(t *testing.T) {
	f := func(weights []int, total int, most float64) {
		t.Helper()
		targets := weighing(weights...)
		least := crowd(NewLeastConnections(targets), targets, total)
		targets = weighing(weights...)
		exact := crowd(&leastOfAll{newChoice(targets, exactMax)}, targets, total)
		targets = weighing(weights...)
		turn := crowd(NewRoundRobin(targets), targets, total)
		t.Logf("%d targets, %d in flight: the fullest has %.2f times its share (exact minimum %.2f, round-robin %.2f)",
			len(weights), total, least, exact, turn)
		if least > most {
			t.Errorf("%d targets, %d in flight: the fullest has %.2f times its share, want at most %.2f", len(weights), total, least, most)
		}
	}
	f(cycle(3, 1), 300, 1.06)
	f(cycle(16, 1), 1600, 1.06)
	f(cycle(16, 1, 2, 3), 3200, 1.08)
	f(cycle(100, 1), 1000, 1.45)
	f(cycle(100, 1), 10_000, 1.06)
	f(cycle(100, 1, 2, 3), 4000, 1.15)
	f(cycle(200, 1), 2000, 1.5)
}

func TestLeastConnectionsMinimum(t *testing.T) {
	f := func(weights, inFlight []int, want int) {
		t.Helper()
		targets := weighing(weights...)
		for i, n := range inFlight {
			for range n {
				targets[i].State.Begin()
			}
		}
		l := NewLeastConnections(targets)
		for range 20 {
			if got := l.Pick(&Request{}); got != want {
				t.Errorf("weights %v, in flight %v: got %d, want %d", weights, inFlight, got, want)
			}
		}
	}
	f(nil, nil, None)
	f([]int{0}, []int{0}, None)
	f([]int{1, 1, 1}, []int{2, 1, 2}, 1)
	f([]int{1, 10}, []int{0, 8}, 1)
	f([]int{1, 10}, []int{0, 10}, 0)
	f([]int{0, 10, 1}, []int{0, 3, 3}, 1)
}

// Idle targets share, and so do those beside one that is out.
func TestLeastConnectionsIdle(t *testing.T) {
	for _, n := range []int{4, 16, 40} {
		targets := weighing(cycle(n, 1)...)
		targets[1].State.Force(false, 0)
		l := NewLeastConnections(targets)
		counts := make([]int, n)
		const each = 2000
		for range each * (n - 1) {
			counts[l.Pick(&Request{})]++
		}
		for i, c := range counts {
			if i != 1 && (c < each*8/10 || c > each*12/10) {
				t.Errorf("%d targets: %d was picked %d times, want %d", n, i, c, each)
			}
		}
	}
}
