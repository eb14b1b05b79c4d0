package requesttransformer_test

import (
	_ "embed"
	"regexp"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
	"github.com/sluice-gateway/sluice/engine/plugin/requesttransformer"
)

//go:embed example.yaml
var example string

func open(t testing.TB, name, settings string) *pipelinetest.Gateway {
	t.Helper()
	doc := "_format_version: \"3.0\"\nplugins:\n- name: " + name + "\n  config:\n"
	for line := range strings.Lines(settings) {
		doc += "    " + line
	}
	return pipelinetest.Open(t, doc, requesttransformer.Advanced, requesttransformer.Spec)
}

const basic, advanced = "request-transformer", "request-transformer-advanced"

func header(x *pipeline.Exchange, name string) string { return string(x.Ctx.Request.Header.Peek(name)) }

func TestExample(t *testing.T) {
	g := pipelinetest.Open(t, example, requesttransformer.Spec)
	x := g.Do("GET", "/orders", "X-Internal-Secret", "s", "User-Agent", "curl")
	if got := header(x, "X-Internal-Secret"); got != "" {
		t.Errorf("secret passed: %q", got)
	}
	if got := header(x, "User-Agent"); got != "gateway/1.0" {
		t.Errorf("User-Agent %q", got)
	}
	if got := header(x, "X-Request-Id"); len(got) != 36 {
		t.Errorf("X-Request-ID %q", got)
	}
	if got := header(x, "X-Consumer"); got != "anonymous" {
		t.Errorf("X-Consumer %q", got)
	}
}

// Every operation sees what those before it left, and templates what the client sent.
func TestOrderAndSnapshot(t *testing.T) {
	g := open(t, basic, `
http_method: POST
remove: {headers: [a], querystring: [a]}
rename: {headers: ["B:A"], querystring: ["b:a"]}
replace: {headers: ["a:was $(headers.a)"], querystring: ["a:was $(query_params.a)"]}
add: {headers: ["a:no", "B:again $(headers.b)"], querystring: ["b:again $(query_params.b)"]}
append: {headers: ["B:2", "C:3"], querystring: ["b:2", "c:3"]}
`)
	x := g.Do("GET", "/?a=1&b=2&x=%7e", "A", "1", "B", "2")
	if got := string(x.Method()); got != "POST" {
		t.Errorf("method %q", got)
	}
	if got := header(x, "A"); got != "was 1" {
		t.Errorf("A %q", got)
	}
	var b []string
	for _, v := range x.Ctx.Request.Header.PeekAll("B") {
		b = append(b, string(v))
	}
	if got := strings.Join(b, "|"); got != "again 2|2" {
		t.Errorf("B %q", got)
	}
	if got := header(x, "C"); got != "3" {
		t.Errorf("C %q", got)
	}
	if got := string(x.Query); got != "a=was%201&x=%7e&b=again%202&b=2&c=3" {
		t.Errorf("query %q", got)
	}
}

func TestNothingToDo(t *testing.T) {
	g := open(t, basic, `
remove: {headers: [x-none], querystring: [none]}
replace: {headers: ["x-none:1"], querystring: ["none:1"]}
`)
	x := g.Exchange("GET", "/?a=%41&&b", "X-A", "1")
	before := &x.Query[0]
	g.Serve(x)
	if string(x.Query) != "a=%41&&b" || &x.Query[0] != before {
		t.Errorf("query %q was touched", x.Query)
	}
	if x.UpstreamPath != nil || x.UpstreamHost != nil {
		t.Errorf("path %q, host %q", x.UpstreamPath, x.UpstreamHost)
	}
}

func TestHost(t *testing.T) {
	g := open(t, basic, `
replace: {headers: ["Host:$(headers.x_tenant).internal:8080"]}
`)
	x := g.Do("GET", "/", "X-Tenant", "t1")
	if got := string(x.UpstreamHost); got != "t1.internal:8080" {
		t.Errorf("host %q", got)
	}
	for _, bad := range []string{"a@b", "a/b", "a b", "a\\b"} {
		if x := g.Do("GET", "/", "X-Tenant", bad); x.UpstreamHost != nil {
			t.Errorf("%q made the host %q", bad, x.UpstreamHost)
		}
	}
	g = open(t, basic, `
remove: {headers: [Host]}
rename: {headers: ["X-A:Host", "Host:X-A"]}
add: {headers: ["Host:no"]}
append: {headers: ["Host:no"]}
`)
	x = g.Do("GET", "/", "X-A", "evil")
	if got := header(x, "Host"); got != "api.example.com" || x.UpstreamHost != nil {
		t.Errorf("host %q, upstream %q", got, x.UpstreamHost)
	}
}

func TestForwardedMayBeSet(t *testing.T) {
	g := open(t, basic, "\nadd: {headers: [\"X-Forwarded-Proto:https\"]}\n")
	if got := header(g.Do("GET", "/"), "X-Forwarded-Proto"); got != "https" {
		t.Errorf("X-Forwarded-Proto %q", got)
	}
}

func TestNoHeaderInjection(t *testing.T) {
	g := open(t, basic, `
add: {headers: ["X-New:$(query_params.v)", "X-Lit:$('a\r\nX-Evil: 1')"]}
`)
	x := g.Do("GET", "/?v=a%0d%0aX-Evil:%201%00")
	head := x.Ctx.Request.Header.String()
	if strings.Contains(head, "\nX-Evil") || strings.Contains(head, "\x00") {
		t.Errorf("injected:\n%s", head)
	}
	if got := header(x, "X-New"); got != "aX-Evil: 1" {
		t.Errorf("X-New %q", got)
	}
}

func TestURI(t *testing.T) {
	f := func(uri, request, want string) {
		t.Helper()
		g := open(t, basic, "\nreplace: {uri: '"+uri+"'}\n")
		x := g.Exchange("GET", request)
		x.Pattern = regexp.MustCompile(`^/u/(?P<id>.*)$`)
		g.Serve(x)
		got := string(x.UpstreamPath)
		if x.Source == pipeline.SourceGateway {
			got = "refused"
		}
		if got != want {
			t.Errorf("%s for %s: %q, want %q", uri, request, got, want)
		}
	}
	f("/fixed", "/u/7?a=1", "/fixed")
	f("/v2/$(uri_captures.id)/x", "/u/7/8", "/v2/7/8/x")
	f("v2/$(uri_captures[1])", "/u/7", "/v2/7")
	f("/v2/$(query_params.p)", "/u/7?p=a%20b%3Fq%23%0d%0a", "/v2/a%20b%3Fq%23%0D%0A")
	f("/v2/$(query_params.p)", "/u/7?p=..%2Fadmin", "refused")
	f("/v2/$(query_params.p)", "/u/7?p=%252e%252E/admin", "refused")
	f("/v2/$(query_params.p)", "/u/7?p=a..b", "/v2/a..b")
}

func TestJSONBody(t *testing.T) {
	g := open(t, basic, `
remove: {body: [internal]}
rename: {body: ["old:new"]}
replace: {body: ["version:v2"]}
add: {body: ["id:$(request_id)"]}
append: {body: ["tags:x"]}
`)
	f := func(contentType, body, want string) {
		t.Helper()
		x := g.Exchange("POST", "/", "Content-Type", contentType)
		x.Ctx.Request.SetBodyString(body)
		g.Serve(x)
		if got := string(x.Ctx.Request.Body()); got != want {
			t.Errorf("%s: %s\nwant %s", body, got, want)
		}
		if n := x.Ctx.Request.Header.ContentLength(); want != body && n != len(want) {
			t.Errorf("%s: Content-Length %d, want %d", body, n, len(want))
		}
	}
	const id = `"id":"0123456789abcdef0123456789abcdef"`
	f("application/json", `{"internal":1,"old":[1,2.0],"version":"v1"}`, `{"new":[1,2.0],"version":"v2",`+id+`,"tags":["x"]}`)
	f("Application/JSON; charset=utf-8", ``, `{`+id+`,"tags":["x"]}`)
	f("application/json", `{"broken`, `{"broken`)
	f("text/plain", `{"internal":1}`, `{"internal":1}`)
	f("application/x-www-form-urlencoded", "internal=1&old=a%20b&version=v1", "new=a%20b&version=v2&id=0123456789abcdef0123456789abcdef&tags=x")
	if !g.Chain.BuffersRequest {
		t.Error("the body is not buffered")
	}
	if open(t, basic, "\nadd: {headers: [\"a:b\"]}\n").Chain.BuffersRequest {
		t.Error("the body is buffered for headers")
	}
}

func TestEncodedBodyStays(t *testing.T) {
	g := open(t, basic, "\nadd: {body: [\"a:b\"]}\n")
	x := g.Exchange("POST", "/", "Content-Type", "application/json", "Content-Encoding", "gzip")
	x.Ctx.Request.SetBodyString("{}")
	g.Serve(x)
	if got := string(x.Ctx.Request.Body()); got != "{}" {
		t.Errorf("body %q", got)
	}
}

func TestMultipart(t *testing.T) {
	g := open(t, basic, `
remove: {body: [gone]}
rename: {body: ["old:new"]}
replace: {body: ["version:v2"]}
add: {body: ["id:7", "version:no"]}
append: {body: ["version:no"]}
`)
	part := func(name, value string) string {
		return "--b\r\nContent-Disposition: form-data; " + name + "\r\n\r\n" + value + "\r\n"
	}
	f := func(body, want string) {
		t.Helper()
		x := g.Exchange("POST", "/", "Content-Type", "multipart/form-data; boundary=b")
		x.Ctx.Request.SetBodyString(body)
		g.Serve(x)
		if got := string(x.Ctx.Request.Body()); got != want {
			t.Errorf("%q:\ngot  %q\nwant %q", body, got, want)
		}
	}
	f(part(`name="gone"`, "1")+part(`filename="name=x;"; name="old"`, "--c\r\n--bin")+part(`name=version`, "v1")+"--b--\r\n",
		part(`filename="name=x;"; name="new"`, "--c\r\n--bin")+part(`name="version"`, "v2")+part(`name="id"`, "7")+"--b--\r\n")
	f(part(`name="x"`, "")+"--b--", part(`name="x"`, "")+part(`name="id"`, "7")+part(`name="version"`, "no")+"--b--\r\n")
	f(part(`name="gone"`, "cut short"), part(`name="gone"`, "cut short"))
	f("", "")
}

func TestMethodMovesForm(t *testing.T) {
	g := open(t, basic, "\nhttp_method: GET\nadd: {querystring: [\"z:1\"]}\n")
	x := g.Exchange("POST", "/?a=1", "Content-Type", "application/x-www-form-urlencoded")
	x.Ctx.Request.SetBodyString("b=2&c=%20\r\n#")
	g.Serve(x)
	if got := string(x.Query); got != "a=1&b=2&c=%20&z=1" || !x.HasQuery {
		t.Errorf("query %q", got)
	}
	if len(x.Ctx.Request.Body()) > 0 || string(x.Method()) != "GET" {
		t.Errorf("%s with body %q", x.Method(), x.Ctx.Request.Body())
	}
	x = g.Exchange("POST", "/?a=1", "Content-Type", "application/json")
	x.Ctx.Request.SetBodyString("{}")
	g.Serve(x)
	if string(x.Query) != "a=1&z=1" || string(x.Ctx.Request.Body()) != "{}" {
		t.Errorf("query %q, body %q", x.Query, x.Ctx.Request.Body())
	}
}

func TestAdvanced(t *testing.T) {
	g := open(t, advanced, `
dots_in_keys: false
allow: {body: [a, list]}
replace: {body: ["a.n:5"], json_types: [number]}
add: {body: ["list[*].ok:true", "a.s:x"], json_types: [boolean, string]}
`)
	f := func(contentType, body, want string) {
		t.Helper()
		x := g.Exchange("POST", "/", "Content-Type", contentType)
		x.Ctx.Request.SetBodyString(body)
		g.Serve(x)
		if got := string(x.Ctx.Request.Body()); got != want {
			t.Errorf("%s: %s\nwant %s", body, got, want)
		}
	}
	f("application/json", `{"a":{"n":1},"x":2,"list":[{},{"ok":false}]}`, `{"a":{"n":5,"s":"x"},"list":[{"ok":true},{"ok":false}]}`)
	f("application/x-www-form-urlencoded", "a=1", "a=1") // JSON only
}

func TestFaults(t *testing.T) {
	f := func(name, settings, path, message string) {
		t.Helper()
		doc := "_format_version: \"3.0\"\nplugins:\n- name: " + name + "\n  config:\n    " + settings + "\n"
		_, err := config.Read([]config.Source{{Name: "test.yaml", Data: []byte(doc)}},
			config.Options{Catalog: &pipeline.Specs{All: []pipeline.Spec{requesttransformer.Advanced, requesttransformer.Spec}}})
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), message) {
			t.Errorf("%s: %v\nwant %q, %q", settings, err, path, message)
		}
	}
	f(basic, `add: {headers: ["a:$(foo()"]}`, "add.headers[0]", "function calls")
	f(basic, `add: {headers: ["ok:1", "bad"]}`, "add.headers[1]", "expected name:value")
	f(basic, `add: {headers: ["b d:1"]}`, "add.headers[0]", "not a header name")
	f(basic, `rename: {headers: ["a:b d"]}`, "rename.headers[0]", "not a header name")
	f(basic, `rename: {querystring: ["a:"]}`, "rename.querystring[0]", "expected a name")
	f(basic, `remove: {headers: ["b d"]}`, "remove.headers[0]", "not a header name")
	f(basic, `http_method: get`, "http_method", "upper-case")
	f(basic, `replace: {uri: "/a?b=c"}`, "replace.uri", "add.querystring")
	f(basic, `replace: {uri: "/$(jwt.sub)"}`, "replace.uri", "JWT")
	f(basic, `add: {body: ["a:1"], json_types: [number]}`, "add.json_types", "unknown field")
	f(advanced, `add: {body: ["a:x"], json_types: [number]}`, "add.body[0]", "not a number")
	f(advanced, `add: {body: ["a:1"], json_types: [number, number]}`, "add.json_types", "more types")
	f(advanced, `add: {body: ["a:1"], json_types: [date]}`, "add.json_types[0]", "expected one of")
	f(advanced, `{dots_in_keys: false, remove: {body: ["a[x]"]}}`, "remove.body[0]", "index")
}

func TestAllocs(t *testing.T) {
	open(t, basic, `
remove: {headers: [x-internal]}
replace: {headers: ["user-agent:gateway"]}
`).Allocs(pipelinetest.NewExchange("GET", "/"), func(x *pipeline.Exchange) {
		x.Ctx.Request.Header.Set("X-Internal", "1")
	})
	g := open(t, basic, `
rename: {headers: ["x-a:x-b"]}
add: {headers: ["x-id:$(uuid)", "x-from:$(headers.x_a or query_params.a)"], querystring: ["b:$(remote_addr)"], body: ["id:$(request_id)"]}
replace: {uri: "/v2/$(query_params.a)", headers: ["host:$(query_params.a).internal"]}
`)
	query := []byte("a=1&c=2")
	g.Allocs(g.Exchange("POST", "/?a=1", "Content-Type", "application/json"), func(x *pipeline.Exchange) {
		x.Query = query
		h := &x.Ctx.Request.Header
		h.Set("X-A", "1")
		h.Del("X-Id")
		h.Del("X-From")
		x.Ctx.Request.SetBodyString(`{"a":1}`)
	})
}

func BenchmarkHeaders(b *testing.B) {
	g := open(b, basic, `
remove: {headers: [x-internal]}
replace: {headers: ["user-agent:gateway"]}
add: {headers: ["x-request-id:$(request_id)", "x-consumer:$(consumer_username or 'none')"]}
`)
	x := g.Exchange("GET", "/", "User-Agent", "curl", "X-Internal", "1")
	b.ReportAllocs()
	for b.Loop() {
		g.Chain.Request(x)
	}
}

// FuzzMultipart: whatever the body, the plugin neither panics nor leaves a field
// it was told to remove in a body that it changed.
func FuzzMultipart(f *testing.F) {
	f.Add("--b\r\nContent-Disposition: form-data; name=\"gone\"\r\n\r\n1\r\n--b--\r\n")
	f.Add("--b\r\n\r\n\r\n--b--")
	f.Add("x\r\n--b\r\nContent-Disposition: form-data; name=\r\n\r\n\r\n--b\r\n--b--")
	g := open(f, basic, "\nremove: {body: [gone]}\nrename: {body: [\"old:new\"]}\nadd: {body: [\"id:7\"]}\n")
	f.Fuzz(func(t *testing.T, body string) {
		x := g.Exchange("POST", "/", "Content-Type", "multipart/form-data; boundary=b")
		x.Ctx.Request.SetBodyString(body)
		g.Serve(x)
		got := string(x.Ctx.Request.Body())
		if got != body && !strings.HasSuffix(got, "--b--\r\n") {
			t.Fatalf("%q became %q", body, got)
		}
		x.Ctx.Request.SetBodyString(got)
		g.Serve(x)
		if again := string(x.Ctx.Request.Body()); again != got {
			t.Fatalf("not stable: %q, then %q", got, again)
		}
	})
}
