// Package pipelinetest makes exchanges and runs hooks on them, for the tests of
// plugins: real Documents, real settings, no sockets.
package pipelinetest

import (
	"io"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/VictoriaMetrics/metrics"
	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// Gateway runs requests through the plugins of one document as if every one of
// them applied to every request, in the order of its specs.
// Not safe for concurrent use, except Chain.
type Gateway struct {
	Env   *pipeline.Env
	Chain *pipeline.Chain
	// Service answers in place of a service, and of any other destination; nil
	// answers 200 with "ok".
	Service func(x *pipeline.Exchange)

	t testing.TB
}

// NewEnv returns an Env over the document, released when the test ends.
func NewEnv(t testing.TB, document string, specs ...pipeline.Spec) *pipeline.Env {
	t.Helper()
	d, err := config.Read([]config.Source{{Name: "test.yaml", Data: []byte(document)}},
		config.Options{Catalog: &pipeline.Specs{All: specs}})
	if err != nil {
		t.Fatalf("document:\n%v", err)
	}
	keeper := pipeline.NewKeeper()
	holder := keeper.Hold()
	t.Cleanup(func() {
		if err := holder.Release(); err != nil {
			t.Errorf("release: %v", err)
		}
	})
	return pipeline.NewEnv(pipeline.Env{
		Document:  d,
		Consumers: pipeline.NewConsumers(d),
		Log:       slog.New(slog.NewTextHandler(io.Discard, nil)),
		Metrics:   metrics.NewSet(),
		Node:      &pipeline.Node{ID: "7d9f1a52-1c1f-4f5e-9b39-1c0a3a1f2f10", Version: "test"},
		Errors:    pipeline.NewErrorStyle("sluice", "text/plain", [4]string{}),
		Destination: func(s *config.Service) (pipeline.Destination, error) {
			return &Destination{Service: s}, nil
		},
	}, holder)
}

// Destination is what an Env opens in place of a service: it answers 200 with "ok".
type Destination struct {
	Service   *config.Service
	Unhealthy bool
}

// Forward implements pipeline.Destination.
func (d *Destination) Forward(x *pipeline.Exchange) { answerOK(x) }

// Healthy implements pipeline.Destination.
func (d *Destination) Healthy() bool { return !d.Unhealthy }

func answerOK(x *pipeline.Exchange) {
	x.Ctx.Response.SetStatusCode(fasthttp.StatusOK)
	x.Ctx.Response.SetBodyString("ok")
}

// Open builds every plugin of the document. Specs must be in the order of
// plugin.All.
func Open(t testing.TB, document string, specs ...pipeline.Spec) *Gateway {
	t.Helper()
	env := NewEnv(t, document, specs...)
	var links []pipeline.Link
	for _, s := range specs {
		for _, p := range env.Document.Plugins {
			if p.Name != s.Name || !p.Enabled {
				continue
			}
			h, err := s.Build(p, env)
			if err != nil {
				t.Fatal(err)
			}
			if h.Close != nil {
				t.Cleanup(h.Close)
			}
			links = append(links, pipeline.Link{Everyone: &h})
		}
	}
	return &Gateway{Env: env, Chain: pipeline.NewChain(links), t: t}
}

// Exchange returns an exchange for a request of 192.0.2.1; headers alternate
// names and values. Route and Service are the document's first, if any.
func (g *Gateway) Exchange(method, uri string, headers ...string) *pipeline.Exchange {
	x := NewExchange(method, uri, headers...)
	x.Errors = g.Env.Errors
	if len(g.Env.Document.Routes) > 0 {
		x.Route, x.RouteIndex = g.Env.Document.Routes[0], 0
	}
	if len(g.Env.Document.Services) > 0 {
		x.Service = g.Env.Document.Services[0]
	}
	return x
}

// NewExchange returns an exchange outside any gateway.
func NewExchange(method, uri string, headers ...string) *pipeline.Exchange {
	x := &pipeline.Exchange{}
	x.Reset()
	x.Ctx = &fasthttp.RequestCtx{}
	r := &x.Ctx.Request
	r.Header.SetMethod(method)
	r.SetRequestURI(uri)
	r.Header.SetHost("api.example.com")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	x.Path = append([]byte(nil), r.URI().PathOriginal()...)
	x.Query = append([]byte(nil), r.URI().QueryString()...)
	x.HasQuery = len(x.Query) > 0
	x.ClientIP = netip.MustParseAddr("192.0.2.1")
	x.PeerIP = x.ClientIP
	x.Start = pipeline.Now()
	copy(x.RequestID[:], "0123456789abcdef0123456789abcdef")
	x.Errors = pipeline.NewErrorStyle("sluice", "text/plain", [4]string{})
	return x
}

// Do sends one request through the hooks and returns the finished exchange.
func (g *Gateway) Do(method, uri string, headers ...string) *pipeline.Exchange {
	x := g.Exchange(method, uri, headers...)
	g.Serve(x)
	return x
}

// Serve runs x through the hooks in the engine's order.
func (g *Gateway) Serve(x *pipeline.Exchange) {
	g.Chain.Begin(x)
	if g.Chain.Request(x) == pipeline.Next {
		x.UpstreamStart = pipeline.Now()
		switch {
		case g.Service != nil:
			g.Service(x)
		case x.Destination != nil:
			x.Destination.Forward(x)
		default:
			answerOK(x)
		}
		x.UpstreamHeaders = pipeline.Now()
		x.Source = pipeline.SourceService
		x.UpstreamStatus = x.Ctx.Response.StatusCode()
		g.Chain.Receive(x)
	}
	x.ApplyStaged()
	g.Chain.Response(x)
	x.End = pipeline.Now()
	g.Chain.Log(x)
}

// Again makes x ready to be served once more: the same request, no answer yet.
// Headers that hooks added to the request stay.
func (g *Gateway) Again(x *pipeline.Exchange) {
	was := *x
	x.Reset()
	was.Ctx.ResetUserValues()
	x.Ctx, x.Path, x.Query, x.HasQuery = was.Ctx, was.Path, was.Query, was.HasQuery
	x.ClientIP, x.PeerIP, x.Start, x.RequestID, x.Errors = was.ClientIP, was.PeerIP, was.Start, was.RequestID, was.Errors
	x.Route, x.RouteIndex, x.Service = was.Route, was.RouteIndex, was.Service
	pipeline.ClearResponse(&x.Ctx.Response)
}

// Allocs fails the test if the gateway allocates on the path of x. x is served
// again and again; prepare puts its request back into shape before each run.
func (g *Gateway) Allocs(x *pipeline.Exchange, prepare func(x *pipeline.Exchange)) {
	g.t.Helper()
	if raceEnabled {
		g.t.Log("not counted: the race detector allocates by itself")
		return
	}
	run := func() {
		x.Source = pipeline.SourceNone
		x.Consumer, x.Credential, x.Destination = nil, nil, nil
		x.Ctx.Response.Reset()
		x.Ctx.ResetUserValues()
		if prepare != nil {
			prepare(x)
		}
		g.Serve(x)
	}
	for range 10 {
		run()
	}
	if n := testing.AllocsPerRun(200, run); n != 0 {
		g.t.Errorf("%v allocations a request, want 0", n)
	}
}
