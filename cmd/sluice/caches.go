package main

import (
	"fmt"
	"strings"

	"github.com/sluice-gateway/sluice/engine/admin"
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/router"
)

// Purge implements admin.Caches.
func (c *control) Purge(p *admin.Purge) (purged int, err error) {
	q := &pipeline.Purge{Keys: append(p.Keys, p.Tags...), Exact: p.Exact, Soft: p.Soft, Plugin: p.Plugin, Entry: p.Entry}
	if p.Path != "" {
		path, err := router.NormalizePath(nil, []byte(p.Path)) // as routes see it
		if err != nil {
			return 0, fmt.Errorf("path %q: %w", p.Path, err)
		}
		q.Path = string(path)
	}
	d := c.Document()
	if q.Route, err = find(p.Route, "route", d.Routes, func(r *config.Route) (string, string) { return r.ID, r.Name }); err != nil {
		return 0, err
	}
	if q.Service, err = find(p.Service, "service", d.Services, func(s *config.Service) (string, string) { return s.ID, s.Name }); err != nil {
		return 0, err
	}
	return c.Engine.Purge(q), nil
}

// find returns the id of the entity with that id or name; "" for none asked for.
func find[E any](want, kind string, list []E, of func(E) (id, name string)) (string, error) {
	if want == "" {
		return "", nil
	}
	for _, e := range list {
		if id, name := of(e); id == want || name == want {
			return id, nil
		}
	}
	return "", fmt.Errorf("%s: no %s has the name or id %q", kind, kind, want)
}

// KeptAnswer implements admin.Caches.
func (c *control) KeptAnswer(key, plugin string) (a *admin.KeptAnswer, ok bool) {
	k, ok := c.Engine.KeptAnswer(strings.ToLower(key), plugin)
	if !ok {
		return nil, false
	}
	a = &admin.KeptAnswer{
		Status: k.Status, Headers: map[string]string{}, Body: string(k.Body), BodyLen: len(k.Body),
		Timestamp: k.Stored / 1000, TTL: k.TTL, Version: 1,
	}
	for _, f := range k.Fields {
		if before, more := a.Headers[f[0]]; more {
			f[1] = before + ", " + f[1]
		}
		a.Headers[f[0]] = f[1]
	}
	return a, true
}
