package router

import (
	"regexp/syntax"
	"slices"
)

// needs are conditions every request must meet for an expression to hold, found
// without evaluating it. A nil set says nothing; one without elements cannot be
// met.
type needs struct {
	hosts   []string
	paths   []string // prefixes
	methods []string
}

const placesMax = 4096 // hosts times paths under which one expression is found

// place puts d where e can be found and gives it what is left to check.
func (e *expression) place(d *draft, methods *methodNumbers) {
	n := e.needs()
	if len(n.hosts)*len(n.paths) > placesMax {
		n.paths = nil
	}
	d.prefixes = []string{""}
	if n.paths != nil {
		d.prefixes = n.paths
	}
	if n.hosts != nil {
		d.hosts = make([]hostPattern, len(n.hosts))
		for i, h := range n.hosts {
			d.hosts[i] = hostPattern{name: h}
		}
	}
	c := &conditions{}
	if n.methods != nil {
		methods.want(c, n.methods)
	}
	if path, ok := e.met(); !ok {
		c.expression = e
		d.conditions = c
	} else {
		d.prefixLen = uint32(len(path.text))
		d.exact = path.op == opEqual && path.text != ""
		if n.methods != nil {
			d.conditions = c
		}
	}
}

// met reports whether meeting the needs of e is enough for e to hold: it is a
// conjunction of at most one test each of host, path and method. It returns the
// test of the path, a zero one if there is none.
func (e *expression) met() (path test, ok bool) {
	seen := map[fieldKind]bool{}
	for _, part := range e.conjuncts(nil) {
		if part.op != opTest || seen[part.test.field.kind] {
			return path, false
		}
		t := part.test
		seen[t.field.kind] = true
		switch {
		case t.field.kind == fieldHost && t.op == opEqual && t.text != "":
		case t.field.kind == fieldMethod && t.op == opEqual && !t.lower && t.text != "":
		case t.field.kind == fieldPath && (t.op == opEqual || t.op == opPrefix) && !t.lower && t.text != "":
			path = *t
		default:
			return path, false
		}
	}
	return path, true
}

// conjuncts appends the parts that all must hold.
func (e *expression) conjuncts(dst []*expression) []*expression {
	if e.op == opAnd {
		return e.right.conjuncts(e.left.conjuncts(dst))
	}
	return append(dst, e)
}

func (e *expression) needs() needs {
	switch e.op {
	case opAnd:
		a, b := e.left.needs(), e.right.needs()
		return needs{both(a.hosts, b.hosts), both(a.paths, b.paths), both(a.methods, b.methods)}
	case opOr:
		a, b := e.left.needs(), e.right.needs()
		return needs{either(a.hosts, b.hosts), either(a.paths, b.paths), either(a.methods, b.methods)}
	case opTest:
		return e.test.needs()
	}
	return needs{}
}

// both returns a set that holds where a and b do: the smaller one will do.
func both(a, b []string) []string {
	if a == nil || b != nil && len(b) < len(a) {
		return b
	}
	return a
}

// either returns the union, or nil if one of them says nothing.
func either(a, b []string) []string {
	if a == nil || b == nil {
		return nil
	}
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

func (t *test) needs() needs {
	switch {
	case t.field.kind == fieldHost && t.op == opEqual && t.text != "":
		return needs{hosts: []string{t.text}}
	case t.lower: // other spellings of the literal match too
	case t.field.kind == fieldMethod && t.op == opEqual:
		return needs{methods: []string{t.text}}
	case t.field.kind == fieldPath && (t.op == opEqual || t.op == opPrefix):
		return needs{paths: []string{t.text}}
	case t.field.kind == fieldPath && t.op == opMatches:
		if prefix := anchoredPrefix(t.regexp.String()); prefix != "" {
			return needs{paths: []string{prefix}}
		}
	}
	return needs{}
}

// anchoredPrefix returns the literal that a regexp starting with "^" starts with.
func anchoredPrefix(expr string) string {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil || re.Op != syntax.OpConcat || re.Sub[0].Op != syntax.OpBeginText {
		return ""
	}
	prefix, _ := literalPrefix(re)
	return prefix
}
