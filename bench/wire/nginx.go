package main

import (
	"context"
	"net/http"
)

var nginxSubject = &subject{
	name:    "nginx",
	about:   "proxy_pass, HTTP/1.1 with upstream keepalive, 1 worker, access_log off, defaults otherwise (conf/nginx.conf)",
	prepare: prepareNginx("nginx.conf"),
}

var nginxReturnSubject = &subject{
	name:    "nginx-return",
	about:   "nginx, return 200 with the body in its configuration, 1 worker, access_log off, defaults otherwise (conf/nginx-return.conf)",
	prepare: prepareNginx("nginx-return.conf"),
}

var nginxCacheSubject = &subject{
	name:    "nginx-cache",
	about:   "nginx, proxy_cache with open files kept (open_file_cache), 1 worker, access_log off, X-Cache-Status added, defaults otherwise (conf/nginx-cache.conf)",
	prepare: prepareNginx("nginx-cache.conf"),
	verify: func(ctx context.Context, l *lab, r *running) error {
		return verifyHits(ctx, l, r, func(h http.Header) bool { return h.Get("X-Cache-Status") == "HIT" })
	},
}

// prepareNginx returns how to start nginx with a configuration from conf/.
func prepareNginx(conf string) func(*lab, string, documentPorts) (*program, error) {
	return func(l *lab, dir string, p documentPorts) (*program, error) {
		path, err := l.render(dir, conf, p)
		return &program{args: nginxArgs(l, dir, path)}, err
	}
}

// nginxArgs keeps nginx away from the system's own folders and log.
func nginxArgs(l *lab, dir, conf string) []string {
	return []string{l.found[nginxTool], "-p", dir, "-e", "stderr", "-c", conf}
}
