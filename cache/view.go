package cache

import (
	"errors"
	"io"
)

// View is one entry as it was found. Its owner uses it for one Get after another, as
// it keeps its buffer; the zero value is ready. Not safe for concurrent use. Must not
// be copied while it is open.
type View struct {
	Head    []byte // valid until Close
	Body    []byte // all of it up to WholeMax with the head, else nil: use ReadAt; valid until Close
	Size    int64  // of the body
	Soft    bool   // purged softly: stale, whatever the head says
	Expires int64  // milliseconds since 1970, math.MaxInt64: never

	buf  []byte
	tail []byte // the end of the body, after the run

	sh      *shard
	run     *segment // pinned, nil if the body is in buf
	runSize int64
	at      cursor // where the last ReadAt was
}

// Get finds the entry under a key, unless it has expired by now, in milliseconds
// since 1970, or was purged. It counts as a read for eviction. A hit must be closed
// before v is used for another; large entries stay in memory until then.
func (s *Store) Get(key []byte, now int64, v *View) bool { return s.get(key, now, v, true) }

// Peek is Get that does not count as a read.
func (s *Store) Peek(key []byte, now int64, v *View) bool { return s.get(key, now, v, false) }

func (s *Store) get(key []byte, now int64, v *View, counts bool) bool {
	sh, tag := s.locate(key)
	sh.mu.RLock()
	at := sh.find(tag, key)
	if at < 0 {
		sh.mu.RUnlock()
		return false
	}
	slot := sh.index.load(at)
	r := sh.at(slot)
	w := r.state()
	if w == 0 || r.expired(now) || w.seq() < s.seq.Load() {
		// Slow path: once per entry and purge, or there is nothing to be had.
		var ok bool
		if w, ok = sh.recheck(slot, r, now); !ok {
			sh.mu.RUnlock()
			return false
		}
	}
	ok := v.load(sh, r)
	if ok && counts && slotReads(slot) < readsMax {
		sh.index.read(at)
	}
	sh.mu.RUnlock()
	v.Soft = w.soft()
	return ok
}

// recheck finds out whether an entry lives, and kills it if it does not.
func (sh *shard) recheck(slot uint64, r record, now int64) (state, bool) {
	g := sh.segmentOf(slot)
	if !sh.alive(g, r, now) {
		return 0, false
	}
	w := r.state()
	return w, w != 0
}

// load copies an entry into the view, or pins its run.
func (v *View) load(sh *shard, r record) bool {
	w := r.shape()
	payload := r.payload()
	v.Expires = r.expires()
	if !w.run() {
		// Fast path: all of it lies in the record.
		v.buf = append(v.buf[:0], payload...)
		v.split(w.head(), int64(w.tail()))
		return true
	}
	place, n := r.run()
	first := sh.segs[place]
	if int64(len(payload))+n <= WholeMax {
		v.gather(payload[:w.head()], first, payload[w.head():])
		v.split(w.head(), n+int64(w.tail()))
		return true
	}
	if sh.limbo.Load() >= sh.limboMax() && sh.limbo.Load() > 0 {
		sh.counts.pinned.Add(1)
		return false
	}
	first.pins.Add(1)
	sh.store.hold()
	v.buf = append(v.buf[:0], payload...)
	v.Head, v.Body, v.tail, v.Size = v.buf[:w.head():w.head()], nil, v.buf[w.head():], n+int64(w.tail())
	v.sh, v.run, v.runSize, v.at = sh, first, n, cursor{}
	return true
}

// gather makes the buffer head, run and tail.
func (v *View) gather(head []byte, run *segment, tail []byte) {
	v.buf = append(v.buf[:0], head...)
	for g := run; g != nil; g = g.next {
		v.buf = append(v.buf, g.mem[segmentHeader:g.used]...)
	}
	v.buf = append(v.buf, tail...)
}

// split tells head and body in the buffer, which holds all of both.
func (v *View) split(head int, size int64) {
	v.Head, v.tail, v.Size = v.buf[:head:head], v.buf[head:], size
	v.Body = v.tail
	switch {
	case len(v.buf) > WholeMax:
		v.Body = nil
	case v.Body == nil:
		v.Body = []byte{} // an empty one in a view that has no buffer yet
	}
	v.run, v.runSize = nil, 0
}

var errOffset = errors.New("cache: negative offset")

// ReadAt copies bytes of the body from off on, by the rules of io.ReaderAt but for
// one: as the view, it is not safe for concurrent use.
func (v *View) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errOffset
	}
	for n < len(p) && off < v.runSize {
		m := copy(p[n:], v.at.part(v.run, off))
		n += m
		off += int64(m)
	}
	if n < len(p) && off < v.Size {
		n += copy(p[n:], v.tail[off-v.runSize:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// cursor is where in a run of segments a reader is: most read on from there. The zero
// value is at the beginning.
type cursor struct {
	at    *segment
	index int64
}

// part returns the bytes of a run from off on that lie together.
func (c *cursor) part(run *segment, off int64) []byte {
	each := int64(len(run.mem) - segmentHeader)
	index := off / each
	if c.at == nil || index < c.index {
		c.at, c.index = run, 0
	}
	for ; c.index < index; c.index++ {
		c.at = c.at.next
	}
	return c.at.mem[segmentHeader+int(off-index*each) : c.at.used]
}

// Close ends the use of what Get found. It does nothing to a view that found nothing
// or is closed. Its only error would be that of unmapping a closed store, which the
// owner of a view can do nothing about.
func (v *View) Close() {
	poison(v.buf)
	v.Head, v.Body, v.tail, v.Size, v.Soft = nil, nil, nil, 0, false
	if v.run == nil {
		return
	}
	run, sh := v.run, v.sh
	v.run, v.runSize, v.at, v.sh = nil, 0, cursor{}, nil
	sh.unpin(run)
	_ = sh.store.letGo()
}
