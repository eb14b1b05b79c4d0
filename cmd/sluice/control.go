package main

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sluice-gateway/sluice/engine"
	"github.com/sluice-gateway/sluice/engine/admin"
	"github.com/sluice-gateway/sluice/engine/config"
)

// control is a running gateway as engine/admin sees it: an Engine with its
// Loader. It also keeps the log in step with the document: its level, and its
// warnings, each told once. Safe for concurrent use.
type control struct {
	*engine.Engine
	loader *engine.Loader
	log    *slog.Logger
	level  *slog.LevelVar

	draining atomic.Bool

	mu   sync.Mutex
	told map[string]bool // warnings
}

// Ready implements admin.Gateway: not ready from the first signal to stop on.
func (c *control) Ready() (ok bool, reason string) {
	if c.draining.Load() {
		return false, "draining"
	}
	return c.Engine.Ready()
}

// Apply implements admin.Configurer.
func (c *control) Apply(d *config.Document) error {
	err := c.Engine.Apply(d)
	c.report("the Admin API", err)
	return err
}

// Refuse implements admin.Configurer.
func (c *control) Refuse(err error) {
	c.Engine.Refuse(err)
	c.report("the Admin API", err)
}

// Reload implements admin.Configurer.
func (c *control) Reload() error { return c.reload("the Admin API") }

// reload reads the files again because by asked for it.
func (c *control) reload(by string) error {
	err := c.loader.Reload()
	c.report(by, err)
	return err
}

// report logs what became of a document that came through by.
func (c *control) report(by string, err error) {
	if err != nil {
		c.log.Error("configuration refused, the old one stays", "by", by)
		logFaults(c.log, slog.LevelError, err)
		return
	}
	d := c.Document()
	c.follow(d)
	c.log.Info("configuration applied", "by", by, "hash", d.Hash, "services", len(d.Services), "routes", len(d.Routes), "plugins", len(d.Plugins))
}

// follow takes the log's level from d and logs the warnings it has not logged,
// what this build leaves out among them.
func (c *control) follow(d *config.Document) {
	c.level.Set(levelOf(d.Gateway.LogLevel))
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range slices.Concat(d.Warnings, limits(d)) {
		text := w.Error()
		if !c.told[text] {
			c.told[text] = true
			c.log.Warn(text)
		}
	}
}

// logFaults logs every fault of err by itself, and its warnings as such.
func logFaults(log *slog.Logger, level slog.Level, err error) {
	for _, f := range admin.FaultsOf(err) {
		at := level
		if f.Warning {
			at = slog.LevelWarn
		}
		log.Log(context.Background(), at, f.Error())
	}
}

// Identity implements admin.Observer.
func (c *control) Identity() string { return c.Node().ID }

// Traffic implements admin.Observer.
func (c *control) Traffic() admin.Traffic {
	n := c.Node()
	return admin.Traffic{Accepted: n.Accepted.Load(), Active: n.Active.Load(), Requests: n.Requests.Load()}
}

// LastReload implements admin.Observer.
func (c *control) LastReload() admin.Reload {
	s := c.Status()
	return admin.Reload{Applied: s.Applied, Failed: s.Failed, Error: s.Error, Watching: c.loader.Watching()}
}

// Addresses implements admin.Fleet.
func (c *control) Addresses(name string) (list []admin.Address, healthy, known bool) {
	f := c.Fleet()
	for h := range f.Targets() {
		if h.Upstream == name {
			list = append(list, admin.Address{
				Target: h.Target, Address: h.Address, State: h.State, Weight: h.Weight,
				Circuit: h.Circuit, InFlight: h.InFlight, Connections: h.Connections,
			})
		}
	}
	healthy, known = f.Healthy(name)
	return list, healthy, known
}

// SetHealth implements admin.Fleet.
func (c *control) SetHealth(name, target, only string, healthy bool) bool {
	return c.Fleet().SetHealth(name, target, only, healthy)
}

// newLog returns the gateway's log: text, with a level that may change.
func newLog(w io.Writer) (*slog.Logger, *slog.LevelVar) {
	level := &slog.LevelVar{}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level})), level
}

// levelOf maps Kong's levels, which are nginx's, to those of log/slog.
func levelOf(name string) slog.Level {
	switch name {
	case "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error", "crit", "alert", "emerg":
		return slog.LevelError
	}
	return slog.LevelInfo
}
