package rules

import "bytes"

// entityTag is an entity tag: the part in quotes, quotes included, and whether W/
// stands before it (RFC 9110 8.8.3).
type entityTag struct {
	opaque []byte
	weak   bool
}

// cutTag cuts off the entity tag that b begins with. n is its length, 0 if there is
// none. A backslash escapes nothing in it, and a comma ends nothing.
func cutTag(b []byte) (tag entityTag, n int) {
	if len(b) > 2 && b[0] == 'W' && b[1] == '/' {
		tag.weak, n = true, 2
	}
	if len(b) == n || b[n] != '"' {
		return entityTag{}, 0
	}
	for i := n + 1; i < len(b); i++ {
		c := b[i]
		if c == '"' {
			tag.opaque = b[n : i+1]
			return tag, i + 1
		}
		if c < 0x21 || c == 0x7f {
			break
		}
	}
	return entityTag{}, 0
}

// ParseTag reports whether b is an entity tag and whether it is a weak one.
func ParseTag(b []byte) (weak, ok bool) {
	tag, n := cutTag(b)
	return tag.weak, n > 0 && n == len(b)
}

// MatchStrong reports whether a list of If-Match has an entity tag, or is *, by the
// strong comparison: two weak tags are never the same (RFC 9110 8.8.3.2). etag is the
// stored answer's, empty if it has none: then only * matches.
func MatchStrong(list, etag []byte) bool { return match(list, etag, true) }

// MatchWeak is MatchStrong by the weak comparison: W/ does not count. It is that of
// If-None-Match (RFC 9110 13.1.2).
func MatchWeak(list, etag []byte) bool { return match(list, etag, false) }

// match looks for etag in list; members that are no entity tags match nothing.
func match(list, etag []byte, strong bool) bool {
	list = trim(list)
	if len(list) == 1 && list[0] == '*' {
		return true
	}
	want, n := cutTag(etag)
	if n == 0 || n != len(etag) || strong && want.weak {
		return false
	}
	for len(list) > 0 {
		tag, n := cutTag(list)
		list = trimLeft(list[n:])
		whole := n > 0 && (len(list) == 0 || list[0] == ',')
		if whole && (!strong || !tag.weak) && bytes.Equal(tag.opaque, want.opaque) {
			return true
		}
		_, list, _ = bytes.Cut(list, comma)
		list = trimLeft(list)
	}
	return false
}

// Conditions are the preconditions of a GET or HEAD request that a cache evaluates;
// If-Match and If-Unmodified-Since are for the origin (RFC 9111 4.3.2). The zero value
// is a request without.
type Conditions struct {
	// IfNoneMatch is of all lines, joined with commas. HasIfNoneMatch says that there
	// is one, which may be empty.
	IfNoneMatch    []byte
	HasIfNoneMatch bool

	// IfModifiedSince is the field's value, nil without or if it has several lines.
	IfModifiedSince []byte

	// Now dates two-digit years, milliseconds since 1970.
	Now int64
}

// NotModified reports whether a request is answered with 304 from a stored answer to
// GET or HEAD with status 200 (RFC 9110 13.2.2 steps 3 and 4, RFC 9111 4.3.2). etag is
// that answer's, or empty; lastModified and date are in milliseconds, Absent if not
// sent. Without Last-Modified, Date takes its place.
func NotModified(c *Conditions, etag []byte, lastModified, date int64) bool {
	if c.HasIfNoneMatch {
		return MatchWeak(c.IfNoneMatch, etag) // If-Modified-Since does not count then
	}
	if len(c.IfModifiedSince) == 0 {
		return false
	}
	since, ok := ParseDate(c.IfModifiedSince, c.Now)
	if lastModified == Absent {
		lastModified = date
	}
	return ok && lastModified != Absent && lastModified <= since
}

// IfRange reports whether the Range of a request with this If-Range counts, for a
// stored answer with etag, or empty, and lastModified and date in milliseconds, or
// Absent. Otherwise the whole is sent (RFC 9110 13.1.5).
//
// An entity tag must be the same by the strong comparison. A date must be exactly
// that of Last-Modified, at least a second before Date: what was modified in the
// second it was sent may be so again (8.8.2.2).
func IfRange(value, etag []byte, lastModified, date int64) bool {
	if tag, n := cutTag(value); n > 0 {
		return n == len(value) && !tag.weak && bytes.Equal(value, etag)
	}
	since, ok := ParseDate(value, date)
	return ok && lastModified != Absent && date != Absent &&
		since == lastModified && date-lastModified >= second
}
