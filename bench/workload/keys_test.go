package workload

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestKeys(t *testing.T) {
	next := -1
	k := NewEntryKeys(100, func() int { next++; return next })
	for _, i := range []int{0, 7, k.Mask()} {
		want := string(AppendEntryKey(nil, i))
		if got := string(k.At(i)); got != want || k.TextAt(i) != want || k.TextAt(i+k.Mask()+1) != want || len(want) != k.Size() {
			t.Errorf("key %d: got %q and %q, want %q", i, got, k.TextAt(i), want)
		}
	}
	ids := NewIDs(64)
	if a, b := ids.TextAt(0), ids.TextAt(1); len(a) != 36 || a == b || string(ids.At(0)) != a {
		t.Errorf("%q, %q", a, b)
	}
}

// TestZipf draws and counts: number i comes (i+1)^-s times as often as number 0.
func TestZipf(t *testing.T) {
	const s, draws = 0.9, 200_000
	draw, counts := Zipf(rand.New(rand.NewPCG(1, 2)), 50, s), [50]float64{}
	for range draws {
		counts[draw()]++
	}
	for _, i := range []int{1, 9, 49} {
		if got, want := counts[i]/counts[0], math.Pow(float64(i+1), -s); math.Abs(got-want) > 0.1*want+0.002 {
			t.Errorf("number %d comes %.4f times as often as number 0, want %.4f", i, got, want)
		}
	}
}
