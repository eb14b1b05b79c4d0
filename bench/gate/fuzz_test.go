package main

import (
	"reflect"
	"testing"
)

// FuzzParse holds that neither parser panics, that what one accepts passes a comparison
// with itself unless the file itself tells of a failure, of an uncounted run or has too
// few rounds, and that what -update writes of it is the same again.
func FuzzParse(f *testing.F) {
	f.Add(header + "BenchmarkA-2 10 5 ns/op 0 B/op 0 allocs/op\n")
	f.Add("BenchmarkA 10 5 ns/op\n--- FAIL: x\n")
	f.Add("Benchmark- 1 1 allocs/op")
	f.Add("BenchmarkA-2 1 5 ns/op\npkg: b\nBenchmarkB-2 1 1 allocs/op\npkg: a\nBenchmarkA-2 1 1 allocs/op\npkg: b\nBenchmarkA-2 1 1 allocs/op\n")
	f.Add(wireText("plain", "relay", `"read":1`, 1.5, 1.6))
	f.Add(wireText("a/plain", "relay", "", spread(1.2, 5)...) + wireText("relay", "relay", "", 1) + wireText("direct", "", "", 0))
	f.Fuzz(func(t *testing.T, text string) {
		m, want, ok := accepted(text)
		if !ok {
			return
		}
		j := judge(m, m, usual)
		if got := j.failures(); got != want {
			t.Errorf("against itself: %d failures, want %d", got, want)
		}
		for _, format := range formatNames() {
			render(t, format, j)
		}
		if len(m.bench.order) > 0 {
			read, err := parse(renderBench(m.bench, m.bench))
			if err != nil || !reflect.DeepEqual(read.bench.of, m.bench.of) {
				t.Errorf("written and read again: %v, %+v, want %+v", err, read, m.bench.of)
			}
		}
		if len(m.wire.rows) == 0 {
			return
		}
		again, err := renderWire(m.wire, m.wire)
		if err != nil {
			t.Fatal(err)
		}
		read, err := parse(again)
		if err != nil || len(read.wire.rows) != len(m.wire.rows) {
			t.Errorf("written and read again: %v\n%s", err, again)
		}
	})
}

// accepted parses a text and counts the faults that it tells of by itself.
func accepted(text string) (m *measured, faults int, ok bool) {
	parsed, err := parse([]byte(text))
	if err != nil {
		return nil, 0, false
	}
	m, err = merge([]*file{parsed})
	if err != nil {
		return nil, 0, false
	}
	faults = len(m.bench.faults)
	for _, x := range m.bench.of {
		if !x.counted {
			faults++
		}
	}
	for _, row := range m.wire.rows {
		if n := len(row.ratios); n > 0 && !row.isFloor() && tooFew(n, n, usual.significance) != "" {
			faults++
		}
	}
	return m, faults, true
}
