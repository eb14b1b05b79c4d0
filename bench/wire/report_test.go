package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func testReport() *report {
	r := &report{
		facts:    []fact{{"date", "today"}, {"commit", "abc"}},
		subjects: []string{"relay", "full"},
		idle:     []*idleCost{{row: "full", connections: 10, bytes: 2048}},
		calls:    []*traced{{subject: "full", requests: 100, calls: []callCount{{"read", 200}, {"write", 150}, {"brk", 0}}}},
	}
	add := func(round int, name string, cpu time.Duration, rate float64) {
		r.samples = append(r.samples, &sample{
			round: round, subject: name, cpu: cpu, source: "schedstat", own: 0.5, other: 0.01, resident: 3 << 20,
			load: &load{requests: 1000, duration: time.Second, perSecond: rate, p50: time.Millisecond, p99: 2 * time.Millisecond},
		})
	}
	add(1, "relay", 10*time.Millisecond, 1000)
	add(1, "full", 12*time.Millisecond, 900)
	add(1, direct, 0, 1600)
	add(2, direct, 0, 1600)
	add(2, "full", 26*time.Millisecond, 500)
	add(2, "relay", 20*time.Millisecond, 1000)
	return r
}

func TestReport(t *testing.T) {
	f := func(r *report, wants ...string) string {
		t.Helper()
		var b bytes.Buffer
		if err := r.writeTable(&b); err != nil {
			t.Fatal(err)
		}
		text := strings.Join(strings.Fields(b.String()), " ")
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in:\n%s", want, b.String())
			}
		}
		return text
	}
	text := f(testReport(),
		"relay 15.00 [10.00 .. 20.00] 1.000 1000 2.00 50 1 3.0",
		"full 19.00 [12.00 .. 26.00] 1.250 700 2.00 50 1 3.0", // (1.2 + 1.3) / 2
		"directly: 1600 requests/s median, 1.60 times",
		"full 3.50: read 2.00, write 1.50",
		"full 2.0 KiB, of 10 connections",
		"date today")
	if strings.Contains(text, "WARNING") || strings.Contains(text, "brk") {
		t.Errorf("unexpected warning or rare call in:\n%s", text)
	}

	slow := testReport()
	for _, s := range slow.samples {
		if s.subject == direct {
			s.load.perSecond = 1400
		}
	}
	slow.samples[0].source = "ticks"
	f(slow, "WARNING: below 1.5 times", "WARNING: 1 measurements used utime+stime")

	alone := testReport()
	alone.subjects = []string{"full"} // nothing to take a ratio of
	f(alone, "full 19.00 [12.00 .. 26.00] - 700")
}

// Two groups are two tables, each with its own floor; what sets the pace of the second
// is told by the generator's CPU time.
func TestReportGroups(t *testing.T) {
	r := testReport()
	r.subjects = append(r.subjects, "responder", "cached")
	for round := 1; round <= 2; round++ {
		for name, cpu := range map[string]time.Duration{"responder": 4 * time.Millisecond, "cached": 10 * time.Millisecond} {
			r.samples = append(r.samples, &sample{
				round: round, subject: name, cpu: cpu, source: "schedstat",
				load: &load{requests: 1000, perSecond: 40e6 / cpu.Seconds() / 1e6, cpu: 50 * time.Millisecond},
			})
		}
	}
	f := func(want ...string) {
		t.Helper()
		var b bytes.Buffer
		if err := r.writeTable(&b); err != nil {
			t.Fatal(err)
		}
		text := strings.Join(strings.Fields(b.String()), " ")
		for _, want := range want {
			before, after, ok := strings.Cut(text, want)
			if !ok {
				t.Fatalf("no %q after %q in:\n%s", want, before, b.String())
			}
			text = after
		}
	}
	f("proxied: every", "x relay", "full 19.00 [12.00 .. 26.00] 1.250", "directly: 1600 requests/s",
		"cached: every", "x responder", "responder 4.00 [4.00 .. 4.00] 1.000 10000", "cached 10.00 [10.00 .. 10.00] 2.500 4000",
		"generator by its own CPU time: 20000 requests/s median, 2.00 times the fastest subject", "date today")

	r.subjects = r.subjects[2:]
	for _, s := range r.samples {
		s.load.cpu = 80 * time.Millisecond
	}
	f("cached: every", "12500 requests/s median, 1.25 times", "WARNING: below 1.5 times: the generator, not the subjects")
}

func TestSave(t *testing.T) {
	path := filepath.Join(t.TempDir(), "results", "a.txt")
	if err := testReport().save(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := "2\tfull\t1000\t1.00\t500.00\t1000\t2000\t26000000\t26.0000\tschedstat\t0.500\t0.010\t3145728\n"; !strings.Contains(string(text), want) {
		t.Errorf("no raw line %q in:\n%s", want, text)
	}
	lines, err := os.ReadFile(filepath.Join(filepath.Dir(path), "a.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var got []line
	for text := range strings.Lines(string(lines)) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatal(err)
		}
		got = append(got, l)
	}
	want := line{
		Suite: "wire", Commit: "abc", Machine: "unknown", Kernel: "unknown", Go: "unknown", Date: "today", Table: "proxied", Row: "full", Floor: "relay",
		Rounds:    []lineRound{{12, 1.2, 900, 2}, {26, 1.3, 500, 2}},
		CPUMicros: 19, Ratio: 1.25, ResidentBytes: 3 << 20, IdleConnectionBytes: 2048, SystemCalls: map[string]float64{"read": 2, "write": 1.5},
	}
	if len(got) != 2 || got[0].Row != "relay" || !cmp.Equal(got[1], want) {
		t.Errorf("%s\n%s", lines, cmp.Diff(want, got[1]))
	}
	svg, err := os.ReadFile(filepath.Join(filepath.Dir(path), "a-proxied.svg"))
	if err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal(svg, new(any)); err != nil {
		t.Errorf("the chart is no XML: %v", err)
	}
	if !strings.Contains(string(svg), ">1.25</text>") || !strings.Contains(string(svg), ">full</text>") {
		t.Errorf("the chart has no figure of full:\n%s", svg)
	}
	if err := testReport().save(""); err != nil {
		t.Errorf("saving nothing: %v", err)
	}
}
