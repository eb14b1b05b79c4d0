package cache

// ghost remembers hashes of keys that were evicted without having been read, so that
// one which comes back is let into the main queue. It is a table of buckets without
// pointers, in each of which the newest stay:
//
//	32 bits the hash, 32 the count of evictions when it came in
//
// The owner holds the shard's lock.
type ghost struct {
	slots []uint64
	clock uint32
}

const ghostBucket = 4

func newGhost() ghost { return ghost{slots: make([]uint64, slotsMin/2)} }

func (g *ghost) bucket(tag uint32) []uint64 {
	n := len(g.slots) / ghostBucket
	at := int(uint64(tag)*uint64(n)>>tagBits) * ghostBucket
	return g.slots[at : at+ghostBucket]
}

// add remembers a key.
func (g *ghost) add(tag uint32) {
	g.clock++
	g.put(g.bucket(tag), uint64(tag)<<32|uint64(g.clock))
}

func (g *ghost) put(b []uint64, slot uint64) {
	oldest := 0
	for i, w := range b {
		if w == 0 {
			oldest = i
			break
		}
		if g.clock-uint32(w) > g.clock-uint32(b[oldest]) {
			oldest = i
		}
	}
	b[oldest] = slot
}

// take reports whether a key was evicted within the last span evictions, and forgets
// it.
func (g *ghost) take(tag uint32, span int) bool {
	for i, w := range g.bucket(tag) {
		if w != 0 && uint32(w>>32) == tag {
			g.bucket(tag)[i] = 0
			return int64(g.clock-uint32(w)) <= int64(span)
		}
	}
	return false
}

// resize makes room for n keys.
func (g *ghost) resize(n int) {
	n = (n + ghostBucket - 1) &^ (ghostBucket - 1)
	if n <= len(g.slots) {
		return
	}
	old := g.slots
	g.slots = make([]uint64, n)
	for _, slot := range old {
		if slot != 0 {
			g.put(g.bucket(uint32(slot>>32)), slot)
		}
	}
}

func (g *ghost) bytes() int64 { return int64(8 * len(g.slots)) }
