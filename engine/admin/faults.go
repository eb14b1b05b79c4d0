package admin

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-gateway/sluice/engine/config"
)

// codeInvalidDocument is Kong's number for a document that cannot be used.
const codeInvalidDocument = 14

// invalidDocument is the body of a 400 for a document. Kong: all members but
// Faults, which adds where each fault stands.
type invalidDocument struct {
	Code      int         `json:"code"`
	Name      string      `json:"name"`
	Message   string      `json:"message"`
	Fields    *faultTree  `json:"fields"`
	Flattened []flatEntry `json:"flattened_errors,omitempty"`
	Faults    []faultAt   `json:"faults"`
}

// faultAt is one fault with its place.
type faultAt struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Col     int    `json:"col,omitempty"`
	Path    string `json:"path,omitempty"`
	Message string `json:"message"`
	Near    string `json:"did_you_mean,omitempty"`
}

// describe makes the body for err. root is the posted document, for the
// entities of flattened errors; nil leaves errors as a tree.
func describe(err error, root *config.Node) *invalidDocument {
	b := &invalidDocument{Code: codeInvalidDocument, Name: "invalid declarative configuration", Fields: &faultTree{}}
	faults, _ := FaultsOf(err).Split() // Kong: an answer tells of errors only
	whole := &faultTree{}
	flat := map[string]int{} // path of an entity → place in b.Flattened
	for i := range faults {
		f := &faults[i]
		b.Faults = append(b.Faults, faultAt{f.File, f.Line, f.Col, f.Path, f.Message, f.Near})
		steps := parsePath(f.Path)
		whole.add(steps, f.Message)
		if root == nil || !b.flatten(flat, root, steps, f.Message) {
			b.Fields.add(steps, f.Message)
		}
	}
	b.Message = "declarative config is invalid: " + string(whole.appendLua(nil))
	return b
}

// FaultsOf returns every fault in err, which may join several errors. What is no
// config.Fault, such as what a document is refused for when it is compiled,
// becomes one without a place for each of its lines.
func FaultsOf(err error) config.Faults {
	if faults, ok := errors.AsType[config.Faults](err); ok && !isJoin(err) {
		return faults
	}
	var faults config.Faults
	if isJoin(err) {
		for _, part := range err.(interface{ Unwrap() []error }).Unwrap() {
			faults = append(faults, FaultsOf(part)...)
		}
		return faults
	}
	for line := range strings.Lines(err.Error()) {
		faults = append(faults, config.Fault{Message: strings.TrimSuffix(line, "\n")})
	}
	return faults
}

// isJoin reports whether err is several errors rather than several faults.
func isJoin(err error) bool {
	_, faults := err.(config.Faults)
	_, joined := err.(interface{ Unwrap() []error })
	return joined && !faults
}

// step is one step of a fault's path: a key, or an index with the name of the
// entity there.
type step struct {
	key   string
	index int // -1 for a key
	name  string
}

// parsePath reads a path such as `routes[2] "search": plugins[0]: config.max_age`.
func parsePath(path string) []step {
	var steps []step
	for path != "" {
		switch path[0] {
		case '.', ':', ' ':
			path = path[1:]
			continue
		case '"':
			quoted, err := strconv.QuotedPrefix(path)
			if err != nil {
				return append(steps, step{key: path, index: -1})
			}
			if n := len(steps); n > 0 {
				steps[n-1].name, _ = strconv.Unquote(quoted) // it has just been found to be quoted
			}
			path = path[len(quoted):]
			continue
		case '[':
			end := strings.IndexByte(path, ']')
			if i, err := strconv.Atoi(path[1:max(end, 1)]); err == nil && i >= 0 {
				steps = append(steps, step{index: i})
				path = path[end+1:]
				continue
			}
		}
		end := strings.IndexAny(path[1:], `.[:" `) + 1
		if end == 0 {
			end = len(path)
		}
		steps = append(steps, step{key: path[:end], index: -1})
		path = path[end:]
	}
	return steps
}

// faultTree is what is wrong, nested like the document. The zero value is empty.
type faultTree struct {
	messages []string
	keys     map[string]*faultTree
	items    map[int]*faultTree
}

func (t *faultTree) add(steps []step, message string) {
	if len(steps) == 0 {
		t.messages = append(t.messages, message)
		return
	}
	s := steps[0]
	if s.index >= 0 {
		if t.items == nil {
			t.items = map[int]*faultTree{}
		}
		if t.items[s.index] == nil {
			t.items[s.index] = &faultTree{}
		}
		t.items[s.index].add(steps[1:], message)
		return
	}
	if t.keys == nil {
		t.keys = map[string]*faultTree{}
	}
	if t.keys[s.key] == nil {
		t.keys[s.key] = &faultTree{}
	}
	t.keys[s.key].add(steps[1:], message)
}

// entityKey holds what is wrong with an entity as a whole. Kong: the same.
const entityKey = "@entity"

// MarshalJSON writes a leaf as a text, a list as an array with null for entries
// without fault, anything else as an object.
func (t *faultTree) MarshalJSON() ([]byte, error) {
	switch {
	case len(t.keys) == 0 && len(t.items) == 0 && len(t.messages) == 1:
		return json.Marshal(t.messages[0])
	case len(t.keys) == 0 && len(t.items) == 0 && len(t.messages) > 1:
		return json.Marshal(t.messages)
	case len(t.keys) == 0 && len(t.items) > 0 && len(t.messages) == 0:
		list := make([]*faultTree, slices.Max(slices.Collect(maps.Keys(t.items)))+1)
		for i, item := range t.items {
			list[i] = item
		}
		return json.Marshal(list)
	}
	members := map[string]any{}
	for key, child := range t.keys {
		members[key] = child
	}
	for i, item := range t.items {
		members[strconv.Itoa(i)] = item
	}
	if len(t.messages) > 0 {
		members[entityKey] = t.messages
	}
	return json.Marshal(members)
}

// appendLua appends the tree as Kong prints it in messages: a Lua table, whose
// lists count from 1.
func (t *faultTree) appendLua(dst []byte) []byte {
	if len(t.keys) == 0 && len(t.items) == 0 && len(t.messages) == 1 {
		return strconv.AppendQuote(dst, t.messages[0])
	}
	comma := ""
	dst = append(dst, '{')
	for n, i := range slices.Sorted(maps.Keys(t.items)) {
		dst = append(dst, comma...)
		if i != n {
			dst = append(dst, '[')
			dst = strconv.AppendInt(dst, int64(i+1), 10)
			dst = append(dst, "]="...)
		}
		dst = t.items[i].appendLua(dst)
		comma = ","
	}
	for _, message := range t.messages {
		dst = append(dst, comma...)
		dst = strconv.AppendQuote(dst, message)
		comma = ","
	}
	for _, key := range slices.Sorted(maps.Keys(t.keys)) {
		dst = append(dst, comma...)
		dst = append(append(dst, key...), '=')
		dst = t.keys[key].appendLua(dst)
		comma = ","
	}
	return append(dst, '}')
}

// flatEntry is one entity with its faults. Kong: flatten_errors.
type flatEntry struct {
	Type   string      `json:"entity_type"`
	ID     string      `json:"entity_id,omitempty"`
	Name   string      `json:"entity_name,omitempty"`
	Tags   any         `json:"entity_tags,omitempty"`
	Entity any         `json:"entity"`
	Errors []flatError `json:"errors"`
}

type flatError struct {
	Type    string `json:"type"` // field or entity
	Field   string `json:"field,omitempty"`
	Message string `json:"message"`
}

// flatten puts a fault with the entity it is in and reports whether there is
// one: the innermost entry of a list of entities on the path.
func (b *invalidDocument) flatten(flat map[string]int, root *config.Node, steps []step, message string) bool {
	node, at, where := root, -1, root
	for i, s := range steps {
		if s.index >= 0 {
			if node == nil || s.index >= len(node.Items) {
				break
			}
			node = node.Items[s.index]
			if entity := singularOf(steps[i-1].key); entity != "" && node.Kind == config.Map {
				at, where = i, node
			}
			continue
		}
		if node = node.Get(s.key); node == nil {
			break
		}
	}
	if at < 1 {
		return false
	}
	key := joinSteps(steps[:at+1])
	i, ok := flat[key]
	if !ok {
		i = len(b.Flattened)
		flat[key] = i
		b.Flattened = append(b.Flattened, newFlatEntry(steps[at-1].key, where))
	}
	e := flatError{Type: "field", Field: joinSteps(steps[at+1:]), Message: message}
	if e.Field == "" {
		e.Type = "entity"
	}
	b.Flattened[i].Errors = append(b.Flattened[i].Errors, e)
	return true
}

func newFlatEntry(list string, n *config.Node) flatEntry {
	e := flatEntry{Type: singularOf(list), Entity: n.Any()}
	for _, field := range []string{"name", "username", "target"} {
		if v := n.Get(field); v != nil && v.Kind == config.Scalar && e.Name == "" {
			e.Name = v.Value
		}
	}
	if id := n.Get("id"); id != nil && id.Kind == config.Scalar {
		e.ID = id.Value
	}
	if tags := n.Get("tags"); tags != nil {
		e.Tags = tags.Any()
	}
	return e
}

func joinSteps(steps []step) string {
	var b strings.Builder
	for _, s := range steps {
		switch {
		case s.index >= 0:
			b.WriteString("." + strconv.Itoa(s.index+1)) // Kong counts from 1
		case b.Len() > 0:
			b.WriteString("." + s.key)
		default:
			b.WriteString(s.key)
		}
	}
	return b.String()
}
