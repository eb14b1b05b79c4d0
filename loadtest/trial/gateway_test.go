package trial

import (
	"io"
	"net"
	"reflect"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/engine/config"
)

func document(t *testing.T, text string) *config.Document {
	t.Helper()
	d, err := config.Read([]config.Source{{Name: "d.yaml", Data: []byte("_format_version: \"3.0\"\n" + text)}}, config.Options{Env: func(string) (string, bool) { return "", false }})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

const redirected = `
gateway:
  proxy_listen: 0.0.0.0:443 ssl
  admin_listen: 0.0.0.0:8001
  redis: {default: {host: redis.internal}}
services:
- name: a
  url: https://a.internal/base
  routes:
  - {name: secure, paths: [/a], protocols: [https]}
  - {name: any, paths: [/b]}
- name: b
  host: balanced
  plugins:
  - {name: canary, config: {upstream_host: new.internal, upstream_port: 8443, percentage: 5}}
upstreams:
- name: balanced
  healthchecks:
    active: {healthy: {interval: 5}, unhealthy: {interval: 5}}
    passive: {unhealthy: {http_failures: 3, timeouts: 2}}
  targets:
  - target: one.internal:8080
`

// listen has serve called for every connection to the address it returns, and closes
// them afterwards, until the test ends.
func listen(t *testing.T, serve func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return l.Addr().String()
}

func TestRedirect(t *testing.T) {
	d := document(t, redirected)
	r := Redirect(d, listen(t, func(c net.Conn) { _, _ = io.WriteString(c, "stub") }))
	for _, address := range []string{"a.internal:443", "one.internal:8080", "new.internal:8443"} {
		c, err := r.Dial(t.Context(), address)
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		if b, _ := io.ReadAll(c); string(b) != "stub" {
			t.Errorf("%s leads elsewhere: %q", address, b)
		}
		_ = c.Close()
	}
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	c, err := r.Dial(t.Context(), other.Addr().String())
	if err != nil || c.RemoteAddr().String() != other.Addr().String() {
		t.Errorf("what is no service's address leads to %v, %v", c, err)
	}
	g := &d.Gateway
	if len(g.ProxyListen) != 1 || g.ProxyListen[0] != (config.Listener{Host: "127.0.0.1"}) || len(g.AdminListen)+len(g.StatusListen) != 0 || g.AdminListen == nil {
		t.Errorf("listeners: %v, %v, %v", g.ProxyListen, g.AdminListen, g.StatusListen)
	}
	if d.Services[0].Protocol != "http" || d.Services[0].Path != "/base" {
		t.Errorf("service: %+v", d.Services[0])
	}
	if !reflect.DeepEqual(d.Routes[0].Protocols, []string{"https", "http"}) {
		t.Errorf("protocols: %v", d.Routes[0].Protocols)
	}
	h := &d.Upstreams[0].Healthchecks
	if h.Active.Healthy.Interval+h.Active.Unhealthy.Interval != 0 || h.Passive.Unhealthy.HTTPFailures != neverOut || h.Passive.Unhealthy.TCPFailures != 0 || h.Passive.Unhealthy.Timeouts != neverOut {
		t.Errorf("health checks: %+v", h)
	}
	for _, want := range []string{"without TLS and PROXY", "1 service with TLS", "active health checks of 1 upstream", "passive health checks of 1 upstream", "1 route for https alone"} {
		if !strings.Contains(strings.Join(r.Notes, "\n"), want) {
			t.Errorf("no note says %q: %q", want, r.Notes)
		}
	}
	if notes := Redirect(document(t, "services: [{name: a, url: 'http://a.internal'}]"), "").Notes; len(notes) != 0 {
		t.Errorf("nothing was changed, yet: %q", notes)
	}
}

func TestDerive(t *testing.T) {
	requests, left := Derive(document(t, `
services:
- name: open
  url: http://a.internal
  routes:
  - {name: plain, paths: [/a, /b]}
  - {name: posted, methods: [POST, PUT], hosts: ["*.example.com"], paths: ["~/x", /c]}
  - {name: everything, protocols: [https], hosts: [h.example]}
  - {name: header, paths: [/d], headers: {X-Version: [beta]}}
  - {name: regex, paths: ["~/x/\\d+"]}
  - {name: sni, snis: [a.example], protocols: [https]}
  - {name: grpc, paths: [/g], protocols: [grpc]}
  - {name: ended, paths: [/ended], plugins: [{name: request-termination}]}
- name: closed
  url: http://b.internal
  routes: [{name: key, paths: [/key]}]
  plugins: [{name: key-auth}]
- name: off
  url: http://c.internal
  enabled: false
  routes: [{name: disabled, paths: [/off]}]
- name: rpc
  url: grpc://d.internal
  routes: [{name: rpc, paths: [/rpc]}]
- name: loose
  url: http://e.internal
  plugins: [{name: key-auth, enabled: false}]
  routes: [{name: loose, paths: [/loose]}]
routes:
- {name: nowhere, paths: [/nowhere]}
plugins:
- {name: rate-limiting, consumer: alice, config: {minute: 5}}
consumers: [{username: alice}]
`))
	got := map[string]string{}
	for i := range requests {
		r := &requests[i]
		got[r.Name] = r.Method + " " + r.Host + r.Path
	}
	want := map[string]string{
		"plain": "GET localhost/a", "posted": "POST example.example.com/c", "everything": "GET h.example/", "loose": "GET localhost/loose",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("derived %v\nwant %v", got, want)
	}
	reasons := map[string]string{}
	for _, l := range left {
		reasons[l.Route] = l.Reason
	}
	for route, want := range map[string]string{
		"header": "needs the header X-Version", "regex": "regular expressions", "sni": "TLS server name", "grpc": "takes grpc", "ended": "plugin request-termination answers", "key": "plugin key-auth asks for a credential",
		"disabled": "disabled", "rpc": "speaks grpc", "nowhere": "no service",
	} {
		if !strings.Contains(reasons[route], want) {
			t.Errorf("%s is left out because %q, want %q", route, reasons[route], want)
		}
	}
	if len(left) != 9 {
		t.Errorf("left out: %v", left)
	}
}
