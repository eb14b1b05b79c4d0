package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const small = `_format_version: "3.0"
services:
- name: orders
  url: http://127.0.0.1:9/api
  routes:
  - name: orders
    paths: [/orders]
consumers:
- username: alice
  keyauth_credentials:
  - key: alice-key
plugins:
- name: key-auth
  service: orders
`

const broken = `_format_version: "3.0"
services:
- name: orders
  url: http://127.0.0.1:9
  retries: many
  routes:
  - paths: [/orders]
plugins:
- name: rate-limitting
`

func TestCheck(t *testing.T) {
	good, bad := file(t, "good.yaml", small), file(t, "bad.yaml", broken)
	sluice(t, "check", "-c", good).want(t, 0, "", good+": 0 faults, 0 warnings")
	for _, command := range [][]string{{"check", "-c", bad}, {"validate", "-c", bad}, {"config", "parse", bad}, {"check", bad}} {
		r := sluice(t, command...)
		r.want(t, 1, bad+":5:12: services[0] \"orders\": retries: expected an integer\n 5 |   retries: many\n", "2 faults")
		r.want(t, 1, `did you mean "rate-limiting"?`, "")
		if strings.Contains(r.stdout, "\x1b") {
			t.Errorf("%v: colour off a terminal", command)
		}
	}
	sluiceWith(t, t.TempDir(), broken, nil, "check", "-c", "-").want(t, 1, "<stdin>:5:12:", "")
	sluiceWith(t, filepath.Dir(good), "", []string{"SLUICE_CONFIG=" + good}, "check").want(t, 0, "", "0 faults")
	sluice(t, "check", "-c", good, "--overlay", bad).want(t, 1, bad+":5", "")

	dir := t.TempDir()
	write(t, filepath.Join(dir, "sluice.yaml"), small)
	sluiceWith(t, dir, "", nil, "check").want(t, 0, "", "sluice.yaml: 0 faults")
}

func TestCheckWarnings(t *testing.T) {
	loose := file(t, "loose.yaml", strings.Replace(small, "services:\n- name: orders\n  url: http://127.0.0.1:9/api\n  routes:\n  - name: orders\n    paths: [/orders]",
		"service:\n  name: orders\n  url: http://127.0.0.1:9\n  routes:\n  - name: orders\n    paths: [/orders]", 1))
	sluice(t, "check", loose).want(t, 0, "warning: read as an entry of services", "0 faults, 1 warning\n")
	sluice(t, "check", "--strict", loose).want(t, 1, "unknown field", "")
}

func TestCheckFormats(t *testing.T) {
	bad := file(t, "bad.yaml", broken)
	r := sluice(t, "check", "--format", "json", bad)
	r.want(t, 1, "", "")
	var report struct {
		Valid    bool
		Findings []finding
	}
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
		t.Fatal(err)
	}
	if report.Valid || len(report.Findings) != 2 || report.Findings[0].Line != 5 || report.Findings[1].Near != "rate-limiting" {
		t.Errorf("report: %+v", report)
	}
	r = sluice(t, "check", "--format", "sarif", bad)
	var sarif sarifLog
	if err := json.Unmarshal([]byte(r.stdout), &sarif); err != nil {
		t.Fatal(err)
	}
	got := sarif.Runs[0].Results[0]
	if sarif.Version != "2.1.0" || got.Level != "error" || got.Locations[0].Physical.Region.Line != 5 || got.Locations[0].Physical.Artifact.URI != bad {
		t.Errorf("sarif: %+v", got)
	}
	sluice(t, "check", "--format", "json", file(t, "good.yaml", small)).want(t, 0, `"valid": true`, "")
}

// TestCheckCompiles: a certificate that does not exist is seen only when the
// document is compiled, and a log file must not come into being by that.
func TestCheckCompiles(t *testing.T) {
	sluice(t, "check", file(t, "a.yaml", small+"gateway:\n  ssl_cert: [/nowhere/cert.pem]\n  ssl_cert_key: [/nowhere/key.pem]\n")).
		want(t, 1, "/nowhere/cert.pem", "1 fault")
	log := filepath.Join(t.TempDir(), "access.log")
	sluice(t, "check", file(t, "b.yaml", small+"- name: file-log\n  config:\n    path: "+log+"\n")).want(t, 0, "", "0 faults")
	if _, err := os.Stat(log); err == nil {
		t.Error("check created the log file")
	}
	cache := filepath.Join(t.TempDir(), "cache")
	sluice(t, "check", file(t, "c.yaml", small+"- name: proxy-cache\n  config: {memory: {size: 8m, file: "+cache+"}}\n")).want(t, 0, "", "0 faults")
	if _, err := os.Stat(cache); err == nil {
		t.Error("check created the file of a cache")
	}
	sluice(t, "check", file(t, "d.yaml", small+"- name: proxy-cache\n  config: {memory: {size: 8m, file: "+cache+"/nowhere/file}}\n")).
		want(t, 1, "there is no directory "+cache+"/nowhere", "1 fault")
}

// TestExplainKept asks what would become of an answer.
func TestExplainKept(t *testing.T) {
	doc := file(t, "kong.yaml", small+"- name: proxy-cache\n  config: {rfc: true}\n")
	f := func(want string, args ...string) {
		t.Helper()
		sluice(t, append([]string{"explain", "-c", doc}, args...)...).want(t, 0, want, "")
	}
	f("say what the service answers, by --status and --answer", "GET", "/orders")
	f("the answer is kept: fresh for 60 s", "GET", "/orders", "--answer", "Cache-Control: max-age=60")
	f("apart for each accept", "GET", "/orders", "--answer", "Cache-Control: max-age=60", "--answer", "Vary: Accept")
	f("the answer is not kept: it says private", "GET", "/orders", "--answer", "Cache-Control: private")
	f("the answer is not kept: it sets a cookie", "GET", "/orders", "--answer", "Cache-Control: max-age=60", "--answer", "Set-Cookie: a=b")
	f("nothing says that it is fresh", "GET", "/orders", "--status", "500")
	f("the method is not one of request_method", "POST", "/orders")
	f("only whole answers are kept", "GET", "/orders", "-H", "Range: bytes=0-1")
	sluice(t, "explain", "-c", doc, "GET", "/orders", "--status", "99").want(t, 64, "", "--status 99: expected a status from 200 to 999")
	sluice(t, "explain", "-c", doc, "GET", "/orders", "--answer", "nonsense").want(t, 64, "", "--answer \"nonsense\": expected 'Name: value'")
}

func TestDump(t *testing.T) {
	doc := file(t, "kong.yaml", strings.Replace(small, "alice-key", "${KEY:-alice-key}", 1))
	r := sluice(t, "config", "dump", "-c", doc)
	r.want(t, 0, "retries: 5", "")
	if strings.Contains(r.stdout, "alice-key") {
		t.Error("a secret is shown")
	}
	sluice(t, "config", "dump", "-c", doc, "--secrets").want(t, 0, "alice-key", "")
	r = sluice(t, "config", "dump", "-c", doc, "--format", "json", "--secrets")
	var m map[string]any
	if err := json.Unmarshal([]byte(r.stdout), &m); err != nil {
		t.Fatal(err)
	}
	// What was dumped can be read again.
	again := file(t, "again.json", r.stdout)
	sluice(t, "check", "--strict", again).want(t, 0, "", "0 faults")
	if second := sluice(t, "config", "dump", "-c", again, "--format", "json", "--secrets"); second.stdout != r.stdout {
		t.Errorf("a dump of the dump differs:\n%s\n%s", r.stdout, second.stdout)
	}
	sluice(t, "config", "dump", "-c", file(t, "bad.yaml", broken)).want(t, 1, "", "expected an integer")
}

func TestRender(t *testing.T) {
	base := file(t, "base.yaml", small)
	over := file(t, "production.yaml", "_format_version: \"3.0\"\nservices:\n- name: orders\n  read_timeout: ${TIMEOUT}\n")
	r := sluiceWith(t, t.TempDir(), "", []string{"TIMEOUT=1234"}, "config", "render", "-c", base, "--overlay", over, "--secrets")
	r.want(t, 0, "read_timeout: 1234", "")
	if strings.Contains(r.stdout, "retries") || !strings.Contains(r.stdout, "alice-key") {
		t.Errorf("not as plain as it may be:\n%s", r.stdout)
	}
	sluice(t, "check", "--strict", file(t, "r.yaml", r.stdout)).want(t, 0, "", "0 faults, 0 warnings")
	sluice(t, "config", "render", "-c", base, "--overlay", over).want(t, 1, "", "environment variable TIMEOUT is not set")
}

func TestSchema(t *testing.T) {
	r := sluice(t, "config", "schema")
	var m map[string]any
	if err := json.Unmarshal([]byte(r.stdout), &m); err != nil {
		t.Fatal(err)
	}
	r.want(t, 0, `"hide_credentials"`, "")
}

const explained = small + `- name: rate-limiting
  config:
    minute: 100
- name: rate-limiting
  consumer: alice
  config:
    minute: 5
`

func TestExplain(t *testing.T) {
	doc := file(t, "kong.yaml", explained)
	r := sluice(t, "explain", "-c", doc, "GET", "http://api/orders/7?x=1")
	for _, want := range []string{
		"route    orders: path: /orders  (" + doc + ":6)",
		`plugins  1. key-auth, service "orders"  (` + doc + ":13)",
		"2. rate-limiting, global  (" + doc + ":15)\n            minute: 100  (" + doc + ":17)",
		"service  orders, http  (" + doc + ":3)",
		"target   127.0.0.1:9\n",
		"path     /api/7?x=1\n",
	} {
		r.want(t, 0, want, "")
	}
	r = sluice(t, "explain", "-c", doc, "GET", "/orders", "--consumer", "alice")
	r.want(t, 0, `2. rate-limiting, consumer "alice"  (`+doc+":18)\n            minute: 5  ("+doc+":21)\n            instead of the one at global  ("+doc+":15)", "")
	sluice(t, "explain", "-c", doc, "GET", "/nothing").want(t, 0, "route    none\n  not    orders: paths: wants /orders, got \"/nothing\"", "")

	r = sluice(t, "explain", "-c", doc, "--format", "json", "GET", "/orders")
	var e struct {
		Route    struct{ Name string }
		Upstream struct{ Path, Target string }
	}
	if err := json.Unmarshal([]byte(r.stdout), &e); err != nil || e.Route.Name != "orders" || e.Upstream.Path != "/api" || e.Upstream.Target != "127.0.0.1:9" {
		t.Errorf("%v: %s", err, r.stdout)
	}
	sluice(t, "explain", "-c", doc, "GET", "ftp://x/").want(t, 1, "", "expected http://host/path")
	sluice(t, "explain", "-c", doc, "GET", "/", "--consumer", "eve").want(t, 1, "", `no consumer has the username, custom id or id "eve"`)
	sluice(t, "explain", "-c", doc, "GET", "/", "--ip", "::z").want(t, 1, "", "client IP")
	sluice(t, "explain", "-c", file(t, "bad.yaml", broken), "GET", "/").want(t, 1, "", "expected an integer")
}
