package cache

import (
	"bytes"
	"encoding/binary"
	"math"
	"sync/atomic"
	"unsafe"
)

// record is what a log segment holds of one entry, from its first byte to the end of
// the segment or beyond its own; see doc.go for the layout. All of it but its sum and
// its state is written before the index points at it and never after.
type record []byte

const (
	sumAt     = 0
	stateAt   = 8
	expiresAt = 16
	shapeAt   = 24
	runAt     = 32

	headerBytes  = 32
	runWordBytes = 8 // the word about a run, in records that have one

	expiresMax = 1<<47 - 1 // stands for never
	seqMax     = 1<<47 - 1
	tailLimit  = 1<<17 - 1
)

// shape is the lengths of a record's parts, as they stand in one word of it:
//
//	16 bits size in units of 8 bytes, 6 labels, 17 head, 17 tail, 1 has a run
type shape uint64

func makeShape(size, labels, head, tail int, run bool) shape {
	w := uint64(size/8) | uint64(labels)<<16 | uint64(head)<<22 | uint64(tail)<<39
	if run {
		w |= 1 << 56
	}
	return shape(w)
}

func (w shape) size() int   { return int(w&(1<<16-1)) * 8 }
func (w shape) labels() int { return int(w >> 16 & (1<<6 - 1)) }
func (w shape) head() int   { return int(w >> 22 & (1<<17 - 1)) }
func (w shape) tail() int   { return int(w >> 39 & (1<<17 - 1)) }
func (w shape) run() bool   { return w>>56&1 != 0 }

// labelsAt is where the labels begin, which follow the fixed words.
func (w shape) labelsAt() int { return headerBytes + int(w>>56&1)*runWordBytes }

// recordSize is how much of a segment a record takes.
func recordSize(labels, key, head, tail int, run bool) int {
	n := headerBytes + 4*labels + key + head + tail
	if run {
		n += runWordBytes
	}
	return (n + 7) &^ 7
}

func (r record) word(at int) *uint64 { return (*uint64)(unsafe.Pointer(&r[at])) }

func (r record) shape() shape { return shape(binary.LittleEndian.Uint64(r[shapeAt:])) }

func (r record) keyLen() int { return int(binary.LittleEndian.Uint16(r[expiresAt:])) }

// expires returns when the entry is gone, math.MaxInt64 for never.
func (r record) expires() int64 {
	t := int64(binary.LittleEndian.Uint64(r[expiresAt:]) >> 16)
	if t == expiresMax {
		return math.MaxInt64
	}
	return t
}

func (r record) expired(now int64) bool {
	return int64(binary.LittleEndian.Uint64(r[expiresAt:])>>16) <= min(now, expiresMax-1)
}

func (r record) key() []byte {
	w := r.shape()
	at := w.labelsAt() + 4*w.labels()
	return r[at : at+r.keyLen()]
}

func (r record) hasKey(key []byte) bool {
	if r.keyLen() != len(key) {
		return false
	}
	w := r.shape()
	at := w.labelsAt() + 4*w.labels()
	return bytes.Equal(r[at:at+len(key)], key)
}

// payload returns the head and the tail of the body, which lie together.
func (r record) payload() []byte {
	w := r.shape()
	at := w.labelsAt() + 4*w.labels() + r.keyLen()
	return r[at : at+w.head()+w.tail()]
}

func (r record) label(i int) uint32 {
	return binary.LittleEndian.Uint32(r[r.shape().labelsAt()+4*i:])
}

func (r record) hasLabel(label uint32) bool {
	for i := range r.shape().labels() {
		if r.label(i) == label {
			return true
		}
	}
	return false
}

// run returns the number of the first segment of the run, and the run's bytes.
func (r record) run() (first uint32, n int64) {
	w := binary.LittleEndian.Uint64(r[runAt:])
	return uint32(w & (1<<24 - 1)), int64(w >> 24)
}

// content is how many bytes the entry holds for its owner.
func (r record) content() int64 {
	w := r.shape()
	n := int64(4*w.labels() + r.keyLen() + w.head() + w.tail())
	if w.run() {
		_, more := r.run()
		n += more
	}
	return n
}

// fill writes all of a record but its sum and its state, which stay 0: dead.
func (r record) fill(p *Put, w shape, runWord uint64) (payload []byte) {
	clear(r[:expiresAt])
	expires := uint64(min(max(p.Expires, 0), expiresMax))
	binary.LittleEndian.PutUint64(r[expiresAt:], expires<<16|uint64(len(p.Key)))
	binary.LittleEndian.PutUint64(r[shapeAt:], uint64(w))
	if w.run() {
		binary.LittleEndian.PutUint64(r[runAt:], runWord)
	}
	at := w.labelsAt()
	for _, l := range p.Labels {
		binary.LittleEndian.PutUint32(r[at:], l)
		at += 4
	}
	at += copy(r[at:], p.Key)
	n := w.head() + w.tail()
	clear(r[at+n : w.size()])
	return r[at : at+n]
}

// state is the word of a record that changes: up to which purge the entry was
// checked (47 bits), whether it is stale, and a check against damage in a file. 0 is
// an entry that is dead.
type state uint64

func makeState(seq uint64, soft bool) state {
	w := seq << 1
	if soft {
		w |= 1
	}
	return state(w | uint64(stateCheck(w))<<48)
}

// stateCheck differs for any two words that differ in one byte, or in one 16 bits.
func stateCheck(w uint64) uint16 {
	return uint16(w)*3 + uint16(w>>16)*5 + uint16(w>>32)*7 + 0x5a17
}

func (w state) seq() uint64 { return uint64(w) & (1<<48 - 1) >> 1 }
func (w state) soft() bool  { return w&1 != 0 }
func (w state) valid() bool { return stateCheck(uint64(w)&(1<<48-1)) == uint16(w>>48) }

func (r record) state() state { return state(atomic.LoadUint64(r.word(stateAt))) }

func (r record) swapState(before, after state) bool {
	return atomic.CompareAndSwapUint64(r.word(stateAt), uint64(before), uint64(after))
}
