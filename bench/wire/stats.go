package main

import "slices"

// median returns the middle value, or the mean of the two middle ones. It panics
// on an empty slice: there is no round without a measurement.
func median(values []float64) float64 {
	if len(values) == 0 {
		panic("BUG: median of nothing")
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// medianRatio returns the median of values[i]/floor[i]: the ratio is taken within a
// round, where both met the same machine, and only then summarised.
func medianRatio(values, floor []float64) float64 {
	if len(values) != len(floor) {
		panic("BUG: ratio of different rounds")
	}
	ratios := make([]float64, len(values))
	for i := range values {
		ratios[i] = values[i] / floor[i]
	}
	return median(ratios)
}
