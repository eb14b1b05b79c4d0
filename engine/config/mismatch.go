package config

import (
	"reflect"
	"strconv"
	"strings"
)

// mismatch reports a value of another type than wanted, and names it.
func (d *decoder) mismatch(n *Node, path, message string, f *field) {
	fault := n.fault(path, message)
	fault.Got = n.described(f != nil && f.secret)
	d.faults = append(d.faults, fault)
}

// quoted is mismatch where a number or boolean is wanted: fits says that the text would
// be one without its quotes.
func (d *decoder) quoted(n *Node, path, message string, f *field) {
	d.mismatch(n, path, message, f)
	if n.Kind != Scalar || n.Type != String || n.plain || n.loose || n.from > 0 {
		return
	}
	bare := n.typed()
	_, word := bare.word()
	fits := bare.Type == Int || bare.Type == Float && !strings.HasSuffix(message, "integer")
	if strings.HasSuffix(message, "boolean") {
		fits = bare.Type == Bool || word
	}
	if fits {
		d.faults[len(d.faults)-1].Got += "; remove the quotes"
	}
}

// described is what a value is, as messages call it: a map, the number 5, the string "x".
// The text of a secret is left out.
func (n *Node) described(secret bool) string {
	const runesMax = 40
	switch {
	case n.IsNull():
		return "null"
	case n.Kind == Map:
		return "a map"
	case n.Kind == List:
		return "a list"
	}
	text := n.Value
	if runes := []rune(text); len(runes) > runesMax {
		text = string(runes[:runesMax]) + "..."
	}
	secret = secret || n.secret
	switch n.Type {
	case Bool:
		return "the boolean " + text
	case Int, Float:
		if secret {
			return "a number"
		}
		return "the number " + text
	default:
		if secret {
			return "a string"
		}
		return "the string " + strconv.Quote(text)
	}
}

// unseen is described for a value from the environment, which no source line shows; ""
// for any other.
func (n *Node) unseen(f *field) string {
	if !n.loose && n.from == 0 {
		return ""
	}
	return n.described(f.secret)
}

// variable is the name of the environment variable the value came from, or "".
func (n *Node) variable() string {
	if n == nil || n.from == 0 || n.file == nil {
		return ""
	}
	return n.file.variables[n.from-1]
}

// hasBroken reports whether a reference to the environment in n could not be replaced.
func (n *Node) hasBroken() bool {
	if n == nil {
		return false
	}
	if n.broken {
		return true
	}
	for _, item := range n.Items {
		if item.hasBroken() {
			return true
		}
	}
	for i := range n.Entries {
		if n.Entries[i].Value.hasBroken() {
			return true
		}
	}
	return false
}

// notAList is the fault of a value where a list of entities of kind k belongs.
func (n *Node) notAList(e *Entry, k *kind, path string) Fault {
	noun := strings.ReplaceAll(e.Key, "_", " ")
	f := n.fault(path, "expected a list of "+noun+` (each begins with "- `+k.lead(e.Key)+`:")`)
	f.Got = n.described(false)
	return f
}

// lead is the field entries of a list usually begin with.
func (k *kind) lead(key string) string {
	switch {
	case k.list == "consumer_group_consumers" && key == "groups":
		k = kindByList["consumer_groups"]
	case k.list == "consumer_group_consumers" && key == "consumers":
		k = kindByList["consumers"]
	}
	s := shapeOf(reflect.TypeOf(k.make()).Elem())
	for i := 1; i < len(s.fields); i++ { // the first is the ID
		if s.fields[i].ref == "" {
			return s.fields[i].name
		}
	}
	return s.fields[1].name
}

// knows reports whether an entity of the kind has something under the key.
func (k *kind) knows(key string) bool {
	if _, isChild := k.child(key); isChild || isMeta(key) || key == "url" && k.list == "services" {
		return true
	}
	f, _ := shapeOf(reflect.TypeOf(k.make()).Elem()).find(key)
	return f != nil
}
