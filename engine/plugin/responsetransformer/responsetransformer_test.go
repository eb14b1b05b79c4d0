package responsetransformer_test

import (
	_ "embed"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
	"github.com/sluice-gateway/sluice/engine/plugin/responsetransformer"
)

//go:embed example.yaml
var example string

const basic, advanced = "response-transformer", "response-transformer-advanced"

func open(t testing.TB, name, settings string) *pipelinetest.Gateway {
	t.Helper()
	doc := "_format_version: \"3.0\"\nplugins:\n- name: " + name + "\n  config:\n"
	for line := range strings.Lines(settings) {
		doc += "    " + line
	}
	return pipelinetest.Open(t, doc, responsetransformer.Advanced, responsetransformer.Spec)
}

// answer makes the service answer with this.
func answer(g *pipelinetest.Gateway, status int, contentType, body string) {
	g.Service = func(x *pipeline.Exchange) {
		r := &x.Ctx.Response
		r.SetStatusCode(status)
		r.Header.SetContentType(contentType)
		r.Header.Set("X-Powered-By", "php")
		r.Header.SetServer("nginx")
		r.SetBodyString(body)
		x.Target = "10.0.0.1:80"
	}
}

func header(x *pipeline.Exchange, name string) string {
	return string(x.Ctx.Response.Header.Peek(name))
}

func TestExample(t *testing.T) {
	g := pipelinetest.Open(t, example, responsetransformer.Spec)
	answer(g, 200, "text/html", "hi")
	x := g.Do("GET", "/orders")
	if header(x, "X-Powered-By") != "" || header(x, "X-Content-Type-Options") != "nosniff" || header(x, "X-Response-Time") != "0" {
		t.Errorf("headers:\n%s", x.Ctx.Response.Header.String())
	}
	if g.Chain.BuffersBody {
		t.Error("the body is buffered for headers")
	}
}

func TestHeaders(t *testing.T) {
	g := open(t, basic, `
remove: {headers: [Server]}
rename: {headers: ["X-Powered-By:X-Old"]}
replace: {headers: ["x-old:was $(headers.x_q)", "x-none:1"]}
add: {headers: ["x-old:no", "X-Server-ID:$(upstream_addr)", "X-Status:$(status)", "Surrogate-Key:user-$(user_id) tenant-$(tenant_id)"]}
append: {headers: ["X-Old:2"]}
`)
	answer(g, 203, "text/html", "hi")
	x := g.Do("GET", "/?user_id=7%0d%0aX-Evil:1", "X-Q", "q")
	f := func(name, want string) {
		t.Helper()
		var got []string
		for _, v := range x.Ctx.Response.Header.PeekAll(name) {
			got = append(got, string(v))
		}
		if s := strings.Join(got, "|"); s != want {
			t.Errorf("%s: %q, want %q", name, s, want)
		}
	}
	f("Server", "")
	f("X-Powered-By", "")
	f("X-Old", "was q|2")
	f("X-None", "")
	f("X-Server-Id", "10.0.0.1:80")
	f("X-Status", "203")
	f("Surrogate-Key", "user-7X-Evil:1 tenant-")
	f("X-Evil", "")
}

func TestJSON(t *testing.T) {
	g := open(t, basic, `
remove: {json: [secret]}
rename: {json: ["old:new"]}
replace: {json: ["n:1.5", "b:true"], json_types: [number, boolean]}
add: {json: ["s:x", "status:$(status)"], json_types: [string, number]}
append: {json: ["list:y"]}
`)
	f := func(status int, contentType, body, want string) {
		t.Helper()
		answer(g, status, contentType, body)
		x := g.Do("GET", "/")
		if got := string(x.Ctx.Response.Body()); got != want {
			t.Errorf("%d %s: %s\nwant %s", status, body, got, want)
		}
	}
	f(200, "application/json", `{"secret":1,"old":[1e5],"n":"","b":0,"list":["x"]}`,
		`{"new":[1e5],"n":1.5,"b":true,"list":["x","y"],"s":"x","status":200}`)
	f(500, "Application/JSON;charset=utf-8", `{}`, `{"s":"x","status":500,"list":["y"]}`)
	f(200, "application/json", `{"broken`, `{"broken`)
	f(200, "application/json", ``, ``)
	f(200, "text/plain", `{"secret":1}`, `{"secret":1}`)
	f(204, "application/json", ``, ``)
	if !g.Chain.BuffersBody {
		t.Error("the body is not buffered")
	}
}

func TestHeadAndEncodedStay(t *testing.T) {
	g := open(t, basic, "\nadd: {json: [\"a:b\"]}\n")
	answer(g, 200, "application/json", "{}")
	if x := g.Do("HEAD", "/"); string(x.Ctx.Response.Body()) != "{}" {
		t.Errorf("HEAD: body %q", x.Ctx.Response.Body())
	}
	g.Service = func(x *pipeline.Exchange) {
		x.Ctx.Response.Header.SetContentType("application/json")
		x.Ctx.Response.Header.SetContentEncoding("gzip")
		x.Ctx.Response.SetBodyString("{}")
	}
	if x := g.Do("GET", "/"); string(x.Ctx.Response.Body()) != "{}" {
		t.Errorf("gzip: body %q", x.Ctx.Response.Body())
	}
}

// What the gateway itself answers is changed too.
func TestGatewayAnswer(t *testing.T) {
	refuse := pipeline.Define("refuse", struct{}{}, func(struct{}, *pipeline.Env) (pipeline.Hooks, error) {
		reply := pipeline.NewJSONReply(401, "no")
		return pipeline.Hooks{Request: func(x *pipeline.Exchange) pipeline.Verdict { return x.Answer(reply) }}, nil
	})
	g := pipelinetest.Open(t, `
_format_version: "3.0"
plugins:
- name: refuse
- name: response-transformer
  config: {add: {headers: ["X-A:1"], json: ["code:$(status)"]}}
`, refuse, responsetransformer.Spec)
	x := g.Do("GET", "/")
	if got := string(x.Ctx.Response.Body()); header(x, "X-A") != "1" || got != `{"message":"no","code":"401"}` {
		t.Errorf("%s %s", header(x, "X-A"), got)
	}
}

func TestAdvanced(t *testing.T) {
	g := open(t, advanced, `
dots_in_keys: false
allow: {json: [error, list]}
remove: {headers: [Server], if_status: ["500-599", 404]}
replace: {json: ["error.code:9"], json_types: [number], if_status: ["500"]}
add: {json: ["list[1].ok:true"], json_types: [boolean]}
`)
	f := func(status int, body, want, server string) {
		t.Helper()
		answer(g, status, "application/json", body)
		x := g.Do("GET", "/")
		if got := string(x.Ctx.Response.Body()); got != want || header(x, "Server") != server {
			t.Errorf("%d %s: %s, Server %q\nwant %s", status, body, got, header(x, "Server"), want)
		}
	}
	const body = `{"x":1,"error":{"code":1},"list":[{},{}]}`
	f(500, body, `{"error":{"code":9},"list":[{"ok":true},{}]}`, "")
	f(404, body, `{"error":{"code":1},"list":[{"ok":true},{}]}`, "")
	f(200, body, `{"error":{"code":1},"list":[{"ok":true},{}]}`, "nginx")
	g = open(t, advanced, "\nreplace: {body: 'sorry, $(request_id)', if_status: [\"500\"]}\n")
	f(500, "<html>", "sorry, 0123456789abcdef0123456789abcdef", "nginx")
	f(200, "<html>", "<html>", "nginx")
}

func TestFaults(t *testing.T) {
	f := func(name, settings, path, message string) {
		t.Helper()
		doc := "_format_version: \"3.0\"\nplugins:\n- name: " + name + "\n  config:\n    " + settings + "\n"
		_, err := config.Read([]config.Source{{Name: "test.yaml", Data: []byte(doc)}},
			config.Options{Catalog: &pipeline.Specs{All: []pipeline.Spec{responsetransformer.Advanced, responsetransformer.Spec}}})
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), message) {
			t.Errorf("%s: %v\nwant %q, %q", settings, err, path, message)
		}
	}
	f(basic, `add: {headers: ["a:$(os.time())"]}`, "add.headers[0]", "function calls")
	f(basic, `rename: {headers: ["a:b c"]}`, "rename.headers[0]", "not a header name")
	f(basic, `add: {json: ["a:x"], json_types: [number]}`, "add.json[0]", "not a number")
	f(basic, `add: {json: ["a:x"], json_types: [boolean]}`, "add.json[0]", "not a boolean")
	f(basic, `replace: {body: x}`, "replace.body", "unknown field")
	f(advanced, `transform: {functions: ["return function() end"]}`, "transform.functions", "not supported")
	f(advanced, `add: {if_status: ["abc"]}`, "add.if_status[0]", "status code")
	f(advanced, `add: {if_status: ["599-500"]}`, "add.if_status[0]", "status code")
}

func TestAllocs(t *testing.T) {
	open(t, basic, `
remove: {headers: [x-powered-by, server]}
rename: {headers: ["x-old:x-new"]}
add: {headers: ["X-Response-Time:$(latencies.request)", "X-Server-ID:$(upstream_addr)", "X-Frame-Options:DENY"]}
`).Allocs(pipelinetest.NewExchange("GET", "/"), func(x *pipeline.Exchange) {
		x.Ctx.Response.Header.Set("X-Old", "1")
		x.Ctx.Response.Header.Set("X-Powered-By", "php")
	})
	g := open(t, basic, "\nremove: {json: [secret]}\nadd: {json: [\"id:$(request_id)\"]}\n")
	answer(g, 200, "application/json", `{"secret":1,"list":[1,2,{"a":"b"}]}`)
	g.Allocs(g.Exchange("GET", "/"), nil)
}

func BenchmarkSecurityHeaders(b *testing.B) {
	g := open(b, basic, `
remove: {headers: [x-powered-by]}
add: {headers: ["Strict-Transport-Security:max-age=31536000; includeSubDomains", "X-Content-Type-Options:nosniff", "X-Frame-Options:DENY", "X-Response-Time:$(latencies.request)"]}
`)
	x := g.Exchange("GET", "/")
	b.ReportAllocs()
	for b.Loop() {
		x.Ctx.Response.Reset()
		g.Chain.Response(x)
	}
}
