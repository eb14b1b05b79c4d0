package config

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// environment are the properties given as SLUICE_<NAME>, as the nodes they stand for:
// lists are comma-separated, on and off are booleans.
func (r *reader) environment() []Entry {
	var entries []Entry
	s := shapeOf(reflect.TypeFor[Gateway]())
	for i := range s.fields {
		f := &s.fields[i]
		if f.typ.Kind() == reflect.Map {
			continue // named connections have no single text
		}
		name := "SLUICE_" + strings.ToUpper(f.name)
		text, ok := r.options.Env(name)
		if !ok {
			continue
		}
		_, _ = r.sum.Write([]byte(name + "=" + text)) // a hash does not fail
		from := &file{name: "environment variable " + name}
		v := &Node{Type: String, Value: text, plain: true, loose: true, file: from}
		if f.isTexts() {
			v = v.commaList()
		}
		entries = append(entries, Entry{Key: f.name, Value: v})
	}
	return entries
}

// isTexts reports whether a property is a list kong.conf separates with commas.
func (f *field) isTexts() bool {
	return f.typ.Kind() == reflect.Slice && f.typ != reflect.TypeFor[Listeners]()
}

// commaList is the list a comma-separated text stands for.
func (n *Node) commaList() *Node {
	list := &Node{Kind: List, Line: n.Line, Col: n.Col, file: n.file}
	for part := range strings.SplitSeq(n.Value, ",") {
		if part = strings.TrimSpace(part); part != "" {
			item := *n
			item.Value = part
			list.Items = append(list.Items, &item)
		}
	}
	return list
}

// watched makes the reader remember which variables were asked for, so that those nobody
// asked for can be named.
func (r *reader) watched(o Options) Options {
	if o.Environ == nil && o.Env == nil {
		o.Environ = os.Environ
	}
	if o.Env == nil {
		o.Env = os.LookupEnv
	}
	lookup := o.Env
	r.asked = map[string]bool{}
	o.Env = func(name string) (string, bool) {
		r.asked[name] = true
		return lookup(name)
	}
	return o
}

// serviceLink matches the variables Kubernetes and Docker set for a service whose name
// begins with sluice.
var serviceLink = regexp.MustCompile(`^SLUICE_(?:.*_)?(?:SERVICE_HOST|SERVICE_PORT(?:_.*)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)$`)

// programNames are read by the commands, not here.
var programNames = []string{"SLUICE_CONFIG"}

// unasked warns about variables that look like properties but are not read: misspelt
// ones, and Kong's own.
func (r *reader) unasked() {
	if r.options.Environ == nil {
		return
	}
	known := slices.Clone(programNames)
	s := shapeOf(reflect.TypeFor[Gateway]())
	for i := range s.fields {
		if s.fields[i].typ.Kind() != reflect.Map {
			known = append(known, "SLUICE_"+strings.ToUpper(s.fields[i].name))
		}
	}
	names := r.options.Environ()
	for i, pair := range names {
		names[i], _, _ = strings.Cut(pair, "=")
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if r.asked[name] {
			continue
		}
		at := Fault{File: "environment variable " + name}
		if property, ours := strings.CutPrefix(name, "SLUICE_"); ours {
			if slices.Contains(known, name) || serviceLink.MatchString(name) {
				continue
			}
			at.Message = "unknown property " + strings.ToLower(property)
			at.Near = Nearest(name, known)
			r.warn(at)
		} else if property, kongs := strings.CutPrefix(name, "KONG_"); kongs && slices.Contains(known, "SLUICE_"+property) {
			if _, set := r.options.Env("SLUICE_" + property); set {
				continue
			}
			at.Message = "not read: set SLUICE_" + property + " instead"
			r.warn(at)
		}
	}
}
