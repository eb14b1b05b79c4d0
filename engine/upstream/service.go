package upstream

import (
	"slices"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/lb"
)

// Limits of what is held in memory for one exchange.
const (
	// BufferedBodyMax is the largest body of known length that is sent and
	// received in one piece; larger ones are streamed.
	BufferedBodyMax = 64 << 10
	// WholeBodyMax is the largest response body read whole because a Response
	// hook asked for it.
	WholeBodyMax = 16 << 20
	// sendBytesKept is the largest send buffer that goes back to its pool.
	sendBytesKept = BufferedBodyMax + headBytesMax
)

// Service forwards exchanges to one configured service. Immutable and safe for
// concurrent use; what changes, such as connections and health, is kept elsewhere.
type Service struct {
	// groups are where targets are picked: the service's own, then those that stand in
	// for it while it has no healthy target. At least one.
	groups    []*group
	transport *transport
	secure    bool // by TLS
	retries   int
	timeouts  pipeline.Timeouts
	bodyMax   int64  // client_max_body_size, 0 for no limit
	guard     *guard // nil without limits or a circuit breaker

	// clientTimeout is how long the client may take for a piece of its body.
	clientTimeout time.Duration
	meters        *meters
}

// Way is how one route shapes what goes to its service. Immutable.
type Way struct {
	rule         pathRule
	preserveHost bool
	requestID    bool // headers_upstream has X-Kong-Request-Id
	// Fallback answers where the circuit is open or every target is down; nil for
	// Kong's own answer.
	Fallback func(*pipeline.Exchange)
}

// call is the working memory of one Forward, over all its attempts.
type call struct {
	head  headWriter
	strip hopStripper

	x       *pipeline.Exchange
	way     *Way
	service *Service
	group   *group
	place   int         // of group among the service's
	gen     *generation // one for the whole request, unless another group takes over
	pick    lb.Request
	hash    []byte

	timeouts pipeline.Timeouts
	policy   *pipeline.RetryPolicy
	retries  int
	attempt  int           // from 1
	waited   bool          // in a queue, before the first attempt
	told     bool          // health knows the status of the answer being read
	wait     time.Duration // before the next one
	until    int64         // Now() at which the attempt is given up, 0 for never
	lease    lease
	sender   *sender // of a streamed body, nil without
	prefix   []byte  // what was read of a streamed body already
	own      Way     // of a Destination
}

var calls = sync.Pool{New: func() any {
	k := &call{}
	k.head.visit = k.head.field
	k.strip.visit = k.strip.field
	return k
}}

// Forward sends x's request to a target and makes the answer x's response: the
// service's, or a reply that says what went wrong. A response body that is large or of
// unknown length becomes the body stream of x.Ctx.Response; a connection that changes
// its protocol becomes x.Tunnel.
func (s *Service) Forward(x *pipeline.Exchange, way *Way) {
	s.forward(calls.Get().(*call), x, way)
}

func (s *Service) forward(k *call, x *pipeline.Exchange, way *Way) {
	x.UpstreamStart = pipeline.Now()
	k.begin(s, x, way)
	defer k.end()
	if f := s.guarded(k); f.kind != kindNone {
		s.refuse(k, f)
	}
}

// Healthy reports whether the service is likely to answer now. One that needs a trial
// to come back is, as long as there is one to be had.
func (s *Service) Healthy() bool {
	now := pipeline.Now()
	if s.guard != nil && s.guard.open(now) {
		return false
	}
	return s.standing(s.groups, now)
}

// standing reports whether one of groups may have a request at now.
func (s *Service) standing(groups []*group, now int64) bool {
	for _, g := range groups {
		gen := g.live.Load()
		if !g.unhealthy.Load() && len(gen.addresses) > 0 || g.unhealthy.Load() && gen.triable(now) {
			return true
		}
	}
	return false
}

// triable reports whether a target that is out may have a trial at now. It takes no
// lock, since whoever wants that trial does not wait for one.
func (n *generation) triable(now int64) bool {
	for i := range n.targets {
		if t := &n.targets[i]; t.Weight > 0 && !t.State.In() && t.State.Peek(now) {
			return true
		}
	}
	return false
}

func (k *call) begin(s *Service, x *pipeline.Exchange, way *Way) {
	k.x, k.way, k.service = x, way, s
	k.timeouts, k.policy, k.retries = s.timeouts, x.Retry, s.retries
	if t := x.Timeouts; t != nil {
		if t.Connect > 0 {
			k.timeouts.Connect = t.Connect
		}
		if t.Write > 0 {
			k.timeouts.Write = t.Write
		}
		if t.Read > 0 {
			k.timeouts.Read = t.Read
		}
	}
	if k.policy != nil {
		k.retries = k.policy.Retries
	}
	k.pick.Shard, k.pick.Now, k.pick.Trial, k.waited = x.ConnID, x.UpstreamStart, false, false
	k.attempt, k.wait = 0, 0 // what another request left
	k.hash = k.hash[:0]
	k.place = 0
	k.enter(s.groups[0])
}

// enter makes g the group that targets are picked from.
func (k *call) enter(g *group) {
	before := k.group // nil for the first
	k.group, k.gen = g, g.live.Load()
	k.pick.Tried = k.pick.Tried[:0]
	if g.hash != nil {
		if before == nil || !g.hash.same(before.hash) { // else a client would be given two cookies
			k.hash = g.hash.append(k.hash[:0], k.x)
		}
		k.pick.Hash = g.hashKey(k.hash)
	}
}

// end gives k back, and what it holds unless a stream or a tunnel took that over.
func (k *call) end() {
	k.stopSending() // only a panic has left it
	k.lease.end()
	k.x, k.way, k.service, k.group, k.gen, k.policy, k.sender, k.prefix = nil, nil, nil, nil, nil, nil, nil, nil
	calls.Put(k)
}

// attempts sends the request until there is an answer to pass on, or no reason to
// try again.
func (s *Service) attempts(k *call) fault {
	f := fault{kind: KindNoTarget}
	k.pick.Careful = !k.repeatable()
	for k.attempt = 1; ; k.attempt++ {
		i, kind := k.choose()
		if i == lb.None {
			if k.attempt > 1 && kind == KindNoTarget {
				kind = KindNoneLeft
			}
			s.meters.faults.count(kind)
			return fault{kind: kind, err: f.err}
		}
		if f = s.try(k, i); f.kind == kindNone {
			return f
		}
		s.meters.faults.count(f.kind)
		if !k.again(f) {
			return f
		}
		s.meters.retries.Inc()
		k.discard()
		if k.wait > 0 {
			time.Sleep(k.wait)
		}
	}
}

// discard clears what a failed attempt left of an answer. The header is left to whoever
// writes the next one: once cleared it would make up a Date in place of the service's.
func (k *call) discard() {
	resp := &k.x.Ctx.Response
	resp.ResetBody()
	resp.SkipBody, resp.ImmediateHeaderFlush = false, false
	k.x.UpstreamHeaders, k.x.UpstreamStatus = 0, 0
}

// choose picks the target of the next attempt. It waits where all targets are at
// their limit; other groups take over where this one has no healthy target.
func (k *call) choose() (int, Kind) {
	if k.attempt > 1 || k.waited {
		k.pick.Now = pipeline.Now()
	}
	for {
		i, kind := k.pickHere()
		if i != lb.None || kind == KindFull {
			return i, kind
		}
		if len(k.pick.Tried) > 0 {
			k.pick.Tried = k.pick.Tried[:0] // every target has failed: start over
			continue
		}
		if k.place == len(k.service.groups)-1 {
			if k.group.entity == nil && len(k.gen.addresses) == 0 {
				kind = KindResolve
			}
			return lb.None, kind
		}
		if f := k.failOver(); f.kind != kindNone {
			return lb.None, f.kind
		}
	}
}

// failOver makes the next group the one that targets are picked from. Its limit of
// requests holds then, in place of the one before.
func (k *call) failOver() fault {
	k.service.meters.failovers.Inc()
	if r := k.lease.roster; r != nil {
		k.lease.roster = nil
		r.gate.leave()
	}
	k.place++
	k.enter(k.service.groups[k.place])
	g := k.group
	if g.limits.requests.limit > 0 {
		if f := k.service.queued(k, &g.roster.gate, &g.limits.requests); f.kind != kindNone {
			return f
		}
		k.lease.roster = g.roster
	}
	k.pick.Now = pipeline.Now()
	return fault{}
}

// pickHere picks from the group k is at.
func (k *call) pickHere() (int, Kind) {
	g := k.group
	if !g.limits.waitsForTargets {
		return k.pickNow(), KindNoTarget // Fast path.
	}
	if g.roster.line.waiting.Load() == 0 {
		if i := k.pickNow(); i != lb.None || !k.wasFull() {
			return i, KindNoTarget
		}
	}
	i := lb.None
	patience := g.limits.requests.timeout
	if d := k.x.Deadline; d != 0 {
		patience = min(patience, time.Duration(d-pipeline.Now()))
	}
	queue := &k.service.meters.queue
	queue.waits.Inc()
	how := g.roster.line.ask(func() bool {
		k.pick.Now = pipeline.Now()
		i = k.pickNow()
		return i != lb.None || !k.wasFull()
	}, g.limits.requests.queue, patience)
	if how != entered {
		queue.refused[how].Inc()
		return lb.None, KindFull
	}
	return i, KindNoTarget
}

// pickNow picks among what can be had at once and counts the request there.
func (k *call) pickNow() int {
	for range pickTries {
		k.pick.Trial = false
		var i int
		if k.group.unhealthy.Load() {
			i = k.gen.trial(&k.pick) // Slow path: only trials may pass.
		} else {
			i = k.gen.balancer.Pick(&k.pick)
		}
		if i == lb.None || k.lease.take(k, i) {
			return i
		}
	}
	return lb.None
}

// pickTries bounds how often a pick may lose its last place to another request.
const pickTries = 8

// trial picks a half-open target in a group that is down. Any request may be the trial:
// it has nowhere else to go.
func (n *generation) trial(r *lb.Request) int {
	defer func(careful bool) { r.Careful = careful }(r.Careful)
	r.Careful = false
	for i := range n.targets {
		t := &n.targets[i]
		if t.Weight > 0 && !t.State.In() && t.State.Usable(r) {
			return i
		}
	}
	return lb.None
}

// wasFull reports, after a pick that found nothing, whether that was for the limit of a
// target: one that is in and was not tried. Not whether it is full now, since it may
// have got room meanwhile.
func (k *call) wasFull() bool {
	if k.group.unhealthy.Load() {
		return false
	}
	for i := range k.gen.targets {
		if t := &k.gen.targets[i]; t.Weight > 0 && t.State.In() && !slices.Contains(k.pick.Tried, i) {
			return true
		}
	}
	return false
}

// lease is what a request holds while it is under way. It moves to the body of a
// streamed answer, or to the tunnel, and ends with it. The zero value holds nothing.
type lease struct {
	address *address // in flight there
	roster  *roster  // whose gate was entered
	guard   *guard   // of the service, entered
}

// take counts the request at target i of k and reports whether there was room.
func (l *lease) take(k *call, i int) bool {
	if !k.group.counted {
		return true // Fast path: nobody asks.
	}
	a := k.gen.addresses[i]
	if !a.state.TryBegin() {
		if k.pick.Trial {
			a.state.Report(lb.Abandoned, &k.pick, k.pick.Now)
		}
		a.roster.line.wake() // who looked meanwhile saw one too many
		return false
	}
	l.address = a
	return true
}

// leave ends the part of the lease that an attempt has.
func (l *lease) leave() {
	if a := l.address; a != nil {
		l.address = nil
		a.state.End()
		a.roster.line.wake()
	}
}

// end gives everything back.
func (l *lease) end() {
	l.leave()
	if r := l.roster; r != nil {
		l.roster = nil
		r.gate.leave()
	}
	if g := l.guard; g != nil {
		l.guard = nil
		g.gate.leave()
	}
}
