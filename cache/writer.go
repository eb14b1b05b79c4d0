package cache

import (
	"bytes"
	"io"
	"slices"
	"sync"
)

// Writer is an entry being written. Write, Commit and Abort belong to one goroutine;
// Written, ReadAt, Hold and Release may be called by any. Must not be copied.
//
// Create returns it held once, by the one who writes; Commit and Abort give that hold
// up. Who goes on to read must have called Hold before. The memory stays until the
// last hold is given up, also if the store is closed.
type Writer struct {
	store *Store
	sh    *shard
	put   Put // copies
	tag   uint32
	size  int64 // announced, -1 if unknown
	begun int64 // what has expired by then makes room

	mu      sync.Mutex // for what follows; readers see what is below it whole
	holds   int
	run     *segment // full segments but maybe the last
	last    *segment
	runSize int64
	buf     []byte // all, before there is a run; the tail, once it is cut off the run
	written int64
	done    bool

	// A reader's place, as most read on from where they were. Shared, as many
	// followers are usually close together.
	at cursor
}

// writerBuf is how much of a body waits on the heap before segments are taken for
// it: small ones never need any.
const writerBuf = 32 << 10

// Create begins an entry whose body comes in pieces, size bytes in all, or -1 if that
// is not known. Nothing of p is kept. Errors are those of Set.
func (s *Store) Create(p *Put, size, now int64) (*Writer, error) {
	sh, tag := s.locate(p.Key)
	if !s.fits(p, max(size, 0)) {
		sh.counts.tooLarge.Add(1)
		return nil, ErrTooLarge
	}
	if s.rules.judge(p.Labels, p.Born).dead {
		sh.counts.bornPurged.Add(1)
		return nil, ErrPurged
	}
	w := &Writer{store: s, sh: sh, tag: tag, size: max(size, -1), begun: now, holds: 1}
	w.put = Put{
		Key:     bytes.Clone(p.Key),
		Head:    bytes.Clone(p.Head),
		Labels:  slices.Clone(p.Labels),
		Expires: p.Expires,
		Born:    p.Born,
	}
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	if sh.closed {
		return nil, ErrClosed
	}
	s.hold()
	return w, nil
}

// Write appends to the body. It takes all of p or nothing: ErrTooLarge beyond
// ObjectMax or the announced size, ErrFull if there is no room beside what is being
// read and written, ErrClosed.
func (w *Writer) Write(p []byte) (int, error) {
	if w.done {
		return 0, ErrClosed
	}
	size := w.written + int64(len(p))
	if size+int64(len(w.put.Head)) > w.store.objectMax || w.size >= 0 && size > w.size {
		w.sh.counts.tooLarge.Add(1)
		return 0, ErrTooLarge
	}
	if w.run == nil && size <= writerBuf {
		w.mu.Lock()
		w.buf = append(w.buf, p...)
		w.written = size
		w.mu.Unlock()
		return len(p), nil
	}
	if err := w.reserve(size); err != nil {
		return 0, err
	}
	w.mu.Lock()
	if w.buf != nil {
		w.fill(w.buf)
		w.buf = nil
	}
	w.fill(p)
	w.written = size
	w.mu.Unlock()
	return len(p), nil
}

// reserve makes the run long enough for size bytes.
func (w *Writer) reserve(size int64) error {
	each := int64(w.store.segmentSize - segmentHeader)
	need := int((size + each - 1) / each)
	if w.run != nil {
		need -= w.run.count
	}
	if need <= 0 {
		return nil
	}
	w.sh.mu.Lock()
	defer w.sh.mu.Unlock()
	if w.sh.closed {
		return ErrClosed
	}
	if (w.sh.writing+need)*4 > w.sh.limit()*3 {
		w.sh.counts.full.Add(1)
		return ErrFull
	}
	for range need {
		g, err := w.sh.obtain(w.begun)
		if err != nil {
			w.sh.counts.full.Add(1)
			return err
		}
		w.append(g)
	}
	return nil
}

// append makes a segment the last of the run. The shard's lock is held.
func (w *Writer) append(g *segment) {
	g.kind, g.used = kindPart, segmentHeader
	w.sh.writing++
	w.store.label(g)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.run == nil {
		w.run, w.last = g, g
		g.pins.Store(1) // the writer's and its followers'
		g.count = 1
		return
	}
	end := w.run
	for end.next != nil {
		end = end.next
	}
	end.next = g
	w.run.count++
}

// fill copies p into the segments of the run. w.mu is held.
func (w *Writer) fill(p []byte) {
	for len(p) > 0 {
		if w.last.used == len(w.last.mem) {
			w.last = w.last.next
		}
		n := copy(w.last.mem[w.last.used:], p)
		w.last.used += n
		w.runSize += int64(n)
		p = p[n:]
	}
}

// Commit makes the entry what is found under its key, and gives the writer's hold up.
// An entry shorter than announced is not stored: io.ErrUnexpectedEOF. Other errors
// are those of Set.
func (w *Writer) Commit(now int64) error {
	if w.done {
		return ErrClosed
	}
	err := error(nil)
	if w.size >= 0 && w.written != w.size {
		err = io.ErrUnexpectedEOF
	}
	w.finish(func() error {
		if err == nil {
			err = w.enter(now)
		}
		return err
	})
	return err
}

// Abort gives the entry up: it never becomes visible. It gives the writer's hold up,
// and does nothing after Commit or Abort.
func (w *Writer) Abort() {
	if !w.done {
		w.finish(func() error { return io.ErrUnexpectedEOF })
	}
}

// finish ends the writing; the run goes to the shard's entry if enter has no error.
func (w *Writer) finish(enter func() error) {
	w.done = true
	if w.run != nil {
		w.cutTail()
		w.store.sealRun(w.run) // outside the lock, as it reads all of a file's entry
	}
	w.sh.mu.Lock()
	err := enter()
	if w.run != nil {
		w.sh.writing -= w.run.count
		if err != nil {
			w.sh.freeRun(w.run)
		}
	}
	w.sh.mu.Unlock()
	w.Release()
}

// enter stores the entry. The shard's lock is held.
func (w *Writer) enter(now int64) error {
	return w.sh.enter(&arrival{put: &w.put, tag: w.tag, tail: w.buf, run: w.run, size: w.runSize}, now)
}

// cutTail takes the last segment of the run back if what is in it fits a record.
func (w *Writer) cutTail() {
	w.sh.mu.Lock()
	defer w.sh.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.last.used - segmentHeader
	if n > w.store.tailMax() || w.last == w.run ||
		recordSize(len(w.put.Labels), len(w.put.Key), len(w.put.Head), n, true) > w.store.segmentSize-segmentHeader {
		return
	}
	w.buf = bytes.Clone(w.last.mem[segmentHeader:w.last.used])
	w.runSize -= int64(n)
	end := w.run
	for end.next != w.last {
		end = end.next
	}
	end.next = nil
	w.run.count--
	w.sh.writing--
	w.sh.release(w.last)
	w.last = end
	w.at = cursor{}
}

// Written returns how many bytes of the body ReadAt can give. The caller has a hold.
func (w *Writer) Written() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.written
}

// Purged reports whether a rule since the entry's Born is about it: what is being
// written is then out of date for whoever asks from now on.
func (w *Writer) Purged() bool {
	v := w.store.rules.judge(w.put.Labels, w.put.Born)
	return v.dead || v.soft
}

// ReadAt copies what is already written of the body from off on, and returns how much
// that was: 0 if nothing is there yet. The caller has a hold; it may have been
// committed or aborted meanwhile.
func (w *Writer) ReadAt(p []byte, off int64) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for n < len(p) && off < w.runSize {
		m := copy(p[n:], w.at.part(w.run, off))
		n += m
		off += int64(m)
	}
	if n < len(p) && off < w.written {
		n += copy(p[n:], w.buf[off-w.runSize:])
	}
	return n
}

// Hold keeps what is written readable until Release. The caller has a hold already,
// or knows of one that lasts until Hold returns.
func (w *Writer) Hold() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.holds == 0 {
		panic("BUG: cache: hold of a writer that nobody holds")
	}
	w.holds++
}

// Release gives one hold back.
func (w *Writer) Release() {
	w.mu.Lock()
	w.holds--
	last, run := w.holds == 0, w.run
	if w.holds < 0 {
		w.mu.Unlock()
		panic("BUG: cache: release of a writer that nobody holds")
	}
	if last {
		poison(w.buf)
		w.run, w.last, w.at, w.buf, w.runSize, w.written = nil, nil, cursor{}, nil, 0, 0
	}
	w.mu.Unlock()
	if !last {
		return
	}
	if run != nil {
		w.sh.unpin(run)
	}
	_ = w.store.letGo()
}
