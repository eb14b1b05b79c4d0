package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// subject is one program under test.
type subject struct {
	name  string
	about string // what a reader of the table must know

	tools   []string // executables needed beyond those of every run
	asked   bool     // measured only when -subjects names it
	sluice  bool     // needs the sluice binary; ready when its status listener says so
	policy  bool     // keys and limits are enforced, and checked before measuring
	prepare func(l *lab, dir string, p documentPorts) (*program, error)
}

// direct is the name under which generator → service, with nothing between, is measured.
const direct = "direct"

var subjects = []*subject{
	{
		name: "relay", tools: []string{"cc"}, prepare: prepareRelay,
		about: "byte relay in C (relay.c, cc -O2): one thread, epoll, one service connection per client connection; the floor",
	},
	{
		name: "nginx", prepare: prepareNginx,
		about: "proxy_pass, HTTP/1.1 with upstream keepalive, 1 worker, access_log off, defaults otherwise (conf/nginx.conf)",
	},
	{
		name: "haproxy", tools: []string{"haproxy"}, prepare: prepareHAProxy,
		about: "mode http, http-reuse always, 1 thread, no log (conf/haproxy.cfg)",
	},
	{
		name: "plain", sluice: true, prepare: preparePlain,
		about: "sluice, one route, no plugin, GOMAXPROCS=1",
	},
	{
		name: "full", sluice: true, policy: true, prepare: prepareFull,
		about: "sluice, 10,000 routes, 1,000 consumers, key-auth, rate-limiting by consumer, upstream of 4 targets by consistent hashing on the consumer, correlation-id, prometheus, GOMAXPROCS=1",
	},
	{
		name: "full-redis", sluice: true, policy: true, asked: true, tools: []string{"redis-server"}, prepare: prepareFullRedis,
		about: "full, but that the limits are shared by Redis, batched: sync_rate 0.5; Redis beside generator and service",
	},
}

// usualSubjects are measured where -subjects says nothing.
func usualSubjects() []string {
	return slices.DeleteFunc(subjectNames(), func(name string) bool { return subjectNamed(name).asked })
}

func subjectNames() []string {
	names := make([]string, len(subjects))
	for i, s := range subjects {
		names[i] = s.name
	}
	return names
}

// subjectNamed returns the subject with that name; parseOptions has checked that there is one.
func subjectNamed(name string) *subject {
	return subjects[slices.Index(subjectNames(), name)]
}

// running is a started subject.
type running struct {
	*subject
	process   *process
	url       string
	statusURL string // of the status listener; sluice only
}

// startSubject starts s in a folder of its own and returns when it serves.
func startSubject(ctx context.Context, l *lab, s *subject) (*running, error) {
	found, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	ports := documentPorts{proxy: found[0], status: found[1], services: l.servicePorts}
	dir, err := os.MkdirTemp(l.dir, s.name+"-")
	if err != nil {
		return nil, err
	}
	prog, err := s.prepare(l, dir, ports)
	if err != nil {
		return nil, err
	}
	prog.name, prog.cpus = s.name, []int{l.o.subjectCPU}
	p, err := start(dir, prog)
	if err != nil {
		return nil, err
	}
	r := &running{subject: s, process: p, url: baseURL(ports.proxy), statusURL: baseURL(ports.status)}
	readyURL := r.url + l.lines[0].path
	if s.sluice {
		readyURL = r.statusURL + "/status/ready"
	}
	if err := l.waitReady(ctx, p, readyURL); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return r, nil
}

func prepareRelay(l *lab, _ string, p documentPorts) (*program, error) {
	return &program{args: []string{l.relay, strconv.Itoa(p.proxy), strconv.Itoa(p.services[0])}}, nil
}

func prepareNginx(l *lab, dir string, p documentPorts) (*program, error) {
	conf, err := l.render(dir, "nginx.conf", p)
	return &program{args: nginxArgs(l, dir, conf)}, err
}

// nginxArgs keeps nginx away from the system's own folders and log.
func nginxArgs(l *lab, dir, conf string) []string {
	return []string{l.nginx, "-p", dir, "-e", "stderr", "-c", conf}
}

func prepareHAProxy(l *lab, dir string, p documentPorts) (*program, error) {
	conf, err := l.render(dir, "haproxy.cfg", p)
	return &program{args: []string{l.haproxy, "-db", "-f", conf}}, err
}

func preparePlain(l *lab, dir string, p documentPorts) (*program, error) {
	return prepareSluice(l, dir, plainDocument(p))
}

func prepareFull(l *lab, dir string, p documentPorts) (*program, error) {
	return prepareSluice(l, dir, fullDocument(p, l.o.balancer, localLimits))
}

// prepareFullRedis starts the run's Redis, once.
func prepareFullRedis(l *lab, dir string, p documentPorts) (*program, error) {
	if err := l.startRedis(); err != nil {
		return nil, err
	}
	return prepareSluice(l, dir, fullDocument(p, l.o.balancer, redisLimits(l.redisPort)))
}

func prepareSluice(l *lab, dir string, document []byte) (*program, error) {
	path := filepath.Join(dir, "sluice.yaml")
	if err := os.WriteFile(path, document, 0o600); err != nil {
		return nil, err
	}
	return &program{args: []string{l.sluice, "run", "-c", path}, env: []string{"GOMAXPROCS=1"}}, nil
}

func baseURL(port int) string { return fmt.Sprintf("http://127.0.0.1:%d", port) }
