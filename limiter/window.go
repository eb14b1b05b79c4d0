package limiter

import (
	"math"
	"slices"
)

// Windows counts events by key in the current window of each of its periods.
// Safe for concurrent use. Must not be copied.
//
// An entry is the key, the second of its last use and a count for each period:
// a count belongs to the window in which the last use lies, so that the window
// needs no word of its own and nothing is computed within a second.
type Windows struct {
	table
	periods []Period // shortest first
}

// NewWindows returns a table for the periods that holds at most keysMax keys,
// rounded up to a multiple of 64. It panics if there is no period, or one twice.
func NewWindows(periods []Period, keysMax int) *Windows {
	w := &Windows{table: newTable(2+len(periods), keysMax), periods: slices.Clone(periods)}
	slices.Sort(w.periods)
	if len(periods) == 0 || len(slices.Compact(slices.Clone(w.periods))) != len(periods) {
		panic("BUG: limiter: no period, or one twice")
	}
	longest := w.periods[len(periods)-1]
	w.live = func(now int64) span {
		start := longest.Start(now)
		return span{start, start + longest.Seconds() + 2*86400} // months and years may be longer
	}
	w.weight = func(e []uint64) uint64 { return e[len(e)-1] }
	return w
}

// Take asks for one more event of key at now: TakeN with a cost of 1.
func (w *Windows) Take(key uint64, now int64, limits, used []int64) (ok, forgot bool) {
	return w.TakeN(key, now, 1, limits, used)
}

// TakeN asks for an event of key that counts as cost, not negative, at now, in
// seconds since 1970. limits holds the most that one window of each period may
// hold, in the order of the periods, shortest first; it belongs to the call, so
// that a changed limit finds the counts as they are. TakeN reports whether every
// limit admits the event, and counts it if so. used receives how much each window
// now holds. forgot reports that another key lost its count because the table is
// full.
//
// key stands for what is counted: a hash of it, seeded if others choose it, since
// keys that are equal share their counters and keys that collide slow the table down.
func (w *Windows) TakeN(key uint64, now, cost int64, limits, used []int64) (ok, forgot bool) {
	n := len(w.periods)
	limits, used = limits[:n], used[:n]
	e, last, forgot := w.lock(key, now)
	counts := e[2 : 2+n]
	if last != now {
		now = w.roll(counts, last, now)
	}
	ok = true
	for i, c := range counts {
		used[i] = int64(c)
		ok = ok && int64(c) <= limits[i]-cost
	}
	if ok {
		for i := range counts {
			used[i] += cost
			counts[i] = uint64(used[i])
		}
	}
	unlock(e, now)
	return ok, forgot
}

// Peek stores how much of key's windows is used at now and counts nothing.
func (w *Windows) Peek(key uint64, now int64, used []int64) {
	used = used[:len(w.periods)]
	clear(used)
	e, last := w.seek(key)
	if e == nil {
		return
	}
	counts := e[2 : 2+len(used)]
	for i, c := range counts {
		if w.within(i, last, now) {
			used[i] = int64(c)
		}
	}
	unlock(e, last)
}

// Add counts n for key at now, whatever the limits: what another node has counted,
// or a cost that only the answer told. A negative n gives back, to no less than 0.
// used receives what the windows hold then; forgot is as in Take.
func (w *Windows) Add(key uint64, now, n int64, used []int64) (forgot bool) {
	used = used[:len(w.periods)]
	e, last, forgot := w.lock(key, now)
	counts := e[2 : 2+len(used)]
	if last != now {
		now = w.roll(counts, last, now)
	}
	for i := range counts {
		counts[i] = add(counts[i], n)
		used[i] = int64(counts[i])
	}
	unlock(e, now)
	return forgot
}

// roll empties the counts whose windows have passed between last and now, and
// returns the time of this use: a clock slightly behind does not turn back.
func (w *Windows) roll(counts []uint64, last, now int64) int64 {
	if ahead(last, now, skewMax) {
		return last
	}
	for i, p := range w.periods {
		if p.Start(last) == p.Start(now) {
			break // so are all longer ones: calendar windows are nested
		}
		counts[i] = 0
	}
	return now
}

func (w *Windows) within(i int, last, now int64) bool {
	return ahead(last, now, skewMax) || w.periods[i].Start(last) == w.periods[i].Start(now)
}

// ahead reports that now is a little before last.
func ahead(last, now, skew int64) bool { return last > now && last-now <= skew }

// add adds without passing 0 or the largest count.
func add(count uint64, n int64) uint64 {
	if n < 0 {
		return uint64(max(int64(count)+n, 0))
	}
	return min(count+uint64(n), math.MaxInt64)
}
