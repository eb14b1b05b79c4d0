// Package stats summarises repeated measurements the way benchstat does: medians, the
// range in which the true median lies, and a rank test that says whether two series
// differ. None of it assumes how the noise is distributed. Everything is safe for
// concurrent use and leaves its arguments as they are.
package stats

import (
	"math"
	"slices"
)

// Median returns the middle value, or the mean of the two middle ones. It panics on
// an empty slice.
func Median(values []float64) float64 { return Quantile(values, 0.5) }

// Quantile returns the value below which the share q, 0 to 1, of values lies, with
// linear interpolation between neighbours. It panics on an empty slice.
func Quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		panic("BUG: a quantile of nothing")
	}
	sorted := slices.Sorted(slices.Values(values))
	at := min(max(q, 0), 1) * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}

// Ratios returns values[i]/floor[i]: a ratio is taken within a round, where both met the
// same machine, and only then summarised. It panics unless both have the same length.
func Ratios(values, floor []float64) []float64 {
	if len(values) != len(floor) {
		panic("BUG: ratios of different rounds")
	}
	out := make([]float64, len(values))
	for i := range values {
		out[i] = values[i] / floor[i]
	}
	return out
}

// Interval returns the range between two of values in which the true median lies with at
// least the given confidence (0 to 1, such as 0.95), by the order statistics of the
// binomial distribution. Too few values for it give the whole range of them.
// It panics on an empty slice.
func Interval(values []float64, confidence float64) (low, high float64) {
	if len(values) == 0 {
		panic("BUG: an interval of nothing")
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	tail := 0.0 // P(fewer than k+1 of n lie below the median)
	k := 0
	for k < (n-1)/2 {
		tail += math.Exp(logChoose(n, k) - float64(n)*math.Ln2)
		if 2*tail > 1-confidence {
			break
		}
		k++
	}
	if k == 0 {
		return sorted[0], sorted[n-1]
	}
	return sorted[k-1], sorted[n-k]
}

func logChoose(n, k int) float64 {
	a, _ := math.Lgamma(float64(n + 1))
	b, _ := math.Lgamma(float64(k + 1))
	c, _ := math.Lgamma(float64(n - k + 1))
	return a - b - c
}

// exactMax is the largest series for which Differ counts orders exactly.
const exactMax = 50

// Differ returns the probability (two-sided) that series as different as a and b come
// from the same distribution: the Mann-Whitney U test, exact where no two values are
// equal and both series are short, else by the normal approximation with corrections
// for ties and continuity. Below 0.05 a difference is usually called significant. It
// returns 1 if either is empty: nothing is known then.
func Differ(a, b []float64) float64 {
	if len(a) == 0 || len(b) == 0 {
		return 1
	}
	u, ties := mannWhitney(a, b)
	n, m := len(a), len(b)
	u = min(u, float64(n*m)-u)
	if len(ties) == 0 && n <= exactMax && m <= exactMax {
		return min(1, 2*exactTail(n, m, int(u)))
	}
	total := float64(n + m)
	tied := 0.0
	for _, t := range ties {
		tied += t*t*t - t
	}
	variance := float64(n*m) / 12 * (total + 1 - tied/(total*(total-1)))
	if variance <= 0 {
		return 1 // all values are equal
	}
	z := (u - float64(n*m)/2 + 0.5) / math.Sqrt(variance)
	return min(1, math.Erfc(-min(z, 0)/math.Sqrt2))
}

// mannWhitney returns how many pairs have the one of a above the one of b, halves for
// equal ones, and the sizes of the groups of equal values.
func mannWhitney(a, b []float64) (u float64, ties []float64) {
	for _, x := range a {
		for _, y := range b {
			switch {
			case x > y:
				u++
			case x == y:
				u += 0.5
			}
		}
	}
	all := slices.Sorted(slices.Values(slices.Concat(a, b)))
	for i := 0; i < len(all); {
		j := i
		for j < len(all) && all[j] == all[i] {
			j++
		}
		if j-i > 1 {
			ties = append(ties, float64(j-i))
		}
		i = j
	}
	return u, ties
}

// exactTail returns P(U <= u) for series of n and m values without ties, by counting the
// orders that give each U (Mann and Whitney 1947, recurrence over the largest value).
func exactTail(n, m, u int) float64 {
	// ways[j][k]: orders of the first i of one series and j of the other with U = k.
	ways := make([][]float64, m+1)
	for j := range ways {
		ways[j] = make([]float64, n*m+1)
		ways[j][0] = 1 // i = 0
	}
	for i := 1; i <= n; i++ {
		next := make([][]float64, m+1)
		for j := range next {
			next[j] = make([]float64, n*m+1)
			for k := range next[j] {
				if k >= j {
					next[j][k] += ways[j][k-j] // the largest is of the first series
				}
				if j > 0 {
					next[j][k] += next[j-1][k]
				}
			}
		}
		ways = next
	}
	below, total := 0.0, 0.0
	for k, w := range ways[m] {
		total += w
		if k <= u {
			below += w
		}
	}
	return below / total
}
