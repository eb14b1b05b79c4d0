package main

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// chain are twenty plugins that one route may have, each with settings that make it do
// its work for every request and let all of them pass. The order is that in which people
// add them; requests meet them in the gateway's own.
var chain = []string{
	`key-auth, config: {key_names: [apikey]}`,
	`rate-limiting, config: {minute: 1000000000, limit_by: consumer, policy: local}`,
	`correlation-id, config: {header_name: Kong-Request-ID, generator: "uuid#counter"}`,
	`prometheus, config: {status_code_metrics: true, latency_metrics: true, bandwidth_metrics: true}`,
	`request-transformer, config: {add: {headers: ["X-Gateway:sluice"]}, remove: {headers: [X-Internal]}}`,
	`response-transformer, config: {add: {headers: ["X-Chain-Response:yes"]}, remove: {headers: [X-Powered-By]}}`,
	`request-timeout, config: {http_timeout: 30000}`,
	`proxy-retry, config: {retries: 1, retry_on: [503]}`,
	`quota, config: {quota: {month: 1000000000}}`,
	`response-ratelimiting, config: {limits: {items: {minute: 1000000000}}, limit_by: consumer}`,
	`rate-limiting-advanced, config: {limit: [1000000000], window_size: [60], identifier: consumer, strategy: local}`,
	`concurrency-limiting, config: {max: 100000, limit_by: consumer}`,
	`request-transformer-advanced, config: {add: {headers: ["X-Request:$(request_id)"]}}`,
	`response-transformer-advanced, config: {add: {headers: ["X-Chain-Advanced:yes"]}}`,
	`upstream-timeout, config: {read_timeout: 30000}`,
	`custom-cache-invalidator, config: {invalidate_on: [POST]}`,
	`proxy-cache, config: {strategy: memory, request_method: [HEAD]}`, // looks at each GET and lets it by
	`proxy-cache-advanced, config: {strategy: memory, request_method: [HEAD]}`,
	`canary, config: {percentage: 50, hash: consumer, upstream_host: 127.0.0.1, upstream_port: %d}`, // of the same service
	`file-log, config: {path: /dev/null}`,
}

// chainSubjects are sluice with more and more of chain.
var chainSubjects = []*subject{
	chainSubject(0), chainSubject(1), chainSubject(2), chainSubject(5), chainSubject(10), chainSubject(20),
}

func chainSubject(n int) *subject {
	about := "sluice, one route, no plugin, GOMAXPROCS=1"
	if n > 0 {
		names := make([]string, 0, n)
		for _, p := range chain[:n] {
			name, _, _ := strings.Cut(p, ",")
			names = append(names, name)
		}
		about = "sluice, one route with " + strings.Join(names, ", ") + "; GOMAXPROCS=1"
	}
	return &subject{
		name: strconv.Itoa(n), about: about, binary: sluiceBinary, status: true,
		prepare: func(l *lab, dir string, p documentPorts) (*program, error) {
			return prepareSluice(l, dir, chainDocument(&p, n))
		},
		verify: func(ctx context.Context, l *lab, r *running) error { return verifyChain(ctx, l, r, n) },
	}
}

// chainDocument is one route with the first n plugins of chain, and one consumer.
func chainDocument(p *documentPorts, n int) []byte {
	var b strings.Builder
	writeGateway(&b, *p)
	fmt.Fprintf(&b, "consumers:\n- {username: %s, keyauth_credentials: [{key: %q}]}\n", consumerName(0), consumerKey(0))
	if n > 0 {
		b.WriteString("plugins:\n")
	}
	for _, plugin := range chain[:n] {
		if strings.Contains(plugin, "%d") {
			plugin = fmt.Sprintf(plugin, p.services[0])
		}
		fmt.Fprintf(&b, "- {name: %s}\n", plugin)
	}
	writePlainService(&b, *p)
	return []byte(b.String())
}

func chainLines() []requestLine {
	return []requestLine{{path: "/items/1", key: consumerKey(0), consumer: consumerName(0)}}
}

// verifyChain looks for what the plugins leave on an answer.
func verifyChain(ctx context.Context, l *lab, r *running, n int) error {
	header, err := l.getRight(ctx, r.group, r.url, chainLines()[0])
	if err != nil {
		return err
	}
	for at, name := range map[int]string{2: "X-RateLimit-Remaining-Minute", 6: "X-Chain-Response", 14: "X-Chain-Advanced", 17: "X-Cache-Status"} {
		if (header.Get(name) != "") != (n >= at) {
			return fmt.Errorf("with %d plugins: the answer's %s is %q: %v", n, name, header.Get(name), header)
		}
	}
	if n == 0 {
		return nil
	}
	a, err := l.get(ctx, r.url+chainLines()[0].path, wrongKey)
	if err == nil && a.status != http.StatusUnauthorized {
		err = fmt.Errorf("with %d plugins and a wrong key: want status 401, got %d", n, a.status)
	}
	return err
}
