package pipeline

import "sync/atomic"

// Node is the running gateway as its metrics describe it. One a process; safe
// for concurrent use.
type Node struct {
	ID      string // UUID, new at every start unless gateway.node_id is set
	Version string

	// Connections of clients to the proxy listeners since the start, and now.
	Accepted atomic.Int64
	Active   atomic.Int64
	// Requests counts requests of clients, whatever became of them.
	Requests ShardedCounter

	// Targets lists the targets of every upstream with their health.
	// The engine replaces it with each snapshot.
	Targets atomic.Pointer[func(yield func(TargetHealth) bool)]
}

// TargetHealth is one address of an upstream and what is known of it.
type TargetHealth struct {
	Upstream string // name of the upstream
	Target   string // as written in the document
	Address  string // ip:port, or the target where no address is known
	State    string // healthchecks_off, healthy, unhealthy or dns_error
	Weight   int

	Circuit     string // closed, open or half_open
	InFlight    int64  // requests under way, where they are counted
	Connections int64  // in use and idle
}

// counterShards is a power of two above the cores a gateway usually gets.
const counterShards = 16

// ShardedCounter counts what many cores count at once. The shard is the
// caller's, from something free such as a connection's number.
type ShardedCounter struct {
	shards [counterShards]struct {
		n atomic.Int64
		_ [120]byte // one shard, two cache lines: adjacent lines are prefetched in pairs
	}
}

// Add adds n in the given shard; any number is a valid shard.
func (c *ShardedCounter) Add(shard uint32, n int64) {
	c.shards[shard%counterShards].n.Add(n)
}

// Load returns the sum of all shards.
func (c *ShardedCounter) Load() int64 {
	var n int64
	for i := range c.shards {
		n += c.shards[i].n.Load()
	}
	return n
}
