package main

import (
	"testing"

	"github.com/sluice-gateway/sluice/engine/config"
)

func TestRequestOf(t *testing.T) {
	f := func(want string, change func(r *config.Route)) {
		t.Helper()
		r := config.NewRoute()
		change(r)
		if got, _ := requestOf(r, "http://gw"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	f("curl -i http://gw/a", func(r *config.Route) { r.Paths = []string{"~/x/\\d+", "/a"} })
	f("curl -i -H 'Host: example.shop.org' http://gw/", func(r *config.Route) { r.Hosts = []string{"*.shop.org"} })
	f("curl -i -X POST -H 'X-A: it'\\''s' http://gw/", func(r *config.Route) {
		r.Methods, r.Headers = []string{"POST", "PUT"}, map[string][]string{"X-A": {"it's"}}
	})
	f("curl -i http://gw/", func(r *config.Route) { r.Methods = []string{"POST", "GET"} })
	f("curl -i --head http://gw/", func(r *config.Route) { r.Methods = []string{"HEAD"} })
	f("", func(r *config.Route) { r.Paths = []string{"~/x"} })
	f("", func(r *config.Route) { r.Headers = map[string][]string{"X-A": {"~*x"}} })
	f("", func(r *config.Route) { r.Protocols = []string{"tcp"} })
	f("", func(r *config.Route) { r.Expression = `http.path == "/"` })
}
