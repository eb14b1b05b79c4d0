package router

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// headerCondition is a compiled Header.
type headerCondition struct {
	name    string
	present bool     // any value will do
	values  []string // lower-cased
	set     *foldMap // of values, if they are many
	regexps []*regexp.Regexp
}

const linearValuesMax = 8 // more values are looked up by hash

func compileHeader(h Header, flavor Flavor) (*headerCondition, error) {
	c := &headerCondition{name: h.Name, present: len(h.Values) == 0}
	if h.Name == "" || strings.ContainsFunc(h.Name, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?={}`, r)
	}) {
		return nil, fmt.Errorf("header name %q: want a token", h.Name)
	}
	if strings.EqualFold(h.Name, "host") {
		return nil, errors.New(`header "host": use hosts instead`)
	}
	var errs []error
	for _, v := range h.Values {
		expr, isRegexp := strings.CutPrefix(v, "~*")
		if flavor == Traditional && len(h.Values) > 1 {
			isRegexp = false
		}
		if !isRegexp {
			c.values = append(c.values, lowerString(v))
			continue
		}
		if flavor != Traditional {
			// Kong lower-cases the pattern, escapes included: \D becomes \d.
			expr = lowerString(expr)
		}
		re, err := compileRegexp(expr)
		if err != nil {
			errs = append(errs, fmt.Errorf("header %q: %w", h.Name, err))
		}
		c.regexps = append(c.regexps, re)
	}
	slices.Sort(c.values)
	c.values = slices.Compact(c.values)
	if len(c.values) > linearValuesMax {
		c.set = &foldMap{}
		for _, v := range c.values {
			c.set.add(v)
		}
	}
	return c, errors.Join(errs...)
}

// exact reports whether the condition is a set of values and nothing else, so
// that it can be looked up by the request's value.
func (c *headerCondition) exact() bool { return len(c.regexps) == 0 && !c.present }

func (c *headerCondition) holds(r *Request) bool {
	values := r.header(c.name)
	if c.present {
		return len(values) > 0
	}
	for _, v := range values {
		if c.has(v) {
			return true
		}
		if len(c.regexps) == 0 {
			continue
		}
		v = r.lowered(v)
		for _, re := range c.regexps {
			if re.Match(v) {
				return true
			}
		}
	}
	return false
}

func (c *headerCondition) has(value []byte) bool {
	if c.set != nil {
		return c.set.find(value) != nil
	}
	for _, want := range c.values {
		if equalFold(value, want) {
			return true
		}
	}
	return false
}

// header returns the values of a request header. They are valid until the next
// call.
func (r *Request) header(name string) [][]byte {
	if r.Headers == nil {
		return nil
	}
	return r.Headers.PeekAll(name)
}

// lowered returns v in lower case: v itself or a copy in the scratch space, which
// v may already occupy.
func (r *Request) lowered(v []byte) []byte {
	if !hasUpper(v) {
		return v
	}
	r.scratch = appendLower(r.scratch[:0], v)
	return r.scratch
}
