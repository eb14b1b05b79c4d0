//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/examples"
	"github.com/sluice-gateway/sluice/loadtest/trial"
)

// shortTrial are the fields of a profile whose trial takes a second or two.
const shortTrial = "rounds: 1\nduration: 400ms\nwarm_up: 50ms\nconnections: 8\nrate: 100\n"

// trialIn writes a document and a profile and runs sluice bench with them.
func trialIn(t *testing.T, document, profile string, args ...string) (r result, dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range map[string]string{"sluice.yaml": document, "profile.yaml": profile} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args = append([]string{"bench", "-c", "sluice.yaml", "--profile", "profile.yaml"}, args...)
	return sluiceWith(t, dir, "", nil, args...), dir
}

func expect(t *testing.T, r result, code int, wants ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d\n%s%s", r.code, code, r.stdout, r.stderr)
	}
	for _, want := range wants {
		if !strings.Contains(r.stdout+r.stderr, want) {
			t.Errorf("no %q in:\n%s%s", want, r.stdout, r.stderr)
		}
	}
}

// TestBenchPasses runs the example's document against thresholds that any machine meets,
// with a taken port among its listeners and what the environment says about those.
func TestBenchPasses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	document := string(examples.Quickstart) + "gateway:\n  proxy_listen: " + taken.Addr().String() + "\n  status_listen: " + taken.Addr().String() + "\n"
	r, dir := trialIn(t, document, shortTrial+"thresholds: {wire_ratio: 100, p99: 9s, failures: 5%, memory: 4g}\n", "--format", "json", "--out", "report.json")
	expect(t, r, exitFine, "round 1/1", "us of CPU a request")
	line, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var report trial.Report
	if err := json.Unmarshal(line, &report); err != nil {
		t.Fatalf("%v\n%s", err, line)
	}
	if report.Verdict != trial.Fine || len(report.Judged) != 4 || report.Requests < 20 || report.Build.Version == "" || len(report.LeftOut) != 2 {
		t.Errorf("%s", line)
	}
	for _, j := range report.Judged {
		if !j.Met || j.Name != "failures" && j.Measured <= 0 {
			t.Errorf("%+v", j)
		}
	}
	if after, err := os.ReadFile(filepath.Join(dir, "sluice.yaml")); err != nil || string(after) != document {
		t.Errorf("the document was changed: %v\n%s", err, after)
	}
}

// TestBenchMisses plants thresholds that nothing meets.
func TestBenchMisses(t *testing.T) {
	r, _ := trialIn(t, string(examples.Quickstart), shortTrial+"service: {latency: 20ms}\nthresholds: {wire_ratio: 0.01, p50: 10ms, p99: 9s, failures: 1}\n", "-q")
	expect(t, r, exitFailed, "sluice: wire_ratio is missed: measured ", ", limit 0.01x", "sluice: p50 is missed", "limit 10ms", "missed: wire_ratio is ")
	if strings.Contains(r.stderr, "p99") || strings.Contains(r.stderr, "round 1") {
		t.Errorf("%s", r.stderr)
	}
}

// TestBenchSaysWhatCameBack has a key missing: the request and the answer are named.
func TestBenchSaysWhatCameBack(t *testing.T) {
	profile := shortTrial + "requests:\n- path: /users/7\n- name: an order\n  path: /orders/1\n"
	r, _ := trialIn(t, string(examples.Quickstart), profile)
	expect(t, r, exitFailed, `request "an order": expected status 200, got 401 with the body`, "No API key found", "give the request the headers", "say status: 401")
	r, _ = trialIn(t, string(examples.Quickstart), profile, "--format", "junit")
	expect(t, r, exitFailed, `errors="1"`, `<error message="request &#34;an order&#34;: expected status 200, got 401`, "sluice: request")
	r, _ = trialIn(t, string(examples.Quickstart), profile+"  status: 401\n", "-q")
	expect(t, r, exitFine, "fine: 1 threshold met")
}

// TestBenchCountsFailures has a limit that lets six requests through, of which four are
// left for the load.
func TestBenchCountsFailures(t *testing.T) {
	profile := shortTrial + "requests:\n- path: /orders/1\n  headers: {apikey: '${KEY:-alice-key}'}\n- path: /users\n  weight: 9\n"
	r, _ := trialIn(t, string(examples.Quickstart), profile, "-q")
	expect(t, r, exitFailed, "sluice: failures is missed", "another status", "got 429 with the body", "raise the limit for the trial with an --overlay")
}

// TestBenchRateAboveCapacity plans a hundred times what the service's latency allows.
func TestBenchRateAboveCapacity(t *testing.T) {
	profile := "rounds: 1\nduration: 400ms\nwarm_up: 50ms\nconnections: 2\nrate: 5000\nservice: {latency: 20ms}\nthresholds: {p50: 5ms}\n"
	r, _ := trialIn(t, string(examples.Quickstart), profile, "-q")
	expect(t, r, exitFailed, "the plan of 5000 requests/s could not be kept", "since all 2 connections were busy", "latencies include that wait", "p50 is missed")
}

// TestBenchUpstreams leads names that do not exist, TLS and https routes to the trial's
// service.
func TestBenchUpstreams(t *testing.T) {
	r, _ := trialIn(t, `_format_version: "3.0"
services:
- {name: a, url: "https://orders.invalid/base", routes: [{name: a, paths: [/a], protocols: [https]}]}
- {name: b, host: balanced, protocol: https, port: 443, routes: [{name: b, paths: [/b]}]}
upstreams:
- name: balanced
  algorithm: consistent-hashing
  hash_on: path
  healthchecks:
    active: {type: https, healthy: {interval: 0.1}, unhealthy: {interval: 0.1, tcp_failures: 1, http_failures: 1}}
    passive: {unhealthy: {http_failures: 1, http_statuses: [500]}}
  targets: [{target: "one.invalid:443"}, {target: "two.invalid:443"}]
`, shortTrial+"service: {status: 500}\n", "-q")
	expect(t, r, exitFine, "2 requests from the document's routes, 0 routes left out", "2 services with TLS", "1 route for https alone", "passive health checks of 1 upstream")
}

func TestBenchMisuse(t *testing.T) {
	expect(t, sluice(t, "bench", "-c", "x.yaml"), exitUsage, "--profile is missing", "sluice bench --example")
	expect(t, sluice(t, "bench", "-c", "-", "--profile", "p.yaml"), exitUsage, "cannot come from standard input")
	expect(t, sluice(t, "bench", "--profile", "p.yaml", "--format", "xml"), exitUsage, `unknown value "xml"`, "text, markdown, json, junit")
	expect(t, sluice(t, "bench", "--profle", "p.yaml"), exitUsage, "unknown flag: --profle")
	expect(t, sluice(t, "bench", "-c", "x.yaml", "--profile", "none.yaml"), exitFailed, "profile: open none.yaml: no such file")
	expect(t, sluice(t, "bench-part", "relay"), exitUsage, "requires at least 2 arg")
	expect(t, sluice(t, "bench-part", "relais", "127.0.0.1:1"), exitUsage, "unknown part")
	expect(t, sluice(t, "bench-part", "service", "x", "1s", "200"), exitUsage, `expected a number of bytes, got "x"`)
	r, _ := trialIn(t, string(examples.Quickstart), "roundz: 3\nrate: fast\n")
	expect(t, r, exitFailed, "profile.yaml:1:1: roundz: unknown field", `did you mean "rounds"?`, "roundz: 3", "profile.yaml:2:7: rate: expected requests per second")
	r, _ = trialIn(t, "_format_version: \"3.0\"\nservices:\n- {name: a, url: 'http://a.invalid', plugins: [{name: key-aut}]}\n", shortTrial)
	expect(t, r, exitFailed, `sluice.yaml:3`, `did you mean "key-auth"?`)
	r, _ = trialIn(t, "_format_version: \"3.0\"\n", shortTrial)
	expect(t, r, exitFailed, "no request to send")
	r, _ = trialIn(t, string(examples.Quickstart), shortTrial, "-q", "--out", "no/such/folder")
	expect(t, r, exitFailed, "--out: open no/such/folder")
	if r := sluice(t, "bench", "--example"); r.stdout != string(examples.Profile) || r.code != exitFine {
		t.Errorf("%+v", r)
	}
}

// partsOf returns the process ids of the trial's parts that pid has started.
func partsOf(t *testing.T, pid int) []int {
	t.Helper()
	var parts []int
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		for word := range strings.FieldsSeq(string(text)) {
			n, err := strconv.Atoi(word)
			if err != nil {
				t.Fatal(err)
			}
			parts = append(parts, n)
		}
	}
	return parts
}

// TestBenchLeavesNothing kills and interrupts a trial under load: its parts end.
func TestBenchLeavesNothing(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT, syscall.SIGTERM} {
		dir := t.TempDir()
		for name, text := range map[string][]byte{"sluice.yaml": examples.Quickstart, "profile.yaml": []byte("duration: 60s\nwarm_up: 0s\nrate: 10\n")} {
			if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command(binary, "bench", "-c", "sluice.yaml", "--profile", "profile.yaml")
		cmd.Dir = dir
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		var parts []int
		eventually(t, "three parts", func() bool {
			parts = partsOf(t, cmd.Process.Pid)
			return len(parts) == 3
		})
		began := time.Now()
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		said, _ := bufio.NewReader(stderr).ReadString('\n')
		_ = cmd.Wait()
		if s != syscall.SIGKILL && (cmd.ProcessState.ExitCode() != exitFailed || said != "sluice: interrupted\n" || time.Since(began) > 20*time.Second) {
			t.Errorf("%s: exit code %d, %q after %s", s, cmd.ProcessState.ExitCode(), said, time.Since(began))
		}
		for _, pid := range parts {
			eventually(t, fmt.Sprintf("the end of part %d after %s", pid, s), func() bool { return !runs(pid) })
		}
	}
}

// runs reports whether a process is there and is not one that only waits to be reaped.
func runs(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !regexp.MustCompile(`\) [ZX] `).Match(text)
}

// TestBenchPartEnds with its standard input, as where the kernel tells nobody of a
// parent's death.
func TestBenchPartEnds(t *testing.T) {
	cmd := exec.Command(binary, "bench-part", "service", "10", "0s", "200")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	if address, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.HasPrefix(address, "127.0.0.1:") {
		t.Fatalf("%q, %v", address, err)
	}
	_ = in.Close()
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exitFailed {
		t.Errorf("%v", err)
	}
}
