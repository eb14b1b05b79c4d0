package limiter

import (
	"math"
	"math/bits"
	"slices"
	"sync"
)

// Quotas counts events by key in the current period of each of its calendars, for
// counts that must outlive the process: AppendTo and Journal turn them into bytes,
// Load and Replay back. Safe for concurrent use, but for those four, of which one
// may run at a time. Must not be copied.
//
// Unlike the keys of Windows, those of Quotas are written down: make them with a
// hash that is the same in every process.
//
// # Clocks
//
// A clock that is set back keeps counting into the period that was open, so that
// nobody gets a period twice, unless that began more than an hour later: then the
// clock was wrong before, and the count starts anew.
//
// # The bound
//
// A key whose periods have all passed makes room for others, except with an
// Anniversary, as its first use would be lost. In a full table a newcomer takes
// the place of the one that used the least; that one may get back what it had used.
type Quotas struct {
	table
	calendars []Calendar
	dirty     *[shardCount]dirty
	spare     []uint64
}

// An entry of Quotas has, after key and state, the first use, whose low bit marks
// an entry that Journal is to write, then the end of the period and the use in it
// for each calendar.
const (
	quotaFirst = 2
	quotaEnds  = 3
)

// quotaSkewMax is by how many seconds a period may begin after now and still be
// the one that is counted in.
const quotaSkewMax = 3600

// dirty are the keys of a shard that changed since the last call of Journal.
type dirty struct {
	mu   sync.Mutex
	keys []uint64
	all  bool // there were too many to list
	_    [88]byte
}

// NewQuotas returns an empty table for at most keysMax keys, rounded up to a multiple
// of 64. Limits and uses are in the order of the calendars. It panics if there is
// none, or more than 32.
func NewQuotas(calendars []Calendar, keysMax int) *Quotas {
	n := len(calendars)
	if n == 0 || n > quotaCalendarsMax {
		panic("BUG: limiter: no calendar, or too many")
	}
	q := &Quotas{table: newTable(quotaEnds+2*n, keysMax), calendars: slices.Clone(calendars), dirty: new([shardCount]dirty)}
	longest, forever := 0, false
	for i, c := range calendars {
		forever = forever || c.ResetOn == Anniversary
		if c.Period > calendars[longest].Period {
			longest = i
		}
	}
	q.live = func(now int64) span {
		if forever {
			return always
		}
		return span{q.calendars[longest].Start(now-quotaSkewMax, 0), math.MaxInt64}
	}
	q.weight = func(e []uint64) uint64 { return e[quotaEnds+2*longest+1] }
	return q
}

const quotaCalendarsMax = 32

// Take asks for an event of key that counts as cost, not negative, at now, in
// seconds since 1970. It reports whether every limit admits the event, and counts it
// if so. used receives how much of each period is used; forgot reports that another
// key lost its count because the table is full.
func (q *Quotas) Take(key uint64, now, cost int64, limits, used []int64) (ok, forgot bool) {
	n := len(q.calendars)
	limits, used = limits[:n], used[:n]
	e, last, forgot := q.lock(key, now)
	now = q.roll(e, last, now)
	ok = true
	for i := range used {
		used[i] = int64(e[quotaEnds+2*i+1])
		ok = ok && used[i] <= limits[i]-cost
	}
	if ok {
		for i := range used {
			used[i] += cost
			e[quotaEnds+2*i+1] = uint64(used[i])
		}
		q.mark(e)
	}
	unlock(e, now)
	return ok, forgot
}

// Add counts n for key at now, whatever the limits; see Take. A negative n is for
// corrections, to no less than 0: Refund knows whether the period is still the same.
func (q *Quotas) Add(key uint64, now, n int64, used []int64) (forgot bool) {
	used = used[:len(q.calendars)]
	e, last, forgot := q.lock(key, now)
	now = q.roll(e, last, now)
	for i := range used {
		u := &e[quotaEnds+2*i+1]
		*u = add(*u, n)
		used[i] = int64(*u)
	}
	q.mark(e)
	unlock(e, now)
	return forgot
}

// Refund takes back n that Take or Add counted for key at taken, in every period
// that is still the same.
func (q *Quotas) Refund(key uint64, taken, n int64) {
	e, last := q.seek(key)
	if e == nil {
		return
	}
	first := int64(e[quotaFirst] >> 1)
	for i, c := range q.calendars {
		if end := int64(e[quotaEnds+2*i]); taken < end && taken >= c.Start(end-1, first) {
			u := &e[quotaEnds+2*i+1]
			*u = add(*u, -n)
		}
	}
	q.mark(e)
	unlock(e, last)
}

// Peek stores how much of each of key's periods is used at now and counts nothing.
func (q *Quotas) Peek(key uint64, now int64, used []int64) {
	used = used[:len(q.calendars)]
	clear(used)
	e, last := q.seek(key)
	if e == nil {
		return
	}
	for i := range used {
		if !q.over(e, i, last, now) {
			used[i] = int64(e[quotaEnds+2*i+1])
		}
	}
	unlock(e, last)
}

// Ends stores when each of key's periods will end, for a header that tells. A key
// that was never used begins its anniversaries now.
func (q *Quotas) Ends(key uint64, now int64, ends []int64) {
	ends = ends[:len(q.calendars)]
	e, last := q.seek(key)
	for i, c := range q.calendars {
		switch {
		case e == nil:
			ends[i] = c.End(now, now)
		case q.over(e, i, last, now):
			ends[i] = c.End(now, int64(e[quotaFirst]>>1))
		default:
			ends[i] = int64(e[quotaEnds+2*i])
		}
	}
	if e != nil {
		unlock(e, last)
	}
}

// FirstUse returns when key was first counted, 0 if it is not known.
func (q *Quotas) FirstUse(key uint64) int64 {
	e, last := q.seek(key)
	if e == nil {
		return 0
	}
	first := int64(e[quotaFirst] >> 1)
	unlock(e, last)
	return first
}

// roll opens the periods in which now lies, and returns the time of this use.
func (q *Quotas) roll(e []uint64, last, now int64) int64 {
	if e[quotaFirst] == 0 {
		e[quotaFirst] = uint64(max(now, 1)) << 1
	}
	for i, c := range q.calendars {
		if q.over(e, i, last, now) {
			e[quotaEnds+2*i], e[quotaEnds+2*i+1] = uint64(c.End(now, int64(e[quotaFirst]>>1))), 0
		}
	}
	if last > now+quotaSkewMax {
		return now
	}
	return max(last, now)
}

// over reports that the period an entry counts in is not the one of now.
func (q *Quotas) over(e []uint64, i int, last, now int64) bool {
	end := int64(e[quotaEnds+2*i])
	if now >= end {
		return true
	}
	return last > now+quotaSkewMax && q.calendars[i].Start(end-1, int64(e[quotaFirst]>>1)) > now+quotaSkewMax
}

// mark puts a locked entry on the list of Journal, once between its calls.
func (q *Quotas) mark(e []uint64) {
	if e[quotaFirst]&1 != 0 {
		return // Fast path: it is there.
	}
	e[quotaFirst] |= 1
	d := &q.dirty[hash(e[0])>>(64-shardBits)]
	d.mu.Lock()
	if len(d.keys) < 2*q.keysMax {
		d.keys = append(d.keys, e[0])
	} else {
		d.all = true
	}
	d.mu.Unlock()
}

// Crossed reports that counting cost, after which used is used, has taken a quota
// over percent of its limit: of all admitted events of a period, one does.
func Crossed(used, cost, limit int64, percent uint8) bool {
	return reached(used, limit, percent) && !reached(used-cost, limit, percent)
}

// reached reports used/limit >= percent/100, exactly.
func reached(used, limit int64, percent uint8) bool {
	usedHi, usedLo := bits.Mul64(uint64(max(used, 0)), 100)
	hi, lo := bits.Mul64(uint64(max(limit, 0)), uint64(percent))
	return usedHi > hi || usedHi == hi && usedLo >= lo
}
