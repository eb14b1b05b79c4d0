package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const good = `about: a test
generator: vegeta
profiles:
  smoke: {duration: 1s, rates: [50], connections: 4, thresholds: {p99: 3s}}
  load: {duration: 1s, percents: [30, 50], connections: 4}
thresholds: {p95: 1s, p99: 2s, failures: 0, dropped: 0}
checks:
- {path: /bytes/1024, sha256: c52da3e1169c84258b1126207c45426f115d5bb62243ceb38f50176331cdc8d6}
`

const goodDocument = `_format_version: "3.0"
services:
- name: service
  url: http://${SERVICE_0:-127.0.0.1:9001}
  routes:
  - {name: all, paths: [/], strip_path: false}
`

// folder writes a scenario's files and returns where.
func folder(t *testing.T, scenario string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "loadtest", "planted")
	for name, text := range map[string]string{
		scenarioFile: scenario, "sluice.yaml": goodDocument, "targets.txt": "GET ${GATEWAY}/bytes/1024\n",
	} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestReadScenario(t *testing.T) {
	s, err := readScenario(folder(t, good))
	if err != nil {
		t.Fatal(err)
	}
	if s.name != "planted" || s.Services != 1 || s.Repeat != 1 || s.Metric != "http_req_duration" {
		t.Errorf("defaults are missing: %+v", s)
	}
	smoke, load := s.Profiles["smoke"], s.Profiles["load"]
	if smoke.Duration != time.Second || len(smoke.Rates) != 1 || len(load.Percents) != 2 {
		t.Errorf("profiles are %+v", s.Profiles)
	}
	merged := smoke.Thresholds.over(s.Thresholds)
	if *merged.P99 != 3*time.Second || *merged.P95 != time.Second || *merged.Dropped != 0 || merged.UpTo != nil {
		t.Errorf("the profile's thresholds over the scenario's are %+v", merged)
	}
}

func TestScenarioFaults(t *testing.T) {
	is := func(old, planted string, want ...string) {
		t.Helper()
		text := strings.Replace(good, old, planted, 1)
		if text == good {
			t.Fatalf("%q is not in the good scenario", old)
		}
		_, err := readScenario(folder(t, text))
		if err == nil {
			t.Errorf("%q was accepted", planted)
			return
		}
		for _, w := range append(want, scenarioFile) {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q: the error lacks %q:\n%v", planted, w, err)
			}
		}
	}
	is("about:", "abuot:", `scenario.yaml:1: unknown field "abuot"; there are: about, generator`)
	is("{p99: 3s}", "{p98: 3s}", `:4: unknown field "p98"; there are: p95, p99, failures`)
	is("path: /bytes", "url: /bytes", `:8: unknown field "url"; there are: method, path`)
	is("duration: 1s", "duration: soon", ":4: ", "time.Duration")
	is("generator: vegeta", "generator: wrk", `:2: generator: must be vegeta or k6, got "wrk"`)
	is("generator: vegeta", "generator: k6", ":2: generator: the folder lacks script.js", ":5: profiles.load.percents: needs the generator vegeta")
	is("rates: [50]", "rates: [0]", ":4: profiles.smoke.rates: must be 1 to 1000000, got 0")
	is("rates: [50], ", "", ":4: profiles.smoke: must have either rates or percents")
	is("connections: 4", "connections: 100000", ":4: profiles.smoke.connections: must be 1 to 10000, got 100000")
	is("duration: 1s", "duration: 48h", ":4: profiles.smoke.duration: must be 1s to 24h0m0s, got 48h0m0s")
	is("  smoke:", "  quick:", "profiles: must have the profile smoke", ":4: profiles.quick: no such profile; there are: smoke, load")
	is("{p99: 3s}", "{p99: 0s}", ":4: profiles.smoke.thresholds.p99: must be positive")
	is("failures: 0", "failures: 101", ":6: thresholds.failures: must be 0 to 100 percent, got 101")
	is("p95: 1s", "p95: -1s", ":6: thresholds.p95: must be positive")
	is("c52da3", "52da3", ":8: checks.0.sha256: must be 64 hexadecimal digits")
	is("{path: /bytes", "{path: bytes", `:8: checks.0.path: must begin with /, got "bytes`)
	is("about: a test", "about: a test\nevents:\n- {at: 10, do: explode}", `:3: events.0.do: must be one of reload, stop-service`)
	is("about: a test", "about: a test\nevents:\n- {at: 10, do: stop-redis}", "events.0.do: stop-redis needs redis: true")
	is("about: a test", "about: a test\nevents:\n- {do: reload}", "events.0: must have either at")
	is("about: a test", "about: a test\nevents:\n- {at: 10, do: stop-service, service: 1}", "events.0.service: must be 0 to 0, got 1")
	is("about: a test", "about: a test\nscrape: {every: 1ms, rounds: 0}", ":2: scrape.every: must be 10ms to 1h", "scrape.rounds: must be 1 to 50", "profiles.load: must have one rate")
	is("about: a test", "about: a test\nslow_clients: {count: 0, path: x, bytes: 0, every: 0s}", "slow_clients.count", "slow_clients.bytes", "slow_clients.every", "slow_clients.path")
	is("about: a test", "about: a test\ngenerate: {routes: 5}", ":2: generate.service: must name the service")
}

// TestScenariosOfTheTree holds every scenario to be readable, complete and told about.
func TestScenariosOfTheTree(t *testing.T) {
	names, err := scenarios("..")
	if err != nil {
		t.Fatal(err)
	}
	want := "cache-hit cache-stampede key-auth-rate-limit large-bodies limiter-edge plain redis-failure reload-under-load " +
		"routes-10k scrape slow-clients smoke soak spike streaming target-failure websocket"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("scenarios are %s, want %s", got, want)
	}
	table, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		s, err := readScenario(filepath.Join("..", name))
		if err != nil {
			t.Error(err)
			continue
		}
		if got := profilesOf(s); len(got) != len(profileNames) {
			t.Errorf("%s has only the profiles %v", name, got)
		}
		text, err := os.ReadFile(filepath.Join("..", name, "README.md"))
		if err != nil || !strings.HasPrefix(string(text), "# "+name+"\n") {
			t.Errorf("%s/README.md must begin with # %s: %v", name, name, err)
		}
		if !strings.Contains(string(table), "| ["+name+"]("+name+") |") {
			t.Errorf("README.md has no row for %s", name)
		}
	}
}

func TestTargets(t *testing.T) {
	dir := folder(t, strings.Replace(good, "about: a test", "about: a test\nrepeat: 3\nupload_bytes: 5", 1))
	const text = "POST ${GATEWAY}/r/${N}\nX-Caller: c-${N}\n@${UPLOAD}\n"
	if err := os.WriteFile(filepath.Join(dir, "targets.txt"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	sc, err := readScenario(dir)
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{sc: sc, dir: t.TempDir(), proxy: "127.0.0.1:1", stubs: []string{"127.0.0.1:2"}}
	out := filepath.Join(l.dir, "out")
	is := func(direct bool, want string) {
		t.Helper()
		if err := l.writeTargets(out, direct); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(out)
		if err != nil || string(got) != want {
			t.Errorf("direct %v: got\n%s\nwant\n%s", direct, got, want)
		}
	}
	upload := filepath.Join(l.dir, "upload.bin")
	one := func(n string) string {
		return "POST http://127.0.0.1:1/r/" + n + "\nX-Caller: c-" + n + "\n@" + upload + "\n\n"
	}
	is(false, one("0")+one("1")+one("2"))
	is(true, "GET http://127.0.0.1:2/bytes/1024\n")
	if body, err := os.ReadFile(upload); err != nil || len(body) != 5 {
		t.Errorf("the upload has %d bytes, %v", len(body), err)
	}
	sc.Repeat = 8
	is(false, one("0")+one("5")+one("2")+one("7")+one("4")+one("1")+one("6")+one("3"))
}

func TestGenerated(t *testing.T) {
	g := Generate{Service: "s", Routes: 2, Consumers: 1}
	const want = `_format_version: "3.0"
routes:
- name: r-0
  service: {name: s}
  paths: [/r/0]
- name: r-1
  service: {name: s}
  paths: [/r/1]
consumers:
- username: c-0
  keyauth_credentials:
  - key: key-0
`
	if got := string(g.document()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if (&Generate{}).document() != nil {
		t.Error("nothing to generate gave a document")
	}
}
