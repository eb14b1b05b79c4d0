// Package socket reads and writes TCP connections with fewer system calls than
// net.Conn: a reader that knows nothing has arrived yet waits for readiness
// first instead of trying a read that fails with EAGAIN, and calls that cannot
// block skip the scheduler's bookkeeping around a system call.
//
// It works on Linux. Elsewhere, and for connections that are not plain TCP, New
// reports that there is nothing to gain and callers use net.Conn.
package socket

import (
	"errors"
	"net"
	"syscall"
)

// ErrAgain says that a call would have had to wait.
var ErrAgain = errors.New("socket: would block")

// Conn is the raw side of a TCP connection. The net.Conn it was made from stays
// usable beside it, for what has to wait. One goroutine may read and another write.
type Conn struct {
	raw syscall.RawConn
}

// New returns the raw side of c and whether it has one.
func New(c net.Conn) (Conn, bool) {
	tcp, ok := c.(*net.TCPConn)
	if !ok || !supported {
		return Conn{}, false
	}
	raw, err := tcp.SyscallConn()
	return Conn{raw}, err == nil
}

// Loop calls step with the descriptor now and then each time the connection
// has become readable, until step returns true. Readiness that appears while
// step runs is not lost: step is called again at once. So a step that returns
// false must have read until it got ErrAgain or less than it asked for.
//
// It returns the error of waiting: os.ErrDeadlineExceeded when the read
// deadline of the connection passed, net.ErrClosed when it was closed.
// step must be a function made once, not per call, or it will be allocated.
func (c Conn) Loop(step func(fd uintptr) bool) error { return c.raw.Read(step) }

// Control calls f with the descriptor, while another goroutine may be in Loop.
// f must be a function made once, not per call, or it will be allocated.
func (c Conn) Control(f func(fd uintptr)) error { return c.raw.Control(f) }

// Ended reports whether the other side has closed the connection. It may be
// called while another goroutine waits in Loop.
func (c Conn) Ended() bool {
	ended := false
	err := c.raw.Control(func(fd uintptr) {
		err := Peek(fd)
		ended = err != nil && err != ErrAgain
	})
	return err == nil && ended
}

// Shutdown ends both directions of the connection at once, also while another
// goroutine is inside Loop, where closing would have to wait for it.
func (c Conn) Shutdown() error {
	var err error
	cerr := c.raw.Control(func(fd uintptr) { err = shutdown(fd) })
	return errors.Join(cerr, err)
}
