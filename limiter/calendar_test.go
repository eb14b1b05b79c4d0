package limiter

import (
	"math/rand/v2"
	"testing"
	"time"
	_ "time/tzdata" // the zones, wherever the test runs
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	l, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal("no time zones: ", err)
	}
	return l
}

func TestCalendarPeriods(t *testing.T) {
	berlin, kolkata := zone(t, "Europe/Berlin"), zone(t, "Asia/Kolkata")
	f := func(c Calendar, first, now, start, end string) {
		t.Helper()
		at := func(s string) int64 {
			v, err := time.Parse(time.RFC3339, s)
			if err != nil {
				t.Fatal(err)
			}
			return v.Unix()
		}
		if first == "" {
			first = now
		}
		gotStart, gotEnd := c.Start(at(now), at(first)), c.End(at(now), at(first))
		if gotStart != at(start) || gotEnd != at(end) {
			t.Errorf("%+v at %s: from %s to %s, want %s to %s", c, now,
				time.Unix(gotStart, 0).UTC(), time.Unix(gotEnd, 0).UTC(), start, end)
		}
	}
	f(Calendar{}, "", "2026-11-23T10:30:05Z", "2026-11-23T10:30:05Z", "2026-11-23T10:30:06Z")
	f(Calendar{Period: Hour}, "", "2026-11-23T10:30:05Z", "2026-11-23T10:00:00Z", "2026-11-23T11:00:00Z")
	f(Calendar{Period: Hour, Location: kolkata}, "", "2026-11-23T10:30:05Z", "2026-11-23T10:30:00Z", "2026-11-23T11:30:00Z")
	f(Calendar{Period: Day}, "", "2026-11-23T10:30:05Z", "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z")
	f(Calendar{Period: Day, Location: berlin}, "", "2026-11-23T23:30:00Z", "2026-11-23T23:00:00Z", "2026-11-24T23:00:00Z")
	f(Calendar{Period: Day, Location: berlin}, "", "2026-03-29T10:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z") // 23 hours
	f(Calendar{Period: Month}, "", "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z")
	f(Calendar{Period: Month, Location: berlin}, "", "2026-11-30T23:00:00Z", "2026-11-30T23:00:00Z", "2026-12-31T23:00:00Z")
	f(Calendar{Period: Month, ResetOn: 15}, "", "2026-11-14T23:59:59Z", "2026-10-15T00:00:00Z", "2026-11-15T00:00:00Z")
	f(Calendar{Period: Month, ResetOn: 15}, "", "2026-11-15T00:00:00Z", "2026-11-15T00:00:00Z", "2026-12-15T00:00:00Z")
	f(Calendar{Period: Month, ResetOn: 31}, "", "2026-02-27T12:00:00Z", "2026-01-31T00:00:00Z", "2026-02-28T00:00:00Z")
	f(Calendar{Period: Month, ResetOn: 31}, "", "2028-02-29T12:00:00Z", "2028-02-29T00:00:00Z", "2028-03-31T00:00:00Z")
	f(Calendar{Period: Year}, "", "2026-11-23T10:30:05Z", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z")
	f(Calendar{Period: Year, ResetOn: 10}, "", "2026-01-09T10:30:05Z", "2025-01-10T00:00:00Z", "2026-01-10T00:00:00Z")

	// Anniversaries keep the first use's time of day, on the clock of the zone.
	f(Calendar{Period: Second, ResetOn: Anniversary}, "2026-01-31T10:30:05Z", "2026-02-01T00:00:07Z", "2026-02-01T00:00:07Z", "2026-02-01T00:00:08Z")
	f(Calendar{Period: Hour, ResetOn: Anniversary}, "2026-01-31T10:30:05Z", "2026-02-01T00:00:07Z", "2026-01-31T23:30:05Z", "2026-02-01T00:30:05Z")
	f(Calendar{Period: Day, ResetOn: Anniversary}, "2026-01-31T10:30:05Z", "2026-02-05T10:30:04Z", "2026-02-04T10:30:05Z", "2026-02-05T10:30:05Z")
	f(Calendar{Period: Month, ResetOn: Anniversary}, "2026-01-31T10:30:05Z", "2026-01-31T10:30:05Z", "2026-01-31T10:30:05Z", "2026-02-28T10:30:05Z")
	f(Calendar{Period: Month, ResetOn: Anniversary}, "2026-01-31T10:30:05Z", "2026-03-01T00:00:00Z", "2026-02-28T10:30:05Z", "2026-03-31T10:30:05Z")
	f(Calendar{Period: Month, ResetOn: Anniversary, Location: berlin}, "2026-03-01T11:00:00Z", "2026-04-01T11:00:00Z", "2026-04-01T10:00:00Z", "2026-05-01T10:00:00Z")
	f(Calendar{Period: Year, ResetOn: Anniversary}, "2024-02-29T10:00:00Z", "2026-03-01T00:00:00Z", "2026-02-28T10:00:00Z", "2027-02-28T10:00:00Z")
	f(Calendar{Period: Year, ResetOn: Anniversary}, "2024-02-29T10:00:00Z", "2028-02-29T09:00:00Z", "2027-02-28T10:00:00Z", "2028-02-29T10:00:00Z")
}

// TestCalendarCoversTime checks, in zones with odd rules, that periods follow each
// other without gap or overlap: midnights that do not exist, or exist twice.
func TestCalendarCoversTime(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, name := range []string{"UTC", "Europe/Berlin", "America/Sao_Paulo", "America/Havana", "Asia/Beirut", "Africa/Cairo", "Pacific/Apia", "Asia/Kathmandu", "America/St_Johns"} {
		loc := zone(t, name)
		for range 20_000 {
			c := Calendar{Period: Day + Period(r.IntN(3)), Location: loc, ResetOn: Reset(r.IntN(33) - 1)}
			if r.IntN(4) == 0 {
				c.Period = Period(r.IntN(int(Day)))
				c.ResetOn = Anniversary
			}
			now := 946684800 + r.Int64N(40*365*86400)
			if r.IntN(2) == 0 { // near a change of the clocks
				if _, end := time.Unix(now, 0).In(loc).ZoneBounds(); !end.IsZero() {
					now = end.Unix() + r.Int64N(4*86400) - 2*86400
				}
			}
			first := now - r.Int64N(5*365*86400)
			start, end := c.Start(now, first), c.End(now, first)
			if start > now || end <= now {
				t.Fatalf("%s %+v at %d: from %d to %d", name, c, now, start, end)
			}
			if s, e := c.Start(start, first), c.End(end-1, first); s != start || e != end {
				t.Fatalf("%s %+v at %d: the period from %d to %d begins at %d when asked at its start, ends at %d at its end", name, c, now, start, end, s, e)
			}
			if next := c.Start(end, first); next != end {
				t.Fatalf("%s %+v at %d: ends at %d, the next begins at %d", name, c, now, end, next)
			}
		}
	}
}
