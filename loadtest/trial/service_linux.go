package trial

import (
	"bytes"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Serve answers every request alike, on one thread, until the process ends: the service
// that stands in for all of a document's. ready is called with the address it listens on.
func Serve(s *Service, ready func(address string)) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, listener, own, err := listenPolled()
	if err != nil {
		return err
	}
	defer p.close()
	defer func() { _ = unix.Close(listener) }()
	v := &server{poller: p, callers: map[int32]*caller{}, latency: time.Duration(s.Latency), scratch: make([]byte, 64<<10)}
	v.answer, v.headBytes = answerOf(s)
	ready(own)
	for {
		events, err := p.wait(v.untilDue())
		if err != nil {
			return err
		}
		for i := range events {
			if events[i].Fd == int32(listener) {
				if err := acceptAll(listener, v.open); err != nil {
					return err
				}
			} else if c := v.callers[events[i].Fd]; c != nil {
				v.handle(c, events[i].Events)
			}
		}
		v.answerDue(time.Now())
	}
}

// answerOf renders the service's answer and says where its body begins.
func answerOf(s *Service) (answer []byte, headBytes int) {
	var b bytes.Buffer
	reason := http.StatusText(s.Status)
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\nServer: sluice-bench\r\nContent-Type: text/plain\r\n", s.Status, reason)
	bodiless := s.Status == http.StatusNoContent || s.Status == http.StatusNotModified
	if !bodiless {
		b.WriteString("Content-Length: " + strconv.Itoa(s.BodyBytes) + "\r\n")
	}
	b.WriteString("\r\n")
	headBytes = b.Len()
	if !bodiless {
		b.Write(serviceBody(s.BodyBytes))
	}
	return b.Bytes(), headBytes
}

// serviceBody is a text of n bytes.
func serviceBody(n int) []byte {
	const line = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ!\n"
	return bytes.Repeat([]byte(line), n/len(line)+1)[:n]
}

type server struct {
	*poller
	answer    []byte
	headBytes int
	latency   time.Duration
	callers   map[int32]*caller
	due       []dueAnswer // oldest first, since latency is the same for all
	scratch   []byte
}

type dueAnswer struct {
	c  *caller
	at time.Time
}

// caller is one connection to the service.
type caller struct {
	fd      int
	pending []byte // read and not yet understood: part of a head, or another request
	body    body
	inBody  bool
	waiting bool // for its answer to be due
	headed  bool // the request is a HEAD
	closing bool
	out     []byte // of the answer, not sent yet
	gone    bool
}

func (v *server) open(fd int) error {
	if unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) != nil {
		_ = unix.Close(fd)
		return nil // the caller is gone already
	}
	v.callers[int32(fd)] = &caller{fd: fd}
	return v.add(fd, edges)
}

func (v *server) drop(c *caller) {
	if !c.gone {
		c.gone = true
		delete(v.callers, int32(c.fd))
		_ = unix.Close(c.fd) // nothing is left to say
	}
}

func (v *server) handle(c *caller, events uint32) {
	if events&unix.EPOLLOUT != 0 && len(c.out) > 0 {
		v.flush(c)
	}
	if events&(unix.EPOLLIN|hangUp) == 0 {
		return
	}
	for !c.gone {
		n, errno := receive(c.fd, v.scratch)
		switch {
		case errno == unix.EAGAIN:
			return
		case errno != 0 || n == 0:
			v.drop(c)
			return
		}
		v.take(c, v.scratch[:n])
		if n < len(v.scratch) && events&hangUp == 0 {
			return
		}
	}
}

// take understands what was read and answers a request that is complete.
func (v *server) take(c *caller, b []byte) {
	if len(c.pending) > 0 {
		b = append(c.pending, b...)
		c.pending = nil
	}
	for len(b) > 0 && !c.gone {
		if c.waiting || len(c.out) > 0 { // a request before its turn
			if c.pending = append(c.pending, b...); len(c.pending) > bodyBytesMax {
				v.drop(c)
			}
			return
		}
		if !c.inBody {
			h, err := parseHead(b, false)
			if err != nil {
				v.drop(c)
				return
			}
			if h.bytes == 0 {
				c.pending = bytes.Clone(b)
				return
			}
			c.headed, c.closing, c.inBody = bytes.HasPrefix(b, []byte("HEAD ")), h.closing, true
			c.body.begin(&h, false)
			b = b[h.bytes:]
		}
		n, complete, err := c.body.take(b, nil)
		if err != nil {
			v.drop(c)
			return
		}
		b = b[n:]
		if !complete {
			return
		}
		c.inBody = false
		if v.latency > 0 {
			c.waiting = true
			v.due = append(v.due, dueAnswer{c, time.Now().Add(v.latency)})
			continue
		}
		v.reply(c)
	}
}

func (v *server) reply(c *caller) {
	c.out = v.answer
	if c.headed {
		c.out = v.answer[:v.headBytes]
	}
	v.flush(c)
}

func (v *server) flush(c *caller) {
	for len(c.out) > 0 {
		n, errno := send(c.fd, c.out)
		if errno == unix.EAGAIN {
			return
		}
		if errno != 0 {
			v.drop(c)
			return
		}
		c.out = c.out[n:]
	}
	if c.closing {
		v.drop(c)
		return
	}
	if len(c.pending) > 0 {
		next := c.pending
		c.pending = nil
		v.take(c, next)
	}
}

// untilDue is how many milliseconds the next answer has time, -1 without one.
func (v *server) untilDue() int {
	if len(v.due) == 0 {
		return -1
	}
	// Rounded up: an answer is never early.
	return int(max(0, (time.Until(v.due[0].at)+time.Millisecond-1)/time.Millisecond))
}

func (v *server) answerDue(now time.Time) {
	n := 0
	for n < len(v.due) && !v.due[n].at.After(now) {
		n++
	}
	if n == 0 {
		return
	}
	ready := v.due[:n:n]
	v.due = v.due[n:]
	for _, d := range ready {
		if !d.c.gone {
			d.c.waiting = false
			v.reply(d.c)
		}
	}
}
