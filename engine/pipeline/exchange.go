package pipeline

import (
	"net/netip"
	"regexp"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/config"
)

// Source says who made the answer of an exchange.
type Source uint8

// Where an answer came from. Kong's logs and metrics call the first two "kong"
// and "service".
const (
	SourceNone    Source = iota // no answer yet
	SourceGateway               // a hook, or a fault the gateway reports
	SourceService               // the service behind the route
	SourceCache                 // the service, some time ago
)

// Credential is what a caller proved himself with.
// Immutable; shared by all requests that present it.
type Credential struct {
	ID         string // the credential entity's id
	Identifier string // sent on as X-Credential-Identifier: key id, username, client id
	Scope      string // what it allows, space-separated (OAuth 2.0); empty for other kinds
	Consumer   *Consumer
}

// Try is one attempt to reach a target.
type Try struct {
	Target  string // host:port as balanced to; owned by the snapshot
	Start   int64  // Now() when the target was picked
	Connect int64  // nanoseconds until a connection was at hand
	Failed  bool   // no response header came back
	Status  int    // status of a failed attempt as the client would see it, else 0
}

// Exchange carries the facts of one request and the answer being made for it.
//
// It belongs to the goroutine that serves the request and is reused for another
// request afterwards: neither it nor any bytes reached through it (Ctx, Path,
// Query, ...) may be kept after a hook returns, except what its comment allows.
type Exchange struct {
	// Ctx holds the request as the service will get it and the response as the
	// client will. Writer: serve; hooks change headers and bodies through it.
	Ctx *fasthttp.RequestCtx

	// Snapshot data, valid to keep (immutable). Writer: serve. Service is nil
	// for a route without one; Route is nil when no route matched.
	Route   *config.Route
	Service *config.Service
	// RouteIndex is the route's place in Document.Routes, or -1: an index into
	// tables that build made, one entry a route.
	RouteIndex int

	// Path is the normalized request path, Query the raw query without '?';
	// MatchLen is how many bytes of Path the route's path matched.
	// Writer: serve. Readers: upstream, plugins.
	Path     []byte
	Query    []byte
	MatchLen int
	// HasQuery tells a bare '?' from none, because it is forwarded as it came.
	HasQuery bool
	// Pattern is the regexp that matched Path, nil for a prefix. It looks at
	// Path[PatternSkip:].
	Pattern     *regexp.Regexp
	PatternSkip int

	// ClientIP is the caller's address after trusted_ips and real_ip_header
	// were applied, unmapped. PeerIP is the connection's. Writer: serve.
	// Readers: upstream (forwarding headers), rate limiting, logs.
	ClientIP netip.Addr
	PeerIP   netip.Addr
	// TrustedPeer says that PeerIP is in trusted_ips: its forwarding headers count.
	TrustedPeer bool
	// Secure says that the client reached us, or a trusted proxy before us, by TLS.
	Secure bool
	// Port is the port the client connected to.
	Port uint16

	// ConnID numbers the client's connection, ConnRequest this request on it, from
	// 1. ConnID also serves to choose among counters that many cores would write.
	// Writer: serve. Readers: prometheus, correlationid.
	ConnID      uint64
	ConnRequest uint64

	// RequestID is 32 hex digits, unique to this request. Writer: serve.
	// Readers: upstream (X-Kong-Request-Id), replies, logs.
	RequestID [32]byte

	// Writer: authentication plugins. Readers: limits, transformers, logs,
	// chains (consumer-scoped settings), balancing.
	Consumer   *Consumer
	Credential *Credential

	// CorrelationID is what the correlation-id plugin chose; nil without it.
	// Writer: correlationid. Readers: logs, transformers.
	CorrelationID []byte

	// Upstream request target, as changed by a Request hook: a path that
	// replaces the one derived from the match, nil to leave it.
	// Writers: requesttransformer, canary. Reader: upstream, which only reads the bytes.
	UpstreamPath []byte
	// UpstreamHost replaces the Host the service would get, nil to leave it.
	// Writer: requesttransformer. Reader: upstream.
	UpstreamHost []byte

	// Deadline is the Now() value by which the whole answer must be with the client,
	// over all attempts; 0 for none. Writer: requesttimeout. Readers: upstream, engine.
	Deadline int64
	// StreamIdle takes the place of Deadline for a tunnel or an event stream: how
	// long it may be silent; 0 leaves the service's read timeout.
	// Writer: requesttimeout. Readers: upstream, engine.
	StreamIdle time.Duration
	// Timeouts replaces those of the service; nil leaves them.
	// Writer: upstreamtimeout. Reader: upstream.
	Timeouts *Timeouts
	// Retry replaces the service's retries; nil leaves them.
	// Writer: proxyretry. Reader: upstream.
	Retry *RetryPolicy
	// Destination takes the request in place of the route's service; nil leaves it.
	// Writer: canary. Readers: engine, logs.
	Destination Destination
	// Home is where the route leads by itself, nil for one without service; Destination
	// goes before it. Writer: serve. Reader: proxycache.
	Home Destination

	// Upgrade is the protocol that the client wants to change to, where the route lets
	// it; nil for an ordinary request. Writer: serve. Reader: upstream.
	Upgrade []byte
	// Tunnel is the service's side of a connection that has changed its protocol: the
	// answer is a 101, and bytes pass both ways once it is sent. Writer: upstream.
	// Readers: engine, logs.
	Tunnel *Tunnel

	// UpstreamURI is the path and query the service was asked for; nil when it
	// was not. Writer: upstream. Readers: logs.
	UpstreamURI []byte

	// Times are Now() values, 0 when the step was not reached. Writer: serve
	// and upstream. Readers: metrics, logs, response headers.
	Start           int64 // first byte of the request parsed
	UpstreamStart   int64 // Request hooks done, service called
	UpstreamHeaders int64 // response header of the service read
	End             int64 // answer handed to the socket
	Tries           []Try
	// Target is the host:port that answered; empty when none did.
	Target string
	// UpstreamStatus is the status the service answered with, before Response hooks.
	UpstreamStatus int
	// Source says who made the answer.
	Source Source

	// BytesIn and BytesOut are sizes on the wire, header and body, known in
	// Log hooks. Writer: serve. Readers: prometheus, filelog.
	BytesIn  int64
	BytesOut int64

	// Raw says that nobody looks at the header of this answer: the fast lane writes it,
	// and no hook reads it. Writer: serve. Readers: engine, AnswerStored.
	Raw bool

	// BuffersBody says that a Response hook of this route needs the whole body.
	// Writer: serve. Reader: upstream.
	BuffersBody bool

	// Errors is how this gateway words its own errors; never nil. Writer: serve.
	Errors *ErrorStyle

	fields     Fields // of a stored answer
	staged     []stagedHeader
	stagedLens uint64 // bit n: a name of n bytes is staged (n modulo 64)
	scratch    []byte // bytes of staged values
	picks      []*Hooks
	captures   [][]byte
	captured   bool
}

type stagedHeader struct {
	name       string
	start, end int
	more       bool // beside others of that name
}

// Stage promises a response header before an answer exists, in place of any the
// answer may have under that name. The engine sets it on whatever answer is made,
// before Response hooks run; value is copied.
// name must be in canonical form ("X-Rate-Limit") and immutable.
func (x *Exchange) Stage(name string, value []byte) {
	start := len(x.scratch)
	x.scratch = append(x.scratch, value...)
	x.stage(name, start)
}

// StageInt is Stage for a decimal number, not negative.
func (x *Exchange) StageInt(name string, n int64) {
	start := len(x.scratch)
	x.scratch = strconv.AppendInt(x.scratch, max(n, 0), 10)
	x.stage(name, start)
}

// StageMore is Stage for a header that stands beside those of its name that the
// answer may have, such as Set-Cookie.
func (x *Exchange) StageMore(name string, value []byte) {
	start := len(x.scratch)
	x.scratch = append(x.scratch, value...)
	x.staged = append(x.staged, stagedHeader{name, start, len(x.scratch), true})
}

func (x *Exchange) stage(name string, start int) {
	h := stagedHeader{name, start, len(x.scratch), false}
	if bit := uint64(1) << (len(name) & 63); x.stagedLens&bit == 0 {
		x.stagedLens |= bit
	} else {
		for i := range x.staged {
			if x.staged[i].name == name && !x.staged[i].more {
				x.staged[i] = h
				return
			}
		}
	}
	x.staged = append(x.staged, h)
}

// ApplyStaged writes the staged headers onto the response, once. The engine
// calls it between the answer and the Response hooks.
func (x *Exchange) ApplyStaged() {
	h := &x.Ctx.Response.Header
	for i := range x.staged {
		s := &x.staged[i]
		if s.more {
			h.AddBytesKV(stringBytes(s.name), x.scratch[s.start:s.end])
			continue
		}
		h.SetCanonical(stringBytes(s.name), x.scratch[s.start:s.end])
	}
	x.staged, x.stagedLens = x.staged[:0], 0
}

// Staged reports whether a header of that canonical name is staged.
func (x *Exchange) Staged(name []byte) bool {
	if x.stagedLens&(1<<(len(name)&63)) == 0 { // Fast path: none of that length.
		return false
	}
	for i := range x.staged {
		if x.staged[i].name == string(name) && !x.staged[i].more {
			return true
		}
	}
	return false
}

// AppendStaged appends the staged headers to dst as they go over the wire. The
// engine uses it in place of ApplyStaged where no hook looks at headers.
func (x *Exchange) AppendStaged(dst []byte) []byte {
	dst = x.appendFields(dst)
	for i := range x.staged {
		s := &x.staged[i]
		dst = append(append(append(dst, s.name...), ": "...), x.scratch[s.start:s.end]...)
		dst = append(dst, '\r', '\n')
	}
	return dst
}

// Answer makes r the answer of this exchange and returns Done, so that a hook
// can end with `return x.Answer(reply)`.
func (x *Exchange) Answer(r *Reply) Verdict {
	x.fields = Fields{} // of a kept answer that r takes the place of
	r.write(x)
	x.Source = SourceGateway
	return Done
}

// Answered reports whether an answer exists.
func (x *Exchange) Answered() bool { return x.Source != SourceNone }

// Capture returns the named ("user") or numbered ("1") group of the regexp path
// that matched, nil if there is none. The first call of a request allocates: the
// regexp runs a second time, with groups.
func (x *Exchange) Capture(name string) []byte {
	if x.Pattern == nil {
		return nil
	}
	if !x.captured {
		x.captured = true
		x.captures = x.Pattern.FindSubmatch(x.Path[x.PatternSkip:])
	}
	if i := x.Pattern.SubexpIndex(name); i > 0 && i < len(x.captures) {
		return x.captures[i]
	}
	i, err := fasthttp.ParseUint(stringBytes(name))
	if err != nil || i >= len(x.captures) {
		return nil
	}
	return x.captures[i]
}

// AppendClientIP appends the textual ClientIP to dst.
func (x *Exchange) AppendClientIP(dst []byte) []byte {
	if !x.ClientIP.IsValid() {
		return dst
	}
	return x.ClientIP.AppendTo(dst)
}

// Method returns the request's method. The bytes belong to Ctx.
func (x *Exchange) Method() []byte { return x.Ctx.Request.Header.Method() }

// WallMillis returns the wall clock at Start in milliseconds since 1970, from
// the shared clock: no system call.
func (x *Exchange) WallMillis() int64 { return WallMillis(x.Start) }

// Reset makes x ready for another request, keeping its buffers below a size
// that no usual request passes.
func (x *Exchange) Reset() {
	const scratchKept, triesKept = 4 << 10, 16
	scratch, staged, tries, picks := x.scratch[:0], x.staged[:0], x.Tries[:0], x.picks[:0]
	if cap(scratch) > scratchKept {
		scratch = nil
	}
	if cap(tries) > triesKept {
		tries = nil
	}
	*x = Exchange{RouteIndex: -1, scratch: scratch, staged: staged, Tries: tries, picks: picks}
}
