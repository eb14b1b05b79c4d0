package config

import (
	"bytes"
	"fmt"
	"hash"
	"slices"
	"strings"
)

// reader carries one Read. Sources become layers, layers become items (one an entity,
// nested ones lifted out), items become entities of the document.
type reader struct {
	options Options
	doc     *Document
	sum     hash.Hash // of everything the document was read from
	faults  Faults

	files []*file
	roots []root
	items []*item
	asked map[string]bool  // environment variables looked up
	names map[string]*item // identity of an entity → its item; only with overlays
	block *Node            // the merged gateway block

	index      map[*kind]*index
	knownNames map[string][]string // by list, for suggestions
	written    map[*kind]int       // how many entities the files declare
	unread     bool                // part of the document could not be read at all
	unreadList map[string]bool     // lists of which some entity could not be read
	broken     bool                // some reference to the environment could not be replaced
}

// root is one YAML document or JSON text of a source.
type root struct {
	node    *Node
	overlay bool
}

// layer is what is concatenated or merged as a whole: a root, or the part of one from one
// `_format_version` to the next.
type layer struct {
	node     *Node // the root, for positions
	overlay  bool
	version  string
	sections []section

	defaults   *Node // `_info.defaults`
	selectTags []string
	configs    *Node // `_plugin_configs`
}

// section is one top-level list in the order written.
type section struct {
	kind     *kind
	key      *Entry
	items    []*Node
	singular bool
	made     []*item
}

func (r *reader) fault(fs ...Fault) { r.faults = append(r.faults, fs...) }

func (r *reader) warn(f Fault) {
	f.Warning = true
	r.faults = append(r.faults, f)
}

func (r *reader) source(s Source, overlay bool) {
	f := &file{name: s.Name, data: s.Data, strict: r.options.Strict}
	r.files = append(r.files, f)
	_, _ = r.sum.Write(s.Data) // a hash does not fail
	var (
		nodes  []*Node
		faults Faults
	)
	if len(bytes.TrimSpace(s.Data)) > 0 {
		nodes, faults = f.parse(s.Format)
	}
	r.fault(faults...)
	if faults.Err() != nil {
		r.unread = true
	} else if r.isEmpty(nodes) {
		at := Fault{File: s.Name}
		if len(nodes) > 0 {
			at = nodes[0].fault("", "")
		}
		at.Message = "the document is empty: expected _format_version, gateway, or lists such as services, routes and plugins"
		r.fault(at)
		return
	}
	for _, n := range nodes {
		if n.IsNull() {
			continue
		}
		if n.Kind != Map {
			r.fault(n.fault("", "expected a map with keys such as services, routes and plugins"))
			continue
		}
		r.roots = append(r.roots, root{node: n, overlay: overlay})
	}
}

// isEmpty reports whether a source says nothing. It may be a file cut off while it was
// written, which must not wipe a running gateway. _format_version alone is a legal empty
// configuration (Kong), and in strict reading needed in any case.
func (r *reader) isEmpty(roots []*Node) bool {
	for _, n := range roots {
		if n.Kind != Map && !n.IsNull() {
			return false
		}
		for i := range n.Entries {
			e := &n.Entries[i]
			hasContent := !e.Value.IsNull() && (e.Value.Kind == Scalar || len(e.Value.Items)+len(e.Value.Entries) > 0)
			switch {
			case r.options.Strict || e.Key == "_format_version":
				return false
			case e.Key == "gateway" && !e.Value.IsNull():
				return false
			case hasContent && !slices.Contains(metaKeys, e.Key):
				return false
			}
		}
	}
	return true
}

// release drops what only reading needed. The text of small files stays, for faults that
// are found when the document is compiled.
func (r *reader) release() {
	for _, f := range r.files {
		if len(f.data) > dataBytesKept {
			f.data, f.lines = nil, nil
		}
	}
}

// variables replaces references to the environment in all roots, vaults first, since
// references may go through them.
func (r *reader) variables() {
	res := &resolver{
		env: r.options.Env, vaults: map[string]vault{"env": {kind: "env"}},
		used: func(value string) { _, _ = fmt.Fprintf(r.sum, "%d:%s", len(value), value) },
	}
	for _, ro := range r.roots {
		for _, e := range ro.node.Entries {
			if e.Key != "vaults" {
				continue
			}
			r.fault(res.resolve(e.Value).below(e.Key)...)
			for _, n := range e.Value.Items {
				res.addVault(n)
			}
		}
	}
	for _, ro := range r.roots {
		r.fault(res.resolve(ro.node)...)
	}
	r.broken = res.failed
}

func (r *resolver) addVault(n *Node) {
	name, prefix := n.Get("name"), n.Get("prefix")
	if name == nil || prefix == nil || prefix.Value == "" {
		return // the fault is reported with the entity
	}
	v := vault{kind: name.Value}
	if p := n.Lookup("config.prefix"); p != nil {
		v.prefix = p.Value
	}
	r.vaults[prefix.Value] = v
}

// split makes the layers of a root: one, or in friendly reading one for each
// `_format_version`, each further one merged over what stands before it.
func (r *reader) split(ro root) []*layer {
	l := &layer{node: ro.node, overlay: ro.overlay}
	layers := []*layer{l}
	versions := 0
	first := map[string]*Entry{}
	for i := range ro.node.Entries {
		e := &ro.node.Entries[i]
		if e.Key == "_format_version" {
			versions++
			if versions > 1 && !r.options.Strict {
				r.warn(ro.node.keyFault(e, e.Key, "starts another file: what follows is merged over what stands before"))
				l = &layer{node: ro.node, overlay: true}
				layers = append(layers, l)
				first = map[string]*Entry{}
			}
		}
		r.topLevel(l, e, first)
	}
	return layers
}

// topLevel takes one key of the document.
func (r *reader) topLevel(l *layer, e *Entry, first map[string]*Entry) {
	k := kindByList[e.Key]
	singular := false
	if k == nil && !r.options.Strict {
		k = kindBySingular[e.Key]
		singular = k != nil
	}
	if e.Key == "consumer_group_plugins" {
		k = kindByList["plugins"]
	}
	earlier := first[e.Key]
	first[e.Key] = e
	r.fault(duplicates(e.Value).below(e.Key)...)
	if k == nil {
		if earlier != nil && slices.Contains(metaKeys, e.Key) {
			r.fault(l.node.keyFault(e, e.Key, fmt.Sprintf("duplicate key %q, first on line %d", e.Key, earlier.Line)))
			return
		}
		r.meta(l, e)
		return
	}
	switch {
	case singular:
		r.warn(l.node.keyFault(e, e.Key, fmt.Sprintf("read as an entry of %s", k.list)))
	case earlier != nil && r.options.Strict: // Kong: the last of equal keys wins
		r.warn(l.node.keyFault(e, e.Key, fmt.Sprintf("replaces the list of the same name on line %d", earlier.Line)))
		l.sections = slices.DeleteFunc(l.sections, func(s section) bool { return s.key == earlier })
	case earlier != nil:
		r.warn(l.node.keyFault(e, e.Key, fmt.Sprintf("repeated key: added to the list on line %d", earlier.Line)))
	}
	l.sections = append(l.sections, section{kind: k, key: e, items: r.listOf(k, e, e.Key), singular: singular})
}

// listOf are the elements of a list of entities; one entity alone is a list of one in
// friendly reading. A map without keys is an empty list, as Lua writes it.
func (r *reader) listOf(k *kind, e *Entry, path string) []*Node {
	n := e.Value
	switch {
	case n.IsNull():
		return nil
	case n.Kind == List:
		return n.Items
	case n.Kind == Map && len(n.Entries) == 0:
		return nil
	case n.Kind == Map && !r.options.Strict && (kindBySingular[e.Key] != nil ||
		slices.ContainsFunc(n.Entries, func(in Entry) bool { return k.knows(in.Key) })):
		if kindBySingular[e.Key] == nil {
			r.warn(n.fault(path, "expected an array; read as a list of one"))
		}
		return []*Node{n}
	default:
		r.lost(k.list)
		r.fault(n.notAList(e, k, path))
		return nil
	}
}

// lost keeps references to entities that could not be read from being faults as well.
func (r *reader) lost(list string) {
	if r.unreadList == nil {
		r.unreadList = map[string]bool{}
	}
	r.unreadList[list] = true
}

var metaKeys = []string{
	"_format_version", "_transform", "_comment", "_ignore", "_info", "_workspace", "_konnect", "_plugin_configs", "gateway",
}

// meta takes the keys that are not lists of entities.
func (r *reader) meta(l *layer, e *Entry) {
	v := e.Value
	switch e.Key {
	case "_format_version":
		l.version = r.version(v)
	case "_transform":
		b, ok := v.Bool()
		if !ok {
			r.fault(v.fault(e.Key, "expected a boolean"))
		}
		r.doc.Transform = b
	case "_comment":
		r.doc.Comment = r.metaText(e)
	case "_workspace":
		r.doc.Workspace = r.metaText(e)
	case "_ignore":
	case "_konnect":
		r.warn(l.node.keyFault(e, e.Key, "has no meaning here"))
	case "_info":
		r.info(l, e)
	case "_plugin_configs":
		if v.Kind != Map {
			r.fault(v.fault(e.Key, "expected a map"))
			return
		}
		l.configs = v
	case "gateway":
		r.block = mergeNodes(r.block, v)
	default:
		f := l.node.keyFault(e, e.Key, "unknown field")
		known := slices.Clone(metaKeys)
		for _, k := range kinds {
			known = append(known, k.list)
		}
		f.Near = Nearest(e.Key, known)
		if k := kindBySingular[e.Key]; k != nil {
			f.Near = k.list
		}
		r.fault(f)
	}
}

func (r *reader) metaText(e *Entry) string {
	if e.Value.Kind != Scalar || e.Value.Type != String {
		r.fault(e.Value.fault(e.Key, "expected a string"))
		return ""
	}
	return e.Value.Value
}

func (r *reader) version(v *Node) string {
	if v.broken {
		return "3.0" // reported
	}
	if v.Kind != Scalar || v.Type != String && (r.options.Strict || v.Type != Float) {
		r.fault(v.fault("_format_version", "expected a string"))
		return "3.0"
	}
	if v.Type == Float {
		r.warn(v.fault("_format_version", `expected a string; write "`+v.Value+`" in quotes`))
	}
	if !slices.Contains([]string{"1.1", "2.1", "3.0"}, v.Value) {
		r.fault(v.fault("_format_version", "expected one of: 1.1, 2.1, 3.0"))
		return "3.0"
	}
	return v.Value
}

// info takes decK's `_info`: select_tags and defaults.
func (r *reader) info(l *layer, e *Entry) {
	if e.Value.Kind != Map {
		r.fault(e.Value.fault(e.Key, "expected a record"))
		return
	}
	for i := range e.Value.Entries {
		in := &e.Value.Entries[i]
		path := joinPath(e.Key, in.Key)
		switch in.Key {
		case "select_tags":
			var tags struct {
				Tags []string `json:"select_tags"`
			}
			r.fault(Decode(&Node{Kind: Map, file: in.Value.file, Entries: []Entry{*in}}, &tags).below(e.Key)...)
			l.selectTags = tags.Tags
			for _, t := range tags.Tags {
				if !slices.Contains(r.doc.SelectTags, t) {
					r.doc.SelectTags = append(r.doc.SelectTags, t)
				}
			}
		case "defaults":
			if in.Value.Kind != Map {
				r.fault(in.Value.fault(path, "expected a record"))
				continue
			}
			l.defaults = in.Value
			r.knownDefaults(in.Value, path)
		case "default_lookup_tags":
			r.warn(e.Value.keyFault(in, path, "has no meaning here: every entity is in the files"))
		case "_comment", "_ignore":
		default:
			f := e.Value.keyFault(in, path, "unknown field")
			f.Near = Nearest(in.Key, []string{"select_tags", "defaults", "default_lookup_tags"})
			r.fault(f)
		}
	}
}

func (r *reader) knownDefaults(n *Node, path string) {
	for i := range n.Entries {
		e := &n.Entries[i]
		if kindBySingular[e.Key] == nil {
			f := n.keyFault(e, joinPath(path, e.Key), "unknown field")
			f.Near = Nearest(e.Key, singulars())
			r.fault(f)
		}
	}
}

func singulars() []string {
	names := make([]string, 0, len(kinds))
	for _, k := range kinds {
		if k.singular != "" {
			names = append(names, k.singular)
		}
	}
	return names
}

// versions makes sure all layers are of one format.
func (r *reader) agree(l *layer) {
	switch {
	case l.version == "" && r.doc.FormatVersion == "":
		if r.options.Strict {
			r.fault(Fault{File: l.node.Pos().File, Path: "_format_version", Message: "required field missing"})
		} else {
			r.warn(Fault{File: l.node.Pos().File, Path: "_format_version", Message: `missing; read as "3.0"`})
		}
		r.doc.FormatVersion = "3.0"
	case l.version == "" || l.version == r.doc.FormatVersion:
	case r.doc.FormatVersion == "":
		r.doc.FormatVersion = l.version
	default:
		n := l.node.entryNode("_format_version", l.version)
		r.fault(n.fault("_format_version", fmt.Sprintf("%s does not agree with %s before", l.version, r.doc.FormatVersion)))
	}
	if l.version == "" {
		l.version = r.doc.FormatVersion
	}
}

// entryNode is the value of the last entry with the key and text.
func (n *Node) entryNode(key, text string) *Node {
	for _, e := range slices.Backward(n.Entries) {
		if e.Key == key && e.Value.Value == text {
			return e.Value
		}
	}
	return n
}

// mergeNodes puts over onto base: maps key by key, anything else replaced. A null takes
// the key away, so that the default holds again. Both are used up.
func mergeNodes(base, over *Node) *Node {
	if base == nil || base.Kind != Map || over.Kind != Map {
		return over
	}
	for _, e := range over.Entries {
		at := slices.IndexFunc(base.Entries, func(b Entry) bool { return b.Key == e.Key })
		switch {
		case e.Value.IsNull() && at >= 0:
			base.Entries = slices.Delete(base.Entries, at, at+1)
		case at >= 0:
			// Key and value stay those of one file: messages take the name from the value.
			if was := base.Entries[at].Value; was != nil && was.Kind == Map && e.Value.Kind == Map {
				mergeNodes(was, e.Value)
			} else {
				base.Entries[at] = e
			}
		default:
			base.Entries = append(base.Entries, e)
		}
	}
	return base
}

// isMeta reports whether a key is one every entity may carry without meaning.
func isMeta(key string) bool {
	return strings.HasPrefix(key, "_") && (key == "_comment" || key == "_ignore")
}
