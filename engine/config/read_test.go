package config

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew; read the difference before committing it")

// everything knows every plugin and accepts all settings.
type everything struct{}

func (everything) Built(string) bool    { return true }
func (everything) Names() []string      { return nil }
func (everything) Check(*Plugin) Faults { return nil }

// TestBlocks reads every pattern's configuration in both ways and compares warnings,
// faults and the resulting document with golden files.
func TestBlocks(t *testing.T) {
	paths, err := filepath.Glob("../testdata/blocks/*.yaml")
	if err != nil || len(paths) != 68 {
		t.Fatalf("%d blocks, %v", len(paths), err)
	}
	for _, path := range paths {
		name := filepath.Base(path)
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			source := []Source{{Name: name, Data: data}}
			d, err := Read(source, Options{Env: noEnv, Catalog: everything{}})
			isCall := strings.Contains(string(data), "\nPOST /cache")
			if (err != nil) != isCall {
				t.Errorf("friendly: %v", err)
			}
			var b strings.Builder
			b.WriteString("# friendly\n")
			if err != nil {
				b.WriteString(err.Error() + "\n")
			} else {
				b.WriteString(d.Warnings.Error() + "\n\n")
				out, err := d.Dump(DumpOptions{Secrets: true})
				if err != nil {
					t.Fatal(err)
				}
				b.Write(out)
			}
			b.WriteString("\n# strict\n")
			if _, err := Read(source, Options{Env: noEnv, Strict: true, Catalog: everything{}}); err != nil {
				b.WriteString(err.Error() + "\n")
			}
			golden(t, filepath.Join("testdata", "blocks", strings.TrimSuffix(name, ".yaml")+".txt"), b.String())
		})
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("differs from %s:\n%s", path, got)
	}
}

// TestFriendly holds one case for each looser spelling: what it is read as, the warnings,
// and what Kong's own rules say to it.
func TestFriendly(t *testing.T) {
	f := func(text, dump, warnings, strict string) {
		t.Helper()
		text += "\n_format_version: \"3.0\""
		d, fs := readText(t, text, Options{})
		if fs != nil {
			t.Errorf("%s\nfriendly: %v", text, fs)
			return
		}
		out, err := d.Dump(DumpOptions{Format: "json", Secrets: true})
		if err != nil {
			t.Fatal(err)
		}
		got := strings.TrimSuffix(strings.TrimPrefix(string(out), `{"_format_version":"3.0","_transform":false`), "}\n")
		got = strings.TrimPrefix(got, ",")
		if got != dump {
			t.Errorf("%s\nread as %s\nwant    %s", text, got, dump)
		}
		if got := messages(d.Warnings); got != warnings {
			t.Errorf("%s\nwarnings:\n%s\nwant:\n%s", text, got, warnings)
		}
		_, fs = readText(t, text, Options{Strict: true})
		if got := messages(fs); got != strict {
			t.Errorf("%s\nstrict:\n%s\nwant:\n%s", text, got, strict)
		}
	}
	f("service: {name: s, host: h}",
		`"services":[{"name":"s","host":"h"}]`,
		`1:1: service: read as an entry of services`,
		`1:1: service: unknown field; did you mean "services"?`)
	f("services: {name: s, host: h}",
		`"services":[{"name":"s","host":"h"}]`,
		`1:11: services: expected an array; read as a list of one`,
		`1:11: services: expected a list of services (each begins with "- name:"), got a map`)
	f("services:\n- {name: s, host: h}\nservices:\n- {name: t, host: h}",
		`"services":[{"name":"s","host":"h"},{"name":"t","host":"h"}]`,
		`3:1: services: repeated key: added to the list on line 1`, "")
	f("services:\n- {name: s, host: h}\nroutes:\n- {name: r, service: s, paths: /a}",
		`"services":[{"name":"s","host":"h"}],"routes":[{"name":"r","service":"s","paths":["/a"]}]`,
		`4:32: routes[0] "r": paths: expected an array; read as a list of one`,
		`4:32: routes[0] "r": paths: expected an array, got the string "/a"`)
	f("services:\n- {name: s, host: h}\nroutes:\n- {name: r, service: s, methods: [get]}",
		`"services":[{"name":"s","host":"h"}],"routes":[{"name":"r","service":"s","methods":["GET"]}]`,
		"4:35: routes[0] \"r\": methods[0]: lower case; read as GET",
		`4:35: routes[0] "r": methods[0]: invalid value: get`)
	f("services:\n- name: s",
		`"services":[{"name":"s","host":"s"}]`,
		`2:3: services[0] "s": host: missing; taken to be the name of the service`,
		`2:3: services[0] "s": host: required field missing`)
	f("services:\n- {name: s, host: h}\nroutes:\n- {name: r, service: s, headers: {X-A: [a.*, b]}}",
		`"services":[{"name":"s","host":"h"}],"routes":[{"name":"r","service":"s","headers":{"X-A":["~*(?i)a.*|^b$"]}}]`,
		`4:41: routes[0] "r": headers.X-A: looks like a regular expression; read as ~*(?i)a.*|^b$`, "")
	f("upstreams:\n- name: u\ntargets:\n- target: a",
		`"upstreams":[{"name":"u"}],"targets":[{"id":"`+EntityID("targets", "targets:*:u:a:8000")+`","upstream":"u","target":"a:8000"}]`,
		`4:3: targets[0] "a": upstream: missing; taken to be upstreams[0] "u" on line 2`,
		`4:3: targets[0] "a": upstream: required field missing`)
	f("keyauth_credentials:\n- {consumer: bob, key: k}",
		`"consumers":[{"username":"bob"}],"keyauth_credentials":[{"id":"`+EntityID("keyauth_credentials", "keyauth_credentials:*:k")+`","consumer":"bob","key":"k"}]`,
		`2:14: keyauth_credentials[0]: consumer: consumer "bob" is not declared; made with this credential`,
		`2:14: keyauth_credentials[0]: consumer: invalid reference 'consumer: bob' (no such entry in 'consumers')`)
	f("consumers:\n- username: alice\nacls:\n- {consumer: alcie, group: g}",
		`"consumers":[{"username":"alice"},{"username":"alcie"}],"acls":[{"id":"`+EntityID("acls", "acls:*:alcie:g")+`","consumer":"alcie","group":"g"}]`,
		`4:14: acls[0]: consumer: consumer "alcie" is not declared; made with this credential; did you mean "alice"?`,
		`4:14: acls[0]: consumer: invalid reference 'consumer: alcie' (no such entry in 'consumers'); did you mean "alice"?`)
	f("consumer_groups:\n- name: beta\nplugins:\n- {name: x, consumer: beta}",
		`"consumer_groups":[{"name":"beta"}],"plugins":[{"id":"`+EntityID("plugins", "plugins:*:x:::beta")+`","name":"x","consumer_group":"beta"}]`,
		`4:23: plugins[0] "x": consumer: "beta" is a consumer group; taken as consumer_group`,
		`4:23: plugins[0] "x": consumer: invalid reference 'consumer: beta' (no such entry in 'consumers')`)
	f("plugins:\n- {name: acme, config: {quota: {month: 5}}}",
		`"plugins":[{"id":"`+EntityID("plugins", "plugins:*:quota:::")+`","name":"quota","config":{"quota":{"month":5}}}]`,
		`2:10: plugins[0] "acme": name: has a quota, so it is read as plugin "quota"`, "")
	f("plugins:\n- name: x\n- name: x",
		`"plugins":[{"id":"`+EntityID("plugins", "plugins:*:x:::")+`","name":"x"},{"id":"`+EntityID("plugins", "plugins:*:x::::2")+`","name":"x"}]`,
		`3:9: plugins[1] "x": name: second instance for this scope, first on line 2; both apply`,
		`3:9: plugins[1] "x": name: uniqueness violation: 'plugins' entity with name set to 'x' already declared for this scope on line 2`)
	f("plugins:\n- {name: x, route: nowhere}",
		``,
		`2:20: plugins[0] "x": route: invalid reference 'route: nowhere' (no such entry in 'routes'); the plugin can never apply and is left out`,
		`2:20: plugins[0] "x": route: invalid reference 'route: nowhere' (no such entry in 'routes')`)
	f("ca_certificates:\n- {id: my-ca, cert: 'a...'}",
		`"ca_certificates":[{"id":"my-ca","cert":"a...","cert_digest":"`+certDigest("a...")+`"}]`,
		"2:8: ca_certificates[0]: id: expected a valid UUID; taken as it is\n2:21: ca_certificates[0]: cert: invalid certificate; the text is cut short with dots, so nothing will match it",
		"2:8: ca_certificates[0]: id: expected a valid UUID\n2:21: ca_certificates[0]: cert: invalid certificate")
	f("services:\n- {name: s, host: h, retries: 010}",
		`"services":[{"name":"s","host":"h","retries":8}]`,
		`2:31: services[0] "s": retries: a leading zero makes 010 octal: read as 8`, "")
	f("services:\n- {name: s, host: h, enabled: off}", `"services":[{"name":"s","host":"h","enabled":false}]`, "", "")
	f("consumers:\n- {username: yes}", `"consumers":[{"username":"yes"}]`, "",
		"2:14: consumers[0] \"yes\": username: expected a string; write \"yes\" in quotes")
	f("services:\n- {name: s, url: 'https://a/b', host: c}",
		`"services":[{"name":"s","protocol":"https","host":"c","port":443,"path":"/b"}]`,
		`2:39: services[0] "s": host: differs from url, which says a`, "")
}

// TestFormats reads what other formats and tools write.
func TestFormats(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		d, fs := readText(t, text, Options{Strict: true})
		if fs != nil {
			t.Errorf("%s\n%v", text, fs)
			return
		}
		out, err := d.Dump(DumpOptions{Secrets: true})
		if err != nil {
			t.Fatal(err)
		}
		wanted, fs := readText(t, "_transform: false\n_format_version: \"3.0\"\n"+want, Options{Strict: true})
		if fs != nil {
			t.Fatalf("%s\n%v", want, fs)
		}
		if !d.Equal(wanted) {
			t.Errorf("%s\nread as\n%s", text, out)
		}
	}
	// Paths of older formats that look like regular expressions.
	f(`{"_format_version": "2.1", "services": [{"name": "s", "host": "h", "routes": [{"name": "r", "paths": ["/a/(b|c)", "/d"]}]}]}`,
		"services: [{name: s, host: h}]\nroutes: [{name: r, service: s, paths: ['~/a/(b|c)', /d]}]")
	// References as objects, groups as decK writes them.
	f(`
_format_version: "3.0"
_workspace: default
_konnect: {control_plane_name: x}
_info: {select_tags: [team-a], defaults: {service: {retries: 1}, route: {strip_path: false}}}
services: [{name: s, host: h}]
routes: [{name: r, service: {name: s}, paths: [/]}]
consumers: [{username: u, groups: [{name: gold}]}, {username: v}]
consumer_groups: [{name: gold, consumers: [{username: v}], plugins: [{name: x}]}]
`, `
_workspace: default
services: [{name: s, host: h, retries: 1, tags: [team-a]}]
routes: [{name: r, service: s, paths: [/], strip_path: false, tags: [team-a]}]
consumers: [{username: u, tags: [team-a]}, {username: v, tags: [team-a]}]
consumer_groups: [{name: gold, tags: [team-a]}]
consumer_group_consumers:
- {id: `+EntityID("consumer_group_consumers", "consumer_group_consumers:*:"+EntityID("consumers", "u")+":gold")+`, consumer: u, consumer_group: gold, tags: [team-a]}
- {id: `+EntityID("consumer_group_consumers", "consumer_group_consumers:*:v:"+EntityID("consumer_groups", "gold"))+`, consumer: v, consumer_group: gold, tags: [team-a]}
plugins: [{id: `+EntityID("plugins", "plugins:*:x::::"+EntityID("consumer_groups", "gold"))+`, name: x, consumer_group: gold, tags: [team-a]}]
`)
	// Shared configs, comments, anchors under _ignore, merge keys.
	f(`
_format_version: "3.0"
_comment: c
_ignore: [&limits {minute: 5, hour: 9}]
_plugin_configs: {strict: {a: 1, b: {c: 2}}}
plugins:
- {name: x, _config: strict, config: {b: {d: 3}}, _comment: why}
- {name: y, config: {<<: *limits, hour: 10}}
`, `
_comment: c
plugins:
- {name: x, config: {a: 1, b: {c: 2, d: 3}}}
- {name: y, config: {hour: 10, minute: 5}}
`)
	// Plain strings as SNIs; several YAML documents; flat Enterprise lists.
	f("_format_version: \"3.0\"\nconsumer_groups: [{name: g}]\n---\nconsumer_group_plugins: [{name: x, consumer_group: g}]",
		"consumer_groups: [{name: g}]\nplugins: [{name: x, consumer_group: g}]")
	// gRPC routes do not strip.
	f("_format_version: \"3.0\"\nservices: [{name: s, host: h, protocol: grpc}]\nroutes: [{name: r, service: s, protocols: [grpc], paths: [/]}]",
		"services: [{name: s, host: h, protocol: grpc}]\nroutes: [{name: r, service: s, protocols: [grpc], paths: [/], strip_path: false}]")
}

// TestBind checks the rules about routes standing next to services.
func TestBind(t *testing.T) {
	d, fs := readText(t, `
service: {name: a, host: a}
routes: [{name: r1, paths: [/1]}]
service: {name: b, host: b}
service: {name: c, host: c}
routes: [{name: r2, paths: [/2]}, {name: r3, paths: [/3]}]
routes: [{name: r4, paths: [/4]}]
routes: [{name: r5, paths: [/5]}]
routes: [{name: r6, service: c, paths: [/6]}]
`, Options{})
	if fs != nil {
		t.Fatal(fs)
	}
	names := map[string]string{}
	for _, s := range d.Services {
		names[s.ID] = s.Name
	}
	var got []string
	for _, r := range d.Routes {
		got = append(got, r.Name+"→"+names[r.Service])
	}
	if want := "r1→a r2→c r3→c r4→b r5→a r6→c"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// TestSeveralSources checks that -c files are put together and that overlays are merged.
func TestSeveralSources(t *testing.T) {
	base := Source{Name: "base.yaml", Data: []byte(`
_format_version: "3.0"
services:
- name: s
  url: http://a:1/x
  retries: 2
  routes: [{name: r, paths: [/a, /b], headers: {X: [y]}}]
plugins: [{name: p, service: s, config: {a: 1, b: {c: 1}}}]
`)}
	more := Source{Name: "more.json", Data: []byte(`{"_format_version": "3.0", "services": [{"name": "t", "host": "t"}]}`)}
	over := Source{Name: "over.yaml", Data: []byte(`
services:
- {name: s, url: 'https://z', retries: null}
- {name: u, host: u}
routes: [{name: r, paths: [/c]}]
plugins: [{name: p, service: s, config: {b: {d: 2}}}, {name: p, config: {e: 1}}]
`)}
	d, err := Read([]Source{base, more}, Options{Env: noEnv, Overlays: []Source{over}})
	if err != nil {
		t.Fatal(err)
	}
	want, fs := readText(t, `
services:
- {name: s, protocol: https, host: z, port: 443}
- {name: t, host: t}
- {name: u, host: u}
routes: [{name: r, service: s, paths: [/c], headers: {X: [y]}}]
plugins: [{name: p, service: s, config: {a: 1, b: {c: 1, d: 2}}}, {name: p, config: {e: 1}}]
`, Options{})
	if fs != nil {
		t.Fatal(fs)
	}
	if !d.Equal(want) {
		a, _ := d.Dump(DumpOptions{})
		t.Errorf("read as\n%s", a)
	}
	if d.Routes[0].Pos.File != "base.yaml" {
		t.Errorf("route is at %v", d.Routes[0].Pos)
	}
	_, err = Read([]Source{base}, Options{Env: noEnv, Overlays: []Source{{Name: "o.yaml", Data: []byte(`_format_version: "2.1"`)}}})
	if err == nil || !strings.Contains(err.Error(), "o.yaml:1:18: _format_version: 2.1 does not agree with 3.0 before") {
		t.Errorf("versions that differ: %v", err)
	}
	again := Source{Name: "again.yaml", Data: base.Data}
	_, err = Read([]Source{base, again}, Options{Env: noEnv})
	if err == nil || !strings.Contains(err.Error(), "again.yaml:4:9: services[0] \"s\": uniqueness violation: 'services' entity with name set to 's' already declared at base.yaml:4") {
		t.Errorf("the same file twice: %v", err)
	}
}

// TestOverlayIdentity checks by what an overlay finds the entity it changes.
func TestOverlayIdentity(t *testing.T) {
	f := func(base, over, want string) {
		t.Helper()
		read := func(text string, overlays ...Source) *Document {
			t.Helper()
			d, err := Read([]Source{{Name: "base.yaml", Data: []byte(text)}}, Options{Env: noEnv, Overlays: overlays})
			if err != nil {
				t.Fatalf("%s\n%v", text, err)
			}
			return d
		}
		got := read(base, Source{Name: "over.yaml", Data: []byte(over)})
		if !got.Equal(read(want)) {
			out, err := got.Dump(DumpOptions{Secrets: true})
			t.Errorf("%s over %s became\n%s%v", over, base, out, err)
		}
	}
	const id = "11111111-1111-4111-8111-111111111111"
	f("services: [{id: "+id+", name: a, host: h}]", "services: [{id: "+id+", name: b}]", "services: [{id: "+id+", name: b, host: h}]")
	f("services: [{id: "+id+", name: a, host: h}]", "services: [{name: a, port: 5}]", "services: [{id: "+id+", name: a, host: h, port: 5}]")
	f("consumers: [{custom_id: x}]", "consumers: [{custom_id: x, tags: [t]}]", "consumers: [{custom_id: x, tags: [t]}]")
	f("upstreams: [{name: u, targets: [{id: "+id+", target: 'a:1'}]}]", "targets: [{upstream: u, target: 'a:1', weight: 5}]",
		"upstreams: [{name: u, targets: [{id: "+id+", target: 'a:1', weight: 5}]}]")
	f("consumers: [{username: u, keyauth_credentials: [{key: k}]}]", "consumers: [{username: u, keyauth_credentials: [{key: k, ttl: 5}, {key: l}]}]",
		"consumers: [{username: u, keyauth_credentials: [{key: k, ttl: 5}, {key: l}]}]")
	f("services: [{name: s, host: h, plugins: [{name: p, config: {a: 1}}]}]", "services: [{name: s, plugins: [{name: p, config: {a: null, b: 2}, enabled: false}]}]",
		"services: [{name: s, host: h, plugins: [{name: p, config: {b: 2}, enabled: false}]}]")
	f("plugins: [{name: p, instance_name: i}]", "plugins: [{name: p, instance_name: i, config: {a: 1}}]", "plugins: [{name: p, instance_name: i, config: {a: 1}}]")
	f("gateway: {log_level: info, redis: {a: {host: h}}}", "gateway: {log_level: null, redis: {a: {port: 5}}}", "gateway: {redis: {a: {host: h, port: 5}}}")
}

// TestReadFiles checks files, their overlays and files that are not there.
func TestReadFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	a := write("a.yaml", "services: [{name: a, host: h}]")
	b := write("b.json", `{"services": [{"name": "b", "host": "h"}]}`)
	o := write("o.yaml", "services: [{name: a, port: 5}]")
	d, err := ReadFiles([]string{a, b}, []string{o}, Options{Env: noEnv})
	if err != nil || len(d.Services) != 2 || d.Services[0].Port != 5 {
		t.Errorf("%+v %v", d, err)
	}
	_, err = ReadFiles([]string{filepath.Join(dir, "none.yaml")}, []string{filepath.Join(dir, "nor.yaml")}, Options{Env: noEnv})
	if err == nil || err.Error() != filepath.Join(dir, "none.yaml")+": no such file or directory\n"+filepath.Join(dir, "nor.yaml")+": no such file or directory" {
		t.Errorf("missing files: %v", err)
	}
}

// TestHashing checks Kong's coercions between algorithm and hash_on.
func TestHashing(t *testing.T) {
	f := func(fields, algorithm, hashOn string) {
		t.Helper()
		d, fs := readText(t, "_format_version: \"3.0\"\nupstreams: [{name: u, "+fields+"}]", Options{Strict: true})
		if fs != nil {
			t.Error(fs)
			return
		}
		if u := d.Upstreams[0]; u.Algorithm != algorithm || u.HashOn != hashOn {
			t.Errorf("%s: got %s, %s", fields, u.Algorithm, u.HashOn)
		}
	}
	f("slots: 10", "round-robin", "none")
	f("hash_on: ip", "consistent-hashing", "ip")
	f("algorithm: round-robin, hash_on: ip", "consistent-hashing", "ip")
	f("algorithm: consistent-hashing, hash_on: none", "round-robin", "none")
	f("algorithm: consistent-hashing", "consistent-hashing", "none")
	f("algorithm: least-connections, hash_on: ip, hash_fallback: none", "least-connections", "none")
	f("algorithm: latency, hash_on: none", "latency", "none")
}

// TestMTLSAuthority checks the two ways to name the CA of a client certificate.
func TestMTLSAuthority(t *testing.T) {
	const text = "_format_version: \"3.0\"\nca_certificates: [{cert: '-----BEGIN x...'}]\nconsumers: [{username: u, mtls_auth_credentials: [{subject_name: s, ca_certificate: '%'}]}]"
	d, fs := readText(t, strings.Replace(text, "%", "-----BEGIN x...", 1), Options{})
	if fs != nil || d.MTLSAuthCredentials[0].CACertificate != d.CACertificates[0].ID {
		t.Errorf("by PEM: %v", fs)
	}
	if _, fs = readText(t, strings.Replace(text, "%", "other", 1), Options{}); !strings.Contains(messages(fs), "invalid reference (no such entry in 'ca_certificates')") {
		t.Errorf("by an unknown ID: %v", fs)
	}
}
