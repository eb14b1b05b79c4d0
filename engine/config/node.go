package config

import (
	"bytes"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Kind is the shape of a Node.
type Kind uint8

// The shapes of a Node.
const (
	Scalar Kind = iota
	List
	Map
)

// Type is what the text of a scalar Node stands for.
type Type uint8

// The types of a scalar Node.
const (
	Null Type = iota
	String
	Bool
	Int
	Float
)

// Node is one value as the operator wrote it, with its position. A Node that belongs to a
// Document must not be changed; it may be read from many goroutines.
type Node struct {
	Kind Kind
	Type Type // of a scalar

	plain   bool   // a scalar written without quotes in YAML
	secret  bool   // a scalar that came out of a vault
	settled bool   // references to the environment have been replaced
	loose   bool   // text from the environment, which may stand for a number or boolean
	broken  bool   // a reference to the environment could not be replaced
	from    uint16 // 1 + index in file.variables of what the value came from, 0 for none

	Line    int // from 1; 0 when the value was not written in a file
	Col     int
	Value   string  // text of a scalar, "" for null
	Items   []*Node // of a list
	Entries []Entry // of a map, in the order written; duplicates are kept until checked
	file    *file
}

// Entry is one key of a map Node and its value.
type Entry struct {
	Key   string
	Line  int // of the key
	Col   int
	Value *Node
}

// file is a source the nodes point to, for names and source lines in messages.
type file struct {
	name   string
	data   []byte
	strict bool // read by Kong's own rules

	variables []string // that values came from; complete before entities are read

	once  sync.Once
	lines []int // where each line starts; made for the first fault
}

// lineText is the text of line n, or "". It is safe for concurrent use.
func (f *file) lineText(n int) string {
	if f == nil || n < 1 {
		return ""
	}
	f.once.Do(func() {
		f.lines = append(f.lines, 0)
		for i, c := range f.data {
			if c == '\n' {
				f.lines = append(f.lines, i+1)
			}
		}
	})
	if n > len(f.lines) {
		return ""
	}
	rest := f.data[f.lines[n-1]:]
	if i := bytes.IndexByte(rest, '\n'); i >= 0 {
		rest = rest[:i]
	}
	return strings.TrimRight(string(rest), "\r")
}

// Pos is where the node starts.
func (n *Node) Pos() Pos {
	if n == nil {
		return Pos{}
	}
	p := Pos{Line: n.Line, Col: n.Col}
	if n.file != nil {
		p.File = n.file.name
	}
	return p
}

// IsNull reports whether n is absent or null.
func (n *Node) IsNull() bool { return n == nil || n.Kind == Scalar && n.Type == Null }

// Get is the value of a key of a map, or nil. Of duplicate keys it is the last.
func (n *Node) Get(key string) *Node {
	if n == nil {
		return nil
	}
	if e := n.entry(key); e != nil {
		return e.Value
	}
	return nil
}

// entry is the last entry with the key, or nil.
func (n *Node) entry(key string) *Entry {
	if n == nil {
		return nil
	}
	for i := range slices.Backward(n.Entries) {
		if n.Entries[i].Key == key {
			return &n.Entries[i]
		}
	}
	return nil
}

// Lookup follows a dotted path such as `redis.host` or `callouts[1].request.url` and
// returns nil where it leads nowhere. A key that contains dots is found too.
func (n *Node) Lookup(path string) *Node {
	if n == nil || path == "" {
		return n
	}
	if path[0] == '[' {
		end := strings.IndexByte(path, ']')
		if end < 0 {
			return nil
		}
		return n.item(path[1:end]).Lookup(strings.TrimPrefix(path[end+1:], "."))
	}
	if v := n.Get(path); v != nil {
		return v
	}
	// A key may hold dots or brackets itself, so every place to cut is tried, the
	// shortest key first.
	for i := 1; i < len(path); i++ {
		if path[i] != '.' && path[i] != '[' {
			continue
		}
		child := n.Get(path[:i])
		if child == nil {
			child = n.item(path[:i])
		}
		if child == nil {
			continue
		}
		if v := child.Lookup(strings.TrimPrefix(path[i:], ".")); v != nil {
			return v
		}
	}
	return n.item(path)
}

// item is the element of a list whose index is written in text, or nil.
func (n *Node) item(text string) *Node {
	i, err := strconv.Atoi(text)
	if err != nil || n == nil || i < 0 || i >= len(n.Items) {
		return nil
	}
	return n.Items[i]
}

// nearest is the deepest node on the path that exists, for the position of a fault.
func (n *Node) nearest(path string) *Node {
	for path != "" {
		if v := n.Lookup(path); v != nil {
			return v
		}
		cut := strings.LastIndexAny(path, ".[")
		if cut < 0 {
			break
		}
		path = path[:cut]
	}
	return n
}

// Int is the value of an integer scalar. Underscores between digits, 0x, 0o, 0b and
// YAML 1.1's leading zero for octal are understood.
func (n *Node) Int() (int64, bool) {
	if n == nil || n.Kind != Scalar {
		return 0, false
	}
	switch n.Type {
	case Int:
		v, err := strconv.ParseInt(strings.ReplaceAll(n.Value, "_", ""), 0, 64)
		return v, err == nil
	case Float: // 5.0 and 1e3 are integers to Kong
		f, ok := n.Float()
		if ok && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			return int64(f), true
		}
	default:
	}
	return 0, false
}

// Float is the value of a number; infinities and NaN are not numbers here.
func (n *Node) Float() (float64, bool) {
	if n == nil || n.Kind != Scalar {
		return 0, false
	}
	switch n.Type {
	case Int:
		if v, ok := n.Int(); ok {
			return float64(v), true
		}
		u, err := strconv.ParseUint(strings.ReplaceAll(n.Value, "_", ""), 0, 64)
		return float64(u), err == nil
	case Float:
		f, err := strconv.ParseFloat(strings.ReplaceAll(n.Value, "_", ""), 64)
		return f, err == nil && !math.IsInf(f, 0) && !math.IsNaN(f)
	default:
		return 0, false
	}
}

// Bool is the value of a boolean.
func (n *Node) Bool() (value, ok bool) {
	if n == nil || n.Kind != Scalar || n.Type != Bool {
		return false, false
	}
	return strings.EqualFold(n.Value, "true"), true
}

// Any is the node as plain Go data: nil, bool, int64, float64, string, []any or
// map[string]any, all newly made.
func (n *Node) Any() any {
	if n == nil {
		return nil
	}
	switch n.Kind {
	case List:
		items := make([]any, len(n.Items))
		for i, item := range n.Items {
			items[i] = item.Any()
		}
		return items
	case Map:
		entries := make(map[string]any, len(n.Entries))
		for _, e := range n.Entries {
			entries[e.Key] = e.Value.Any()
		}
		return entries
	default:
	}
	switch n.Type {
	case Bool:
		v, _ := n.Bool()
		return v
	case Int:
		if v, ok := n.Int(); ok {
			return v
		}
		v, _ := n.Float()
		return v
	case Float:
		v, _ := n.Float()
		return v
	case String:
		return n.Value
	default:
		return nil
	}
}

// Equal reports whether two nodes hold the same data, wherever they were written. The
// order of map keys does not matter.
func (n *Node) Equal(o *Node) bool {
	if n == nil || o == nil {
		return n.IsNull() && o.IsNull()
	}
	if n.Kind != o.Kind || len(n.Items) != len(o.Items) || len(n.Entries) != len(o.Entries) {
		return false
	}
	if n.Kind == Scalar {
		return equalScalars(n, o)
	}
	for i := range n.Items {
		if !n.Items[i].Equal(o.Items[i]) {
			return false
		}
	}
	for i := range n.Entries {
		e := o.entry(n.Entries[i].Key)
		if e == nil || !n.Entries[i].Value.Equal(e.Value) {
			return false
		}
	}
	return true
}

func equalScalars(n, o *Node) bool {
	nv, nok := n.Float()
	ov, ook := o.Float()
	if nok || ook {
		return nok && ook && nv == ov
	}
	if n.Type != o.Type {
		return false
	}
	if n.Type == Bool {
		return strings.EqualFold(n.Value, o.Value)
	}
	return n.Type == Null || n.Value == o.Value
}

// Clone is a deep copy that shares no node with n.
func (n *Node) Clone() *Node {
	if n == nil {
		return nil
	}
	c := *n
	c.Items = nil
	if n.Items != nil {
		c.Items = make([]*Node, len(n.Items))
	}
	for i, item := range n.Items {
		c.Items[i] = item.Clone()
	}
	c.Entries = nil
	if n.Entries != nil {
		c.Entries = make([]Entry, len(n.Entries))
	}
	for i, e := range n.Entries {
		e.Value = e.Value.Clone()
		c.Entries[i] = e
	}
	return &c
}

// set gives key the value, in place or at the end.
func (n *Node) set(key string, v *Node) {
	if e := n.entry(key); e != nil {
		e.Line, e.Col, e.Value = v.Line, v.Col, v // a key and its value are of one file
		return
	}
	n.Entries = append(n.Entries, Entry{Key: key, Line: v.Line, Col: v.Col, Value: v})
}

// fault is a fault at the start of the node.
func (n *Node) fault(path, message string) Fault {
	f := Fault{Path: path, Message: message}
	if n != nil {
		f.at(n.file, n.Line, n.Col)
		f.Variable = n.variable()
	}
	return f
}

// keyFault is a fault at the key of an entry; n is the map that holds it. A map merged
// from several files has keys of each.
func (n *Node) keyFault(e *Entry, path, message string) Fault {
	f := Fault{Path: path, Message: message}
	src := n.file
	if e.Value != nil && e.Value.file != nil {
		src = e.Value.file
	}
	f.at(src, e.Line, e.Col)
	return f
}

func (f *Fault) at(src *file, line, col int) {
	if src != nil {
		f.File = src.name
	}
	f.Line, f.Col, f.SourceLine = line, col, src.lineText(line)
}

// referee is the scalar an entity is referred to by in the object form, such as
// {name: x} or {id: ...}; nil when there is none.
func (n *Node) referee() *Node {
	for _, key := range []string{"id", "name", "username", "custom_id", "prefix", "client_id"} {
		if v := n.Get(key); v != nil && v.Kind == Scalar && v.Type == String {
			return v
		}
	}
	return nil
}

// typed reads the text of a string as the number or boolean it looks like.
func (n *Node) typed() *Node {
	t := *n
	switch {
	case n.Value == "true" || n.Value == "false":
		t.Type = Bool
	case isNumber(n.Value, false):
		t.Type = Int
	case isNumber(n.Value, true):
		t.Type = Float
	default:
		t.plain = true // on, off, yes and no
	}
	return &t
}

func isNumber(text string, fraction bool) bool {
	if fraction {
		_, err := strconv.ParseFloat(text, 64)
		return err == nil
	}
	_, err := strconv.ParseInt(text, 10, 64)
	return err == nil
}
