package main

import (
	"context"
	_ "embed" // relay.c
	"strconv"
)

//go:embed relay.c
var relaySource []byte

var relaySubject = &subject{
	name:  "relay",
	about: "byte relay in C (relay.c, cc -O2): one thread, epoll, one service connection per client connection; the floor",
	tools: []tool{ccTool},
	binary: &binary{name: "relay", make: func(ctx context.Context, l *lab) (string, error) {
		return buildC(ctx, l.found[ccTool], l.dir, "relay", relaySource)
	}},
	prepare: func(l *lab, _ string, p documentPorts) (*program, error) {
		return &program{args: []string{l.built["relay"], strconv.Itoa(p.proxy), strconv.Itoa(p.services[0])}}, nil
	},
}
