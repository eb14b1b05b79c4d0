package dns

import "sync/atomic"

// counts are what Stats reads. All only grow.
type counts struct {
	lookups, hits, stale, evicted         atomic.Uint64
	answered, denied, refused, unanswered atomic.Uint64
	ignored, overTCP                      atomic.Uint64
}

// Stats are counters since Open, and gauges.
type Stats struct {
	Lookups     uint64 // calls of Lookup with a name
	Hits        uint64 // of those, answered without waiting
	StaleServed uint64 // of those, with an expired answer

	// Tries by outcome: a question sent to one server once.
	Answered   uint64 // with records
	Denied     uint64 // no such name, or none of that type
	Refused    uint64 // by any other code, such as SERVFAIL
	Unanswered uint64 // no answer in time, or no way to ask

	Ignored uint64 // datagrams that did not answer our question: garbage or forged
	OverTCP uint64 // questions asked again over TCP

	Evictions uint64 // names dropped because the cache was full
	Names     int    // known now
	Watches   int    // open now
	Running   int    // lookups under way
	Queued    int    // names that wait for their time or for a slot
}

// Stats returns the counters.
func (r *Resolver) Stats() Stats {
	c := &r.counts
	s := Stats{
		Lookups: c.lookups.Load(), Hits: c.hits.Load(), StaleServed: c.stale.Load(),
		Answered: c.answered.Load(), Denied: c.denied.Load(), Refused: c.refused.Load(), Unanswered: c.unanswered.Load(),
		Ignored: c.ignored.Load(), OverTCP: c.overTCP.Load(),
		Evictions: c.evicted.Load(),
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Names, s.Watches = len(r.entries), r.watches
	for i := range r.lanes {
		s.Running += r.lanes[i].running
		s.Queued += len(r.lanes[i].queue)
	}
	return s
}
