package router

import (
	"bytes"
	"errors"
)

// Faults for which NormalizePath refuses a path: no service would read such a
// path in one agreed way, so the gateway answers 400.
var (
	ErrPathNotAbsolute = errors.New("path does not start with /")
	ErrPathEscape      = errors.New("malformed percent-encoding in path")
	ErrPathNUL         = errors.New("NUL in path")
	ErrPathControl     = errors.New("control character in path")
)

// Ambiguity is a set of things in a path that some services read differently
// from others. They are no errors: whether they pass is the operator's policy.
type Ambiguity uint8

// What Ambiguities can find.
const (
	EncodedSlash     Ambiguity = 1 << iota // %2F: a separator to some, data to others
	Backslash                              // \ or %5C: a separator to some
	DoubleEncoding                         // %25 and two hex digits: decoded twice by some
	EncodedControl                         // %01 to %1F, %7F: line breaks in logs and headers
	EncodedDelimiter                       // %3F or %23: the end of the path to some
)

const (
	reservedByte = 1 << iota // stays encoded (RFC 3986, section 2.2, and "%")
	hexByte                  // 0-9 a-f A-F
	plainByte                // may stand in a path as it is
)

var byteClass = func() (class [256]uint8) {
	for _, c := range []byte("!*'();:@&=+$,/?%#[]") {
		class[c] |= reservedByte | plainByte
	}
	for _, c := range []byte("-._~") {
		class[c] |= plainByte
	}
	for c := '0'; c <= 'z'; c++ {
		if c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c {
			class[c] |= plainByte
		}
		if c <= '9' || 'A' <= c && c <= 'F' || 'a' <= c && c <= 'f' {
			class[c] |= hexByte
		}
	}
	return class
}()

// NormalizePath brings the path of a request (the query already cut off) into
// the form rules are written in: escapes of all but reserved characters are
// decoded, the others get upper-case digits, dot segments are resolved, and
// repeated slashes merged; "/%2e./" is a dot segment too. "%25" stays encoded, so
// nothing is ever decoded twice. Source: Kong's path matching rules; RFC 3986,
// section 6.2.2.
//
// The result is raw itself if nothing changes, else it is written over dst,
// which must not overlap raw. It may hold any byte but NUL, and needs EscapePath
// before it is sent anywhere. The error is one of ErrPathNotAbsolute,
// ErrPathEscape, ErrPathNUL and ErrPathControl. Hot: it allocates only to grow
// dst.
func NormalizePath(dst, raw []byte) ([]byte, error) {
	if len(raw) == 0 || raw[0] != '/' {
		return nil, ErrPathNotAbsolute
	}
	normal, err := isNormal(raw)
	if err != nil {
		return nil, err
	}
	if normal { // Fast path: nearly every request.
		return raw, nil
	}
	return resolveDots(appendDecoded(dst[:0], raw)), nil
}

// isNormal reports whether raw is in normalized form, and faults.
func isNormal(raw []byte) (bool, error) {
	normal := true
	for i, c := range raw {
		switch {
		case c == '/':
			if normal && i+1 < len(raw) && (raw[i+1] == '/' || raw[i+1] == '.' && dotSegment(raw[i+1:])) {
				normal = false
			}
		case c == '%':
			if len(raw)-i < 3 || byteClass[raw[i+1]]&byteClass[raw[i+2]]&hexByte == 0 {
				return false, ErrPathEscape
			}
			d := unhex(raw[i+1])<<4 | unhex(raw[i+2])
			if d == 0 {
				return false, ErrPathNUL
			}
			if byteClass[d]&reservedByte == 0 || raw[i+1] >= 'a' || raw[i+2] >= 'a' {
				normal = false
			}
		case c < ' ' || c == 0x7f:
			if c == 0 {
				return false, ErrPathNUL
			}
			return false, ErrPathControl
		}
	}
	return normal, nil
}

// dotSegment reports whether b, which starts with a dot, starts with a whole "."
// or ".." segment.
func dotSegment(b []byte) bool {
	if len(b) == 1 || b[1] == '/' {
		return true
	}
	return b[1] == '.' && (len(b) == 2 || b[2] == '/')
}

// appendDecoded decodes all but reserved characters; the escapes are well-formed.
func appendDecoded(dst, raw []byte) []byte {
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c != '%' {
			dst = append(dst, c)
			continue
		}
		d := unhex(raw[i+1])<<4 | unhex(raw[i+2])
		if byteClass[d]&reservedByte != 0 {
			dst = append(dst, '%', upperHex[d>>4], upperHex[d&15])
		} else {
			dst = append(dst, d)
		}
		i += 2
	}
	return dst
}

// resolveDots merges slashes and removes dot segments in place.
func resolveDots(p []byte) []byte {
	out := p[:0]
	for i := 0; i < len(p); {
		for i+1 < len(p) && p[i+1] == '/' {
			i++
		}
		end := len(p)
		if n := bytes.IndexByte(p[i+1:], '/'); n >= 0 {
			end = i + 1 + n
		}
		switch string(p[i+1 : end]) {
		case "..":
			out = out[:max(bytes.LastIndexByte(out, '/'), 0)]
			fallthrough
		case ".":
			if end == len(p) {
				out = append(out, '/')
			}
		default:
			out = append(out, p[i:end]...)
		}
		i = end
	}
	return out
}

// EscapePath turns a normalized path into one that may be sent: everything but
// reserved and unreserved characters is percent-encoded; "%" is left alone since
// what it introduces is an escape still. The result is path itself if nothing
// changes, else it is written over dst, which must not overlap path. Hot: it
// allocates only to grow dst.
func EscapePath(dst, path []byte) []byte {
	i := 0
	for i < len(path) && byteClass[path[i]]&plainByte != 0 {
		i++
	}
	if i == len(path) { // Fast path: nothing to encode.
		return path
	}
	dst = append(dst[:0], path[:i]...)
	for _, c := range path[i:] {
		if byteClass[c]&plainByte != 0 {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return dst
}

// Ambiguities returns what in the raw path of a request (not the normalized one)
// services are known to read differently. Malformed escapes are skipped:
// NormalizePath refuses them. Hot: it does not allocate.
func Ambiguities(raw []byte) Ambiguity {
	var found Ambiguity
	for i, c := range raw {
		if c == '\\' {
			found |= Backslash
		}
		if c != '%' || len(raw)-i < 3 || byteClass[raw[i+1]]&byteClass[raw[i+2]]&hexByte == 0 {
			continue
		}
		switch d := unhex(raw[i+1])<<4 | unhex(raw[i+2]); {
		case d == '/':
			found |= EncodedSlash
		case d == '\\':
			found |= Backslash
		case d == '?' || d == '#':
			found |= EncodedDelimiter
		case d < ' ' || d == 0x7f:
			found |= EncodedControl
		case d == '%' && len(raw)-i >= 5 && byteClass[raw[i+3]]&byteClass[raw[i+4]]&hexByte != 0:
			found |= DoubleEncoding
		}
	}
	return found
}

const upperHex = "0123456789ABCDEF"

// unhex returns the value of a hex digit.
func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}
