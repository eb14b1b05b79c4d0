package rules

// Verdict says what to do with a stored answer that matches a request.
type Verdict uint8

const (
	// Revalidate means that it is stale, or says no-cache, and must not be given
	// before the origin was asked.
	Revalidate Verdict = iota

	// Demanded means that it is fresh, but the request wants the origin asked.
	Demanded

	// Fresh means that it may be given.
	Fresh

	// StaleAllowed means that it is stale, and the request takes it so (max-stale).
	StaleAllowed

	// StaleWhileRevalidate means that it is stale and may be given, while the origin
	// is asked in the background (RFC 5861 3).
	StaleWhileRevalidate
)

// String returns the verdict as a word.
func (v Verdict) String() string {
	switch v {
	case Revalidate:
		return "revalidate"
	case Demanded:
		return "demanded"
	case Fresh:
		return "fresh"
	case StaleAllowed:
		return "stale-allowed"
	case StaleWhileRevalidate:
		return "stale-while-revalidate"
	}
	return "unknown"
}

// MayServe reports whether the answer may be given without asking the origin first.
// A request with OnlyIfCached is answered with 504 otherwise (RFC 9111 5.2.1.7).
func (v Verdict) MayServe() bool { return v >= Fresh }

// Decide says whether a stored answer may be given to a request (RFC 9111 4.2, 4.2.4,
// 5.2.1). age and lifetime are in milliseconds, of CurrentAge and Lifetime. demand is
// nil if the request's directives do not count.
func Decide(d *Directives, demand *Demands, age, lifetime int64) Verdict {
	stale := age - lifetime // milliseconds; fresh if negative
	if stale < 0 && !d.NoCache {
		if demand != nil && refuses(demand, age, lifetime) {
			return Demanded
		}
		return Fresh
	}
	if !MayServeStale(d, demand) || demand != nil && refuses(demand, age, lifetime) {
		return Revalidate
	}
	switch {
	case within(stale, d.StaleWhileRevalidate):
		// First, since the answer is made fresh again for those who come later.
		return StaleWhileRevalidate
	case demand != nil && (demand.AnyStale || within(stale, demand.MaxStale)):
		return StaleAllowed
	}
	return Revalidate
}

// refuses reports whether a request does not want an answer of this age whatever its
// staleness (RFC 9111 5.2.1.1, 5.2.1.3, 5.2.1.4).
func refuses(demand *Demands, age, lifetime int64) bool {
	return demand.NoCache ||
		demand.MaxAge >= 0 && age > demand.MaxAge*second ||
		demand.MinFresh >= 0 && lifetime-age < demand.MinFresh*second
}

// within reports whether milliseconds of staleness lie in a window of seconds, which
// may be Absent.
func within(stale, seconds int64) bool { return seconds >= 0 && stale <= seconds*second }

// MayServeStale reports whether nothing forbids to give an answer once it is stale;
// something must permit it, too. Forbidden is it by no-cache, must-revalidate,
// proxy-revalidate and s-maxage, which implies proxy-revalidate (RFC 9111 4.2.4,
// 5.2.2.10), and by a request with no-cache, or with max-age or min-fresh unless it
// has max-stale as well (5.2.1). demand may be nil.
func MayServeStale(d *Directives, demand *Demands) bool {
	if d.NoCache || d.MustRevalidate || d.ProxyRevalidate || d.SMaxAge != Absent {
		return false
	}
	if demand == nil {
		return true
	}
	tolerant := demand.AnyStale || demand.MaxStale != Absent
	return !demand.NoCache && (tolerant || demand.MaxAge == Absent && demand.MinFresh == Absent)
}

// MayServeOnError reports whether a stored answer may be given because the origin
// could not be reached or answered 500, 502, 503 or 504: stale-if-error, of the answer
// or of the request, the longer one (RFC 5861 4). Arguments as of Decide.
func MayServeOnError(d *Directives, demand *Demands, age, lifetime int64) bool {
	if !MayServeStale(d, demand) {
		return false
	}
	stale := age - lifetime
	return within(stale, d.StaleIfError) || demand != nil && within(stale, demand.StaleIfError)
}
