package lb

import "sync/atomic"

// Event is how an attempt or a probe ended: one kind, to which Fault may be
// or-ed. A caller works out the Event of every status when it loads and looks it
// up, so that what the operator listed costs a request one load.
type Event uint8

// The kinds, and Fault. The order matters: see broken.
const (
	Ignored     Event = iota // 0: answered, with a status that is in neither list
	Abandoned                // no outcome: the client went away, or the gateway gave up
	Success                  // a status of the healthy list
	HTTPFailure              // a status of the unhealthy list
	TCPFailure               // could not connect, or the connection broke
	Timeout                  // took too long

	// Fault marks an answer that the circuit counts as a failure, whatever its
	// kind: the circuit has a list of statuses of its own. TCPFailure and Timeout
	// are failures to it without the mark.
	Fault Event = 1 << 3
)

// broken reports whether the circuit counts e as a failure.
func (e Event) broken() bool { return e >= TCPFailure }

// kind is e without the mark.
func (e Event) kind() Event { return e &^ Fault }

// Change is what a report did to whether something is in rotation. Of any number
// of concurrent reports exactly one returns a given change.
type Change int8

// The changes.
const (
	Unchanged Change = iota
	Down             // was in, is out
	Up               // was out, is in
)

// HealthLimits are the counts at which a target changes sides, 0 for never, at
// most 255. Active and passive checks share the counters, each has its limits.
type HealthLimits struct {
	Successes    int
	HTTPFailures int
	TCPFailures  int
	Timeouts     int
}

// limit returns the limit of an event's kind, 0 for a kind that is not counted.
func (l *HealthLimits) limit(kind Event) int {
	switch kind {
	case Success:
		return l.Successes
	case HTTPFailure:
		return l.HTTPFailures
	case TCPFailure:
		return l.TCPFailures
	case Timeout:
		return l.Timeouts
	}
	return 0
}

// counts reports whether anything can make a target unhealthy.
func (l *HealthLimits) counts() bool { return l.HTTPFailures|l.TCPFailures|l.Timeouts != 0 }

// Health is the state machine of lua-resty-healthcheck, which is Kong's: four
// counters of 8 bits and the side the target is on; a new one is healthy.
//
//   - A failure zeroes the counter of successes and counts under its own kind; the
//     kinds are not added up. A success zeroes all counters of failures.
//   - A counter that reaches its limit puts the target on the other side.
//   - An event whose limit is 0 does nothing at all. So without a limit of
//     successes they never zero failures, and a limit of 5 failures means 5 in
//     total, not in a row.
//   - Nothing is counted towards the side the target is fully on.
//
// Kong tells "healthy" from "mostly healthy" and keeps counters over a change. That
// shows in no decision: the first event towards the other side zeroes what was
// kept. So here counters are zeroed by a change, and the side and the counters of
// the other side are the whole state.
//
// The zero value is a healthy target. Safe for concurrent use; lock-free.
type Health struct {
	word atomic.Uint64 // counters by kind, 8 bits each; sick
}

// sick marks an unhealthy target in Health.word. Bits below are the counters.
const sick = 1 << 63

// failuresMask covers the counters of failures.
const failuresMask = 0xff<<(8*HTTPFailure) | 0xff<<(8*TCPFailure) | 0xff<<(8*Timeout)

// Report counts an event against limits.
func (h *Health) Report(e Event, l *HealthLimits) Change {
	w := h.word.Load()
	// Fast path: a success where no failure was counted.
	if w == 0 && e == Success {
		return Unchanged
	}
	kind := e.kind()
	limit := l.limit(kind)
	if limit <= 0 {
		return Unchanged
	}
	for {
		next, change := step(w, kind, uint64(limit))
		if next == w || h.word.CompareAndSwap(w, next) {
			return change
		}
		w = h.word.Load()
	}
}

// step is the state machine: what becomes of w when one more event of the kind
// has happened.
func step(w uint64, kind Event, limit uint64) (next uint64, change Change) {
	shift := 8 * kind
	count := w >> shift & 0xff
	if count < 0xff { // a limit lowered below the count must not wrap it
		count++
	}
	if kind == Success {
		switch {
		case w&sick == 0: // to zero the failures is all that a success can do here
			return w &^ failuresMask, Unchanged
		case count >= limit:
			return 0, Up
		}
		return sick | count<<shift, Unchanged
	}
	switch {
	case w&sick != 0:
		return sick, Unchanged
	case count >= limit:
		return sick, Down
	}
	return w&^(0xff<<shift) | count<<shift, Unchanged
}

// Healthy reports on which side the target is.
func (h *Health) Healthy() bool { return h.word.Load()&sick == 0 }

// Force puts the target on a side and zeroes the counters: an operator's word.
func (h *Health) Force(healthy bool) {
	if healthy {
		h.word.Store(0)
	} else {
		h.word.Store(sick)
	}
}
