package tunnel

import (
	"io"
	"net"
	"syscall"

	"github.com/sluice-gateway/sluice/engine/socket"
)

// raw is what a direction has to do with descriptors of plain TCP connections.
type raw struct {
	source, target syscall.RawConn // nil: not plain TCP

	// The steps below as functions made once, for they would be allocated.
	advance func(fd uintptr) bool
	offer   func(fd uintptr)
	press   func(fd uintptr) bool

	pipe  pipe
	piped int // bytes in pipe

	spliceFrom int   // bytes in a burst that make splicing worth it
	burst      int   // bytes since the source was silent
	splices    bool  // what comes is spliced
	refuses    bool  // the kernel does not splice these
	spliced    int64 // bytes that were not copied
}

func (d *direction) initRaw() {
	r := &d.raw
	if tcp, ok := d.src.(*net.TCPConn); ok {
		r.source, _ = tcp.SyscallConn() // nil without a descriptor
		r.advance = d.advance
	}
	if tcp, ok := d.dst.(*net.TCPConn); ok {
		r.target, _ = tcp.SyscallConn()
		r.offer, r.press = d.offer, d.press
	}
	r.spliceFrom = spliceFrom
	r.refuses = r.source == nil || r.target == nil
}

func (d *direction) rawSource() bool { return d.raw.source != nil }
func (d *direction) rawTarget() bool { return d.raw.target != nil }
func (d *direction) holds() bool     { return len(d.hold) > 0 || d.raw.piped > 0 }

// fillRaw waits for bytes. A plain target has them already when it returns,
// unless it takes no more at the moment.
func (d *direction) fillRaw() {
	if err := d.raw.source.Read(d.raw.advance); err != nil {
		d.ended(err)
	}
}

// deliverRaw waits until the target has taken all.
func (d *direction) deliverRaw() {
	if err := d.raw.target.Write(d.raw.press); err != nil {
		d.refused(err)
	}
}

// advance runs when the source is readable, and moves what has arrived. It
// returns false when nothing is left, holding neither buffer nor pipe then.
//
// It always reads until there is nothing. A read that gets less than it asked
// for does not show that: the end of the stream may stand behind, for which the
// poller does not report the source again.
func (d *direction) advance(fd uintptr) bool {
	for !d.t.over.Load() {
		err := d.take(fd)
		if err == socket.ErrAgain {
			d.rest()
			return false
		}
		if err != nil {
			d.ended(err)
			return true
		}
		if d.raw.target == nil {
			return true
		}
		// Fast path: the target takes it now. Control is only to keep the
		// descriptor what it is meanwhile; an error comes again in deliverRaw.
		if d.raw.target.Control(d.raw.offer) != nil || d.end != goesOn || d.holds() {
			return true
		}
	}
	d.end = stopped
	return true
}

// take reads from the source into the pipe or the buffer, without waiting.
func (d *direction) take(fd uintptr) error {
	r := &d.raw
	if r.splices && !r.refuses && d.openPipe() {
		n, err := splice(fd, uintptr(r.pipe.w), pipeBytes)
		switch {
		case err == syscall.EINVAL || err == syscall.ENOSYS:
			r.refuses = true
		case err != nil:
			return err
		case n == 0:
			return io.EOF
		default:
			r.piped = n
			r.burst += n
			r.spliced += int64(n)
			return nil
		}
	}
	b := d.acquire()
	n, err := socket.Recv(fd, b)
	d.hold = b[:n]
	r.burst += n
	r.splices = n == len(b) && r.burst >= r.spliceFrom
	return err
}

// offer gives the target what is held for it, as far as it takes it now.
func (d *direction) offer(fd uintptr) { d.push(fd) }

// press is offer for a target that is waited for. It returns true when there is
// nothing to wait for.
func (d *direction) press(fd uintptr) bool {
	if d.t.over.Load() {
		d.end = stopped
		return true
	}
	d.push(fd)
	return d.end != goesOn || !d.holds()
}

func (d *direction) push(fd uintptr) {
	r := &d.raw
	for d.holds() {
		n, err := 0, error(nil)
		switch {
		case len(d.hold) > 0:
			n, err = socket.Send(fd, d.hold)
			d.hold = d.hold[n:]
		case r.refuses:
			err = d.unpipe()
		default:
			n, err = splice(uintptr(r.pipe.r), fd, r.piped)
			r.piped -= n
		}
		if err == socket.ErrAgain {
			d.note(n, true)
			return
		}
		if (err == syscall.EINVAL || err == syscall.ENOSYS) && r.piped > 0 && !r.refuses {
			r.refuses = true // copy what is in the pipe
			continue
		}
		d.note(n, d.holds())
		if err != nil {
			d.refused(err)
			return
		}
	}
}

// unpipe reads from the pipe into the buffer.
func (d *direction) unpipe() error {
	b := d.acquire()
	n, err := syscall.Read(d.raw.pipe.r, b[:min(len(b), d.raw.piped)])
	if err == syscall.EINTR {
		return nil
	}
	if err != nil {
		return err
	}
	d.raw.piped -= n
	d.hold = b[:n]
	return nil
}

// rest gives back what is not needed while the source is silent.
func (d *direction) rest() {
	r := &d.raw
	d.hold = nil
	d.release()
	d.closePipe()
	// A source that sent much will, so the next burst need not begin with a copy.
	// (Waiting for more than one small burst before copying again: no difference.)
	r.splices = r.burst >= r.spliceFrom
	r.burst = 0
}

func (d *direction) letGoRaw() { d.closePipe() }

func (d *direction) openPipe() bool {
	if d.raw.pipe == (pipe{}) {
		d.raw.pipe = acquirePipe()
	}
	return d.raw.pipe != (pipe{})
}

func (d *direction) closePipe() {
	if d.raw.pipe == (pipe{}) {
		return
	}
	if d.raw.piped > 0 {
		d.raw.pipe.discard()
	} else {
		d.raw.pipe.release()
	}
	d.raw.pipe, d.raw.piped = pipe{}, 0
}
