package limiter

import (
	"math"
	"runtime"
	"sync"
	"sync/atomic"
)

// table is a bounded hash table of entries of stride words, without pointers:
//
//	word 0  the key, 0 in an empty slot
//	word 1  the state, shifted left by one; bit 0 is the entry's lock
//	word 2… what its owner counts
//
// The state is what must be readable without the lock: usually when the entry was
// last used. An entry is found without a lock and locked by one compare-and-swap
// on a line that the count needs anyway, so that cores which meet in an entry pass
// one cache line to and fro and cores that do not meet pass none. Newcomers,
// growth and forgetting take the lock of their shard as well.
//
// What was measured (CPU time of a decision, least of four runs, a mutex for each of
// 64 shards before, this now; two cores that both do nothing else, in a virtual
// machine in which a line takes over 100 ns from core to core):
//
//	                        one core        two cores
//	1 key, 1 window          28 → 21 ns      84 → 59 ns
//	1,000                    28 → 27        110 → 62
//	1,000,000               144 → 94        141 → 78
//	1,000, 3 windows         51 → 30        137 → 65
//	1,000,000, 3 windows    202 → 149       218 → 134
//
// A decision moved two lines, that of the shard's mutex and that of the entry; the
// entry's must move if the count is exact and shared. What showed nothing: entries
// aligned to 32 bytes, fewer entries in the same space, a prefetch for writing
// (PREFETCHW) or a first access that writes.
type table struct {
	stride  int
	keysMax int // of one shard

	// live returns the states of entries that count something at now; all others
	// have passed.
	live func(now int64) span

	// weight tells how much would be lost with an entry. Nil: nothing is ever
	// forgotten but entries that have passed.
	weight func(e []uint64) uint64

	shards *[shardCount]shard
}

// span is a range of states, with both its ends.
type span struct{ from, to int64 }

func (s span) has(state uint64) bool { return int64(state>>1) >= s.from && int64(state>>1) <= s.to }

// always has all states.
var always = span{math.MinInt64, math.MaxInt64}

const (
	shardBits  = 6
	shardCount = 1 << shardBits

	// slotsStep is what the slots of a shard are a multiple of: whole pairs of
	// cache lines, so that no two shards share one (85 → 65 ns with three windows
	// and 1,000 keys on two cores, against 8).
	slotsStep = 16

	// reach is how many slots are compared to find the entry to forget.
	reach = 16

	// skewMax is how many seconds a caller's clock may be behind that of the
	// caller before and still count as if it were not: going back would open a
	// window twice.
	skewMax = 10

	// spins is how often an entry is tried before its shard's lock is taken.
	spins = 16

	// pauseSteps is how long pause is, at one step a cycle.
	pauseSteps = 4000
)

// shard is a part of the table. Its first line is read by every decision and
// written when the shard grows; the rest belongs to newcomers. Two lines, since
// processors fetch lines in pairs.
type shard struct {
	slots atomic.Pointer[slots]
	_     [56]byte

	mu     sync.Mutex
	used   int // slots with a key, passed or not
	forgot uint64
	_      [40]byte
}

// slots are the entries of a shard.
type slots struct {
	words []uint64
	size  uint64   // in entries, a multiple of slotsStep
	_     [96]byte // every decision reads it: apart from what others write
}

// none is what an unused shard has: a single slot, always empty.
var none = slots{words: make([]uint64, 1)}

func newTable(stride, keysMax int) table {
	t := table{stride: stride, keysMax: max((keysMax+shardCount-1)/shardCount, 1), shards: new([shardCount]shard)}
	for i := range t.shards {
		t.shards[i].slots.Store(&none)
	}
	return t
}

// hash spreads keys that are not hashes themselves, such as small numbers.
func hash(key uint64) uint64 { return key * 0x9e3779b97f4a7c15 }

func (t *table) shard(key uint64) *shard { return &t.shards[hash(key)>>(64-shardBits)] }

// home returns the word where the search for key begins. The shard was chosen by
// the top bits; these are the next 32 scaled to the number of slots.
func (t *table) home(a *slots, key uint64) int {
	return int(hash(key)<<shardBits>>32*a.size>>32) * t.stride
}

func (t *table) next(a *slots, at int) int {
	if at += t.stride; at >= len(a.words) {
		return 0
	}
	return at
}

// lock returns the words of key's entry and its state, making an entry in state
// now if there is none. The caller must not keep e beyond unlock. e is nil if the
// table is full and may not forget.
func (t *table) lock(key uint64, now int64) (e []uint64, state int64, forgot bool) {
	if key == 0 {
		key = 1 // 0 marks an empty slot
	}
	s := t.shard(key)
	a := s.slots.Load()
	for at := t.home(a, key); ; at = t.next(a, at) {
		k := atomic.LoadUint64(&a.words[at])
		if k == key {
			// Fast path: the key has been here and nobody else is.
			if w, ok := tryLock(a.words, at, key); ok {
				return a.words[at : at+t.stride], int64(w >> 1), false
			}
			break
		}
		if k == 0 {
			break
		}
	}
	return t.lockSlow(s, key, now)
}

// tryLock locks the entry at a word if it is free and key's.
func tryLock(words []uint64, at int, key uint64) (state uint64, ok bool) {
	w := atomic.LoadUint64(&words[at+1])
	if w&1 != 0 || !atomic.CompareAndSwapUint64(&words[at+1], w, w|1) {
		return 0, false
	}
	if atomic.LoadUint64(&words[at]) != key {
		atomic.StoreUint64(&words[at+1], w) // it moved between the search and the lock
		return 0, false
	}
	return w, true
}

// unlock sets the state of an entry that lock has returned and lets others at it.
func unlock(e []uint64, state int64) { atomic.StoreUint64(&e[1], uint64(state)<<1) }

// pause waits one or two microseconds without touching memory that others write. Two
// cores in one entry would otherwise take its line from each other for every count;
// so the one that came second lets the first count some dozens of times.
//
//go:noinline
func pause() {
	for range pauseSteps {
		continue
	}
}

// seize locks the entry at a word, whoever's it is, and returns its state. The
// shard's lock is held, so that only those who count can be in the way.
func seize(words []uint64, at int) (state uint64) {
	for i := 1; ; i++ {
		w := atomic.LoadUint64(&words[at+1])
		if w&1 == 0 && atomic.CompareAndSwapUint64(&words[at+1], w, w|1) {
			return w
		}
		if i%spins == 0 {
			runtime.Gosched() // its holder was interrupted
		}
	}
}

// lockSlow is lock for who met somebody, or is new. It is kept apart so that lock
// needs a small stack frame.
//
//go:noinline
func (t *table) lockSlow(s *shard, key uint64, now int64) (e []uint64, state int64, forgot bool) {
	for range spins {
		a := s.slots.Load()
		at, _ := t.find(a, key, always)
		if at < 0 {
			break
		}
		if w, ok := tryLock(a.words, at, key); ok {
			return a.words[at : at+t.stride], int64(w >> 1), false
		}
		pause()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.slots.Load()
	if at, _ := t.find(a, key, always); at >= 0 {
		state := seize(a.words, at)
		return a.words[at : at+t.stride], int64(state >> 1), false
	}
	e, forgot = t.enter(s, key, t.live(now))
	return e, now, forgot
}

// enter makes an entry for a newcomer. The shard's lock is held.
func (t *table) enter(s *shard, key uint64, live span) (e []uint64, forgot bool) {
	a := s.slots.Load()
	_, free := t.find(a, key, live)
	for free >= 0 && a.words[free] != 0 {
		// Fast path: an entry on the way has passed, unless it was used just now.
		state := seize(a.words, free)
		if !live.has(state) {
			return t.occupy(a, free, key), false
		}
		atomic.StoreUint64(&a.words[free+1], state)
		_, free = t.find(a, key, live)
	}
	switch {
	case s.used == t.keysMax:
		room := false
		if room, forgot = t.forget(s, key, live); !room {
			return nil, false
		}
		_, free = t.find(a, key, always)
	case uint64(s.used)*4 >= a.size*3:
		// Slow path: a shard grows a few times in its life.
		t.rebuild(s, live)
		a = s.slots.Load()
		_, free = t.find(a, key, always)
	}
	s.used++
	seize(a.words, free)
	return t.occupy(a, free, key), forgot
}

// occupy gives a locked slot to key.
func (t *table) occupy(a *slots, at int, key uint64) []uint64 {
	e := a.words[at : at+t.stride]
	clear(e[2:])
	atomic.StoreUint64(&e[0], key)
	return e
}

// find returns where key's entry is, or -1 and where one may be made: the first
// slot on the way that has passed, else the empty one that ended it.
func (t *table) find(a *slots, key uint64, live span) (at, free int) {
	free = -1
	for at = t.home(a, key); ; at = t.next(a, at) {
		switch k := atomic.LoadUint64(&a.words[at]); {
		case k == key:
			return at, -1
		case k == 0:
			if free < 0 {
				free = at
			}
			return -1, free
		case free < 0 && !live.has(atomic.LoadUint64(&a.words[at+1])):
			free = at
		}
	}
}

// seek is lock that makes no entry: e is nil if there is none.
func (t *table) seek(key uint64) (e []uint64, state int64) {
	if key == 0 {
		key = 1
	}
	s := t.shard(key)
	a := s.slots.Load()
	if at, _ := t.find(a, key, always); at >= 0 {
		if w, ok := tryLock(a.words, at, key); ok {
			return a.words[at : at+t.stride], int64(w >> 1)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a = s.slots.Load()
	at, _ := t.find(a, key, always)
	if at < 0 {
		return nil, 0
	}
	w := seize(a.words, at)
	return a.words[at : at+t.stride], int64(w >> 1)
}

// forget makes room in a full shard: of the entries near the home of key it
// removes one that has passed, else the lightest if the table may forget. A table that may not forget looks
// further, but not at all of them: a full one must not make newcomers expensive. It
// reports whether there is room and whether a count was lost. The shard's lock is
// held.
func (t *table) forget(s *shard, key uint64, live span) (room, lost bool) {
	a := s.slots.Load()
	gone, least := -1, ^uint64(0)
	at := t.home(a, key)
	most := int(a.size)
	if t.weight == nil {
		most = min(most, 4*reach)
	}
	for i := 0; i < most && least > 0 && (i < reach || gone < 0); i++ {
		switch {
		case a.words[at] == 0:
		case !live.has(atomic.LoadUint64(&a.words[at+1])):
			gone, least = at, 0
		case t.weight != nil && least > 1:
			// Counts are read under lock, unless none can be less: a flood of
			// newcomers leaves many of 1.
			state := seize(a.words, at)
			if n := max(t.weight(a.words[at:at+t.stride]), 1); n < least {
				gone, least = at, n
			}
			atomic.StoreUint64(&a.words[at+1], state)
		}
		at = t.next(a, at)
	}
	if gone < 0 {
		return false, false
	}
	if state := seize(a.words, gone); least == 0 && live.has(state) {
		atomic.StoreUint64(&a.words[gone+1], state) // it was used just now
		return t.forget(s, key, live)
	}
	t.remove(s, a, gone)
	if least > 0 {
		s.forgot++
	}
	return true, least > 0
}

// remove empties a locked slot and moves up the entries that were displaced over
// it. Whoever searches one of them meanwhile may miss it, and looks again under
// the shard's lock, which is held here.
func (t *table) remove(s *shard, a *slots, hole int) {
	s.used--
	for at := t.next(a, hole); a.words[at] != 0; at = t.next(a, at) {
		key := a.words[at]
		home := t.home(a, key)
		if distance(home, at, len(a.words)) >= distance(hole, at, len(a.words)) {
			state := seize(a.words, at)
			copy(a.words[hole+2:hole+t.stride], a.words[at+2:at+t.stride])
			atomic.StoreUint64(&a.words[hole], key)
			atomic.StoreUint64(&a.words[hole+1], state)
			hole = at // still locked
		}
	}
	clear(a.words[hole+2 : hole+t.stride])
	atomic.StoreUint64(&a.words[hole], 0)
	atomic.StoreUint64(&a.words[hole+1], 0)
}

// distance is how many words a walk from one slot to another passes, around the
// end of an array of n.
func distance(from, to, n int) int {
	if to < from {
		return to + n - from
	}
	return to - from
}

// rebuild moves the entries that have not passed to a new array in which half of
// the slots are free. The old array stays locked: who still searches there finds
// no entry to lock and comes to the shard's lock, which is held here.
func (t *table) rebuild(s *shard, live span) {
	old, n := s.slots.Load(), 0
	for at := 0; at+t.stride <= len(old.words); at += t.stride {
		if old.words[at] != 0 && live.has(seize(old.words, at)) {
			n++
		}
	}
	size := max(2*n+slotsStep-1, slotsStep) / slotsStep * slotsStep
	a := &slots{words: make([]uint64, size*t.stride), size: uint64(size)}
	for at := 0; at+t.stride <= len(old.words); at += t.stride {
		state := atomic.LoadUint64(&old.words[at+1]) &^ 1
		if old.words[at] == 0 || !live.has(state) {
			continue
		}
		to := t.home(a, old.words[at])
		for a.words[to] != 0 {
			to = t.next(a, to)
		}
		a.words[to], a.words[to+1] = old.words[at], state
		copy(a.words[to+2:to+t.stride], old.words[at+2:at+t.stride])
	}
	s.used = n
	s.slots.Store(a)
}

// each calls f with every locked entry and its state. Newcomers of the shard that
// is walked wait; those who count do not, but for the entry f sees.
func (t *table) each(f func(e []uint64, state int64)) {
	for i := range t.shards {
		t.eachOf(i, f)
	}
}

// eachOf is each in one shard.
func (t *table) eachOf(i int, f func(e []uint64, state int64)) {
	s := &t.shards[i]
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.slots.Load()
	for at := 0; at+t.stride <= len(a.words); at += t.stride {
		if a.words[at] != 0 {
			state := seize(a.words, at)
			f(a.words[at:at+t.stride], int64(state>>1))
			atomic.StoreUint64(&a.words[at+1], state)
		}
	}
}

// Len returns how many keys the table holds, including those that have passed and
// whose slots wait for reuse.
func (t *table) Len() int {
	n := 0
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += s.used
		s.mu.Unlock()
	}
	return n
}

// Bytes returns the size of the table in memory.
func (t *table) Bytes() int {
	n := shardCount * 128
	for i := range t.shards {
		if a := t.shards[i].slots.Load(); a != &none {
			n += 8*len(a.words) + 128
		}
	}
	return n
}

// Forgotten returns how many keys lost their count because the table was full.
func (t *table) Forgotten() uint64 {
	var n uint64
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		n += s.forgot
		s.mu.Unlock()
	}
	return n
}
