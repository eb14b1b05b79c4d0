// Package edit is what the transformers do to headers, arguments and JSON, in
// Kong's order and by its rules:
//
//	remove   whatever has the name
//	rename   keeps the values; what had the new name before is gone
//	replace  only what is there
//	add      only what is not there
//	append   another value, or the first
//
// Rules hold the name:value texts of a document, compiled. Values are rendered
// once for a request, before anything is changed, and then applied: a template
// sees the request as it came, whatever the order of the rules.
package edit

import (
	"errors"
	"strconv"
	"strings"
	"sync"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/template"
)

// Op is what a rule does.
type Op uint8

// The operations, in the order they are done.
const (
	Remove Op = iota
	Rename
	Replace
	Add
	Append
	// Set replaces what is there and adds what is not; no document asks for it.
	Set
)

// Setting is a "name:value" text, split at the first colon; the value may hold
// templates. Decoding reports a text that cannot be compiled.
type Setting string

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Setting) UnmarshalText(text []byte) error {
	*s = Setting(text)
	name, value := s.split()
	if name == "" || len(name) == len(text) {
		return errors.New(strconv.Quote(string(text)) + ": expected name:value")
	}
	_, err := template.Compile(value)
	return err
}

// Text is a value that may hold templates, without a name.
type Text string

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *Text) UnmarshalText(text []byte) error {
	*t = Text(text)
	_, err := template.Compile(string(text))
	return err
}

func (s *Setting) split() (name, value string) {
	name, value, _ = strings.Cut(string(*s), ":")
	return name, value
}

// Lists are the settings of one part of a message, as configured.
type Lists struct {
	Remove                       []string
	Rename, Replace, Add, Append []Setting
	// Types of the values of Replace, Add and Append by place; JSON only.
	ReplaceTypes, AddTypes, AppendTypes []Type
}

// Rule is one compiled setting.
type Rule struct {
	Op   Op
	Name string // canonical for headers
	Path Path   // of JSON
	Type Type   // of a JSON value

	literal []byte // the value if it is the same for every request
	slot    int    // else its place in Values
	to      string // new name of a header, canonical, if it is a literal
}

// Templates collects the values of an instance that differ by request.
type Templates struct{ list []*template.Template }

// Any reports whether there are such values.
func (t *Templates) Any() bool { return len(t.list) > 0 }

// Rule compiles one name and value. The value must have been checked.
func (t *Templates) Rule(op Op, name, value string) (Rule, error) {
	r := Rule{Op: op, Name: name, slot: -1}
	c, err := template.Compile(value)
	if err != nil {
		return r, err
	}
	if text, ok := c.Literal(); ok {
		r.literal = []byte(text)
		return r, nil
	}
	r.slot = len(t.list)
	t.list = append(t.list, c)
	return r, nil
}

// Rules compiles lists in the order they are to be applied.
func (t *Templates) Rules(l Lists) ([]Rule, error) {
	rules := make([]Rule, 0, len(l.Remove)+len(l.Rename)+len(l.Replace)+len(l.Add)+len(l.Append))
	for _, name := range l.Remove {
		rules = append(rules, Rule{Op: Remove, Name: name, slot: -1})
	}
	var errs []error
	compile := func(op Op, settings []Setting, types []Type) {
		for i := range settings {
			name, value := settings[i].split()
			r, err := t.Rule(op, name, value)
			errs = append(errs, err)
			if i < len(types) {
				r.Type = types[i]
			}
			rules = append(rules, r)
		}
	}
	compile(Rename, l.Rename, nil)
	compile(Replace, l.Replace, l.ReplaceTypes)
	compile(Add, l.Add, l.AddTypes)
	compile(Append, l.Append, l.AppendTypes)
	return rules, errors.Join(errs...)
}

// Values are the rendered templates of one request. Pooled; not safe for
// concurrent use.
type Values struct {
	buf  []byte
	ends []int
	// A and B are where Args and JSON leave their results; C is the holder's own,
	// to append to. They are kept for the next request if not unusually large.
	A, B, C []byte
}

// bufferKept is the capacity above which a buffer is not pooled.
const bufferKept = 64 << 10

var pool = sync.Pool{New: func() any { return new(Values) }}

// Acquire renders all templates for x. Release gives the Values back.
func (t *Templates) Acquire(x *pipeline.Exchange) *Values {
	v := pool.Get().(*Values)
	v.buf, v.ends, v.C = v.buf[:0], v.ends[:0], v.C[:0]
	for _, c := range t.list {
		v.buf = c.Append(v.buf, x)
		v.ends = append(v.ends, len(v.buf))
	}
	return v
}

// Release gives v back; nothing reached through it may be used afterwards.
func (v *Values) Release() {
	for _, b := range []*[]byte{&v.buf, &v.A, &v.B, &v.C} {
		if cap(*b) > bufferKept {
			*b = nil
		}
	}
	pool.Put(v)
}

// Close is Release, so that Values kept among the user values of a RequestCtx go
// back when the request is over. It never fails.
func (v *Values) Close() error {
	v.Release()
	return nil
}

// Hold keeps v until x is over, for bytes the exchange refers to, under the key
// of its owner.
func (v *Values) Hold(x *pipeline.Exchange, owner any) {
	if old, ok := x.Ctx.UserValue(owner).(*Values); ok {
		defer old.Release() // x is served again, in a test
	}
	x.Ctx.SetUserValue(owner, v)
}

// Of returns the value of r, which belongs to v or to r: not to be written.
func (v *Values) Of(r *Rule) []byte {
	if r.slot < 0 {
		return r.literal
	}
	start := 0
	if r.slot > 0 {
		start = v.ends[r.slot-1]
	}
	return v.buf[start:v.ends[r.slot]]
}
