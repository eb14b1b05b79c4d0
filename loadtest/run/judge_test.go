package main

import (
	"bytes"
	"encoding/xml"
	"io"
	"strings"
	"testing"
	"time"
)

func TestThresholds(t *testing.T) {
	limit := func(d time.Duration) *time.Duration { return &d }
	none, share, upTo := 0, 0.5, 70
	all := Thresholds{P95: limit(10 * ms), P99: limit(20 * ms), Failures: &share, Dropped: &none, UpTo: &upTo}
	is := func(p Point, want ...string) {
		t.Helper()
		p.Name = "point"
		got := all.faults(&p)
		if len(got) != len(want) {
			t.Errorf("faults are %q, want %d", got, len(want))
			return
		}
		for i := range want {
			if !strings.Contains(got[i], want[i]) || !strings.HasPrefix(got[i], "point: ") {
				t.Errorf("fault is %q, want %q in it", got[i], want[i])
			}
		}
	}
	met := Quantiles{P95: 10_000, P99: 20_000}
	is(Point{Requests: 200, Sent: 200, Failed: 1, FromPlan: met})
	is(Point{Requests: 200, Sent: 200, Failed: 2, FromPlan: met}, "2 of 200 requests failed (1.000 %), threshold 0.5 %")
	is(Point{Requests: 200, FromPlan: Quantiles{P95: 10_001, P99: 20_001}}, "p95 is 10.001ms, threshold 10ms", "p99 is 20.001ms, threshold 20ms")
	is(Point{Requests: 200, FromPlan: met, Dropped: 1, Planned: 201}, "1 of 201 planned requests were not sent, threshold 0")
	is(Point{Requests: 200, FromPlan: met, missed: "script.js: admitted"}, "script.js: admitted")
	is(Point{Percent: 70, Requests: 1, FromPlan: Quantiles{P95: 11_000}, Dropped: 1}, "p95", "not sent")
	is(Point{Percent: 90, Requests: 1, FromPlan: Quantiles{P95: 11_000, P99: 30_000}, Dropped: 1})
	is(Point{Percent: 90, Requests: 1, Failed: 1}, "1 of 1 requests failed")
	all = Thresholds{}
	is(Point{Requests: 1, Failed: 1, Dropped: 7, FromPlan: Quantiles{P99: 1 << 40}})
}

func TestWarnings(t *testing.T) {
	is := func(r report, want ...string) {
		t.Helper()
		r.warn(&Thresholds{})
		if len(r.Warnings) != len(want) {
			t.Errorf("warnings are %q, want %d", r.Warnings, len(want))
			return
		}
		for i := range want {
			if !strings.Contains(r.Warnings[i], want[i]) {
				t.Errorf("warning is %q, want %q in it", r.Warnings[i], want[i])
			}
		}
	}
	pinned := placement{gateway: []int{0}, rest: []int{1}}
	is(report{Placement: pinned, Direct: 2000, Capacity: 1000})
	is(report{Placement: pinned, Direct: 1999, Capacity: 1000}, "2.00 times the capacity (1000)")
	is(report{Placement: pinned, Direct: 1500, Points: []*Point{{Name: "p", Achieved: 1000}}}, "1.50 times the rate of p (1000)")
	is(report{Direct: 2000, Capacity: 1000}, "nothing is pinned")
}

func TestPlots(t *testing.T) {
	h := newHistogram()
	for i := range 10_000 {
		record(h, time.Duration(i)*100*time.Microsecond)
	}
	var text bytes.Buffer
	if err := hgrm(&text, h); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Value", "Percentile", "TotalCount", "1/(1-Percentile)", "#[Mean", "Total count    =        10000"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, text.String())
		}
	}
	svg := plot("a <title> & more", []series{{"first", h}, {"second", newHistogram()}})
	d := xml.NewDecoder(bytes.NewReader(svg))
	elements := map[string]int{}
	points := 0
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("the plot is no XML: %v\n%s", err, svg)
		}
		if e, ok := token.(xml.StartElement); ok {
			elements[e.Name.Local]++
			for _, a := range e.Attr {
				if a.Name.Local == "points" {
					points = max(points, len(strings.Fields(a.Value)))
				}
			}
		}
	}
	if elements["svg"] != 1 || elements["polyline"] != 2 || points < 30 {
		t.Errorf("the plot has elements %v and a curve of %d points, want 2 curves of 30 and more", elements, points)
	}
	if !bytes.Contains(svg, []byte(">99.9 %<")) || !bytes.Contains(svg, []byte(">1000 ms<")) || bytes.Contains(svg, []byte("NaN")) {
		t.Errorf("the axes lack 99.9 %% or 1000 ms, or have a NaN:\n%s", svg)
	}
}

func TestNiceStep(t *testing.T) {
	is := func(top, want float64) {
		t.Helper()
		if got := niceStep(top); got < want*0.999 || got > want*1.001 {
			t.Errorf("niceStep(%g) = %g, want %g", top, got, want)
		}
	}
	is(6, 1)
	is(7, 2)
	is(30, 5)
	is(31, 10)
	is(0.6, 0.1)
}
