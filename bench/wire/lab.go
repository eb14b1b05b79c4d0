package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
	"time"
)

//go:embed conf/service.conf conf/nginx.conf conf/haproxy.cfg
var confs embed.FS

//go:embed relay.c
var relaySource []byte

//go:embed spread.lua
var spreadScript []byte

// buildLimit bounds one compilation.
const buildLimit = 4 * time.Minute

// lab is what every measurement shares: the built programs, the files, the running
// service. It is used from the main goroutine only.
type lab struct {
	o   *options
	dir string // temporary, removed by close

	wrk, nginx, haproxy, strace, cc, redisServer string // executables found

	relay, sluice    string // executables built or given
	script, requests string // files for wrk

	lines        []requestLine
	digest       [sha256.Size]byte // of the service's answer
	servicePorts []int
	service      *process // nil until startService
	redis        *process // nil until startRedis
	redisPort    int
	client       *http.Client
}

// openLab finds the executables and makes the working folder. close must follow.
func openLab(o *options) (*lab, error) {
	l := &lab{o: o, lines: requestLines(), digest: sha256.Sum256([]byte(body()))}
	if err := l.find(); err != nil {
		return nil, err
	}
	l.client = &http.Client{
		Timeout:       requestMax,
		Transport:     &http.Transport{DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	var err error
	l.dir, err = os.MkdirTemp("", "wire-")
	if err != nil {
		return nil, err
	}
	l.script, l.requests = filepath.Join(l.dir, "spread.lua"), filepath.Join(l.dir, "requests.txt")
	err = errors.Join(
		os.WriteFile(l.script, spreadScript, 0o600),
		os.WriteFile(l.requests, renderRequests(l.lines), 0o600),
	)
	if err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

// close stops the service and removes the working folder.
func (l *lab) close() error {
	var err error
	if l.service != nil {
		err = l.service.stop()
	}
	if l.redis != nil {
		err = errors.Join(err, l.redis.stop())
	}
	return errors.Join(err, os.RemoveAll(l.dir))
}

// find resolves the executables this run needs and names the packages of those missing.
func (l *lab) find() error {
	tools := []string{"wrk", "nginx"}
	if l.o.syscalls {
		tools = append(tools, "strace")
	}
	for _, name := range l.o.subjects {
		tools = append(tools, subjectNamed(name).tools...)
	}
	paths := map[string]*string{"wrk": &l.wrk, "nginx": &l.nginx, "haproxy": &l.haproxy, "strace": &l.strace, "cc": &l.cc, "redis-server": &l.redisServer}
	var missing []error
	for _, tool := range tools {
		path, err := findTool(tool)
		if err != nil {
			missing = append(missing, err)
		}
		*paths[tool] = path
	}
	return errors.Join(missing...)
}

// findTool looks in $PATH and where daemons are, which is not in every user's $PATH.
func findTool(name string) (string, error) {
	for _, candidate := range []string{name, "/usr/sbin/" + name, "/usr/local/sbin/" + name} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path, nil
		}
	}
	apt := map[string]string{"cc": "gcc libc6-dev"}[name]
	if apt == "" {
		apt = name
	}
	return "", fmt.Errorf("%s is not installed: apt-get install %s", name, apt)
}

// build compiles the relay and sluice where a subject needs them.
func (l *lab) build(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, buildLimit)
	defer cancel()
	for _, name := range l.o.subjects {
		s := subjectNamed(name)
		var err error
		switch {
		case name == "relay":
			l.relay, err = buildRelay(ctx, l.cc, l.dir)
		case s.sluice && l.sluice == "":
			l.sluice, err = buildSluice(ctx, l.o.sluice, l.dir)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// buildRelay compiles relay.c into dir and returns the executable's path.
func buildRelay(ctx context.Context, cc, dir string) (string, error) {
	source, path := filepath.Join(dir, "relay.c"), filepath.Join(dir, "relay")
	if err := os.WriteFile(source, relaySource, 0o600); err != nil {
		return "", err
	}
	_, err := output(exec.CommandContext(ctx, cc, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-o", path, source))
	return path, err
}

// buildSluice returns the given binary's absolute path, or compiles cmd/sluice into dir.
func buildSluice(ctx context.Context, given, dir string) (string, error) {
	if given != "" {
		path, err := exec.LookPath(given)
		if err != nil {
			return "", fmt.Errorf("-sluice: %w", err)
		}
		return filepath.Abs(path)
	}
	path := filepath.Join(dir, "sluice")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/sluice-gateway/sluice/cmd/sluice")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	_, err := output(cmd)
	return path, err
}

// output runs a short command; its error carries what the command printed.
func output(cmd *exec.Cmd) (string, error) {
	text, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(text))
	}
	return string(text), nil
}

// render writes a configuration from conf/ into dir and returns its path.
func (l *lab) render(dir, name string, p documentPorts) (string, error) {
	t, err := template.ParseFS(confs, "conf/"+name)
	if err != nil {
		return "", err
	}
	var text bytes.Buffer
	err = t.Execute(&text, map[string]any{
		"Dir": dir, "Port": p.proxy, "ServicePorts": p.services,
		"Connections": l.o.connections, "Body": body(), "EchoPath": echoPath,
	})
	path := filepath.Join(dir, name)
	return path, errors.Join(err, os.WriteFile(path, text.Bytes(), 0o600))
}

// startService starts the service and checks its answer.
func (l *lab) startService(ctx context.Context) error {
	ports, err := freePorts(targetCount)
	if err != nil {
		return err
	}
	dir := filepath.Join(l.dir, "service")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	conf, err := l.render(dir, "service.conf", documentPorts{services: ports})
	if err != nil {
		return err
	}
	p, err := start(dir, &program{name: "service", args: nginxArgs(l, dir, conf), cpus: l.o.loadCPUs})
	if err != nil {
		return err
	}
	l.service, l.servicePorts = p, ports
	if err := l.waitReady(ctx, p, l.serviceURL()+l.lines[0].path); err != nil {
		return err
	}
	return verifySample(ctx, l, l.serviceURL())
}

// startRedis starts a Redis that keeps nothing on disk, on the CPUs of the load; later
// calls find it running. Whether it answers the limits' metrics tell.
func (l *lab) startRedis() error {
	if l.redis != nil {
		return nil
	}
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	dir := filepath.Join(l.dir, "redis")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	args := []string{l.redisServer, "--bind", "127.0.0.1", "--port", strconv.Itoa(ports[0]), "--save", "", "--appendonly", "no"}
	p, err := start(dir, &program{name: "redis", args: args, cpus: l.o.loadCPUs})
	if err != nil {
		return err
	}
	l.redis, l.redisPort = p, ports[0]
	return nil
}

func (l *lab) serviceURL() string { return baseURL(l.servicePorts[0]) }

// freePorts returns n different loopback ports that nobody listens on right now.
func freePorts(n int) ([]int, error) {
	if n == 0 {
		return nil, nil
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer func() { _ = ln.Close() }() // open until the others are found, so they differ
	others, err := freePorts(n - 1)
	return append(others, ln.Addr().(*net.TCPAddr).Port), err
}
