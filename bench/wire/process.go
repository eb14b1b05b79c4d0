package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sluice-gateway/sluice/loadtest/machine"
)

// Times granted to children.
const (
	stopGrace  = 2 * time.Second        // between SIGTERM and SIGKILL
	killGrace  = 5 * time.Second        // for the kernel to reap after SIGKILL
	pollPeriod = 10 * time.Millisecond  // readiness and other conditions
	logTail    = 2048                   // bytes of a child's log quoted in an error
	requestMax = 5 * time.Second        // one checking request
	readyMax   = 60 * time.Second       // from start to the first good answer
	probePause = 200 * time.Millisecond // limit of one readiness probe
)

// program is what to start.
type program struct {
	name string   // for messages and the log's file name
	args []string // args[0] is the executable
	env  []string // added to the harness's own
	cpus []int
}

// process is a running child in a process group of its own. Its methods may be
// called from the main goroutine only; stop must be called once done with it.
type process struct {
	name    string
	logPath string
	pid     int
	exited  chan struct{}
	err     error         // why it ended; read after exited is closed, like cpu
	cpu     time.Duration // what it used, its reaped children included
}

// start starts p with its output in dir/<name>.log. The child receives SIGTERM
// when the harness dies, however it dies. Must run on the main goroutine, which is
// locked to its thread: the child inherits that thread's affinity.
func start(dir string, p *program) (*process, error) {
	logPath := filepath.Join(dir, p.name+".log")
	log, err := os.Create(logPath)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the child holds its own copy

	// The affinity is given back to the thread it was taken from, also in tests, whose
	// goroutines are free to change threads.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	release, err := machine.PinThread(p.cpus)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(childEnv(os.Environ()), p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	// SIGTERM, not SIGKILL: nginx's master must get the chance to end its workers.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	startErr := cmd.Start()
	if err := errors.Join(startErr, release()); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	c := &process{name: p.name, logPath: logPath, pid: cmd.Process.Pid, exited: make(chan struct{})}
	go func() {
		c.err = cmd.Wait()
		if s := cmd.ProcessState; s != nil {
			c.cpu = s.UserTime() + s.SystemTime()
		}
		close(c.exited)
	}()
	return c, nil
}

// childEnv leaves out what would override a generated document: sluice takes any of
// its settings from SLUICE_<NAME>.
func childEnv(env []string) []string {
	return slices.DeleteFunc(env, func(v string) bool { return strings.HasPrefix(v, "SLUICE_") })
}

// wait waits for the child to end by itself and returns why it failed, nil if it did not.
func (c *process) wait(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("%s still running after %s", c.name, limit))
	defer cancel()
	select {
	case <-c.exited:
		if c.err != nil {
			return c.fault(c.err)
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stop ends the child's whole process group and returns when the child is reaped.
func (c *process) stop() error {
	_ = syscall.Kill(-c.pid, syscall.SIGTERM) // ESRCH: gone already
	select {
	case <-c.exited:
	case <-time.After(stopGrace):
	}
	_ = syscall.Kill(-c.pid, syscall.SIGKILL) // what ignored SIGTERM, or outlived its parent
	select {
	case <-c.exited:
		return nil
	case <-time.After(killGrace):
		return fmt.Errorf("%s (pid %d) did not end within %s of SIGKILL", c.name, c.pid, killGrace)
	}
}

// alive returns an error with the end of the log if the child has ended.
func (c *process) alive() error {
	select {
	case <-c.exited:
		if c.err == nil {
			return c.fault(errExited)
		}
		return c.fault(fmt.Errorf("%w: %w", errExited, c.err))
	default:
		return nil
	}
}

var errExited = errors.New("process has exited")

// fault adds the child's name and the end of its log to err.
func (c *process) fault(err error) error {
	log, readErr := os.ReadFile(c.logPath)
	if readErr != nil {
		return fmt.Errorf("%s: %w", c.name, errors.Join(err, readErr))
	}
	tail := strings.TrimSpace(string(log[max(0, len(log)-logTail):]))
	if tail == "" {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	return fmt.Errorf("%s: %w; its output ends:\n%s", c.name, err, tail)
}

// explain adds to a failure under load what the child itself has to say about it:
// that it has ended, or the end of its log.
func (c *process) explain(err error) error {
	if ended := c.alive(); ended != nil {
		return errors.Join(err, ended)
	}
	return c.fault(err)
}

// placeCPUs chooses the CPUs that the flags left open among those allowed.
func (o *options) placeCPUs(load string) error {
	allowed, err := machine.AllowedCPUs()
	if err != nil {
		return err
	}
	if len(allowed) < 2 {
		return fmt.Errorf("%w: two CPUs are needed, allowed: %v", errUsage, allowed)
	}
	if o.subjectCPU < 0 {
		o.subjectCPU = allowed[len(allowed)-1]
	}
	if load == "" {
		load = strconv.Itoa(allowed[0])
		if allowed[0] == o.subjectCPU {
			load = strconv.Itoa(allowed[1])
		}
	}
	for text := range strings.SplitSeq(load, ",") {
		cpu, err := strconv.Atoi(text)
		if err != nil || cpu < 0 {
			return fmt.Errorf("%w: -load-cpus: bad CPU %q", errUsage, text)
		}
		o.loadCPUs = append(o.loadCPUs, cpu)
	}
	for _, cpu := range append([]int{o.subjectCPU}, o.loadCPUs...) {
		if !slices.Contains(allowed, cpu) {
			return fmt.Errorf("%w: CPU %d is not among those allowed: %v", errUsage, cpu, allowed)
		}
	}
	for _, cpu := range o.loadCPUs {
		if cpu == o.subjectCPU {
			return fmt.Errorf("%w: CPU %d is both the subject's and the load's", errUsage, cpu)
		}
	}
	return nil
}
