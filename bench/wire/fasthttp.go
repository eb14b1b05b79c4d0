package main

import (
	"context"
	"strconv"
)

var fasthttpSubject = &subject{
	name:  "fasthttp",
	about: "a fasthttp handler and nothing else (fasthttpd), the service's status, headers and body, GOMAXPROCS=1",
	binary: &binary{name: "fasthttpd", make: func(ctx context.Context, l *lab) (string, error) {
		return buildGo(ctx, l.dir, "bench/wire/fasthttpd")
	}},
	prepare: func(l *lab, _ string, p documentPorts) (*program, error) {
		return &program{
			args: []string{l.built["fasthttpd"], "127.0.0.1:" + strconv.Itoa(p.proxy), l.answer},
			env:  []string{"GOMAXPROCS=1"},
		}, nil
	},
}
