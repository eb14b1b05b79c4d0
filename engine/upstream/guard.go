package upstream

import (
	"math"
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/lb"
)

// guard keeps requests away from a service as a whole, while its circuit is open and
// above its limits. What it counts outlives reloads, its rules do not. Safe for
// concurrent use.
type guard struct {
	*guarded
	limit    gateSettings
	circuit  lb.CircuitSettings
	breaks   bool            // there is a circuit
	failures [1000]bool      // statuses that are failures to it
	reply    *pipeline.Reply // while it is open; nil for the route's own, or Kong's
}

// guarded is what a guard counts, kept by the service's id.
type guarded struct {
	gate    gate
	breaker lb.Circuit
}

// newGuard returns the guard of e, nil where it asks for none.
func newGuard(e *config.Service, kept *guarded) *guard {
	g := &guard{
		guarded: kept,
		limit: gateSettings{
			limit: int64(e.Limits.Requests), queue: e.Limits.Queue, timeout: milliseconds(e.Limits.QueueTimeout),
		},
		circuit: circuitSettings(&e.CircuitBreaker),
		breaks:  e.CircuitBreaker.Enabled(),
	}
	b := &e.CircuitBreaker
	for _, status := range b.Statuses {
		g.failures[status] = true
	}
	switch {
	case b.Body != "":
		contentType := b.ContentType
		if contentType == "" {
			contentType = "application/json; charset=utf-8"
		}
		g.reply = pipeline.NewRawReply(b.StatusCode, contentType, []byte(b.Body))
	case b.Message != "":
		g.reply = pipeline.NewJSONReply(b.StatusCode, b.Message)
	case b.StatusCode != 503:
		g.reply = pipeline.NewReply(b.StatusCode, replyNoneLeftText)
	}
	return g
}

// lead makes the rules of g those that count: its snapshot is live now.
func (g *guard) lead() { g.breaker.Configure(&g.circuit, pipeline.Now()) }

// open reports whether the circuit refuses requests at now.
func (g *guard) open(now int64) bool { return g.breaks && g.breaker.State(now) == lb.Open }

// guarded sends the request unless the guard of the service keeps it back, or all
// its attempts together take too long.
func (s *Service) guarded(k *call) fault {
	if f := k.keepBody(); f.kind != kindNone {
		return f
	}
	if k.policy != nil && k.policy.Budget != nil {
		k.policy.Budget.Deposit(k.pick.Shard, k.x.UpstreamStart)
	}
	g := s.guard
	if g == nil {
		return s.balanced(k) // Fast path.
	}
	began := k.pick.Now
	trial := false
	if g.breaks {
		var ok bool
		if ok, trial = g.breaker.Allow(began); !ok {
			return fault{kind: KindOpen}
		}
	}
	attempt := lb.Attempt{Began: began, Shard: k.pick.Shard, Trial: trial}
	if g.limit.limit > 0 {
		if f := s.queued(k, &g.gate, &g.limit); f.kind != kindNone {
			g.breaker.Abandon(attempt, pipeline.Now())
			return f
		}
		k.lease.guard = g
	}
	f := s.balanced(k)
	if g.breaks {
		s.record(k, attempt, f)
	}
	return f
}

// record tells the circuit what became of a request.
func (s *Service) record(k *call, a lb.Attempt, f fault) {
	g, now := s.guard, pipeline.Now()
	var change lb.Change
	switch {
	case f.kind.client() || f.misnamed || f.slowClient || f.kind == KindFull:
		g.breaker.Abandon(a, now)
	case f.kind != kindNone:
		change = g.breaker.Record(a, false, now)
	default:
		change = g.breaker.Record(a, !g.failures[min(k.x.UpstreamStatus, len(g.failures)-1)], now)
	}
	if change == lb.Down {
		s.meters.opened.Inc()
	}
}

// balanced enters the gate of the upstream and sends the request.
func (s *Service) balanced(k *call) fault {
	g := s.groups[0]
	if g.limits.requests.limit > 0 {
		if f := s.queued(k, &g.roster.gate, &g.limits.requests); f.kind != kindNone {
			return f
		}
		k.lease.roster = g.roster
	}
	return s.attempts(k)
}

// queued enters a gate, counting who has to wait for it.
func (s *Service) queued(k *call, g *gate, set *gateSettings) fault {
	patience := time.Duration(math.MaxInt64)
	if d := k.x.Deadline; d != 0 {
		patience = time.Duration(d - pipeline.Now())
	}
	q := &s.meters.queue
	k.waited = true // perhaps not, but then a clock read is all it costs
	how := g.enter(set, patience, q.waits)
	if how == entered {
		return fault{}
	}
	q.refused[how].Inc()
	return fault{kind: KindFull}
}

// refuse answers a request that has failed.
func (s *Service) refuse(k *call, f fault) {
	x := k.x
	switch f.kind {
	case KindOpen:
		s.answerOpen(k, s.guard.reply, s.guard.breaker.RetryAfter(pipeline.Now()), s.guard.circuit.OpenMax)
	case KindNoTarget, KindNoneLeft:
		s.answerOpen(k, nil, k.gen.retryAfter(pipeline.Now()), k.group.rules.settings.Circuit.OpenMax)
	default:
		kind := f.kind
		if kind == KindFull && x.Deadline != 0 && pipeline.Now() >= x.Deadline {
			kind = KindDeadline // what passed is the time of the request, in the queue
		}
		x.Answer(kind.reply())
		if kind == KindFull {
			x.Ctx.Response.Header.Set("Retry-After", "1")
		}
	}
	s.finishRetries(k)
}

// answerOpen answers while nothing may be sent: with the service's own reply, the
// route's fallback, or Kong's. It may be tried again after a time, most of all after
// openMax or, if longer, most.
func (s *Service) answerOpen(k *call, own *pipeline.Reply, after, most int64) {
	x := k.x
	kind := KindNoTarget
	if own == nil && s.guard != nil && s.guard.reply != nil {
		own = s.guard.reply
	}
	switch {
	case own != nil:
		x.Answer(own)
	case k.fallsBack():
	default:
		if k.attempt > 1 || s.guard != nil && s.guard.breaks {
			kind = KindNoneLeft
		}
		x.Answer(kind.reply())
	}
	if after > 0 && after < math.MaxInt64 {
		after = min(after, max(int64(openMax), most)) // a trial under way may hold its place for longer
		x.Ctx.Response.Header.Set("Retry-After", strconv.FormatInt((after+int64(time.Second)-1)/int64(time.Second), 10))
	}
}

// fallsBack lets the route's fallback answer, where there is one and a circuit may be
// why nothing is sent, and reports whether it did: one with a trigger answers some
// requests only.
func (k *call) fallsBack() bool {
	g := k.service.guard
	if k.way.Fallback == nil || (g == nil || !g.breaks) && !k.group.breaks() {
		return false
	}
	k.way.Fallback(k.x)
	return k.x.Answered()
}

// retryAfter returns the time until a target may be tried again, in nanoseconds.
func (n *generation) retryAfter(now int64) int64 {
	after := int64(math.MaxInt64)
	for i := range n.targets {
		if t := &n.targets[i]; t.Weight > 0 {
			after = min(after, t.State.RetryAfter(now))
		}
	}
	return after
}
