//go:build !race

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// waitMax bounds every single wait of the tests with real processes.
const waitMax = 30 * time.Second

const (
	connections = 16 // few enough that the work of one burst stays in the caches
	bodyBytes   = 1024
)

// child is a program that a test started; it is ended with the test.
type child struct {
	name   string
	pid    int
	log    string // path of its output
	exited chan struct{}
}

// cpus returns the first and the last CPU that this process may use. Load and service share
// the one, what is measured has the other for itself. Where there is one only, it is both.
func cpus(t *testing.T) (ofLoad, ofSubject int) {
	t.Helper()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	ofLoad = -1
	for cpu := range len(set) * strconv.IntSize {
		if set.IsSet(cpu) && ofLoad < 0 {
			ofLoad = cpu
		}
		if set.IsSet(cpu) {
			ofSubject = cpu
		}
	}
	return ofLoad, ofSubject
}

// pinned calls do on a thread that has this CPU only; what do starts inherits it.
func pinned(t *testing.T, cpu int, do func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, only unix.CPUSet
	only.Set(cpu)
	if err := errors.Join(unix.SchedGetaffinity(0, &before), unix.SchedSetaffinity(0, &only)); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.SchedSetaffinity(0, &before); err != nil {
			t.Error(err)
		}
	}()
	do()
}

// startChild runs a program on one CPU until the test ends.
func startChild(t *testing.T, cpu int, env []string, args ...string) *child {
	t.Helper()
	name := filepath.Base(args[0])
	log, err := os.Create(filepath.Join(t.TempDir(), name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(childEnv(), env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	pinned(t, cpu, func() { err = cmd.Start() })
	_ = log.Close() // the child holds its own copy
	if err != nil {
		t.Fatal(err)
	}
	c := &child{name: name, pid: cmd.Process.Pid, log: log.Name(), exited: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // the way it ended is no news: it is killed
		close(c.exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-c.exited
	})
	return c
}

// childEnv is the environment without what a gateway would take for its settings and
// without what is planted.
func childEnv() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "SLUICE_") && !strings.HasPrefix(v, "PLANTED") {
			env = append(env, v)
		}
	}
	return append(env, "CGO_ENABLED=0")
}

// fail ends the test with the child's own words.
func (c *child) fail(t *testing.T, err error) {
	t.Helper()
	text, _ := os.ReadFile(c.log) // without it the error itself must do
	t.Fatalf("%s: %v\n%s", c.name, err, text)
}

// cpu returns the CPU time that the process has been charged so far, in nanoseconds,
// ended threads included: the scheduler's own account, as in schedstat, read through
// the clock that every process has (clock_getcpuclockid(3)).
func (c *child) cpu(t *testing.T) float64 {
	t.Helper()
	const schedulerClock = 2
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^c.pid<<3|schedulerClock), &ts); err != nil {
		c.fail(t, fmt.Errorf("its CPU clock: %w", err))
	}
	return float64(ts.Nano())
}

// freePort returns a loopback port that nobody listens on right now.
func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// startService starts the stub service and returns its port.
func startService(t *testing.T) int {
	t.Helper()
	answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nServer: service\r\nDate: Mon, 23 Nov 2026 05:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s",
		bodyBytes, strings.Repeat("x", bodyBytes))
	path := filepath.Join(t.TempDir(), "answer")
	if err := os.WriteFile(path, []byte(answer), 0o600); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	cpu, _ := cpus(t)
	startChild(t, cpu, nil, buildC(t, "responder"), strconv.Itoa(port), path)
	return port
}

// buildC compiles one of the C programs of bench/wire.
func buildC(t *testing.T, name string) string {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Fatal("cc is not installed: apt-get install gcc libc6-dev")
	}
	path := filepath.Join(t.TempDir(), name)
	if text, err := exec.Command(cc, "-std=gnu11", "-O2", "-o", path, "../wire/"+name+".c").CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, text)
	}
	return path
}

// load sends requests over kept connections from one thread: a burst is a request on
// every connection, then all answers, so that the proxy always finds work waiting. The
// sockets block, without the poller of the runtime, which would cost more than the proxy.
type load struct {
	child   *child
	sockets []int
	request []byte
	answer  []byte
}

// openLoad connects to the child's port, waiting until it answers.
func openLoad(t *testing.T, c *child, port int) *load {
	t.Helper()
	l := &load{
		child: c, answer: make([]byte, 8<<10),
		request: []byte("GET /team-01/orders-02?page=2 HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: gate\r\nAccept: */*\r\n\r\n"),
	}
	t.Cleanup(func() {
		for _, fd := range l.sockets {
			_ = syscall.Close(fd)
		}
	})
	retry := time.NewTicker(20 * time.Millisecond)
	defer retry.Stop()
	deadline := time.After(waitMax)
	for len(l.sockets) < connections {
		fd, err := connect(port)
		if err == nil {
			l.sockets = append(l.sockets, fd)
			continue
		}
		select {
		case <-retry.C: // it does not listen yet
		case <-c.exited:
			c.fail(t, errors.New("it has ended"))
		case <-deadline:
			c.fail(t, err)
		}
	}
	l.burst(t)
	return l
}

func connect(port int) (int, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	limit := syscall.NsecToTimeval(int64(waitMax))
	err = errors.Join(
		syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1),
		syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit),
		syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &limit),
		syscall.Connect(fd, &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}))
	if err != nil {
		_ = syscall.Close(fd)
		return 0, err
	}
	return fd, nil
}

// burst sends a request on every connection and reads all answers. It returns their number.
func (l *load) burst(t *testing.T) int {
	t.Helper()
	for _, fd := range l.sockets {
		if n, err := syscall.Write(fd, l.request); err != nil || n != len(l.request) {
			l.child.fail(t, fmt.Errorf("sent %d bytes of %d: %w", n, len(l.request), err))
		}
	}
	for _, fd := range l.sockets {
		if err := l.read(fd); err != nil {
			l.child.fail(t, err)
		}
	}
	return len(l.sockets)
}

// read reads one answer, which must be a good and whole one.
func (l *load) read(fd int) error {
	for n, head := 0, -1; ; {
		m, err := syscall.Read(fd, l.answer[n:])
		if err == syscall.EINTR {
			continue
		}
		if err != nil || m == 0 {
			return fmt.Errorf("the answer ends after %d bytes: %q: %w", n, l.answer[:n], err)
		}
		n += m
		if head < 0 {
			head = bytes.Index(l.answer[:n], []byte("\r\n\r\n"))
		}
		if head < 0 {
			continue
		}
		if !bytes.HasPrefix(l.answer[:n], []byte("HTTP/1.1 200 ")) || n > head+4+bodyBytes {
			return fmt.Errorf("not the service's answer: %q", l.answer[:n])
		}
		if n == head+4+bodyBytes {
			return nil
		}
	}
}
