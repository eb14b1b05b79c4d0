package template

import (
	"fmt"
	"maps"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
)

// SyntaxError says what is wrong in a template. Column counts bytes of the whole
// text from 1.
type SyntaxError struct {
	Expression string
	Column     int
	Reason     string
}

// Error names the expression, the column, the reason and what may be written.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("template %q, column %d: %s; an expression is made of %s", e.Expression, e.Column, e.Reason, supported)
}

const supported = `headers["x"], query_params.x, uri_captures.x, shared.x, uuid, timestamp, request_id, ` +
	`consumer_id, consumer_username, consumer_custom_id, consumer_groups, authenticated_credential.id|key|scope, ` +
	`remote_addr, upstream_addr, latencies.request|proxy|kong, status, service.name, route.name, ` +
	`strings, numbers, "or", "and", ".." and parentheses`

// depthMax bounds parentheses within each other, and so the stack of a render.
const depthMax = 64

// names are the variables without fields, fields those with known ones.
var (
	names = map[string]op{
		"uuid": opUUID, "timestamp": opTimestamp, "request_id": opRequestID,
		"consumer_id": opConsumerID, "consumer_username": opConsumerUsername,
		"consumer_custom_id": opConsumerCustomID, "consumer_groups": opConsumerGroups,
		"remote_addr": opRemoteAddr, "upstream_addr": opUpstreamAddr, "status": opStatus,
	}
	fields = map[string]map[string]op{
		"authenticated_credential": {"id": opCredentialID, "key": opCredentialKey, "scope": opCredentialScope},
		"latencies":                {"request": opLatencyRequest, "proxy": opLatencyProxy, "kong": opLatencyKong},
		"service":                  {"name": opServiceName},
		"route":                    {"name": opRouteName},
	}
	reserved = []string{
		"break", "do", "else", "elseif", "end", "for", "function", "goto", "if", "in",
		"local", "not", "repeat", "return", "then", "until", "while",
	}
)

// Compile parses text. The error is a *SyntaxError.
func Compile(text string) (*Template, error) {
	t := &Template{}
	var plain strings.Builder
	p := parser{text: text}
	for p.at < len(text) {
		if !strings.HasPrefix(text[p.at:], "$(") {
			plain.WriteByte(text[p.at])
			p.at++
			continue
		}
		start := p.at
		p.at += len("$(")
		n, err := p.expression()
		if err == nil {
			p.space()
			if !p.take(")") {
				err = p.fault("missing closing parenthesis, or an operator that is not supported")
			}
		}
		if err != nil {
			err.Expression = text[start:]
			return nil, err
		}
		if n.op == opText {
			plain.WriteString(n.text)
			continue
		}
		t.flush(&plain)
		t.parts = append(t.parts, n)
	}
	t.flush(&plain)
	t.literal = len(t.parts) == 0 || len(t.parts) == 1 && t.parts[0].op == opText
	return t, nil
}

// Constant reports whether text is a valid template that renders the same for
// every request.
func Constant(text string) bool {
	t, err := Compile(text)
	return err == nil && t.literal
}

func (t *Template) flush(plain *strings.Builder) {
	if plain.Len() > 0 {
		t.parts = append(t.parts, node{op: opText, text: plain.String()})
		plain.Reset()
	}
}

// parser reads one text, at counting from 0.
type parser struct {
	text  string
	at    int
	depth int
}

func (p *parser) fault(reason string) *SyntaxError {
	return &SyntaxError{Column: p.at + 1, Reason: reason}
}

func (p *parser) space() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

func (p *parser) take(s string) bool {
	if !strings.HasPrefix(p.text[p.at:], s) {
		return false
	}
	p.at += len(s)
	return true
}

// word takes s only if no identifier goes on after it.
func (p *parser) word(s string) bool {
	rest := p.text[p.at:]
	if !strings.HasPrefix(rest, s) || len(rest) > len(s) && isNameByte(rest[len(s)]) {
		return false
	}
	p.at += len(s)
	return true
}

// expression is: conjunction { "or" conjunction }.
func (p *parser) expression() (node, *SyntaxError) {
	return p.chain(opOr, func() bool { return p.word("or") }, p.conjunction)
}

func (p *parser) conjunction() (node, *SyntaxError) {
	return p.chain(opAnd, func() bool { return p.word("and") }, p.concatenation)
}

func (p *parser) concatenation() (node, *SyntaxError) {
	return p.chain(opConcat, func() bool {
		return !strings.HasPrefix(p.text[p.at:], "...") && p.take("..")
	}, p.primary)
}

// chain reads operands separated by one operator.
func (p *parser) chain(o op, operator func() bool, operand func() (node, *SyntaxError)) (node, *SyntaxError) {
	first, err := operand()
	if err != nil {
		return node{}, err
	}
	p.space()
	if !operator() {
		return first, nil
	}
	n := node{op: o, args: []node{first}}
	for {
		next, err := operand()
		if err != nil {
			return node{}, err
		}
		n.args = append(n.args, next)
		p.space()
		if !operator() {
			return n, nil
		}
	}
}

func (p *parser) primary() (node, *SyntaxError) {
	p.space()
	if p.at == len(p.text) {
		return node{}, p.fault("the expression ends here")
	}
	switch c := p.text[p.at]; {
	case c == '(':
		if p.depth++; p.depth > depthMax {
			return node{}, p.fault("too many parentheses within each other")
		}
		p.at++
		n, err := p.expression()
		if err != nil {
			return node{}, err
		}
		p.space()
		if !p.take(")") {
			return node{}, p.fault("missing closing parenthesis")
		}
		p.depth--
		return n, nil
	case c == '\'' || c == '"':
		s, err := p.quoted()
		return node{op: opText, text: s}, err
	case c >= '0' && c <= '9':
		s, err := p.number()
		return node{op: opText, text: s}, err
	case isNameByte(c):
		return p.variable()
	default:
		return node{}, p.fault("unexpected " + strconv.QuoteRune(rune(c)))
	}
}

// quoted reads a Lua string with its simple escapes.
func (p *parser) quoted() (string, *SyntaxError) {
	quote, start := p.text[p.at], p.at
	var b strings.Builder
	for p.at++; p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; c {
		case quote:
			p.at++
			return b.String(), nil
		case '\\':
			if p.at++; p.at == len(p.text) {
				break
			}
			i := strings.IndexByte(`\'"nrt`, p.text[p.at])
			if i < 0 {
				return "", p.fault("unsupported escape in a string")
			}
			b.WriteByte("\\'\"\n\r\t"[i])
		default:
			b.WriteByte(c)
		}
	}
	p.at = start
	return "", p.fault("the string has no end")
}

// number reads a decimal number and writes it as Lua does (%.14g).
func (p *parser) number() (string, *SyntaxError) {
	start := p.at
	for p.at < len(p.text) {
		c := p.text[p.at]
		exponentSign := (c == '+' || c == '-') && p.text[p.at-1]|0x20 == 'e'
		if !isNameByte(c) && c != '.' && !exponentSign {
			break
		}
		p.at++
	}
	s := p.text[start:p.at]
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || strings.ContainsAny(s, "_xXpPiInN") {
		p.at = start
		return "", p.fault("malformed number " + strconv.Quote(s))
	}
	return strconv.FormatFloat(f, 'g', 14, 64), nil
}

func isNameByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

func (p *parser) name() string {
	start := p.at
	for p.at < len(p.text) && isNameByte(p.text[p.at]) {
		p.at++
	}
	return p.text[start:p.at]
}

// variable reads a name and the fields behind it.
func (p *parser) variable() (node, *SyntaxError) {
	start := p.at
	name := p.name()
	switch name {
	case "nil", "false":
		return node{op: opNil}, nil
	case "true":
		return node{op: opText, text: name}, nil
	}
	if slices.Contains(reserved, name) || name == "or" || name == "and" {
		p.at = start
		return node{}, p.fault(strconv.Quote(name) + " is not supported")
	}
	path, err := p.path()
	if err != nil {
		return node{}, err
	}
	p.space()
	if p.at < len(p.text) && strings.IndexByte("([{:'\"", p.text[p.at]) >= 0 {
		return node{}, p.fault("function calls are not supported")
	}
	n, reason := resolve(name, path)
	if reason != "" {
		p.at = start
		return node{}, p.fault(reason)
	}
	return n, nil
}

// path reads .name and ["name"] and [1] behind a variable.
func (p *parser) path() ([]string, *SyntaxError) {
	var path []string
	for {
		p.space()
		switch {
		case strings.HasPrefix(p.text[p.at:], ".."):
			return path, nil
		case p.take("."):
			p.space()
			if p.at == len(p.text) || !isNameByte(p.text[p.at]) {
				return nil, p.fault("expected a name after the dot")
			}
			path = append(path, p.name())
		case p.take("["):
			key, err := p.index()
			if err != nil {
				return nil, err
			}
			path = append(path, key)
		default:
			return path, nil
		}
	}
}

func (p *parser) index() (string, *SyntaxError) {
	p.space()
	var key string
	var err *SyntaxError
	switch {
	case p.at == len(p.text):
		return "", p.fault("the expression ends here")
	case p.text[p.at] == '\'' || p.text[p.at] == '"':
		key, err = p.quoted()
	case p.text[p.at] >= '0' && p.text[p.at] <= '9':
		key, err = p.number()
	default:
		return "", p.fault("expected a string or a number as index")
	}
	if err != nil {
		return "", err
	}
	p.space()
	if !p.take("]") {
		return "", p.fault("missing closing bracket")
	}
	return key, nil
}

// resolve gives the meaning of a variable, or the reason why it has none.
func resolve(name string, path []string) (n node, reason string) {
	switch name {
	case "headers", "query_params", "uri_captures", "shared":
		if len(path) == 0 {
			return node{}, strconv.Quote(name) + " is a table: name one of its fields"
		}
		if len(path) > 1 || name == "shared" {
			return node{op: opNil}, ""
		}
		return lookup(name, path[0]), ""
	case "jwt":
		return node{}, "claims of a JWT are not available to templates"
	}
	if o, ok := names[name]; ok {
		if len(path) > 0 {
			return node{op: opNil}, "" // a string has no fields
		}
		return node{op: o}, ""
	}
	if known, ok := fields[name]; ok {
		if len(path) == 1 {
			if o, ok := known[path[0]]; ok {
				return node{op: o}, ""
			}
		}
		return node{}, strconv.Quote(name) + " has the fields " + strings.Join(slices.Sorted(maps.Keys(known)), ", ")
	}
	if len(path) > 0 {
		return node{op: opNil}, ""
	}
	return node{op: opName, text: name}, ""
}

func lookup(table, field string) node {
	switch table {
	case "query_params":
		return node{op: opQuery, text: field}
	case "uri_captures":
		return node{op: opCapture, text: field}
	}
	n := node{op: opHeader, text: field, key: []byte(textproto.CanonicalMIMEHeaderKey(field))}
	if alt := strings.ReplaceAll(field, "_", "-"); alt != field {
		n.alt = []byte(textproto.CanonicalMIMEHeaderKey(alt))
	}
	return n
}
