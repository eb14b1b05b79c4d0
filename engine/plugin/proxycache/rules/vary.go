package rules

import "bytes"

// VaryNamesMax is how many field names Vary may have.
const VaryNamesMax = 16

// Vary checks one line of Vary, or all joined with commas: VaryStar if it has a member
// *, which no request matches (RFC 9111 4.1).
func Vary(value []byte) Reason {
	for l := (elements{rest: value, bare: true}); ; {
		switch element := l.next(); {
		case element == nil:
			return MayStore
		case len(element) == 1 && element[0] == '*':
			return VaryStar
		}
	}
}

// AppendVaryNames appends the field names of Vary, whose lines the caller has joined
// with commas: in lower case, in the order of the alphabet, each once, separated by
// commas, so that equal sets are equal bytes. It returns dst as it was and a reason
// not to store if there is a *, something that is no name, or more than VaryNamesMax.
func AppendVaryNames(dst, value []byte) ([]byte, Reason) {
	if r := Vary(value); r != MayStore {
		return dst, r
	}
	var names sorted
	for l := (elements{rest: value, bare: true}); ; {
		element := l.next()
		if element == nil {
			break
		}
		if !isToken(element) || names.insert(element) < 0 {
			return dst, TooManyVary
		}
	}
	for i, name := range names.all() {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendLower(dst, name)
	}
	return dst, MayStore
}

// sorted is a small set of names in order, letters compared in any case.
type sorted struct {
	names [VaryNamesMax][]byte
	n     int
}

func (s *sorted) all() [][]byte { return s.names[:s.n] }

// insert adds a name unless it is there and returns its place, or -1 if the set is full.
func (s *sorted) insert(name []byte) int {
	i := 0
	for ; i < s.n; i++ {
		c := compareFold(s.names[i], name)
		if c == 0 {
			return i
		}
		if c > 0 {
			break
		}
	}
	if s.n == len(s.names) {
		return -1
	}
	copy(s.names[i+1:s.n+1], s.names[i:s.n])
	s.names[i] = name
	s.n++
	return i
}

// AppendSelecting appends what a request says in a field that an answer varies by, for
// a secondary key: requests that match append the same bytes, others do not (RFC 9111
// 4.1). value is of all lines, joined with commas; present is false if there is none,
// which matches only itself. The result ends in a line feed, so that those of several
// fields can be put together.
//
// White space around commas and members without text are dropped, but not where a
// comma is no separator. Accept-Encoding becomes what AppendCodings makes of it; of
// Accept-Language and Accept-Charset, case does not count.
func AppendSelecting(dst, name, value []byte, present bool) []byte {
	if !present {
		return append(dst, '-', '\n')
	}
	dst = append(dst, '=')
	start := len(dst)
	switch {
	case is(name, "accept-encoding"):
		dst = AppendCodings(dst, value)
	case is(name, "accept-language"), is(name, "accept-charset"):
		dst = appendMembers(dst, value)
		lowerAll(dst[start:])
	case singleton(name):
		dst = append(dst, trim(value)...)
	default:
		dst = appendMembers(dst, value)
	}
	// RFC 9110 5.5: a line feed in a value is a space.
	for i := bytes.IndexByte(dst[start:], '\n'); i >= 0; i = bytes.IndexByte(dst[start:], '\n') {
		start += i
		dst[start] = ' '
	}
	return append(dst, '\n')
}

// singleton reports whether commas do not separate members in a request field: two
// values that differ in a space there may mean two people.
func singleton(name []byte) bool {
	switch len(name) {
	case len("cookie"):
		return is(name, "cookie")
	case len("referer"):
		return is(name, "referer")
	case len("user-agent"):
		return is(name, "user-agent")
	case len("authorization"):
		return is(name, "authorization")
	}
	return false
}

func appendMembers(dst, value []byte) []byte {
	first := true
	for l := (elements{rest: value}); ; first = false {
		element := l.next()
		if element == nil {
			return dst
		}
		if !first {
			dst = append(dst, ',')
		}
		dst = append(dst, element...)
	}
}

func lowerAll(b []byte) {
	for i, c := range b {
		b[i] = lower(c)
	}
}
