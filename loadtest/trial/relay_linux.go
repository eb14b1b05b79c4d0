package trial

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Relay copies bytes between its clients and the service at address, without reading
// them, on one thread, until the process ends: the floor that the gateway's CPU time is
// compared with. ready is called with the address it listens on.
//
// The thread is its own, so Go's scheduler, which would wake another one now and then,
// has no part in the cost. A fault of a connection closes its pair; the error is one of
// the relay itself.
func Relay(address string, ready func(address string)) error {
	service, err := loopbackAddress(address)
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, listener, own, err := listenPolled()
	if err != nil {
		return err
	}
	defer p.close()
	defer func() { _ = unix.Close(listener) }()
	ready(own)
	r := &relay{poller: p, service: service, sides: map[int32]*side{}}
	for {
		events, err := p.wait(-1)
		if err != nil {
			return err
		}
		for i := range events {
			if events[i].Fd == int32(listener) {
				if err := acceptAll(listener, r.open); err != nil {
					return err
				}
				continue
			}
			r.handle(&events[i])
		}
		r.bury()
	}
}

// relayBytes is the size of a side's buffer.
const relayBytes = 16 << 10

type relay struct {
	*poller
	service unix.Sockaddr
	sides   map[int32]*side // by descriptor
	dead    []*side         // client sides of pairs to close once the events at hand are walked
}

// side is one socket of a pair, with what was read from it and its peer has not taken.
type side struct {
	fd       int
	peer     *side
	hungUp   bool // the kernel reported an end or an error: read until it shows
	ended    bool // a read returned 0
	passedOn bool // the end has been passed on to the peer
	dead     bool
	from, to int
	buffer   [relayBytes]byte
}

// open makes a pair of a client's connection and a new one to the service.
func (r *relay) open(client int) error {
	if err := unix.SetsockoptInt(client, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		_ = unix.Close(client)
		return nil // the client is gone already
	}
	service, err := connect(r.service)
	if err != nil {
		_ = unix.Close(client)
		return nil // the client sees its connection closed
	}
	a, b := &side{fd: client}, &side{fd: service}
	a.peer, b.peer = b, a
	for _, s := range []*side{a, b} {
		r.sides[int32(s.fd)] = s
		if err := r.add(s.fd, edges); err != nil {
			return err
		}
	}
	return nil
}

func (r *relay) handle(e *unix.EpollEvent) {
	s := r.sides[e.Fd]
	if s == nil || s.dead {
		return
	}
	if e.Events&hangUp != 0 {
		s.hungUp = true
	}
	alive := true
	if e.Events&unix.EPOLLIN != 0 || s.hungUp {
		alive = s.pump()
	}
	if alive && e.Events&unix.EPOLLOUT != 0 && s.peer.from < s.peer.to {
		alive = s.peer.pump()
	}
	if !alive || s.passedOn && s.peer.passedOn {
		s.dead, s.peer.dead = true, true
		r.dead = append(r.dead, s)
	}
}

// pump moves bytes from s to its peer until s is empty or the peer is full. It reports
// whether the pair lives on.
func (s *side) pump() bool {
	for emptied := false; ; {
		for s.from < s.to {
			n, errno := send(s.peer.fd, s.buffer[s.from:s.to])
			if errno != 0 {
				return errno == unix.EAGAIN // also while still connecting
			}
			s.from += n
		}
		if s.ended {
			if !s.passedOn && unix.Shutdown(s.peer.fd, unix.SHUT_WR) != nil {
				return false
			}
			s.passedOn = true
			return true
		}
		if emptied && !s.hungUp {
			return true
		}
		n, errno := receive(s.fd, s.buffer[:])
		if errno != 0 {
			return errno == unix.EAGAIN
		}
		s.ended = n == 0
		s.from, s.to = 0, n
		emptied = n < relayBytes
	}
}

// bury closes dead pairs. Their descriptors may be given out again only now, since
// events at hand could still name them.
func (r *relay) bury() {
	for _, s := range r.dead {
		for _, fd := range []int{s.fd, s.peer.fd} {
			delete(r.sides, int32(fd))
			_ = unix.Close(fd) // the pair is over either way
		}
	}
	r.dead = r.dead[:0]
}
