package cache

import "sync/atomic"

// index finds the entries of a shard: open addressing over words without pointers.
//
//	32 bits where the record is, 30 of the key's hash, 2 how often it was read
//
// Entries lie near the slot that their hash is scaled to, so that the index grows
// without a look at the records. Who adds, removes or grows holds the shard's lock;
// readers count reads with a compare-and-swap, and only up to readsMax, so that the
// slot of a popular key is not written any more.
type index struct {
	slots []uint64
	used  int
}

const (
	tagBits  = 30
	tagMask  = 1<<tagBits - 1
	readsMax = 3

	slotsMin = 64
)

func newIndex() index { return index{slots: make([]uint64, slotsMin)} }

func makeSlot(loc, tag, reads uint32) uint64 {
	return uint64(loc)<<32 | uint64(tag)<<2 | uint64(reads)
}

func slotLoc(slot uint64) uint32   { return uint32(slot >> 32) }
func slotTag(slot uint64) uint32   { return uint32(slot>>2) & tagMask }
func slotReads(slot uint64) uint32 { return uint32(slot & readsMax) }

func (x *index) home(tag uint32) int { return int(uint64(tag) * uint64(len(x.slots)) >> tagBits) }

func (x *index) next(at int) int {
	if at++; at == len(x.slots) {
		return 0
	}
	return at
}

func (x *index) load(at int) uint64 { return atomic.LoadUint64(&x.slots[at]) }

// locate returns the slot of the record at loc, or -1 if the index does not point
// at it.
func (x *index) locate(tag, loc uint32) int {
	for at := x.home(tag); ; at = x.next(at) {
		slot := x.load(at)
		if slot == 0 {
			return -1
		}
		if slotLoc(slot) == loc {
			return at
		}
	}
}

// read counts a read of the entry in a slot.
func (x *index) read(at int) {
	for {
		slot := x.load(at)
		if slotReads(slot) == readsMax || atomic.CompareAndSwapUint64(&x.slots[at], slot, slot+1) {
			return
		}
	}
}

// add makes a slot; there must be no other of the same record.
func (x *index) add(slot uint64) {
	if (x.used+1)*4 > len(x.slots)*3 {
		x.grow()
	}
	x.used++
	x.put(slot)
}

func (x *index) put(slot uint64) {
	at := x.home(slotTag(slot))
	for x.slots[at] != 0 {
		at = x.next(at)
	}
	x.slots[at] = slot
}

// grow moves the slots to an array half as large again: between a half and three
// quarters of the slots are used.
func (x *index) grow() {
	old := x.slots
	x.slots = make([]uint64, len(old)+len(old)/2)
	for _, slot := range old {
		if slot != 0 {
			x.put(slot)
		}
	}
}

// remove empties a slot and moves up those that were displaced over it.
func (x *index) remove(hole int) {
	x.used--
	n := len(x.slots)
	for at := x.next(hole); x.slots[at] != 0; at = x.next(at) {
		home := x.home(slotTag(x.slots[at]))
		if distance(home, at, n) >= distance(hole, at, n) {
			x.slots[hole] = x.slots[at]
			hole = at
		}
	}
	x.slots[hole] = 0
}

// distance is how many slots a walk from one to another passes, around the end of n.
func distance(from, to, n int) int {
	if to < from {
		return to + n - from
	}
	return to - from
}

func (x *index) bytes() int64 { return int64(8 * len(x.slots)) }
