// Package lb picks a target. It knows neither HTTP nor addresses: a target is
// an index, a weight is a number, time is an argument, and nothing here reads a
// clock or a socket.
//
//	balancer.go    Target, Request, and the Balancer that every algorithm is
//	roundrobin.go  smooth weighted round-robin
//	ketama.go      consistent hashing on a ring
//	leastconn.go   fewest requests in flight
//	latency.go     peak EWMA of how fast a target answers
//	state.go       what changes of a target while it serves: its mode, load, latency
//	health.go      Kong's counters of successes and failures
//	circuit.go     closed, open, half-open
//	budget.go      how many retries the traffic can bear
//	ramp.go        steps of weight for a canary, with a way back
package lb

import "slices"

// None is what a pick returns when there is no target to pick.
const None = -1

// Target is one target of a Balancer.
type Target struct {
	// Name tells the target apart on a ring, whatever the order: "ip:port".
	Name string
	// Weight is the target's share; 0 or less keeps it out.
	Weight int
	// State is shared by all balancers that have the target. Never nil.
	State *State
}

// Request is what a pick may depend on. It belongs to one goroutine.
type Request struct {
	// Hash is of the input of consistent hashing.
	Hash uint64
	// Shard spreads what many cores would write: any number that differs between
	// clients and costs nothing, such as a connection's.
	Shard uint64
	// Now is the time in nanoseconds, from any fixed start.
	Now int64
	// Tried are the targets that earlier attempts of this request used.
	Tried []int
	// Careful says that the request cannot be sent again: it is a trial only where
	// no other came for carefulWait, since with a failed trial it fails.
	Careful bool
	// Trial is set by a pick whose target is half-open: the caller must report
	// the outcome to the target's State.
	Trial bool
}

func (r *Request) tried(i int) bool { return slices.Contains(r.Tried, i) }

// Balancer picks among a fixed list of targets. Immutable but for what is atomic
// in it: a changed list is another Balancer. Safe for concurrent use.
type Balancer interface {
	// Pick returns the index of a target that may be used now and was not tried,
	// None if there is none. It allocates nothing and takes no lock.
	Pick(r *Request) int
}
