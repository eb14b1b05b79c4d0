package limiter

import (
	"math/rand/v2"
	"testing"
	"time"
)

func naiveStart(p Period, now int64) int64 {
	t := time.Unix(now, 0).UTC()
	year, month, day, hour, minute, second := t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second()
	switch p {
	case Minute:
		second = 0
	case Hour:
		minute, second = 0, 0
	case Day:
		hour, minute, second = 0, 0, 0
	case Month:
		day, hour, minute, second = 1, 0, 0, 0
	case Year:
		month, day, hour, minute, second = 1, 1, 0, 0, 0
	case Second:
	}
	return time.Date(year, month, day, hour, minute, second, 0, time.UTC).Unix()
}

func TestStartFollowsTheCalendar(t *testing.T) {
	check := func(now int64) {
		t.Helper()
		for p := Second; p <= Year; p++ {
			if got, want := p.Start(now), naiveStart(p, now); got != want {
				t.Fatalf("%s.Start(%s) = %s, want %s", p, time.Unix(now, 0).UTC(), time.Unix(got, 0).UTC(), time.Unix(want, 0).UTC())
			}
		}
	}
	// Every day of 450 years, at its first and last second: all leap rules.
	for day := range int64(450 * 366) {
		check(day * 86400)
		check(day*86400 + 86399)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		check(r.Int64N(1 << 34))
	}
}

func TestPeriodNames(t *testing.T) {
	f := func(p Period, name string, seconds int64) {
		t.Helper()
		if p.String() != name || p.Seconds() != seconds {
			t.Errorf("%v is %q with %d s, want %q with %d s", uint8(p), p, p.Seconds(), name, seconds)
		}
	}
	f(Second, "second", 1)
	f(Minute, "minute", 60)
	f(Hour, "hour", 3600)
	f(Day, "day", 86400)
	f(Month, "month", 2592000)
	f(Year, "year", 31536000)
}
