package config

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// whole uses every list and many fields.
const whole = `
_format_version: "3.0"
_transform: false
_comment: "it's: a #test"
_workspace: w
gateway:
  proxy_listen: [0.0.0.0:8000 reuseport, "unix:/x"]
  admin_listen: off
  client_max_body_size: 10m
  dns_valid_ttl: 1.5
  redis: {main: {sentinel_master: m, sentinel_nodes: [{host: a}], password: p}}
vaults: [{name: env, prefix: v, config: {prefix: A_}, description: d}]
ca_certificates: [{cert: "x...", id: 11111111-1111-4111-8111-111111111111}]
key_sets: [{name: ks, keys: [{name: k, kid: i, jwk: '{"kty":"oct"}'}, {kid: j, pem: {private_key: p, public_key: q}}]}]
services:
- name: s
  url: https://h:1/p
  tls_verify: false
  tls_verify_depth: 0
  ca_certificates: [11111111-1111-4111-8111-111111111111]
  tags: [a, "true", "1"]
  circuit_breaker: {error_rate: 12.5, window: 0.5, statuses: [], open_duration: 400, content_type: text/plain, body: "closed\n"}
  limits: {requests: 9, queue: 5, queue_timeout: 250}
  routes:
  - {name: r, paths: ["/a", "~/b$"], headers: {X: [a, "~*b"], A: [z]}, methods: [GET], created_at: 5, plugins: [{name: p, config: {a: [1, 2.0, "3", true, null, {b: c}], "x.y": "a\nb\n", e: {}, f: []}}]}
  - {hosts: ["*.x"], protocols: [https], snis: [s.x]}
  - {protocols: [grpc], paths: [/], id: 22222222-2222-4222-8222-222222222222}
  - {protocols: [tcp], sources: [{ip: 10.0.0.0/8, port: 5}, {port: 6}]}
upstreams:
- {name: u, algorithm: latency, targets: [{target: a, weight: 0}, {target: "[::1]:5"}], healthchecks: {active: {type: tcp, headers: {A: [b, ""]}, healthy: {interval: 0.5, http_statuses: []}}, threshold: 12.5}, tags: []}
- {name: v, hash_on: cookie, hash_on_cookie: c, hash_ring: nginx, hash_balance_factor: 125, failover: w, max_connections: 7,
   circuit_breaker: {consecutive_failures: 3, half_open_requests: 2, successes: 2, max_open_duration: 60.5, statuses: [503]},
   limits: {requests: 9, connections: 8, target_requests: 6, target_connections: 7, queue: 5}}
- {name: w, use_srv_name: true, failover: {name: u}}
- {name: x, algorithm: consistent-hashing}
consumers:
- username: "yes"
  custom_id: "007"
  plugins: [{name: p, enabled: false, protocols: [http], instance_name: i, ordering: {before: {access: [q]}}}]
  keyauth_credentials: [{key: "0x1", ttl: 5}]
  basicauth_credentials: [{username: b, password: c}]
  hmacauth_credentials: [{username: b, secret: "multi\nline"}]
  jwt_secrets: [{key: k, secret: s}]
  oauth2_credentials: [{name: n m, client_id: i, client_secret: s, redirect_uris: ["https://x"], oauth2_tokens: [{access_token: t, expires_in: 0, service: s}]}]
  acls: [{group: g}]
  mtls_auth_credentials: [{subject_name: "CN=x,O=y", ca_certificate: 11111111-1111-4111-8111-111111111111}]
  groups: [gold]
consumer_groups: [{name: gold, plugins: [{name: p}]}]
graphql_schemas: [{name: g, schema: "type Query { a: Int }", resolvers: {Query: {a: "http://x/{id}", b: ""}}}]
plugins: [{name: p}, {name: p}]
`

// roundTrip dumps a document, reads it back and compares everything but positions.
func roundTrip(t *testing.T, d *Document, o DumpOptions) {
	t.Helper()
	o.Secrets = true
	out, err := d.Dump(o)
	if err != nil {
		t.Fatal(err)
	}
	name := "dump.yaml"
	if o.Format == "json" {
		name = "dump.json"
	}
	again, err := Read([]Source{{Name: name, Data: out}}, Options{Env: noEnv})
	if err != nil {
		t.Fatalf("the dump does not load: %v\n%s", err, out)
	}
	same := cmp.Options{
		cmp.Comparer(func(a, b *Node) bool { return a.Equal(b) }),
		cmpopts.IgnoreTypes(Pos{}),
		cmpopts.IgnoreFields(Document{}, "Hash", "Warnings", "FormatVersion", "Transform", "SelectTags"),
		cmpopts.EquateEmpty(),
	}
	if diff := cmp.Diff(d, again, same); diff != "" {
		t.Errorf("the dump reads as another document:\n%s\n%s", diff, out)
	}
	if !d.Equal(again) {
		t.Error("Equal disagrees")
	}
	twice, err := again.Dump(o)
	if err != nil || string(twice) != string(out) {
		t.Errorf("a dump of the dump differs (%v):\n%s\n%s", err, out, twice)
	}
}

func TestDumpReadsBack(t *testing.T) {
	cert, key := makeCertificate(t, time.Hour, "ecdsa")
	tls, err := json.Marshal([]map[string]any{{"cert": cert, "key": key, "snis": []any{"*.x", map[string]string{"name": "*"}}}})
	if err != nil {
		t.Fatal(err)
	}
	d, fs := readText(t, whole+"\ncertificates: "+string(tls), Options{})
	if fs != nil {
		t.Fatal(fs)
	}
	for _, o := range []DumpOptions{{}, {Format: "json"}, {Defaults: true}, {IDs: true}, {Format: "json", Defaults: true, IDs: true}} {
		roundTrip(t, d, o)
	}
	for _, k := range kinds {
		n := 0
		k.each(d, func(any) { n++ })
		if n == 0 {
			t.Errorf("the document has no %s", k.list)
		}
	}
	if _, err := d.Dump(DumpOptions{Format: "toml"}); err == nil {
		t.Error("unknown format")
	}
}

func TestDumpRedacts(t *testing.T) {
	d, fs := readText(t, `
_format_version: "3.0"
gateway: {pg_password: hush1, redis: {a: {host: h, password: hush2}}}
consumers: [{username: u, keyauth_credentials: [{key: hush3}], jwt_secrets: [{key: open, secret: hush4}]}]
plugins: [{name: known, config: {visible: open, hidden: hush5, deep: [{hidden: hush6}]}}, {name: other, config: {redis: {password: hush7}, headers: {Authorization: hush8}, hide_credentials: true}}]
`, Options{})
	if fs != nil {
		t.Fatal(fs)
	}
	out, err := d.Dump(DumpOptions{Catalog: known{}})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "hush") || strings.Count(string(out), "open") != 2 || strings.Count(string(out), redacted) != 8 {
		t.Errorf("dump:\n%s", out)
	}
	if got := d.Plugins[0].Config.Lookup("hidden").Value; got != "hush5" {
		t.Errorf("the dump changed the document: %s", got)
	}
}

// known is a catalog with one built plugin, one planned.
type known struct{}

type knownSettings struct {
	Visible string          `json:"visible" doc:"Shown."`
	Hidden  string          `json:"hidden" secret:"true"`
	Deep    []knownSettings `json:"deep"`
	Level   int             `json:"level" min:"1" max:"9"`
}

func (known) Built(name string) bool { return name == "known" || name == "other" }
func (known) Names() []string        { return []string{"known", "other", "planned"} }
func (known) Check(p *Plugin) Faults {
	if p.Name == "known" {
		return Decode(p.Config, &knownSettings{Level: 5})
	}
	return nil
}
func (known) Defaults(name string) any {
	if name == "known" {
		return &knownSettings{Level: 5}
	}
	return nil
}

// TestCatalog checks names and settings of plugins.
func TestCatalog(t *testing.T) {
	f := func(plugin, want string) {
		t.Helper()
		_, fs := readText(t, "plugins:\n- "+plugin+"\n_format_version: \"3.0\"", Options{Catalog: known{}})
		if got := messages(fs); got != want {
			t.Errorf("%s: got %s, want %s", plugin, got, want)
		}
	}
	f("{name: known}", "")
	f("{name: planned}", `2:10: plugins[0] "planned": name: plugin "planned" is not built yet`)
	f("{name: knwon}", `2:10: plugins[0] "knwon": name: unknown plugin "knwon"; did you mean "known"?`)
	f("{name: zzzzzz}", `2:10: plugins[0] "zzzzzz": name: unknown plugin "zzzzzz"`)
	f("{name: known, config: {levl: 3}}", `2:26: plugins[0] "known": config.levl: unknown field; did you mean "level"?`)
	f("{name: known, config: {deep: [{level: 10}]}}", `2:41: plugins[0] "known": config.deep[0].level: value should be between 1 and 9`)
	f("{name: known, route: nowhere, config: {level: 0}}", `2:49: plugins[0] "known": config.level: value should be between 1 and 9`)
}

// TestSchema checks the schema against what Decode does with the same tags.
func TestSchema(t *testing.T) {
	got, err := json.Marshal(Schema(knownSettings{Level: 5}))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		`"$schema":"http://json-schema.org/draft-07/schema#"`, `"additionalProperties":false`,
		`"level":{"default":5,"maximum":9,"minimum":1,"type":"integer"}`,
		`"hidden":{"type":"string","writeOnly":true}`, `"visible":{"description":"Shown.","type":"string"}`,
	} {
		if !strings.Contains(string(got), part) {
			t.Errorf("schema lacks %s: %s", part, got)
		}
	}
	doc, err := json.Marshal(DocumentSchema(known{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		`"const":"known"`, `"enum":["known","other","planned"]`, `"proxy_listen"`, `"keyauth_credentials":{"items":{"$ref":"#/definitions/keyauth_credentials"}`,
		`"retries":{"default":5,"description":"Further attempts after the first one failed in transport.","maximum":32767,"minimum":0,"type":"integer"}`,
	} {
		if !strings.Contains(string(doc), part) {
			t.Errorf("document schema lacks %s", part)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(whole), false)
	f.Add([]byte(`{"_format_version": "1.1", "services": [{"url": "http://a", "routes": [{"paths": ["/(a)"]}]}]}`), true)
	f.Add([]byte("service: {name: s, url: http://h}\nroutes: [{paths: /}]\nroutes: [{hosts: a}]"), false)
	f.Add([]byte("a: &a [*a]\n<<: *a"), false)
	f.Add([]byte("plugins: [{name: x, config: {a: 0x1F, b: .5, c: 1e400, d: 010, e: \"\\u0085\\uFEFF\"}}]"), false)
	f.Fuzz(func(t *testing.T, data []byte, strict bool) {
		d, err := Read([]Source{{Name: "fuzz", Data: data}}, Options{Env: noEnv, Strict: strict})
		if err != nil {
			faults, warnings := FaultsOf(err)
			if len(faults) == 0 {
				t.Fatalf("refused without a fault: %v", err)
			}
			_ = faults.Render() + warnings.Render()
			return
		}
		_ = d.Warnings.Render()
		roundTrip(t, d, DumpOptions{})
		roundTrip(t, d, DumpOptions{Format: "json", Defaults: true, IDs: true})
	})
}

// TestEntityNode checks single entities as answers show them.
func TestEntityNode(t *testing.T) {
	d, fs := readText(t, "services: [{name: s, host: h}]\nroutes: [{name: r, service: s, paths: [/]}]\n_format_version: \"3.0\"", Options{})
	if fs != nil {
		t.Fatal(fs)
	}
	n := d.EntityNode(d.Routes[0], DumpOptions{IDs: true})
	if got, want := string(n.AppendJSON(nil)), `{"id":"`+EntityID("routes", "r")+`","name":"r","service":"`+EntityID("services", "s")+`","paths":["/"]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
