package main

import (
	"math"
	"testing"
)

func TestMedian(t *testing.T) {
	f := func(want float64, values ...float64) {
		t.Helper()
		if got := median(values); got != want {
			t.Errorf("median(%v): got %v, want %v", values, got, want)
		}
	}
	f(3, 3)
	f(2, 3, 1)
	f(2, 9, 1, 2)
	f(2.5, 4, 1, 3, 2)

	values := []float64{3, 1, 2}
	median(values)
	if values[0] != 3 {
		t.Errorf("median reordered its argument: %v", values)
	}
}

func TestMedianRatio(t *testing.T) {
	// Rounds on a machine that slows down: the ratio within each round is 1.5.
	if got := medianRatio([]float64{15, 30, 60}, []float64{10, 20, 40}); got != 1.5 {
		t.Errorf("got %v, want 1.5", got)
	}
	// The median of ratios, not the ratio of medians (that would be 20/10).
	if got := medianRatio([]float64{10, 20, 90}, []float64{10, 5, 30}); math.Abs(got-3) > 1e-12 {
		t.Errorf("got %v, want 3", got)
	}
}
