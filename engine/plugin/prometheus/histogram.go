package prometheus

import (
	"strconv"
	"sync/atomic"
	"time"
)

// bucketsMax is the size of the largest set of buckets, with +Inf.
const bucketsMax = 18

// The latencies of a request that are observed.
const (
	latencyRequest = iota
	latencyUpstream
	latencyKong
	latencies
)

// histogramsTail are the counts of all buckets but the first ones, which are in
// hot. They are not cumulative; the one after the last bound is +Inf.
type histogramsTail [latencies][bucketsMax - 1]atomic.Uint64

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

// observe adds one duration to one of the histograms: a short search and two
// atomic additions. It returns the bucket after the first that counts it, less
// one, or -1: that one is not in h.
func (h *hot) observe(latency int, b *bounds, nanos int64) (late int) {
	h.micros[latency].Add(nanos / int64(time.Microsecond))
	if nanos <= b.nanos[0] { // Fast path
		h.first[latency].Add(1)
		return -1
	}
	i := 1
	for i < len(b.nanos) && nanos > b.nanos[i] {
		i++
	}
	return i - 1
}

// totals is a histogram as it is written: a sum of shards.
type totals struct {
	counts [bucketsMax]uint64
	micros int64
}

func (t *totals) addHot(h *hot, latency int) {
	t.counts[0] += h.first[latency].Load()
	t.micros += h.micros[latency].Load()
}

func (t *totals) add(s *shard, latency int) {
	for i := range s.late[latency] {
		t.counts[i+1] += s.late[latency][i].Load()
	}
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
