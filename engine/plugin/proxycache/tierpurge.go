package proxycache

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-json"

	"github.com/sluice-gateway/sluice/cache"
	"github.com/sluice-gateway/sluice/engine/pipeline"
)

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

// everything is the text of a rule without conditions.
const everything = "{}"

// publish puts a purge among those that Redis is to have. It waits for nothing.
func (t *tier) publish(r cache.Rule) {
	text, err := json.Marshal(r)
	if err != nil {
		panic("BUG: a rule does not marshal: " + err.Error())
	}
	t.mu.Lock()
	if i := slices.Index(t.pending, string(text)); i < 1 { // the first may be on its way already
		t.pending, t.own = append(t.pending, string(text)), append(t.own, ownRule{string(text), r})
	}
	if len(t.pending) > pendingMax {
		t.pending, t.own = []string{everything}, []ownRule{{text: everything}}
		t.overflows++
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
		text, before := t.pending[0], t.overflows
		t.mu.Unlock()
		if _, err := t.client.Run(ctx, publishScript, t.keys(), []string{text, strconv.Itoa(rulesMax)}); err != nil {
			return err
		}
		t.mu.Lock()
		if t.overflows == before { // else they have become everything meanwhile
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
	if (t.epoch != answer[0] || seq < t.seq) && !t.begin(answer[0], seq) {
		t.polled = 0
		return nil // what was read is not from the beginning: the next poll's is
	}
	t.apply(seq, answer[2:])
	t.polled = now
	return nil
}

var errPoll = errors.New("cache: Redis gave no purges")

// begin takes in that the purges are numbered anew: by another Redis, by one that has
// lost them or some of the last (a replica that has become the master), or at the start.
// It reports whether what was read is from the beginning.
func (t *tier) begin(epoch string, seq int64) bool {
	starts := t.epoch == ""
	applied, known := t.remembered(epoch)
	if !known || !starts || applied > seq {
		applied = seq
		t.purgeAll() // purges may have been missed
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
		i := slices.IndexFunc(t.own, func(o ownRule) bool { return o.text == body })
		switch {
		case i >= 0: // in force here since it was published: what was fetched since then stays
			t.own = slices.Delete(t.own, i, i+1)
		case n > t.applied:
			t.shelf.store.Purge(rule)
			t.rules.Add(0, 1)
			t.shelf.unswept.Store(true)
		}
		t.history = append(t.history, numbered{n, rule})
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
	if m.epoch != t.epoch || m.seq > t.seq || m.seq < t.seq-int64(len(t.history)) {
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
