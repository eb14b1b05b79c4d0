package main

import (
	"maps"
	"os"
	"testing"
	"time"
)

func TestParseSchedstat(t *testing.T) {
	got, err := parseSchedstat("69184123 49653 2\n")
	if err != nil || got != 69184123 {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"", "1 2", "x 2 3", "1 2 3 4"} {
		if _, err := parseSchedstat(bad); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}

func TestParseStat(t *testing.T) {
	const line = "123 (a) (b c) S 77 123 123 0 -1 4194560 100 0 0 0 250 50 9 9 20 0 1 0 12345 0 0"
	parent, cpu, err := parseStat(line)
	if err != nil || parent != 77 || cpu != 3*time.Second {
		t.Errorf("got parent %d, %v, %v; want 77, 3s", parent, cpu, err)
	}
	for _, bad := range []string{"", "1 (a) S 2", "1 (a) S x 1 1 0 -1 0 0 0 0 0 1 1 0 0", "1 (a) S 1 1 1 0 -1 0 0 0 0 0 y 1 0 0"} {
		if _, _, err := parseStat(bad); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}

func TestUsed(t *testing.T) {
	before := &usage{
		tasks: map[task]time.Duration{{1, 1}: 100, {1, 2}: 50},
		ticks: map[int]time.Duration{1: 20 * time.Millisecond},
	}
	after := &usage{
		tasks: map[task]time.Duration{{1, 1}: 300, {1, 2}: 60, {1, 3}: 7, {2, 2}: 1000},
		ticks: map[int]time.Duration{1: 50 * time.Millisecond, 2: 10 * time.Millisecond},
	}
	f := func(want time.Duration, wantSource string) {
		t.Helper()
		got, source, err := used(before, after)
		if err != nil || got != want || source != wantSource {
			t.Errorf("got %v from %s, %v; want %v from %s", got, source, err, want, wantSource)
		}
	}
	f(200+10+7+1000, "schedstat")

	whole := maps.Clone(after.tasks)
	delete(after.tasks, task{1, 2}) // a thread ended: its nanoseconds are lost
	f(40*time.Millisecond, "ticks")

	after.tasks = whole
	delete(after.ticks, 1)
	if _, _, err := used(before, after); err == nil {
		t.Error("a process that ended was accepted")
	}
}

// The reading of this very process grows with work done in it.
func TestReadUsage(t *testing.T) {
	before, err := readUsage(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	const work = 50 * time.Millisecond
	for began := time.Now(); time.Since(began) < work; {
		consumerKey(1)
	}
	after, err := readUsage(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	got, source, err := used(before, after)
	// Loose on purpose: the machine may be busy with something else.
	if err != nil || got <= 0 || got > testLimit {
		t.Errorf("got %v from %s, %v after %v of work", got, source, err, work)
	}
}
