package cache

// room makes sure that a record of size bytes fits into an open segment of a queue.
func (sh *shard) room(k kind, size int, now int64) error {
	q := sh.queueOf(k)
	for q.fit(size) == nil {
		g, err := sh.obtain(now)
		if err != nil {
			return err
		}
		if q.fit(size) == nil {
			sh.begin(q, g)
		} else {
			sh.release(g) // evicting has opened one
		}
	}
	return nil
}

// begin opens a segment at the end of a queue.
func (sh *shard) begin(q *queue, g *segment) {
	q.begin(g)
	sh.store.label(g)
}

// obtain returns a free segment, and leaves one for evicting.
func (sh *shard) obtain(now int64) (*segment, error) {
	for range len(sh.segs) {
		if err := sh.spare(1, now); err != nil {
			return nil, err
		}
		if g := sh.take(); g != nil {
			return g, nil
		}
		// The disk is full: what is held already must do.
		if !sh.evict(now) {
			break
		}
	}
	return nil, ErrFull
}

// spare evicts until n segments can be taken, and one more that evicting needs.
func (sh *shard) spare(n int, now int64) error {
	for tries := 4*len(sh.segs) + 8; sh.held+n >= sh.limit(); tries-- {
		if tries == 0 || !sh.evict(now) {
			return ErrFull
		}
	}
	return nil
}

// evict frees something: what is dead, else what S3-FIFO says. It reports false if
// there is nothing left.
func (sh *shard) evict(now int64) bool {
	if sh.ripe.Load() > 0 && sh.tidySome() || sh.compactSome() {
		return true
	}
	q := &sh.small
	if sh.main.first != nil &&
		(q.first == nil || q.weight*100 < smallPercent*int64(sh.limit())*int64(sh.store.segmentSize)) {
		q = &sh.main
	}
	if q.first == nil {
		return false
	}
	sh.evictSegment(q, q.first, now)
	return true
}

// evictSegment frees the oldest segment of a queue. Of its entries those read most
// often go on in the main queue, as many as fill half a segment; so an eviction
// frees at least half a segment and copies no more than that.
func (sh *shard) evictSegment(q *queue, g *segment, now int64) {
	q.close(g)
	least, room := sh.threshold(g)
	if q.kind == kindSmall {
		least = max(least, promoteReads)
	}
	g.records(func(at uint32, r record) {
		tag, slot := sh.slotOf(g, at, r)
		if slot < 0 {
			return
		}
		w := sh.index.slots[slot]
		reads := int(slotReads(w))
		if !sh.alive(g, r, now) {
			sh.drop(slot)
			return
		}
		if size := r.shape().size(); (reads >= least || sh.mustStay(r)) && room >= size {
			reads := slotReads(w)
			if q.kind == kindSmall {
				reads = 0
				sh.counts.promoted.Add(1)
			} else if reads > 0 {
				reads--
			}
			if sh.move(&sh.main, g, slot, r, reads) {
				room -= size
				return
			}
		}
		sh.counts.evictions.Add(1)
		sh.drop(slot)
		if q.kind == kindSmall {
			sh.ghost.add(tag)
		}
	})
	sh.freeLog(q, g)
}

// promoteReads is how often an entry must have been read to leave the small queue
// for the main one.
const promoteReads = 1

// threshold returns how often an entry of a segment must have been read so that no
// more than half a segment stays. Where all that stay were read most often, the
// first ones win; room is what may stay.
func (sh *shard) threshold(g *segment) (least, room int) {
	var bytes [readsMax + 1]int
	g.records(func(at uint32, r record) {
		if r.state() == 0 {
			return
		}
		if _, slot := sh.slotOf(g, at, r); slot >= 0 {
			bytes[slotReads(sh.index.slots[slot])] += r.shape().size()
		}
	})
	room = (len(g.mem) - segmentHeader) / 2
	sum := 0
	for least = readsMax; least > 0; least-- {
		if sum += bytes[least]; sum > room {
			return min(least+1, readsMax), room
		}
	}
	return 1, room
}

// slotOf returns a record's tag and its slot in the index, -1 if it has none.
func (sh *shard) slotOf(g *segment, at uint32, r record) (tag uint32, slot int) {
	_, tag = sh.store.locate(r.key())
	return tag, sh.index.locate(tag, g.place<<sh.store.unitBits|at)
}

// alive reports whether an entry may stay, after all purges so far.
func (sh *shard) alive(g *segment, r record, now int64) bool {
	w := r.state()
	if w == 0 {
		return false
	}
	if r.expired(now) {
		if sh.kill(g, r, w) {
			sh.counts.expired.Add(1)
		}
		return false
	}
	return sh.settle(g, r)
}

// mustStay reports whether an entry is being read and there is no more room for
// such that are evicted.
func (sh *shard) mustStay(r record) bool {
	first := sh.runOf(r)
	return first != nil && first.pins.Load() > 0 && sh.limbo.Load()+int64(first.count) > sh.limboMax()
}

// limboMax is how many segments may wait for their readers.
func (sh *shard) limboMax() int64 { return int64(sh.limit() / 4) }

// move copies a record to the end of a queue. It reports false if there is no
// segment for it.
func (sh *shard) move(q *queue, g *segment, slot int, r record, reads uint32) bool {
	size := r.shape().size()
	if q.fit(size) == nil {
		fresh := sh.take()
		if fresh == nil {
			return false
		}
		sh.begin(q, fresh)
	}
	to := q.fit(size)
	at := to.used
	dst := record(to.mem[at : at+size : at+size])
	copy(dst[expiresAt:], r[expiresAt:size])
	clear(dst[:expiresAt])
	before := r.state()
	if first := sh.runOf(r); first != nil {
		n := int64(first.count) * int64(len(first.mem))
		sh.setWeight(g, g.weight-n)
		sh.setWeight(to, to.weight+n)
	}
	sh.killAny(g, r)
	sh.index.slots[slot] = makeSlot(to.place<<sh.store.unitBits|uint32(at/8), slotTag(sh.index.slots[slot]), reads)
	sh.publish(to, dst, before)
	return true
}

// publish makes the record at the end of a log live.
func (sh *shard) publish(g *segment, r record, w state) {
	sh.account(g, r)
	g.used += r.shape().size()
	sh.store.seal(sh, g, r, w)
}

// freeLog frees a segment all of whose entries are out of the index.
func (sh *shard) freeLog(q *queue, g *segment) {
	q.unlink(g)
	if g.dead.CompareAndSwap(true, false) {
		sh.ripe.Add(-1)
	}
	sh.release(g)
}

// tidySome frees what is dead in segments that have such until one segment more is
// free, and reports whether it came to that.
func (sh *shard) tidySome() bool {
	before := sh.held
	for range sh.segs {
		if g := sh.nextSegment(); g.dead.Load() {
			if sh.tidy(g); sh.held < before {
				return true
			}
		}
	}
	return false
}

// nextSegment moves the hand on.
func (sh *shard) nextSegment() *segment {
	if sh.hand++; sh.hand >= len(sh.segs) {
		sh.hand = 0
	}
	return sh.segs[sh.hand]
}

// compactReach is how many segments are looked at for one to compact.
const compactReach = 16

// compactSome looks for a segment of which more than half is dead, and copies the
// rest of it to the end of its queue: that frees as much as an eviction and loses
// nothing. Without it a quarter of the memory was dead where a tenth of the entries
// is deleted and another expires.
func (sh *shard) compactSome() bool {
	for range min(compactReach, len(sh.segs)) {
		g := sh.nextSegment()
		if g.kind != kindSmall && g.kind != kindMain || g.live.Load() > int64(len(g.mem)/2) {
			continue
		}
		if q := sh.queueOf(g.kind); q.open[0] != g && q.open[1] != g {
			return sh.compact(q, g)
		}
	}
	return false
}

// compact frees a segment but for what it could not copy, which takes a second
// segment when the disk or the store is full.
func (sh *shard) compact(q *queue, g *segment) bool {
	whole := true
	g.records(func(at uint32, r record) {
		_, slot := sh.slotOf(g, at, r)
		switch {
		case slot < 0:
		case r.state() == 0:
			sh.drop(slot)
		case !sh.move(q, g, slot, r, slotReads(sh.index.slots[slot])):
			whole = false
		}
	})
	if whole {
		sh.freeLog(q, g)
	}
	return whole
}

// tidy takes the dead records of a log out of the index, frees their runs, and the
// log if nothing in it is alive.
func (sh *shard) tidy(g *segment) {
	if g.kind != kindSmall && g.kind != kindMain || !g.dead.CompareAndSwap(true, false) {
		return
	}
	sh.ripe.Add(-1)
	g.records(func(at uint32, r record) {
		if r.state() != 0 {
			return
		}
		if _, slot := sh.slotOf(g, at, r); slot >= 0 {
			sh.drop(slot)
		}
	})
	if g.live.Load() == 0 {
		sh.freeLog(sh.queueOf(g.kind), g)
	}
}

// shrink evicts until no more segments are held than may be, and gives memory back.
func (sh *shard) shrink(now int64) {
	for tries := 4*len(sh.segs) + 8; sh.held > sh.limit() && tries > 0; tries-- {
		if !sh.evict(now) {
			break
		}
	}
	sh.cool()
}
