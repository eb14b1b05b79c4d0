// Package responseratelimiting is the response-ratelimiting plugin: limits of what the
// service says a request has used, such as videos or images, by name.
//
//	plugins:
//	- name: response-ratelimiting
//	  config:
//	    limits:
//	      videos: {minute: 10, day: 100}
//	      images: {hour: 1000}
//
// The service answers with X-Kong-Limit: videos=2, images=1 (header_name), and the
// caller has used that much. The header is never sent on to the client.
//
// # What the service and the client see
//
// The service gets X-RateLimit-Remaining-<name> with every request: the least that is
// left of that name in any of its periods. Whatever the client sent under that name is
// removed.
//
// The client gets X-RateLimit-Limit-<name>-<period> and X-RateLimit-Remaining-<name>-
// <period> for each, unless hide_client_headers is set: after what this answer used.
//
// # When a limit is reached
//
// The service is asked whatever is left: a request may need none of what has run out.
// If then the answer says that it used some of what had run out before, the client gets
// 429 with an empty body in its place. The service's headers stay, but for those that
// describe the body. What was used counts all the same: the service has done the work.
// The answer that takes the last of it is delivered, also where it takes more than that
// (Kong: the same). An answer that has become a tunnel counts and is not taken back.
//
// With block_on_first_violation a request is answered 429 before the service is asked
// if anything has run out, needed or not: API rate limit exceeded for '<name>', the
// first by name.
//
// # Who shares a counter
//
// limit_by: the consumer (else his credential), the credential, or the ip, after
// trusted_ips and real_ip_header. A request that has no such thing is counted by its
// client IP. Counters belong to the configured instance and to the name; they are kept
// over a reload, also when only limits change. Another limit_by or set of periods starts
// the name afresh.
//
// Windows are fixed and follow the UTC calendar; an answer belongs to the one in which
// it came. Only whole numbers are read from the header, of a name that comes twice the
// last. Only the service's own answer counts, not one from a cache.
//
// # Policy
//
// local: each node counts by itself, exactly, for at most keys_max callers a name
// (1,048,576); beyond that the least active are forgotten, and
// sluice_responseratelimiting_forgotten_keys_total counts them.
//
// redis: nodes that share a Redis count together. A request asks it once for each name,
// and an answer that used something once more for each of those. Without a host in the
// redis block it is the connection default of gateway.redis. cluster is that connection
// too: Kong counts in its database there.
//
// If Redis does not answer, a request passes without headers and uncounted with
// fault_tolerant, else it is answered 500. An answer whose use could not be counted is
// delivered in any case. sluice_responseratelimiting_store_errors_total counts both.
package responseratelimiting

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/VictoriaMetrics/metrics"
	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/limiter"
)

// Spec is the line this plugin adds to plugin.All.
var Spec = pipeline.Define("response-ratelimiting", defaults, build)

// limit is one configured instance.
type limit struct {
	resources []resource
	counts    int              // of all resources' periods
	header    []byte           // header_name in canonical form
	identify  identifier       // nil counts by client IP
	shared    *limiter.Shared  // nil: in this process
	forgotten *metrics.Counter // keys
	failed    *metrics.Counter // calls of the store
	tolerant  bool
	block     bool
	hidden    bool
	failure   *pipeline.Reply
}

// resource is one name of limits.
type resource struct {
	name      string
	at        int    // of its first period among all
	table     *table // nil with Redis
	periods   []period
	limits    []int64
	toService []byte // header in canonical form
	exceeded  *pipeline.Reply
}

// period is a configured period with its headers rendered.
type period struct {
	limiter.Period
	limitHeader     []byte // in canonical form
	remainingHeader []byte
	limit           []byte // decimal
}

func build(c Config, env *pipeline.Env) (pipeline.Hooks, error) {
	metric := func(name string) *metrics.Counter {
		return env.Metrics.GetOrCreateCounter(fmt.Sprintf("sluice_responseratelimiting_%s{plugin=%q}", name, env.Plugin.ID))
	}
	l := &limit{
		header: fasthttp.AppendNormalizedHeaderKey(nil, c.HeaderName), identify: identifierOf(c.LimitBy),
		forgotten: metric("forgotten_keys_total"), failed: metric("store_errors_total"),
		tolerant: c.FaultTolerant, block: c.BlockOnFirstViolation, hidden: c.HideClientHeaders,
		failure: pipeline.NewReply(fasthttp.StatusInternalServerError, "An unexpected error occurred"),
	}
	var err error
	if l.shared, err = c.shared(env); err != nil {
		return pipeline.Hooks{}, err
	}
	for _, name := range c.names() {
		r, err := l.resource(name, &c, env)
		if err != nil {
			return pipeline.Hooks{}, err
		}
		l.resources = append(l.resources, r)
		l.counts += len(r.periods)
	}
	return pipeline.Hooks{Request: l.request, Response: l.response}, nil
}

func (l *limit) resource(name string, c *Config, env *pipeline.Env) (resource, error) {
	r := resource{
		name: name, at: l.counts,
		toService: canonical("X-RateLimit-Remaining-" + name),
		exceeded:  pipeline.NewReply(fasthttp.StatusTooManyRequests, "API rate limit exceeded for '"+name+"'"),
	}
	of := c.Limits[name]
	periods, limits := of.limits()
	for i, p := range periods {
		r.limits = append(r.limits, limits[i])
		r.periods = append(r.periods, period{
			Period:          p,
			limitHeader:     canonical("X-RateLimit-Limit-" + name + "-" + p.String()),
			remainingHeader: canonical("X-RateLimit-Remaining-" + name + "-" + p.String()),
			limit:           strconv.AppendInt(nil, limits[i], 10),
		})
	}
	if l.shared != nil {
		return r, nil
	}
	var err error
	r.table, err = keepTable(name, periods, c, env)
	return r, err
}

func canonical(name string) []byte { return fasthttp.AppendNormalizedHeaderKey(nil, name) }

// usage is what a request found and its answer used. It is a user value of the request
// under its instance.
type usage struct {
	used  []int64 // by resource and period
	costs []int64 // by resource
}

var usages = sync.Pool{New: func() any { return new(usage) }}

// Close gives u back: also with a request whose Response hooks never run.
func (u *usage) Close() error {
	usages.Put(u)
	return nil
}

// now is the time in seconds since 1970. A test may be ahead of the clock.
func now(x *pipeline.Exchange) int64 {
	return pipeline.WallMillis(max(x.Start, pipeline.Now())) / 1000
}

// request is hot: it looks at the counters and tells the service what is left.
func (l *limit) request(x *pipeline.Exchange) pipeline.Verdict {
	now := now(x)
	u := usages.Get().(*usage)
	u.used = slices.Grow(u.used[:0], l.counts)[:l.counts]
	h := &x.Ctx.Request.Header
	var text [20]byte
	for i := range l.resources {
		r := &l.resources[i]
		used := u.used[r.at : r.at+len(r.limits)]
		if !l.peek(x, r, now, used) {
			_ = u.Close() // never fails
			if l.tolerant {
				return pipeline.Next
			}
			return x.Answer(l.failure)
		}
		least := int64(-1)
		for j, limit := range r.limits {
			if left := max(limit-used[j], 0); least < 0 || left < least {
				least = left
			}
		}
		if l.block && least == 0 {
			_ = u.Close() // never fails
			return x.Answer(r.exceeded)
		}
		h.DelBytes(r.toService) // every one of it that the client sent
		h.SetCanonical(r.toService, strconv.AppendInt(text[:0], least, 10))
	}
	x.Ctx.SetUserValue(l, u)
	return pipeline.Next
}

// response is hot: it counts what the service says was used, and takes the answer back
// if there was none of it left.
func (l *limit) response(x *pipeline.Exchange) {
	u, _ := x.Ctx.UserValue(l).(*usage)
	h := &x.Ctx.Response.Header
	told := len(h.PeekCanonical(l.header)) > 0
	if u == nil {
		if told {
			h.DelBytes(l.header)
		}
		return // answered before it came here, or nothing is known
	}
	u.costs = slices.Grow(u.costs[:0], len(l.resources))[:len(l.resources)]
	clear(u.costs)
	if told {
		if x.Source == pipeline.SourceService {
			l.read(h, u.costs)
		}
		h.DelBytes(l.header)
	}
	now, over := now(x), false
	for i := range l.resources {
		r := &l.resources[i]
		used := u.used[r.at : r.at+len(r.limits)]
		if cost := u.costs[i]; cost > 0 && l.add(x, r, now, cost, used) {
			for j, limit := range r.limits {
				over = over || used[j]-cost >= limit
			}
		}
		if !l.hidden {
			r.tell(h, used)
		}
	}
	x.Ctx.RemoveUserValue(l)
	_ = u.Close() // never fails
	if over && x.Tunnel == nil {
		withhold(x)
	}
}

// tell sets the client's headers.
func (r *resource) tell(h *fasthttp.ResponseHeader, used []int64) {
	var text [20]byte
	for j := range r.periods {
		p := &r.periods[j]
		h.SetCanonical(p.limitHeader, p.limit)
		h.SetCanonical(p.remainingHeader, strconv.AppendInt(text[:0], max(r.limits[j]-used[j], 0), 10))
	}
}

// read adds up what the header says was used of each resource.
func (l *limit) read(h *fasthttp.ResponseHeader, costs []int64) {
	for name, value := range h.All() {
		if bytes.Equal(name, l.header) {
			l.readValue(value, costs)
		}
	}
}

// describing are the headers of the service that speak of the body it sent.
var describing = []string{
	"Content-Type", "Content-Encoding", "Content-Language", "Content-Disposition", "Content-Range", "Accept-Ranges",
	"Etag", "Last-Modified", "Trailer",
}

// withhold answers 429 with an empty body in place of what the service has answered.
func withhold(x *pipeline.Exchange) {
	resp := &x.Ctx.Response
	resp.ResetBody() // a stream is closed, unread
	resp.ImmediateHeaderFlush = false
	resp.SetStatusCode(fasthttp.StatusTooManyRequests)
	h := &resp.Header
	h.SetStatusMessage(nil)
	for _, name := range describing {
		h.Del(name)
	}
	h.SetContentLength(0)
	h.SetNoDefaultContentType(true)
	x.Source = pipeline.SourceGateway
}

// peek stores how much of r is used and reports whether it is known.
func (l *limit) peek(x *pipeline.Exchange, r *resource, now int64, used []int64) bool {
	if l.shared == nil {
		r.table.windows.Peek(r.table.key(x, l.identify), now, used)
		return true
	}
	var spans [limiter.Periods]limiter.Span
	_, err := l.shared.Peek(context.Background(), l.name(x, r), r.ask(now, 0, &spans), used)
	return l.known(err)
}

// add counts cost and reports whether used holds what is used then.
func (l *limit) add(x *pipeline.Exchange, r *resource, now, cost int64, used []int64) bool {
	if l.shared == nil {
		if r.table.windows.Add(r.table.key(x, l.identify), now, cost, used) {
			l.forgotten.Inc()
		}
		return true
	}
	var spans [limiter.Periods]limiter.Span
	return l.known(l.shared.Add(context.Background(), l.name(x, r), r.ask(now, cost, &spans), used))
}

// known counts a failure of the store. The client bounds how long it takes and logs
// when Redis is away.
func (l *limit) known(err error) bool {
	if err != nil {
		l.failed.Inc()
	}
	return err == nil
}

func (r *resource) ask(now, cost int64, spans *[limiter.Periods]limiter.Span) *limiter.Ask {
	for i := range r.periods {
		spans[i] = limiter.SpanOf(r.periods[i].Period, now*1000, r.limits[i])
	}
	return &limiter.Ask{Now: now * 1000, Cost: cost, Spans: spans[:len(r.periods)]}
}

// name is what a caller's use of r is counted under in Redis.
func (l *limit) name(x *pipeline.Exchange, r *resource) string {
	var b strings.Builder
	b.WriteString(r.name)
	if l.identify != nil {
		if kind, id := l.identify(x); id != "" {
			b.WriteString(kind)
			b.WriteString(id)
			return b.String()
		}
	}
	var text [64]byte
	b.WriteString("/ip:")
	b.Write(x.AppendClientIP(text[:0]))
	return b.String()
}
