// Package prometheus is the plugin prometheus: it counts what passes and shows it
// as text on the metrics page of the status and Admin listeners, under Kong's
// names and labels, so that Kong's dashboards work.
//
//	status_code_metrics      kong_http_requests_total {service,route,code,source,workspace,consumer}
//	latency_metrics          kong_request_latency_ms   whole request     {service,route,workspace}
//	                         kong_upstream_latency_ms  until the service's header came
//	                         kong_kong_latency_ms      before the service was called, or
//	                                                   the whole request if it was not
//	bandwidth_metrics        kong_bandwidth_bytes {service,route,direction,workspace,consumer}
//	upstream_health_metrics  kong_upstream_target_health {upstream,target,address,state,subsystem}
//	per_consumer             fills the consumer label
//
// all of them false by default. The gateway's own figures (kong_node_info,
// kong_nginx_connections_total, kong_nginx_requests_total, ...) are always there.
// A service without name is labelled with its host, a route with its id; requests
// without a route are not counted.
//
// A route has series of its own for at most consumers_max consumers (10000);
// further ones count with an empty label, and in
// sluice_prometheus_consumer_overflow_total.
//
// Counters outlive a reload: they belong to the names of service and route and go
// when no snapshot has the route any more.
//
// Counting is a table access by the route's index and a few atomic additions,
// spread over as many shards as there are cores; it allocates only at the first
// request of a route, of a class of statuses or of a consumer.
package prometheus

import (
	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// Spec is the line this plugin adds to plugin.All.
var Spec = pipeline.Define("prometheus", Config{ConsumersMax: 10000}, build)

// recorder is one instance.
type recorder struct {
	Config
	*view
}

func build(c Config, env *pipeline.Env) (pipeline.Hooks, error) {
	g, err := pipeline.Keep(env, "prometheus", func() (*registry, error) { return newRegistry(env.Node), nil })
	if err != nil {
		return pipeline.Hooks{}, err
	}
	r := &recorder{Config: c, view: pipeline.Shared(env, "prometheus", func() *view { return g.open(env) })}
	r.hold(c.UpstreamHealthMetrics)
	h := pipeline.Hooks{Close: r.release, LogIgnoresHeaders: true}
	if c.StatusCodeMetrics || c.LatencyMetrics || c.BandwidthMetrics {
		h.Log = r.log
	}
	return h, nil
}

// log is hot.
func (r *recorder) log(x *pipeline.Exchange) {
	if x.RouteIndex < 0 || x.RouteIndex >= len(r.routes) {
		return
	}
	conn := x.ConnID
	h := r.hot[conn&shardMask][x.RouteIndex]
	if r.LatencyMetrics {
		r.observe(x, h, conn)
	}
	if r.PerConsumer && x.Consumer != nil {
		if own := r.routes[x.RouteIndex].consumer(x.Consumer, r.ConsumersMax); own != nil {
			r.count(x, &own.counts)
			return
		}
		r.registry.overflow.Add(1)
	}
	if r.BandwidthMetrics {
		h.bytes[ingress].Add(uint64(max(x.BytesIn, 0)))
		h.bytes[egress].Add(uint64(max(x.BytesOut, 0)))
	}
	if !r.StatusCodeMetrics {
		return
	}
	if x.Source == pipeline.SourceService && x.Ctx.Response.StatusCode() == statusOK { // Fast path
		h.served.Add(1)
		return
	}
	r.routes[x.RouteIndex].shard(conn).countStatus(answeredBy(x), x.Ctx.Response.StatusCode())
}

// count counts x for one consumer.
func (r *recorder) count(x *pipeline.Exchange, c *counts) {
	if r.StatusCodeMetrics {
		c.countStatus(answeredBy(x), x.Ctx.Response.StatusCode())
	}
	if r.BandwidthMetrics {
		c.bytes[ingress].Add(uint64(max(x.BytesIn, 0)))
		c.bytes[egress].Add(uint64(max(x.BytesOut, 0)))
	}
}

func answeredBy(x *pipeline.Exchange) int {
	if x.Source == pipeline.SourceService {
		return fromService
	}
	return fromKong
}

// observe counts how long the request took, and where.
func (r *recorder) observe(x *pipeline.Exchange, h *hot, conn uint64) {
	total := max(x.End-x.Start, 0)
	own := total
	if late := h.observe(latencyRequest, latencyBounds, total); late >= 0 {
		r.late(x, conn, latencyRequest, late)
	}
	if x.UpstreamStart > 0 {
		own = max(x.UpstreamStart-x.Start, 0)
		if x.UpstreamHeaders > 0 {
			if late := h.observe(latencyUpstream, latencyBounds, max(x.UpstreamHeaders-x.UpstreamStart, 0)); late >= 0 {
				r.late(x, conn, latencyUpstream, late)
			}
		}
	}
	if late := h.observe(latencyKong, kongBounds, own); late >= 0 {
		r.late(x, conn, latencyKong, late)
	}
}

func (r *recorder) late(x *pipeline.Exchange, conn uint64, latency, bucket int) {
	r.routes[x.RouteIndex].shard(conn).late[latency][bucket].Add(1)
}
