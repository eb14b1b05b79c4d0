package config

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// field is one setting of a struct: its name and the rules its tags state. The tags are
//
//	json:"name"       name of the setting; "-" leaves the field out
//	alias:"a,b"       older names, each accepted with a warning
//	flat:"redis_"     on a struct: redis_host is an older spelling of redis.host
//	enum:"a,b"        the only values; of a list, the only elements
//	min:"1" max:"9"   inclusive range of a number or of the numbers of a list
//	gt:"0"            exclusive lower bound
//	len:"1"           least length of a string, list or map
//	required:"true"   must be present and not null, unless the default is not zero
//	fraction:"true"   an integer that may be written with a fraction, which is cut
//	secret:"true"     left out of dumps
//	ref:"services"    the name or ID of an entity of that list
//	doc:"..."         description in the JSON Schema
type field struct {
	name     string
	index    []int
	typ      reflect.Type
	aliases  []string
	flat     string
	enum     []string
	min      *float64
	max      *float64
	gt       *float64
	lenMin   int
	required bool
	fraction bool
	secret   bool
	ref      string
	doc      string
}

// shape is what Decode knows about a struct type.
type shape struct {
	fields  []field
	byName  map[string]int // names and aliases
	names   []string       // for suggestions
	checker bool
}

var shapes sync.Map // reflect.Type of a struct → *shape; a table, filled on first use

// shapeOf reads the tags of a struct type once. A malformed tag is a bug and panics.
func shapeOf(t reflect.Type) *shape {
	if s, ok := shapes.Load(t); ok {
		return s.(*shape)
	}
	s := &shape{byName: map[string]int{}}
	s.add(t, nil)
	s.checker = t.Implements(checkerType) || reflect.PointerTo(t).Implements(checkerType)
	actual, _ := shapes.LoadOrStore(t, s)
	return actual.(*shape)
}

var checkerType = reflect.TypeFor[Checker]()

func (s *shape) add(t reflect.Type, index []int) {
	for i := range t.NumField() {
		sf := t.Field(i)
		at := append(slices.Clone(index), i)
		name, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
		if sf.Anonymous && name == "" && sf.Type.Kind() == reflect.Struct {
			s.add(sf.Type, at)
			continue
		}
		if !sf.IsExported() || name == "" || name == "-" {
			continue
		}
		f := newField(sf, name)
		f.index = at
		s.byName[name] = len(s.fields)
		for _, a := range f.aliases {
			s.byName[a] = len(s.fields)
		}
		s.names = append(s.names, name)
		s.fields = append(s.fields, f)
	}
}

func newField(sf reflect.StructField, name string) field {
	f := field{
		name: name, typ: sf.Type,
		aliases: splitTag(sf.Tag.Get("alias")), flat: sf.Tag.Get("flat"), enum: splitTag(sf.Tag.Get("enum")),
		min: boundTag(sf, "min"), max: boundTag(sf, "max"), gt: boundTag(sf, "gt"),
		required: sf.Tag.Get("required") == "true", fraction: sf.Tag.Get("fraction") == "true",
		secret: sf.Tag.Get("secret") == "true", ref: sf.Tag.Get("ref"), doc: sf.Tag.Get("doc"),
	}
	if b := boundTag(sf, "len"); b != nil {
		f.lenMin = int(*b)
	}
	return f
}

func splitTag(tag string) []string {
	if tag == "" {
		return nil
	}
	return strings.Split(tag, ",")
}

func boundTag(sf reflect.StructField, key string) *float64 {
	tag := sf.Tag.Get(key)
	if tag == "" {
		return nil
	}
	v, err := strconv.ParseFloat(tag, 64)
	if err != nil {
		panic("BUG: tag " + key + " of field " + sf.Name + ": " + err.Error())
	}
	return &v
}

// find is the field of a name, whether the name is an alias, and nil when there is none.
func (s *shape) find(name string) (f *field, alias bool) {
	i, ok := s.byName[name]
	if !ok {
		return nil, false
	}
	return &s.fields[i], s.fields[i].name != name
}

// findFlat is the struct field whose flat prefix name starts with, and the name inside.
func (s *shape) findFlat(name string) (f *field, inner string) {
	for i := range s.fields {
		f := &s.fields[i]
		if f.flat == "" || !strings.HasPrefix(name, f.flat) {
			continue
		}
		t := f.typ
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		inner := name[len(f.flat):]
		if known, _ := shapeOf(t).find(inner); known != nil {
			return f, inner
		}
	}
	return nil, ""
}
