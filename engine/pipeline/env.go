package pipeline

import (
	"context"
	"log/slog"
	"net"
	"sort"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/config"
)

// Consumer is a caller known to the gateway, with his groups.
// Immutable; valid to keep, though it is of the snapshot it was taken from.
type Consumer struct {
	*config.Consumer
	// Groups the consumer belongs to, sorted by name.
	Groups []*config.ConsumerGroup
}

// Consumers finds consumers. Immutable, safe for concurrent use.
type Consumers struct {
	list       []Consumer
	byID       map[string]*Consumer
	byUsername map[string]*Consumer
	byCustomID map[string]*Consumer
}

// NewConsumers indexes the consumers of d.
func NewConsumers(d *config.Document) *Consumers {
	c := &Consumers{
		list:       make([]Consumer, len(d.Consumers)),
		byID:       make(map[string]*Consumer, len(d.Consumers)),
		byUsername: make(map[string]*Consumer, len(d.Consumers)),
		byCustomID: map[string]*Consumer{},
	}
	for i, e := range d.Consumers {
		k := &c.list[i]
		k.Consumer = e
		c.byID[e.ID] = k
		if e.Username != "" {
			c.byUsername[e.Username] = k
		}
		if e.CustomID != "" {
			c.byCustomID[e.CustomID] = k
		}
	}
	groups := make(map[string]*config.ConsumerGroup, len(d.ConsumerGroups))
	for _, g := range d.ConsumerGroups {
		groups[g.ID] = g
	}
	for _, m := range d.ConsumerGroupMembers {
		k, g := c.byID[m.Consumer], groups[m.ConsumerGroup]
		if k != nil && g != nil {
			k.Groups = append(k.Groups, g)
		}
	}
	for i := range c.list {
		g := c.list[i].Groups
		sort.Slice(g, func(a, b int) bool { return g[a].Name < g[b].Name })
	}
	return c
}

// ByID returns the consumer with that id, or nil.
func (c *Consumers) ByID(id string) *Consumer { return c.byID[id] }

// Find returns the consumer with that id, username or custom id, or nil.
func (c *Consumers) Find(name string) *Consumer {
	if k := c.byID[name]; k != nil {
		return k
	}
	if k := c.byUsername[name]; k != nil {
		return k
	}
	return c.byCustomID[name]
}

// Env is what a plugin's build function may use. It is valid only during build.
type Env struct {
	// Document is the whole configuration, for what a plugin looks up at load.
	Document  *config.Document
	Consumers *Consumers
	// Plugin is the instance being built: its id, name and scope.
	Plugin *config.Plugin
	// Log is the gateway's log, for events at load and in the background.
	Log *slog.Logger
	// Metrics is the gateway's set: written at scrape time on the status and
	// Admin listeners. Names of our own start with sluice_. Text in another form
	// comes from a kept value that is an Exposer.
	Metrics *metrics.Set
	// Node is the running gateway as its metrics describe it.
	Node *Node
	// Errors is how the gateway words its own errors.
	Errors *ErrorStyle
	// Builtin answers for services that the gateway has itself, by their reserved
	// names: prometheus-service, kong-status-service.
	Builtin map[string]func(*fasthttp.RequestCtx)
	// ClientBodyTimeout is how long a client may take for a piece of its body.
	ClientBodyTimeout time.Duration
	// Dial connects to host:port over TCP.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Destination opens a service that the document need not have, such as one of
	// its own with another host: for plugins that lead requests elsewhere.
	Destination func(s *config.Service) (Destination, error)
	// StandIn returns what answers where p refuses: the disabled instance, at p's very
	// scope, of a plugin that stands in. It is nil where there is none. The answer may
	// fail to come, as with a condition; x.Answered tells.
	StandIn func(p *config.Plugin) func(x *Exchange)

	// Trial says that the snapshot is only checked: what build opens must be memory.
	Trial bool

	holder *Holder
	shared map[string]any
}

// NewEnv returns an Env for building one snapshot, whose long-lived state is
// held by h.
func NewEnv(base Env, h *Holder) *Env {
	base.holder = h
	base.shared = map[string]any{}
	return &base
}

func (e *Env) forInstance(p *config.Plugin) *Env {
	c := *e
	c.Plugin = p
	return &c
}

// Shared returns what make made for key in this snapshot, making it at the
// first call: for tables that several instances of a plugin read.
func Shared[T any](e *Env, key string, make func() T) T {
	if v, ok := e.shared[key]; ok {
		return v.(T)
	}
	v := make()
	e.shared[key] = v
	return v
}
