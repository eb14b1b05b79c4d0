package config

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// scalar decodes n into a string, boolean or number and applies the rules of its field.
func (d *decoder) scalar(n *Node, v reflect.Value, f *field, path string) {
	if n.loose && v.Kind() != reflect.String {
		n = n.typed()
	}
	switch v.Kind() {
	case reflect.String:
		d.text(n, v, f, path)
	case reflect.Bool:
		b, ok := n.Bool()
		if !ok {
			b, ok = n.word()
		}
		if !ok {
			d.quoted(n, path, "expected a boolean", f)
			return
		}
		v.SetBool(b)
	case reflect.Float32, reflect.Float64:
		x, ok := n.Float()
		if !ok {
			d.quoted(n, path, "expected a number", f)
			return
		}
		v.SetFloat(x)
		d.bounds(n, x, f, path)
	default:
		d.integer(n, v, f, path)
	}
}

func (d *decoder) text(n *Node, v reflect.Value, f *field, path string) {
	if f.ref != "" && n.Kind == Map {
		if n = n.referee(); n == nil {
			d.fault(nil, path, "expected the id or name of an entity")
			return
		}
	}
	if n.Kind != Scalar || n.Type != String {
		message := "expected a string"
		if n.Kind == Scalar && n.Type != Null && n.plain {
			d.fault(n, path, message+`; write "`+n.Value+`" in quotes`)
			return
		}
		d.mismatch(n, path, message, f)
		return
	}
	if _, is := n.word(); is && d.strict {
		d.fault(n, path, `expected a string; write "`+n.Value+`" in quotes`)
		return
	}
	if len(n.Value) < f.lenMin || n.Value == "" && f.required {
		d.fault(n, path, "length must be at least "+strconv.Itoa(max(1, f.lenMin)))
		return
	}
	v.SetString(n.Value)
	d.oneOf(n, n.Value, f, path)
}

func (d *decoder) integer(n *Node, v reflect.Value, f *field, path string) {
	x, ok := n.Int()
	if !ok && f.fraction {
		var fl float64
		if fl, ok = n.Float(); ok {
			x = int64(fl)
		}
	}
	if !ok {
		d.quoted(n, path, "expected an integer", f)
		return
	}
	if n.plain && len(n.Value) > 1 && n.Value[0] == '0' && isDigits(n.Value) {
		d.warn(n, path, "a leading zero makes "+n.Value+" octal: read as "+strconv.FormatInt(x, 10))
	}
	switch v.Kind() {
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if x < 0 || v.OverflowUint(uint64(x)) {
			d.outOfRange(n, f, path)
			return
		}
		v.SetUint(uint64(x))
	default:
		if v.OverflowInt(x) {
			d.outOfRange(n, f, path)
			return
		}
		v.SetInt(x)
	}
	d.bounds(n, float64(x), f, path)
	d.oneOf(n, strconv.FormatInt(x, 10), f, path)
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// bounds checks min, max and gt.
func (d *decoder) bounds(n *Node, x float64, f *field, path string) {
	if f.min != nil && x < *f.min || f.max != nil && x > *f.max || f.gt != nil && x <= *f.gt {
		d.outOfRange(n, f, path)
	}
}

func (d *decoder) outOfRange(n *Node, f *field, path string) {
	message := "value is out of range"
	switch {
	case f.gt != nil:
		message = "value must be greater than " + number(*f.gt)
	case f.min != nil && f.max != nil:
		message = "value should be between " + number(*f.min) + " and " + number(*f.max)
	case f.min != nil:
		message = "value should be at least " + number(*f.min)
	case f.max != nil:
		message = "value should be at most " + number(*f.max)
	}
	fault := n.fault(path, message)
	fault.Got = n.unseen(f)
	d.faults = append(d.faults, fault)
}

func number(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }

// oneOf checks enum.
func (d *decoder) oneOf(n *Node, text string, f *field, path string) {
	if f.enum == nil || slices.Contains(f.enum, text) {
		return
	}
	fault := n.fault(path, "expected one of: "+strings.Join(f.enum, ", "))
	fault.Got = n.unseen(f)
	if !isDigits(text) { // numbers are not misspelt
		fault.Near = Nearest(text, f.enum)
	}
	d.faults = append(d.faults, fault)
}
