package limiter

import (
	"crypto/rand"
	"encoding/hex"
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"
)

// Batch counts in memory and shares the counts through Redis now and then: Take
// decides at once, by what all gateways together had counted when Flush last ran and
// what this one has counted since. Safe for concurrent use; must not be copied.
//
// # How far off it may be
//
// Of k gateways that flush every s seconds with a round trip of d, and each admit
// at most r events a second of one identity, all together admit at most
// k × r × (s + d) more than the limit in a window: what each lets pass between the
// event that fills the window and the flush that tells it so. While Redis is away
// each gateway keeps the limit by itself, so that they admit at most k times the
// limit, and what they counted is merged when Redis is back within the window.
//
// # Flush may be repeated
//
// In Redis a window is a hash. It has a field for each gateway, with what that one
// has counted in the window, and their sum. A flush sets the field and adds the
// difference to the sum in one step, so a flush whose outcome is unknown, or that
// arrives late or twice, counts nothing twice. The price is a field of some 30 bytes
// for each gateway, identity and window, for two sizes of the window.
//
// # Memory
//
// At most a given number of identities is tracked, each some 200 bytes and 60 a
// window. One whose windows have passed is dropped by Flush. When there is no room,
// one of a few others is dropped: best one whose counts are in Redis, which is a
// newcomer again until the next flush; else Take says that it forgot counts that
// were not.
type Batch struct {
	store  Scripter
	prefix string
	node   string
	life   atomic.Uint64 // of identities, so that one that was dropped has another field
	seed   maphash.Seed
	each   int // identities, of one shard
	shards *[batchShards]batchShard

	flush  sync.Mutex // held by Flush
	swept  int        // the shard that is swept next
	forgot atomic.Uint64
}

const (
	batchShards = 64
	// chunkMax is the most identities in one call of a flush.
	chunkMax = 128
	// lookMax is the most identities that are looked at for one to drop.
	lookMax = 16
)

type batchShard struct {
	mu      sync.Mutex
	tracked map[uint64]*tracked // by the hash of the identity, or a number after it
	dirty   []*tracked          // have something to tell
	_       [64]byte
}

// tracked is one identity.
type tracked struct {
	identity string
	key      uint64 // in its shard
	life     uint64
	dirty    int   // its place in its shard's list, from 1; 0 if it is not there
	last     int64 // milliseconds, of the last use
	windows  []pane
}

// at is the time of a use: one whose clock is a little behind that of the one before
// counts at that one's time, as in Sliding.
func (t *tracked) at(now int64) int64 {
	if now < t.last && t.last <= now+1000*skewMax {
		return t.last
	}
	t.last = now
	return now
}

// pane is one window of an identity, as this gateway knows it.
type pane struct {
	size    int64
	sliding bool
	start   int64
	now     part // the window that began at start
	before  part // the one before it
}

// part is what one window holds.
type part struct {
	own    int64 // counted here
	others int64 // counted by the others, as far as known
}

// NewBatch returns counters shared through store under a name, as in NewShared,
// that track at most identitiesMax identities, rounded up to a multiple of 64.
// The owner has Flush called every so often.
func NewBatch(store Scripter, name string, identitiesMax int) *Batch {
	var node [8]byte
	_, _ = rand.Read(node[:]) // never fails
	b := &Batch{
		store: store, prefix: "sluice:" + plain(name) + ":{", node: hex.EncodeToString(node[:]),
		seed: maphash.MakeSeed(), each: max((identitiesMax+batchShards-1)/batchShards, 1), shards: new([batchShards]batchShard),
	}
	for i := range b.shards {
		b.shards[i].tracked = map[uint64]*tracked{}
	}
	return b
}

// Take is Shared.Take by what is known here. It does not wait for Redis and does not
// allocate for an identity that is tracked. forgot reports that another identity
// lost counts that Redis does not have, because there was no room.
func (b *Batch) Take(identity string, a *Ask, used []int64) (ok, forgot bool) {
	return b.count(identity, a, used, a.CountRefused)
}

// Add counts without asking.
func (b *Batch) Add(identity string, a *Ask, used []int64) (forgot bool) {
	_, forgot = b.count(identity, a, used, true)
	return forgot
}

// Peek tells what each window holds as far as known here and whether the event would
// be admitted, and counts nothing.
func (b *Batch) Peek(identity string, a *Ask, used []int64) (ok bool) {
	if !a.valid() {
		return false
	}
	s, hash := b.shard(identity)
	s.mu.Lock()
	defer s.mu.Unlock()
	t, _ := s.find(identity, hash)
	ok = true
	for i := range a.Spans {
		p := &a.Spans[i]
		used[i] = 0
		if w := t.window(p.Size); w != nil {
			w := *w
			w.turn(p.Start, a.Now)
			used[i] = w.used(a.Now)
		}
		ok = ok && used[i]+a.Cost <= p.Limit
	}
	return ok
}

func (t *tracked) window(size int64) *pane {
	if t == nil {
		return nil
	}
	for i := range t.windows {
		if t.windows[i].size == size {
			return &t.windows[i]
		}
	}
	return nil
}

func (b *Batch) shard(identity string) (s *batchShard, hash uint64) {
	hash = maphash.String(b.seed, identity)
	return &b.shards[hash%batchShards], hash
}

// find returns the entry of an identity, or nil and the key it may have.
func (s *batchShard) find(identity string, hash uint64) (t *tracked, key uint64) {
	for key = hash; ; key++ {
		if t = s.tracked[key]; t == nil || t.identity == identity {
			return t, key
		}
	}
}

func (b *Batch) count(identity string, a *Ask, used []int64, always bool) (ok, forgot bool) {
	s, hash := b.shard(identity)
	s.mu.Lock()
	t, _ := s.find(identity, hash)
	if t == nil || a.Cost < 0 || !t.fits(a.Spans) {
		// Slow path: never seen, or asked about other windows than before.
		if !a.valid() {
			s.mu.Unlock()
			return false, false
		}
		if t != nil {
			forgot = b.drop(s, t, a.Now)
		} else if len(s.tracked) >= b.each {
			forgot = b.makeRoom(s, a.Now)
		}
		t = b.track(s, identity, hash, a)
	}
	ok = true
	now := t.at(a.Now)
	for i := range a.Spans {
		p, w := &a.Spans[i], &t.windows[i]
		w.turn(p.Start, now)
		used[i] = w.used(now)
		ok = ok && used[i]+a.Cost <= p.Limit
	}
	if (ok || always) && a.Cost > 0 {
		for i := range t.windows {
			t.windows[i].now.own += a.Cost
			used[i] += a.Cost
		}
		s.soil(t)
	}
	s.mu.Unlock()
	return ok, forgot
}

// soil notes that an identity has something to tell.
func (s *batchShard) soil(t *tracked) {
	if t.dirty == 0 {
		s.dirty = append(s.dirty, t)
		t.dirty = len(s.dirty)
	}
}

// clean takes an identity from the list of those that have something to tell.
func (s *batchShard) clean(t *tracked) {
	if t.dirty == 0 {
		return
	}
	last := len(s.dirty) - 1
	s.dirty[t.dirty-1] = s.dirty[last]
	s.dirty[last].dirty = t.dirty
	s.dirty[last] = nil
	s.dirty = s.dirty[:last]
	t.dirty = 0
}

// fits reports whether t counts in just these windows.
func (t *tracked) fits(spans []Span) bool {
	if len(t.windows) != len(spans) {
		return false
	}
	for i := range spans {
		if t.windows[i].size != spans[i].Size || t.windows[i].sliding != spans[i].Sliding {
			return false
		}
	}
	return true
}

// turn moves on to the window that began at start. A caller whose clock is a little
// behind that of the one who opened a later window counts into that, as in Windows.
func (w *pane) turn(start, now int64) {
	switch {
	case start == w.start, start < w.start && w.start <= now/1000+skewMax:
		return
	case w.sliding && start == w.start+w.size:
		w.before = w.now
	default:
		w.before = part{}
	}
	w.start, w.now = start, part{}
}

// used is what the window holds at now.
func (w *pane) used(now int64) int64 {
	current := w.now.own + w.now.others
	if !w.sliding {
		return current
	}
	return slide(current, w.before.own+w.before.others, w.size, left(w.start, w.size, now))
}

// track makes an entry for an identity. The shard's lock is held.
func (b *Batch) track(s *batchShard, identity string, hash uint64, a *Ask) *tracked {
	_, key := s.find(identity, hash)
	t := &tracked{identity: strings.Clone(identity), key: key, life: b.life.Add(1), last: a.Now, windows: make([]pane, len(a.Spans))}
	for i := range a.Spans {
		p := &a.Spans[i]
		t.windows[i] = pane{size: p.Size, sliding: p.Sliding, start: p.Start}
	}
	s.tracked[key] = t
	return t
}

// makeRoom drops one of a few identities: one whose windows have passed, else one
// without anything to tell, else the one that has counted the least.
func (b *Batch) makeRoom(s *batchShard, now int64) (forgot bool) {
	var least *tracked
	n, leastCount := 0, int64(0)
	for _, t := range s.tracked {
		count := int64(0)
		if !t.passed(now) {
			for i := range t.windows {
				count = max(count, t.windows[i].now.own)
			}
			if t.dirty != 0 {
				count += 1 << 60
			}
		}
		if least == nil || count < leastCount {
			least, leastCount = t, count
		}
		if n++; n == lookMax || count == 0 {
			break
		}
	}
	return b.drop(s, least, now)
}

// drop forgets an identity, and reports whether counts are lost by it.
func (b *Batch) drop(s *batchShard, t *tracked, now int64) (forgot bool) {
	delete(s.tracked, t.key)
	untold := t.dirty != 0
	s.clean(t)
	if untold && !t.passed(now) {
		b.forgot.Add(1)
		return true
	}
	return false
}

// passed reports whether no window of t matters any more.
func (t *tracked) passed(now int64) bool {
	for i := range t.windows {
		w := &t.windows[i]
		if now < 1000*(w.start+2*w.size) {
			return false
		}
	}
	return true
}

// Len returns how many identities are tracked.
func (b *Batch) Len() int {
	n := 0
	for i := range b.shards {
		s := &b.shards[i]
		s.mu.Lock()
		n += len(s.tracked)
		s.mu.Unlock()
	}
	return n
}

// Pending returns how many identities have counts that Redis is not known to have.
func (b *Batch) Pending() int {
	n := 0
	for i := range b.shards {
		s := &b.shards[i]
		s.mu.Lock()
		n += len(s.dirty)
		s.mu.Unlock()
	}
	return n
}

// Forgotten returns how many identities lost counts that Redis did not have, because
// there was no room.
func (b *Batch) Forgotten() uint64 { return b.forgot.Load() }
