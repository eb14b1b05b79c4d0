package rules

// Range is a range of bytes of a body, both ends included, counted from 0.
type Range struct{ Start, End int64 }

// RangeKind says what a Range field asks for.
type RangeKind uint8

const (
	// RangeNone is for a field that does not count, so that the whole is sent with
	// 200: it is malformed, of another unit, or asks for several ranges, which a
	// server may ignore (RFC 9110 14.2).
	RangeNone RangeKind = iota

	// RangeOne is for a part, sent with 206.
	RangeOne

	// RangeUnsatisfiable is for bytes that the body does not have: 416 with its size.
	RangeUnsatisfiable
)

// ParseRange reads a Range field for a body of size bytes (RFC 9110 14.1.2, 14.2).
// The range it returns lies in the body; it is zero unless kind is RangeOne.
func ParseRange(value []byte, size int64) (r Range, kind RangeKind) {
	const unit = "bytes="
	if len(value) < len(unit) || !is(value[:len(unit)], unit) || size < 0 {
		return Range{}, RangeNone
	}
	l := elements{rest: value[len(unit):], bare: true}
	spec := l.next()
	if spec == nil || l.next() != nil {
		return Range{}, RangeNone
	}
	if spec[0] == '-' {
		return suffixRange(spec[1:], size)
	}
	first := 0
	for first < len(spec) && isDigit(spec[first]) {
		first++
	}
	start, ok := parseDigits(spec[:first])
	if !ok || first == len(spec) || spec[first] != '-' {
		return Range{}, RangeNone
	}
	end := size - 1
	if last := spec[first+1:]; len(last) > 0 {
		if end, ok = parseDigits(last); !ok || end < start {
			return Range{}, RangeNone
		}
	}
	if start >= size {
		return Range{}, RangeUnsatisfiable
	}
	return Range{start, min(end, size-1)}, RangeOne
}

// suffixRange reads the length of a range at the end.
func suffixRange(b []byte, size int64) (Range, RangeKind) {
	length, ok := parseDigits(b)
	switch {
	case !ok:
		return Range{}, RangeNone
	case length == 0:
		return Range{}, RangeUnsatisfiable
	case size == 0:
		// Satisfiable, but Content-Range cannot say so: the whole is as good.
		return Range{}, RangeNone
	}
	return Range{max(size-length, 0), size - 1}, RangeOne
}
