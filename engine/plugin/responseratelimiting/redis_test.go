//go:build unix

package responseratelimiting

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
	"github.com/sluice-gateway/sluice/engine/redis/redistest"
)

// send sends one request and returns its status and what is left of videos.
func send(g *pipelinetest.Gateway, used string) string {
	g.Service = (&service{header: "X-Kong-Limit", used: []string{used}}).answer
	x := at(g.Exchange("GET", "/"), 0)
	g.Serve(x)
	return fmt.Sprint(x.Ctx.Response.StatusCode(), " ", header(x, "X-RateLimit-Remaining-videos-minute"))
}

func TestRedisIsShared(t *testing.T) {
	s := redistest.Start(t)
	settings := fmt.Sprintf("limits: {videos: {minute: 5, year: 100}, images: {month: 7}}, policy: redis, redis_host: 127.0.0.1, redis_port: %d", s.Port)
	nodes := []*pipelinetest.Gateway{pipelinetest.Open(t, document(settings), Spec), pipelinetest.Open(t, document(settings), Spec)}
	f := func(node int, used, want string) {
		t.Helper()
		if got := send(nodes[node], used); got != want {
			t.Errorf("node %d, %q: %s, want %s", node, used, got, want)
		}
	}
	f(0, "videos=2", "200 3")
	f(1, "videos=1, images=1", "200 2")
	f(0, "", "200 2")
	f(1, "videos=3", "200 0")
	f(0, "videos=1", "429 0")
	f(1, "images=3", "200 0")
	for key := range strings.FieldsSeq(s.Do("keys", "*")) {
		if ttl := s.Do("ttl", key); strings.HasPrefix(ttl, "-") {
			t.Errorf("%s has TTL %s", key, ttl)
		}
	}
}

func TestGatewayRedis(t *testing.T) {
	s := redistest.Start(t)
	f := func(settings, want string) {
		t.Helper()
		text := strings.Replace(document("limits: {videos: {minute: 5}}, "+settings), "services:",
			fmt.Sprintf("gateway: {redis: {default: {host: 127.0.0.1, port: %d}}}\nservices:", s.Port), 1)
		if got := send(pipelinetest.Open(t, text, Spec), "videos=1"); got != want {
			t.Errorf("{%s}: %s, want %s", settings, got, want)
		}
	}
	f("policy: redis", "200 4")
	f("policy: cluster", "200 3")
}

func TestRedisAway(t *testing.T) {
	s := redistest.Start(t)
	f := func(settings string, status int) {
		t.Helper()
		g := pipelinetest.Open(t, document(fmt.Sprintf("limits: {videos: {minute: 5}}, policy: redis, redis: {host: 127.0.0.1, port: %d}, %s", s.Port, settings)), Spec)
		x := g.Do("GET", "/", "Accept", "text/plain")
		r := &x.Ctx.Response
		if r.StatusCode() != status || header(x, "X-RateLimit-Remaining-videos-minute") != "" {
			t.Errorf("{%s}: %d\n%s", settings, r.StatusCode(), r.Header.String())
		}
		if status == 500 && !strings.HasPrefix(string(r.Body()), "An unexpected error occurred\n") {
			t.Errorf("%q", r.Body())
		}
		var b strings.Builder
		g.Env.Metrics.WritePrometheus(&b)
		if !strings.Contains(b.String(), "store_errors_total{plugin=\""+g.Env.Document.Plugins[0].ID+"\"} 1\n") {
			t.Error(b.String())
		}
	}
	s.Kill()
	f("fault_tolerant: true", 200)
	f("fault_tolerant: false", 500)
}

// TestRedisGoesMeanwhile is that an answer whose use cannot be counted is delivered.
func TestRedisGoesMeanwhile(t *testing.T) {
	s := redistest.Start(t)
	g := pipelinetest.Open(t, document(fmt.Sprintf("limits: {videos: {minute: 5}}, policy: redis, fault_tolerant: false, redis: {host: 127.0.0.1, port: %d}", s.Port)), Spec)
	g.Service = func(x *pipeline.Exchange) {
		s.Kill()
		x.Ctx.Response.Header.Set("X-Kong-Limit", "videos=1")
	}
	if x := g.Do("GET", "/"); x.Ctx.Response.StatusCode() != http.StatusOK || header(x, "X-Kong-Limit") != "" {
		t.Errorf("%d\n%s", x.Ctx.Response.StatusCode(), x.Ctx.Response.Header.String())
	}
}
