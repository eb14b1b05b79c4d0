package router

import (
	"net/netip"
	"regexp"
)

// Flavor selects the order in which rules are tried and some details of how
// they match. The package comment has the table.
type Flavor uint8

// The flavors, named like the values of Kong's router_flavor.
const (
	Traditional           Flavor = iota // attribute categories, then created_at (default)
	TraditionalCompatible               // one numeric priority, then the larger ID
	Expressions                         // Rule.Expression by Rule.Priority; other rules rank below
)

// Header is one header condition of a Rule. The header must be present and,
// where Values are given, one of its values must be one of them; letter case of
// ASCII letters is ignored. A value "~*re" is a regular expression searched in
// the lower-cased request value; in the Traditional flavor only when it is the
// sole value.
type Header struct {
	Name   string
	Values []string
}

// Rule is one route: conditions and the value they lead to. All attributes that
// are set must match; values inside one attribute are alternatives.
type Rule[T any] struct {
	Value T

	ID            string // breaks ties in TraditionalCompatible and Expressions
	CreatedAt     int64  // breaks ties in Traditional: older first
	RegexPriority int    // order among regexp paths, higher first

	Methods []string // "GET"
	Hosts   []string // "a.com", "*.a.com", "a.*", each also with ":port"
	Paths   []string // "/prefix" (normalized) or "~/regexp"
	SNIs    []string // "a.com", "*.a.com", "a.*"
	Headers []Header

	Expression string // flavor Expressions only, instead of the attributes above
	Priority   uint64 // of Expression, higher first
}

// Headers is how the table reads request headers; *fasthttp.RequestHeader
// satisfies it. The slices are only read, and only until the next call.
type Headers interface {
	Peek(name string) []byte
	PeekAll(name string) [][]byte
}

// Request is what a rule can look at. The caller owns all bytes; they are read
// during Match only. A Request holds scratch space and so serves one goroutine
// at a time; reusing one keeps Match free of allocations.
type Request struct {
	Method   []byte         // as sent: methods are case-sensitive (RFC 9110, section 9.1)
	Host     []byte         // as sent, perhaps with ":port"
	Path     []byte         // from NormalizePath
	SNI      string         // server name of the TLS handshake
	TLS      bool           // false: SNI conditions are ignored
	Headers  Headers        // nil is a request without headers
	Query    []byte         // without "?"
	Protocol string         // net.protocol of expressions: "http", "https", "grpc", ...
	Src, Dst netip.AddrPort // client and listener

	scratch []byte // lower-cased or decoded copies; grows to the longest one needed
}

// Match is the outcome of Table.Match. It may be copied and reused and holds no
// bytes of the request.
type Match[T any] struct {
	Value   T
	Found   bool
	PathLen int // bytes of Request.Path matched by the winning prefix or regexp, 0 if none

	regexp  *regexp.Regexp // the winning path regexp, nil if none
	skipped int            // bytes of the path before what regexp matched
}

// Table finds the rule for a request. It never changes after New and may be used
// by any number of goroutines.
type Table[T any] struct {
	values []T // by rank
	index  index
	rules  []Rule[T] // as given, for Explain
	flavor Flavor
}

// New compiles rules. The error joins one *RuleError for every fault found in
// any of them, and the table is nil then. Rules are kept, not copied: do not
// change them afterwards.
func New[T any](rules []Rule[T], flavor Flavor) (*Table[T], error) {
	c := compiler{flavor: flavor}
	for i := range rules {
		c.add(i, attributesOf(&rules[i]))
	}
	if err := c.err(); err != nil {
		return nil, err
	}
	t := &Table[T]{index: c.build(), rules: rules, flavor: flavor}
	t.values = make([]T, len(t.index.entries))
	for rank := range t.values {
		t.values[rank] = rules[t.index.entries[rank].rule].Value
	}
	return t, nil
}

// Len returns the number of rules.
func (t *Table[T]) Len() int { return len(t.rules) }

// Match writes the outcome for r to m: the value of the first rule in the
// table's order that matches, or Found false and the zero value. It does not
// allocate once r's scratch space has grown to the longest value that had to be
// lower-cased or decoded.
func (t *Table[T]) Match(r *Request, m *Match[T]) {
	var s search
	t.index.find(r, &s)
	if s.best == noRank {
		*m = Match[T]{}
		return
	}
	m.Value = t.values[s.best]
	m.Found = true
	m.PathLen = s.pathLen
	m.regexp = s.regexp
	m.skipped = s.skipped
}

// attributes are the conditions of a Rule without its value, so that compiling
// is not generic.
type attributes struct {
	id                          string
	createdAt                   int64
	regexPriority               int
	methods, hosts, paths, snis []string
	headers                     []Header
	expression                  string
	priority                    uint64
}

func attributesOf[T any](r *Rule[T]) *attributes {
	return &attributes{
		id: r.ID, createdAt: r.CreatedAt, regexPriority: r.RegexPriority,
		methods: r.Methods, hosts: r.Hosts, paths: r.Paths, snis: r.SNIs, headers: r.Headers,
		expression: r.Expression, priority: r.Priority,
	}
}
