package main

import (
	"context"
	"net/http"
	"strconv"
	"strings"
)

var varnishTool = tool{name: "varnishd", apt: "varnish", version: "-V"}

var varnishSubject = &subject{
	name:  "varnish",
	about: "varnishd, 1 thread pool with a thread for every connection, malloc storage of 256 MB, ttl 10m, defaults otherwise (conf/varnish.vcl); manager and child are both charged",
	tools: []tool{varnishTool, ccTool}, // it compiles its VCL
	prepare: func(l *lab, dir string, p documentPorts) (*program, error) {
		vcl, err := l.render(dir, "varnish.vcl", p)
		return &program{args: varnishArgs(l, dir, vcl, &p)}, err
	},
	verify: func(ctx context.Context, l *lab, r *running) error {
		return verifyHits(ctx, l, r, isVarnishHit)
	},
}

// varnishArgs keeps varnishd in the foreground, under the caller's user, off the
// network but for one loopback port, and with its files in dir.
func varnishArgs(l *lab, dir, vcl string, p *documentPorts) []string {
	// A connection that is never idle holds its thread. Threads made before the
	// measurement are not made during it, and none of them ends. The default limit,
	// 5000, is above what -connections can ask for.
	threads := p.connections + 100
	return []string{
		l.found[varnishTool], "-F", "-j", "none", "-T", "none", "-n", dir, "-f", vcl,
		"-a", "127.0.0.1:" + strconv.Itoa(p.proxy), "-s", "malloc,256m",
		"-p", "thread_pools=1", "-p", "thread_pool_min=" + strconv.Itoa(threads),
	}
}

// isVarnishHit reports whether X-Varnish names two transactions: this one, and the one
// that stored the answer.
func isVarnishHit(h http.Header) bool { return len(strings.Fields(h.Get("X-Varnish"))) == 2 }
