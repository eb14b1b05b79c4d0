package tunnel

import (
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/sluice-gateway/sluice/engine/socket"
)

const (
	// pipeBytes is the size of a pipe, and what one splice may move. With the
	// 64 KiB a pipe has by itself, echoes of 256 KiB took 4 and 15 % more CPU in two
	// runs (medians of five, busy machine); 1 MiB saved nothing.
	pipeBytes = 256 << 10
	// spliceFrom is how many bytes a source must have sent without a pause for
	// splicing to begin. Figures: package comment.
	spliceFrom = bufferBytes
	// pipesMax bounds the pipes that are open, each two descriptors. A burst that
	// gets none is copied. This many stay below the 16384 pages that a user without
	// privileges has for pipes (pipe-user-pages-soft).
	pipesMax = 200
	// pipesKept bounds those of them that wait for the next burst.
	pipesKept = 64
)

// pipe is where bytes are between two connections. The zero pipe is none.
type pipe struct{ r, w int }

var pipes struct {
	sync.Mutex
	free [pipesKept]pipe
	kept int
	open int

	refused atomic.Int64
}

// PipesRefused returns how often bytes have been copied that would have been
// spliced, because there were too many pipes.
func PipesRefused() int64 { return pipes.refused.Load() }

// acquirePipe returns an empty pipe, or none if there are too many.
func acquirePipe() pipe {
	pipes.Lock()
	if pipes.kept > 0 {
		pipes.kept--
		p := pipes.free[pipes.kept]
		pipes.Unlock()
		return p
	}
	full := pipes.open >= pipesMax
	if !full {
		pipes.open++
	}
	pipes.Unlock()
	if full {
		pipes.refused.Add(1)
		return pipe{}
	}
	var fds [2]int
	if syscall.Pipe2(fds[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK) != nil {
		pipes.Lock()
		pipes.open--
		pipes.Unlock()
		pipes.refused.Add(1)
		return pipe{}
	}
	// Refused where the user has many pipes: a smaller one does as well.
	_, _, _ = syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(fds[1]), syscall.F_SETPIPE_SZ, pipeBytes)
	return pipe{fds[0], fds[1]}
}

// release keeps the empty pipe for the next burst.
func (p pipe) release() {
	pipes.Lock()
	if pipes.kept < pipesKept {
		pipes.free[pipes.kept] = p
		pipes.kept++
		pipes.Unlock()
		return
	}
	pipes.Unlock()
	p.discard()
}

// discard closes the pipe and what is in it.
func (p pipe) discard() {
	_ = syscall.Close(p.r) // nothing is left to be done about an error
	_ = syscall.Close(p.w)
	pipes.Lock()
	pipes.open--
	pipes.Unlock()
}

const (
	spliceMove     = 1
	spliceNonblock = 2
)

// splice moves up to n bytes between a pipe and a connection, without waiting.
// It returns socket.ErrAgain when there are none or no room for them, and 0 at
// the end of the stream.
func splice(from, to uintptr, n int) (int, error) {
	for {
		moved, _, errno := syscall.Syscall6(syscall.SYS_SPLICE, from, 0, to, 0, uintptr(n), spliceMove|spliceNonblock)
		switch errno {
		case 0:
			return int(moved), nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, socket.ErrAgain
		default:
			return 0, errno
		}
	}
}
