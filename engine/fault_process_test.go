//go:build linux

package engine_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// within polls until holds, for at most patience.
func within(t *testing.T, patience time.Duration, what string, holds func() bool) {
	t.Helper()
	deadline, tick := time.Now().Add(patience), time.NewTicker(2*time.Millisecond)
	defer tick.Stop()
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for: %s", patience, what)
		}
		<-tick.C
	}
}

// faultPatience is for what happens at once on a machine that is not busy.
const faultPatience = 20 * time.Second

// ledger counts how often services got each request.
type ledger struct {
	mu  sync.Mutex
	got map[int]int
}

func (l *ledger) add(id int) {
	l.mu.Lock()
	l.got[id]++
	l.mu.Unlock()
}

func (l *ledger) times(id int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.got[id]
}

// faultTarget is a service process as the suite sees it.
type faultTarget struct {
	t      *testing.T
	addr   string
	ledger *ledger

	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string   // what it tells, but for requests
	ended chan struct{} // it has exited and all it told was read
}

// freeAddr returns an address outside the range that the kernel gives to outgoing
// connections: nothing takes it while its service is dead.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 200 {
		addr := "127.0.0.1:" + strconv.Itoa(16000+rand.IntN(15000))
		if l, err := net.Listen("tcp", addr); err == nil {
			_ = l.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}

// run starts the process and waits until it listens.
func (f *faultTarget) run() {
	f.t.Helper()
	f.cmd = exec.Command(os.Args[0], "-test.run=^TestFaultServiceProcess$", "-test.timeout=5m")
	f.cmd.Env = append(os.Environ(), faultServiceEnv+"="+f.addr)
	f.cmd.Stderr = os.Stderr
	f.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it may be stopped when the suite dies
	out, err := f.cmd.StdoutPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	if f.in, err = f.cmd.StdinPipe(); err != nil {
		f.t.Fatal(err)
	}
	if err := f.cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.lines, f.ended = make(chan string, 16), make(chan struct{})
	go f.read(f.cmd, out, f.lines, f.ended)
	f.await("ready ")
}

func (f *faultTarget) read(cmd *exec.Cmd, out io.Reader, lines chan<- string, ended chan<- struct{}) {
	defer close(ended)
	for in := bufio.NewScanner(out); in.Scan(); {
		text, ours := strings.CutPrefix(in.Text(), "fault ")
		switch id, got := strings.CutPrefix(text, "got "); {
		case got:
			n, _ := strconv.Atoi(id)
			f.ledger.add(n)
		case ours:
			lines <- text
		}
	}
	_ = cmd.Wait() // killed, as it should be
}

// await waits for one line.
func (f *faultTarget) await(want string) {
	f.t.Helper()
	select {
	case got := <-f.lines:
		if got != want {
			f.t.Fatalf("service %s says %q, want %q", f.addr, got, want)
		}
	case <-f.ended:
		f.t.Fatalf("service %s has ended", f.addr)
	case <-time.After(faultPatience):
		f.t.Fatalf("service %s does not say %q", f.addr, want)
	}
}

// order gives the process a command and waits until it is done.
func (f *faultTarget) order(text string) {
	f.t.Helper()
	if _, err := io.WriteString(f.in, text+"\n"); err != nil {
		f.t.Fatal(err)
	}
	f.await(text)
}

func (f *faultTarget) signal(s syscall.Signal) {
	f.t.Helper()
	if err := f.cmd.Process.Signal(s); err != nil {
		f.t.Fatal(err)
	}
}

// kill ends the process and waits until it is gone.
func (f *faultTarget) kill() {
	_ = f.cmd.Process.Kill() // it may have ended
	<-f.ended
}

// faultEvent is a change of sides that the gateway has logged.
type faultEvent struct {
	at       time.Time
	up       bool
	upstream string
	addr     string
}

// faultGateway is a gateway process.
type faultGateway struct {
	t             *testing.T
	cmd           *exec.Cmd
	file          string // its document
	proxy, status string
	ended         chan struct{}

	mu     sync.Mutex
	out    bytes.Buffer
	events []faultEvent
}

// runGateway builds the gateway and runs it over a document.
func runGateway(t *testing.T, text string) *faultGateway {
	t.Helper()
	return startGateway(t, buildGateway(t), text)
}

// buildGateway builds the gateway, with the race detector if this test has it, and
// returns the name of the binary, which is gone with the test.
func buildGateway(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "sluice")
	args := []string{"build", "-pgo=off", "-o", binary} // off: the packages are those of this test, built already
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "-race" && s.Value == "true" {
				args = append(args, "-race")
			}
		}
	}
	if out, err := exec.Command("go", append(args, "../cmd/sluice")...).CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

// startGateway runs a binary over a document, with an environment of its own besides
// that of this test.
func startGateway(t *testing.T, binary, text string, env ...string) *faultGateway {
	t.Helper()
	dir := t.TempDir()
	g := &faultGateway{t: t, file: filepath.Join(dir, "kong.yaml"), ended: make(chan struct{})}
	g.write(text)
	g.cmd = exec.Command(binary, "run", "-c", g.file, "--no-watch")
	g.cmd.Dir = dir
	g.cmd.Env = append(os.Environ(), env...)
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	g.cmd.Stdout, g.cmd.Stderr = w, w
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	go g.read(r)
	t.Cleanup(func() {
		_ = g.cmd.Process.Kill() // it may have ended
		<-g.ended
	})
	within(t, faultPatience, "the gateway is ready", func() bool {
		m := faultReady.FindStringSubmatch(g.output())
		if m != nil {
			g.proxy, g.status = m[1], m[2]
		}
		return m != nil
	})
	return g
}

var (
	faultReady  = regexp.MustCompile(`(?m)^sluice \S+ ready: proxy=(\S+) status=(\S+)`)
	faultChange = regexp.MustCompile(`^time=(\S+) .*msg="target is (taken out|back)" upstream=(\S+) .*address=(\S+)`)
)

func (g *faultGateway) write(text string) {
	g.t.Helper()
	if err := os.WriteFile(g.file, []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// read collects what the gateway logs.
func (g *faultGateway) read(r *os.File) {
	defer close(g.ended)
	defer func() { _ = r.Close() }()
	for in := bufio.NewScanner(r); in.Scan(); {
		g.mu.Lock()
		g.out.Write(append(in.Bytes(), '\n'))
		if m := faultChange.FindStringSubmatch(in.Text()); m != nil {
			at, err := time.Parse(time.RFC3339Nano, m[1])
			if err == nil {
				// Stamps are cut to milliseconds: what it says was so one later.
				g.events = append(g.events, faultEvent{at.Add(time.Millisecond), m[2] == "back", m[3], m[4]})
			}
		}
		g.mu.Unlock()
	}
	_ = g.cmd.Wait()
}

func (g *faultGateway) output() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.out.String()
}

// changes returns the changes of one target since a time.
func (g *faultGateway) changes(upstream, addr string, since time.Time) (list []faultEvent) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.events {
		if e.upstream == upstream && e.addr == addr && !e.at.Before(since) {
			list = append(list, e)
		}
	}
	return list
}

// first returns when a target changed sides first since a time, zero if it has not.
func (g *faultGateway) first(up bool, upstream, addr string, since time.Time) time.Time {
	for _, e := range g.changes(upstream, addr, since) {
		if e.up == up {
			return e.at
		}
	}
	return time.Time{}
}

// reload makes another document live.
func (g *faultGateway) reload(text string) {
	g.t.Helper()
	applied := strings.Count(g.output(), "configuration applied")
	g.write(text)
	if err := g.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		g.t.Fatal(err)
	}
	within(g.t, faultPatience, "the reloaded document is live", func() bool {
		return strings.Count(g.output(), "configuration applied") > applied
	})
}

// metric returns a metric without labels.
func (g *faultGateway) metric(name string) int {
	g.t.Helper()
	m := regexp.MustCompile(`(?m)^` + name + ` (\d+)`).FindSubmatch(g.metrics())
	if m == nil {
		g.t.Fatalf("no metric %s", name)
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}

// metrics returns all metrics.
func (g *faultGateway) metrics() []byte {
	g.t.Helper()
	resp, err := noRedirects.Get("http://" + g.status + "/metrics")
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		g.t.Fatalf("metrics: %d %v", resp.StatusCode, err)
	}
	return body
}

// files returns how many files, of which nearly all are connections, are open.
func (g *faultGateway) files() int {
	g.t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", g.cmd.Process.Pid))
	if err != nil {
		g.t.Fatal(err)
	}
	return len(list)
}
