package tunnel

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// bufferBytes is one TLS record, and what is copied at once.
const bufferBytes = 16 << 10

// smallBytes is the buffer a direction keeps while it waits for a source that
// cannot be asked whether it has bytes, such as TLS.
const smallBytes = 1 << 10

type buffer [bufferBytes]byte

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// ending is how a direction has ended.
type ending uint8

const (
	goesOn       ending = iota
	sourceEnded         // everything the source sent has been handed over
	sourceFailed        // the source broke off
	targetFailed        // the target takes no more
	stopped             // the tunnel is over
)

// direction moves bytes from one connection to the other. All but moved and
// stamp belong to the goroutine in run, and after it to the one in Run.
type direction struct {
	t        *Tunnel
	src, dst net.Conn

	moved atomic.Int64 // bytes that dst has taken
	// stamp is when bytes last came or went, since t.started, times two; the low
	// bit is set while dst is waited for.
	stamp atomic.Int64
	torn  atomic.Bool // dst was reset by its peer

	hold  []byte  // bytes that dst has not taken yet
	buf   *buffer // nil while the source is silent
	small []byte  // nil if the source can be asked
	more  bool    // the last read filled its buffer
	end   ending
	err   error
	raw   raw
}

func (d *direction) init(t *Tunnel, from End, to net.Conn) {
	d.t, d.src, d.dst = t, from.Conn, to
	d.hold = from.Pending
	d.initRaw()
	if !d.rawSource() {
		d.small = make([]byte, smallBytes)
	}
}

// run moves bytes until the direction has ended, and tells the tunnel.
func (d *direction) run() {
	for d.end == goesOn {
		if d.deliver(); d.end == goesOn {
			d.fill()
		}
	}
	d.letGo()
	d.note(0, false)
	d.conclude()
}

// conclude does what the end of this direction means for the tunnel.
func (d *direction) conclude() {
	t := d.t
	closed, failed, theirs := ClientClosed, ClientError, ServiceError
	if d == &t.down {
		closed, failed, theirs = ServiceClosed, ServiceError, ClientError
	}
	switch d.end {
	case sourceEnded:
		t.because(closed, nil)
		c, ok := d.dst.(interface{ CloseWrite() error })
		if !ok || c.CloseWrite() != nil {
			t.stop(closed, nil) // a side that cannot be told has nothing to go on for
			return
		}
		t.halfClose()
	case sourceFailed:
		t.stop(failed, d.err)
	case targetFailed:
		if errors.Is(d.err, syscall.EPIPE) || errors.Is(d.err, syscall.ECONNRESET) {
			// The other direction meets the same end, after the last bytes that
			// came from there: they are still to be handed over. EPIPE leaves it to
			// tell the cause, which may be a proper end.
			if d.torn.Load() {
				t.because(theirs, d.err)
			}
			t.halfClose()
			return
		}
		t.stop(theirs, d.err)
	}
}

// abandons reports whether the target of d has to be reset: it has not been
// told the end of its stream, because the source of d broke down.
func (d *direction) abandons() bool {
	return d.end == sourceFailed || d.back().end == targetFailed && d.end != sourceEnded
}

// fill gets bytes from the source, or the end of the direction.
func (d *direction) fill() {
	if d.t.over.Load() {
		d.end = stopped
		return
	}
	if d.rawSource() {
		d.fillRaw()
		return
	}
	into := d.small
	if d.more {
		into = d.acquire()
	} else {
		d.release()
	}
	n, err := d.src.Read(into)
	d.more = n == len(into)
	d.hold = into[:n]
	if n == 0 && err != nil { // an error that comes with bytes comes again without
		d.ended(err)
	}
}

// deliver hands the target what is held for it, and waits until it is taken.
func (d *direction) deliver() {
	if !d.holds() {
		return
	}
	if d.t.over.Load() {
		d.end = stopped
		return
	}
	d.note(0, true)
	if d.rawTarget() {
		d.deliverRaw()
	} else {
		n, err := d.dst.Write(d.hold)
		d.hold = d.hold[n:]
		d.note(n, false)
		if err != nil {
			d.refused(err)
		}
	}
}

// ended notes that the source has, in order if err is io.EOF.
func (d *direction) ended(err error) {
	switch {
	case d.t.over.Load():
		d.end = stopped
	case err == io.EOF && d.back().torn.Load():
		// The kernel tells of a reset once, and the other direction was told.
		d.end, d.err = sourceFailed, syscall.ECONNRESET
	case err == io.EOF:
		d.end = sourceEnded
	default:
		d.end, d.err = sourceFailed, err
	}
}

// refused notes that the target takes no more.
func (d *direction) refused(err error) {
	if d.t.over.Load() {
		d.end = stopped
		return
	}
	d.end, d.err = targetFailed, err
	// One that had ended its stream properly before gives EPIPE.
	if errors.Is(err, syscall.ECONNRESET) {
		d.torn.Store(true)
	}
}

// back returns the direction that takes from the target of d.
func (d *direction) back() *direction {
	if d == &d.t.up {
		return &d.t.down
	}
	return &d.t.up
}

// note counts n bytes that the target has taken and remembers that something
// moved. waits says that there is more for it.
func (d *direction) note(n int, waits bool) {
	stamp := int64(time.Since(d.t.started)) << 1
	if waits {
		stamp |= 1
	}
	d.stamp.Store(stamp)
	if n > 0 {
		d.moved.Add(int64(n))
	}
}

// last returns when something moved last, and whether the target is waited for.
func (d *direction) last() (time.Duration, bool) {
	stamp := d.stamp.Load()
	return time.Duration(stamp >> 1), stamp&1 != 0
}

// acquire returns the buffer of the direction, which it has until release.
func (d *direction) acquire() []byte {
	if d.buf == nil {
		d.buf = buffers.Get().(*buffer)
	}
	return d.buf[:]
}

func (d *direction) release() {
	if d.buf != nil {
		buffers.Put(d.buf)
		d.buf = nil
	}
}

// letGo gives back all that is held for bytes, and the bytes.
func (d *direction) letGo() {
	d.hold, d.small = nil, nil
	d.release()
	d.letGoRaw()
}
