package correlationid

import (
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
)

func document(settings string) string {
	return "_format_version: \"3.0\"\nplugins:\n- name: correlation-id\n  config: {" + settings + "}\n"
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
	f("generator: random", "generator: expected one of: uuid, uuid#counter, tracker")
	f(`header_name: "X Id"`, "header_name: bad header name 'X Id'")
	f(`header_name: ""`, "header_name: length must be at least 1")
	f("echo_downstream: maybe", "echo_downstream: expected a boolean")
	f("header: X-Id", "unknown field")
}

func TestExampleLoads(t *testing.T) {
	example, err := os.ReadFile("example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	x := pipelinetest.Open(t, string(example), Spec).Do("GET", "/orders")
	if got := x.Ctx.Response.Header.Peek("X-Correlation-ID"); len(got) != 36 || string(got) != string(x.CorrelationID) {
		t.Errorf("X-Correlation-ID = %q, want %q", got, x.CorrelationID)
	}
}

const uuidPattern = `[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`

func TestGenerators(t *testing.T) {
	f := func(settings, header, pattern string) {
		t.Helper()
		g := pipelinetest.Open(t, document(settings), Spec)
		seen := map[string]bool{}
		for range 100 {
			x := g.Do("GET", "/")
			id := string(x.Ctx.Request.Header.Peek(header))
			if !regexp.MustCompile("^" + pattern + "$").MatchString(id) {
				t.Errorf("{%s}: %s = %q, want %s", settings, header, id, pattern)
			}
			if string(x.CorrelationID) != id {
				t.Errorf("{%s}: CorrelationID = %q, header %q", settings, x.CorrelationID, id)
			}
			if got := x.Ctx.Response.Header.Peek(header); got != nil {
				t.Errorf("{%s}: the client got %q without echo_downstream", settings, got)
			}
			seen[id] = true
		}
		if len(seen) != 100 && !strings.Contains(settings, "tracker") {
			t.Errorf("{%s}: %d different ids of 100", settings, len(seen))
		}
	}
	f("", "Kong-Request-ID", uuidPattern+`#\d+`)
	f("generator: uuid", "Kong-Request-ID", uuidPattern)
	f("generator: uuid, header_name: x-my-id", "X-My-Id", uuidPattern)
	f("generator: tracker", "Kong-Request-ID", `[0-9.]+-\d+-\d+-\d+-\d+-\d{10}\.\d{3}`)
}

func TestCounterGrows(t *testing.T) {
	g := pipelinetest.Open(t, document(""), Spec)
	first, _, _ := strings.Cut(string(g.Do("GET", "/").CorrelationID), "#")
	x := g.Do("GET", "/")
	second, n, _ := strings.Cut(string(x.CorrelationID), "#")
	if first != second || n != "2" {
		t.Errorf("second id of a connection is %q, want %s#2", x.CorrelationID, first)
	}
}

func TestCounterIsUniqueUnderConcurrency(t *testing.T) {
	g := pipelinetest.Open(t, document(""), Spec)
	ids := make([][]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			for range 1000 {
				x := pipelinetest.NewExchange("GET", "/")
				g.Chain.Begin(x)
				g.Chain.Request(x)
				ids[i] = append(ids[i], string(x.CorrelationID))
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, list := range ids {
		for _, id := range list {
			if seen[id] {
				t.Fatalf("%q was given twice", id)
			}
			seen[id] = true
		}
	}
}

func TestClientsIDIsKept(t *testing.T) {
	g := pipelinetest.Open(t, document("echo_downstream: true"), Spec)
	g.Service = func(x *pipeline.Exchange) {
		x.Ctx.Request.Header.Set("Kong-Request-ID", "changed by a later hook")
		x.Ctx.Response.Header.Set("Kong-Request-ID", "from the service")
		x.Ctx.Response.SetStatusCode(200)
	}
	x := g.Do("GET", "/", "kong-request-id", "mine")
	if got := string(x.Ctx.Response.Header.Peek("Kong-Request-ID")); got != "mine" || string(x.CorrelationID) != "mine" {
		t.Errorf("echoed %q, logged %q, want the client's own", got, x.CorrelationID)
	}
	// An empty one is as good as none.
	x = g.Do("GET", "/", "kong-request-id", "")
	if got := x.Ctx.Response.Header.Peek("Kong-Request-ID"); len(got) < 38 || string(got) != string(x.CorrelationID) {
		t.Errorf("echoed %q, logged %q, want a new id", got, x.CorrelationID)
	}
}

func TestEchoOnAnswersGivenEarlier(t *testing.T) {
	g := pipelinetest.Open(t, document("echo_downstream: true"), Spec)
	x := pipelinetest.NewExchange("GET", "/")
	g.Chain.Begin(x)
	x.Answer(pipeline.NewReply(503, "Down"))
	g.Chain.Response(x)
	if got := x.Ctx.Response.Header.Peek("Kong-Request-ID"); len(got) < 38 || string(got) != string(x.CorrelationID) {
		t.Errorf("echoed %q, logged %q", got, x.CorrelationID)
	}
}

func TestNoAllocations(t *testing.T) {
	f := func(settings string, headers ...string) {
		t.Helper()
		g := pipelinetest.Open(t, document(settings), Spec)
		g.Allocs(g.Exchange("GET", "/", headers...), func(x *pipeline.Exchange) {
			x.CorrelationID = nil
			if len(headers) == 0 {
				x.Ctx.Request.Header.Del("Kong-Request-ID")
			}
		})
	}
	f("echo_downstream: true")
	f("echo_downstream: true, generator: uuid")
	f("echo_downstream: true, generator: tracker")
	f("echo_downstream: true", "Kong-Request-ID", "mine")
}
