package router

import (
	"regexp"
	"slices"
)

// index finds the entry of lowest rank that matches. It is not generic: a table
// maps the rank to its value.
type index struct {
	tree

	entries []entry // by rank
	hosts   hostTable
	byHost  bool   // some entry wants a host
	anyHost uint32 // tree of the entries that want none, 0 if there are none

	methods     methodNumbers
	defaultPort bool // a Host without port has that of the listener
}

// entry is one way to match a rule: its conditions with one of its paths.
type entry struct {
	conditions *conditions // nil: none but host and path
	path       *pathRegexp // nil: a prefix, or none
	exact      bool        // the path is the prefix and nothing more
	prefixLen  uint32
	rule       int32
	pathIndex  int32 // position in Rule.Paths, -1 if there is none
}

// needsOnly reports whether e matches wherever its host, its prefix and the used
// attributes do.
func (e *entry) needsOnly(used []attribute) bool {
	c := e.conditions
	if c == nil || e.path != nil || e.exact {
		return e.free()
	}
	if c.expression != nil ||
		c.methods != nil && !slices.Contains(used, attribute{kind: byMethod}) ||
		c.snis != nil && !slices.Contains(used, attribute{kind: bySNI}) {
		return false
	}
	seen := map[string]bool{}
	for _, h := range c.headers {
		// Of two conditions on one header only the first is looked up.
		if seen[h.name] || !slices.Contains(used, attribute{byHeader, h.name}) {
			return false
		}
		seen[h.name] = true
	}
	return true
}

// free reports whether e matches wherever its host and prefix do.
func (e *entry) free() bool { return e.conditions == nil && e.path == nil && !e.exact }

// conditions are what all entries of a rule share; all must hold.
type conditions struct {
	methods     methodSet // nil: any
	methodNames []string
	snis        []hostPattern
	headers     []*headerCondition
	expression  *expression
}

// methodSet has a bit for each numbered method.
type methodSet []uint64

func (m methodSet) has(n int32) bool {
	return n >= 0 && int(n>>6) < len(m) && m[n>>6]>>(n&63)&1 != 0
}

// methodNumbers numbers the methods that rules name. Unlike a foldMap it respects
// letter case.
type methodNumbers struct{ numbers map[string]int32 }

func (m *methodNumbers) number(method string) int32 {
	if m.numbers == nil {
		m.numbers = map[string]int32{}
	}
	n, ok := m.numbers[method]
	if !ok {
		n = int32(len(m.numbers))
		m.numbers[method] = n
	}
	return n
}

const (
	methodNotAsked = -2
	methodUnknown  = -1
)

// search is the state of one Match; it lives on the stack.
type search struct {
	r      *Request
	path   []byte
	host   []byte
	port   uint16
	method int32

	prefixLen int // of the leaf being searched

	best    uint32 // lowest rank that matched so far
	pathLen int
	regexp  *regexp.Regexp
	skipped int       // bytes of the path before what regexp matched
	seen    pathMatch // of the expression being evaluated
}

var emptyPath = []byte{} // regexp.Find on nil cannot tell an empty match from none

func (x *index) find(r *Request, s *search) {
	s.begin(r, x.defaultPort)
	if x.byHost {
		x.hosts.search(x, s)
	}
	if x.anyHost != 0 {
		x.searchTree(x.anyHost, s)
	}
}

func (s *search) begin(r *Request, defaultPort bool) {
	s.r, s.best, s.method = r, noRank, methodNotAsked
	s.path = r.Path
	if s.path == nil {
		s.path = emptyPath
	}
	s.host, s.port = splitHost(r.Host)
	if s.port == 0 && defaultPort {
		s.port = r.Dst.Port()
	}
}

// searchTree lowers s.best to the best match in one tree, if that is better.
func (x *index) searchTree(root uint32, s *search) {
	n, prefixLen := x.deepest(root, s.path, s.best)
	if n == nil {
		return
	}
	if n.decided != noRank { // Fast path: a prefix without further conditions.
		if n.decided < s.best {
			s.take(n.decided, prefixLen)
		}
		return
	}
	for at := n.leaf; at >= 0; {
		l := &x.leaves[at]
		if l.leastChain >= s.best {
			return
		}
		switch {
		case l.least >= s.best:
		case l.single: // Fast path: one cache miss less than through the list.
			x.try(l.least, s)
		default:
			s.prefixLen = int(l.prefixLen)
			x.searchList(&l.entries, s)
		}
		at = l.up
	}
}

// take makes an entry that is found by its prefix alone the best.
func (s *search) take(rank uint32, pathLen int) {
	s.best, s.pathLen, s.regexp, s.skipped = rank, pathLen, nil, 0
}

// try takes the entry of this rank, which is better than the best so far, if all
// its conditions hold.
func (x *index) try(rank uint32, s *search) bool {
	e := &x.entries[rank]
	if e.exact && len(s.path) != int(e.prefixLen) {
		return false
	}
	c := e.conditions
	if c != nil && !c.hold(x, s) {
		return false
	}
	switch {
	case e.path != nil:
		n := e.path.matched(s.path)
		if n < 0 {
			return false
		}
		s.take(rank, n)
		s.regexp, s.skipped = e.path.tail, e.path.skip
	case c != nil && c.expression != nil:
		s.seen = pathMatch{}
		if !c.expression.holds(s) {
			return false
		}
		s.take(rank, s.seen.len)
		s.regexp = s.seen.regexp
	case e.exact:
		s.take(rank, 0)
	default:
		s.take(rank, int(e.prefixLen))
	}
	return true
}

// hold checks everything but the expression, cheapest first.
func (c *conditions) hold(x *index, s *search) bool {
	if c.methods != nil && !c.methods.has(s.methodNumber(x)) {
		return false
	}
	if c.snis != nil && s.r.TLS && !sniMatches(c.snis, s.r.SNI) {
		return false
	}
	for _, h := range c.headers {
		if !h.holds(s.r) {
			return false
		}
	}
	return true
}

func (s *search) methodNumber(x *index) int32 {
	if s.method == methodNotAsked {
		n, ok := x.methods.numbers[string(s.r.Method)]
		if !ok {
			n = methodUnknown
		}
		s.method = n
	}
	return s.method
}
