package explain_test

import (
	"testing"

	"github.com/sluice-gateway/sluice/cmd/sluice/explain"
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/plugin"
)

// The target is the one that a gateway with all targets healthy picks for the caller.
func TestExplainHashing(t *testing.T) {
	d, err := config.Read([]config.Source{{Name: "test.yaml", Data: []byte(`
_format_version: "3.0"
upstreams:
- name: u
  algorithm: consistent-hashing
  hash_on: consumer
  hash_fallback: ip
  targets: [{target: "a.internal:80"}, {target: "b.internal:80"}, {target: "c.internal:80"}]
services:
- name: s
  host: u
  routes: [{name: r, paths: [/]}]
consumers: [{username: c0}, {username: c1}, {username: c2}, {username: c3}, {username: c4}, {username: c5}]
`)}}, config.Options{Catalog: plugin.All})
	if err != nil {
		t.Fatal(err)
	}
	pick := func(consumer string) string {
		t.Helper()
		e, err := explain.Explain(d, plugin.All, &explain.Request{Method: "GET", URL: "http://a/", Consumer: consumer})
		if err != nil {
			t.Fatal(err)
		}
		if h := e.Upstream.HashOn; len(h) != 2 || h[0] != "consumer" || h[1] != "ip" {
			t.Errorf("hash_on %v", h)
		}
		return e.Upstream.Target
	}
	seen := map[string]bool{}
	for _, consumer := range []string{"c0", "c1", "c2", "c3", "c4", "c5"} {
		first := pick(consumer)
		seen[first] = true
		if again := pick(consumer); again != first {
			t.Errorf("%s: %s, then %s", consumer, first, again)
		}
	}
	if len(seen) < 2 {
		t.Errorf("all callers go to %v", seen)
	}
}
