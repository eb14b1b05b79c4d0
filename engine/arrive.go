package engine

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/downstream"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/router"
	"github.com/sluice-gateway/sluice/engine/snapshot"
	"github.com/sluice-gateway/sluice/engine/upstream"
)

// Replies of the door, in Kong's words.
var (
	replyMalformed = pipeline.NewFault(400, "Bad request")
	replyTooLarge  = pipeline.NewFault(413, "Payload too large")
	replyNoRoute   = pipeline.NewReply(404, "no Route matched with those values")
	replyNoService = pipeline.NewReply(503, "no Service found with those values")
	// A route of protocol ws or wss takes nothing but handshakes.
	replyTunnelOnly = pipeline.NewReply(426, "Upgrade required").With("Connection", "Upgrade").With("Upgrade", "websocket")
	replyPanic      = pipeline.NewReply(500, "An unexpected error occurred")
)

// arrive finds out what the request is and which route it takes. A request
// that must not be passed on is answered here and takes the route of requests
// that match none.
func (e *Engine) arrive(x *exchange, s *snapshot.Snapshot) *snapshot.Route {
	x.Start = pipeline.Now()
	x.Errors = s.Errors
	newRequestID(&x.RequestID)
	x.BytesIn = x.arrival.bytesIn
	x.PeerIP, x.Port = x.arrival.conn.IP, x.arrival.conn.Port
	x.Secure = x.arrival.conn.TLS
	x.ClientIP = x.PeerIP
	e.node.Requests.Add(uint32(x.ConnID), 1)
	x.route = s.Nowhere()
	if x.arrival.head.TooMany {
		e.malformed.Inc()
		x.Answer(replyHeadTooLarge)
		x.closing = true
		return x.route
	}
	if !e.readTarget(x) {
		e.malformed.Inc()
		x.Answer(replyMalformed)
		x.closing = true
		return x.route
	}
	e.believe(x, s)
	h := &x.Ctx.Request.Header
	if limit := s.BodyMax; limit > 0 && int64(h.ContentLength()) > limit {
		x.Answer(replyTooLarge)
		x.closing = true
		return x.route
	}
	q := &x.query.Request
	q.Method, q.Host, q.Path, q.Query = h.Method(), h.Host(), x.Path, x.Query
	q.Headers, q.TLS, q.SNI = h, x.arrival.conn.TLS, x.arrival.conn.SNI
	q.Protocol = "http"
	if x.Secure {
		q.Protocol = "https"
	}
	q.Src = netip.AddrPortFrom(x.ClientIP, x.arrival.conn.ClientPort)
	q.Dst = netip.AddrPortFrom(x.arrival.conn.LocalIP, x.Port)
	x.route = s.Match(&x.query)
	x.MatchLen = x.query.PathLen()
	x.Pattern, x.PatternSkip = x.query.Pattern()
	x.Route, x.Service, x.RouteIndex = x.route.Entity, x.route.ServiceEntity, x.route.Index
	if x.arrival.head.Upgrade {
		x.Upgrade = upgrade(x)
	}
	return x.route
}

// readTarget takes path, query and host from the request and reports whether
// they can mean only one thing, to us and to a service.
func (e *Engine) readTarget(x *exchange) bool {
	h := &x.Ctx.Request.Header
	host, uri := h.Host(), h.RequestURI()
	if x.arrival.head.Malformed || h.IsConnect() {
		return false
	}
	if len(uri) > 0 && uri[0] != '/' {
		var ok bool
		if uri, ok = originForm(uri, host); !ok {
			return false
		}
	}
	if !validHost(host) || len(host) == 0 && h.IsHTTP11() {
		return false
	}
	path := uri
	if i := bytes.IndexByte(uri, '?'); i >= 0 {
		path, x.Query, x.HasQuery = uri[:i], uri[i+1:], true
	}
	if bytes.IndexByte(uri, '#') >= 0 {
		return false // a fragment is never sent (RFC 9112 section 3.2)
	}
	if (bytes.IndexByte(path, '%') >= 0 || bytes.IndexByte(path, '\\') >= 0) && router.Ambiguities(path)&refusedPaths != 0 {
		return false
	}
	normal, err := router.NormalizePath(x.path[:0], path)
	if err != nil {
		return false
	}
	if len(normal) > 0 && len(path) > 0 && &normal[0] != &path[0] {
		x.path = normal
	}
	x.Path = normal
	return len(normal) > 0
}

// refusedPaths is what a path may not have, because services are known to read
// it in more than one way: a backslash, and escaped control characters. Escaped
// slashes and delimiters and doubly escaped bytes have one canonical form here
// (they stay as they are) and are used by real APIs; Kong passes them on too.
const refusedPaths = router.Backslash | router.EncodedControl

// originForm turns an absolute-form target into the path it names. Its host
// must be the Host field's (RFC 9112 section 3.2.2 lets the target win; two
// names in one request are refused instead). "*" is passed for OPTIONS only.
func originForm(uri, host []byte) ([]byte, bool) {
	if len(uri) == 1 && uri[0] == '*' {
		return []byte("/"), true
	}
	scheme, rest, ok := bytes.Cut(uri, []byte("://"))
	if !ok || !bytes.EqualFold(scheme, []byte("http")) && !bytes.EqualFold(scheme, []byte("https")) {
		return nil, false
	}
	path := []byte("/")
	authority := rest
	if i := bytes.IndexAny(rest, "/?"); i >= 0 {
		authority = rest[:i]
		if path = rest[i:]; path[0] == '?' {
			path = append([]byte("/"), path...)
		}
	}
	return path, bytes.EqualFold(authority, host)
}

// hostByte marks what a Host field may have: names, addresses, a port. No
// userinfo, which would turn into an Authorization field, no path.
var hostByte = func() (t [256]bool) {
	for _, c := range "-._~!$&'()*+,;=:[]%0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" {
		t[c] = true
	}
	return t
}()

func validHost(host []byte) bool {
	for _, c := range host {
		if !hostByte[c] {
			return false
		}
	}
	return true
}

// believe applies trusted_ips: forwarding fields of anyone else are removed,
// and fields that the client's Connection field names go too.
func (e *Engine) believe(x *exchange, s *snapshot.Snapshot) {
	head := &x.arrival.head
	c := &s.Client
	x.TrustedPeer = c.Trusts(x.PeerIP) || c.TrustsUnix && !x.PeerIP.IsValid()
	h := &x.Ctx.Request.Header
	if head.Connection {
		dropNamed(h)
	}
	if x.TrustedPeer {
		x.Secure = x.Secure || bytes.EqualFold(h.Peek("X-Forwarded-Proto"), []byte("https"))
		if ip := realIP(x, c); ip.IsValid() {
			x.ClientIP = ip
		}
		return
	}
	if head.Forwarding {
		for _, name := range [...]string{"X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Path", "X-Forwarded-Prefix", "X-Real-Ip"} {
			h.Del(name)
		}
	}
}

// dropNamed removes the fields named in Connection (RFC 9110 section 7.6.1),
// but for those that say where the request goes and how long it is.
func dropNamed(h *fasthttp.RequestHeader) {
	if v := h.Peek("Connection"); bytes.EqualFold(v, []byte("keep-alive")) || bytes.EqualFold(v, []byte("close")) {
		if len(h.PeekAll("Connection")) < 2 {
			return // Fast path: what browsers send.
		}
	}
	var named []byte
	for key, value := range h.All() {
		if string(key) == "Connection" {
			named = append(append(named, value...), ',')
		}
	}
	for len(named) > 0 {
		var name []byte
		name, named, _ = bytes.Cut(named, []byte{','})
		switch name = bytes.TrimSpace(name); strings.ToLower(string(name)) {
		case "", "host", "content-length", "connection", "transfer-encoding", "close", "keep-alive", "upgrade", "te":
			continue
		}
		h.DelBytes(name)
	}
}

// realIP reads the client's address from real_ip_header of a trusted peer: the
// last address, or with real_ip_recursive the last that is not itself trusted.
// Several fields of that name are one list (RFC 9110 section 5.3).
func realIP(x *exchange, c *snapshot.ClientAddress) netip.Addr {
	var found netip.Addr
	fields := x.Ctx.Request.Header.PeekAll(c.Header)
	for _, rest := range slices.Backward(fields) {
		for len(rest) > 0 {
			part := rest
			if i := bytes.LastIndexByte(rest, ','); i >= 0 {
				part, rest = rest[i+1:], rest[:i]
			} else {
				rest = nil
			}
			ip, ok := parseAddr(bytes.TrimSpace(part))
			if !ok {
				return found
			}
			found = ip
			if !c.Recursive || !c.Trusts(ip) {
				return found
			}
		}
	}
	return found
}

// parseAddr reads "ip", "ip:port" or "[ip]:port".
func parseAddr(b []byte) (netip.Addr, bool) {
	if a, err := netip.ParseAddr(string(b)); err == nil {
		return a.Unmap(), true
	}
	if p, err := netip.ParseAddrPort(string(b)); err == nil {
		return p.Addr().Unmap(), true
	}
	return netip.Addr{}, false
}

// newRequestID writes 32 random hex digits. They need not be secret, only
// unique: ChaCha8 per thread, seeded by the system.
func newRequestID(id *[32]byte) {
	var b [16]byte
	u, v := rand.Uint64(), rand.Uint64()
	for i := range 8 {
		b[i], b[8+i] = byte(u>>(8*i)), byte(v>>(8*i))
	}
	hex.Encode(id[:], b[:])
}

// refuse answers a plain request on a route that only speaks https.
func refuse(x *exchange, r *snapshot.Refusal) pipeline.Verdict {
	if r.Redirect == 0 {
		return x.Answer(r.Reply)
	}
	// The port of the plain listener is not that of the other.
	location := append([]byte("https://"), upstream.WithoutPort(x.Ctx.Request.Header.Host())...)
	location = append(location, router.EscapePath(nil, x.Path)...)
	if x.HasQuery {
		location = append(append(location, '?'), x.Query...)
	}
	x.Ctx.Response.SetStatusCode(r.Redirect)
	x.Ctx.Response.Header.SetBytesV("Location", location)
	x.Source = pipeline.SourceGateway
	return pipeline.Done
}

// bufferBody reads the whole body of a request whose hooks need it.
func bufferBody(x *exchange, bodyMax int64) pipeline.Verdict {
	limit := int64(upstream.WholeBodyMax)
	if bodyMax > 0 {
		limit = min(limit, bodyMax)
	}
	body, err := upstream.ReadClientBody(x.Ctx, limit, x.bodyTimeout)
	switch {
	case err == nil:
		x.Ctx.Request.SetBodyRaw(body)
		x.BytesIn += int64(len(body))
		return pipeline.Next
	case errors.Is(err, upstream.ErrTooBig):
		x.closing = true
		return x.Answer(replyTooLarge)
	}
	x.closing = true
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return x.Answer(replyHeadTimeout)
	}
	return x.Answer(replyMalformed)
}

// bufferSmall takes a small body of known length off the connection, so that it
// can be sent in one piece and, if need be, again. It returns how many bytes it took.
func bufferSmall(ctx *fasthttp.RequestCtx) (int64, error) {
	n := ctx.Request.Header.ContentLength()
	if !ctx.Request.IsBodyStream() || n < 0 || n > upstream.BufferedBodyMax {
		return 0, nil
	}
	body := make([]byte, n)
	if got, err := io.ReadFull(ctx.RequestBodyStream(), body); err != nil {
		return int64(got), errors.Join(errBodyCut, err)
	}
	ctx.Request.SetBodyRaw(body)
	return int64(n), nil
}

var errBodyCut = errors.New("the client's body ended early")

// peerOf returns what is known of the connection a request of the general
// server came over.
func (e *Engine) peerOf(ctx *fasthttp.RequestCtx) *downstream.Peer {
	if p, ok := downstream.PeerOf(ctx.Conn()); ok {
		return p
	}
	p := downstream.NewPeer(ctx.RemoteAddr(), ctx.LocalAddr())
	return &p
}
