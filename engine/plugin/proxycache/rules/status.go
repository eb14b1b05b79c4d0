package rules

import "strconv"

// Forward says why a request went on to the origin (RFC 9211 2.2).
type Forward uint8

// The reasons to forward.
const (
	NotForwarded Forward = iota
	Bypass               // the cache was configured not to handle it
	ByMethod             // its method requires it
	URIMiss              // nothing is stored for the URI
	VaryMiss             // nothing is stored that matches its fields
	Miss                 // nothing is stored, for either reason
	ByRequest            // something fresh is stored, but the request did not want it
	Stale                // what is stored is stale
	Partial              // what is stored has not all it asks for
)

var forwards = [...]string{"", "bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"}

// String returns the value of fwd, empty for NotForwarded.
func (f Forward) String() string {
	if int(f) >= len(forwards) {
		return "unknown"
	}
	return forwards[f]
}

// Status is one member of Cache-Status: what the cache did with a request. The zero
// value says nothing but that there is a cache.
type Status struct {
	Hit bool // answered from the store without asking; Forward does not count then

	Forward       Forward
	ForwardStatus int  // the origin's status, 0 if it is not told
	Stored        bool // its answer was stored
	Collapsed     bool // it was another request's answer

	HasTTL bool
	TTL    int64 // the rest of its freshness in seconds, negative if stale

	Key    []byte // the cache key, nil if it is not told
	Detail string // a word of ours, empty for none
}

// AppendCacheStatus appends a member of Cache-Status (RFC 9211 2), as in
//
//	sluice; hit; ttl=376
//	sluice; fwd=uri-miss; fwd-status=200; stored
//
// It is to stand after what other caches have put there, behind a comma. Bytes of Key
// that a String cannot have are percent-encoded.
func AppendCacheStatus(dst []byte, s *Status) []byte {
	dst = append(dst, "sluice"...)
	switch {
	case s.Hit:
		dst = append(dst, "; hit"...)
	case s.Forward != NotForwarded:
		dst = append(append(dst, "; fwd="...), s.Forward.String()...)
		if s.ForwardStatus > 0 {
			dst = strconv.AppendInt(append(dst, "; fwd-status="...), int64(s.ForwardStatus), 10)
		}
	}
	if s.HasTTL {
		const most = 999_999_999_999_999 // of an Integer, RFC 9651 3.3.1
		dst = strconv.AppendInt(append(dst, "; ttl="...), min(max(s.TTL, -most), most), 10)
	}
	if !s.Hit && s.Forward != NotForwarded {
		if s.Stored {
			dst = append(dst, "; stored"...)
		}
		if s.Collapsed {
			dst = append(dst, "; collapsed"...)
		}
	}
	if s.Key != nil {
		dst = append(dst, `; key="`...)
		for _, c := range s.Key {
			dst = appendStringByte(dst, c)
		}
		dst = append(dst, '"')
	}
	if s.Detail != "" {
		dst = appendDetail(append(dst, "; detail="...), s.Detail)
	}
	return dst
}

// appendDetail appends a Token, or a String where it is none.
func appendDetail(dst []byte, detail string) []byte {
	word := isAlpha(detail[0]) || detail[0] == '*'
	for i := range len(detail) {
		word = word && (tokenChars[detail[i]] || detail[i] == ':' || detail[i] == '/')
	}
	if word {
		return append(dst, detail...)
	}
	dst = append(dst, '"')
	for i := range len(detail) {
		dst = appendStringByte(dst, detail[i])
	}
	return append(dst, '"')
}

// appendStringByte appends one byte of a String (RFC 9651 3.3.3).
func appendStringByte(dst []byte, c byte) []byte {
	const hex = "0123456789abcdef"
	switch {
	case c == '"' || c == '\\':
		return append(dst, '\\', c)
	case c < ' ' || c > '~':
		return append(dst, '%', hex[c>>4], hex[c&15])
	}
	return append(dst, c)
}
