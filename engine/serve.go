package engine

import (
	"io"
	"runtime/debug"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/downstream"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/snapshot"
)

// serve carries one request through the gateway. It is the only place that
// knows the order of the steps.
func (e *Engine) serve(x *exchange) {
	s := e.live.Load() // one snapshot for the whole request
	defer e.settle(x)  // recovers

	route := e.arrive(x, s) // which route? never nil: "no route" is a route too
	if x.enters(route, s.BodyMax) == pipeline.Next {
		forward(x, route)                // who answers?
		route.Chain.Receive(&x.Exchange) // what is kept of it?
	}
	e.leave(x, s) // what does the client see?
}

// enters runs what may refuse the request before the service is called: the door's own
// checks, the route's, and the Request hooks.
func (x *exchange) enters(route *snapshot.Route, bodyMax int64) pipeline.Verdict {
	route.Chain.Begin(&x.Exchange)
	x.Raw = x.arrival.fast && !route.Chain.ReadsHeaders
	if route.Service != nil {
		x.Home = route
	}
	if x.Answered() || admit(x, route, bodyMax) == pipeline.Done {
		return pipeline.Done // malformed, too large, no route
	}
	return route.Chain.Request(&x.Exchange)
}

// leave runs the Response hooks and gives the answer what every answer gets.
func (e *Engine) leave(x *exchange, s *snapshot.Snapshot) {
	if !x.Raw {
		x.ApplyStaged()
	}
	x.route.Chain.Response(&x.Exchange)
	e.depart(x, s)
}

// admit answers what a route refuses before its hooks see the request.
func admit(x *exchange, route *snapshot.Route, bodyMax int64) pipeline.Verdict {
	switch {
	case route.Entity == nil:
		return x.Answer(replyNoRoute)
	case route.Refuses != nil && !x.Secure:
		return refuse(x, route.Refuses)
	case route.TunnelsOnly && x.Upgrade == nil:
		return x.Answer(replyTunnelOnly)
	}
	if route.Chain.BuffersRequest && x.Ctx.Request.IsBodyStream() {
		return bufferBody(x, bodyMax)
	}
	return pipeline.Next
}

// forward hands the request to the route's service.
func forward(x *exchange, route *snapshot.Route) {
	switch {
	case x.Destination != nil:
		x.Destination.Forward(&x.Exchange)
	case route.Internal != nil:
		route.Internal(x.Ctx)
		x.Source = pipeline.SourceGateway
	case route.Service == nil:
		x.Answer(replyNoService)
	default:
		route.Service.Forward(&x.Exchange, &route.Way)
	}
}

// settle is deferred by serve: a panic of any step ends this request with a
// 500, not the process.
func (e *Engine) settle(x *exchange) {
	r := recover()
	if r == nil {
		return
	}
	e.panics.Inc()
	e.log.Error("panic while serving a request", "request_id", string(x.RequestID[:]), "panic", r, "stack", string(debug.Stack()))
	x.dropTunnel()
	x.Answer(replyPanic)
	x.closing, x.End = true, pipeline.Now()
}

// exchange is a pipeline.Exchange with what only the engine needs of it.
type exchange struct {
	pipeline.Exchange
	query   snapshot.Query
	path    []byte // holds a normalized path that differs from the one sent
	arrival arrival
	route   *snapshot.Route
	closing bool // the connection ends with this answer
	// bodyTimeout is how long the client may take for a piece of its body.
	bodyTimeout time.Duration
	// waiting is the snapshot of a request that has asked whether to send its body;
	// entered says that its Request hooks have run already.
	waiting *snapshot.Snapshot
	entered bool
}

// arrival is what the connection knows of a request before it is parsed.
type arrival struct {
	head    downstream.Head
	conn    *downstream.Peer
	bytesIn int64
	fast    bool // the fast lane
}

// serveHTTP serves a request of the general server: TLS, HTTP/1.0, large or
// chunked bodies, anything unusual.
func (e *Engine) serveHTTP(ctx *fasthttp.RequestCtx) {
	x := e.awaited(ctx) // the client has been told to go on with its body
	if x == nil {
		x = e.general(ctx)
		n, err := bufferSmall(ctx)
		if err != nil {
			x.arrival.head.Malformed = true
		}
		x.arrival.bytesIn += n
		e.serve(x)
	} else {
		e.resume(x)
	}
	if x.Tunnel != nil {
		e.openTunnel(x)
		return
	}
	if x.closing || e.server.Draining() {
		ctx.Response.SetConnectionClose()
	}
	resp := &ctx.Response
	if !resp.IsBodyStream() {
		x.BytesOut = int64(len(resp.Header.Header()))
		if !resp.SkipBody && !ctx.IsHead() {
			x.BytesOut += int64(len(resp.Body()))
		}
		e.finish(x)
		return
	}
	// The end of a streamed answer is known when the server closes its body.
	x.BytesOut = int64(len(resp.Header.Header()))
	size, flush := resp.Header.ContentLength(), resp.ImmediateHeaderFlush
	stream := resp.BodyStream()
	if d, ok := stream.(interface{ Detach() io.Reader }); ok {
		stream = d.Detach() // SetBodyStream closes the stream that it replaces
	}
	resp.SetBodyStream(&finisher{body: stream, x: x, e: e}, size)
	resp.ImmediateHeaderFlush = flush
}

// general returns an exchange for a request of the general server.
func (e *Engine) general(ctx *fasthttp.RequestCtx) *exchange {
	x := e.acquire(ctx)
	h := &ctx.Request.Header
	x.arrival = arrival{head: downstream.Inspect(h.RawHeaders()), conn: e.peerOf(ctx)}
	x.ConnID, x.ConnRequest = x.arrival.conn.ID, ctx.ConnRequestNum()
	x.arrival.bytesIn = int64(len(h.RawHeaders()) + len(h.RequestURI()) + len(h.Method()) + len("  HTTP/1.1\r\n"))
	return x
}

// Answer implements downstream.Handler: a request of the fast lane.
func (e *Engine) Answer(r *downstream.Request) (closing bool) {
	x := e.acquire(r.Ctx)
	x.arrival = arrival{head: r.Head, conn: r.Peer, bytesIn: r.BytesIn, fast: true}
	x.ConnID, x.ConnRequest = r.Peer.ID, r.Number
	r.Turn = x
	e.serve(x)
	r.Ended, r.Exchange = x.End, &x.Exchange
	return x.closing
}

// Sent implements downstream.Handler.
func (e *Engine) Sent(r *downstream.Request, bytes int64) {
	x := r.Turn.(*exchange)
	r.Turn, r.Exchange = nil, nil
	x.BytesOut = bytes
	e.finish(x)
}

// finisher ends an exchange when its body has been sent.
type finisher struct {
	body io.Reader
	x    *exchange
	e    *Engine
}

// Read implements io.Reader.
func (f *finisher) Read(p []byte) (int, error) {
	n, err := f.body.Read(p)
	if f.x != nil {
		f.x.BytesOut += int64(n)
	}
	return n, err
}

// Close implements io.Closer.
func (f *finisher) Close() error {
	var err error
	if c, ok := f.body.(io.Closer); ok {
		err = c.Close()
	}
	if f.x != nil {
		f.e.finish(f.x)
		f.x = nil
	}
	return err
}
