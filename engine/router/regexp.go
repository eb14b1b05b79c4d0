package router

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// pathRegexp is a regexp path. The literals are necessary conditions, cheap to
// check before the regexp itself runs. The regexp leaves the leading literal out
// where it can: what remains is often the same in many rules, shared by them, and in
// the processor's cache.
type pathRegexp struct {
	tail      *regexp.Regexp // anchored at the start, matched after skip bytes
	skip      int            // leading part of the prefix that tail leaves out
	prefixLen int            // of the literal every match starts with
	suffix    string         // the path ends with it, "" if unknown
	inside    string         // longest literal elsewhere in the match, "" if none
}

// matched returns how many bytes at the start of path the regexp matches, or -1.
// path must start with the prefix, as the radix walk has seen to.
func (p *pathRegexp) matched(path []byte) int {
	// Fast path: a literal is missing.
	if len(path) < p.prefixLen+len(p.suffix) ||
		p.suffix != "" && string(path[len(path)-len(p.suffix):]) != p.suffix ||
		p.inside != "" && !containsString(path[p.prefixLen:], p.inside) {
		return -1
	}
	// Find is the one method that returns a position without allocating.
	if m := p.tail.Find(path[p.skip:]); m != nil {
		return p.skip + len(m)
	}
	return -1
}

// containsString is bytes.Contains for a string that must not be copied.
func containsString(b []byte, s string) bool {
	for {
		i := bytes.IndexByte(b, s[0])
		if i < 0 || len(b)-i < len(s) {
			return false
		}
		if string(b[i:i+len(s)]) == s {
			return true
		}
		b = b[i+1:]
	}
}

// regexpCache holds what was compiled, so that equal parts are shared.
type regexpCache struct {
	tails map[string]*regexp.Regexp // by source
	paths map[pathRegexp]*pathRegexp
}

// path compiles a regexp path without its "~" and returns the literal that every
// match starts with.
func (c *regexpCache) path(expr string) (p *pathRegexp, prefix string, err error) {
	parsed, err := parseRegexp(expr)
	if err != nil {
		return nil, "", err
	}
	if !strings.HasPrefix(expr, "/") {
		return nil, "", fmt.Errorf("path %q: should start with: / (fixed path) or ~/ (regex path)", "~"+expr)
	}
	var want pathRegexp
	prefix, _ = literalPrefix(parsed)
	want.prefixLen = len(prefix)
	want.inside, want.suffix = literalsAfter(parsed)
	// The expression is known to be complete, so the group cannot be closed by it.
	source := `\A(?:` + expr + `)`
	if rest := withoutLiteral(parsed); rest != nil {
		text, _ := literal(parsed.Sub[0])
		want.skip = len(text)
		source = `\A(?:` + rest.String() + `)`
	}
	if want.tail, err = c.tail(source); err != nil {
		return nil, "", regexpError(expr, err)
	}
	if p = c.paths[want]; p == nil {
		p = &want
		if c.paths == nil {
			c.paths = map[pathRegexp]*pathRegexp{}
		}
		c.paths[want] = p
	}
	return p, prefix, nil
}

func (c *regexpCache) tail(source string) (*regexp.Regexp, error) {
	if re := c.tails[source]; re != nil {
		return re, nil
	}
	re, err := regexp.Compile(source)
	if err != nil {
		return nil, err
	}
	if c.tails == nil {
		c.tails = map[string]*regexp.Regexp{}
	}
	c.tails[source] = re
	return re, nil
}

// withoutLiteral returns re without the literal it starts with, or nil if it does
// not start with one or what follows looks back at it.
func withoutLiteral(re *syntax.Regexp) *syntax.Regexp {
	if re.Op != syntax.OpConcat || re.Sub[0].Op != syntax.OpLiteral || looksBack(re) {
		return nil
	}
	if _, whole := literal(re.Sub[0]); !whole {
		return nil
	}
	rest := *re
	rest.Sub = re.Sub[1:]
	return &rest
}

func looksBack(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpBeginText, syntax.OpBeginLine, syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return true
	}
	return slices.ContainsFunc(re.Sub, looksBack)
}

func compileRegexp(expr string) (*regexp.Regexp, error) {
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, regexpError(expr, err)
	}
	return re, nil
}

func parseRegexp(expr string) (*syntax.Regexp, error) {
	parsed, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, regexpError(expr, err)
	}
	return parsed, nil
}

// regexpError says which feature of Perl is missing where that is the reason.
func regexpError(expr string, err error) error {
	inClass := false
	for i := 0; i < len(expr); i++ {
		rest := expr[i:]
		switch {
		case expr[i] == '\\' && len(rest) > 1:
			if !inClass && ('1' <= rest[1] && rest[1] <= '9' || rest[1] == 'k' || rest[1] == 'g') {
				return fmt.Errorf("regexp %q: %s: %w", expr, rest[:2], ErrBackreference)
			}
			i++
		case inClass:
			inClass = expr[i] != ']'
		case expr[i] == '[':
			inClass = true
		default:
			for _, op := range [...]string{"(?=", "(?!", "(?<=", "(?<!"} {
				if strings.HasPrefix(rest, op) {
					return fmt.Errorf("regexp %q: %s: %w", expr, op, ErrLookaround)
				}
			}
		}
	}
	if s, ok := errors.AsType[*syntax.Error](err); ok {
		return fmt.Errorf("regexp %q: %s: %q (RE2 syntax)", expr, s.Code, s.Expr)
	}
	return fmt.Errorf("regexp %q: %w", expr, err)
}

// literalPrefix returns the bytes every match starts with and whether they are
// the whole match.
func literalPrefix(re *syntax.Regexp) (prefix string, whole bool) {
	switch re.Op {
	case syntax.OpLiteral:
		return literal(re)
	case syntax.OpCapture:
		return literalPrefix(re.Sub[0])
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			p, ok := literalPrefix(sub)
			prefix += p
			if !ok {
				return prefix, false
			}
		}
		return prefix, true
	case syntax.OpPlus:
		prefix, _ = literalPrefix(re.Sub[0])
		return prefix, false
	case syntax.OpRepeat:
		if re.Min > 0 {
			prefix, _ = literalPrefix(re.Sub[0])
		}
		return prefix, false
	case syntax.OpAlternate:
		prefix, _ = literalPrefix(re.Sub[0])
		for _, sub := range re.Sub[1:] {
			p, _ := literalPrefix(sub)
			prefix = prefix[:commonLen(prefix, p)]
		}
		return prefix, false
	case syntax.OpEmptyMatch, syntax.OpBeginText, syntax.OpBeginLine, syntax.OpEndText, syntax.OpEndLine,
		syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		return "", true // of no width
	}
	return "", false
}

// literal returns the bytes of a literal up to the first that has another
// spelling: (?i) letters, and U+FFFD, which also matches any invalid byte.
func literal(re *syntax.Regexp) (text string, whole bool) {
	if re.Flags&syntax.FoldCase != 0 {
		return "", false
	}
	text = string(re.Rune)
	if i := strings.IndexRune(text, '\uFFFD'); i >= 0 {
		return text[:i], false
	}
	return text, true
}

// literalsAfter returns the longest literal after the leading one and, if the
// expression ends in "$", the literal before that.
func literalsAfter(re *syntax.Regexp) (inside, suffix string) {
	if re.Op != syntax.OpConcat {
		return "", ""
	}
	last := len(re.Sub) - 1
	for i, sub := range re.Sub {
		if sub.Op == syntax.OpCapture {
			sub = sub.Sub[0]
		}
		if i == 0 || sub.Op != syntax.OpLiteral {
			continue
		}
		text, whole := literal(sub)
		if i == last-1 && whole && re.Sub[last].Op == syntax.OpEndText {
			suffix = text
		} else if len(text) > len(inside) {
			inside = text
		}
	}
	// A literal that is part of the prefix says nothing about what follows it.
	if p, _ := literalPrefix(re); strings.Contains(p, inside) {
		inside = ""
	}
	if p, whole := literalPrefix(re); whole && suffix != "" && strings.HasSuffix(p, suffix) {
		suffix = ""
	}
	return inside, suffix
}

func commonLen(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
