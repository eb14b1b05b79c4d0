package config

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// item is an entity on its way from the node it was written as to the document.
type item struct {
	kind   *kind
	node   *Node
	layer  *layer
	parent *item    // the entity it is nested in or bound to
	via    *child   // how: the field that refers to parent
	bound  bool     // bound by standing near, not nested
	failed bool     // decoding found faults
	wrong  []string // paths of fields decoding found faults in
	gone   bool     // leads nowhere and is left out, with a warning
	index  int32    // in the list it was written in
	entity any
}

// path is how messages name the item: `routes[2] "search": plugins[0] "cors"`.
func (it *item) path() string {
	key := it.kind.list
	prefix := ""
	if it.parent != nil && !it.bound {
		prefix = it.parent.path() + ": "
		key = it.via.key
	}
	path := prefix + key + "[" + strconv.Itoa(int(it.index)) + "]"
	for _, name := range []string{"name", "username", "custom_id", "target", "prefix"} {
		if n := it.node.Get(name); n != nil && n.Kind == Scalar && n.Value != "" {
			return path + " " + strconv.Quote(n.Value)
		}
	}
	return path
}

// where is the line of an item as seen from another: with the file, if that differs.
func (it *item) where(from *item) string {
	p := it.node.Pos()
	if p.File == from.node.Pos().File {
		return "on line " + strconv.Itoa(p.Line)
	}
	return "at " + p.File + ":" + strconv.Itoa(p.Line)
}

// flatten makes the items of a layer.
func (r *reader) flatten(l *layer) {
	written := map[*kind]int{} // repeated lists count on
	for i := range l.sections {
		s := &l.sections[i]
		for _, n := range s.items {
			if it := r.item(s.kind, n, &item{layer: l, index: int32(written[s.kind])}); it != nil {
				s.made = append(s.made, it)
			}
			written[s.kind]++
		}
		s.items = nil
	}
	if !r.options.Strict {
		r.bind(l)
	}
}

// item makes the item of a node, and after it those nested in it. It is nil when the node
// is not an entity. The given item holds where the node stands.
func (r *reader) item(k *kind, n *Node, it *item) *item {
	it.kind, it.node = k, n
	if n.Kind == Scalar && n.Type == String {
		it.node = wrap(k, it.via, n)
	}
	if it.node.Kind != Map {
		f := n.fault(it.path(), "expected a record")
		f.Got = n.described(false)
		r.fault(f)
		r.lost(k.list)
		return nil
	}
	if it.via != nil && k.list == "consumer_group_consumers" {
		it.node = membership(it.node, it.via)
	}
	nested := it.take()
	r.adapt(it)
	l := it.layer
	var base *item
	if l.overlay {
		base = r.base(it)
	}
	if base != nil {
		base.node = mergeNodes(base.node, it.node)
		it = base
	} else {
		r.items = append(r.items, it)
	}
	r.remember(it)
	for i := range nested {
		r.nested(it, &nested[i], l)
	}
	return it
}

func (r *reader) nested(parent *item, e *Entry, l *layer) {
	c, _ := parent.kind.child(e.Key)
	if at := slices.IndexFunc(parent.kind.children, func(k child) bool { return k.key == e.Key }); at >= 0 {
		via := &parent.kind.children[at]
		for i, n := range r.listOf(kindByList[c.list], e, parent.path()+": "+e.Key) {
			r.item(kindByList[c.list], n, &item{layer: l, parent: parent, via: via, index: int32(i)})
		}
	}
}

// wrap is the record a plain text stands for, where Kong or decK allow a text.
func wrap(k *kind, via *child, n *Node) *Node {
	if via == nil {
		return n
	}
	key := ""
	switch {
	case k.list == "snis":
		key = "name"
	case via.key == "groups":
		key = "name"
	case via.key == "consumers":
		key = "username"
	default:
		return n
	}
	return &Node{Kind: Map, file: n.file, Line: n.Line, Col: n.Col, Entries: []Entry{{Key: key, Line: n.Line, Col: n.Col, Value: n}}}
}

// membership turns decK's `groups: [{name}]` and `consumers: [{username}]` into an entry
// of consumer_group_consumers.
func membership(n *Node, via *child) *Node {
	field := "consumer_group"
	if via.field == "consumer_group" {
		field = "consumer"
	}
	ref := n.referee()
	if ref == nil {
		return n // already an entry, or at fault
	}
	m := &Node{Kind: Map, file: n.file, Line: n.Line, Col: n.Col, Entries: []Entry{{Key: field, Line: ref.Line, Col: ref.Col, Value: ref}}}
	for _, e := range n.Entries {
		if e.Value != ref && e.Key != "tags" && e.Key != "id" && e.Key != "name" && e.Key != "username" && e.Key != "custom_id" {
			m.Entries = append(m.Entries, e)
		}
	}
	return m
}

// take removes the nested lists and the keys without meaning from the item's node and
// returns the lists.
func (it *item) take() []Entry {
	var nested []Entry
	kept := it.node.Entries[:0]
	for _, e := range it.node.Entries {
		_, isChild := it.kind.child(e.Key)
		switch {
		case isMeta(e.Key):
		case isChild && it.kind.list != "consumer_group_consumers":
			nested = append(nested, e)
		default:
			kept = append(kept, e)
		}
	}
	it.node.Entries = kept
	return nested
}

// identities tell the entities of one kind apart when overlays are merged, the surest
// first: the ID, the unique name, the other unique fields, a plugin's name and scope.
func (it *item) identities() []string {
	list := it.kind.list
	var ids []string
	if id := it.text("id"); id != "" {
		ids = append(ids, list+"#"+id)
	}
	for _, fields := range it.kind.unique {
		parts := make([]string, 0, len(fields))
		for _, f := range fields {
			parts = append(parts, it.text(f))
		}
		if parts[len(parts)-1] != "" {
			ids = append(ids, list+":"+strings.Join(fields, ",")+":"+strings.Join(parts, "\x00"))
		}
	}
	if list == "plugins" {
		ids = append(ids, "plugins:"+strings.Join([]string{
			it.text("name"), it.text("service"), it.text("route"), it.text("consumer"), it.text("consumer_group"), it.text("instance_name"),
		}, "\x00"))
	}
	return ids
}

// text is what the item says in a field, as text; of a reference the name referred to.
func (it *item) text(field string) string {
	if field == "" {
		return ""
	}
	if it.parent != nil && it.via.field == field {
		if name := it.parent.text(it.parent.kind.key); name != "" {
			return name
		}
		return it.parent.text("id")
	}
	n := it.node.Get(field)
	if n == nil {
		return ""
	}
	if n.Kind == Map {
		if n = n.referee(); n == nil {
			return ""
		}
	}
	return n.Value
}

// remember makes the item known to overlays.
func (r *reader) remember(it *item) {
	if r.names == nil {
		return
	}
	for _, id := range it.identities() {
		r.names[id] = it
	}
}

// forget takes back what remember did.
func (r *reader) forget(it *item) {
	if r.names == nil {
		return
	}
	for _, id := range it.identities() {
		if r.names[id] == it {
			delete(r.names, id)
		}
	}
}

// base is what an overlay's item is merged over, or nil.
func (r *reader) base(it *item) *item {
	for _, id := range it.identities() {
		if base := r.names[id]; base != nil {
			return base
		}
	}
	return nil
}

// digest stands for the content of a node in IDs of entities without a name.
func (n *Node) digest() string {
	sum := sha256.Sum256(n.AppendJSON(nil))
	return fmt.Sprintf("%x", sum[:16])
}
