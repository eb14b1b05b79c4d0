package canary

import "sync/atomic"

// turnShards is how many sequences of turns there are, so that cores do not share a
// counter.
const turnShards = 16

// turns shares requests out evenly. Safe for concurrent use; the zero value is ready.
type turns [turnShards]struct {
	n atomic.Uint64
	_ [120]byte // two cache lines each: adjacent lines are fetched in pairs
}

// take reports whether this turn is the canary's: limit of any steps turns are, at
// equal distances, among the requests whose connections are of the same shard.
// limit and steps are below 2^32.
func (t *turns) take(conn, limit, steps uint64) bool {
	shard := conn % turnShards
	n := t[shard].n.Add(1) - 1 + shard*(steps/turnShards) // the shards are out of step
	// Multiples of limit pass a multiple of steps limit times in steps turns.
	return n%steps*limit%steps < limit
}
