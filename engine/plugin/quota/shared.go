package quota

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"sync"

	"github.com/sluice-gateway/sluice/limiter"
)

// shared counts in Redis: what the nodes of a gateway admit together is exact. Safe for
// concurrent use.
//
// A period of a caller is a key, named by the caller and its start, which expires with
// the period. All keys of a caller have the same hash tag and lie in one slot of a
// cluster. With anniversaries one more key holds the caller's first use.
type shared struct {
	store     limiter.Scripter
	prefix    string
	calendars []limiter.Calendar
	forever   bool // some begin with the first use
	heard     *heard
}

func newShared(store limiter.Scripter, id string, calendars []limiter.Calendar, h *heard) *shared {
	s := &shared{store: store, prefix: "sluice:quota:" + plain(id) + ":{", calendars: calendars, heard: h}
	for i := range calendars {
		s.forever = s.forever || calendars[i].ResetOn == limiter.Anniversary
	}
	return s
}

// graceMax is how much longer than a period its key lives, in seconds, for nodes whose
// clocks are behind.
const graceMax = 3600

// takeScript counts one event in every key if all limits admit it. ARGV are a limit and
// a time to live for each key. It answers 1 or 0, then what each key holds.
const takeScript = `
local stored = redis.call('MGET', unpack(KEYS))
local answer = {1}
for i = 1, #KEYS do
  local used = tonumber(stored[i] or 0)
  answer[i + 1] = used
  if used >= tonumber(ARGV[2 * i - 1]) then
    answer[1] = 0
  end
end
if answer[1] == 1 then
  for i, key in ipairs(KEYS) do
    answer[i + 1] = redis.call('INCR', key)
    if not stored[i] then
      redis.call('EXPIRE', key, ARGV[2 * i])
    end
  end
end
return answer
`

// refundScript takes one event back from every key that is still there.
const refundScript = `
for _, key in ipairs(KEYS) do
  if tonumber(redis.call('GET', key) or 0) > 0 then
    redis.call('DECR', key)
  end
end
return {1}
`

// firstScript answers the first use of a caller, which is ARGV[1] if there was none.
const firstScript = `
redis.call('SET', KEYS[1], ARGV[1], 'NX')
redis.call('EXPIRE', KEYS[1], ARGV[2])
return {tonumber(redis.call('GET', KEYS[1]))}
`

// firstLife is how long a first use is remembered after a node has asked for it last, in
// seconds: two years and some.
const firstLife = 800 * 86400

var errAnswer = errors.New("quota: Redis gave another number of counts than asked for")

func (s *shared) take(r *reservation) (bool, error) {
	tag := s.prefix + kindNames[r.kind] + "/" + plain(r.id) + "}:"
	first := r.now
	if s.forever {
		var err error
		if first, err = s.firstUse(tag, r.now); err != nil {
			return false, err
		}
	}
	args := make([]string, 0, 2*len(s.calendars))
	for i, c := range s.calendars {
		start := c.Start(r.now, first)
		r.ends[i] = c.End(r.now, first)
		r.keys = append(r.keys, tag+c.Period.String()+":"+strconv.FormatInt(start, 10))
		life := r.ends[i] - r.now + min(c.Period.Seconds(), graceMax)
		args = append(args, strconv.FormatInt(r.limits[i], 10), strconv.FormatInt(life, 10))
	}
	answer, err := s.store.Run(context.Background(), takeScript, r.keys, args)
	if err != nil {
		return false, err
	}
	if len(answer) != 1+len(s.calendars) {
		return false, errAnswer
	}
	copy(r.used[:], answer[1:])
	if r.kind == byConsumer {
		last := len(s.calendars) - 1
		s.heard.note(r.id, record{r.used[last], r.ends[last]})
	}
	return answer[0] == 1, nil
}

// refund gives up where Redis does not answer: the caller has used one more then.
func (s *shared) refund(r *reservation) {
	if _, err := s.store.Run(context.Background(), refundScript, r.keys, nil); err != nil {
		r.book.storeErrors.Add(0, 1)
	}
}

func (s *shared) firstUse(tag string, now int64) (int64, error) {
	key := tag + "first"
	if first, ok := s.heard.first(key); ok {
		return first, nil
	}
	answer, err := s.store.Run(context.Background(), firstScript, []string{key}, []string{strconv.FormatInt(now, 10), strconv.Itoa(firstLife)})
	if err != nil {
		return 0, err
	}
	if len(answer) != 1 {
		return 0, errAnswer
	}
	s.heard.noteFirst(key, answer[0])
	return answer[0], nil
}

// plain returns name as a part of a key: as it is if short and of harmless characters,
// else a digest of it, so that no name can end a hash tag.
func plain(name string) string {
	const plainMax = 64
	harmless := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.' || c == ':'
	}
	if len(name) > 0 && len(name) <= plainMax && strings.IndexFunc(name, func(c rune) bool { return !harmless(c) }) < 0 {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return "#" + hex.EncodeToString(sum[:16])
}

// heard is what this node has last heard from Redis: use by consumer, for reports, and
// first uses. Safe for concurrent use.
type heard struct {
	mu     sync.Mutex
	used   map[string]record
	firsts map[string]int64
	forgot int64 // when firsts were last forgotten, in seconds since 1970
}

type record struct{ used, end int64 }

const (
	// heardMax bounds each of the two maps.
	heardMax = 1 << 17
	// firstsLife is for how long first uses are believed without asking again, in
	// seconds: asking is what keeps them in Redis.
	firstsLife = 86400
)

func newHeard() *heard { return &heard{used: map[string]record{}, firsts: map[string]int64{}} }

func (h *heard) note(consumer string, r record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, known := h.used[consumer]; known || len(h.used) < heardMax {
		h.used[consumer] = r
	}
}

// usedBy returns what a consumer has used of the period that now lies in.
func (h *heard) usedBy(consumer string, now int64) (r record, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, ok = h.used[consumer]
	return r, ok && now < r.end
}

func (h *heard) first(key string) (int64, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	first, ok := h.firsts[key]
	return first, ok
}

func (h *heard) noteFirst(key string, first int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.firsts) >= heardMax {
		clear(h.firsts)
	}
	h.firsts[key] = first
}

// prune forgets what is over.
func (h *heard) prune(now int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now-h.forgot < firstsLife {
		return
	}
	h.forgot = now
	clear(h.firsts)
	for consumer, r := range h.used {
		if r.end <= now {
			delete(h.used, consumer)
		}
	}
}
