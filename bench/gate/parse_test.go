package main

import (
	"slices"
	"strings"
	"testing"
)

const header = "goos: linux\ngoarch: amd64\npkg: example.org/a/bench\ncpu: Some CPU\n"

func mustParse(t *testing.T, text string) *benchResults {
	t.Helper()
	r, err := parseBench(strings.NewReader(text))
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
		_, err := parseBench(strings.NewReader(text))
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
