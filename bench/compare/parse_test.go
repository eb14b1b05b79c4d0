package main

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	r, err := parse(strings.NewReader("goos: linux\npkg: x\n"+
		"BenchmarkA/size-64-4   \t 10\t 210.5 ns/op\t 12.00 MB/s\t 48 B/op\t 2 allocs/op\n"+
		"BenchmarkB-4\n"+
		"Benchmark prose of some length\n"+
		"BenchmarkB-4 1 5 ns/op 99.5 hit-%\nPASS\n"), 4)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"BenchmarkA/size-64", "BenchmarkB"}; !slices.Equal(r.order, want) {
		t.Errorf("names: got %q, want %q", r.order, want)
	}
	want := map[string]float64{"ns/op": 210.5, "MB/s": 12, "B/op": 48, "allocs/op": 2}
	if got := r.of["BenchmarkA/size-64"]; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	// One processor leaves no mark, so what looks like one is the name's own.
	if r, err = parse(strings.NewReader("BenchmarkC-1 1 5 ns/op\n"), 1); err != nil || r.order[0] != "BenchmarkC-1" {
		t.Errorf("got %v, %v", r, err)
	}
	s := series{}
	s.add(r)
	s.add(r)
	if got := s["BenchmarkC-1"]["ns/op"]; !slices.Equal(got, []float64{5, 5}) {
		t.Errorf("series: %v", got)
	}
}

func TestParseRefuses(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		if _, err := parse(strings.NewReader(text), 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got error %v, want one with %q", text, err, want)
		}
	}
	f("BenchmarkA 100 5 ns/op 3\n", "cut line")
	f("BenchmarkA 100 x ns/op\n", "not a number")
	f("BenchmarkA 100 NaN ns/op\n", "not a number")
	f("BenchmarkA 1 5 ns/op\nBenchmarkA 1 5 ns/op\n", "BenchmarkA is there twice")
}

func TestPatterns(t *testing.T) {
	f := func(pattern, top, want string) {
		t.Helper()
		if got := narrow(pattern, top); got != want {
			t.Errorf("narrow %s to %s: got %s, want %s", pattern, top, got, want)
		}
	}
	f(".", "BenchmarkA", "^BenchmarkA$")
	f("A/b/c$", "BenchmarkA", "^BenchmarkA$/b/c$")
	f("A|B/x|C", "BenchmarkB", "^BenchmarkB$/x")
	f("(A|B)/x", "BenchmarkB", "^BenchmarkB$/x")
	f("[A|/]/x|z", "BenchmarkA", "^BenchmarkA$/x")
	f(`A/x\|y|A/z`, "BenchmarkA", `^BenchmarkA$/x\|y|^BenchmarkA$/z`)
	if got, want := exactly("BenchmarkA/host+path//x"), `^BenchmarkA$/^host\+path$/^$/^x$`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestGroupRows(t *testing.T) {
	got := groupRows([]string{"BenchmarkA/1/theirs", "BenchmarkA/1/ours", "BenchmarkA/1/other", "BenchmarkA/2/ours", "BenchmarkB/ours/x", "BenchmarkB/them/x",
		"BenchmarkB/them/y", "ours"}, "ours")
	want := []group{
		{"BenchmarkA/1/*", []string{"BenchmarkA/1/ours", "BenchmarkA/1/theirs", "BenchmarkA/1/other"}, []string{"ours", "theirs", "other"}},
		{"BenchmarkB/*/x", []string{"BenchmarkB/ours/x", "BenchmarkB/them/x"}, []string{"ours", "them"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestNumber(t *testing.T) {
	f := func(v float64, want string) {
		t.Helper()
		if got := number(v); got != want {
			t.Errorf("%v: got %s, want %s", v, got, want)
		}
	}
	f(0, "0")
	f(12, "12")
	f(0.12345, "0.123")
	f(1.23456, "1.235")
	f(12.3456, "12.35")
	f(1234.56, "1235")
	f(12345678.9, "12345679")
}

func TestReadCPUs(t *testing.T) {
	allowed, err := allowedCPUs()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := readCPUs("all"); err != nil || got != nil {
		t.Errorf("all: %v, %v", got, err)
	}
	if got, err := readCPUs(""); err != nil || !slices.Equal(got, allowed[max(len(allowed)-1, 0):]) {
		t.Errorf("by default: %v of %v, %v", got, allowed, err)
	}
	for _, text := range []string{"-1", "1,", "x", "4096"} {
		if got, err := readCPUs(text); err == nil {
			t.Errorf("-cpus %s passes as %v", text, got)
		}
	}
}
