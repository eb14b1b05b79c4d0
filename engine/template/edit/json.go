package edit

import (
	"encoding/json"
	"errors"
	"strconv"
)

// Type is what the text of a setting becomes in JSON.
type Type uint8

// The types of json_types.
const (
	StringType Type = iota
	NumberType
	BooleanType
	// RawType is a value that is JSON already; no document asks for it.
	RawType
)

var typeNames = []string{"string", "number", "boolean"}

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Type) UnmarshalText(text []byte) error {
	for i, name := range typeNames {
		if string(text) == name {
			*t = Type(i)
			return nil
		}
	}
	return errors.New("expected one of: boolean, number, string")
}

// MarshalText implements encoding.TextMarshaler.
func (t Type) MarshalText() ([]byte, error) { return []byte(typeNames[t]), nil }

// appendValue appends text as a value of type t; false if it is none, as Kong's
// tonumber gives nil.
func (t Type) appendValue(dst, text []byte) ([]byte, bool) {
	switch t {
	case NumberType:
		if !isNumber(text) {
			return dst, false
		}
		return append(dst, text...), true
	case BooleanType:
		return strconv.AppendBool(dst, string(text) == "true"), true
	case RawType:
		return append(dst, text...), true
	}
	return AppendQuoted(dst, text), true
}

// isNumber follows the grammar of JSON numbers (RFC 8259 section 6).
func isNumber(s []byte) bool {
	c := byte(' ')
	if len(s) > 0 {
		c = s[0]
	}
	return (c == '-' || c >= '0' && c <= '9') && json.Valid(s) && s[len(s)-1] > ' '
}

// JSON applies rules to a JSON text that must be an object, or nothing, which
// counts as {} for add and append. It reports false, and leaves out everything,
// if the text is something else or nothing changes. The result is memory of v,
// in v.A. What no rule concerns keeps its bytes. It allocates nothing once the
// buffers have grown.
func JSON(text []byte, rules []Rule, v *Values) ([]byte, bool) {
	if len(text) == 0 {
		text = emptyObject
	} else if !json.Valid(text) {
		return nil, false
	}
	text = trim(text)
	if text[0] != '{' && text[0] != '[' {
		return nil, false
	}
	changed := false
	for i := range rules {
		out, ok := one(v.B[:0], text, &rules[i], v)
		if !ok {
			continue
		}
		v.A, v.B = out, v.A
		text, changed = out, true
	}
	return text, changed
}

// Keep leaves out every member of a JSON object whose name is not in names
// (Kong: allow). It reports false if nothing changes. The result is in v.A.
func Keep(text []byte, names []string, v *Values) ([]byte, bool) {
	if !json.Valid(text) {
		return nil, false
	}
	if text = trim(text); text[0] != '{' {
		return nil, false
	}
	dst, changed := v.B[:0], false
	dst = append(dst, '{')
	for it := (scanner{s: text, at: 1}); it.member(); {
		kept := false
		for _, name := range names {
			kept = kept || keyEqual(it.key, name)
		}
		if kept {
			dst = appendMember(comma(dst, 0), it.key, it.value)
		}
		changed = changed || !kept
	}
	dst = append(dst, '}')
	v.A, v.B = dst, v.A
	return v.A, changed
}

var emptyObject = []byte("{}")

// one applies one rule. The value is rendered behind the result and cut off.
func one(dst, text []byte, r *Rule, v *Values) ([]byte, bool) {
	e := editor{rule: r}
	mark := len(v.buf)
	switch r.Op {
	case Remove:
	case Rename:
		e.newName = v.Of(r)
		v.buf = AppendQuoted(v.buf, e.newName)
	default:
		var ok bool
		if v.buf, ok = r.Type.appendValue(v.buf, v.Of(r)); !ok {
			return dst, false
		}
	}
	e.value = v.buf[mark:]
	dst, ok := e.edit(dst, text, r.Path)
	v.buf = v.buf[:mark]
	return dst, ok
}

// editor applies one rule to one value. Its input is valid JSON.
type editor struct {
	rule    *Rule
	value   []byte // as JSON; the quoted new name for Rename
	newName []byte // for Rename
}

// edit appends s, one value without space around it, with the rule applied below
// path. If nothing changes it appends nothing and reports false.
func (e *editor) edit(dst, s []byte, path Path) ([]byte, bool) {
	switch {
	case s[0] == '{' && path[0].kind == stepKey:
		return e.object(dst, s, path)
	case s[0] == '[' && path[0].kind != stepKey:
		return e.array(dst, s, path)
	}
	return dst, false
}

func (e *editor) object(dst, s []byte, path Path) ([]byte, bool) {
	mark, key, last := len(dst), path[0].key, len(path) == 1
	if last && e.rule.Op == Rename && !hasKey(s, key) {
		return dst, false
	}
	dst = append(dst, '{')
	found, changed := false, false
	for it := (scanner{s: s, at: 1}); it.member(); {
		start := len(dst)
		switch same := keyEqual(it.key, key); {
		case same && !last:
			found = true
			dst = append(append(comma(dst, mark), it.key...), ':')
			var ok bool
			if dst, ok = e.edit(dst, it.value, path[1:]); ok {
				changed = true
			} else {
				dst = append(dst, it.value...)
			}
		case same:
			var ok bool
			found = true
			if dst, ok = e.member(dst, mark, &it); ok {
				changed = true
			}
		case last && e.rule.Op == Rename && keyEqual(it.key, e.newName):
			dst, changed = dst[:start], true // gives way to the renamed one
		default:
			dst = appendMember(comma(dst, mark), it.key, it.value)
		}
	}
	if !found && e.adds() {
		if out, ok := e.create(comma(dst, mark), path); ok {
			dst, changed = out, true
		}
	}
	if !changed {
		return dst[:mark], false
	}
	return append(dst, '}'), true
}

func (e *editor) adds() bool { return e.rule.Op >= Add }

// member writes the member the rule is about.
func (e *editor) member(dst []byte, mark int, it *scanner) ([]byte, bool) {
	switch e.rule.Op {
	case Remove:
		return dst, true
	case Rename:
		return appendMember(comma(dst, mark), e.value, it.value), true
	case Replace, Set:
		return appendMember(comma(dst, mark), it.key, e.value), true
	case Append:
		dst = append(append(comma(dst, mark), it.key...), ':')
		return e.appended(dst, it.value), true
	}
	return appendMember(comma(dst, mark), it.key, it.value), false
}

// appended writes what was there, made a list if it was none, and the value.
func (e *editor) appended(dst, old []byte) []byte {
	switch {
	case old[0] == '[' && len(trim(old[1:len(old)-1])) > 0:
		dst = append(append(dst, old[:len(old)-1]...), ',')
	case old[0] == '[' || string(old) == "null":
		dst = append(dst, '[')
	default:
		dst = append(append(append(dst, '['), old...), ',')
	}
	return append(append(dst, e.value...), ']')
}

// create writes the member of an object that has none at path, with the objects
// on the way to it.
func (e *editor) create(dst []byte, path Path) ([]byte, bool) {
	for i := range path {
		if path[i].kind != stepKey {
			return dst, false // an element of a list that is not there
		}
	}
	for i := range path {
		if i > 0 {
			dst = append(dst, '{')
		}
		dst = append(AppendQuoted(dst, path[i].key), ':')
	}
	if e.rule.Op == Append {
		dst = append(append(append(dst, '['), e.value...), ']')
	} else {
		dst = append(dst, e.value...)
	}
	for range len(path) - 1 {
		dst = append(dst, '}')
	}
	return dst, true
}

func (e *editor) array(dst, s []byte, path Path) ([]byte, bool) {
	mark, last := len(dst), len(path) == 1
	dst = append(dst, '[')
	changed := false
	i := 0
	for it := (scanner{s: s, at: 1}); it.element(); i++ {
		if path[0].kind == stepIndex && path[0].index != i {
			dst = append(comma(dst, mark), it.value...)
			continue
		}
		if last && e.rule.Op == Remove {
			changed = true
			continue
		}
		dst = comma(dst, mark)
		if last && (e.rule.Op == Replace || e.rule.Op == Set) {
			dst, changed = append(dst, e.value...), true
			continue
		}
		ok := false
		if !last {
			dst, ok = e.edit(dst, it.value, path[1:])
		}
		if ok {
			changed = true
		} else {
			dst = append(dst, it.value...)
		}
	}
	if !changed {
		return dst[:mark], false
	}
	return append(dst, ']'), true
}

// comma separates from what was written since the bracket at mark.
func comma(dst []byte, mark int) []byte {
	if len(dst) > mark+1 {
		dst = append(dst, ',')
	}
	return dst
}

func appendMember(dst, key, value []byte) []byte {
	return append(append(append(dst, key...), ':'), value...)
}

var (
	setRule    = &Rule{Op: Set}
	removeRule = &Rule{Op: Remove}
)

// SetPath appends object with the value at path set, which must be JSON; members
// on the way are made. False, and dst as it was: the path leads through something
// that is no object. object must be valid JSON without space around it.
func SetPath(dst, object []byte, path Path, value []byte) ([]byte, bool) {
	e := editor{rule: setRule, value: value}
	return e.edit(dst, object, path)
}

// RemovePath appends object without what is at path. False, and dst as it was:
// nothing is there. object must be valid JSON without space around it.
func RemovePath(dst, object []byte, path Path) ([]byte, bool) {
	e := editor{rule: removeRule}
	return e.edit(dst, object, path)
}
