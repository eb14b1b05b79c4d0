package trial

import (
	"math/bits"
	"time"
)

const (
	// subBits is how many bits below the highest one tell buckets apart: a value is
	// known to 1 part in 128.
	subBits    = 7
	subBuckets = 1 << subBits
	// valueMax is the longest latency told apart from longer ones: 73 minutes.
	valueMax = 1<<42 - 1
)

// Histogram counts latencies in buckets whose width grows with the value, so that it
// needs 18 KiB for any number of them. Its own code, since this is all of it. The zero
// value is empty. Not safe for concurrent use.
type Histogram struct {
	counts [(42 - subBits + 1) * subBuckets]uint32
	total  uint64
	max    time.Duration
}

// Add counts one latency.
func (h *Histogram) Add(d time.Duration) {
	h.counts[bucketOf(d)]++
	h.total++
	h.max = max(h.max, d)
}

// Merge adds what o has counted.
func (h *Histogram) Merge(o *Histogram) {
	for i, n := range &o.counts {
		h.counts[i] += n
	}
	h.total += o.total
	h.max = max(h.max, o.max)
}

// Total returns how many latencies were counted.
func (h *Histogram) Total() uint64 { return h.total }

// Max returns the longest latency, exactly.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile returns a latency that the share q of all does not exceed, at most 1 part
// in 128 above the smallest such; 0 without any.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.total))
	if float64(rank) < q*float64(h.total) || rank == 0 {
		rank++
	}
	seen := uint64(0)
	for i, n := range &h.counts {
		if seen += uint64(n); seen >= rank && n > 0 {
			return min(upperOf(i), h.max)
		}
	}
	return h.max
}

// bucketOf returns the bucket of d: exact below subBuckets ns, then subBuckets for each
// doubling.
func bucketOf(d time.Duration) int {
	v := uint64(min(max(d, 0), valueMax))
	shift := max(0, bits.Len64(v)-subBits-1)
	return shift*subBuckets + int(v>>shift)
}

// upperOf returns the largest value of a bucket.
func upperOf(i int) time.Duration {
	shift := max(0, i/subBuckets-1)
	return time.Duration((uint64(i-shift*subBuckets)+1)<<shift - 1)
}
