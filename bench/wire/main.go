// Command wire measures what a request costs on the wire: the CPU time a program
// spends on it, in tables whose rows are sent the same requests.
//
// What does it cost to pass a request on, between a generator (wrk) and a service
// (nginx, 1 KiB)? Sluice with nothing and with everything switched on, next to nginx
// (plain and with Lua), HAProxy, Caddy and a byte relay in C that is the floor.
//
// What does it cost to answer from a cache, the service not asked? Sluice next to
// nginx, Varnish, a bare fasthttp handler and a responder in C that is the floor.
//
// How does the cost grow with plugins, routes, consumers, connections and bodies?
//
//	go run ./bench/wire                                 all tables, 4 rounds
//	go run ./bench/wire -tables proxied -rounds 10 -syscalls -idle 2000 -out bench/results/X.txt
//	go run ./bench/wire -subjects responder,varnish,cached -rounds 1 -seconds 1
//	go run ./bench/wire -profile cmd/sluice/default.pgo   the profile the compiler is given
//
// The journey of a run is the function run: build what is measured, start the
// service, then for every round and row start a fresh process, check its
// answers, warm it up, measure it, stop it. The files:
//
//	lab.go       what all measurements share: files, the service
//	tool.go      programs of the system and their packages
//	build.go     programs made for the run
//	group.go     the tables: their rows, requests and floors
//	subject.go   what a row is and how it is started
//	relay.go nginx.go nginxlua.go haproxy.go caddy.go   rows that proxy
//	responder.go varnish.go fasthttp.go   rows that answer from memory, like some of nginx.go
//	sluice.go chain.go growth.go builds.go   rows of sluice
//	document.go  the Sluice documents and the requests, generated
//	verify.go    answers are checked before anything is timed
//	measure.go   rounds, one measurement
//	process.go   child processes: pinned, logged, always stopped
//	cpu.go memory.go   CPU time and memory from /proc; idle connections (-idle)
//	wrk.go       running wrk, reading its output
//	strace.go    system calls per request (-syscalls)
//	profile.go   CPU profiles under load (-profile)
//	report.go lines.go chart.go facts.go   the tables, as text, JSON and SVG; the machine
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

	"github.com/sluice-gateway/sluice/loadtest/machine"
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
	idle        int
	profile     string
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
	if err := machine.PinProcess(o.loadCPUs); err != nil {
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
	idle, err := measureIdle(ctx, l)
	if err != nil {
		return err
	}
	if err := l.mergeProfiles(ctx); err != nil {
		return err
	}
	r := &report{facts: facts, samples: samples, calls: calls, idle: idle, subjects: o.subjects}
	return errors.Join(r.save(o.out), r.writeTable(os.Stdout))
}

// subjectsHelp lists what -subjects takes, table by table.
func subjectsHelp() string {
	var help strings.Builder
	help.WriteString("comma-separated `names`")
	for _, g := range groups {
		help.WriteString("; " + g.name + ":")
		for _, r := range g.rows() {
			help.WriteString(" " + r.name)
		}
	}
	return help.String()
}

// chooseRows sets what is measured: the rows that are named, or those of tables.
func (o *options) chooseRows(f *flag.FlagSet, subjects, tables string) (err error) {
	given := map[string]bool{}
	f.Visit(func(f *flag.Flag) { given[f.Name] = true })
	switch {
	case given["subjects"] && given["tables"]:
		return fmt.Errorf("%w: -subjects and -tables exclude each other", errUsage)
	case given["tables"]:
		o.subjects, err = rowsOfTables(strings.Split(tables, ","))
		return err
	case !given["subjects"]:
		o.subjects, err = rowsOfTables(nil)
		return err
	}
	o.subjects = strings.Split(subjects, ",")
	for i, name := range o.subjects {
		if _, ok := rowNamed(name); !ok || slices.Contains(o.subjects[:i], name) {
			return fmt.Errorf("%w: -subjects: unknown or repeated %q (known: %s)", errUsage, name, strings.Join(rowNames(), ", "))
		}
	}
	return nil
}

// parseOptions reads the flags and fills in what depends on the machine.
func parseOptions(args []string, errs io.Writer) (*options, error) {
	o := &options{commandLine: strings.Join(append([]string{"wire"}, args...), " ")}
	var subjects, tables, load string
	f := flag.NewFlagSet("wire", flag.ContinueOnError)
	f.SetOutput(errs)
	f.IntVar(&o.rounds, "rounds", 4, "interleaved `rounds`")
	f.IntVar(&o.seconds, "seconds", 2, "`seconds` of one measurement")
	f.IntVar(&o.warmUpSeconds, "warmup", 1, "`seconds` of load before each measurement")
	f.IntVar(&o.connections, "connections", 64, "keep-alive `connections` of the generator")
	f.StringVar(&subjects, "subjects", "", subjectsHelp())
	f.StringVar(&tables, "tables", "", "comma-separated `names` of the tables to measure (default: all of "+strings.Join(tableNames(), ",")+")")
	f.StringVar(&o.sluice, "sluice", "", "sluice binary (`path`; default: build ./cmd/sluice with CGO_ENABLED=0)")
	f.StringVar(&o.balancer, "balancer", "consistent-hashing", "`algorithm` of the full subject's upstream: consistent-hashing (by consumer) or round-robin")
	f.StringVar(&o.out, "out", "", "also write facts, raw rounds and tables to `file`.txt, JSON lines and charts beside it")
	f.BoolVar(&o.syscalls, "syscalls", false, "also count system calls per request with strace, apart from the timing")
	f.IntVar(&o.idle, "idle", 0, "also weigh so many idle `connections` of every proxy")
	f.StringVar(&o.profile, "profile", "", "have sluice profiled under load and write the sum of its CPU profiles to `file`")
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
	if o.idle < 0 || o.idle > 4000 {
		return nil, fmt.Errorf("%w: -idle must be from 0 to 4000 (proxies are configured for 8192 sockets), got %d", errUsage, o.idle)
	}
	if o.connections > 4000 {
		return nil, fmt.Errorf("%w: -connections: at most 4000 (service and proxies are configured for 8192 sockets)", errUsage)
	}
	if o.balancer != "round-robin" && o.balancer != "consistent-hashing" {
		return nil, fmt.Errorf("%w: -balancer must be round-robin or consistent-hashing, got %q", errUsage, o.balancer)
	}
	if err := o.chooseRows(f, subjects, tables); err != nil {
		return nil, err
	}
	if err := o.placeCPUs(load); err != nil {
		return nil, err
	}
	return o, nil
}
