package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	benchSame  = "BenchmarkA-2 10 5 ns/op 0 B/op 0 allocs/op\n"
	benchWorse = "BenchmarkA-2 10 5 ns/op 8 B/op 1 allocs/op\n"
)

// writeFile writes a file into dir and returns its path.
func writeFile(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// gate runs the program and returns its status and what it printed.
func gate(t *testing.T, args ...string) (exit int, printed string) {
	t.Helper()
	var out, errs bytes.Buffer
	exit = status(args, &out, &errs)
	return exit, out.String() + errs.String()
}

func TestStatus(t *testing.T) {
	dir := t.TempDir()
	base := writeFile(t, dir, "base", benchSame)
	worse := writeFile(t, dir, "worse", benchWorse)
	wire := writeFile(t, dir, "wire", wireText("plain", "relay", "", spread(1.2, 5)...))
	dearer := writeFile(t, dir, "dearer", wireText("plain", "relay", "", spread(1.3, 5)...))
	f := func(want int, wantOut string, args ...string) {
		t.Helper()
		if got, printed := gate(t, args...); got != want || !strings.Contains(printed, wantOut) {
			t.Errorf("%q: got status %d, output %q; want %d with %q", args, got, printed, want, wantOut)
		}
	}
	f(0, "1 rows compared, 0 failures", "-baseline", base, base)
	f(1, "FAIL: .BenchmarkA: 1 allocs/op, was 0", "-baseline", base, worse)
	f(0, "1 rows compared, 0 failures", "--baseline", wire, wire)
	f(1, "FAIL: proxied/plain: 1.300 times", "-baseline", wire, dearer)
	f(0, "8.3 %", "-baseline", wire, "-ratio", "0.1", dearer)
	f(1, "p < 0.001", "-baseline", wire, "--significance=0.001", dearer)
	f(0, "2 rows compared, 0 failures", "-baseline", base+","+wire, base, wire)
	f(1, "2 rows compared, 1 failures", "-baseline", base+","+wire, worse, wire)
	f(0, `"passed": true`, "-baseline", base, "--format=json", base)
	f(1, "<testsuite", "-baseline", base, "-format", "junit", worse)
	f(1, "**FAIL**", "-baseline", base, "-format", "markdown", worse)

	// Files that tell nothing.
	f(1, "no such file", "-baseline", filepath.Join(dir, "none"), base)
	f(1, "no such file", "-baseline", base, filepath.Join(dir, "none"))
	empty := writeFile(t, dir, "empty", "PASS\n")
	f(1, empty+": no benchmark", "-baseline", base, empty)
	f(1, "line 1: suite: want", "-baseline", base, writeFile(t, dir, "other", `{"suite":"other"}`))
	f(1, "no baseline holds rows of bench/wire, of which the results have 1", "-baseline", base, wire)
	f(1, "no baseline holds benchmarks, of which the results have 1", "-baseline", wire, base)

	// Flags.
	f(64, "usage:", "-baseline", base)
	f(64, "not defined", "-time")
	f(64, "an empty name", "-baseline", base+",", base)
	f(64, "-ratio: want a share from 0 to 1, such as 0.05, got 5", "-baseline", wire, "-ratio", "5", wire)
	f(64, "-ratio: want a share", "-baseline", wire, "-ratio", "NaN", wire)
	f(64, "-significance: want a share between 0 and 1, such as 0.05, got 0", "-baseline", wire, "-significance", "0", wire)
	f(64, `-format: want json, junit, markdown, text, got "html"`, "-baseline", wire, "-format", "html", wire)
	f(0, "usage:", "-h")
}

// brokenPipe is an output that nobody reads.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, os.ErrClosed }

// A verdict that nobody could read is not a pass.
func TestStatusOutputFails(t *testing.T) {
	base := writeFile(t, t.TempDir(), "base", benchSame)
	for _, format := range formatNames() {
		var errs bytes.Buffer
		if got := status([]string{"-baseline", base, "-format", format, base}, brokenPipe{}, &errs); got != 1 {
			t.Errorf("%s: status %d, %s", format, got, &errs)
		}
	}
}
