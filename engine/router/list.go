package router

import (
	"slices"
	"strings"
)

// list holds the entries of one leaf. A short one is tried in order of rank. In a
// longer one entries that want a certain header value, method or SNI are found by
// the value the request has. What cannot be found so stays in ranks: conditions
// with a regexp or a wildcard, and headers that merely must be present.
type list struct {
	ranks    []uint32
	branches []branch
	decided  bool // the first of ranks needs nothing but what led here
}

// branch leads from the value of one attribute to the entries that want it.
type branch struct {
	by     attribute
	least  uint32  // lowest rank in lists
	values foldMap // in its records a is the lowest rank, b the position in lists or noList
	lists  []list
	clear  *list // by SNI: all entries, for requests without TLS
}

// noList marks a value whose entry of lowest rank needs nothing but what led to it.
const noList = ^uint32(0)

type attribute struct {
	kind   attributeKind
	header string
}

type attributeKind uint8

const (
	byMethod attributeKind = iota
	bySNI
	byHeader
)

// linearEntriesMax is how many entries are tried one by one before a list gets
// branches: trying one costs about as much as a look-up.
const linearEntriesMax = 6

// searchList lowers s.best to the best match in l.
func (x *index) searchList(l *list, s *search) {
	if l.decided && l.ranks[0] < s.best {
		s.take(l.ranks[0], s.prefixLen)
		return
	}
	for _, rank := range l.ranks {
		if rank >= s.best || x.try(rank, s) {
			break
		}
	}
	for i := range l.branches {
		if b := &l.branches[i]; b.least < s.best {
			x.searchBranch(b, s)
		}
	}
}

func (x *index) searchBranch(b *branch, s *search) {
	switch b.by.kind {
	case byMethod:
		if !hasLower(s.r.Method) { // a foldMap would take get for GET
			x.searchValue(b, s.r.Method, s)
		}
	case bySNI:
		if !s.r.TLS {
			x.searchList(b.clear, s)
			return
		}
		s.r.scratch = append(s.r.scratch[:0], strings.TrimSuffix(s.r.SNI, ".")...)
		x.searchValue(b, s.r.scratch, s)
	case byHeader:
		x.searchHeader(b, s)
	}
}

func (x *index) searchValue(b *branch, value []byte, s *search) {
	if found := b.values.find(value); found != nil {
		x.searchFound(b, found, s)
	}
}

func (x *index) searchFound(b *branch, found *foldRecord, s *search) {
	switch {
	case found.a >= s.best:
	case found.b == noList:
		s.take(found.a, s.prefixLen)
	default:
		x.searchList(&b.lists[found.b], s)
	}
}

// searchHeader tries the entries of each value the header has. The records are
// collected first because looking at another header may overwrite the values.
func (x *index) searchHeader(b *branch, s *search) {
	var found [8]*foldRecord
	for next := 0; ; {
		n := 0
		values := s.r.header(b.by.header)
		for next < len(values) && n < len(found) {
			if r := b.values.find(values[next]); r != nil {
				found[n] = r
				n++
			}
			next++
		}
		for _, r := range found[:n] {
			x.searchFound(b, r, s)
		}
		if n < len(found) {
			return
		}
	}
}

// lister builds lists. Cold.
type lister struct {
	entries []entry
	budget  int // how many more places in lists branches may take
}

// newList compiles ranks, lowest first, and reports whether the first needs no
// checks.
func (x *index) newList(ranks []uint32) (l list, decided bool) {
	for i, rank := range ranks {
		if x.entries[rank].free() {
			ranks = ranks[:i+1] // what follows is never reached
			break
		}
	}
	b := lister{entries: x.entries, budget: 64 * len(ranks)}
	for _, rank := range ranks {
		for _, a := range b.attributes(rank) {
			b.budget += len(b.values(rank, a))
		}
	}
	return b.list(ranks, nil), x.entries[ranks[0]].free()
}

func (b *lister) list(ranks []uint32, used []attribute) list {
	l := list{decided: b.entries[ranks[0]].needsOnly(used)}
	if l.decided {
		l.ranks = ranks[:1] // what follows is never reached
		return l
	}
	for len(ranks) > linearEntriesMax {
		by, ok := b.choose(ranks, used)
		if !ok {
			break
		}
		var taken, rest []uint32
		for _, rank := range ranks {
			if len(b.values(rank, by)) > 0 {
				taken = append(taken, rank)
			} else {
				rest = append(rest, rank)
			}
		}
		l.branches = append(l.branches, b.branch(by, taken, used))
		ranks = rest
	}
	l.ranks = ranks
	return l
}

func (b *lister) branch(by attribute, ranks []uint32, used []attribute) branch {
	br := branch{by: by, least: ranks[0]}
	used = append(slices.Clip(used), by)
	var byValue [][]uint32
	for _, rank := range ranks {
		for _, v := range b.values(rank, by) {
			n := br.values.add(v)
			if n == len(byValue) {
				byValue = append(byValue, nil)
			}
			byValue[n] = append(byValue[n], rank)
		}
	}
	br.values.seal()
	for n, sub := range byValue {
		r := &br.values.records[n]
		r.a, r.b = sub[0], noList
		if l := b.list(sub, used); !l.decided {
			r.b = uint32(len(br.lists))
			br.lists = append(br.lists, l)
		}
	}
	if by.kind == bySNI {
		all := b.list(ranks, used)
		br.clear = &all
	}
	return br
}

// choose returns the unused attribute with most different values in ranks, if it
// has at least two and the budget allows it.
func (b *lister) choose(ranks []uint32, used []attribute) (best attribute, ok bool) {
	type tally struct {
		different map[string]bool
		places    int
	}
	tallies := map[attribute]*tally{}
	var order []attribute // keeps the choice the same from run to run
	for _, rank := range ranks {
		for _, a := range b.attributes(rank) {
			t := tallies[a]
			if t == nil {
				t = &tally{different: map[string]bool{}}
				tallies[a] = t
				order = append(order, a)
			}
			for _, v := range b.values(rank, a) {
				t.different[v] = true
				t.places++
			}
		}
	}
	for _, u := range used {
		delete(tallies, u)
	}
	most := 1
	for _, a := range order {
		if t := tallies[a]; t != nil && len(t.different) > most && t.places <= b.budget {
			best, most = a, len(t.different)
		}
	}
	if most == 1 {
		return best, false
	}
	b.budget -= tallies[best].places
	return best, true
}

// attributes returns by what the entry of this rank can be found.
func (b *lister) attributes(rank uint32) []attribute {
	c := b.entries[rank].conditions
	if c == nil {
		return nil
	}
	var all []attribute
	for _, h := range c.headers {
		if h.exact() {
			all = append(all, attribute{byHeader, h.name})
		}
	}
	if len(b.values(rank, attribute{kind: byMethod})) > 0 {
		all = append(all, attribute{kind: byMethod})
	}
	if plainOnly(c.snis) {
		all = append(all, attribute{kind: bySNI})
	}
	return all
}

// values returns the values of a that the entry wants, none if it cannot be found
// by a.
func (b *lister) values(rank uint32, a attribute) []string {
	c := b.entries[rank].conditions
	if c == nil {
		return nil
	}
	switch a.kind {
	case byMethod:
		// Only expressions may have methods in lower case.
		if slices.ContainsFunc(c.methodNames, func(m string) bool { return hasLower([]byte(m)) }) {
			return nil
		}
		return c.methodNames
	case bySNI:
		if !plainOnly(c.snis) {
			return nil
		}
		names := make([]string, len(c.snis))
		for i, p := range c.snis {
			names[i] = p.name
		}
		return names
	case byHeader:
		for _, h := range c.headers {
			if h.name == a.header && h.exact() {
				return h.values
			}
		}
	}
	return nil
}

func plainOnly(patterns []hostPattern) bool {
	for _, p := range patterns {
		if p.kind != plainHost {
			return false
		}
	}
	return len(patterns) > 0
}
