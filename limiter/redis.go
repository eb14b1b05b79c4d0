package limiter

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math/bits"
	"strconv"
)

// Scripter runs Lua scripts in a Redis. A script is named by its source. Keys and
// args are not to be changed after the call, also where it failed: it may still be
// on its way.
type Scripter interface {
	// Run runs a script once and returns its integers.
	Run(ctx context.Context, script string, keys, args []string) ([]int64, error)
	// RunMany runs a script once for each element of keys and args, all under
	// way together, and returns what Run would for each.
	RunMany(ctx context.Context, script string, keys, args [][]string) ([][]int64, []error)
}

// Span is one window as a decision sees it.
type Span struct {
	// Start is when the window that the event lies in began, in seconds since 1970:
	// Period.Start of a calendar window, else the last multiple of Size.
	Start int64
	// Size is the length of the window in seconds. A calendar window has its nominal
	// length.
	Size int64
	// Limit is the most that the window may hold.
	Limit int64
	// Sliding adds the previous window by the share of it that is less than Size
	// ago: used = current + previous × (Size − elapsed) / Size, rounded up, with
	// the time that has elapsed since Start in milliseconds.
	Sliding bool
}

// SpanOf returns the span of the calendar window that now lies in, in milliseconds
// since 1970.
func SpanOf(p Period, now, limit int64) Span {
	return Span{Start: p.Start(now / 1000), Size: p.Seconds(), Limit: limit}
}

// SpanEvery returns the span of a window of size seconds that now lies in, in
// milliseconds since 1970.
func SpanEvery(size, now, limit int64) Span {
	now /= 1000
	return Span{Start: now - now%size, Size: size, Limit: limit}
}

// Ask is what one decision asks for.
type Ask struct {
	// Now is the time of the event in milliseconds since 1970.
	Now int64
	// Cost is how much the event counts; with 0 nothing is counted.
	Cost int64
	// Spans are the windows, each of another size. Not kept.
	Spans []Span
	// CountRefused counts the event also where a window refuses it, so that who
	// does not stop asking stays refused.
	CountRefused bool
}

const (
	// SizeMax is the longest window in seconds, 397 days: up to there the sliding
	// formula is exact in the floating point numbers that a script has.
	SizeMax = 1 << 35 / 1000
	// SpansMax is how many windows one decision may have.
	SpansMax = 16
)

// ErrAsk refuses an Ask with no or too many spans, one twice, a span of no or too
// long a size, or a negative cost.
var ErrAsk = errors.New("limiter: impossible windows or cost")

// valid reports whether a is one that a store may be asked.
func (a *Ask) valid() bool {
	if len(a.Spans) == 0 || len(a.Spans) > SpansMax || a.Cost < 0 {
		return false
	}
	for i := range a.Spans {
		s := &a.Spans[i]
		if s.Size < 1 || s.Size > SizeMax || s.Start < 0 {
			return false
		}
		for j := range i {
			if a.Spans[j].Size == s.Size {
				return false
			}
		}
	}
	return true
}

// left is how many milliseconds of the window before the one that began at start are
// less than size ago. Clocks that run behind, and calendar windows longer than their
// nominal size, do not reach out of it.
func left(start, size, now int64) int64 { return min(max(1000*(start+size)-now, 0), 1000*size) }

// slide is what a sliding window holds: the formula in integers, rounded up, which
// admits just what the fraction would.
func slide(current, previous, size, left int64) int64 {
	if previous <= 0 || left <= 0 {
		return current
	}
	hi, lo := bits.Mul64(uint64(previous), uint64(left))
	quotient, rest := bits.Div64(hi, lo, uint64(1000*size))
	if rest != 0 {
		quotient++
	}
	return current + int64(quotient)
}

// Shared counts in Redis: every decision is one script and one round trip, and
// all gateways that share the Redis admit together exactly what one would.
// Safe for concurrent use.
//
// A window is a key, named by the identity, its size and its start, and gone two
// sizes after it was first counted into. All keys of a decision have the identity as
// their hash tag and so lie in one slot of a cluster. Events belong to the window of
// their own time: a gateway whose clock is behind counts into the window it takes
// for the current one.
type Shared struct {
	store  Scripter
	prefix string
}

// NewShared returns counters in store. Those of one name are shared: it stands for
// the plugin instance or the namespace.
func NewShared(store Scripter, name string) *Shared {
	return &Shared{store: store, prefix: "sluice:" + plain(name) + ":{"}
}

// Take asks whether every window admits the event and counts it in all of them if so;
// else in none, or in all where a says so. used receives what each window now holds.
// An error is that of the store; the event may then be counted or not.
func (s *Shared) Take(ctx context.Context, identity string, a *Ask, used []int64) (bool, error) {
	mode := takeMode
	if a.CountRefused {
		mode = penaltyMode
	}
	return s.run(ctx, identity, mode, a, used)
}

// Add counts without asking, for costs that are known only after the fact.
func (s *Shared) Add(ctx context.Context, identity string, a *Ask, used []int64) error {
	_, err := s.run(ctx, identity, addMode, a, used)
	return err
}

// Peek tells what each window holds and whether the event would be admitted, and
// counts nothing.
func (s *Shared) Peek(ctx context.Context, identity string, a *Ask, used []int64) (bool, error) {
	return s.run(ctx, identity, peekMode, a, used)
}

// The modes of the script.
const (
	takeMode    = "take"
	penaltyMode = "penalty"
	addMode     = "add"
	peekMode    = "peek"
)

func (s *Shared) run(ctx context.Context, identity, mode string, a *Ask, used []int64) (bool, error) {
	if !a.valid() {
		return false, ErrAsk
	}
	keys := make([]string, 0, 2*SpansMax)
	args := make([]string, 0, 2+4*SpansMax)
	args = append(args, mode, strconv.FormatInt(a.Cost, 10))
	name := append(append(make([]byte, 0, 128), s.prefix...), plain(identity)...)
	name = append(name, '}')
	for i := range a.Spans {
		p := &a.Spans[i]
		slides := "0"
		keys = append(keys, windowKey(name, p.Size, p.Start))
		if p.Sliding {
			slides = "1"
			keys = append(keys, windowKey(name, p.Size, p.Start-p.Size))
		}
		args = append(args, slides, strconv.FormatInt(p.Limit, 10), strconv.FormatInt(p.Size, 10), strconv.FormatInt(left(p.Start, p.Size, a.Now), 10))
	}
	answer, err := s.store.Run(ctx, sharedScript, keys, args)
	if err != nil {
		return false, err
	}
	if len(answer) != 1+len(a.Spans) {
		return false, errAnswer
	}
	copy(used, answer[1:])
	return answer[0] == 1, nil
}

// errAnswer is a store that does not run the script as it is.
var errAnswer = errors.New("limiter: the store gave another number of counts than asked for")

// windowKey appends size and start to the name of an identity.
func windowKey(name []byte, size, start int64) string {
	b := append(make([]byte, 0, len(name)+32), name...)
	b = strconv.AppendInt(append(b, ':'), size, 10)
	b = strconv.AppendInt(append(b, ':'), start, 10)
	return string(b)
}

// plainMax is the longest name that stands in a key as it is.
const plainMax = 64

// plain returns name as a part of a key: as it is where that is short and of harmless
// characters, else a digest of it, which no plain name equals. So the brace that ends
// a hash tag cannot be smuggled in, and a key has a length that no caller chooses.
func plain(name string) string {
	ok := len(name) > 0 && len(name) <= plainMax
	for i := 0; ok && i < len(name); i++ {
		c := name[i]
		ok = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
			c == '-' || c == '_' || c == '.' || c == ':' || c == '@' || c == '/' || c == '+' || c == '='
	}
	if ok {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return "#" + hex.EncodeToString(sum[:16])
}

// sharedScript decides and counts. KEYS are the current window of each span and,
// where it slides, the previous one. ARGV are the mode, the cost, and for each span
// whether it slides, its limit, its size in seconds and how many milliseconds of the
// previous window count. It answers 1 or 0, then what each window holds.
//
// Numbers are floating point in a script, exact up to 2^53. The sliding formula is
// taken apart so that no product exceeds that: previous into multiples of the size
// and a rest, the milliseconds into multiples of 2^17 and a rest.
const sharedScript = `
local mode, cost = ARGV[1], tonumber(ARGV[2])
local stored = redis.call('MGET', unpack(KEYS))
local answer, ok, k = {1}, true, 1
local current = {}
for i = 3, #ARGV, 4 do
  local limit, size, left = tonumber(ARGV[i + 1]), 1000 * tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  local used = tonumber(stored[k] or 0)
  current[#current + 1] = k
  k = k + 1
  if ARGV[i] == '1' then
    local previous = tonumber(stored[k] or 0)
    local rest = previous % size
    local low = left % 131072
    local high = rest * ((left - low) / 131072)
    local over = high % size
    used = used + (previous - rest) / size * left + (high - over) / size * 131072 + math.ceil((over * 131072 + rest * low) / size)
    k = k + 1
  end
  ok = ok and used + cost <= limit
  answer[#answer + 1] = used
end
if not ok then
  answer[1] = 0
end
if cost > 0 and (mode == 'add' or mode == 'penalty' or mode == 'take' and ok) then
  for n, key in ipairs(current) do
    redis.call('INCRBY', KEYS[key], ARGV[2])
    if not stored[key] then
      redis.call('EXPIRE', KEYS[key], 2 * tonumber(ARGV[4 * n + 1]))
    end
    answer[n + 1] = answer[n + 1] + cost
  end
end
return answer
`
