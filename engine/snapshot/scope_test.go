package snapshot

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"
	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// mark is a plugin that leaves its value in a request header, so that a test
// sees which instances ran.
type mark struct {
	Value string `json:"value"`
}

var specs = &pipeline.Specs{All: []pipeline.Spec{
	pipeline.Define("pre-function", mark{}, buildMark), // a name the document reader knows
}}

func buildMark(c mark, _ *pipeline.Env) (pipeline.Hooks, error) {
	return pipeline.Hooks{Request: func(x *pipeline.Exchange) pipeline.Verdict {
		x.Ctx.Request.Header.Add("Ran", c.Value)
		return pipeline.Next
	}}, nil
}

func compile(t *testing.T, text string) *Snapshot {
	t.Helper()
	d, err := config.Read([]config.Source{{Name: "t.yaml", Data: []byte(text)}}, config.Options{Catalog: specs})
	if err != nil {
		t.Fatal(err)
	}
	s, err := Compile(pipeline.Env{Document: d, Log: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet(), Node: &pipeline.Node{}}, pipeline.NewKeeper(), specs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Release()(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// ran returns the values of the instances that run for a consumer ("" for
// nobody) on a path.
func ran(t *testing.T, s *Snapshot, path, consumer string) string {
	t.Helper()
	var ctx fasthttp.RequestCtx
	ctx.Request.Header.SetMethod("GET")
	q := &Query{}
	q.Request.Method, q.Request.Path, q.Request.Host, q.Request.Headers = []byte("GET"), []byte(path), []byte("a"), &ctx.Request.Header
	r := s.Match(q)
	x := &pipeline.Exchange{Ctx: &ctx, Errors: s.Errors}
	if consumer != "" {
		if x.Consumer = s.Consumers.Find(consumer); x.Consumer == nil {
			t.Fatalf("no consumer %q", consumer)
		}
	}
	r.Chain.Begin(x)
	r.Chain.Request(x)
	var values []string
	for _, v := range ctx.Request.Header.PeekAll("Ran") {
		values = append(values, string(v))
	}
	return strings.Join(values, " ")
}

const scopeDocument = `
_format_version: "3.0"
services:
- name: s
  url: http://s
  routes: [{name: r, paths: [/r]}, {name: q, paths: [/q]}]
- name: other
  url: http://other
  routes: [{name: o, paths: [/o]}]
consumers:
- {username: alice}
- {username: bob, groups: [{name: gold}, {name: silver}]}
- {username: carol, groups: [{name: silver}]}
consumer_groups: [{name: gold}, {name: silver}]
plugins:
`

// Kong's table of scopes, from the most specific down: each case adds one
// instance and says who now gets which.
func TestScopePrecedence(t *testing.T) {
	f := func(instances, path, consumer, want string) {
		t.Helper()
		var b strings.Builder
		b.WriteString(scopeDocument)
		for in := range strings.FieldsSeq(instances) {
			b.WriteString("- {name: pre-function, config: {value: " + in + "}")
			for scope := range strings.SplitSeq(in, "+") {
				kind, name, ok := strings.Cut(scope, "=")
				if ok {
					b.WriteString(", " + kind + ": " + name)
				}
			}
			b.WriteString("}\n")
		}
		if got := ran(t, compile(t, b.String()), path, consumer); got != want {
			t.Errorf("%s on %s for %q: got %q, want %q", instances, path, consumer, got, want)
		}
	}
	// From the most specific to the least; each wins over all that follow.
	order := []string{
		"consumer=bob+route=r+service=s", "consumer_group=gold+route=r+service=s", "consumer=bob+route=r", "consumer=bob+service=s",
		"consumer_group=gold+route=r", "consumer_group=gold+service=s", "route=r+service=s", "consumer=bob", "consumer_group=gold",
		"route=r", "service=s", "global",
	}
	for i, winner := range order {
		f(strings.Join(order[i:], " "), "/r", "bob", winner)
		f(strings.Join(order, " "), "/r", "bob", order[0])
	}
	all := strings.Join(order, " ")
	f(all, "/r", "", "route=r+service=s")
	f(all, "/r", "alice", "route=r+service=s")
	f(all, "/q", "", "service=s")
	f(all, "/q", "bob", "consumer=bob+service=s")
	f(all, "/o", "", "global")
	f(all, "/o", "bob", "consumer=bob")
	f(all, "/nowhere", "", "global")
	f("route=r consumer=bob", "/q", "", "")
	f("route=r consumer=bob", "/q", "bob", "consumer=bob")
	// The alphabetically first of several groups.
	f("consumer_group=silver consumer_group=gold", "/o", "bob", "consumer_group=gold")
	f("consumer_group=silver consumer_group=gold", "/o", "carol", "consumer_group=silver")
	// A plugin bound to a route and another service than the route's does not apply.
	f("route=r+service=other", "/r", "", "")
}

// Several instances at the very scope that wins all run; those of a scope that
// loses do not.
func TestInstancesAtOneScope(t *testing.T) {
	f := func(plugins, path, consumer, want string) {
		t.Helper()
		if got := ran(t, compile(t, scopeDocument+plugins), path, consumer); got != want {
			t.Errorf("%s on %s for %q: got %q, want %q", plugins, path, consumer, got, want)
		}
	}
	const two = "- {name: pre-function, config: {value: a}}\n- {name: pre-function, config: {value: b}}\n"
	f(two, "/r", "", "a b")
	f(two+"- {name: pre-function, route: r, config: {value: c}}\n", "/r", "", "c")
	f(two+"- {name: pre-function, route: r, config: {value: c}}\n", "/q", "", "a b")
	f(two+"- {name: pre-function, consumer: alice, config: {value: c}}\n", "/q", "alice", "c")
	f(two+"- {name: pre-function, consumer: alice, config: {value: c}}\n", "/q", "bob", "a b")
}

// A disabled instance is invisible: it does not hide a wider one.
func TestDisabledInstance(t *testing.T) {
	s := compile(t, scopeDocument+"- {name: pre-function, config: {value: a}}\n- {name: pre-function, route: r, enabled: false, config: {value: b}}\n")
	if got := ran(t, s, "/r", ""); got != "a" {
		t.Errorf("got %q, want a", got)
	}
}

// A disabled service takes its routes out of the router.
func TestDisabledService(t *testing.T) {
	s := compile(t, "_format_version: \"3.0\"\nservices:\n- {name: s, url: 'http://s', enabled: false, routes: [{name: r, paths: [/r]}]}\n")
	q := &Query{}
	q.Request.Method, q.Request.Path = []byte("GET"), []byte("/r")
	if r := s.Match(q); r != s.Nowhere() {
		t.Errorf("got route %v", r.Entity)
	}
}
