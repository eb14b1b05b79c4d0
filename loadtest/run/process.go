package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sluice-gateway/sluice/loadtest/machine"
)

// Times granted to children, and how much of their output an error quotes.
const (
	stopGrace    = 5 * time.Second // between SIGTERM and SIGKILL
	killGrace    = 5 * time.Second // for the kernel to reap after SIGKILL
	logTailBytes = 2048
)

// program is what to start.
type program struct {
	name string   // of the log file, and in messages
	args []string // args[0] is the executable
	env  []string // added to the driver's own
	cpus []int    // none: not pinned
	pipe *os.File // the child's descriptor 3, if any
}

// process is a child in a process group of its own. Its methods may be called concurrently.
type process struct {
	name, log string
	pid       int
	exited    chan struct{}
	err       error // read after exited is closed
}

// spawner starts children from one thread that lives as long as it: what a child is to
// receive when its parent dies follows the thread that started it, and so does the
// affinity it inherits. Safe for concurrent use.
type spawner struct {
	dir   string // for the children's logs
	calls chan func()
	mu    sync.Mutex
	live  []*process
}

// openSpawner returns a spawner, which close must end.
func openSpawner(dir string) *spawner {
	s := &spawner{dir: dir, calls: make(chan func())}
	go func() {
		runtime.LockOSThread()
		for call := range s.calls {
			call()
		}
	}()
	return s
}

// start starts p with its output appended to <name>.log.
func (s *spawner) start(p *program) (*process, error) {
	type outcome struct {
		c   *process
		err error
	}
	done := make(chan outcome)
	s.calls <- func() {
		c, err := s.fork(p)
		done <- outcome{c, err}
	}
	o := <-done
	return o.c, o.err
}

func (s *spawner) fork(p *program) (*process, error) {
	c := &process{name: p.name, log: filepath.Join(s.dir, p.name+".log"), exited: make(chan struct{})}
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the child has its own copy
	release, err := machine.PinThread(p.cpus)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	defer func() { _ = release() }() // it was allowed a moment ago
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Dir = s.dir
	cmd.Env = append(childEnv(), p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if p.pipe != nil {
		cmd.ExtraFiles = []*os.File{p.pipe}
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	c.pid = cmd.Process.Pid
	s.mu.Lock()
	s.live = append(s.live, c)
	s.mu.Unlock()
	go func() {
		c.err = cmd.Wait()
		close(c.exited)
	}()
	return c, nil
}

// close stops every child, the last one first, and the spawner.
func (s *spawner) close() error {
	s.mu.Lock()
	live := s.live
	s.mu.Unlock()
	var errs []error
	for _, c := range slices.Backward(live) {
		errs = append(errs, c.stop())
	}
	close(s.calls)
	return errors.Join(errs...)
}

// childEnv leaves out what would override a scenario's document or settings of a generator.
func childEnv() []string {
	var out []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "SLUICE_") && !strings.HasPrefix(v, "K6_") {
			out = append(out, v)
		}
	}
	return out
}

// stop ends the child's process group and returns when the child is reaped. It does
// nothing to a child that has ended: its number may be another's by then.
func (c *process) stop() error {
	if c.alive() != nil {
		return nil
	}
	_ = syscall.Kill(-c.pid, syscall.SIGTERM) // ESRCH: it ended just now
	select {
	case <-c.exited:
		return nil
	case <-time.After(stopGrace):
	}
	return c.kill()
}

// kill is stop without asking.
func (c *process) kill() error {
	if c.alive() != nil {
		return nil
	}
	_ = syscall.Kill(-c.pid, syscall.SIGKILL)
	select {
	case <-c.exited:
		return nil
	case <-time.After(killGrace):
		return fmt.Errorf("%s (pid %d) did not end within %s of SIGKILL", c.name, c.pid, killGrace)
	}
}

var errEnded = errors.New("has ended")

// alive returns an error with the end of its log if the child has ended.
func (c *process) alive() error {
	select {
	case <-c.exited:
		if c.err != nil {
			return c.explain(fmt.Errorf("%w: %w", errEnded, c.err))
		}
		return c.explain(errEnded)
	default:
		return nil
	}
}

// explain adds the child's name and the end of its log to err.
func (c *process) explain(err error) error {
	text, readErr := os.ReadFile(c.log)
	if readErr != nil {
		return fmt.Errorf("%s: %w", c.name, errors.Join(err, readErr))
	}
	return fmt.Errorf("%s: %w; its output (%s) ends:\n%s", c.name, err, c.log, text[max(0, len(text)-logTailBytes):])
}

// cpuTime returns the processor time the child has used so far, in steps of 10 ms.
func (c *process) cpuTime() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.pid))
	if err != nil {
		return 0, err
	}
	// Fields are counted behind the name, which may hold blanks: utime and stime are the 12th and 13th.
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: want 13 fields behind the name, got %q", c.pid, rest)
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", c.pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// memoryBytes returns the child's resident memory.
func (c *process) memoryBytes() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", c.pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, fmt.Errorf("/proc/%d/statm: want 2 fields, got %q", c.pid, text)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("/proc/%d/statm: %w", c.pid, err)
	}
	return pages * int64(os.Getpagesize()), nil
}
