// Package concurrencylimiting is the concurrency-limiting plugin (not in Kong): at most
// so many requests at a time, for each caller, and for a service as many as it can take.
//
//	plugins:
//	- name: concurrency-limiting
//	  service: reports
//	  config:
//	    max: 5
//	    limit_by: consumer
//	    adaptive: {}
//
// A rate limit bounds how often somebody asks; this bounds how much of his is under
// way. A caller with slow requests is held back where a rate limit would let him fill
// the service, and one with fast requests is not held back at all.
//
// # A caller's limit
//
// With max, a caller has at most so many requests in flight, exactly, on each node. One
// more is answered error_code (429) with error_message and Retry-After. A request is in
// flight from here until its answer has been sent, or its stream or tunnel has ended.
//
// limit_by is as in rate-limiting: the consumer (else his credential), credential, ip,
// service, the value of the header header_name, the consumer-group, or path, with which
// one path has a count of its own. A request that has no such thing is counted by its
// client IP. Counts belong to the configured instance, and a reload does not touch them.
//
// At most keys_max callers (65,536) can have something in flight at a time. Beyond that
// newcomers are refused, since nothing that is in flight can be forgotten, and
// sluice_concurrency_full_total counts them.
//
// # A service's limit
//
// With adaptive, each service has a limit of requests in flight that finds itself: it
// grows while the latency of the service stays what it was, and shrinks when requests
// begin to queue there. A request above it is answered adaptive.error_code (503) with
// adaptive.error_message and Retry-After: the service keeps its latency for those it
// serves.
//
//	adaptive:
//	  min: 4           # the limit is never lower
//	  max: 1000        # nor higher
//	  start: 20        # what it begins with
//	  tolerance: 1.5   # latency above that times the average is a queue
//	  smoothing: 0.2   # how much of a new limit is taken over at once
//	  window: 0.1      # seconds of one sample, at least
//
// It is the gradient of Netflix' concurrency-limits; package limiter says how it works.
// Latency is that of the last attempt, up to the response header. A 503 or 504, whoever
// made it once the service was to be called, shrinks the limit to 90 %; other failures
// and requests that went to another destination say nothing about the latency. Once a
// tunnel or an event stream has begun it takes none of the limit: it is idle most of
// its time. Instances with the same settings share the limit of a service; a changed
// setting or a restart begins anew. It is set for every service in scope.
//
// A caller's own limit is looked at first. What is refused for either counts for
// neither.
//
// # What can be seen
//
//	sluice_concurrency_requests{plugin}              in flight, of all callers
//	sluice_concurrency_callers{plugin}               with something in flight
//	sluice_concurrency_refusals_total{plugin}
//	sluice_concurrency_full_total{plugin}            newcomers refused because of keys_max
//	sluice_adaptive_limit_requests{service,settings} the limit now
//	sluice_adaptive_requests{service,settings}       in flight
//	sluice_adaptive_shed_total{service,settings}     refused
//
// plugin is the instance's name or id, settings tells apart limits of one service with
// different settings. The status listener has the same as reports of the kinds
// "concurrency" and "adaptive".
package concurrencylimiting

import (
	"strconv"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// Spec is the line this plugin adds to plugin.All.
var Spec = pipeline.Define("concurrency-limiting", defaults, build)

// limit is one configured instance.
type limit struct {
	callers  *callers // nil without max
	max      int64
	identify func(x *pipeline.Exchange) string // "" counts by client IP
	tooMany  *pipeline.Reply

	shields  map[*config.Service]*shield // nil without adaptive
	overload *pipeline.Reply
}

func build(c Config, env *pipeline.Env) (pipeline.Hooks, error) {
	l := &limit{}
	if c.Max != nil {
		var err error
		if l.callers, err = keepCallers(&c, env); err != nil {
			return pipeline.Hooks{}, err
		}
		l.max = int64(*c.Max)
		l.identify = identifier(&c, env.Plugin.ConsumerGroup)
		l.tooMany = refusal(c.ErrorCode, c.ErrorMessage, c.RetryAfter)
	}
	if c.Adaptive == nil {
		return pipeline.Hooks{Request: l.request, Log: l.log, LogIgnoresHeaders: true}, nil
	}
	var err error
	if l.shields, err = keepShields(c.Adaptive, env); err != nil {
		return pipeline.Hooks{}, err
	}
	l.overload = refusal(c.Adaptive.ErrorCode, c.Adaptive.ErrorMessage, c.Adaptive.RetryAfter)
	return pipeline.Hooks{Request: l.request, Response: l.response, Log: l.log, LogIgnoresHeaders: true}, nil
}

func refusal(status int, message string, retryAfter int) *pipeline.Reply {
	r := pipeline.NewReply(status, message)
	if retryAfter > 0 {
		r = r.With("Retry-After", strconv.Itoa(retryAfter))
	}
	return r
}

// request is hot: it enters one table and one counter, and keeps a ticket for the way
// out.
func (l *limit) request(x *pipeline.Exchange) pipeline.Verdict {
	t := tickets.Get().(*ticket)
	if l.callers != nil {
		t.key, t.shard = l.callers.key(x, l.identify), uint32(x.ConnID)
		if !l.callers.enter(t.key, l.max, t.shard) {
			_ = t.Close() // never fails
			return x.Answer(l.tooMany)
		}
		t.callers = l.callers
	}
	if s := l.shields[x.Service]; s != nil {
		if !s.acquire() {
			_ = t.Close() // never fails
			return x.Answer(l.overload)
		}
		t.shield = s
	}
	x.Ctx.SetUserValue(l, t)
	return pipeline.Next
}

// response is hot. It frees the service's limit of what has become a stream.
func (l *limit) response(x *pipeline.Exchange) {
	if x.Tunnel == nil && !isEventStream(x) {
		return
	}
	if t, _ := x.Ctx.UserValue(l).(*ticket); t != nil && t.shield != nil {
		t.shield.release(x)
		t.shield = nil
	}
}

// log is hot. It is where everything that was entered is left.
func (l *limit) log(x *pipeline.Exchange) {
	t, _ := x.Ctx.UserValue(l).(*ticket)
	if t == nil {
		return // refused, or answered before it came here
	}
	x.Ctx.RemoveUserValue(l)
	if t.shield != nil {
		t.shield.release(x)
		t.shield = nil
	}
	_ = t.Close() // never fails
}
