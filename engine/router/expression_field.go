package router

import (
	"bytes"
	"strconv"
	"strings"
)

// field names something of a request that an expression can look at.
type field struct {
	kind        fieldKind
	name        string // of a header ("x-name") or query argument
	first, last int    // of path segments, from 0
}

type fieldKind uint8

const (
	fieldMethod fieldKind = iota
	fieldHost             // without port, lower-cased
	fieldPath
	fieldSegments
	fieldSegmentCount
	fieldHeader
	fieldQuery
	fieldProtocol
	fieldSrcIP
	fieldSrcPort
	fieldDstIP
	fieldDstPort
	fieldSNI
)

type valueType uint8

const (
	typeString valueType = iota
	typeInt
	typeAddr
	typeNetwork // literals only
)

var typeNames = [...]string{"String", "Int", "IpAddr", "IpCidr"}

func (k fieldKind) valueType() valueType {
	switch k {
	case fieldSegmentCount, fieldSrcPort, fieldDstPort:
		return typeInt
	case fieldSrcIP, fieldDstIP:
		return typeAddr
	}
	return typeString
}

// fieldNames are the fields with a fixed name. net.port is a deprecated name.
var fieldNames = map[string]fieldKind{
	"http.method": fieldMethod, "http.host": fieldHost, "http.path": fieldPath,
	"http.path.segments.len": fieldSegmentCount, "net.protocol": fieldProtocol,
	"net.src.ip": fieldSrcIP, "net.src.port": fieldSrcPort,
	"net.dst.ip": fieldDstIP, "net.dst.port": fieldDstPort, "net.port": fieldDstPort,
	"tls.sni": fieldSNI,
}

// parseField returns the field called name.
func parseField(name string) (field, bool) {
	if kind, ok := fieldNames[name]; ok {
		return field{kind: kind}, true
	}
	if header, ok := strings.CutPrefix(name, "http.headers."); ok {
		lower := lowerString(header)
		return field{kind: fieldHeader, name: strings.ReplaceAll(lower, "_", "-")}, header != "" && lower == header
	}
	if arg, ok := strings.CutPrefix(name, "http.queries."); ok {
		return field{kind: fieldQuery, name: arg}, arg != ""
	}
	segments, ok := strings.CutPrefix(name, "http.path.segments.")
	if !ok {
		return field{}, false
	}
	from, to, isRange := strings.Cut(segments, "_")
	if !isRange {
		to = from
	}
	first, err1 := strconv.ParseUint(from, 10, 16)
	last, err2 := strconv.ParseUint(to, 10, 16)
	if err1 != nil || err2 != nil || first > last {
		return field{}, false
	}
	return field{kind: fieldSegments, first: int(first), last: int(last)}, true
}

// value returns the string value of a field with at most one, nil if it has none.
// It may lie in the scratch space.
func (f *field) value(s *search) []byte {
	switch f.kind {
	case fieldMethod:
		return s.r.Method
	case fieldHost:
		if len(s.host) == 0 {
			return nil
		}
		return s.r.lowered(s.host)
	case fieldSegments:
		return pathSegments(s.path, f.first, f.last)
	case fieldProtocol:
		return s.r.copied(s.r.Protocol)
	case fieldSNI:
		return s.r.lowered(s.r.copied(strings.TrimSuffix(s.r.SNI, ".")))
	}
	panic("BUG: field is not a single string")
}

// copied returns text in the scratch space, nil if it is empty.
func (r *Request) copied(text string) []byte {
	if text == "" {
		return nil
	}
	r.scratch = append(r.scratch[:0], text...)
	return r.scratch
}

// segmentCount counts the segments of a path; a slash at the end adds none.
func segmentCount(path []byte) int {
	path = trimSlashes(path)
	if len(path) == 0 {
		return 0
	}
	return bytes.Count(path, slash) + 1
}

// pathSegments returns segments first to last with the slashes between them, nil
// if the path has fewer.
func pathSegments(path []byte, first, last int) []byte {
	rest := trimSlashes(path)
	if len(rest) == 0 {
		return nil
	}
	start, pos := 0, 0
	for i := 0; ; i++ {
		if i == first {
			start = pos
		}
		end := bytes.IndexByte(rest[pos:], '/')
		if i == last {
			if end < 0 {
				return rest[start:]
			}
			return rest[start : pos+end]
		}
		if end < 0 {
			return nil
		}
		pos += end + 1
	}
}

func trimSlashes(path []byte) []byte {
	if len(path) > 0 && path[0] == '/' {
		path = path[1:]
	}
	if n := len(path); n > 0 && path[n-1] == '/' {
		path = path[:n-1]
	}
	return path
}

var (
	slash     = []byte("/")
	ampersand = []byte("&")
	equals    = []byte("=")
)

// appendUnescaped decodes a name or value of a query: "+" is a space, malformed
// escapes stay.
func appendUnescaped(dst, text []byte) []byte {
	for len(text) > 0 {
		c, n := unescaped(text)
		dst = append(dst, c)
		text = text[n:]
	}
	return dst
}

// decodesTo reports whether text, unescaped, equals want.
func decodesTo(text []byte, want string) bool {
	i := 0
	for ; len(text) > 0; i++ {
		c, n := unescaped(text)
		if i == len(want) || c != want[i] {
			return false
		}
		text = text[n:]
	}
	return i == len(want)
}

// unescaped decodes the first byte of text and returns how many bytes it took.
func unescaped(text []byte) (c byte, n int) {
	switch {
	case text[0] == '+':
		return ' ', 1
	case text[0] == '%' && len(text) >= 3 && byteClass[text[1]]&byteClass[text[2]]&hexByte != 0:
		return unhex(text[1])<<4 | unhex(text[2]), 3
	}
	return text[0], 1
}
