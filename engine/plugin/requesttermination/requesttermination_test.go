package requesttermination

import (
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
)

func document(settings string) string {
	return `
_format_version: "3.0"
services:
- {name: a, url: "http://a.internal"}
routes:
- {name: r, service: a, paths: [/]}
plugins:
- name: request-termination
  config: {` + settings + "}\n"
}

func TestSettingsRefused(t *testing.T) {
	f := func(settings, want string) {
		t.Helper()
		_, err := config.Read([]config.Source{{Name: "test.yaml", Data: []byte(document(settings))}},
			config.Options{Catalog: &pipeline.Specs{All: []pipeline.Spec{Spec}}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("{%s}:\n got %v\nwant %s", settings, err, want)
		}
	}
	f("status_code: 99", "status_code: value should be between 100 and 599")
	f("status_code: 600", "status_code: value should be between 100 and 599")
	f("status_code: ok", "status_code: expected an integer")
	f("message: a, body: b", "message cannot be used with content_type or body")
	f("message: a, content_type: text/plain", "message cannot be used with content_type or body")
	f("content_type: text/plain", "content_type requires a body")
	f("echo: true, body: b", "echo cannot be used with content_type and body")
	f(`trigger: "a b"`, "trigger: bad header name 'a b'")
	f(`message: ""`, "message: length must be at least 1")
	f("statuscode: 200", "unknown field")
}

func TestExampleLoads(t *testing.T) {
	example, err := os.ReadFile("example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	x := pipelinetest.Open(t, string(example), Spec).Do("GET", "/health")
	if r := &x.Ctx.Response; r.StatusCode() != 200 || string(r.Body()) != `{"message":"OK"}` {
		t.Errorf("%d %q", r.StatusCode(), r.Body())
	}
}

func TestAnswers(t *testing.T) {
	const asJSON = "application/json; charset=utf-8"
	f := func(settings string, status int, contentType, body string) {
		t.Helper()
		g := pipelinetest.Open(t, document(settings), Spec)
		g.Service = func(*pipeline.Exchange) { t.Error("the service was called") }
		x := g.Do("POST", "/", "Accept", "text/html") // form C: the client has no say
		r := &x.Ctx.Response
		if r.StatusCode() != status || string(r.Body()) != body {
			t.Errorf("{%s}: %d %q, want %d %q", settings, r.StatusCode(), r.Body(), status, body)
		}
		if body != "" && string(r.Header.ContentType()) != contentType {
			t.Errorf("{%s}: Content-Type %q, want %q", settings, r.Header.ContentType(), contentType)
		}
		if x.Source != pipeline.SourceGateway {
			t.Errorf("{%s}: the answer is not the gateway's", settings)
		}
	}
	f("", 503, asJSON, `{"message":"Service unavailable"}`)
	f("status_code: 401", 401, asJSON, `{"message":"Unauthorized"}`)
	f("status_code: 404", 404, asJSON, `{"message":"Not found"}`)
	f("status_code: 405", 405, asJSON, `{"message":"Method not allowed"}`)
	f("status_code: 500", 500, asJSON, `{"message":"An unexpected error occurred"}`)
	f("status_code: 502", 502, asJSON, `{"message":"Bad Gateway"}`)
	f("status_code: 418", 418, asJSON, "")
	f("status_code: 200", 200, asJSON, "")
	f(`status_code: 410, message: 'gone "for good"'`, 410, asJSON, `{"message":"gone \"for good\""}`)
	f("message: Closed", 503, asJSON, `{"message":"Closed"}`)
	f(`body: '{"a":1}'`, 503, asJSON, `{"a":1}`)
	f("status_code: 200, body: <p>hi</p>, content_type: text/html", 200, "text/html", "<p>hi</p>")
}

func TestTrigger(t *testing.T) {
	g := pipelinetest.Open(t, document("trigger: x-stop"), Spec)
	f := func(uri string, want int, headers ...string) {
		t.Helper()
		if x := g.Do("GET", uri, headers...); x.Ctx.Response.StatusCode() != want {
			t.Errorf("%s %q: status %d, want %d", uri, headers, x.Ctx.Response.StatusCode(), want)
		}
	}
	f("/", 200)
	f("/x-stop", 200)
	f("/?a=x-stop", 200)
	f("/?X-Stop=1", 200) // argument names are exact
	f("/", 503, "X-Stop", "1")
	f("/", 503, "x-stop", "")
	f("/?x-stop", 503)
	f("/?a=1&x-stop=0", 503)
	f("/?x%2Dstop=0", 503)
}

func TestEcho(t *testing.T) {
	g := pipelinetest.Open(t, document("echo: true, status_code: 404"), Spec)
	if !g.Chain.BuffersRequest {
		t.Error("the body of an echoed request is not buffered")
	}
	x := g.Exchange("POST", "/users/7?a=1&b&a=2&c=%41", "X-One", "1", "X-Two", "a", "X-Two", "b", "Content-Type", "application/json")
	x.Ctx.Request.Header.SetHost("api.example.com:8443")
	x.Ctx.Request.SetBodyString(`{"k":[1]}`)
	x.Secure, x.Port = true, 8443
	x.Pattern = regexp.MustCompile(`/users/(?<id>\d+)`)
	g.Serve(x)
	if x.Ctx.Response.StatusCode() != 404 || string(x.Ctx.Response.Header.ContentType()) != "application/json; charset=utf-8" {
		t.Errorf("%d %s", x.Ctx.Response.StatusCode(), x.Ctx.Response.Header.ContentType())
	}
	var got map[string]any
	if err := json.Unmarshal(x.Ctx.Response.Body(), &got); err != nil {
		t.Fatalf("%v in %s", err, x.Ctx.Response.Body())
	}
	f := func(path string, want any) {
		t.Helper()
		var v any = got
		for name := range strings.SplitSeq(path, "/") {
			m, ok := v.(map[string]any)
			if !ok {
				t.Errorf("%s is not there", path)
				return
			}
			v = m[name]
		}
		if !reflect.DeepEqual(v, want) {
			t.Errorf("%s = %#v, want %#v", path, v, want)
		}
	}
	f("message", "Not found")
	f("kong/node_id", g.Env.Node.ID)
	f("kong/worker_pid", float64(os.Getpid()))
	f("request/scheme", "https")
	f("request/host", "api.example.com")
	f("request/port", 8443.0)
	f("request/method", "POST")
	f("request/path", "/users/7")
	f("request/headers/x-one", "1")
	f("request/headers/x-two", []any{"a", "b"})
	f("request/query/a", []any{"1", "2"})
	f("request/query/b", true)
	f("request/query/c", "A")
	f("request/raw_body", `{"k":[1]}`)
	f("request/body", map[string]any{"k": []any{1.0}})
	f("request/uri_captures/named", map[string]any{"id": "7"})
	f("request/uri_captures/unnamed", []any{"/users/7", "7"})
	f("matched_route/name", "r")
	f("matched_service/name", "a")
}

func TestEchoWithoutRouteOrBody(t *testing.T) {
	g := pipelinetest.Open(t, document("echo: true, message: Hi"), Spec)
	x := pipelinetest.NewExchange("GET", "/", "Host", "[2001:db8::1]")
	g.Serve(x)
	body := string(x.Ctx.Response.Body())
	if !json.Valid([]byte(body)) || strings.Contains(body, "matched_") || strings.Contains(body, "raw_body") || !strings.Contains(body, `"message":"Hi"`) {
		t.Errorf("body %s", body)
	}
}

func TestNoAllocations(t *testing.T) {
	f := func(settings, uri string) {
		t.Helper()
		g := pipelinetest.Open(t, document(settings), Spec)
		g.Allocs(g.Exchange("GET", uri), nil)
	}
	f("", "/")
	f("body: b, content_type: text/plain", "/")
	f("trigger: x-stop", "/?a=1&x-stop")
	f("trigger: x-stop", "/?a=1")
}
