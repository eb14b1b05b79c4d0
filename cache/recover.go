package cache

import (
	"cmp"
	"slices"
)

// recover finds the entries in the file's segments. Every byte is read and compared
// with its sum now, so that no read does it later.
func (s *Store) recover(now int64) error {
	if !s.file.read(&s.rules) {
		if s.file.why == "" {
			s.recovered.Why = "its journal of purges is damaged"
		}
		s.rules = rules{}
		s.file.rewrite(&s.rules)
		s.empty()
	}
	s.rules.kept = s.file
	s.file.use()
	s.seq.Store(s.rules.seq)
	for i := range s.shards {
		sh := &s.shards[i]
		sh.recover(now)
		s.recovered.Entries += int(sh.entries.Load())
	}
	return nil
}

// empty makes all segments say that they are free.
func (s *Store) empty() {
	for i := range s.shards {
		for _, g := range s.shards[i].segs {
			s.forget(g)
		}
	}
}

// recover finds a shard's entries.
func (sh *shard) recover(now int64) {
	var logs []*segment
	for _, g := range sh.segs {
		if sh.recognize(g); g.kind == kindSmall || g.kind == kindMain {
			logs = append(logs, g)
		}
	}
	slices.SortFunc(logs, func(a, b *segment) int { return cmp.Compare(a.order, b.order) })
	for _, g := range logs {
		g.weight = int64(len(g.mem))
		sh.queueOf(g.kind).push(g)
		sh.recoverLog(g, now)
	}
	sh.recount()
	for _, g := range logs {
		if g.live.Load() == 0 {
			sh.freeLog(sh.queueOf(g.kind), g)
		}
	}
	sh.shrink(now)
}

// recognize reads the header of a segment.
func (sh *shard) recognize(g *segment) {
	k, order := kind(word(g.mem, identityAt)&0xffff), word(g.mem, orderAt)
	used, ok := untwice(word(g.mem, usedAt))
	if !ok || int(used) < segmentHeader || int(used) > len(g.mem) || k == kindFree || k > kindPart {
		return
	}
	sum := sh.store.file.identity(g.number, k, order)
	if sum != word(g.mem, identitySumAt) {
		sh.store.recovered.Dropped++
		return
	}
	g.kind, g.order, g.used, g.sum = k, order, int(used), sum
}

// recoverLog enters the records of a log into the index, as far as they are good.
func (sh *shard) recoverLog(g *segment, now int64) {
	end := g.used
	if end&7 != 0 {
		end &^= 7
	}
	for at := segmentHeader; at < end; {
		r := record(g.mem[at:end])
		if !r.sane() {
			// Where the next begins is not known either.
			sh.store.recovered.Dropped++
			end = at
			break
		}
		size := r.shape().size()
		sh.recoverRecord(g, at, r[:size:size], now)
		at += size
	}
	g.used = end
	g.setUsed(end)
}

// sane reports whether a record's parts lie within it, and it within r.
func (r record) sane() bool {
	if len(r) < headerBytes {
		return false
	}
	w := r.shape()
	run := w.run()
	return w.size() <= len(r) && recordSize(w.labels(), r.keyLen(), w.head(), w.tail(), run) == w.size()
}

func (sh *shard) recoverRecord(g *segment, at int, r record, now int64) {
	s := sh.store
	st := r.state()
	if st == 0 {
		return
	}
	good := st.valid() && st.seq() >= s.rules.floor && st.seq() <= s.rules.seq
	var run []*segment
	if good && r.shape().run() {
		run, good = sh.recognizeRun(r)
	}
	good = good && s.sumOf(sh, g, at, r) == word(r, sumAt)
	var tag uint32
	if good {
		_, tag = s.locate(r.key())
		good = sh.find(tag, r.key()) < 0
	}
	if !good {
		s.recovered.Dropped++
	}
	if !good || r.expired(now) {
		setWord(r, stateAt, 0)
		setWord(r, sumAt, 0)
		return
	}
	for i, part := range run {
		part.next = nil
		if i > 0 {
			run[i-1].next = part
		}
		part.claimed = true
	}
	if run != nil {
		run[0].count = len(run)
		sh.setWeight(g, g.weight+int64(len(run))*int64(len(g.mem)))
	}
	sh.account(g, r)
	sh.index.add(makeSlot(g.place<<s.unitBits|uint32(at/8), tag, 0))
}

// recognizeRun returns the segments of a record's run if they are as they were
// written; the sum of the record must still say that they are its own.
func (sh *shard) recognizeRun(r record) (run []*segment, ok bool) {
	place, size := r.run()
	sum := uint64(0)
	for {
		if int(place) >= len(sh.segs) || len(run) > len(sh.segs) {
			return nil, false
		}
		g := sh.segs[place]
		if g.kind != kindPart || g.claimed {
			return nil, false
		}
		if sum = partSum(g, sum); sum != word(g.mem, partSumAt) {
			return nil, false
		}
		run = append(run, g)
		if size -= int64(g.used - segmentHeader); size <= 0 {
			break
		}
		place = uint32(word(g.mem, identityAt) >> 32)
	}
	run[0].runSum = sum
	return run, size == 0
}

// recount sorts the segments into those in use and those free.
func (sh *shard) recount() {
	sh.warm, sh.cold, sh.held, sh.touched = nil, nil, 0, 0
	for _, g := range slices.Backward(sh.segs) {
		sh.order = max(sh.order, g.order)
		if g.kind == kindPart && !g.claimed {
			g.kind, g.used = kindFree, 0
		}
		if g.kind != kindFree {
			sh.held++
			sh.touched++
			continue
		}
		if word(g.mem, identitySumAt) != 0 {
			sh.store.forget(g)
			sh.store.arena.giveBack(g)
		}
		g.next, sh.cold = sh.cold, g
	}
	sh.ghost.resize(len(sh.index.slots) / 2)
}

// account counts a record that is live from now on.
func (sh *shard) account(g *segment, r record) {
	size := int64(r.shape().size())
	content := r.content()
	g.live.Add(size)
	sh.entries.Add(1)
	sh.bytes.Add(content)
	sh.padded.Add(size - (content - sh.runContent(r)))
}
