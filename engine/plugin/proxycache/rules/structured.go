package rules

// kind is the type of a structured value (RFC 9651 3).
type kind uint8

const (
	sfBoolean kind = iota
	sfInteger
	sfDecimal
	sfString
	sfToken
	sfBytes
	sfDate
	sfDisplay
	sfInnerList
)

// member is one member of a structured Dictionary, its parameters left out.
type member struct {
	key     []byte
	kind    kind
	truth   bool   // of a Boolean
	integer int64  // of an Integer
	text    []byte // of a String, without its quotes, escapes as they are
}

// structured reads a Dictionary member by member. Everything must conform: the
// grammar has no recovery (RFC 9651 4.2).
type structured struct{ rest []byte }

// dictionary begins to read value; ok is false if it holds nothing.
func dictionary(value []byte) (s structured, ok bool) {
	s.rest = value
	s.skip(' ')
	for n := len(s.rest); n > 0 && s.rest[n-1] == ' '; n-- {
		s.rest = s.rest[:n-1]
	}
	return s, len(s.rest) > 0
}

// member reads the next member and the comma after it (RFC 9651 4.2.2). There is
// another one if rest is not empty then.
func (s *structured) member() (m member, ok bool) {
	if m.key, ok = s.key(); !ok {
		return m, false
	}
	if s.take('=') {
		ok = s.value(&m)
	} else {
		m.kind, m.truth = sfBoolean, true
	}
	if !ok || !s.parameters() {
		return m, false
	}
	s.rest = trimLeft(s.rest)
	if len(s.rest) == 0 {
		return m, true
	}
	if !s.take(',') {
		return m, false
	}
	s.rest = trimLeft(s.rest)
	return m, len(s.rest) > 0 // no trailing comma
}

// value reads an item or an inner list (RFC 9651 4.2.1.1, 4.2.1.2).
func (s *structured) value(m *member) bool {
	if !s.take('(') {
		return s.item(m)
	}
	m.kind = sfInnerList
	for {
		s.skip(' ')
		if s.take(')') {
			return true
		}
		var inner member
		if !s.item(&inner) || !s.parameters() {
			return false
		}
		if c := s.peek(); c != ' ' && c != ')' {
			return false
		}
	}
}

// parameters reads what follows a value: ;key=item (RFC 9651 4.2.3.2).
func (s *structured) parameters() bool {
	for s.take(';') {
		s.skip(' ')
		if _, ok := s.key(); !ok {
			return false
		}
		var unused member
		if s.take('=') && !s.item(&unused) {
			return false
		}
	}
	return true
}

// item reads a value that is no list (RFC 9651 4.2.3.1).
func (s *structured) item(m *member) bool {
	switch c := s.peek(); {
	case c == '-' || isDigit(c):
		return s.number(m)
	case c == '"':
		return s.text(m)
	case c == '*' || isAlpha(c):
		m.kind = sfToken
		i := 1
		for i < len(s.rest) && (tokenChars[s.rest[i]] || s.rest[i] == ':' || s.rest[i] == '/') {
			i++
		}
		s.rest = s.rest[i:]
		return true
	case c == ':':
		return s.bytes(m)
	case c == '?':
		m.kind = sfBoolean
		if len(s.rest) < 2 || s.rest[1] != '0' && s.rest[1] != '1' {
			return false
		}
		m.truth = s.rest[1] == '1'
		s.rest = s.rest[2:]
		return true
	case c == '@':
		s.rest = s.rest[1:]
		ok := s.number(m) && m.kind == sfInteger
		m.kind = sfDate
		return ok
	case c == '%':
		return s.display(m)
	}
	return false
}

// number reads an Integer of up to 15 digits, or a Decimal of up to 12 before and 3
// behind the point (RFC 9651 4.2.4).
func (s *structured) number(m *member) bool {
	negative := s.take('-')
	n := s.digits()
	if n == 0 || n > 15 {
		return false
	}
	value, _ := parseDigits(s.rest[:n])
	s.rest = s.rest[n:]
	if negative {
		value = -value
	}
	m.kind, m.integer = sfInteger, value
	if !s.take('.') {
		return true
	}
	m.kind = sfDecimal
	behind := s.digits()
	s.rest = s.rest[behind:]
	return n <= 12 && behind > 0 && behind <= 3
}

// text reads a String: visible ASCII and spaces, with \" and \\ (RFC 9651 4.2.5).
func (s *structured) text(m *member) bool {
	m.kind = sfString
	for i := 1; i < len(s.rest); i++ {
		switch c := s.rest[i]; {
		case c == '"':
			m.text, s.rest = s.rest[1:i], s.rest[i+1:]
			return true
		case c == '\\':
			if i++; i == len(s.rest) || s.rest[i] != '"' && s.rest[i] != '\\' {
				return false
			}
		case c < ' ' || c > '~':
			return false
		}
	}
	return false
}

// bytes reads a Byte Sequence, base64 between colons, with or without padding at its
// end (RFC 9651 4.2.7).
func (s *structured) bytes(m *member) bool {
	m.kind = sfBytes
	padding := 0
	for i := 1; i < len(s.rest); i++ {
		switch c := s.rest[i]; {
		case c == ':':
			s.rest = s.rest[i+1:]
			return padding <= 2
		case c == '=':
			padding++
		case padding > 0 || !isAlpha(c) && !isDigit(c) && c != '+' && c != '/':
			return false
		}
	}
	return false
}

// display reads a Display String, %"…" with lower-case percent escapes, whose bytes
// are not checked to be UTF-8 (RFC 9651 4.2.10).
func (s *structured) display(m *member) bool {
	m.kind = sfDisplay
	if len(s.rest) < 2 || s.rest[1] != '"' {
		return false
	}
	for i := 2; i < len(s.rest); i++ {
		switch c := s.rest[i]; {
		case c == '"':
			s.rest = s.rest[i+1:]
			return true
		case c == '%':
			if i+2 >= len(s.rest) || !isLowerHex(s.rest[i+1]) || !isLowerHex(s.rest[i+2]) {
				return false
			}
			i += 2
		case c < ' ' || c > '~':
			return false
		}
	}
	return false
}

// key reads a key: lower-case letters, digits and _-.* (RFC 9651 4.2.3.3).
func (s *structured) key() (key []byte, ok bool) {
	if c := s.peek(); c != '*' && (c < 'a' || c > 'z') {
		return nil, false
	}
	i := 1
	for i < len(s.rest) && isKeyChar(s.rest[i]) {
		i++
	}
	key, s.rest = s.rest[:i], s.rest[i:]
	return key, true
}

// peek returns the next character, or 0 at the end; 0 itself is allowed nowhere.
func (s *structured) peek() byte {
	if len(s.rest) == 0 {
		return 0
	}
	return s.rest[0]
}

func (s *structured) take(c byte) bool {
	if len(s.rest) == 0 || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

func (s *structured) skip(c byte) {
	for s.take(c) {
	}
}

func (s *structured) digits() int {
	n := 0
	for n < len(s.rest) && isDigit(s.rest[n]) {
		n++
	}
	return n
}

func trimLeft(b []byte) []byte {
	for len(b) > 0 && isSpace(b[0]) {
		b = b[1:]
	}
	return b
}

func isDigit(c byte) bool    { return '0' <= c && c <= '9' }
func isAlpha(c byte) bool    { return 'a' <= lower(c) && lower(c) <= 'z' }
func isLowerHex(c byte) bool { return isDigit(c) || 'a' <= c && c <= 'f' }
func isKeyChar(c byte) bool {
	return 'a' <= c && c <= 'z' || isDigit(c) || c == '_' || c == '-' || c == '.' || c == '*'
}
