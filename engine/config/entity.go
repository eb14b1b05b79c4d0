package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// index finds the items of a kind.
type index struct {
	byID   map[string]*item
	byKey  map[string]*item
	unique []map[string]*item // one for each of kind.unique
}

// newIndex makes the index of a kind for about n items.
func newIndex(k *kind, n int) *index {
	ix := &index{byID: map[string]*item{}, byKey: map[string]*item{}, unique: make([]map[string]*item, len(k.unique))}
	if !k.leaf {
		ix.byID = make(map[string]*item, n)
	}
	if k.key != "" {
		ix.byKey = make(map[string]*item, n)
	}
	for i := range k.unique {
		if i == 0 && (k.key == "" || k.unique[0][0] != k.key) {
			ix.unique[i] = make(map[string]*item, n)
		} else {
			ix.unique[i] = map[string]*item{}
		}
	}
	return ix
}

// entities makes the document's entities out of the roots.
func (r *reader) entities() {
	r.variables()
	var layers []*layer
	for _, ro := range r.roots {
		for _, l := range r.split(ro) {
			r.agree(l)
			layers = append(layers, l)
			if l.overlay {
				r.names = map[string]*item{}
			}
		}
	}
	for _, l := range layers {
		r.flatten(l)
		l.sections, l.node = nil, nil
	}
	r.roots, r.names = nil, nil
	r.gateway()
	if r.doc.FormatVersion == "" {
		r.doc.FormatVersion = "3.0"
	}
	r.index = make(map[*kind]*index, len(kinds))
	r.written = map[*kind]int{}
	for _, it := range r.items {
		r.written[it.kind]++
	}
	for _, k := range kinds {
		r.index[k] = newIndex(k, r.written[k])
	}
	for _, it := range r.items {
		r.decode(it)
	}
	r.complete()
	for i := 0; i < len(r.items); i++ { // grows while undeclared entities are made up
		if r.items[i].kind.list != "plugins" {
			r.references(r.items[i])
		}
	}
	for _, it := range r.items {
		if it.kind.list == "plugins" { // may refer to what was made up
			r.references(it)
		}
	}
	for _, it := range r.items {
		if !it.gone {
			r.checkUnique(it)
		}
		r.check(it)
	}
	r.checkWhole()
	r.listeners()
	for i, it := range r.items {
		if !it.gone {
			it.kind.add(r.doc, it.entity)
		}
		r.items[i] = nil
	}
	r.items, r.index = nil, nil
}

// id is the first field of every entity.
func (it *item) id() *string {
	return reflect.ValueOf(it.entity).Elem().Field(0).Addr().Interface().(*string)
}

// meta is the last field of every entity.
func (it *item) meta() *Meta {
	v := reflect.ValueOf(it.entity).Elem()
	return v.Field(v.NumField() - 1).Addr().Interface().(*Meta)
}

// field is the value of a setting by its name in the file.
func (it *item) field(name string) reflect.Value {
	v := reflect.ValueOf(it.entity).Elem()
	f, _ := shapeOf(v.Type()).find(name)
	if f == nil {
		panic("BUG: " + it.kind.list + " has no field " + name)
	}
	return v.FieldByIndex(f.index)
}

// decode makes the entity of an item and gives it its ID.
func (r *reader) decode(it *item) {
	it.entity = it.kind.make()
	if d := it.layer.defaults.Get(it.kind.singular); it.kind.singular != "" && !d.IsNull() {
		r.fault(withoutRequired(Decode(d, it.entity)).below("_info.defaults." + it.kind.singular)...)
	}
	implied := ""
	if it.via != nil {
		implied = it.via.field
	}
	if faults := decode(it.node, reflect.ValueOf(it.entity).Elem(), implied); faults != nil {
		it.failed = faults.Err() != nil
		for i := range faults {
			if !faults[i].Warning {
				it.wrong = append(it.wrong, faults[i].Path)
			}
		}
		r.fault(faults.under(it.path())...)
	}
	if r.broken && it.node.hasBroken() {
		it.failed = true
		if n := it.node.Get(it.kind.key); n != nil && n.broken {
			r.lost(it.kind.list)
		}
	}
	m := it.meta()
	m.Pos = it.node.Pos()
	for _, t := range it.layer.selectTags {
		m.Tags = appendMissing(m.Tags, t)
	}
	r.prepare(it)
	r.identify(it)
}

// withoutRequired drops the faults defaults cannot have.
func withoutRequired(fs Faults) Faults {
	kept := fs[:0]
	for _, f := range fs {
		if f.Message != "required field missing" {
			kept = append(kept, f)
		}
	}
	return kept
}

// appendMissing never writes to the array of the list it is given.
func appendMissing(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(slices.Clip(list), s)
}

// identify gives the entity an ID, its own or a deterministic one, and indexes it.
func (r *reader) identify(it *item) {
	ix := r.index[it.kind]
	id := it.id()
	if *id != "" {
		if !isUUID(*id) {
			message := "expected a valid UUID"
			f := it.node.Get("id").fault(it.path()+": id", message)
			if r.options.Strict {
				r.fault(f)
			} else {
				f.Message += "; taken as it is"
				r.warn(f)
			}
		}
		if first := ix.byID[*id]; first != nil {
			r.fault(it.node.Get("id").fault(it.path(), fmt.Sprintf(
				"uniqueness violation: '%s' entity with primary key set to '%s' already declared %s", it.kind.list, *id, first.where(it))))
		}
	} else {
		*id = EntityID(it.kind.list, r.idKey(it))
		if it.kind.leaf {
			return // nothing refers to it, and its unique fields are checked
		}
		for n := 2; ix.byID[*id] != nil; n++ {
			*id = EntityID(it.kind.list, r.idKey(it)+":"+strconv.Itoa(n))
		}
	}
	ix.byID[*id] = it
	if it.kind.key != "" {
		if name := it.field(it.kind.key).String(); name != "" {
			if _, taken := ix.byKey[name]; !taken {
				ix.byKey[name] = it
			}
		}
	}
}

// idKey is what an ID is made of: the name, or the fields Kong makes its cache key of, or
// where it uses a random ID, whatever tells the entity apart.
func (r *reader) idKey(it *item) string {
	if len(it.kind.idFields) == 0 {
		if name := it.field(it.kind.key).String(); name != "" {
			return name
		}
		if c, ok := it.entity.(*Consumer); ok && c.CustomID != "" {
			return it.kind.list + ":*:" + c.CustomID
		}
		return it.kind.list + ":#:" + it.parentID() + ":" + it.node.digest()
	}
	var b strings.Builder
	b.WriteString(it.kind.list)
	b.WriteString(":*")
	for _, f := range it.kind.idFields {
		text := it.field(f).String()
		if it.via != nil && it.via.field == f {
			text = it.parentID()
			if it.bound {
				text = it.text(f)
			}
		}
		if f == "consumer_group" && text == "" {
			continue // Kong without consumer groups has no such part
		}
		b.WriteByte(':')
		b.WriteString(text)
	}
	return b.String()
}

func (it *item) parentID() string {
	if it.parent == nil || it.parent.entity == nil {
		return ""
	}
	return *it.parent.id()
}

// references replaces the names and IDs in reference fields by IDs.
func (r *reader) references(it *item) {
	v := reflect.ValueOf(it.entity).Elem()
	s := shapeOf(v.Type())
	for i := range s.fields {
		f := &s.fields[i]
		if f.ref == "" {
			continue
		}
		ref := v.FieldByIndex(f.index)
		text := ref.String()
		if it.via != nil && it.via.field == f.name {
			parent := it.parent
			if text != "" && r.lookup(f.ref, text) != parent {
				r.fault(it.node.Get(f.name).fault(it.path()+": "+f.name, "conflicts with the "+parent.kind.singular+" it is nested in"))
			}
			ref.SetString(*parent.id())
			it.gone = it.gone || parent.gone
			continue
		}
		if text == "" {
			continue
		}
		target := r.lookup(f.ref, text)
		if target == nil {
			target = r.dangling(it, f, text)
		}
		if target == nil {
			ref.SetString("")
			continue
		}
		if target.kind.list == f.ref {
			ref.SetString(*target.id())
		}
		it.gone = it.gone || target.gone
	}
}

// lookup finds an entity by its unique name or its ID.
func (r *reader) lookup(list, text string) *item {
	ix := r.index[kindByList[list]]
	if it := ix.byKey[text]; it != nil {
		return it
	}
	return ix.byID[text]
}

// dangling decides about a reference to something the document does not declare. It
// returns what the reference means after all, or nil with the fault or warning reported.
func (r *reader) dangling(it *item, f *field, text string) *item {
	at := it.node.Get(f.name)
	fault := at.fault(it.path()+": "+f.name, fmt.Sprintf("invalid reference '%s: %s' (no such entry in '%s')", f.name, text, f.ref))
	fault.Near = Nearest(text, r.known(f.ref))
	if r.unread || r.unreadList[f.ref] {
		it.failed = true // it may be declared in what could not be read
		return nil
	}
	if r.options.Strict {
		it.failed = true
		r.fault(fault)
		return nil
	}
	switch {
	case f.ref == "services" && it.kind.list == "routes" && slices.Contains(builtinServices, text):
		fault.Message, fault.Near = fmt.Sprintf("%q is not declared; the gateway answers itself", text), ""
		r.warn(fault)
		return r.declare("services", text, it, &Service{
			ID: EntityID("services", text), Name: text, Protocol: "http", Host: text, Port: 80, Builtin: true, Enabled: true,
			ConnectTimeout: 60000, WriteTimeout: 60000, ReadTimeout: 60000,
		})
	case f.ref == "consumers" && it.kind.list == "plugins" && r.lookup("consumer_groups", text) != nil:
		fault.Message, fault.Near = fmt.Sprintf("%q is a consumer group; taken as consumer_group", text), ""
		r.warn(fault)
		group := r.lookup("consumer_groups", text)
		it.entity.(*Plugin).Consumer = ""
		it.entity.(*Plugin).ConsumerGroup = *group.id()
		return group
	case f.ref == "consumers" && it.kind.list != "plugins":
		fault.Message = fmt.Sprintf("consumer %q is not declared; made with this credential", text)
		r.warn(fault)
		return r.declare("consumers", text, it, &Consumer{ID: EntityID("consumers", text), Username: text})
	case fault.Near == "" && (r.isFragment(it, f) || it.kind.list == "routes" && f.ref == "services"):
		r.leaveOut(it, f, fault)
		return nil
	}
	if fault.Near == "" && it.kind.list == "plugins" {
		fault.Message += r.declared(f.ref)
	}
	it.failed = true
	r.fault(fault)
	return nil
}

// isFragment reports whether a document reads like a part of a larger one that declares
// what the plugin is scoped to: it has none of that kind, or routes but no service for any
// of them. In the latter a plugin that says who may call is never left out.
func (r *reader) isFragment(it *item, f *field) bool {
	p, ok := it.entity.(*Plugin)
	if !ok {
		return false
	}
	return r.written[kindByList[f.ref]] == 0 ||
		f.ref == "routes" && r.written[kindByList["services"]] == 0 && !slices.Contains(neverPerConsumer, p.Name)
}

// leaveOut warns about a reference to an entity that is nowhere near declared, in a
// fragment: a plugin scoped to what does not exist can never apply, and a route to it
// answers 503 like any route without a service. A name that resembles a declared one is a
// typing error, and a fault.
func (r *reader) leaveOut(it *item, f *field, fault Fault) {
	if it.kind.list == "plugins" {
		fault.Message += "; the plugin can never apply and is left out"
		it.gone = true
	} else {
		fault.Message += "; the route answers 503 until it is declared"
	}
	fault.Message += r.declared(f.ref)
	r.warn(fault)
}

// declared lists some names of a list, for messages.
func (r *reader) declared(list string) string {
	const namesMax = 5
	known := r.known(list)
	if len(known) == 0 {
		return ""
	}
	names := strings.Join(known[:min(len(known), namesMax)], ", ")
	if len(known) > namesMax {
		names += ", ..."
	}
	return "; declared are: " + names
}

// known are the names of the entities of a list, as many as a suggestion needs.
func (r *reader) known(list string) []string {
	const knownMax = 10000
	k := kindByList[list]
	if k.key == "" {
		return nil
	}
	if names, ok := r.knownNames[list]; ok {
		return names
	}
	names := make([]string, 0, 16)
	for _, it := range r.items {
		if it.kind == k && len(names) < knownMax {
			if name := it.field(k.key).String(); name != "" {
				names = append(names, name)
			}
		}
	}
	if r.knownNames == nil {
		r.knownNames = map[string][]string{}
	}
	r.knownNames[list] = names
	return names
}

// declare adds an entity nobody wrote, at the position of what needs it.
func (r *reader) declare(list, name string, by *item, entity any) *item {
	k := kindByList[list]
	it := &item{kind: k, node: &Node{Kind: Map, file: by.node.file, Line: by.node.Line, Col: by.node.Col}, layer: by.layer, entity: entity}
	it.meta().Pos = it.node.Pos()
	ix := r.index[k]
	ix.byID[*it.id()] = it
	ix.byKey[name] = it
	r.items = append(r.items, it)
	return it
}

// checkUnique reports the second entity with the same unique fields.
func (r *reader) checkUnique(it *item) {
	ix := r.index[it.kind]
	for i, fields := range it.kind.unique {
		text := it.field(fields[0]).String()
		if len(fields) == 2 {
			text += "\x00" + it.field(fields[1]).String()
		}
		if it.field(fields[len(fields)-1]).String() == "" {
			continue
		}
		table := ix.unique[i]
		if len(fields) == 1 && fields[0] == it.kind.key {
			table = ix.byKey // filled when the entity got its ID
		}
		first := table[text]
		if first == nil {
			table[text] = it
		}
		if first == nil || first == it {
			continue
		}
		value := it.field(fields[len(fields)-1]).String()
		if f, _ := shapeOf(reflect.TypeOf(it.entity).Elem()).find(fields[len(fields)-1]); f.secret {
			value = redacted
		}
		r.fault(it.node.nearest(fields[len(fields)-1]).fault(it.path(), fmt.Sprintf(
			"uniqueness violation: '%s' entity with %s set to '%s' already declared %s",
			it.kind.list, fields[len(fields)-1], value, first.where(it))))
	}
}
