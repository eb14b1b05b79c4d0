package limiter

import (
	"slices"
	"sync"
)

// Windows counts events by key in the current window of each of its periods.
// Safe for concurrent use. Must not be copied.
type Windows struct {
	periods []Period // shortest first
	stride  int      // words of an entry
	keysMax int      // of one shard
	shards  *[shardCount]shard
}

const (
	shardBits  = 6
	shardCount = 1 << shardBits
	slotsMin   = 8

	// reach is how many slots are compared to find the entry to forget.
	reach = 16

	// skewMax is how many seconds a caller's clock may be behind that of the
	// caller who opened a window and still count into that window.
	skewMax = 10
)

// shard is a part of the table with its own lock. It is a cache line, and the
// array of all is a size at which the allocator aligns, so no two share a line.
type shard struct {
	mu     sync.Mutex
	slots  []uint64 // entries of stride words: key, then start and count of each period
	size   int      // slots, a power of two
	used   int      // slots with a key, current or not
	forgot uint64
	_      [8]byte
}

// NewWindows returns a table for the periods that holds at most keysMax keys,
// rounded up to a multiple of 64. It panics if there is no period, or one twice.
func NewWindows(periods []Period, keysMax int) *Windows {
	w := &Windows{periods: slices.Clone(periods), stride: 1 + 2*len(periods), shards: new([shardCount]shard)}
	slices.Sort(w.periods)
	if len(periods) == 0 || len(slices.Compact(slices.Clone(w.periods))) != len(periods) {
		panic("BUG: limiter: no period, or one twice")
	}
	w.keysMax = max((keysMax+shardCount-1)/shardCount, 1)
	return w
}

// Take asks for one more event of key at now, in seconds since 1970. limits holds
// the most events that one window of each period may hold, in the order of the
// periods, shortest first; it belongs to the call, so that a changed limit finds
// the counts as they are. Take reports whether every limit admits the event, and
// counts it if so. used receives how many events each window now holds. forgot
// reports that another key lost its count because the table is full.
//
// key stands for what is counted: a hash of it, seeded if others choose it, since
// keys that are equal share their counters and keys that collide slow the table down.
func (w *Windows) Take(key uint64, now int64, limits, used []int64) (ok, forgot bool) {
	limits, used = limits[:len(w.periods)], used[:len(w.periods)]
	var all [Periods]int64
	starts := all[:len(w.periods)]
	for i, p := range w.periods {
		starts[i] = p.Start(now)
	}
	if key == 0 {
		key = 1 // 0 marks an empty slot
	}
	s := &w.shards[hash(key)>>(64-shardBits)]

	s.mu.Lock()
	e, forgot := w.entry(s, key, starts, now)
	ok = true
	for i := range starts {
		if !current(e[1+2*i], starts[i], now) {
			e[1+2*i], e[2+2*i] = uint64(starts[i]), 0
		}
		used[i] = int64(e[2+2*i])
		ok = ok && used[i] < limits[i]
	}
	if ok {
		for i := range used {
			e[2+2*i]++
			used[i]++
		}
	}
	s.mu.Unlock()
	return ok, forgot
}

// Len returns how many keys the table holds, including those whose windows have
// passed and whose slots wait for reuse.
func (w *Windows) Len() int {
	n := 0
	for i := range w.shards {
		s := &w.shards[i]
		s.mu.Lock()
		n += s.used
		s.mu.Unlock()
	}
	return n
}

// Bytes returns the size of the table in memory.
func (w *Windows) Bytes() int {
	n := shardCount * 64
	for i := range w.shards {
		s := &w.shards[i]
		s.mu.Lock()
		n += 8 * len(s.slots)
		s.mu.Unlock()
	}
	return n
}

// Forgotten returns how many keys lost their count because the table was full.
func (w *Windows) Forgotten() uint64 {
	var n uint64
	for i := range w.shards {
		s := &w.shards[i]
		s.mu.Lock()
		n += s.forgot
		s.mu.Unlock()
	}
	return n
}

// entry returns the words of key's entry, making one if there is none. The
// shard's lock is held.
func (w *Windows) entry(s *shard, key uint64, starts []int64, now int64) (e []uint64, forgot bool) {
	at, free := w.find(s, key, starts, now)
	if at >= 0 {
		return s.slots[at : at+w.stride], false // Fast path: the key has been here.
	}
	reuse := free >= 0 && s.slots[free] != 0
	switch {
	case reuse:
	case s.used == w.keysMax:
		forgot = w.forget(s, key, starts, now)
		_, free = w.find(s, key, starts, now)
	case s.used*5 >= w.slots(s)*4:
		// Slow path: a shard grows a few times in its life.
		w.rebuild(s, starts, now)
		_, free = w.find(s, key, starts, now)
	}
	if !reuse {
		s.used++
	}
	e = s.slots[free : free+w.stride]
	clear(e)
	e[0] = key
	return e, forgot
}

// find returns where key's entry is, or -1 and where one may be made: the first
// slot on the way whose windows have passed, else the empty one that ended it,
// -1 in a shard without slots.
func (w *Windows) find(s *shard, key uint64, starts []int64, now int64) (at, free int) {
	free = -1
	if len(s.slots) == 0 {
		return -1, -1
	}
	for at = w.home(s, key); ; at = w.next(s, at) {
		switch k := s.slots[at]; {
		case k == key:
			return at, -1
		case k == 0:
			if free < 0 {
				free = at
			}
			return -1, free
		case free < 0 && w.passed(s.slots[at:at+w.stride], starts, now):
			free = at
		}
	}
}

func (w *Windows) slots(s *shard) int { return len(s.slots) / w.stride }

// home returns the word where the search for key begins.
func (w *Windows) home(s *shard, key uint64) int {
	// The shard was chosen by the top bits; these are the next 32 scaled to the
	// number of slots.
	return int(hash(key)<<shardBits>>32*uint64(s.size)>>32) * w.stride
}

func (w *Windows) next(s *shard, at int) int {
	if at += w.stride; at == len(s.slots) {
		return 0
	}
	return at
}

// passed reports whether every window of e has passed. The longest decides:
// calendar windows are nested.
func (w *Windows) passed(e []uint64, starts []int64, now int64) bool {
	last := len(starts) - 1
	return !current(e[1+2*last], starts[last], now)
}

// current reports whether a window opened at start is the one that begins at
// want, or one that a caller whose clock is slightly ahead has opened: going back
// would let events be counted twice.
func current(start uint64, want, now int64) bool {
	return int64(start) == want || int64(start) > want && int64(start) <= now+skewMax
}

// forget makes room in a full shard: of the entries near the home of key it
// removes one whose windows have passed, else the one that has counted the least
// in its longest window. It reports whether a count was lost.
func (w *Windows) forget(s *shard, key uint64, starts []int64, now int64) bool {
	gone, least := -1, uint64(0)
	at := w.home(s, key)
	for i := 0; i < reach || gone < 0; i++ {
		if s.slots[at] != 0 {
			n := s.slots[at+w.stride-1]
			if w.passed(s.slots[at:at+w.stride], starts, now) {
				n = 0
			}
			if gone < 0 || n < least {
				gone, least = at, n
			}
		}
		at = w.next(s, at)
	}
	w.remove(s, gone)
	if least > 0 {
		s.forgot++
	}
	return least > 0
}

// remove empties a slot and moves up the entries that were displaced over it.
func (w *Windows) remove(s *shard, hole int) {
	s.used--
	for at := w.next(s, hole); s.slots[at] != 0; at = w.next(s, at) {
		home := w.home(s, s.slots[at])
		if distance(home, at, len(s.slots)) >= distance(hole, at, len(s.slots)) {
			copy(s.slots[hole:hole+w.stride], s.slots[at:at+w.stride])
			hole = at
		}
	}
	clear(s.slots[hole : hole+w.stride])
}

// distance is how many words a walk from one slot to another passes, around the
// end of an array of n.
func distance(from, to, n int) int {
	if to < from {
		return to + n - from
	}
	return to - from
}

// rebuild moves the entries that are still current to a new array with room for
// more: twice the size, or less if many windows have passed.
func (w *Windows) rebuild(s *shard, starts []int64, now int64) {
	old, live := s.slots, 0
	for at := 0; at < len(old); at += w.stride {
		if old[at] != 0 && !w.passed(old[at:at+w.stride], starts, now) {
			live++
		}
	}
	s.size = max(s.size, slotsMin)
	for s.size > slotsMin && live*5 < s.size {
		s.size /= 2
	}
	for live*5 > s.size*3 {
		s.size *= 2
	}
	s.slots, s.used = make([]uint64, s.size*w.stride), live
	for at := 0; at < len(old); at += w.stride {
		if old[at] != 0 && !w.passed(old[at:at+w.stride], starts, now) {
			to := w.home(s, old[at])
			for s.slots[to] != 0 {
				to = w.next(s, to)
			}
			copy(s.slots[to:to+w.stride], old[at:at+w.stride])
		}
	}
}

// hash spreads keys that are not hashes themselves, such as small numbers.
func hash(key uint64) uint64 { return key * 0x9e3779b97f4a7c15 }
