// Command wire measures what a request costs on the wire: the CPU time a program
// spends on it, a table for each of two questions.
//
// What does it cost to pass a request on, between a generator (wrk) and a service
// (nginx, 1 KiB)? Sluice with nothing and with everything switched on, next to nginx,
// HAProxy and a byte relay in C that is the floor.
//
// What does it cost to answer from a cache, the service not asked? Sluice next to
// nginx, Varnish, a bare fasthttp handler and a responder in C that is the floor.
//
//	go run ./bench/wire                                 both tables, 5 rounds
//	go run ./bench/wire -subjects relay,nginx,full -syscalls -out bench/results/X.txt
//	go run ./bench/wire -subjects responder,varnish,cached -rounds 1 -seconds 1
//
// The journey of a run is the function run: build what is measured, start the
// service, then for every round and subject start a fresh process, check its
// answers, warm it up, measure it, stop it. The files:
//
//	lab.go       what all measurements share: files, the service
//	tool.go      programs of the system and their packages
//	build.go     programs made for the run
//	group.go     the tables: their rows, requests and floors
//	subject.go   what a row is and how it is started
//	relay.go nginx.go haproxy.go sluice.go      rows that proxy; sluice.go has cached, too
//	responder.go nginx.go varnish.go fasthttp.go   rows that answer from memory
//	document.go  the Sluice documents and the requests, generated
//	verify.go    answers are checked before anything is timed
//	measure.go   rounds, one measurement
//	process.go   child processes: pinned, logged, always stopped
//	cpu.go       CPU time from /proc
//	wrk.go       running wrk, reading its output
//	strace.go    system calls per request (-syscalls)
//	stats.go report.go facts.go   medians, the table, the machine
//
// CPU time is the kernel's account of the subject's own tasks (schedstat), not wall
// time, so it depends little on pacing; it still moves with cache and frequency,
// hence interleaved rounds and ratios taken within a round. All processes and threads
// of a subject count. The exit status is 0 when every round was valid, 1 when anything
// failed, 64 for wrong flags.
//
// To add a row, write a file that declares a subject (what to build, how to start it,
// what to check) and name it in group.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// errUsage marks a mistake in the flags.
var errUsage = errors.New("wrong flags")

// options are the flags.
type options struct {
	rounds, seconds, warmUpSeconds, connections int

	subjects    []string
	sluice      string // path of the binary; "" builds it
	balancer    string
	out         string
	syscalls    bool
	subjectCPU  int
	loadCPUs    []int
	commandLine string
}

func init() {
	// Children are started from the main goroutine only, and it stays on the main
	// thread: a parent-death signal follows the thread that forked, and the
	// affinity a child inherits is that thread's.
	runtime.LockOSThread()
}

func main() {
	os.Exit(status(os.Args[1:]))
}

// status runs the program and says with which status it should exit.
func status(args []string) int {
	o, err := parseOptions(args, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(os.Stderr, "wire:", err)
		return 64
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	// A closed pipe (wire | head) must be an error of Write, not the end of the
	// process before its children are stopped. Ignoring the signal would be inherited.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeLimit(), fmt.Errorf("not finished after %s", o.timeLimit()))
	defer cancel()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "wire:", err)
		return 1
	}
	return 0
}

// timeLimit bounds the whole run: twice what the measurements take, and five
// minutes for building and checking.
func (o *options) timeLimit() time.Duration {
	measurements := (o.rounds + 1) * (len(o.subjects) + 1)
	seconds := 2 * measurements * (o.seconds + o.warmUpSeconds + 5)
	return time.Duration(seconds)*time.Second + 5*time.Minute
}

// run is the whole journey.
func run(ctx context.Context, o *options) (err error) {
	l, err := openLab(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	if err := l.build(ctx); err != nil {
		return err
	}
	facts := collectFacts(ctx, l)
	if err := pinSelf(o.loadCPUs); err != nil {
		return err
	}
	if err := l.startService(ctx); err != nil {
		return err
	}
	samples, err := measureRounds(ctx, l)
	if err != nil {
		return err
	}
	calls, err := countSyscalls(ctx, l)
	if err != nil {
		return err
	}
	r := &report{facts: facts, samples: samples, calls: calls, subjects: o.subjects}
	return errors.Join(r.save(o.out), r.writeTable(os.Stdout))
}

// subjectsHelp lists what -subjects takes, table by table.
func subjectsHelp() string {
	var help strings.Builder
	help.WriteString("comma-separated `names`")
	for _, g := range groups {
		help.WriteString("; " + g.name + ":")
		for _, s := range g.subjects {
			help.WriteString(" " + s.name)
			if s.asked {
				help.WriteString(" (must be asked for)")
			}
		}
	}
	return help.String()
}

// parseOptions reads the flags and fills in what depends on the machine.
func parseOptions(args []string, errs io.Writer) (*options, error) {
	o := &options{commandLine: strings.Join(append([]string{"wire"}, args...), " ")}
	var subjects, load string
	f := flag.NewFlagSet("wire", flag.ContinueOnError)
	f.SetOutput(errs)
	f.IntVar(&o.rounds, "rounds", 5, "interleaved `rounds`")
	f.IntVar(&o.seconds, "seconds", 4, "`seconds` of one measurement")
	f.IntVar(&o.warmUpSeconds, "warmup", 1, "`seconds` of load before each measurement")
	f.IntVar(&o.connections, "connections", 64, "keep-alive `connections` of the generator")
	f.StringVar(&subjects, "subjects", strings.Join(usualSubjects(), ","), subjectsHelp())
	f.StringVar(&o.sluice, "sluice", "", "sluice binary (`path`; default: build ./cmd/sluice with CGO_ENABLED=0)")
	f.StringVar(&o.balancer, "balancer", "consistent-hashing", "`algorithm` of the full subject's upstream: consistent-hashing (by consumer) or round-robin")
	f.StringVar(&o.out, "out", "", "also write facts, raw rounds and table to `file`")
	f.BoolVar(&o.syscalls, "syscalls", false, "also count system calls per request with strace, apart from the timing")
	f.IntVar(&o.subjectCPU, "cpu", -1, "CPU `number` of the program under test (default: the last one allowed)")
	f.StringVar(&load, "load-cpus", "", "CPU `numbers` of generator and service (default: the first one allowed)")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("%w: unexpected %q", errUsage, f.Args())
	}
	if min(o.rounds, o.seconds, o.warmUpSeconds, o.connections) < 1 {
		return nil, fmt.Errorf("%w: -rounds, -seconds, -warmup and -connections must be at least 1", errUsage)
	}
	if o.connections > 4000 {
		return nil, fmt.Errorf("%w: -connections: at most 4000 (service and proxies are configured for 8192 sockets)", errUsage)
	}
	if o.balancer != "round-robin" && o.balancer != "consistent-hashing" {
		return nil, fmt.Errorf("%w: -balancer must be round-robin or consistent-hashing, got %q", errUsage, o.balancer)
	}
	o.subjects = strings.Split(subjects, ",")
	for i, name := range o.subjects {
		if !slices.Contains(subjectNames(), name) || slices.Contains(o.subjects[:i], name) {
			return nil, fmt.Errorf("%w: -subjects: unknown or repeated %q (known: %s)", errUsage, name, strings.Join(subjectNames(), ", "))
		}
	}
	if err := o.placeCPUs(load); err != nil {
		return nil, err
	}
	return o, nil
}
