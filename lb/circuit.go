package lb

import (
	"math"
	"sync"
	"sync/atomic"
)

// Circuit keeps requests away from what fails. Closed it lets all through and
// counts; it opens on failures in a row or on their share; once it has been open
// for its time it is half-open and lets a few trials through. A failed trial opens
// it again for twice as long, enough successful ones in a row close it.
//
// Everything a request reads is one word, the gate: 0 while closed, else the time
// from which it is worth taking the lock to ask for a trial. While it is open, or
// all trials are under way, a request is refused by one load and one comparison.
// Only what changes the circuit takes the lock, and a request that finds it taken
// counts as refused instead of waiting.
//
// A trial is told from one of an earlier half-open time by when it began: those
// of now began at or after until, all others before it. Hence no late report can
// close or open the circuit or give a slot back twice.
//
// The zero value is closed and stays so until it is configured. Times are 0 or
// later. Safe for concurrent use; not to be copied.
type Circuit struct {
	gate     atomic.Int64
	settings atomic.Pointer[CircuitSettings]
	tally    atomic.Pointer[tally] // nil without an error rate
	failures atomic.Int64          // in a row, while closed
	since    atomic.Int64          // when it last closed: attempts begun before do not count

	mu        sync.Mutex // of what follows, and of every write to gate
	cause     cause
	own, down Recovery // complete
	until     int64    // when the open time ends
	openTime  int64    // how long it was opened for
	trials    int      // under way
	successes int      // of trials, in a row
}

// CircuitSettings are when a Circuit opens and how it closes. Times are in
// nanoseconds.
type CircuitSettings struct {
	Consecutive int     // failures in a row that open it, 0 for never
	ErrorRate   float64 // percentage of failures that opens it, 0 for never
	Window      int64   // that ErrorRate looks back: between 15/16 of it and all of it
	MinRequests int     // within Window below which ErrorRate is not looked at
	Recovery
}

// Recovery is how what is out comes back by trials. Times are in nanoseconds.
type Recovery struct {
	Open      int64 // time out before the first trial, doubling with every failed one
	OpenMax   int64 // that doubling stops at; at least Open
	Trials    int   // at a time, at least 1
	Successes int   // trials in a row that must succeed, at least 1
	// Lease is after what time a trial that was not reported counts as lost and its
	// slot is given to another; 0 is a minute. It should exceed what an attempt may
	// take, else a slow trial's report is ignored.
	Lease int64
}

const leaseDefault = 60e9

// complete returns r with everything at least at its least.
func (r Recovery) complete() Recovery {
	r.OpenMax = max(r.OpenMax, r.Open)
	r.Trials = max(r.Trials, 1)
	r.Successes = max(r.Successes, 1)
	if r.Lease <= 0 {
		r.Lease = leaseDefault
	}
	return r
}

// enabled reports whether anything opens the circuit by its own counts.
func (s *CircuitSettings) enabled() bool { return s.Consecutive > 0 || s.ErrorRate > 0 }

// CircuitState is what a circuit does with requests.
type CircuitState uint8

// The states.
const (
	Closed CircuitState = iota
	Open
	HalfOpen
)

// String returns the state as metrics and the control API write it.
func (s CircuitState) String() string { return [...]string{"closed", "open", "half_open"}[s] }

// Attempt is what a report must know of what it reports.
type Attempt struct {
	Began int64  // the now that Allow was asked with
	Shard uint64 // as in Request
	Trial bool   // as Allow said
}

// cause is why a circuit is not closed.
type cause uint8

const (
	causeNone    cause = iota
	causeTripped       // its own counts, or Open
	causeDown          // the target's health
	causeForced        // an operator
)

// barred is a gate that time does not open.
const barred = math.MaxInt64

// Configure makes set what the circuit goes by from now on. One that is open
// stays so unless set cannot open it. set must not change afterwards.
func (c *Circuit) Configure(set *CircuitSettings, now int64) Change {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.configure(set, now)
}

func (c *Circuit) configure(set *CircuitSettings, now int64) Change {
	c.settings.Store(set)
	c.own = set.complete()
	switch t := c.tally.Load(); {
	case set.ErrorRate <= 0:
		c.tally.Store(nil)
	case t == nil || t.window != set.Window:
		c.tally.Store(newTally(set.Window))
	}
	switch {
	case c.cause == causeTripped && !set.enabled():
		return c.close(now)
	case c.cause == causeDown && (c.down.Open <= 0) != (c.until == barred):
		// Trials are to come where there were to be none, or the other way round.
		c.until = 0
		return c.shut(causeDown, now)
	case c.cause != causeNone:
		c.admit(now)
	}
	return Unchanged
}

// Allow reports whether a request may go through at now, and whether as a trial,
// whose outcome must be recorded: it holds one of the slots until then.
func (c *Circuit) Allow(now int64) (ok, trial bool) {
	g := c.gate.Load()
	if g == 0 {
		return true, false
	}
	if now < g || !c.mu.TryLock() {
		return false, false
	}
	defer c.mu.Unlock()
	switch g = c.gate.Load(); {
	case g == 0:
		return true, false
	case now < g:
		return false, false
	}
	rec := c.recovery()
	if c.trials >= rec.Trials {
		// The lease of the last one has ended as well: all of them are lost, and
		// with until they become strangers.
		c.trials, c.until = 0, now
	}
	c.trials++
	c.admit(now)
	return true, true
}

// Record takes in the outcome of a request that was allowed.
func (c *Circuit) Record(a Attempt, ok bool, now int64) Change {
	if a.Trial {
		v := passed
		if !ok {
			v = failed
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.tried(a, v, now)
	}
	if ok {
		// Fast path: one load, and a count if there is an error rate.
		if c.failures.Load() != 0 {
			c.failures.Store(0)
		}
		if t := c.tally.Load(); t != nil {
			t.add(a.Shard, now, false)
		}
		return Unchanged
	}
	if c.gate.Load() != 0 || a.Began < c.since.Load() {
		return Unchanged // began before it opened
	}
	return c.fail(a, now)
}

// Abandon gives back the slot of a trial that has no outcome; of other requests
// nothing need be said.
func (c *Circuit) Abandon(a Attempt, now int64) {
	if a.Trial {
		c.mu.Lock()
		c.tried(a, abandoned, now)
		c.mu.Unlock()
	}
}

// Open opens the circuit if it is closed and configured.
func (c *Circuit) Open(now int64) Change {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != causeNone || c.settings.Load() == nil {
		return Unchanged
	}
	return c.shut(causeTripped, now)
}

// Close closes the circuit and zeroes its counts.
func (c *Circuit) Close(now int64) Change {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.close(now)
}

// RetryAfter returns the nanoseconds until a request may be let through: 0 for now,
// math.MaxInt64 where time alone does not bring that. While all trials are under
// way it is the time until the slots of lost ones come back, the latest they can.
func (c *Circuit) RetryAfter(now int64) int64 {
	g := c.gate.Load()
	if g == 0 || now >= g {
		return 0
	}
	if g == barred {
		return barred
	}
	return g - now
}

// State returns what the circuit does at now. It takes the lock: for metrics.
func (c *Circuit) State(now int64) CircuitState {
	if c.gate.Load() == 0 {
		return Closed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.cause == causeNone:
		return Closed
	case now < c.until:
		return Open
	}
	return HalfOpen
}

// quiet reports whether a success has nothing to reset and nothing to count.
func (c *Circuit) quiet() bool { return c.failures.Load() == 0 && c.tally.Load() == nil }

// fail counts a failure while closed. The error rate is looked at here only: a
// success cannot raise it, though it may be what MinRequests still lacked, which
// the next failure then finds.
func (c *Circuit) fail(a Attempt, now int64) Change {
	set := c.settings.Load()
	if set == nil {
		return Unchanged
	}
	trip := set.Consecutive > 0 && c.failures.Add(1) >= int64(set.Consecutive)
	if t := c.tally.Load(); t != nil {
		t.add(a.Shard, now, true)
		all, bad := t.sum(now)
		trip = trip || all >= uint64(set.MinRequests) && float64(bad)*100 >= set.ErrorRate*float64(all)
	}
	if !trip {
		return Unchanged
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != causeNone || a.Began < c.since.Load() {
		return Unchanged // another was first
	}
	return c.shut(causeTripped, now)
}

// verdict is what came of a trial.
type verdict uint8

const (
	passed verdict = iota
	failed
	abandoned
)

// tried takes in the outcome of a trial. The caller holds the lock.
func (c *Circuit) tried(a Attempt, v verdict, now int64) Change {
	if c.cause == causeNone || a.Began < c.until || c.trials == 0 {
		return Unchanged // of an earlier half-open time, or reported twice
	}
	c.trials--
	switch v {
	case failed:
		c.reopen(now)
		return Unchanged
	case passed:
		c.successes++
		if c.successes >= c.recovery().Successes {
			return c.close(now)
		}
	}
	c.admit(now)
	return Unchanged
}

// admit sets the gate of a circuit that is not closed by how many trials are under
// way. The caller holds the lock.
func (c *Circuit) admit(now int64) {
	if rec := c.recovery(); c.trials > 0 && c.trials >= rec.Trials {
		c.gate.Store(now + rec.Lease)
	} else {
		c.gate.Store(c.until)
	}
}

// probed takes in a probe: while the circuit is half-open by its own counts it is
// a trial that takes no slot, and least is how many must succeed if that is more.
func (c *Circuit) probed(ok bool, least int, now int64) Change {
	if c.gate.Load() == 0 {
		return Unchanged
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != causeTripped || now < c.until {
		return Unchanged
	}
	if !ok {
		c.reopen(now)
		return Unchanged
	}
	c.successes++
	if c.successes >= max(least, c.own.Successes) {
		return c.close(now)
	}
	return Unchanged
}

// recovery returns the way back that goes with the cause. The caller holds the lock.
func (c *Circuit) recovery() *Recovery {
	if c.cause == causeDown {
		return &c.down
	}
	return &c.own
}

// shut opens the circuit, or gives one that is open another cause. The caller
// holds the lock.
func (c *Circuit) shut(why cause, now int64) Change {
	change := Unchanged
	if c.gate.Load() == 0 {
		change = Down
	}
	c.cause, c.trials, c.successes = why, 0, 0
	if c.openTime = c.recovery().Open; why == causeForced || why == causeDown && c.openTime <= 0 {
		c.until = barred
	} else {
		c.until = max(c.until, now+max(c.openTime, 1))
	}
	c.gate.Store(c.until)
	return change
}

// reopen opens a half-open circuit for twice as long as before. The caller holds
// the lock.
func (c *Circuit) reopen(now int64) {
	c.openTime = max(min(2*c.openTime, c.recovery().OpenMax), 1)
	c.trials, c.successes = 0, 0
	c.until = now + c.openTime
	c.gate.Store(c.until)
}

// close closes the circuit. The caller holds the lock.
func (c *Circuit) close(now int64) Change {
	if c.cause == causeNone {
		return Unchanged
	}
	c.cause, c.until, c.trials, c.successes = causeNone, 0, 0, 0
	c.failures.Store(0)
	if t := c.tally.Load(); t != nil {
		t.clear()
	}
	c.since.Store(now)
	c.gate.Store(0)
	return Up
}

const (
	tallySlots  = 16 // of a shard: two cache lines
	tallyShards = 8
	tallyBits   = 20 // of each count in a slot
	tallyMax    = 1<<tallyBits - 1
	roundMask   = 1<<(64-2*tallyBits) - 1
)

// tally counts events, and those of them that are marked, over a sliding window
// of 16 slots, the current one among them: it looks back between 15/16 of the
// window and all of it. A slot is one word, of the round of the window it was last
// used in and two counts, so a count is a compare-and-swap on memory that a core
// has mostly to itself, and slots of the past empty themselves. After 16 million
// windows without an event a round repeats. A slot that would overflow is halved,
// which keeps the ratio of its counts.
type tally struct {
	window int64
	rate   float64 // slots a nanosecond; a multiplication where a division takes 4 times as long
	shards [tallyShards][tallySlots]atomic.Uint64
}

func newTally(window int64) *tally {
	return &tally{window: window, rate: tallySlots / float64(max(window, 1))}
}

// add counts an event.
func (t *tally) add(shard uint64, now int64, marked bool) {
	tick := uint64(float64(now) * t.rate)
	slot := &t.shards[shard*0x9e3779b97f4a7c15>>61][tick%tallySlots]
	round := tick / tallySlots & roundMask
	one := uint64(1) << tallyBits
	if marked {
		one++
	}
	for {
		w := slot.Load()
		next := w + one
		switch r := w >> (2 * tallyBits); {
		case r == (round+1)&roundMask:
			return // a window late: the slot has gone on
		case r != round:
			next = round<<(2*tallyBits) + one
		case w>>tallyBits&tallyMax == tallyMax:
			next = round<<(2*tallyBits) + w>>tallyBits&tallyMax/2<<tallyBits + w&tallyMax/2 + one
		}
		if slot.CompareAndSwap(w, next) {
			return
		}
	}
}

// sum returns the counts within the window that ends at now.
func (t *tally) sum(now int64) (all, marked uint64) {
	tick := uint64(float64(now) * t.rate)
	round := tick / tallySlots
	for i := range t.shards {
		for j := range t.shards[i] {
			r := round
			if uint64(j) > tick%tallySlots {
				r--
			}
			if w := t.shards[i][j].Load(); w>>(2*tallyBits) == r&roundMask {
				all += w >> tallyBits & tallyMax
				marked += w & tallyMax
			}
		}
	}
	return all, marked
}

// clear forgets everything. A count that is under way at the same time may stay.
func (t *tally) clear() {
	for i := range t.shards {
		for j := range t.shards[i] {
			t.shards[i][j].Store(0)
		}
	}
}
