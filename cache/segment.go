package cache

import (
	"encoding/binary"
	"sync/atomic"
)

// segment is a piece of the arena and what its shard knows about it. It is free, or
// the log of a queue, or part of a run: a chain of segments that hold the body of
// one large entry but its end. Fields without a word about it belong to the
// holder of the shard's lock.
type segment struct {
	mem    []byte
	number uint32 // in the arena
	place  uint32 // in the shard
	kind   kind

	order  uint64
	used   int          // where the next record goes, or the end of a run's part
	weight int64        // of a log: its own size and its entries' runs
	live   atomic.Int64 // bytes of live records; any holder of the read lock may lower it
	dead   atomic.Bool  // none is alive, or one is dead whose run is still held

	prev, next *segment // in a queue, a run or among the free

	// Of the first of a run:
	pins  atomic.Int64 // readers, and limboBit once the entry has let go of it
	count int          // segments of the run

	// In a file:
	sum     uint64 // of what the segment is
	runSum  uint64 // of all of a run, in its first segment
	claimed bool   // a run's part that an entry was found for
}

type kind uint8

const (
	kindFree kind = iota
	kindSmall
	kindMain
	kindPart
)

const (
	segmentHeader = 64
	limboBit      = 1 << 40
)

// queue is a list of log segments, oldest first. The newest are open for records:
// two, so that a record which does not fit into the rest of one leaves that to
// smaller ones.
type queue struct {
	kind        kind
	first, last *segment
	weight      int64 // bytes of its segments and of their entries' runs
	open        [2]*segment
}

// weightMax is how many segments the entries of one log may weigh with their runs:
// more would be evicted at once.
const weightMax = 8

func (q *queue) push(g *segment) {
	g.prev, g.next = q.last, nil
	if q.last == nil {
		q.first = g
	} else {
		q.last.next = g
	}
	q.last = g
	q.weight += g.weight
}

func (q *queue) unlink(g *segment) {
	if g.prev == nil {
		q.first = g.next
	} else {
		g.prev.next = g.next
	}
	if g.next == nil {
		q.last = g.prev
	} else {
		g.next.prev = g.prev
	}
	g.prev, g.next = nil, nil
	q.weight -= g.weight
	q.close(g)
}

// close ends the appending to a segment.
func (q *queue) close(g *segment) {
	for i, o := range q.open {
		if o == g {
			q.open[i] = nil
		}
	}
}

// fit returns an open segment with room for size bytes, or nil.
func (q *queue) fit(size int) *segment {
	for _, g := range q.open {
		if g != nil && g.used+size <= len(g.mem) && g.weight <= weightMax*int64(len(g.mem)) {
			return g
		}
	}
	return nil
}

// begin appends a segment and opens it, in place of the fullest open one.
func (q *queue) begin(g *segment) {
	g.kind, g.used, g.weight = q.kind, segmentHeader, int64(len(g.mem))
	g.live.Store(0)
	g.dead.Store(false)
	q.push(g)
	a, b := q.open[0], q.open[1]
	if a == nil || b != nil && a.used > b.used {
		q.open[0] = g
	} else {
		q.open[1] = g
	}
}

// records calls f with every record of a log and where it is, in units of 8 bytes.
func (g *segment) records(f func(at uint32, r record)) {
	for at := segmentHeader; at < g.used; {
		r := record(g.mem[at:])
		size := r.shape().size()
		f(uint32(at/8), r[:size:size])
		at += size
	}
}

// The header of a segment, of which only a file makes use:
//
//	 0  sum of what does not change while the segment is in use
//	 8  kind, 32 bits; place of the next in a run, 32
//	16  order of its beginning in the shard
//	24  used, and its complement
//	32  sum of a run's part and of all before it
const (
	identitySumAt = 0
	identityAt    = 8
	orderAt       = 16
	usedAt        = 24
	partSumAt     = 32
)

func (g *segment) setUsed(n int) {
	atomic.StoreUint64(record(g.mem).word(usedAt), twice(uint32(n)))
}

// twice makes a word that tells when it is damaged.
func twice(n uint32) uint64 { return uint64(n) | uint64(^n)<<32 }

func untwice(w uint64) (n uint32, ok bool) { return uint32(w), uint32(w) == ^uint32(w>>32) }

func word(b []byte, at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }

func setWord(b []byte, at int, w uint64) { binary.LittleEndian.PutUint64(b[at:], w) }
