package rules

import "bytes"

// lifetimeMax bounds lifetimes and ages, in milliseconds.
const lifetimeMax = SecondsMax * second

// Lifetime returns for how many milliseconds an answer is fresh, counted from its
// generation, and whether it says so itself (RFC 9111 4.2.1): the first of s-maxage,
// max-age, Expires less Date.
//
// If it says nothing, the lifetime is guessed as a tenth of the time since it was last
// modified, heuristicMax milliseconds at most (4.2.2). That is 0 without
// Last-Modified, and for a status that is not heuristically cacheable unless public.
func Lifetime(f *Facts, heuristicMax int64) (ms int64, explicit bool) {
	d := f.Directives
	switch {
	case d.SMaxAge != Absent:
		return clampSeconds(d.SMaxAge), true
	case d.MaxAge != Absent:
		return clampSeconds(d.MaxAge), true
	case d.Targeted:
		// RFC 9213 2.2: Expires does not count.
	case f.InvalidExpires:
		return 0, true
	case f.Expires != Absent:
		if f.Date == Absent {
			return 0, true
		}
		return min(max(f.Expires-f.Date, 0), lifetimeMax), true
	}
	if f.LastModified == Absent || f.Date == Absent || !guessable(f) {
		return 0, false
	}
	return max(min((f.Date-f.LastModified)/10, heuristicMax, lifetimeMax), 0), false
}

func clampSeconds(s int64) int64 { return min(max(s, 0), SecondsMax) * second }

// CorrectedInitialAge returns how old an answer was when it was received at
// responseTime, in milliseconds; the request for it was sent at requestTime. It is the
// greater of what the clocks say and what the caches on the way and the waiting say
// (RFC 9111 4.2.3). A clock that went backwards makes nothing younger.
func CorrectedInitialAge(f *Facts, requestTime, responseTime int64) int64 {
	apparent := int64(0)
	if f.Date != Absent {
		apparent = max(responseTime-f.Date, 0)
	}
	corrected := clampSeconds(f.Age) + max(responseTime-requestTime, 0)
	return min(max(apparent, corrected), lifetimeMax)
}

// CurrentAge returns how old an answer is now, in milliseconds: what it was when it
// was received, and the time since (RFC 9111 4.2.3).
func CurrentAge(initialAge, responseTime, now int64) int64 {
	return min(initialAge+max(now-responseTime, 0), lifetimeMax)
}

// ParseAge reads an Age field, in seconds: the first member if it is a list, Absent if
// that is no number of seconds (RFC 9111 5.1). Of several lines, the first is meant.
func ParseAge(value []byte) int64 {
	first, _, _ := bytes.Cut(value, comma)
	return parseSeconds(trim(first))
}
