package limiter

// Period is the length of a window: a unit of the UTC calendar.
type Period uint8

// The periods, shortest first.
const (
	Second Period = iota
	Minute
	Hour
	Day
	Month
	Year
)

// Periods is how many periods there are.
const Periods = int(Year) + 1

var periodNames = [Periods]string{"second", "minute", "hour", "day", "month", "year"}

var periodSeconds = [Periods]int64{1, 60, 3600, 86400, 30 * 86400, 365 * 86400}

// String returns the period's name in lower case.
func (p Period) String() string { return periodNames[p] }

// Seconds returns the nominal length: a month has 30 days, a year 365 (Kong: the
// table that RateLimit-Reset is computed from).
func (p Period) Seconds() int64 { return periodSeconds[p] }

// Start returns when the window that now lies in began. Both are seconds since
// 1970 in UTC, not negative.
func (p Period) Start(now int64) int64 {
	switch p {
	case Second:
		return now
	case Minute:
		return now - now%60
	case Hour:
		return now - now%3600
	case Day:
		return now - now%86400
	}
	// The proleptic Gregorian calendar in years that begin on March 1, so that
	// the leap day is the last of its year and months have a linear formula.
	day := now/86400 + daysBeforeEpoch
	dayOfEra := day % daysPerEra
	yearOfEra := (dayOfEra - dayOfEra/1460 + dayOfEra/36524 - dayOfEra/146096) / 365
	dayOfYear := dayOfEra - (365*yearOfEra + yearOfEra/4 - yearOfEra/100)
	month := (5*dayOfYear + 2) / 153 // 0 is March, 10 January
	first := day - dayOfYear         // March 1
	switch {
	case p == Month:
		first += (153*month + 2) / 5
	case month >= 10:
		first += daysMarchToDecember
	default:
		first -= 59 // January and February
		if yearOfEra%4 == 0 && (yearOfEra%100 != 0 || yearOfEra == 0) {
			first--
		}
	}
	return (first - daysBeforeEpoch) * 86400
}

const (
	daysBeforeEpoch     = 719468 // from 0000-03-01 to 1970-01-01
	daysPerEra          = 146097 // 400 years
	daysMarchToDecember = 306
)
