package bench

import (
	"fmt"
	"strings"
)

const plainDocument = `
_format_version: "3.0"
services:
- name: s
  url: http://s:80
  routes:
  - {name: r, paths: [/], strip_path: false}
`

// cachedDocument is a route whose answers are kept, and counted.
const cachedDocument = `
_format_version: "3.0"
plugins:
- name: proxy-cache
  config: {strategy: memory, cache_ttl: 3600, content_type: ["text/plain"]}
- name: prometheus
  config: {status_code_metrics: true, latency_metrics: true, bandwidth_metrics: true}
services:
- name: s
  url: http://s:80
  routes:
  - {name: r, paths: [/], strip_path: false}
`

// fullDocument is the document of the headline benchmark at a smaller size:
// routes, consumers with a key each, and the policies of every day.
func fullDocument(routes, consumers int) string {
	var b strings.Builder
	b.WriteString(`
_format_version: "3.0"
upstreams:
- name: u
  targets: [{target: "a:1"}, {target: "b:1"}, {target: "c:1"}, {target: "d:1"}]
plugins:
- name: key-auth
- name: rate-limiting
  config: {minute: 100000000, hour: 1000000000, policy: local, limit_by: consumer}
- name: correlation-id
- name: prometheus
  config: {status_code_metrics: true, latency_metrics: true, bandwidth_metrics: true, per_consumer: true}
consumers:
`)
	for i := range consumers {
		fmt.Fprintf(&b, "- {username: c%d, keyauth_credentials: [{key: key-%d}]}\n", i, i)
	}
	b.WriteString("services:\n- name: s\n  host: u\n  routes:\n")
	for i := range routes {
		fmt.Fprintf(&b, "  - {name: r%d, paths: [/r/%d/], strip_path: false}\n", i, i)
	}
	b.WriteString("  - {name: all, paths: [/], strip_path: false}\n")
	return b.String()
}
