package lb

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// algorithms are all ways to pick.
var algorithms = map[string]func([]Target) Balancer{
	"roundrobin":       func(t []Target) Balancer { return NewRoundRobin(t) },
	"ketama":           func(t []Target) Balancer { return NewRing(t, RingOptions{}) },
	"ketama-bounded":   func(t []Target) Balancer { return NewRing(t, RingOptions{BalanceFactor: 125}) },
	"ketama-nginx":     func(t []Target) Balancer { return NewRing(t, RingOptions{Nginx: true}) },
	"leastconnections": func(t []Target) Balancer { return NewLeastConnections(t) },
	"latency":          func(t []Target) Balancer { return NewLatency(t) },
}

// weighing returns targets of the given weights.
func weighing(weights ...int) []Target {
	targets := make([]Target, len(weights))
	for i, w := range weights {
		targets[i] = Target{Name: fmt.Sprintf("10.0.%d.%d:8080", i/250, i%250), Weight: w, State: NewState()}
	}
	return targets
}

// cycle returns n weights, from first on one after the other.
func cycle(n int, from ...int) []int {
	weights := make([]int, n)
	for i := range weights {
		weights[i] = from[i%len(from)]
	}
	return weights
}

// Whatever is weightless, out, full or tried is not picked, whatever else may be
// is, and where nothing may be the answer is None: for lists of any size.
func TestPickUsable(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for name, open := range algorithms {
		for range 60 {
			n := rng.IntN(40)
			weights := make([]int, n)
			for i := range weights {
				weights[i] = rng.IntN(5) - 1
			}
			targets := weighing(weights...)
			usable := make([]bool, n)
			var tried []int
			share := rng.Float64()
			for i := range targets {
				usable[i] = weights[i] > 0
				if rng.Float64() < share {
					usable[i] = false
					switch rng.IntN(3) {
					case 0:
						targets[i].State.Force(false, 0)
					case 1:
						targets[i].State.SetLimit(1)
						targets[i].State.Begin()
					default:
						tried = append(tried, i)
					}
				}
			}
			b := open(targets)
			for range 50 {
				r := &Request{Hash: rng.Uint64(), Shard: rng.Uint64(), Now: rng.Int64N(1e12), Tried: tried}
				switch got := b.Pick(r); {
				case got == None && slices.Contains(usable, true):
					t.Fatalf("%s: weights %v: none picked, usable are %v", name, weights, usable)
				case got != None && !usable[got]:
					t.Fatalf("%s: weights %v: picked %d, usable are %v", name, weights, got, usable)
				}
			}
		}
	}
}

// Retries that name what was tried come to every target once, then to an end.
func TestPickTriesAll(t *testing.T) {
	for name, open := range algorithms {
		for _, n := range []int{1, 2, 3, 10, 40} {
			b := open(weighing(cycle(n, 1, 2, 3)...))
			r := &Request{Hash: 0x123456789abcdef0, Shard: 3}
			for range n {
				got := b.Pick(r)
				if got == None || slices.Contains(r.Tried, got) {
					t.Fatalf("%s, %d targets: picked %d after %v", name, n, got, r.Tried)
				}
				r.Tried = append(r.Tried, got)
			}
			if got := b.Pick(r); got != None {
				t.Errorf("%s, %d targets: picked %d after all", name, n, got)
			}
		}
	}
}

// A light target alone is found however far along a turn or a ring it is.
func TestPickFindsTheLast(t *testing.T) {
	for name, open := range algorithms {
		targets := weighing(3000, 3001, 1, 2999)
		for _, i := range []int{0, 1, 3} {
			targets[i].State.Force(false, 0)
		}
		b := open(targets)
		for i := range 100 {
			if got := b.Pick(&Request{Hash: Hash([]byte{byte(i)}), Shard: uint64(i)}); got != 2 {
				t.Fatalf("%s: picked %d, want 2", name, got)
			}
		}
	}
}

// A trial is taken by the pick that returns its target, and by no other.
func TestPickTrial(t *testing.T) {
	for name, open := range algorithms {
		targets := weighing(1, 1, 1)
		s := targets[1].State
		s.Configure(&Settings{Circuit: CircuitSettings{Consecutive: 1}, Passive: HealthLimits{}}, 0)
		s.Report(TCPFailure, &Request{Now: 1}, 1)
		if s.Circuit(1) != Open {
			t.Fatalf("the circuit is %v", s.Circuit(1))
		}
		b := open(targets)
		later := 1 + s.RetryAfter(1)
		trials := 0
		for i := range 1000 {
			r := &Request{Hash: Hash([]byte{byte(i), byte(i >> 8)}), Shard: uint64(i), Now: later}
			got := b.Pick(r)
			if r.Trial != (got == 1) {
				t.Fatalf("%s: picked %d with Trial %v", name, got, r.Trial)
			}
			if r.Trial {
				trials++
			}
		}
		if trials != 1 {
			t.Errorf("%s: %d trials, want 1", name, trials)
		}
	}
}

// Targets go out and come back, fill and empty while they are picked.
func TestPickRace(t *testing.T) {
	const pickers, picks = 4, 3000
	for name, open := range algorithms {
		targets := weighing(cycle(30, 1, 2, 3)...)
		always := len(targets) - 1
		b := open(targets)
		var done atomic.Bool
		var flipper, group sync.WaitGroup
		flipper.Go(func() {
			rng := rand.New(rand.NewPCG(3, 4))
			for now := int64(1); !done.Load(); now++ {
				targets[rng.IntN(always)].State.Force(rng.IntN(3) == 0, now)
			}
		})
		for shard := range pickers {
			group.Go(func() {
				for i := range picks {
					r := &Request{Hash: rand.Uint64(), Shard: uint64(shard), Now: int64(i) * 1e5}
					got := b.Pick(r)
					if got == None {
						t.Errorf("%s: none picked, but %d never goes out", name, always)
						return
					}
					s := targets[got].State
					s.Begin()
					s.Observe(r.Now, rand.Int64N(1e7))
					s.End()
				}
			})
		}
		group.Wait()
		done.Store(true)
		flipper.Wait()
		for i := range targets {
			if n := targets[i].State.InFlight(); n != 0 {
				t.Errorf("%s: %d in flight at the end", name, n)
			}
		}
	}
}
