package cache

import "bytes"

// Put describes an entry to be stored. Nothing of it is kept after the call.
type Put struct {
	Key     []byte   // up to KeyMax
	Head    []byte   // the caller's own about the entry, up to HeadMax
	Labels  []uint32 // what Purge may find it by, at most LabelsMax
	Expires int64    // milliseconds since 1970 at which it is gone; math.MaxInt64: never
	Born    uint64   // Seq when what it holds was asked for; a later purge finds it
}

// arrival is an entry on its way into a shard.
type arrival struct {
	put  *Put
	tag  uint32
	tail []byte   // the body, or its end if there is a run
	run  *segment // its beginning, nil if there is none
	size int64    // of the run's bytes
}

// Set stores an entry in place of what is under its key. body and p are not kept.
// It returns ErrTooLarge, ErrFull, ErrPurged or ErrClosed; then what was under the
// key stays. now is in milliseconds since 1970.
func (s *Store) Set(p *Put, body []byte, now int64) error {
	if len(body) > s.tailMax() {
		return s.setLarge(p, body, now)
	}
	sh, tag := s.locate(p.Key)
	if !s.fits(p, int64(len(body))) {
		sh.counts.tooLarge.Add(1)
		return ErrTooLarge
	}
	sh.mu.Lock()
	err := sh.enter(&arrival{put: p, tag: tag, tail: body}, now)
	sh.mu.Unlock()
	return err
}

func (s *Store) setLarge(p *Put, body []byte, now int64) error {
	w, err := s.Create(p, int64(len(body)), now)
	if err != nil {
		return err
	}
	if _, err := w.Write(body); err != nil {
		w.Abort()
		return err
	}
	return w.Commit(now)
}

// tailMax is the largest part of a body that is kept in a record: half a segment.
func (s *Store) tailMax() int { return s.segmentSize / 2 }

// fits reports whether an entry with such a body may be stored at all.
func (s *Store) fits(p *Put, body int64) bool {
	return len(p.Head) <= HeadMax && len(p.Key) <= min(KeyMax, s.segmentSize/4) && len(p.Labels) <= LabelsMax &&
		int64(len(p.Head))+body <= s.objectMax &&
		recordSize(len(p.Labels), len(p.Key), len(p.Head), 0, true) <= s.segmentSize-segmentHeader
}

// enter stores an entry. The lock is held; a run goes over to the shard unless there
// is an error.
func (sh *shard) enter(a *arrival, now int64) error {
	err := sh.enterCounted(a, now)
	switch err {
	case ErrFull:
		sh.counts.full.Add(1)
	case ErrPurged:
		sh.counts.bornPurged.Add(1)
	case ErrTooLarge:
		sh.counts.tooLarge.Add(1)
	}
	return err
}

func (sh *shard) enterCounted(a *arrival, now int64) error {
	if sh.closed {
		return ErrClosed
	}
	verdict := sh.store.rules.judge(a.put.Labels, a.put.Born)
	if verdict.dead {
		return ErrPurged
	}
	w := makeShape(recordSize(len(a.put.Labels), len(a.put.Key), len(a.put.Head), len(a.tail), a.run != nil),
		len(a.put.Labels), len(a.put.Head), len(a.tail), a.run != nil)
	if w.size() > sh.store.segmentSize-segmentHeader {
		return ErrTooLarge
	}
	k, reads := kindSmall, uint32(0)
	if at := sh.find(a.tag, a.put.Key); at >= 0 {
		k, reads = sh.segmentOf(sh.index.slots[at]).kind, slotReads(sh.index.slots[at])
	} else if sh.ghost.take(a.tag, sh.index.used) {
		k = kindMain
		sh.counts.ghostHits.Add(1)
	}
	if err := sh.room(k, w.size(), now); err != nil {
		return err
	}
	sh.write(a, sh.queueOf(k), w, makeState(verdict.seq, verdict.soft), reads)
	return nil
}

// write appends a record for which there is room, and makes it what is under its
// key.
func (sh *shard) write(a *arrival, q *queue, w shape, st state, reads uint32) {
	g := q.fit(w.size())
	at := g.used
	r := record(g.mem[at : at+w.size() : at+w.size()])
	runWord := uint64(0)
	if a.run != nil {
		runWord = uint64(a.run.place) | uint64(a.size)<<24
		sh.setWeight(g, g.weight+int64(a.run.count)*int64(len(a.run.mem)))
	}
	payload := r.fill(a.put, w, runWord)
	copy(payload[copy(payload, a.put.Head):], a.tail)
	slot := makeSlot(g.place<<sh.store.unitBits|uint32(at/8), a.tag, reads)
	if old := sh.find(a.tag, a.put.Key); old >= 0 {
		was := sh.index.slots[old]
		sh.killAny(sh.segmentOf(was), sh.at(was))
		sh.dropRun(sh.segmentOf(was), sh.at(was))
		sh.index.slots[old] = slot
		sh.publish(g, r, st)
		return
	}
	sh.publish(g, r, st)
	before := len(sh.index.slots)
	sh.index.add(slot)
	if len(sh.index.slots) != before {
		// The index takes its memory from the segments.
		sh.ghost.resize(len(sh.index.slots) / 2)
		sh.shrink(0)
	}
}

// SetHead gives the entry under a key another head, labels, expiry and birth, and
// keeps its body, which is copied inside the arena if it is small. old is the head that
// it must have now, nil for any. Errors are those of Set, and ErrMissing if there is no
// such entry.
func (s *Store) SetHead(p *Put, old []byte, now int64) error {
	sh, tag := s.locate(p.Key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.closed {
		return ErrClosed
	}
	at := sh.findAlive(tag, p.Key, now)
	if at < 0 {
		return ErrMissing
	}
	r := sh.at(sh.index.slots[at])
	was := r.shape()
	if old != nil && !bytes.Equal(old, r.payload()[:was.head()]) {
		return ErrMissing
	}
	if !s.fits(p, sh.bodySize(r)) {
		sh.counts.tooLarge.Add(1)
		return ErrTooLarge
	}
	verdict := s.rules.judge(p.Labels, p.Born)
	if verdict.dead {
		sh.counts.bornPurged.Add(1)
		return ErrPurged
	}
	w := makeShape(recordSize(len(p.Labels), len(p.Key), len(p.Head), was.tail(), was.run()),
		len(p.Labels), len(p.Head), was.tail(), was.run())
	if w.size() > s.segmentSize-segmentHeader {
		sh.counts.tooLarge.Add(1)
		return ErrTooLarge
	}
	k := sh.segmentOf(sh.index.slots[at]).kind
	if err := sh.room(k, w.size(), now); err != nil {
		sh.counts.full.Add(1)
		return err
	}
	// Making room may have moved the entry, or evicted it.
	if at = sh.findAlive(tag, p.Key, now); at < 0 {
		return ErrMissing
	}
	sh.rewrite(p, at, sh.queueOf(k), w, makeState(verdict.seq, verdict.soft))
	return nil
}

// rewrite appends a record with the body of the one that a slot points at and lets
// the slot point there. There is room for it.
func (sh *shard) rewrite(p *Put, at int, q *queue, w shape, st state) {
	slot := sh.index.slots[at]
	from, old := sh.segmentOf(slot), sh.at(slot)
	g := q.fit(w.size())
	r := record(g.mem[g.used : g.used+w.size() : g.used+w.size()])
	runWord := uint64(0)
	if first := sh.runOf(old); first != nil {
		runWord = word(old, runAt)
		n := int64(first.count) * int64(len(first.mem))
		sh.setWeight(from, from.weight-n)
		sh.setWeight(g, g.weight+n)
	}
	payload := r.fill(p, w, runWord)
	copy(payload[copy(payload, p.Head):], old.payload()[old.shape().head():])
	sh.killAny(from, old)
	sh.index.slots[at] = makeSlot(g.place<<sh.store.unitBits|uint32(g.used/8), slotTag(slot), slotReads(slot))
	sh.publish(g, r, st)
}

// findAlive is find of an entry that is neither expired nor purged.
func (sh *shard) findAlive(tag uint32, key []byte, now int64) int {
	at := sh.find(tag, key)
	if at < 0 || !sh.alive(sh.segmentOf(sh.index.slots[at]), sh.at(sh.index.slots[at]), now) {
		return -1
	}
	return at
}

func (sh *shard) bodySize(r record) int64 { return int64(r.shape().tail()) + sh.runContent(r) }

// Delete removes what is under a key and reports whether there was something, if
// only expired.
func (s *Store) Delete(key []byte) bool {
	sh, tag := s.locate(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	at := sh.find(tag, key)
	if at < 0 {
		return false
	}
	g, r := sh.segmentOf(sh.index.slots[at]), sh.at(sh.index.slots[at])
	live := sh.settle(g, r)
	sh.drop(at)
	if g.live.Load() == 0 {
		sh.tidy(g)
	}
	return live
}
