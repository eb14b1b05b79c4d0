package trial

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"time"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"

	"github.com/sluice-gateway/sluice/loadtest/machine"
)

const (
	// failuresInARow ends a run: nothing behind the address works.
	failuresInARow = 2000
	// checkEvery is how many answers there are to one whose body is checked.
	checkEvery = 16
	tickMillis = 50
)

// generator sends requests over a fixed number of connections from one thread, each
// connection with one request at a time. With a rate, request i is planned for i/rate
// after the start whatever became of those before it; one that finds no free connection
// waits, and its latency counts from the planned time all the same.
type generator struct {
	*load
	*poller
	target  unix.Sockaddr
	timer   int
	lines   []*line
	byFD    map[int32]*line
	free    []*line // without a request under way
	scratch []byte
	timerAt time.Time

	out      outcome
	start    time.Time
	began    time.Time // when what counts began
	counting bool
	sent     uint64    // requests so far
	count    uint64    // of all planned ones
	row      int       // failures in a row
	fullTill time.Time // when last a connection became free after none was
}

// line is one connection.
type line struct {
	fd       int // -1 while there is none
	shot     *shot
	planned  time.Time
	sentAt   time.Time
	counts   bool
	busy     bool
	out      []byte // of the request, not sent yet
	pending  []byte // of a head that is not complete
	head     head
	headed   bool // head is known
	body     body
	digest   *xxhash.Digest
	checking bool
	wrong    []byte // beginning of an unexpected answer's body
}

// generate runs l until it ends or ctx does.
func generate(ctx context.Context, l *load) (*outcome, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	release, err := machine.PinThread(l.cpus)
	if err != nil {
		return nil, err
	}
	defer func() { _ = release() }() // it was allowed a moment ago
	g := &generator{load: l, byFD: map[int32]*line{}, scratch: make([]byte, 64<<10)}
	if g.target, err = loopbackAddress(l.address); err != nil {
		return nil, err
	}
	if g.poller, err = newPoller(); err != nil {
		return nil, err
	}
	defer g.close()
	if g.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return nil, fmt.Errorf("timerfd_create: %w", err)
	}
	if err := g.add(g.timer, unix.EPOLLIN); err != nil {
		return nil, err
	}
	for range l.connections {
		c := &line{fd: -1, digest: xxhash.New()}
		g.lines, g.free = append(g.lines, c), append(g.free, c)
	}
	return &g.out, g.run(ctx)
}

func (g *generator) close() {
	for _, c := range g.lines {
		g.hangUp(c)
	}
	_ = unix.Close(g.timer) // holds nothing to lose
	g.poller.close()
}

func (g *generator) run(ctx context.Context) error {
	g.start = time.Now()
	g.count = uint64(g.perSecond * (g.warmUp + g.duration).Seconds())
	end := g.start.Add(g.warmUp + g.duration)
	var own time.Duration
	lastTick := g.start
	for now := g.start; ; now = time.Now() {
		if !g.counting && now.Sub(g.start) >= g.warmUp {
			g.counting, g.began = true, now
			if g.perSecond == 0 {
				end = now.Add(g.duration)
			}
			own = threadTime()
			g.marked()
		}
		if g.over(now, end) {
			break
		}
		if err := g.fill(now); err != nil {
			return err
		}
		events, err := g.wait(tickMillis)
		if err != nil {
			return err
		}
		for i := range events {
			g.event(&events[i])
		}
		if g.row >= failuresInARow {
			return fmt.Errorf("%d requests in a row failed: %s", g.row, g.out.first)
		}
		if now.Sub(lastTick) >= tickMillis*time.Millisecond {
			lastTick = now
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			g.expire(now)
		}
	}
	g.out.elapsed = time.Since(g.began)
	g.out.own = threadTime() - own
	if g.perSecond == 0 {
		g.marked()
	}
	g.settle(time.Now())
	return nil
}

func (g *generator) marked() {
	if g.mark != nil {
		g.mark()
	}
}

// over reports whether the run has ended: at its end, or with a rate when every planned
// request has its answer, or the last may have no more time.
func (g *generator) over(now, end time.Time) bool {
	if g.perSecond == 0 {
		return now.After(end)
	}
	return g.sent == g.count && len(g.free) == len(g.lines) && !now.Before(end) || now.After(end.Add(g.patience))
}

// plan returns when request i is to be sent.
func (g *generator) plan(i uint64) time.Time {
	return g.start.Add(time.Duration(float64(i) / g.perSecond * float64(time.Second)))
}

// fill gives the free connections the requests that are due.
func (g *generator) fill(now time.Time) error {
	if g.perSecond == 0 {
		for len(g.free) > 0 && g.row < failuresInARow {
			if err := g.send(now, now); err != nil {
				return err
			}
		}
		return nil
	}
	for len(g.free) > 0 && g.sent < g.count && g.row < failuresInARow {
		at := g.plan(g.sent)
		if at.After(now) {
			now = time.Now()
			if at.After(now) {
				return g.wakeAt(at, now)
			}
		}
		if err := g.send(at, now); err != nil {
			return err
		}
	}
	return nil
}

// wakeAt lets the poller return at a time, to the precision of the kernel's own timers.
func (g *generator) wakeAt(at, now time.Time) error {
	if at.Equal(g.timerAt) {
		return nil
	}
	g.timerAt = at
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(max(1, at.Sub(now))))}
	if err := unix.TimerfdSettime(g.timer, 0, &spec, nil); err != nil {
		return fmt.Errorf("timerfd_settime: %w", err)
	}
	return nil
}

// send gives the next request to a free connection.
func (g *generator) send(planned, now time.Time) error {
	last := len(g.free) - 1
	c := g.free[last]
	g.free = g.free[:last]
	c.shot = &g.shots[g.order[g.sent%uint64(len(g.order))]]
	c.planned, c.sentAt, c.busy, c.headed, c.out = planned, now, true, false, c.shot.wire
	c.checking = c.shot.steady && g.sent%checkEvery == 0
	c.counts = g.perSecond > 0 && planned.Sub(g.start) >= g.warmUp
	g.sent++
	if c.counts {
		g.out.planned++
		if wait := now.Sub(planned); wait > lateness {
			g.out.late++
			g.out.lateMax = max(g.out.lateMax, wait)
			if planned.Before(g.fullTill) {
				g.out.waited++
			}
		}
	}
	if c.fd < 0 {
		fd, err := connect(g.target)
		if err != nil {
			g.fail(c, brokenConnection, err.Error())
			return nil
		}
		c.fd = fd
		g.byFD[int32(fd)] = c
		if err := g.add(fd, edges); err != nil {
			return err
		}
	}
	g.flush(c)
	return nil
}

func (g *generator) flush(c *line) {
	for len(c.out) > 0 {
		n, errno := send(c.fd, c.out)
		if errno == unix.EAGAIN {
			return // also while still connecting
		}
		if errno != 0 {
			g.fail(c, brokenConnection, errno.Error())
			return
		}
		c.out = c.out[n:]
	}
}

func (g *generator) event(e *unix.EpollEvent) {
	if e.Fd == int32(g.timer) {
		var expirations [8]byte
		_, _ = receive(g.timer, expirations[:]) // read only so that it is silent again
		return
	}
	c := g.byFD[e.Fd]
	if c == nil {
		return
	}
	if e.Events&unix.EPOLLOUT != 0 && len(c.out) > 0 && c.busy {
		g.flush(c)
	}
	if e.Events&(unix.EPOLLIN|hangUp) != 0 && c.fd == int(e.Fd) {
		g.read(c, e.Events&hangUp != 0)
	}
}

// read takes what has come. hungUp says that the end of the stream is near.
func (g *generator) read(c *line, hungUp bool) {
	for fd := c.fd; c.fd == fd; {
		n, errno := receive(fd, g.scratch)
		switch {
		case errno == unix.EAGAIN:
			return
		case !c.busy: // the peer closed an idle connection, or sent what nobody asked for
			g.hangUp(c)
			return
		case errno != 0:
			g.fail(c, brokenConnection, errno.Error())
			return
		case n == 0:
			if c.headed && c.body.step == plain && c.body.left == untilClose {
				g.finish(c)
				return
			}
			g.fail(c, brokenConnection, "the connection was closed before the answer was complete")
			return
		}
		if failed := g.take(c, g.scratch[:n]); failed != "" {
			g.fail(c, malformedAnswer, failed)
			return
		}
		if n < len(g.scratch) && !hungUp {
			return
		}
	}
}

// take understands a piece of an answer. It returns what is wrong with it.
func (g *generator) take(c *line, b []byte) string {
	for !c.headed {
		if len(c.pending) > 0 {
			b = append(c.pending, b...)
			c.pending = nil
		}
		h, err := parseHead(b, true)
		if err != nil {
			return err.Error()
		}
		if h.bytes == 0 {
			c.pending = bytes.Clone(b)
			return ""
		}
		b = b[h.bytes:]
		if h.status < 200 { // an interim answer
			continue
		}
		c.head, c.headed = h, true
		c.body.begin(&h, c.shot.method == "HEAD")
		c.wrong = c.wrong[:0]
		c.digest.Reset()
	}
	var sink func([]byte)
	if c.head.status != c.shot.status {
		sink = c.keepWrong
	} else if c.checking {
		sink = c.sum
	}
	n, complete, err := c.body.take(b, sink)
	switch {
	case err != nil:
		return err.Error()
	case complete && n < len(b):
		return fmt.Sprintf("%d bytes after the end of the answer", len(b)-n)
	case complete:
		g.finish(c)
	}
	return ""
}

func (c *line) sum(b []byte) { _, _ = c.digest.Write(b) } // never fails

func (c *line) keepWrong(b []byte) {
	c.wrong = append(c.wrong, b[:min(len(b), wrongBytesMax-len(c.wrong))]...)
}

// finish takes note of a complete answer.
func (g *generator) finish(c *line) {
	if c.head.closing {
		g.hangUp(c)
	}
	switch {
	case c.head.status != c.shot.status:
		w := wrongAnswer{c.shot, c.head.status, c.wrong}
		g.failed(c, wrongStatus, w.Error())
	case c.checking && c.digest.Sum64() != c.shot.digest:
		g.failed(c, wrongBody, fmt.Sprintf("request %q: the body differs from the one before the load", c.shot.name))
	default:
		g.row = 0
		if g.counted(c) {
			g.out.answered++
			g.out.latency.Add(time.Since(c.planned))
		}
	}
	g.release(c)
}

// counted reports whether what became of c's request counts.
func (g *generator) counted(c *line) bool {
	if g.perSecond == 0 {
		return g.counting
	}
	return c.counts
}

// fail takes note of a request whose connection is of no more use.
func (g *generator) fail(c *line, kind failure, why string) {
	g.hangUp(c)
	g.failed(c, kind, fmt.Sprintf("request %q: %s", c.shot.name, why))
	g.release(c)
}

func (g *generator) failed(c *line, kind failure, why string) {
	if g.out.first == "" {
		g.out.first = why
	}
	if kind != wrongStatus && kind != wrongBody {
		g.row++
	}
	if g.counted(c) {
		g.out.failed++
		g.out.failures[kind]++
		g.out.latency.Add(time.Since(c.planned))
	}
}

// release makes c free for another request.
func (g *generator) release(c *line) {
	c.busy, c.out, c.pending = false, nil, nil
	if len(g.free) == 0 && g.perSecond > 0 {
		g.fullTill = time.Now()
	}
	g.free = append(g.free, c)
}

func (g *generator) hangUp(c *line) {
	if c.fd >= 0 {
		delete(g.byFD, int32(c.fd))
		_ = unix.Close(c.fd) // nothing more is expected of it
		c.fd = -1
	}
}

// expire gives up answers that take too long.
func (g *generator) expire(now time.Time) {
	for _, c := range g.lines {
		if c.busy && now.Sub(c.sentAt) > g.patience {
			g.fail(c, noAnswer, "no answer within "+g.patience.String())
		}
	}
}

// settle accounts for what a rate had planned and the time did not allow.
func (g *generator) settle(now time.Time) {
	if g.perSecond == 0 {
		return
	}
	for _, c := range g.lines {
		if c.busy {
			g.fail(c, noAnswer, "no answer by the end of the run")
		}
	}
	for ; g.sent < g.count; g.sent++ {
		at := g.plan(g.sent)
		if at.Sub(g.start) < g.warmUp {
			continue
		}
		g.out.planned++
		g.out.late++
		g.out.waited++
		g.out.lateMax = max(g.out.lateMax, now.Sub(at))
		g.out.failed++
		g.out.failures[neverSent]++
		g.out.latency.Add(now.Sub(at))
	}
}
