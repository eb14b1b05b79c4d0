package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

func near(t *testing.T, what string, got, want, within float64) {
	t.Helper()
	if math.Abs(got-want) > within {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestQuantile(t *testing.T) {
	near(t, "one", Median([]float64{3}), 3, 0)
	near(t, "odd", Median([]float64{9, 1, 5}), 5, 0)
	near(t, "even", Median([]float64{4, 1, 2, 3}), 2.5, 0)
	near(t, "p90", Quantile([]float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, 0.9), 10, 1e-9)
	in := []float64{3, 1, 2}
	Median(in)
	if in[0] != 3 {
		t.Error("the argument was sorted")
	}
}

func TestRatios(t *testing.T) {
	got := Ratios([]float64{2, 9}, []float64{1, 3})
	if got[0] != 2 || got[1] != 3 {
		t.Errorf("%v", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("series of different lengths pass")
		}
	}()
	Ratios([]float64{1}, nil)
}

// The exact probabilities are counted by hand: of the orders of both series, which are all
// alike likely, those that are at least as far from the middle.
func TestDiffer(t *testing.T) {
	f := func(want float64, a, b []float64) {
		t.Helper()
		near(t, "p", Differ(a, b), want, 1e-4)
		near(t, "p the other way round", Differ(b, a), want, 1e-4)
	}
	f(0.007937, []float64{1, 2, 3, 4, 5}, []float64{6, 7, 8, 9, 10}) // 2/252
	f(0.1, []float64{1, 2, 3}, []float64{4, 5, 6})                   // 2/20
	f(0.2, []float64{1, 2, 4}, []float64{3, 5, 6})                   // U = 1: 4/20
	f(0.7, []float64{1, 3, 5}, []float64{2, 4, 6})                   // U = 3: 14/20
	// Ties: U = 3, variance 16/12*(9-(24+24)/56), z = (3-8+0.5)/3.2950.
	f(0.17203, []float64{1, 2, 2, 3}, []float64{2, 3, 3, 4})
	f(1, []float64{1, 1, 1}, []float64{1, 1, 1})
	f(1, nil, []float64{1})
}

// Differ finds a shift and, as often as it says, nothing where there is nothing.
func TestDifferHoldsItsLevel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	series := func(n int, shift float64) []float64 {
		out := make([]float64, n)
		for i := range out {
			out[i] = shift + r.NormFloat64()
		}
		return out
	}
	falseAlarms, found := 0, 0
	const trials = 2000
	for range trials {
		if Differ(series(8, 0), series(8, 0)) < 0.05 {
			falseAlarms++
		}
		if Differ(series(8, 0), series(8, 3)) < 0.05 {
			found++
		}
	}
	if share := float64(falseAlarms) / trials; share > 0.06 {
		t.Errorf("%.3f false alarms", share)
	}
	if share := float64(found) / trials; share < 0.95 {
		t.Errorf("a shift by three deviations is found in %.3f of the trials", share)
	}
}

func TestDifferLongSeriesAgreeWithExact(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	a, b := make([]float64, exactMax), make([]float64, exactMax)
	for i := range a {
		a[i], b[i] = r.Float64(), r.Float64()+0.1
	}
	exact := Differ(a, b)
	approximate := Differ(append(a, 0.5), append(b, 0.6)) // one more of each: no longer exact
	near(t, "p", approximate, exact, 0.05)
}

func TestInterval(t *testing.T) {
	f := func(n int, wantLow, wantHigh float64) {
		t.Helper()
		values := make([]float64, n)
		for i := range values {
			values[i] = float64(n - i) // n .. 1
		}
		low, high := Interval(values, 0.95)
		near(t, "low", low, wantLow, 0)
		near(t, "high", high, wantHigh, 0)
	}
	f(1, 1, 1)
	f(5, 1, 5) // 5 values give 93.75 %: the whole range
	f(6, 1, 6) // 96.9 %
	f(10, 2, 9)
	f(20, 6, 15)
}
