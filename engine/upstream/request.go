package upstream

import (
	"slices"
	"strconv"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/router"
)

// seen marks forwarding fields that the request already has: from a trusted
// peer or from a plugin, since serve removed what others claim.
type seen uint8

const (
	seenProto seen = 1 << iota
	seenHost
	seenPort
	seenPath
	seenPrefix
)

// headWriter writes the head of a request as it goes to the service.
// Kept with the call it belongs to; not safe for concurrent use.
type headWriter struct {
	dst     []byte
	scratch []byte // an escaped path
	seen    seen
	// Values that the client sent, each followed by ", ".
	forwardedFor, via []byte
	x                 *pipeline.Exchange
	visit             func(key, value []byte) bool // w.field, bound once
}

// append appends the head of x's request to dst, without the empty line that ends it:
// framing fields follow. host is the Host field unless a route or a plugin says
// otherwise.
func (w *headWriter) append(dst []byte, x *pipeline.Exchange, way *Way, host []byte) []byte {
	w.x, w.seen, w.forwardedFor, w.via = x, 0, w.forwardedFor[:0], w.via[:0]
	h := &x.Ctx.Request.Header
	dst = append(dst, h.Method()...)
	dst = append(dst, ' ')
	target := len(dst)
	dst = w.escape(way.rule.appendPath(dst, x), target)
	if x.HasQuery {
		dst = append(dst, '?')
		dst = append(dst, x.Query...)
	}
	x.UpstreamURI = x.Hold(dst[target:])
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	switch {
	case x.UpstreamHost != nil:
		dst = append(dst, x.UpstreamHost...)
	case way.preserveHost && len(h.Host()) > 0: // HTTP/1.0 may have none
		dst = append(dst, h.Host()...)
	default:
		dst = append(dst, host...)
	}
	if x.Upgrade == nil {
		dst = append(dst, "\r\nConnection: keep-alive\r\n"...)
	} else {
		dst = append(append(append(dst, "\r\nConnection: keep-alive, Upgrade\r\nUpgrade: "...), x.Upgrade...), '\r', '\n')
	}
	w.dst = dst
	h.All()(w.visit)
	w.forwarding(way)
	dst, w.dst, w.x = w.dst, nil, nil
	return dst
}

// escape percent-encodes what must not stand in a request target in dst[from:]:
// a normalized path may hold any byte, a decoded line break too.
func (w *headWriter) escape(dst []byte, from int) []byte {
	path := dst[from:]
	escaped := router.EscapePath(w.scratch, path)
	if len(escaped) == len(path) {
		return dst // Fast path: nothing to encode, and escaped is path.
	}
	w.scratch = escaped
	return append(dst[:from], escaped...)
}

// appendEscaped appends path as escape would leave it.
func (w *headWriter) appendEscaped(dst, path []byte) []byte {
	from := len(dst)
	return w.escape(append(dst, path...), from)
}

// field writes one field of the client's request, leaving out what belongs to
// this connection (RFC 9110 section 7.6.1) or is written by append itself.
// Keys come in canonical form.
func (w *headWriter) field(key, value []byte) bool {
	switch string(key) {
	case "Host", "Connection", "Keep-Alive", "Proxy-Connection", "Proxy", "Transfer-Encoding",
		"Upgrade", "Http2-Settings", "Expect", "Content-Length", "X-Real-Ip", "X-Kong-Request-Id":
		return true
	case "Trailer": // may follow the chunks of a streamed body, and nothing else
		if !w.x.Ctx.Request.IsBodyStream() || w.x.Ctx.Request.Header.ContentLength() >= 0 {
			return true
		}
	case "Te":
		if string(value) != "trailers" {
			return true
		}
	case "X-Forwarded-For": // several fields are one list, and the peer is its last
		w.forwardedFor = append(append(w.forwardedFor, value...), ", "...)
		return true
	case "X-Forwarded-Proto":
		w.seen |= seenProto
	case "X-Forwarded-Host":
		w.seen |= seenHost
	case "X-Forwarded-Port":
		w.seen |= seenPort
	case "X-Forwarded-Path":
		w.seen |= seenPath
	case "X-Forwarded-Prefix":
		w.seen |= seenPrefix
	case "Via":
		w.via = append(append(w.via, value...), ", "...)
		return true
	}
	w.dst = append(append(append(append(w.dst, key...), ": "...), value...), '\r', '\n')
	return true
}

// forwarding writes the fields that tell the service about the client.
func (w *headWriter) forwarding(way *Way) {
	x, dst := w.x, w.dst
	if x.PeerIP.IsValid() { // not over a unix socket
		dst = append(append(dst, "X-Forwarded-For: "...), w.forwardedFor...)
		dst = append(x.PeerIP.AppendTo(dst), '\r', '\n')
	}
	if w.seen&seenProto == 0 {
		if x.Secure {
			dst = append(dst, "X-Forwarded-Proto: https\r\n"...)
		} else {
			dst = append(dst, "X-Forwarded-Proto: http\r\n"...)
		}
	}
	if w.seen&seenHost == 0 && len(x.Ctx.Request.Header.Host()) > 0 {
		dst = append(dst, "X-Forwarded-Host: "...)
		dst = append(append(dst, WithoutPort(x.Ctx.Request.Header.Host())...), '\r', '\n')
	}
	if w.seen&seenPort == 0 {
		dst = append(dst, "X-Forwarded-Port: "...)
		dst = append(strconv.AppendUint(dst, uint64(x.Port), 10), '\r', '\n')
	}
	if w.seen&seenPath == 0 {
		dst = append(dst, "X-Forwarded-Path: "...)
		dst = append(w.appendEscaped(dst, x.Path), '\r', '\n')
	}
	if w.seen&seenPrefix == 0 && way.rule.strip && x.MatchLen > 1 {
		dst = append(dst, "X-Forwarded-Prefix: "...)
		dst = append(w.appendEscaped(dst, x.Path[:x.MatchLen]), '\r', '\n')
	}
	if x.ClientIP.IsValid() {
		dst = append(dst, "X-Real-IP: "...)
		dst = append(x.AppendClientIP(dst), '\r', '\n')
	}
	dst = append(append(append(dst, "Via: "...), w.via...), "1.1 sluice\r\n"...)
	if way.requestID {
		dst = append(dst, "X-Kong-Request-Id: "...)
		dst = append(append(dst, x.RequestID[:]...), '\r', '\n')
	}
	w.dst = dst
}

// WithoutPort returns host without ":port"; an IPv6 literal keeps its brackets.
func WithoutPort(host []byte) []byte {
	for i, c := range slices.Backward(host) {
		switch {
		case c == ':':
			return host[:i]
		case c < '0' || c > '9':
			return host
		}
	}
	return host
}

// appendFraming ends the head with what says how long the body is.
// length is -1 for a body of unknown length.
func appendFraming(dst []byte, h *fasthttp.RequestHeader, length int) []byte {
	switch {
	case length < 0:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	case length > 0 || expectsLength(h.Method()):
		dst = append(dst, "Content-Length: "...)
		dst = append(strconv.AppendInt(dst, int64(length), 10), '\r', '\n')
	}
	return append(dst, '\r', '\n')
}

// expectsLength reports whether a request of this method states its length even
// when it has no body (RFC 9110 section 8.6).
func expectsLength(method []byte) bool {
	switch string(method) {
	case "POST", "PUT", "PATCH":
		return true
	}
	return false
}
