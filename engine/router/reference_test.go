package router

import (
	"net/netip"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
)

// The reference matcher: linear, written from the matching rules alone, sharing
// no code with the table. It is slow on purpose.

type refHeaders map[string][]string // by lower-case name

func (h refHeaders) Peek(name string) []byte {
	if v := h[strings.ToLower(name)]; len(v) > 0 {
		return []byte(v[0])
	}
	return nil
}

func (h refHeaders) PeekAll(name string) [][]byte {
	values := h[strings.ToLower(name)]
	all := make([][]byte, 0, len(values))
	for _, v := range values {
		all = append(all, []byte(v))
	}
	return all
}

type refRequest struct {
	method, host, path, sni string
	tls                     bool
	headers                 refHeaders
	listenPort              int
}

func (q refRequest) request() *Request {
	return &Request{
		Method: []byte(q.method), Host: []byte(q.host), Path: []byte(q.path), SNI: q.sni, TLS: q.tls,
		Headers: q.headers, Dst: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), uint16(q.listenPort)),
	}
}

// refSub is a rule with one of its paths.
type refSub struct {
	rule  Rule[int]
	index int
	path  string
	order int // of the path in the rule
}

func refSplit(rules []Rule[int], flavor Flavor) []refSub {
	var subs []refSub
	for i, r := range rules {
		if len(r.Paths) == 0 {
			subs = append(subs, refSub{r, i, "", 0})
		}
		for j, p := range r.Paths {
			subs = append(subs, refSub{r, i, p, j})
		}
	}
	less := refLessTraditional
	if flavor != Traditional {
		less = refLessCompatible
	}
	sort.SliceStable(subs, func(i, j int) bool { return less(subs[i], subs[j]) })
	return subs
}

func refIsRegex(path string) bool { return strings.HasPrefix(path, "~") }

func refPrefixLen(path string) int {
	if refIsRegex(path) {
		return 0
	}
	return len(path)
}

func refRegexPriority(s refSub) int {
	if refIsRegex(s.path) {
		return s.rule.RegexPriority
	}
	return 0
}

func refKinds(r Rule[int]) (count, sum int) {
	if len(r.Hosts) > 0 {
		count, sum = count+1, sum+64
	}
	if len(r.Headers) > 0 {
		count, sum = count+1, sum+32
	}
	if len(r.Paths) > 0 {
		count, sum = count+1, sum+16
	}
	if len(r.Methods) > 0 {
		count, sum = count+1, sum+8
	}
	if len(r.SNIs) > 0 {
		count, sum = count+1, sum+4
	}
	return count, sum
}

func refHeaderCount(r Rule[int]) int {
	seen := map[string]bool{}
	for _, h := range r.Headers {
		seen[strings.ToLower(h.Name)] = true
	}
	return len(seen)
}

func refPlainOnly(r Rule[int]) bool {
	for _, h := range r.Hosts {
		if strings.Contains(h, "*") {
			return false
		}
	}
	return len(r.Hosts) > 0
}

func refFlags(s refSub) int {
	flags := 0
	for _, h := range s.rule.Hosts {
		if strings.Contains(h, "*") && strings.Contains(h, ":") {
			flags = 4
		}
	}
	if refPlainOnly(s.rule) {
		flags += 2
	}
	if refIsRegex(s.path) {
		flags++
	}
	return flags
}

func refLessTraditional(a, b refSub) bool {
	ac, as := refKinds(a.rule)
	bc, bs := refKinds(b.rule)
	if ac != bc {
		return ac > bc
	}
	if as != bs {
		return as > bs
	}
	if x, y := refFlags(a), refFlags(b); x != y {
		return x > y
	}
	if x, y := refHeaderCount(a.rule), refHeaderCount(b.rule); x != y {
		return x > y
	}
	if x, y := refRegexPriority(a), refRegexPriority(b); x != y {
		return x > y
	}
	if x, y := refPrefixLen(a.path), refPrefixLen(b.path); x != y {
		return x > y
	}
	if a.rule.CreatedAt != b.rule.CreatedAt {
		return a.rule.CreatedAt < b.rule.CreatedAt
	}
	if a.index != b.index {
		return a.index < b.index
	}
	return a.order < b.order
}

// refPriority is the 64-bit number of the compatible flavor, bit by bit. The
// tests keep regex_priority within its 32 bits.
func refPriority(s refSub) uint64 {
	count, _ := refKinds(s.rule)
	p := uint64(count) << 61
	if refPlainOnly(s.rule) {
		p |= 1 << 60
	}
	p |= uint64(min(refHeaderCount(s.rule), 255)) << 52
	if refIsRegex(s.path) {
		p |= 1<<51 | uint64(s.rule.RegexPriority)<<19
	}
	return p | uint64(refPrefixLen(s.path))
}

func refLessCompatible(a, b refSub) bool {
	if x, y := refPriority(a), refPriority(b); x != y {
		return x > y
	}
	if a.rule.ID != b.rule.ID {
		return a.rule.ID > b.rule.ID
	}
	if a.index != b.index {
		return a.index < b.index
	}
	return a.order < b.order
}

// refMatch returns the value of the first sub-rule that matches and how many
// bytes of the path it matched.
func refMatch(subs []refSub, q refRequest, flavor Flavor) (value, pathLen int, found bool) {
	for _, s := range subs {
		n, ok := refPath(s.path, q.path)
		if ok && refMethods(s.rule, q) && refHosts(s.rule, q, flavor) && refHeadersMatch(s.rule, q, flavor) && refSNIs(s.rule, q) {
			return s.rule.Value, n, true
		}
	}
	return 0, 0, false
}

func refPath(want, path string) (int, bool) {
	if refIsRegex(want) {
		at := refRegex(`\A(?:` + want[1:] + `)`).FindStringIndex(path)
		if at == nil {
			return 0, false
		}
		return at[1], true
	}
	return len(want), strings.HasPrefix(path, want)
}

var refRegexes sync.Map // of *regexp.Regexp, by source

func refRegex(expr string) *regexp.Regexp {
	re, ok := refRegexes.Load(expr)
	if !ok {
		re, _ = refRegexes.LoadOrStore(expr, regexp.MustCompile(expr))
	}
	return re.(*regexp.Regexp)
}

func refMethods(r Rule[int], q refRequest) bool {
	return len(r.Methods) == 0 || slices.Contains(r.Methods, q.method)
}

func refSplitPort(host string) (string, int) {
	i := strings.LastIndex(host, ":")
	if i < 0 {
		return host, 0
	}
	port, err := strconv.Atoi(host[i+1:])
	if err != nil && host[i+1:] != "" || port > 65535 {
		return host, 0 // no port
	}
	return host[:i], port
}

func refHosts(r Rule[int], q refRequest, flavor Flavor) bool {
	name, port := refSplitPort(strings.ToLower(q.host))
	if port == 0 && flavor != Traditional {
		port = q.listenPort
	}
	for _, h := range r.Hosts {
		wantName, wantPort := refSplitPort(strings.ToLower(h))
		if wantPort != 0 && wantPort != port {
			continue
		}
		if refName(wantName, name) {
			return true
		}
	}
	return len(r.Hosts) == 0
}

func refName(want, name string) bool {
	switch {
	case strings.HasPrefix(want, "*"):
		return strings.HasSuffix(name, want[1:]) && len(name) >= len(want)
	case strings.HasSuffix(want, "*"):
		return strings.HasPrefix(name, want[:len(want)-1]) && len(name) >= len(want)
	}
	return want == name
}

func refHeadersMatch(r Rule[int], q refRequest, flavor Flavor) bool {
	for _, h := range r.Headers {
		if !refHeader(h, q.headers[strings.ToLower(h.Name)], flavor) {
			return false
		}
	}
	return true
}

func refHeader(h Header, got []string, flavor Flavor) bool {
	if len(h.Values) == 0 {
		return len(got) > 0
	}
	for _, want := range h.Values {
		for _, v := range got {
			v = strings.ToLower(v)
			isRegex := strings.HasPrefix(want, "~*") && (flavor != Traditional || len(h.Values) == 1)
			expr := strings.TrimPrefix(want, "~*")
			if flavor != Traditional {
				expr = strings.ToLower(expr)
			}
			if isRegex && refRegex(expr).MatchString(v) || !isRegex && strings.EqualFold(want, v) {
				return true
			}
		}
	}
	return false
}

func refSNIs(r Rule[int], q refRequest) bool {
	if !q.tls || len(r.SNIs) == 0 {
		return true
	}
	for _, s := range r.SNIs {
		if refName(strings.ToLower(strings.TrimSuffix(s, ".")), strings.ToLower(strings.TrimSuffix(q.sni, "."))) {
			return true
		}
	}
	return false
}
