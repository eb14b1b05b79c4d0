package config

import (
	"strings"
	"testing"
)

// TestEmpty checks that a source that says nothing is refused, and a legal empty
// configuration is not.
func TestEmpty(t *testing.T) {
	f := func(name, text string, strict, refused bool) {
		t.Helper()
		_, err := Read([]Source{{Name: name, Data: []byte(text)}}, Options{Env: noEnv, Strict: strict})
		got := err != nil && strings.HasPrefix(err.Error(), name+":") && strings.Contains(err.Error(), emptyDocument)
		if got != refused || err != nil && !refused && !strict {
			t.Errorf("%s %q, strict %v: %v", name, text, strict, err)
		}
	}
	for _, strict := range []bool{false, true} {
		for _, text := range []string{"", "\n \n", "# a\n# b\n", "{}", "null", "---\n...\n", "---\n---\n"} {
			f("e.yaml", text, strict, true)
		}
		for _, text := range []string{"", " ", "{}", "null"} {
			f("e.json", text, strict, true)
			f("config", text, strict, true)
		}
		f("e.yaml", "_format_version: \"3.0\"", strict, false)
		f("e.yaml", "_format_version: \"3.0\"\nservices:", strict, false)
	}
	f("e.yaml", "services:", false, true)
	f("e.yaml", "_comment: x\nservices: []\ngateway:", false, true)
	f("e.yaml", "gateway: {}", false, false)
	f("e.yaml", "services: [{name: s, host: h}]", false, false)
	if d, err := Read(nil, Options{Env: noEnv}); err != nil || d == nil {
		t.Errorf("no sources: %v", err)
	}
	good := Source{Name: "a.yaml", Data: []byte("_format_version: \"3.0\"")}
	if _, err := Read([]Source{good, {Name: "b.yaml"}}, Options{Env: noEnv}); err == nil || !strings.HasPrefix(err.Error(), "b.yaml: the document is empty") {
		t.Errorf("one empty of two: %v", err)
	}
}

// TestPluginScopes checks that a plugin is left out only in a fragment.
func TestPluginScopes(t *testing.T) {
	f := func(text, fault, warning string) {
		t.Helper()
		d, fs := readText(t, "_format_version: \"3.0\"\n"+text, Options{})
		warned := ""
		if d != nil {
			warned = messages(d.Warnings)
		}
		if messages(fs) != fault || !strings.Contains(warned, warning) {
			t.Errorf("%s\nfaults:\n%s\nwant:\n%s\nwarnings:\n%s\nwant:\n%s", text, messages(fs), fault, warned, warning)
		}
	}
	const services = "services:\n- {name: orders, host: h, routes: [{name: r1, paths: [/]}]}\n"
	f(services+"plugins:\n- {name: key-auth, service: payments}",
		`5:29: plugins[0] "key-auth": service: invalid reference 'service: payments' (no such entry in 'services'); declared are: orders`, "")
	f(services+"plugins:\n- {name: x, route: elsewhere}",
		`5:20: plugins[0] "x": route: invalid reference 'route: elsewhere' (no such entry in 'routes'); declared are: r1`, "")
	f(services+"plugins:\n- {name: x, consumer: zoe}", "", "left out")
	f("consumers:\n- username: alice\nplugins:\n- {name: x, consumer: zoe}",
		`5:23: plugins[0] "x": consumer: invalid reference 'consumer: zoe' (no such entry in 'consumers'); declared are: alice`, "")
	f("routes:\n- {name: r1, service: a, paths: [/]}\nplugins:\n- {name: x, route: elsewhere}", "", "left out; declared are: r1")
	f("routes:\n- {name: r1, paths: [/]}\nplugins:\n- {name: key-auth, route: elsewhere}",
		`5:27: plugins[0] "key-auth": route: invalid reference 'route: elsewhere' (no such entry in 'routes'); declared are: r1`, "")
	f("plugins:\n- {name: x, consumer: bob}\nkeyauth_credentials:\n- {consumer: bob, key: k}", "", "made with this credential")
	f("services:\n- 5\nplugins:\n- {name: x, service: s}", "3:3: services[0]: expected a record, got the number 5", "")
}

// TestFaultsAndWarnings checks that neither hides the other, nor a fault a fault.
func TestFaultsAndWarnings(t *testing.T) {
	_, err := Read([]Source{{Name: "t.yaml", Data: []byte(`services:
- {name: s, host: h, retries: "eighty", tags: 5}
routes:
- {name: r, service: z, paths: /a}
plugins:
- {name: x, service: nowhere, enabled: "true"}
`)}, {Name: "u.yaml", Data: []byte("a: [1\n")}}, Options{Env: noEnv})
	faults, warnings := FaultsOf(err)
	want := `2:31: services[0] "s": retries: expected an integer, got the string "eighty"
2:47: services[0] "s": tags[0]: expected a string; write "5" in quotes
6:40: plugins[0] "x": enabled: expected a boolean, got the string "true"; remove the quotes
u.yaml:1: did not find expected ',' or ']'`
	if messages(faults) != want {
		t.Errorf("got\n%s\nwant\n%s", messages(faults), want)
	}
	if !strings.Contains(messages(warnings), "read as a list of one") || !strings.Contains(messages(warnings), `missing; read as "3.0"`) {
		t.Errorf("warnings:\n%s", messages(warnings))
	}
	for _, f := range faults {
		if f.Warning {
			t.Errorf("a warning among the faults: %v", f)
		}
	}
	if fs, ws := FaultsOf(nil); fs != nil || ws != nil {
		t.Error("no error has faults")
	}
}

// TestOverlayPositions checks that faults name the file and line their key was written in.
func TestOverlayPositions(t *testing.T) {
	base := Source{Name: "base.yaml", Data: []byte("_format_version: \"3.0\"\nservices:\n- name: s\n  host: h\nplugins:\n- name: p\n  service: s\n  config: {a: {b: 1}}\ngateway: {log_level: info}\n")}
	over := Source{Name: "over.yaml", Data: []byte("services:\n- name: s\n  retris: 1\n  read_timeout: x\n- name: t\n  hst: h\nplugins:\n- name: p\n  service: s\n  config: {a: {c: 5}, d: 1}\n  enabld: false\ngateway:\n  log_levl: info\n  pg_port: x\n")}
	d, err := Read([]Source{base}, Options{Env: noEnv, Overlays: []Source{over}})
	if err == nil {
		t.Fatal("no fault", d)
	}
	faults, _ := FaultsOf(err)
	want := `over.yaml:3:3: services[0] "s": retris: unknown field; did you mean "retries"?
over.yaml:4:17: services[0] "s": read_timeout: expected an integer, got the string "x"
over.yaml:6:3: services[1] "t": hst: unknown field; did you mean "host"?
over.yaml:11:3: plugins[0] "p": enabld: unknown field; did you mean "enabled"?
over.yaml:13:3: gateway.log_levl: unknown field; did you mean "log_level"?
over.yaml:14:12: gateway.pg_port: expected an integer, got the string "x"`
	if faults.Error() != want {
		t.Errorf("got\n%s\nwant\n%s", faults.Error(), want)
	}
	if faults[0].SourceLine != "  retris: 1" {
		t.Errorf("source line %q", faults[0].SourceLine)
	}
	n := parseOne(t, "a: {b: 1}", false)
	n = mergeNodes(n, &Node{Kind: Map, Entries: []Entry{{Key: "a", Line: 9, Value: &Node{Kind: Map, Line: 9}}}})
	if n.Entries[0].Line != 1 {
		t.Error("the key of a merged map comes from another file than the map")
	}
}

// TestUnaskedVariables checks which variables draw a warning.
func TestUnaskedVariables(t *testing.T) {
	env := map[string]string{
		"SLUICE_PROXY_LISTN": "x", "SLUICE_ZZZZZZZZ": "x", "SLUICE_LOG_LEVEL": "info", "SLUICE_CONFIG": "f", "SLUICE_TOKEN": "t",
		"SLUICE_SERVICE_HOST": "10.0.0.1", "SLUICE_ADMIN_PORT_8001_TCP_ADDR": "10.0.0.1", "SLUICE_PORT": "tcp://10.0.0.1:80",
		"KONG_PROXY_LISTEN": "x", "KONG_LOG_LEVEL": "debug", "KONG_OTHER": "x", "PATH": "x",
	}
	var list []string
	for k, v := range env {
		list = append(list, k+"="+v)
	}
	d, err := Read([]Source{{Name: "t.yaml", Data: []byte("_format_version: \"3.0\"\nconsumers: [{username: '${SLUICE_TOKEN}'}]")}},
		Options{Env: envOf(env), Environ: func() []string { return list }})
	if err != nil {
		t.Fatal(err)
	}
	want := `environment variable KONG_PROXY_LISTEN: not read: set SLUICE_PROXY_LISTEN instead
environment variable SLUICE_PROXY_LISTN: unknown property proxy_listn; did you mean "SLUICE_PROXY_LISTEN"?
environment variable SLUICE_ZZZZZZZZ: unknown property zzzzzzzz`
	if got := d.Warnings.Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if d.Gateway.ProxyListen[0].Port != 8000 || d.Gateway.LogLevel != "info" {
		t.Error("a KONG_ variable was read")
	}
}

// TestFollowOnFaults checks that one mistake is one fault.
func TestFollowOnFaults(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		_, fs := readText(t, "_format_version: \"3.0\"\n"+text, Options{Env: envOf(map[string]string{"PORT": "eighty", "MODE": "htp"})})
		if got := messages(fs); got != want {
			t.Errorf("%s\ngot\n%s\nwant\n%s", text, got, want)
		}
	}
	f("services:\n- {name: s, url: 'http://a', url: 'http://b'}", `3:30: services[0].url: duplicate key "url", first on line 3`)
	f("services:\n- {name: s, url: '${NONE}'}", `3:18: services[0].url: environment variable NONE is not set`)
	f("services:\n- {name: s, url: 'http://${NONE}/x', port: '${NONE}', routes: [{name: '${NONE}', paths: ['${NONE}'], hosts: '${NONE}'}]}\nplugins:\n- {name: x, route: r}",
		"3:18: services[0].url: environment variable NONE is not set\n3:44: services[0].port: environment variable NONE is not set\n"+
			"3:71: services[0].routes[0].name: environment variable NONE is not set\n3:90: services[0].routes[0].paths[0]: environment variable NONE is not set\n"+
			"3:109: services[0].routes[0].hosts: environment variable NONE is not set")
	f("consumers:\n- username: '${NONE}'", `3:13: consumers[0].username: environment variable NONE is not set`)
	f("gateway: {ssl_cert: '${NONE}', trusted_ips: ['${NONE}']}", "2:21: gateway.ssl_cert: environment variable NONE is not set\n2:46: gateway.trusted_ips[0]: environment variable NONE is not set")
	f("services:\n- {name: s, host: h, tags: 5}", `3:28: services[0] "s": tags[0]: expected a string; write "5" in quotes`)
	f("services:\n- {name: s, host: h, port: '${PORT}'}", `3:28: services[0] "s": port: expected an integer, got the string "eighty"; the value is from environment variable PORT`)
	f("services:\n- {name: s, host: h, protocol: '${MODE}'}",
		`3:32: services[0] "s": protocol: expected one of: http, https, grpc, grpcs, tcp, tls, tls_passthrough, udp, ws, wss, got the string "htp"; the value is from environment variable MODE; did you mean "http"?`)
	f("services:\n  orders: {url: 'http://h'}", `3:3: services: expected a list of services (each begins with "- name:"), got a map`)
	f("upstreams:\n- name: u\n  targets: {a: 1}", `4:12: upstreams[0] "u": targets: expected a list of targets (each begins with "- target:"), got a map`)
	f("consumers:\n- {username: a, groups: 5}", `3:25: consumers[0] "a": groups: expected a list of groups (each begins with "- name:"), got the number 5`)
	f("consumers:\n- username: a\n  basicauth_credentials: [{username: u, password: [s3cret]}]", `4:51: consumers[0] "a": basicauth_credentials[0] "u": password: expected a string, got a list`)

	d, fs := readText(t, "gateway: {ssl_cert: /a.crt, ssl_cert_key: /a.key, trusted_ips: '10.0.0.0/8, ::1'}", Options{})
	if fs != nil || len(d.Warnings) != 1 || len(d.Gateway.TrustedIPs) != 2 || d.Gateway.SSLCert[0] != "/a.crt" {
		t.Errorf("lists of the gateway block: %v %+v", fs, d)
	}
}

// TestSecretsStayOut checks that no message shows the text of a secret.
func TestSecretsStayOut(t *testing.T) {
	var into struct {
		Pin int `json:"pin" secret:"true"`
	}
	if got := messages(Decode(parseOne(t, "pin: hunter2", false), &into)); strings.Contains(got, "hunter2") || !strings.Contains(got, "got a string") {
		t.Error(got)
	}
	_, fs := readText(t, "services: [{name: s, host: h, port: '{vault://env/pin}'}]", Options{Env: envOf(map[string]string{"PIN": "hunter2"})})
	if got := messages(fs); strings.Contains(got, "hunter2") || !strings.Contains(got, "got a string") {
		t.Error(got)
	}
}

// TestYAMLMistakes checks that the mistakes people make are named, at their line.
func TestYAMLMistakes(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		if got := parseFaults("y.yaml", text); got != want {
			t.Errorf("%q:\ngot  %s\nwant %s", text, got, want)
		}
	}
	const differs = ": the indentation of this line differs from that of its siblings"
	f("a:\n\t- b\n", "y.yaml:2:1: a tab cannot indent: use spaces")
	f("services:\n- name: a\n\thost: h\n", "y.yaml:3:1: a tab cannot indent: use spaces")
	f("services:\n- name: \"a\n  host: h\n", "y.yaml:2:9: a quote is not closed")
	f("a: 'b\n", "y.yaml:1:4: a quote is not closed")
	f("services:\n- name: \"a\n  host: \"h\"\n", "y.yaml:2:9: a quote is not closed")
	f("services:\n- name: a\n  url: 'x\n  port: 1\n- name: 'b'\n", "y.yaml:3:8: a quote is not closed")
	f("services:\n- name: a\n  host: h\n port: 5\n", "y.yaml:4: did not find expected key"+differs)
	f("services:\n  - name: a\n - name: b\n", "y.yaml:3: did not find expected key"+differs)
	f("services:\n  - name: a\n    host: h\n   port: 1\n", "y.yaml:4: did not find expected '-' indicator"+differs)
	f("a: \"it\n  goes on\"\nx:\n  b: 1\n c: 2\n", "y.yaml:5: did not find expected key"+differs)
	f("a: 'x' y\n", "y.yaml:1: text after the closing quote")
	f("a: 1\nb: c: d\n", "y.yaml:2: mapping values are not allowed in this context")
}
