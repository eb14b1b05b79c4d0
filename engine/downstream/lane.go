package downstream

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/framing"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/socket"
)

// inBytes is the receive buffer: also the limit of a header in the fast lane.
const inBytes = 16 << 10

// Request is one request of the fast lane. It belongs to the lane and is valid
// until Sent returns.
type Request struct {
	Ctx     *fasthttp.RequestCtx
	Peer    *Peer
	Head    Head
	BytesIn int64
	// Turn is the handler's own, from Answer to Sent.
	Turn any
	// Exchange has headers that go to the wire beside those of Ctx.Response.
	// Writer: the handler.
	Exchange *pipeline.Exchange
	// Number counts the requests of the connection, from 1.
	Number uint64
	// Ended is Now() when the answer was made. Writer: the handler.
	Ended int64
}

// Handler answers the requests of the fast lane.
type Handler interface {
	// Answer makes the response of r.Ctx and reports whether the connection
	// ends with it. It may block on the service.
	Answer(r *Request) (closing bool)
	// Sent is told the size of the response as written, header and body, or as
	// far as it got.
	Sent(r *Request, bytes int64)
}

// lane serves one connection. Its goroutine lives in socket.Loop: advance runs
// each time the connection becomes readable, and idle connections hold neither
// buffers nor a parsed request.
type lane struct {
	server *Server
	nc     net.Conn
	raw    socket.Conn
	peer   Peer
	req    Request
	step   func(fd uintptr) bool

	served   int
	armed    int64
	writeBy  int64
	handOver []byte // bytes the general server is to begin with

	// idleSince is Now() since the lane waits, 0 while it serves. The sweeper
	// reads it, and pokes a lane by a deadline in the past.
	idleSince atomic.Int64
	swept     int64 // idleSince of the wait that was looked at; sweeper only
	poked     atomic.Bool
	looking   bool // poked, and nothing has come since; the lane's goroutine only
}

// turnBuffers are what a lane needs while it serves.
type turnBuffers struct {
	in       []byte
	at, end  int // unread bytes of in
	out      []byte
	src      bytes.Reader
	br       *bufio.Reader
	response responseWriter
}

var turnPool = sync.Pool{New: func() any {
	b := &turnBuffers{in: make([]byte, inBytes), out: make([]byte, 0, 4<<10), br: bufio.NewReaderSize(nil, inBytes)}
	b.response.visit = b.response.field
	return b
}}

// outBytesKept is the largest send buffer that goes back to the pool.
const outBytesKept = 128 << 10

func (b *turnBuffers) giveBack() {
	if cap(b.out) > outBytesKept {
		b.out = nil
	}
	b.src.Reset(nil)
	turnPool.Put(b)
}

// run serves the connection until it ends or is handed over.
func (l *lane) run() (handOver bool) {
	l.idleSince.Store(pipeline.Now())
	for {
		if err := l.arm(pipeline.Now()); err != nil {
			return false
		}
		err := l.raw.Loop(l.step)
		if err == nil {
			return l.handOver != nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) || !l.poked.Swap(false) {
			return false // closed, or idle for too long
		}
		l.armed, l.looking = 0, true // poked: look again
	}
}

// arm sets the time at which an idle connection is given up, unless the one set
// is still good for idleTimeout and at most a second more.
func (l *lane) arm(now int64) error {
	timeout := l.server.Timeouts.Idle
	if l.armed >= now+int64(timeout) {
		return nil
	}
	l.armed = now + int64(timeout+time.Second)
	return l.nc.SetReadDeadline(time.Now().Add(timeout + time.Second))
}

// outcome is how serving one request ended.
type outcome uint8

const (
	kept    outcome = iota // the connection goes on
	ended                  // close it
	unusual                // the general server takes it from here
)

// advance is the step of socket.Loop: it serves what has arrived. It returns
// true when the lane is done with the connection.
func (l *lane) advance(fd uintptr) bool {
	b := turnPool.Get().(*turnBuffers)
	defer func() { b.giveBack() }()
	l.idleSince.Store(0)
	for {
		b.at, b.end = 0, 0
		n, err := socket.Recv(fd, b.in)
		if err == socket.ErrAgain {
			return !l.wait(pipeline.Now())
		}
		if err != nil {
			return true
		}
		b.end = n
		for b.at < b.end {
			var how outcome
			switch b, how = l.serve(fd, b); how {
			case ended:
				return true
			case unusual:
				l.handOver = bytes.Clone(b.in[b.at:b.end])
				return true
			}
		}
		// A receive that did not fill the buffer has emptied the socket, except
		// that the end of the stream may be right behind: readiness does not
		// tell them apart. After a first request it is worth a look (clients
		// that send one and shut down); later the sweeper finds out.
		if n < inBytes && l.served > 1 {
			return !l.wait(l.req.Ended)
		}
	}
}

// wait makes the lane idle from now and reports whether it may wait for more.
func (l *lane) wait(now int64) bool {
	if l.looking && l.server.draining.Load() {
		return false // nothing came within the grace
	}
	l.looking = false
	l.idleSince.Store(now)
	return l.arm(now) == nil
}

// serve takes one request off b and answers it. It returns the buffers to go on
// with: while a service works on a request without body, others use b. So few
// buffers are in use, and those are in the cache: with 64 requests under way this
// makes the whole proxy about a tenth cheaper.
func (l *lane) serve(fd uintptr, b *turnBuffers) (*turnBuffers, outcome) {
	t := turns.Get().(*turn)
	t.conn.Conn = l.nc
	ctx := &t.ctx
	l.req.Ctx = ctx
	head, body, ok := l.parse(b)
	if !ok {
		l.giveBack(t, false)
		return b, unusual
	}
	b.at += head + body
	lent := body == 0 && b.at == b.end
	if lent {
		b.giveBack()
	}
	r := &l.req
	r.BytesIn = int64(head + body)
	l.served++
	r.Number = uint64(l.served)
	closing := l.server.Handler.Answer(r) || ctx.Request.Header.ConnectionClose() || l.server.draining.Load()
	if lent {
		b = turnPool.Get().(*turnBuffers)
		b.at, b.end = 0, 0
	}
	sent, err := l.send(fd, b, closing)
	l.server.Handler.Sent(r, sent)
	l.giveBack(t, head > headBytesKept || ctx.Response.Header.Len() > fieldsKept)
	if closing || err != nil {
		return b, ended
	}
	return b, kept
}

// turn is a parsed request and its response. The context is bound to a connection once,
// since binding reads the clock, and the connection stands for that of the request.
type turn struct {
	ctx  fasthttp.RequestCtx
	conn struct{ net.Conn }
}

// turns, like buffers, are taken for a request, not for a connection: of many
// connections few are being served, and theirs stay in the cache.
var turns = sync.Pool{New: func() any {
	t := &turn{}
	t.ctx.Init2(&t.conn, quiet{}, false)
	return t
}}

// giveBack returns a turn. A grown one is dropped: what large headers have made it hold
// is many times their size.
func (l *lane) giveBack(t *turn, grown bool) {
	l.req.Ctx = nil
	t.ctx.Request.Reset()
	t.ctx.Response.Reset()
	t.conn.Conn = nil
	if !grown {
		turns.Put(t)
	}
}

// Headers above these make a context count as grown.
const (
	headBytesKept = 4 << 10
	fieldsKept    = 64
)

var headEnd = []byte("\r\n\r\n")

// parse reads a request into l.req.Ctx if it is whole and usual. It returns the
// bytes of head and body.
func (l *lane) parse(b *turnBuffers) (head, body int, ok bool) {
	in := b.in[b.at:b.end]
	end := bytes.Index(in, headEnd)
	line := bytes.IndexByte(in, '\n')
	if end < 0 || line < 12 || !bytes.HasSuffix(in[:line+1], []byte(" HTTP/1.1\r\n")) {
		return 0, 0, false
	}
	head = end + len(headEnd)
	l.req.Head = Inspect(in[line+1 : head])
	if l.req.Head.Malformed || l.req.Head.Unusual {
		return 0, 0, false // malformed: the general server's handler answers it
	}
	b.src.Reset(in[:head])
	b.br.Reset(&b.src)
	req := &l.req.Ctx.Request
	if err := req.Header.Read(b.br); err != nil {
		req.Reset()
		return 0, 0, false
	}
	body = max(req.Header.ContentLength(), 0)
	if !l.req.Head.Length {
		body = 0
	}
	if head+body > len(in) {
		req.Reset()
		return 0, 0, false
	}
	if body > 0 {
		req.SetBodyRaw(in[head : head+body])
	}
	return head, body, true
}

// send writes the response and returns how many bytes of it were written.
func (l *lane) send(fd uintptr, b *turnBuffers, closing bool) (int64, error) {
	resp := &l.req.Ctx.Response
	stream := resp.IsBodyStream()
	b.out = b.response.append(b.out[:0], &l.req, closing)
	n, err := l.write(fd, b.out)
	if err != nil || !stream {
		if stream {
			_ = resp.CloseBodyStream() // the write error is the one that counts
		}
		return n, err
	}
	m, err := l.sendStream(resp)
	return n + m, err
}

// write sends p, first without waiting.
func (l *lane) write(fd uintptr, p []byte) (int64, error) {
	n, err := socket.Send(fd, p)
	if err != socket.ErrAgain {
		return int64(n), err
	}
	// Slow path: the client reads slower than we write.
	m, err := l.writeSlow(p[n:])
	return int64(n) + m, err
}

func (l *lane) writeSlow(p []byte) (int64, error) {
	n, err := writePieces(l.nc, p, l.server.Timeouts.Write, &l.writeBy)
	return int64(n), err
}

var streamBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// sendStream copies a streamed body to the client as it comes, in chunks if its
// length is unknown. If the service breaks off, the connection must be cut: an
// error says so.
func (l *lane) sendStream(resp *fasthttp.Response) (sent int64, err error) {
	bp := streamBuffers.Get().(*[]byte)
	defer streamBuffers.Put(bp)
	buf := *bp
	chunked := resp.Header.ContentLength() < 0
	body := resp.BodyStream()
	for !l.req.Ctx.IsHead() {
		n, rerr := body.Read(buf[framing.ChunkHead : len(buf)-framing.ChunkTail])
		if n > 0 {
			out := buf[framing.ChunkHead : framing.ChunkHead+n]
			if chunked {
				out = framing.Chunk(buf, n)
			}
			m, werr := l.writeSlow(out)
			sent += m
			if werr != nil {
				err = werr
				break
			}
		}
		if rerr == io.EOF {
			if chunked {
				var m int64
				m, err = l.writeSlow(appendLastChunk(buf[:0], &resp.Header))
				sent += m
			}
			break
		}
		if rerr != nil {
			err = rerr
			break
		}
	}
	return sent, errors.Join(err, resp.CloseBodyStream())
}

// appendLastChunk appends the end of a chunked body, with the trailer fields of h.
func appendLastChunk(dst []byte, h *fasthttp.ResponseHeader) []byte {
	if len(h.PeekTrailerKeys()) == 0 {
		return append(dst, framing.LastChunk...)
	}
	return append(append(dst, "0\r\n"...), h.TrailerHeader()...)
}
