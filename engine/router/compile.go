package router

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// compiler turns rules into entries, ranks them and builds the index. Cold.
type compiler struct {
	flavor  Flavor
	index   index
	drafts  []draft
	faults  []error
	regexps regexpCache
}

// draft is an entry before it has a rank, with where it will be found.
type draft struct {
	entry

	order    order
	hosts    []hostPattern // nil: any host
	prefixes []string      // "" where the path does not matter
}

// order is the sort key: numbers first, larger before smaller.
type order struct {
	numbers [7]int64
	id      string // larger first; empty in Traditional
}

func (c *compiler) fault(rule int, field string, at int, err error) {
	c.faults = append(c.faults, &RuleError{Rule: rule, Field: field, Index: at, Err: err})
}

func (c *compiler) err() error {
	if c.flavor > Expressions {
		return fmt.Errorf("router: unknown flavor %d", c.flavor)
	}
	return errors.Join(c.faults...)
}

func (c *compiler) add(rule int, a *attributes) {
	if a.expression != "" {
		c.addExpression(rule, a)
		return
	}
	shared := c.conditions(rule, a)
	hosts := c.hosts(rule, a)
	r := ranking{attributes: a, flavor: c.flavor, hosts: hosts}
	base := entry{conditions: shared, rule: int32(rule), pathIndex: -1}
	if len(a.paths) == 0 {
		c.drafts = append(c.drafts, draft{base, r.order("", false), hosts, []string{""}})
		return
	}
	for i, path := range a.paths {
		d := draft{entry: base, hosts: hosts}
		d.pathIndex = int32(i)
		expr, isRegexp := strings.CutPrefix(path, "~")
		var err error
		if isRegexp {
			d.prefixes = make([]string, 1)
			d.path, d.prefixes[0], err = c.regexps.path(expr)
		} else {
			err = validatePrefix(path)
			d.prefixes = []string{path}
			d.prefixLen = uint32(len(path))
		}
		if err != nil {
			c.fault(rule, "paths", i, err)
			continue
		}
		d.order = r.order(path, isRegexp)
		c.drafts = append(c.drafts, d)
	}
}

// conditions compiles what the entries of a rule share; nil if there is nothing.
func (c *compiler) conditions(rule int, a *attributes) *conditions {
	if len(a.methods)+len(a.headers)+len(a.snis) == 0 {
		return nil
	}
	shared := &conditions{}
	for i, method := range a.methods {
		if err := ValidateMethod(method); err != nil {
			c.fault(rule, "methods", i, err)
		}
	}
	c.index.methods.want(shared, a.methods)
	for i, h := range a.headers {
		compiled, err := compileHeader(h, c.flavor)
		if err != nil {
			c.fault(rule, "headers", i, err)
			continue
		}
		shared.headers = append(shared.headers, compiled)
	}
	for i, sni := range a.snis {
		p, err := parseSNI(sni)
		if err != nil {
			c.fault(rule, "snis", i, err)
			continue
		}
		shared.snis = append(shared.snis, p)
	}
	return shared
}

// want makes methods a condition.
func (m *methodNumbers) want(c *conditions, methods []string) {
	for _, method := range methods {
		n := m.number(method)
		for int(n>>6) >= len(c.methods) {
			c.methods = append(c.methods, 0)
		}
		c.methods[n>>6] |= 1 << (n & 63)
	}
	c.methodNames = methods
}

func (c *compiler) hosts(rule int, a *attributes) []hostPattern {
	var hosts []hostPattern
	for i, host := range a.hosts {
		p, err := parseHost(host)
		if err != nil {
			c.fault(rule, "hosts", i, err)
			continue
		}
		hosts = append(hosts, p)
	}
	return hosts
}

// priorityMax is the highest priority of an expression (Kong: 2^46-1).
const priorityMax = 1<<46 - 1

func (c *compiler) addExpression(rule int, a *attributes) {
	switch {
	case c.flavor != Expressions:
		c.fault(rule, "expression", 0, errors.New("only the expressions flavor has expressions"))
	case len(a.methods)+len(a.hosts)+len(a.paths)+len(a.headers)+len(a.snis) > 0:
		c.fault(rule, "expression", 0, errors.New("may not be mixed with methods, hosts, paths, headers or snis"))
	case a.priority > priorityMax:
		c.fault(rule, "expression", 0, fmt.Errorf("priority %d: must be 0 to %d", a.priority, priorityMax))
	}
	x, err := parseExpression(a.expression)
	if err != nil {
		c.fault(rule, "expression", 0, err)
		return
	}
	d := draft{order: order{id: a.id}}
	d.order.numbers[0] = 1 // above all rules without expression
	d.order.numbers[1] = int64(min(a.priority, priorityMax))
	d.rule, d.pathIndex = int32(rule), -1
	x.place(&d, &c.index.methods)
	c.drafts = append(c.drafts, d)
}

// ranking is what the order of a rule's entries depends on.
type ranking struct {
	*attributes

	flavor Flavor
	hosts  []hostPattern
}

// Bits of a category (Kong: traditional router).
const (
	hostBit   = 64
	headerBit = 32
	pathBit   = 16
	methodBit = 8
	sniBit    = 4
)

// order returns the sort key of the entry for one path. The package comment has
// the table.
func (r *ranking) order(path string, isRegexp bool) order {
	kinds, category := int64(0), int64(0)
	for bit, n := range map[int64]int{
		hostBit: len(r.attributes.hosts), headerBit: len(r.headers), pathBit: len(r.paths),
		methodBit: len(r.methods), sniBit: len(r.snis),
	} {
		if n > 0 {
			kinds++
			category += bit
		}
	}
	var regex, regexPriority, prefixLen int64
	if isRegexp {
		regex, regexPriority = 1, int64(r.regexPriority)
	} else {
		prefixLen = int64(len(path))
	}
	plain := int64(0)
	if plainOnly(r.hosts) {
		plain = 1
	}
	if r.flavor != Traditional {
		headers := min(int64(len(r.headerNames())), 255)
		return order{[7]int64{0, kinds, plain, headers, regex, regexPriority, min(prefixLen, 1<<19-1)}, r.id}
	}
	flags := 2*plain + regex
	if slices.ContainsFunc(r.hosts, func(p hostPattern) bool { return p.kind != plainHost && p.port != 0 }) {
		flags += 4
	}
	older := -max(r.createdAt, -math.MaxInt64)
	return order{[7]int64{kinds, category, flags, int64(len(r.headerNames())), regexPriority, prefixLen, older}, ""}
}

// headerNames returns the distinct names, lower-cased.
func (r *ranking) headerNames() []string {
	names := make([]string, len(r.headers))
	for i, h := range r.headers {
		names[i] = lowerString(h.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func compareDrafts(a, b *draft) int {
	for i := range a.order.numbers {
		if c := cmp.Compare(b.order.numbers[i], a.order.numbers[i]); c != 0 {
			return c
		}
	}
	return cmp.Or(
		strings.Compare(b.order.id, a.order.id),
		cmp.Compare(a.rule, b.rule),
		cmp.Compare(a.pathIndex, b.pathIndex),
	)
}

// build ranks the drafts and puts each into the trees it is found through.
func (c *compiler) build() index {
	x := &c.index
	x.defaultPort = c.flavor != Traditional
	ranked := make([]*draft, len(c.drafts))
	for i := range c.drafts {
		ranked[i] = &c.drafts[i]
	}
	slices.SortFunc(ranked, compareDrafts)

	byHost := map[hostPattern][]uint32{}
	var patterns []hostPattern
	var anyHost []uint32
	x.entries = make([]entry, len(ranked))
	for i, d := range ranked {
		rank := uint32(i)
		x.entries[rank] = d.entry
		if d.hosts == nil {
			anyHost = append(anyHost, rank)
		}
		for _, p := range d.hosts {
			ranks := byHost[p]
			if len(ranks) == 0 {
				patterns = append(patterns, p)
			} else if ranks[len(ranks)-1] == rank {
				continue // the rule names a host twice
			}
			byHost[p] = append(ranks, rank)
		}
	}
	if len(anyHost) > 0 {
		x.anyHost = x.plant(ranked, anyHost)
	}
	x.byHost = len(patterns) > 0
	// Hosts with the same entries share a tree: rules often list many hosts.
	planted := map[string]uint32{}
	var signature []byte
	for _, p := range patterns {
		signature = signature[:0]
		for _, rank := range byHost[p] {
			signature = append(signature, byte(rank), byte(rank>>8), byte(rank>>16), byte(rank>>24))
		}
		root, ok := planted[string(signature)]
		if !ok {
			root = x.plant(ranked, byHost[p])
			planted[string(signature)] = root
		}
		x.hosts.put(p, root)
	}
	x.hosts.seal()
	return *x
}

// plant grows a tree for entries and returns its root.
func (x *index) plant(ranked []*draft, ranks []uint32) uint32 {
	items := make([]prefixed, 0, len(ranks))
	for _, rank := range ranks {
		for _, prefix := range ranked[rank].prefixes {
			items = append(items, prefixed{prefix, rank})
		}
	}
	return x.grow(items, x.newList)
}
