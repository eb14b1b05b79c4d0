package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/config"
)

// Caches are what plugins keep of answers. Its methods must be safe for concurrent use.
type Caches interface {
	// Purge takes answers back, here and at all gateways that share them, and returns
	// how many there were here. An error says what is wrong with p.
	Purge(p *Purge) (purged int, err error)
	// KeptAnswer returns an answer by its key, of one plugin instance or of any.
	KeptAnswer(key, plugin string) (a *KeptAnswer, ok bool)
}

// Purge says which answers are to be taken back: those that meet every condition set.
type Purge struct {
	Keys    []string `json:"keys"`    // surrogate keys, any of them
	Tags    []string `json:"tags"`    // likewise
	Path    string   `json:"path"`    // of requests: at it or below
	Exact   bool     `json:"exact"`   // at the path only
	Route   string   `json:"route"`   // id
	Service string   `json:"service"` // id
	Soft    bool     `json:"soft"`    // make them stale instead

	Plugin string `json:"-"` // id of an instance
	Entry  string `json:"-"` // key of one answer
}

// KeptAnswer is one answer as Kong shows it.
type KeptAnswer struct {
	Status    int               `json:"status"`
	Headers   map[string]string `json:"headers"`
	Body      string            `json:"body"`
	BodyLen   int               `json:"body_len"`
	Timestamp int64             `json:"timestamp"` // seconds since 1970
	TTL       int64             `json:"ttl"`       // seconds
	Version   int               `json:"version"`
	ReqBody   *string           `json:"req_body"` // Kong's; not kept here
}

const (
	purgePath         = "/cache/purge"
	cachePath         = "/proxy-cache"
	cacheAdvancedPath = "/proxy-cache-advanced"
)

// cacheRoutes are the paths of caches.
func (a *API) cacheRoutes() []route {
	removing := []string{fasthttp.MethodDelete}
	both := append([]string{fasthttp.MethodDelete}, reading...)
	return []route{
		{purgePath, writing, a.postPurge},
		{purgePath + "/*", writing, a.postPurge},
		{cachePath, removing, a.deleteCache},
		{cacheAdvancedPath, removing, a.deleteCache},
		{cachePath + "/*", both, a.cacheEntry},
		{cacheAdvancedPath + "/*", both, a.cacheEntry},
	}
}

// postPurge is POST /cache/purge[/path], ours: what is kept goes, or with soft becomes
// stale. Conditions are the path, the header Surrogate-Key, the arguments exact and soft,
// and a JSON object; they must all be met. Without any, everything goes.
func (a *API) postPurge(ctx *fasthttp.RequestCtx) {
	p, wrong := purgeIn(ctx)
	if wrong != "" {
		message(ctx, fasthttp.StatusBadRequest, wrong)
		return
	}
	purged, err := a.Caches.Purge(p)
	if err != nil {
		message(ctx, fasthttp.StatusBadRequest, err.Error())
		return
	}
	answer(ctx, fasthttp.StatusOK, map[string]int{"purged": purged})
}

// purgeIn reads a request to purge, or says what is wrong with it: a condition that is
// empty is a mistake and must not purge everything.
func purgeIn(ctx *fasthttp.RequestCtx) (p *Purge, wrong string) {
	p = &Purge{}
	if body := bytes.TrimSpace(ctx.PostBody()); len(body) > 0 {
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		err := d.Decode(p)
		if err == nil && d.More() {
			err = errors.New("text after it")
		}
		if err != nil {
			return nil, "expected a JSON object of keys, tags, path, exact, route, service and soft: " + err.Error()
		}
	}
	path := strings.TrimPrefix(string(ctx.URI().PathOriginal()), purgePath)
	if path != "" && path != "/" {
		if p.Path != "" {
			return nil, "path: is in the URL already: " + path
		}
		p.Path = path
	}
	header := ctx.Request.Header.PeekAll("Surrogate-Key")
	for _, line := range header {
		p.Keys = append(p.Keys, strings.Fields(string(line))...)
	}
	p.Exact = p.Exact || isTrue(ctx.QueryArgs().Peek("exact"))
	p.Soft = p.Soft || isTrue(ctx.QueryArgs().Peek("soft"))
	switch {
	case p.Path != "" && p.Path[0] != '/':
		return nil, "path: should start with /, got " + p.Path
	case p.Exact && p.Path == "":
		return nil, "exact: needs a path"
	case len(header) > 0 && len(p.Keys) == 0:
		return nil, "Surrogate-Key: names no key"
	case p.Keys != nil && !named(p.Keys):
		return nil, "keys: names no key, or an empty one"
	case p.Tags != nil && !named(p.Tags):
		return nil, "tags: names no key, or an empty one"
	}
	return p, ""
}

// named reports whether a list has names only, and at least one.
func named(list []string) bool { return len(list) > 0 && !slices.Contains(list, "") }

// deleteCache is DELETE /proxy-cache: everything goes, as in Kong.
func (a *API) deleteCache(ctx *fasthttp.RequestCtx) {
	if _, err := a.Caches.Purge(&Purge{}); err != nil {
		panic("BUG: purging all has no conditions: " + err.Error())
	}
	ctx.SetStatusCode(fasthttp.StatusNoContent)
}

// cacheEntry is /proxy-cache/{key} and /proxy-cache/{plugin}/caches/{key}, as in Kong:
// one answer, shown or removed.
func (a *API) cacheEntry(ctx *fasthttp.RequestCtx) {
	path := strings.TrimSuffix(string(ctx.Path()), "/")
	path = strings.TrimPrefix(strings.TrimPrefix(path, cacheAdvancedPath), cachePath)
	if path == "" {
		ctx.Response.Header.Set("Allow", "DELETE, OPTIONS")
		message(ctx, fasthttp.StatusMethodNotAllowed, "Method not allowed")
		return
	}
	path = path[1:]
	plugin, key := "", path
	if parts := strings.Split(path, "/"); len(parts) == 3 && parts[1] == "caches" {
		key = parts[2]
		if plugin = pluginID(a.Gateway.Document(), parts[0]); plugin == "" {
			message(ctx, fasthttp.StatusNotFound, "Not found")
			return
		}
	}
	kept, ok := a.Caches.KeptAnswer(key, plugin)
	if !ok {
		message(ctx, fasthttp.StatusNotFound, "Not found")
		return
	}
	if !ctx.IsDelete() {
		answer(ctx, fasthttp.StatusOK, kept)
		return
	}
	if _, err := a.Caches.Purge(&Purge{Entry: key, Plugin: plugin}); err != nil {
		message(ctx, fasthttp.StatusBadRequest, err.Error())
		return
	}
	ctx.SetStatusCode(fasthttp.StatusNoContent)
}

// pluginID is the id of a cache by its id or instance name, "" if there is none.
func pluginID(d *config.Document, name string) string {
	for _, p := range d.Plugins {
		if (p.ID == name || p.InstanceName == name) && strings.HasPrefix(p.Name, "proxy-cache") {
			return p.ID
		}
	}
	return ""
}
