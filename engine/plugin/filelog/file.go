package filelog

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

const (
	shardCount = 4
	// shardBytesMax bounds what waits to be written: 4 MiB over all shards, about
	// three thousand lines.
	shardBytesMax = 1 << 20
	// writeDelay is how long the first line of a batch waits for others, unless
	// half a shard is full before: the price of a wake-up is shared by all.
	writeDelay    = 100 * time.Millisecond
	reportEvery   = 10 * time.Second
	closeTimeout  = 5 * time.Second
	fileMode      = 0o644
	fileOpenFlags = os.O_APPEND | os.O_CREATE | os.O_WRONLY
)

// errStuck is what Close returns when the disk takes longer than closeTimeout.
var errStuck = errors.New("file-log: the last lines could not be written in time")

// file is a queue of lines and the goroutine that writes them. Safe for
// concurrent use.
type file struct {
	path    string
	reopen  bool
	log     *slog.Logger
	dropped *metrics.Counter
	failed  *metrics.Counter

	shards  [shardCount]shard
	wake    chan struct{} // capacity 1: there is something to write
	full    chan struct{} // capacity 1: do not wait for more
	closing chan struct{}
	done    chan struct{}
	stale   atomic.Bool // open anew before the next batch

	// Owned by the writing goroutine.
	out        *os.File
	spare      []byte
	torn       bool // the last write ended within a line
	reportedAt time.Time
	unreported int
}

// shard is a part of the queue with a lock of its own, held while a line is
// copied.
type shard struct {
	mu     sync.Mutex
	buf    []byte
	closed bool
	_      [88]byte // not on the cache lines of the next
}

func openFile(path string, reopen bool, env *pipeline.Env) (*file, error) {
	out, err := os.OpenFile(path, fileOpenFlags, fileMode)
	if err != nil {
		return nil, fmt.Errorf("path: %w", err)
	}
	label := "{path=" + strconv.Quote(path) + "}"
	f := &file{
		path: path, reopen: reopen, log: env.Log, out: out,
		dropped: env.Metrics.GetOrCreateCounter("sluice_filelog_dropped_total" + label),
		failed:  env.Metrics.GetOrCreateCounter("sluice_filelog_write_errors_total" + label),
		wake:    make(chan struct{}, 1), full: make(chan struct{}, 1),
		closing: make(chan struct{}), done: make(chan struct{}),
	}
	go f.run()
	return f, nil
}

// enqueue copies a line into the queue, or drops it when there is no room. It
// never waits for the disk.
func (f *file) enqueue(line []byte, by byte) {
	s := &f.shards[by%shardCount]
	s.mu.Lock()
	if s.closed || len(s.buf)+len(line) > shardBytesMax {
		s.mu.Unlock()
		f.dropped.Inc()
		return
	}
	before := len(s.buf)
	s.buf = append(s.buf, line...)
	after := len(s.buf)
	s.mu.Unlock()
	if before == 0 {
		signal(f.wake)
	}
	if before < shardBytesMax/2 && after >= shardBytesMax/2 {
		signal(f.full)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // told already
	}
}

// Reopen implements Reopener.
func (f *file) Reopen() { f.stale.Store(true) }

// Close writes what was accepted and closes the file. Lines that come later are
// dropped and counted. It waits no longer than five seconds.
func (f *file) Close() error {
	for i := range f.shards {
		s := &f.shards[i]
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
	}
	close(f.closing)
	timeout := time.NewTimer(closeTimeout)
	defer timeout.Stop()
	select {
	case <-f.done:
		return nil
	case <-timeout.C:
		return fmt.Errorf("%w: %s", errStuck, f.path)
	}
}

func (f *file) run() {
	defer close(f.done)
	delay := time.NewTimer(writeDelay)
	defer delay.Stop()
	for open := true; open; {
		select {
		case <-f.wake:
			delay.Reset(writeDelay)
			select {
			case <-delay.C:
			case <-f.full:
			case <-f.closing:
				open = false
			}
		case <-f.closing:
			open = false
		}
		f.writeAll()
	}
	if err := f.out.Close(); err != nil {
		f.report(err)
	}
	if f.unreported > 0 {
		f.log.Error("file-log: write failed", "path", f.path, "times", f.unreported)
	}
}

// writeAll writes what every shard holds. The shard gets the buffer written
// before, so two buffers a shard are all that is ever allocated.
func (f *file) writeAll() {
	opened := false
	for i := range f.shards {
		s := &f.shards[i]
		s.mu.Lock()
		batch := s.buf
		s.buf = f.spare[:0]
		s.mu.Unlock()
		if len(batch) > 0 {
			if !opened && (f.stale.Swap(false) || f.reopen) {
				f.openAgain()
			}
			opened = true
			f.write(batch)
		}
		f.spare = batch
	}
}

func (f *file) openAgain() {
	out, err := os.OpenFile(f.path, fileOpenFlags, fileMode)
	if err != nil {
		f.report(err) // the old file is better than none
		return
	}
	if err := f.out.Close(); err != nil {
		f.report(err)
	}
	f.out, f.torn = out, false
}

// write writes a batch. What cannot be written is dropped and counted, and the
// file opened anew for the next batch.
func (f *file) write(batch []byte) {
	if f.torn {
		// The rest of a line is lost: end it, so that the next one can be read.
		if _, err := f.out.Write([]byte{'\n'}); err != nil {
			f.lose(batch, err)
			return
		}
		f.torn = false
	}
	n, err := f.out.Write(batch)
	if err == nil {
		return
	}
	f.torn = n > 0 && batch[n-1] != '\n'
	f.lose(batch[n:], err)
}

func (f *file) lose(lines []byte, err error) {
	f.dropped.Add(bytes.Count(lines, []byte{'\n'}))
	f.stale.Store(!f.torn) // a torn line is ended in the file it is in
	f.report(err)
}

// report counts an error and logs it, unless another one was logged just before.
func (f *file) report(err error) {
	f.failed.Inc()
	f.unreported++
	if now := time.Now(); f.reportedAt.IsZero() || now.Sub(f.reportedAt) >= reportEvery {
		f.log.Error("file-log: write failed", "path", f.path, "error", err, "times", f.unreported)
		f.reportedAt, f.unreported = now, 0
	}
}
