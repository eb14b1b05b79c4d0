package upstream

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/framing"
	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// sender sends a client's body as it comes, while the request's own goroutine
// already reads the answer: a service may answer before it has the whole body, or
// piece by piece. It has one goroutine, which ends before its request does.
type sender struct {
	x      *pipeline.Exchange // until stop has counted the body there
	c      *conn
	body   *clientBody
	length int // -1 for chunks
	max    int64
	// timeout is how long the service may take for each piece.
	timeout time.Duration

	gone    atomic.Bool // the client's body has failed: the answer need not be awaited
	over    atomic.Bool // nothing more will be sent
	endedAt atomic.Int64
	writing atomic.Int64  // Now() since a piece is being sent, 0 while none is
	ending  atomic.Bool   // the last of the body is being sent
	stopped atomic.Bool   // the answer is complete: no more need be sent
	done    chan struct{} // closed when the goroutine ends

	// parsing is held where the body is parsed, which changes the request's header: its
	// trailer, and what looking fields up leaves behind. It is not held while the client
	// is waited for.
	parsing sync.Mutex
	yields  yielder // nil: held while waiting too, so that nobody else may
	held    bool    // by the request's goroutine

	panicked func(where string, r any)

	end      []byte // what ends the chunks
	taken    int64  // bytes of the client's body; valid after done
	complete bool   // the whole body was sent; valid after done
	fault    fault  // valid after done
}

// yielder is a client's connection that unlocks a lock while it waits for bytes.
type yielder interface {
	YieldReads(l sync.Locker)
}

// sendStream sends the head that start queued, begins to send the body, and waits for
// the answer's first bytes.
func (s *Service) sendStream(k *call, c *conn, length int) fault {
	c.bodyDone = false
	if err := c.flush(c.writeTimeout); err != nil {
		return k.overdue(c.fault(writeError{err}))
	}
	snd := &sender{
		x: k.x, c: c, length: length, max: s.bodyMax, timeout: k.timeouts.Write, body: newClientBody(k.x, s.clientTimeout),
		done: make(chan struct{}),
	}
	snd.body.stopped, snd.panicked = &snd.stopped, s.meters.panicked
	if k.prefix != nil {
		snd.body.Reader = io.MultiReader(newPrefix(k.prefix), snd.body.Reader)
		k.prefix = nil
	}
	if snd.yields, _ = snd.body.conn.(yielder); snd.yields != nil {
		snd.yields.YieldReads(&snd.parsing)
	}
	k.sender = snd
	go snd.run()
	return k.awaitHead(c)
}

// awaitHead waits for the answer while the body is on its way.
func (k *call) awaitHead(c *conn) fault {
	err := k.sender.await(c, k.timeouts.Read, k.until)
	switch {
	case err == nil:
		return fault{}
	case err == errGivenUp:
		return k.sender.stop()
	case isTimeout(err):
		// Only the end of the request's time is waited for while the client sends.
		return fault{kind: KindReadTime, sent: true, err: err, slowClient: k.sender.clientLate()}
	}
	return c.fault(err)
}

// await waits until something of the answer has arrived. The timeout does not pass while
// the client's body is on its way: it begins with its end.
func (s *sender) await(c *conn, timeout time.Duration, until int64) error {
	began := pipeline.Now()
	for now := began; ; {
		by := now + int64(timeout)
		if s.over.Load() {
			by = max(began, s.endedAt.Load()) + int64(timeout)
		}
		if err := c.arm(now, max(time.Duration(by-now), time.Millisecond), until); err != nil {
			return err
		}
		if s.gone.Load() {
			return errGivenUp
		}
		_, err := c.reader().Peek(1)
		if err == nil {
			return nil
		}
		now = pipeline.Now()
		switch {
		case s.gone.Load():
			return errGivenUp
		case !isTimeout(err), until != 0 && now >= until:
			return err
		case s.over.Load() && now >= max(began, s.endedAt.Load())+int64(timeout):
			return err
		}
		c.last = nil // it may still come
	}
}

var errGivenUp = errors.New("sending the request's body has failed")

// run is the sender's goroutine.
func (s *sender) run() {
	defer close(s.done)
	defer s.settle() // recovers
	err := s.copy()
	s.complete = err == nil
	switch w, writing := err.(writeError); {
	case err == nil:
	case s.stopped.Load(): // told to end
	case writing && brokenByPeer(w.error): // it may have answered first
	case writing:
		s.fault = s.c.fault(err)
		s.giveUp()
	case err == ErrTooBig:
		s.fault = fault{kind: KindClientTooBig, sent: true, err: err}
		s.giveUp()
	default:
		s.fault = fault{kind: KindClientBody, sent: true, err: err}
		s.giveUp()
	}
}

// settle ends a sender that panics: its request fails, not the process.
func (s *sender) settle() {
	if r := recover(); r != nil {
		s.panicked("sending a request's body", r)
		s.fault = fault{kind: KindClientBody, sent: true}
		s.giveUp()
	}
	s.endedAt.Store(pipeline.Now())
	s.over.Store(true)
}

// giveUp wakes whoever waits for the service.
func (s *sender) giveUp() {
	s.gone.Store(true)
	_ = s.c.nc.SetReadDeadline(longAgo) // a closed connection wakes him too
}

var longAgo = time.Unix(1, 0)

// hold keeps the sender from the request's header, and from its stream of the body, until
// release. It is called by the request's goroutine when hooks, and fasthttp's server, are
// about to look at them.
func (s *sender) hold() {
	if s != nil && s.yields != nil && !s.held {
		s.parsing.Lock()
		s.held = true
	}
}

// release ends what hold began.
func (s *sender) release() {
	if s.held {
		s.held = false
		s.parsing.Unlock()
	}
}

// stop ends the sender, whatever it is doing, waits for it and returns what went
// wrong. It is called by the request's goroutine, once the answer is complete or
// has failed.
func (s *sender) stop() fault {
	s.release()
	if s.ending.Load() {
		select {
		case <-s.done:
		case <-time.After(endingTime):
		}
	}
	if !s.over.Load() && !s.gone.Load() {
		s.stopped.Store(true)
		_ = s.body.conn.SetReadDeadline(longAgo) // of closed connections there is nothing to stop
		_ = s.c.nc.SetWriteDeadline(longAgo)
	}
	<-s.done
	if s.x != nil {
		s.x.BytesIn += s.taken
		s.x = nil
	}
	if s.yields != nil {
		s.yields.YieldReads(nil)
	}
	return s.fault
}

// endingTime is how long the last piece of a body may take once the answer is complete:
// the connections on both sides can be used again then.
const endingTime = time.Second

// stopSending ends the sending of a streamed body, if there is one.
func (k *call) stopSending() {
	if k.sender != nil {
		_ = k.sender.stop() // the attempt's own fault is the one that counts
		k.sender = nil
	}
}

// copy writes the body to the service as it comes, in chunks if its length is
// unknown, counting against max. A body that ends early is an error: passed on as if
// it were whole it would be stored cut, or what follows on the connection would be
// read as its rest.
func (s *sender) copy() error {
	chunked := s.length < 0
	bp := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(bp)
	buf := *bp
	var total int64
	for {
		n, err := s.read(buf[framing.ChunkHead : len(buf)-framing.ChunkTail])
		if n > 0 {
			total += int64(n)
			s.taken = total
			if s.max > 0 && total > s.max {
				return ErrTooBig
			}
			out := buf[framing.ChunkHead : framing.ChunkHead+n]
			if chunked {
				out = framing.Chunk(buf, n)
			} else if total == int64(s.length) {
				s.ending.Store(true)
			}
			if werr := s.write(out); werr != nil {
				return werr
			}
		}
		switch {
		case err == io.EOF && (!chunked && total != int64(s.length) || chunked && s.body.cut()):
			return io.ErrUnexpectedEOF
		case err == io.EOF && chunked:
			s.ending.Store(true)
			return s.write(s.end)
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// read reads a piece of the body, and at its end what follows the chunks.
func (s *sender) read(p []byte) (int, error) {
	s.parsing.Lock()
	defer s.parsing.Unlock()
	n, err := s.body.Read(p)
	if err == io.EOF && s.length < 0 {
		s.end = s.body.appendEnd(nil)
	}
	return n, err
}

func (s *sender) write(b []byte) error {
	if err := s.c.nc.SetWriteDeadline(time.Now().Add(s.timeout)); err != nil {
		return writeError{err}
	}
	if s.stopped.Load() {
		return writeError{net.ErrClosed} // looked at after the deadline was set, which stop sets too
	}
	s.writing.Store(pipeline.Now())
	defer s.writing.Store(0)
	if _, err := s.c.nc.Write(b); err != nil {
		return writeError{err}
	}
	return nil
}

// clientLate reports whether it is the client that is waited for: not where it has sent
// its body, or the service has not taken a piece of that for a while.
func (s *sender) clientLate() bool {
	if s == nil || s.over.Load() {
		return false
	}
	since := s.writing.Load()
	return since == 0 || pipeline.Now()-since < int64(lateRead)
}

// clientBody reads a body that the client is still sending: it has timeout for
// each piece, up to a second more.
type clientBody struct {
	io.Reader
	conn    net.Conn
	header  *fasthttp.RequestHeader
	timeout time.Duration
	by      int64
	stopped *atomic.Bool // nil: never
}

func newClientBody(x *pipeline.Exchange, timeout time.Duration) *clientBody {
	return &clientBody{Reader: x.Ctx.RequestBodyStream(), conn: x.Ctx.Conn(), header: &x.Ctx.Request.Header, timeout: timeout}
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
	if b.stopped != nil && b.stopped.Load() {
		return 0, net.ErrClosed // looked at after the deadline was set, which stop sets too
	}
	return b.Reader.Read(p)
}

// appendEnd appends the last chunk and the trailer fields that the client has sent
// and announced.
func (b *clientBody) appendEnd(dst []byte) []byte {
	dst = append(dst, "0\r\n"...)
	for _, name := range b.header.PeekTrailerKeys() {
		if value := b.header.PeekBytes(name); len(value) > 0 && !spoken(name) {
			dst = append(append(append(append(dst, name...), ": "...), value...), '\r', '\n')
		}
	}
	return append(dst, '\r', '\n')
}

// spokenFor are the starts of names that only the gateway may say to a service: some
// servers merge trailer fields into the header.
var spokenFor = [...]string{"X-Forwarded-", "Forwarded", "X-Real-Ip", "X-Consumer-", "X-Credential-", "X-Authenticated-", "X-Anonymous-", "X-Kong-", "Via"}

func spoken(name []byte) bool {
	for _, start := range spokenFor {
		if len(name) >= len(start) && string(name[:len(start)]) == start {
			return true
		}
	}
	return false
}

// ErrTooBig says that a client's body passes the limit.
var ErrTooBig = errors.New("the body passes its limit")

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// prefix is what was read of a body before it turned out too large to keep.
type prefix struct{ rest []byte }

func newPrefix(b []byte) *prefix { return &prefix{b} }

// Read implements io.Reader.
func (p *prefix) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}
