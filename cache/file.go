package cache

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// file is what keeps a store over restarts:
//
//	0        4 KiB   header
//	4 KiB    4 MiB   journal of rules, twice: one is in force, the other is next
//	         4 MiB
//	12 MiB   …       segments
//
// It is mapped, so what was written survives the death of the process. It does not
// survive that of the machine, whose kernel writes pages in any order: a file that
// was not closed in this life of the machine starts empty.
//
// Everything has a sum in which a number goes that only this file has, so that bytes
// of a client are never taken for an entry.
type file struct {
	f           *os.File
	head        []byte // header and journals, mapped
	salt        uint64
	why         string // it started empty
	segmentSize int
	shards      int
	dataSize    int64 // of whole rows of segments that were in it
}

// The words of the header.
const (
	magicAt       = 0
	versionAt     = 8
	formatAt      = 16
	segmentSizeAt = 24
	shardsAt      = 32
	saltAt        = 40
	headSumAt     = 48 // of all before
	bootAt        = 64 // which life of the machine has it open; 0: it was closed
	journalAt     = 72 // which journal is in force

	magic       = 0x0a6568636163_9d53 // the second byte is no text
	fileVersion = 1

	filePage     = 4 << 10
	journalBytes = 4 << 20
	fileDataAt   = 12 << 20
)

var errInUse = errors.New("in use by another process")

// openFile opens, locks and maps the file, and makes it a new one if it cannot be
// made use of.
func openFile(c Config, shards, segmentSize int) (*file, error) {
	if !filesKept {
		return nil, errors.ErrUnsupported
	}
	f, err := os.OpenFile(c.File, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, cause(err)
	}
	x := &file{f: f, segmentSize: segmentSize, shards: shards}
	if err := x.open(c); err != nil {
		_ = f.Close()
		return nil, cause(err)
	}
	return x, nil
}

// cause takes off what names the file once more.
func cause(err error) error {
	if path, ok := errors.AsType[*os.PathError](err); ok {
		return fmt.Errorf("%s: %w", path.Op, path.Err)
	}
	return err
}

func (x *file) open(c Config) error {
	info, err := x.f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	if err := lockFile(x.f); err != nil {
		return fmt.Errorf("%w (%w)", errInUse, err)
	}
	x.why = x.takeOver(c, info.Size())
	if x.why != "" {
		if err := x.f.Truncate(0); err != nil {
			return err
		}
	}
	if info.Size() < fileDataAt || x.why != "" {
		if err := x.f.Truncate(fileDataAt); err != nil {
			return err
		}
	}
	if x.head, err = mapHeader(x.f, filePage+2*journalBytes); err != nil {
		return fmt.Errorf("map its header: %w", err)
	}
	if x.why != "" {
		x.begin(c.Format)
	}
	return nil
}

// takeOver reads the header, and returns why the file cannot be made use of.
func (x *file) takeOver(c Config, size int64) string {
	if size == 0 {
		return "it is new"
	}
	h := make([]byte, filePage)
	if _, err := x.f.ReadAt(h, 0); err != nil || word(h, magicAt) != magic {
		return "it is no store"
	}
	switch {
	case word(h, headSumAt) != xxhash.Sum64(h[:headSumAt]):
		return "its header is damaged"
	case word(h, versionAt) != fileVersion:
		return fmt.Sprintf("its version is %d, want %d", word(h, versionAt), fileVersion)
	case word(h, formatAt) != c.Format:
		return fmt.Sprintf("its format is %d, want %d", word(h, formatAt), c.Format)
	case word(h, bootAt) != 0 && word(h, bootAt) != bootID():
		return "the machine went down before it was closed"
	case size < fileDataAt:
		return "it is truncated"
	}
	shards, segmentSize := int64(word(h, shardsAt)), int64(word(h, segmentSizeAt))
	if c.Bytes/shards/segmentSize < segmentsMin*4 || c.Bytes/(2*shards) < c.ObjectMax {
		return "it was made for a larger store"
	}
	x.shards, x.segmentSize, x.salt = int(shards), int(segmentSize), word(h, saltAt)
	row := shards * segmentSize
	x.dataSize = (size - fileDataAt) / row * row
	return ""
}

// begin writes the header of a new file.
func (x *file) begin(format uint64) {
	h := x.head
	x.salt = rand.Uint64()
	setWord(h, magicAt, magic)
	setWord(h, versionAt, fileVersion)
	setWord(h, formatAt, format)
	setWord(h, segmentSizeAt, uint64(x.segmentSize))
	setWord(h, shardsAt, uint64(x.shards))
	setWord(h, saltAt, x.salt)
	x.rewrite(&rules{})
	setWord(h, headSumAt, xxhash.Sum64(h[:headSumAt]))
}

// bootID tells one life of the machine from the others. It is 1 where that is not
// known, which no file says.
func bootID() uint64 {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return 1
	}
	return xxhash.Sum64String(strings.TrimSpace(string(b))) | 2
}

// use marks the file as open.
func (x *file) use() {
	id := bootID()
	if id == 1 {
		id = 3 // unlike what takeOver compares it with
	}
	atomic.StoreUint64(record(x.head).word(bootAt), id)
}

func (x *file) close() error {
	err := unmapHeader(x.head)
	return errors.Join(err, x.f.Close())
}

// finish writes everything to the disk and marks the file as closed.
func (s *Store) finish(int64) error {
	err := s.arena.sync()
	if err == nil {
		atomic.StoreUint64(record(s.file.head).word(bootAt), 0)
		err = s.file.f.Sync()
	}
	if err != nil {
		return fmt.Errorf("cache: file %q: %w", s.file.f.Name(), cause(err))
	}
	return nil
}

// mix spreads a word over another.
func mix(w uint64) uint64 {
	w ^= w >> 32
	w *= 0xd6e8feb86659fd93
	w ^= w >> 32
	w *= 0xd6e8feb86659fd93
	return w ^ w>>32
}

// identity is the sum of what does not change while a segment is in use.
func (x *file) identity(number uint32, k kind, order uint64) uint64 {
	return mix(mix(mix(x.salt+uint64(number))+uint64(k)) + order)
}

// label writes the header of a segment that comes into use.
func (s *Store) label(g *segment) {
	if s.file == nil {
		return
	}
	s.forget(g)
	setWord(g.mem, identityAt, uint64(g.kind))
	setWord(g.mem, orderAt, g.order)
	g.sum = s.file.identity(g.number, g.kind, g.order)
	setWord(g.mem, identitySumAt, g.sum)
	g.setUsed(g.used)
}

// forget makes a segment's header say that it is free.
func (s *Store) forget(g *segment) {
	if s.file != nil {
		atomic.StoreUint64(record(g.mem).word(usedAt), 0)
	}
}

// seal completes the record that was appended to a log and makes it live.
func (s *Store) seal(sh *shard, g *segment, r record, w state) {
	if s.file != nil {
		at := g.used - r.shape().size()
		atomic.StoreUint64(r.word(sumAt), s.sumOf(sh, g, at, r))
	}
	atomic.StoreUint64(r.word(stateAt), uint64(w))
	if s.file != nil {
		g.setUsed(g.used)
	}
}

// sumOf is the sum of a record at a place, never 0: that is of a dead one.
func (s *Store) sumOf(sh *shard, g *segment, at int, r record) uint64 {
	sum := xxhash.Sum64(r[expiresAt:r.shape().size()]) ^ mix(g.sum+uint64(at))
	if first := sh.runOf(r); first != nil {
		sum ^= mix(first.runSum)
	}
	return max(sum, 1)
}

// sealRun writes the sums of a run that is complete. It is the caller's alone.
func (s *Store) sealRun(first *segment) {
	if s.file == nil {
		return
	}
	sum := uint64(0)
	for g := first; g != nil; g = g.next {
		next := uint64(0)
		if g.next != nil {
			next = uint64(g.next.place)
		}
		setWord(g.mem, identityAt, uint64(g.kind)|next<<32)
		sum = partSum(g, sum)
		setWord(g.mem, partSumAt, sum)
		g.setUsed(g.used)
	}
	first.runSum = sum
}

// partSum is the sum of a run up to one of its segments.
func partSum(g *segment, before uint64) uint64 {
	return mix(xxhash.Sum64(g.mem[segmentHeader:g.used]) ^ mix(before+g.sum))
}
