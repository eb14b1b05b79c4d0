package rules

import (
	"math"
	"testing"
)

func ranged(t *testing.T, in string, size int64, want Range, kind RangeKind) {
	t.Helper()
	if got, k := ParseRange([]byte(in), size); got != want || k != kind {
		t.Errorf("%q of %d: got %+v %d, want %+v %d", in, size, got, k, want, kind)
	}
}

// RFC 9110 14.1.2: first and last byte, both included; what lies behind the end is cut.
func TestRangeFirstLast(t *testing.T) {
	ranged(t, "bytes=0-0", 10, Range{0, 0}, RangeOne)
	ranged(t, "bytes=0-9", 10, Range{0, 9}, RangeOne)
	ranged(t, "bytes=3-5", 10, Range{3, 5}, RangeOne)
	ranged(t, "bytes=3-100", 10, Range{3, 9}, RangeOne)
	ranged(t, "bytes=3-99999999999999999999999", 10, Range{3, 9}, RangeOne)
	ranged(t, "bytes=003-005", 10, Range{3, 5}, RangeOne)
	ranged(t, "bytes=3-", 10, Range{3, 9}, RangeOne)
	ranged(t, "bytes=0-", math.MaxInt64, Range{0, math.MaxInt64 - 1}, RangeOne)
}

// RFC 9110 14.1.2: a length at the end, the whole if there is less.
func TestRangeSuffix(t *testing.T) {
	ranged(t, "bytes=-1", 10, Range{9, 9}, RangeOne)
	ranged(t, "bytes=-10", 10, Range{0, 9}, RangeOne)
	ranged(t, "bytes=-11", 10, Range{0, 9}, RangeOne)
	ranged(t, "bytes=-99999999999999999999999", 10, Range{0, 9}, RangeOne)
	ranged(t, "bytes=-5", 0, Range{}, RangeNone)
}

// RFC 9110 14.1.1, 14.2, 15.5.17: what no byte of the body satisfies.
func TestRangeUnsatisfiable(t *testing.T) {
	ranged(t, "bytes=10-", 10, Range{}, RangeUnsatisfiable)
	ranged(t, "bytes=10-20", 10, Range{}, RangeUnsatisfiable)
	ranged(t, "bytes=99999999999999999999999-", 10, Range{}, RangeUnsatisfiable)
	ranged(t, "bytes=99999999999999999999999-99999999999999999999999", math.MaxInt64, Range{}, RangeUnsatisfiable)
	ranged(t, "bytes=-0", 10, Range{}, RangeUnsatisfiable)
	ranged(t, "bytes=0-", 0, Range{}, RangeUnsatisfiable)
	ranged(t, "bytes=0-0", 0, Range{}, RangeUnsatisfiable)
}

// RFC 9110 14.2: other units, and what is malformed, do not count.
func TestRangeInvalidIgnored(t *testing.T) {
	for _, in := range []string{
		"", "bytes", "bytes=", "bytes=,", "bytes=-", "bytes=a-b", "bytes=1", "bytes=1-x", "bytes=x-1", "bytes=5-3", "bytes=--1", "bytes=-1-", "bytes=1--2", "bytes=+1-2",
		"bytes=1-2x", "bytes=1 -2", "bytes=1- 2", "bytes=0x1-2", "bytes=1-2-3", "bytes= ", "bytes =1-2", "items=1-2", "byte=1-2", "bytes:1-2", "bytes=\x001-2", "bytes=1-2;x", `bytes="1-2"`,
	} {
		ranged(t, in, 10, Range{}, RangeNone)
	}
	ranged(t, "bytes=0-1", -1, Range{}, RangeNone)
}

// RFC 9110 14.2: several ranges may be ignored, and are, also where they are the same.
func TestRangeSeveralIgnored(t *testing.T) {
	ranged(t, "bytes=0-1,3-4", 10, Range{}, RangeNone)
	ranged(t, "bytes=0-1, 0-1", 10, Range{}, RangeNone)
	ranged(t, "bytes=0-1,x", 10, Range{}, RangeNone)
	ranged(t, "bytes=,0-1 ,", 10, Range{0, 1}, RangeOne) // RFC 9110 5.6.1.2: empty members do not count
}

// RFC 9110 14.1: names of units match in any case.
func TestRangeUnitInAnyCase(t *testing.T) {
	ranged(t, "Bytes=0-1", 10, Range{0, 1}, RangeOne)
}
