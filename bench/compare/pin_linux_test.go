package main

import (
	"bytes"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestPinned asks a started process what it may use, and that this one may still use all.
func TestPinned(t *testing.T) {
	before, err := allowedCPUs()
	if err != nil {
		t.Fatal(err)
	}
	last := before[len(before)-1:]
	c := exec.Command("grep", "Cpus_allowed_list", "/proc/self/status")
	var out bytes.Buffer
	c.Stdout = &out
	if err := startPinned(c, last); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(out.String())
	if got, err := readCPUs(fields[len(fields)-1]); err != nil || !slices.Equal(got, last) {
		t.Errorf("the process may use %q, want %v", out.String(), last)
	}
	if after, err := allowedCPUs(); err != nil || !slices.Equal(after, before) {
		t.Errorf("this process may use %v, before it were %v", after, before)
	}
}
