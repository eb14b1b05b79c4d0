// Command compare says whether benchmarks differ: of two programs, two commits, or of
// implementations that stand beside each other in one program.
//
//	go run ./bench/compare -base main -run . -bench Router
//	go run ./bench/compare -base HEAD~3 -run HEAD -bench 'Store/entries=1000/get$' -rounds 20
//	go run ./bench/compare -run . -package ./bench/rivals -by ours -bench LimiterRivals
//
// A subject (-base, -run) is a compiled test binary, a folder that holds the module, or
// anything that git knows as a commit: that is checked out in a temporary worktree, which is
// removed at the end. A name that is both a path and a commit is the path. The benchmarks are
// those of the package in the folder -package below the subject; for a binary that folder, here,
// is where it runs. -package may be a module of its own.
//
// One program against the other: both are built, then each top-level benchmark runs A B, in the
// next round B A, and so on, each time in a new process. With -by NAME one program is
// compared with itself: rows whose names have NAME as one of their parts, such as
// BenchmarkX/ours/keys=1, are set beside all whose names are the same but for that part. Each row
// runs in a process of its own, in every second round in reverse order.
//
// The table has the median of the rounds with the range in which the true median lies with
// 95 %, the difference of the medians, and p of a rank test: below 0.05 the difference is shown,
// else "~" stands for it. Among many rows one in twenty is below it by chance. Both columns
// of allocations are the medians. -unit compares another metric, such as cpu-ns/op or
// allocs/op.
//
// Processes are pinned to the last CPU that this one may use, or to those of -cpus, where the
// system can (Linux), and GOMAXPROCS is the number of them; rows that run in parallel want -cpus
// all, which pins nothing.
//
// The exit status is 0 when everything was measured, whatever came out, 1 when something
// failed, 64 for wrong flags.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := status(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// settings are the flags.
type settings struct {
	base, run, by    string
	bench, benchtime string
	folder, unit     string
	rounds           int
	cpus             []int // empty: not pinned
}

// roundsMin is the fewest rounds with which the rank test can say that series differ.
const roundsMin = 4

// errUsage marks faults of the flags.
var errUsage = errors.New("usage: compare [-base SUBJECT] -run SUBJECT [-by NAME] [flags]")

func readFlags(args []string, errs io.Writer) (settings, error) {
	var s settings
	f := flag.NewFlagSet("compare", flag.ContinueOnError)
	f.SetOutput(errs)
	f.StringVar(&s.base, "base", "", "what to compare with: a `commit`, folder or test binary")
	f.StringVar(&s.run, "run", ".", "what is compared: a `commit`, folder or test binary")
	f.StringVar(&s.by, "by", "", "compare within -run: rows with this `part` in their names, and those that differ in it alone")
	f.StringVar(&s.bench, "bench", ".", "which benchmarks, a `regexp` as of go test")
	f.StringVar(&s.benchtime, "benchtime", "0.1s", "how long each row runs in a round, a `duration` or a number with x")
	f.StringVar(&s.folder, "package", "./bench", "`folder` of the package below the subject")
	f.StringVar(&s.unit, "unit", "ns/op", "the `metric` that is compared")
	f.IntVar(&s.rounds, "rounds", 10, "rounds")
	cpus := f.String("cpus", "", "`CPUs` to run on, such as 0,1; all: not pinned; default: the last one allowed")
	if err := f.Parse(args); err != nil {
		return s, errors.Join(errUsage, err)
	}
	var err error
	switch {
	case f.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", f.Arg(0))
	case s.by == "" && s.base == "":
		err = errors.New("-base is missing; it names what to compare with, or -by NAME compares rows of -run with each other")
	case s.by != "" && s.base != "":
		err = fmt.Errorf("-base %s: -by compares rows of -run with each other, so one of both is too many", s.base)
	case s.rounds < roundsMin:
		err = fmt.Errorf("-rounds %d: at least %d, with fewer no difference can be significant", s.rounds, roundsMin)
	default:
		s.cpus, err = readCPUs(*cpus)
	}
	if err != nil {
		return s, errors.Join(errUsage, err)
	}
	return s, nil
}

// status runs the command and says with which status the program should exit.
func status(ctx context.Context, args []string, out, errs io.Writer) int {
	s, err := readFlags(args, errs)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		_, _ = fmt.Fprintln(errs, "compare:", err)
		return 64
	}
	if err := compare(ctx, &s, out, errs); err != nil {
		_, _ = fmt.Fprintln(errs, "compare:", err)
		return 1
	}
	return 0
}

func compare(ctx context.Context, s *settings, out, progress io.Writer) (err error) {
	l, err := openLab(ctx, s, progress)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	run, err := l.subject(s.run)
	if err != nil {
		return fmt.Errorf("-run: %w", err)
	}
	if s.by != "" {
		return l.compareRows(run, out)
	}
	base, err := l.subject(s.base)
	if err != nil {
		return fmt.Errorf("-base: %w", err)
	}
	return l.comparePrograms(base, run, out)
}
