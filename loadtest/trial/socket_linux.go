package trial

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sockets here never block, so reading and writing go to the kernel without telling
// Go's scheduler: for a relay that does little else, telling it is a measurable share.

// receive reads into b. n is 0 at the end of the stream.
func receive(fd int, b []byte) (n int, errno unix.Errno) {
	for {
		r, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		if e == unix.EINTR {
			continue
		}
		if e != 0 {
			return 0, e
		}
		return int(r), 0
	}
}

// send writes what the socket takes of b, which is not empty.
func send(fd int, b []byte) (n int, errno unix.Errno) {
	for {
		r, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
		if e == unix.EINTR {
			continue
		}
		if e != 0 {
			return 0, e
		}
		return int(r), 0
	}
}

// poller is one epoll set, for one goroutine. Sockets are registered once and
// edge-triggered: a read that does not fill its buffer has emptied the socket (epoll(7)).
type poller struct {
	fd     int
	events [256]unix.EpollEvent
}

const edges = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET

// hangUp are events after which a socket is read until it shows its end.
const hangUp = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	return &poller{fd: fd}, nil
}

func (p *poller) close() { _ = unix.Close(p.fd) } // an epoll set holds nothing to lose

// add registers fd for events.
func (p *poller) add(fd int, events uint32) error {
	if err := unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// wait returns what has happened, after timeout milliseconds nothing; -1 waits for ever.
// The slice is valid until the next call.
func (p *poller) wait(timeout int) ([]unix.EpollEvent, error) {
	n, err := unix.EpollWait(p.fd, p.events[:], timeout)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return nil, fmt.Errorf("epoll_wait: %w", err)
	}
	return p.events[:max(n, 0)], nil
}

// listenLoopback opens a listening socket on a free port of 127.0.0.1.
func listenLoopback() (fd int, address string, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, "", fmt.Errorf("socket: %w", err)
	}
	err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	if err == nil {
		err = unix.Listen(fd, unix.SOMAXCONN)
	}
	var name unix.Sockaddr
	if err == nil {
		name, err = unix.Getsockname(fd)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, "", fmt.Errorf("listen on 127.0.0.1: %w", err)
	}
	return fd, fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port), nil
}

// listenPolled is listenLoopback with a poller that tells of connections. The caller closes
// both.
func listenPolled() (p *poller, fd int, address string, err error) {
	if p, err = newPoller(); err != nil {
		return nil, -1, "", err
	}
	if fd, address, err = listenLoopback(); err != nil {
		p.close()
		return nil, -1, "", err
	}
	if err = p.add(fd, unix.EPOLLIN); err != nil {
		p.close()
		_ = unix.Close(fd)
		return nil, -1, "", err
	}
	return p, fd, address, nil
}

// acceptAll hands over every connection that waits at listener.
func acceptAll(listener int, take func(fd int) error) error {
	for {
		fd, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case err == nil:
			if err := take(fd); err != nil {
				return err
			}
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
		default:
			return fmt.Errorf("accept: %w", err)
		}
	}
}

// connect begins to connect to address; a fault shows on the socket.
func connect(address unix.Sockaddr) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err == nil {
		if err = unix.Connect(fd, address); errors.Is(err, unix.EINPROGRESS) {
			err = nil
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("connect: %w", err)
	}
	return fd, nil
}

// loopbackAddress reads 127.0.0.1:port.
func loopbackAddress(text string) (unix.Sockaddr, error) {
	ap, err := netip.ParseAddrPort(text)
	if err != nil || !ap.Addr().Is4() || !ap.Addr().IsLoopback() {
		return nil, &net.AddrError{Err: "expected 127.0.0.1:port", Addr: text}
	}
	return &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}, nil
}
