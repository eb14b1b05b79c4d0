// Package sluice_test holds what README.md shows against what happens.
package sluice_test

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/plugin"
)

// fences returns the fenced blocks of README.md in a language.
func fences(t *testing.T, language string) []string {
	t.Helper()
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, part := range strings.Split(string(data), "\n```"+language+"\n")[1:] {
		block, _, ok := strings.Cut(part, "\n```")
		if !ok {
			t.Fatal("a fence without end")
		}
		blocks = append(blocks, block)
	}
	if len(blocks) == 0 {
		t.Fatalf("README.md has no %s block", language)
	}
	return blocks
}

// binary builds the command once a test run.
func binary(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sluice")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/sluice")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// process is a program that runs until the test ends.
type process struct {
	cmd   *exec.Cmd
	lines chan string
}

// spawn starts a program in a process group of its own and reads what it prints.
func spawn(t *testing.T, dir string, env []string, name string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(name, args...), lines: make(chan string, 1000)}
	p.cmd.Dir, p.cmd.Env = dir, append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	go func() {
		for s := bufio.NewScanner(r); s.Scan(); {
			p.lines <- s.Text()
		}
		close(p.lines)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM)
		done := make(chan struct{})
		go func() { _ = p.cmd.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
			t.Errorf("%s did not end", name)
		}
	})
	return p
}

// await returns the first line that matches, with everything printed before it.
func (p *process) await(t *testing.T, re *regexp.Regexp) []string {
	t.Helper()
	var seen strings.Builder
	deadline := time.After(2 * time.Minute) // make run builds first
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				t.Fatalf("it ended without %s:\n%s", re, seen.String())
			}
			seen.WriteString(line + "\n")
			if m := re.FindStringSubmatch(line); m != nil {
				return m
			}
		case <-deadline:
			t.Fatalf("no %s:\n%s", re, seen.String())
		}
	}
}

var ready = regexp.MustCompile(`proxy=\S*?:(\d+) status=\S*?:(\d+)`)

// TestConsole runs the curl lines of README.md against what `make run` serves
// and compares what they print with what is shown.
func TestConsole(t *testing.T) {
	demo := spawn(t, ".", nil, "make", "run")
	port := demo.await(t, ready)[1]
	dir := t.TempDir()
	sluice := binary(t)
	broken := strings.Replace(fences(t, "yaml")[0], "name: rate-limiting", "name: rate-limting", 1)
	if err := os.WriteFile(filepath.Join(dir, "broken.yaml"), []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, block := range fences(t, "console") {
		for step := range strings.SplitSeq(strings.TrimPrefix(block, "$ "), "\n$ ") {
			command, want, _ := strings.Cut(step, "\n")
			command = strings.ReplaceAll(command, "127.0.0.1:8000", "127.0.0.1:"+port)
			out, _ := shell(t, dir, sluice, nil, command) // some are shown failing
			if !strings.HasPrefix(out, want) && !strings.Contains(out, want+"\n") {
				t.Errorf("$ %s\nprinted\n%s\nREADME.md shows\n%s", command, out, want)
			}
		}
	}
}

// shell runs a command line with the binary first in PATH.
func shell(t *testing.T, dir, sluice string, env []string, line string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), "PATH="+filepath.Dir(sluice)+":"+os.Getenv("PATH")), env...)
	out, err := cmd.CombinedOutput()
	return strings.ReplaceAll(string(out), "\r\n", "\n"), err
}

// TestCommands runs every command of README.md's shell blocks. The document is
// README.md's own. Targets of make are only looked up: this is one of them.
func TestCommands(t *testing.T) {
	dir := t.TempDir()
	sluice := binary(t)
	if err := os.WriteFile(filepath.Join(dir, "sluice.yaml"), []byte(fences(t, "yaml")[0]), 0o600); err != nil {
		t.Fatal(err)
	}
	ports := freePorts(t, 3)
	env := []string{"SLUICE_PROXY_LISTEN=127.0.0.1:" + ports[0], "SLUICE_STATUS_LISTEN=127.0.0.1:" + ports[1], "SLUICE_ADMIN_LISTEN=127.0.0.1:" + ports[2]}
	ran := 0
	for _, block := range fences(t, "sh") {
		for line := range strings.Lines(block) {
			line, _, _ = strings.Cut(strings.TrimSpace(line), " #")
			line = strings.TrimSpace(line)
			switch {
			case line == "":
				continue
			case strings.HasPrefix(line, "make "):
				if out, err := exec.Command("make", "-n", strings.TrimPrefix(line, "make ")).CombinedOutput(); err != nil {
					t.Errorf("%s: %v\n%s", line, err, out)
				}
			case strings.HasPrefix(line, "sluice run "):
				gateway := spawn(t, dir, env, sluice, strings.Fields(line)[1:]...)
				gateway.await(t, ready)
			default:
				if out, err := shell(t, dir, sluice, env, line); err != nil {
					t.Errorf("%s: %v\n%s", line, err, out)
				}
			}
			ran++
		}
	}
	if ran < 10 {
		t.Errorf("only %d commands were found", ran)
	}
}

// TestPluginsListed holds README.md's list of plugins to those that are built.
func TestPluginsListed(t *testing.T) {
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, ok := strings.Cut(string(data), "Plugins built so far:")
	list, _, closed := strings.Cut(list, ".")
	if !ok || !closed {
		t.Fatal("README.md lists no plugins")
	}
	var built []string
	for i := range plugin.All.All {
		built = append(built, plugin.All.All[i].Name)
	}
	var shown []string
	for _, m := range regexp.MustCompile("`([a-z-]+)`").FindAllStringSubmatch(list, -1) {
		shown = append(shown, m[1])
	}
	if !slices.Equal(shown, built) {
		t.Errorf("README.md lists %v\nbuilt are    %v", shown, built)
	}
}

// freePorts returns ports that were free a moment ago.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	var ports []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
	return ports
}
