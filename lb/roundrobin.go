package lb

import "sync/atomic"

// sequenceMax bounds the memory of one turn. A turn that would be longer is
// scaled down, each share to within 1/sequenceMax of its weight.
const sequenceMax = 1 << 16

// RoundRobin picks targets in turn, in proportion to their weights and without
// bursts: over one turn every target comes exactly weight/gcd times, spread as
// evenly as smooth weighted round-robin spreads them (the algorithm nginx
// describes in its commit 52327e0627f4). The turn is worked out when it is
// built, so a pick is one atomic addition and one load.
//
// Safe for concurrent use. A changed set of targets is another RoundRobin.
type RoundRobin struct {
	sequence []int32
	_        [128]byte // next is written by every core: keep it off the line of sequence
	next     atomic.Uint64
}

// NewRoundRobin returns a RoundRobin over len(weights) targets. A target of
// weight 0 or less is never picked.
func NewRoundRobin(weights []int) *RoundRobin {
	shares, total := reduce(weights)
	r := &RoundRobin{sequence: make([]int32, 0, total)}
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
		r.sequence = append(r.sequence, int32(best))
	}
	return r
}

// Pick returns the next target, None if all weights are 0.
func (r *RoundRobin) Pick() int {
	if len(r.sequence) == 0 {
		return None
	}
	n := r.next.Add(1) - 1
	return int(r.sequence[n%uint64(len(r.sequence))])
}

// PickOther returns the next target for which avoid is false; None if there is
// none. For a further attempt after earlier ones failed: it may walk a whole turn.
func (r *RoundRobin) PickOther(avoid func(target int) bool) int {
	for range r.sequence {
		if t := r.Pick(); !avoid(t) {
			return t
		}
	}
	return None
}

// reduce divides weights by their greatest common divisor and, if a turn would
// still be too long, scales them down, keeping every positive one at least 1.
func reduce(weights []int) (shares []int, total int) {
	shares = make([]int, len(weights))
	divisor := 0
	for i, w := range weights {
		shares[i] = max(w, 0)
		divisor = gcd(divisor, shares[i])
	}
	if divisor == 0 {
		return shares, 0
	}
	for i := range shares {
		shares[i] /= divisor
		total += shares[i]
	}
	if total <= sequenceMax {
		return shares, total
	}
	long := total
	total = 0
	for i, s := range shares {
		if s > 0 {
			shares[i] = max(1, (s*sequenceMax+long/2)/long)
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
