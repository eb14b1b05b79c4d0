package tunnel

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// HalfClosedDefault is how long the other direction may be silent after one
// side has ended its own, where Settings do not say.
const HalfClosedDefault = 10 * time.Second

// interruptAgain is after how long what did not let itself be interrupted is
// interrupted again: a wrapped connection that sets write deadlines of its own
// may just have replaced ours.
const interruptAgain = 50 * time.Millisecond

// closingTime bounds what closing may wait for, such as room for a TLS alert.
const closingTime = time.Second

// End is one side of a tunnel.
type End struct {
	Conn net.Conn
	// Pending are bytes already read from Conn: they go to the other side before
	// anything else. They must not change until Run returns.
	Pending []byte
}

// Settings are the limits of a tunnel. The zero value has only HalfClosedDefault.
type Settings struct {
	// Idle ends the tunnel after both directions have been silent for this long,
	// or after a side has taken nothing for this long of what waits for it.
	// 0: no limit.
	Idle time.Duration
	// HalfClosed takes the place of a longer Idle once one side has ended its
	// direction. 0: HalfClosedDefault.
	HalfClosed time.Duration
	// MaxDuration ends the tunnel this long after New, whatever passes. 0: no limit.
	MaxDuration time.Duration
}

// Cause is why a tunnel ended: what happened first.
type Cause int32

// The causes.
const (
	ClientClosed  Cause = iota + 1 // the client ended its direction
	ServiceClosed                  // the service ended its direction
	ClientError                    // reading from the client or writing to it failed
	ServiceError                   // reading from the service or writing to it failed
	Idle                           // nothing moved for Settings.Idle
	Expired                        // Settings.MaxDuration has passed
	Closed                         // Close was called
)

// String returns the cause as a label: "client_closed".
func (c Cause) String() string {
	switch c {
	case ClientClosed:
		return "client_closed"
	case ServiceClosed:
		return "service_closed"
	case ClientError:
		return "client_error"
	case ServiceError:
		return "service_error"
	case Idle:
		return "idle"
	case Expired:
		return "expired"
	case Closed:
		return "closed"
	}
	return "unknown"
}

// Result is what a tunnel has been.
type Result struct {
	Up, Down int64 // bytes handed to the service, to the client
	Cause    Cause
	Err      error // what failed, for ClientError and ServiceError
}

// Tunnel is two connections that have become one. It must not be copied. Run is
// called once; Close and Bytes may be called by any goroutine at any time.
type Tunnel struct {
	up, down direction
	settings Settings
	started  time.Time
	wait     sync.WaitGroup // for the direction that has a goroutine of its own

	cause atomic.Int32
	over  atomic.Bool // both directions are to stop
	half  atomic.Bool // one direction has ended

	mu      sync.Mutex  // guards what follows
	timer   *time.Timer // nil before Run
	done    bool        // both connections are closed
	err     error
	stalled [2]bool // the client, the service let the tunnel end by taking nothing
}

// New returns the tunnel between two connections. Both belong to it from here
// on: nothing else may read, write, close them or set their deadlines, and Run
// must be called, also after Close.
func New(client, service End, s Settings) *Tunnel {
	if s.HalfClosed <= 0 {
		s.HalfClosed = HalfClosedDefault
	}
	t := &Tunnel{settings: s, started: time.Now()}
	// What the deadlines of before were for is over. One that cannot be removed
	// belongs to a broken connection, which the first read will tell.
	_ = client.Conn.SetDeadline(time.Time{})
	_ = service.Conn.SetDeadline(time.Time{})
	t.up.init(t, client, service.Conn)
	t.down.init(t, service, client.Conn)
	return t
}

// Run passes bytes both ways until the tunnel ends, then closes both connections
// and returns. It uses the calling goroutine and one more, which is gone when it
// returns.
func (t *Tunnel) Run() Result {
	t.mu.Lock()
	t.timer = time.AfterFunc(t.firstLook(), t.look)
	t.mu.Unlock()
	t.wait.Go(t.down.run)
	t.up.run()
	t.wait.Wait()
	t.finish()
	up, down := t.Bytes()
	return Result{Up: up, Down: down, Cause: Cause(t.cause.Load()), Err: t.err}
}

// Close ends the tunnel at once: bytes on their way are dropped, both sides see
// the end of the connection. It does not wait for Run to return.
func (t *Tunnel) Close() { t.stop(Closed, nil) }

// Bytes returns how many bytes the service and the client have been handed so far.
func (t *Tunnel) Bytes() (up, down int64) { return t.up.moved.Load(), t.down.moved.Load() }

// because notes why the tunnel ends, unless that is known.
func (t *Tunnel) because(c Cause, err error) {
	if !t.cause.CompareAndSwap(0, int32(c)) || err == nil {
		return
	}
	t.mu.Lock()
	t.err = err
	t.mu.Unlock()
}

// stop makes both directions return.
func (t *Tunnel) stop(c Cause, err error) {
	t.because(c, err)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over.Store(true)
	if t.done {
		return
	}
	t.interrupt()
	if t.timer != nil {
		t.timer.Reset(interruptAgain)
	}
}

// interrupt makes reads and writes that wait return. Closing the connections
// instead would not: that of a wrapped one may linger or write, and a descriptor
// is not to be closed before the last system call on it has returned.
func (t *Tunnel) interrupt() {
	past := time.Unix(1, 0)
	_ = t.up.src.SetDeadline(past) // fails only on a closed connection
	_ = t.down.src.SetDeadline(past)
}

// halfClose begins the time in which one direction goes on alone.
func (t *Tunnel) halfClose() {
	if t.half.Swap(true) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over.Load() {
		t.timer.Reset(t.settings.HalfClosed)
	}
}

// finish closes both connections. A side that is to learn that its stream is
// not whole, or that has not been taking what was sent, is reset.
func (t *Tunnel) finish() {
	t.mu.Lock()
	t.over.Store(true)
	t.timer.Reset(closingTime)
	stalled := t.stalled
	t.mu.Unlock()

	closeConn(t.down.src, stalled[1] || t.up.abandons())
	closeConn(t.up.src, stalled[0] || t.down.abandons())

	t.mu.Lock()
	t.done = true
	t.timer.Stop()
	t.mu.Unlock()
}

// layer is a connection over another, such as TLS.
type layer interface {
	NetConn() net.Conn
}

// closeConn closes c, with a reset if asked to and there is a TCP connection
// below.
func closeConn(c net.Conn, reset bool) {
	if reset {
		under := c
		for w, ok := c.(layer); ok; w, ok = under.(layer) {
			under = w.NetConn() // past TLS: no alert for a side that is cut off
		}
		if tcp, ok := under.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // fails only where the connection is gone already
			c = tcp
		}
	}
	_ = c.Close() // nothing is left to be done about an error
}
