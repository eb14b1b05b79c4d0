package cache

import (
	"sync"
	"sync/atomic"
)

// Swept is what a pass over all entries found.
type Swept struct {
	Entries int // live ones
	Dead    int // purged ones that the pass found
	Expired int
}

// sweeper is what passes over all entries share.
type sweeper struct {
	mu    sync.Mutex // one pass at a time
	watch atomic.Pointer[watch]

	swept uint64 // all entries were checked against the rules up to it

	// The rules up to due may be forgotten from dueAt on, so that who fetched through
	// a pass may still store.
	due   uint64
	dueAt int64
}

// watch counts the entries that a rule hits, whoever finds them.
type watch struct {
	rule   Rule
	counts bool
	seq    uint64
	hits   atomic.Int64
}

// fetchMillis is how long rules are kept after a pass for fetches that began before
// it: a longer one is refused with ErrPurged.
const fetchMillis = 60_000

// witness counts an entry that was just found purged and had been checked up to
// since.
func (x *sweeper) witness(r record, since uint64) {
	if w := x.watch.Load(); w != nil && since < w.seq && w.rule.matchesRecord(r) {
		w.hits.Add(1)
	}
}

// Sweep looks at every entry once, kills what is expired or purged, frees what that
// makes free, and drops the rules that no entry needs any more. now is in
// milliseconds since 1970. Reads go on meanwhile; writes of a shard wait for one
// segment at most.
func (s *Store) Sweep(now int64) Swept {
	s.sweeper.mu.Lock()
	defer s.sweeper.mu.Unlock()
	swept := s.sweep(now)
	s.free()
	return swept
}

func (s *Store) sweep(now int64) Swept {
	x := &s.sweeper
	start := s.seq.Load()
	swept := s.pass(now)
	if x.due < start && now-x.dueAt >= fetchMillis || now < x.dueAt {
		s.dropRules(x.due)
		x.due, x.dueAt = start, now
	}
	return swept
}

// sweepNow makes room for rules, at the cost of fetches that go on.
func (s *Store) sweepNow() {
	s.sweeper.mu.Lock()
	defer s.sweeper.mu.Unlock()
	s.sweepAll()
}

func (s *Store) sweepAll() {
	start := s.seq.Load()
	s.pass(0)
	s.dropRules(start)
}

func (s *Store) dropRules(floor uint64) {
	x := &s.rules
	x.mu.Lock()
	defer x.mu.Unlock()
	x.forget(floor)
	if x.kept != nil {
		x.kept.rewrite(x)
	}
}

// pass visits every entry.
func (s *Store) pass(now int64) (swept Swept) {
	start := s.seq.Load()
	for i := range s.shards {
		sh := &s.shards[i]
		for at := 0; s.passSegment(sh, at, now, &swept); at++ {
			continue
		}
	}
	s.sweeper.swept = start
	return swept
}

// passSegment visits the entries of one segment, and reports whether there is such a
// segment. An entry that moves to a segment which was visited already was checked
// then.
func (s *Store) passSegment(sh *shard, at int, now int64, swept *Swept) bool {
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	if at >= len(sh.segs) || sh.closed {
		return false
	}
	g := sh.segs[at]
	if g.kind != kindSmall && g.kind != kindMain {
		return true
	}
	before := *swept
	var t toll
	// The lock of the rules is taken once for all: a third of the time.
	s.rules.mu.RLock()
	g.records(func(_ uint32, r record) { sh.passRecord(r, now, swept, &t) })
	s.rules.mu.RUnlock()
	sh.pay(g, &t)
	sh.counts.expired.Add(uint64(swept.Expired - before.Expired))
	sh.counts.purged.Add(uint64(swept.Dead - before.Dead))
	return true
}

// passRecord checks one entry. The locks of the shard and of the rules are held for
// reading.
func (sh *shard) passRecord(r record, now int64, swept *Swept, t *toll) {
	for {
		w := r.state()
		if w == 0 {
			return
		}
		if r.expired(now) {
			if sh.strike(r, w) {
				t.add(sh, r)
				swept.Expired++
			}
			return
		}
		v := sh.store.rules.judgeRecord(r, w.seq())
		if v.dead {
			if sh.strike(r, w) {
				t.add(sh, r)
				swept.Dead++
				sh.store.sweeper.witness(r, w.seq())
			}
			return
		}
		if w.seq() == v.seq && !v.soft {
			swept.Entries++
			return
		}
		if r.swapState(w, makeState(v.seq, w.soft() || v.soft)) {
			if v.soft {
				sh.store.sweeper.witness(r, w.seq())
			}
			swept.Entries++
			return
		}
	}
}

// free frees what is dead, one segment at a time.
func (s *Store) free() {
	for i := range s.shards {
		sh := &s.shards[i]
		for at := 0; s.freeSegment(sh, at); at++ {
			continue
		}
	}
}

func (s *Store) freeSegment(sh *shard, at int) bool {
	sh.mu.RLock()
	more := at < len(sh.segs) && !sh.closed
	dead := more && sh.segs[at].dead.Load()
	sh.mu.RUnlock()
	if !dead {
		return more
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if !sh.closed {
		sh.tidy(sh.segs[at])
	}
	return true
}

// PurgeNow is Purge and a pass over all entries. It returns how many live entries the
// rule hit, each counted once. Their memory is free for entries to come.
func (s *Store) PurgeNow(r Rule, now int64) (entries int) {
	x := &s.sweeper
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.swept < s.seq.Load() {
		// What earlier purges have hit does not count as a hit of this one.
		s.pass(now)
	}
	r = r.normal()
	w := &watch{rule: r, counts: true}
	for !s.tryPurge(r, w) {
		s.sweepAll()
	}
	s.sweep(now)
	x.watch.Store(nil)
	return int(w.hits.Load())
}

// Each calls f with every live entry that has a label, or with all for 0, as they
// were last checked: f may see one that has expired. key and head are valid during
// the call; f must not call the store, as a shard's lock is held. It returns when f
// returns false.
func (s *Store) Each(label uint32, f func(key, head []byte, size, expires int64) bool) {
	s.sweeper.mu.Lock()
	defer s.sweeper.mu.Unlock()
	for i := range s.shards {
		sh := &s.shards[i]
		for at := 0; ; at++ {
			more, ok := s.eachSegment(sh, at, label, f)
			if !ok {
				return
			}
			if !more {
				break
			}
		}
	}
}

// visitor is what Each calls.
type visitor = func(key, head []byte, size, expires int64) bool

func (s *Store) eachSegment(sh *shard, at int, label uint32, f visitor) (more, ok bool) {
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	if at >= len(sh.segs) || sh.closed {
		return false, true
	}
	g := sh.segs[at]
	ok = true
	if g.kind != kindSmall && g.kind != kindMain {
		return true, true
	}
	g.records(func(_ uint32, r record) {
		if !ok || label != 0 && !r.hasLabel(label) {
			return
		}
		if live := sh.settle(g, r); live {
			ok = f(r.key(), r.payload()[:r.shape().head()], sh.bodySize(r), r.expires())
		}
	})
	return true, ok
}
