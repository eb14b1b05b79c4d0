//go:build !race

package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tracedBursts are how many bursts are traced: the calls of timers and of a start vanish
// among those of 3,200 requests.
const tracedBursts = 200

// traceCalls counts the system calls per request of a gateway under load.
func traceCalls(t *testing.T, l *load) map[string]float64 {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal("strace is not installed: apt-get install strace")
	}
	l.burst(t) // connections to the service are opened before anything is counted
	summary := filepath.Join(t.TempDir(), "strace")
	cmd := exec.Command(strace, "-c", "-f", "-o", summary, "-p", strconv.Itoa(l.child.pid))
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(waitMax, func() { _ = cmd.Process.Kill() }) // ends every wait below
	defer stuck.Stop()
	line, err := bufio.NewReader(said).ReadString('\n')
	if err != nil || !strings.Contains(line, "attached") {
		_ = cmd.Process.Kill()
		t.Fatalf("strace: %q, %v, %v", line, err, cmd.Wait())
	}
	requests := 0
	for range tracedBursts {
		requests += l.burst(t)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // strace ends itself with the signal it got; the summary tells success
	text, err := os.ReadFile(summary)
	if err != nil {
		t.Fatal(err)
	}
	return perRequest(t, string(text), requests)
}

// perRequest reads the summary of strace -c: share, seconds, usecs/call, calls, errors
// (left blank when none), name.
func perRequest(t *testing.T, summary string, requests int) map[string]float64 {
	t.Helper()
	calls := map[string]float64{}
	for line := range strings.Lines(summary) {
		fields := strings.Fields(line)
		if len(fields) < 5 || fields[0] == "%" || strings.HasPrefix(fields[0], "--") {
			continue
		}
		n, err := strconv.ParseFloat(fields[3], 64)
		if err != nil {
			t.Fatalf("strace: %q: %v", line, err)
		}
		name := fields[len(fields)-1]
		if name == "total" {
			return calls
		}
		calls[name] = n / float64(requests)
	}
	t.Fatalf("strace: no total in its summary:\n%s", summary)
	return nil
}

// One system call more per request fails, and the failure names the call; the same
// gateway once more passes.
func TestGateFindsSystemCall(t *testing.T) {
	service := startService(t)
	binary := buildGateway(t)
	dir := t.TempDir()
	count := func(name, binary string, env ...string) string {
		t.Helper()
		var calls []string
		for call, n := range traceCalls(t, startGateway(t, binary, service, env...)) {
			calls = append(calls, fmt.Sprintf("%q:%g", call, n))
		}
		return writeFile(t, dir, name, wireText("plain", "relay", strings.Join(calls, ","), spread(1.2, 5)...))
	}
	as, again := count("as", binary), count("again", binary)
	planted := count("planted", buildGateway(t, "-overlay", overlay(t)), plantedVariable+plantedCall)
	exit, printed := gate(t, "-baseline", as, again)
	t.Log(printed)
	if exit != 0 {
		t.Errorf("as it is: status %d", exit)
	}
	exit, printed = gate(t, "-baseline", as, planted)
	t.Log(printed)
	if exit != 1 || !strings.Contains(printed, "FAIL: proxied/plain: ") || !strings.Contains(printed, "getppid 1.00, was 0.00") {
		t.Errorf("a call more: status %d, or getppid is not named", exit)
	}
}
