package upstream

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/framing"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/lb"
)

// Limits of what is held in memory for one exchange.
const (
	// BufferedBodyMax is the largest body of known length that is sent and
	// received in one piece; larger ones are streamed.
	BufferedBodyMax = 64 << 10
	// WholeBodyMax is the largest response body read whole because a Response
	// hook asked for it.
	WholeBodyMax = 16 << 20
	// sendBytesKept is the largest send buffer that goes back to its pool.
	sendBytesKept = BufferedBodyMax + headBytesMax
)

// Service forwards exchanges to one configured service.
// Immutable and safe for concurrent use; its connections are kept elsewhere.
type Service struct {
	targets  []target
	balancer *lb.RoundRobin
	attempts int // 1 + retries

	writeTimeout time.Duration
	readTimeout  time.Duration
	bodyMax      int64 // client_max_body_size, 0 for no limit
	// clientTimeout is how long the client may take for a piece of its body.
	clientTimeout time.Duration
	faults        *Faults
}

// target is one address of a service.
type target struct {
	address string // host:port
	host    []byte // Host field for it
	pool    *pool
}

// Way is how one route shapes what goes to its service. Immutable.
type Way struct {
	rule         pathRule
	preserveHost bool
	requestID    bool // headers_upstream has X-Kong-Request-Id
}

// call is the working memory of one Forward.
type call struct {
	head  headWriter
	strip hopStripper
	tried []bool
	avoid func(int) bool // c.wasTried, bound once
}

var calls = sync.Pool{New: func() any {
	k := &call{}
	k.head.visit = k.head.field
	k.strip.visit = k.strip.field
	k.avoid = k.wasTried
	return k
}}

func (k *call) wasTried(i int) bool { return k.tried[i] }

// Forward sends x's request to a target and makes the answer x's response: the
// service's, or a reply that says what went wrong. A response body that is
// large or of unknown length becomes the body stream of x.Ctx.Response.
func (s *Service) Forward(x *pipeline.Exchange, way *Way) {
	x.UpstreamStart = pipeline.Now()
	k := calls.Get().(*call)
	defer calls.Put(k)
	k.tried = append(k.tried[:0], make([]bool, len(s.targets))...)
	f := fault{kind: KindNoTarget}
	fresh := false
	for attempt, i := 0, s.balancer.Pick(); attempt < s.attempts && i != lb.None; {
		k.tried[i] = true
		f = s.try(x, way, &s.targets[i], k, fresh)
		if f.kind == kindNone {
			x.Source = pipeline.SourceService
			return
		}
		s.faults.count(f.kind)
		resend := s.mayResend(x, f)
		pipeline.ClearResponse(&x.Ctx.Response)
		switch {
		case f.stale && resend && !fresh:
			fresh = true // the same target, over a new connection
			continue
		case !resend:
			attempt = s.attempts
			continue
		}
		attempt++
		if next := s.balancer.PickOther(k.avoid); next != lb.None {
			i = next // every target has failed: start over with the last
		}
	}
	x.Answer(f.kind.reply())
}

// mayResend applies section 5.6 of Kong's contract: a request may go out again
// if no byte of it was sent, or if it is idempotent and its body is at hand.
func (s *Service) mayResend(x *pipeline.Exchange, f fault) bool {
	switch {
	case f.kind.client() || f.kind == KindTooLarge:
		return false
	case !f.sent:
		return true
	}
	return idempotent(x.Method()) && !x.Ctx.Request.IsBodyStream() && f.kind != KindMalformed
}

func idempotent(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE":
		return true
	}
	return false
}

// try makes one attempt at t.
func (s *Service) try(x *pipeline.Exchange, way *Way, t *target, k *call, fresh bool) fault {
	started := x.UpstreamStart
	if len(x.Tries) > 0 {
		started = pipeline.Now()
	}
	x.Tries = append(x.Tries, pipeline.Try{Target: t.address, Start: started})
	note := &x.Tries[len(x.Tries)-1]
	c, f := t.connect(started, fresh, !idempotent(x.Method()) || x.Ctx.Request.IsBodyStream())
	if c != nil {
		if !c.reused {
			note.Connect = pipeline.Now() - started
		}
		f = s.exchange(x, way, t, c, k)
	}
	if f.kind != kindNone {
		note.Failed = true
		note.Status = f.kind.reply().Status()
		return f
	}
	x.Target = t.address
	return f
}

// quietTime is how long a kept connection may lie idle and still be used without
// a look. The look costs a system call, and under load nothing lies that long.
const quietTime = 20 * time.Millisecond

// connect returns a connection to t: a kept one, unless fresh, if there is one,
// else a new one. A kept one is looked at before use, always if the request could
// not be sent again (careful), or if its last answer was to have no body:
// whatever has arrived on it, or its end, makes it useless.
func (t *target) connect(now int64, fresh, careful bool) (*conn, fault) {
	if fresh {
		return t.pool.dial()
	}
	for c := t.pool.get(now); c != nil; c = t.pool.get(now) {
		if !careful && !c.suspect && now-c.idleFrom < int64(quietTime) || !c.pending() {
			t.pool.reuses.Add(1)
			c.suspect = false
			return c, fault{}
		}
		c.close()
	}
	return t.pool.dial()
}

// exchange sends the request over c and reads the answer.
func (s *Service) exchange(x *pipeline.Exchange, way *Way, t *target, c *conn, k *call) fault {
	req := &x.Ctx.Request
	stream := req.IsBodyStream()
	length := req.Header.ContentLength()
	var buffered []byte
	if !stream {
		buffered = req.Body()
		length = len(buffered)
	} else if length < 0 {
		length = -1
	}
	out := sendBuffers.Get().(*sendBuffer)
	out.b = k.head.append(out.b[:0], x, way, t)
	out.b = appendFraming(out.b, &req.Header, length)
	out.b = append(out.b, buffered...)
	c.start(out)
	if stream {
		c.bodyDone = false
		if f := s.sendStream(x, c, length); f.kind != kindNone {
			c.close()
			return f
		}
	}
	now := x.Tries[len(x.Tries)-1].Start
	if stream || !c.reused {
		now = pipeline.Now()
	}
	if err := c.arm(now, s.readTimeout); err != nil {
		c.close()
		return c.fault(err)
	}
	if err := c.await(); err != nil {
		f := s.headFault(c, err)
		c.close()
		return f
	}
	if err := readHead(c, &x.Ctx.Response); err != nil {
		f := s.headFault(c, err)
		c.close()
		return f
	}
	x.UpstreamHeaders = pipeline.Now()
	return s.receive(x, c, k)
}

// headFault tells a connection that failed from an answer that is not HTTP.
func (s *Service) headFault(c *conn, err error) fault {
	if c.last != nil {
		return c.fault(c.last)
	}
	return fault{kind: KindMalformed, sent: true, err: err}
}

// sendStream sends what start queued and then the client's body as it comes.
// When the service stops listening, an answer may be waiting: that is not a fault yet.
func (s *Service) sendStream(x *pipeline.Exchange, c *conn, length int) fault {
	if err := c.flush(s.writeTimeout); err != nil {
		return c.fault(writeError{err})
	}
	body := &clientBody{Reader: x.Ctx.RequestBodyStream(), conn: x.Ctx.Conn(), timeout: s.clientTimeout}
	err := s.copyBody(c, body, length)
	switch err {
	case nil:
		c.bodyDone = true
		return fault{}
	case errAnswered:
		return fault{} // and the connection is not used again
	case ErrTooBig:
		return fault{kind: KindClientTooBig, sent: true, err: err}
	}
	if w, ok := err.(writeError); ok {
		if brokenByPeer(w.error) {
			return fault{}
		}
		return c.fault(err)
	}
	return fault{kind: KindClientBody, sent: true, err: err}
}

// clientBody reads a body that the client is still sending: it has timeout for
// each piece, up to a second more.
type clientBody struct {
	io.Reader
	conn    net.Conn
	timeout time.Duration
	by      int64
}

// ReadClientBody reads the whole streamed body of ctx, up to limit bytes. The client
// has timeout for each piece. The error is ErrTooBig, io.ErrUnexpectedEOF for a
// body that ends early, or that of reading.
func ReadClientBody(ctx *fasthttp.RequestCtx, limit int64, timeout time.Duration) ([]byte, error) {
	b := &clientBody{Reader: ctx.RequestBodyStream(), conn: ctx.Conn(), timeout: timeout}
	whole, err := io.ReadAll(io.LimitReader(b, limit+1))
	length := ctx.Request.Header.ContentLength()
	switch {
	case err != nil:
		return nil, err
	case int64(len(whole)) > limit:
		return nil, ErrTooBig
	case length >= 0 && len(whole) != length, length < 0 && b.cut():
		return nil, io.ErrUnexpectedEOF
	}
	return whole, nil
}

// cut reports whether the client ended the connection: where the end of a chunked
// body is read, that means before it. A whole body never needs that read.
func (b *clientBody) cut() bool {
	e, ok := b.conn.(interface{ Ended() bool })
	return ok && e.Ended()
}

// Read implements io.Reader.
func (b *clientBody) Read(p []byte) (int, error) {
	if now := pipeline.Now(); b.by < now+int64(b.timeout) {
		b.by = now + int64(b.timeout+time.Second)
		if err := b.conn.SetReadDeadline(time.Now().Add(b.timeout + time.Second)); err != nil {
			return 0, err
		}
	}
	return b.Reader.Read(p)
}

// ErrTooBig says that a client's body passes the limit.
var ErrTooBig = errors.New("the body passes its limit")

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// errAnswered says that the service has something to say before it has the
// whole body, or has gone.
var errAnswered = errors.New("answered before the body was sent")

// copyBody writes body to c as it comes, in chunks if its length is unknown
// (-1), counting against bodyMax. A body that ends early is an error: passed on as
// if it were whole it would be stored cut, or what follows on the connection
// would be read as its rest.
func (s *Service) copyBody(c *conn, body *clientBody, length int) error {
	chunked := length < 0
	bp := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(bp)
	buf := *bp
	var total int64
	for {
		n, err := body.Read(buf[framing.ChunkHead : len(buf)-framing.ChunkTail])
		if n > 0 {
			if total += int64(n); s.bodyMax > 0 && total > s.bodyMax {
				return ErrTooBig
			}
			if c.pending() {
				return errAnswered
			}
			out := buf[framing.ChunkHead : framing.ChunkHead+n]
			if chunked {
				out = framing.Chunk(buf, n)
			}
			if werr := c.write(out, s.writeTimeout); werr != nil {
				return writeError{werr}
			}
		}
		if err == io.EOF {
			if !chunked && total != int64(length) || chunked && body.cut() {
				return io.ErrUnexpectedEOF
			}
			if !chunked {
				return nil
			}
			if werr := c.write([]byte(framing.LastChunk), s.writeTimeout); werr != nil {
				return writeError{werr}
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

var ourProtocol = []byte("HTTP/1.1")

// receive takes over the response whose header has been read.
func (s *Service) receive(x *pipeline.Exchange, c *conn, k *call) fault {
	resp := &x.Ctx.Response
	h := &resp.Header
	x.UpstreamStatus = resp.StatusCode()
	reuse := !h.ConnectionClose() && c.bodyDone
	h.ResetConnectionClose()
	h.SetProtocol(ourProtocol) // the service's is between it and us
	k.strip.clean(h)
	length := h.ContentLength()
	switch {
	case !hasBody(x, x.UpstreamStatus):
		resp.SkipBody = true
		c.suspect = true // if it sends a body all the same, that must not answer another
		return s.finish(x, c, reuse)
	case length >= 0 && length <= BufferedBodyMax, x.BuffersBody && length >= 0 && length <= WholeBodyMax:
		if err := resp.ReadBody(c.br, WholeBodyMax); err != nil {
			f := s.headFault(c, err)
			c.close()
			return f
		}
		return s.finish(x, c, reuse)
	case length == -1 && takeChunks(c.br, resp):
		return s.finish(x, c, reuse)
	}
	b := &body{c: c, br: c.br, timeout: s.readTimeout, left: int64(length), reuse: reuse}
	if length == -1 {
		b.chunked, b.left = true, 0
	} else if length < 0 {
		b.left, b.reuse = -1, false
	}
	if x.BuffersBody || length < 0 && !x.Ctx.Request.Header.IsHTTP11() {
		return s.readWhole(resp, b, length) // HTTP/1.0 knows no chunks
	}
	resp.SetBodyStream(b, max(length, -1))
	resp.ImmediateHeaderFlush = length < 0
	return fault{}
}

func (s *Service) finish(x *pipeline.Exchange, c *conn, reuse bool) fault {
	if reuse {
		c.release(x.UpstreamHeaders)
	} else {
		c.close()
	}
	return fault{}
}

// readWhole reads a body that was going to be streamed, for a hook that needs it.
func (s *Service) readWhole(resp *fasthttp.Response, b *body, length int) fault {
	if length > WholeBodyMax {
		_ = b.Close() // never fails
		return fault{kind: KindTooLarge, sent: true}
	}
	whole, err := io.ReadAll(io.LimitReader(b, WholeBodyMax+1))
	_ = b.Close() // never fails
	switch {
	case err != nil:
		f := s.headFault(b.c, err)
		return f
	case len(whole) > WholeBodyMax:
		return fault{kind: KindTooLarge, sent: true}
	}
	resp.SetBodyRaw(whole)
	return fault{}
}

// hopFields are the fields of a response that belong to the connection to the
// service (RFC 9110 section 7.6.1).
var hopFields = [...]string{"Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade", "Trailer", "Te"}

// hopStripper removes hopFields and what Connection names. Most responses have
// one or none of them, so it looks before it deletes.
type hopStripper struct {
	found uint8  // bit i: hopFields[i]
	named []byte // value of the Connection field
	visit func(key, value []byte) bool
}

func (s *hopStripper) field(key, value []byte) bool {
	switch string(key) {
	case "Connection":
		s.found |= 1 << 0
		s.named = append(append(s.named, value...), ',')
	case "Keep-Alive":
		s.found |= 1 << 1
	case "Proxy-Connection":
		s.found |= 1 << 2
	case "Transfer-Encoding":
		s.found |= 1 << 3
	case "Upgrade":
		s.found |= 1 << 4
	case "Trailer":
		s.found |= 1 << 5
	case "Te":
		s.found |= 1 << 6
	}
	return true
}

func (s *hopStripper) clean(h *fasthttp.ResponseHeader) {
	s.found, s.named = 0, s.named[:0]
	h.All()(s.visit)
	if s.found == 0 {
		return
	}
	for i, name := range hopFields {
		if s.found&(1<<i) != 0 {
			h.Del(name)
		}
	}
	for rest := s.named; len(rest) > 0; {
		var name []byte
		name, rest, _ = bytes.Cut(rest, []byte{','})
		if name = bytes.TrimSpace(name); len(name) > 0 && !bytes.EqualFold(name, []byte("Content-Length")) {
			h.DelBytes(name)
		}
	}
}
