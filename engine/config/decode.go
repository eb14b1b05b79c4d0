package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Decode fills the struct that into points to from a node, over the values already there
// as defaults; a nil or null node leaves them all. It returns every fault and warning,
// their paths relative to the node, and calls Check on structs that implement Checker.
//
// Decoding is strict: unknown fields are faults, and so are values of another type. The
// exceptions are Kong's own (null keeps the default; 5.0 is an integer; on, off, yes and
// no are booleans where one is expected) and, unless the file was read strictly, a single
// value where a list is expected, which draws a warning. An integer with a leading zero
// is octal, as in Kong, with a warning. Field types may be *Node and any, which take what
// is there, an Unmarshaler or an encoding.TextUnmarshaler. Rules come from struct tags:
// json, alias, flat, enum, min, max, gt, len, required, fraction, secret, ref and doc.
func Decode(n *Node, into any) Faults {
	v := reflect.ValueOf(into)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		panic("BUG: config.Decode into " + v.Type().String())
	}
	return decode(n, v.Elem(), "")
}

// decode is Decode into v, where a required field of the implied name may be absent.
func decode(n *Node, v reflect.Value, implied string) Faults {
	d := decoder{strict: n != nil && n.file != nil && n.file.strict, implied: implied}
	d.structure(n, v, "")
	return d.faults
}

// Unmarshaler is implemented by pointers to field types that read a node themselves. The
// error becomes a fault at the node, its text as written.
type Unmarshaler interface {
	UnmarshalNode(n *Node) error
}

type decoder struct {
	strict  bool
	implied string // a top-level field that need not be written
	broken  bool   // a value is missing because a reference to the environment failed
	faults  Faults
}

func (d *decoder) fault(n *Node, path, message string) {
	d.faults = append(d.faults, n.fault(path, message))
}

func (d *decoder) warn(n *Node, path, message string) {
	f := n.fault(path, message)
	f.Warning = true
	d.faults = append(d.faults, f)
}

// structure decodes the entries of a map into the fields of v.
func (d *decoder) structure(n *Node, v reflect.Value, path string) {
	s := shapeOf(v.Type())
	if !n.IsNull() && n.Kind != Map && !n.isEmptyList() {
		d.mismatch(n, path, "expected a record", nil)
		return
	}
	before := len(d.faults)
	var present uint64 // bit i: field i was written; no struct here has more than 64 required fields
	if n != nil {
		for i := range n.Entries {
			e := &n.Entries[i]
			if at := d.entry(s, n, e, member{v: v, path: path, present: present}); at >= 0 && at < 64 {
				present |= 1 << at
			}
		}
	}
	for i := range s.fields {
		f := &s.fields[i]
		if f.required && (i >= 64 || present&(1<<i) == 0) && v.FieldByIndex(f.index).IsZero() &&
			(path != "" || f.name != d.implied || d.implied == "") {
			d.fault(n, joinPath(path, f.name), "required field missing")
		}
	}
	if s.checker {
		d.check(n, v, path, before)
	}
}

// member is where the entry of a map goes.
type member struct {
	v       reflect.Value
	path    string
	present uint64
}

// entry decodes one key and returns the index of its field, -1 if it stayed unset.
func (d *decoder) entry(s *shape, n *Node, e *Entry, m member) int {
	f, alias := s.find(e.Key)
	path := joinPath(m.path, e.Key)
	if f == nil {
		if outer, inner := s.findFlat(e.Key); outer != nil {
			d.flat(n, e, m, flatField{outer, inner})
			return s.byName[outer.name]
		}
		fault := n.keyFault(e, path, "unknown field")
		fault.Near = Nearest(e.Key, s.names)
		d.faults = append(d.faults, fault)
		return -1
	}
	if e.Value.IsNull() {
		return -1
	}
	at := s.byName[f.name]
	if alias {
		if now := n.Get(f.name); !now.IsNull() {
			if !now.Equal(e.Value) {
				d.faults = append(d.faults, n.keyFault(e, path, "both "+e.Key+" and "+f.name+" are set, to different values"))
			}
			return at
		}
		w := n.keyFault(e, path, "older name of "+f.name)
		w.Warning = true
		d.faults = append(d.faults, w)
	}
	d.value(e.Value, m.v.FieldByIndex(f.index), f, path)
	return at
}

// flatField names a field of a nested struct by its older, flat spelling.
type flatField struct {
	outer *field
	inner string
}

// flat decodes redis_host into redis.host, which wins where both are written.
func (d *decoder) flat(n *Node, e *Entry, m member, ff flatField) {
	path := joinPath(m.path, e.Key)
	if e.Value.IsNull() {
		return
	}
	if now := n.Get(ff.outer.name).Get(ff.inner); !now.IsNull() {
		if !now.Equal(e.Value) {
			d.faults = append(d.faults, n.keyFault(e, path, "both "+e.Key+" and "+ff.outer.name+"."+ff.inner+" are set, to different values"))
		}
		return
	}
	w := n.keyFault(e, path, "older name of "+ff.outer.name+"."+ff.inner)
	w.Warning = true
	d.faults = append(d.faults, w)
	outer := m.v.FieldByIndex(ff.outer.index)
	if outer.Kind() == reflect.Pointer {
		if outer.IsNil() {
			outer.Set(reflect.New(outer.Type().Elem()))
			setDefaults(outer)
		}
		outer = outer.Elem()
	}
	inner, _ := shapeOf(outer.Type()).find(ff.inner)
	d.value(e.Value, outer.FieldByIndex(inner.index), inner, path)
}

// value decodes n, which is not null unless it is an element of a list or map.
func (d *decoder) value(n *Node, v reflect.Value, f *field, path string) {
	if n != nil && n.broken {
		d.broken = true // reported where the reference stands
		return
	}
	if d.special(n, v, path) {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		if v.IsNil() {
			setDefaults(p)
		} else {
			p.Elem().Set(v.Elem()) // a default must not be changed under other holders
		}
		d.value(n, p.Elem(), f, path)
		v.Set(p)
	case reflect.Struct:
		if n.IsNull() {
			d.mismatch(n, path, "expected a record", nil)
			return
		}
		d.structure(n, v, path)
	case reflect.Slice:
		d.list(n, v, f, path)
	case reflect.Map:
		d.table(n, v, f, path)
	case reflect.Interface:
		v.Set(reflect.ValueOf(n.Any()))
	default:
		d.scalar(n, v, f, path)
	}
}

var nodeType = reflect.TypeFor[*Node]()

// special decodes the types that read nodes or texts themselves.
func (d *decoder) special(n *Node, v reflect.Value, path string) bool {
	if v.Type() == nodeType {
		v.Set(reflect.ValueOf(n))
		return true
	}
	if v.Type().PkgPath() == "" || !v.CanAddr() {
		return false // Fast path: built-in types have no methods.
	}
	switch u := v.Addr().Interface().(type) {
	case Unmarshaler:
		if err := u.UnmarshalNode(n); err != nil {
			d.fault(n, path, err.Error())
		}
		return true
	case encoding.TextUnmarshaler:
		if n.Kind != Scalar || n.Type == Null {
			d.mismatch(n, path, "expected a string", nil)
		} else if err := u.UnmarshalText([]byte(n.Value)); err != nil {
			d.fault(n, path, "invalid value: "+err.Error())
		}
		return true
	}
	return false
}

func (d *decoder) list(n *Node, v reflect.Value, f *field, path string) {
	items := n.Items
	one := false
	before := len(d.faults)
	switch {
	case n.Kind == List:
	case n.Kind == Map && len(n.Entries) == 0: // Lua writes an empty list this way
	case d.strict || n.IsNull():
		d.mismatch(n, path, "expected an array", f)
		return
	default:
		items = []*Node{n}
		one = true
	}
	if len(items) < f.lenMin {
		d.fault(n, path, "length must be at least "+strconv.Itoa(f.lenMin))
	}
	out := reflect.MakeSlice(v.Type(), len(items), len(items))
	element := *f
	element.lenMin = 0
	for i, item := range items {
		if out.Index(i).Kind() == reflect.Struct {
			setDefaults(out.Index(i).Addr())
		}
		d.value(item, out.Index(i), &element, path+"["+strconv.Itoa(i)+"]")
	}
	if one && d.faults[before:].Err() == nil { // else the fault is about the same value
		d.warn(n, path, "expected an array; read as a list of one")
	}
	v.Set(out)
}

func (d *decoder) table(n *Node, v reflect.Value, f *field, path string) {
	if n.Kind != Map && !n.isEmptyList() {
		d.mismatch(n, path, "expected a map", f)
		return
	}
	if len(n.Entries) < f.lenMin {
		d.fault(n, path, "length must be at least "+strconv.Itoa(f.lenMin))
	}
	out := reflect.MakeMapWithSize(v.Type(), len(n.Entries))
	element := *f
	element.lenMin = 0
	for i := range n.Entries {
		e := &n.Entries[i]
		value := reflect.New(v.Type().Elem())
		setDefaults(value)
		d.value(e.Value, value.Elem(), &element, joinPath(path, e.Key))
		out.SetMapIndex(reflect.ValueOf(e.Key).Convert(v.Type().Key()), value.Elem())
	}
	v.Set(out)
}

func setDefaults(pointer reflect.Value) {
	if def, ok := reflect.TypeAssert[Defaulter](pointer); ok {
		def.SetDefaults()
	}
}

func (n *Node) isEmptyList() bool { return n != nil && n.Kind == List && len(n.Items) == 0 }

// check runs the Checker of v unless a field of it is already at fault.
func (d *decoder) check(n *Node, v reflect.Value, path string, before int) {
	if d.broken {
		return
	}
	for i := before; i < len(d.faults); i++ {
		if !d.faults[i].Warning {
			return
		}
	}
	c, ok := reflect.TypeAssert[Checker](v.Addr())
	if !ok {
		return
	}
	c.Check(&Reporter{node: n, path: path, faults: &d.faults})
}

// Reporter takes the problems a Checker finds and gives each its position. It is not to
// be kept after Check returns.
type Reporter struct {
	node   *Node
	path   string
	faults *Faults
}

// Faultf reports a fault at the dotted path below the struct being checked, such as
// `limit[1]` or `redis.host`; an absent field gets the position of what would hold it. An
// empty path is the struct itself.
func (r *Reporter) Faultf(path, format string, args ...any) {
	*r.faults = append(*r.faults, r.node.nearest(path).fault(joinPath(r.path, path), fmt.Sprintf(format, args...)))
}

// Warnf reports what is worth a warning, like Faultf.
func (r *Reporter) Warnf(path, format string, args ...any) {
	f := r.node.nearest(path).fault(joinPath(r.path, path), fmt.Sprintf(format, args...))
	f.Warning = true
	*r.faults = append(*r.faults, f)
}

// Has reports whether the operator wrote the path, and not as null.
func (r *Reporter) Has(path string) bool { return !r.node.Lookup(path).IsNull() }

// Strict reports whether Kong's own rules were asked for.
func (r *Reporter) Strict() bool {
	return r.node != nil && r.node.file != nil && r.node.file.strict
}

// Node is what the operator wrote at the path, or nil.
func (r *Reporter) Node(path string) *Node {
	if r.node == nil {
		return nil
	}
	return r.node.Lookup(path)
}

// word is the boolean a YAML 1.1 word stands for when written without quotes.
func (n *Node) word() (value, ok bool) {
	if n.Kind != Scalar || n.Type != String || !n.plain || len(n.Value) < 2 || len(n.Value) > 3 {
		return false, false
	}
	switch strings.ToLower(n.Value) {
	case "on", "yes":
		return true, true
	case "off", "no":
		return false, true
	}
	return false, false
}
