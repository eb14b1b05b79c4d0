package proxycache

import (
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/cache"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/plugin/proxycache/rules"
)

// receive takes in what the service has answered.
func (i *instance) receive(x *pipeline.Exchange) {
	v, _ := x.Ctx.UserValue(i).(*visit)
	if v == nil || !v.fetching {
		return
	}
	v.fetching = false
	if len(v.held) > 0 || v.refreshing {
		v.putBack(x)
	}
	if i.directed && !safe(x) {
		v.invalidate(x)
	}
	if (v.storing || v.found) && x.Tunnel == nil {
		v.take(x, false)
	} else {
		v.decline(x, v.why, outcomeFailed)
	}
	if x.Source == pipeline.SourceService {
		v.clean(&x.Ctx.Response.Header)
	}
}

// take keeps the answer of x if it may be kept, or answers with what was kept before.
// behind says that no client waits for it.
func (v *visit) take(x *pipeline.Exchange, behind bool) {
	resp := &x.Ctx.Response
	now := v.shelf.now()
	status := resp.StatusCode()
	fromService := x.Source == pipeline.SourceService
	switch {
	case (!fromService && status >= 500 || coversStatus(status)) && v.found && v.coversError():
		_ = resp.CloseBodyStream()
		v.settle(outcomeFailed)
		if !behind {
			v.result, v.begun = resultStale, now
			v.serve(x)
		}
		return
	case !fromService || !v.storing:
		v.compare(&resp.Header)
		v.decline(x, v.why, outcomeFailed)
		return
	case v.refreshing && status == fasthttp.StatusNotModified:
		v.freshen(x, now, behind)
		return
	}
	v.answer.read(resp)
	v.answer.examine(v.instance, status, now)
	var h head
	why := v.plan(x, &h, now)
	if why == reasonNone {
		why = v.keep(x, &h, now, behind)
	}
	if why != reasonNone {
		outcome := outcomePass
		if status >= 500 || why == reasonPurged {
			outcome = outcomeFailed
		}
		v.result, v.why = resultBypass, why
		v.decline(x, why, outcome)
	}
}

// coversStatus reports whether a status of the service is an error that a stale answer
// may cover (RFC 5861 section 4).
func coversStatus(status int) bool {
	switch status {
	case 500, 502, 503, 504:
		return true
	}
	return false
}

// coversError reports whether the answer found may be given since the service fails.
func (v *visit) coversError() bool {
	h := &v.head
	d := h.directives(v.instance)
	var demands *rules.Demands
	if v.directives && v.directed {
		demands = &v.demands
	}
	age, lifetime := h.ageAt(v.shelf.now()), h.lifetime
	if !v.directed {
		lifetime = v.ttl
	}
	return v.servesStale && rules.MayServeStale(&d, demands) && age-lifetime <= 1000*int64(h.staleError) ||
		rules.MayServeOnError(&d, demands, age, lifetime)
}

// decline passes an answer on that is not kept.
func (v *visit) decline(x *pipeline.Exchange, why reason, o outcome) {
	waited := v.settle(o)
	switch {
	case o == outcomePass && waited:
		v.pass() // so that others need not wait in vain
	case o == outcomePass && v.found:
		v.remove() // it is out of date
	}
	v.shelf.meters.count(x, v.result, why)
	v.stageStatus(x)
}

// passTime is for how long nobody waits for an answer that was not kept, in milliseconds.
const passTime = 10_000

// pass notes that answers to this key are not kept at present.
func (v *visit) pass() {
	h := head{kind: kindPass}
	now := v.shelf.now()
	v.out = h.append(v.out[:0])
	_ = v.shelf.store.Set(&cache.Put{Key: v.full, Head: v.out, Expires: now + passTime, Born: v.born}, nil, now) // else others wait
}

// settle ends the flight that v leads, if it does, and reports whether anybody waited.
func (v *visit) settle(o outcome) (waited bool) {
	if f := v.flight; f != nil {
		v.flight = nil
		return v.shelf.flights.settle(f, o)
	}
	return false
}

// clean takes those fields off an answer that are not for clients.
func (v *visit) clean(h *fasthttp.ResponseHeader) {
	if v.hidesKeys {
		h.Del("Surrogate-Key")
		h.Del("Cache-Tag")
	}
	if v.directed {
		h.Del("Surrogate-Control")
	}
}

func millis(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
