package workload

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"regexp"
	"testing"
	"time"
)

// onceTimeout bounds a run of all benchmarks, once each.
const onceTimeout = 5 * time.Minute

// sizeShort is the largest size of a short run.
const sizeShort = 10_000

// Sizes returns those of the sizes, which ascend, that a run is to have: all, or with
// -short those up to 10,000, and the smallest in any case.
func Sizes(sizes ...int) []int {
	if !testing.Short() {
		return sizes
	}
	n := 1
	for n < len(sizes) && sizes[n] <= sizeShort {
		n++
	}
	return sizes[:n]
}

// Size returns the size that a run is to have where there is but one: long, or with -short
// 10,000 if that is less.
func Size(long int) int {
	if testing.Short() {
		return min(long, sizeShort)
	}
	return long
}

var (
	benchmarkDone    = regexp.MustCompile(`(?m)^Benchmark\S+\s+\d+\s.*ns/op`)
	benchmarkSkipped = regexp.MustCompile(`(?m)^\s*--- (SKIP|FAIL).*`)
)

// Once runs every benchmark of the running test's package with one iteration and -short, in
// a process of its own, so that none of them rots between the runs that somebody reads. It
// fails the test if one fails or skips, and if fewer than least lines of results come.
func Once(t *testing.T, least int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), onceTimeout)
	defer cancel()
	// -test.v makes a benchmark that skips say so.
	run := exec.CommandContext(ctx, self, "-test.run=^$", "-test.bench=.", "-test.benchtime=1x", "-test.short", "-test.v")
	var out bytes.Buffer
	run.Stdout, run.Stderr = &out, &out
	if err := run.Run(); err != nil {
		t.Fatalf("benchmarks, once each: %v\n%s", err, &out)
	}
	if skipped := benchmarkSkipped.FindAll(out.Bytes(), -1); skipped != nil {
		t.Errorf("not run: %q", skipped)
	}
	if n := len(benchmarkDone.FindAll(out.Bytes(), -1)); n < least {
		t.Errorf("%d results of benchmarks, want %d at least:\n%s", n, least, &out)
	}
}
