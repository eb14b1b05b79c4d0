package bench

import (
	"testing"

	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
	"github.com/sluice-gateway/sluice/engine/plugin"
)

// BenchmarkChain is the policy of a request without its sockets: the hooks of
// the headline benchmark, one after another and all together.
func BenchmarkChain(b *testing.B) {
	const consumers = "consumers:\n- {username: alice, keyauth_credentials: [{key: alice-key}]}\nservices:\n- {name: s, url: 'http://s', routes: [{name: r, paths: [/]}]}\n"
	one := map[string]string{
		"key-auth":             "plugins:\n- name: key-auth\n",
		"rate-limiting":        "plugins:\n- {name: rate-limiting, config: {minute: 1000000000, policy: local, limit_by: ip}}\n",
		"correlation-id":       "plugins:\n- name: correlation-id\n",
		"request-transformer":  "plugins:\n- {name: request-transformer, config: {add: {headers: ['X-A:1', 'X-B:$(request_id)']}, remove: {headers: [X-C]}}}\n",
		"response-transformer": "plugins:\n- {name: response-transformer, config: {add: {headers: ['X-A:1']}, remove: {headers: [Server]}}}\n",
		"prometheus":           "plugins:\n- {name: prometheus, config: {status_code_metrics: true, latency_metrics: true, bandwidth_metrics: true}}\n",
		"all": "plugins:\n- name: key-auth\n- {name: rate-limiting, config: {minute: 1000000000, policy: local, limit_by: consumer}}\n- name: correlation-id\n" +
			"- {name: prometheus, config: {status_code_metrics: true, latency_metrics: true, bandwidth_metrics: true}}\n",
	}
	for _, name := range []string{"key-auth", "rate-limiting", "correlation-id", "request-transformer", "response-transformer", "prometheus", "all"} {
		b.Run(name, func(b *testing.B) {
			g := pipelinetest.Open(b, one[name]+consumers, plugin.All.All...)
			x := g.Exchange("GET", "/api/items", "apikey", "alice-key", "User-Agent", "bench", "Accept", "*/*")
			b.ReportAllocs()
			for b.Loop() {
				g.Again(x)
				x.Ctx.Request.Header.Del("Kong-Request-Id")
				g.Serve(x)
			}
		})
	}
}
