package cache

import (
	"sync"
	"sync/atomic"
)

// shard is a part of the store with its own segments, queues and index. Its lock is
// held for reading by Get and Sweep and for writing by whoever stores, evicts or
// removes.
type shard struct {
	// The lock has a line of its own: every reader writes to it, and reads what follows.
	_  [64]byte
	mu sync.RWMutex
	_  [40]byte

	index  index
	mems   [][]byte // of segs, one step less to a record
	store  *Store
	number int
	closed bool

	segs    []*segment
	warm    *segment // free segments that still have memory
	cold    *segment // and those without
	ghost   ghost
	small   queue
	main    queue
	budget  int64 // bytes, with the index
	order   uint64
	held    int // segments that are not free
	touched int // segments that have memory of the system
	writing int // of the held: runs of writers
	limbo   atomic.Int64
	ripe    atomic.Int64 // logs in which something dead can be freed
	hand    int          // of segs, where the search for dead ones goes on

	entries atomic.Int64
	bytes   atomic.Int64 // of live entries' contents
	padded  atomic.Int64 // of live records, without the contents

	counts counts
}

// counts are the counters of a shard.
type counts struct {
	evictions, expired, purged, promoted, ghostHits atomic.Uint64
	tooLarge, full, bornPurged, pinned              atomic.Uint64
}

const (
	// smallPercent is the part of the segments that newcomers have (S3-FIFO).
	smallPercent = 10

	// segmentsMin is what a shard keeps however large its index grows.
	segmentsMin = 8

	segmentBytes = 192 // of a segment struct and its places in lists
)

func (sh *shard) init(s *Store, number int, budget int64) {
	sh.store, sh.number, sh.budget = s, number, budget
	sh.index, sh.ghost = newIndex(), newGhost()
	sh.small.kind, sh.main.kind = kindSmall, kindMain
}

// overhead is what the shard takes beside its segments.
func (sh *shard) overhead() int64 {
	return sh.index.bytes() + sh.ghost.bytes() + int64(len(sh.segs))*segmentBytes
}

// limit is how many segments may hold memory.
func (sh *shard) limit() int {
	return max(int((sh.budget-sh.overhead())/int64(sh.store.segmentSize)), segmentsMin)
}

// adopt takes the shard's segment of each row of the memory. Those mapped first are
// used first, so that the memory which the index takes from the segments is never
// touched.
func (sh *shard) adopt(mem []byte, rows int) {
	size, shards := sh.store.segmentSize, len(sh.store.shards)
	from := len(sh.segs)
	for row := range rows {
		at := (row*shards + sh.number) * size
		g := &segment{mem: mem[at : at+size : at+size], place: uint32(len(sh.segs))}
		g.number = g.place*uint32(shards) + uint32(sh.number)
		sh.segs = append(sh.segs, g)
		sh.mems = append(sh.mems, g.mem)
	}
	for place := len(sh.segs) - 1; place >= from; place-- {
		g := sh.segs[place]
		g.next, sh.cold = sh.cold, g
	}
}

// take returns a free segment, or nil. The caller has looked at the limit.
func (sh *shard) take() *segment {
	g := sh.warm
	switch {
	case g != nil:
		sh.warm = g.next
	case sh.cold != nil && sh.store.arena.claim(sh.cold):
		g = sh.cold
		sh.cold = g.next
		sh.touched++
	default:
		return nil
	}
	g.next, g.prev = nil, nil
	sh.held++
	sh.order++
	g.order = sh.order
	return g
}

// release makes a segment free that is in no queue and no run.
func (sh *shard) release(g *segment) {
	sh.store.forget(g)
	g.kind, g.used, g.weight, g.count, g.prev = kindFree, 0, 0, 0, nil
	g.live.Store(0)
	g.pins.Store(0)
	g.claimed = false
	sh.held--
	g.next, sh.warm = sh.warm, g
	sh.cool()
}

// cool gives the memory of free segments back that may not be held.
func (sh *shard) cool() {
	for limit := sh.limit(); sh.touched > limit && sh.warm != nil; sh.touched-- {
		g := sh.warm
		sh.warm = g.next
		sh.store.arena.giveBack(g)
		g.next, sh.cold = sh.cold, g
	}
}

// at returns the record that a slot points at.
func (sh *shard) at(slot uint64) record {
	loc := slotLoc(slot)
	return record(sh.mems[loc>>sh.store.unitBits][int(loc&sh.store.unitMask)*8:])
}

func (sh *shard) segmentOf(slot uint64) *segment {
	return sh.segs[slotLoc(slot)>>sh.store.unitBits]
}

// find returns the slot of a key, or -1. Any lock is held.
func (sh *shard) find(tag uint32, key []byte) int {
	x := &sh.index
	for at := x.home(tag); ; at = x.next(at) {
		slot := x.load(at)
		if slot == 0 {
			return -1
		}
		if slotTag(slot) == tag && sh.at(slot).hasKey(key) {
			return at
		}
	}
}

// kill makes an entry dead if it is in that state, and reports whether it was this
// call that did. Any lock is held; the index may go on to point at the record.
func (sh *shard) kill(g *segment, r record, w state) bool {
	if !sh.strike(r, w) {
		return false
	}
	var t toll
	t.add(sh, r)
	sh.pay(g, &t)
	return true
}

// strike is kill that counts nothing.
func (sh *shard) strike(r record, w state) bool {
	if !r.swapState(w, 0) {
		return false
	}
	if sh.store.file != nil {
		atomic.StoreUint64(r.word(sumAt), 0)
	}
	return true
}

// toll is what dead records of a segment were to the counters.
type toll struct {
	entries, size, bytes, padded int64
	runs                         bool
}

func (t *toll) add(sh *shard, r record) {
	size, content := int64(r.shape().size()), r.content()
	t.entries++
	t.size += size
	t.bytes += content
	t.padded += size - (content - sh.runContent(r))
	t.runs = t.runs || r.shape().run()
}

// pay takes a toll off the counters.
func (sh *shard) pay(g *segment, t *toll) {
	sh.entries.Add(-t.entries)
	sh.bytes.Add(-t.bytes)
	sh.padded.Add(-t.padded)
	if (g.live.Add(-t.size) == 0 || t.runs) && g.dead.CompareAndSwap(false, true) {
		sh.ripe.Add(1)
	}
}

func (sh *shard) runContent(r record) int64 {
	if !r.shape().run() {
		return 0
	}
	_, n := r.run()
	return n
}

// killAny is kill in whatever state the entry is.
func (sh *shard) killAny(g *segment, r record) {
	for w := r.state(); w != 0 && !sh.kill(g, r, w); {
		w = r.state()
	}
}

// drop removes an entry from the index and frees its run. The lock is held.
func (sh *shard) drop(at int) {
	slot := sh.index.slots[at]
	g, r := sh.segmentOf(slot), sh.at(slot)
	sh.killAny(g, r)
	sh.dropRun(g, r)
	sh.index.remove(at)
}

func (sh *shard) dropRun(g *segment, r record) {
	if first := sh.runOf(r); first != nil {
		sh.setWeight(g, g.weight-int64(first.count)*int64(len(first.mem)))
		sh.freeRun(first)
	}
}

// runOf returns the first segment of a record's run, or nil.
func (sh *shard) runOf(r record) *segment {
	if !r.shape().run() {
		return nil
	}
	place, _ := r.run()
	return sh.segs[place]
}

func (sh *shard) queueOf(k kind) *queue {
	if k == kindMain {
		return &sh.main
	}
	return &sh.small
}

func (sh *shard) setWeight(g *segment, weight int64) {
	sh.queueOf(g.kind).weight += weight - g.weight
	g.weight = weight
}

// freeRun frees a run, at once or when its last reader lets go of it.
func (sh *shard) freeRun(first *segment) {
	n := int64(first.count)
	sh.limbo.Add(n)
	if first.pins.Add(limboBit) == limboBit {
		sh.endRun(first)
	}
}

// endRun frees a run in limbo without readers. The lock is held.
func (sh *shard) endRun(first *segment) {
	sh.limbo.Add(-int64(first.count))
	for g := first; g != nil; {
		next := g.next
		sh.release(g)
		g = next
	}
}

// unpin gives a reader's hold on a run back.
func (sh *shard) unpin(first *segment) {
	if first.pins.Add(-1) != limboBit {
		return
	}
	sh.mu.Lock()
	sh.endRun(first)
	sh.mu.Unlock()
}
