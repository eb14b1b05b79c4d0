package record_test

import (
	"crypto/tls"
	"encoding/json"
	"net"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
	"github.com/sluice-gateway/sluice/engine/plugin/filelog/record"
)

const document = `
_format_version: "3.0"
services:
- {id: 2b1c8f50-3e1c-4a55-9d1a-3b0f0f7b7a01, name: accounts, url: "http://a.example/x", created_at: 5}
routes:
- {id: 7f2d9a10-5b7e-4c6d-8f1e-0a1b2c3d4e5f, name: "us\u00e9rs", service: accounts, paths: [/users], created_at: 6}
`

func open(t testing.TB, fields map[string]string) *record.Encoder {
	t.Helper()
	e, err := record.New(pipelinetest.NewEnv(t, document), fields)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func exchange() *pipeline.Exchange {
	x := pipelinetest.NewExchange("POST", "/users/7?a=1&b=two%20words&a=2&flag&%22=%00",
		"Authorization", "Bearer secret", "Proxy-Authorization", "Basic c2VjcmV0", "X-Multi", "1", "X-Multi", "2", "Cookie", "a=b; c=d", "X-Quote", "a\"\\\x80\xff\tz")
	x.RouteIndex = 0
	x.Port = 8000
	x.Start, x.UpstreamStart, x.UpstreamHeaders, x.End = 1e9, 1e9+5e6, 1e9+25e6, 1e9+40e6
	x.Source, x.UpstreamStatus = pipeline.SourceService, 201
	x.BytesIn, x.BytesOut = 100, 2000
	x.UpstreamURI = []byte("/x/7?a=1")
	x.Target = "10.0.0.2:8080"
	x.Tries = append(x.Tries,
		pipeline.Try{Target: "10.0.0.1:8080", Start: 1e9 + 5e6, Connect: 2e6, Failed: true, Status: 502},
		pipeline.Try{Target: "[fd00::1]:8080", Start: 1e9 + 8e6, Connect: 1e6})
	x.Consumer = &pipeline.Consumer{Consumer: &config.Consumer{ID: "c-1", Username: "alice", Meta: config.Meta{CreatedAt: 9}}}
	x.Credential = &pipeline.Credential{ID: "k-1", Consumer: x.Consumer}
	x.CorrelationID = []byte("corr#1")
	r := &x.Ctx.Response
	r.SetStatusCode(201)
	r.Header.SetContentType("application/json")
	r.Header.Add("Set-Cookie", "s=1")
	r.Header.Add("Set-Cookie", "t=2")
	return x
}

// decode reads a record and fails on what is not ASCII or not JSON.
func decode(t *testing.T, text []byte) map[string]any {
	t.Helper()
	for _, c := range text {
		if c < ' ' || c > '~' {
			t.Fatalf("byte %#x in %q", c, text)
		}
	}
	var r map[string]any
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return r
}

func TestRecord(t *testing.T) {
	x := exchange()
	got := decode(t, open(t, nil).Append(nil, x))
	f := func(path string, want any) {
		t.Helper()
		var at any = got
		for name := range strings.SplitSeq(path, "/") {
			m, ok := at.(map[string]any)
			if !ok {
				t.Fatalf("%s: %v is no object", path, at)
			}
			at = m[name]
		}
		if !reflect.DeepEqual(at, want) {
			t.Errorf("%s: %#v, want %#v", path, at, want)
		}
	}
	f("request/id", "0123456789abcdef0123456789abcdef")
	f("request/uri", "/users/7?a=1&b=two%20words&a=2&flag&%22=%00")
	f("request/url", "http://api.example.com:8000/users/7?a=1&b=two%20words&a=2&flag&%22=%00")
	f("request/querystring", map[string]any{"a": []any{"1", "2"}, "b": "two words", "flag": true, `"`: "\x00"})
	f("request/method", "POST")
	f("request/size", 100.0)
	f("request/tls", nil)
	f("request/headers", map[string]any{
		"host": "api.example.com", "authorization": "REDACTED", "proxy-authorization": "REDACTED",
		"x-multi": []any{"1", "2"}, "cookie": "a=b; c=d", "x-quote": "a\"\\\ufffd\ufffd\tz",
	})
	f("upstream_uri", "/x/7?a=1")
	f("upstream_status", "502, 201")
	f("response/status", 201.0)
	f("response/size", 2000.0)
	f("response/headers/content-type", "application/json")
	f("response/headers/set-cookie", []any{"s=1", "t=2"})
	f("latencies", map[string]any{"kong": 5.0, "proxy": 20.0, "request": 40.0, "receive": 15.0})
	start := float64(pipeline.WallNanos(1e9+5e6) / 1e6)
	f("authenticated_entity", map[string]any{"id": "k-1", "consumer_id": "c-1"})
	f("consumer", map[string]any{"id": "c-1", "username": "alice", "created_at": 9.0})
	f("route/name", "usérs")
	f("route/id", "7f2d9a10-5b7e-4c6d-8f1e-0a1b2c3d4e5f")
	f("route/service", map[string]any{"id": "2b1c8f50-3e1c-4a55-9d1a-3b0f0f7b7a01"})
	f("route/paths", []any{"/users"})
	f("service/name", "accounts")
	f("service/host", "a.example")
	f("client_ip", "192.0.2.1")
	f("started_at", float64(x.WallMillis()))
	f("source", "upstream")
	f("workspace", "default")
	f("workspace_name", "default")
	f("correlation_id", "corr#1")
	tries := got["tries"].([]any)
	first, second := tries[0].(map[string]any), tries[1].(map[string]any)
	if first["ip"] != "10.0.0.1" || first["port"] != 8080.0 || first["state"] != "failed" || first["code"] != 502.0 ||
		first["balancer_start"] != start || first["balancer_latency"] != 2.0 || first["balancer_latency_ns"] != 2e6 {
		t.Errorf("first try %v", first)
	}
	if second["ip"] != "fd00::1" || second["state"] != nil || len(tries) != 2 {
		t.Errorf("second try %v", second)
	}
}

func TestGatewayAnswer(t *testing.T) {
	x := pipelinetest.NewExchange("GET", "/")
	x.Start, x.End = 1e9, 1e9+3e6
	x.Source = pipeline.SourceGateway
	got := decode(t, open(t, nil).Append(nil, x))
	want := map[string]any{"kong": 3.0, "proxy": -1.0, "request": 3.0, "receive": 0.0}
	if !reflect.DeepEqual(got["latencies"], want) || got["source"] != "kong" || got["upstream_uri"] != "" || got["upstream_status"] != "" {
		t.Errorf("record %v", got)
	}
	for _, name := range []string{"route", "service", "consumer", "authenticated_entity", "correlation_id"} {
		if v, ok := got[name]; ok {
			t.Errorf("%s: %v", name, v)
		}
	}
}

func TestCustomFields(t *testing.T) {
	got := decode(t, open(t, map[string]string{
		"rid":                     "return kong.request.get_header('X-Multi')",
		"none":                    `return kong.request.get_header("X-None")`,
		"text":                    "return 'it is'",
		"number":                  "return 1.50;",
		"yes":                     "return true",
		"status":                  "return kong.response.get_status()",
		"type":                    "return kong.response.get_header('content-type')",
		"how":                     "return kong.request.get_method()",
		"who":                     "return kong.client.get_ip()",
		"a.b.c":                   "return 'deep'",
		`dotted\.name`:            "return 1",
		"service":                 "return nil",
		"request.headers.cookie":  "return nil",
		"request.headers.x-added": "return 'x'",
		"response.size":           "return 7",
		"tries.x":                 "return 7", // a list has no members
	}).Append([]byte(nil), exchange()))
	f := func(name string, want any) {
		t.Helper()
		if !reflect.DeepEqual(got[name], want) {
			t.Errorf("%s: %#v, want %#v", name, got[name], want)
		}
	}
	f("rid", "1")
	f("none", nil)
	f("text", "it is")
	f("number", 1.5)
	f("yes", true)
	f("status", 201.0)
	f("type", "application/json")
	f("how", "POST")
	f("who", "192.0.2.1")
	f("a", map[string]any{"b": map[string]any{"c": "deep"}})
	f("dotted.name", 1.0)
	f("service", nil)
	headers := got["request"].(map[string]any)["headers"].(map[string]any)
	if headers["cookie"] != nil || headers["x-added"] != "x" || headers["host"] != "api.example.com" {
		t.Errorf("headers %v", headers)
	}
	if n := got["response"].(map[string]any)["size"]; n != 7.0 {
		t.Errorf("size %v", n)
	}
}

func TestLuaFaults(t *testing.T) {
	for _, lua := range []string{
		"", "1", "returnx", "return kong.log.serialize()", "return os.time()", "return 'a' .. 'b'", "return 1 + 1", "return 0x10",
		"if x then return 1 end", "return kong.request.get_header()", "return kong.request.get_header('a b')", "return 'open",
		"return kong.response.get_status('x')", "return kong.request.get_header('a'):lower()", "return 1e999",
	} {
		if err := record.CheckField("a", lua); err == nil {
			t.Errorf("%q: accepted", lua)
		}
	}
}

// tlsConn is a connection in a state, without a network.
type tlsConn struct {
	net.Conn
	state tls.ConnectionState
}

func (c *tlsConn) Handshake() error                     { return nil }
func (c *tlsConn) ConnectionState() tls.ConnectionState { return c.state }
func (c *tlsConn) RemoteAddr() net.Addr                 { return &net.TCPAddr{} }
func (c *tlsConn) LocalAddr() net.Addr                  { return &net.TCPAddr{} }

func TestTLS(t *testing.T) {
	var ctx fasthttp.RequestCtx
	ctx.Init2(&tlsConn{state: tls.ConnectionState{Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256}}, nil, false)
	x := pipelinetest.NewExchange("GET", "/")
	x.Ctx, x.Secure = &ctx, true
	got := decode(t, open(t, nil).Append(nil, x))["request"].(map[string]any)
	want := map[string]any{"version": "TLSv1.3", "cipher": "TLS_AES_128_GCM_SHA256", "client_verify": "NONE"}
	if !reflect.DeepEqual(got["tls"], want) || !strings.HasPrefix(got["url"].(string), "https://") {
		t.Errorf("request %v", got)
	}
}

func BenchmarkAppend(b *testing.B) {
	x := exchange()
	e := open(b, nil)
	b.ReportAllocs()
	var buf []byte
	for b.Loop() {
		buf = e.Append(buf[:0], x)
	}
}

// FuzzRecord: whatever a client sends, the record is one line of ASCII that
// encoding/json reads, and valid UTF-8 comes back as it was.
func FuzzRecord(f *testing.F) {
	f.Add("/a?b=c&b=d", "X-A", "value", "body")
	f.Add("/\xff?%ff=%00&&=", "Authorization", "é\u2028\x7f", "\"\\")
	e := open(f, map[string]string{"own": "return kong.request.get_header('X-Own')", "request.id": "return kong.request.get_header('X-Own')"})
	f.Fuzz(func(t *testing.T, uri, name, value, own string) {
		x := pipelinetest.NewExchange("GET", "/")
		h := &x.Ctx.Request.Header
		h.SetRequestURI(uri)
		h.Set("X-Own", own)
		h.Add(name, value)
		x.Ctx.Response.Header.Add(name, value)
		sent := string(h.Peek("X-Own"))
		got := decode(t, e.Append(nil, x))
		if utf8.ValidString(sent) {
			if got["own"] != sent || got["request"].(map[string]any)["id"] != sent {
				t.Fatalf("%q logged as %q", sent, got["own"])
			}
		}
		if utf8.ValidString(uri) && uri != "" && got["request"].(map[string]any)["uri"] != string(h.RequestURI()) {
			t.Fatalf("uri %q logged as %q", uri, got["request"])
		}
	})
}
