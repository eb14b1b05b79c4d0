package redis

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

// lane answers calls of a track until the client is closed, all that wait as one
// pipeline.
func (c *Client) lane(t *track, queue chan *call) {
	batch := make([]*call, 0, t.callsMax)
	presumed := presumedFirst // how long an answer will be
	for {
		select {
		case k := <-queue:
			batch = append(batch, k)
		case <-c.ctx.Done():
			return
		}
		var held int
		batch, held = t.gather(batch, queue, presumed)
		longest := c.send(t, batch)
		presumed = max(longest, presumed-presumed/8, presumedMin)
		if held > 0 {
			t.held.Add(int64(-held))
		}
		clear(batch)
		batch = batch[:0]
	}
}

// gather adds to a batch of one call those that wait and fit with it, and returns how
// many bytes are to be stored by all of them.
func (t *track) gather(batch []*call, queue <-chan *call, presumed int) (_ []*call, held int) {
	k, weight := batch[0], 0
	for {
		if k.verb != runs {
			held += k.bytes
			weight += k.bytes
			if k.verb == gets || k.verb == runsStrings {
				weight += presumed
			}
		}
		if len(batch) == t.callsMax || weight >= ValueMax {
			return batch, held
		}
		select {
		case k = <-queue:
			batch = append(batch, k)
		default:
			return batch, held
		}
	}
}

// patience is the least time a pipeline gets: callers with less of it leave alone
// and do not take the connection with them.
const patience = 50 * time.Millisecond

// send sends a batch as one pipeline and finishes its calls. It returns the length of
// the longest answer.
func (c *Client) send(t *track, batch []*call) (longest int) {
	now := time.Now()
	deadline := now.Add(min(patience, c.settings.ReadTimeout))
	if t.values {
		// A value that is cut off half way would have to be sent once more, over a
		// connection that has to be made first.
		deadline = now.Add(c.settings.ReadTimeout)
	}
	n := 0
	for _, k := range batch {
		if k.state.Load() == abandoned {
			k.settle(false, false)
			k.recycle()
			continue
		}
		if k.deadline.After(deadline) {
			deadline = k.deadline
		}
		batch[n] = k
		n++
	}
	batch = batch[:n]
	if n == 0 {
		return 0
	}
	l := c.live.Load()
	// A link that is being retired is lost: waiting for it would last as long as the
	// slowest pipeline on it.
	if l == nil || !l.use.TryRLock() {
		for _, k := range batch {
			k.settle(false, false)
			k.finish(ErrAway)
		}
		return 0
	}
	defer l.use.RUnlock()
	ctx, cancel := context.WithDeadline(c.ctx, deadline)
	defer cancel()
	client, err := c.clientOf(l, t)
	if err != nil {
		kind, _ := classify(err)
		for _, k := range batch {
			k.settle(false, true)
			k.finish(faultErrors[kind])
		}
		c.probe(l)
		return 0
	}
	results := c.ask(ctx, client, batch)
	t.seconds.Update(time.Since(now).Seconds())
	broken := false
	for i, k := range batch {
		bytes, cut := c.finish(l, k, &results[i])
		longest = max(longest, bytes)
		broken = broken || cut
	}
	if broken {
		c.probe(l)
	}
	return longest
}

// ask sends calls as one pipeline. Scripts are run by their hashes, and those that
// Redis does not have once more by their sources, with which it has them.
func (c *Client) ask(ctx context.Context, client rueidis.Client, batch []*call) []rueidis.RedisResult {
	commands := make([]rueidis.Completed, len(batch))
	for i, k := range batch {
		commands[i] = c.command(client.B(), k)
	}
	if batch[0].verb != runs {
		for _, k := range batch {
			if k.verb == gets {
				commands = append(commands, client.B().Exists().Key(k.keys...).Build())
			}
		}
	}
	results := client.DoMulti(ctx, commands...)
	var again []int
	exists := len(batch)
	for i, k := range batch {
		if k.verb == gets {
			if unsure(&results[i], &results[exists]) {
				again = append(again, i)
			}
			exists++
		} else if err := results[i].Error(); err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT") {
			again = append(again, i)
		}
	}
	if again == nil {
		return results
	}
	// Slow path: a Redis that has been restarted, or told to forget its scripts; or a
	// value that is empty.
	commands = make([]rueidis.Completed, len(again))
	loads := false
	for n, i := range again {
		k := batch[i]
		k.again = true
		if k.verb == gets {
			commands[n] = client.B().Get().Key(k.keys[0]).Build()
			continue
		}
		loads = true
		commands[n] = client.B().Eval().Script(k.script).Numkeys(int64(len(k.keys))).Key(k.keys...).Arg(k.args...).Build()
	}
	if loads {
		c.meters.loads.Inc()
	}
	for n, r := range client.DoMulti(ctx, commands...) {
		results[again[n]] = r
	}
	return results
}

// command is a call in the words of Redis. A Get asks for a range, so that no more
// than ValueMax is ever sent and held, whoever stored it.
func (c *Client) command(b rueidis.Builder, k *call) rueidis.Completed {
	switch k.verb {
	case gets:
		return b.Getrange().Key(k.keys[0]).Start(0).End(ValueMax).Build()
	case sets:
		return b.Set().Key(k.keys[0]).Value(k.value).PxMilliseconds(k.ttl).Build()
	case deletes:
		return b.Unlink().Key(k.keys...).Build()
	default:
		return b.Evalsha().Sha1(c.hash(k.script)).Numkeys(int64(len(k.keys))).Key(k.keys...).Arg(k.args...).Build()
	}
}

// unsure reports whether a Get has to be asked once more: a range of nothing is empty
// like one of an empty value, and what EXISTS said a moment later tells them apart
// only where there was still nothing.
func unsure(value, exists *rueidis.RedisResult) bool {
	if text, err := value.ToString(); err != nil || text != "" {
		return false
	}
	n, err := exists.ToInt64()
	return err != nil || n != 0
}

// hash returns the name that Redis has for a script.
func (c *Client) hash(script string) string {
	if h, ok := c.hashes.Load(script); ok {
		return h.(string)
	}
	sum := sha1.Sum([]byte(script))
	h := hex.EncodeToString(sum[:])
	c.hashes.Store(script, h)
	return h
}

// finish reads one result. It returns how long it is, and whether the connection broke
// under a value.
func (c *Client) finish(l *link, k *call, r *rueidis.RedisResult) (bytes int, cut bool) {
	err := k.hear(r)
	if err == nil || err == ErrTooLarge {
		if !l.proven.Load() {
			l.proven.Store(true)
		}
		k.settle(true, false)
		if k.verb != runs {
			bytes = k.size()
		}
		k.finish(err)
		return bytes, false
	}
	kind, gone := classify(err)
	k.settle(!gone, gone)
	if gone {
		if _, said := rueidis.IsRedisErr(err); said || k.verb == runs {
			c.lose(l, describe(kind, err))
		} else {
			cut = true
		}
	}
	if kind == faultAnswer || kind == faultRefused {
		err = describe(kind, err)
	} else {
		err = faultErrors[kind]
	}
	k.finish(err)
	return 0, cut
}

// probe finds out whether Redis is there after the connection broke under a value: that
// was too slow for its time, or more than Redis takes, or Redis is gone. Only then do
// scripts suffer from it.
func (c *Client) probe(l *link) {
	if c.live.Load() != l {
		return
	}
	if err := c.greet(l); err != nil {
		kind, _ := classify(err)
		c.lose(l, describe(kind, err))
	}
}
