package router

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Candidate is a rule as Explain saw it.
type Candidate[T any] struct {
	Value  T
	Rule   int    // position in the rules given to New
	Path   string // the one of Rule.Paths that came nearest, "" if there are none
	Won    bool
	Failed []Mismatch // empty for the winner and for rules that it outranks
}

// Mismatch is one attribute that kept a rule from matching.
type Mismatch struct {
	Field string // "methods", "hosts", "paths", "headers", "snis" or "expression"
	Got   string // what the request has, "" if nothing
	Want  string // what the rule wants, alternatives separated by " or "
}

// Explain returns up to limit rules: the winner first, if there is one, then
// those that failed in the fewest attributes, in the table's order. It looks at
// every rule without using the index, so it takes time and memory in proportion
// to the table. Cold.
func (t *Table[T]) Explain(r *Request, limit int) []Candidate[T] {
	var s search
	s.begin(r, t.index.defaultPort)
	type verdict struct {
		rank   uint32
		failed []Mismatch
	}
	nearest := make(map[int32]verdict, len(t.rules))
	for rank := range t.index.entries {
		e := &t.index.entries[rank]
		failed := mismatches(&t.index, e, attributesOf(&t.rules[e.rule]), &s)
		if v, ok := nearest[e.rule]; !ok || len(failed) < len(v.failed) {
			nearest[e.rule] = verdict{uint32(rank), failed}
		}
	}
	all := make([]verdict, 0, len(nearest))
	for _, v := range nearest {
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b verdict) int {
		return cmp.Or(cmp.Compare(len(a.failed), len(b.failed)), cmp.Compare(a.rank, b.rank))
	})
	all = all[:min(len(all), max(limit, 0))]
	candidates := make([]Candidate[T], len(all))
	for i, v := range all {
		e := &t.index.entries[v.rank]
		c := Candidate[T]{
			Value: t.values[v.rank], Rule: int(e.rule), Failed: v.failed,
			Won: i == 0 && len(v.failed) == 0,
		}
		if e.pathIndex >= 0 {
			c.Path = t.rules[e.rule].Paths[e.pathIndex]
		}
		candidates[i] = c
	}
	return candidates
}

// pathMatches reports whether the entry's value of Rule.Paths matches path.
func (e *entry) pathMatches(want string, path []byte) bool {
	if e.path == nil {
		return bytes.HasPrefix(path, []byte(want))
	}
	parsed, err := parseRegexp(want[1:])
	if err != nil {
		panic("BUG: regexp of a compiled table does not parse: " + want)
	}
	prefix, _ := literalPrefix(parsed)
	return bytes.HasPrefix(path, []byte(prefix)) && e.path.matched(path) >= 0
}

// mismatches checks every attribute by itself.
func mismatches(x *index, e *entry, a *attributes, s *search) []Mismatch {
	if a.expression != "" {
		return exprMismatches(a.expression, s)
	}
	var failed []Mismatch
	if len(a.hosts) > 0 && !hostMatches(a.hosts, s) {
		failed = append(failed, Mismatch{"hosts", string(s.r.Host), orList(a.hosts)})
	}
	if e.pathIndex >= 0 {
		path := a.paths[e.pathIndex]
		if !e.pathMatches(path, s.path) {
			failed = append(failed, Mismatch{"paths", string(s.path), path})
		}
	}
	c := e.conditions
	if c == nil {
		return failed
	}
	if c.methods != nil && !c.methods.has(s.methodNumber(x)) {
		failed = append(failed, Mismatch{"methods", string(s.r.Method), orList(a.methods)})
	}
	for i, h := range c.headers {
		if h.holds(s.r) {
			continue
		}
		want := h.name + ": " + orList(a.headers[i].Values)
		if h.present {
			want = h.name
		}
		got := string(bytes.Join(s.r.header(h.name), []byte(", ")))
		failed = append(failed, Mismatch{"headers", got, want})
	}
	if len(c.snis) > 0 && s.r.TLS && !sniMatches(c.snis, s.r.SNI) {
		failed = append(failed, Mismatch{"snis", s.r.SNI, orList(a.snis)})
	}
	return failed
}

func orList(values []string) string { return strings.Join(values, " or ") }

func hostMatches(hosts []string, s *search) bool {
	name := lowerString(string(s.host))
	return slices.ContainsFunc(hosts, func(host string) bool {
		p, err := parseHost(host)
		return err == nil && p.matches(name, s.port)
	})
}

// exprMismatches lists the parts of a conjunction that do not hold.
func exprMismatches(text string, s *search) []Mismatch {
	e, err := parseExpression(text)
	if err != nil {
		panic("BUG: expression of a compiled table does not parse: " + text)
	}
	var failed []Mismatch
	for _, part := range e.conjuncts(nil) {
		if !part.holds(s) {
			m := Mismatch{Field: "expression", Want: part.text}
			if part.op == opTest {
				m.Got = part.test.field.describe(s)
			}
			failed = append(failed, m)
		}
	}
	return failed
}

// describe returns the value of a field for people.
func (f *field) describe(s *search) string {
	switch f.kind {
	case fieldPath:
		return string(s.path)
	case fieldHeader:
		return string(bytes.Join(s.r.header(f.name), []byte(", ")))
	case fieldQuery:
		return string(s.r.Query)
	case fieldSrcIP:
		return s.r.Src.Addr().String()
	case fieldDstIP:
		return s.r.Dst.Addr().String()
	case fieldSrcPort:
		return strconv.Itoa(int(s.r.Src.Port()))
	case fieldDstPort:
		return strconv.Itoa(int(s.r.Dst.Port()))
	case fieldSegmentCount:
		return strconv.Itoa(segmentCount(s.path))
	}
	return string(f.value(s))
}
