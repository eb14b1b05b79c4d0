package upstream

import (
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// again decides after a failed attempt whether there is another, and how long to
// wait before it. Section 5.6 of Kong's contract: a request goes out again if no byte
// of it was sent, or if it may be repeated and its body is at hand.
func (k *call) again(f fault) bool {
	if f.kind == KindStatus {
		return true // decided when the status was read
	}
	if k.attempt > k.retries || !k.mayResend(f) {
		return false
	}
	return k.schedule(0)
}

// schedule sets the wait before the next attempt and reports whether budget and
// deadline have room for one. after is what the service asked for.
func (k *call) schedule(after time.Duration) bool {
	k.wait = 0
	p := k.policy
	if p == nil {
		return k.inTime()
	}
	if p.Wait != nil {
		k.wait = p.Wait(k.attempt + 1)
	}
	if after > p.AfterMax {
		return false // the service asks for more patience than the operator has
	}
	k.wait = max(k.wait, after)
	if !k.inTime() {
		return false
	}
	if p.Budget != nil && !p.Budget.Withdraw(pipeline.Now()) {
		k.service.meters.retriesDenied.Inc()
		return false
	}
	return true
}

// inTime reports whether the deadline leaves room for another attempt.
func (k *call) inTime() bool {
	d := k.x.Deadline
	return d == 0 || pipeline.Now()+int64(k.wait) < d
}

func (k *call) mayResend(f fault) bool {
	switch {
	case f.kind.client(), f.kind == KindTooLarge, f.kind == KindDeadline:
		return false
	case !f.sent:
		return true
	case k.policy != nil && !k.policy.Timeouts && (f.kind == KindReadTime || f.kind == KindWriteTime):
		return false
	}
	return k.repeatable() && f.kind != KindMalformed && f.kind != KindUpgrade
}

// repeatable reports whether the request may reach a service twice, and can.
func (k *call) repeatable() bool {
	return !k.x.Ctx.Request.IsBodyStream() && k.repeats()
}

func (k *call) repeats() bool {
	p := k.policy
	if p == nil {
		return idempotent(k.x.Method())
	}
	if p.Keyed && len(k.x.Ctx.Request.Header.Peek("Idempotency-Key")) > 0 {
		return true
	}
	for _, m := range p.Methods {
		if m == string(k.x.Method()) {
			return true
		}
	}
	return false
}

func idempotent(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE":
		return true
	}
	return false
}

// lists reports whether the policy would rather try again than pass an answer of this
// status on, and may.
func (k *call) lists(status int) bool {
	p := k.policy
	if p == nil || k.attempt > k.retries {
		return false
	}
	_, listed := slices.BinarySearch(p.Statuses, status)
	return listed && k.repeatable()
}

// retriesStatus decides about an answer whose status the policy lists.
func (k *call) retriesStatus(resp *fasthttp.Response) bool {
	return k.likely() && k.schedule(retryAfter(resp.Header.Peek("Retry-After")))
}

// likely reports whether another attempt would find a target, as far as can be told now.
func (k *call) likely() bool {
	return k.service.standing(k.service.groups[k.place:], pipeline.Now())
}

// retryAfter reads delay-seconds (RFC 9110 section 10.2.3); 0 for a date or nonsense.
func retryAfter(value []byte) time.Duration {
	n, err := strconv.ParseUint(string(value), 10, 32)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

// keepBody reads a streamed body into memory where the policy wants to be able to
// send it again and it is not too large.
func (k *call) keepBody() fault {
	p, req := k.policy, &k.x.Ctx.Request
	if p == nil || p.Retries == 0 || !req.IsBodyStream() || !k.repeats() {
		return fault{}
	}
	length := int64(req.Header.ContentLength())
	limit := p.BodyBytesMax
	if m := k.service.bodyMax; m > 0 {
		limit = min(limit, m)
	}
	if length > limit {
		return fault{}
	}
	if length >= 0 {
		whole, err := ReadClientBody(k.x.Ctx, limit, k.service.clientTimeout)
		if err != nil {
			return bodyFault(err)
		}
		req.SetBodyRaw(whole)
		k.x.BytesIn += int64(len(whole))
		return k.kept()
	}
	return k.keepChunked(limit)
}

// keepChunked is keepBody for a body of unknown length: what turns out too large is
// sent once, what was read of it first.
func (k *call) keepChunked(limit int64) fault {
	req := &k.x.Ctx.Request
	b := newClientBody(k.x, k.service.clientTimeout)
	head, err := io.ReadAll(io.LimitReader(b, limit+1))
	switch {
	case err != nil:
		return bodyFault(err)
	case int64(len(head)) <= limit && b.cut():
		return bodyFault(io.ErrUnexpectedEOF)
	case int64(len(head)) <= limit:
		req.SetBodyRaw(head)
		k.x.BytesIn += int64(len(head))
	default:
		k.prefix = head
	}
	return k.kept()
}

// kept notes that the client took its time for its body. Where it took all there was, no
// target is to be blamed for that.
func (k *call) kept() fault {
	k.pick.Now = pipeline.Now()
	if d := k.x.Deadline; d != 0 && k.pick.Now >= d {
		return fault{kind: KindDeadline}
	}
	return fault{}
}

func bodyFault(err error) fault {
	if err == ErrTooBig {
		return fault{kind: KindClientTooBig, sent: true, err: err}
	}
	return fault{kind: KindClientBody, sent: true, err: err}
}
