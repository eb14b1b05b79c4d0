package socket

import (
	"io"
	"syscall"
	"unsafe"
)

const supported = true

// Send writes b without waiting and returns how many bytes the socket took.
// Fewer than len(b) come with ErrAgain.
func Send(fd uintptr, b []byte) (int, error) {
	sent := 0
	for sent < len(b) {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&b[sent])), uintptr(len(b)-sent),
			syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			sent += int(n)
		case syscall.EINTR:
		case syscall.EAGAIN:
			return sent, ErrAgain
		default:
			return sent, errno
		}
	}
	return sent, nil
}

// Recv reads into b without waiting. It returns io.EOF at the end of the
// stream, ErrAgain when nothing has arrived.
func Recv(fd uintptr, b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
			syscall.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == syscall.EINTR:
		case errno == syscall.EAGAIN:
			return 0, ErrAgain
		case errno != 0:
			return 0, errno
		case n == 0:
			return 0, io.EOF
		default:
			return int(n), nil
		}
	}
}

// Peek returns ErrAgain if nothing has arrived, nil if there is something to
// read, io.EOF or another error if the connection has ended.
func Peek(fd uintptr) error {
	var b [1]byte
	n, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&b[0])), 1,
		syscall.MSG_DONTWAIT|syscall.MSG_PEEK, 0, 0)
	switch {
	case errno == syscall.EAGAIN:
		return ErrAgain
	case errno != 0:
		return errno
	case n == 0:
		return io.EOF
	}
	return nil
}

func shutdown(fd uintptr) error { return syscall.Shutdown(int(fd), syscall.SHUT_RDWR) }
