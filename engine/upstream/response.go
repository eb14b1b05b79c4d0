package upstream

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/lb"
)

// interimMax bounds the 1xx responses one answer may be preceded by.
const interimMax = 16

var (
	errNotHTTP = errors.New("not a response that may be passed on")
	errUpgrade = errors.New("a change of protocol that was not asked for")
)

// readHead reads the header of the final response into resp: 101 is one where the
// request asked for it.
func readHead(c *conn, resp *fasthttp.Response, upgrades bool) error {
	br := c.reader()
	for range interimMax {
		if err := resp.Header.Read(br); err != nil {
			return err
		}
		status := resp.StatusCode()
		switch {
		case status >= 200:
			return nil
		case status == fasthttp.StatusSwitchingProtocols && upgrades:
			return nil
		case status == fasthttp.StatusSwitchingProtocols:
			return errUpgrade
		case status < 100:
			return errNotHTTP
		}
		pipeline.ClearResponse(resp)
	}
	return errNotHTTP
}

// hasBody applies RFC 9112 section 6.3: some answers end with their header.
func hasBody(x *pipeline.Exchange, status int) bool {
	return !x.Ctx.IsHead() && status != fasthttp.StatusNoContent && status != fasthttp.StatusNotModified
}

// body reads the response body from the connection until the framing says it
// has ended, then gives the connection back. It is the response's body stream;
// one goroutine reads it. Close before the end closes the connection.
type body struct {
	c       *conn
	br      *bufio.Reader
	timeout time.Duration
	until   int64 // Now() at which the whole answer is overdue, 0 for never
	// left counts the bytes of the body, or of the chunk being read, to come;
	// -1: up to the end of the connection.
	left    int64
	chunked bool
	started bool // a chunk has been read: its CRLF is due
	done    bool
	reuse   bool

	trailers *fasthttp.ResponseHeader // where trailer fields go, nil to drop them
	lease    lease                    // ends with the body
	sender   *sender                  // of the request's body, nil if that was sent before
	ending   func(broke lb.Event)     // told how the body ended; nil where nobody asks
	passes   int64                    // Now() from which a trial under way has passed, 0 for no trial
}

var errBroken = errors.New("the service broke off its response")

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	began := pipeline.Now()
	n, err := b.read(p)
	switch {
	case err != nil && err != io.EOF && !b.done:
		b.tell(b.blame(err, began))
	case b.passes != 0 && b.ending != nil && pipeline.Now() >= b.passes:
		b.passes = 0
		b.ending(lb.Ignored) // but not for the last time
	}
	return n, err
}

// blame says what the end of a read that began at a time is to the health of the target.
// Where the time for the whole answer passed while nobody read, or while the client still
// sent its own body, the client was slow.
func (b *body) blame(err error, began int64) lb.Event {
	switch {
	case !isTimeout(err) && !isTimeout(b.c.last): // what broke a chunk off is in last
		return lb.TCPFailure
	case b.sender.clientLate():
		return lb.Ignored
	case b.until != 0 && began >= b.until-int64(lateRead):
		return lb.Ignored
	}
	return lb.Timeout
}

// lateRead is how long before the end of an answer's time a read must begin for its
// silence to be the service's.
const lateRead = 50 * time.Millisecond

// tell says how the body ended, if that has not been said: lb.Ignored for an end that is
// not the service's fault.
func (b *body) tell(broke lb.Event) {
	if b.ending != nil {
		b.ending(broke)
		b.ending = nil
	}
}

func (b *body) read(p []byte) (int, error) {
	if b.done {
		return 0, io.EOF
	}
	if b.sender != nil {
		b.sender.release()
	}
	if err := b.c.arm(pipeline.Now(), b.timeout, b.until); err != nil {
		return 0, err
	}
	if b.chunked && b.left == 0 {
		if err := b.nextChunk(); err != nil {
			return 0, err
		}
		if b.done {
			return 0, io.EOF
		}
	}
	if err := b.wait(); err != nil {
		return 0, err
	}
	if b.left >= 0 && int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.br.Read(p)
	if b.left > 0 {
		b.left -= int64(n)
	}
	switch {
	case err == io.EOF && b.left < 0:
		b.reuse = false
		b.finish()
		return n, io.EOF
	case err == io.EOF:
		return n, errBroken
	case b.left == 0 && !b.chunked:
		b.finish()
	}
	return n, err
}

// wait waits for more of an answer that may depend on what the client still sends.
func (b *body) wait() error {
	if b.sender == nil || b.br.Buffered() > 0 {
		return nil
	}
	switch err := b.sender.await(b.c, b.timeout, b.until); err {
	case errGivenUp:
		if b.sender.stop().kind == KindWriteTime {
			b.tell(lb.Timeout)
		}
		b.tell(lb.Ignored) // the client has broken off
		return errBroken
	case io.EOF:
		return nil // the next read says it again
	default:
		return err
	}
}

// nextChunk reads a chunk's size line, or the end of the body.
func (b *body) nextChunk() error {
	if b.started {
		if err := b.expectCRLF(); err != nil {
			return err
		}
	}
	b.started = true
	if err := b.wait(); err != nil {
		return err
	}
	size, err := readChunkSize(b.br)
	if err != nil {
		return err
	}
	if b.left = size; size > 0 {
		return nil
	}
	if err := b.readTrailer(); err != nil {
		return err
	}
	b.finish()
	return nil
}

// readTrailer reads what follows the last chunk.
func (b *body) readTrailer() error {
	if b.trailers == nil {
		return skipTrailer(b.br)
	}
	if err := b.trailers.ReadTrailer(b.br); err != nil {
		return errors.Join(errNotHTTP, err)
	}
	return nil
}

func (b *body) expectCRLF() error {
	crlf, err := b.br.Peek(2)
	if err != nil {
		return errBroken
	}
	if crlf[0] != '\r' || crlf[1] != '\n' {
		return errNotHTTP
	}
	_, err = b.br.Discard(2)
	return err
}

// finish gives the connection back.
func (b *body) finish() {
	b.done = true
	if b.sender != nil {
		b.reuse = b.sender.stop().kind == kindNone && b.sender.complete && b.reuse
	}
	b.tell(lb.Ignored)
	if b.reuse {
		b.c.release(pipeline.Now())
	} else {
		b.c.close()
	}
	b.lease.end() // last: who waits for its place wants the connection too
}

// Detach hands what is left of the body over to the reader it returns: closing b
// does nothing any more. For wrapping a response's body stream, which fasthttp
// closes when it is replaced.
func (b *body) Detach() io.Reader {
	rest := *b
	b.done = true
	return &rest
}

// Close implements io.Closer.
func (b *body) Close() error {
	if !b.done {
		b.done = true
		if b.sender != nil {
			_ = b.sender.stop() // the connection ends, whatever it was
		}
		b.tell(lb.Ignored) // by the client's will or ours
		b.c.close()
		b.lease.end() // last, as in finish
	}
	return nil
}

// readChunkSize reads the line before a chunk (RFC 9112 section 7.1).
func readChunkSize(br *bufio.Reader) (int64, error) {
	line, err := br.ReadSlice('\n')
	if err != nil {
		return 0, errBroken
	}
	size, ok := chunkSize(line)
	if !ok {
		return 0, errNotHTTP
	}
	return size, nil
}

// chunkSize reads the size from the line before a chunk, its LF included.
func chunkSize(line []byte) (size int64, ok bool) {
	const digitsMax = 15 // no overflow of int64
	i := 0
	for ; i < len(line); i++ {
		d, ok := hexDigit(line[i])
		if !ok {
			break
		}
		size = size<<4 | d
	}
	if i == 0 || i > digitsMax || i == len(line) || len(line) < 2 || line[len(line)-2] != '\r' {
		return 0, false
	}
	for line[i] == ' ' || line[i] == '\t' {
		i++ // "bad whitespace", which a recipient must accept
	}
	return size, line[i] == ';' || line[i] == '\r' && i == len(line)-2
}

func hexDigit(c byte) (int64, bool) {
	switch {
	case c >= '0' && c <= '9':
		return int64(c - '0'), true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int64(c|0x20-'a') + 10, true
	}
	return 0, false
}

// skipTrailer reads the trailer section and its empty line, of an answer to a client
// that does not take trailer fields (RFC 9110 section 6.5.1).
func skipTrailer(br *bufio.Reader) error {
	const linesMax = 64
	for range linesMax {
		line, err := br.ReadSlice('\n')
		switch {
		case err != nil:
			return errBroken
		case string(line) == "\r\n":
			return nil
		case len(line) < 2 || line[len(line)-2] != '\r':
			return errNotHTTP
		}
	}
	return errNotHTTP
}

// takeChunks makes a chunked body that has arrived whole, as most small ones
// have, the buffered body of resp. Otherwise it takes nothing and returns false.
func takeChunks(br *bufio.Reader, resp *fasthttp.Response) bool {
	arrived, err := br.Peek(br.Buffered())
	if err != nil || !bytes.HasSuffix(arrived, []byte("\r\n0\r\n\r\n")) && !bytes.Equal(arrived, []byte("0\r\n\r\n")) {
		return false
	}
	for rest := arrived; ; {
		line := bytes.IndexByte(rest, '\n')
		size, ok := chunkSize(rest[:line+1])
		rest = rest[line+1:]
		switch {
		case !ok || size+2 > int64(len(rest)) || rest[size] != '\r' || rest[size+1] != '\n':
			resp.ResetBody()
			return false
		case size == 0 && len(rest) == 2:
			_, err := br.Discard(len(arrived))
			return err == nil
		case size == 0:
			resp.ResetBody()
			return false // trailer fields, or more than one answer
		}
		resp.AppendBody(rest[:size])
		rest = rest[size+2:]
	}
}

var ourProtocol = []byte("HTTP/1.1")

// receive takes over the response whose header has been read.
func (s *Service) receive(k *call, c *conn) fault {
	x := k.x
	resp := &x.Ctx.Response
	h := &resp.Header
	k.sender.hold()
	reuse := !h.ConnectionClose()
	h.ResetConnectionClose()
	h.SetProtocol(ourProtocol) // the service's is between it and us
	k.strip.clean(h, takesTrailers(x))
	length := h.ContentLength()
	switch {
	case !hasBody(x, x.UpstreamStatus):
		resp.SkipBody = true
		c.suspect = true // if it sends a body all the same, that must not answer another
		return k.finish(c, reuse)
	case length >= 0 && (length <= BufferedBodyMax || x.BuffersBody && length <= WholeBodyMax) && k.atHand(c, length):
		// The header is in time; what is missing of the body has the read timeout for
		// each piece.
		c.patience, c.until = k.timeouts.Read, x.Deadline
		if err := resp.ReadBody(c.br, WholeBodyMax); err != nil {
			return s.headFault(c, err)
		}
		return k.finish(c, reuse)
	case length == -1 && takeChunks(c.br, resp):
		h.Del("Trailer") // none came
		return k.finish(c, reuse)
	}
	b := k.stream(c, length, reuse)
	if x.BuffersBody || length < 0 && !x.Ctx.Request.Header.IsHTTP11() {
		k.lease, b.lease = b.lease, lease{} // another attempt may follow
		return s.readWhole(resp, b, length) // HTTP/1.0 knows no chunks
	}
	if !k.told {
		k.watch(b)
	}
	resp.SetBodyStream(b, max(length, -1))
	resp.ImmediateHeaderFlush = length < 0
	return fault{}
}

// atHand reports whether the rest of an answer need not wait for the client: it is here,
// or the request's body is sent.
func (k *call) atHand(c *conn, length int) bool {
	return k.sender == nil || k.sender.over.Load() || length <= c.br.Buffered()
}

// stream returns the body of an answer that is passed on as it comes.
func (k *call) stream(c *conn, length int, reuse bool) *body {
	x := k.x
	h := &x.Ctx.Response.Header
	b := &body{
		c: c, br: c.br, timeout: k.timeouts.Read, until: x.Deadline, left: int64(length), reuse: reuse,
		lease: k.lease, sender: k.sender,
	}
	k.lease, k.sender = lease{}, nil
	switch {
	case length == -1:
		b.chunked, b.left = true, 0
		if len(h.PeekTrailerKeys()) > 0 {
			b.trailers = h
		}
	case length < 0:
		b.left, b.reuse = -1, false
	}
	if bytes.HasPrefix(h.ContentType(), eventStream) {
		b.until = 0 // it has no end that could be late
		if x.StreamIdle > 0 {
			b.timeout = x.StreamIdle
		}
	}
	return b
}

var eventStream = []byte("text/event-stream")

// takesTrailers reports whether the client wants trailer fields, and can have them: they
// follow chunks.
func takesTrailers(x *pipeline.Exchange) bool {
	h := &x.Ctx.Request.Header
	return bytes.Contains(h.Peek("Te"), []byte("trailers")) && h.IsHTTP11() && !x.BuffersBody
}

// finish gives the connection back after an answer that is at hand as a whole.
func (k *call) finish(c *conn, reuse bool) fault {
	if snd := k.sender; snd != nil {
		c.bodyDone = snd.stop().kind == kindNone && snd.complete
		k.sender = nil
	}
	if reuse && c.bodyDone {
		c.release(k.x.UpstreamHeaders)
	} else {
		c.close()
	}
	return fault{}
}

// readWhole reads a body that was going to be streamed, for a hook that needs it.
func (s *Service) readWhole(resp *fasthttp.Response, b *body, length int) fault {
	defer func() { _ = b.Close() }() // never fails; after the end it does nothing
	if length > WholeBodyMax {
		return fault{kind: KindTooLarge, sent: true}
	}
	whole, err := io.ReadAll(io.LimitReader(b, WholeBodyMax+1))
	switch {
	case err != nil:
		return s.headFault(b.c, err)
	case len(whole) > WholeBodyMax:
		return fault{kind: KindTooLarge, sent: true}
	}
	resp.SetBodyRaw(whole)
	return fault{}
}
