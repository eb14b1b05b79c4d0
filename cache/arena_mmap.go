//go:build unix && !heaparena

package cache

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// arena is memory of the system that the garbage collector does not know of: pages
// of a file, or of none. Its segments are numbered from 0 over all its blocks.
type arena struct {
	size   int // of a segment
	file   *os.File
	dataAt int64 // in the file, of segment 0
	count  int   // segments

	mu     sync.Mutex
	blocks [][]byte
	torn   bool // memory was given back: no large pages any more
}

// grow maps n segments more and returns their memory.
func (a *arena) grow(n int) ([]byte, error) {
	size := n * a.size
	if a.file == nil {
		b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE,
			unix.MAP_ANON|unix.MAP_PRIVATE|mapFlags)
		if err != nil {
			return nil, fmt.Errorf("cache: map %d bytes: %w", size, err)
		}
		a.mu.Lock()
		if !a.torn {
			largePages(b, true)
		}
		a.mu.Unlock()
		a.keep(b, n)
		return b, nil
	}
	at := a.dataAt + int64(a.count)*int64(a.size)
	info, err := a.file.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() < at+int64(size) {
		if err := a.file.Truncate(at + int64(size)); err != nil {
			return nil, err
		}
	}
	b, err := unix.Mmap(int(a.file.Fd()), at, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", size, err)
	}
	a.keep(b, n)
	return b, nil
}

func (a *arena) keep(b []byte, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.blocks = append(a.blocks, b)
	a.count += n
}

// claim makes sure that a segment can be written to: the pages of a file for which
// the disk has no room would end the process.
func (a *arena) claim(g *segment) bool {
	return a.file == nil || allocate(a.file, a.dataAt+int64(g.number)*int64(a.size), int64(a.size))
}

// giveBack tells the system that what is in a segment is not needed any more.
func (a *arena) giveBack(g *segment) {
	a.tear()
	if a.file != nil {
		punch(a.file, a.dataAt+int64(g.number)*int64(a.size), int64(a.size))
	}
	// An error leaves the memory in use, which is no worse than before.
	_ = unix.Madvise(g.mem, unix.MADV_DONTNEED)
}

// tear ends the use of large pages: the system would fill the holes in them again.
func (a *arena) tear() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.torn || a.file != nil {
		return
	}
	a.torn = true
	for _, b := range a.blocks {
		largePages(b, false)
	}
}

// close unmaps everything. Nothing may point into the arena any more.
func (a *arena) close() error {
	var first error
	for _, b := range a.blocks {
		if err := unix.Munmap(b); err != nil && first == nil {
			first = fmt.Errorf("cache: unmap: %w", err)
		}
	}
	a.blocks = nil
	return first
}

// sync writes everything to the file.
func (a *arena) sync() error {
	for _, b := range a.blocks {
		if err := unix.Msync(b, unix.MS_SYNC); err != nil {
			return fmt.Errorf("write back: %w", err)
		}
	}
	return nil
}

// lockFile makes the file this process's own.
func lockFile(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }

// mapHeader maps the first n bytes of the file.
func mapHeader(f *os.File, n int) ([]byte, error) {
	if !allocate(f, 0, int64(n)) {
		return nil, unix.ENOSPC
	}
	return unix.Mmap(int(f.Fd()), 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

func unmapHeader(b []byte) error { return unix.Munmap(b) }

// filesKept says whether the arena can be a file.
const filesKept = true
