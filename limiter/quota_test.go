package limiter

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func seconds(year int, month time.Month, day, hour int) int64 {
	return time.Date(year, month, day, hour, 0, 0, 0, time.UTC).Unix()
}

func TestQuotaByMonth(t *testing.T) {
	q := NewQuotas([]Calendar{{Period: Month}}, 64)
	var used [1]int64
	f := func(now, cost int64, wantOK bool, wantUsed int64) {
		t.Helper()
		ok, forgot := q.Take(7, now, cost, []int64{10}, used[:])
		if ok != wantOK || used[0] != wantUsed || forgot {
			t.Errorf("Take = %v, used %d; want %v, %d", ok, used[0], wantOK, wantUsed)
		}
	}
	november, december := seconds(2026, 11, 30, 23), seconds(2026, 12, 1, 0)
	f(november, 8, true, 8)
	f(november, 3, false, 8)
	f(november, 2, true, 10)
	f(november, 0, true, 10)
	q.Refund(7, november, 4)
	f(november, 5, false, 6)
	f(december, 5, true, 5)
	q.Refund(7, november, 5) // of a month that is over
	f(december, 1, true, 6)
	f(december-60, 1, true, 7) // a clock set back does not open November again
	if q.Peek(7, december-60, used[:]); used[0] != 7 {
		t.Errorf("Peek: %d", used[0])
	}
	f(seconds(2027, 1, 1, 0), 10, true, 10)
	f(december, 10, true, 10) // but one that was wrong by a month locks nobody out
	if q.Peek(7, seconds(2027, 1, 1, 0), used[:]); used[0] != 0 {
		t.Errorf("Peek into the next month: %d", used[0])
	}
	if q.Add(7, december, 100, used[:]); used[0] != 110 {
		t.Errorf("Add: %d", used[0])
	}
}

func TestQuotaRemembersFirstUse(t *testing.T) {
	q := NewQuotas([]Calendar{{Period: Month, ResetOn: Anniversary}, {Period: Day}}, 64)
	var used, ends [2]int64
	first := seconds(2026, 1, 31, 9)
	q.Ends(7, first, ends[:])
	if want := []int64{seconds(2026, 2, 28, 9), seconds(2026, 2, 1, 0)}; !slices.Equal(ends[:], want) {
		t.Errorf("ends of a stranger: %v, want %v", ends, want)
	}
	for _, hour := range []int64{first, first + 86400, seconds(2026, 2, 28, 8), seconds(2026, 2, 28, 9), seconds(2026, 3, 31, 8)} {
		q.Take(7, hour, 1, []int64{100, 100}, used[:])
	}
	if used != [2]int64{2, 1} || q.FirstUse(7) != first || q.FirstUse(8) != 0 {
		t.Errorf("used %v, first use %d", used, q.FirstUse(7))
	}
	q.Ends(7, seconds(2026, 3, 31, 8), ends[:])
	if want := []int64{seconds(2026, 3, 31, 9), seconds(2026, 4, 1, 0)}; !slices.Equal(ends[:], want) {
		t.Errorf("ends %v, want %v", ends, want)
	}
}

func TestQuotaIsExactUnderConcurrency(t *testing.T) {
	q := NewQuotas([]Calendar{{Period: Day}, {Period: Month}}, 1<<12)
	var admitted atomic.Int64
	var journal []byte
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			var used [2]int64
			for i := range uint64(20_000) {
				if ok, _ := q.Take(7, monday, 1, []int64{1 << 40, 5000}, used[:]); ok {
					admitted.Add(1)
				}
				q.Add(100+i%3000, monday, 1, used[:])
			}
		})
	}
	wg.Go(func() {
		for range 50 {
			journal = q.Journal(journal)
			q.AppendTo(nil)
		}
	})
	wg.Wait()
	if n := admitted.Load(); n != 5000 {
		t.Errorf("admitted %d, want exactly 5000", n)
	}
	journal = q.Journal(journal)
	other := NewQuotas(q.calendars, 1<<12)
	if err := other.Load(journal); err != nil {
		t.Fatal(err)
	}
	expectSame(t, other, q)
}

// contents are what tests compare.
func contents(q *Quotas) map[uint64][]uint64 {
	all := map[uint64][]uint64{}
	q.each(func(e []uint64, last int64) {
		c := slices.Clone(e)
		c[1], c[quotaFirst] = uint64(last), c[quotaFirst]>>1
		all[e[0]] = c
	})
	return all
}

func expectSame(t *testing.T, got, want *Quotas) {
	t.Helper()
	g, w := contents(got), contents(want)
	if len(g) != len(w) {
		t.Fatalf("%d keys, want %d", len(g), len(w))
	}
	for key := range w {
		if !slices.Equal(g[key], w[key]) {
			t.Fatalf("key %d: %v, want %v", key, g[key], w[key])
		}
	}
}

func TestQuotaFullAndPassed(t *testing.T) {
	var used [1]int64
	f := func(c Calendar, wantForgotten bool) {
		t.Helper()
		q := NewQuotas([]Calendar{c}, 64*4)
		for key := range uint64(200) {
			q.Add(key+1, seconds(2026, 1, 1, 0), 5, used[:])
		}
		for key := range uint64(200) {
			q.Add(1000+key, seconds(2026, 3, 1, 0), 5, used[:])
		}
		if got := q.Forgotten() > 40; got != wantForgotten || q.Len() > 64*4 {
			t.Errorf("%+v: forgot %d of 400 keys in 256 slots", c, q.Forgotten())
		}
	}
	f(Calendar{Period: Month}, false)
	f(Calendar{Period: Month, ResetOn: Anniversary}, true) // their first use would be lost
}

func TestCrossed(t *testing.T) {
	f := func(used, cost, limit int64, percent uint8, want bool) {
		t.Helper()
		if got := Crossed(used, cost, limit, percent); got != want {
			t.Errorf("Crossed(%d, %d, %d, %d) = %v", used, cost, limit, percent, got)
		}
	}
	f(79, 1, 100, 80, false)
	f(80, 1, 100, 80, true)
	f(81, 1, 100, 80, false)
	f(95, 20, 100, 80, true)
	f(3, 1, 3, 90, true)
	f(1<<62, 1<<61, 1<<62, 80, true)
	once := 0
	r := rand.New(rand.NewPCG(1, 2))
	for used := int64(0); used < 1000; {
		cost := 1 + r.Int64N(9)
		if used += cost; Crossed(used, cost, 777, 80) {
			once++
		}
	}
	if once != 1 {
		t.Errorf("crossed %d times", once)
	}
}
