package router

import (
	"net/netip"
	"strconv"
	"strings"
)

// token is a word of an expression. The kinds of literals stand in the order of
// the value types.
type token struct {
	kind tokenKind
	text string // a string literal is unquoted
}

type tokenKind uint8

const (
	tokenEnd tokenKind = iota
	tokenName
	tokenOperator
	tokenString
	tokenNumber
	tokenAddr
	tokenNetwork
)

// String describes t for messages.
func (t token) String() string {
	switch t.kind {
	case tokenEnd:
		return "the end"
	case tokenString:
		return strconv.Quote(t.text)
	}
	return t.text
}

// next reads one token.
func (p *parser) next() {
	if p.err != nil {
		return
	}
	rest := p.source[p.end:]
	p.pos = p.end + len(rest) - len(strings.TrimLeft(rest, " \t\r\n"))
	rest = p.source[p.pos:]
	switch {
	case rest == "":
		p.end, p.tok = p.pos, token{}
	case rest[0] == '"':
		p.quoted(rest)
	case strings.HasPrefix(rest, `r#"`):
		n := strings.Index(rest[3:], `"#`)
		if n < 0 {
			p.fail(p.pos, `raw string is not closed by "#`)
			return
		}
		p.accept(n+5, token{tokenString, rest[3 : 3+n]})
	default:
		p.word(rest)
	}
}

func (p *parser) accept(length int, t token) {
	p.end, p.tok = p.pos+length, t
}

func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '.' || c == '-'
}

// word reads an operator, a name or a literal that is no string.
func (p *parser) word(rest string) {
	for _, op := range [...]string{
		"&&", "||", "==", "!=", "^=", "=^", ">=", "<=", ">", "<", "~", "!", "(", ")",
	} {
		if strings.HasPrefix(rest, op) {
			p.accept(len(op), token{tokenOperator, op})
			return
		}
	}
	n := 0
	for n < len(rest) && (isNameByte(rest[n]) || rest[n] == ':' || rest[n] == '/') {
		n++
	}
	text := rest[:n]
	if n == 0 {
		p.fail(p.pos, "unexpected character %q", rest[0])
		return
	}
	switch {
	case isNumber(text):
		p.accept(n, token{tokenNumber, text})
	case strings.Contains(text, "/") && isNetwork(text):
		p.accept(n, token{tokenNetwork, text})
	case isAddr(text):
		p.accept(n, token{tokenAddr, text})
	case strings.ContainsAny(text, ":/") || text[0] < 'A':
		p.fail(p.pos, "%q is no field, number, address or network", text)
	default:
		p.accept(n, token{tokenName, text})
	}
}

func isNumber(text string) bool {
	_, err := strconv.ParseInt(text, 0, 64)
	return err == nil && !strings.Contains(text, "_")
}

func isNetwork(text string) bool {
	_, err := netip.ParsePrefix(text)
	return err == nil
}

func isAddr(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil
}

// quoted reads a string with the escapes \" \\ \n \r \t.
func (p *parser) quoted(rest string) {
	var text []byte
	for i := 1; i < len(rest); i++ {
		switch c := rest[i]; c {
		case '"':
			p.accept(i+1, token{tokenString, string(text)})
			return
		case '\\':
			i++
			if i == len(rest) {
				break
			}
			at := strings.IndexByte(`"\nrt`, rest[i])
			if at < 0 {
				p.fail(p.pos+i-1, `unknown escape \%c; r#"..."# has no escapes`, rest[i])
				return
			}
			text = append(text, "\"\\\n\r\t"[at])
		default:
			text = append(text, c)
		}
	}
	p.fail(p.pos, "string is not closed")
}
