package router

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// RuleError is one fault in one rule.
type RuleError struct {
	Rule  int    // position in the rules given to New
	Field string // "methods", "hosts", "paths", "headers", "snis" or "expression"
	Index int    // position inside the field
	Err   error
}

// Error names the rule by position, the field and the cause.
func (e *RuleError) Error() string {
	if e.Field == "expression" {
		return fmt.Sprintf("rules[%d]: expression: %v", e.Rule, e.Err)
	}
	return fmt.Sprintf("rules[%d]: %s[%d]: %v", e.Rule, e.Field, e.Index, e.Err)
}

// Unwrap returns the cause.
func (e *RuleError) Unwrap() error { return e.Err }

// ErrLookaround is wrapped by the error for a regexp that uses Perl's look-ahead
// or look-behind, which an engine with a linear-time guarantee cannot offer.
var ErrLookaround = errors.New("look-around is unsupported (RE2 syntax)")

// ErrBackreference is wrapped by the error for a regexp that refers to what one
// of its groups matched, which an engine with a linear-time guarantee cannot do.
var ErrBackreference = errors.New("back-reference is unsupported (RE2 syntax)")

// ValidateMethod returns why method is not acceptable in Rule.Methods, or nil.
// Source: RFC 9110, section 9.1 (token); Kong wants upper case.
func ValidateMethod(method string) error {
	if method == "" {
		return errors.New("empty method")
	}
	for _, c := range []byte(method) {
		if c <= ' ' || c >= 0x7f || 'a' <= c && c <= 'z' || strings.IndexByte(`()<>@,;:\"/[]?={}`, c) >= 0 {
			return fmt.Errorf("method %q: want an upper-case token", method)
		}
	}
	return nil
}

// ValidateHost returns why host is not acceptable in Rule.Hosts, or nil.
func ValidateHost(host string) error {
	_, err := parseHost(host)
	return err
}

// ValidateSNI returns why name is not acceptable in Rule.SNIs, or nil.
func ValidateSNI(name string) error {
	_, err := parseSNI(name)
	return err
}

// ValidatePath returns why path is not acceptable in Rule.Paths, or nil. A prefix
// must be in normalized form; a regexp must compile.
func ValidatePath(path string) error {
	if expr, ok := strings.CutPrefix(path, "~"); ok {
		var c regexpCache
		_, _, err := c.path(expr)
		return err
	}
	return validatePrefix(path)
}

// ValidateHeader returns why h is not acceptable in Rule.Headers under flavor, or
// nil.
func ValidateHeader(h Header, flavor Flavor) error {
	_, err := compileHeader(h, flavor)
	return err
}

// ValidateExpression returns why text is not acceptable in Rule.Expression, or
// nil. Faults of syntax and type are *ExpressionError.
func ValidateExpression(text string) error {
	_, err := parseExpression(text)
	return err
}

func validatePrefix(path string) error {
	if !strings.HasPrefix(path, "/") {
		return fmt.Errorf("path %q: should start with: / (fixed path) or ~/ (regex path)", path)
	}
	normal, err := NormalizePath(nil, []byte(path))
	if err != nil {
		return fmt.Errorf("path %q: %w", path, err)
	}
	if string(normal) != path {
		return fmt.Errorf("path %q: not in normalized form, use %q", path, normal)
	}
	return nil
}

// A wildcard stands for one or more characters, dots included.
const (
	plainHost    = iota
	leadingHost  // "*.a.com"; name is ".a.com"
	trailingHost // "a.*"; name is "a."
)

// hostPattern is one value of Rule.Hosts or Rule.SNIs.
type hostPattern struct {
	kind uint8
	port uint16 // 0: any
	name string // lower-cased
}

func (p hostPattern) matches(name string, port uint16) bool {
	if p.port != 0 && p.port != port {
		return false
	}
	switch p.kind {
	case leadingHost:
		return len(name) > len(p.name) && strings.HasSuffix(name, p.name)
	case trailingHost:
		return len(name) > len(p.name) && strings.HasPrefix(name, p.name)
	}
	return name == p.name
}

func parseHost(host string) (hostPattern, error) {
	p := hostPattern{}
	name, port := host, ""
	if i := strings.LastIndexByte(host, ':'); i >= 0 && (!strings.Contains(host[:i], ":") || host[i-1] == ']') {
		name, port = host[:i], host[i+1:]
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || port[0] == '0' || port[0] == '+' {
			return p, fmt.Errorf("host %q: port must be 1 to 65535", host)
		}
		p.port = uint16(n)
	}
	var err error
	p.kind, p.name, err = parseName(name)
	if err != nil {
		return p, fmt.Errorf("host %q: %w", host, err)
	}
	return p, nil
}

func parseSNI(name string) (hostPattern, error) {
	kind, lower, err := parseName(strings.TrimSuffix(name, "."))
	if err == nil && strings.HasPrefix(lower, "[") {
		err = errors.New("an address is not a server name")
	}
	if err != nil {
		return hostPattern{}, fmt.Errorf("sni %q: %w", name, err)
	}
	return hostPattern{kind: kind, name: lower}, nil
}

// parseName checks a host name, perhaps with one wildcard, and lower-cases it.
func parseName(name string) (kind uint8, lower string, err error) {
	lower = lowerString(name)
	if strings.HasPrefix(lower, "[") {
		return plainHost, lower, checkLiteral(lower)
	}
	labels := lower
	switch strings.Count(lower, "*") {
	case 0:
	case 1:
		rest, leading := strings.CutPrefix(lower, "*.")
		rest2, trailing := strings.CutSuffix(lower, ".*")
		switch {
		case leading:
			kind, labels, lower = leadingHost, rest, lower[1:]
		case trailing:
			kind, labels, lower = trailingHost, rest2, lower[:len(lower)-1]
		default:
			return 0, "", errors.New("a wildcard must be the whole leftmost or rightmost label")
		}
	default:
		return 0, "", errors.New("only one wildcard is allowed")
	}
	return kind, lower, checkLabels(labels)
}

func checkLiteral(name string) error {
	inner, ok := strings.CutSuffix(name[1:], "]")
	if addr, err := netip.ParseAddr(inner); !ok || err != nil || !addr.Is6() {
		return errors.New("want an IPv6 address between [ and ]")
	}
	return nil
}

func checkLabels(name string) error {
	if len(name) > 253 {
		return errors.New("longer than 253 bytes")
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" {
			return errors.New("empty label")
		}
		for _, c := range []byte(label) {
			if c >= 0x80 {
				return errors.New("not ASCII: write the name in its xn-- form")
			}
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return fmt.Errorf("invalid character %q", c)
			}
		}
	}
	return nil
}
