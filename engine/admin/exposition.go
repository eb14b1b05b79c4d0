package admin

import (
	"bufio"
	"bytes"
	"io"
	"time"
)

// exposition is the body of GET /metrics: text that is made while it is sent. Thousands of
// routes make tens of megabytes, which nobody should wait for or hold.
type exposition struct {
	gateway Gateway
	whole   *bytes.Buffer // where the body is read rather than written
}

const (
	// pieceBytes is how much is made and sent before requests have their turn.
	pieceBytes = 32 << 10
	// pieceRest is for how long, a millisecond where the process is idle otherwise:
	// the scheduler looks for requests that have arrived only where a goroutine
	// sleeps. Yielding is not enough, since the goroutine stays runnable.
	pieceRest = 50 * time.Microsecond
)

// SupportsBodyWriteTo implements fasthttp.BodyWriterTo.
func (*exposition) SupportsBodyWriteTo() bool { return true }

// WriteTo implements io.WriterTo.
func (e *exposition) WriteTo(w io.Writer) (int64, error) {
	p := &pacedWriter{w: w}
	b := bufio.NewWriterSize(p, pieceBytes)
	e.gateway.WriteMetrics(b)
	err := b.Flush()
	return p.written, err
}

// Read implements io.Reader.
func (e *exposition) Read(dst []byte) (int, error) {
	if e.whole == nil {
		e.whole = &bytes.Buffer{}
		e.gateway.WriteMetrics(e.whole)
	}
	return e.whole.Read(dst)
}

// pacedWriter rests after every write.
type pacedWriter struct {
	w       io.Writer
	written int64
}

// Write implements io.Writer.
func (p *pacedWriter) Write(piece []byte) (int, error) {
	n, err := p.w.Write(piece)
	p.written += int64(n)
	if err == nil {
		time.Sleep(pieceRest)
	}
	return n, err
}
