package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/loadtest/machine"
)

// Times and sizes of what surrounds the load.
const (
	readyMax     = 60 * time.Second // from a start to the first good answer
	requestMax   = 10 * time.Second // one request of the driver's own
	pollPeriod   = 20 * time.Millisecond
	answerMax    = 80 << 20 // bytes of an answer that is read
	buildMax     = 20 * time.Minute
	generatedDoc = "generated.yaml"
	changingDoc  = "generation.yaml"
)

// lab is what a run starts and what all its parts share. Its methods may be called
// concurrently once open has returned.
type lab struct {
	sc      *Scenario
	dir     string // of the results: logs, generated files, the report
	spawn   *spawner
	built   builds
	client  *http.Client
	gateway *process
	cpus    placement

	proxy, admin, status string // addresses of the gateway
	stubs                []string
	redisPort            int

	mu         sync.Mutex // guards what events change
	services   []*process
	redis      *process
	generation int
	reloads    int
	slowest    time.Duration // reload
}

// builds are the paths of the programs made for the run.
type builds struct{ sluice, stubd, vegeta, k6 string }

// placement says which CPUs the gateway and everything else run on; none: not pinned.
type placement struct{ gateway, rest []int }

// place gives the gateway the first CPU and the rest the others, where there are two.
func place() (placement, error) {
	cpus, err := machine.AllowedCPUs()
	if err != nil || len(cpus) < 2 {
		return placement{}, err
	}
	return placement{gateway: cpus[:1], rest: cpus[1:]}, nil
}

func (p placement) String() string {
	if len(p.gateway) == 0 {
		return "not pinned: one CPU for everything"
	}
	return fmt.Sprintf("gateway on CPU %v, generator, services and driver on %v", p.gateway, p.rest)
}

// openLab starts the scenario's services and the gateway and waits until it is ready.
// The caller must close the lab, also after an error.
func openLab(ctx context.Context, l *lab) error {
	l.spawn = openSpawner(l.dir)
	l.client = &http.Client{Timeout: requestMax, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	ports, err := freePorts(4 + l.sc.Services)
	if err != nil {
		return err
	}
	l.proxy, l.admin, l.status = loopback(ports[0]), loopback(ports[1]), loopback(ports[2])
	l.redisPort = ports[3]
	l.services = make([]*process, l.sc.Services)
	for i := range l.sc.Services {
		l.stubs = append(l.stubs, loopback(ports[4+i]))
		if err := l.startService(ctx, i); err != nil {
			return err
		}
	}
	if l.sc.Redis {
		if err := l.startRedis(ctx); err != nil {
			return err
		}
	}
	return l.startGateway(ctx)
}

// close stops everything that was started.
func (l *lab) close() error {
	if l.spawn == nil {
		return nil
	}
	l.client.CloseIdleConnections()
	return l.spawn.close()
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// freePorts returns ports that nobody listens on now.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }() // all at the end, so that no port comes twice
		addr, ok := l.Addr().(*net.TCPAddr)
		if !ok {
			return nil, fmt.Errorf("listener has address %v, want TCP", l.Addr())
		}
		ports[i] = addr.Port
	}
	return ports, nil
}

func (l *lab) startService(ctx context.Context, i int) error {
	c, err := l.spawn.start(&program{
		name: fmt.Sprintf("service-%d", i),
		args: []string{l.built.stubd, "-listen", l.stubs[i]},
		cpus: l.cpus.rest,
	})
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.services[i] = c
	l.mu.Unlock()
	return l.ready(ctx, c, "http://"+l.stubs[i]+"/health")
}

func (l *lab) startRedis(ctx context.Context) error {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return fmt.Errorf("the scenario needs Redis: %w; install redis-server from the system's packages, or run: make tools", err)
	}
	c, err := l.spawn.start(&program{
		name: "redis",
		args: []string{path, "--bind", "127.0.0.1", "--port", strconv.Itoa(l.redisPort), "--save", "", "--appendonly", "no", "--maxmemory", "256mb"},
		cpus: l.cpus.rest,
	})
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.redis = c
	l.mu.Unlock()
	return until(ctx, c, func(ctx context.Context) error {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", loopback(l.redisPort))
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

func (l *lab) startGateway(ctx context.Context) error {
	args := []string{l.built.sluice, "run", "-c", filepath.Join(l.sc.dir, "sluice.yaml")}
	if text := l.sc.Generate.document(); text != nil {
		if err := os.WriteFile(filepath.Join(l.dir, generatedDoc), text, 0o644); err != nil {
			return err
		}
		args = append(args, "-c", filepath.Join(l.dir, generatedDoc))
	}
	if l.sc.does("reload") {
		if err := l.writeGeneration(0); err != nil {
			return err
		}
		args = append(args, "-c", filepath.Join(l.dir, changingDoc))
	}
	env := []string{
		"SLUICE_PROXY_LISTEN=" + l.proxy, "SLUICE_ADMIN_LISTEN=" + l.admin, "SLUICE_STATUS_LISTEN=" + l.status,
		"REDIS_PORT=" + strconv.Itoa(l.redisPort),
	}
	for i, address := range l.stubs {
		env = append(env, fmt.Sprintf("SERVICE_%d=%s", i, address))
	}
	c, err := l.spawn.start(&program{name: "gateway", args: args, env: env, cpus: l.cpus.gateway})
	if err != nil {
		return err
	}
	l.gateway = c
	return l.ready(ctx, c, "http://"+l.status+"/status/ready")
}

// ready waits until url is answered 200.
func (l *lab) ready(ctx context.Context, c *process, url string) error {
	return until(ctx, c, func(ctx context.Context) error {
		status, _, err := l.get(ctx, url)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("%s answers %d", url, status)
		}
		return err
	})
}

// until repeats try until it succeeds, c ends or readyMax has passed.
func until(ctx context.Context, c *process, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyMax, fmt.Errorf("not ready after %s", readyMax))
	defer cancel()
	tick := time.NewTicker(pollPeriod)
	defer tick.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-c.exited:
			return c.alive()
		case <-ctx.Done():
			return c.explain(errors.Join(context.Cause(ctx), err))
		case <-tick.C:
		}
	}
}

// get asks for url and returns the status and the body.
func (l *lab) get(ctx context.Context, url string) (int, []byte, error) {
	return l.do(ctx, http.MethodGet, url)
}

func (l *lab) do(ctx context.Context, method, url string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerMax))
	return resp.StatusCode, body, err
}

// does says whether one of the events is such a deed.
func (s *Scenario) does(deed string) bool {
	for _, e := range s.Events {
		if e.Do == deed {
			return true
		}
	}
	return false
}

// document is what Generate adds, nil if nothing.
func (g *Generate) document() []byte {
	if g.Routes == 0 && g.Consumers == 0 {
		return nil
	}
	var b bytes.Buffer
	b.WriteString("_format_version: \"3.0\"\n")
	if g.Routes > 0 {
		b.WriteString("routes:\n")
	}
	for i := range g.Routes {
		fmt.Fprintf(&b, "- name: r-%d\n  service: {name: %s}\n  paths: [/r/%d]\n", i, g.Service, i)
	}
	if g.Consumers > 0 {
		b.WriteString("consumers:\n")
	}
	for i := range g.Consumers {
		fmt.Fprintf(&b, "- username: c-%d\n  keyauth_credentials:\n  - key: key-%d\n", i, i)
	}
	return b.Bytes()
}
