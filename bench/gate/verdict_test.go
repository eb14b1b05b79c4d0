package main

import (
	"strings"
	"testing"
)

// usual are the limits that no flag changes.
var usual = limits{ratio: 0.05, significance: 0.05}

// measure parses files of either kind and takes them together.
func measure(t *testing.T, texts ...string) *measured {
	t.Helper()
	var files []*file
	for _, text := range texts {
		if text == "" {
			continue
		}
		f, err := parse([]byte(text))
		if err != nil {
			t.Fatalf("parse: %v\n%s", err, text)
		}
		files = append(files, f)
	}
	m, err := merge(files)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// checkMessages holds the messages of one verdict against what each must contain.
func checkMessages(t *testing.T, j *judgement, v verdict, want []string) {
	t.Helper()
	var got []string
	for _, f := range j.Findings {
		if f.Verdict == v {
			got = append(got, f.Row+": "+f.Message)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: got %q, want %q", v, got, want)
		return
	}
	for i := range got {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("%s: got %q, want it to contain %q", v, got[i], want[i])
		}
	}
}

func TestJudgeAllocations(t *testing.T) {
	f := func(baseline, result string, wantFailures, wantNotes []string) {
		t.Helper()
		j := judge(measure(t, baseline), measure(t, result), usual)
		checkMessages(t, j, fail, wantFailures)
		checkMessages(t, j, note, wantNotes)
	}
	line := func(name, rest string) string { return "Benchmark" + name + "-2 10 5 ns/op " + rest + "\n" }
	base := line("A", "0 B/op 0 allocs/op") + line("B", "32 B/op 2 allocs/op")

	// The same, and slower: time is nobody's failure.
	f(base, base, nil, nil)
	f(base, strings.ReplaceAll(base, "5 ns/op", "5000 ns/op"), nil, nil)
	// Other number of CPUs.
	f(base, strings.ReplaceAll(base, "-2 ", "-64 "), nil, nil)
	// More and fewer allocations.
	f(base, line("A", "8 B/op 1 allocs/op")+line("B", "32 B/op 2 allocs/op"), []string{"BenchmarkA: 1 allocs/op, was 0"}, nil)
	f(base, line("A", "8 B/op 1 allocs/op")+line("B", "99 B/op 3 allocs/op"), []string{"BenchmarkA:", "BenchmarkB: 3 allocs/op, was 2"}, nil)
	f(base, line("A", "0 B/op 0 allocs/op")+line("B", "16 B/op 1 allocs/op"), nil, []string{"BenchmarkB: 1 allocs/op, was 2: lower"})
	// More bytes only, and for fewer allocations.
	f(base, line("A", "0 B/op 0 allocs/op")+line("B", "64 B/op 2 allocs/op"), nil, []string{"BenchmarkB: 64 B/op, was 32"})
	f(base, line("A", "0 B/op 0 allocs/op")+line("B", "64 B/op 1 allocs/op"), nil, []string{"BenchmarkB: 1 allocs/op, was 2: lower", "BenchmarkB: 64 B/op"})
	// Unknown to the baseline.
	f(base, base+line("C", "0 B/op 0 allocs/op"), nil, []string{"BenchmarkC: new"})
	f(base, base+line("C", "8 B/op 1 allocs/op"), []string{"BenchmarkC: 1 allocs/op, not in the baseline"}, nil)
	// Missing, uncounted, failed.
	f(base, line("A", "0 B/op 0 allocs/op"), nil, []string{"BenchmarkB: in the baseline, not in the result"})
	f(base, base+line("D", ""), []string{"BenchmarkD: no allocs/op"}, nil)
	f(line("A", ""), line("A", "8 B/op 1 allocs/op"), []string{"BenchmarkA: 1 allocs/op, the baseline does not count"}, nil)
	f(line("A", ""), line("A", "0 B/op 0 allocs/op"), nil, nil)
	f(base, base+"--- FAIL: BenchmarkE\nFAIL\n", []string{"--- FAIL: BenchmarkE", "FAIL"}, nil)
	f(base, "panic: boom\n", []string{"panic: boom"}, []string{"BenchmarkA:", "BenchmarkB:"})
}

// Several result files are one result; the fewest allocations of all count.
func TestJudgeSeveralFiles(t *testing.T) {
	a := "BenchmarkA-2 10 5 ns/op 0 B/op 0 allocs/op\n"
	worse := "BenchmarkA-4 10 5 ns/op 8 B/op 1 allocs/op\nBenchmarkB-4 10 5 ns/op 0 B/op 0 allocs/op\n"
	j := judge(measure(t, a), measure(t, a, worse), usual)
	checkMessages(t, j, fail, nil)
	checkMessages(t, j, note, []string{"BenchmarkB: new"})
	if n := j.rows(); n != 2 {
		t.Errorf("%d rows compared, want 2", n)
	}
	j = judge(measure(t, a), measure(t, worse), usual)
	checkMessages(t, j, fail, []string{"BenchmarkA: 1 allocs/op, was 0"})
}
