package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const loopback = `gateway:
  proxy_listen: 127.0.0.1:0
  status_listen: 127.0.0.1:0
  admin_listen: 127.0.0.1:0
`

// named returns a document whose route /x leads to url and whose answers carry
// the header X-Name.
func named(url, name string) string {
	return fmt.Sprintf(`_format_version: "3.0"
services:
- name: s
  url: %s
  routes:
  - name: r
    paths: [/x]
plugins:
- name: response-transformer
  config:
    add:
      headers: ["X-Name:%s"]
%s`, url, name, loopback)
}

// nameOfAnswer is the X-Name the gateway answers with.
func nameOfAnswer(t *testing.T, p *process) string {
	t.Helper()
	resp, err := client.Get(p.proxy + "/x")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body)
		t.Fatalf("status %d: %s", resp.StatusCode, b)
	}
	return resp.Header.Get("X-Name")
}

func service(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func ok(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }

func TestRunAndReload(t *testing.T) {
	s := service(t, ok)
	doc := file(t, "kong.yaml", named(s.URL, "one"))
	p := launch(t, "start", "-c", doc, "--no-watch")
	if got := nameOfAnswer(t, p); got != "one" {
		t.Errorf("answer of %q", got)
	}
	if status, body := fetch(t, "GET", p.status+"/status/ready", ""); status != 200 || body != `{"message":"ready"}` {
		t.Errorf("ready: %d %s", status, body)
	}
	if status, _ := fetch(t, "GET", p.status+"/metrics", ""); status != 200 {
		t.Errorf("metrics: %d", status)
	}

	write(t, doc, named(s.URL, "two"))
	p.signal(syscall.SIGHUP)
	eventually(t, "the new document is live", func() bool { return nameOfAnswer(t, p) == "two" })

	// A broken file: every fault is told, the old document stays.
	write(t, doc, broken+loopback)
	p.signal(syscall.SIGHUP)
	p.logged("configuration refused", 1)
	p.logged("kong.yaml:5:12: ", 1)
	p.logged("unknown plugin", 1)
	if got := nameOfAnswer(t, p); got != "two" {
		t.Errorf("after a broken file the answer is of %q", got)
	}
	_, body := fetch(t, "GET", p.status+"/status", "")
	var report struct {
		Sluice struct {
			Reload struct{ Success, Watching bool }
		}
	}
	if err := json.Unmarshal([]byte(body), &report); err != nil || report.Sluice.Reload.Success || report.Sluice.Reload.Watching {
		t.Errorf("status: %v %s", err, body)
	}

	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestWatch(t *testing.T) {
	s := service(t, ok)
	doc := file(t, "kong.yaml", named(s.URL, "one"))
	p := launch(t, "run", "-c", doc)
	write(t, doc, broken+loopback)
	p.logged("configuration refused", 1)
	if got := nameOfAnswer(t, p); got != "one" {
		t.Errorf("after a broken file the answer is of %q", got)
	}
	write(t, doc, named(s.URL, "two"))
	eventually(t, "the changed file is live", func() bool { return nameOfAnswer(t, p) == "two" })

	// What was posted stays although the directory of the file is touched, until
	// the file itself changes.
	if status, body := fetch(t, "POST", p.admin+"/config", named(s.URL, "posted")); status != 201 {
		t.Fatalf("POST /config: %d %s", status, body)
	}
	if got := nameOfAnswer(t, p); got != "posted" {
		t.Errorf("after POST /config the answer is of %q", got)
	}
	applied := strings.Count(p.out.String(), "configuration applied")
	write(t, doc, named(s.URL, "two"))
	write(t, doc, named(s.URL, "three"))
	eventually(t, "the changed file is live", func() bool { return nameOfAnswer(t, p) == "three" })
	if got := strings.Count(p.out.String(), "configuration applied"); got != applied+1 {
		t.Errorf("%d documents were applied where one file changed", got-applied)
	}
}

func TestPostConfig(t *testing.T) {
	s := service(t, ok)
	p := launch(t, "run", "-c", file(t, "kong.yaml", named(s.URL, "one")))
	status, body := fetch(t, "POST", p.admin+"/config", broken, "Content-Type", "text/yaml")
	if status != 400 || !strings.Contains(body, `"code":14`) || !strings.Contains(body, `{"retries":"expected an integer"}`) {
		t.Errorf("broken document: %d %s", status, body)
	}
	if got := nameOfAnswer(t, p); got != "one" {
		t.Errorf("answer of %q", got)
	}
	// Without a gateway block the listeners' properties stay.
	status, body = fetch(t, "POST", p.admin+"/config?check_hash=1", strings.Replace(named(s.URL, "two"), loopback, "", 1))
	if status != 201 || !strings.Contains(body, `"services":{`) {
		t.Errorf("POST /config: %d %s", status, body)
	}
	if got := nameOfAnswer(t, p); got != "two" {
		t.Errorf("answer of %q", got)
	}
	if status, _ = fetch(t, "POST", p.admin+"/reload", ""); status != 200 {
		t.Errorf("POST /reload: %d", status)
	}
	if got := nameOfAnswer(t, p); got != "one" {
		t.Errorf("after a reload the answer is of %q", got)
	}
}

func TestRemoteCommands(t *testing.T) {
	s := service(t, ok)
	doc := file(t, "kong.yaml", named(s.URL, "one"))
	p := launch(t, "run", "-c", doc, "--no-watch")
	sluice(t, "health", "--status", p.status).want(t, 0, "ready: version ", "")
	sluice(t, "health", "--status", strings.TrimPrefix(p.status, "http://"), "--format", "json").want(t, 0, `"configuration_hash"`, "")
	write(t, doc, named(s.URL, "two"))
	sluice(t, "reload", "--admin", p.admin).want(t, 0, "reloaded, configuration hash ", "")
	sluice(t, "reload", "--admin", p.admin).want(t, 0, ", read from "+doc+"\n", "")
	if got := nameOfAnswer(t, p); got != "two" {
		t.Errorf("answer of %q", got)
	}
	write(t, doc, broken+loopback)
	sluice(t, "reload", "--admin", p.admin).want(t, 1, "", "kong.yaml:5:12: services[0] \"orders\": retries: expected an integer")
	sluice(t, "health", "--status", p.status).want(t, 0, "the last reload was refused", "")

	// The address may come from the document.
	at := fmt.Sprintf("gateway: {status_listen: %q, admin_listen: %q}\n", strings.TrimPrefix(p.status, "http://"), strings.TrimPrefix(p.admin, "http://"))
	where := file(t, "where.yaml", "_format_version: \"3.0\"\n"+at)
	sluice(t, "health", "-c", where).want(t, 0, "ready", "")
	sluice(t, "reload", "-c", where).want(t, 1, "", "expected an integer")
	sluiceWith(t, t.TempDir(), "", []string{"SLUICE_STATUS_LISTEN=" + strings.TrimPrefix(p.status, "http://")}, "health").want(t, 0, "ready", "")

	p.signal(syscall.SIGTERM)
	p.exit()
	sluice(t, "health", "--status", p.status).want(t, 1, "", "no gateway listens at "+p.status)
	sluice(t, "reload", "--admin", p.admin).want(t, 1, "", "no gateway listens at "+p.admin)
	sluice(t, "reload", "-c", file(t, "off.yaml", "_format_version: \"3.0\"\ngateway: {admin_listen: \"off\"}\n")).
		want(t, 1, "", "gateway.admin_listen is off")
	sluice(t, "health", "--status", s.URL).want(t, 1, "", "not as a gateway does")
}

func TestListeners(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	with := func(property, value string) string {
		text := loopback
		for line := range strings.Lines(loopback) {
			if strings.Contains(line, property) {
				text = strings.Replace(loopback, line, "  "+property+": "+value+"\n", 1)
			}
		}
		return file(t, "kong.yaml", small+text)
	}
	for _, property := range []string{"proxy_listen", "admin_listen", "status_listen"} {
		r := sluice(t, "run", "-c", with(property, taken.Addr().String()))
		r.want(t, 1, "", property+` "`+taken.Addr().String()+`": `)
		r.want(t, 1, "", "address already in use")
	}
	sluice(t, "run", "-c", with("admin_listen", "127.0.0.1:0 ssl")).want(t, 1, "", "ssl needs gateway.admin_ssl_cert")
	sluice(t, "run", "-c", file(t, "off.yaml", small+"gateway: {proxy_listen: \"off\", admin_listen: \"off\", status_listen: \"off\"}\n")).
		want(t, 1, "", "proxy_listen is off and so is every other listener")

	p := launch(t, "run", "-c", with("admin_listen", `"off"`))
	if p.admin != "http://off" {
		t.Errorf("admin at %s", p.admin)
	}
	socket := filepath.Join(t.TempDir(), "admin.sock")
	launch(t, "run", "-c", with("admin_listen", "unix:"+socket))
	sluice(t, "reload", "--admin", "unix:"+socket).want(t, 0, "reloaded", "")
}

// TestWarningsOnce: what is worth a warning is told once, not at each reload.
func TestWarningsOnce(t *testing.T) {
	loose := strings.Replace(small, "services:\n- name: orders", "service:\n  name: orders", 1)
	doc := file(t, "kong.yaml", loose+loopback)
	p := launch(t, "run", "-c", doc, "--no-watch")
	for i := range 2 {
		p.signal(syscall.SIGHUP)
		p.logged("configuration applied", i+1)
	}
	if n := strings.Count(p.out.String(), "read as an entry of services"); n != 1 {
		t.Errorf("told %d times", n)
	}
}

// TestLogLevelFollows: log_level of a reloaded document counts.
func TestLogLevelFollows(t *testing.T) {
	doc := file(t, "kong.yaml", small+loopback+"  log_level: error\n")
	p := launch(t, "run", "-c", doc, "--no-watch")
	write(t, doc, small+loopback+"  log_level: info\n")
	sluice(t, "reload", "--admin", p.admin).want(t, 0, "reloaded", "")
	p.logged("configuration applied", 1)
}

func TestStandardInput(t *testing.T) {
	r := sluiceWith(t, t.TempDir(), broken, nil, "run", "-c", "-")
	r.want(t, 1, "", "<stdin>:5:12:")
	p := launchWith(t, small+loopback, "run", "-c", "-")
	sluice(t, "reload", "--admin", p.admin).want(t, 1, "", "standard input, which cannot be read again")
	if status, _ := fetch(t, "GET", p.status+"/status/ready", ""); status != 200 {
		t.Errorf("ready: %d", status)
	}
}

// TestAdminTLS: the Admin listener speaks TLS with the certificate it is given.
func TestAdminTLS(t *testing.T) {
	cert, key := certificate(t)
	text := strings.Replace(loopback, "admin_listen: 127.0.0.1:0", "admin_listen: 127.0.0.1:0 ssl\n  admin_ssl_cert: "+cert+"\n  admin_ssl_cert_key: "+key, 1)
	p := launch(t, "run", "-c", file(t, "kong.yaml", small+text))
	pool := x509.NewCertPool()
	own, err := os.ReadFile(cert)
	if err != nil || !pool.AppendCertsFromPEM(own) {
		t.Fatal(err)
	}
	c := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	resp, err := c.Get(strings.Replace(p.admin, "http://", "https://", 1) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// certificate writes a certificate of 127.0.0.1 and its key.
func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return file(t, "cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))),
		file(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
}

func TestBuiltinServices(t *testing.T) {
	p := launch(t, "run", "-c", file(t, "kong.yaml", `_format_version: "3.0"
routes:
- name: metrics
  paths: [/metrics]
  service: prometheus-service
- name: status
  paths: [/status]
  service: kong-status-service
`+loopback))
	if status, body := fetch(t, "GET", p.proxy+"/metrics", ""); status != 200 || !strings.Contains(body, "sluice_reloads_total") {
		t.Errorf("metrics: %d %.200s", status, body)
	}
	if status, body := fetch(t, "GET", p.proxy+"/status", ""); status != 200 || !strings.Contains(body, "configuration_hash") {
		t.Errorf("status: %d %.200s", status, body)
	}
}

// TestReopen: after a rotation and USR1 lines go to a new file.
func TestReopen(t *testing.T) {
	s := service(t, ok)
	log := filepath.Join(t.TempDir(), "access.log")
	p := launch(t, "run", "-c", file(t, "kong.yaml", strings.Replace(named(s.URL, "one"), "plugins:\n", "plugins:\n- name: file-log\n  config: {path: "+log+"}\n", 1)))
	nameOfAnswer(t, p)
	written := func(path string) func() bool {
		return func() bool { b, err := os.ReadFile(path); return err == nil && len(b) > 0 }
	}
	eventually(t, "a line is written", written(log))
	if err := os.Rename(log, log+".1"); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGUSR1)
	p.logged("opening log files again", 1)
	eventually(t, "a line is written to a new file", func() bool { nameOfAnswer(t, p); return written(log)() })
}

// TestDrain: no request that was accepted fails when the gateway is told to
// stop under load, and readiness goes first.
func TestDrain(t *testing.T) {
	var calls atomic.Int64
	s := service(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		select { // a service that takes its time
		case <-time.After(20 * time.Millisecond):
		case <-r.Context().Done():
		}
		ok(w, r)
	})
	p := launch(t, "run", "-c", file(t, "kong.yaml", named(s.URL, "one")), "--drain-delay", "300ms")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var good, failed atomic.Int64
	for range 16 {
		wg.Go(func() {
			c := &http.Client{Transport: &http.Transport{}, Timeout: patience}
			for {
				select {
				case <-stop:
					return
				default:
				}
				resp, err := c.Get(p.proxy + "/x")
				if err != nil {
					if refused(err) {
						return // the gateway has stopped accepting
					}
					failed.Add(1)
					t.Errorf("a request failed: %v", err)
					return
				}
				b, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || resp.StatusCode != 200 || string(b) != "ok" {
					failed.Add(1)
					t.Errorf("a request failed: %d %q %v", resp.StatusCode, b, err)
					return
				}
				good.Add(1)
			}
		})
	}
	eventually(t, "load", func() bool { return good.Load() > 100 })
	p.signal(syscall.SIGTERM)
	unready := false
	eventually(t, "readiness goes while requests are still served", func() bool {
		status, body, err := try("GET", p.status+"/status/ready", "")
		if err != nil {
			t.Fatalf("the status listener went first: %v", err)
		}
		unready = status == 503 && body == `{"message":"draining"}`
		return unready
	})
	code := p.exit()
	close(stop)
	wg.Wait()
	if code != 0 || failed.Load() > 0 {
		t.Errorf("exit code %d, %d requests good, %d failed", code, good.Load(), failed.Load())
	}
	t.Logf("%d requests, none failed", good.Load())
}

// refused reports whether no connection was made, or one that had carried no
// byte of this request was closed.
func refused(err error) bool {
	text := err.Error()
	return strings.Contains(text, "connection refused") || strings.Contains(text, "server closed idle connection")
}

// TestSecondSignalCuts: a service that never answers cannot keep a gateway that
// was told twice.
func TestSecondSignalCuts(t *testing.T) {
	called, release := make(chan struct{}), make(chan struct{})
	s := service(t, func(http.ResponseWriter, *http.Request) { close(called); <-release })
	defer close(release)
	p := launch(t, "run", "-c", file(t, "kong.yaml", named(s.URL, "one")), "--drain-timeout", "10m")
	done := make(chan struct{})
	go func() { _, _, _ = try("GET", p.proxy+"/x", ""); close(done) }()
	<-called
	p.signal(syscall.SIGTERM)
	p.logged("stopping", 1)
	p.signal(syscall.SIGINT)
	p.exit()
	p.logged("cutting what is left", 1)
	<-done
}

// TestDrainTimeout: a service that never answers keeps the gateway no longer
// than it was told to wait.
func TestDrainTimeout(t *testing.T) {
	called, release := make(chan struct{}), make(chan struct{})
	s := service(t, func(http.ResponseWriter, *http.Request) { close(called); <-release })
	defer close(release)
	p := launch(t, "run", "-c", file(t, "kong.yaml", named(s.URL, "one")), "--drain-timeout", "200ms")
	done := make(chan struct{})
	go func() { _, _, _ = try("GET", p.proxy+"/x", ""); close(done) }()
	<-called
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	p.logged("level=WARN", 1) // says that requests were cut
	<-done
}

func TestDemo(t *testing.T) {
	// Whatever port is taken, the demo finds another.
	for _, address := range []string{"127.0.0.1:8000", demoEcho} {
		if l, err := net.Listen("tcp", address); err == nil {
			defer func() { _ = l.Close() }()
		}
	}
	p := launch(t, "demo")
	p.logged("^C to stop", 1)
	if status, body := fetch(t, "GET", p.proxy+"/users/7?a=b", ""); status != 200 || !strings.Contains(body, `"path": "/users/7"`) || !strings.Contains(body, `"query": "a=b"`) {
		t.Errorf("users: %d %s", status, body)
	}
	if status, body := fetch(t, "GET", p.proxy+"/orders", ""); status != 401 || !strings.Contains(body, "No API key found") {
		t.Errorf("orders without key: %d %s", status, body)
	}
	for i := range 6 {
		status, body := fetch(t, "GET", p.proxy+"/orders/1", "", "apikey", "alice-key")
		if i == 0 && (status != 200 || !strings.Contains(body, `"path": "/api/1"`) || strings.Contains(body, "alice-key")) {
			t.Errorf("orders with key: %d %s", status, body)
		}
		if i == 5 && status != 429 && status != 200 { // the minute may have turned
			t.Errorf("sixth request of a minute: %d", status)
		}
	}
	if status, body := fetch(t, "GET", p.status+"/metrics", ""); status != 200 || !strings.Contains(body, `kong_http_requests_total{`) {
		t.Errorf("metrics: %d", status)
	}
	p.signal(syscall.SIGINT)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for line := range strings.Lines(p.out.String()) {
		if strings.Contains(line, "PROXY") || strings.Contains(line, ":0/") {
			t.Errorf("a request nobody can send: %s", line)
		}
	}
}

func TestDemoDocument(t *testing.T) {
	r := sluice(t, "demo", "--document")
	r.want(t, 0, "_format_version", "")
	doc := file(t, "quickstart.yaml", r.stdout)
	sluice(t, "check", "--strict", doc).want(t, 0, "", "0 faults, 0 warnings")
	p := launch(t, "demo", "-c", doc)
	p.logged("The echo service is at", 1)
	p.logged("apikey: alice-key", 2)
	p.logged("The document: "+doc, 1)
	if status, _ := fetch(t, "GET", p.proxy+"/users/7", ""); status != 200 {
		t.Errorf("users: %d", status)
	}
	p = launch(t, "demo", "-c", file(t, "own.yaml", strings.Replace(r.stdout, "paths: [/users]", "paths: [/people]", 1)))
	p.logged("curl -i "+p.proxy+"/people\n", 1)
	sluice(t, "demo", "-c", "/nowhere.yaml").want(t, 1, "", "/nowhere.yaml: no such file")
}
