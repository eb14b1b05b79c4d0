package trial

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sluice-gateway/sluice/loadtest/machine"
)

const (
	readyMax  = 60 * time.Second // from the start of a part to its address
	stopGrace = 3 * time.Second  // between SIGTERM and SIGKILL
	outputMax = 8 << 10          // of what a part printed, the last of which messages quote
)

// part is a child process that plays one role of a trial. It ends when stop is called,
// when this process dies, however it does, and when its standard input ends. For one
// goroutine, but for output.
type part struct {
	name    string
	address string // where it listens
	pid     int
	input   io.Closer
	exited  chan struct{}
	output  tail
}

// tail keeps the end of what is written to it. Safe for concurrent use.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if over := len(t.text) - outputMax; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}

// startPart starts command, on cpus unless nil, and waits until it has printed the
// address it listens on as the first line of its standard output.
func startPart(name string, command []string, cpus []int) (*part, error) {
	cmd := exec.Command(command[0], command[1:]...) //nolint:gosec // this executable, by the caller's word
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &part{name: name, exited: make(chan struct{})}
	cmd.Stderr = &p.output
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := startOn(cmd, cpus); err != nil {
		return nil, fmt.Errorf("start the %s: %w", name, err)
	}
	p.pid, p.input = cmd.Process.Pid, input
	said := make(chan string, 1)
	go func() {
		r := bufio.NewReader(stdout)
		text, _ := r.ReadString('\n') // without one the process has ended, which Wait tells
		said <- strings.TrimSpace(text)
		_, _ = io.Copy(io.Discard, r) // a part has no more to say there
		_ = cmd.Wait()                // parts only end by a fault, which their output explains, or by stop
		close(p.exited)
	}()
	select {
	case p.address = <-said:
	case <-time.After(readyMax):
		p.stop()
		return nil, fmt.Errorf("the %s was not ready within %s: %s", name, readyMax, p.output.String())
	}
	if p.address == "" {
		p.stop()
		return nil, &notStarted{name, p.output.String()}
	}
	return p, nil
}

// notStarted is a part that ended before it was ready.
type notStarted struct{ name, output string }

func (e *notStarted) Error() string {
	return fmt.Sprintf("the %s did not start; it said:\n%s", e.name, e.output)
}

// startOn starts cmd with the affinity cpus. The parent-death signal is sent when the
// thread that started a child ends: no goroutine here ends while locked to its own.
func startOn(cmd *exec.Cmd, cpus []int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	release, err := machine.PinThread(cpus)
	if err != nil {
		return err
	}
	defer func() { _ = release() }() // it was allowed a moment ago
	return cmd.Start()
}

// stop ends the part and waits for it. Later calls do nothing.
func (p *part) stop() {
	if p == nil {
		return
	}
	_ = syscall.Kill(-p.pid, syscall.SIGTERM) // ESRCH: gone already
	select {
	case <-p.exited:
	case <-time.After(stopGrace):
		_ = syscall.Kill(-p.pid, syscall.SIGKILL) // the same
		<-p.exited
	}
	_ = p.input.Close() // it may have been closed with the process
}

// alive returns an error that quotes the part's output if it has ended.
func (p *part) alive() error {
	select {
	case <-p.exited:
		return errors.New("the " + p.name + " has ended; it said:\n" + p.output.String())
	default:
		return nil
	}
}
