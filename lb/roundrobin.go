package lb

import "sync/atomic"

const (
	// sequenceMax bounds the memory of one turn. A turn that would be longer is
	// scaled down, each share to within 1/sequenceMax of its weight.
	sequenceMax = 1 << 16

	// walkMax bounds how far a pick walks past targets that may not be used before
	// it goes through them one by one. A walk this long finds nothing only where
	// less than 1 % of the weight can be used.
	walkMax = 512

	cursorBits = 4
)

// RoundRobin picks targets in turn, in proportion to their weights and without
// bursts: over one turn every target comes exactly weight/gcd times, spread as
// evenly as smooth weighted round-robin spreads them (the algorithm nginx
// describes in its commit 52327e0627f4). The turn is worked out when it is
// built, so a pick is one atomic addition and one load.
//
// Cores do not share a place in the turn: Request.Shard chooses one of 16, which
// start at equal distances, so a proportion is exact over the turn of each and
// clients who send one request each are spread as well.
//
// A target that may not be used is passed over and so is its place: those after
// it move up, and its share falls on all others in proportion to their weights,
// as it does in nginx.
//
// Safe for concurrent use. A changed set of targets is another RoundRobin.
type RoundRobin struct {
	members  []member
	order    []int32 // the targets of positive weight
	sequence []int32
	next     cursors
}

// NewRoundRobin returns a RoundRobin over targets. One of weight 0 or less is
// never picked.
func NewRoundRobin(targets []Target) *RoundRobin {
	rr := &RoundRobin{members: members(targets), order: weighted(targets), sequence: sequence(targets, sequenceMax)}
	rr.next.spread(len(rr.sequence))
	return rr
}

// Pick implements Balancer.
func (rr *RoundRobin) Pick(r *Request) int {
	if len(rr.sequence) == 0 {
		return None
	}
	c := rr.next.of(r)
	n := c.Add(1) - 1
	t := int(rr.sequence[n%uint64(len(rr.sequence))])
	// Fast path: nothing to pass over.
	if len(r.Tried) == 0 && rr.members[t].state.Usable(r) {
		return t
	}
	return rr.walk(r, c, n)
}

// walk is the slow path of Pick. It moves the cursor once, by as much as it
// passed over: two cores that walk at once move it too far, which costs nobody.
func (rr *RoundRobin) walk(r *Request, c *atomic.Uint64, n uint64) int {
	length := uint64(len(rr.sequence))
	at, last := n%length, None
	for passed := range min(length, walkMax) {
		if t := int(rr.sequence[at]); t != last {
			last = t
			if !r.tried(t) && rr.members[t].state.Usable(r) {
				if passed > 0 {
					c.Add(passed)
				}
				return t
			}
		}
		if at++; at == length {
			at = 0
		}
	}
	if length <= walkMax {
		return None
	}
	return sweep(r, rr.members, rr.order, n)
}

// cursors are places in a turn, one a shard, each on cache lines of its own.
type cursors [1 << cursorBits]struct {
	atomic.Uint64
	_ [120]byte
}

// of returns the cursor of r's shard. The product spreads numbers that have
// their differences in the upper bits too, such as addresses.
func (c *cursors) of(r *Request) *atomic.Uint64 {
	return &c[r.Shard*0x9e3779b97f4a7c15>>(64-cursorBits)].Uint64
}

// spread puts the cursors at equal distances in a turn of length picks.
func (c *cursors) spread(length int) {
	for i := range c {
		c[i].Store(uint64(i * length / len(c)))
	}
}

// sweep returns a target of order that may be used, None if there is none. It
// tries each once, in an order that differs with x: the same x comes to the same
// target as long as that may be used, and different ones do not all come to the
// same when others may not.
func sweep(r *Request, members []member, order []int32, x uint64) int {
	n := uint64(len(order))
	if n == 0 {
		return None
	}
	x *= 0x9e3779b97f4a7c15
	at, step := (x>>32)%n, 1+(x>>8&0xffffff)%n
	for gcd(int(step), int(n)) != 1 {
		step++
	}
	for range n {
		if t := int(order[at]); !r.tried(t) && members[t].state.Usable(r) {
			return t
		}
		at = (at + step) % n
	}
	return None
}

// weighted returns the targets of positive weight.
func weighted(targets []Target) []int32 {
	var order []int32
	for i := range targets {
		if targets[i].Weight > 0 {
			order = append(order, int32(i))
		}
	}
	return order
}

// peers are targets of one share. Smooth round-robin takes them in rotation, so
// only the next of them can be the next of all.
type peers struct {
	share   int
	members []int32
	at      int
	current int // what nginx calls current_weight, of the member at
}

// sequence returns one turn of smooth weighted round-robin, of at most
// max(lengthMax, targets) picks: each adds its share to the current weight of
// every target, takes the greatest, the first of equal ones, and takes the total
// off it. Targets of one share are handled together: a turn of 65,536 picks has
// at most 361 different shares, so the worst list takes 30 ms, and 10,000 targets
// of coprime weights 1 ms where one by one they would take a second.
func sequence(targets []Target, lengthMax int) []int32 {
	shares, total := reduce(targets, lengthMax)
	groups := make(map[int]*peers)
	var list []*peers
	for i, s := range shares {
		if s <= 0 {
			continue
		}
		g := groups[s]
		if g == nil {
			g = &peers{share: s}
			groups[s] = g
			list = append(list, g)
		}
		g.members = append(g.members, int32(i))
	}
	turn := make([]int32, total)
	for n := range turn {
		var best *peers
		for _, g := range list {
			g.current += g.share
			if best == nil || g.current > best.current ||
				g.current == best.current && g.members[g.at] < best.members[best.at] {
				best = g
			}
		}
		turn[n] = best.members[best.at]
		if best.at++; best.at == len(best.members) {
			best.at = 0
			best.current -= total
		}
	}
	return turn
}

// reduce divides weights by their greatest common divisor and, if a turn would
// still be too long, scales them down, keeping every positive one at least 1.
func reduce(targets []Target, lengthMax int) (shares []int, total int) {
	shares = make([]int, len(targets))
	divisor := 0
	for i := range targets {
		shares[i] = max(targets[i].Weight, 0)
		divisor = gcd(divisor, shares[i])
	}
	if divisor == 0 {
		return shares, 0
	}
	for i := range shares {
		shares[i] /= divisor
		total += shares[i]
	}
	if total <= lengthMax {
		return shares, total
	}
	long := total
	total = 0
	for i, s := range shares {
		if s > 0 {
			shares[i] = max(1, (s*lengthMax+long/2)/long)
		}
		total += shares[i]
	}
	return shares, total
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
