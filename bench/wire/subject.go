package main

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// subject is one program under test. Its file also embeds or names what is needed to
// build, start and check it.
type subject struct {
	name  string
	about string // what a reader of the table must know

	tools   []tool  // needed beyond those of every run
	binary  *binary // made for the run; nil for a program of the system
	status  bool    // has a status listener that says when it is ready
	prepare func(l *lab, dir string, p documentPorts) (*program, error)

	// verify checks, before every measurement, what the name promises beyond right
	// answers; nil when that is all.
	verify func(ctx context.Context, l *lab, r *running) error
}

// direct is the name under which generator → service, with nothing between, is measured.
const direct = "direct"

// running is a started subject.
type running struct {
	row
	process   *process
	url       string
	statusURL string // of the status listener; where there is one
	adminURL  string // of the Admin listener; sluice has one where it is profiled
}

// startSubject starts the named subject in a folder of its own and returns when it serves.
func startSubject(ctx context.Context, l *lab, name string) (*running, error) {
	s := mustRow(name)
	found, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	ports := documentPorts{
		proxy: found[0], status: found[1], services: l.servicePorts,
		connections: l.o.connectionsOf(s.group),
	}
	if l.o.profile != "" {
		ports.admin = found[2]
	}
	dir, err := os.MkdirTemp(l.dir, s.subject.name+"-")
	if err != nil {
		return nil, err
	}
	prog, err := s.prepare(l, dir, ports)
	if err != nil {
		return nil, err
	}
	prog.name, prog.cpus = s.subject.name, []int{l.o.subjectCPU}
	p, err := start(dir, prog)
	if err != nil {
		return nil, err
	}
	r := &running{row: s, process: p, url: baseURL(ports.proxy), statusURL: baseURL(ports.status), adminURL: baseURL(ports.admin)}
	readyURL := r.url + l.requests[r.group].lines[0].path
	if s.status {
		readyURL = r.statusURL + "/status/ready"
	}
	if err := l.waitReady(ctx, p, readyURL, l.requests[r.group].lines[0].key); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return r, nil
}

// startWarm starts a subject, checks it and loads it until it is warm. The caller stops it.
func startWarm(ctx context.Context, l *lab, name string) (*running, error) {
	r, err := startSubject(ctx, l, name)
	if err != nil {
		return nil, err
	}
	err = verify(ctx, l, r)
	if err == nil {
		_, err = loadAndCheck(ctx, l, r.group, r.url, l.o.warmUpSeconds)
	}
	if err != nil {
		return nil, errors.Join(r.process.explain(err), r.process.stop())
	}
	return r, nil
}

func baseURL(port int) string { return fmt.Sprintf("http://127.0.0.1:%d", port) }
