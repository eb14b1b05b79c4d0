package admin

import (
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/config"
)

// hostname is what the system calls this machine, "" if it will not say.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}

type pluginFacts struct {
	Version  string `json:"version"`
	Priority int    `json:"priority"`
}

// getRoot is GET /: who this is. Kong: the same members and priorities; a plugin
// with the higher one runs first.
func (a *API) getRoot(ctx *fasthttp.RequestCtx) {
	d := a.Gateway.Document()
	available := make(map[string]pluginFacts, len(a.Plugins))
	for name, number := range priorityOf(a.Plugins) {
		available[name] = pluginFacts{Version: a.Version, Priority: number}
	}
	answer(ctx, fasthttp.StatusOK, map[string]any{
		"tagline":       "Welcome to sluice",
		"version":       a.Version,
		"edition":       "community",
		"hostname":      a.hostname,
		"node_id":       a.Observer.Identity(),
		"lua_version":   runtime.Version(),
		"timers":        map[string]int{"running": 0, "pending": 0},
		"pids":          map[string]any{"master": os.Getpid(), "workers": []int{os.Getpid()}},
		"plugins":       map[string]any{"available_on_server": available, "enabled_in_cluster": enabledNames(d, a.Plugins)},
		"configuration": settings(&d.Gateway),
	})
}

// enabledNames are the plugins the document uses, in the order of known.
func enabledNames(d *config.Document, known []string) []string {
	used := map[string]bool{}
	for _, p := range d.Plugins {
		used[p.Name] = used[p.Name] || p.Enabled
	}
	names := []string{}
	for _, name := range known {
		if used[name] {
			names = append(names, name)
		}
	}
	return names
}

// settings are the properties tools look at, under kong.conf's names.
func settings(g *config.Gateway) map[string]any {
	listen := func(ls config.Listeners) []string {
		texts := make([]string, len(ls))
		for i := range ls {
			texts[i] = ls[i].String()
		}
		return texts
	}
	return map[string]any{
		"database": g.Database, "router_flavor": g.RouterFlavor, "log_level": g.LogLevel,
		"proxy_listen": listen(g.ProxyListen), "admin_listen": listen(g.AdminListen), "status_listen": listen(g.StatusListen),
		"trusted_ips": g.TrustedIPs, "real_ip_header": g.RealIPHeader, "headers": g.Headers,
	}
}

// StatusReport is the answer to GET /status. Kong: the members it shares with it; the
// block Sluice is ours.
type StatusReport struct {
	Memory struct {
		Workers []WorkerMemory    `json:"workers_lua_vms"`
		Dicts   map[string]string `json:"lua_shared_dicts"` // always empty
	} `json:"memory"`
	Server struct {
		Active   int64 `json:"connections_active"`
		Accepted int64 `json:"connections_accepted"`
		Handled  int64 `json:"connections_handled"`
		// Reading, Writing and Waiting are 0: which of the three an open
		// connection is at is not counted here.
		Reading  int64 `json:"connections_reading"`
		Writing  int64 `json:"connections_writing"`
		Waiting  int64 `json:"connections_waiting"`
		Requests int64 `json:"total_requests"`
	} `json:"server"`
	Hash   string `json:"configuration_hash"`
	Sluice struct {
		Version       string       `json:"version"`
		Ready         bool         `json:"ready"`
		UptimeSeconds int64        `json:"uptime_seconds"`
		Reload        ReloadStatus `json:"reload"`
	} `json:"sluice"`
}

// WorkerMemory is the memory of a process in Kong's words.
type WorkerMemory struct {
	PID  int    `json:"pid"`
	Heap string `json:"http_allocated_gc"` // Go's heap in use: there is no Lua
}

// ReloadStatus is what became of the last document.
type ReloadStatus struct {
	Success  bool   `json:"success"`    // the last document that was given is live
	Applied  string `json:"applied_at"` // when the live document went live, RFC 3339
	Failed   string `json:"failed_at,omitempty"`
	Error    string `json:"error,omitempty"`
	Watching bool   `json:"watching"` // changes of the files are noticed
}

// Status is GET /status. Like Metrics it also serves routes of the proxy that
// lead to the gateway itself.
func (a *API) Status(ctx *fasthttp.RequestCtx) {
	var s StatusReport
	t, r := a.Observer.Traffic(), a.Observer.LastReload()
	s.Memory.Workers = []WorkerMemory{{PID: os.Getpid(), Heap: mebibytes(heapBytes())}}
	s.Memory.Dicts = map[string]string{}
	s.Server.Active, s.Server.Accepted, s.Server.Handled, s.Server.Requests = t.Active, t.Accepted, t.Accepted, t.Requests
	s.Hash = a.Gateway.Document().Hash
	s.Sluice.Version = a.Version
	s.Sluice.Ready, _ = a.Gateway.Ready()
	s.Sluice.UptimeSeconds = int64(time.Since(a.started).Seconds())
	s.Sluice.Reload = ReloadStatus{
		Success: r.Failed.IsZero(), Applied: stamp(r.Applied), Failed: stamp(r.Failed), Error: r.Error, Watching: r.Watching,
	}
	answer(ctx, fasthttp.StatusOK, &s)
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// heapBytes reads one figure without stopping the world.
func heapBytes() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

func mebibytes(n uint64) string { return fmt.Sprintf("%.2f MiB", float64(n)/(1<<20)) }

// Ready is GET /status/ready: 503 until a snapshot is live, and again while
// the gateway drains.
func (a *API) Ready(ctx *fasthttp.RequestCtx) {
	ok, reason := a.Gateway.Ready()
	if !ok {
		message(ctx, fasthttp.StatusServiceUnavailable, reason)
		return
	}
	message(ctx, fasthttp.StatusOK, "ready")
}

// Metrics is GET /metrics.
func (a *API) Metrics(ctx *fasthttp.RequestCtx) {
	ctx.SetContentType("text/plain; version=0.0.4; charset=utf-8")
	ctx.SetBodyStream(&exposition{gateway: a.Gateway}, -1)
}
