package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "sluice-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "sluice")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	code := 1
	if err := build.Run(); err == nil {
		// The commands under test see no document of the machine's.
		_ = os.Unsetenv("SLUICE_CONFIG")
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// patience is how long a test waits for what should come soon; the machine may
// be busy.
const patience = 30 * time.Second

// eventually polls until what holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline.C:
			t.Fatalf("waited %s for: %s", patience, what)
		case <-tick.C:
		}
	}
}

// result is what a command did.
type result struct {
	stdout, stderr string
	code           int
}

// sluice runs one command to its end, in an empty directory.
func sluice(t *testing.T, args ...string) result { return sluiceWith(t, t.TempDir(), "", nil, args...) }

func sluiceWith(t *testing.T, dir, stdin string, env []string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = dir, strings.NewReader(stdin), &stdout, &stderr, append(os.Environ(), env...)
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// want fails unless the command ended with code and its output has the texts.
func (r result) want(t *testing.T, code int, stdout, stderr string) {
	t.Helper()
	if r.code != code || !strings.Contains(r.stdout, stdout) || !strings.Contains(r.stderr, stderr) {
		t.Errorf("exit code %d, want %d\nstdout: %s\nwant:   %s\nstderr: %s\nwant:   %s", r.code, code, r.stdout, stdout, r.stderr, stderr)
	}
}

// file writes a file into a directory of the test's and returns its path.
func file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	write(t, path, content)
	return path
}

// write replaces a file as editors do, by renaming.
func write(t *testing.T, path, content string) {
	t.Helper()
	next := path + ".next"
	if err := os.WriteFile(next, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

// process is a gateway under test.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	out *output
	// URLs of the listeners.
	proxy, status, admin string
	exited               chan struct{}
}

// output collects what a process writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

var readyLine = regexp.MustCompile(`(?m)^sluice \S+ ready: proxy=(\S+) status=(\S+) admin=(\S+)$`)

// launch starts a command that serves and waits until it is ready.
func launch(t *testing.T, args ...string) *process { return launchWith(t, "", args...) }

func launchWith(t *testing.T, stdin string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(binary, args...), out: &output{}, exited: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stdin = t.TempDir(), strings.NewReader(stdin)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.exited) }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.exited
		if t.Failed() {
			t.Logf("output of the gateway:\n%s", p.out)
		}
	})
	eventually(t, "the gateway is ready", func() bool {
		select {
		case <-p.exited:
			t.Fatalf("exit code %d:\n%s", p.cmd.ProcessState.ExitCode(), p.out)
		default:
		}
		m := readyLine.FindStringSubmatch(p.out.String())
		if m == nil {
			return false
		}
		p.proxy, p.status, p.admin = "http://"+m[1], "http://"+m[2], "http://"+m[3]
		return true
	})
	return p
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// exit waits for the end and returns the exit code.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.t.Fatal("the gateway does not stop")
	}
	return p.cmd.ProcessState.ExitCode()
}

// logged waits until the output has a text n times.
func (p *process) logged(text string, n int) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("%q logged %d times", text, n), func() bool { return strings.Count(p.out.String(), text) >= n })
}

// fetch sends a request and returns status and body.
func fetch(t *testing.T, method, url, body string, headers ...string) (status int, answer string) {
	t.Helper()
	status, answer, err := try(method, url, body, headers...)
	if err != nil {
		t.Fatal(err)
	}
	return status, answer
}

var client = &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}

func try(method, url, body string, headers ...string) (status int, answer string, err error) {
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func TestUsage(t *testing.T) {
	f := func(stderr string, args ...string) {
		t.Helper()
		r := sluice(t, args...)
		r.want(t, 64, "", stderr)
		if r.stdout != "" || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("%v: not one line:\n%s%s", args, r.stdout, r.stderr)
		}
	}
	f(`unknown command "rnu"; did you mean "run"?`, "rnu")
	f(`unknown command "starts"; did you mean "start"?`, "starts")
	f(`unknown command "zzz"`, "zzz")
	f(`unknown command "bogus"`, "bogus", "--help")
	f(`unknown command "bogus"`, "--help", "bogus")
	f(`unknown command "bogus"`, "help", "bogus")
	f(`unknown command "dmp"; did you mean "dump"?`, "config", "dmp", "--help")
	f("unknown flag: --overlay", "reload", "--overlay", "x.yaml")
	f(`unknown command "dmp"; did you mean "dump"?`, "config", "dmp")
	f("unknown flag: --nope", "run", "--nope")
	f("needs an argument", "check", "-c")
	f("accepts 2 arg(s), received 1", "explain", "GET")
	f("unknown command", "run", "surplus")
	f(`--format: unknown value "xml", expected one of: text, json, sarif`, "check", "--format", "xml")
	f(`--format: unknown value "toml"`, "config", "dump", "--format", "toml")
	f(`-H "nonsense": expected 'Name: value'`, "explain", "-H", "nonsense", "GET", "/")
	f("exclude each other", "demo", "--document", "--echo-only")
	f(`invalid argument "soon"`, "run", "--drain-timeout", "soon")
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{}, {"--help"}, {"help"}, {"config"}, {"run", "--help"}, {"help", "explain"}, {"config", "--help"}, {"help", "config", "dump"}} {
		r := sluice(t, args...)
		if r.want(t, 0, "Usage:", ""); r.stderr != "" {
			t.Errorf("%v: %s", args, r.stderr)
		}
	}
}

func TestNoDocument(t *testing.T) {
	for _, command := range []string{"run", "check"} {
		sluice(t, command).want(t, 1, "", "no document: name one with -c FILE or SLUICE_CONFIG")
	}
	sluice(t, "run", "-c", "/nowhere/kong.yaml").want(t, 1, "", "/nowhere/kong.yaml: no such file or directory")
}

func TestVersion(t *testing.T) {
	sluice(t, "version").want(t, 0, "sluice ", "")
	if text, flag := sluice(t, "version"), sluice(t, "--version"); text != flag {
		t.Errorf("version prints %v, --version %v", text, flag)
	}
	r := sluice(t, "version", "--format", "json")
	if r.want(t, 0, `"go":"go1.`, ""); !strings.Contains(r.stdout, `"platform":"`) {
		t.Error(r.stdout)
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		sluice(t, "completion", shell).want(t, 0, "sluice", "")
	}
}
