package cache

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// A journal holds the rules in force, each before Purge returns:
//
//	0   8  number of the last rule before it
//	8   8  floor
//	16  8  sum of these
//	24  8  bytes used, and their complement
//	64  …  rules
//
// and a rule is
//
//	8       its number
//	4       how many words of 4 bytes follow the next one
//	4       groups, shifted left; bit 0: soft
//	4 × n   of each group its length and its labels
//	8       the sum of all this, at the next multiple of 8
//
// There are two, of which the header names one. Rules that are not needed any more
// are left behind by writing the other one.
const (
	journalSeqAt   = 0
	journalFloorAt = 8
	journalSumAt   = 16
	journalUsedAt  = 24
	journalRulesAt = 64
)

// journal returns the journal in force, or nil if the header does not say which.
func (x *file) journal() []byte {
	n, ok := untwice(word(x.head, journalAt))
	if !ok || n > 1 {
		return nil
	}
	return x.journalNumber(n)
}

func (x *file) journalNumber(n uint32) []byte {
	at := filePage + int(n)*journalBytes
	return x.head[at : at+journalBytes]
}

// log writes a rule down, and reports whether there was room for it.
func (x *file) log(seq uint64, r Rule) bool { return x.logTo(x.journal(), seq, r) }

func (x *file) logTo(j []byte, seq uint64, r Rule) bool {
	used, _ := untwice(word(j, journalUsedAt))
	words := 0
	for _, g := range r.Groups {
		words += 1 + len(g)
	}
	size := (16+4*words+7)&^7 + 8
	if int(used)+size > len(j) {
		return false
	}
	b := j[used : int(used)+size]
	clear(b)
	setWord(b, 0, seq)
	binary.LittleEndian.PutUint32(b[8:], uint32(words))
	flags := uint32(len(r.Groups)) << 1
	if r.Soft {
		flags |= 1
	}
	binary.LittleEndian.PutUint32(b[12:], flags)
	at := 16
	for _, g := range r.Groups {
		binary.LittleEndian.PutUint32(b[at:], uint32(len(g)))
		at += 4
		for _, l := range g {
			binary.LittleEndian.PutUint32(b[at:], l)
			at += 4
		}
	}
	setWord(b, size-8, x.ruleSum(b[:size-8], used))
	atomic.StoreUint64(record(j).word(journalUsedAt), twice(used+uint32(size)))
	return true
}

func (x *file) ruleSum(b []byte, at uint32) uint64 {
	return xxhash.Sum64(b) ^ mix(x.salt+uint64(at))
}

// rewrite makes the other journal, with the rules as they are now, the one in force.
func (x *file) rewrite(r *rules) {
	n, _ := untwice(word(x.head, journalAt))
	next := 1 - n&1
	j := x.journalNumber(next)
	setWord(j, journalSeqAt, r.seq)
	setWord(j, journalFloorAt, r.floor)
	setWord(j, journalSumAt, x.ruleSum(j[:journalSumAt], next))
	setWord(j, journalUsedAt, twice(journalRulesAt))
	for _, soft := range []bool{false, true} {
		if seq := r.all.of(soft); seq > 0 {
			x.logTo(j, seq, Rule{Soft: soft})
		}
		for _, e := range r.labels {
			if seq := e.of(soft); seq > 0 {
				x.logTo(j, seq, Rule{Groups: [][]uint32{{e.label}}, Soft: soft})
			}
		}
	}
	for _, c := range r.conjunctions {
		x.logTo(j, c.seq, c.rule)
	}
	atomic.StoreUint64(record(x.head).word(journalAt), twice(next))
}

// read takes the rules of the journal in force over, and reports whether it is
// undamaged.
func (x *file) read(r *rules) bool {
	j := x.journal()
	if j == nil {
		return false
	}
	n, _ := untwice(word(x.head, journalAt))
	used, ok := untwice(word(j, journalUsedAt))
	if !ok || word(j, journalSumAt) != x.ruleSum(j[:journalSumAt], n) || used < journalRulesAt || int(used) > len(j) {
		return false
	}
	r.seq, r.floor = word(j, journalSeqAt), word(j, journalFloorAt)
	for at := uint32(journalRulesAt); at < used; {
		rule, seq, size := x.readRule(j[at:used], at)
		if size == 0 {
			return false
		}
		r.place(rule, seq)
		r.seq = max(r.seq, seq)
		at += uint32(size)
	}
	return true
}

// readRule returns the rule that b begins with, and its size, 0 if it is damaged.
func (x *file) readRule(b []byte, at uint32) (r Rule, seq uint64, size int) {
	if len(b) < 24 {
		return r, 0, 0
	}
	words, flags := int(binary.LittleEndian.Uint32(b[8:])), binary.LittleEndian.Uint32(b[12:])
	if words > len(b)/4 {
		return r, 0, 0
	}
	size = (16+4*words+7)&^7 + 8
	if size > len(b) || word(b, size-8) != x.ruleSum(b[:size-8], at) {
		return r, 0, 0
	}
	r.Soft = flags&1 != 0
	rest := b[16:]
	for range flags >> 1 {
		n := int(binary.LittleEndian.Uint32(rest))
		rest = rest[4:]
		group := make([]uint32, n)
		for i := range group {
			group[i] = binary.LittleEndian.Uint32(rest[4*i:])
		}
		r.Groups = append(r.Groups, group)
		rest = rest[4*n:]
	}
	return r, word(b, 0), size
}
