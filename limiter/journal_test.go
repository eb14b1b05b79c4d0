package limiter

import (
	"errors"
	"math/rand/v2"
	"testing"
)

// spend makes changes at random: newcomers, costs, refunds, periods that end.
func spend(q *Quotas, r *rand.Rand, now int64, n int) {
	used := make([]int64, len(q.calendars))
	for range n {
		key := 1 + r.Uint64N(500)
		q.Add(key, now, r.Int64N(100), used)
		if r.IntN(5) == 0 {
			q.Refund(key, now, r.Int64N(50))
		}
	}
}

var journalCalendars = []Calendar{{Period: Month, ResetOn: Anniversary}, {Period: Day}}

func TestJournalHoldsAllChanges(t *testing.T) {
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 1))
		q := NewQuotas(journalCalendars, 1<<12)
		var file []byte
		now := monday
		for second := range 200 {
			spend(q, r, now, r.IntN(40))
			if second == 90 { // a snapshot begins a new file
				file = q.AppendTo(nil)
				spend(q, r, now, 10)
			}
			before := len(file)
			file = q.Journal(file)
			if again := q.Journal(file); len(again) != len(file) {
				t.Fatal("a second call wrote something although nothing changed")
			}
			if grown := len(file) - before; grown > batchBytes+60*q.recordBytes() {
				t.Fatalf("%d bytes for at most 50 changes", grown)
			}
			now += r.Int64N(20_000)
		}
		other := NewQuotas(journalCalendars, 1<<12)
		if err := other.Load(file); err != nil {
			t.Fatal(err)
		}
		expectSame(t, other, q)
	}
}

// TestJournalSurvivesDamage cuts and flips every byte of a file: what is loaded is
// what some good beginning of it holds, and the fault is reported.
func TestJournalSurvivesDamage(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	q := NewQuotas(journalCalendars, 1<<10)
	var file []byte
	var ends []int
	for range 4 {
		spend(q, r, monday, 5)
		file = q.Journal(file)
		ends = append(ends, len(file))
	}
	whole := func(n int) (end int) { // of the batches before byte n
		for _, e := range ends {
			if e <= n {
				end = e
			}
		}
		return end
	}
	f := func(data []byte, damagedAt int) {
		t.Helper()
		other := NewQuotas(journalCalendars, 1<<10)
		good, err := other.Replay(data)
		if good != whole(damagedAt) || !errors.Is(err, ErrQuotaDamaged) {
			t.Fatalf("damaged at %d of %d: good %d, %v; want %d", damagedAt, len(file), good, err, whole(damagedAt))
		}
		// Records of a batch with a good beginning are there as well.
		records := 0
		if rest := damagedAt - whole(damagedAt) - batchBytes; rest > 0 {
			records = rest / q.recordBytes()
		}
		want := NewQuotas(journalCalendars, 1<<10)
		if err := want.Load(file[:good]); err != nil {
			t.Fatal(err)
		}
		for i := range records {
			want.set(file[good+batchBytes+i*q.recordBytes():])
		}
		expectSame(t, other, want)
		if err := other.Load(data); err == nil {
			t.Fatalf("damaged at %d: Load did not complain", damagedAt)
		}
	}
	for n := range file {
		if n != whole(n) {
			f(file[:n], n)
		}
		flipped := append([]byte(nil), file...)
		flipped[n] ^= 1 << r.IntN(8)
		f(flipped, n)
	}
}

func TestLoadChangesNothingIfDamaged(t *testing.T) {
	q := NewQuotas(journalCalendars, 1<<10)
	spend(q, rand.New(rand.NewPCG(1, 1)), monday, 50)
	file := q.AppendTo(nil)
	file[len(file)-1] ^= 1
	other := NewQuotas(journalCalendars, 1<<10)
	if err := other.Load(file); !errors.Is(err, ErrQuotaDamaged) || other.Len() != 0 {
		t.Errorf("%v, %d keys", err, other.Len())
	}
	if err := other.Load(nil); err != nil {
		t.Errorf("no bytes: %v", err)
	}
	for _, c := range [][]Calendar{{{Period: Month}}, {{Period: Month, ResetOn: 2}, {Period: Day}}, {journalCalendars[1], journalCalendars[0]}} {
		if err := NewQuotas(c, 64).Load(q.AppendTo(nil)); !errors.Is(err, ErrQuotaCalendars) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestJournalOfAFlood lets more newcomers replace each other than the list holds.
func TestJournalOfAFlood(t *testing.T) {
	q := NewQuotas([]Calendar{{Period: Month}}, 64*4)
	var used [1]int64
	for key := range uint64(20_000) {
		q.Add(key+1, monday, 1, used[:])
	}
	other := NewQuotas(q.calendars, 64*4)
	if err := other.Load(q.Journal(nil)); err != nil {
		t.Fatal(err)
	}
	expectSame(t, other, q)
	if again := q.Journal(nil); len(again) != 0 {
		t.Errorf("%d bytes although nothing changed", len(again))
	}
}

func FuzzReplay(f *testing.F) {
	q := NewQuotas(journalCalendars, 1<<10)
	spend(q, rand.New(rand.NewPCG(1, 1)), monday, 3)
	one := q.Journal(nil)
	f.Add(one)
	f.Add(q.AppendTo(one))
	f.Add([]byte(batchMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		q := NewQuotas(journalCalendars, 1<<10)
		good, err := q.Replay(data)
		if good < 0 || good > len(data) || err == nil && good != len(data) {
			t.Fatalf("good %d of %d, %v", good, len(data), err)
		}
		// What was read can be written and read again.
		other := NewQuotas(journalCalendars, 1<<10)
		if err := other.Load(q.AppendTo(nil)); err != nil {
			t.Fatal(err)
		}
		expectSame(t, other, q)
	})
}
