package main

import (
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// document is what these tests look at in a generated document.
type document struct {
	Version string            `yaml:"_format_version"`
	Gateway map[string]string `yaml:"gateway"`
	Plugins []struct {
		Name   string
		Config map[string]any
	} `yaml:"plugins"`
	Services []struct {
		Name, Host, URL string
		Routes          []struct {
			Name      string
			Paths     []string
			StripPath *bool `yaml:"strip_path"`
		}
	} `yaml:"services"`
	Upstreams []struct {
		Name, Algorithm string
		HashOn          string `yaml:"hash_on"`
		Targets         []struct{ Target string }
	} `yaml:"upstreams"`
	Consumers []struct {
		Username string
		Keys     []struct{ Key string } `yaml:"keyauth_credentials"`
	} `yaml:"consumers"`
}

var testPorts = documentPorts{proxy: 8000, status: 8007, services: []int{9001, 9002, 9003, 9004}}

func mustDecode(t *testing.T, text []byte) *document {
	t.Helper()
	d := &document{}
	// A duplicate key is an error.
	if err := yaml.Unmarshal(text, d); err != nil {
		t.Fatal(err)
	}
	if d.Version != "3.0" || d.Gateway["proxy_listen"] != "127.0.0.1:8000" ||
		d.Gateway["admin_listen"] != "off" || d.Gateway["status_listen"] != "127.0.0.1:8007" {
		t.Errorf("head: got version %q, gateway %v", d.Version, d.Gateway)
	}
	return d
}

func TestPlainDocument(t *testing.T) {
	d := mustDecode(t, plainDocument(testPorts))
	if len(d.Services) != 1 || len(d.Services[0].Routes) != 1 || len(d.Plugins)+len(d.Consumers)+len(d.Upstreams) != 0 {
		t.Fatalf("want one service with one route and nothing else, got %+v", d)
	}
	s := d.Services[0]
	if s.URL != "http://127.0.0.1:9001" || s.Routes[0].Paths[0] != "/" || *s.Routes[0].StripPath {
		t.Errorf("got %+v", s)
	}
}

func TestCachedDocument(t *testing.T) {
	d := mustDecode(t, cachedDocument(testPorts))
	if !reflect.DeepEqual(d.Services, mustDecode(t, plainDocument(testPorts)).Services) || len(d.Consumers)+len(d.Upstreams) != 0 {
		t.Errorf("want the plain document's service and nothing else, got %+v", d)
	}
	if len(d.Plugins) != 2 || d.Plugins[0].Name != "proxy-cache" || d.Plugins[1].Name != "prometheus" {
		t.Fatalf("plugins: got %+v", d.Plugins)
	}
	want := map[string]any{"strategy": "memory", "cache_ttl": 3600, "content_type": []any{"text/plain"}}
	if got := d.Plugins[0].Config; !reflect.DeepEqual(got, want) {
		t.Errorf("proxy-cache: got %v, want %v", got, want)
	}
	full := mustDecode(t, fullDocument(testPorts, "round-robin", localLimits)).Plugins
	if got, want := d.Plugins[1], full[len(full)-1]; !reflect.DeepEqual(got, want) {
		t.Errorf("prometheus: got %v, want what the full document has, %v", got, want)
	}
}

func TestFullDocument(t *testing.T) {
	d := mustDecode(t, fullDocument(testPorts, "round-robin", localLimits))
	if len(d.Services) != serviceCount || len(d.Consumers) != consumerCount || len(d.Upstreams) != 1 {
		t.Fatalf("got %d services, %d consumers, %d upstreams", len(d.Services), len(d.Consumers), len(d.Upstreams))
	}
	names := make([]string, 0, len(d.Plugins))
	for _, p := range d.Plugins {
		names = append(names, p.Name)
	}
	if got := strings.Join(names, " "); got != "key-auth rate-limiting correlation-id prometheus" {
		t.Errorf("plugins: got %q", got)
	}
	u := d.Upstreams[0]
	if u.Algorithm != "round-robin" || u.HashOn != "" || len(u.Targets) != targetCount || u.Targets[3].Target != "127.0.0.1:9004" {
		t.Errorf("upstream: got %+v", u)
	}
	routes, keys := map[string]bool{}, map[string]string{}
	for _, s := range d.Services {
		if s.Host != u.Name {
			t.Errorf("service %s: host %q is not the upstream", s.Name, s.Host)
		}
		for _, r := range s.Routes {
			routes[r.Paths[0]] = true
			if r.StripPath == nil || *r.StripPath {
				t.Fatalf("route %s strips its path: the service would see another one", r.Name)
			}
		}
	}
	for _, c := range d.Consumers {
		keys[c.Keys[0].Key] = c.Username
	}
	if len(routes) != routeCount || len(keys) != consumerCount {
		t.Errorf("got %d different paths and %d different keys", len(routes), len(keys))
	}
	if _, ok := keys[wrongKey]; ok {
		t.Error("the wrong key belongs to somebody")
	}
	usedRoutes, usedKeys := map[string]bool{}, map[string]bool{}
	for _, l := range requestLines() {
		route := l.path[:strings.LastIndexByte(l.path, '/')]
		if !routes[route] || keys[l.key] != l.consumer {
			t.Fatalf("request %+v matches no route or no consumer", l)
		}
		usedRoutes[route], usedKeys[l.key] = true, true
	}
	if len(usedRoutes) != routeCount || len(usedKeys) != consumerCount {
		t.Errorf("requests meet %d routes and %d keys, not all", len(usedRoutes), len(usedKeys))
	}
}

func TestFullDocumentHashes(t *testing.T) {
	u := mustDecode(t, fullDocument(testPorts, "consistent-hashing", localLimits)).Upstreams[0]
	if u.Algorithm != "consistent-hashing" || u.HashOn != "consumer" {
		t.Errorf("got %+v", u)
	}
}

func TestRequests(t *testing.T) {
	lines := requestLines()
	text := strings.Split(strings.TrimSpace(string(renderRequests(lines))), "\n")
	if len(text) != len(lines) || text[17] != lines[17].path+"\t"+lines[17].key {
		t.Errorf("got %d lines, the 18th is %q", len(text), text[17])
	}
	paths := map[string]bool{}
	for _, l := range cachedLines() {
		paths[l.path] = true
	}
	if len(paths) != cachedCount {
		t.Errorf("got %d different paths for the caches, want %d", len(paths), cachedCount)
	}
	if text := string(renderRequests(cachedLines()[:2])); text != "/catalogue/item-000\t\n/catalogue/item-001\t\n" {
		t.Errorf("without keys: got %q", text)
	}
	if got := len(body(usualBodyBytes)); got != usualBodyBytes {
		t.Errorf("body: got %d bytes, want %d", got, usualBodyBytes)
	}
	if strings.ContainsAny(body(usualBodyBytes), `"\$;{}`) {
		t.Error("the body has characters that mean something in nginx.conf")
	}
}
