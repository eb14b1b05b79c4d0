package trial

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestHistogramAgreesWithSorting(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var a, b Histogram
	var all []time.Duration
	for i := range 20000 {
		d := time.Duration(rng.ExpFloat64() * 1e6)
		all = append(all, d)
		if i%2 == 0 {
			a.Add(d)
		} else {
			b.Add(d)
		}
	}
	a.Merge(&b)
	slices.Sort(all)
	if a.Total() != uint64(len(all)) || a.Max() != all[len(all)-1] {
		t.Errorf("total %d, max %s", a.Total(), a.Max())
	}
	for _, q := range []float64{0.0001, 0.5, 0.95, 0.99, 0.999, 1} {
		want := all[max(0, int(q*float64(len(all)))-1)]
		if got := a.Quantile(q); got < want || float64(got) > float64(want)*(1+1.0/subBuckets)+1 {
			t.Errorf("quantile %g: %s, sorted: %s", q, got, want)
		}
	}
}

// TestBuckets walks the values: buckets follow each other, and each holds what it says.
func TestBuckets(t *testing.T) {
	last := -1
	for _, v := range []time.Duration{0, 1, 127, 128, 255, 256, 257, 511, 512, 1 << 20, 1<<20 + 1<<13, valueMax - 1, valueMax, valueMax + 1, 1 << 60} {
		i := bucketOf(v)
		if i < last || i >= len(Histogram{}.counts) {
			t.Fatalf("%d: bucket %d after %d of %d", v, i, last, len(Histogram{}.counts))
		}
		last = i
		if upper := upperOf(i); v <= valueMax && (upper < v || i > 0 && upperOf(i-1) >= v) {
			t.Errorf("%d is not within bucket %d, from above %d to %d", v, i, upperOf(i-1), upper)
		}
	}
	var h Histogram
	h.Add(-5)
	h.Add(time.Hour * 100)
	if h.Quantile(0.1) != 0 || h.Quantile(1) > 100*time.Hour || (&Histogram{}).Quantile(0.5) != 0 {
		t.Errorf("%s, %s", h.Quantile(0.1), h.Quantile(1))
	}
}
