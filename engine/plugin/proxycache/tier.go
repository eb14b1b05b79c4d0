package proxycache

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/cache"
	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// tier is the Redis behind the memory: what one gateway has fetched, all have. It never
// fails a request and never holds one up for longer than lookMax; what it cannot take it
// drops and counts.
//
// # Entries
//
// An entry is a value of its own, named by the digest of its key, that Redis forgets when
// it is gone here too. It carries a checksum, and the number of the last purge that was
// known when it was asked for.
//
// # Purges
//
// Purges are numbered rules in one sorted set of Redis, of which the newest rulesMax
// stay. Every gateway reads what is new every pollEvery and applies it to its memory; an
// entry from Redis is held against all rules since its own number. Where that cannot be
// told, since rules were dropped meanwhile or Redis has lost them, the entry is not
// believed, and memory that may have missed a rule is purged as a whole. A rule that
// Redis cannot take waits until it can. Safe for concurrent use.
type tier struct {
	client sharer
	shelf  *shelf
	space  string

	queue    chan *share
	queued   atomic.Int64 // bytes
	kick     chan struct{}
	flushing sync.Mutex

	mu        sync.Mutex
	epoch     string     // of the rules; empty until they have been read
	seq       int64      // of the last rule read
	applied   int64      // of the last rule that the memory knows
	polled    int64      // pipeline.Now() of the last success
	history   []numbered // the last ones up to seq, without a gap
	pending   []string   // rules that Redis does not have yet
	overflows int        // how often they were too many
	own       []ownRule  // rules of this gateway that have not been read back

	hits, misses, errors, dropped, rules pipeline.ShardedCounter

	stop func()
	quit chan struct{}
	work sync.WaitGroup
}

// sharer is what a tier needs of a Redis.
type sharer interface {
	Get(ctx context.Context, key string, dst []byte) (value []byte, found bool, err error)
	Set(ctx context.Context, key string, value []byte, ttl time.Duration) error
	Run(ctx context.Context, script string, keys, args []string) ([]int64, error)
	RunStrings(ctx context.Context, script string, keys, args []string) ([]string, error)
	Every(period time.Duration, f func(ctx context.Context) error) (stop func())
}

const (
	// lookMax is how long a request may wait for Redis.
	lookMax = 50 * time.Millisecond
	// shareBytesMax is the largest entry that goes to Redis.
	shareBytesMax = 1 << 20
	// queueMax and queueBytesMax bound the entries on their way.
	queueMax      = 1024
	queueBytesMax = 32 << 20
	// writers is how many entries are written at a time.
	writers = 2
	// pollEvery is how often the purges of other gateways are read.
	pollEvery = 100 * time.Millisecond
	// believed is how long entries of Redis are believed after purges were read last.
	believed = 2 * time.Second
	// rulesMax is how many purges are remembered.
	rulesMax = 4096
	// pendingMax is how many wait for Redis; more become a purge of everything.
	pendingMax = 1024
)

func newTier(client sharer, s *shelf) *tier {
	t := &tier{client: client, shelf: s, space: fmt.Sprintf("%d:%s", headFormat, s.name), queue: make(chan *share, queueMax), kick: make(chan struct{}, 1), quit: make(chan struct{})}
	s.connect(t)
	for range writers {
		t.work.Go(t.write)
	}
	t.work.Go(t.announce)
	t.stop = client.Every(pollEvery, t.poll)
	return t
}

// Close implements io.Closer. It waits for what is under way; entries still in the queue
// are dropped.
func (t *tier) Close() error {
	t.shelf.disconnect(t)
	t.stop()
	close(t.quit)
	t.work.Wait()
	return nil
}

// name is where Redis has an entry: by as much of its digest as every client is shown.
func (t *tier) name(key []byte) string {
	d := digest(key)
	return t.nameOf(d[:entryBytes])
}

func (t *tier) nameOf(digest []byte) string {
	return "sluice:cache:" + t.space + ":" + hex.EncodeToString(digest)
}

// look brings the entry of a key from Redis into the memory and reports whether it did.
func (t *tier) look(key []byte) bool {
	found := t.fetch(t.name(key))
	return bytes.Equal(found, key) && len(found) > 0
}

// fetch brings what Redis has under a name into the memory and returns its key, nil if
// there is nothing that may be used.
func (t *tier) fetch(name string) (key []byte) {
	if _, ok := t.now(); !ok {
		return nil
	}
	born := t.shelf.store.Seq()
	ctx, cancel := context.WithTimeout(context.Background(), lookMax)
	defer cancel()
	value, found, err := t.client.Get(ctx, name, nil)
	switch {
	case err != nil:
		t.errors.Add(0, 1)
		return nil
	case !found:
		t.misses.Add(0, 1)
		return nil
	}
	e, ok := readShare(value)
	now := t.shelf.now()
	if !ok || e.put.Expires <= now {
		t.errors.Add(0, 1)
		return nil
	}
	gone, soft := t.verdictOf(e.moment, e.put.Labels)
	var h head
	if gone || !h.read(e.put.Head) {
		t.misses.Add(0, 1)
		return nil
	}
	if soft {
		h.flags |= flagStale
		e.put.Head = h.append(nil)
	}
	e.put.Born = born
	if t.shelf.store.Set(&e.put, e.body, now) != nil {
		return nil
	}
	t.hits.Add(0, 1)
	return e.put.Key
}

// give puts an entry into the queue for Redis. body is copied.
func (t *tier) give(p *cache.Put, m moment, body []byte) {
	life := time.Duration(p.Expires-t.shelf.now()) * time.Millisecond
	size := int64(len(p.Head) + len(body))
	if m.epoch == "" || life <= 0 || size > shareBytesMax || t.queued.Load()+size > queueBytesMax {
		t.dropped.Add(0, 1)
		return
	}
	e := &share{key: t.name(p.Key), value: writeShare(p, m, body), life: life}
	t.queued.Add(int64(len(e.value)))
	select {
	case t.queue <- e:
	default:
		t.queued.Add(-int64(len(e.value)))
		t.dropped.Add(0, 1)
	}
}

// giveStored is give for an entry whose body is in the memory only.
func (t *tier) giveStored(p *cache.Put, m moment) {
	var v cache.View
	if !t.shelf.store.Peek(p.Key, t.shelf.now(), &v) {
		return
	}
	defer v.Close()
	if v.Size > shareBytesMax || !bytes.Equal(v.Head, p.Head) { // or another answer by now
		t.dropped.Add(0, 1)
		return
	}
	body := make([]byte, v.Size)
	if _, err := v.ReadAt(body, 0); err == nil || err == io.EOF {
		t.give(p, m, body)
	}
}

// write writes entries until the tier is closed.
func (t *tier) write() {
	for {
		select {
		case <-t.quit:
			return
		case e := <-t.queue:
			if t.client.Set(context.Background(), e.key, e.value, e.life) != nil {
				t.dropped.Add(0, 1)
			}
			t.queued.Add(-int64(len(e.value)))
		}
	}
}

// Expose implements pipeline.Exposer.
func (t *tier) Expose(w io.Writer) {
	name := t.shelf.name
	for _, c := range [...]struct {
		metric string
		n      *pipeline.ShardedCounter
	}{
		{"redis_hits_total", &t.hits}, {"redis_misses_total", &t.misses}, {"redis_errors_total", &t.errors},
		{"redis_dropped_total", &t.dropped}, {"redis_purges_total", &t.rules},
	} {
		_, _ = fmt.Fprintf(w, "sluice_cache_%s{cache=%q} %d\n", c.metric, name, c.n.Load())
	}
	_, _ = fmt.Fprintf(w, "sluice_cache_redis_queue_bytes{cache=%q} %d\n", name, t.queued.Load())
}
