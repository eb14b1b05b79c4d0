package quota

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/sluice-gateway/sluice/limiter"
)

// ledger keeps counts in files. In its directory are
//
//	lock       held by the gateway that has the directory; holds its process id
//	counts-7   a header, a snapshot of all counts, then a journal of what changed
//
// A file is made aside, with its snapshot, and takes its name when it is on the disk:
// only then is the one before removed, so that there is a whole one at any time. The
// journal is appended and forced to the disk once a second, in a goroutine of its own.
type ledger struct {
	dir    string
	lock   *os.File
	quotas *limiter.Quotas
	seed   uint64
	log    *slog.Logger

	wake     chan struct{}
	quit     chan struct{}
	done     chan struct{}
	failures atomic.Int64

	// What follows belongs to the goroutine.
	file    *os.File
	number  uint64 // of file
	size    int64  // of file
	whole   bool   // a new file is due
	renewAt int64  // size from which a new file is due
	buf     []byte
	failing bool
	last    error
}

const (
	dirMode  = 0o700
	fileMode = 0o600

	countsPrefix = "counts-"

	// The header of a file: magic, version, seed of the keys, CRC-32C of these.
	headerMagic = "SLQF\x01\x00\x00\x00"
	headerBytes = 8 + 8 + 4

	// renewMin is the least size of a file at which it is replaced.
	renewMin = 4 << 20
	// bufKept is the largest buffer that is kept between writes.
	bufKept = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openLedger takes the directory, reads what it holds into quotas and begins a new file.
func openLedger(dir string, quotas *limiter.Quotas, log *slog.Logger) (*ledger, error) {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return nil, fmt.Errorf("state_dir: %w", err)
	}
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("state_dir: %s: %w", dir, err)
	}
	l := &ledger{
		dir: dir, lock: lock, quotas: quotas, log: log,
		wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}),
	}
	if err := l.start(); err != nil {
		return nil, fmt.Errorf("state_dir: %w", errors.Join(err, lock.Close()))
	}
	go l.run()
	return l, nil
}

// start reads the files there are, the oldest first, and replaces them by a new one.
func (l *ledger) start() error {
	numbers, err := l.list()
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if err := l.read(n); err != nil {
			return err
		}
		l.number = n
	}
	if l.seed == 0 {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails since Go 1.24
		l.seed = binary.LittleEndian.Uint64(b[:]) | 1
	}
	return l.renew()
}

// list returns the numbers of the files, sorted, and removes those that were never
// finished.
func (l *ledger) list() ([]uint64, error) {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, e := range entries {
		text, ok := strings.CutPrefix(e.Name(), countsPrefix)
		if !ok {
			continue
		}
		if n, err := strconv.ParseUint(text, 10, 63); err == nil {
			numbers = append(numbers, n)
		} else if strings.HasSuffix(text, ".new") {
			if err := os.Remove(filepath.Join(l.dir, e.Name())); err != nil {
				return nil, err
			}
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

func (l *ledger) path(n uint64) string {
	return filepath.Join(l.dir, countsPrefix+strconv.FormatUint(n, 10))
}

// read puts what file n holds into the counts. What cannot be read is kept aside, for
// whoever wants to look at it, unless it is only the torn end that a crash leaves.
func (l *ledger) read(n uint64) error {
	data, err := os.ReadFile(l.path(n))
	if err != nil {
		return err
	}
	seed, err := readHeader(data)
	if err == nil && l.seed != 0 && seed != l.seed {
		err = errOtherKeys
	}
	good := 0
	if err == nil {
		l.seed = seed
		data = data[headerBytes:]
		good, err = l.quotas.Replay(data)
	}
	if err == nil {
		return nil
	}
	lost := len(data) - good
	if errors.Is(err, limiter.ErrQuotaDamaged) && good > 0 {
		l.log.Info("quota: the end of a file of counts was not written to the last byte, as after a crash", "file", l.path(n), "bytes", lost)
		return nil
	}
	aside := l.path(n) + ".damaged"
	l.log.Error("quota: a file of counts cannot be read: callers may have been given back what they had used", "file", l.path(n), "kept_as", aside, "bytes", lost, "error", err)
	return os.WriteFile(aside, data, fileMode)
}

var (
	errHeader    = errors.New("it does not begin as a file of counts does")
	errOtherKeys = errors.New("it has other keys than the file before it")
)

func readHeader(data []byte) (seed uint64, err error) {
	if len(data) < headerBytes || string(data[:8]) != headerMagic ||
		binary.LittleEndian.Uint32(data[16:]) != crc32.Checksum(data[:16], castagnoli) {
		return 0, errHeader
	}
	return binary.LittleEndian.Uint64(data[8:]), nil
}

func (l *ledger) appendHeader(dst []byte) []byte {
	begin := len(dst)
	dst = binary.LittleEndian.AppendUint64(append(dst, headerMagic...), l.seed)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[begin:], castagnoli))
}

// poke lets the goroutine write. It never waits.
func (l *ledger) poke() {
	select {
	case l.wake <- struct{}{}:
	default: // it has not come to the last one yet
	}
}

func (l *ledger) run() {
	defer close(l.done)
	for {
		select {
		case <-l.wake:
			l.save()
		case <-l.quit:
			l.save()
			return
		}
	}
}

// close writes the last counts and gives the directory up.
func (l *ledger) close() error {
	close(l.quit)
	<-l.done
	return errors.Join(l.last, l.file.Close(), l.lock.Close())
}

// save writes what changed. What fails is tried again, as a whole, the next time.
func (l *ledger) save() {
	l.last = l.write()
	if l.last != nil {
		l.whole = true // what was to be appended is not listed any more
		l.failures.Add(1)
	}
	if failing := l.last != nil; failing != l.failing {
		if l.failing = failing; failing {
			l.log.Error("quota: counts cannot be written and would be lost in a crash", "directory", l.dir, "error", l.last)
		} else {
			l.log.Info("quota: counts are written again", "directory", l.dir)
		}
	}
	if cap(l.buf) > bufKept {
		l.buf = nil
	}
}

func (l *ledger) write() error {
	if l.whole || l.size > l.renewAt {
		return l.renew()
	}
	l.buf = l.quotas.Journal(l.buf[:0])
	if len(l.buf) == 0 {
		return nil
	}
	n, err := l.file.Write(l.buf)
	l.size += int64(n)
	if err != nil {
		return err
	}
	return l.file.Sync()
}

// renew begins a new file with all counts and removes the one before.
func (l *ledger) renew() error {
	l.buf = l.quotas.Journal(l.buf[:0]) // it is in the snapshot, which is taken after it
	l.buf = l.quotas.AppendTo(l.appendHeader(l.buf[:0]))
	path := l.path(l.number + 1)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(l.buf)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = syncDir(l.dir)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	var older io.Closer = l.file
	if l.file == nil {
		older = nil
	}
	l.file, l.size, l.whole = f, int64(len(l.buf)), false
	l.number++
	l.renewAt = max(renewMin, 4*l.size)
	return errors.Join(closeOlder(older), l.removeOlder())
}

func closeOlder(c io.Closer) error {
	if c == nil {
		return nil
	}
	return c.Close()
}

// removeOlder removes the files that the newest one makes needless.
func (l *ledger) removeOlder() error {
	numbers, err := l.list()
	errs := []error{err}
	for _, n := range numbers {
		if n < l.number {
			errs = append(errs, os.Remove(l.path(n)))
		}
	}
	return errors.Join(errs...)
}

// syncDir forces the names in a directory to the disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
