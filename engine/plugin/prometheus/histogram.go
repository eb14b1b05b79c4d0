package prometheus

import (
	"strconv"
	"sync/atomic"
	"time"
)

// bucketsMax is the size of the largest set of buckets, with +Inf.
const bucketsMax = 18

// histogram counts durations in fixed buckets. An observation is a short search
// and two atomic additions; totals are made when it is read. Safe for concurrent
// use; the zero value is empty.
type histogram struct {
	counts [bucketsMax]atomic.Uint64 // not cumulative; the one after the last bound is +Inf
	micros atomic.Int64              // sum of what was observed
}

// bounds are the upper limits of a histogram's buckets.
type bounds struct {
	nanos []int64
	texts []string // milliseconds, as in the le label
}

func newBounds(millis ...int64) *bounds {
	b := &bounds{}
	for _, ms := range millis {
		b.nanos = append(b.nanos, ms*int64(time.Millisecond))
		b.texts = append(b.texts, strconv.FormatInt(ms, 10))
	}
	return b
}

// Kong's buckets, in milliseconds.
var (
	latencyBounds = newBounds(25, 50, 80, 100, 250, 400, 700, 1000, 2000, 5000, 10000, 30000, 60000)
	kongBounds    = newBounds(1, 2, 5, 7, 10, 15, 20, 30, 50, 75, 100, 200, 500, 750, 1000, 3000, 6000)
)

// observe adds one duration. Most requests end in the first buckets, so the
// search goes up from there.
func (h *histogram) observe(b *bounds, nanos int64) {
	i := 0
	for i < len(b.nanos) && nanos > b.nanos[i] {
		i++
	}
	h.counts[i].Add(1)
	h.micros.Add(nanos / int64(time.Microsecond))
}

// totals is a histogram as it is written: a sum of shards.
type totals struct {
	counts [bucketsMax]uint64
	micros int64
}

func (t *totals) add(h *histogram) {
	for i := range h.counts {
		t.counts[i] += h.counts[i].Load()
	}
	t.micros += h.micros.Load()
}

// append writes the samples of one histogram; labels are those all share.
func (t *totals) append(dst []byte, name string, labels []byte, b *bounds) []byte {
	var n uint64
	for i := range len(b.texts) + 1 {
		n += t.counts[i]
		le := "+Inf"
		if i < len(b.texts) {
			le = b.texts[i]
		}
		dst = append(append(append(dst, name...), "_bucket{"...), labels...)
		dst = append(append(append(dst, `,le="`...), le...), `"} `...)
		dst = append(strconv.AppendUint(dst, n, 10), '\n')
	}
	dst = append(append(append(append(dst, name...), "_count{"...), labels...), "} "...)
	dst = append(strconv.AppendUint(dst, n, 10), '\n')
	dst = append(append(append(append(dst, name...), "_sum{"...), labels...), "} "...)
	dst = strconv.AppendFloat(dst, float64(t.micros)/1000, 'f', -1, 64)
	return append(dst, '\n')
}
