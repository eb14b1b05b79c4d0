package pipeline

import (
	"fmt"
	"slices"

	"github.com/sluice-gateway/sluice/engine/config"
)

// Verdict is what a Request hook decides.
type Verdict uint8

const (
	// Next lets the request go on.
	Next Verdict = iota
	// Done says that the hook has answered; the service is not called.
	Done
)

// Hooks are what one configured plugin does in the life of a request.
// A nil hook is left out of the chain when the snapshot is compiled.
type Hooks struct {
	Request  func(*Exchange) Verdict // before the service is called; may answer instead of it
	Receive  func(*Exchange)         // the service was called: its answer, or the fault, as it came
	Response func(*Exchange)         // after an answer exists, whoever gave it
	Log      func(*Exchange)         // the answer is final; read it, change nothing
	Close    func()                  // the snapshot is retired; release what build acquired, once

	// BuffersBody says that Response needs the whole body: the route stops streaming.
	BuffersBody bool
	// LogIgnoresHeaders says that Log does not look at response headers. Where no
	// hook does, those the gateway adds go to the client without being set first.
	LogIgnoresHeaders bool
	// BuffersRequest says that Request needs the whole request body, up to the
	// gateway's limit for buffered bodies; a larger one is answered 413.
	BuffersRequest bool
}

// Spec is one kind of plugin: its name, its settings, how an instance is built.
// Immutable after Define and its modifiers.
type Spec struct {
	// Name is the plugin's name in a document ("rate-limiting").
	Name string
	// Defaults is a Config value with its defaults: what a JSON Schema is made from.
	Defaults any
	// StandsIn says that a disabled instance answers in place of a service whose
	// circuit is open. Its Request hook must answer, and need no body.
	StandsIn bool
	// OpensFiles says that building an instance opens files to write: what only checks a
	// document leaves that out.
	OpensFiles bool

	check   func(*config.Plugin) config.Faults
	explain func(*config.Plugin, *Exchange) []string // nil: nothing to say
	build   func(*config.Plugin, *Env) (Hooks, error)
}

// Define describes a plugin. defaults is the Config every instance is decoded
// over, strictly; it must hold no map, since maps would be shared by instances.
// build runs once for each enabled instance of each snapshot, at load time.
func Define[C any](name string, defaults C, build func(C, *Env) (Hooks, error)) Spec {
	decode := func(p *config.Plugin) (C, config.Faults) {
		c := defaults
		faults := config.Decode(p.Config, &c)
		return c, faults
	}
	return Spec{
		Name:     name,
		Defaults: defaults,
		check: func(p *config.Plugin) config.Faults {
			_, faults := decode(p)
			return faults
		},
		build: func(p *config.Plugin, env *Env) (Hooks, error) {
			c, faults := decode(p)
			if err := faults.Err(); err != nil {
				return Hooks{}, err
			}
			return build(c, env)
		},
	}
}

// AsStandIn returns s with StandsIn set.
func (s Spec) AsStandIn() Spec {
	s.StandsIn = true
	return s
}

// Explained returns s with what its instances say of a request when an operator asks what
// would become of it. f gets an exchange as a Request hook would, with the answer that the
// service is assumed to give, if any; x.Answered tells. It opens and changes nothing.
func Explained[C any](s Spec, defaults C, f func(c C, x *Exchange) []string) Spec {
	s.explain = func(p *config.Plugin, x *Exchange) []string {
		c := defaults
		if config.Decode(p.Config, &c).Err() != nil {
			return nil // what is wrong has been said
		}
		return f(c, x)
	}
	return s
}

// Explain returns what the instance p says of x, one line each.
func (s Spec) Explain(p *config.Plugin, x *Exchange) []string {
	if s.explain == nil {
		return nil
	}
	return s.explain(p, x)
}

// AsWriter returns s with OpensFiles set.
func (s Spec) AsWriter() Spec {
	s.OpensFiles = true
	return s
}

// Build makes the hooks of one instance. Errors name the instance.
func (s Spec) Build(p *config.Plugin, env *Env) (Hooks, error) {
	h, err := s.build(p, env.forInstance(p))
	if err != nil {
		return Hooks{}, fmt.Errorf("plugin %q (%s): %w", p.Name, p.ID, err)
	}
	return h, nil
}

// Specs are all plugins of the gateway, in the order their hooks run.
// It implements config.Catalog.
type Specs struct {
	All     []Spec
	Planned []string // names that exist but have no code yet
}

// Lookup returns the plugin of that name and its place in the order.
func (s *Specs) Lookup(name string) (Spec, int, bool) {
	for i := range s.All {
		if s.All[i].Name == name {
			return s.All[i], i, true
		}
	}
	return Spec{}, 0, false
}

// Built reports whether the plugin of that name has code.
func (s *Specs) Built(name string) bool {
	_, _, ok := s.Lookup(name)
	return ok
}

// Names returns every known name, built or not, sorted.
func (s *Specs) Names() []string {
	names := slices.Clone(s.Planned)
	for i := range s.All {
		names = append(names, s.All[i].Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Check reports every fault of one instance's settings.
func (s *Specs) Check(p *config.Plugin) config.Faults {
	spec, _, ok := s.Lookup(p.Name)
	if !ok {
		return nil // the document's own check names unknown plugins
	}
	return spec.check(p)
}

// Defaults returns the default Config of a built plugin, nil for others.
func (s *Specs) Defaults(name string) any {
	spec, _, ok := s.Lookup(name)
	if !ok {
		return nil
	}
	return spec.Defaults
}
