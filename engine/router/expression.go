package router

import (
	"bytes"
	"net/netip"
	"regexp"
)

// expression is a parsed condition of the expressions flavor: a tree of tests.
// It never changes after parsing.
type expression struct {
	op          exprOp
	left, right *expression // right is nil for opNot; both are nil for opTest
	test        *test
	text        string // the part of the source it was parsed from
}

type exprOp uint8

const (
	opTest exprOp = iota
	opAnd
	opOr
	opNot
)

// test compares one field of the request with a literal. A field without value
// fails every test, "!=" too. A field with several values passes if all pass, or
// with any() if one does.
type test struct {
	field field
	lower bool // lower() was applied
	any   bool // any() was applied
	op    compareOp

	text    string         // string literal
	regexp  *regexp.Regexp // of opMatches
	number  int64
	addr    netip.Addr
	network netip.Prefix
}

type compareOp uint8

const (
	opEqual compareOp = iota
	opNotEqual
	opMatches
	opPrefix
	opSuffix
	opContains
	opGreater
	opGreaterEqual
	opLess
	opLessEqual
	opIn
	opNotIn
)

// pathMatch is what the last test of http.path that held by prefix or regexp
// matched.
type pathMatch struct {
	len    int
	regexp *regexp.Regexp
}

// holds evaluates e for the request of s and leaves the matched part of the path
// in s.seen. Branches that fail and negations leave nothing there.
func (e *expression) holds(s *search) bool {
	before := s.seen
	ok := false
	switch e.op {
	case opAnd:
		ok = e.left.holds(s) && e.right.holds(s)
	case opOr:
		ok = e.left.holds(s) || e.right.holds(s)
	case opNot:
		ok = !e.left.holds(s)
		s.seen = before
	case opTest:
		ok = e.test.holds(s)
	}
	if !ok {
		s.seen = before
	}
	return ok
}

func (t *test) holds(s *search) bool {
	switch t.field.kind {
	case fieldHeader:
		return t.headerHolds(s)
	case fieldQuery:
		return t.queryHolds(s)
	case fieldSrcIP:
		return t.addrHolds(s.r.Src)
	case fieldDstIP:
		return t.addrHolds(s.r.Dst)
	case fieldSrcPort:
		return s.r.Src.IsValid() && t.numberHolds(int64(s.r.Src.Port()))
	case fieldDstPort:
		return s.r.Dst.IsValid() && t.numberHolds(int64(s.r.Dst.Port()))
	case fieldSegmentCount:
		return t.numberHolds(int64(segmentCount(s.path)))
	case fieldPath:
		return t.pathHolds(s)
	}
	v := t.field.value(s)
	return v != nil && t.textHolds(v, s.r)
}

func (t *test) headerHolds(s *search) bool {
	values := s.r.header(t.field.name)
	for _, v := range values {
		if t.textHolds(v, s.r) == t.any {
			return t.any
		}
	}
	return len(values) > 0 && !t.any
}

func (t *test) queryHolds(s *search) bool {
	found := false
	rest := s.r.Query
	for len(rest) > 0 {
		var pair []byte
		pair, rest, _ = bytes.Cut(rest, ampersand)
		name, value, _ := bytes.Cut(pair, equals)
		if len(pair) == 0 || !decodesTo(name, t.field.name) {
			continue
		}
		found = true
		s.r.scratch = appendUnescaped(s.r.scratch[:0], value)
		if t.textHolds(s.r.scratch, s.r) == t.any {
			return t.any
		}
	}
	return found && !t.any
}

// pathHolds is textHolds for http.path; it also notes what was matched.
func (t *test) pathHolds(s *search) bool {
	v := s.path
	if t.lower {
		v = s.r.lowered(v)
	}
	switch t.op {
	case opPrefix:
		if len(v) >= len(t.text) && string(v[:len(t.text)]) == t.text {
			s.seen = pathMatch{len: len(t.text)}
			return true
		}
		return false
	case opMatches:
		m := t.regexp.Find(v)
		if m == nil {
			return false
		}
		// Only a match at the start of the path can be stripped.
		s.seen = pathMatch{regexp: t.regexp}
		if len(m) > 0 && &m[0] == &v[0] {
			s.seen.len = len(m)
		}
		return true
	}
	return t.compareText(v)
}

// textHolds compares one string value. v may be the scratch space of r.
func (t *test) textHolds(v []byte, r *Request) bool {
	if t.lower {
		v = r.lowered(v)
	}
	return t.compareText(v)
}

func (t *test) compareText(v []byte) bool {
	n := len(t.text)
	switch t.op {
	case opEqual:
		return string(v) == t.text
	case opNotEqual:
		return string(v) != t.text
	case opMatches:
		return t.regexp.Match(v)
	case opPrefix:
		return len(v) >= n && string(v[:n]) == t.text
	case opSuffix:
		return len(v) >= n && string(v[len(v)-n:]) == t.text
	case opContains:
		return n == 0 || containsString(v, t.text)
	}
	panic("BUG: operator not allowed for strings")
}

func (t *test) numberHolds(v int64) bool {
	switch t.op {
	case opEqual:
		return v == t.number
	case opNotEqual:
		return v != t.number
	case opGreater:
		return v > t.number
	case opGreaterEqual:
		return v >= t.number
	case opLess:
		return v < t.number
	case opLessEqual:
		return v <= t.number
	}
	panic("BUG: operator not allowed for integers")
}

func (t *test) addrHolds(v netip.AddrPort) bool {
	if !v.IsValid() {
		return false
	}
	addr := v.Addr().Unmap().WithZone("")
	switch t.op {
	case opEqual:
		return addr == t.addr
	case opNotEqual:
		return addr != t.addr
	case opIn:
		return t.network.Contains(addr)
	case opNotIn:
		return !t.network.Contains(addr)
	}
	panic("BUG: operator not allowed for addresses")
}
