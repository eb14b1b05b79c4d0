package proxycache

import (
	"bytes"
	"hash/maphash"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// flight is one request to the service that others with the same key wait for. Its
// leader settles it, once.
type flight struct {
	key  []byte
	hash uint64

	begun int64 // milliseconds since 1970

	// Guarded by the shard's mutex, or readable after wait is closed.
	wait    chan struct{} // nil while nobody waits
	outcome outcome
	stream  *stream // of an answer that is still coming
}

// outcome is what those who waited learn.
type outcome uint8

const (
	outcomeFailed outcome = iota // no answer that could be kept, but the next may be
	outcomeKept                  // look again
	outcomePass                  // answers to this key are not kept: everyone asks himself
	outcomeStream                // the answer is coming: read along
)

// flights are the requests that others may wait for. Safe for concurrent use.
type flights struct {
	seed   maphash.Seed
	shards [flightShards]flightShard
}

const flightShards = 16

type flightShard struct {
	mu sync.Mutex
	m  map[uint64]*flight
	_  [112]byte // a line of its own
}

func newFlights() *flights {
	f := &flights{seed: maphash.MakeSeed()}
	for i := range f.shards {
		f.shards[i].m = map[uint64]*flight{}
	}
	return f
}

// lone are flights that nobody has waited for: their leader gives them back.
var lone = sync.Pool{New: func() any { return new(flight) }}

func (fs *flights) shard(hash uint64) *flightShard { return &fs.shards[hash%flightShards] }

// join returns the flight of a key. Who leads must settle it; who does not may wait.
// nil where another key has its place: then the request goes alone.
func (fs *flights) join(key []byte) (f *flight, leads bool) {
	hash := maphash.Bytes(fs.seed, key)
	s := fs.shard(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	f = s.m[hash]
	switch {
	case f == nil:
		f = lone.Get().(*flight)
		f.key, f.hash, f.begun = append(f.key[:0], key...), hash, pipeline.WallMillis(pipeline.Now())
		s.m[hash] = f
		return f, true
	case !bytes.Equal(f.key, key):
		return nil, false
	case f.wait == nil:
		f.wait = make(chan struct{})
	}
	return f, false
}

// await waits for what becomes of a flight, for as long as patience. late is true when
// it did not.
func (f *flight) await(patience time.Duration) (late bool) {
	select {
	case <-f.wait:
		return false
	default:
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-f.wait:
		return false
	case <-t.C:
		return true
	}
}

// settle ends a flight: it is the leader's no more. It reports whether anybody waited.
func (fs *flights) settle(f *flight, o outcome) (waited bool) {
	s := fs.shard(f.hash)
	s.mu.Lock()
	if s.m[f.hash] == f { // else another has its place
		delete(s.m, f.hash)
	}
	wait, streamed := f.wait, f.stream != nil
	if !streamed {
		f.outcome = o
	}
	s.mu.Unlock()
	switch {
	case streamed: // those who waited know already
	case wait != nil:
		close(wait)
	default:
		lone.Put(f) // nothing of it was set but what join sets
	}
	return wait != nil
}

// forget makes room for another flight with the key of f, which goes on.
func (fs *flights) forget(f *flight) {
	s := fs.shard(f.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m[f.hash] == f {
		delete(s.m, f.hash)
	}
}

// announce tells those who wait, and those who come until the flight is settled, that the
// answer is coming.
func (fs *flights) announce(f *flight, st *stream) {
	s := fs.shard(f.hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	f.outcome, f.stream = outcomeStream, st
	if f.wait == nil {
		f.wait = make(chan struct{})
	}
	close(f.wait)
}
