package router

import (
	"encoding/binary"
	"iter"
	"math/bits"
	"strings"
)

// Letter case is ignored for ASCII letters only, as host names, SNIs and Kong's
// header values want it.

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// lower8 lower-cases eight bytes at once.
func lower8(x uint64) uint64 {
	seven := x &^ highs
	atLeastA := seven + (0x80-'A')*ones
	aboveZ := seven + (0x7f-'Z')*ones
	upper := (atLeastA &^ aboveZ) &^ x & highs
	return x | upper>>2
}

// load reads up to eight bytes little-endian.
func load(b []byte) uint64 {
	var x uint64
	for i, c := range b {
		x |= uint64(c) << (8 * i)
	}
	return x
}

func mix(h, x uint64) uint64 {
	hi, lo := bits.Mul64(h^x, 0x9e3779b97f4a7c15)
	return hi ^ lo
}

// hashFold hashes b without regard to the case of ASCII letters. The keys of a
// table come from the configuration, so requests cannot lengthen its probes and
// no seed is needed.
func hashFold(b []byte) uint32 {
	h := uint64(len(b)) * 0xd6e8feb86659fd93
	for len(b) > 8 {
		h = mix(h, lower8(binary.LittleEndian.Uint64(b)))
		b = b[8:]
	}
	if len(b) == 8 {
		h = mix(h, lower8(binary.LittleEndian.Uint64(b)))
	} else {
		h = mix(h, lower8(load(b)))
	}
	return uint32(h ^ h>>32)
}

// equalFold reports whether b, lower-cased, equals lower.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for len(b) >= 8 {
		if lower8(binary.LittleEndian.Uint64(b)) != loadString(lower) {
			return false
		}
		b, lower = b[8:], lower[8:]
	}
	for i, c := range b {
		if lowerByte(c) != lower[i] {
			return false
		}
	}
	return true
}

func loadString(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

func lowerByte(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// lowerString is the cold counterpart of appendLower.
func lowerString(s string) string { return string(appendLower(nil, s)) }

func appendLower[S ~string | ~[]byte](dst []byte, s S) []byte {
	for i := range len(s) {
		dst = append(dst, lowerByte(s[i]))
	}
	return dst
}

func hasUpper(b []byte) bool {
	for _, c := range b {
		if 'A' <= c && c <= 'Z' {
			return true
		}
	}
	return false
}

func hasLower(b []byte) bool {
	for _, c := range b {
		if 'a' <= c && c <= 'z' {
			return true
		}
	}
	return false
}

// foldMap maps names to records without regard to letter case. A slot is eight
// bytes and holds part of the hash, so a miss usually touches one cache line; a
// hit touches those of the record and of the name.
type foldMap struct {
	slots   []foldSlot // a power of two, at most half full
	records []foldRecord
}

type foldSlot struct {
	hash   uint32
	number uint32 // of the record, plus one; 0 is an empty slot
}

// foldRecord is one name, lower-cased, and what the owner of the map keeps there.
type foldRecord struct {
	name string
	a, b uint32
}

// add returns the number of name's record, a new one if there was none. Cold.
func (m *foldMap) add(name string) int {
	name = lowerString(name)
	for i := range m.probe(name) {
		if m.records[i].name == name {
			return i
		}
	}
	m.records = append(m.records, foldRecord{name: name})
	if 2*len(m.records) > len(m.slots) {
		m.slots = make([]foldSlot, max(8, 2*len(m.slots)))
		for i := range m.records {
			m.place(i)
		}
	} else {
		m.place(len(m.records) - 1)
	}
	return len(m.records) - 1
}

// probe yields the numbers of records that may be name's.
func (m *foldMap) probe(name string) iter.Seq[int] {
	return func(yield func(int) bool) {
		h := hashFold([]byte(name))
		for i := int(h); len(m.slots) > 0; i++ {
			s := m.slots[i&(len(m.slots)-1)]
			if s.number == 0 || s.hash == h && !yield(int(s.number-1)) {
				return
			}
		}
	}
}

func (m *foldMap) place(number int) {
	h := hashFold([]byte(m.records[number].name))
	i := int(h) & (len(m.slots) - 1)
	for m.slots[i].number != 0 {
		i = (i + 1) & (len(m.slots) - 1)
	}
	m.slots[i] = foldSlot{h, uint32(number + 1)}
}

// find returns the record of name, or nil.
func (m *foldMap) find(name []byte) *foldRecord {
	if len(m.slots) == 0 {
		return nil
	}
	h := hashFold(name)
	for i := int(h); ; i++ {
		s := m.slots[i&(len(m.slots)-1)]
		if s.number == 0 {
			return nil
		}
		if s.hash == h {
			if r := &m.records[s.number-1]; equalFold(name, r.name) {
				return r
			}
		}
	}
}

// seal packs the names side by side, which saves cache misses over names that lie
// wherever the configuration was read. Cold.
func (m *foldMap) seal() {
	size := 0
	for _, r := range m.records {
		size += len(r.name)
	}
	var packed strings.Builder
	packed.Grow(size)
	for _, r := range m.records {
		packed.WriteString(r.name)
	}
	rest := packed.String()
	for i := range m.records {
		r := &m.records[i]
		r.name, rest = rest[:len(r.name)], rest[len(r.name):]
	}
}
