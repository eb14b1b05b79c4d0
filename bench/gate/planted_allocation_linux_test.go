//go:build !race

package main

import (
	"strings"
	"testing"
)

// One allocation more per request fails, and the failure names the benchmark.
func TestGateFindsAllocation(t *testing.T) {
	dir := t.TempDir()
	run := func(name string, env []string, flags ...string) string {
		t.Helper()
		args := append([]string{"test", "-count=1", "-run", "^$", "-bench", "Gateway/loopback/plain", "-benchmem", "-benchtime", "2000x"}, flags...)
		return writeFile(t, dir, name, runGo(t, env, append(args, "./bench")...))
	}
	as := run("as", nil)
	planted := run("planted", []string{plantedVariable + plantedAllocation}, "-overlay", overlay(t))
	if exit, printed := gate(t, "-baseline", as, as); exit != 0 {
		t.Errorf("as it is: status %d\n%s", exit, printed)
	}
	exit, printed := gate(t, "-baseline", as, planted)
	t.Log(printed)
	if exit != 1 {
		t.Errorf("an allocation more: status %d", exit)
	}
	named := false
	for line := range strings.Lines(printed) {
		named = named || strings.HasPrefix(line, "FAIL: ") && strings.Contains(line, "BenchmarkGateway/loopback-fast-lane/plain") && strings.Contains(line, ": 1 allocs/op, was 0")
	}
	if !named {
		t.Error("the benchmark is not named")
	}
}
