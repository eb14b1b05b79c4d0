package explain_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"
	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/cmd/sluice/explain"
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/plugin"
	"github.com/sluice-gateway/sluice/engine/snapshot"
)

func read(t *testing.T, text string) *config.Document {
	t.Helper()
	d, err := config.Read([]config.Source{{Name: "test.yaml", Data: []byte(text)}}, config.Options{Catalog: plugin.All})
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return d
}

func explained(t *testing.T, d *config.Document, r explain.Request) *explain.Explanation {
	t.Helper()
	e, err := explain.Explain(d, plugin.All, &r)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

const scopes = `_format_version: "3.0"
services:
- name: s
  url: http://127.0.0.1:1
  routes: [{name: r, paths: [/r]}]
- name: other
  url: http://127.0.0.1:1
  routes: [{name: q, paths: [/q]}]
consumer_groups: [{name: gold}, {name: silver}]
consumers:
- username: alice
  groups: [{name: silver}, {name: gold}]
- username: bob
plugins:
`

// TestChainIsTheGateways holds the explained instance to the one that runs, for
// random sets of scopes.
func TestChainIsTheGateways(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(values ...string) string { return values[random.IntN(len(values))] }
	for range 300 {
		var b strings.Builder
		b.WriteString(scopes)
		seen := map[string]bool{}
		for range 1 + random.IntN(7) {
			var scope strings.Builder
			for _, s := range [][]string{
				{"route", "", "r", "q"}, {"service", "", "s", "other"}, {"consumer", "", "alice", "bob"}, {"consumer_group", "", "gold", "silver"},
			} {
				value := pick(s[1:]...)
				if value == "" || s[0] == "consumer_group" && strings.Contains(scope.String(), "consumer:") {
					continue
				}
				fmt.Fprintf(&scope, "  %s: %s\n", s[0], value)
			}
			if seen[scope.String()] {
				continue
			}
			seen[scope.String()] = true
			fmt.Fprintf(&b, "- name: request-termination\n%s  enabled: %t\n  config: {message: at%d}\n",
				scope.String(), random.IntN(5) > 0, strings.Count(b.String(), "\n")+1)
		}
		d := read(t, b.String())
		for _, path := range []string{"/r", "/q", "/none"} {
			for _, consumer := range []string{"", "alice", "bob"} {
				e := explained(t, d, explain.Request{Method: "GET", URL: path, Consumer: consumer})
				got := ""
				if len(e.Chain) > 0 {
					got = "at" + strings.TrimPrefix(e.Chain[0].At, "test.yaml:")
				}
				if want := answer(t, d, path, consumer); got != want {
					t.Fatalf("%s as %q: explained %q, runs %q\n%s", path, consumer, got, want, b.String())
				}
			}
		}
	}
}

// answer is the message of the request-termination that runs, "" for none.
func answer(t *testing.T, d *config.Document, path, consumer string) string {
	t.Helper()
	s, err := snapshot.Compile(pipeline.Env{
		Document: d, Log: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet(), Node: &pipeline.Node{},
	}, pipeline.NewKeeper(), plugin.All)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Release()(); err != nil {
			t.Error(err)
		}
	}()
	q := &snapshot.Query{}
	q.Request.Method, q.Request.Path, q.Request.Protocol = []byte("GET"), []byte(path), "http"
	x := &pipeline.Exchange{}
	x.Reset()
	x.Ctx, x.Errors = &fasthttp.RequestCtx{}, s.Errors
	if consumer != "" {
		x.Consumer = s.Consumers.Find(consumer)
	}
	chain := s.Match(q).Chain
	chain.Begin(x)
	if chain.Request(x) == pipeline.Next {
		return ""
	}
	_, rest, _ := strings.Cut(string(x.Ctx.Response.Body()), `"message":"`)
	message, _, _ := strings.Cut(rest, `"`)
	return message
}

func TestUpstream(t *testing.T) {
	d := read(t, `_format_version: "3.0"
upstreams:
- name: pool
  targets: [{target: "10.0.0.1:80", weight: 0}, {target: "10.0.0.2:8080", weight: 10}]
- name: empty
services:
- {name: plain, url: "https://api.example.com/base/", routes: [{name: a, paths: [/a]}, {name: keep, paths: [/keep], strip_path: false}]}
- {name: pooled, host: pool, routes: [{name: b, paths: ["~/b/(?<id>\\d+)"]}]}
- {name: nobody, host: empty, routes: [{name: c, paths: [/c]}]}
routes:
- {name: alone, paths: [/alone]}
- {name: secure, paths: [/secure], protocols: [https], service: plain}
`)
	f := func(url, target, path, note string) {
		t.Helper()
		e := explained(t, d, explain.Request{Method: "POST", URL: url})
		got := explain.Upstream{}
		if e.Upstream != nil {
			got = *e.Upstream
		}
		if got.Target != target || got.Path != path || !strings.Contains(strings.Join(e.Notes, "|"), note) {
			t.Errorf("%s: target %q, path %q, notes %q", url, got.Target, got.Path, e.Notes)
		}
	}
	f("/a/x?q=1&r", "api.example.com:443", "/base/x?q=1&r", "")
	f("/a?", "api.example.com:443", "/base?", "")
	f("/keep/x", "api.example.com:443", "/base/keep/x", "")
	f("/b/17/more", "10.0.0.2:8080", "/more", "")
	f("/c", "", "", "no target can be picked: the answer is 503")
	f("/alone", "", "", "no Service found")
	f("/none", "", "", "no Route matched")
	f("/secure", "api.example.com:443", "/base", "answered with 426")
	f("https://h/secure", "api.example.com:443", "/base", "")
}

func TestLosers(t *testing.T) {
	d := read(t, `_format_version: "3.0"
services:
- name: s
  url: http://127.0.0.1:1
  routes:
  - {name: write, paths: [/x], methods: [POST]}
  - {name: host, paths: [/x], hosts: [api.example.com]}
  - {name: beta, paths: [/x], headers: {X-Version: [beta]}}
  - {name: any, paths: [/]}
`)
	e := explained(t, d, explain.Request{Method: "GET", URL: "http://other.example.com/x", Header: http.Header{"X-Version": {"1"}}})
	if e.Route == nil || e.Route.Name != "any" {
		t.Fatalf("route: %+v", e.Route)
	}
	why := map[string]string{}
	for _, l := range e.Losers {
		why[l.Name] = strings.Join(l.Why, "|")
	}
	for name, want := range map[string]string{
		"write": `methods: wants POST, got "GET"`,
		"host":  `hosts: wants api.example.com, got "other.example.com"`,
		"beta":  `headers: wants X-Version: beta, got "1"`,
	} {
		if why[name] != want {
			t.Errorf("%s lost because of %q, want %q", name, why[name], want)
		}
	}
	e = explained(t, d, explain.Request{Method: "POST", URL: "http://api.example.com/x"})
	if e.Route.Name != "host" || e.Losers[0].Name != "write" || e.Losers[0].Why[0] != "matches too, but is ranked lower" {
		t.Errorf("winner %s, first loser %+v", e.Route.Name, e.Losers[0])
	}
}

func TestRefusedRequests(t *testing.T) {
	d := read(t, "_format_version: '3.0'\n")
	for _, r := range []explain.Request{
		{Method: "GET", URL: "no-slash"}, {Method: "GET", URL: "/%zz"}, {Method: "GET", URL: "/%00"},
		{Method: "GET", URL: "/", ClientIP: "1.2.3"}, {Method: "GET", URL: "/", Consumer: "nobody"},
	} {
		if _, err := explain.Explain(d, plugin.All, &r); err == nil {
			t.Errorf("%+v is explained", r)
		}
	}
}
