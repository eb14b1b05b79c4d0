package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// Sizes of the full subject's document.
const (
	serviceCount     = 100
	routesPerService = 100
	routeCount       = serviceCount * routesPerService
	consumerCount    = 1000
	targetCount      = 4
	usualBodyBytes   = 1024
)

// cachedCount is how many different answers the caches hold.
const cachedCount = 100

// rateLimitPerMinute is never reached: what is measured is counting, not refusing.
const rateLimitPerMinute = 1_000_000_000

// echoPath lies under the first route; there the service answers with what it was told.
var echoPath = routePath(0) + "/echo"

// countPath is where the service says how many requests it has served.
const countPath = "/served"

// documentPorts are the loopback ports a document names.
type documentPorts struct {
	proxy, status int
	admin         int // 0: none
	services      []int
	connections   int // that the generator will have
}

func routePath(i int) string {
	return fmt.Sprintf("/team-%02d/orders-%02d", i/routesPerService, i%routesPerService)
}

func consumerName(i int) string { return fmt.Sprintf("consumer-%04d", i) }

// consumerKey is the API key of consumer i: 32 hexadecimal digits, as Kong would
// generate, but the same in every run.
func consumerKey(i int) string {
	sum := sha256.Sum256([]byte(consumerName(i)))
	return hex.EncodeToString(sum[:16])
}

// wrongKey belongs to nobody.
var wrongKey = strings.Repeat("0", 32)

// body is what the service answers where so many bytes are asked for.
func body(size int) string {
	const line = "A gateway adds policy to a request and should not add much else."
	return strings.Repeat(line, size/len(line)+1)[:size]
}

// localLimits are settings of rate-limiting that count in the process.
const localLimits = "    policy: local\n"

// redisLimits are settings that count in a Redis on loopback, in batches.
func redisLimits(port int) string {
	return fmt.Sprintf("    policy: redis\n    sync_rate: 0.5\n    redis: {host: 127.0.0.1, port: %d}\n", port)
}

// requestLine is one request of the load.
type requestLine struct {
	path, key string // no key: the request has none
	consumer  string
}

// requestLines are the requests of every proxied subject: each route once, the
// consumers in turn, so every key is used equally often.
func requestLines() []requestLine {
	lines := make([]requestLine, routeCount)
	for i := range lines {
		c := i % consumerCount
		lines[i] = requestLine{path: fmt.Sprintf("%s/%d", routePath(i), i), key: consumerKey(c), consumer: consumerName(c)}
	}
	return lines
}

// cachedLines are the requests of every cached subject: few enough that all answers
// are stored after a moment.
func cachedLines() []requestLine {
	lines := make([]requestLine, cachedCount)
	for i := range lines {
		lines[i] = requestLine{path: fmt.Sprintf("/catalogue/item-%03d", i)}
	}
	return lines
}

// renderRequests writes the lines for spread.lua.
func renderRequests(lines []requestLine) []byte {
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%s\t%s\n", l.path, l.key)
	}
	return []byte(b.String())
}

func writeGateway(b *strings.Builder, p documentPorts) {
	fmt.Fprintf(b, `_format_version: "3.0"
gateway:
  proxy_listen: "127.0.0.1:%d"
  status_listen: "127.0.0.1:%d"
  admin_listen: %q
`, p.proxy, p.status, p.adminListen())
}

// adminListen is on where the process is to be profiled.
func (p *documentPorts) adminListen() string {
	if p.admin == 0 {
		return "off"
	}
	return fmt.Sprintf("127.0.0.1:%d", p.admin)
}

// prometheusPlugin has every metric on that a request makes it count.
const prometheusPlugin = `- name: prometheus
  config:
    status_code_metrics: true
    latency_metrics: true
    bandwidth_metrics: true
`

func writePlainService(b *strings.Builder, p documentPorts) {
	fmt.Fprintf(b, `services:
- name: plain
  url: http://127.0.0.1:%d
  routes:
  - name: plain
    paths: ["/"]
    strip_path: false
`, p.services[0])
}

// plainDocument is one route to one service and no plugin.
func plainDocument(p documentPorts) []byte {
	var b strings.Builder
	writeGateway(&b, p)
	writePlainService(&b, p)
	return []byte(b.String())
}

// cachedDocument is plainDocument with its answers stored, for longer than a run takes,
// and counted.
func cachedDocument(p documentPorts) []byte {
	var b strings.Builder
	writeGateway(&b, p)
	b.WriteString(`plugins:
- name: proxy-cache
  config:
    strategy: memory
    cache_ttl: 3600
    content_type: ["text/plain"]
` + prometheusPlugin)
	writePlainService(&b, p)
	return []byte(b.String())
}

// fullDocument is 10,000 routes in 100 services over one upstream of four targets,
// 1,000 consumers with a key each, and global plugins. policy says where limits count.
func fullDocument(p documentPorts, balancer, policy string) []byte {
	var b strings.Builder
	writeGateway(&b, p)
	fmt.Fprintf(&b, `plugins:
- name: key-auth
  config:
    key_names: ["apikey"]
- name: rate-limiting
  config:
    minute: %d
    limit_by: consumer
%s- name: correlation-id
  config:
    header_name: Kong-Request-ID
    generator: uuid#counter
%supstreams:
- name: orders.internal
  algorithm: %s
`, rateLimitPerMinute, policy, prometheusPlugin, balancer)
	if balancer == "consistent-hashing" {
		b.WriteString("  hash_on: consumer\n")
	}
	b.WriteString("  targets:\n")
	for _, port := range p.services {
		fmt.Fprintf(&b, "  - target: 127.0.0.1:%d\n", port)
	}
	b.WriteString("services:\n")
	for s := range serviceCount {
		fmt.Fprintf(&b, "- name: team-%02d\n  host: orders.internal\n  routes:\n", s)
		for r := range routesPerService {
			fmt.Fprintf(&b, "  - name: team-%02d-orders-%02d\n    paths: [%q]\n    strip_path: false\n",
				s, r, routePath(s*routesPerService+r))
		}
	}
	b.WriteString("consumers:\n")
	for c := range consumerCount {
		fmt.Fprintf(&b, "- username: %s\n  keyauth_credentials:\n  - key: %q\n", consumerName(c), consumerKey(c))
	}
	return []byte(b.String())
}
