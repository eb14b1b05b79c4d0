package explain

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/snapshot"
)

// Upstream is where a request would be sent.
type Upstream struct {
	Service  string `json:"service"`
	At       string `json:"at"`
	Protocol string `json:"protocol"`
	// Path is the path and query the service gets, unless a plugin changes it.
	Path string `json:"path"`
	// Target is the address that a gateway picks for its first request.
	Target    string `json:"target"`
	Algorithm string `json:"algorithm,omitempty"` // of an upstream
	// HashOn is what consistent hashing hashes, the fallback after it.
	HashOn  []string `json:"hash_on,omitempty"`
	Targets []Target `json:"targets,omitempty"` // of an upstream
}

// Target is one address of an upstream.
type Target struct {
	Address string `json:"address"`
	Weight  int    `json:"weight"`
	At      string `json:"at"`
}

// upstreamOf tells where the requests of s go.
func upstreamOf(d *config.Document, s *config.Service) *Upstream {
	u := &Upstream{Service: cmp.Or(s.Name, s.ID), At: at(s.Pos), Protocol: s.Protocol}
	for _, up := range d.Upstreams {
		if up.Name != s.Host {
			continue
		}
		u.Algorithm = up.Algorithm
		if up.Algorithm == "consistent-hashing" {
			u.HashOn = slices.DeleteFunc([]string{up.HashOn, up.HashFallback}, func(on string) bool { return on == "none" })
		}
		for _, t := range d.Targets {
			if t.Upstream == up.ID {
				u.Targets = append(u.Targets, Target{t.Target, t.Weight, at(t.Pos)})
			}
		}
	}
	return u
}

// captureTimeout bounds waiting for our own goroutine.
const captureTimeout = 5 * time.Second

// capture stands for every service: it takes one request and tells where it
// would have gone. It is used by one goroutine at a time.
type capture struct {
	address string
	uri     chan string
}

func newCapture() *capture { return &capture{uri: make(chan string, 1)} }

// dial is pipeline.Env.Dial: it leads to nobody.
func (c *capture) dial(_ context.Context, address string) (net.Conn, error) {
	c.address = address
	ours, theirs := net.Pipe()
	go c.serve(ours)
	return theirs, nil
}

// serve answers one request with 204.
func (c *capture) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }() // a pipe
	_ = conn.SetDeadline(time.Now().Add(captureTimeout))
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	c.uri <- r.RequestURI
	_, _ = conn.Write([]byte("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")) // only the request matters
}

// instead is s as it is reached through dial, without TLS.
func (c *capture) instead(s *config.Service) *config.Service {
	trial := *s
	trial.Protocol, trial.Retries = "http", 0
	trial.ClientCertificate, trial.CACertificates = "", nil
	timeout := int(captureTimeout / time.Millisecond)
	trial.ConnectTimeout, trial.ReadTimeout, trial.WriteTimeout = timeout, timeout, timeout
	return &trial
}

// exchange is the request of q as hooks see it, with the answer that r assumes.
func (q *query) exchange(won *snapshot.Route, r *Request, caller *pipeline.Consumer) *pipeline.Exchange {
	x := &pipeline.Exchange{}
	x.Reset()
	x.Ctx = &fasthttp.RequestCtx{}
	q.header.CopyTo(&x.Ctx.Request.Header)
	x.Ctx.Request.Header.SetContentLength(0)
	x.Path, x.Query, x.HasQuery = q.Request.Path, []byte(q.raw), q.hasQuery
	x.MatchLen = q.PathLen()
	x.Pattern, x.PatternSkip = q.Pattern()
	x.ClientIP, x.PeerIP = q.clientIP, q.clientIP
	x.Secure = q.Request.TLS
	x.Route, x.Service = won.Entity, won.ServiceEntity
	x.Consumer = caller
	x.Start = pipeline.Now()
	for i := range x.RequestID {
		x.RequestID[i] = '0'
	}
	x.Errors = pipeline.NewErrorStyle("", "text/plain", [4]string{})
	if r != nil && r.Status != 0 {
		pipeline.ClearResponse(&x.Ctx.Response)
		x.Ctx.Response.SetStatusCode(r.Status)
		for name, values := range r.Answer {
			for _, value := range values {
				x.Ctx.Response.Header.Add(name, value)
			}
		}
		x.Source, x.UpstreamStatus = pipeline.SourceService, r.Status
	}
	return x
}

// send sends the request the way it would go and returns where it came out.
func (c *capture) send(won *snapshot.Route, q *query, caller *pipeline.Consumer) (target, path string, err error) {
	x := q.exchange(won, nil, caller)
	won.Service.Forward(x, &won.Way)
	if c.address == "" {
		return "", "", fmt.Errorf("no target can be picked: the answer is %d", x.Ctx.Response.StatusCode())
	}
	select {
	case path = <-c.uri:
		return c.address, path, nil
	case <-time.After(captureTimeout):
		return "", "", fmt.Errorf("the request could not be sent: status %d", x.Ctx.Response.StatusCode())
	}
}
