package rules

import "bytes"

const (
	second = 1000
	minute = 60 * second
	hour   = 60 * minute
	day    = 24 * hour

	// meanYear is the mean length of a year, to count 50 of them.
	meanYear = 365*day + day/4
)

const (
	weekdays = "sunmontuewedthufrisat"
	months   = "janfebmaraprmayjunjulaugsepoctnovdec"
)

// ParseDate reads a date in any of the three forms of RFC 9110 5.6.7: IMF-fixdate,
// that of RFC 850 and that of asctime. The result is in milliseconds since 1970, whole
// seconds, negative before 1970. Letters match in any case and the zone is GMT alone
// (RFC 9111 4.2); in all else the form is exact. The day of the week must be one, and
// is not compared with the date.
//
// now, in milliseconds since 1970, dates the two-digit years of RFC 850: one that
// seems more than 50 years ahead lies in the past.
func ParseDate(b []byte, now int64) (ms int64, ok bool) {
	p := dateParser{rest: b}
	var year, month, dayOfMonth int
	var clock int64
	comma := bytes.IndexByte(b, ',')
	switch {
	case comma == 3: // Sun, 06 Nov 1994 08:49:37 GMT
		p.weekday(3)
		p.literal(", ")
		dayOfMonth = p.number(2)
		p.literal(" ")
		month = p.month()
		p.literal(" ")
		year = p.number(4)
		p.literal(" ")
		clock = p.clock()
		p.literal(" gmt")
	case comma > 3: // Sunday, 06-Nov-94 08:49:37 GMT
		p.weekday(comma)
		p.literal(", ")
		dayOfMonth = p.number(2)
		p.literal("-")
		month = p.month()
		p.literal("-")
		year = p.number(2)
		p.literal(" ")
		clock = p.clock()
		p.literal(" gmt")
		if !p.bad {
			year = century(year, month, dayOfMonth, now)
		}
	default: // Sun Nov  6 08:49:37 1994
		p.weekday(3)
		p.literal(" ")
		month = p.month()
		p.literal(" ")
		dayOfMonth = p.dayOfMonth()
		p.literal(" ")
		clock = p.clock()
		p.literal(" ")
		year = p.number(4)
	}
	if p.bad || len(p.rest) > 0 || dayOfMonth < 1 || dayOfMonth > monthLen(year, month) {
		return 0, false
	}
	return daysSince1970(year, month, dayOfMonth)*day + clock, true
}

// dateParser eats a date from the left. Once bad, it stays so and eats nothing.
type dateParser struct {
	rest []byte
	bad  bool
}

// take returns the next n bytes, or nil if there are fewer.
func (p *dateParser) take(n int) []byte {
	if p.bad || len(p.rest) < n {
		p.bad = true
		return nil
	}
	b := p.rest[:n]
	p.rest = p.rest[n:]
	return b
}

// literal eats text, which is lower-case.
func (p *dateParser) literal(text string) {
	if b := p.take(len(text)); !is(b, text) {
		p.bad = true
	}
}

// number eats a number of exactly n digits.
func (p *dateParser) number(n int) int {
	v, ok := parseDigits(p.take(n))
	if !ok {
		p.bad = true
	}
	return int(v)
}

// dayOfMonth eats two digits, or a space and one, as asctime writes it.
func (p *dateParser) dayOfMonth() int {
	if len(p.rest) > 0 && p.rest[0] == ' ' {
		p.rest = p.rest[1:]
		return p.number(1)
	}
	return p.number(2)
}

// weekday eats the name of a day: its first three letters, or all n of them.
func (p *dateParser) weekday(n int) {
	b := p.take(n)
	for i, name := range [...]string{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"} {
		if n == 3 && is(b, weekdays[3*i:3*i+3]) || n > 3 && is(b, name) {
			return
		}
	}
	p.bad = true
}

// month eats the first three letters of a month and returns its number, from 1.
func (p *dateParser) month() int {
	b := p.take(3)
	for i := range 12 {
		if is(b, months[3*i:3*i+3]) {
			return i + 1
		}
	}
	p.bad = true
	return 1
}

// clock eats the time of day and returns it in milliseconds. A leap second is the one
// before it: a date is never taken to be later than it is (RFC 9111 4.2).
func (p *dateParser) clock() int64 {
	h := p.number(2)
	p.literal(":")
	m := p.number(2)
	p.literal(":")
	s := p.number(2)
	if h > 23 || m > 59 || s > 60 {
		p.bad = true
	}
	return int64(h)*hour + int64(m)*minute + int64(min(s, 59))*second
}

// century returns the latest year with these two digits in which the day is at most
// 50 years after now (RFC 9110 5.6.7).
func century(digits, month, dayOfMonth int, now int64) int {
	now = min(max(now, 0), 8000*meanYear)
	thisYear := 1970 + int(now/meanYear)
	year := (thisYear/100+1)*100 + digits
	for daysSince1970(year, month, dayOfMonth)*day > now+50*meanYear {
		year -= 100
	}
	return year
}

// AppendDate appends a point in time as IMF-fixdate (RFC 9110 5.6.7), milliseconds
// since 1970 cut down to seconds. Only years from 0 to 9999 can be written: what lies
// outside is the first or last second within.
func AppendDate(dst []byte, ms int64) []byte {
	const first, last = -62167219200 * second, 253402300799 * second
	ms = min(max(ms, first), last)
	days := floorDiv(ms, day)
	clock := (ms - days*day) / second
	year, month, dayOfMonth := civil(days)
	weekday := int(floorMod(days+4, 7)) // 1970 began on a Thursday
	dst = appendName(dst, weekdays, weekday)
	dst = append(dst, ',', ' ')
	dst = append2(dst, dayOfMonth)
	dst = append(dst, ' ')
	dst = appendName(dst, months, month-1)
	dst = append(dst, ' ')
	dst = append2(dst, year/100)
	dst = append2(dst, year%100)
	dst = append(dst, ' ')
	dst = append2(dst, int(clock/3600))
	dst = append(dst, ':')
	dst = append2(dst, int(clock/60%60))
	dst = append(dst, ':')
	dst = append2(dst, int(clock%60))
	return append(dst, " GMT"...)
}

func appendName(dst []byte, names string, i int) []byte {
	return append(dst, names[3*i]-0x20, names[3*i+1], names[3*i+2])
}

func append2(dst []byte, n int) []byte { return append(dst, byte('0'+n/10), byte('0'+n%10)) }

// daysSince1970 counts days on the Gregorian calendar; a day after the month's last
// one lies in the next month. Years begin in March here, so that the leap day is the
// last, and come in eras of 400.
func daysSince1970(year, month, dayOfMonth int) int64 {
	if month <= 2 {
		year--
	}
	era := floorDiv(int64(year), 400)
	yearOfEra := int64(year) - era*400
	dayOfYear := int64((153*((month+9)%12)+2)/5 + dayOfMonth - 1)
	return era*146097 + yearOfEra*365 + yearOfEra/4 - yearOfEra/100 + dayOfYear - 719468
}

// civil is the inverse of daysSince1970.
func civil(days int64) (year, month, dayOfMonth int) {
	days += 719468
	era := floorDiv(days, 146097)
	dayOfEra := days - era*146097
	yearOfEra := (dayOfEra - dayOfEra/1460 + dayOfEra/36524 - dayOfEra/146096) / 365
	dayOfYear := dayOfEra - (365*yearOfEra + yearOfEra/4 - yearOfEra/100)
	m := (5*dayOfYear + 2) / 153
	year, month, dayOfMonth = int(yearOfEra+era*400), int((m+2)%12)+1, int(dayOfYear-(153*m+2)/5)+1
	if month <= 2 {
		year++
	}
	return year, month, dayOfMonth
}

func monthLen(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func floorMod(a, b int64) int64 { return a - floorDiv(a, b)*b }
