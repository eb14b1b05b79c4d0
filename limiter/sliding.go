package limiter

import (
	"math"
	"math/bits"
	"slices"
)

// Sliding counts events by key in windows of any number of seconds. Safe for
// concurrent use. Must not be copied.
//
// Windows begin at multiples of their size since 1970. A fixed window holds what
// was counted since then. A sliding window holds
//
//	current + previous × (size − elapsed) / size
//
// with the counts of the current and the previous fixed window and the time since
// the current one began (Kong: rate-limiting-advanced). An event is admitted if that
// plus its cost does not exceed the limit. The product is exact, its quotient is
// rounded up, and as all else is whole this decides as fractions would.
//
// # How far from a true log
//
// The formula assumes that the previous window's events were spread evenly. Of p
// events there, between 0 and p lie in the last size seconds, where the formula
// says p × w: with w = (size − elapsed) / size it is at most p × w above and
// p × (1 − w) below the truth. As p is at most the limit, no period of one size
// admits twice the limit, and after a quiet window it is exact.
//
// # Memory
//
// An entry is the key, the millisecond of its last use and two counts for each
// sliding window or one for each fixed window, without pointers: at most 64 bytes a
// key for one sliding window, 128 for three.
type Sliding struct {
	table
	sizes   []int64 // milliseconds
	per     int     // counts of a window: 2 if it slides
	penalty bool
}

// SlidingConfig says what a Sliding counts.
type SlidingConfig struct {
	// Seconds are the sizes of the windows, each from 1 to SlidingSecondsMax. Limits
	// and usages are in this order.
	Seconds []int64

	// Fixed makes windows begin empty at multiples of their size.
	Fixed bool

	// Penalty counts refused events too, in every window, so that who does not slow
	// down stays refused (Kong: unless disable_penalty). Fixed windows never do.
	Penalty bool

	// KeysMax bounds the table, rounded up to a multiple of 64.
	KeysMax int
}

// SlidingSecondsMax is the largest size of a window: 100 years.
const SlidingSecondsMax = 100 * 366 * 86400

// NewSliding returns an empty table. It panics if there is no window, or one of a
// size out of range.
func NewSliding(c SlidingConfig) *Sliding {
	s := &Sliding{per: 2, penalty: c.Penalty && !c.Fixed}
	if c.Fixed {
		s.per = 1
	}
	for _, seconds := range c.Seconds {
		if seconds < 1 || seconds > SlidingSecondsMax {
			panic("BUG: limiter: size of a window out of range")
		}
		s.sizes = append(s.sizes, seconds*1000)
	}
	if len(s.sizes) == 0 {
		panic("BUG: limiter: no window")
	}
	s.table = newTable(2+s.per*len(s.sizes), c.KeysMax)
	longest := slices.Max(s.sizes)
	at := 2 + s.per*slices.Index(s.sizes, longest)
	s.live = func(now int64) span {
		start := now - now%longest
		return span{start - int64(s.per-1)*longest, start + longest + 1000*skewMax}
	}
	s.weight = func(e []uint64) uint64 {
		if s.per == 1 {
			return e[at]
		}
		return e[at] + e[at+1]
	}
	return s
}

// Take asks for an event of key that counts as cost, not negative, at now, in
// milliseconds since 1970. limits are the most that each window may hold; they
// belong to the call, so that a changed limit finds the counts as they are. Take
// reports whether every window admits the event, and counts it in all of them if
// so, else in none, or in all with Penalty. used receives how much each window now
// holds, rounded up. forgot reports that another key lost its count because the
// table is full.
//
// A caller whose clock is up to 10 seconds behind that of the one before counts at
// that one's time. For key see Windows.TakeN.
func (s *Sliding) Take(key uint64, now, cost int64, limits, used []int64) (ok, forgot bool) {
	n := len(s.sizes)
	limits, used, cost = limits[:n], used[:n], min(cost, countMax)
	e, last, forgot := s.lock(key, now)
	counts := e[2:]
	now = s.roll(counts, last, now, used)
	ok = true
	for i, u := range used {
		ok = ok && u <= limits[i]-cost
	}
	if ok || s.penalty {
		for i := range used {
			c := &counts[i*s.per]
			*c = min(*c+uint64(cost), countMax)
			used[i] += cost
		}
	}
	unlock(e, now)
	return ok, forgot
}

// countMax bounds a count: two of them and a cost fit in an int64.
const countMax = math.MaxInt64 / 4

// Peek stores how much each of key's windows holds at now and counts nothing.
func (s *Sliding) Peek(key uint64, now int64, used []int64) {
	used = used[:len(s.sizes)]
	clear(used)
	e, last := s.seek(key)
	if e == nil {
		return
	}
	now = s.roll(e[2:], last, now, used)
	unlock(e, now)
}

// Add counts n for key at now, whatever the limits: what another node has counted,
// or a cost that only the answer told. A negative n gives back, to no less than 0 in
// the current windows. used receives what the windows hold then; forgot is as in
// Take.
func (s *Sliding) Add(key uint64, now, n int64, used []int64) (forgot bool) {
	used = used[:len(s.sizes)]
	e, last, forgot := s.lock(key, now)
	counts := e[2:]
	now = s.roll(counts, last, now, used)
	for i := range used {
		c := &counts[i*s.per]
		before := *c
		*c = min(add(before, n), countMax)
		used[i] += int64(*c) - int64(before)
	}
	unlock(e, now)
	return forgot
}

// Wait returns how many milliseconds after now an event of that cost would be
// admitted if nothing else were counted until then, 0 if it would be now, and -1
// if never, because it costs more than a limit. It is exact: one millisecond
// earlier the event would be refused.
func (s *Sliding) Wait(key uint64, now, cost int64, limits []int64) int64 {
	limits = limits[:len(s.sizes)]
	wait := int64(0)
	for _, l := range limits {
		if cost > l {
			return -1
		}
	}
	e, last := s.seek(key)
	if e == nil {
		return 0
	}
	var all [8]int64
	used := append(all[:0], limits...)
	at := s.roll(e[2:], last, now, used)
	for i, l := range limits {
		// Without further events every window only empties: the last to fit decides.
		if used[i] > l-cost {
			wait = max(wait, s.fits(e[2:], i, at, l-cost)-now)
		}
	}
	unlock(e, at)
	return wait
}

// fits returns when window i, that holds more at now, will hold at most room.
func (s *Sliding) fits(counts []uint64, i int, now, room int64) int64 {
	size := s.sizes[i]
	start := now - now%size
	cur := int64(counts[i*s.per])
	if s.per == 1 {
		return start + size
	}
	if prev := int64(counts[i*s.per+1]); cur <= room {
		return start + size - share(room-cur, size, prev)
	}
	// The current window becomes the previous one first.
	return start + 2*size - share(room, size, cur)
}

// share returns a × b / c rounded down, for a < c.
func share(a, b, c int64) int64 {
	hi, lo := bits.Mul64(uint64(a), uint64(b))
	q, _ := bits.Div64(hi, lo, uint64(c))
	return int64(q)
}

// roll moves the counts to the windows in which now lies, stores what each window
// holds then and returns the time of this use: a clock slightly behind does not turn
// back. It is one pass, as its divisions are most of what a window costs.
func (s *Sliding) roll(counts []uint64, last, now int64, used []int64) int64 {
	if ahead(last, now, 1000*skewMax) {
		now = last
	}
	for i, size := range s.sizes {
		elapsed := int64(uint64(now) % uint64(size))
		start := now - elapsed
		current := last >= start && last < start+size
		if s.per == 1 {
			if !current {
				counts[i] = 0
			}
			used[i] = int64(counts[i])
			continue
		}
		c := counts[2*i : 2*i+2]
		switch {
		case current:
		case last >= start-size && last < start:
			c[0], c[1] = 0, c[0]
		default:
			c[0], c[1] = 0, 0
		}
		used[i] = int64(c[0] + weigh(c[1], uint64(size-elapsed), uint64(size)))
	}
	return now
}

// weigh returns count × left / size, rounded up.
func weigh(count, left, size uint64) uint64 {
	if count == 0 {
		return 0 // Fast path: the previous window was quiet.
	}
	hi, lo := bits.Mul64(count, left)
	if hi != 0 {
		q, r := bits.Div64(hi, lo, size)
		if r != 0 {
			q++
		}
		return q
	}
	q := lo / size
	if q*size != lo {
		q++
	}
	return q
}
