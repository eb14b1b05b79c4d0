package admin_test

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-gateway/sluice/engine/admin"
	"github.com/sluice-gateway/sluice/engine/config"
)

// caches stands for what plugins keep. It notes what is purged.
type caches struct {
	mu    sync.Mutex
	asked []admin.Purge
	kept  map[string]*admin.KeptAnswer // by plugin and key
	err   error
}

func (c *caches) Purge(p *admin.Purge) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, *p)
	return 7, c.err
}

func (c *caches) KeptAnswer(key, plugin string) (*admin.KeptAnswer, bool) {
	a, ok := c.kept[plugin+"/"+key]
	return a, ok
}

// take returns the purges so far.
func (c *caches) take() (asked []admin.Purge) {
	c.mu.Lock()
	defer c.mu.Unlock()
	asked, c.asked = c.asked, nil
	return asked
}

// cacheDocument has two caches.
const cacheDocument = `_format_version: "3.0"
plugins:
- name: proxy-cache
  id: 11111111-1111-4111-8111-111111111111
- name: proxy-cache-advanced
  id: 22222222-2222-4222-8222-222222222222
  instance_name: second
- name: key-auth
  instance_name: no-cache
`

// allBuilt is a catalog in which every plugin has code.
type allBuilt struct{ catalog }

func (allBuilt) Built(string) bool { return true }
func (allBuilt) Names() []string   { return []string{"key-auth", "proxy-cache", "proxy-cache-advanced"} }

func startCaches(t *testing.T) (*api, *caches) {
	t.Helper()
	c := &caches{kept: map[string]*admin.KeptAnswer{}}
	a := start(t, admin.Options{Caches: c})
	d, err := config.Read([]config.Source{{Name: "test.yaml", Data: []byte(cacheDocument)}}, config.Options{Catalog: allBuilt{}})
	if err != nil {
		t.Fatal(err)
	}
	a.live.Store(d)
	return a, c
}

// A purge is what its URL, its header and its body say together.
func TestPurge(t *testing.T) {
	a, c := startCaches(t)
	f := func(path, body, keys string, want admin.Purge) {
		t.Helper()
		var headers []string
		if keys != "" {
			headers = []string{"Surrogate-Key", keys}
		}
		a.want(a.do("POST", a.admin+path, strings.NewReader(body), headers...), 200, `{"purged":7}`)
		if asked := c.take(); len(asked) != 1 || !reflect.DeepEqual(asked[0], want) {
			t.Errorf("%s %s %q: purged %+v, want %+v", path, body, keys, asked, want)
		}
	}
	f("/cache/purge", "", "", admin.Purge{})
	f("/cache/purge/", "", "", admin.Purge{})
	f("/cache/purge", "  \n", "", admin.Purge{})
	f("/cache/purge", "{}", "", admin.Purge{})
	f("/cache/purge/users", "", "", admin.Purge{Path: "/users"})
	f("/cache/purge/users/", "", "", admin.Purge{Path: "/users/"})
	f("/cache/purge/users/1?exact=true&soft=1", "", "", admin.Purge{Path: "/users/1", Exact: true, Soft: true})
	f("/cache/purge?soft=true", "", "", admin.Purge{Soft: true})
	f("/cache/purge/a%20b", "", "", admin.Purge{Path: "/a%20b"})
	f("/cache/purge", "", "one two", admin.Purge{Keys: []string{"one", "two"}})
	f("/cache/purge", `{"keys":["three"],"tags":["four, five"]}`, "one", admin.Purge{Keys: []string{"three", "one"}, Tags: []string{"four, five"}})
	f("/cache/purge", `{"path":"/a","exact":true,"route":"r","service":"s","soft":true}`, "", admin.Purge{Path: "/a", Exact: true, Route: "r", Service: "s", Soft: true})
	f("/cache/purge/a", `{"service":"orders"}`, "k", admin.Purge{Path: "/a", Service: "orders", Keys: []string{"k"}})
}

// What cannot be meant purges nothing and says why.
func TestPurgeRefuses(t *testing.T) {
	a, c := startCaches(t)
	f := func(path, body, keys, want string) {
		t.Helper()
		var headers []string
		if keys != "" {
			headers = []string{"Surrogate-Key", strings.TrimSpace(keys)}
		}
		got := a.do("POST", a.admin+path, strings.NewReader(body), headers...)
		m, _ := decode(t, got.body)["message"].(string)
		if got.status != 400 || !strings.Contains(m, want) {
			t.Errorf("%s %s: %d %s, want %q", path, body, got.status, got.body, want)
		}
		if asked := c.take(); len(asked) > 0 {
			t.Errorf("%s %s purged %+v", path, body, asked)
		}
	}
	f("/cache/purge", "no json", "", "expected a JSON object of keys, tags, path, exact, route, service and soft")
	f("/cache/purge", "[]", "", "expected a JSON object")
	f("/cache/purge", `{"key":"a"}`, "", `unknown field "key"`)
	f("/cache/purge", `{"keys":"a"}`, "", "keys")
	f("/cache/purge", `{"plugin":"a"}`, "", `unknown field "plugin"`)
	f("/cache/purge", `{"soft":true} {"soft":false}`, "", "")
	f("/cache/purge", `{"path":"users"}`, "", "path: should start with /, got users")
	f("/cache/purge/users", `{"path":"/users"}`, "", "path: is in the URL already: /users")
	f("/cache/purge", "", " ", "Surrogate-Key: names no key")
	f("/cache/purge?exact=true", "", "", "exact")
	f("/cache/purge", `{"keys":[]}`, "", "keys")
	f("/cache/purge", `{"keys":[""]}`, "", "keys")

	c.err = errors.New(`route: no route has the name or id "nope"`)
	got := a.do("POST", a.admin+"/cache/purge", strings.NewReader(`{"route":"nope"}`))
	a.want(got, 400, `{"message":"route: no route has the name or id \"nope\""}`)
	a.want(a.do("GET", a.admin+"/cache/purge", nil), 405, `{"message":"Method not allowed"}`)
	a.want(a.do("POST", a.admin+"/cache/purgeall", nil), 404, `{"message":"Not found"}`)
	a.want(a.do("POST", a.status+"/cache/purge", nil), 404, `{"message":"Not found"}`)
	a.want(a.do("POST", a.admin+"/cache/purge", nil, "Origin", "http://evil.example"), 403, "")
}

// Kong's paths show and remove one answer, of any cache or of one, or all of them.
func TestKongsCachePaths(t *testing.T) {
	a, c := startCaches(t)
	const first, second, key = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222", "ab12"
	c.kept["/"+key] = &admin.KeptAnswer{Status: 200, Headers: map[string]string{"A": "b"}, Body: "x", BodyLen: 1, Timestamp: 5, TTL: 300, Version: 1}
	c.kept[second+"/"+key] = c.kept["/"+key]
	const shown = `{"status":200,"headers":{"A":"b"},"body":"x","body_len":1,"timestamp":5,"ttl":300,"version":1,"req_body":null}`
	f := func(method, path string, status int, body string, want ...admin.Purge) {
		t.Helper()
		a.want(a.do(method, a.admin+path, nil), status, body)
		if asked := c.take(); fmt.Sprintf("%+v", asked) != fmt.Sprintf("%+v", want) {
			t.Errorf("%s %s purged %+v, want %+v", method, path, asked, want)
		}
	}
	const missing = `{"message":"Not found"}`
	f("DELETE", "/proxy-cache", 204, "", admin.Purge{})
	f("DELETE", "/proxy-cache/", 204, "", admin.Purge{})
	f("DELETE", "/proxy-cache-advanced", 204, "", admin.Purge{})
	f("GET", "/proxy-cache/"+key, 200, shown)
	f("HEAD", "/proxy-cache/"+key, 200, "")
	f("GET", "/proxy-cache-advanced/"+key, 200, shown)
	f("DELETE", "/proxy-cache/"+key, 204, "", admin.Purge{Entry: key})
	f("GET", "/proxy-cache/nothing", 404, missing)
	f("DELETE", "/proxy-cache/nothing", 404, missing)
	f("GET", "/proxy-cache/"+second+"/caches/"+key, 200, shown)
	f("GET", "/proxy-cache/second/caches/"+key, 200, shown)
	f("DELETE", "/proxy-cache-advanced/second/caches/"+key, 204, "", admin.Purge{Entry: key, Plugin: second})
	f("GET", "/proxy-cache/"+first+"/caches/"+key, 404, missing)
	f("GET", "/proxy-cache/none/caches/"+key, 404, missing)
	f("GET", "/proxy-cache/no-cache/caches/"+key, 404, missing)
	f("DELETE", "/proxy-cache/none/caches/"+key, 404, missing)
	f("GET", "/proxy-cache/"+second+"/other/"+key, 404, missing)
	f("POST", "/proxy-cache/"+key, 405, `{"message":"Method not allowed"}`)
	f("GET", "/proxy-cache", 405, `{"message":"Method not allowed"}`)
	a.want(a.do("GET", a.status+"/proxy-cache/"+key, nil), 404, missing)
	a.want(a.do(http.MethodDelete, a.status+"/proxy-cache", nil), 404, missing)
	if asked := c.take(); len(asked) > 0 {
		t.Errorf("the status listener purged %+v", asked)
	}
}
