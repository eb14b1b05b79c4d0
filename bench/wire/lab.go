package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"text/template"
	"time"
)

//go:embed conf
var confs embed.FS

//go:embed spread.lua
var spreadScript []byte

// lab is what every measurement shares: the built programs, the files, the running
// service. It is used from the main goroutine only.
type lab struct {
	o   *options
	dir string // temporary, removed by close

	found    map[tool]string   // programs of the system
	built    map[string]string // executables built or given, by the binary's name
	script   string            // spread.lua, for wrk
	requests map[*group]*requestFile

	digests      map[int][sha256.Size]byte // of the service's bodies, by their size
	answer       string                    // file with all its bytes; from startService
	servicePorts []int
	service      *process // nil until startService
	redis        *process // nil until startRedis
	profiles     []string // files of CPU profiles taken so far
	redisPort    int
	client       *http.Client
}

// requestFile is what the generator asks every subject of a group for.
type requestFile struct {
	lines []requestLine
	path  string // of the same, for spread.lua
}

// openLab finds the executables and makes the working folder. close must follow.
func openLab(o *options) (*lab, error) {
	l := &lab{
		o: o, found: map[tool]string{}, built: map[string]string{}, requests: map[*group]*requestFile{},
		digests: map[int][sha256.Size]byte{},
	}
	for _, g := range groups {
		l.digests[g.body()] = sha256.Sum256([]byte(body(g.body())))
	}
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
	if err := l.writeLoad(); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

// writeLoad writes wrk's script and the requests of every group.
func (l *lab) writeLoad() error {
	l.script = filepath.Join(l.dir, "spread.lua")
	err := os.WriteFile(l.script, spreadScript, 0o600)
	for _, g := range groups {
		f := &requestFile{lines: g.lines(), path: filepath.Join(l.dir, g.name+".txt")}
		err = errors.Join(err, os.WriteFile(f.path, renderRequests(f.lines), 0o600))
		l.requests[g] = f
	}
	return err
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

// render writes a configuration from conf/ into dir and returns its path.
func (l *lab) render(dir, name string, p documentPorts) (string, error) {
	t, err := template.ParseFS(confs, "conf/"+name)
	if err != nil {
		return "", err
	}
	var text bytes.Buffer
	err = t.Execute(&text, map[string]any{
		"Dir": dir, "Port": p.proxy, "ServicePorts": p.services,
		"Connections": p.connections, "Body": body(usualBodyBytes), "EchoPath": echoPath, "Bodies": largeBodies, "ModulesDir": nginxModules, "CountPath": countPath,
		"Root": os.Geteuid() == 0,
	})
	path := filepath.Join(dir, name)
	return path, errors.Join(err, os.WriteFile(path, text.Bytes(), 0o600))
}

// startService starts the service, checks its answer and keeps one.
func (l *lab) startService(ctx context.Context) error {
	ports, err := freePorts(targetCount)
	if err != nil {
		return err
	}
	dir := filepath.Join(l.dir, "service")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	for name, size := range largeBodies {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body(size)), 0o600); err != nil {
			return err
		}
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
	for _, g := range groups {
		line := l.requests[g].lines[0]
		if err := l.waitReady(ctx, p, l.serviceURL()+line.path, line.key); err != nil {
			return err
		}
		if err := verifySample(ctx, l, g, l.serviceURL()); err != nil {
			return err
		}
	}
	raw, err := rawAnswer(ctx, ports[0], l.requests[groups[0]].lines[0].path)
	l.answer = filepath.Join(l.dir, "answer.http")
	return errors.Join(err, os.WriteFile(l.answer, raw, 0o600))
}

// rawAnswer returns an answer as it is on the wire, head and body.
func rawAnswer(ctx context.Context, port int, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestMax)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp4", "127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }() // everything asked for was read, or an error says so
	if err := c.SetDeadline(time.Now().Add(requestMax)); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, c.RemoteAddr()); err != nil {
		return nil, err
	}
	var raw bytes.Buffer
	resp, err := http.ReadResponse(bufio.NewReader(io.TeeReader(c, &raw)), nil)
	if err != nil {
		return nil, fmt.Errorf("the service's answer: %w", err)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return raw.Bytes(), errors.Join(err, resp.Body.Close())
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
	args := []string{l.found[redisTool], "--bind", "127.0.0.1", "--port", strconv.Itoa(ports[0]), "--save", "", "--appendonly", "no"}
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
