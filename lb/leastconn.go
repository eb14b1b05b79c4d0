package lb

import (
	"math"
	"math/rand/v2"
)

const (
	// exactMax is up to how many targets a pick looks at all of them. A power of two.
	exactMax = 16
	// sampleTurn bounds the sequence that samples are drawn from, in picks a target.
	sampleTurn = 16
	// sampleRounds is how often samples are drawn where those before may not be used.
	sampleRounds = 4
)

// LeastConnections picks the target with the least (requests in flight + 1) ÷
// weight. Up to 16 targets it looks at all of them, and equal ones come in random
// order, so that idle targets share. Above that it takes the better of two drawn in
// proportion to their weights (Mitzenmacher, "The Power of Two Choices in
// Randomized Load Balancing"):
// with 10 requests in flight a target the fullest of 100 then has 1.29 times its
// share, with 100 it has 1.03 times (all looked at: 1.10 and 1.01; round-robin: 1.60
// and 1.19), and a pick takes 27 ns instead of 420.
//
// The caller counts: State.Begin after a pick, State.End after the answer. Safe
// for concurrent use. A changed set of targets is another LeastConnections.
type LeastConnections struct{ choice }

// NewLeastConnections returns a LeastConnections over targets. One of weight 0 or
// less is never picked.
func NewLeastConnections(targets []Target) *LeastConnections {
	return &LeastConnections{newChoice(targets, exactMax)}
}

// Pick implements Balancer.
func (l *LeastConnections) Pick(r *Request) int { return l.pick(r, 0) }

// choice picks the target of the least cost, or one of little cost. Nothing in it
// is written by a pick.
type choice struct {
	members  []member
	order    []int32 // the targets of positive weight
	sequence []int32 // what samples are drawn from: each target as often as its weight says; nil to look at all
}

// member is a target as a pick sees it.
type member struct {
	state  *State
	weight float64
	scale  float64 // 1/weight
}

// newChoice lists targets, to be looked at all if they are not more than exact.
func newChoice(targets []Target, exact int) choice {
	c := choice{members: members(targets), order: weighted(targets)}
	if len(c.order) > exact {
		c.sequence = sequence(targets, sampleTurn*len(c.order))
	}
	return c
}

func members(targets []Target) []member {
	m := make([]member, len(targets))
	for i := range targets {
		weight := float64(targets[i].Weight)
		m[i] = member{targets[i].State, weight, 1 / weight}
	}
	return m
}

// cost returns what t costs now. usual is the latency of a target of which none
// is known, in nanoseconds; 0 where latencies do not count.
func (c *choice) cost(t int32, usual, now int64) float64 {
	m := &c.members[t]
	cost := float64(m.state.InFlight()+1) * m.scale
	if usual == 0 {
		return cost
	}
	if latency := m.state.Latency(now); latency > 0 {
		usual = latency
	}
	return cost * float64(usual)
}

// A bid is a cost, rounded to a float32, in the upper half of a number and what
// came with it in the lower. The least number is the least cost, found without
// a branch: one that depends on loads is guessed wrong half of the time, which
// takes longer than to work out a cost.
func bid(cost float64, with uint32) uint64 {
	return uint64(math.Float32bits(float32(cost)))<<32 | uint64(with)
}

func (c *choice) pick(r *Request, usual int64) int {
	if len(c.order) == 0 {
		return None
	}
	x := rand.Uint64()
	var t int
	if c.sequence == nil {
		best := uint64(math.MaxUint64)
		for i, t := range c.order {
			x = x*0xd1342543de82ef95 + 1
			best = min(best, bid(c.cost(t, usual, r.Now), uint32(x>>32)&^(exactMax-1)|uint32(i)))
		}
		t = int(c.order[best&(exactMax-1)])
	} else {
		// Of equal ones the first drawn: either is, as often as the other.
		pair := c.draw(x)
		best := min(bid(c.cost(pair[0], usual, r.Now), 0), bid(c.cost(pair[1], usual, r.Now), 1))
		t = int(pair[best&1])
	}
	// Fast path: the best may be used. No other is asked.
	if !r.tried(t) && c.members[t].state.Usable(r) {
		return t
	}
	return c.pickUsable(r, usual)
}

// draw returns two targets, different ones unless one weighs more than all others.
func (c *choice) draw(x uint64) [2]int32 {
	n := uint64(len(c.sequence))
	i, j := x>>32*n>>32, x&math.MaxUint32*n>>32
	if c.sequence[i] == c.sequence[j] {
		if j++; j == n {
			j = 0
		}
	}
	return [2]int32{c.sequence[i], c.sequence[j]}
}

// pickUsable is the slow path of pick: it leaves out what may not be used before
// it compares.
func (c *choice) pickUsable(r *Request, usual int64) int {
	if c.sequence != nil {
		for range sampleRounds {
			pair := c.draw(rand.Uint64())
			if t := c.least(pair[:], r, usual); t != None && c.members[t].state.Usable(r) {
				return t
			}
		}
	}
	// Two picks may want the last trial of a target, or the last place under its
	// limit. The loser looks again.
	for range 3 {
		t := c.least(c.order, r, usual)
		if t == None || c.members[t].state.Usable(r) {
			return t
		}
	}
	for _, t := range c.order {
		if !r.tried(int(t)) && c.members[t].state.Usable(r) {
			return int(t)
		}
	}
	return None
}

// least returns the target of the least cost among those that may be used, None if
// there is none. Of equal ones each may be it.
func (c *choice) least(among []int32, r *Request, usual int64) int {
	best, least := None, uint64(math.MaxUint64)
	x := rand.Uint64()
	for _, t := range among {
		x = x*0xd1342543de82ef95 + 1
		cost := bid(c.cost(t, usual, r.Now), uint32(x>>32))
		if cost <= least && c.members[t].state.Peek(r.Now) && !r.tried(int(t)) {
			best, least = int(t), cost
		}
	}
	return best
}
