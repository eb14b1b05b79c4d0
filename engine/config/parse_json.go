package config

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// parseJSON reads one JSON text (RFC 8259) into a Node with positions. Duplicate keys are
// kept. It stops at the first syntax fault.
func parseJSON(f *file) (*Node, Faults) {
	p := jsonParser{file: f, data: bytes.TrimPrefix(f.data, []byte("\xef\xbb\xbf")), line: 1, col: 1}
	n, err := p.value(0)
	if err == nil {
		p.space()
		if p.at < len(p.data) {
			err = p.errorf("unexpected %q after the value", p.data[p.at])
		}
	}
	if err != nil {
		fault := Fault{Message: err.Error()}
		fault.at(f, p.line, p.col)
		return nil, Faults{fault}
	}
	return n, nil
}

// jsonParser walks the text once. Line and col are where markTo was last called.
type jsonParser struct {
	file      *file
	data      []byte
	at        int
	marked    int
	line, col int
}

// mark brings line and col up to the current byte. Columns count characters.
func (p *jsonParser) mark() {
	for ; p.marked < p.at; p.marked++ {
		switch c := p.data[p.marked]; {
		case c == '\n':
			p.line++
			p.col = 1
		case c&0xc0 != 0x80:
			p.col++
		}
	}
}

func (p *jsonParser) errorf(format string, args ...any) error {
	p.mark()
	return fmt.Errorf(format, args...)
}

func (p *jsonParser) space() {
	for p.at < len(p.data) {
		switch p.data[p.at] {
		case ' ', '\t', '\r', '\n':
			p.at++
		default:
			return
		}
	}
}

// peek is the next byte after white space, 0 at the end.
func (p *jsonParser) peek() byte {
	p.space()
	if p.at == len(p.data) {
		return 0
	}
	return p.data[p.at]
}

func (p *jsonParser) value(depth int) (*Node, error) {
	c := p.peek()
	p.mark()
	n := &Node{file: p.file, Line: p.line, Col: p.col}
	if depth > depthMax {
		return nil, p.errorf("nested more than %d levels deep", depthMax)
	}
	switch {
	case c == '{':
		return n, p.object(n, depth)
	case c == '[':
		return n, p.array(n, depth)
	case c == '"':
		text, err := p.text()
		n.Type, n.Value = String, text
		return n, err
	case c == '-' || c >= '0' && c <= '9':
		return n, p.number(n)
	case c == 't':
		n.Type, n.Value = Bool, "true"
		return n, p.literal("true")
	case c == 'f':
		n.Type, n.Value = Bool, "false"
		return n, p.literal("false")
	case c == 'n':
		return n, p.literal("null")
	case p.at == len(p.data):
		return nil, p.errorf("unexpected end of JSON")
	default:
		r, _ := utf8.DecodeRune(p.data[p.at:])
		return nil, p.errorf("unexpected %q", r)
	}
}

func (p *jsonParser) literal(word string) error {
	if !bytes.HasPrefix(p.data[p.at:], []byte(word)) {
		return p.errorf("expected %s", word)
	}
	p.at += len(word)
	return nil
}

func (p *jsonParser) object(n *Node, depth int) error {
	n.Kind = Map
	p.at++
	if p.peek() == '}' {
		p.at++
		return nil
	}
	for {
		if p.peek() != '"' {
			return p.errorf("expected a key in double quotes")
		}
		p.mark()
		e := Entry{Line: p.line, Col: p.col}
		var err error
		if e.Key, err = p.text(); err != nil {
			return err
		}
		if p.peek() != ':' {
			return p.errorf("expected : after the key")
		}
		p.at++
		if e.Value, err = p.value(depth + 1); err != nil {
			return err
		}
		n.Entries = append(n.Entries, e)
		switch p.peek() {
		case ',':
			p.at++
		case '}':
			p.at++
			return nil
		default:
			return p.errorf("expected , or }")
		}
	}
}

func (p *jsonParser) array(n *Node, depth int) error {
	n.Kind = List
	p.at++
	if p.peek() == ']' {
		p.at++
		return nil
	}
	for {
		item, err := p.value(depth + 1)
		if err != nil {
			return err
		}
		n.Items = append(n.Items, item)
		switch p.peek() {
		case ',':
			p.at++
		case ']':
			p.at++
			return nil
		default:
			return p.errorf("expected , or ]")
		}
	}
}

// number follows the grammar of RFC 8259, section 6.
func (p *jsonParser) number(n *Node) error {
	start := p.at
	digits := func() bool {
		from := p.at
		for p.at < len(p.data) && p.data[p.at] >= '0' && p.data[p.at] <= '9' {
			p.at++
		}
		return p.at > from
	}
	n.Type = Int
	if p.data[p.at] == '-' {
		p.at++
	}
	first := p.at
	if !digits() || p.data[first] == '0' && p.at > first+1 {
		return p.errorf("malformed number")
	}
	if p.at < len(p.data) && p.data[p.at] == '.' {
		n.Type = Float
		p.at++
		if !digits() {
			return p.errorf("malformed number")
		}
	}
	if p.at < len(p.data) && (p.data[p.at] == 'e' || p.data[p.at] == 'E') {
		n.Type = Float
		p.at++
		if p.at < len(p.data) && (p.data[p.at] == '+' || p.data[p.at] == '-') {
			p.at++
		}
		if !digits() {
			return p.errorf("malformed number")
		}
	}
	n.Value = string(p.data[start:p.at])
	return nil
}

// text reads a string; the opening quote is the current byte.
func (p *jsonParser) text() (string, error) {
	p.at++
	start := p.at
	for p.at < len(p.data) {
		switch c := p.data[p.at]; {
		case c == '"':
			s := p.data[start:p.at]
			p.at++
			if !utf8.Valid(s) {
				return "", p.errorf("text is not UTF-8")
			}
			return string(s), nil
		case c == '\\':
			return p.escaped(start)
		case c < 0x20:
			return "", p.errorf("control character in text")
		default:
			p.at++
		}
	}
	return "", p.errorf("text without closing quote")
}

// escaped goes on with a string at its first escape.
func (p *jsonParser) escaped(start int) (string, error) {
	out := append([]byte(nil), p.data[start:p.at]...)
	for p.at < len(p.data) {
		c := p.data[p.at]
		switch {
		case c == '"':
			p.at++
			if !utf8.Valid(out) {
				return "", p.errorf("text is not UTF-8")
			}
			return string(out), nil
		case c < 0x20:
			return "", p.errorf("control character in text")
		case c != '\\':
			out = append(out, c)
			p.at++
		default:
			var err error
			if out, err = p.escape(out); err != nil {
				return "", err
			}
		}
	}
	return "", p.errorf("text without closing quote")
}

func (p *jsonParser) escape(dst []byte) ([]byte, error) {
	if p.at+1 >= len(p.data) {
		return nil, p.errorf("text without closing quote")
	}
	c := p.data[p.at+1]
	if c == 'u' {
		r, ok := p.hex(p.at + 2)
		if !ok {
			return nil, p.errorf("malformed \\u escape")
		}
		p.at += 6
		if utf16.IsSurrogate(r) && p.at+1 < len(p.data) && p.data[p.at] == '\\' && p.data[p.at+1] == 'u' {
			if low, ok := p.hex(p.at + 2); ok && utf16.DecodeRune(r, low) != utf8.RuneError {
				p.at += 6
				r = utf16.DecodeRune(r, low)
			}
		}
		return utf8.AppendRune(dst, r), nil
	}
	i := bytes.IndexByte([]byte(`"\/bfnrt`), c)
	if i < 0 {
		return nil, p.errorf("unknown escape \\%c", c)
	}
	p.at += 2
	return append(dst, "\"\\/\b\f\n\r\t"[i]), nil
}

func (p *jsonParser) hex(at int) (rune, bool) {
	if at+4 > len(p.data) {
		return 0, false
	}
	v, err := strconv.ParseUint(string(p.data[at:at+4]), 16, 16)
	return rune(v), err == nil
}
