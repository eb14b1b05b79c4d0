package engine

import (
	"runtime/debug"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// expectation is the user value under which a request waits for its body.
type expectation struct{}

// expect decides, of a request with Expect: 100-continue, whether its client is to send
// the body (RFC 9110 section 10.1.1). What can be refused without the body is refused
// before it is sent: the request goes as far as the service, unless a hook needs the
// body. It is fasthttp's ExpectHandler: a status other than 100 is sent with whatever
// response is there.
func (e *Engine) expect(ctx *fasthttp.RequestCtx) (status int) {
	x := e.general(ctx)
	s := e.live.Load()
	defer func() {
		if r := recover(); r != nil {
			e.panics.Inc()
			e.log.Error("panic while serving a request", "request_id", string(x.RequestID[:]), "panic", r, "stack", string(debug.Stack()))
			x.Answer(replyPanic)
			status = ctx.Response.StatusCode()
			e.finish(x)
		}
	}()
	route := e.arrive(x, s)
	x.waiting = s
	if !x.Answered() && route.Chain.BuffersRequest {
		route.Chain.Begin(&x.Exchange) // for those of its answer, should the body never come
		ctx.SetUserValue(expectation{}, x)
		return fasthttp.StatusContinue // its Request hooks run when the body is there
	}
	x.entered = true
	if x.enters(route, s.BodyMax) == pipeline.Next {
		ctx.SetUserValue(expectation{}, x)
		return fasthttp.StatusContinue
	}
	e.leave(x, s)
	x.BytesOut = int64(len(ctx.Response.Header.Header()) + len(ctx.Response.Body()))
	status = ctx.Response.StatusCode()
	e.finish(x)
	return status
}

// awaited returns the exchange that waited for the body of ctx's request, nil if none did.
func (e *Engine) awaited(ctx *fasthttp.RequestCtx) *exchange {
	x, _ := ctx.UserValue(expectation{}).(*exchange)
	if x != nil {
		ctx.RemoveUserValue(expectation{})
	}
	return x
}

// resume goes on with a request whose client was told to send the body.
func (e *Engine) resume(x *exchange) {
	defer e.settle(x)
	s := x.waiting // one snapshot for the whole request
	verdict := pipeline.Next
	n, err := bufferSmall(x.Ctx)
	x.BytesIn += n
	if err != nil {
		x.closing = true
		verdict = x.Answer(replyMalformed)
	} else if !x.entered {
		verdict = x.enters(x.route, s.BodyMax)
	}
	if verdict == pipeline.Next {
		forward(x, x.route)
		x.route.Chain.Receive(&x.Exchange)
	}
	e.leave(x, s)
}
