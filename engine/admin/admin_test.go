package admin_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/admin"
	"github.com/sluice-gateway/sluice/engine/config"
)

// gateway stands for a running gateway.
type gateway struct {
	live     atomic.Pointer[config.Document]
	draining atomic.Bool
	refused  atomic.Int64
	apply    func(*config.Document) error // nil accepts everything
	reload   func() error
	last     admin.Reload
}

func (g *gateway) Document() *config.Document { return g.live.Load() }

func (g *gateway) Ready() (bool, string) {
	if g.draining.Load() {
		return false, "draining"
	}
	return true, "ready"
}

func (g *gateway) WriteMetrics(w io.Writer) { _, _ = io.WriteString(w, "up 1\n") }

func (g *gateway) Apply(d *config.Document) error {
	if g.apply != nil {
		if err := g.apply(d); err != nil {
			return err
		}
	}
	g.live.Store(d)
	return nil
}

func (g *gateway) Refuse(error) { g.refused.Add(1) }

func (g *gateway) Reload() error {
	if g.reload != nil {
		return g.reload()
	}
	return nil
}

func (g *gateway) Identity() string { return "node-1" }

func (g *gateway) Traffic() admin.Traffic {
	return admin.Traffic{Accepted: 7, Active: 2, Requests: 40}
}

func (g *gateway) LastReload() admin.Reload { return g.last }

const document = `_format_version: "3.0"
services:
- name: orders
  url: http://127.0.0.1:9999/api
  tags: [a]
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
gateway:
  log_level: warn
`

// catalog knows key-auth and takes any settings.
type catalog struct{}

func (catalog) Built(name string) bool             { return name == "key-auth" }
func (catalog) Names() []string                    { return []string{"key-auth", "jwt"} }
func (catalog) Check(*config.Plugin) config.Faults { return nil }

// api is a gateway with both listeners open.
type api struct {
	*gateway
	t             *testing.T
	admin, status string // URLs
}

func start(t *testing.T, o admin.Options) *api {
	t.Helper()
	g := &gateway{}
	d, err := config.Read([]config.Source{{Name: "test.yaml", Data: []byte(document)}}, config.Options{Catalog: catalog{}})
	if err != nil {
		t.Fatal(err)
	}
	g.live.Store(d)
	o.Gateway, o.Configurer, o.Observer, o.Fleet = g, g, g, &fleet{}
	o.Reading = config.Options{Catalog: catalog{}}
	o.Plugins, o.Version = []string{"correlation-id", "key-auth", "of-our-own"}, "1.2.3"
	a := admin.New(o)
	serve := func(s *fasthttp.Server) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = s.Serve(l) }()
		t.Cleanup(func() { _ = s.Shutdown() })
		return "http://" + l.Addr().String()
	}
	return &api{gateway: g, t: t, admin: serve(a.AdminServer()), status: serve(a.StatusServer())}
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (a *api) do(method, url string, body io.Reader, headers ...string) answer {
	a.t.Helper()
	r, err := http.NewRequest(method, url, body)
	if err != nil {
		a.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
			continue
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	resp, err := client.Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

func (a *api) want(got answer, status int, body string) {
	a.t.Helper()
	if got.status != status || body != "" && got.body != body {
		a.t.Errorf("got %d %s, want %d %s", got.status, got.body, status, body)
	}
}

func decode(t *testing.T, body string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return m
}

func TestStatusListener(t *testing.T) {
	a := start(t, admin.Options{})
	a.want(a.do("GET", a.status+"/status/ready", nil), 200, `{"message":"ready"}`)
	a.want(a.do("GET", a.status+"/metrics", nil), 200, "up 1\n")
	a.draining.Store(true)
	a.want(a.do("GET", a.status+"/status/ready", nil), 503, `{"message":"draining"}`)
	a.want(a.do("HEAD", a.status+"/status/ready/", nil), 503, "")

	// What acts is not there.
	a.want(a.do("POST", a.status+"/config", strings.NewReader("x")), 404, `{"message":"Not found"}`)
	a.want(a.do("POST", a.status+"/reload", nil), 404, "")
	a.want(a.do("GET", a.status+"/debug/pprof/", nil), 404, "")
	a.want(a.do("GET", a.status+"/", nil), 404, "")
	got := a.do("DELETE", a.status+"/status", nil)
	a.want(got, 405, `{"message":"Method not allowed"}`)
	if allow := got.header.Get("Allow"); allow != "GET, HEAD, OPTIONS" {
		t.Errorf("Allow: %s", allow)
	}
}

func TestStatusReport(t *testing.T) {
	a := start(t, admin.Options{})
	applied := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	a.last = admin.Reload{Applied: applied, Failed: applied.Add(time.Minute), Error: "routes[0]: bad", Watching: true}
	m := decode(t, a.do("GET", a.status+"/status", nil).body)
	want := func(path string, value any) {
		t.Helper()
		var v any = m
		for key := range strings.SplitSeq(path, ".") {
			v = v.(map[string]any)[key]
		}
		if fmt.Sprint(v) != fmt.Sprint(value) {
			t.Errorf("%s: got %v, want %v", path, v, value)
		}
	}
	want("server.connections_active", 2)
	want("server.connections_accepted", 7)
	want("server.connections_handled", 7)
	want("server.connections_reading", 0)
	want("server.connections_writing", 0)
	want("server.connections_waiting", 0)
	want("server.total_requests", 40)
	want("memory.lua_shared_dicts", map[string]any{})
	want("configuration_hash", a.Document().Hash)
	want("sluice.ready", true)
	want("sluice.version", "1.2.3")
	want("sluice.reload.success", false)
	want("sluice.reload.applied_at", "2026-01-02T03:04:05Z")
	want("sluice.reload.failed_at", "2026-01-02T03:05:05Z")
	want("sluice.reload.error", "routes[0]: bad")
	want("sluice.reload.watching", true)
	if _, has := m["database"]; has {
		t.Error("database is reported without one")
	}
	workers := m["memory"].(map[string]any)["workers_lua_vms"].([]any)
	if text := fmt.Sprint(workers[0].(map[string]any)["http_allocated_gc"]); !strings.HasSuffix(text, " MiB") {
		t.Errorf("heap: %s", text)
	}
}

func TestRoot(t *testing.T) {
	a := start(t, admin.Options{})
	m := decode(t, a.do("GET", a.admin, nil).body)
	if m["version"] != "1.2.3" || m["node_id"] != "node-1" || m["tagline"] == "" {
		t.Errorf("root: %v", m)
	}
	plugins := m["plugins"].(map[string]any)
	available := plugins["available_on_server"].(map[string]any)
	first := available["correlation-id"].(map[string]any)["priority"].(float64)
	second := available["key-auth"].(map[string]any)["priority"].(float64)
	if first != 100001 || second != 1250 {
		t.Errorf("priorities %v and %v, want Kong's", first, second)
	}
	if own := available["of-our-own"].(map[string]any)["priority"].(float64); own != second {
		t.Errorf("priority %v of a plugin that is not Kong's, want that of the one before it", own)
	}
	if enabled := fmt.Sprint(plugins["enabled_in_cluster"]); enabled != "[key-auth]" {
		t.Errorf("enabled: %s", enabled)
	}
	if m["configuration"].(map[string]any)["database"] != "off" {
		t.Errorf("configuration: %v", m["configuration"])
	}
}

func TestUnknownPaths(t *testing.T) {
	a := start(t, admin.Options{})
	for _, path := range []string{"/services", "/nope", "/config/x", "/statusx", "/debug"} {
		a.want(a.do("GET", a.admin+path, nil), 404, `{"message":"Not found"}`)
	}
	a.want(a.do("PUT", a.admin+"/config", strings.NewReader("x")), 405, `{"message":"Method not allowed"}`)
	a.want(a.do("GET", a.admin+"/reload", nil), 405, "")
	got := a.do("OPTIONS", a.admin+"/config", nil)
	if got.status != 204 || got.header.Get("Allow") != "GET, HEAD, POST, OPTIONS" {
		t.Errorf("OPTIONS: %d %s", got.status, got.header.Get("Allow"))
	}
}

func TestProfilesOnAdminOnly(t *testing.T) {
	a := start(t, admin.Options{})
	for _, path := range []string{"/debug/pprof/", "/debug/pprof", "/debug/pprof/goroutine?debug=1"} {
		if got := a.do("GET", a.admin+path, nil); got.status != 200 || !strings.Contains(got.body, "goroutine") {
			t.Errorf("%s: %d", path, got.status)
		}
	}
}

// TestBrowsersAreKeptOut: a page in the operator's browser reaches loopback,
// but not the Admin API.
func TestBrowsersAreKeptOut(t *testing.T) {
	a := start(t, admin.Options{})
	refused := func(headers ...string) {
		t.Helper()
		if got := a.do("GET", a.admin+"/config", nil, headers...); got.status != 403 || strings.Contains(got.body, "alice-key") {
			t.Errorf("%v: %d %s", headers, got.status, got.body)
		}
	}
	heard := func(headers ...string) {
		t.Helper()
		if got := a.do("GET", a.admin+"/config", nil, headers...); got.status != 200 {
			t.Errorf("%v: %d %s", headers, got.status, got.body)
		}
	}
	refused("Host", "evil.example")
	refused("Host", "evil.example:8001")
	refused("Host", "localhost.evil.example")
	refused("Host", "127.0.0.1.nip.io:8001")
	refused("Host", "10.0.0.1")
	refused("Origin", "http://evil.example")
	refused("Origin", "null")
	refused("Origin", "http://localhost:3000", "Host", "localhost:8001")
	refused("Sec-Fetch-Site", "cross-site")
	refused("Sec-Fetch-Site", "same-site")
	heard()
	heard("Host", "localhost")
	heard("Host", "LOCALHOST.:8001")
	heard("Host", "127.3.4.5:1")
	heard("Host", "[::1]:8001")
	heard("Host", "localhost:8001", "Origin", "http://localhost:8001", "Sec-Fetch-Site", "same-origin")
	if got := a.do("POST", a.admin+"/reload", nil, "Origin", "http://evil.example"); got.status != 403 {
		t.Errorf("reload from another origin: %d", got.status)
	}
}

const posted = `{"_format_version":"3.0","services":[{"name":"users","url":"http://127.0.0.1:1",
"routes":[{"name":"users","paths":["/users"]}]}],
"consumers":[{"username":"bob","keyauth_credentials":[{"key":"bob-key"}]}]}`

func TestPostConfig(t *testing.T) {
	a := start(t, admin.Options{})
	got := a.do("POST", a.admin+"/config", strings.NewReader(posted), "Content-Type", "application/json")
	a.want(got, 201, "")
	d := a.Document()
	m := decode(t, got.body)
	service := m["services"].(map[string]any)[d.Services[0].ID].(map[string]any)
	if service["name"] != "users" || service["port"] != 1.0 || service["path"] != nil || service["retries"] != 5.0 {
		t.Errorf("service: %v", service)
	}
	route := m["routes"].(map[string]any)[d.Routes[0].ID].(map[string]any)
	if fmt.Sprint(route["service"]) != fmt.Sprintf("map[id:%s]", d.Services[0].ID) || fmt.Sprint(route["paths"]) != "[/users]" {
		t.Errorf("route: %v", route)
	}
	key := m["keyauth_credentials"].(map[string]any)[d.KeyAuthCredentials[0].ID].(map[string]any)
	if key["key"] != "bob-key" || fmt.Sprint(key["consumer"]) != fmt.Sprintf("map[id:%s]", d.Consumers[0].ID) {
		t.Errorf("credential: %v", key)
	}
	if _, has := m["plugins"]; has {
		t.Error("plugins of the old document are still there")
	}
	if d.Gateway.LogLevel != "warn" {
		t.Errorf("log_level became %s: the posted document has no gateway block", d.Gateway.LogLevel)
	}
}

func TestPostConfigForms(t *testing.T) {
	const text = "_format_version: '3.0'\nservices:\n- name: s\n  url: http://127.0.0.1:1\n"
	form := func() (io.Reader, string) {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		part, _ := w.CreateFormFile("config", "kong.yml")
		_, _ = io.WriteString(part, text)
		_ = w.Close()
		return &b, w.FormDataContentType()
	}
	field := func() (io.Reader, string) {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		_ = w.WriteField("config", text)
		_ = w.Close()
		return &b, w.FormDataContentType()
	}
	wrapped, _ := json.Marshal(map[string]any{"config": text})
	for name, make := range map[string]func() (io.Reader, string){
		"multipart file":  form,
		"multipart field": field,
		"form": func() (io.Reader, string) {
			return strings.NewReader(url.Values{"config": {text}}.Encode()), "application/x-www-form-urlencoded"
		},
		"curl -d":   func() (io.Reader, string) { return strings.NewReader(text), "application/x-www-form-urlencoded" },
		"yaml":      func() (io.Reader, string) { return strings.NewReader(text), "text/yaml" },
		"no type":   func() (io.Reader, string) { return strings.NewReader(text), "" },
		"json text": func() (io.Reader, string) { return bytes.NewReader(wrapped), "application/json; charset=utf-8" },
	} {
		a := start(t, admin.Options{})
		body, contentType := make()
		got := a.do("POST", a.admin+"/config", body, "Content-Type", contentType)
		if got.status != 201 || len(a.Document().Services) != 1 || a.Document().Services[0].Name != "s" {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	a := start(t, admin.Options{})
	for _, body := range []string{"", "  \n", `{"config":""}`} {
		a.want(a.do("POST", a.admin+"/config", strings.NewReader(body)), 400, `{"message":"expected a declarative configuration"}`)
	}
}

func TestCheckHash(t *testing.T) {
	a := start(t, admin.Options{})
	post := func(query string) int {
		return a.do("POST", a.admin+"/config"+query, strings.NewReader(posted)).status
	}
	if got := post("?check_hash=1"); got != 201 {
		t.Errorf("first: %d", got)
	}
	if got := post("?check_hash=1"); got != 304 {
		t.Errorf("again, checked: %d", got)
	}
	if got := post(""); got != 201 {
		t.Errorf("again, not checked: %d", got)
	}
}

func TestRefusedConfig(t *testing.T) {
	a := start(t, admin.Options{})
	before := a.Document()
	const bad = `_format_version: "3.0"
services:
- name: fine
  url: http://127.0.0.1:1
- name: orders
  host: 127.0.0.1
  port: 99999
  tags: [x]
  routes:
  - name: r
    paths: [/a]
    colour: red
`
	got := a.do("POST", a.admin+"/config", strings.NewReader(bad))
	a.want(got, 400, "")
	m := decode(t, got.body)
	if m["code"] != 14.0 || m["name"] != "invalid declarative configuration" {
		t.Errorf("code and name: %v %v", m["code"], m["name"])
	}
	fields, _ := json.Marshal(m["fields"])
	want := `{"services":[null,{"port":"value should be between 0 and 65535","routes":[{"colour":"unknown field"}]}]}`
	if string(fields) != want {
		t.Errorf("fields\n got %s\nwant %s", fields, want)
	}
	message := `declarative config is invalid: {services={[2]={port="value should be between 0 and 65535",routes={{colour="unknown field"}}}}}`
	if m["message"] != message {
		t.Errorf("message\n got %s\nwant %s", m["message"], message)
	}
	first := m["faults"].([]any)[0].(map[string]any)
	if first["line"] != 7.0 || first["file"] != "config" {
		t.Errorf("fault: %v", first)
	}
	if a.Document() != before || a.refused.Load() != 1 {
		t.Error("the old document did not stay, or the refusal was not told")
	}

	m = decode(t, a.do("POST", a.admin+"/config?flatten_errors=1", strings.NewReader(bad)).body)
	if fields, _ := json.Marshal(m["fields"]); string(fields) != "{}" {
		t.Errorf("fields left: %s", fields)
	}
	flat := m["flattened_errors"].([]any)
	if len(flat) != 2 {
		t.Fatalf("flattened: %v", flat)
	}
	service, route := flat[0].(map[string]any), flat[1].(map[string]any)
	if service["entity_type"] != "service" || service["entity_name"] != "orders" || fmt.Sprint(service["entity_tags"]) != "[x]" ||
		fmt.Sprint(service["errors"]) != "[map[field:port message:value should be between 0 and 65535 type:field]]" {
		t.Errorf("service: %v", service)
	}
	if route["entity_type"] != "route" || fmt.Sprint(route["errors"]) != "[map[field:colour message:unknown field type:field]]" {
		t.Errorf("route: %v", route)
	}
}

func TestRefusedByTheEngine(t *testing.T) {
	a := start(t, admin.Options{})
	a.apply = func(*config.Document) error {
		return errors.Join(errors.New(`plugin "x": no`), errors.New("route y: no"))
	}
	m := decode(t, a.do("POST", a.admin+"/config", strings.NewReader(posted)).body)
	if fields := fmt.Sprint(m["fields"]); fields != `[plugin "x": no route y: no]` {
		t.Errorf("fields: %s", fields)
	}
	if want := `declarative config is invalid: {"plugin \"x\": no","route y: no"}`; m["message"] != want {
		t.Errorf("message: %s", m["message"])
	}
}

func TestReload(t *testing.T) {
	a := start(t, admin.Options{Files: []string{"/etc/kong.yaml"}})
	m := decode(t, a.do("POST", a.admin+"/reload", nil).body)
	if m["configuration_hash"] != a.Document().Hash || fmt.Sprint(m["files"]) != "[/etc/kong.yaml]" {
		t.Errorf("answer: %v", m)
	}
	a.reload = func() error {
		return config.Faults{{File: "kong.yaml", Line: 3, Col: 5, Path: "services[0]: port", Message: "expected an integer"}, {Message: "odd", Warning: true}}
	}
	got := a.do("POST", a.admin+"/reload", nil)
	a.want(got, 400, "")
	m = decode(t, got.body)
	if fmt.Sprint(m["faults"]) != "[map[col:5 file:kong.yaml line:3 message:expected an integer path:services[0]: port]]" {
		t.Errorf("faults: %v", m["faults"])
	}
}

func TestOneChangeAtATime(t *testing.T) {
	a := start(t, admin.Options{})
	entered, leave := make(chan struct{}), make(chan struct{})
	a.reload = func() error { close(entered); <-leave; return nil }
	done := make(chan int)
	go func() { done <- a.do("POST", a.admin+"/reload", nil).status }()
	<-entered
	got := a.do("POST", a.admin+"/config", strings.NewReader(posted))
	if got.status != 429 || got.header.Get("Retry-After") == "" {
		t.Errorf("while busy: %d %v", got.status, got.header)
	}
	close(leave)
	if status := <-done; status != 200 {
		t.Errorf("the first change: %d", status)
	}
	if got := a.do("POST", a.admin+"/config", strings.NewReader(posted)); got.status != 201 {
		t.Errorf("afterwards: %d", got.status)
	}
}

func TestBodyLimit(t *testing.T) {
	a := start(t, admin.Options{BodyBytesMax: 1000})
	got := a.do("POST", a.admin+"/config", strings.NewReader(strings.Repeat("#", 2000)))
	a.want(got, 413, `{"message":"request body too large"}`)
	a.want(a.do("POST", a.admin+"/config", strings.NewReader(posted)), 201, "")
}

// TestConfigRoundTrip posts what GET /config answered.
func TestConfigRoundTrip(t *testing.T) {
	a := start(t, admin.Options{})
	before := a.Document()
	text := decode(t, a.do("GET", a.admin+"/config", nil).body)["config"].(string)
	if !strings.Contains(text, "alice-key") {
		t.Errorf("secrets are missing:\n%s", text)
	}
	a.want(a.do("POST", a.admin+"/config", strings.NewReader(text), "Content-Type", "text/yaml"), 201, "")
	if a.Document() == before || !a.Document().Equal(before) {
		t.Errorf("the document is another one:\n%s", text)
	}
}

// TestEveryListIsNamed fails when the document grows a list of entities that
// the answer to POST /config would leave out.
func TestEveryListIsNamed(t *testing.T) {
	full := `_format_version: "3.0"
vaults: [{name: env, prefix: v}]
services: [{name: s, url: "http://a", routes: [{name: r, paths: [/]}]}]
upstreams: [{name: u, targets: [{target: "a:1"}]}]
consumer_groups: [{name: g}]
key_sets: [{name: ks}]
consumers:
- username: c
  groups: [{name: g}]
  keyauth_credentials: [{key: k}]
  basicauth_credentials: [{username: u, password: p}]
  hmacauth_credentials: [{username: u}]
  jwt_secrets: [{key: k}]
  oauth2_credentials: [{name: o}]
  acls: [{group: a}]
plugins: [{name: key-auth}]
`
	a := start(t, admin.Options{})
	got := a.do("POST", a.admin+"/config", strings.NewReader(full))
	a.want(got, 201, "")
	names := slices.Sorted(maps.Keys(decode(t, got.body)))
	want := []string{
		"acls", "basicauth_credentials", "consumer_group_consumers", "consumer_groups", "consumers", "hmacauth_credentials",
		"jwt_secrets", "key_sets", "keyauth_credentials", "oauth2_credentials", "plugins", "routes", "services", "targets",
		"upstreams", "vaults",
	}
	if !slices.Equal(names, want) {
		t.Errorf("lists %v, want %v", names, want)
	}
}

func TestFaultsOf(t *testing.T) {
	a := config.Faults{{File: "f", Line: 1, Message: "one"}, {File: "f", Line: 2, Message: "two"}}
	f := func(err error, want string) {
		t.Helper()
		if got := admin.FaultsOf(err).Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	f(a, "f:1: one\nf:2: two")
	f(fmt.Errorf("wrapped: %w", a), "f:1: one\nf:2: two")
	f(errors.New("plain\nlines"), "plain\nlines")
	f(errors.Join(errors.New("before"), fmt.Errorf("x: %w", a), errors.Join(errors.New("after"))), "before\nf:1: one\nf:2: two\nafter")
}
