package lb

import (
	"sync"
	"sync/atomic"
	"testing"
)

// A service that fails every attempt, called at a rate for some time, with three
// retries each wanted at once: retries stay within the budget.
func TestBudgetAllFail(t *testing.T) {
	f := func(percent, minPerSecond float64, perSecond, seconds int) {
		t.Helper()
		b := NewBudget(percent, minPerSecond)
		first, retries := 0, 0
		start := 777 * aSecond
		for i := range perSecond * seconds {
			now := start + int64(i)*aSecond/int64(perSecond)
			b.Deposit(uint64(i), now)
			first++
			for range 3 {
				if b.Withdraw(now) {
					retries++
				}
			}
			// Every begun window of 16 slots has a minimum of its own.
			const slot = budgetWindow / tallySlots
			windows := (now/slot-start/slot)/tallySlots + 1
			if most := float64(first)*percent/100 + minPerSecond*10*float64(windows); float64(retries) > most+1e-6 {
				t.Fatalf("%v %%, %v/s at %d/s: %d retries for %d requests after %d s", percent, minPerSecond, perSecond, retries, first, i/perSecond)
			}
		}
		least := min(float64(first)*percent/100+minPerSecond*float64(seconds-10), float64(3*first))
		if float64(retries) < 0.9*least {
			t.Errorf("%v %%, %v/s at %d/s: only %d retries for %d requests", percent, minPerSecond, perSecond, retries, first)
		}
	}
	f(20, 0, 100, 60)
	f(20, 3, 100, 60)
	f(20, 10, 1, 60)
	f(0, 1, 300, 30)
	f(100, 0, 50, 40)
	f(0.5, 0, 500, 40)
}

func TestBudgetBalance(t *testing.T) {
	b := NewBudget(20, 1)
	f := func(now, want int64) {
		t.Helper()
		if got := b.Balance(now); got != want {
			t.Errorf("at %d s: balance %d, want %d", now/aSecond, got, want)
		}
	}
	f(0, 10)
	for i := range 100 {
		b.Deposit(uint64(i), 5*aSecond)
	}
	f(5*aSecond, 30)
	for range 30 {
		if !b.Withdraw(5 * aSecond) {
			t.Fatal("refused within the budget")
		}
	}
	if b.Withdraw(5 * aSecond) {
		t.Error("granted beyond the budget")
	}
	f(5*aSecond, 0)
	f(14*aSecond, 0)
	// Neither what was deposited nor what was taken is remembered for longer.
	f(16*aSecond, 10)
	f(100*aSecond, 10)
}

func TestBudgetConcurrent(t *testing.T) {
	b := NewBudget(20, 0)
	var retries atomic.Int64
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for range 1000 {
				b.Deposit(uint64(g), aSecond)
				if b.Withdraw(aSecond) {
					retries.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if got := retries.Load(); got != 1600 {
		t.Errorf("%d retries for 8000 requests, want 1600", got)
	}
}
