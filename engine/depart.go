package engine

import (
	"strconv"
	"sync"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/snapshot"
)

// Canonical names, as bytes that are never written.
var (
	nameVia             = []byte("Via")
	nameDate            = []byte("Date")
	nameRequestID       = []byte("X-Kong-Request-Id")
	nameUpstreamLatency = []byte("X-Kong-Upstream-Latency")
	nameProxyLatency    = []byte("X-Kong-Proxy-Latency")
	nameLatency         = []byte("X-Kong-Response-Latency")
	nameUpstreamStatus  = []byte("X-Kong-Upstream-Status")
	viaSluice           = []byte("1.1 sluice")
)

// depart gives the answer what every answer gets (section 5.4 of Kong's
// contract). Nothing changes the response after it.
func (e *Engine) depart(x *exchange, s *snapshot.Snapshot) {
	h := &x.Ctx.Response.Header
	now := pipeline.Now()
	x.End = now
	if s.Headers.RequestID {
		h.SetCanonical(nameRequestID, x.RequestID[:])
	}
	if len(h.PeekCanonical(nameDate)) == 0 {
		h.SetCanonical(nameDate, *e.date.Load())
	}
	if x.Source != pipeline.SourceService {
		if s.Headers.ResponseLatency {
			setMillis(h, nameLatency, now-x.Start)
		}
		return
	}
	if s.Headers.Via {
		if via := h.PeekCanonical(nameVia); len(via) > 0 {
			h.Set("Via", string(via)+", 1.1 sluice")
		} else {
			h.SetCanonical(nameVia, viaSluice)
		}
	}
	if s.Headers.UpstreamLatency {
		setMillis(h, nameUpstreamLatency, x.UpstreamHeaders-x.UpstreamStart)
	}
	if s.Headers.ProxyLatency {
		setMillis(h, nameProxyLatency, x.UpstreamStart-x.Start)
	}
	if s.Headers.UpstreamStatus {
		var b [8]byte
		h.SetCanonical(nameUpstreamStatus, strconv.AppendInt(b[:0], int64(x.UpstreamStatus), 10))
	}
	if s.Headers.Debug && x.Route != nil && string(x.Ctx.Request.Header.Peek("Kong-Debug")) == "1" {
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

func setMillis(h *fasthttp.ResponseHeader, name []byte, nanos int64) {
	var b [20]byte
	h.SetCanonical(name, strconv.AppendInt(b[:0], max(nanos, 0)/1e6, 10))
}

var exchanges = sync.Pool{New: func() any {
	x := &exchange{}
	x.Reset()
	return x
}}

// acquire returns an exchange for the request in ctx.
func (e *Engine) acquire(ctx *fasthttp.RequestCtx) *exchange {
	x := exchanges.Get().(*exchange)
	x.Ctx = ctx
	ctx.Response.Header.SetNoDefaultContentType(true)
	x.shard = uint32(ctx.ConnID())
	return x
}

// finish runs the Log hooks of an answer that has been sent and gives x back.
func (e *Engine) finish(x *exchange) {
	defer e.settleLog(x)
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
	x.route, x.arrival, x.closing = nil, arrival{}, false
	if cap(x.path) > pathBytesKept {
		x.path = nil
	}
	exchanges.Put(x)
}

// pathBytesKept is the longest path buffer that goes back to the pool.
const pathBytesKept = 4 << 10
