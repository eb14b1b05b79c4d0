package template_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
	"github.com/sluice-gateway/sluice/engine/template"
)

func exchange() *pipeline.Exchange {
	x := pipelinetest.NewExchange("GET", "/users/7?b=two%20words&user_id=u9&flag&b=3", "X-A", "alpha", "X-Under", "score", "X-Empty", "")
	x.Pattern = regexp.MustCompile(`^/users/(?P<id>\d+)`)
	g := &config.ConsumerGroup{Name: "gold"}
	s := &config.ConsumerGroup{Name: "silver"}
	x.Consumer = &pipeline.Consumer{
		Consumer: &config.Consumer{ID: "c-1", Username: "alice", CustomID: "a-42"},
		Groups:   []*config.ConsumerGroup{g, s},
	}
	x.Credential = &pipeline.Credential{ID: "k-1", Identifier: "key-7", Scope: "read write", Consumer: x.Consumer}
	x.Route = &config.Route{Name: "users"}
	x.Service = &config.Service{Name: "accounts"}
	return x
}

func render(t *testing.T, x *pipeline.Exchange, text string) string {
	t.Helper()
	c, err := template.Compile(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return string(c.Append(nil, x))
}

func TestExpressions(t *testing.T) {
	x := exchange()
	f := func(text, want string) {
		t.Helper()
		if got := render(t, x, text); got != want {
			t.Errorf("%s = %q, want %q", text, got, want)
		}
	}
	f("", "")
	f("plain $ text)", "plain $ text)")
	f(`$(headers["x-a"])`, "alpha")
	f(`$(headers['X-A'])`, "alpha")
	f("$(headers.x_a)", "alpha")
	f(`$( headers . x_under )`, "score")
	f("$(headers.missing)", "")
	f(`Basic $(query_params["b"])!`, "Basic two words!")
	f("$(query_params.b)", "two words")
	f("$(query_params.flag)", "true")
	f(`$(uri_captures["id"])-$(uri_captures.id)-$(uri_captures[1])`, "7-7-7")
	f("$(uri_captures[2])", "")
	f("$(shared.x)", "")
	f("$(shared.x.y)", "")
	f(`$(headers.missing or query_params.none or "none")`, "none")
	f(`$(headers["x-a"] or query_params.b or "none")`, "alpha")
	f(`$(headers.x_empty or "none")`, "") // an empty string is true in Lua
	f(`$(headers.x_a and "yes" or "no")`, "yes")
	f(`$(headers.missing and "yes" or "no")`, "no")
	f(`$(nil or false)`, "")
	f(`$(true)`, "true")
	f(`$("a" .. headers.x_a .. 1 .. ")")`, "aalpha1)")
	f(`$(("a") .. (headers.missing or 'b'))`, "ab")
	f(`$(1.0) $(1.50) $(1e3) $(12)`, "1 1.5 1000 12")
	f(`$('$(literal)')`, "$(literal)")
	f(`$("q\"\\")`, `q"\`)
	f(`$(user_id)`, "u9")
	f(`$(id)`, "7")
	f(`$(tenant_id)`, "")
	f(`$(tenant.id.x)`, "")
	f(`$(orange)`, "") // no operator within a name
}

func TestFacts(t *testing.T) {
	x := exchange()
	f := func(text, want string) {
		t.Helper()
		if got := render(t, x, text); got != want {
			t.Errorf("%s = %q, want %q", text, got, want)
		}
	}
	f("$(request_id)", "0123456789abcdef0123456789abcdef")
	f("$(consumer_id) $(consumer_username) $(consumer_custom_id) $(consumer_groups)", "c-1 alice a-42 gold,silver")
	f("$(authenticated_credential.id) $(authenticated_credential.key) $(authenticated_credential.scope)", "k-1 key-7 read write")
	f("$(remote_addr)", "192.0.2.1")
	f("$(service.name)/$(route.name)", "accounts/users")
	f(`$(status or "none") $(upstream_addr or "none") $(latencies.proxy or "none")`, "none none none")

	x.Source, x.Target = pipeline.SourceService, "10.0.0.1:8080"
	x.Ctx.Response.SetStatusCode(418)
	x.Start, x.UpstreamStart, x.UpstreamHeaders, x.End = 1e9, 1e9+5e6, 1e9+25e6, 1e9+40e6
	f("$(status) $(upstream_addr)", "418 10.0.0.1:8080")
	f("$(latencies.request) $(latencies.proxy) $(latencies.kong)", "40 20 5")

	uuid := regexp.MustCompile(`^([0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}) (.*)$`)
	m := uuid.FindStringSubmatch(render(t, x, "$(uuid) $(uuid)"))
	if m == nil || m[1] == m[2] {
		t.Errorf("uuids: %q", m)
	}
	stamp := render(t, x, "$(timestamp)")
	if !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$`).MatchString(stamp) {
		t.Errorf("timestamp %q", stamp)
	}

	x.Consumer, x.Credential, x.Route, x.Service = nil, nil, nil, nil
	f("[$(consumer_id)$(consumer_groups)$(authenticated_credential.scope)$(service.name)$(route.name)]", "[]")
}

func TestSyntaxErrors(t *testing.T) {
	f := func(text string, column int, reason string) {
		t.Helper()
		_, err := template.Compile(text)
		var e *template.SyntaxError
		if !errors.As(err, &e) {
			t.Errorf("%s: error %v", text, err)
			return
		}
		if e.Column != column || !strings.Contains(e.Reason, reason) {
			t.Errorf("%s: column %d, %q; want %d, %q", text, e.Column, e.Reason, column, reason)
		}
		if !strings.Contains(err.Error(), "query_params") {
			t.Errorf("%v: does not say what is supported", err)
		}
	}
	f("$(", 3, "ends here")
	f("a $()", 5, "unexpected")
	f("$(headers", 3, "is a table")
	f("$(headers.x", 12, "missing closing parenthesis")
	f("$(string.lower(headers.x))", 15, "function calls")
	f(`$(headers["x"]:lower())`, 15, "function calls")
	f("$(a == 1)", 5, "operator that is not supported")
	f("$(a + 1)", 5, "operator that is not supported")
	f("$(not a)", 3, "not supported")
	f("$(function() end)", 3, "not supported")
	f("$('open)", 3, "no end")
	f(`$("\x41")`, 5, "escape")
	f("$(0x10)", 3, "malformed number")
	f("$(1..2)", 3, "malformed number")
	f("$(headers[)", 11, "expected a string")
	f("$(headers['a')", 14, "bracket")
	f("$(headers.)", 11, "expected a name")
	f("$(jwt.sub)", 3, "JWT")
	f("$(latencies.foo)", 3, "kong, proxy, request")
	f("$(latencies)", 3, "kong, proxy, request")
	f("$(authenticated_credential.username)", 3, "id, key, scope")
	f("$(a or)", 7, "unexpected")
	f("$("+strings.Repeat("(", 100), 67, "too many")
}

func TestLiteral(t *testing.T) {
	f := func(text, want string, ok bool) {
		t.Helper()
		c, err := template.Compile(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, isLiteral := c.Literal(); got != want || isLiteral != ok {
			t.Errorf("%s: %q, %v", text, got, isLiteral)
		}
	}
	f("", "", true)
	f("abc", "abc", true)
	f("a$('b')c", "abc", true)
	f("a$(uuid)", "", false)
	c, err := template.Compile("/a?$(uuid)")
	if err != nil || !c.Mentions("?") || c.Mentions("#") {
		t.Errorf("Mentions is wrong (%v)", err)
	}
}

func BenchmarkAppend(b *testing.B) {
	x := exchange()
	c, err := template.Compile(`$(headers["x-a"] or query_params.b or "none") $(consumer_username)`)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	var buf []byte
	for b.Loop() {
		buf = c.Append(buf[:0], x)
	}
}

func FuzzCompile(f *testing.F) {
	for _, s := range []string{
		"", "a", "$(", "$(uuid)", `$(headers["x-a"] or query_params.b or "none")`, "$('$(literal)')", "$(a.b.c[1]['x'])",
		"$(1.5 .. 2)", "$((((a))))", "$(a and b or c)", `$("\n")`, "$(headers.x..headers.y)",
	} {
		f.Add(s)
	}
	x := exchange()
	f.Fuzz(func(t *testing.T, text string) {
		c, err := template.Compile(text)
		if err != nil {
			var e *template.SyntaxError
			if !errors.As(err, &e) || e.Column < 1 || e.Column > len(text)+1 || e.Reason == "" || !strings.HasPrefix(e.Expression, "$(") {
				t.Fatalf("%q: bad error %#v", text, err)
			}
			return
		}
		got := c.Append([]byte("kept"), x)
		if !strings.HasPrefix(string(got), "kept") {
			t.Fatalf("%q: the buffer was overwritten", text)
		}
		if s, ok := c.Literal(); ok && s != string(got[4:]) {
			t.Fatalf("%q: literal %q, rendered %q", text, s, got[4:])
		}
		if !strings.Contains(text, "$(") && string(got[4:]) != text {
			t.Fatalf("%q: plain text changed to %q", text, got[4:])
		}
	})
}
