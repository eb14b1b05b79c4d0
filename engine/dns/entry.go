package dns

import (
	"container/list"
	"errors"
	"math/rand/v2"
	"slices"
	"time"
)

// failedTTLMax bounds how far repeated failures of a name are spread. A longer
// ErrorTTL stays what it is.
const failedTTLMax = 8 * time.Second

// policy are the durations by which an entry decides.
type policy struct {
	minTTL, stale, notFound, failed time.Duration

	spread func(time.Duration) time.Duration // makes a duration a little longer
}

// spread adds up to a tenth of d and up to a second, so that names that were
// asked together are not for ever.
func spread(d time.Duration) time.Duration {
	return d + rand.N(min(d/10, time.Second)+1)
}

// outcome is what asking for a name has brought: records, or an error, or both
// when some targets of SRV could not be resolved.
type outcome struct {
	records []Record
	ttl     time.Duration
	forever bool   // ttl does not count
	typ     uint16 // of the records, 0 if not from DNS
	err     error
}

// entry is what is known of one name. The Resolver's mutex guards it.
type entry struct {
	name string

	kept  []Record  // the last good answer while it may be used
	until time.Time // the TTL of kept; zero: for ever
	err   error     // of the last time asking failed
	next  time.Time // when to ask again; zero: never
	last  uint16    // the type that last worked

	denied int // how often in a row the name was said not to exist
	failed int // how often in a row asking failed

	version uint64 // counts the outcomes that watchers are told; 0: none yet

	running bool
	flight  *flight // lookups that wait
	wanted  bool    // a lookup was given a stale answer
	watches []*Watch

	lane  *lane // where it is queued
	due   time.Time
	index int
	elem  *list.Element // in recent
}

// usable reports whether kept may be served at now.
func (e *entry) usable(now time.Time, p *policy) bool {
	return e.kept != nil && (e.until.IsZero() || now.Before(e.until) || now.Before(e.until.Add(p.stale)))
}

// view returns what is known at now, and whether anything is: if not, a lookup
// has to ask.
func (e *entry) view(now time.Time, p *policy) (Answer, error, bool) {
	if e.usable(now, p) || e.kept == nil && e.err != nil && now.Before(e.next) {
		a, err := e.outcome(now)
		return a, err, true
	}
	return Answer{}, nil, false
}

// overdue reports whether it is time to ask.
func (e *entry) overdue(now time.Time) bool { return !e.next.IsZero() && !now.Before(e.next) }

// settle takes in what asking has brought.
func (e *entry) settle(now time.Time, out outcome, p *policy) {
	usable := e.usable(now, p)
	switch {
	case len(out.records) > 0 && (out.err == nil || !usable):
		e.succeed(now, out, p)
	case errors.Is(out.err, ErrNotFound):
		e.denied, e.failed = e.denied+1, 0
		if usable && e.denied < 2 {
			e.next = now.Add(p.spread(p.minTTL))
			return
		}
		e.drop(out.err)
		e.last = 0
		e.next = now.Add(p.spread(max(p.notFound, p.minTTL)))
	default:
		e.denied, e.failed = 0, min(e.failed+1, 30)
		wait := max(p.failed, p.minTTL)
		if wait < failedTTLMax && len(e.watches) > 0 { // others are asked only when somebody wants them
			wait = min(wait<<(e.failed-1), failedTTLMax)
		}
		e.next = now.Add(p.spread(wait))
		if usable {
			e.err = out.err // for lapse
			return
		}
		e.drop(out.err)
		e.last = 0
	}
}

// succeed keeps the records of out. Those that are not all there are kept as
// briefly as an error.
func (e *entry) succeed(now time.Time, out outcome, p *policy) {
	e.denied, e.failed = 0, 0
	if e.version == 0 || !slices.Equal(e.kept, out.records) {
		e.version++
	}
	e.kept, e.err = out.records, nil
	if out.typ != 0 {
		e.last = out.typ
	}
	if out.forever {
		e.until, e.next = time.Time{}, time.Time{}
		return
	}
	ttl := out.ttl
	if out.err != nil {
		e.failed = 1
		ttl = p.failed
	}
	e.until = now.Add(p.spread(max(ttl, p.minTTL)))
	e.next = e.until
}

// lapse drops a kept answer that may be used no longer, and reports whether it did.
func (e *entry) lapse(now time.Time, p *policy) bool {
	if e.kept == nil || e.usable(now, p) {
		return false
	}
	e.drop(e.err)
	e.last = 0
	if soon := now.Add(p.minTTL); e.next.Before(soon) {
		e.next = soon // watchers are told before it is asked again
	}
	return true
}

// drop replaces the kept answer by err. A failure that becomes another failure
// is no news, a name that is denied instead of failing is.
func (e *entry) drop(err error) {
	if e.version == 0 || e.kept != nil || errors.Is(e.err, ErrNotFound) != errors.Is(err, ErrNotFound) {
		e.version++
	}
	e.kept, e.err = nil, err
}

// expire makes the entry be asked at t, because the files have changed.
func (e *entry) expire(now, t time.Time) {
	if e.until.IsZero() && e.kept != nil {
		e.until = now
	}
	if e.next.IsZero() || t.Before(e.next) {
		e.next = t
	}
}
