package limiter

import (
	"context"
	"strconv"
)

// Flush tells Redis what has been counted since it last ran and learns what others
// have, and drops identities whose windows have passed at now, in milliseconds since
// 1970.
// Where it fails the rest is kept for the next. Calls are serialised; each has at most
// chunkMax identities under way.
func (b *Batch) Flush(ctx context.Context, now int64) error {
	b.flush.Lock()
	defer b.flush.Unlock()
	c := chunk{batch: b}
	first := b.swept // so that all have their turn where ctx ends some
	b.sweep(now)
	for i := range b.shards {
		if err := b.flushShard(ctx, &b.shards[(first+i)%batchShards], &c, now); err != nil {
			return err
		}
	}
	return c.send(ctx)
}

// flushShard adds what a shard has to tell to the chunk, sending it when it is full.
func (b *Batch) flushShard(ctx context.Context, s *batchShard, c *chunk, now int64) error {
	for {
		s.mu.Lock()
		for len(s.dirty) > 0 && len(c.entries) < chunkMax {
			t := s.dirty[len(s.dirty)-1]
			s.clean(t)
			if !t.passed(now) {
				c.add(s, t)
			}
		}
		full := len(c.entries) == chunkMax
		s.mu.Unlock()
		if !full {
			return nil
		}
		if err := c.send(ctx); err != nil {
			return err
		}
	}
}

// sweep drops what has passed in a shard, the next one each time.
func (b *Batch) sweep(now int64) {
	s := &b.shards[b.swept]
	b.swept = (b.swept + 1) % batchShards
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tracked {
		if t.passed(now) {
			b.drop(s, t, now)
		}
	}
}

// chunk is what one call of a flush tells and learns.
type chunk struct {
	batch      *Batch
	entries    []entry
	keys, args [][]string
}

// entry is an identity of a chunk with what it tells of each window.
type entry struct {
	shard *batchShard
	t     *tracked
	told  []pane // as they were
}

// add takes in an identity. Its shard's lock is held.
func (c *chunk) add(s *batchShard, t *tracked) {
	b := c.batch
	e := entry{shard: s, t: t, told: append([]pane(nil), t.windows...)}
	name := append(append(make([]byte, 0, 128), b.prefix...), plain(t.identity)...)
	name = append(name, "}s"...)
	field := b.node + "." + strconv.FormatUint(t.life, 36)
	keys, args := make([]string, 0, 2*len(t.windows)), append(make([]string, 0, 1+4*len(t.windows)), field)
	for i := range e.told {
		w := &e.told[i]
		life := strconv.FormatInt(2*w.size, 10)
		keys = append(keys, windowKey(name, w.size, w.start))
		args = append(args, strconv.FormatInt(w.now.own, 10), life)
		if w.sliding {
			keys = append(keys, windowKey(name, w.size, w.start-w.size))
			args = append(args, strconv.FormatInt(w.before.own, 10), life)
		}
	}
	c.entries, c.keys, c.args = append(c.entries, e), append(c.keys, keys), append(c.args, args)
}

// send runs the call and takes in what it says.
func (c *chunk) send(ctx context.Context) error {
	if len(c.entries) == 0 {
		return nil
	}
	answers, errs := c.batch.store.RunMany(ctx, batchScript, c.keys, c.args)
	var first error
	for i := range c.entries {
		e := &c.entries[i]
		err := errs[i]
		if err == nil && !e.learn(answers[i]) {
			err = errAnswer
		}
		if err != nil {
			e.giveBack()
			if first == nil {
				first = err
			}
		}
	}
	c.empty()
	return first
}

func (c *chunk) empty() {
	clear(c.entries)
	clear(c.keys)
	clear(c.args)
	c.entries, c.keys, c.args = c.entries[:0], c.keys[:0], c.args[:0]
}

// giveBack leaves what it tells to the next flush, unless the identity is gone.
func (e *entry) giveBack() {
	e.shard.mu.Lock()
	defer e.shard.mu.Unlock()
	if e.shard.tracked[e.t.key] == e.t {
		e.shard.soil(e.t)
	}
}

// learn takes in the sums of all gateways, unless the windows have turned since.
func (e *entry) learn(sums []int64) bool {
	e.shard.mu.Lock()
	defer e.shard.mu.Unlock()
	n := 0
	for i := range e.told {
		told, w := &e.told[i], &e.t.windows[i]
		if n += 1; told.sliding {
			n++
		}
		if n > len(sums) {
			return false
		}
		sum, before := sums[n-1], int64(0)
		if told.sliding {
			sum, before = sums[n-2], sums[n-1]
		}
		switch w.start {
		case told.start:
			w.now.learn(told.now.own, sum)
			w.before.learn(told.before.own, before)
		case told.start + told.size:
			if told.sliding {
				w.before.learn(told.now.own, sum)
			}
		}
	}
	return n == len(sums)
}

// learn takes in the sum of all, of which told is from here.
func (p *part) learn(told, sum int64) {
	p.others = max(sum-told, 0)
}

// batchScript tells and learns. KEYS are windows. ARGV are the field of this gateway,
// then for each key what it has counted there and for how long the key is kept. It
// answers with the sum of each window. A field never falls, so that a call that comes
// late changes nothing.
const batchScript = `
local field, sums = ARGV[1], {}
for i, key in ipairs(KEYS) do
  local own = tonumber(ARGV[2 * i])
  local stored = redis.call('HMGET', key, field, 'sum')
  local had, sum = tonumber(stored[1] or 0), tonumber(stored[2] or 0)
  if own > had then
    sum = sum + own - had
    redis.call('HSET', key, field, ARGV[2 * i], 'sum', string.format('%.0f', sum))
    if not stored[2] then
      redis.call('EXPIRE', key, ARGV[2 * i + 1])
    end
  end
  sums[i] = sum
end
return sums
`
