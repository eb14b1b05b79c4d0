package config

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// redacted stands for a secret in dumps and messages.
const redacted = "**redacted**"

// DumpOptions say what a dump shows. The zero value leaves out defaults and IDs that
// follow from names, and redacts secrets.
type DumpOptions struct {
	Format   string // "yaml" (also "") or "json"
	Defaults bool   // write every field
	IDs      bool   // write every ID
	Secrets  bool   // write secrets, as a dump that is to be read back needs
	Catalog  Catalog
}

// Dump writes the document in its canonical form: one list a kind, references by name,
// fields in the order of this package. Equal documents give equal bytes. With Secrets, the
// output read back gives an equal Document.
func (d *Document) Dump(o DumpOptions) ([]byte, error) {
	w := newDumper(d, o)
	root := w.document()
	switch o.Format {
	case "", "yaml":
		return root.AppendYAML(nil), nil
	case "json":
		return append(root.AppendJSON(nil), '\n'), nil
	default:
		return nil, fmt.Errorf("unknown format %q; expected one of: yaml, json", o.Format)
	}
}

// Equal reports whether two documents mean the same. Positions, warnings, hashes and what
// the file said about itself do not matter.
func (d *Document) Equal(o *Document) bool {
	full := DumpOptions{Format: "json", Defaults: true, IDs: true, Secrets: true}
	a, err1 := d.Dump(full)
	b, err2 := o.Dump(full)
	return err1 == nil && err2 == nil && bytes.Equal(a, b)
}

// marshaler is the way back of an Unmarshaler.
type marshaler interface{ MarshalNode() *Node }

type dumper struct {
	options DumpOptions
	doc     *Document
	names   map[string]map[string]string // list → ID → name
}

func newDumper(d *Document, o DumpOptions) *dumper {
	w := &dumper{options: o, doc: d, names: map[string]map[string]string{}}
	for _, k := range kinds {
		if k.key == "" || k.list == "oauth2_credentials" || k.list == "keys" {
			continue
		}
		t := map[string]string{}
		k.each(d, func(e any) {
			it := item{kind: k, entity: e}
			if name := it.field(k.key).String(); name != "" {
				t[*it.id()] = name
			}
		})
		w.names[k.list] = t
	}
	return w
}

func (w *dumper) document() *Node {
	root := &Node{Kind: Map}
	root.set("_format_version", stringNode("3.0"))
	root.set("_transform", &Node{Type: Bool, Value: "false"})
	if w.doc.Comment != "" {
		root.set("_comment", stringNode(w.doc.Comment))
	}
	if w.doc.Workspace != "" {
		root.set("_workspace", stringNode(w.doc.Workspace))
	}
	for _, k := range kinds {
		list := &Node{Kind: List}
		k.each(w.doc, func(e any) {
			if s, ok := e.(*Service); ok && s.Builtin {
				return
			}
			n := w.entity(k, e)
			if u, ok := e.(*Upstream); ok && u.HashOn == "none" && u.Algorithm == "consistent-hashing" {
				n.remove("hash_on") // written, none would make the algorithm round-robin
			}
			list.Items = append(list.Items, n)
		})
		if len(list.Items) > 0 {
			root.set(k.list, list)
		}
	}
	g := w.record(reflect.ValueOf(w.doc.Gateway), reflect.ValueOf(w.gatewayDefaults()))
	if len(g.Entries) > 0 {
		root.set("gateway", g)
	}
	return root
}

func (w *dumper) gatewayDefaults() Gateway {
	g := NewGateway()
	r := reader{doc: &Document{Gateway: g}}
	for range w.doc.Certificates {
		r.items = append(r.items, &item{entity: &Certificate{}})
	}
	r.doc.Gateway.SSLCert = w.doc.Gateway.SSLCert
	r.listeners()
	g.ProxyListen = r.doc.Gateway.ProxyListen
	return g
}

// EntityNode is one entity of the document as it is dumped: a pointer to a Service, a
// Route and so on. Admin API answers are made of it.
func (d *Document) EntityNode(entity any, o DumpOptions) *Node {
	for _, k := range kinds {
		if reflect.TypeOf(k.make()) == reflect.TypeOf(entity) {
			return newDumper(d, o).entity(k, entity)
		}
	}
	panic(fmt.Sprintf("BUG: EntityNode of %T", entity))
}

func (w *dumper) entity(k *kind, e any) *Node {
	n := w.record(reflect.ValueOf(e).Elem(), reflect.ValueOf(k.make()).Elem())
	if r, ok := e.(*Route); ok && !r.StripPath && slices.ContainsFunc(r.Protocols, isGRPC) && !w.options.Defaults {
		n.remove("strip_path") // its default there
	}
	if !w.options.IDs && k.key != "" && len(k.idFields) == 0 {
		it := item{kind: k, entity: e}
		if name := it.field(k.key).String(); name != "" && *it.id() == EntityID(k.list, name) {
			n.remove("id")
		}
	}
	if p, ok := e.(*Plugin); ok && !w.options.Secrets {
		w.redactConfig(n, p)
	}
	return n
}

func (n *Node) remove(key string) {
	n.Entries = slices.DeleteFunc(n.Entries, func(e Entry) bool { return e.Key == key })
}

// record writes the fields of a struct that differ from its defaults.
func (w *dumper) record(v, defaults reflect.Value) *Node {
	n := &Node{Kind: Map}
	s := shapeOf(v.Type())
	for i := range s.fields {
		f := &s.fields[i]
		fv, dv := v.FieldByIndex(f.index), defaults.FieldByIndex(f.index)
		if f.name == "created_at" || f.name == "updated_at" || f.name == "id" || f.name == "tags" {
			if fv.IsZero() {
				continue
			}
		} else if !w.options.Defaults && !f.required && same(fv, dv) {
			continue
		}
		if value := w.value(fv, dv, f); value != nil {
			n.set(f.name, value)
		}
	}
	return n
}

// same reports whether a field has its default, nil and empty lists being different only
// where the default is not empty.
func same(v, d reflect.Value) bool {
	if (v.Kind() == reflect.Slice || v.Kind() == reflect.Map) && v.Len() == 0 && d.Len() == 0 && v.Type() != reflect.TypeFor[Listeners]() {
		return true
	}
	if n, ok := reflect.TypeAssert[*Node](v); ok {
		return n.Equal(d.Interface().(*Node))
	}
	return reflect.DeepEqual(v.Interface(), d.Interface())
}

// value is the node of a field; nil leaves the field out.
func (w *dumper) value(v, defaults reflect.Value, f *field) *Node {
	if f.secret && !w.options.Secrets && !v.IsZero() {
		return stringNode(redacted)
	}
	if f.ref != "" {
		return w.reference(f.ref, v.String())
	}
	if m, ok := reflect.TypeAssert[marshaler](v); ok {
		return m.MarshalNode()
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return w.null()
		}
		if n, ok := reflect.TypeAssert[*Node](v); ok {
			return n
		}
		elem := v.Elem()
		d := reflect.Zero(elem.Type())
		if !defaults.IsNil() {
			d = defaults.Elem()
		}
		return w.value(elem, d, f)
	case reflect.Struct:
		return w.record(v, defaults)
	case reflect.Slice:
		n := &Node{Kind: List}
		element := elementDefault(v.Type().Elem())
		for i := range v.Len() {
			n.Items = append(n.Items, w.value(v.Index(i), element, f))
		}
		return n
	case reflect.Map:
		n := &Node{Kind: Map}
		element := elementDefault(v.Type().Elem())
		for _, key := range slices.Sorted(maps.Keys(textKeys(v))) {
			n.set(key, w.value(v.MapIndex(reflect.ValueOf(key)), element, f))
		}
		return n
	default:
		return w.scalar(v, defaults)
	}
}

// elementDefault is what an element of a list or map is before it is decoded. A text has
// no default there: null is no element.
func elementDefault(t reflect.Type) reflect.Value {
	if t.Kind() == reflect.String {
		return reflect.Value{}
	}
	p := reflect.New(t)
	setDefaults(p)
	return p.Elem()
}

func textKeys(v reflect.Value) map[string]bool {
	keys := make(map[string]bool, v.Len())
	for _, k := range v.MapKeys() {
		keys[k.String()] = true
	}
	return keys
}

func (w *dumper) null() *Node {
	if w.options.Defaults {
		return &Node{}
	}
	return nil
}

// scalar writes an empty text as null where that is the default, for they mean the same.
func (w *dumper) scalar(v, defaults reflect.Value) *Node {
	switch v.Kind() {
	case reflect.String:
		if v.Len() == 0 && defaults.IsValid() && defaults.Kind() == reflect.String && defaults.Len() == 0 {
			return &Node{}
		}
		return stringNode(v.String())
	case reflect.Bool:
		return &Node{Type: Bool, Value: fmt.Sprint(v.Bool())}
	case reflect.Float32, reflect.Float64:
		return &Node{Type: Float, Value: string(appendFloat(nil, v.Float()))}
	default:
		return &Node{Type: Int, Value: fmt.Sprint(v.Interface())}
	}
}

// reference writes the name of what an ID refers to, else the ID.
func (w *dumper) reference(list, id string) *Node {
	if id == "" {
		return w.null()
	}
	if name := w.names[list][id]; name != "" && !w.options.IDs {
		return stringNode(name)
	}
	return stringNode(id)
}

// redactConfig hides the secrets of a plugin's settings: those its struct marks, where
// the catalog knows it, else those whose names say what they are, and whatever came out
// of a vault.
func (w *dumper) redactConfig(n *Node, p *Plugin) {
	e := n.entry("config")
	if e == nil || e.Value.IsNull() {
		return
	}
	e.Value = e.Value.Clone()
	hide := hider{}
	if c, ok := w.options.Catalog.(Defaults); ok {
		if settings := c.Defaults(p.Name); settings != nil {
			hide.typ = reflect.TypeOf(settings)
		}
	}
	hide.node(e.Value, hide.typ, false)
}

type hider struct{ typ reflect.Type }

func (h hider) node(n *Node, t reflect.Type, secret bool) {
	for t != nil && t.Kind() == reflect.Pointer && t != nodeType {
		t = t.Elem()
	}
	switch n.Kind {
	case List:
		if t != nil && t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		for _, item := range n.Items {
			h.node(item, t, secret)
		}
	case Map:
		for i := range n.Entries {
			e := &n.Entries[i]
			inner, hidden := h.member(t, e.Key)
			h.node(e.Value, inner, secret || hidden)
		}
	default:
		if (secret || n.secret) && n.Type != Null && n.Type != Bool {
			n.Type, n.Value = String, redacted
		}
	}
}

// member is the type of a key of a map or struct, and whether what it holds is secret.
func (h hider) member(t reflect.Type, key string) (reflect.Type, bool) {
	switch {
	case t != nil && t.Kind() == reflect.Struct:
		if f, _ := shapeOf(t).find(key); f != nil {
			return f.typ, f.secret
		}
	case t != nil && t.Kind() == reflect.Map:
		return t.Elem(), soundsSecret(key)
	}
	return nil, soundsSecret(key)
}

var secretWords = []string{"password", "secret", "private_key", "token", "provision_key", "authorization", "api_key", "apikey", "dsn", "credential"}

func soundsSecret(key string) bool {
	key = strings.ToLower(strings.ReplaceAll(key, "-", "_"))
	return slices.ContainsFunc(secretWords, func(w string) bool { return strings.Contains(key, w) }) &&
		!strings.HasPrefix(key, "hide_") && !strings.HasSuffix(key, "_name") && !strings.HasSuffix(key, "_ttl") && !strings.HasSuffix(key, "_expiration")
}
