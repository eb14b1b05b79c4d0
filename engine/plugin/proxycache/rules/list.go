package rules

import "bytes"

// elements cuts a list into its elements at commas outside of quoted strings
// (RFC 9110 5.6.1). Once a quote is found that nothing closes, quotes are ordinary
// characters to the end of the list: a directive that follows is not swallowed, and a
// list of such quotes is read in linear time.
type elements struct {
	rest []byte
	bare bool
}

// next returns the next element that is not empty, without the white space around
// it, or nil at the end.
func (l *elements) next() []byte {
	for len(l.rest) > 0 {
		i := 0
		for i < len(l.rest) && l.rest[i] != ',' {
			if l.rest[i] != '"' {
				i++ // Fast path: no call.
			} else {
				i += l.step(i)
			}
		}
		element := trim(l.rest[:i])
		l.rest = l.rest[min(i+1, len(l.rest)):]
		if len(element) > 0 {
			return element
		}
	}
	return nil
}

// step returns the length of the character or quoted string at i.
func (l *elements) step(i int) int {
	if l.rest[i] != '"' || l.bare {
		return 1
	}
	if n := quotedLen(l.rest[i:]); n > 0 {
		return n
	}
	l.bare = true
	return 1
}

// quotedLen returns the length of the quoted string that b begins with, both quotes
// included, or 0 if it is not closed (RFC 9110 5.6.4).
func quotedLen(b []byte) int {
	for i := 1; i < len(b); i++ {
		switch b[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
	return 0
}

// form is how a directive was written.
type form uint8

const (
	plain     form = iota // no-store
	token                 // max-age=5
	quoted                // private="set-cookie"
	malformed             // max-age=, max-age =5, no-store;x
)

// directive is one element of Cache-Control: a name and perhaps an argument, without
// its quotes (RFC 9111 5.2). Both lie in the element.
type directive struct {
	name, argument []byte
	form           form
}

// cutDirective never fails: of a malformed element it returns the token it begins with.
func cutDirective(element []byte) directive {
	n := tokenLen(element)
	d := directive{name: element[:n]}
	rest := element[n:]
	if len(rest) == 0 {
		return d
	}
	d.form = malformed
	if rest[0] != '=' || len(rest) == 1 {
		return d
	}
	switch rest = rest[1:]; {
	case tokenLen(rest) == len(rest):
		d.form, d.argument = token, rest
	case rest[0] == '"' && quotedLen(rest) == len(rest):
		d.form, d.argument = quoted, rest[1:len(rest)-1]
	}
	return d
}

func (d *directive) is(name string) bool { return is(d.name, name) }

// seconds returns the argument as a number of seconds, or Absent if it is none.
func (d *directive) seconds() int64 {
	if d.form == plain || d.form == malformed {
		return Absent
	}
	return parseSeconds(d.argument)
}

// parseSeconds reads delta-seconds, Absent if b is something else (RFC 9111 1.2.2).
func parseSeconds(b []byte) int64 {
	n, ok := parseDigits(b)
	if !ok {
		return Absent
	}
	return min(n, SecondsMax)
}

// parseDigits reads a number of decimal digits; what is too large for it is the
// largest.
func parseDigits(b []byte) (n int64, ok bool) {
	if len(b) == 0 {
		return 0, false
	}
	const most = 1<<63 - 1
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		if n > (most-9)/10 {
			n = most // digits that follow are still looked at
			continue
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// tokenLen returns the length of the token that b begins with (RFC 9110 5.6.2).
func tokenLen(b []byte) int {
	for i, c := range b {
		if !tokenChars[c] {
			return i
		}
	}
	return len(b)
}

func isToken(b []byte) bool { return len(b) > 0 && tokenLen(b) == len(b) }

var tokenChars = func() (t [256]bool) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		t[c] = true
	}
	return t
}()

// is reports whether b equals the lower-case name but for the case of its letters.
func is(b []byte, name string) bool {
	if len(b) != len(name) {
		return false
	}
	for i, c := range b {
		if c != name[i] && lower(c) != name[i] {
			return false
		}
	}
	return true
}

// equalFold reports whether two names are the same but for the case of their letters.
func equalFold(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

// compareFold orders names as their lower-case forms.
func compareFold(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] == b[i] {
			continue
		}
		if x, y := lower(a[i]), lower(b[i]); x != y {
			return int(x) - int(y)
		}
	}
	return len(a) - len(b)
}

func appendLower(dst, b []byte) []byte {
	for _, c := range b {
		dst = append(dst, lower(c))
	}
	return dst
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// trim removes optional white space, which is spaces and tabs (RFC 9110 5.6.3).
func trim(b []byte) []byte {
	for len(b) > 0 && isSpace(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && isSpace(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

// ListHas reports whether a list of tokens has this one, in any case: a field name in
// Connection, Directives.NoCacheFields or Directives.PrivateFields.
func ListHas(list, name []byte) bool {
	for len(list) > 0 {
		var element []byte
		if element, list, _ = bytes.Cut(list, comma); equalFold(trim(element), name) {
			return len(name) > 0
		}
	}
	return false
}

var comma = []byte{','}
