package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func readText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const (
	updateBase = "goos: linux\ncpu: Old\npkg: m/a\nBenchmarkA-2 10 5 ns/op 0 B/op 0 allocs/op\nBenchmarkGone/size-64-2 10 5 ns/op 0 B/op 3 allocs/op\npkg: m/b\nBenchmarkA-2 10 5 ns/op 0 B/op 0 allocs/op\n"
	updateRun  = "goos: linux\npkg: m/a\ncpu: New\nBenchmarkNew-4 7 5 ns/op 0 B/op 2 allocs/op\nBenchmarkA-4 7 6 ns/op 8 B/op 1 allocs/op\nBenchmarkA-4 7 7 ns/op 8 B/op 1 allocs/op\nPASS\nok m/a 1s\ngoos: linux\n"
	updateWant = "goos: linux\ncpu: New\npkg: m/a\nBenchmarkA-4 7 6 ns/op 8 B/op 1 allocs/op\nBenchmarkA-4 7 7 ns/op 8 B/op 1 allocs/op\nBenchmarkGone/size-64-4 10 5 ns/op 0 B/op 3 allocs/op\nBenchmarkNew-4 7 5 ns/op 0 B/op 2 allocs/op\npkg: m/b\nBenchmarkA-4 10 5 ns/op 0 B/op 0 allocs/op\n"
)

func TestUpdateBenchmarks(t *testing.T) {
	dir := t.TempDir()
	base, run := writeFile(t, dir, "base", updateBase), writeFile(t, dir, "run", updateRun)
	if exit, printed := gate(t, "-baseline", base, run); exit != 1 {
		t.Fatalf("the gate passes before: %s", printed)
	}
	exit, printed := gate(t, "-baseline", base, "-update", run)
	if exit != 0 || !strings.Contains(printed, "note: m/a.BenchmarkGone/size-64: in the baseline, not in the result: kept") || !strings.Contains(printed, "note: written: "+base) {
		t.Errorf("status %d: %s", exit, printed)
	}
	if got := readText(t, base); got != updateWant {
		t.Errorf("got\n%s\nwant\n%s", got, updateWant)
	}
	if exit, printed := gate(t, "-baseline", base, run); exit != 0 {
		t.Errorf("the gate fails after: %s", printed)
	}
	if info, err := os.Stat(base); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the mode changed: %v, %v", info.Mode(), err)
	}
}

func TestUpdateWire(t *testing.T) {
	dir := t.TempDir()
	relay, full := wireText("relay", "relay", "", 1, 1), wireText("full", "relay", "", spread(1.5, 5)...)
	base := writeFile(t, dir, "base", relay+wireText("plain", "relay", `"read":2`, spread(1.2, 5)...)+full)
	again := wireText("new", "relay", "", spread(2, 5)...)
	run := writeFile(t, dir, "run", again+wireText("plain", "relay", "", spread(1.4, 5)...))
	exit, printed := gate(t, "-baseline", base, "-update", run)
	for _, want := range []string{"proxied/relay: in the baseline, not in the result: kept", "proxied/full: in the", "proxied/plain: in the baseline, not traced in the result: kept"} {
		if exit != 0 || !strings.Contains(printed, want) {
			t.Errorf("status %d, no %q in %s", exit, want, printed)
		}
	}
	lines := strings.SplitAfter(readText(t, base), "\n")
	if len(lines) != 5 || lines[0] != relay || lines[2] != full || lines[3] != again || lines[4] != "" {
		t.Errorf("got %q", lines)
	}
	// What the run does not have of a row stays, and so do fields that nothing here reads.
	if !strings.Contains(lines[1], `"system_calls":{"read":2}`) || !strings.Contains(lines[1], `"resident_bytes":18000000`) || !strings.Contains(lines[1], `"p99_ms":2.1`) {
		t.Errorf("got %s", lines[1])
	}
	if exit, printed := gate(t, "-baseline", base, run); exit != 0 {
		t.Errorf("the gate fails after: %s", printed)
	}
}

// Each kind goes into the file of its kind, and a file yet to be written takes what is left.
func TestUpdateChoosesFiles(t *testing.T) {
	dir := t.TempDir()
	bench := writeFile(t, dir, "bench", benchSame)
	wire := writeFile(t, dir, "wire", wireText("plain", "relay", "", spread(1.2, 5)...))
	better := writeFile(t, dir, "better", benchWorse)
	f := func(want int, wantOut, baseline string, results ...string) {
		t.Helper()
		exit, printed := gate(t, append([]string{"-update", "-baseline", baseline}, results...)...)
		if exit != want || !strings.Contains(printed, wantOut) {
			t.Errorf("%s: status %d, %s; want %d with %q", baseline, exit, printed, want, wantOut)
		}
	}
	fresh, other := filepath.Join(dir, "fresh"), filepath.Join(dir, "other")
	f(1, "no -baseline file for the rows of bench/wire", bench, wire)
	f(1, "may both take the benchmarks", fresh+","+other, bench)
	f(1, "no -baseline file for the rows of bench/wire", fresh, bench, wire)
	if _, err := os.Stat(fresh); err == nil {
		t.Error("written in part")
	}
	f(0, "written: "+fresh, bench+","+fresh, better, wire)
	if readText(t, fresh) != readText(t, wire) || readText(t, bench) != benchWorse {
		t.Errorf("%q, %q", readText(t, fresh), readText(t, bench))
	}
}

// A run that failed by itself becomes no baseline.
func TestUpdateRefuses(t *testing.T) {
	dir := t.TempDir()
	base := writeFile(t, dir, "base", benchSame)
	wireBase := wireText("plain", "relay", "", spread(1.2, 5)...)
	wire := writeFile(t, dir, "wire", wireBase)
	f := func(baseline, run, want string) {
		t.Helper()
		before := readText(t, baseline)
		exit, printed := gate(t, "-baseline", baseline, "-update", writeFile(t, dir, "run", run))
		if exit != 1 || !strings.Contains(printed, "the baseline stays: ") || !strings.Contains(printed, want) {
			t.Errorf("status %d: %s; want %q", exit, printed, want)
		}
		if readText(t, baseline) != before {
			t.Error("the baseline was written")
		}
	}
	f(base, benchSame+"--- FAIL: BenchmarkB\n", "the run failed")
	f(base, benchSame+"BenchmarkB-2 10 5 ns/op\n", "no allocs/op")
	f(wire, wireText("plain", "relay", "", 0, 0, 0, 0, 0), "was not measured in the same run")
	f(wire, wireText("plain", "relay", "", 1, 2, 3), "proxied/plain: 3 rounds")
	f(wire, wireBase+wireText("new", "relay", "", 1, 2, 3), "proxied/new: 3 rounds against the baseline's 3 can never differ with p < 0.05: 4 in each are needed")
}

// A link stays a link, a folder that cannot be written leaves no trace, and no temporary
// file is left in any case.
func TestReplaceFile(t *testing.T) {
	dir := t.TempDir()
	path := writeFile(t, dir, "real", "old")
	link := filepath.Join(dir, "link")
	if err := os.Symlink("real", link); err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(link, []byte("new")); err != nil || readText(t, path) != "new" {
		t.Errorf("%v, %q", err, readText(t, path))
	}
	if target, err := os.Readlink(link); err != nil || target != "real" {
		t.Errorf("the link is gone: %q, %v", target, err)
	}
	folder := filepath.Join(dir, "folder")
	if err := os.MkdirAll(filepath.Join(folder, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(folder, []byte("new")); err == nil {
		t.Error("a folder was replaced")
	}
	if err := replaceFile(filepath.Join(dir, "none", "file"), nil); err == nil {
		t.Error("written into a folder that does not exist")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
