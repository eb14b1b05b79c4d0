package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// prepare makes a campaign of a planted scenario whose results go to a folder of the test.
func prepare(t *testing.T, scenario string) *campaign {
	t.Helper()
	sc, err := readScenario(folder(t, scenario))
	if err != nil {
		t.Fatal(err)
	}
	o := &options{root: "../..", out: t.TempDir(), scenario: sc.name, profile: "smoke"}
	if err := absolute(o); err != nil {
		t.Fatal(err)
	}
	profile := sc.Profiles["smoke"]
	return &campaign{o: o, sc: sc, profile: &profile, stdout: io.Discard}
}

// stopped holds every child of a finished campaign to have ended.
func stopped(t *testing.T, c *campaign) {
	t.Helper()
	for _, p := range c.lab.spawn.live {
		if p.alive() == nil {
			t.Errorf("%s (pid %d) still runs", p.name, p.pid)
		}
	}
	if n := len(c.lab.spawn.live); n < 3 {
		t.Errorf("%d children were started, want gateway, service and generator at least", n)
	}
}

func TestRunThatPasses(t *testing.T) {
	c := prepare(t, strings.ReplaceAll(good, "about: a test", `about: a test
events:
- {every: 300ms, do: reload}
slow_clients: {count: 5, path: /bytes/2048, bytes: 1024, every: 10ms}
counts:
- {prefix: /bytes/1024, most_per_path: 1000000}`))
	var out bytes.Buffer
	c.stdout = &out
	if err := c.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	stopped(t, c)
	line, err := os.ReadFile(filepath.Join(c.o.out, resultsFile))
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(line, &r); err != nil {
		t.Fatal(err)
	}
	if r.Scenario != "planted" || r.Profile != "smoke" || r.Commit == "" || r.Machine == "" || r.Kernel == "" || r.Go == "" || r.Date == "" {
		t.Errorf("the line of JSON leaves out what is needed: %s", line)
	}
	if !r.Passed || len(r.Points) != 1 || r.Points[0].Sent != 50 || r.Points[0].FromPlan.P99 == 0 || r.Direct == 0 || r.ChecksSent < 3 || r.Reloads == 0 || r.SlowServed == 0 {
		t.Errorf("report is %s", line)
	}
	for _, want := range []string{"planted, profile smoke: a test", "50 per second planned", "passed\n", "not pinned"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the text lacks %q:\n%s", want, out.String())
		}
	}
	for _, pattern := range []string{"report.txt", "report.json", "latency.svg", "01-*.hgrm", "gateway.log"} {
		if files, err := filepath.Glob(filepath.Join(c.lab.dir, pattern)); err != nil || len(files) != 1 {
			t.Errorf("%s: %d files, %v", pattern, len(files), err)
		}
	}
}

func TestRunWithAPlantedThresholdFails(t *testing.T) {
	c := prepare(t, strings.Replace(good, "{p99: 3s}", "{p99: 1us}", 1))
	var out bytes.Buffer
	c.stdout = &out
	if err := c.run(t.Context()); !errors.Is(err, errFailed) {
		t.Fatalf("error is %v, want %v", err, errFailed)
	}
	stopped(t, c)
	if c.r.Passed || len(c.r.Faults) != 1 || !strings.Contains(c.r.Faults[0], "threshold 1µs") {
		t.Errorf("faults are %q, want the p99", c.r.Faults)
	}
	if !strings.Contains(out.String(), "FAULT: 01-50-per-second: p99 is") || !strings.Contains(out.String(), "FAILED") {
		t.Errorf("the text does not tell:\n%s", out.String())
	}
	if _, err := os.Stat(filepath.Join(c.o.out, resultsFile)); err != nil {
		t.Error("a run that fails must leave its line too:", err)
	}
}

// TestScrapesAreCompared has scrapes beside every second point; a ratio of one and a bit
// is met or not by chance, so only the arithmetic is held to anything.
func TestScrapesAreCompared(t *testing.T) {
	text := strings.Replace(good, "about: a test", "about: a test\nscrape: {every: 50ms, rounds: 2}", 1)
	text = strings.Replace(text, "percents: [30, 50]", "percents: [30]", 1)
	c := prepare(t, text)
	if err := c.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	stopped(t, c)
	var names []string
	for _, p := range c.r.Points {
		names = append(names, p.Name)
	}
	if got := strings.Join(names, " "); got != "01-without 02-with 03-with 04-without" {
		t.Errorf("points are %s", got)
	}
	s := c.r.Scrape
	if s == nil || s.Rounds != 2 || s.Scrapes < 20 || s.Bytes == 0 || s.WithP99 == 0 || s.Ratio < s.RatioLow || s.Ratio > s.RatioHigh {
		t.Fatalf("comparison is %+v", s)
	}
	none := 1.0
	c.r.Faults, c.r.Scrape.Ratio = nil, 1.01
	c.profile.Thresholds.ScrapeRatio = &none
	c.judge(t.Context())
	if c.r.Passed || !strings.Contains(strings.Join(c.r.Faults, " "), "p99 with scrapes is 1.010 times that without") {
		t.Errorf("faults are %q, want the ratio", c.r.Faults)
	}
}

// TestRunWithWrongBodiesFails has the service answer with 200 and one wrong byte once the
// load has begun: the generator is content, the digests are not.
func TestRunWithWrongBodiesFails(t *testing.T) {
	c := prepare(t, good)
	ctx := t.Context()
	built, err := build(ctx, c.o.root, c.sc)
	if err != nil {
		t.Fatal(err)
	}
	c.lab = &lab{sc: c.sc, dir: t.TempDir(), built: built}
	err = openLab(ctx, c.lab)
	defer func() {
		if err := c.lab.close(); err != nil {
			t.Error(err)
		}
	}()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.warm(ctx); err != nil {
		t.Fatal("the bodies are right still:", err)
	}
	if status, body, err := c.lab.do(ctx, http.MethodPost, "http://"+c.lab.stubs[0]+"/fail?wrong=1&n=-1"); err != nil || status != 200 {
		t.Fatal(status, string(body), err)
	}
	if err := c.points(ctx); err != nil {
		t.Fatal(err)
	}
	c.judge(ctx)
	if c.r.Passed || c.r.Points[0].Failed != 0 || !strings.Contains(strings.Join(c.r.Faults, " "), "has SHA-256") {
		t.Errorf("passed %v, faults %q, want the digest", c.r.Passed, c.r.Faults)
	}
	fresh := prepare(t, good)
	fresh.lab = c.lab
	if err := fresh.warm(ctx); !errors.Is(err, errFailed) {
		t.Errorf("a warm-up with wrong bodies: %v, want %v", err, errFailed)
	}
}

func TestRunThatIsCutShortStopsItsChildren(t *testing.T) {
	c := prepare(t, strings.Replace(good, "duration: 1s", "duration: 1h", 1))
	ctx, cancel := context.WithCancel(t.Context())
	c.stdout = io.Discard
	done := make(chan error, 1)
	go func() { done <- c.run(ctx) }()
	attacks := filepath.Join(c.o.out, "*", "01-*.targets") // written just before the attack begins
	tick := time.NewTicker(pollPeriod)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		if files, err := filepath.Glob(attacks); err != nil || len(files) > 0 || time.Now().After(deadline) {
			break
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want %v", err, context.Canceled)
	}
	stopped(t, c)
}

func TestGatewayThatDoesNotStartIsExplained(t *testing.T) {
	c := prepare(t, good)
	if err := os.WriteFile(filepath.Join(c.sc.dir, "sluice.yaml"), []byte("servces: []\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := c.run(t.Context())
	if !errors.Is(err, errEnded) || !strings.Contains(err.Error(), "servces") {
		t.Errorf("error is %v, want the gateway's own words", err)
	}
	for _, p := range c.lab.spawn.live {
		if p.alive() == nil {
			t.Errorf("%s still runs", p.name)
		}
	}
}

func TestUsage(t *testing.T) {
	is := func(want int, says string, args ...string) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		got := status(append([]string{"--root", "../.."}, args...), &stdout, &stderr)
		if all := stdout.String() + stderr.String(); got != want || !strings.Contains(all, says) {
			t.Errorf("%q: status %d, want %d, with %q in\n%s", args, got, want, says, all)
		}
	}
	is(64, "want a scenario")
	is(64, "usage: loadtest/run.sh SCENARIO", "nowhere")
	is(64, `no scenario "nowhere"; there are: cache-hit,`, "nowhere")
	is(64, `no profile "quick"; it has: smoke, load, stress, spike, soak`, "plain", "quick")
	is(64, "at most one profile", "plain", "smoke", "load")
	is(64, "want a scenario", "plain", "--list")
	is(64, "flag provided but not defined: -fast", "--fast", "plain")
	is(0, "usage:", "--help")
	is(0, "websocket            k6 ", "--list")
}

// TestScripts has k6 read every script of the tree.
func TestScripts(t *testing.T) {
	k6, err := filepath.Abs("../bin/k6")
	if err != nil {
		t.Fatal(err)
	}
	if !toolK6.present(k6) {
		t.Skip("k6 takes minutes to build; `make load` builds it, and then this test runs")
	}
	scripts, err := filepath.Glob("../*/*.js")
	if err != nil || len(scripts) < 8 {
		t.Fatalf("scripts are %q, %v", scripts, err)
	}
	for _, script := range scripts {
		cmd := exec.CommandContext(t.Context(), k6, "inspect", "--execution-requirements", script)
		cmd.Env = append(childEnv(), "K6_NO_USAGE_REPORT=true")
		out, err := cmd.CombinedOutput()
		if filepath.Base(script) == "profile.js" { // a part of the others, not a script
			continue
		}
		if err != nil {
			t.Errorf("%s: %v\n%s", script, err, out)
		}
		if filepath.Base(script) == "script.js" && !bytes.Contains(out, []byte(`"dropped_iterations"`)) {
			t.Errorf("%s has no threshold for dropped iterations:\n%s", script, out)
		}
	}
}

func TestToolOfAnotherVersionIsNotTaken(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, tool := range []tool{toolVegeta, toolK6} {
		if tool.present(self) || tool.present("/nowhere") {
			t.Errorf("another program passes for %s", tool.name)
		}
	}
}
