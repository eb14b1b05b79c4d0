package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const header = "goos: linux\ngoarch: amd64\npkg: example.org/a/bench\ncpu: Some CPU\n"

func mustParse(t *testing.T, text string) *results {
	t.Helper()
	r, err := parse(strings.NewReader(text))
	if err != nil {
		t.Fatalf("parse: %v\n%s", err, text)
	}
	return r
}

func TestParse(t *testing.T) {
	r := mustParse(t, header+
		"BenchmarkMatch/routes=10-2   \t 5000000\t       210.5 ns/op\t   12.00 MB/s\t      48 B/op\t       2 allocs/op\n"+
		"BenchmarkMatch/routes=10-2   \t 5000000\t       190.5 ns/op\t      40 B/op\t       1 allocs/op\n"+
		"BenchmarkRing-2 100 5 ns/op 3.5 probes/op 0 B/op 0 allocs/op\n"+
		"BenchmarkLogs-2\n"+
		"some log line\n"+
		"BenchmarkSilent-2 100 5 ns/op\n"+
		"PASS\nok  \texample.org/a/bench\t1.2s\npkg: example.org/a/other\nBenchmarkRing-2 1 5 ns/op 8 B/op 1 allocs/op\n")
	wantOrder := []string{
		"example.org/a/bench.BenchmarkMatch/routes=10", "example.org/a/bench.BenchmarkRing",
		"example.org/a/bench.BenchmarkSilent", "example.org/a/other.BenchmarkRing",
	}
	if !slices.Equal(r.order, wantOrder) {
		t.Errorf("order: got %q, want %q", r.order, wantOrder)
	}
	f := func(name string, want figures) {
		t.Helper()
		if got := r.of[name]; got == nil || *got != want {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
	f(wantOrder[0], figures{allocs: 1, bytes: 40, counted: true}) // the fewer of two runs
	f(wantOrder[1], figures{counted: true})
	f(wantOrder[2], figures{})
	f(wantOrder[3], figures{allocs: 1, bytes: 8, counted: true})
}

func TestParseSuffix(t *testing.T) {
	f := func(lines string, want ...string) {
		t.Helper()
		if r := mustParse(t, lines); !slices.Equal(r.order, want) {
			t.Errorf("got %q, want %q", r.order, want)
		}
	}
	const rest = " 1 5 ns/op 0 B/op 0 allocs/op\n"
	f("BenchmarkA-8"+rest+"BenchmarkB/size-64-8"+rest, ".BenchmarkA", ".BenchmarkB/size-64")
	f("BenchmarkA"+rest+"BenchmarkB/size-64"+rest, ".BenchmarkA", ".BenchmarkB/size-64")
	f("BenchmarkA"+rest+"BenchmarkA-2"+rest, ".BenchmarkA", ".BenchmarkA-2")
	f("BenchmarkB/size-64"+rest+"BenchmarkB/size-128"+rest, ".BenchmarkB/size-64", ".BenchmarkB/size-128")
}

func TestParseRefuses(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		_, err := parse(strings.NewReader(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got error %v, want one with %q", text, err, want)
		}
	}
	f("", "no benchmark")
	f(header+"PASS\n", "no benchmark")
	f("BenchmarkA-2 100 5 ns/op 3\n", "cut line")
	f("BenchmarkA-2 100 x ns/op\n", "bad value")
	f("BenchmarkA-2 100 5 ns/op NaN allocs/op\n", "bad value")
	f("BenchmarkA-2 100 5 ns/op -1 B/op\n", "bad value")
}

func TestJudge(t *testing.T) {
	f := func(baseline, result string, wantFailures, wantNotes []string) {
		t.Helper()
		v := judge(mustParse(t, baseline), mustParse(t, result))
		same := func(kind string, got, want []string) {
			t.Helper()
			if len(got) != len(want) {
				t.Errorf("%s: got %q, want %q", kind, got, want)
				return
			}
			for i := range got {
				if !strings.Contains(got[i], want[i]) {
					t.Errorf("%s: got %q, want it to contain %q", kind, got[i], want[i])
				}
			}
		}
		same("failures", v.failures, wantFailures)
		same("notes", v.notes, wantNotes)
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
	// More bytes only.
	f(base, line("A", "0 B/op 0 allocs/op")+line("B", "64 B/op 2 allocs/op"), nil, []string{"BenchmarkB: 64 B/op, was 32"})
	// Unknown to the baseline.
	f(base, base+line("C", "0 B/op 0 allocs/op"), nil, []string{"BenchmarkC: new"})
	f(base, base+line("C", "8 B/op 1 allocs/op"), []string{"BenchmarkC: 1 allocs/op, not in the baseline"}, nil)
	// Missing, uncounted, failed.
	f(base, line("A", "0 B/op 0 allocs/op"), nil, []string{"BenchmarkB: in the baseline, not in the result"})
	f(base, base+line("D", ""), []string{"BenchmarkD: no allocs/op"}, nil)
	f(line("A", ""), line("A", "8 B/op 1 allocs/op"), []string{"BenchmarkA: 1 allocs/op, the baseline does not count"}, nil)
	f(base, base+"--- FAIL: BenchmarkE\nFAIL\n", []string{"--- FAIL: BenchmarkE", "FAIL"}, nil)
	f(base, "panic: boom\n", []string{"panic: boom"}, []string{"BenchmarkA:", "BenchmarkB:"})
}

func TestStatus(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	base := write("base", "BenchmarkA-2 10 5 ns/op 0 B/op 0 allocs/op\n")
	worse := write("worse", "BenchmarkA-2 10 5 ns/op 8 B/op 1 allocs/op\n")
	f := func(want int, wantOut string, args ...string) {
		t.Helper()
		var out, errs bytes.Buffer
		got := status(args, &out, &errs)
		if got != want || !strings.Contains(out.String()+errs.String(), wantOut) {
			t.Errorf("%q: got status %d, output %q%q; want %d with %q", args, got, &out, &errs, want, wantOut)
		}
	}
	f(0, "1 benchmarks compared, 0 failures", "-baseline", base, base)
	f(1, "FAIL: .BenchmarkA: 1 allocs/op, was 0", "-baseline", base, worse)
	f(1, "no such file", "-baseline", filepath.Join(dir, "none"), base)
	f(1, "no benchmark", "-baseline", base, write("empty", "PASS\n"))
	f(64, "usage:", "-baseline", base)
	f(64, "not defined", "-time")
	f(0, "usage:", "-h")
}

// FuzzParse holds that the parser never panics and that what it accepts passes a
// comparison with itself unless the file itself tells of a failure or uncounted run.
func FuzzParse(f *testing.F) {
	f.Add(header + "BenchmarkA-2 10 5 ns/op 0 B/op 0 allocs/op\n")
	f.Add("BenchmarkA 10 5 ns/op\n--- FAIL: x\n")
	f.Add("Benchmark- 1 1 allocs/op")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := parse(strings.NewReader(text))
		if err != nil {
			return
		}
		uncounted := 0
		for _, x := range r.of {
			if !x.counted {
				uncounted++
			}
		}
		if v := judge(r, r); len(v.failures) != len(r.faults)+uncounted {
			t.Errorf("against itself: %q, want %d faults and %d uncounted", v.failures, len(r.faults), uncounted)
		}
	})
}
