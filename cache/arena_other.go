//go:build !unix || heaparena

package cache

import (
	"errors"
	"os"
	"unsafe"
)

// arena is memory in large pieces of the heap, where the system has no mmap, and in
// tests that want the race detector to see it.
type arena struct {
	size   int // of a segment
	file   *os.File
	dataAt int64
	count  int // segments
}

// grow makes n segments more and returns their memory.
func (a *arena) grow(n int) ([]byte, error) {
	a.count += n
	// Words, as they are used as such and must be aligned.
	return wordsOf(n * a.size), nil
}

func (a *arena) claim(*segment) bool { return true }

func (a *arena) giveBack(*segment) {}

func (a *arena) close() error { return nil }

func (a *arena) sync() error { return nil }

func lockFile(*os.File) error { return errors.ErrUnsupported }

func mapHeader(*os.File, int) ([]byte, error) { return nil, errors.ErrUnsupported }

func unmapHeader([]byte) error { return nil }

// filesKept says whether the arena can be a file.
const filesKept = false

func wordsOf(n int) []byte {
	w := make([]uint64, n/8)
	return unsafe.Slice((*byte)(unsafe.Pointer(&w[0])), n)
}
