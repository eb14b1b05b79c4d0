package edit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Path leads to a value in JSON.
type Path []step

type step struct {
	kind  stepKind
	key   string
	index int // from 0
}

type stepKind uint8

const (
	stepKey stepKind = iota
	stepIndex
	stepAll
)

// Key is the path to the member of that very name.
func Key(name string) Path { return Path{{key: name}} }

// ParsePath reads the dotted form a.b, list[1], list[*] (Kong: dots_in_keys
// false). Lists count from 1, as in Lua. A backslash takes the meaning from a dot.
func ParsePath(text string) (Path, error) {
	var p Path
	for i, part := range splitDots(text) {
		name, rest, indexed := strings.Cut(part, "[")
		if name == "" && (i > 0 || !indexed) {
			return nil, fmt.Errorf("invalid path %q: empty name", text)
		}
		if name != "" {
			p = append(p, step{key: name})
		}
		for indexed {
			var inside string
			var closed bool
			if inside, rest, closed = strings.Cut(rest, "]"); !closed {
				return nil, fmt.Errorf("invalid path %q: missing closing bracket", text)
			}
			if inside == "*" {
				p = append(p, step{kind: stepAll})
			} else {
				n, err := strconv.Atoi(inside)
				if err != nil || n < 1 {
					return nil, fmt.Errorf("invalid path %q: an index is * or a number from 1", text)
				}
				p = append(p, step{kind: stepIndex, index: n - 1})
			}
			if rest == "" {
				break
			}
			if rest[0] != '[' {
				return nil, fmt.Errorf("invalid path %q: expected a dot after the index", text)
			}
			rest = rest[1:]
		}
	}
	return p, nil
}

// DottedPath is the path of names separated by dots, where \. is a dot within a
// name (Kong: custom_fields_by_lua).
func DottedPath(text string) Path {
	names := splitDots(text)
	p := make(Path, len(names))
	for i, name := range names {
		p[i].key = name
	}
	return p
}

func splitDots(text string) []string {
	var parts []string
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text) && text[i+1] == '.':
			b.WriteByte('.')
			i++
		case text[i] == '.':
			parts = append(parts, b.String())
			b.Reset()
		default:
			b.WriteByte(text[i])
		}
	}
	return append(parts, b.String())
}

// PathRules gives every rule its path: the whole name, or what ParsePath makes of it.
func PathRules(rules []Rule, dotsInKeys bool) error {
	for i := range rules {
		r := &rules[i]
		if dotsInKeys {
			r.Path = Key(r.Name)
			continue
		}
		p, err := ParsePath(r.Name)
		if err != nil {
			return err
		}
		r.Path = p
	}
	return nil
}

// scanner goes through the members or elements of a valid JSON value. at stands
// behind the opening bracket at first.
type scanner struct {
	s          []byte
	at         int
	key, value []byte // raw
}

func (it *scanner) member() bool {
	it.separator()
	if it.s[it.at] == '}' {
		return false
	}
	end := skipString(it.s, it.at)
	it.key = it.s[it.at:end]
	it.at = skipSpace(it.s, end) + 1 // the colon
	it.take()
	return true
}

func (it *scanner) element() bool {
	it.separator()
	if it.s[it.at] == ']' {
		return false
	}
	it.take()
	return true
}

func (it *scanner) separator() {
	if it.at = skipSpace(it.s, it.at); it.s[it.at] == ',' {
		it.at = skipSpace(it.s, it.at+1)
	}
}

func (it *scanner) take() {
	it.at = skipSpace(it.s, it.at)
	end := skipValue(it.s, it.at)
	it.value = it.s[it.at:end]
	it.at = end
}

func skipSpace(s []byte, i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\t' || s[i] == '\n' || s[i] == '\r') {
		i++
	}
	return i
}

func trim(s []byte) []byte {
	s = s[skipSpace(s, 0):]
	for n := len(s); n > 0 && (s[n-1] == ' ' || s[n-1] == '\t' || s[n-1] == '\n' || s[n-1] == '\r'); n-- {
		s = s[:n-1]
	}
	return s
}

func skipString(s []byte, i int) int {
	for i++; s[i] != '"'; i++ {
		if s[i] == '\\' {
			i++
		}
	}
	return i + 1
}

func skipValue(s []byte, i int) int {
	switch s[i] {
	case '"':
		return skipString(s, i)
	case '{', '[':
		for depth := 0; ; {
			switch s[i] {
			case '"':
				i = skipString(s, i)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
	}
	for i < len(s) && s[i] != ',' && s[i] != '}' && s[i] != ']' && s[i] > ' ' {
		i++
	}
	return i
}

func hasKey(s []byte, key string) bool {
	for it := (scanner{s: s, at: 1}); it.member(); {
		if keyEqual(it.key, key) {
			return true
		}
	}
	return false
}

// keyEqual compares a quoted key with a name.
func keyEqual[T string | []byte](quoted []byte, name T) bool {
	raw := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(raw, '\\') >= 0 {
		return unquote(quoted) == string(name)
	}
	return string(raw) == string(name)
}

// unquote is the slow path for keys with escapes; it allocates.
func unquote(quoted []byte) string {
	var s string
	if json.Unmarshal(quoted, &s) != nil {
		return ""
	}
	return s
}

// Top is the name p consists of; false if it has more steps than one.
func (p Path) Top() (string, bool) {
	if len(p) != 1 || p[0].kind != stepKey {
		return "", false
	}
	return p[0].key, true
}
