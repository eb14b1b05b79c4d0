package upstream

import (
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/lb"
)

// try makes one attempt at target i. A kept connection that the service had closed
// while it lay idle does not count: the attempt is made once more over a new one.
func (s *Service) try(k *call, i int) fault {
	x, a := k.x, k.gen.addresses[i]
	started := k.pick.Now
	k.pick.Tried = append(k.pick.Tried, i)
	k.bound(started)
	k.told = false
	x.Tries = append(x.Tries, pipeline.Try{Target: a.dial, Start: started})
	f := s.reach(k, a, started, false)
	if f.stale && f.kind != kindNone && (!f.sent || k.repeatable()) && k.inTime() {
		s.meters.faults.count(f.kind)
		k.discard()
		f = s.reach(k, a, started, true)
	}
	if f.kind == kindNone {
		x.Target = a.dial
		return f
	}
	if f.kind != KindStatus {
		if e := f.event(); k.group.timed && e >= lb.TCPFailure {
			// What fails at once must not look fast. The doubling ends before numbers do.
			now := pipeline.Now()
			a.state.Observe(now, max(now-started, min(2*a.state.Latency(now), int64(openMax)), int64(time.Second)))
		}
		if !k.told {
			k.report(a, 0, &f)
		}
		note := &x.Tries[len(x.Tries)-1]
		note.Failed = true
		note.Status = f.kind.reply().Status()
	}
	k.lease.leave()
	return f
}

// bound works out when the attempt is given up.
func (k *call) bound(started int64) {
	k.until = k.x.Deadline
	if p := k.policy; p != nil && p.PerTry > 0 {
		if by := started + int64(p.PerTry); k.until == 0 || by < k.until {
			k.until = by
		}
	}
}

// within returns timeout, or what is left until the attempt is given up.
func (k *call) within(timeout time.Duration) time.Duration {
	if k.until == 0 {
		return timeout
	}
	return min(timeout, max(time.Duration(k.until-pipeline.Now()), time.Millisecond))
}

// overdue turns a timeout into that of the whole request where its time has passed.
func (k *call) overdue(f fault) fault {
	if d := k.x.Deadline; d != 0 && pipeline.Now() >= d {
		switch f.kind {
		case KindConnectTime, KindReadTime, KindWriteTime:
			f.kind = KindDeadline
		}
	}
	return f
}

// reach sends the request over a connection to a, a new one if fresh, and reads
// the answer.
func (s *Service) reach(k *call, a *address, started int64, fresh bool) fault {
	p := a.pool(s.transport, s.serverName(k, a))
	c, f := k.connect(p, started, fresh)
	if c == nil {
		f.misnamed = f.kind == KindTLS && k.way.preserveHost && unknownName(f.err)
		return k.overdue(f)
	}
	if !c.reused {
		x := k.x
		x.Tries[len(x.Tries)-1].Connect = pipeline.Now() - started
	}
	return k.overdue(s.exchange(k, a, c))
}

// serverName returns the name that TLS asks for: that of the Host field, as Kong
// sends it.
func (s *Service) serverName(k *call, a *address) []byte {
	switch {
	case !s.secure:
		return nil
	case k.x.UpstreamHost != nil:
		return WithoutPort(k.x.UpstreamHost)
	case k.way.preserveHost && len(k.x.Ctx.Request.Header.Host()) > 0:
		return WithoutPort(k.x.Ctx.Request.Header.Host())
	case k.group.entity != nil && k.group.entity.HostHeader != "":
		return WithoutPort([]byte(k.group.entity.HostHeader))
	}
	return a.name
}

// quietTime is how long a kept connection may lie idle and still be used without
// a look. The look costs a system call, and under load nothing lies that long.
const quietTime = 20 * time.Millisecond

// connect returns a connection of p: a kept one, unless fresh, if there is one,
// else a new one. A kept one is looked at before use, always if the request could
// not be sent again, or if its last answer was to have no body: whatever has
// arrived on it, or its end, makes it useless.
func (k *call) connect(p *pool, now int64, fresh bool) (*conn, fault) {
	if fresh {
		return p.connect(k.within(k.timeouts.Connect))
	}
	careful := k.pick.Careful
	for c := p.get(now); c != nil; c = p.get(now) {
		if !careful && !c.suspect && now-c.idleFrom < int64(quietTime) || !c.pending() {
			c.suspect = false
			return c, fault{}
		}
		c.close()
	}
	return p.connect(k.within(k.timeouts.Connect))
}

// exchange sends the request over c and reads the answer.
func (s *Service) exchange(k *call, a *address, c *conn) fault {
	x := k.x
	req := &x.Ctx.Request
	stream := req.IsBodyStream()
	length := req.Header.ContentLength()
	var buffered []byte
	if !stream {
		buffered = req.Body()
		length = len(buffered)
	} else if length < 0 {
		length = -1
	}
	out := sendBuffers.Get().(*sendBuffer)
	out.b = k.head.append(out.b[:0], x, k.way, s.hostFor(k, a))
	out.b = appendFraming(out.b, &req.Header, length)
	out.b = append(out.b, buffered...)
	c.writeTimeout = k.within(k.timeouts.Write)
	c.start(out)
	var f fault
	if stream {
		f = s.sendStream(k, c, length)
	} else {
		f = s.send(k, c)
	}
	if f.kind == kindNone {
		f = s.answer(k, a, c)
	}
	if f.kind != kindNone && f.kind != KindStatus {
		k.stopSending()
		c.close()
	}
	return f
}

// hostFor returns the Host field for a.
func (s *Service) hostFor(k *call, a *address) []byte {
	switch {
	case k.group.hostHeader != nil:
		return k.group.hostHeader
	case s.secure:
		return a.fieldTLS
	}
	return a.field
}

// send sends a request that is at hand as a whole and waits for the answer's first
// bytes.
func (s *Service) send(k *call, c *conn) fault {
	now := k.x.Tries[len(k.x.Tries)-1].Start
	if !c.reused {
		now = pipeline.Now()
	}
	if err := c.arm(now, k.timeouts.Read, k.until); err != nil {
		return c.fault(err)
	}
	if err := c.await(); err != nil {
		return s.headFault(c, err)
	}
	return fault{}
}

// answer reads the header of the answer and decides what becomes of it.
func (s *Service) answer(k *call, a *address, c *conn) fault {
	x := k.x
	resp := &x.Ctx.Response
	if err := readHead(c, resp, x.Upgrade != nil); err != nil {
		return s.headFault(c, err)
	}
	x.UpstreamHeaders = pipeline.Now()
	status := resp.StatusCode()
	if k.group.timed && k.sender == nil { // else it is the client's time too
		a.state.Observe(x.UpstreamHeaders, x.UpstreamHeaders-x.Tries[len(x.Tries)-1].Start)
	}
	x.UpstreamStatus = status
	if status == fasthttp.StatusSwitchingProtocols {
		f := s.upgraded(k, c)
		if f.kind == kindNone {
			k.report(a, status, &f)
		}
		return f
	}
	if k.told = k.lists(status); k.told { // first, since it may leave nothing to try again at
		k.report(a, status, &fault{})
	}
	if k.told && k.retriesStatus(resp) {
		k.stopSending()
		c.waste(resp)
		note := &x.Tries[len(x.Tries)-1]
		note.Failed, note.Status = true, status
		return fault{kind: KindStatus, sent: true}
	}
	f := s.receive(k, c)
	if f.kind == kindNone {
		// Not before: an answer that breaks off is no success. Of one that is passed
		// on as it comes its body tells.
		if !k.told && !resp.IsBodyStream() {
			k.report(a, status, &f)
		}
		x.Source = pipeline.SourceService
		s.finishRetries(k)
	}
	return f
}

// finishRetries tells the client of retries, if the policy says so.
func (s *Service) finishRetries(k *call) {
	if n := len(k.x.Tries); k.policy != nil && k.policy.Counted && n > 1 {
		k.x.StageInt("X-Retry-Count", int64(n-1))
	}
}

// headFault tells a connection that failed from an answer that is not HTTP.
func (s *Service) headFault(c *conn, err error) fault {
	if c.last != nil {
		return c.fault(c.last)
	}
	if err == errUpgrade {
		return fault{kind: KindUpgrade, sent: true, err: err}
	}
	return fault{kind: KindMalformed, sent: true, err: err}
}
