package upstream

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"net"
	"os"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/socket"
)

// headBytesMax bounds the header of a response: it has to fit the read buffer.
const headBytesMax = 32 << 10

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, headBytesMax) }}

// conn is a connection to one target. It belongs to one request at a time.
//
// A plain TCP connection sends the request and waits for the answer in one
// visit of the poller: the request is sent inside socket.Loop, after readiness
// was reset and before it is awaited, so no read is tried that must fail. While
// it waits it holds no buffer, which keeps the few that are in use in the cache.
type conn struct {
	nc       net.Conn
	raw      socket.Conn
	hasRaw   bool
	hasProbe bool
	pool     *pool
	br       *bufio.Reader // held while a response is read

	ended    bool
	idleFrom int64 // Now() when it was given back
	requests int
	reused   bool

	writeTimeout time.Duration // of the current exchange

	// Deadlines armed on nc, as Now() values; see arm.
	armed int64

	// State of the current exchange.
	patience time.Duration // each read has this long, up to until; 0: armed by others
	until    int64         // Now() at which the answer is overdue, 0 for never
	out      []byte        // what is still to be sent before the first read
	buffer   *sendBuffer   // holds out
	in       []byte        // where the read under way puts its bytes
	n        int
	phase    phase
	err      error
	last     error // what ended the last read
	sent     bool  // the socket took any byte of the current request
	received bool  // any byte of the current response
	bodyDone bool  // the whole request was sent: the connection may be used again
	suspect  bool  // the last answer had no body: look before using it again

	below   *below // what TLS runs over, nil without
	extra   [1]byte
	probe   socket.Conn // for pending; below TLS the connection it runs over
	look    func(fd uintptr)
	arrived bool

	step func(fd uintptr) bool // c.advance, bound once
}

type phase uint8

const (
	phaseSend  phase = iota // out is to be sent, then wait
	phaseReady              // out is sent; what wakes us is the answer
	phaseRecv               // read, wait if there is nothing
	phaseSlow               // the socket did not take out at once
)

func newConn(nc net.Conn, p *pool) *conn {
	c := &conn{nc: nc, pool: p}
	c.raw, c.hasRaw = socket.New(nc)
	c.step = c.advance
	c.look = c.peek
	if t, ok := nc.(*tls.Conn); ok {
		c.below = t.NetConn().(*below)
		c.probe, c.hasProbe = socket.New(c.below.Conn)
	} else {
		c.probe, c.hasProbe = c.raw, c.hasRaw
	}
	return c
}

// sendBuffer holds a request on its way out.
type sendBuffer struct{ b []byte }

var sendBuffers = sync.Pool{New: func() any { return &sendBuffer{b: make([]byte, 0, 4<<10)} }}

func (b *sendBuffer) giveBack() {
	if cap(b.b) > sendBytesKept {
		b.b = nil
	}
	sendBuffers.Put(b)
}

// start queues what b holds, the request head and what is buffered of its body,
// to be sent before the first read. It takes b over.
func (c *conn) start(b *sendBuffer) {
	c.out, c.buffer = b.b, b
	c.phase = phaseSend
	c.sent, c.received, c.bodyDone = false, false, true // sendStream says otherwise for a body that follows
	c.last, c.patience = nil, 0
	c.requests++
}

// dropOut gives the send buffer back: others use it while the service works.
func (c *conn) dropOut() {
	c.out = nil
	if c.buffer != nil {
		c.buffer.giveBack()
		c.buffer = nil
	}
}

// await sends what start queued and waits until there is something to read. It
// holds no buffer while it waits.
func (c *conn) await() error {
	if !c.hasRaw || c.phase != phaseSend {
		return nil // the first read does it
	}
	c.err = nil
	err := c.raw.Loop(c.step)
	if err == nil {
		err = c.err
	}
	if err == nil && c.phase == phaseSlow {
		// Slow path: the socket's buffer is full. Send the rest waiting.
		if err = c.flush(c.writeTimeout); err != nil {
			err = writeError{err}
		}
	}
	if err != nil {
		c.last = err
	}
	return err
}

// flush sends what start queued, waiting as needed: for requests whose body
// follows as a stream.
func (c *conn) flush(timeout time.Duration) error {
	err := c.write(c.out, timeout)
	c.dropOut()
	c.phase = phaseRecv
	return err
}

// write sends b, waiting up to timeout.
func (c *conn) write(b []byte, timeout time.Duration) error {
	if err := c.nc.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	n, err := c.nc.Write(b)
	c.sent = c.sent || n > 0
	return err
}

// Read fills p with bytes of the response, sending first what start queued.
// It waits until the armed read deadline, or as long as patience says.
func (c *conn) Read(p []byte) (int, error) {
	if c.patience > 0 {
		if err := c.arm(pipeline.Now(), c.patience, c.until); err != nil {
			c.last = err
			return 0, err
		}
	}
	n, err := c.read(p)
	if n > 0 {
		c.received = true
	}
	if err != nil {
		c.last = err
	}
	return n, err
}

// pending reports whether anything has arrived on the connection, or its end.
// It does not go through the poller, whose deadline may have passed.
func (c *conn) pending() bool {
	if !c.hasProbe {
		return false
	}
	c.arrived = true
	_ = c.probe.Control(c.look) // a closed connection stays "arrived"
	return c.arrived
}

// readAhead reports whether a TLS connection has read more than it has handed out: its
// reader takes whole records off the socket, where a look does not see them any more.
func (c *conn) readAhead() bool {
	if c.below == nil {
		return false
	}
	c.below.dry = true
	n, err := c.nc.Read(c.extra[:]) // a timeout leaves the connection usable
	c.below.dry = false
	return n > 0 || !isTimeout(err)
}

// below is the connection that TLS runs over. While it is dry reads time out at once,
// so that of what TLS has only that can be had which was read ahead.
type below struct {
	net.Conn
	dry bool
}

// NetConn returns what is below b.
func (b *below) NetConn() net.Conn { return b.Conn }

// Read implements io.Reader.
func (b *below) Read(p []byte) (int, error) {
	if b.dry {
		return 0, os.ErrDeadlineExceeded
	}
	return b.Conn.Read(p)
}

func (c *conn) peek(fd uintptr) { c.arrived = socket.Peek(fd) != socket.ErrAgain }

func (c *conn) read(p []byte) (int, error) {
	if !c.hasRaw {
		if c.phase == phaseSend { // TLS
			if err := c.flush(c.writeTimeout); err != nil {
				return 0, writeError{err}
			}
		}
		return c.nc.Read(p)
	}
	c.in, c.n, c.err = p, 0, nil
	err := c.raw.Loop(c.step)
	c.in = nil
	if err != nil {
		return 0, err
	}
	return c.n, c.err
}

// advance is the step of socket.Loop.
func (c *conn) advance(fd uintptr) bool {
	switch c.phase {
	case phaseSend:
		return c.send(fd)
	case phaseReady:
		c.phase = phaseRecv
		return true
	}
	n, err := socket.Recv(fd, c.in)
	if err == socket.ErrAgain {
		return false
	}
	c.n, c.err = n, err
	return true
}

// send sends out and reports whether not to wait for the answer.
func (c *conn) send(fd uintptr) bool {
	n, err := socket.Send(fd, c.out)
	c.out = c.out[n:]
	c.sent = c.sent || n > 0
	switch err {
	case nil:
		c.dropOut()
		c.phase = phaseReady
		return false // nothing can have been answered before readiness was reset
	case socket.ErrAgain:
		c.phase = phaseSlow
	default:
		c.err = writeError{err}
	}
	return true
}

// writeError marks an error of sending.
type writeError struct{ error }

func (e writeError) Unwrap() error { return e.error }

// arm makes reads fail between timeout and an eighth more (at most a second
// more) from now, or at until if that is earlier and not 0. Deadlines cost a lock and
// a timer each, so one that is far enough stays.
func (c *conn) arm(now int64, timeout time.Duration, until int64) error {
	by, slack := now+int64(timeout), int64(min(timeout/8, time.Second))
	if until != 0 && until < by+slack {
		by, slack = min(by, until), max(0, until-by)
	}
	if c.armed >= by && c.armed <= by+slack {
		return nil
	}
	c.armed = by + slack
	return c.nc.SetReadDeadline(time.Now().Add(time.Duration(c.armed - now)))
}

// reader returns the buffered reader of the response.
func (c *conn) reader() *bufio.Reader {
	if c.br == nil {
		c.br = readers.Get().(*bufio.Reader)
		c.br.Reset(c)
	}
	return c.br
}

func (c *conn) dropReader() {
	if c.br != nil {
		c.br.Reset(nil)
		readers.Put(c.br)
		c.br = nil
	}
}

// release gives c back for reuse at now. The response must have been read to
// its end.
func (c *conn) release(now int64) {
	clean := (c.br == nil || c.br.Buffered() == 0) && !c.readAhead()
	c.dropReader()
	if !clean || !c.pool.put(c, now) {
		c.close()
	}
}

// waste gives c back for reuse without its answer, whose header was read into resp, if
// what is left of that is at hand; else it closes it.
func (c *conn) waste(resp *fasthttp.Response) {
	h := &resp.Header
	length := h.ContentLength()
	if !h.ConnectionClose() && c.bodyDone && length >= 0 && c.br != nil && length <= c.br.Buffered() {
		if _, err := c.br.Discard(length); err == nil {
			c.release(pipeline.Now())
			return
		}
	}
	c.close()
}

// take hands the connection over to whoever reads and writes it from now on, with the
// bytes that have been read from it beyond the answer. The connection counts as open
// until closed is called.
func (c *conn) take() (nc net.Conn, pending []byte) {
	if c.br != nil && c.br.Buffered() > 0 {
		b, _ := c.br.Peek(c.br.Buffered()) // what is buffered can be had
		pending = bytes.Clone(b)
	}
	c.dropReader()
	c.dropOut()
	return c.nc, pending
}

// close ends the connection. Later calls do nothing.
func (c *conn) close() {
	if c.ended {
		return
	}
	c.ended = true
	c.dropReader()
	c.dropOut()
	_ = c.nc.Close() // nothing is lost: the exchange is over or has failed
	c.pool.address.closed()
}

// fault classifies an error of this exchange.
func (c *conn) fault(err error) fault {
	f := fault{sent: c.sent, err: err}
	_, writing := err.(writeError)
	timeout := isTimeout(err) || err == os.ErrDeadlineExceeded
	switch {
	case timeout && writing:
		f.kind = KindWriteTime
	case timeout:
		f.kind = KindReadTime
	case !c.hasRaw && refusedByTLS(err):
		f.kind = KindTLS // as TLS 1.3 does with a client certificate: after the handshake
	default:
		f.kind = KindClosed
		// A kept connection that ends before a byte of the answer was closed by
		// the service while it lay idle.
		f.stale = c.reused && !c.received
	}
	return f
}
