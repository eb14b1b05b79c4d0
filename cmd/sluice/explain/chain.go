package explain

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// Plugin is one plugin of a chain with the settings that apply.
type Plugin struct {
	Name     string    `json:"name"`
	Scope    string    `json:"scope"` // "global", `service "orders"`, ...
	At       string    `json:"at"`    // file:line of the instance
	Settings []Setting `json:"settings"`
	// Hidden are instances of the same plugin that apply here too but are less
	// specific, so that they do not run.
	Hidden []Instance `json:"hidden,omitempty"`
	// Says is what the instance makes of the request, for plugins that can tell.
	Says []string `json:"says,omitempty"`

	instance *config.Plugin
}

// Instance is a configured plugin that does not run.
type Instance struct {
	Scope string `json:"scope"`
	At    string `json:"at"`
}

// Setting is one setting as written. What is not written has its default.
type Setting struct {
	Path  string `json:"path"`
	Value string `json:"value"`
	At    string `json:"at"`
}

// placed is where a request ended up; both may be nil.
type placed struct {
	route   *config.Route
	service *config.Service
}

// applying is an instance that applies, with its place in Kong's table of scopes.
type applying struct {
	*config.Plugin
	rank  int
	group string
}

// chain finds, for every plugin in order, the instance that applies. Kong's
// rule: the most specific enabled one runs, alone.
func (e *Explanation) chain(d *config.Document, specs *pipeline.Specs, where *placed, caller *pipeline.Consumer) {
	names := namesOf(d)
	for i := range specs.All {
		name := specs.All[i].Name
		var found []applying
		for _, p := range d.Plugins {
			if p.Name != name || !p.Enabled {
				continue
			}
			if rank, group, ok := applies(p, where, caller); ok {
				found = append(found, applying{p, rank, group})
			}
		}
		if len(found) == 0 {
			continue
		}
		order(found)
		p := Plugin{Name: name, Scope: scope(found[0].Plugin, names), At: at(found[0].Pos), Settings: settings(nil, "", found[0].Config), instance: found[0].Plugin}
		for _, hidden := range found[1:] {
			p.Hidden = append(p.Hidden, Instance{scope(hidden.Plugin, names), at(hidden.Pos)})
		}
		e.Chain = append(e.Chain, p)
	}
}

// says asks every instance that runs what it makes of x.
func (e *Explanation) says(specs *pipeline.Specs, x *pipeline.Exchange) {
	for i := range e.Chain {
		if spec, _, ok := specs.Lookup(e.Chain[i].Name); ok {
			e.Chain[i].Says = spec.Explain(e.Chain[i].instance, x)
		}
	}
}

// order puts the instance that runs first: of the caller's groups only the
// alphabetically first with settings here counts, and then the rank decides.
func order(found []applying) {
	first := ""
	for _, a := range found {
		if a.group != "" && (first == "" || a.group < first) {
			first = a.group
		}
	}
	slices.SortStableFunc(found, func(a, b applying) int {
		aside := func(x applying) int {
			if x.group != "" && x.group != first {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(aside(a), aside(b)), cmp.Compare(a.rank, b.rank))
	})
}

// ranks is Kong's table of scopes, the most specific first: which of consumer,
// group, route and service an instance names.
var ranks = [...]struct{ consumer, group, route, service bool }{
	{true, false, true, true}, {false, true, true, true}, {true, false, true, false}, {true, false, false, true},
	{false, true, true, false}, {false, true, false, true}, {false, false, true, true}, {true, false, false, false},
	{false, true, false, false}, {false, false, true, false}, {false, false, false, true}, {},
}

// applies reports whether p applies and, if so, its place in the table and the
// name of the group it names.
func applies(p *config.Plugin, where *placed, caller *pipeline.Consumer) (rank int, group string, ok bool) {
	switch {
	case p.Route != "" && (where.route == nil || where.route.ID != p.Route),
		p.Service != "" && (where.service == nil || where.service.ID != p.Service),
		p.Consumer != "" && (caller == nil || caller.ID != p.Consumer):
		return 0, "", false
	}
	if p.ConsumerGroup != "" {
		if caller == nil {
			return 0, "", false
		}
		i := slices.IndexFunc(caller.Groups, func(g *config.ConsumerGroup) bool { return g.ID == p.ConsumerGroup })
		if i < 0 {
			return 0, "", false
		}
		group = caller.Groups[i].Name
	}
	for i, r := range ranks {
		if r.consumer == (p.Consumer != "") && r.group == (p.ConsumerGroup != "") && r.route == (p.Route != "") && r.service == (p.Service != "") {
			return i, group, true
		}
	}
	return len(ranks), group, true // consumer and group at once
}

// namesOf is what people call the entities plugins are bound to, by id.
func namesOf(d *config.Document) map[string]string {
	names := map[string]string{}
	for _, r := range d.Routes {
		names[r.ID] = cmp.Or(r.Name, r.ID)
	}
	for _, s := range d.Services {
		names[s.ID] = cmp.Or(s.Name, s.ID)
	}
	for _, c := range d.Consumers {
		names[c.ID] = cmp.Or(c.Username, c.CustomID, c.ID)
	}
	for _, g := range d.ConsumerGroups {
		names[g.ID] = cmp.Or(g.Name, g.ID)
	}
	return names
}

// scope words what an instance is bound to.
func scope(p *config.Plugin, names map[string]string) string {
	var parts []string
	for _, s := range []struct{ kind, id string }{
		{"route", p.Route}, {"service", p.Service}, {"consumer", p.Consumer}, {"consumer group", p.ConsumerGroup},
	} {
		if s.id != "" {
			parts = append(parts, s.kind+` "`+names[s.id]+`"`)
		}
	}
	if parts == nil {
		return "global"
	}
	return strings.Join(parts, ", ")
}

// settings appends the scalars below n, each with its path and place.
func settings(dst []Setting, path string, n *config.Node) []Setting {
	if dst == nil {
		dst = []Setting{}
	}
	switch {
	case n == nil:
	case n.Kind == config.Map:
		for i := range n.Entries {
			child := n.Entries[i].Key
			if path != "" {
				child = path + "." + child
			}
			dst = settings(dst, child, n.Entries[i].Value)
		}
	case n.Kind == config.List && slices.ContainsFunc(n.Items, func(item *config.Node) bool { return item.Kind != config.Scalar }):
		for i, item := range n.Items {
			dst = settings(dst, path+"["+strconv.Itoa(i)+"]", item)
		}
	case path != "":
		dst = append(dst, Setting{path, string(n.AppendJSON(nil)), at(n.Pos())})
	}
	return dst
}
