package proxycache

import (
	"bytes"
	"errors"
	"io"
	"sync"

	"github.com/sluice-gateway/sluice/cache"
	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// stream is an answer whose body is still coming. One goroutine, the pump, reads it from
// the service into the store as fast as it comes; every client, the one who asked first
// among them, reads it from there at his own pace. Safe for concurrent use.
type stream struct {
	shelf *shelf
	w     *cache.Writer
	head  head   // its fields are the stream's own
	size  int64  // announced, -1 for unknown
	max   int64  // that the instance keeps
	plain bool   // the service was asked without Accept-Encoding
	alone int64  // nanoseconds for which the pump goes on when all clients have left
	full  []byte // of the answer
	vary  []byte // what the two differ by

	mu   sync.Mutex
	more sync.Cond // of mu: bytes have come, or the end
	refs int       // the pump and the readers
	left int64     // pipeline.Now() since when there is no reader, 0 while there is one
	over bool
	seen int64 // how long the body is, once it is over
	err  error
	// What the pump could not keep: the bytes it had read, and where the rest is. Whoever
	// asked first takes them over.
	spill []byte
	rest  io.Reader
	gone  bool // he has left
}

func newStream(s *shelf, w *cache.Writer, size int64) *stream {
	w.Hold()
	st := &stream{shelf: s, w: w, size: size, refs: 1, left: pipeline.Now()}
	st.more.L = &st.mu
	return st
}

// errOutgrown says that an answer became larger than the store keeps.
var errOutgrown = errors.New("the answer outgrew the cache")

var pumpBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// pump reads body to its end and reports whether the answer is kept. It runs once.
func (st *stream) pump(body io.Reader) (kept bool) {
	defer st.release()
	defer st.fail() // does nothing but after a panic
	bp := pumpBuffers.Get().(*[]byte)
	defer pumpBuffers.Put(bp)
	for {
		n, err := body.Read(*bp)
		if n > 0 {
			werr := errOutgrown
			if st.w.Written()+int64(n) <= st.max {
				_, werr = st.w.Write((*bp)[:n])
			}
			if werr != nil {
				st.w.Abort()
				st.outgrow(append([]byte(nil), (*bp)[:n]...), body)
				return false
			}
			st.tell()
		}
		if err == nil && st.pointless() {
			err = errAlone
		}
		if err != nil {
			return st.end(body, err)
		}
	}
}

var errAlone = errors.New("all clients have left")

// pointless reports whether the clients have left for so long that an answer which may
// have no end is not worth its connection.
func (st *stream) pointless() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.left != 0 && pipeline.Now()-st.left > st.alone
}

// tell wakes those who wait for more.
func (st *stream) tell() {
	st.mu.Lock()
	st.more.Broadcast()
	st.mu.Unlock()
}

// end takes in the end of the body, or its breaking off.
func (st *stream) end(body io.Reader, err error) (kept bool) {
	closeReader(body)
	seen := st.w.Written()
	if err == io.EOF && (st.size < 0 || seen == st.size) {
		kept = st.w.Commit(st.shelf.now()) == nil
		err = nil
	} else {
		st.w.Abort()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
	}
	st.mu.Lock()
	st.over, st.err, st.seen = true, err, seen
	st.more.Broadcast()
	st.mu.Unlock()
	return kept
}

// fail ends a stream that has not ended otherwise: nobody must wait for more.
func (st *stream) fail() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.over {
		st.over, st.err = true, io.ErrUnexpectedEOF
		st.more.Broadcast()
	}
}

// outgrow leaves the rest of the body to the client who asked first.
func (st *stream) outgrow(spill []byte, rest io.Reader) {
	st.mu.Lock()
	st.over, st.err = true, errOutgrown
	abandoned := st.gone
	if !abandoned {
		st.spill, st.rest = spill, rest
	}
	st.more.Broadcast()
	st.mu.Unlock()
	if abandoned {
		closeReader(rest)
	}
}

// read copies what there is from off on, waiting for it. n is 0 only with an error.
func (st *stream) read(p []byte, off int64) (n int, err error) {
	if n = st.w.ReadAt(p, off); n > 0 {
		return n, nil // Fast path.
	}
	st.mu.Lock()
	for st.w.Written() <= off && !st.over {
		st.more.Wait()
	}
	seen := st.seen
	err = st.err
	st.mu.Unlock()
	if n = st.w.ReadAt(p, off); n > 0 {
		return n, nil
	}
	switch {
	case err != nil:
	case off < seen:
		err = io.ErrUnexpectedEOF
	default:
		err = io.EOF
	}
	return 0, err
}

func closeReader(r io.Reader) {
	if c, ok := r.(io.Closer); ok {
		_ = c.Close() // its error was in what was read, if there was one
	}
}

// reader is one client's way through a stream. It is a response's body stream.
type reader struct {
	st     *stream
	off    int64
	x      *pipeline.Exchange // whose answer it is, valid until Close; nil for another cache's
	leads  bool               // asked first
	spill  []byte
	rest   io.Reader // nil while the stream gives enough
	closed bool
}

// newReader returns a reader of st for x, nil if the stream is over and given up. Close
// gives it up.
func (st *stream) newReader(x *pipeline.Exchange, leads bool) *reader {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.refs == 0 {
		return nil
	}
	st.refs++
	st.left = 0
	return &reader{st: st, x: x, leads: leads}
}

// release gives up a part in the stream; with the last its memory goes.
func (st *stream) release() {
	st.mu.Lock()
	st.refs--
	last := st.refs == 0
	if st.refs == 1 {
		st.left = pipeline.Now()
	}
	st.mu.Unlock()
	if last {
		st.w.Release()
	}
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if len(r.spill) > 0 {
		n := copy(p, r.spill)
		r.spill = r.spill[n:]
		return n, nil
	}
	if r.rest != nil {
		return r.rest.Read(p)
	}
	n, err := r.st.read(p, r.off)
	r.off += int64(n)
	if n > 0 || err == io.EOF {
		return n, err
	}
	if err == errOutgrown && r.leads {
		r.st.mu.Lock()
		r.spill, r.rest = r.st.spill, r.st.rest
		r.st.spill, r.st.rest = nil, nil
		r.st.mu.Unlock()
		return r.Read(p)
	}
	if r.rest = r.st.resume(r.x, r.off); r.rest == nil {
		r.st.shelf.meters.cut.Add(0, 1)
		return 0, err
	}
	return r.rest.Read(p)
}

// Detach hands what is left over to the reader it returns: closing r does nothing any
// more. For wrapping a response's body stream, which fasthttp closes when it is replaced.
func (r *reader) Detach() io.Reader {
	rest := *r
	r.closed = true
	return &rest
}

// Close implements io.Closer.
func (r *reader) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	if r.rest != nil {
		closeReader(r.rest)
	}
	if r.leads {
		r.st.mu.Lock()
		rest := r.st.rest
		r.st.gone, r.st.spill, r.st.rest = true, nil, nil
		r.st.mu.Unlock()
		if rest != nil {
			closeReader(rest)
		}
	}
	r.st.release()
	r.x = nil
	return nil
}

// resume asks the service for the answer once more on behalf of x and returns the rest
// of its body from off on, nil where it is not surely the same answer: a client must
// never get two halves of different ones.
func (st *stream) resume(x *pipeline.Exchange, off int64) io.Reader {
	etag := st.head.etag.of(st.head.fields)
	if x == nil || !x.Ctx.IsGet() || len(etag) == 0 || etag[0] != '"' {
		return nil // only a strong validator promises the same bytes
	}
	c := x.Copy()
	unconditional(&c.Ctx.Request.Header)
	if st.plain {
		c.Ctx.Request.Header.Del("Accept-Encoding")
	}
	c.Forward()
	resp := &c.Ctx.Response
	if c.Source != pipeline.SourceService || resp.StatusCode() != int(st.head.status) || !bytes.Equal(resp.Header.Peek("Etag"), etag) ||
		!bytes.Equal(resp.Header.ContentEncoding(), fieldOf(st.head.fields, "Content-Encoding")) {
		_ = resp.CloseBodyStream()
		return nil
	}
	body := resp.BodyStream()
	if body == nil {
		body = &kept{rest: resp.Body()}
	}
	if _, err := io.CopyN(io.Discard, body, off); err != nil {
		closeReader(body)
		return nil
	}
	st.shelf.meters.resumed.Add(uint32(x.ConnID), 1) //nolint:gosec // G115: any number is a shard
	return body
}

// fieldOf returns the first of the fields with a name, nil if there is none.
func fieldOf(fields []byte, name string) []byte {
	for len(fields) > 0 {
		var n, value []byte
		if n, value, fields = pipeline.CutField(fields); string(n) == name {
			return value
		}
	}
	return nil
}

// kept is a body that is at hand.
type kept struct{ rest []byte }

// Read implements io.Reader.
func (k *kept) Read(p []byte) (int, error) {
	if len(k.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, k.rest)
	k.rest = k.rest[n:]
	return n, nil
}
