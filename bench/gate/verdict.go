package main

import (
	"bytes"
	"fmt"
	"io"
)

// verdict is what the comparison found.
type verdict struct {
	compared int
	failures []string
	notes    []string
}

// judge compares result with baseline by the rules of the package comment.
func judge(baseline, result *results) *verdict {
	v := &verdict{compared: len(result.order)}
	for _, fault := range result.faults {
		v.failf("the run failed: %s", fault)
	}
	for _, name := range result.order {
		v.compare(name, baseline.of[name], result.of[name])
	}
	for _, name := range baseline.order {
		if result.of[name] == nil {
			v.notef("%s: in the baseline, not in the result", name)
		}
	}
	return v
}

// compare judges one benchmark; was is nil if the baseline does not know it.
func (v *verdict) compare(name string, was, is *figures) {
	switch {
	case !is.counted:
		v.failf("%s: no allocs/op in the result (b.ReportAllocs or -benchmem)", name)
	case was == nil && is.allocs > 0:
		v.failf("%s: %g allocs/op, not in the baseline, so 0 allowed", name, is.allocs)
	case was == nil:
		v.notef("%s: new, allocates nothing", name)
	case !was.counted && is.allocs > 0:
		v.failf("%s: %g allocs/op, the baseline does not count them, so 0 allowed", name, is.allocs)
	case was.counted && is.allocs > was.allocs:
		v.failf("%s: %g allocs/op, was %g", name, is.allocs, was.allocs)
	case is.bytes > was.bytes:
		v.notef("%s: %g B/op, was %g", name, is.bytes, was.bytes)
	case is.allocs < was.allocs:
		v.notef("%s: %g allocs/op, was %g: lower the baseline", name, is.allocs, was.allocs)
	}
}

func (v *verdict) failf(format string, args ...any) {
	v.failures = append(v.failures, fmt.Sprintf(format, args...))
}

func (v *verdict) notef(format string, args ...any) {
	v.notes = append(v.notes, fmt.Sprintf(format, args...))
}

// WriteTo writes notes, failures and a closing line.
func (v *verdict) WriteTo(w io.Writer) (int64, error) {
	var b bytes.Buffer
	for _, note := range v.notes {
		fmt.Fprintln(&b, "note:", note)
	}
	for _, failure := range v.failures {
		fmt.Fprintln(&b, "FAIL:", failure)
	}
	fmt.Fprintf(&b, "gate: %d benchmarks compared, %d failures\n", v.compared, len(v.failures))
	return b.WriteTo(w)
}
