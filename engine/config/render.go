package config

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// AppendJSON appends the node as compact JSON, keys in their order.
func (n *Node) AppendJSON(dst []byte) []byte {
	if n.IsNull() {
		return append(dst, "null"...)
	}
	switch n.Kind {
	case List:
		dst = append(dst, '[')
		for i, item := range n.Items {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = item.AppendJSON(dst)
		}
		return append(dst, ']')
	case Map:
		dst = append(dst, '{')
		for i := range n.Entries {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendQuoted(dst, n.Entries[i].Key)
			dst = append(dst, ':')
			dst = n.Entries[i].Value.AppendJSON(dst)
		}
		return append(dst, '}')
	default:
		return n.appendScalar(dst)
	}
}

// appendScalar writes a scalar that is not null in the syntax JSON and YAML share.
func (n *Node) appendScalar(dst []byte) []byte {
	switch n.Type {
	case Bool:
		v, _ := n.Bool()
		return strconv.AppendBool(dst, v)
	case Int:
		if v, ok := n.Int(); ok {
			return strconv.AppendInt(dst, v, 10)
		}
		fallthrough
	case Float:
		v, ok := n.Float()
		if !ok { // an infinity has no JSON
			return appendQuoted(dst, n.Value)
		}
		return appendFloat(dst, v)
	default:
		return appendQuoted(dst, n.Value)
	}
}

// appendFloat keeps a fraction or an exponent, so that a float is read as one again.
func appendFloat(dst []byte, v float64) []byte {
	start := len(dst)
	dst = strconv.AppendFloat(dst, v, 'g', -1, 64)
	if !strings.ContainsAny(string(dst[start:]), ".eE") {
		dst = append(dst, ".0"...)
	}
	return dst
}

// appendQuoted writes a text in double quotes as JSON and YAML both read it.
func appendQuoted(dst []byte, s string) []byte {
	const hexDigits = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			i++
			switch {
			case c == '"' || c == '\\':
				dst = append(dst, '\\', c)
			case c == '\n':
				dst = append(dst, '\\', 'n')
			case c == '\r':
				dst = append(dst, '\\', 'r')
			case c == '\t':
				dst = append(dst, '\\', 't')
			case c < 0x20 || c == 0x7f:
				dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			default:
				dst = append(dst, c)
			}
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		i += size
		if r >= 0x10000 || isPrintable(r) {
			dst = utf8.AppendRune(dst, r)
			continue
		}
		dst = append(dst, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
	}
	return append(dst, '"')
}

// isPrintable reports whether YAML takes a character of the basic plane as it is (YAML
// 1.2.2, production 1, without the line separators and the byte order mark).
func isPrintable(r rune) bool {
	return r >= 0xa0 && r <= 0xd7ff && r != 0x2028 && r != 0x2029 || r >= 0xe000 && r <= 0xfffd && r != 0xfeff
}

// AppendYAML appends the node as block-style YAML, keys in their order, ending in a line
// break.
func (n *Node) AppendYAML(dst []byte) []byte { return n.appendBlock(dst, 0) }

func (n *Node) appendBlock(dst []byte, indent int) []byte {
	switch {
	case n.IsNull() || n.Kind == Scalar || n.isEmpty():
		return append(n.appendInline(dst, indent), '\n')
	case n.Kind == List:
		for _, item := range n.Items {
			dst = appendIndent(dst, indent)
			dst = append(dst, "- "...)
			dst = item.appendAfterDash(dst, indent+2)
		}
	default:
		for i := range n.Entries {
			dst = appendIndent(dst, indent)
			dst = n.Entries[i].appendYAML(dst, indent)
		}
	}
	return dst
}

func (n *Node) isEmpty() bool { return len(n.Items) == 0 && len(n.Entries) == 0 }

// appendAfterDash writes a list item whose first line has its indentation already.
func (n *Node) appendAfterDash(dst []byte, indent int) []byte {
	if n.IsNull() || n.Kind == Scalar || n.isEmpty() {
		return append(n.appendInline(dst, indent), '\n')
	}
	if n.Kind == List {
		for i, item := range n.Items {
			if i > 0 {
				dst = appendIndent(dst, indent)
			}
			dst = append(dst, "- "...)
			dst = item.appendAfterDash(dst, indent+2)
		}
		return dst
	}
	for i := range n.Entries {
		if i > 0 {
			dst = appendIndent(dst, indent)
		}
		dst = n.Entries[i].appendYAML(dst, indent)
	}
	return dst
}

func (e *Entry) appendYAML(dst []byte, indent int) []byte {
	const keyBytesMax = 1000 // YAML reads no more than 1024 before the colon
	start := len(dst)
	dst = appendPlain(dst, e.Key)
	if len(dst)-start > keyBytesMax {
		dst = slices.Insert(dst, start, '?', ' ')
		dst = appendIndent(append(dst, '\n'), indent)
	}
	dst = append(dst, ':')
	v := e.Value
	if v.IsNull() || v.Kind == Scalar || v.isEmpty() {
		dst = append(dst, ' ')
		return append(v.appendInline(dst, indent+2), '\n')
	}
	dst = append(dst, '\n')
	return v.appendBlock(dst, indent+2)
}

// appendInline writes what fits behind a key or dash; texts of several lines become
// literal blocks where that is exact.
func (n *Node) appendInline(dst []byte, indent int) []byte {
	switch {
	case n.IsNull():
		return append(dst, "null"...)
	case n.Kind == List:
		return append(dst, "[]"...)
	case n.Kind == Map:
		return append(dst, "{}"...)
	case n.Type != String:
		return n.appendScalar(dst)
	case isLiteral(n.Value):
		dst = append(dst, '|')
		body := n.Value
		if text, ends := strings.CutSuffix(body, "\n"); ends {
			body = text
		} else {
			dst = append(dst, '-')
		}
		for line := range strings.SplitSeq(body, "\n") {
			dst = append(dst, '\n')
			if line != "" {
				dst = append(appendIndent(dst, indent), line...)
			}
		}
		return dst
	default:
		return appendPlain(dst, n.Value)
	}
}

// isLiteral reports whether a literal block holds the text exactly: several lines, all
// printable, with none that begins or ends in a way blocks cannot show.
func isLiteral(s string) bool {
	body := strings.TrimSuffix(s, "\n")
	if !strings.Contains(body, "\n") || body[0] == ' ' || body[0] == '\n' || strings.HasSuffix(body, "\n") {
		return false
	}
	for _, r := range s {
		if r != '\n' && (r < 0x20 || r >= 0x7f && (r == utf8.RuneError || r < 0x10000 && !isPrintable(r))) {
			return false
		}
	}
	for line := range strings.SplitSeq(body, "\n") {
		if line != "" && strings.TrimLeft(line, " ") == "" {
			return false
		}
	}
	return true
}

// appendPlain writes a text without quotes where every reader takes it for a text.
func appendPlain(dst []byte, s string) []byte {
	if isPlain(s) {
		return append(dst, s...)
	}
	return appendQuoted(dst, s)
}

// isPlain is on the safe side: letters first, no character that ever has a meaning, no
// word any YAML version takes for something else.
func isPlain(s string) bool {
	if s == "" || len(s) > 120 || (s[0] != '/' && s[0] != '_' && (s[0]|0x20 < 'a' || s[0]|0x20 > 'z')) || s[len(s)-1] == ':' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= '0' && c <= '9', c|0x20 >= 'a' && c|0x20 <= 'z':
		case c == '-', c == '_', c == '.', c == '/', c == '@', c == '+', c == ';':
		case c == ':' && s[i+1] != ' ':
		case c == ' ' && i+1 < len(s) && s[i+1] != '#' && s[i+1] != ' ':
		default:
			return false
		}
	}
	switch strings.ToLower(s) {
	case "y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf":
		return false
	}
	return true
}

func appendIndent(dst []byte, indent int) []byte {
	for range indent {
		dst = append(dst, ' ')
	}
	return dst
}
