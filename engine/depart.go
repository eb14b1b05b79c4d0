package engine

import (
	"sync"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/snapshot"
)

// depart gives the answer what every answer gets (section 5.4 of Kong's
// contract). Nothing changes the response after it.
func (e *Engine) depart(x *exchange, s *snapshot.Snapshot) {
	now := pipeline.Now()
	x.End = now
	if s.Headers.RequestID {
		x.Stage("X-Kong-Request-Id", x.RequestID[:])
	}
	if x.Source == pipeline.SourceService || x.Source == pipeline.SourceCache {
		proxied(x, &s.Headers)
	} else if s.Headers.ResponseLatency {
		x.StageInt("X-Kong-Response-Latency", millis(now-x.Start))
	}
	if !x.Raw {
		x.ApplyStaged()
	}
	if x.arrival.fast && x.Source != pipeline.SourceCache && len(x.AnswerField(nameDate)) == 0 { // what is kept has one
		x.Stage("Date", *e.date.Load()) // fasthttp would drop it from its headers
	}
}

var (
	nameDate  = []byte("Date")
	nameVia   = []byte("Via")
	viaSluice = []byte("1.1 sluice")
)

// proxied stages what an answer of a service gets.
func proxied(x *exchange, want *snapshot.Headers) {
	h := &x.Ctx.Response.Header
	if want.Via {
		if via := x.AnswerField(nameVia); len(via) > 0 {
			x.Stage("Via", append(append(append([]byte(nil), via...), ", "...), viaSluice...))
		} else {
			x.Stage("Via", viaSluice)
		}
	}
	if want.UpstreamLatency {
		x.StageInt("X-Kong-Upstream-Latency", millis(x.UpstreamHeaders-x.UpstreamStart))
	}
	if want.ProxyLatency {
		x.StageInt("X-Kong-Proxy-Latency", millis(x.UpstreamStart-x.Start))
	}
	if want.UpstreamStatus {
		x.StageInt("X-Kong-Upstream-Status", int64(x.UpstreamStatus))
	}
	if want.Debug && x.Route != nil && string(x.Ctx.Request.Header.Peek("Kong-Debug")) == "1" {
		debugHeaders(h, x)
	}
}

func debugHeaders(h *fasthttp.ResponseHeader, x *exchange) {
	h.Set("Kong-Route-Id", x.Route.ID)
	h.Set("Kong-Route-Name", x.Route.Name)
	if x.Service != nil {
		h.Set("Kong-Service-Id", x.Service.ID)
		h.Set("Kong-Service-Name", x.Service.Name)
	}
}

func millis(nanos int64) int64 { return max(nanos, 0) / 1e6 }

var exchanges = sync.Pool{New: func() any {
	x := &exchange{}
	x.Reset()
	return x
}}

// acquire returns an exchange for the request in ctx.
func (e *Engine) acquire(ctx *fasthttp.RequestCtx) *exchange {
	x := exchanges.Get().(*exchange)
	x.Ctx, x.bodyTimeout = ctx, e.timeouts.Body
	ctx.Response.Header.SetNoDefaultContentType(true)
	return x
}

// finish runs the Log hooks of an answer that has been sent and gives x back.
func (e *Engine) finish(x *exchange) {
	defer e.settleLog(x)
	x.dropTunnel()
	if x.route != nil {
		x.route.Chain.Log(&x.Exchange)
	}
}

// settleLog gives x back, whatever its Log hooks did.
func (e *Engine) settleLog(x *exchange) {
	if r := recover(); r != nil {
		e.panics.Inc()
		e.log.Error("panic in a log hook", "request_id", string(x.RequestID[:]), "panic", r)
	}
	x.Reset()
	x.query.Request.Headers = nil
	x.route, x.arrival, x.closing, x.waiting, x.entered = nil, arrival{}, false, nil, false
	if cap(x.path) > pathBytesKept {
		x.path = nil
	}
	exchanges.Put(x)
}

// pathBytesKept is the longest path buffer that goes back to the pool.
const pathBytesKept = 4 << 10
