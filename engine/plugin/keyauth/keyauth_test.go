package keyauth

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime/multipart"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
)

func document(settings string) string {
	return `
_format_version: "3.0"
services:
- {name: a, url: "http://a.internal"}
consumers:
- username: bob
  custom_id: b-1
  keyauth_credentials:
  - key: bobs-key
  - key: "a b+c%&="
- username: eve
  keyauth_credentials:
  - {key: old-key, ttl: 60, created_at: 1600000000}
  - {key: fresh-key, ttl: 60}
- username: anyone
plugins:
- name: key-auth
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
	f(`key_names: [apikey, "a b"]`, "key_names[1]: bad header name 'a b', allowed characters are A-Z, a-z, 0-9, '_', and '-'")
	f(`key_names: [""]`, "key_names[0]: no header name provided")
	f("key_in_body: 1", "key_in_body: expected a boolean")
	f(`anonymous: ""`, "anonymous: length must be at least 1")
	f(`realm: 'a"b'`, "realm: must hold no control characters")
	f(`realm: "a\r\nSet-Cookie: x"`, "realm: must hold no control characters")
	f("key_name: apikey", "unknown field")
}

func TestExampleLoads(t *testing.T) {
	example, err := os.ReadFile("example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	g := pipelinetest.Open(t, string(example), Spec)
	if x := g.Do("GET", "/orders"); x.Ctx.Response.StatusCode() != 401 {
		t.Errorf("without a key: status %d", x.Ctx.Response.StatusCode())
	}
	x := g.Do("GET", "/orders", "X-API-Key", "example-key-change-me")
	if x.Ctx.Response.StatusCode() != 200 || x.Consumer == nil || x.Consumer.Username != "mobile-app" {
		t.Errorf("with the key: status %d", x.Ctx.Response.StatusCode())
	}
}

const (
	missing   = "No API key found in request"
	duplicate = "Duplicate API key found"
	unknown   = "Unauthorized"
)

// expect checks that x was let through as the consumer want, or refused with the
// message want.
func expect(t *testing.T, x *pipeline.Exchange, want string) {
	t.Helper()
	r := &x.Ctx.Response
	switch want {
	case missing, duplicate, unknown:
		body := "{\n  \"message\":\"" + want + "\",\n  \"request_id\":\"0123456789abcdef0123456789abcdef\"\n}"
		if r.StatusCode() != 401 || string(r.Body()) != body || string(r.Header.ContentType()) != "application/json; charset=utf-8" {
			t.Errorf("%d %q, want 401 %s", r.StatusCode(), r.Body(), want)
		}
		if challenge := string(r.Header.Peek("WWW-Authenticate")); challenge != "Key" {
			t.Errorf("WWW-Authenticate = %q, want Key", challenge)
		}
		if x.Consumer != nil || x.Credential != nil || x.Source != pipeline.SourceGateway {
			t.Error("a refused caller has a consumer, or reached the service")
		}
	default:
		if r.StatusCode() != 200 || x.Consumer == nil || x.Consumer.Username != want {
			t.Errorf("%d %q, consumer %v, want %s", r.StatusCode(), r.Body(), x.Consumer, want)
		}
	}
}

func TestWhereTheKeyIs(t *testing.T) {
	f := func(settings, uri, want string, headers ...string) {
		t.Helper()
		expect(t, pipelinetest.Open(t, document(settings), Spec).Do("GET", uri, headers...), want)
	}
	f("", "/", missing)
	f("", "/", "bob", "apikey", "bobs-key")
	f("", "/", "bob", "APIKey", "bobs-key")
	f("", "/", unknown, "apikey", "bobs-keY")
	f("", "/", unknown, "apikey", "bobs-key2")
	f("", "/", missing, "apikey", "")
	f("", "/", duplicate, "apikey", "bobs-key", "apikey", "bobs-key")
	f("", "/", missing, "X-API-Key", "bobs-key")
	f("", "/?apikey=bobs-key", "bob")
	f("", "/?a=1&apikey=bobs-key&b", "bob")
	f("", "/?api%6bey=bobs%2dkey", "bob")
	f("", "/?apikey=a+b%2Bc%25%26=", "bob")
	f("", "/?apikey=a%20b%2Bc%25%26%3d", "bob")
	f("", "/?apikey=bobs-key&apikey=bobs-key", duplicate)
	f("", "/?apikey&apikey=bobs-key", duplicate)
	f("", "/?apikey", missing)
	f("", "/?apikey=", missing)
	f("", "/?APIKEY=bobs-key", missing) // argument names are exact
	f("", "/?apikey="+strings.Repeat("%41", 4000), unknown)
	f("", "/?apikey=bobs-key", unknown, "apikey", "wrong") // the header comes first
	f("key_in_header: false", "/?apikey=bobs-key", "bob", "apikey", "wrong")
	f("key_in_header: false", "/", missing, "apikey", "bobs-key")
	f("key_in_query: false", "/?apikey=bobs-key", missing)
	f("key_names: [one, two]", "/", "bob", "two", "bobs-key")
	f("key_names: [one, two]", "/?one=bobs-key", "bob", "two", "wrong") // names come before places
	f("key_names: [one, two]", "/", unknown, "one", "wrong", "two", "bobs-key")
	f("key_names: [api_key]", "/", "bob", "api-key", "bobs-key") // as nginx reads header names
	f("key_names: [api_key]", "/", "bob", "api_key", "bobs-key")
	f("key_names: [api_key]", "/", duplicate, "api_key", "bobs-key", "api-key", "bobs-key")
	f("key_names: [api_key]", "/?api-key=bobs-key", missing)
	f("", "/", unknown, "apikey", "old-key")
	f("", "/", "eve", "apikey", "fresh-key")
	f("key_names: []", "/", missing, "apikey", "bobs-key")
}

func withBody(g *pipelinetest.Gateway, uri, contentType, body string, headers ...string) *pipeline.Exchange {
	x := g.Exchange("POST", uri, headers...)
	x.Ctx.Request.Header.SetContentType(contentType)
	x.Ctx.Request.SetBodyString(body)
	return x
}

const (
	form      = "application/x-www-form-urlencoded"
	multiPart = "multipart/form-data; boundary=XX"
)

func parts(fields ...string) string {
	var b strings.Builder
	for i := 0; i+1 < len(fields); i += 2 {
		fmt.Fprintf(&b, "--XX\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n%s\r\n", fields[i], fields[i+1])
	}
	return b.String() + "--XX--\r\n"
}

func TestKeyInBody(t *testing.T) {
	g := pipelinetest.Open(t, document("key_in_body: true"), Spec)
	if !g.Chain.BuffersRequest {
		t.Error("the body is not buffered")
	}
	f := func(contentType, body, want string) {
		t.Helper()
		x := withBody(g, "/", contentType, body)
		g.Serve(x)
		expect(t, x, want)
		if got := string(x.Ctx.Request.Body()); got != body {
			t.Errorf("the body became %q", got)
		}
	}
	f(form, "a=1&apikey=bobs-key", "bob")
	f(form+"; charset=utf-8", "apikey=bobs%2Dkey", "bob")
	f("Application/X-WWW-Form-Urlencoded", "apikey=bobs-key", "bob")
	f(form, "apikey=x&apikey=bobs-key", duplicate)
	f(form, "a=1", missing)
	f(form, "", missing)
	f("text/plain", "apikey=bobs-key", missing)
	f("", "apikey=bobs-key", missing)

	const asJSON = "application/json"
	f(asJSON, `{"apikey":"bobs-key"}`, "bob")
	f(asJSON, " {\n \"a\" : [1,{\"apikey\":\"x\"},\"}\"] ,\"apikey\"\t: \"bobs-key\" , \"b\": null } ", "bob")
	f(asJSON, `{"apike\u0079":"bobs\u002dkey"}`, "bob")
	f(asJSON, `{"a":"\"apikey\":\"bobs-key\""}`, missing)
	f(asJSON, `{"apikey":["bobs-key"]}`, duplicate)
	f(asJSON, `{"apikey":{"a":"bobs-key"}}`, duplicate)
	f(asJSON, `{"apikey":"bobs-key","apikey":"bobs-key"}`, duplicate)
	f(asJSON, `{"apikey":1}`, missing)
	f(asJSON, `{"apikey":null}`, missing)
	f(asJSON, `{"apikey":""}`, missing)
	f(asJSON, `["apikey","bobs-key"]`, missing)
	f(asJSON, `"apikey"`, missing)
	f(asJSON, `{"apikey"`, missing)
	f(asJSON, `{"apikey":`, missing)
	f(asJSON, `{"apikey":"`, missing)
	f(asJSON, `{`, missing)
	f(asJSON, `{}`, missing)
	f(asJSON, ``, missing)
	f(asJSON, `,"apikey":"bobs-key"}`, missing)

	f(multiPart, parts("apikey", "bobs-key"), "bob")
	f(multiPart, "preamble\r\n"+parts("a", "--XX is not alone on its line", "apikey", "bobs-key", "b", ""), "bob")
	f(multiPart, parts("a", "1"), missing)
	f(multiPart, parts("apikey", ""), missing)
	f(multiPart, parts("apikey", "bobs-key", "apikey", "bobs-key"), duplicate)
	f(multiPart, "--XX\r\ncontent-disposition: form-data; name=apikey; filename=\"a\"\r\nContent-Type: text/plain\r\n\r\nbobs-key\r\n--XX--", "bob")
	f(multiPart, "--XX\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n--XXY\r\nContent-Disposition: form-data; name=\"apikey\"\r\n\r\nbobs-key\r\n--XX--", missing)
	f("multipart/form-data", parts("apikey", "bobs-key"), missing)
	f(multiPart, "--XX\r\n", missing)
	f(multiPart, "", missing)

	x := withBody(g, "/?apikey=old-key", form, "apikey=bobs-key")
	g.Serve(x)
	expect(t, x, unknown) // the query comes before the body
}

func TestBodyIsLeftAloneByDefault(t *testing.T) {
	g := pipelinetest.Open(t, document(""), Spec)
	if g.Chain.BuffersRequest {
		t.Error("the body is buffered for nothing")
	}
	x := withBody(g, "/", form, "apikey=bobs-key")
	g.Serve(x)
	expect(t, x, missing)
}

func TestWhatTheServiceSees(t *testing.T) {
	g := pipelinetest.Open(t, document(""), Spec)
	x := g.Do("GET", "/?apikey=bobs-key&z=1", "X-Consumer-ID", "forged", "X-Consumer-ID", "again", "X-Anonymous-Consumer", "true", "X-Consumer-Custom-ID", "forged")
	f := func(header, want string) {
		t.Helper()
		if got := bytes.Join(x.Ctx.Request.Header.PeekAll(header), []byte("|")); string(got) != want {
			t.Errorf("%s = %q, want %q", header, got, want)
		}
	}
	bob := g.Env.Consumers.Find("bob")
	f("X-Consumer-ID", bob.ID)
	f("X-Consumer-Custom-ID", "b-1")
	f("X-Consumer-Username", "bob")
	f("X-Credential-Identifier", g.Env.Document.KeyAuthCredentials[0].ID)
	f("X-Anonymous-Consumer", "")
	if string(x.Query) != "apikey=bobs-key&z=1" {
		t.Errorf("query %q was changed without hide_credentials", x.Query)
	}
	if x.Credential.Consumer != x.Consumer || x.Credential.ID != g.Env.Document.KeyAuthCredentials[0].ID {
		t.Errorf("credential %+v", x.Credential)
	}
}

func TestHideCredentials(t *testing.T) {
	g := pipelinetest.Open(t, document("hide_credentials: true, key_names: [api_key, other]"), Spec)
	f := func(uri, query string, headers ...string) {
		t.Helper()
		x := g.Do("GET", uri, headers...)
		expect(t, x, "bob")
		if string(x.Query) != query || x.HasQuery != (query != "") {
			t.Errorf("%s: forwarded query %q, %v; want %q", uri, x.Query, x.HasQuery, query)
		}
		if _, original, _ := strings.Cut(uri, "?"); original != query {
			if got := string(x.Ctx.Request.URI().QueryString()); got != query {
				t.Errorf("%s: query of the URI %q, want %q", uri, got, query)
			}
			if got := string(x.Ctx.Request.Header.RequestURI()); got != uri {
				t.Errorf("request line became %q, want it as it came: %q", got, uri)
			}
		}
		for _, name := range []string{"api_key", "api-key"} {
			if x.Ctx.Request.Header.Peek(name) != nil {
				t.Errorf("header %s goes on", name)
			}
		}
	}
	f("/", "", "api_key", "bobs-key")
	f("/", "", "api-key", "bobs-key")
	f("/?a=%7e&b", "a=%7e&b", "api-key", "bobs-key")
	f("/?api_key=bobs-key", "")
	f("/?a=%7e+&&api_key=bobs-key&b", "a=%7e+&&b")
	f("/?api_key=bobs-key&a=1", "a=1")
	f("/?a=1&ap%69_key=bobs-key", "a=1")
	f("/?api_key=leaks-too&a=1", "a=1", "api_key", "bobs-key") // wherever it was found
	f("/?api_key&a=1", "a=1", "api_key", "bobs-key")
	f("/?other=kept", "other=kept", "api_key", "bobs-key") // a name that did not hold the key
}

func TestHideCredentialsInBody(t *testing.T) {
	g := pipelinetest.Open(t, document("hide_credentials: true, key_in_body: true"), Spec)
	f := func(contentType, body, want string) {
		t.Helper()
		x := withBody(g, "/?a=1", contentType, body)
		g.Serve(x)
		expect(t, x, "bob")
		if got := string(x.Ctx.Request.Body()); got != want {
			t.Errorf("%q became %q, want %q", body, got, want)
		}
		if n := x.Ctx.Request.Header.ContentLength(); n != len(want) {
			t.Errorf("Content-Length %d, want %d", n, len(want))
		}
	}
	f(form, "a=%7e&apikey=bobs-key&b=+", "a=%7e&b=+")
	f(form, "apikey=bobs-key", "")
	f("application/json", `{"apikey":"bobs-key"}`, `{}`)
	f("application/json", `{ "apikey" : "bobs-key" , "a": 1.0 }`, `{ "a": 1.0 }`)
	f("application/json", `{"a": 1.0 , "apikey":"bobs-key"}`, `{"a": 1.0}`)
	f("application/json", `{"a":1,"apikey":"bobs-key", "b":[1, 2]}`, `{"a":1, "b":[1, 2]}`)
	f("application/json", `{"apikey":3,"apikey":4,"apikey":"bobs-key","b":1,"apikey":null,"c":2}`, `{"b":1,"c":2}`)
	f("application/json", `{"apikey":3,"apikey":"bobs-key"}`, `{}`)
	f(multiPart, parts("a", "1", "apikey", "bobs-key", "b", "2"), parts("a", "1", "b", "2"))
	f(multiPart, parts("apikey", "bobs-key"), parts())

	// Found in a header, stripped from the body too, as in Kong.
	x := withBody(g, "/?a=1", form, "apikey=leaks-too&b=1", "apikey", "bobs-key")
	g.Serve(x)
	if got := string(x.Ctx.Request.Body()); got != "b=1" {
		t.Errorf("the body became %q", got)
	}
}

func TestRealm(t *testing.T) {
	x := pipelinetest.Open(t, document("realm: Our API"), Spec).Do("GET", "/")
	if got := string(x.Ctx.Response.Header.Peek("WWW-Authenticate")); got != `Key realm="Our API"` {
		t.Errorf("WWW-Authenticate = %q", got)
	}
}

func TestRefusalFollowsAccept(t *testing.T) {
	x := pipelinetest.Open(t, document(""), Spec).Do("GET", "/", "Accept", "text/plain")
	if got := string(x.Ctx.Response.Body()); got != missing+"\nrequest_id: 0123456789abcdef0123456789abcdef\n" {
		t.Errorf("body %q", got)
	}
}

func TestPreflight(t *testing.T) {
	f := func(settings, method string, want int) {
		t.Helper()
		x := pipelinetest.Open(t, document(settings), Spec).Do(method, "/")
		if x.Ctx.Response.StatusCode() != want {
			t.Errorf("{%s} %s: status %d, want %d", settings, method, x.Ctx.Response.StatusCode(), want)
		}
	}
	f("", "OPTIONS", 401)
	f("run_on_preflight: false", "OPTIONS", 200)
	f("run_on_preflight: false", "GET", 401)
	f("run_on_preflight: false, anonymous: nobody", "OPTIONS", 200)
}

func TestAnonymous(t *testing.T) {
	g := pipelinetest.Open(t, document("anonymous: anyone, hide_credentials: true"), Spec)
	f := func(uri string, headers ...string) {
		t.Helper()
		x := g.Do("GET", uri, append(headers, "X-Credential-Identifier", "forged")...)
		expect(t, x, "anyone")
		h := &x.Ctx.Request.Header
		if x.Credential != nil || string(h.Peek("X-Anonymous-Consumer")) != "true" || h.Peek("X-Credential-Identifier") != nil {
			t.Errorf("%s: credential %v, X-Anonymous-Consumer %q", uri, x.Credential, h.Peek("X-Anonymous-Consumer"))
		}
		if len(x.Query) > 0 || h.Peek("apikey") != nil && string(h.Peek("apikey")) != "twice" {
			t.Errorf("%s: the invalid key goes on", uri)
		}
	}
	f("/")
	f("/?apikey=wrong")
	f("/", "apikey", "wrong")
	f("/", "apikey", "twice", "apikey", "twice")
	expect(t, g.Do("GET", "/", "apikey", "bobs-key"), "bob")

	// By id, too.
	g = pipelinetest.Open(t, document("anonymous: "+g.Env.Consumers.Find("anyone").ID), Spec)
	expect(t, g.Do("GET", "/"), "anyone")
}

func TestAnonymousConsumerMissing(t *testing.T) {
	g := pipelinetest.Open(t, document("anonymous: nobody"), Spec)
	x := g.Do("GET", "/", "Accept", "text/plain")
	want := "anonymous consumer nobody is configured but doesn't exist\nrequest_id: 0123456789abcdef0123456789abcdef\n"
	if x.Ctx.Response.StatusCode() != 500 || string(x.Ctx.Response.Body()) != want {
		t.Errorf("%d %q", x.Ctx.Response.StatusCode(), x.Ctx.Response.Body())
	}
	expect(t, g.Do("GET", "/", "apikey", "bobs-key"), "bob")
}

func TestSeveralAuthenticationPlugins(t *testing.T) {
	f := func(settings string, want string, headers ...string) {
		t.Helper()
		g := pipelinetest.Open(t, document(settings), Spec)
		x := g.Exchange("GET", "/", headers...)
		eve := g.Env.Consumers.Find("eve")
		x.Authenticate(eve, &pipeline.Credential{ID: "of another plugin", Consumer: eve})
		g.Serve(x)
		if want == missing {
			if x.Ctx.Response.StatusCode() != 401 {
				t.Errorf("{%s}: status %d, want 401", settings, x.Ctx.Response.StatusCode())
			}
			return
		}
		expect(t, x, want)
	}
	f("", missing)                     // AND: this plugin must accept the caller as well
	f("", "bob", "apikey", "bobs-key") // and the last one names him
	f("anonymous: anyone", "eve")      // OR: one was enough
	f("anonymous: anyone", "eve", "apikey", "bobs-key")
	f("anonymous: nobody", "eve")
}

func TestTTL(t *testing.T) {
	loaded := time.UnixMilli(pipeline.WallMillis(pipeline.Now()))
	credentials := []*config.KeyAuthCredential{
		{Key: "a", TTL: 60},
		{Key: "b", TTL: 60, Meta: config.Meta{CreatedAt: loaded.Unix() - 50}},
		{Key: "c"},
	}
	tab := newTable(credentials, pipeline.NewConsumers(&config.Document{}), loaded)
	f := func(key string, after time.Duration, want bool) {
		t.Helper()
		x := pipelinetest.NewExchange("GET", "/")
		x.Start = pipeline.Now() + int64(after)
		if got := tab.find([]byte(key), x) != nil; got != want {
			t.Errorf("key %s after %v: valid %v, want %v", key, after, got, want)
		}
	}
	f("a", 0, true)
	f("a", 55*time.Second, true)
	f("a", 61*time.Second, false)
	f("b", 5*time.Second, true)
	f("b", 11*time.Second, false)
	f("c", 1000*time.Hour, true)
}

func TestEqual(t *testing.T) {
	for n := range 40 {
		a := strings.Repeat("k", n)
		if !equal(a, []byte(a)) {
			t.Errorf("%d equal bytes differ", n)
		}
		if equal(a, []byte(a+"k")) || equal(a+"k", []byte(a)) {
			t.Errorf("%d bytes equal one more", n)
		}
		for i := range n {
			b := []byte(a)
			b[i] ^= 0x80
			if equal(a, b) {
				t.Errorf("%d bytes with another at %d are equal", n, i)
			}
		}
	}
}

func TestTableIsShared(t *testing.T) {
	env := pipelinetest.NewEnv(t, document(""), Spec)
	p := env.Document.Plugins[0]
	for range 2 {
		if _, err := Spec.Build(p, env); err != nil {
			t.Fatal(err)
		}
	}
	made := false
	pipeline.Shared(env, "key-auth", func() *table { made = true; return nil })
	if made {
		t.Error("instances of a snapshot do not share their table")
	}
}

func manyCredentials(n int) []*config.KeyAuthCredential {
	list := make([]config.KeyAuthCredential, n)
	credentials := make([]*config.KeyAuthCredential, n)
	for i := range list {
		list[i] = config.KeyAuthCredential{ID: fmt.Sprintf("%036d", i), Key: fmt.Sprintf("sk_live_%032x", i*7919)}
		credentials[i] = &list[i]
	}
	return credentials
}

func TestMillionKeys(t *testing.T) {
	credentials := manyCredentials(1_000_000)
	consumers := pipeline.NewConsumers(&config.Document{})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	tab := newTable(credentials, consumers, time.Now())
	runtime.GC()
	runtime.ReadMemStats(&after)
	if per := (float64(after.HeapAlloc) - float64(before.HeapAlloc)) / float64(len(credentials)); per > 100 {
		t.Errorf("%.1f bytes a key, want at most 100", per)
	} else {
		t.Logf("%.1f bytes a key", per)
	}
	x := pipelinetest.NewExchange("GET", "/")
	for i := 0; i < len(credentials); i += 97 {
		if c := tab.find([]byte(credentials[i].Key), x); c == nil || c.ID != credentials[i].ID {
			t.Fatalf("key %d is not found", i)
		}
		if tab.find([]byte(credentials[i].Key+"x"), x) != nil {
			t.Fatal("a wrong key is found")
		}
	}
}

func TestNoAllocations(t *testing.T) {
	f := func(settings, uri, contentType, body string, headers ...string) {
		t.Helper()
		g := pipelinetest.Open(t, document(settings), Spec)
		x := g.Exchange("POST", uri, headers...)
		query := string(x.Query)
		g.Allocs(x, func(x *pipeline.Exchange) {
			r := &x.Ctx.Request
			for i := 0; i+1 < len(headers); i += 2 {
				r.Header.Set(headers[i], headers[i+1])
			}
			r.Header.SetContentType(contentType)
			r.SetBodyString(body)
			x.Query = append(x.Query[:0], query...)
		})
	}
	f("", "/", "", "", "apikey", "bobs-key")
	f("", "/", "", "", "apikey", "wrong")
	f("", "/", "", "")
	f("hide_credentials: true", "/", "", "", "apikey", "bobs-key")
	f("hide_credentials: true", "/?a=1&apikey=bobs%2dkey&b=2", "", "")
	f("anonymous: anyone", "/", "", "")
	f("anonymous: nobody", "/", "", "")
	all := "key_in_body: true, hide_credentials: true"
	f(all, "/", form, "a=1&apikey=bobs-key")
	f(all, "/", "application/json", `{"a":1,"apikey":"bobs-key"}`)
	f(all, "/", multiPart, parts("a", "1", "apikey", "bobs-key"))
}

func FuzzJSONBody(f *testing.F) {
	f.Add(`{"apikey":"x","a":[1,{"apikey":2}],"b":"\"}"}`)
	f.Add(`{"apikey":3 , "apikey":{}}`)
	f.Add(` { } `)
	f.Fuzz(func(t *testing.T, text string) {
		key, n := jsonKey([]byte(text), "apikey")
		left := removeMember([]byte(text), "apikey")
		var want map[string]any
		if json.Unmarshal([]byte(text), &want) != nil || !utf8.ValidString(text) {
			return // only that it does not panic; a key is compared byte by byte
		}
		if s, ok := want["apikey"].(string); ok && n == single && string(key) != s {
			t.Fatalf("%q: key %q, want %q", text, key, s)
		}
		if _, ok := want["apikey"]; !ok && n != absent {
			t.Fatalf("%q: found a key that is not there", text)
		}
		delete(want, "apikey")
		var got map[string]any
		if err := json.Unmarshal(left, &got); err != nil {
			t.Fatalf("%q became %q: %v", text, left, err)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("%q became %q", text, left)
		}
	})
}

func FuzzMultipartBody(f *testing.F) {
	f.Add(parts("a", "1", "apikey", "x", "b", ""))
	f.Add("--XX\r\n\r\n--XX\r\n\r\n\r\n--XX--")
	f.Fuzz(func(t *testing.T, body string) {
		key, n := partKey([]byte(body), []byte("XX"), "apikey")
		left := removePart([]byte(body), []byte("XX"), "apikey")
		if _, again := partKey(left, []byte("XX"), "apikey"); again != absent {
			t.Fatalf("%q became %q, which still has the key", body, left)
		}
		if n == absent && string(left) != body {
			t.Fatalf("%q without a key became %q", body, left)
		}
		// Where the standard library sees one plain part of that name, so do we. It
		// takes bare line feeds for line ends, which RFC 2046 does not.
		if strings.Count(body, "\n") != strings.Count(body, "\r\n") {
			return
		}
		read, err := multipart.NewReader(strings.NewReader(body), "XX").ReadForm(1 << 20)
		if err != nil || len(read.File) > 0 || n != single {
			return
		}
		if values := read.Value["apikey"]; len(values) == 1 && values[0] != string(key) {
			t.Fatalf("%q: key %q, want %q", body, key, values[0])
		}
	})
}
