package lb

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

const (
	// pointsDefault keeps most shares of targets of average weight within 8 % and
	// leaves trim the rest and what is lighter. Kong's 160 do not: see Ring. More
	// points cost little: a pick among 100 targets takes 27 ns with 160 each, 29.5
	// with 1,024 and 33 with 2,048, of which the key's hash is 10.
	pointsDefault = 1024
	// pointsFew is ketama's number. Rings of very many targets fall back to it.
	pointsFew = 160
	// pointsTotal is what all targets together share once there are more than 256
	// of them: 2 MiB. It would be reached by fewer if a ring's size depended on
	// more than its largest weights, and then each new target would move keys.
	pointsTotal = 1 << 18

	// trimMargin is the error of a share above which trim changes it, and half of
	// which it leaves: a target at the margin must not jump when it passes it.
	trimMargin = 0.08
	trimRounds = 8
)

// Ring picks by consistent hashing: ketama's construction. Each target has a
// number of points on a ring of 2^32 positions, in proportion to its weight, and
// a key belongs to the first point at or after the key's own position. Points and
// keys are placed by xxhash; which target a point belongs to depends on names and
// weights alone, not on the order of targets.
//
// Kong gives a target of average weight 160 points. Measured over sets of 3, 10
// and 100 targets the worst share is then off by 12, 17 and 22 % where weights
// are equal, by 19, 34 and 39 % where they are 1 to 10: an arc's length is
// random, and n of them together are off by 1/sqrt(n). With 1,024 points it is 6,
// 10 and 9 %, and 7, 14 and 18 %. So that is the number here, and what is still
// off by more than 8 % gets fewer or more points until it is within that. Kong
// also counts points from the average weight, so a canary of weight 1 beside
// three targets of 100 moves 16 % of all keys; here they are counted from the
// weight that the average key finds, sum(w²)/sum(w), and it moves 0.6 %.
//
// One target more among equal ones moves its share of the keys and at most 0.6 %
// between others, where trim had a say. Where weights differ that part grows with
// how much the new one changes sum(w²)/sum(w): with weights of 1 to 3 it is 5 %
// beside 3 targets, 2 % beside 20 and 0.2 % beside 100, and a fourth of weight 200
// beside three of 100 moves 8 %.
//
// The owner of a key may be unusable, tried or full: the pick then walks on along
// the ring to the next target that may be used, so that no other key moves. It
// walks at most 512 points, and then goes through all targets in an order that
// depends on the key, which keeps this too.
//
// Reads take no lock and, but for a bounded load's total, write nothing. Safe for
// concurrent use. A changed set of targets is another Ring.
type Ring struct {
	points  []point  // by position, and the first once more as the last
	cells   []uint32 // for each value of the upper bits of a position, the first point to look at
	shift   uint8
	members []member
	order   []int32 // the targets of positive weight, by name

	// factor is how many times its share of all requests in flight a target may
	// have, 0 for any.
	factor float64
	load   load
}

// point is the end of an arc and the target that has it.
type point struct {
	position uint32
	target   int32
}

// RingOptions say how a Ring is built.
type RingOptions struct {
	// Points is how many points a target of average weight has; 0 for the default
	// of 1024. With more than 256 targets it is 2^18/targets, but 160 at least.
	Points int
	// Nginx makes the ring that of nginx's "hash $key consistent": 160 points for
	// each unit of weight, placed by CRC-32. Points does nothing then, and
	// Request.Hash must be of NginxHash.
	Nginx bool
	// BalanceFactor bounds the load of a target: to this many percent of its share
	// of all requests in flight. 0 does not bound it; 1 to 100 count as 101.
	BalanceFactor int
}

// NewRing returns a Ring over targets. One of weight 0 or less is never picked.
// Names should be distinct: with Nginx only one of equal names has points.
func NewRing(targets []Target, o RingOptions) *Ring {
	g := &Ring{members: members(targets), order: weighted(targets)}
	if o.BalanceFactor > 0 {
		g.factor = float64(max(o.BalanceFactor, 101)) / 100
	}
	g.load.read.Store(longAgo)
	if len(g.order) == 0 {
		return g
	}
	slices.SortStableFunc(g.order, func(a, b int32) int {
		return cmp.Or(cmp.Compare(targets[a].Name, targets[b].Name), targets[b].Weight-targets[a].Weight)
	})
	inOrder := make([]Target, len(g.order))
	for rank, t := range g.order {
		inOrder[rank] = targets[t]
	}
	var places []uint64
	if o.Nginx {
		places = arrange(nginxPlaces(inOrder))
	} else {
		places = ketamaPlaces(inOrder, cmp.Or(max(o.Points, 0), pointsDefault))
	}
	g.lay(places)
	return g
}

// Pick implements Balancer. It depends on r.Hash and on which targets may be used.
func (g *Ring) Pick(r *Request) int {
	if len(g.points) == 0 {
		return None
	}
	at := g.find(uint32(r.Hash >> 32))
	if g.factor != 0 {
		return g.pickBounded(r, at)
	}
	// Fast path: the owner.
	if t := int(g.points[at].target); len(r.Tried) == 0 && g.members[t].state.Usable(r) {
		return t
	}
	if t := g.walk(r, at, math.Inf(1)); t != None {
		return t
	}
	return sweep(r, g.members, g.order, r.Hash>>32)
}

// find returns the first point at or after position.
func (g *Ring) find(position uint32) int {
	at := g.cells[position>>g.shift]
	for g.points[at].position < position {
		at++
	}
	return int(at)
}

// walk returns the first target from a point on that may be used and has less
// than ceiling requests in flight for each unit of weight, None if walkMax points
// have none.
func (g *Ring) walk(r *Request, at int, ceiling float64) int {
	last := None
	ring := len(g.points) - 1
	for range min(ring, walkMax) {
		if at == ring {
			at = 0
		}
		if t := int(g.points[at].target); t != last {
			last = t
			m := &g.members[t]
			if !r.tried(t) && float64(m.state.InFlight()) < ceiling*m.weight && m.state.Usable(r) {
				return t
			}
		}
		at++
	}
	return None
}

// load is what all targets of a bounded Ring have to do, as of the last time
// somebody added it up.
type load struct {
	_       [64]byte
	ceiling atomic.Uint64 // requests in flight a unit of weight may have: the bits of a float64
	read    atomic.Int64  // when
	_       [112]byte
}

// longAgo is a time before every Request.Now that leaves room for differences.
const longAgo = math.MinInt64 / 2

// pickBounded is consistent hashing with bounded loads (Mirrokni, Thorup and
// Zadimoghaddam, 2016): a target takes the request if that leaves it with at most
// ceil(factor × (all in flight + 1) × its share of the weight), else the next on
// the ring is asked. All in flight, and the weight of those that may be used, are
// added up once a millisecond (in 10 µs a target where there are more than 100),
// which costs each pick next to nothing, and again when nobody is left under a
// bound that is too old. Until then the bound may lag behind by as much.
func (g *Ring) pickBounded(r *Request, at int) int {
	period := max(1e6, int64(len(g.order))*1e4)
	if read := g.load.read.Load(); r.Now-read >= period && g.load.read.CompareAndSwap(read, r.Now) {
		g.addUp(r.Now)
	}
	ceiling := math.Float64frombits(g.load.ceiling.Load())
	// Fast path: the owner.
	m := &g.members[g.points[at].target]
	if len(r.Tried) == 0 && float64(m.state.InFlight()) < ceiling*m.weight && m.state.Usable(r) {
		return int(g.points[at].target)
	}
	if t := g.walk(r, at, ceiling); t != None {
		return t
	}
	if ceiling = g.addUp(r.Now); ceiling > 0 {
		if t := g.walk(r, at, ceiling); t != None {
			return t
		}
		// Slow path: those with room were tried or are too far along.
		if t := g.walk(r, at, math.Inf(1)); t != None {
			return t
		}
	}
	return sweep(r, g.members, g.order, r.Hash>>32)
}

// addUp works out the ceiling and returns it, 0 if no target may be used.
func (g *Ring) addUp(now int64) float64 {
	var inFlight int64
	var weight, ceiling float64
	for _, t := range g.order {
		// A full one is no room, but it carries its share.
		if m := &g.members[t]; m.state.Peek(now) || m.state.Full() {
			inFlight += m.state.InFlight()
			weight += m.weight
		}
	}
	if weight > 0 {
		ceiling = g.factor * float64(inFlight+1) / weight
	}
	g.load.ceiling.Store(math.Float64bits(ceiling))
	return ceiling
}

// lay puts arranged places on the ring. At one position the first of the order
// stays, whoever it is that the caller listed first.
func (g *Ring) lay(places []uint64) {
	g.points = make([]point, 0, len(places)+1)
	for _, p := range places {
		position := uint32(p >> 32)
		if n := len(g.points); n == 0 || g.points[n-1].position != position {
			g.points = append(g.points, point{position, g.order[uint32(p)]})
		}
	}
	// One to two cells a point: a lookup compares 1.25 to 1.5 points on average.
	width := bits.Len(uint(len(g.points) - 1))
	g.shift = uint8(32 - width)
	g.cells = make([]uint32, 1<<width)
	at := uint32(0)
	for c := range g.cells {
		for int(at) < len(g.points) && g.points[at].position < uint32(c)<<g.shift {
			at++
		}
		g.cells[c] = at
	}
	// A key after the last point belongs to the first.
	g.points = append(g.points, point{math.MaxUint32, g.points[0].target})
}

// A place is a position in the upper half and a target's rank in the order by
// name in the lower, so that places compare by position and then by name.

// ketamaPlaces returns the arranged places of targets, which are in order.
func ketamaPlaces(targets []Target, points int) []uint64 {
	var sum, squares float64
	for i := range targets {
		w := float64(targets[i].Weight)
		sum += w
		squares += w * w
	}
	points = min(points, max(pointsTotal/len(targets), pointsFew))
	counts := make([]int, len(targets))
	total := 0
	for i := range targets {
		counts[i] = max(1, int(float64(points)*float64(targets[i].Weight)*sum/squares))
		total += counts[i]
	}
	places := arrange(scatter(targets, counts))
	// Ten thousand targets are built twice, not nine times.
	rounds := min(trimRounds, 8*pointsTotal/total)
	best, least := places, math.Inf(1)
	for {
		worst := trim(targets, counts, places, sum)
		if worst < least {
			best, least = places, worst
		}
		if rounds--; worst <= trimMargin || rounds < 0 {
			return best
		}
		places = arrange(scatter(targets, counts))
	}
}

// scatter returns the first counts[i] places of each target.
func scatter(targets []Target, counts []int) []uint64 {
	total := 0
	for _, n := range counts {
		total += n
	}
	places := make([]uint64, 0, total)
	var text []byte
	again := 0
	for rank := range targets {
		text = append(text[:0], targets[rank].Name...)
		if rank > 0 && targets[rank].Name == targets[rank-1].Name {
			again++
			text = strconv.AppendInt(append(text, '#'), int64(again), 10)
		} else {
			again = 0
		}
		text = append(text, ' ')
		name := len(text)
		for n := range counts[rank] {
			text = strconv.AppendInt(text[:name], int64(n), 10)
			places = append(places, xxhash.Sum64(text)>>32<<32|uint64(rank))
		}
	}
	return places
}

// trim changes the counts of targets whose share of the ring is off by more than
// trimMargin, and returns how far off the worst was. With less than about 50 points
// a target may not come that near, since one more or less changes too much.
func trim(targets []Target, counts []int, places []uint64, sum float64) (worst float64) {
	arcs := make([]uint64, len(targets))
	before := places[len(places)-1]>>32 - 1<<32 // wraps, and so does the difference
	for _, p := range places {
		arcs[uint32(p)] += p>>32 - before
		before = p >> 32
	}
	for i := range targets {
		want := float64(targets[i].Weight) / sum
		off := float64(arcs[i])/(1<<32)/want - 1
		worst = max(worst, math.Abs(off))
		if math.Abs(off) <= trimMargin {
			continue
		}
		scale := (1 + math.Copysign(trimMargin/2, off)) / (1 + off)
		counts[i] = max(1, int(math.Round(float64(counts[i])*min(max(scale, 0.5), 2))))
	}
	return worst
}

// arrange sorts places. They are spread evenly, so one pass puts each near where
// it belongs: 2^18 of them take 4 ms, 23 by slices.Sort.
func arrange(places []uint64) []uint64 {
	width := bits.Len(uint(len(places) - 1))
	shift := 64 - width
	starts := make([]uint32, 1<<width+1)
	for _, p := range places {
		starts[p>>shift+1]++
	}
	for i := 1; i < len(starts); i++ {
		starts[i] += starts[i-1]
	}
	sorted := make([]uint64, len(places))
	for _, p := range places {
		sorted[starts[p>>shift]] = p
		starts[p>>shift]++
	}
	for i := 1; i < len(sorted); i++ {
		p, at := sorted[i], i
		for ; at > 0 && sorted[at-1] > p; at-- {
			sorted[at] = sorted[at-1]
		}
		sorted[at] = p
	}
	return sorted
}
