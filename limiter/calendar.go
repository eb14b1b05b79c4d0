package limiter

import "time"

// Calendar says when the periods of a quota begin. The zero value is a second of
// UTC. May be copied and shared.
type Calendar struct {
	Period Period

	// Location is the time zone in which days begin, UTC if nil.
	Location *time.Location

	// ResetOn says when a period begins: on the first day of the month or year,
	// on another day of the month from 2 to 31 (of January for a year), or at the
	// time of the key's first use.
	ResetOn Reset
}

// Reset is the day of the month on which periods begin, FirstDay or Anniversary.
// A day that a month lacks is its last day. Seconds, minutes, hours and days know
// FirstDay, as the calendar has them, and Anniversary.
type Reset int8

const (
	// FirstDay begins periods with the calendar's.
	FirstDay Reset = 0

	// Anniversary begins periods at the time of day, and on the day, of the first
	// use: from the 31st of January to the last of February to the 31st of March.
	Anniversary Reset = -1
)

// Start returns when the period in which now lies began. All times are in seconds
// since 1970, not negative; first is the key's first use and only read with
// Anniversary. Start and End never allocate.
func (c Calendar) Start(now, first int64) int64 { start, _ := c.bounds(now, first); return start }

// End returns when the period in which now lies will end, which is when the next
// one begins.
func (c Calendar) End(now, first int64) int64 { _, end := c.bounds(now, first); return end }

func (c Calendar) bounds(now, first int64) (start, end int64) {
	if c.Period < Day || c.Period == Day && c.ResetOn == FirstDay && c.utc() {
		return c.short(now, first)
	}
	loc := c.Location
	if loc == nil {
		loc = time.UTC
	}
	t := time.Unix(now, 0).In(loc)
	i := t.Year()*12 + int(t.Month()) - 1
	anchor := time.Unix(first, 0).In(loc)
	begin := func(i int) int64 { return c.begin(i, anchor, loc) }
	step := 1
	switch c.Period {
	case Year:
		step = 12
		month := 0
		if c.ResetOn == Anniversary {
			month = int(anchor.Month()) - 1
		}
		i = t.Year()*12 + month
	case Day:
		i = dayNumber(t)
	}
	for begin(i) > now {
		i -= step
	}
	for {
		if end = begin(i + step); end > now {
			return begin(i), end
		}
		i += step
	}
}

func (c Calendar) utc() bool { return c.Location == nil || c.Location == time.UTC }

// short is bounds for the periods that have the same length everywhere.
func (c Calendar) short(now, first int64) (start, end int64) {
	length := c.Period.Seconds()
	shift := int64(0)
	switch {
	case c.ResetOn == Anniversary:
		shift = first % length
	case !c.utc():
		// Hours begin with the local hour: India's at half past.
		_, offset := time.Unix(now, 0).In(c.Location).Zone()
		shift = -int64(offset)
	}
	elapsed := (now - shift) % length
	if elapsed < 0 {
		elapsed += length
	}
	return now - elapsed, now - elapsed + length
}

// begin returns when period i begins: months are counted since the year 0, days
// since 1970.
func (c Calendar) begin(i int, anchor time.Time, loc *time.Location) int64 {
	hour, minute, second := 0, 0, 0
	if c.ResetOn == Anniversary {
		hour, minute, second = anchor.Clock()
	}
	if c.Period == Day {
		return local(time.Date(1970, 1, 1+i, hour, minute, second, 0, time.UTC), loc)
	}
	day := max(int(c.ResetOn), 1)
	if c.ResetOn == Anniversary {
		day = anchor.Day()
	}
	year, month := i/12, time.Month(i%12+1)
	last := time.Date(year, month+1, 0, 0, 0, 0, 0, time.UTC).Day()
	return local(time.Date(year, month, min(day, last), hour, minute, second, 0, time.UTC), loc)
}

// dayNumber counts the days since 1970 on the local calendar.
func dayNumber(t time.Time) int {
	year, month, day := t.Date()
	return int(time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Unix() / 86400)
}

// local returns when the clocks of loc first show what wall shows in UTC, or, where
// they skip that, when they skip it: midnight does not exist on the day that summer
// begins in some countries, and exists twice when it ends in others. time.Date does
// not say which it takes.
func local(wall time.Time, loc *time.Location) int64 {
	if loc == time.UTC {
		return wall.Unix()
	}
	want := wall.Unix()
	t := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), 0, loc)
	_, offset := t.Zone()
	start, end := t.ZoneBounds()
	if shown := t.Unix() + int64(offset); shown < want && !end.IsZero() {
		return end.Unix()
	} else if shown > want {
		return start.Unix()
	}
	if start.IsZero() {
		return t.Unix()
	}
	_, before := start.Add(-time.Second).Zone()
	if earlier := want - int64(before); earlier < start.Unix() {
		return earlier
	}
	return t.Unix()
}
