package admin_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/engine/admin"
	"github.com/sluice-gateway/sluice/engine/config"
)

// fleet stands for an engine with one upstream of two targets, one of them by name with
// two addresses.
type fleet struct{ set []string }

func (f *fleet) Addresses(name string) (list []admin.Address, healthy, known bool) {
	if name != "u" {
		return nil, false, false
	}
	return []admin.Address{
		{Target: "a.internal:80", Address: "10.0.0.1:80", State: "healthy", Weight: 10, Circuit: "closed", Connections: 3},
		{Target: "a.internal:80", Address: "10.0.0.2:80", State: "unhealthy", Weight: 10, Circuit: "open"},
		{Target: "b.internal:80", Address: "b.internal:80", State: "dns_error", Weight: 20},
	}, true, true
}

func (f *fleet) SetHealth(upstream, target, only string, healthy bool) bool {
	f.set = append(f.set, fmt.Sprintf("%s %s %q %t", upstream, target, only, healthy))
	return upstream == "u" && target == "a.internal:80"
}

func (f *fleet) Reports(kind string) map[string]any {
	return map[string]any{"of " + kind: map[string]any{"share_percent": 5}}
}

const balanced = `_format_version: "3.0"
upstreams:
- name: u
  healthchecks: {passive: {unhealthy: {tcp_failures: 1}}}
  targets:
  - {target: "a.internal:80", weight: 10}
  - {target: "b.internal:80", weight: 20}
- name: unused
`

func startBalanced(t *testing.T) *api {
	t.Helper()
	a := start(t, admin.Options{})
	d, err := config.Read([]config.Source{{Name: "test.yaml", Data: []byte(balanced)}}, config.Options{Catalog: catalog{}})
	if err != nil {
		t.Fatal(err)
	}
	a.live.Store(d)
	return a
}

func TestUpstreamHealth(t *testing.T) {
	a := startBalanced(t)
	for _, listener := range []string{a.admin, a.status} {
		got := a.do("GET", listener+"/upstreams/u/health", nil)
		a.want(got, http.StatusOK, "")
		for _, part := range []string{
			`"target":"a.internal:80"`, `"health":"HEALTHY"`, `"weight":{"total":20,"available":10,"unavailable":10}`,
			`{"ip":"10.0.0.2","port":80,"weight":10,"health":"UNHEALTHY","circuit":"open","in_flight":0,"connections":0}`,
			`"health":"DNS_ERROR"`, `"node_id":"node-1"`, `"next":null`,
		} {
			if !strings.Contains(got.body, part) {
				t.Errorf("no %s in %s", part, got.body)
			}
		}
		got = a.do("GET", listener+"/upstreams/u/health?balancer_health=1", nil)
		if !strings.Contains(got.body, `"health":"HEALTHY"`) || !strings.Contains(got.body, `"total":40`) {
			t.Errorf("balancer_health: %s", got.body)
		}
		a.want(a.do("GET", listener+"/upstreams/nobody/health", nil), http.StatusNotFound, `{"message":"Not found"}`)
		a.want(a.do("GET", listener+"/upstreams/u/targets", nil), http.StatusNotFound, "")
	}
	a.want(a.do("GET", a.status+"/status/upstreams", nil), http.StatusOK,
		`{"status":"healthy","upstreams":{"u":{"health":"healthy","healthy":1,"total":3}}}`)
	a.want(a.do("GET", a.admin+"/status/quotas", nil), http.StatusOK, `{"quotas":{"of quota":{"share_percent":5}}}`)
	a.want(a.do("GET", a.status+"/status/quotas", nil), http.StatusNotFound, "")
	a.want(a.do("GET", a.status+"/status/canaries", nil), http.StatusOK, `{"canaries":{"of canary":{"share_percent":5}}}`)
}

func TestSetHealth(t *testing.T) {
	a := startBalanced(t)
	f := func(method, listener, path string, status int) {
		t.Helper()
		if got := a.do(method, listener+path, nil); got.status != status {
			t.Errorf("%s %s: %d %s, want %d", method, path, got.status, got.body, status)
		}
	}
	f("PUT", a.admin, "/upstreams/u/targets/a.internal:80/unhealthy", http.StatusNoContent)
	f("PUT", a.admin, "/upstreams/u/targets/a.internal:80/10.0.0.1:80/healthy", http.StatusNoContent)
	f("PUT", a.admin, "/upstreams/u/targets/a.internal:80/sick", http.StatusNotFound)
	f("PUT", a.admin, "/upstreams/u/targets/c.internal:80/healthy", http.StatusNotFound)
	f("PUT", a.admin, "/upstreams/x/targets/a.internal:80/healthy", http.StatusNotFound)
	f("GET", a.admin, "/upstreams/u/targets/a.internal:80/healthy", http.StatusMethodNotAllowed)
	f("PUT", a.status, "/upstreams/u/targets/a.internal:80/unhealthy", http.StatusMethodNotAllowed)
}
