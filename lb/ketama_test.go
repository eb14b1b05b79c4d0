package lb

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// naiveRing looks at every point for every key.
type naiveRing struct {
	targets []Target
	places  []uint64 // not in order
}

func naive(targets []Target, g *Ring) *naiveRing {
	n := &naiveRing{targets: targets}
	for _, p := range g.points[:len(g.points)-1] {
		n.places = append(n.places, uint64(p.position)<<32|uint64(p.target))
	}
	rand.Shuffle(len(n.places), func(i, j int) { n.places[i], n.places[j] = n.places[j], n.places[i] })
	return n
}

// pick returns the usable target whose point is the next at or after the key's.
func (n *naiveRing) pick(hash uint64, usable func(int) bool) int {
	best, distance := None, uint32(math.MaxUint32)
	for _, p := range n.places {
		if d := uint32(p>>32) - uint32(hash>>32); d <= distance && usable(int(uint32(p))) {
			best, distance = int(uint32(p)), d
		}
	}
	return best
}

func TestRingAgreesWithNaive(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		weights := make([]int, 1+rng.IntN(12))
		for i := range weights {
			weights[i] = 1 + rng.IntN(1+rng.IntN(30))
		}
		targets := weighing(weights...)
		g := NewRing(targets, RingOptions{Points: 1 + rng.IntN(40), Nginx: rng.IntN(4) == 0})
		n := naive(targets, g)
		var tried []int
		out := make([]bool, len(targets))
		for i := range targets {
			switch rng.IntN(4) {
			case 0:
				out[i] = true
				targets[i].State.Force(false, 0)
			case 1:
				out[i] = true
				tried = append(tried, i)
			}
		}
		for range 200 {
			hash := rng.Uint64()
			switch rng.IntN(8) {
			case 0:
				hash = uint64(g.points[rng.IntN(len(g.points))].position) << 32
			case 1:
				hash |= 0xffffffff << 32
			case 2:
				hash = 0
			}
			want := n.pick(hash, func(i int) bool { return !out[i] })
			if got := g.Pick(&Request{Hash: hash, Tried: tried}); got != want {
				t.Fatalf("weights %v, out %v, hash %x: got %d, want %d", weights, out, hash, got, want)
			}
		}
	}
}

// Which target has a key depends on names and weights, not on their order.
func TestRingOrder(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, o := range []RingOptions{{}, {Nginx: true}, {Points: 160}} {
		weights := make([]int, 30)
		for i := range weights {
			weights[i] = rng.IntN(20)
		}
		targets := weighing(weights...)
		shuffled := slices.Clone(targets)
		rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		a, b := NewRing(targets, o), NewRing(shuffled, o)
		for range 20_000 {
			r := &Request{Hash: rng.Uint64()}
			if x, y := targets[a.Pick(r)].Name, shuffled[b.Pick(r)].Name; x != y {
				t.Fatalf("%+v: %s in one order, %s in another", o, x, y)
			}
		}
	}
}

// Points at one position are of the first by name, in any order.
func TestRingCollision(t *testing.T) {
	targets := weighing(1, 1, 1)
	for _, order := range [][]int32{{0, 1, 2}, {2, 1, 0}} {
		g := &Ring{members: members(targets), order: order}
		g.lay(arrange([]uint64{1<<63 | 2, 1<<63 | 1, 1 << 62, 1 << 63}))
		if len(g.points) != 3 {
			t.Errorf("%d points, want 2 and the sentinel", len(g.points))
		}
		if got := g.Pick(&Request{Hash: 1 << 63}); got != int(order[0]) {
			t.Errorf("got %d, want %d", got, order[0])
		}
	}
	// Equal names: both have their share, whatever the hash makes of it.
	targets[1].Name = targets[0].Name
	shares := sharesOf(NewRing(targets, RingOptions{}), 3)
	for i, s := range shares {
		if math.Abs(s*3-1) > 0.1 {
			t.Errorf("target %d has a share of %.3f, want 1/3", i, s)
		}
	}
}

// sharesOf returns what part of all keys each target has: the exact one.
func sharesOf(g *Ring, targets int) []float64 {
	shares := make([]float64, targets)
	ring := g.points[:len(g.points)-1]
	before := ring[len(ring)-1].position
	for _, p := range ring {
		shares[p.target] += float64(p.position-before) / (1 << 32) // wraps
		before = p.position
	}
	return shares
}

var spreadSets = []struct {
	name    string
	weights []int
}{
	{"equal", []int{100}},
	{"1 to 3", []int{100, 200, 300}},
	{"1 to 10", []int{10, 20, 30, 40, 50, 60, 70, 80, 90, 100}},
}

// Every target's share of the keys is within 10 % of its share of the weight.
func TestRingSpread(t *testing.T) {
	for _, set := range spreadSets {
		for _, n := range []int{3, 10, 100, 1000} {
			worst := [2]float64{}
			for try := range max(1, 30/n) {
				weights := cycle(n, set.weights...)
				targets := weighing(weights...)
				sum := 0
				for i := range targets {
					targets[i].Name += string(rune('a' + try))
					sum += weights[i]
				}
				for k, o := range []RingOptions{{}, {Points: 160}} {
					for i, share := range sharesOf(NewRing(targets, o), n) {
						off := math.Abs(share/(float64(weights[i])/float64(sum)) - 1)
						worst[k] = max(worst[k], off)
					}
				}
			}
			t.Logf("%d targets of weights %s: worst share off by %.1f %%, with 160 points %.1f %%", n, set.name, 100*worst[0], 100*worst[1])
			// A thousand targets share 2^18 points, and the lightest have 37 each.
			limit := 0.1
			if n == 1000 && set.name == "1 to 10" {
				limit = 0.2
			}
			if worst[0] > limit {
				t.Errorf("%d targets of weights %s: a share is off by %.1f %%", n, set.name, 100*worst[0])
			}
		}
	}
}

// moves returns what part of the keys another target has when targets become the
// first n+1 of themselves, and what part of the keys moved between targets that
// both rings have.
func moves(targets []Target, n int, o RingOptions) (all, among float64) {
	a, b := NewRing(targets[:n], o), NewRing(targets[:n+1], o)
	rng := rand.New(rand.NewPCG(5, 6))
	const keys = 200_000
	for range keys {
		r := &Request{Hash: rng.Uint64()}
		if x, y := a.Pick(r), b.Pick(r); x != y {
			all++
			if y != n {
				among++
			}
		}
	}
	return all / keys, among / keys
}

// A target more or less moves its own share of the keys and at most 2 % of all.
func TestRingMoves(t *testing.T) {
	f := func(n int, weights ...int) {
		t.Helper()
		weights = cycle(n+1, weights...)
		sum := 0
		for _, w := range weights {
			sum += w
		}
		all, among := moves(weighing(weights...), n, RingOptions{})
		share := float64(weights[n]) / float64(sum)
		t.Logf("%d targets and one more: %.2f %% of the keys moved, its share is %.2f %%; between others %.2f %%", n, 100*all, 100*share, 100*among)
		if all > share+0.02 {
			t.Errorf("%d targets and one more moved %.2f %% of the keys, its share is %.2f %%", n, 100*all, 100*share)
		}
	}
	for _, n := range []int{1, 2, 3, 4, 5, 7, 10, 20, 50, 100, 300} {
		f(n, 100)
	}
	f(10, 100, 200, 300)
	f(100, 100, 200, 300)
	f(100, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
	f(3, 100, 100, 100, 1) // a canary
	f(3, 100, 100, 100, 10)
	f(10, 1)

	// What the requirement does not hold for: a new target that changes what an
	// average one is.
	_, among := moves(weighing(100, 100, 100, 200), 3, RingOptions{})
	t.Logf("three targets of weight 100 and one of 200: %.2f %% of the keys moved between others", 100*among)
	if among > 0.15 {
		t.Errorf("%.2f %% of the keys moved between others", 100*among)
	}
}

// With weights of nginx nothing moves but to and from the target that changed.
func TestRingMovesNginx(t *testing.T) {
	for _, n := range []int{1, 3, 10} {
		if _, among := moves(weighing(cycle(n+1, 1, 3, 2)...), n, RingOptions{Nginx: true}); among != 0 {
			t.Errorf("%d targets and one more: %.2f %% of the keys moved between others", n, 100*among)
		}
	}
}

// No key of a target that is in moves when others go out, and those of the others
// are spread over all.
func TestRingUnusable(t *testing.T) {
	for _, out := range []int{1, 50, 90, 98} {
		targets := weighing(cycle(100, 1, 2, 3)...)
		g := NewRing(targets, RingOptions{})
		rng := rand.New(rand.NewPCG(7, 8))
		hashes := make([]uint64, 50_000)
		owners := make([]int, len(hashes))
		for i := range hashes {
			hashes[i] = rng.Uint64()
			owners[i] = g.Pick(&Request{Hash: hashes[i]})
		}
		gone := map[int]bool{}
		for len(gone) < out {
			i := rng.IntN(100)
			gone[i] = true
			targets[i].State.Force(false, 0)
		}
		heirs := map[int]int{}
		for i, hash := range hashes {
			got := g.Pick(&Request{Hash: hash})
			switch {
			case gone[got]:
				t.Fatalf("picked %d, which is out", got)
			case !gone[owners[i]] && got != owners[i]:
				t.Fatalf("with %d out a key of %d moved to %d", out, owners[i], got)
			case gone[owners[i]]:
				heirs[got]++
			}
		}
		if len(heirs) < min(90, 100-out) {
			t.Errorf("the keys of %d targets that are out went to %d others only", out, len(heirs))
		}
	}
}

// hold sends requests for keys drawn by next until total are in flight.
func hold(g *Ring, targets []Target, total int, next func() uint64) {
	for range total {
		targets[g.Pick(&Request{Hash: next()})].State.Begin()
	}
}

func TestRingBounded(t *testing.T) {
	f := func(weights []int, factor, total, keys int) {
		t.Helper()
		targets := weighing(weights...)
		g := NewRing(targets, RingOptions{BalanceFactor: factor})
		rng := rand.New(rand.NewPCG(9, 10))
		hold(g, targets, total, func() uint64 { return Hash([]byte{byte(rng.IntN(keys))}) })
		sum := 0
		for _, w := range weights {
			sum += w
		}
		for i, w := range weights {
			most := int64(math.Ceil(float64(factor) / 100 * float64(total) * float64(w) / float64(sum)))
			if n := targets[i].State.InFlight(); n > most {
				t.Errorf("weights %v, factor %d, %d keys: target %d has %d in flight, may have %d", weights, factor, keys, i, n, most)
			}
		}
	}
	f(cycle(10, 1), 125, 1000, 256)
	f(cycle(10, 1), 125, 1000, 1) // everybody wants the same
	f(cycle(10, 1), 101, 1000, 2)
	f(cycle(10, 1, 2, 3), 150, 3000, 3)
	f([]int{10, 1}, 110, 500, 5)
	f(cycle(100, 1), 125, 2000, 7)

	// Under its bound a target keeps its keys.
	targets := weighing(cycle(10, 1)...)
	plain, bounded := NewRing(targets, RingOptions{}), NewRing(targets, RingOptions{BalanceFactor: 200})
	for i := range targets {
		for range 100 {
			targets[i].State.Begin()
		}
	}
	for i := range 1000 {
		r := &Request{Hash: Hash([]byte{byte(i), byte(i >> 8)})}
		if a, b := plain.Pick(r), bounded.Pick(r); a != b {
			t.Fatalf("bounded %d, unbounded %d", b, a)
		}
	}
	// Those that are out carry nothing: the others share what there is.
	for i := range 5 {
		targets[i].State.Force(false, 0)
	}
	r := &Request{Hash: 1 << 60, Now: 1e10}
	if got := bounded.Pick(r); got < 5 || bounded.load.ceiling.Load() != math.Float64bits(2*501.0/5) {
		t.Errorf("picked %d at %v a target, want 200.4", got, math.Float64frombits(bounded.load.ceiling.Load()))
	}
}
