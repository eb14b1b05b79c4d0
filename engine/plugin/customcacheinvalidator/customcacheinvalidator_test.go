package customcacheinvalidator

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
	"github.com/sluice-gateway/sluice/engine/plugin/proxycache"
)

func document(settings string) string {
	return `_format_version: "3.0"
services: [{name: a, url: "http://a", routes: [{name: r, paths: [/]}]}]
plugins:
- {name: proxy-cache, config: {memory: {size: 1m}}}
- {name: custom-cache-invalidator, config: {` + settings + `}}
`
}

// gateway keeps every GET, and answers changes with a status and a surrogate key.
func gateway(t *testing.T, settings string, status int) *pipelinetest.Gateway {
	t.Helper()
	g := pipelinetest.Open(t, document(settings), Spec, proxycache.Spec)
	g.Service = func(x *pipeline.Exchange) {
		resp := &x.Ctx.Response
		pipeline.ClearResponse(resp)
		resp.Header.SetContentType("text/plain")
		if x.Ctx.IsGet() {
			resp.Header.Set("Surrogate-Key", "all "+strings.ReplaceAll(strings.Trim(string(x.Path), "/"), "/", "-"))
			return
		}
		resp.SetStatusCode(status)
		resp.Header.Set("Surrogate-Key", "other")
		resp.Header.Set("Cache-Tag", "x, tagged")
	}
	return g
}

func TestWhatGoes(t *testing.T) {
	paths := []string{"/", "/users", "/users/7", "/users/7?page=2", "/users/7/orders", "/users/70", "/users/8", "/other", "/tagged"}
	f := func(settings string, status int, request, gone string) {
		t.Helper()
		g := gateway(t, settings, status)
		ask := func(method, uri string) string {
			x := g.Do(method, uri)
			defer x.Ctx.ResetUserValues()
			return string(x.Ctx.Response.Header.Peek("X-Cache-Status"))
		}
		for _, p := range paths {
			ask("GET", p)
		}
		method, uri, _ := strings.Cut(request, " ")
		ask(method, uri)
		var got []string
		for _, p := range paths {
			if ask("GET", p) != "Hit" {
				got = append(got, p)
			}
		}
		if fmt.Sprint(got) != gone {
			t.Errorf("{%s} %s, answered %d: %v went, want %s", settings, request, status, got, gone)
		}
	}
	f("propagate: false", 200, "PATCH /users/7", "[/users/7 /users/7?page=2]")
	f("", 200, "PATCH /users/7", "[/users /users/7 /users/7?page=2 /users/7/orders /other /tagged]")
	f("", 204, "DELETE /users/7/", "[/users /users/7 /users/7?page=2 /users/7/orders /other /tagged]")
	f("", 303, "POST /users", "[/users /users/7 /users/7?page=2 /users/7/orders /users/70 /users/8 /other /tagged]")
	f("", 404, "PUT /users/7", "[]")
	f("", 500, "PUT /users/7", "[]")
	f("invalidate_on: [PUT]", 200, "POST /users/7", "[]")
	f("invalidate_on: [PURGE], propagate: false", 200, "PURGE /other", "[/other]")
	f("propagate: false, soft: true", 200, "PUT /users", "[/users]")
}

func TestParent(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		if got := string(parent([]byte(in))); got != want {
			t.Errorf("above %s is %s, want %s", in, got, want)
		}
	}
	f("/", "")
	f("/users", "")
	f("/users/7", "/users")
	f("/users/7/", "/users")
	f("/users/7/orders", "/users/7")
}

func TestSettingsRefused(t *testing.T) {
	f := func(settings, want string) {
		t.Helper()
		_, err := config.Read([]config.Source{{Name: "test.yaml", Data: []byte(document(settings))}},
			config.Options{Catalog: &pipeline.Specs{All: []pipeline.Spec{Spec, proxycache.Spec}}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("{%s}:\n got %v\nwant %s", settings, err, want)
		}
	}
	f("invalidate_on: []", "invalidate_on: length must be at least 1")
	f("invalidates_on: [PUT]", "unknown field")
	f("propagate: often", "propagate: expected a boolean")
}
