package rules

// Facts are what an answer says about itself. Points in time are in milliseconds
// since 1970, Absent if not sent: the zero value is not an answer that says nothing.
type Facts struct {
	Status     int
	Directives *Directives // not nil

	// Date is the field's value or, if that is missing or invalid, the time the
	// answer was received (RFC 9110 6.6.1).
	Date         int64
	Expires      int64
	LastModified int64

	InvalidExpires bool  // Expires was sent but is no date, such as 0: long expired
	Age            int64 // of the Age field as ParseAge reads it, seconds

	RequestNoStore bool // the request's Cache-Control had no-store
}

// Reason says why an answer may not be stored. The zero value says that it may.
type Reason uint8

// The reasons. TooManyVary and VaryStar are not Storable's but AppendVaryNames' and
// Vary's, so that there is one vocabulary.
const (
	MayStore          Reason = iota
	NoStore                  // no-store
	RequestNoStore           // no-store in the request
	Private                  // private, without field names
	Authorization            // the request had credentials and nothing permits storing
	NotUnderstood            // must-understand, with a status that is not understood
	InterimStatus            // 1xx, or no status at all: not a final answer
	PartialStatus            // 206: parts are not combined here
	ValidatingStatus         // 304: it updates an answer and is none
	UncacheableStatus        // a status whose definition forbids it: 428, 429, 431, 511
	NoFreshness              // nothing says that it may be reused
	VaryStar                 // Vary: *
	TooManyVary              // Vary is malformed or has more than VaryNamesMax names
)

var reasons = [...]string{
	MayStore:          "",
	NoStore:           "no-store",
	RequestNoStore:    "request-no-store",
	Private:           "private",
	Authorization:     "authorization",
	NotUnderstood:     "must-understand",
	InterimStatus:     "interim-status",
	PartialStatus:     "partial",
	ValidatingStatus:  "not-modified",
	UncacheableStatus: "status",
	NoFreshness:       "no-freshness",
	VaryStar:          "vary-star",
	TooManyVary:       "vary-names",
}

// String returns a short word that stays the same between versions, empty for
// MayStore: a label of metrics, a detail of Cache-Status.
func (r Reason) String() string {
	if int(r) >= len(reasons) {
		return "unknown"
	}
	return reasons[r]
}

// Storable says whether a shared cache may store an answer to a method it understands
// (RFC 9111 3); authorized, that the request had an Authorization field (3.5).
// Vary is separate. Fields named by PrivateFields must not be stored even so.
func Storable(f *Facts, authorized bool) Reason {
	d := f.Directives
	switch {
	case f.Status < 200 || f.Status > 999:
		return InterimStatus
	case f.Status == 206:
		return PartialStatus
	case f.Status == 304:
		return ValidatingStatus
	case forbidden(f.Status):
		return UncacheableStatus
	case f.RequestNoStore:
		return RequestNoStore
	case d.MustUnderstand && !Understood(f.Status):
		return NotUnderstood
	case d.NoStore && !d.MustUnderstand: // RFC 9111 5.2.2.3: with it, no-store is for caches that do not know it
		return NoStore
	case d.Private:
		return Private
	case authorized && !d.Public && !d.MustRevalidate && d.SMaxAge == Absent:
		return Authorization
	case !reusable(f):
		return NoFreshness
	}
	return MayStore
}

// reusable reports whether something says how long an answer is fresh, or permits
// guessing it: the last condition of RFC 9111 3.
func reusable(f *Facts) bool {
	d := f.Directives
	expires := (f.Expires != Absent || f.InvalidExpires) && !d.Targeted
	return d.MaxAge != Absent || d.SMaxAge != Absent || expires || guessable(f)
}

// guessable reports whether a lifetime may be guessed (RFC 9111 4.2.2).
func guessable(f *Facts) bool { return f.Directives.Public || HeuristicallyCacheable(f.Status) }

// HeuristicallyCacheable reports whether a status is defined to be cacheable without
// anything that says so: RFC 9110 15.1, and 451 by RFC 7725 3.
func HeuristicallyCacheable(status int) bool {
	switch status {
	case 200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 451, 501:
		return true
	}
	return false
}

// Understood reports whether a status is one whose requirements on caches are met
// here, for must-understand (RFC 9111 5.2.2.3): the final ones of RFC 9110 15, and 451,
// except 206 and 304, which are never stored as they are.
func Understood(status int) bool {
	switch {
	case status == 206, status == 304, status == 306, status == 418:
		return false
	case status >= 200 && status <= 205, status >= 300 && status <= 308, status >= 400 && status <= 417:
		return true
	case status == 421, status == 422, status == 426, status == 451, status >= 500 && status <= 505:
		return true
	}
	return false
}

// forbidden reports whether a status must not be stored by definition (RFC 6585 3 to 6).
func forbidden(status int) bool {
	switch status {
	case 428, 429, 431, 511:
		return true
	}
	return false
}
