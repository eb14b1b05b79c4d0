package engine_test

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// sight is what a secure origin saw of a request.
type sight struct{ SNI, Client, Host, Conn, Path string }

// secureOrigin is a service that speaks TLS.
type secureOrigin struct {
	addr, port string
	resumed    atomic.Int64 // handshakes that were
	closes     atomic.Bool  // answers with Connection: close
}

func newSecureOrigin(t testing.TB, c *tls.Config) *secureOrigin {
	t.Helper()
	o := &secureOrigin{}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if o.closes.Load() {
			w.Header().Set("Connection", "close")
		}
		v := sight{SNI: r.TLS.ServerName, Host: r.Host, Conn: r.RemoteAddr, Path: r.URL.Path}
		if len(r.TLS.PeerCertificates) > 0 {
			v.Client = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		_ = json.NewEncoder(w).Encode(v)
	}))
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if s.DidResume {
			o.resumed.Add(1)
		}
		return nil
	}
	s.TLS, s.Config.ErrorLog = c, log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	o.addr = s.Listener.Addr().String()
	_, o.port, _ = net.SplitHostPort(o.addr)
	return o
}

// hostsFile makes every name 127.0.0.1.
func hostsFile(t testing.TB, names ...string) string {
	return fmt.Sprintf("dns_hostsfile: %q", tempFile(t, "127.0.0.1 "+strings.Join(names, " ")+"\n"))
}

// see sends a request and returns what the origin saw of it.
func (g *gateway) see(path string, headers ...string) (int, sight) {
	g.t.Helper()
	resp, body := g.get(path, headers...)
	var v sight
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal([]byte(body), &v); err != nil {
			g.t.Fatalf("%v: %s", err, body)
		}
	}
	return resp.StatusCode, v
}

// counter returns the value of a metric with its labels, as written, 0 if it is not there.
func (g *gateway) counter(name string) int {
	g.t.Helper()
	var b bytes.Buffer
	g.WriteMetrics(&b)
	for line := range strings.Lines(b.String()) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, err := strconv.Atoi(strings.TrimSpace(value))
			if err != nil {
				g.t.Fatal(err)
			}
			return n
		}
	}
	return 0
}

// targets lists the health of all targets.
func (g *gateway) targets() []pipeline.TargetHealth {
	var list []pipeline.TargetHealth
	(*g.Node().Targets.Load())(func(h pipeline.TargetHealth) bool {
		list = append(list, h)
		return true
	})
	return list
}

// secureService is a document with one https service. Its host may be an upstream.
func secureService(gateway, entities, host, port, settings string) string {
	return fmt.Sprintf("_format_version: \"3.0\"\ngateway: {%s}\n%sservices:\n- name: s\n  protocol: https\n  host: %q\n  port: %s\n  retries: 0\n%s"+
		"  routes: [{name: r, paths: [/]}, {name: kept, paths: [/kept], preserve_host: true}]\n", gateway, entities, host, port, settings)
}

func TestServiceCertificateIsVerified(t *testing.T) {
	leavesNothing(t)
	ca, other := newAuthority(t, "right", nil), newAuthority(t, "wrong", nil)
	hosts := hostsFile(t, "svc.test", "other.test")
	good := newSecureOrigin(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "svc.test", "127.0.0.1")}})
	noIP := newSecureOrigin(t, &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "svc.test")}})
	expired := newSecureOrigin(t, &tls.Config{Certificates: []tls.Certificate{ca.issueUntil(t, time.Now().Add(-time.Minute), "svc.test")}})
	right, wrong := "  ca_certificates: [right]\n", "  ca_certificates: [wrong]\n"
	file := fmt.Sprintf(", lua_ssl_trusted_certificate: [%q]", tempFile(t, ca.pem()))
	wrongFile := fmt.Sprintf(", lua_ssl_trusted_certificate: [system, %q]", tempFile(t, other.pem()))
	f := func(o *secureOrigin, host, gateway, settings string, want int) {
		t.Helper()
		g := start(t, secureService(hosts+gateway, "ca_certificates:\n"+ca.entry("right")+other.entry("wrong"), host, o.port, settings), nil)
		status, v := g.see("/")
		faults := g.counter(`sluice_upstream_faults_total{kind="tls"}`)
		if status != want || (faults == 1) != (want == 502) {
			t.Errorf("%d with %d TLS faults, want %d", status, faults, want)
		}
		if sni := map[bool]string{false: host}[host == "127.0.0.1"]; want == 200 && v.SNI != sni {
			t.Errorf("server name %q, want %q", v.SNI, sni)
		}
	}
	const verify, noVerify, always = "  tls_verify: true\n", "  tls_verify: false\n", ", tls_certificate_verify: true"
	f(good, "svc.test", "", "", 200) // Kong's default: anyone
	f(good, "svc.test", "", right, 200)
	f(good, "svc.test", "", wrong, 200)
	f(good, "svc.test", "", verify, 502) // the system does not know it
	f(good, "svc.test", "", verify+right, 200)
	f(good, "svc.test", "", verify+wrong, 502)
	f(good, "svc.test", always, "", 502)
	f(good, "svc.test", always, right, 200)
	f(good, "svc.test", always, noVerify+wrong, 200)
	f(good, "svc.test", file, verify, 200)
	f(good, "svc.test", file, verify+wrong, 502) // ca_certificates replace the file
	f(good, "svc.test", wrongFile, verify, 502)
	f(good, "svc.test", wrongFile, verify+right, 200)
	f(good, "other.test", "", verify+right, 502) // another name
	f(good, "other.test", "", right, 200)
	f(good, "127.0.0.1", "", verify+right, 200)
	f(noIP, "127.0.0.1", "", verify+right, 502)
	f(noIP, "127.0.0.1", "", "", 200)
	f(expired, "svc.test", "", verify+right, 502)
	f(expired, "svc.test", "", "", 200)
}

// Depth as OpenSSL counts it: intermediates, neither the service's own certificate nor
// the root.
func TestVerifyDepth(t *testing.T) {
	leavesNothing(t)
	ca := newAuthority(t, "root", nil)
	hosts := hostsFile(t, "svc.test")
	by := []*authority{ca, newAuthority(t, "one", ca), nil}
	by[2] = newAuthority(t, "two", by[1])
	for n, a := range by {
		o := newSecureOrigin(t, &tls.Config{Certificates: []tls.Certificate{a.issue(t, "svc.test")}})
		f := func(gateway, depth string, most int) {
			t.Helper()
			want := map[bool]int{true: 200, false: 502}[n <= most]
			g := start(t, secureService(hosts+gateway, "ca_certificates:\n"+ca.entry("ca"), "svc.test", o.port, "  tls_verify: true\n  ca_certificates: [ca]\n"+depth), nil)
			for range 2 { // the second over a kept connection
				if status, _ := g.see("/"); status != want {
					t.Errorf("%d intermediates: %d, want %d", n, status, want)
				}
			}
		}
		f("", "", 1)
		f("", "  tls_verify_depth: 0\n", 0)
		f("", "  tls_verify_depth: 1\n", 1)
		f("", "  tls_verify_depth: 2\n", 2)
		f(", lua_ssl_verify_depth: 2", "", 2)
		f(", lua_ssl_verify_depth: 2", "  tls_verify_depth: 0\n", 0)
	}
}

// The server name is that of the Host field, as nginx has it in Kong. Connections for
// one name are not used for another.
func TestServerName(t *testing.T) {
	leavesNothing(t)
	o := newSecureOrigin(t, &tls.Config{Certificates: []tls.Certificate{newAuthority(t, "ca", nil).issue(t, "x.test")}})
	hosts := hostsFile(t, "svc.test", "target.test")
	upstream := func(settings string) string {
		return fmt.Sprintf("upstreams:\n- {name: u.test, %stargets: [{target: \"target.test:%s\"}]}\n", settings, o.port)
	}
	f := func(entities, host, path, client, sni, hostField string) {
		t.Helper()
		g := start(t, secureService(hosts, entities, host, o.port, ""), nil)
		status, v := g.see(path, "Host", client)
		if status != 200 || v.SNI != sni || v.Host != hostField {
			t.Errorf("%d, server name %q, Host %q; want 200 %q %q", status, v.SNI, v.Host, sni, hostField)
		}
	}
	f("", "svc.test", "/", "client.test", "svc.test", "svc.test:"+o.port)
	f("", "svc.test", "/kept", "client.test", "client.test", "client.test")
	f("", "svc.test", "/kept", "client.test:8443", "client.test", "client.test:8443")
	f("", "svc.test", "/kept", "192.0.2.1", "", "192.0.2.1")
	f("", "svc.test", "/kept", "[2001:db8::1]:443", "", "[2001:db8::1]:443")
	f("", "127.0.0.1", "/", "client.test", "", "127.0.0.1:"+o.port)
	f("", "127.0.0.1", "/kept", "client.test", "client.test", "client.test")
	f(upstream(""), "u.test", "/", "client.test", "target.test", "target.test:"+o.port)
	f(upstream("host_header: head.test, "), "u.test", "/", "client.test", "head.test", "head.test")
	f(upstream("host_header: head.test, "), "u.test", "/kept", "client.test", "client.test", "client.test")
	if c, err := net.Listen("tcp", "[::1]:0"); err == nil {
		_ = c.Close()
		f(upstream("host_header: \"head.test:99\", "), "u.test", "/", "client.test", "head.test", "head.test:99")
	}

	g := start(t, secureService(hosts, "", "svc.test", o.port, ""), nil)
	conns := map[string]string{}
	for range 3 {
		for _, name := range []string{"a.test", "b.test", ""} {
			_, v := g.see(map[bool]string{true: "/kept", false: "/"}[name != ""], "Host", cmp.Or(name, "c.test"))
			if v.SNI != cmp.Or(name, "svc.test") || conns[name] != "" && conns[name] != v.Conn {
				t.Errorf("%q over a connection for %q; from %s, before %q", name, v.SNI, v.Conn, conns[name])
			}
			conns[name] = v.Conn
		}
	}
}

// requiring returns settings of a service that wants certificates of ca.
func requiring(t testing.TB, ca *authority, version uint16) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{ca.issue(t, "svc.test")}, MaxVersion: version,
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool(),
	}
}

func TestClientCertificate(t *testing.T) {
	leavesNothing(t)
	ca, other := newAuthority(t, "right", nil), newAuthority(t, "wrong", nil)
	cert, key := pemFiles(t, ca.issue(t, "gateway"))
	hosts := hostsFile(t, "svc.test")
	certs := "certificates:\n" + certEntry(t, "c1", ca.issue(t, "one")) + certEntry(t, "c2", ca.issue(t, "two")) + certEntry(t, "bad", other.issue(t, "bad"))
	own := fmt.Sprintf(", client_ssl_cert: %q, client_ssl_cert_key: %q", cert, key)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		o := newSecureOrigin(t, requiring(t, ca, version))
		f := func(gateway, upstream, settings, want string) {
			t.Helper()
			host := "svc.test"
			if upstream != "" {
				host = "u.test"
				upstream = fmt.Sprintf("upstreams:\n- {name: u.test, %s, targets: [{target: \"svc.test:%s\"}]}\n", upstream, o.port)
			}
			g := start(t, secureService(hosts+gateway, certs+upstream, host, o.port, settings), nil)
			status, v := g.see("/")
			faults := g.counter(`sluice_upstream_faults_total{kind="tls"}`)
			if v.Client != want || (status == 200) != (want != "") || (faults == 1) != (want == "") {
				t.Errorf("%s: %d for client %q with %d TLS faults, want %q", tls.VersionName(version), status, v.Client, faults, want)
			}
		}
		f("", "", "", "")
		f("", "", "  client_certificate: c1\n", "one")
		f("", "", "  client_certificate: bad\n", "")
		f("", "client_certificate: c2", "", "two")
		f("", "client_certificate: c2", "  client_certificate: c1\n", "one")
		f(own, "", "", "") // client_ssl is off
		f(own+", client_ssl: true", "", "", "gateway")
		f(own+", client_ssl: true", "client_certificate: c2", "", "two")
	}
}

// Whoever connects as one client never gets a connection of another, and a certificate
// that a reload replaces is not used any more.
func TestConnectionsAreKeptByIdentity(t *testing.T) {
	leavesNothing(t)
	ca := newAuthority(t, "ca", nil)
	o := newSecureOrigin(t, requiring(t, ca, 0))
	doc := func(one string) string {
		text := "_format_version: \"3.0\"\ncertificates:\n" + certEntry(t, "c1", ca.issue(t, one)) + certEntry(t, "c2", ca.issue(t, "two")) + "services:\n"
		for _, id := range []string{"c1", "c2"} {
			text += fmt.Sprintf("- {name: %s, url: \"https://%s\", client_certificate: %s, routes: [{name: %s, paths: [/%s]}]}\n", id, o.addr, id, id, id)
		}
		return text
	}
	g := start(t, doc("one"), nil)
	conns := map[string]string{}
	check := func(path, client string) {
		t.Helper()
		status, v := g.see(path)
		if status != 200 || v.Client != client || conns[client] != "" && conns[client] != v.Conn {
			t.Errorf("%s: %d as %q over %s, want %q over %s", path, status, v.Client, v.Conn, client, conns[client])
		}
		conns[client] = v.Conn
	}
	for range 3 {
		check("/c1", "one")
		check("/c2", "two")
	}
	// A connection made as one is not resumed as another: the server would not ask again.
	if err := g.Apply(document(t, doc("renewed"))); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		check("/c1", "renewed")
	}
	if conns["one"] == conns["renewed"] || conns["one"] == conns["two"] {
		t.Errorf("a connection is shared: %v", conns)
	}
}

// The second connection to a service resumes the session of the first.
func TestSessionsAreResumed(t *testing.T) {
	leavesNothing(t)
	ca := newAuthority(t, "ca", nil)
	by := newAuthority(t, "one", ca)
	hosts := hostsFile(t, "svc.test")
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, verify := range []string{"", "  tls_verify: true\n  ca_certificates: [ca]\n"} {
			o := newSecureOrigin(t, &tls.Config{Certificates: []tls.Certificate{by.issue(t, "svc.test")}, MaxVersion: version})
			o.closes.Store(true)
			g := start(t, secureService(hosts, "ca_certificates:\n"+ca.entry("ca"), "svc.test", o.port, verify), nil)
			for i := range 4 {
				if status, _ := g.see("/"); status != 200 || o.resumed.Load() != int64(i) {
					t.Errorf("%s %q: %d, %d of %d handshakes resumed", tls.VersionName(version), verify, status, o.resumed.Load(), i+1)
				}
			}
		}
	}
}

// A thousand names that clients make up leave few connections behind, and names that
// come later are not worse off for it once those are idle for long.
func TestNamesOfClientsDoNotFillPools(t *testing.T) {
	leavesNothing(t)
	o := newSecureOrigin(t, &tls.Config{Certificates: []tls.Certificate{newAuthority(t, "ca", nil).issue(t, "x.test")}})
	upstream := fmt.Sprintf("upstreams:\n- {name: u.test, targets: [{target: \"%s\"}]}\n", o.addr)
	g := start(t, secureService("upstream_keepalive_idle_timeout: 1", upstream, "u.test", o.port, ""), nil)
	kept := func() (n int64) {
		for _, h := range g.targets() {
			n += h.Connections
		}
		return n
	}
	most := int64(0)
	for i := range 1000 {
		if status, _ := g.see("/kept", "Host", fmt.Sprintf("h%d.test", i)); status != 200 {
			t.Fatal(status)
		}
		most = max(most, kept())
	}
	if most > 65 || most < 10 {
		t.Errorf("%d connections are kept", most)
	}
	eventually(t, "idle connections closed", func() bool { return kept() == 0 })
	_, first := g.see("/kept", "Host", "late.test")
	if _, again := g.see("/kept", "Host", "late.test"); first.Conn != again.Conn {
		t.Error("the connection of a new name is not kept")
	}
}

// With preserve_host clients choose the name that TLS asks for. One that asks for a name
// the service does not have harms nobody else.
func TestMadeUpNamesDoNotCountAsFailures(t *testing.T) {
	leavesNothing(t)
	ca := newAuthority(t, "ca", nil)
	picky := &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		c := ca.issue(t, "svc.test")
		if h.ServerName == "refused.test" {
			return nil, errors.New("unknown") // sent as an alert
		}
		return &c, nil
	}, GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if h.ServerName == "unknown.test" {
			return &tls.Config{}, nil // says so in an alert
		}
		return nil, nil
	}}
	o := newSecureOrigin(t, picky)
	f := func(settings, name string, later int) {
		t.Helper()
		entities := "ca_certificates:\n" + ca.entry("ca") + "upstreams:\n- {name: u.test, healthchecks: {passive: {unhealthy: {tcp_failures: 1}}}, targets: [{target: \"" + o.addr + "\"}]}\n"
		g := start(t, secureService("", entities, "u.test", o.port, "  tls_verify: true\n  ca_certificates: [ca]\n  circuit_breaker: {consecutive_failures: 1}\n"+settings), nil)
		if status, _ := g.see("/kept", "Host", name); status != 502 {
			t.Errorf("%s: %d", name, status)
		}
		if status, _ := g.see("/kept", "Host", "svc.test"); status != later {
			t.Errorf("after %s: %d, want %d", name, status, later)
		}
	}
	f("", "evil.test", 200)
	f("", "unknown.test", 200)
	f("", "refused.test", 503) // an alert that says nothing of names
}

// What real nginx makes of it: it asks for a certificate, and tells whose it got.
func TestNginxAsSecureService(t *testing.T) {
	leavesNothing(t)
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		t.Fatal("nginx is missing: run .ci/tools, or install the package nginx-light")
	}
	ca := newAuthority(t, "ca", nil)
	cert, key := pemFiles(t, ca.issue(t, "svc.test"))
	port := freePort(t)
	conf := fmt.Sprintf(`daemon off; master_process off; pid pid; error_log stderr crit; worker_processes 1;
events { worker_connections 64; }
http { access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
server { listen 127.0.0.1:%s ssl; ssl_certificate %s; ssl_certificate_key %s; ssl_session_cache shared:a:1m;
ssl_verify_client on; ssl_client_certificate %s;
location / { add_header X-Seen "$ssl_client_verify $ssl_client_s_dn $ssl_server_name $host $ssl_session_reused" always; return 200 "{}"; } } }`,
		port, cert, key, tempFile(t, ca.pem()))
	dir := t.TempDir()
	cmd := exec.Command(nginx, "-p", dir, "-e", "stderr", "-c", tempFile(t, conf))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	eventually(t, "nginx", func() bool { return connects("127.0.0.1:" + port) })
	f := func(settings string, status int, seen string) {
		t.Helper()
		entities := "ca_certificates:\n" + ca.entry("ca") + "certificates:\n" + certEntry(t, "c", ca.issue(t, "one")) + certEntry(t, "bad", newAuthority(t, "ca", nil).issue(t, "one"))
		g := start(t, secureService(hostsFile(t, "svc.test")+", upstream_keepalive_max_requests: 2", entities, "svc.test", port, "  tls_verify: true\n  ca_certificates: [ca]\n"+settings), nil)
		for i := range 6 {
			reused := map[bool]string{true: "r", false: "."}[i >= 2]
			resp, body := g.get("/")
			if got := resp.Header.Get("X-Seen"); resp.StatusCode != status || seen != "" && got != seen+" "+reused {
				t.Errorf("%d: %d %q %.300s %s", i, resp.StatusCode, got, body, stderr.String())
			}
		}
	}
	f("  client_certificate: c\n", 200, "SUCCESS CN=one svc.test svc.test")
	f("", 400, "") // nginx says so in HTTP
	f("  client_certificate: bad\n", 400, "")
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func connects(addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}
