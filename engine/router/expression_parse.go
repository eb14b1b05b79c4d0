package router

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// ExpressionError is a fault of syntax or type in an expression.
type ExpressionError struct {
	Offset int // byte position, from 0
	Line   int // from 1
	Column int // in bytes, from 1
	Reason string
	Err    error // cause, may be nil
}

// Error gives line, column and reason.
func (e *ExpressionError) Error() string {
	return fmt.Sprintf("%d:%d: %s", e.Line, e.Column, e.Reason)
}

// Unwrap returns the cause, such as ErrLookaround.
func (e *ExpressionError) Unwrap() error { return e.Err }

// Bounds that keep hostile text from exhausting the stack or the memory.
const (
	expressionBytesMax = 64 << 10
	nestingMax         = 200
)

// parser reads expressions by recursive descent:
//
//	or    = and { "||" and }
//	and   = term { "&&" term }
//	term  = [ "!" ] "(" or ")" | test
//	test  = side operator literal
//	side  = field | "lower" "(" side ")" | "any" "(" side ")"
type parser struct {
	source string
	pos    int // start of tok
	tok    token
	end    int // end of tok
	depth  int
	err    *ExpressionError
}

func parseExpression(text string) (*expression, error) {
	p := parser{source: text}
	if len(text) > expressionBytesMax {
		p.fail(0, "longer than %d bytes", expressionBytesMax)
		return nil, p.err
	}
	p.next()
	e := p.or()
	if p.err == nil && p.tok.kind != tokenEnd {
		p.fail(p.pos, "want && or || or the end, got %s", p.tok)
	}
	if p.err != nil {
		return nil, p.err
	}
	return e, nil
}

// fail records the first fault; after it every token is the end.
func (p *parser) fail(at int, format string, args ...any) {
	if p.err != nil {
		return
	}
	before := p.source[:at]
	p.err = &ExpressionError{
		Offset: at, Line: 1 + strings.Count(before, "\n"), Column: at - strings.LastIndexByte(before, '\n'),
		Reason: fmt.Sprintf(format, args...),
	}
	p.tok = token{}
}

func (p *parser) is(operator string) bool {
	return p.tok.kind == tokenOperator && p.tok.text == operator
}

func (p *parser) expect(operator string) {
	if !p.is(operator) {
		p.fail(p.pos, "want %s, got %s", operator, p.tok)
		return
	}
	p.next()
}

func (p *parser) or() *expression {
	start := p.pos
	e := p.and()
	for p.is("||") {
		p.next()
		e = &expression{op: opOr, left: e, right: p.and()}
		e.text = p.since(start)
	}
	return e
}

func (p *parser) and() *expression {
	start := p.pos
	e := p.term()
	for p.is("&&") {
		p.next()
		e = &expression{op: opAnd, left: e, right: p.term()}
		e.text = p.since(start)
	}
	return e
}

// since returns the source from start to the token before the current one.
func (p *parser) since(start int) string {
	return strings.TrimSpace(p.source[start:max(start, p.pos)])
}

func (p *parser) term() *expression {
	if p.depth++; p.depth > nestingMax {
		p.fail(p.pos, "nested deeper than %d", nestingMax)
	}
	defer func() { p.depth-- }()
	start := p.pos
	negated := p.is("!")
	if negated {
		p.next()
		if !p.is("(") {
			p.fail(p.pos, "want ( after !, got %s", p.tok)
		}
	}
	if !p.is("(") {
		e := &expression{test: p.test()}
		e.text = p.since(start)
		return e
	}
	p.next()
	e := p.or()
	p.expect(")")
	if negated {
		e = &expression{op: opNot, left: e, text: p.since(start)}
	}
	return e
}

func (p *parser) test() *test {
	t := &test{}
	start := p.pos
	p.side(t)
	if t.lower && t.field.kind.valueType() != typeString {
		p.fail(start, "lower() wants a String field")
	}
	t.op = p.operator()
	at, literal := p.pos, p.tok
	switch literal.kind {
	case tokenString, tokenNumber, tokenAddr, tokenNetwork:
		p.next()
	default:
		p.fail(at, "want a value, got %s", literal)
		return t
	}
	p.operand(t, literal, at)
	return t
}

// side parses a field and the functions around it.
func (p *parser) side(t *test) {
	if p.tok.kind != tokenName {
		p.fail(p.pos, "want a field, got %s", p.tok)
		return
	}
	name, at := p.tok.text, p.pos
	p.next()
	if name == "lower" || name == "any" {
		if p.depth++; p.depth > nestingMax {
			p.fail(p.pos, "nested deeper than %d", nestingMax)
		}
		p.expect("(")
		p.side(t)
		p.expect(")")
		p.depth--
		t.lower = t.lower || name == "lower"
		t.any = t.any || name == "any"
		return
	}
	f, ok := parseField(name)
	if !ok {
		p.fail(at, "unknown field %q", name)
	}
	t.field = f
}

var operators = map[string]compareOp{
	"==": opEqual, "!=": opNotEqual, "~": opMatches, "^=": opPrefix, "=^": opSuffix,
	">": opGreater, ">=": opGreaterEqual, "<": opLess, "<=": opLessEqual,
	"contains": opContains, "in": opIn,
}

func (p *parser) operator() compareOp {
	if p.tok.text == "not" && p.tok.kind == tokenName {
		p.next()
		if p.tok.text != "in" || p.tok.kind != tokenName {
			p.fail(p.pos, "want in after not, got %s", p.tok)
		}
		p.next()
		return opNotIn
	}
	op, ok := operators[p.tok.text]
	if !ok || p.tok.kind != tokenOperator && p.tok.kind != tokenName {
		p.fail(p.pos, "want an operator, got %s", p.tok)
		return op
	}
	p.next()
	return op
}

// allowed lists the types of literal each operator takes for each type of field.
var allowed = map[compareOp]map[valueType][]valueType{
	opEqual:        {typeString: {typeString}, typeInt: {typeInt}, typeAddr: {typeAddr}},
	opNotEqual:     {typeString: {typeString}, typeInt: {typeInt}, typeAddr: {typeAddr}},
	opMatches:      {typeString: {typeString}},
	opPrefix:       {typeString: {typeString}},
	opSuffix:       {typeString: {typeString}},
	opContains:     {typeString: {typeString}},
	opGreater:      {typeInt: {typeInt}},
	opGreaterEqual: {typeInt: {typeInt}},
	opLess:         {typeInt: {typeInt}},
	opLessEqual:    {typeInt: {typeInt}},
	opIn:           {typeAddr: {typeNetwork}},
	opNotIn:        {typeAddr: {typeNetwork}},
}

// operand checks the type of the literal at position at and stores it.
func (p *parser) operand(t *test, literal token, at int) {
	if p.err != nil {
		return
	}
	is := valueType(literal.kind - tokenString)
	have := t.field.kind.valueType()
	if types := allowed[t.op][have]; !slices.Contains(types, is) {
		if len(types) == 0 {
			p.fail(at, "operator %s cannot be used on a field of type %s", t.op, typeNames[have])
		} else {
			p.fail(at, "want a value of type %s, got %s", typeNames[types[0]], typeNames[is])
		}
		return
	}
	var err error
	t.text = literal.text
	if t.field.kind == fieldHost || t.field.kind == fieldSNI {
		if t.op != opMatches {
			t.text = lowerString(t.text) // names have no case
		}
	}
	switch {
	case t.op == opMatches:
		t.regexp, err = compileRegexp(literal.text)
	case is == typeInt:
		t.number, err = strconv.ParseInt(literal.text, 0, 64)
	case is == typeAddr:
		t.addr, err = netip.ParseAddr(literal.text)
	case is == typeNetwork:
		t.network, err = netip.ParsePrefix(literal.text)
		t.network = t.network.Masked()
	}
	if err != nil {
		p.fail(at, "%v", err)
		p.err.Err = err
	}
}

// String returns the operator as it is written.
func (o compareOp) String() string {
	if o == opNotIn {
		return "not in"
	}
	for text, op := range operators {
		if op == o {
			return text
		}
	}
	return "?"
}
