package config

import (
	"reflect"
	"testing"
)

// TestListeners checks listener strings and that writing them gives them back.
func TestListeners(t *testing.T) {
	f := func(text string, want Listener, message string) {
		t.Helper()
		l, err := ParseListener(text)
		if message != "" {
			if err == nil || err.Error() != message {
				t.Errorf("%q: got error %v, want %s", text, err, message)
			}
			return
		}
		if err != nil || l != want {
			t.Errorf("%q: got %+v, %v", text, l, err)
		}
		if again, err := ParseListener(l.String()); err != nil || again != l {
			t.Errorf("%q became %q", text, l.String())
		}
	}
	f("0.0.0.0:8443 ssl http2 proxy_protocol reuseport backlog=100",
		Listener{Host: "0.0.0.0", Port: 8443, SSL: true, HTTP2: true, ProxyProtocol: true, ReusePort: true, Backlog: 100}, "")
	f("[::1]:80 deferred bind ipv6only=on so_keepalive=off", Listener{Host: "::1", Port: 80, Deferred: true, Bind: true, IPv6Only: "on", SoKeepalive: "off"}, "")
	f("unix:/run/x.sock", Listener{Unix: "/run/x.sock"}, "")
	f(":0", Listener{}, "")
	f("", Listener{}, "empty listener")
	f("8000", Listener{}, `"8000" is not host:port`)
	f("a:99999", Listener{}, `port "99999" should be between 0 and 65535`)
	f("a b:1", Listener{}, `"a" is not host:port`)
	f("a*:1", Listener{}, `"a*" is neither an address nor a host name`)
	f("a:1 http3", Listener{}, `unknown listener flag "http3"; did you mean "http2"?`)
	f("a:1 zzzzzz", Listener{}, `unknown listener flag "zzzzzz"`)
	f("a:1 backlog=0", Listener{}, `backlog "0" must be greater than 0`)
	f("unix:", Listener{}, "unix: needs a path")
}

// TestGateway checks defaults, types, the environment and the default proxy listeners.
func TestGateway(t *testing.T) {
	d, err := Read(nil, Options{Env: noEnv})
	if err != nil {
		t.Fatal(err)
	}
	want := NewGateway()
	want.ProxyListen = Listeners{{Host: "0.0.0.0", Port: 8000}}
	if !reflect.DeepEqual(d.Gateway, want) {
		t.Errorf("defaults are %+v", d.Gateway)
	}
	if d.Hash != "00000000000000000000000000000000" {
		t.Errorf("hash %s", d.Hash)
	}
	d, fs := readText(t, `
_format_version: "3.0"
gateway:
  proxy_listen: 0.0.0.0:80, 0.0.0.0:443 ssl
  admin_listen: off
  status_listen: ["127.0.0.1:1"]
  client_max_body_size: 8m
  client_body_buffer_size: 0
  real_ip_recursive: on
  headers: off
  dns_valid_ttl: 5
  trusted_ips: [10.0.0.0/8, "unix:", "::1"]
  redis: {main: {host: r, password: p}}
  log_level: debug
`, Options{Env: envOf(map[string]string{
		"SLUICE_LOG_LEVEL": "warn", "SLUICE_PG_PORT": "5", "SLUICE_HEADERS": "server_tokens, Via", "SLUICE_PG_SSL": "on",
		"SLUICE_STATUS_LISTEN": "127.0.0.1:2, 127.0.0.1:3", "SLUICE_MEM_CACHE_SIZE": "1g",
	})})
	if fs != nil {
		t.Fatal(fs)
	}
	g := d.Gateway
	if len(g.ProxyListen) != 2 || !g.ProxyListen[1].SSL || g.AdminListen == nil || len(g.AdminListen) != 0 || len(g.StatusListen) != 2 {
		t.Errorf("listeners %v %v %v", g.ProxyListen, g.AdminListen, g.StatusListen)
	}
	if g.ClientMaxBodySize != 8<<20 || g.ClientBodyBufferSize != 0 || !g.RealIPRecursive || *g.DNSValidTTL != 5 || g.MemCacheSize != 1<<30 {
		t.Errorf("values %+v", g)
	}
	if g.LogLevel != "warn" || g.PgPort != 5 || !g.PgSSL || !reflect.DeepEqual(g.Headers, []string{"server_tokens", "Via"}) {
		t.Errorf("environment is not above the file: %+v", g)
	}
	if r := g.Redis["main"]; r.Host != "r" || r.Port != 6379 || r.ReadTimeout != 2000 {
		t.Errorf("redis %+v", r)
	}
	_, fs = readText(t, `_format_version: "3.0"`, Options{Env: envOf(map[string]string{"SLUICE_PG_PORT": "x", "SLUICE_LOG_LEVEL": "loud"})})
	if want := "environment variable SLUICE_LOG_LEVEL: gateway.log_level: expected one of: debug, info, notice, warn, error, crit, alert, emerg, got the string \"loud\"\n" +
		"environment variable SLUICE_PG_PORT: gateway.pg_port: expected an integer, got the string \"x\""; messages(fs) != want {
		t.Errorf("got %s", messages(fs))
	}
	d, fs = readText(t, "_format_version: \"3.0\"\ngateway: {ssl_cert: /c, ssl_cert_key: /k}", Options{})
	if fs != nil || len(d.Gateway.ProxyListen) != 2 || !d.Gateway.ProxyListen[1].HTTP2 {
		t.Errorf("with a certificate: %v %v", d.Gateway.ProxyListen, fs)
	}
}

// TestResolving checks dns_order without a kind of record, and servers from the environment.
func TestResolving(t *testing.T) {
	want := NewGateway().DNSOrder
	for _, text := range []string{"dns_order: []", "dns_order: ''", "dns_order: [LAST]"} {
		d, fs := readText(t, "_format_version: \"3.0\"\ngateway: {"+text+"}", Options{})
		if fs != nil || !reflect.DeepEqual(d.Gateway.DNSOrder, want) ||
			messages(d.Warnings) != "2:22: gateway.dns_order: names no kind of record; read as LAST, SRV, A, CNAME" {
			t.Errorf("%s: %v %+v", text, fs, d)
		}
	}
	d, fs := readText(t, "_format_version: \"3.0\"\ngateway: {dns_order: [AAAA]}", Options{})
	if fs != nil || d.Warnings != nil || len(d.Gateway.DNSOrder) != 1 {
		t.Errorf("one kind: %v %+v", fs, d)
	}
	_, fs = readText(t, `_format_version: "3.0"`, Options{Env: envOf(map[string]string{"SLUICE_DNS_RESOLVER": "1.1.1.1, dns"})})
	if got, want := messages(fs), "environment variable SLUICE_DNS_RESOLVER: gateway.dns_resolver[1]: invalid value: dns; "+
		"expected an IP address, with or without a port, such as 10.0.0.1, 10.0.0.1:53 or [::1]:53"; got != want {
		t.Errorf("got %s", got)
	}
}
