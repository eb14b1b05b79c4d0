// Package snapshot compiles a Document into what a request walks: a Snapshot
// with its router table, and for each route its chain of hooks and its service.
//
//	compile.go  Document → Snapshot, step by step
//	scope.go    which settings of a plugin win where
//
// Nothing in a Snapshot changes after Compile. What does change, such as
// counters and connections, is kept outside it by pipeline.Keep.
package snapshot

import (
	"net/netip"
	"regexp"
	"time"

	"github.com/gaissmai/bart"
	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/router"
	"github.com/sluice-gateway/sluice/engine/upstream"
)

// Snapshot is a compiled Document. Immutable and safe for concurrent use.
type Snapshot struct {
	Document  *config.Document
	Consumers *pipeline.Consumers
	Errors    *pipeline.ErrorStyle
	Headers   Headers
	Client    ClientAddress
	// BodyMax is client_max_body_size in bytes, 0 for no limit.
	BodyMax int64
	// Certificates finds the certificate for a server name.
	Certificates *Certificates
	// Fleet is what the services lead to.
	Fleet *upstream.Fleet

	table   *router.Table[*Route]
	nowhere *Route // answers when no route matches
	holder  *pipeline.Holder
	closers []func()
}

// Route is where a matched request goes. Immutable.
type Route struct {
	Entity        *config.Route   // nil for the route of requests that match none
	ServiceEntity *config.Service // nil for a route without service
	Index         int             // in Document.Routes, -1 for the one above
	Chain         *pipeline.Chain
	Service       *upstream.Service // nil for a route without service
	Way           upstream.Way
	// Internal answers in place of a service: the gateway's own metrics and status.
	Internal func(*fasthttp.RequestCtx)

	// Upgrades are the protocols beside WebSocket that a client may change to, in
	// lower case. TunnelsOnly says that the route takes only WebSocket handshakes.
	Upgrades    []string
	TunnelsOnly bool

	// Refuses is the answer to a request that reached the route without TLS
	// though it only speaks https; nil when plain requests are fine.
	Refuses *Refusal
}

// Forward implements pipeline.Destination, for a route with a service.
func (r *Route) Forward(x *pipeline.Exchange) { r.Service.Forward(x, &r.Way) }

// Healthy implements pipeline.Destination.
func (r *Route) Healthy() bool { return r.Service.Healthy() }

// Refusal is how a route answers what it does not speak.
type Refusal struct {
	Reply    *pipeline.Reply
	Redirect int // status of a redirect to https, 0 for Reply
}

// Headers says which headers the gateway adds to answers.
type Headers struct {
	Via             bool // and Server on answers of its own
	RequestID       bool
	UpstreamLatency bool
	ProxyLatency    bool
	ResponseLatency bool
	UpstreamStatus  bool
	Debug           bool // answer Kong-Debug: 1
}

// ClientAddress says whom to believe about a client's address.
type ClientAddress struct {
	trusted     *bart.Lite
	TrustsUnix  bool
	Header      string // canonical name of real_ip_header
	ProxyHeader bool   // real_ip_header: proxy_protocol
	Recursive   bool
}

// Trusts reports whether a is in trusted_ips.
func (c *ClientAddress) Trusts(a netip.Addr) bool {
	return c.trusted != nil && a.IsValid() && c.trusted.Contains(a.Unmap())
}

// Query is the router's view of one request, reused by the goroutine that owns it.
type Query struct {
	Request router.Request
	match   router.Match[*Route]
}

// Match returns the route for q.Request, never nil. What it matched of the path
// can be read from q until the next Match.
func (s *Snapshot) Match(q *Query) *Route {
	s.table.Match(&q.Request, &q.match)
	if !q.match.Found {
		return s.nowhere
	}
	return q.match.Value
}

// PathLen is how many bytes of the path the route's path condition matched.
func (q *Query) PathLen() int { return q.match.PathLen }

// Pattern is the regexp that matched the path, nil for a prefix, and how many
// bytes at the start of the path it does not look at.
func (q *Query) Pattern() (re *regexp.Regexp, skipped int) { return q.match.Pattern() }

// Nowhere is the route of requests that match none.
func (s *Snapshot) Nowhere() *Route { return s.nowhere }

// Explain returns what Match would answer for q.Request and the nearest losers.
func (s *Snapshot) Explain(q *Query, limit int) []router.Candidate[*Route] {
	return s.table.Explain(&q.Request, limit)
}

// Release returns what closes the snapshot: to be called once, when no request
// uses it any more. The function does not hold the snapshot itself, so that its
// tables are freed while they wait to be released.
func (s *Snapshot) Release() func() error {
	closers, holder := s.closers, s.holder
	return func() error {
		for _, f := range closers {
			f()
		}
		return holder.Release()
	}
}

// Longest is the longest time a request of this snapshot may wait for one attempt
// at its service: after it the snapshot is out of use, but for streams that go on
// and requests in their retries. Those must not fail, and do not: what hooks use
// after Close is gone for its owner only.
func (s *Snapshot) Longest() time.Duration {
	longest := time.Second
	for _, e := range s.Document.Services {
		d := time.Duration(e.ConnectTimeout+e.WriteTimeout+e.ReadTimeout) * time.Millisecond
		longest = max(longest, min(d, longestWait))
	}
	return longest
}

// longestWait bounds Longest: a snapshot holds log files and connections.
const longestWait = 10 * time.Minute
