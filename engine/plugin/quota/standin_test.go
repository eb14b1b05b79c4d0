package quota_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
	"github.com/sluice-gateway/sluice/engine/plugin/quota"
	"github.com/sluice-gateway/sluice/engine/plugin/requesttermination"
	"github.com/sluice-gateway/sluice/engine/snapshot"
)

// TestStandIn is that a disabled request-termination of the same scope, and no other,
// answers when the quota is exceeded.
func TestStandIn(t *testing.T) {
	f := func(scope, plugins, header string, status int, body string) {
		t.Helper()
		specs := &pipeline.Specs{All: []pipeline.Spec{quota.Spec, requesttermination.Spec}}
		d, err := config.Read([]config.Source{{Name: "test.yaml", Data: fmt.Appendf(nil, `
_format_version: "3.0"
services:
- {name: a, url: "http://a.internal", routes: [{name: r, paths: [/]}]}
consumers:
- {username: bob}
consumer_groups:
- {name: gold}
plugins:
- {name: quota, %s config: {quota: {year: 1}, state_dir: %q}}
%s
`, scope, t.TempDir(), plugins)}}, config.Options{Catalog: specs})
		if err != nil {
			t.Fatal(err)
		}
		s, err := snapshot.Compile(pipeline.Env{
			Document: d, Log: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet(), Node: &pipeline.Node{},
		}, pipeline.NewKeeper(), specs)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := s.Release()(); err != nil {
				t.Error(err)
			}
		}()
		q := &snapshot.Query{}
		var x *pipeline.Exchange
		for range 2 {
			x = pipelinetest.NewExchange("GET", "/", "Accept", "text/plain", "X-Trigger", header)
			x.Errors = s.Errors
			h := &x.Ctx.Request.Header
			q.Request.Method, q.Request.Host, q.Request.Path, q.Request.Headers, q.Request.Protocol = []byte("GET"), []byte("a"), []byte("/"), h, "http"
			chain := s.Match(q).Chain
			x.Consumer = &pipeline.Consumer{Consumer: d.Consumers[0], Groups: d.ConsumerGroups}
			chain.Begin(x)
			chain.Request(x)
			x.UpstreamStatus = 200
			x.ApplyStaged()
			chain.Log(x)
		}
		r := &x.Ctx.Response
		if r.StatusCode() != status || !strings.Contains(string(r.Body()), body) || len(r.Header.Peek("Retry-After")) == 0 || string(r.Header.Peek("X-Quota-Remaining")) != "0" {
			t.Errorf("quota at {%s}, %s: %d %q\n%s", scope, plugins, r.StatusCode(), r.Body(), r.Header.String())
		}
	}
	termination := func(scope string) string {
		return "- {name: request-termination, enabled: false, " + scope + " config: {status_code: 402, message: Pay}}"
	}
	const everywhere, service, route, consumer, group = "", "service: a,", "route: r,", "consumer: bob,", "consumer_group: gold,"
	own := "API quota exceeded"
	for _, scope := range []string{everywhere, service, route, consumer, group, route + " " + consumer} {
		f(scope, termination(scope), "", 402, `{"message":"Pay"}`)
		f(scope, "", "", 429, own)
	}
	f(service, termination(everywhere), "", 429, own)
	f(everywhere, termination(service), "", 429, own)
	f(consumer, termination(group), "", 429, own)
	f(route, termination(service)+"\n"+termination(route), "", 402, "Pay")
	f(route, "- {name: request-termination, enabled: false, route: r}", "", 503, "Service unavailable")
	// One that asks for a condition answers only where it is met.
	conditional := "- {name: request-termination, enabled: false, config: {status_code: 402, message: Pay, trigger: x-other}}"
	f(everywhere, conditional, "", 429, own)
	f(everywhere, strings.Replace(conditional, "x-other", "x-trigger", 1), "yes", 402, "Pay")
}
