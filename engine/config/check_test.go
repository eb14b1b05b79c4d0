package config

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// messages are the faults of a document as `line:col path: message`, one a line.
func messages(fs Faults) string {
	lines := make([]string, 0, len(fs))
	for _, f := range fs {
		lines = append(lines, strings.TrimPrefix(f.Error(), "t.yaml:"))
	}
	return strings.Join(lines, "\n")
}

func readText(t *testing.T, text string, o Options) (*Document, Faults) {
	t.Helper()
	if o.Env == nil {
		o.Env = noEnv
	}
	d, err := Read([]Source{{Name: "t.yaml", Data: []byte(text)}}, o)
	if err == nil {
		return d, nil
	}
	if fs, ok := errors.AsType[Faults](err); !ok || fs.Err() == nil {
		t.Fatalf("error is %T, without Faults", err)
	}
	fs, _ := FaultsOf(err)
	return nil, fs
}

// TestFaults holds one case for every message about an entity.
func TestFaults(t *testing.T) {
	f := func(text string, want ...string) {
		t.Helper()
		_, fs := readText(t, text+"\n_format_version: \"3.0\"", Options{})
		got := messages(fs)
		if got != strings.Join(want, "\n") {
			t.Errorf("%s\ngot:\n%s\nwant:\n%s", text, got, strings.Join(want, "\n"))
		}
	}
	// services
	f("services:\n- {id: x y}", `2:3: services[0]: host: required field missing`)
	f("services:\n- {name: a b, host: h}", "2:10: services[0] \"a b\": name: invalid value 'a b': the only accepted ascii characters are alphanumerics or ., -, _, and ~")
	f("services:\n- {name: s, host: 'h:80'}", `2:19: services[0] "s": host: invalid value: h:80`)
	f("services:\n- {name: s, host: 1.2.3.256}", `2:19: services[0] "s": host: invalid value: 1.2.3.256`)
	f("services:\n- {name: s, host: h, path: x}", `2:28: services[0] "s": path: should start with: /`)
	f("services:\n- {name: s, host: h, path: /a//b}", `2:28: services[0] "s": path: must not have empty segments`)
	f("services:\n- {name: s, host: h, protocol: grpc, path: /a}", `2:44: services[0] "s": path: value must be null when protocol is grpc`)
	f("services:\n- {name: s, host: h, tls_verify: true}", `2:34: services[0] "s": tls_verify: value must be null when protocol is http`)
	f("services:\n- {name: s, host: h, retries: 99999}", `2:31: services[0] "s": retries: value should be between 0 and 32767`)
	f("services:\n- {name: s, host: h, retries: '5'}", `2:31: services[0] "s": retries: expected an integer, got the string "5"; remove the quotes`)
	f("services:\n- {name: s, host: h, protocol: htp}", `2:32: services[0] "s": protocol: expected one of: http, https, grpc, grpcs, tcp, tls, tls_passthrough, udp, ws, wss; did you mean "http"?`)
	f("services:\n- {name: s, host: h, conect_timeout: 1}", `2:22: services[0] "s": conect_timeout: unknown field; did you mean "connect_timeout"?`)
	f("services:\n- {name: s, url: nonsense}", `2:18: services[0] "s": url: invalid url: nonsense; expected protocol://host:port/path`)
	f("services:\n- {name: s, url: 'http://h:99999'}", `2:18: services[0] "s": url: invalid url: port 99999 should be between 0 and 65535`)
	f("services:\n- {name: s, url: 'http://u@h'}", `2:18: services[0] "s": url: invalid url: only protocol, host, port and path have a meaning here`)
	f("services:\n- {name: s, host: h, tags: ['a,b']}", `2:29: services[0] "s": tags[0]: invalid tag 'a,b': expected printable characters except `+"`,` and `/`")
	f("services:\n- {name: s, host: h}\n- {name: s, host: h}", `3:10: services[1] "s": uniqueness violation: 'services' entity with name set to 's' already declared on line 2`)
	f("services:\n- {name: s, host: h, name: s}", `2:22: services[0].name: duplicate key "name", first on line 2`)
	f("services:\n- s", `2:3: services[0]: expected a record, got the string "s"`)
	f("services: 5", `1:11: services: expected a list of services (each begins with "- name:"), got the number 5`)
	f("servces: []", `1:1: servces: unknown field; did you mean "services"?`)

	// routes
	const s = "services:\n- {name: s, host: h}\nroutes:\n"
	f(s+"- {name: r, service: s}", `4:3: routes[0] "r": must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'http', 'https'`)
	f(s+"- {name: r, service: s, paths: [x]}", `4:33: routes[0] "r": paths[0]: should start with: / (fixed path) or ~/ (regex path)`)
	f(s+"- {name: r, service: s, paths: [/a//b]}", `4:33: routes[0] "r": paths[0]: must not have empty segments`)
	f(s+"- {name: r, service: s, paths: [/a/../b]}", `4:33: routes[0] "r": paths[0]: non-normalized path, consider use '/b' instead`)
	f(s+"- {name: r, service: s, paths: ['/a%41']}", `4:33: routes[0] "r": paths[0]: non-normalized path, consider use '/aA' instead`)
	f(s+"- {name: r, service: s, paths: ['/a%4']}", `4:33: routes[0] "r": paths[0]: invalid url-encoded value: '%4'`)
	f(s+"- {name: r, service: s, paths: ['/a b']}", `4:33: routes[0] "r": paths[0]: invalid path: '/a b' (characters outside of the reserved list of RFC 3986 found)`)
	f(s+"- {name: r, service: s, paths: ['~/a(']}", `4:33: routes[0] "r": paths[0]: invalid regex: '/a(': missing closing ): `+"`/a(`")
	f(s+"- {name: r, service: s, paths: ['~/a(?=b)']}", `4:33: routes[0] "r": paths[0]: invalid regex: '/a(?=b)': uses look-ahead, which is not supported`)
	f(s+"- {name: r, service: s, paths: ['~/a(?<!b)']}", `4:33: routes[0] "r": paths[0]: invalid regex: '/a(?<!b)': uses look-behind, which is not supported`)
	f(s+"- {name: r, service: s, hosts: ['*.*.com']}", `4:33: routes[0] "r": hosts[0]: invalid wildcard '*.*.com': only one wildcard must be specified`)
	f(s+"- {name: r, service: s, hosts: ['a.*.com']}", `4:33: routes[0] "r": hosts[0]: invalid wildcard 'a.*.com': must be placed at leftmost or rightmost label`)
	f(s+"- {name: r, service: s, hosts: ['a b']}", `4:33: routes[0] "r": hosts[0]: invalid value: a b`)
	f(s+"- {name: r, service: s, hosts: ['a:99999']}", `4:33: routes[0] "r": hosts[0]: invalid value: a:99999: port should be between 1 and 65535`)
	f(s+"- {name: r, service: s, headers: {Host: [a]}}", `4:41: routes[0] "r": headers.Host: cannot contain 'host' header, which must be specified in the 'hosts' attribute`)
	f(s+"- {name: r, service: s, headers: {'a b': [a]}}", `4:42: routes[0] "r": headers.a b: 'a b' is not a valid header name`)
	f(s+"- {name: r, service: s, headers: {x: []}}", `4:38: routes[0] "r": headers.x: length must be at least 1`)
	f(s+"- {name: r, service: s, headers: {x: ['~*(']}}", `4:39: routes[0] "r": headers.x[0]: invalid regex: '(': missing closing ): `+"`(`")
	f(s+"- {name: r, service: s, paths: [/], protocols: [http, grpc]}",
		`4:55: routes[0] "r": protocols[1]: grpc does not go with http`)
	f(s+"- {name: r, service: s, paths: [/], protocols: [grpc], strip_path: true}", `4:68: routes[0] "r": strip_path: cannot set 'strip_path' when 'protocols' is 'grpc' or 'grpcs'`)
	f(s+"- {name: r, service: s, paths: [/], protocols: []}", `4:48: routes[0] "r": protocols: length must be at least 1`)
	f(s+"- {name: r, service: s, paths: [/], protocols: [http], snis: [a.b]}", `4:62: routes[0] "r": snis: 'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls', 'tls_passthrough' or 'wss'`)
	f(s+"- {name: r, service: s, methods: ['G T']}", `4:35: routes[0] "r": methods[0]: invalid value: G T`)
	f(s+"- {name: r, service: s, expression: 'http.path == \"/\"'}", `4:37: routes[0] "r": expression: needs gateway.router_flavor: expressions, which is traditional`)
	f(s+"- {name: r, service: s, sources: [{}], protocols: [tcp]}", `4:35: routes[0] "r": sources[0]: at least one of these fields must be non-empty: 'ip', 'port'`)
	f(s+"- {name: r, service: s, sources: [{ip: x}], protocols: [tcp]}", `4:40: routes[0] "r": sources[0].ip: invalid ip or cidr range: 'x'`)
	f(s+"- {name: r, service: s, paths: [/], https_redirect_status_code: 300}", `4:65: routes[0] "r": https_redirect_status_code: expected one of: 426, 301, 302, 307, 308`)
	f(s+"- {name: r, service: ss, paths: [/]}", `4:22: routes[0] "r": service: invalid reference 'service: ss' (no such entry in 'services'); did you mean "s"?`)

	f(s+"- {name: r, service: s, paths: [/], protocols: [tcp]}",
		`4:3: routes[0] "r": must set one of 'sources', 'destinations' when 'protocols' is 'tcp'`,
		`4:32: routes[0] "r": paths: cannot set 'paths' when 'protocols' is 'tcp'`)
	f(s+"- {name: r, service: s, paths: [/], sources: [{port: 1}]}", `4:46: routes[0] "r": sources: cannot set 'sources' when 'protocols' is 'http', 'https'`)
	f(s+"- {name: r, service: s, paths: [/], priority: 5}", `4:47: routes[0] "r": priority: needs an expression`)
	f(s+"- {name: r, service: s, hosts: [a], expression: 'x == 1'}\ngateway: {router_flavor: expressions}", `4:32: routes[0] "r": hosts: cannot be set together with expression`)
	f("services:\n- name: s\n  host: h\n  routes:\n  - {name: r, service: t, paths: [/]}", `5:24: services[0] "s": routes[0] "r": service: conflicts with the service it is nested in`)

	// upstreams and targets
	f("upstreams:\n- {name: 1.2.3.4}", `2:10: upstreams[0] "1.2.3.4": name: Invalid name ('1.2.3.4'); must be a hostname, not an IP address`)
	f("upstreams:\n- {name: 1.2.3}", `2:10: upstreams[0] "1.2.3": name: Invalid name ('1.2.3'); must be a hostname, not an IP address`)
	f("upstreams:\n- {name: 'a:80'}", `2:10: upstreams[0] "a:80": name: Invalid name ('a:80'); no port allowed`)
	f("upstreams:\n- {slots: 5, name: u}", `2:11: upstreams[0] "u": slots: value should be between 10 and 65536`)
	f("upstreams:\n- {name: u, hash_on: header}", `2:3: upstreams[0] "u": hash_on_header: required field missing`)
	f("upstreams:\n- {name: u, hash_on: none, hash_fallback: ip}", `2:43: upstreams[0] "u": hash_fallback: expected one of: none; hash_on is none`)
	f("upstreams:\n- {name: u, hash_on: ip, hash_fallback: ip}", `2:41: upstreams[0] "u": hash_fallback: must not be the same as hash_on`)
	f("upstreams:\n- {name: u, hash_on: header, hash_on_header: X, hash_fallback: header, hash_fallback_header: x}", `2:94: upstreams[0] "u": hash_fallback_header: must not be the same as hash_on_header`)
	f("upstreams:\n- {name: u, healthchecks: {active: {http_path: x}}}", `2:48: upstreams[0] "u": healthchecks.active.http_path: should start with: /`)
	f("upstreams:\n- {name: u, targets: [{target: 'a b'}]}", `2:32: upstreams[0] "u": targets[0] "a b": target: Invalid target ('a b:8000'); not a valid hostname or ip address`)
	f("targets:\n- {target: a}", `2:3: targets[0] "a": upstream: required field missing`)
	f("upstreams:\n- name: u\n- name: v\ntargets:\n- target: a", `5:3: targets[0] "a": upstream: required field missing; the list on line 1 has several upstreams`)
	f("upstreams:\n- {name: u, targets: [{target: a}, {target: 'a:8000'}]}", `2:45: upstreams[0] "u": targets[1] "a:8000": uniqueness violation: 'targets' entity with target set to 'a:8000' already declared on line 2`)

	f("upstreams:\n- {name: a_b!}", `2:10: upstreams[0] "a_b!": name: Invalid name ('a_b!'); must be a valid hostname`)
	f("upstreams:\n- {name: u, host_header: '*.a'}", `2:26: upstreams[0] "u": host_header: invalid value: *.a`)
	f("upstreams:\n- {name: u, hash_on_cookie_path: x}", `2:34: upstreams[0] "u": hash_on_cookie_path: should start with: /`)
	f("upstreams:\n- {name: u, hash_on: cookie, hash_on_cookie: c, hash_fallback: ip}", `2:64: upstreams[0] "u": hash_fallback: expected one of: none; hash_on is cookie`)
	f("upstreams:\n- {name: u, targets: [{target: a, weight: 70000}]}", `2:43: upstreams[0] "u": targets[0] "a": weight: value should be between 0 and 65535`)

	// consumers and credentials
	f("consumers:\n- {tags: [a]}", `2:3: consumers[0]: at least one of these fields must be non-empty: 'username', 'custom_id'`)
	f("consumers:\n- {username: a, custom_id: x}\n- {username: b, custom_id: x}", `3:28: consumers[1] "b": uniqueness violation: 'consumers' entity with custom_id set to 'x' already declared on line 2`)
	f("consumers:\n- username: a\n  keyauth_credentials: [{key: k}, {key: k}]", `3:41: consumers[0] "a": keyauth_credentials[1]: uniqueness violation: 'keyauth_credentials' entity with key set to '**redacted**' already declared on line 3`)
	f("consumers:\n- username: a\n  keyauth_credentials: [{key: 123}]", `3:31: consumers[0] "a": keyauth_credentials[0]: key: expected a string; write "123" in quotes`)
	f("consumers:\n- username: a\n  basicauth_credentials: [{username: u}]", `3:27: consumers[0] "a": basicauth_credentials[0] "u": password: required field missing`)
	f("consumers:\n- username: a\n  jwt_secrets: [{key: k, algorithm: RS256}]", `3:17: consumers[0] "a": jwt_secrets[0]: rsa_public_key: required field missing; algorithm RS256 needs it`)
	f("consumers:\n- username: a\n  oauth2_credentials: [{name: n, client_id: i, client_secret: s, redirect_uris: ['x', 'https://a/#f']}]",
		`3:82: consumers[0] "a": oauth2_credentials[0] "n": redirect_uris[0]: cannot parse 'x': expected an absolute URI`,
		`3:87: consumers[0] "a": oauth2_credentials[0] "n": redirect_uris[1]: fragment not allowed in 'https://a/#f'`)
	f("consumers:\n- username: alice\nplugins:\n- {name: p, consumer: alcie}", `4:23: plugins[0] "p": consumer: invalid reference 'consumer: alcie' (no such entry in 'consumers'); did you mean "alice"?`)
	f("services:\n- {id: a, host: h}\n- {id: a, host: h}", `3:8: services[1]: uniqueness violation: 'services' entity with primary key set to 'a' already declared on line 2`)

	// plugins
	f("consumers:\n- username: a\n  plugins: [{name: key-auth}]", `3:13: consumers[0] "a": plugins[0] "key-auth": consumer: value must be null`)
	f("plugins:\n- {name: cors, config: 5}", `2:24: plugins[0] "cors": config: expected a record`)
	f("plugins:\n- config: {}", `2:3: plugins[0]: name: required field missing`)
	f("plugins:\n- {name: a, instance_name: x}\n- {name: b, instance_name: x}", `3:28: plugins[1] "b": instance_name: uniqueness violation: 'plugins' entity with instance_name set to 'x' already declared on line 2`)
	f("plugins:\n- {name: a, _config: x}", `2:22: plugins[0] "a": _config: no entry "x" in _plugin_configs`)

	// vaults, keys, TLS
	f("vaults:\n- {name: foo, prefix: my}", `2:10: vaults[0] "foo": name: expected one of: env, aws, gcp, azure, hcv, conjur`)
	f("vaults:\n- {name: env, prefix: aws}", `2:23: vaults[0] "env": prefix: must not be the name of a kind of vault`)
	f("keys:\n- {kid: a}", `2:3: keys[0]: at least one of these fields must be non-empty: 'jwk', 'pem'`)
	f("snis:\n- {name: '*.*', certificate: x}",
		`2:10: snis[0] "*.*": name: invalid wildcard '*.*': only one wildcard must be specified`,
		`2:30: snis[0] "*.*": certificate: invalid reference 'certificate: x' (no such entry in 'certificates')`)
	f("certificates:\n- {cert: x, key: y}", `2:10: certificates[0]: cert: invalid certificate`)
	f("ca_certificates:\n- {cert: x}", `2:10: ca_certificates[0]: cert: invalid certificate`)

	// meta keys
	f("_transform: 1", `1:13: _transform: expected a boolean`)
	f("_comment: 1", `1:11: _comment: expected a string`)
	f("_info: {defaults: {servce: {}}}", `1:20: _info.defaults.servce: unknown field; did you mean "service"?`)
	f("gateway: {proxy_lisen: x}", `1:11: gateway.proxy_lisen: unknown field; did you mean "proxy_listen"?`)
	f("gateway: {proxy_listen: '0.0.0.0:8000 sll'}", `1:25: gateway.proxy_listen: unknown listener flag "sll"; did you mean "ssl"?`)
	f("gateway: {trusted_ips: [x]}", `1:24: gateway.trusted_ips: invalid ip or cidr range: 'x'`)
	const resolver = "expected an IP address, with or without a port, such as 10.0.0.1, 10.0.0.1:53 or [::1]:53"
	f("gateway: {dns_resolver: [10.0.0.1, '10.0.0.1:53', '::1', '[::1]', '[::1]:53']}")
	f("gateway: {dns_resolver: [10.0.0.1, '[::1']}", `1:36: gateway.dns_resolver[1]: invalid value: [::1; `+resolver)
	f("gateway: {dns_resolver: '10.0.0.1:0, [::1]:x'}", `1:25: gateway.dns_resolver[0]: invalid value: 10.0.0.1:0; `+resolver, `1:25: gateway.dns_resolver[1]: invalid value: [::1]:x; `+resolver)
	f("gateway: {dns_order: [A, AAA]}", `1:26: gateway.dns_order[1]: expected one of: LAST, SRV, A, AAAA, CNAME; did you mean "AAAA"?`)
	f("gateway: {redis: {a: {port: 1}}}", `1:22: gateway.redis.a.host: at least one of these fields must be non-empty: 'host', 'sentinel_nodes', 'cluster_nodes'`)
	f("gateway: {client_max_body_size: 8x}", `1:33: gateway.client_max_body_size: invalid value: 8x; expected a size such as 8m`)
}

// TestAllFaultsAtOnce makes sure one fault does not hide another.
func TestAllFaultsAtOnce(t *testing.T) {
	_, fs := readText(t, `_format_version: "3.0"
services:
  - {name: alpha, host: h, retries: -1}
  - {name: b, hst: h}
routes:
  - {name: r, service: alpa, paths: [x]}
pluginz: []
gateway: {database: oracle}
`, Options{})
	var lines []int
	for _, f := range fs {
		lines = append(lines, f.Line)
	}
	if want := []int{3, 4, 6, 6, 7, 8}; !slices.Equal(lines, want) {
		t.Errorf("lines %v, want %v:\n%v", lines, want, fs)
	}
}

const emptyDocument = "the document is empty: expected _format_version, gateway, or lists such as services, routes and plugins"

// TestFormatVersion checks the version rules of both ways of reading.
func TestFormatVersion(t *testing.T) {
	f := func(text string, o Options, want string) {
		t.Helper()
		_, fs := readText(t, text, o)
		if got := messages(fs); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	f("services: []", Options{Strict: true}, " _format_version: required field missing")
	f("services: []", Options{}, "1:1: "+emptyDocument)
	f("_format_version: 3.0", Options{Strict: true}, "1:18: _format_version: expected a string")
	f("_format_version: 3.0", Options{}, "")
	f(`_format_version: "4.0"`, Options{}, "1:18: _format_version: expected one of: 1.1, 2.1, 3.0")
	f("_format_version: \"3.0\"\n---\n_format_version: \"2.1\"", Options{}, "3:18: _format_version: 2.1 does not agree with 3.0 before")
	f("- a", Options{}, "1:1: expected a map with keys such as services, routes and plugins")
}
