package proxycache

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/goccy/go-json"

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

	mu      sync.Mutex
	epoch   string     // of the rules; empty until they have been read
	seq     int64      // of the last rule read
	applied int64      // of the last rule that the memory knows
	polled  int64      // pipeline.Now() of the last success
	history []numbered // the last ones up to seq, without a gap
	pending []string   // rules that Redis does not have yet
	own     []ownRule  // rules of this gateway that have not been read back

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

// numbered is a purge with its number.
type numbered struct {
	seq  int64
	rule cache.Rule
}

// ownRule is a purge as it was published.
type ownRule struct {
	text string
	rule cache.Rule
}

// share is an entry on its way to Redis.
type share struct {
	key   string
	value []byte
	life  time.Duration
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

// pollScript answers the epoch, the number of the last purge and the purges after
// ARGV[1], oldest first. ARGV[2] is the epoch if there is none yet.
const pollScript = `
local epoch = redis.call('GET', KEYS[1])
if not epoch then
  epoch = ARGV[2]
  redis.call('SET', KEYS[1], epoch)
  redis.call('DEL', KEYS[2], KEYS[3])
end
local answer = {epoch, redis.call('GET', KEYS[2]) or '0'}
for _, rule in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. ARGV[1], '+inf')) do
  answer[#answer + 1] = rule
end
return answer
`

// publishScript numbers a purge and keeps it with the newest ARGV[2].
const publishScript = `
local n = redis.call('INCR', KEYS[2])
redis.call('ZADD', KEYS[3], n, n .. ' ' .. ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - tonumber(ARGV[2]))
return {n}
`

// keys are those of the purges: one slot of a cluster.
func (t *tier) keys() []string {
	tag := "sluice:cache:{" + t.space + "}:"
	return []string{tag + "epoch", tag + "seq", tag + "purges"}
}

// name is where Redis has an entry: by as much of its digest as every client is shown.
func (t *tier) name(key []byte) string {
	d := digest(key)
	return t.nameOf(d[:entryBytes])
}

func (t *tier) nameOf(digest []byte) string {
	return "sluice:cache:" + t.space + ":" + hex.EncodeToString(digest)
}

// everything is the text of a rule without conditions.
const everything = "{}"

// publish puts a purge among those that Redis is to have. It waits for nothing.
func (t *tier) publish(r cache.Rule) {
	text, err := json.Marshal(r)
	if err != nil {
		panic("BUG: a rule does not marshal: " + err.Error())
	}
	t.mu.Lock()
	t.pending, t.own = append(t.pending, string(text)), append(t.own, ownRule{string(text), r})
	if len(t.pending) > pendingMax {
		t.pending, t.own = []string{everything}, []ownRule{{text: everything}}
	}
	t.mu.Unlock()
	select {
	case t.kick <- struct{}{}:
	default:
	}
}

// announce gives Redis purges as they come, until the tier is closed. What it cannot, the
// next poll does.
func (t *tier) announce() {
	for {
		select {
		case <-t.quit:
			return
		case <-t.kick:
			ctx, cancel := context.WithTimeout(context.Background(), lookMax)
			_ = t.flush(ctx)
			cancel()
		}
	}
}

// flush gives Redis the purges that wait, in their order.
func (t *tier) flush(ctx context.Context) error {
	t.flushing.Lock()
	defer t.flushing.Unlock()
	for {
		t.mu.Lock()
		if len(t.pending) == 0 {
			t.mu.Unlock()
			return nil
		}
		text := t.pending[0]
		t.mu.Unlock()
		if _, err := t.client.Run(ctx, publishScript, t.keys(), []string{text, strconv.Itoa(rulesMax)}); err != nil {
			return err
		}
		t.mu.Lock()
		if t.pending[0] == text { // else they have become everything meanwhile
			t.pending = t.pending[1:]
		}
		t.mu.Unlock()
	}
}

// poll reads the purges of all gateways and applies what is new.
func (t *tier) poll(ctx context.Context) error {
	if err := t.flush(ctx); err != nil {
		return err
	}
	t.mu.Lock()
	last := t.seq
	t.mu.Unlock()
	now := pipeline.Now()
	answer, err := t.client.RunStrings(ctx, pollScript, t.keys(), []string{strconv.FormatInt(last, 10), rand.Text()})
	if err != nil {
		return err
	}
	if len(answer) < 2 {
		return errPoll
	}
	seq, err := strconv.ParseInt(answer[1], 10, 64)
	if err != nil {
		return errPoll
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.epoch != answer[0] && !t.begin(answer[0], seq) {
		return nil // what was read is not from the beginning: the next poll's is
	}
	t.apply(seq, answer[2:])
	t.polled = now
	return nil
}

var errPoll = errors.New("cache: Redis gave no purges")

// begin takes in that the purges are numbered anew: by another Redis, by one that has
// lost them, or at the start. It reports whether what was read is from the beginning.
func (t *tier) begin(epoch string, seq int64) bool {
	starts := t.epoch == ""
	applied, known := t.remembered(epoch)
	if !known {
		applied = seq
		if !starts || t.shelf.recovered {
			t.purgeAll() // purges may have been missed
		}
	}
	t.epoch, t.seq, t.applied, t.history = epoch, 0, applied, nil
	t.own = slices.DeleteFunc(t.own, func(o ownRule) bool { return !slices.Contains(t.pending, o.text) })
	return starts
}

// apply takes in the purges after t.seq, of which rules are those that Redis still has.
func (t *tier) apply(seq int64, rules []string) {
	before := seq - int64(len(rules)) // the last one that is not among them
	if before > t.seq {
		t.history = nil // they must follow one another
	}
	if before > t.applied {
		t.purgeAll() // some were dropped before we had read them
		t.applied = seq
	}
	for _, text := range rules {
		number, body, _ := strings.Cut(text, " ")
		n, err := strconv.ParseInt(number, 10, 64)
		var rule cache.Rule
		if err != nil || json.Unmarshal([]byte(body), &rule) != nil {
			n, rule = seq, cache.Rule{} // of a newer gateway perhaps: better too much
		}
		if n > t.applied {
			t.shelf.store.Purge(rule)
			t.rules.Add(0, 1)
			t.shelf.unswept.Store(true)
		}
		t.history = append(t.history, numbered{n, rule})
		if i := slices.IndexFunc(t.own, func(o ownRule) bool { return o.text == body }); i >= 0 {
			t.own = slices.Delete(t.own, i, i+1)
		}
	}
	if extra := len(t.history) - rulesMax; extra > 0 {
		t.history = append(t.history[:0], t.history[extra:]...)
	}
	if t.seq = seq; len(rules) > 0 || seq > t.applied {
		t.applied = max(t.applied, seq)
		t.remember()
	}
}

func (t *tier) purgeAll() {
	t.shelf.store.Purge(cache.Rule{})
	t.shelf.unswept.Store(true)
}

// tierKey is where the memory notes which purges it has seen: for one that is kept over
// restarts. No request has this key.
var tierKey = []byte("\x00purges")

const tierLife = 1000 * 365 * 24 * 3600 * 1000 // milliseconds

func (t *tier) remember() {
	note := strconv.AppendInt([]byte(t.epoch+" "), t.applied, 10)
	_ = t.shelf.store.Set(&cache.Put{Key: tierKey, Expires: t.shelf.now() + tierLife, Born: t.shelf.store.Seq()}, note, t.shelf.now())
}

// remembered returns the last purge of epoch that the memory has seen.
func (t *tier) remembered(epoch string) (seq int64, known bool) {
	var v cache.View
	if !t.shelf.store.Peek(tierKey, t.shelf.now(), &v) {
		return 0, false
	}
	defer v.Close()
	of, number, _ := strings.Cut(string(v.Body), " ")
	seq, err := strconv.ParseInt(number, 10, 64)
	return seq, err == nil && of == epoch
}

// moment is when something was asked for, in the count of purges.
type moment struct {
	epoch string
	seq   int64
}

// now returns the moment that a fetch begins, and whether it can be told.
func (t *tier) now() (moment, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return moment{t.epoch, t.seq}, t.epoch != "" && pipeline.Now()-t.polled < int64(believed)
}

// verdictOf says what the purges since m have made of an entry with labels.
func (t *tier) verdictOf(m moment, labels []uint32) (gone, soft bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m.epoch != t.epoch || m.seq < t.seq-int64(len(t.history)) {
		return true, false
	}
	weigh := func(r *cache.Rule) {
		if matches(r, labels) {
			gone, soft = gone || !r.Soft, soft || r.Soft
		}
	}
	for i := range t.history {
		if t.history[i].seq > m.seq {
			weigh(&t.history[i].rule)
		}
	}
	for i := range t.own {
		weigh(&t.own[i].rule)
	}
	return gone, soft
}

func matches(r *cache.Rule, labels []uint32) bool {
	for _, group := range r.Groups {
		found := false
		for _, g := range group {
			for _, l := range labels {
				found = found || g == l
			}
		}
		if !found {
			return false
		}
	}
	return true
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
	e := &share{key: t.name(p.Key), value: appendShare(nil, p, m, body), life: life}
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
	if v.Size > shareBytesMax {
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

// shared is an entry as Redis has it.
type shared struct {
	put    cache.Put
	moment moment
	body   []byte
}

const shareFormat = 1

// appendShare appends an entry as bytes, the checksum first.
func appendShare(dst []byte, p *cache.Put, m moment, body []byte) []byte {
	le := binary.LittleEndian
	start := len(dst)
	dst = append(le.AppendUint64(dst, 0), shareFormat, byte(len(m.epoch)), byte(len(p.Labels)), 0)
	dst = le.AppendUint32(dst, uint32(len(p.Head))) //nolint:gosec // G115: bounded by the store
	dst = le.AppendUint32(dst, uint32(len(p.Key)))  //nolint:gosec // G115: bounded by the store
	dst = le.AppendUint64(dst, uint64(m.seq))       //nolint:gosec // G115: counts up from 0
	dst = le.AppendUint64(dst, uint64(p.Expires))   //nolint:gosec // G115: after 1970
	dst = append(dst, m.epoch...)
	for _, l := range p.Labels {
		dst = le.AppendUint32(dst, l)
	}
	dst = append(append(append(dst, p.Key...), p.Head...), body...)
	le.PutUint64(dst[start:], xxhash.Sum64(dst[start+8:]))
	return dst
}

// readShare reads what appendShare wrote; head and body lie in b.
func readShare(b []byte) (e shared, ok bool) {
	const fixed = 8 + 4 + 2*4 + 2*8
	le := binary.LittleEndian
	if len(b) < fixed || b[8] != shareFormat || le.Uint64(b) != xxhash.Sum64(b[8:]) {
		return e, false
	}
	epochLen, labels, headLen, keyLen := int(b[9]), int(b[10]), int64(le.Uint32(b[12:])), int64(le.Uint32(b[16:]))
	e.moment.seq, e.put.Expires = int64(le.Uint64(b[20:])), int64(le.Uint64(b[28:])) //nolint:gosec // G115: as written
	rest := b[fixed:]
	if int64(epochLen+4*labels)+headLen+keyLen > int64(len(rest)) {
		return e, false
	}
	e.moment.epoch, rest = string(rest[:epochLen]), rest[epochLen:]
	for range labels {
		e.put.Labels, rest = append(e.put.Labels, le.Uint32(rest)), rest[4:]
	}
	e.put.Key, rest = rest[:keyLen], rest[keyLen:]
	e.put.Head, e.body = rest[:headLen], rest[headLen:]
	return e, true
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
		fmt.Fprintf(w, "sluice_cache_%s{cache=%q} %d\n", c.metric, name, c.n.Load())
	}
	fmt.Fprintf(w, "sluice_cache_redis_queue_bytes{cache=%q} %d\n", name, t.queued.Load())
}
