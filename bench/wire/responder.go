package main

import (
	"context"
	_ "embed" // responder.c
	"strconv"
)

//go:embed responder.c
var responderSource []byte

var responderSubject = &subject{
	name:  "responder",
	about: "responder in C (responder.c, cc -O2): one thread, epoll, looks for the blank line, sends the service's own bytes; the floor",
	tools: []tool{ccTool},
	binary: &binary{name: "responder", make: func(ctx context.Context, l *lab) (string, error) {
		return buildC(ctx, l.found[ccTool], l.dir, "responder", responderSource)
	}},
	prepare: func(l *lab, _ string, p documentPorts) (*program, error) {
		return &program{args: []string{l.built["responder"], strconv.Itoa(p.proxy), l.answer}}, nil
	},
}
