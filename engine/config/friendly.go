package config

import (
	"fmt"
	"regexp"
	"strings"
)

// bind gives routes without a service and targets without an upstream the parent they
// stand next to. A list of routes belongs to the nearest single `service:` before it
// that no earlier list has taken, else to the first one of the layer; targets belong to the
// one upstream of the nearest list before them.
func (r *reader) bind(l *layer) {
	var singles []*item // single services, in order
	taken := map[*item]bool{}
	for i := range l.sections {
		s := &l.sections[i]
		switch s.kind.list {
		case "services":
			if s.singular && len(s.made) == 1 {
				singles = append(singles, s.made[0])
			}
		case "routes":
			r.bindRoutes(l, s, singles, taken)
		case "targets":
			r.bindTargets(l, i)
		}
	}
}

var (
	routeToService   = child{"routes", "routes", "service"}
	targetToUpstream = child{"targets", "targets", "upstream"}
)

func (r *reader) bindRoutes(l *layer, s *section, singles []*item, taken map[*item]bool) {
	var parent *item
	for _, it := range singles {
		if !taken[it] {
			parent = it // the nearest before, as later ones overwrite
		}
	}
	if parent == nil {
		parent = l.firstSingle()
	}
	if parent == nil {
		return
	}
	for _, it := range s.made {
		if it.parent != nil || !it.node.Get("service").IsNull() {
			continue
		}
		taken[parent] = true
		r.bound(it, parent, &routeToService)
	}
}

// firstSingle is the first `service:` of the layer.
func (l *layer) firstSingle() *item {
	for i := range l.sections {
		if s := &l.sections[i]; s.singular && s.kind.list == "services" && len(s.made) == 1 {
			return s.made[0]
		}
	}
	return nil
}

func (r *reader) bindTargets(l *layer, at int) {
	var near *section
	for i := range l.sections[:at] {
		if l.sections[i].kind.list == "upstreams" && len(l.sections[i].made) > 0 {
			near = &l.sections[i]
		}
	}
	for _, it := range l.sections[at].made {
		if near == nil || it.parent != nil || !it.node.Get("upstream").IsNull() {
			continue
		}
		if len(near.made) > 1 {
			r.fault(it.node.fault(it.path()+": upstream", fmt.Sprintf(
				"required field missing; the list on line %d has several upstreams", near.key.Line)))
			it.parent, it.via, it.bound = near.made[0], &targetToUpstream, true // reported; no second fault for it
			continue
		}
		r.bound(it, near.made[0], &targetToUpstream)
	}
}

func (r *reader) bound(it, parent *item, via *child) {
	r.forget(it)
	it.parent, it.via, it.bound = parent, via, true
	r.remember(it)
	r.warn(it.node.fault(it.path()+": "+via.field, fmt.Sprintf("missing; taken to be %s on line %d", parent.path(), parent.node.Line)))
}

// adapt rewrites what an entity's node says in another way into Kong's 3.0 fields.
func (r *reader) adapt(it *item) {
	switch it.kind.list {
	case "services":
		r.expandURL(it)
	case "routes":
		if l := it.layer; l.version == "1.1" || l.version == "2.1" {
			modernPaths(it.node.Get("paths"))
		}
		if !r.options.Strict {
			r.headerPatterns(it)
		}
	case "plugins":
		r.namedConfig(it)
		if !r.options.Strict {
			r.quotaByShape(it)
		}
	}
}

var plainPath = regexp.MustCompile(`^[a-zA-Z0-9._~/%-]*$`)

// modernPaths marks the paths that formats before 3.0 took for regular expressions:
// those with a character outside RFC 3986's unreserved set, / and %.
func modernPaths(n *Node) {
	if n == nil {
		return
	}
	for _, p := range n.Items {
		if p.Kind == Scalar && p.Type == String && !strings.HasPrefix(p.Value, "~") && !plainPath.MatchString(p.Value) {
			p.Value = "~" + p.Value
		}
	}
}

// headerPatterns takes header values that look like regular expressions for such. Kong
// compares them literally, so they would never match. Several values become one
// alternation, since the traditional router honours a pattern only when it stands alone.
func (r *reader) headerPatterns(it *item) {
	headers := it.node.Get("headers")
	if headers == nil || headers.Kind != Map {
		return
	}
	for i := range headers.Entries {
		e := &headers.Entries[i]
		values := e.Value.Items
		if e.Value.Kind == Scalar {
			values = []*Node{e.Value}
		}
		pattern := headerPattern(values)
		if pattern == "" {
			continue
		}
		r.warn(values[0].fault(it.path()+": headers."+e.Key, "looks like a regular expression; read as "+pattern))
		one := *values[0]
		one.Value, one.Type, one.Kind = pattern, String, Scalar
		e.Value = &Node{Kind: List, Line: e.Value.Line, Col: e.Value.Col, file: e.Value.file, Items: []*Node{&one}}
	}
}

// headerPattern is the one pattern for header values, "" when none is a pattern or one
// already is marked as such.
func headerPattern(values []*Node) string {
	parts := make([]string, 0, len(values))
	found := false
	for _, v := range values {
		switch {
		case v.Kind != Scalar || v.Type != String || strings.HasPrefix(v.Value, "~*"):
			return ""
		case strings.Contains(v.Value, ".*") || strings.Contains(v.Value, ".+") || strings.ContainsAny(v.Value, `\^$[`):
			found = true
			parts = append(parts, v.Value)
		default:
			parts = append(parts, "^"+regexp.QuoteMeta(v.Value)+"$")
		}
	}
	if !found {
		return ""
	}
	return "~*(?i)" + strings.Join(parts, "|")
}

// quotaByShape takes an acme plugin with a quota for the quota plugin: Kong's acme issues
// certificates and has no such setting.
func (r *reader) quotaByShape(it *item) {
	name := it.node.Get("name")
	if name == nil || name.Value != "acme" || it.node.Get("config").Get("quota") == nil {
		return
	}
	r.warn(name.fault(it.path()+": name", `has a quota, so it is read as plugin "quota"`))
	renamed := *name
	renamed.Value = "quota"
	it.node.set("name", &renamed)
}

// namedConfig puts decK's `_config: name` under the plugin's own config.
func (r *reader) namedConfig(it *item) {
	e := it.node.entry("_config")
	if e == nil {
		return
	}
	shared := it.layer.configs.Get(e.Value.Value)
	if shared == nil || e.Value.Kind != Scalar {
		f := e.Value.fault(it.path()+": _config", fmt.Sprintf("no entry %q in _plugin_configs", e.Value.Value))
		var known []string
		if it.layer.configs != nil {
			for i := range it.layer.configs.Entries {
				known = append(known, it.layer.configs.Entries[i].Key)
			}
		}
		f.Near = Nearest(e.Value.Value, known)
		r.fault(f)
	} else {
		config := shared.Clone()
		if own := it.node.Get("config"); !own.IsNull() {
			config = mergeNodes(config, own)
		}
		it.node.set("config", config)
	}
	kept := it.node.Entries[:0]
	for _, e := range it.node.Entries {
		if e.Key != "_config" {
			kept = append(kept, e)
		}
	}
	it.node.Entries = kept
}

// builtinServices answer from inside the gateway when a route names them and the document
// does not declare them.
var builtinServices = []string{"prometheus-service", "kong-status-service", "developer-portal"}
