package main

import (
	"fmt"
	"strings"
)

// limits are what a change may cost before it fails.
type limits struct {
	ratio        float64 // allowed growth of the median ratio, as a share
	significance float64 // a difference counts when its p is below
}

// verdict is what became of one comparison.
type verdict string

const (
	pass verdict = "pass"
	note verdict = "note" // passed, and somebody should read why it is mentioned
	fail verdict = "FAIL"
)

// What is measured.
const (
	measureRun    = "run"
	measureAllocs = "allocs/op"
	measureBytes  = "B/op"
	measureRatio  = "x floor"
	measureCalls  = "calls/request"
)

// finding is one comparison of one row. A figure that there is none of is nil.
type finding struct {
	Row      string   `json:"row"`
	Measure  string   `json:"measure"`
	Baseline *float64 `json:"baseline,omitempty"`
	Run      *float64 `json:"run,omitempty"`
	Change   *float64 `json:"change,omitempty"` // run less baseline; for ratios the growth as a share
	P        *float64 `json:"p,omitempty"`      // that chance alone differs so
	Verdict  verdict  `json:"verdict"`
	Message  string   `json:"message,omitempty"`
}

// judgement is what the comparison of two measurements found.
type judgement struct {
	Findings []*finding `json:"findings"`
	Notes    []string   `json:"notes"` // of the whole comparison

	// unusable are the faults of the run itself, whatever the baseline says: with one
	// of them it must not become the baseline.
	unusable []error
}

// judge compares result with baseline by the rules of the package comment.
func judge(baseline, result *measured, l limits) *judgement {
	j := &judgement{Findings: []*finding{}, Notes: []string{}}
	j.judgeBench(baseline.bench, result.bench)
	j.judgeWire(baseline.wire, result.wire, l)
	return j
}

// failures counts what failed.
func (j *judgement) failures() int {
	n := 0
	for _, f := range j.Findings {
		if f.Verdict == fail {
			n++
		}
	}
	return n
}

// rows counts the rows of the result, each once however much of it was compared.
func (j *judgement) rows() int {
	seen := map[string]bool{}
	for _, f := range j.Findings {
		if f.Run != nil {
			seen[f.Row] = true
		}
	}
	return len(seen)
}

// add adds a finding about a row, which passes until something else is said.
func (j *judgement) add(row, measure string) *finding {
	f := &finding{Row: row, Measure: measure, Verdict: pass}
	j.Findings = append(j.Findings, f)
	return f
}

// invalidate fails a finding for a fault of the run itself.
func (j *judgement) invalidate(f *finding, format string, args ...any) {
	f.say(fail, format, args...)
	j.unusable = append(j.unusable, fmt.Errorf("%s: %s", f.Row, f.Message))
}

// compare sets both figures and their difference.
func (f *finding) compare(was, is float64) *finding {
	f.Baseline, f.Run, f.Change = new(was), new(is), new(is-was)
	return f
}

// say sets the verdict and why.
func (f *finding) say(v verdict, format string, args ...any) {
	f.Verdict, f.Message = v, fmt.Sprintf(format, args...)
}

// judgeBench compares benchmarks: allocations exactly.
func (j *judgement) judgeBench(baseline, result *benchResults) {
	for _, fault := range result.faults {
		j.invalidate(j.add("go test", measureRun), "the run failed: %s", strings.TrimSpace(fault))
	}
	for _, name := range result.order {
		j.judgeAllocs(name, baseline.of[name], result.of[name])
	}
	for _, name := range baseline.order {
		if result.of[name] == nil {
			j.add(name, measureAllocs).say(note, "in the baseline, not in the result")
		}
	}
}

// judgeAllocs judges one benchmark; was is nil if the baseline does not know it.
func (j *judgement) judgeAllocs(name string, was, is *figures) {
	f := j.add(name, measureAllocs)
	if !is.counted {
		j.invalidate(f, "no allocs/op in the result (b.ReportAllocs or -benchmem)")
		return
	}
	f.Run = new(is.allocs)
	switch {
	case was == nil && is.allocs > 0:
		f.say(fail, "%g allocs/op, not in the baseline, so 0 allowed", is.allocs)
		return
	case was == nil:
		f.say(note, "new, allocates nothing")
		return
	case !was.counted && is.allocs > 0:
		f.say(fail, "%g allocs/op, the baseline does not count them, so 0 allowed", is.allocs)
		return
	case !was.counted:
		return
	}
	f.compare(was.allocs, is.allocs)
	switch {
	case is.allocs > was.allocs:
		f.say(fail, "%g allocs/op, was %g", is.allocs, was.allocs)
		return
	case is.allocs < was.allocs:
		f.say(note, "%g allocs/op, was %g: lower the baseline", is.allocs, was.allocs)
	}
	if is.bytes > was.bytes {
		j.add(name, measureBytes).compare(was.bytes, is.bytes).say(note, "%g B/op, was %g", is.bytes, was.bytes)
	}
}
