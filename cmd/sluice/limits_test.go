package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/plugin"
)

const beyond = `_format_version: "3.0"
services:
- name: plain
  url: http://127.0.0.1:9
  routes:
  - name: both
    paths: [/both]
    protocols: [grpc, grpcs]
- name: remote-calls
  url: grpc://127.0.0.1:9
- name: messages
  url: tcp://127.0.0.1:9
  routes:
  - name: stream
    protocols: [tcp]
    destinations: [{port: 9000}]
  - name: secure-stream
    protocols: [tls]
    snis: [x.example]
- name: retired
  url: udp://127.0.0.1:9
  enabled: false
- name: chat
  url: wss://127.0.0.1:9
  routes:
  - name: talk
    paths: [/talk]
    protocols: [ws, wss]
upstreams:
- name: sticky
  hash_on: ip
  use_srv_name: true
- name: quick
  algorithm: least-connections
  max_connections: 9
- name: probed
  healthchecks:
    active:
      healthy: {interval: 5, successes: 1}
      unhealthy: {interval: 5, tcp_failures: 1}
- name: watched
  healthchecks: {passive: {unhealthy: {tcp_failures: 2}}}
- name: simple
plugins:
- name: key-auth
  ordering: {before: {access: [rate-limiting]}}
gateway:
  stream_listen: 127.0.0.1:0
`

func TestLimits(t *testing.T) {
	d, err := config.Read([]config.Source{{Name: "kong.yaml", Data: []byte(beyond)}}, config.Options{Catalog: plugin.All})
	if err != nil {
		t.Fatal(err)
	}
	got := limits(d)
	want := []string{
		`kong.yaml:14:5: routes that take only tcp, tls or udp are not served yet (2, first "stream")`,
		`kong.yaml:6:5: routes that take only grpc serve HTTP/1.1: gRPC is not served yet (1, first "both")`,
		`kong.yaml:11:3: services of protocol tcp, tls or udp are spoken to by HTTP/1.1: theirs is not spoken yet (1, first "messages")`,
		`kong.yaml:9:3: services of protocol grpc are spoken to by HTTP/1.1: gRPC is not spoken yet (1, first "remote-calls")`,
		`kong.yaml:45:3: ordering of plugins is not followed yet: they run in the built-in order (1, first "key-auth")`,
		`gateway.stream_listen: not opened: streams are not proxied yet`,
	}
	for i := range max(len(got), len(want)) {
		var g, w string
		if i < len(got) {
			g = got[i].Error()
			if !got[i].Warning {
				t.Errorf("%s: not a warning", g)
			}
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("got  %s\nwant %s", g, w)
		}
	}
}

// TestPrioritiesFollowOrder: what GET / tells of plugins agrees with the order
// they run in.
func TestPrioritiesFollowOrder(t *testing.T) {
	p := launch(t, "run", "-c", file(t, "kong.yaml", small+loopback))
	_, body := fetch(t, "GET", p.admin+"/", "")
	var root struct {
		Plugins struct {
			Available map[string]struct{ Priority int } `json:"available_on_server"`
		}
	}
	if err := json.Unmarshal([]byte(body), &root); err != nil {
		t.Fatal(err)
	}
	last := 1 << 30
	for i := range plugin.All.All {
		name := plugin.All.All[i].Name
		got, ok := root.Plugins.Available[name]
		if !ok || got.Priority > last {
			t.Errorf("%s has priority %d, the one before it %d", name, got.Priority, last)
		}
		last = got.Priority
	}
}

// TestLimitsAreTold: by check, and by run at its start.
func TestLimitsAreTold(t *testing.T) {
	doc := file(t, "kong.yaml", strings.Replace(beyond, "gateway:\n", loopback, 1))
	r := sluice(t, "check", doc)
	r.want(t, 0, ": warning: services of protocol tcp, tls or udp are spoken to by HTTP/1.1", "0 faults, 6 warnings")
	p := launch(t, "run", "-c", doc)
	p.logged("routes that take only tcp, tls or udp are not served yet", 1)
	p.logged("services of protocol grpc are spoken to by HTTP/1.1", 1)
}

// TestWarningsBesideFaults: a document with a fault keeps its warnings, told
// apart from it.
func TestWarningsBesideFaults(t *testing.T) {
	err := error(config.Faults{{File: "a.yaml", Line: 1, Message: "bad"}, {File: "a.yaml", Line: 2, Message: "odd", Warning: true}})
	var b strings.Builder
	tell(&b, err)
	if got, want := b.String(), "a.yaml:1: bad\na.yaml:2: warning: odd\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	b.Reset()
	log, _ := newLog(&b)
	logFaults(log, levelOf("error"), err)
	if !strings.Contains(b.String(), `level=ERROR msg="a.yaml:1: bad"`) || !strings.Contains(b.String(), `level=WARN msg="a.yaml:2: odd"`) {
		t.Errorf("logged %s", b.String())
	}
}

func TestMissing(t *testing.T) {
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	write(t, one, "1")
	write(t, two, "2")
	m := newMissing([]string{one, two})
	f := func(want ...string) {
		t.Helper()
		if got := m.look(); strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	remove := func() {
		t.Helper()
		if err := os.Remove(two); err != nil {
			t.Fatal(err)
		}
	}
	f()
	remove()
	f() // perhaps it is being replaced
	write(t, two, "3")
	f()
	remove()
	f()
	f(two)
	f() // once
	write(t, two, "4")
	f()
	remove()
	f()
	f(two)
}

// TestFileRemoved: a gateway whose file is gone says so and goes on.
func TestFileRemoved(t *testing.T) {
	s := service(t, ok)
	doc := file(t, "kong.yaml", named(s.URL, "one"))
	p := launch(t, "run", "-c", doc)
	if err := os.Remove(doc); err != nil {
		t.Fatal(err)
	}
	p.logged("a watched file is gone", 1)
	if got := nameOfAnswer(t, p); got != "one" {
		t.Errorf("answer of %q", got)
	}
	write(t, doc, named(s.URL, "two"))
	eventually(t, "the new file is live", func() bool { return nameOfAnswer(t, p) == "two" })
}
