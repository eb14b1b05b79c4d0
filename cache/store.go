package cache

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// Store keeps entries off the heap, at most so many bytes of them. Safe for
// concurrent use. Must not be copied.
type Store struct {
	segmentSize int
	unitBits    uint // of a location: the units of 8 bytes in a segment
	unitMask    uint32
	objectMax   int64
	seed        maphash.Seed
	shards      []shard
	rules       rules
	seq         atomic.Uint64 // of the last rule in force

	arena     arena
	file      *file // nil: nothing is kept
	recovered Recovered

	holders atomic.Int64 // who needs the arena: the store while it is open, views, writers
	sweeper sweeper

	resizing sync.Mutex // held by Resize and Close
	closed   atomic.Bool
}

// Config says how large a Store is. Zero values are defaults.
type Config struct {
	// Bytes is the most memory for values, keys and index. Default 128 MiB, least
	// 1 MiB.
	Bytes int64

	// ObjectMax is the largest head and body of an entry together. Default a 16th of
	// Bytes or 16 MiB, whichever is less; at most half of what a shard holds.
	ObjectMax int64

	// File keeps the entries over restarts, in a file of about Bytes that is mapped
	// into memory. Empty: nothing is kept.
	File string

	// Format tells what the caller's heads mean. A file of another format starts
	// empty.
	Format uint64
}

// Errors of Set, SetHead, Create, Write and Commit. They are returned as they are.
var (
	ErrTooLarge = errors.New("cache: entry too large")
	ErrFull     = errors.New("cache: no room beside what is being read and written")
	ErrPurged   = errors.New("cache: entry was purged while it was fetched")
	ErrMissing  = errors.New("cache: no such entry")
	ErrClosed   = errors.New("cache: store is closed")
)

const (
	bytesDefault     = 128 << 20
	bytesMin         = 1 << 20
	objectMaxDefault = 16 << 20
	shardBytes       = 16 << 20 // least, where there is more than one
	shardsMax        = 64
	segmentSizeMin   = 32 << 10
	segmentSizeMax   = 128 << 10

	// HeadMax is the largest head of an entry. A small store takes less: head, key
	// and labels must fit into one of its segments.
	HeadMax = 64 << 10

	// KeyMax is the longest key of an entry; a quarter of a segment in a small store.
	KeyMax = 16 << 10

	// LabelsMax is how many labels an entry may have.
	LabelsMax = 32

	// WholeMax is the largest head and body together that a View holds whole.
	WholeMax = 64 << 10
)

// Open makes a store. With a File it takes over what is in there and still good;
// now drops what has expired meanwhile, in milliseconds since 1970. Errors name the
// file; one that another process has open is an error, one that cannot be made use of
// starts empty, and Recovered says why.
func Open(c Config, now int64) (*Store, error) {
	if c.Bytes == 0 {
		c.Bytes = bytesDefault
	}
	c.Bytes = max(c.Bytes, bytesMin)
	if c.ObjectMax <= 0 {
		c.ObjectMax = min(c.Bytes/16, objectMaxDefault)
	}
	s := &Store{seed: maphash.MakeSeed()}
	s.holders.Store(1)
	shards, size := geometry(c.Bytes, c.ObjectMax)
	if c.File != "" {
		f, err := openFile(c, shards, size)
		if err != nil {
			return nil, fmt.Errorf("cache: file %q: %w", c.File, err)
		}
		s.file, s.recovered.Why = f, f.why
		s.arena.file, s.arena.dataAt = f.f, fileDataAt
		shards, size = f.shards, f.segmentSize
	}
	s.setGeometry(c, shards, size)
	for i := range s.shards {
		s.shards[i].init(s, i, c.Bytes/int64(shards))
	}
	if err := s.fill(c, now); err != nil {
		_ = s.unmap()
		return nil, fmt.Errorf("cache: file %q: %w", c.File, err)
	}
	return s, nil
}

// fill maps as much memory as the store may use, and recovers what is in the file.
func (s *Store) fill(c Config, now int64) error {
	if s.file == nil {
		return s.extend(c.Bytes)
	}
	if err := s.extend(max(c.Bytes, s.file.dataSize)); err != nil {
		return err
	}
	return s.recover(now)
}

// geometry returns how many shards a store of that many bytes has, and the size of
// their segments: shards as many as may help and can still hold four of the largest
// entries, segments so that a shard has at least 32 and as a rule 64 or more.
func geometry(size, objectMax int64) (shards, segmentSize int) {
	n := min(size/shardBytes, size/(4*objectMax), shardsMax)
	shards = 1 << (bits.Len64(uint64(max(n, 1))) - 1)
	each := uint64(size/int64(shards)) / 64
	segmentSize = 1 << (bits.Len64(each) - 1)
	return shards, min(max(segmentSize, segmentSizeMin), segmentSizeMax)
}

func (s *Store) setGeometry(c Config, shards, segmentSize int) {
	s.shards = make([]shard, shards)
	s.segmentSize, s.arena.size = segmentSize, segmentSize
	s.unitBits = uint(bits.Len(uint(segmentSize/8)) - 1)
	s.unitMask = 1<<s.unitBits - 1
	s.objectMax = min(c.ObjectMax, c.Bytes/int64(2*shards))
}

// ObjectMax returns the largest head and body of an entry together.
func (s *Store) ObjectMax() int64 { return s.objectMax }

// locate returns the shard of a key and its tag in the index there. The shard of a
// key must be the same after a restart, and maphash cannot be; so a file's shards
// are chosen by a hash that a client could foresee, which gains it nothing but a
// crowded shard.
func (s *Store) locate(key []byte) (sh *shard, tag uint32) {
	h := maphash.Bytes(s.seed, key)
	at := h
	if s.file != nil {
		at = xxhash.Sum64(key)
	}
	return &s.shards[at&uint64(len(s.shards)-1)], uint32(h >> (64 - tagBits))
}

// extend maps segments until the shards have as many as they may use, row by row:
// segment n of the arena belongs to shard n modulo their number, in a file as well. A
// shard's locations end at 32 GiB. The caller holds resizing or is alone.
func (s *Store) extend(size int64) error {
	each := min(size/int64(len(s.shards))/int64(s.segmentSize), 1<<(32-s.unitBits))
	rows := int(each) - len(s.shards[0].segs)
	if rows <= 0 {
		return nil
	}
	rows = (rows + 3) &^ 3 // whole pages of the system, even large ones
	mem, err := s.arena.grow(rows * len(s.shards))
	if err != nil {
		return err
	}
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		sh.adopt(mem, rows)
		sh.mu.Unlock()
	}
	return nil
}

// Resize changes how much memory the store may use, to no less than 1 MiB and 16
// segments a shard. Shrinking evicts and gives memory back to the system; ObjectMax
// stays, but entries for which there is no room then are refused with ErrFull. If no
// memory can be mapped to grow into, the store stays as large as it is.
func (s *Store) Resize(size int64) {
	s.resizing.Lock()
	defer s.resizing.Unlock()
	size = max(size, bytesMin, 2*segmentsMin*int64(len(s.shards)*s.segmentSize))
	if s.closed.Load() || s.extend(size) != nil {
		return
	}
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		sh.budget = size / int64(len(s.shards))
		sh.shrink(0)
		sh.mu.Unlock()
	}
}

// Close ends the store: nothing is found any more, and what is written is refused.
// With a File all that is stored is written to it. The memory is given back when
// the last View and Writer is closed; until then a file stays locked.
func (s *Store) Close(now int64) error {
	s.resizing.Lock()
	defer s.resizing.Unlock()
	if s.closed.Swap(true) {
		return ErrClosed
	}
	s.sweeper.mu.Lock() // a sweep that goes on walks the segments
	defer s.sweeper.mu.Unlock()
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		sh.closed = true
		sh.index = newIndex()
		sh.mu.Unlock()
	}
	s.rules.mu.Lock()
	s.rules.kept = nil
	s.rules.mu.Unlock()
	var err error
	if s.file != nil {
		err = s.finish(now)
	}
	return errors.Join(err, s.letGo())
}

// hold keeps the arena mapped. The caller holds the lock of a shard that is not
// closed, or has a hold already.
func (s *Store) hold() { s.holders.Add(1) }

func (s *Store) letGo() error {
	if s.holders.Add(-1) > 0 {
		return nil
	}
	return s.unmap()
}

func (s *Store) unmap() error {
	err := s.arena.close()
	if s.file != nil {
		err = errors.Join(err, s.file.close())
	}
	return err
}

// Stats are sums over a store, read shard by shard.
type Stats struct {
	Entries  int
	Bytes    int64 // keys, labels, heads and bodies of live entries
	Capacity int64 // most bytes of memory
	Held     int64 // bytes of segments in use
	Resident int64 // bytes of segments that have memory of the system
	Overhead int64 // index, segment tables, and headers and padding of live entries
	Limbo    int64 // bytes that are only held for readers

	Evictions uint64 // entries that made room
	Expired   uint64 // entries found expired
	Purged    uint64 // entries found purged
	Promoted  uint64 // entries that went from the small queue to the main one
	GhostHits uint64 // entries that came back soon

	TooLarge   uint64 // refused: larger than may be
	Full       uint64 // refused: no room beside what is being read and written
	BornPurged uint64 // refused: purged while it was fetched
	Pinned     uint64 // misses: too much is held for readers
}

// Stats returns what the store holds and has done.
func (s *Store) Stats() Stats {
	var t Stats
	for i := range s.shards {
		s.shards[i].addTo(&t)
	}
	return t
}

func (sh *shard) addTo(t *Stats) {
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	size := int64(sh.store.segmentSize)
	t.Entries += int(sh.entries.Load())
	t.Bytes += sh.bytes.Load()
	t.Capacity += sh.budget
	t.Held += int64(sh.held) * size
	t.Resident += int64(sh.touched) * size
	t.Overhead += sh.overhead() + sh.padded.Load()
	t.Limbo += sh.limbo.Load() * size
	c := &sh.counts
	t.Evictions += c.evictions.Load()
	t.Expired += c.expired.Load()
	t.Purged += c.purged.Load()
	t.Promoted += c.promoted.Load()
	t.GhostHits += c.ghostHits.Load()
	t.TooLarge += c.tooLarge.Load()
	t.Full += c.full.Load()
	t.BornPurged += c.bornPurged.Load()
	t.Pinned += c.pinned.Load()
}

// Recovered says what Open found in the file.
type Recovered struct {
	Entries int    // that are served again
	Dropped int    // records that were torn or damaged
	Why     string // the store started empty, "" if it did not
}

// Recovered returns what Open found in the file.
func (s *Store) Recovered() Recovered { return s.recovered }
