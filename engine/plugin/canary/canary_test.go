package canary

import (
	"fmt"
	"math"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
)

func document(settings string) string { return scoped("", settings) }

// scoped is a document with one instance at a scope such as "route: r".
func scoped(at, settings string) string {
	if at != "" {
		at = "  " + at + "\n"
	}
	return `
_format_version: "3.0"
services:
- {name: a, url: "http://a.internal:8080/v1"}
- {name: b, url: "https://b.internal"}
- {name: unused, url: "http://unused.internal"}
- {name: away, url: "http://away.internal", enabled: false}
upstreams:
- {name: a2}
routes:
- {name: r, service: a, paths: [/]}
- {name: r2, service: a, paths: [/a]}
- {name: s, service: b, paths: [/b]}
- {name: t, service: away, paths: [/away]}
consumers:
- {username: bob}
- {username: eve}
- {username: joe}
consumer_groups:
- {name: beta}
consumer_group_consumers:
- {consumer: bob, consumer_group: beta}
acls:
- {consumer: eve, group: testers}
plugins:
- name: canary
` + at + "  config: {" + settings + "}\n"
}

func read(text string) (*config.Document, error) {
	return config.Read([]config.Source{{Name: "test.yaml", Data: []byte(text)}},
		config.Options{Catalog: &pipeline.Specs{All: []pipeline.Spec{Spec}}})
}

func TestExampleLoads(t *testing.T) {
	example, err := os.ReadFile("example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	g := pipelinetest.Open(t, string(example), Spec)
	if x := g.Do("GET", "/users", "X-Canary", "always"); led(x) != "users-v2:8080" {
		t.Errorf("led to %q", led(x))
	}
}

// led returns where a request went, "" for its own service.
func led(x *pipeline.Exchange) string {
	if x.Destination == nil {
		return ""
	}
	s := x.Destination.(*pipelinetest.Destination).Service
	return fmt.Sprintf("%s:%d", s.Host, s.Port)
}

func from(x *pipeline.Exchange, ip string) *pipeline.Exchange {
	x.ClientIP = netip.MustParseAddr(ip)
	return x
}

func by(g *pipelinetest.Gateway, x *pipeline.Exchange, consumer string) *pipeline.Exchange {
	x.Consumer = g.Env.Consumers.Find(consumer)
	return x
}

func TestWhereTheCanaryIs(t *testing.T) {
	f := func(settings, host string, port int, path string) {
		t.Helper()
		g := pipelinetest.Open(t, document("percentage: 100, "+settings), Spec)
		x := g.Do("GET", "/x")
		d, ok := x.Destination.(*pipelinetest.Destination)
		if !ok {
			t.Fatalf("{%s}: not led to the canary", settings)
		}
		s, own := d.Service, g.Env.Document.Services[0]
		if s.Host != host || s.Port != port || string(x.UpstreamPath) != path {
			t.Errorf("{%s}: %s:%d %q", settings, s.Host, s.Port, x.UpstreamPath)
		}
		if s.Protocol != own.Protocol || s.Path != own.Path || s.ReadTimeout != own.ReadTimeout || s.Retries != own.Retries {
			t.Errorf("{%s}: %+v", settings, s)
		}
		if want := fmt.Sprintf("@%s:%d", host, port); s.ID != own.ID+want || s.Name != own.Name+want {
			t.Errorf("{%s}: id %q, name %q", settings, s.ID, s.Name)
		}
		if own.Host != "a.internal" || own.Port != 8080 || own.Name != "a" {
			t.Errorf("{%s}: the service itself was changed: %+v", settings, own)
		}
	}
	f("upstream_host: a2", "a2", 8080, "")
	f("upstream_host: a2, upstream_port: 9000", "a2", 9000, "")
	f("upstream_port: 9000", "a.internal", 9000, "")
	f("upstream_uri: /v2/x", "a.internal", 8080, "/v2/x")
	f("upstream_host: 192.0.2.7, upstream_uri: /", "192.0.2.7", 8080, "/")
}

func TestOnlyTheCanaryGetsThePath(t *testing.T) {
	g := pipelinetest.Open(t, document("percentage: 0, upstream_uri: /v2"), Spec)
	if x := g.Do("GET", "/x"); x.UpstreamPath != nil || x.Destination != nil {
		t.Errorf("path %q, led to %q", x.UpstreamPath, led(x))
	}
}

func TestScope(t *testing.T) {
	f := func(at string, want ...string) {
		t.Helper()
		env := pipelinetest.NewEnv(t, scoped(at, "percentage: 100, upstream_host: a2"), Spec)
		var opened []string
		env.Destination = func(s *config.Service) (pipeline.Destination, error) {
			opened = append(opened, s.Name)
			return &pipelinetest.Destination{Service: s}, nil
		}
		hooks, err := Spec.Build(env.Document.Plugins[0], env)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(opened)
		if !slices.Equal(opened, want) {
			t.Errorf("%s: opened %q, want %q", at, opened, want)
		}
		x := pipelinetest.NewExchange("GET", "/")
		if hooks.Request(x); x.Destination != nil {
			t.Errorf("%s: a request without a service was led to %q", at, led(x))
		}
	}
	f("", "a@a2:8080", "b@a2:443")
	f("consumer: bob", "a@a2:8080", "b@a2:443")
	f("service: a", "a@a2:8080")
	f("service: unused")
	f("service: away")
	f("route: s", "b@a2:443")
}

func TestInstancesShareDestinations(t *testing.T) {
	document := scoped("consumer: bob", "percentage: 100, upstream_host: a2") +
		"- {name: canary, consumer: eve, config: {percentage: 50, upstream_host: a2}}\n" +
		"- {name: canary, consumer: joe, config: {percentage: 50, upstream_host: a2, upstream_port: 81}}\n"
	env := pipelinetest.NewEnv(t, document, Spec)
	opened := 0
	env.Destination = func(s *config.Service) (pipeline.Destination, error) {
		opened++
		return &pipelinetest.Destination{Service: s}, nil
	}
	for _, p := range env.Document.Plugins {
		if _, err := Spec.Build(p, env); err != nil {
			t.Fatal(err)
		}
	}
	if opened != 4 {
		t.Errorf("%d destinations for 2 canaries of 2 services", opened)
	}
}

func TestBuildFaults(t *testing.T) {
	env := pipelinetest.NewEnv(t, document("percentage: 100, upstream_host: a2"), Spec)
	env.Destination = func(*config.Service) (pipeline.Destination, error) { return nil, os.ErrInvalid }
	_, err := Spec.Build(env.Document.Plugins[0], env)
	if err == nil || !strings.Contains(err.Error(), `canary of service "a": invalid argument`) {
		t.Errorf("got %v", err)
	}
	env.Destination = nil
	if _, err := Spec.Build(env.Document.Plugins[0], env); err == nil {
		t.Error("built without a way to open destinations")
	}
}

func TestPercentage(t *testing.T) {
	f := func(settings string, want, tolerance float64) {
		t.Helper()
		g := pipelinetest.Open(t, document("hash: ip, upstream_host: a2, "+settings), Spec)
		const requests = 20000
		canary := 0
		x := g.Exchange("GET", "/")
		for i := range requests {
			g.Again(x)
			x.ClientIP = netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
			if g.Serve(x); x.Destination != nil {
				canary++
			}
		}
		if got := float64(canary) / requests * 100; math.Abs(got-want) > tolerance {
			t.Errorf("{%s}: %g%%, want %g", settings, got, want)
		}
	}
	f("percentage: 0", 0, 0)
	f("percentage: 10", 10, 1)
	f("percentage: 50", 50, 1.5)
	f("percentage: 99.9", 99.9, 0.2)
	f("percentage: 100", 100, 0)
	f("percentage: 5, steps: 10", 10, 1) // as the warning says
	f("percentage: 10, steps: 2147483647", 10, 1)
}

// TestGrowingShareKeepsItsCallers is the promise of buckets: whoever is with the
// canary stays with it as the share grows.
func TestGrowingShareKeepsItsCallers(t *testing.T) {
	var gateways []*pipelinetest.Gateway
	for _, p := range []string{"1", "10", "25.5", "50", "99"} {
		gateways = append(gateways, pipelinetest.Open(t, document("hash: header, hash_header: x-user, upstream_host: a2, percentage: "+p), Spec))
	}
	for i := range 2000 {
		was := false
		for _, g := range gateways {
			is := g.Do("GET", "/", "X-User", fmt.Sprint(i)).Destination != nil
			if was && !is {
				t.Fatalf("user %d left the canary as the share grew", i)
			}
			was = is
		}
	}
}

func TestWhatIsHashed(t *testing.T) {
	// f tells whether two requests fall into one bucket of very many.
	f := func(settings string, same bool, first, second func(g *pipelinetest.Gateway) *pipeline.Exchange) {
		t.Helper()
		g := pipelinetest.Open(t, document("percentage: 50, steps: 2147483647, upstream_host: a2, "+settings), Spec)
		k := newCrowd(settingsOf(t, g), &traffic{}, g.Env)
		one, ok := k.hashOf(first(g))
		two, _ := k.hashOf(second(g))
		if got := ok && one == two; got != same {
			t.Errorf("{%s}: same bucket %v, want %v", settings, got, same)
		}
	}
	type request = func(g *pipelinetest.Gateway) *pipeline.Exchange
	who := func(consumer, ip, header string) request {
		return func(g *pipelinetest.Gateway) *pipeline.Exchange {
			x := g.Exchange("GET", "/")
			x.ClientIP = netip.Addr{}
			if ip != "" {
				from(x, ip)
			}
			if header != "" {
				x.Ctx.Request.Header.Set("X-User", header)
			}
			if consumer != "" {
				by(g, x, consumer)
			}
			return x
		}
	}
	const ip1, ip2 = "192.0.2.1", "2001:db8::2"
	f("", true, who("bob", ip1, ""), who("bob", ip2, "")) // the default is consumer
	f("hash: consumer", false, who("bob", ip1, ""), who("eve", ip1, ""))
	f("hash: consumer", true, who("", ip1, ""), who("", ip1, "u"))
	f("hash: consumer", false, who("", ip1, ""), who("", ip2, ""))
	f("hash: consumer", false, who("", "", ""), who("", "", "")) // in turn
	f("hash: ip", true, who("bob", ip1, ""), who("eve", ip1, ""))
	f("hash: ip", false, who("bob", ip1, ""), who("bob", ip2, ""))
	f("hash: ip", true, who("bob", "", ""), who("bob", "", ""))
	f("hash: ip", false, who("", "", ""), who("", "", ""))
	f("hash: header, hash_header: x-user", true, who("bob", ip1, "u"), who("eve", ip2, "u"))
	f("hash: header, hash_header: X-User", false, who("bob", ip1, "u"), who("bob", ip1, "v"))
	f("hash: header, hash_header: X-User", true, who("bob", ip1, ""), who("bob", ip2, ""))
	f("hash: header, hash_header: X-User", true, who("", ip1, ""), who("", ip1, ""))
	f("hash: header, hash_header: X-User", false, who("", "", ""), who("", "", ""))
	f("hash: none", false, who("bob", ip1, "u"), who("bob", ip1, "u"))
}

// settingsOf returns the decoded settings of the document's first instance.
func settingsOf(t *testing.T, g *pipelinetest.Gateway) *Config {
	t.Helper()
	c := defaults
	if err := config.Decode(g.Env.Document.Plugins[0].Config, &c).Err(); err != nil {
		t.Fatal(err)
	}
	return &c
}

func TestTurns(t *testing.T) {
	f := func(percentage float64, steps int) {
		t.Helper()
		g := pipelinetest.Open(t, document(fmt.Sprintf("hash: none, upstream_host: a2, percentage: %g, steps: %d", percentage, steps)), Spec)
		x := g.Exchange("GET", "/")
		canary, gap, longest := 0, 0, 0
		for range 10 * steps {
			g.Again(x)
			gap++
			if g.Serve(x); x.Destination != nil {
				canary++
				longest, gap = max(longest, gap), 0
			}
		}
		if want := float64(10*steps) * percentage / 100; float64(canary) != want {
			t.Errorf("%g%% of %d steps: %d of %d", percentage, steps, canary, 10*steps)
		}
		if limit := int(math.Ceil(100 / percentage)); longest > limit {
			t.Errorf("%g%% of %d steps: %d requests in a row without the canary, want at most %d", percentage, steps, longest, limit)
		}
	}
	f(10, 1000)
	f(50, 1000)
	f(1, 1000)
	f(100, 1)
	f(50, 2)
	f(25, 4)
	f(30, 97*10)
	f(10, 1<<12*10)
}

func TestTurnsOverManyConnections(t *testing.T) {
	g := pipelinetest.Open(t, document("hash: none, upstream_host: a2, percentage: 10"), Spec)
	canary := 0
	for i := range 1600 {
		x := g.Exchange("GET", "/")
		x.ConnID = uint64(i)
		if g.Serve(x); x.Destination != nil {
			canary++
		}
	}
	if canary < 140 || canary > 180 {
		t.Errorf("%d of 1600 requests of a connection each, want about 160", canary)
	}
}

func TestGroups(t *testing.T) {
	f := func(settings string, consumers ...string) {
		t.Helper()
		g := pipelinetest.Open(t, document("upstream_host: a2, "+settings), Spec)
		for _, c := range []string{"", "bob", "eve", "joe"} {
			x := g.Exchange("GET", "/")
			if c != "" {
				by(g, x, c)
			}
			g.Serve(x)
			if got := x.Destination != nil; got != slices.Contains(consumers, c) {
				t.Errorf("{%s}: %q with the canary: %v", settings, c, got)
			}
		}
	}
	f("hash: allow, groups: [beta]", "bob")
	f("hash: allow, groups: [testers]", "eve")
	f("hash: allow, groups: [beta, testers]", "bob", "eve")
	f("hash: allow, groups: [nobody]")
	f("hash: deny, groups: [beta]", "", "eve", "joe")
	f("hash: deny, groups: [beta, testers]", "", "joe")
	f("hash: deny, groups: [nobody]", "", "bob", "eve", "joe")
	f("hash: whitelist, groups: [beta], percentage: 100", "bob")
	f("hash: blacklist, groups: [beta], percentage: 0", "", "eve", "joe")
}

func TestOverride(t *testing.T) {
	f := func(settings, value string, want bool) {
		t.Helper()
		g := pipelinetest.Open(t, document("upstream_host: a2, canary_by_header_name: x-canary, "+settings), Spec)
		if got := g.Do("GET", "/", "X-Canary", value).Destination != nil; got != want {
			t.Errorf("{%s} %q: with the canary %v, want %v", settings, value, got, want)
		}
	}
	f("percentage: 0", "always", true)
	f("percentage: 100", "never", false)
	f("percentage: 0", "never", false)
	f("percentage: 0", "Always", false)
	f("percentage: 0", "true", false)
	f("percentage: 100", "", true)
	f("percentage: 100", strings.Repeat("never", 20), true)
	f("hash: allow, groups: [beta]", "always", true)
	f("hash: deny, groups: [beta]", "never", false)
	f("start: 4000000000", "always", true)
}

func TestFallback(t *testing.T) {
	f := func(settings string, want bool, fallbacks int64, headers ...string) {
		t.Helper()
		env := pipelinetest.NewEnv(t, document("upstream_host: a2, canary_by_header_name: X-Canary, "+settings), Spec)
		env.Destination = func(s *config.Service) (pipeline.Destination, error) {
			return &pipelinetest.Destination{Service: s, Unhealthy: true}, nil
		}
		hooks, err := Spec.Build(env.Document.Plugins[0], env)
		if err != nil {
			t.Fatal(err)
		}
		x := pipelinetest.NewExchange("GET", "/", headers...)
		x.Service = env.Document.Services[0]
		hooks.Request(x)
		if got := x.Destination != nil; got != want {
			t.Errorf("{%s}: with the canary %v, want %v", settings, got, want)
		}
		tr, err := keepTraffic(scope(withPlugin(env)), withPlugin(env))
		if err != nil {
			t.Fatal(err)
		}
		if got := tr.fallbacks.Load(); got != fallbacks {
			t.Errorf("{%s}: %d fallbacks counted, want %d", settings, got, fallbacks)
		}
	}
	f("percentage: 100", true, 0)
	f("percentage: 100, upstream_fallback: true", false, 1)
	f("percentage: 0, upstream_fallback: true", false, 0)
	f("percentage: 0, upstream_fallback: true", true, 0, "X-Canary", "always")
	f("hash: deny, groups: [x], upstream_fallback: true", false, 1)
}

// withPlugin returns env as build is given it for the first instance.
func withPlugin(env *pipeline.Env) *pipeline.Env {
	e := *env
	e.Plugin = env.Document.Plugins[0]
	return &e
}

func TestNoAllocations(t *testing.T) {
	f := func(settings, consumer string, headers ...string) {
		t.Helper()
		g := pipelinetest.Open(t, document("upstream_host: a2, "+settings), Spec)
		x := g.Exchange("GET", "/", headers...)
		g.Allocs(x, func(x *pipeline.Exchange) {
			x.UpstreamPath = nil
			if consumer != "" {
				by(g, x, consumer)
			}
		})
	}
	f("percentage: 50", "")
	f("percentage: 50", "bob")
	f("percentage: 50, hash: ip, upstream_fallback: true", "")
	f("percentage: 50, hash: none, upstream_uri: /v2", "")
	f("percentage: 50, hash: header, hash_header: X-User", "", "X-User", "u")
	f("percentage: 50, canary_by_header_name: X-Canary", "", "X-Canary", strings.Repeat("x", 200))
	f("start: 1700000000, duration: 1e10", "")
	f("hash: allow, groups: [beta]", "bob")
	f("hash: deny, groups: [beta]", "")
	f("ramp: {}", "bob")
}

func BenchmarkRequest(b *testing.B) {
	g := pipelinetest.Open(b, document("upstream_host: a2, percentage: 50, hash: ip"), Spec)
	x := g.Exchange("GET", "/")
	b.ReportAllocs()
	for b.Loop() {
		g.Chain.Begin(x)
		g.Chain.Request(x)
	}
}
