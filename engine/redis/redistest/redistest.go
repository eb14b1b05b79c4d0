//go:build unix

// Package redistest starts real Redis servers on loopback for tests, alone, under
// Sentinels and as a cluster, and stops them when the test ends. Only tests import it.
package redistest

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Patience is how long a test waits for what should happen at once.
const Patience = 20 * time.Second

// Server is one redis-server process.
type Server struct {
	Port int
	args []string
	dir  string
	tb   testing.TB
	cmd  *exec.Cmd
	gone chan struct{}
	log  bytes.Buffer

	// Login and TLS are how Do logs in and connects: arguments of redis-cli.
	Login []string
}

// Start starts a server that keeps nothing on disk, with further arguments such as
// "--requirepass", "secret". A first argument without dashes is a configuration file.
func Start(tb testing.TB, args ...string) *Server {
	tb.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		tb.Fatal("redis-server is missing: run .ci/tools, or install the package redis-server")
	}
	s := &Server{args: args, dir: tb.TempDir(), tb: tb}
	tb.Cleanup(s.Kill)
	for range 5 {
		s.Port = freePort(tb)
		if s.start() {
			return s
		}
	}
	tb.Fatalf("redis-server does not start:\n%s", s.log.String())
	return nil
}

// Addr is host:port.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)) }

// start runs the process and waits until it answers.
func (s *Server) start() bool {
	var args []string
	rest := s.args
	if len(rest) > 0 && !strings.HasPrefix(rest[0], "--") {
		args, rest = append(args, rest[0]), rest[1:]
	}
	port := "--port"
	for _, a := range rest {
		if a == "--tls-cert-file" {
			args = append(args, "--port", "0")
			port = "--tls-port"
		}
	}
	args = append(args, port, strconv.Itoa(s.Port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", s.dir, "--daemonize", "no")
	args = append(args, rest...)
	s.log.Reset()
	s.cmd = exec.Command("redis-server", args...)
	s.cmd.SysProcAttr = attributes()
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		s.tb.Fatal(err)
	}
	gone, cmd := make(chan struct{}), s.cmd
	s.gone = gone
	go func() {
		_ = cmd.Wait()
		close(gone)
	}()
	deadline := time.Now().Add(Patience)
	for time.Now().Before(deadline) {
		select {
		case <-gone:
			return false
		case <-time.After(5 * time.Millisecond):
		}
		if c, err := net.DialTimeout("tcp", s.Addr(), time.Second); err == nil {
			_ = c.Close()
			return true
		}
	}
	return false
}

// Restart starts a killed server anew on the same port, empty.
func (s *Server) Restart() {
	s.tb.Helper()
	s.Kill()
	if !s.start() {
		s.tb.Fatalf("redis-server does not start again:\n%s", s.log.String())
	}
}

// Kill ends the process at once.
func (s *Server) Kill() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	select {
	case <-s.gone:
		return
	default:
	}
	_ = s.cmd.Process.Signal(syscall.SIGCONT)
	_ = s.cmd.Process.Kill()
	<-s.gone
}

// Stop halts the process and returns when it stands still: connections stay open and
// nothing answers.
func (s *Server) Stop() {
	s.tb.Helper()
	s.signal(syscall.SIGSTOP)
	Eventually(s.tb, "redis-server stands still", s.halted)
}

// halted reports whether the process stands still, where the system tells: all its
// threads are stopped some time after the signal was sent.
func (s *Server) halted() bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.cmd.Process.Pid))
	if err != nil || len(threads) == 0 {
		return true // no such file system here
	}
	for _, file := range threads {
		stat, err := os.ReadFile(file)
		if _, state, found := strings.Cut(string(stat), ") "); err == nil && found && state[0] != 'T' {
			return false
		}
	}
	return true
}

// Continue lets a stopped process go on.
func (s *Server) Continue() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.tb.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.tb.Fatal(err)
	}
}

// Do runs a command through redis-cli and returns what it prints.
func (s *Server) Do(args ...string) string {
	s.tb.Helper()
	out, err := s.Try(args...)
	if err != nil {
		s.tb.Fatalf("redis-cli %q: %v\n%s", args, err, out)
	}
	return out
}

// Try is Do for a command that may fail.
func (s *Server) Try(args ...string) (string, error) {
	all := append([]string{"-h", "127.0.0.1", "-p", strconv.Itoa(s.Port), "--no-auth-warning"}, s.Login...)
	out, err := exec.Command("redis-cli", append(all, args...)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// freePort returns a port on which nothing listens now.
func freePort(tb testing.TB) int {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	return port
}

// Eventually waits until ok, and fails the test if that takes longer than Patience.
func Eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.NewTimer(Patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			tb.Fatalf("in vain: %s", what)
		case <-tick.C:
		}
	}
}

// Cluster starts masters that share all slots between them.
func Cluster(tb testing.TB, masters int) []*Server {
	tb.Helper()
	nodes := make([]*Server, masters)
	for i := range nodes {
		nodes[i] = Start(tb, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(freePort(tb)),
			"--cluster-config-file", fmt.Sprintf("nodes-%d.conf", i), "--cluster-node-timeout", "2000", "--cluster-require-full-coverage", "no")
	}
	const slots = 16384
	for i, n := range nodes {
		n.Do("cluster", "addslotsrange", strconv.Itoa(i*slots/masters), strconv.Itoa((i+1)*slots/masters-1))
		n.Do("cluster", "set-config-epoch", strconv.Itoa(i+1))
	}
	for _, n := range nodes[1:] {
		_, bus, _ := strings.Cut(strings.Fields(nodes[0].Do("cluster", "nodes"))[1], "@")
		n.Do("cluster", "meet", "127.0.0.1", strconv.Itoa(nodes[0].Port), strings.Split(bus, ",")[0])
	}
	for _, n := range nodes {
		Eventually(tb, "the cluster is complete", func() bool {
			info, nodes := n.Do("cluster", "info"), n.Do("cluster", "nodes")
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_slots_ok:16384") &&
				strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", masters)) && strings.Count(nodes, "connected") == masters && !strings.Contains(nodes, "handshake")
		})
	}
	return nodes
}

// Group is a master with a replica, watched by Sentinels under the name "main".
type Group struct {
	Master, Replica *Server
	Sentinels       []*Server
}

// Sentinels starts a master, a replica and three Sentinels.
func Sentinels(tb testing.TB) *Group {
	tb.Helper()
	g := &Group{Master: Start(tb)}
	g.Replica = Start(tb, "--replicaof", "127.0.0.1 "+strconv.Itoa(g.Master.Port), "--repl-diskless-sync-delay", "0")
	Eventually(tb, "the replica follows", func() bool {
		return strings.Contains(g.Replica.Do("info", "replication"), "master_link_status:up")
	})
	for i := range 3 {
		file := filepath.Join(tb.TempDir(), fmt.Sprintf("sentinel-%d.conf", i))
		text := fmt.Sprintf("sentinel monitor main 127.0.0.1 %d 2\nsentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n", g.Master.Port)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
		g.Sentinels = append(g.Sentinels, Start(tb, file, "--sentinel"))
	}
	for _, s := range g.Sentinels {
		// They ask for roles every ten seconds by default.
		s.Do("sentinel", "debug", "info-period", "500", "publish-period", "200", "ask-period", "200")
	}
	for _, s := range g.Sentinels {
		Eventually(tb, "the Sentinels know each other and the replica", func() bool {
			m := lines(s.Do("sentinel", "master", "main"))
			return m["num-other-sentinels"] == "2" && m["num-slaves"] == "1" && m["flags"] == "master"
		})
	}
	return g
}

// lines reads an answer of alternating names and values.
func lines(out string) map[string]string {
	m := map[string]string{}
	for s := bufio.NewScanner(strings.NewReader(out)); s.Scan(); {
		name := s.Text()
		if s.Scan() {
			m[name] = s.Text()
		}
	}
	return m
}
