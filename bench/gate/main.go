// Command gate compares measurements with a baseline and fails when a change made the
// gateway dearer.
//
//	go test -run '^$' -bench . -benchmem ./bench > result.txt
//	go run ./bench/gate -baseline bench/baseline.txt result.txt
//	go run ./bench/gate -baseline bench/baseline.txt,wire.jsonl result.txt run.jsonl
//	go run ./bench/gate -baseline wire.jsonl -update run.jsonl
//
// A file is raw `go test -bench` output or JSON lines of bench/wire, one for each row of
// a table; its first line tells which. Several files are taken together. The rules, in
// the order in which their figures can be trusted:
//
// Allocations are exact.
//
//   - allocs/op above the baseline's fails.
//   - A benchmark the baseline does not know may allocate nothing. One that must
//     allocate is admitted by -update, so the baseline is also the reviewed list of
//     allowances.
//   - Of several runs (-count) the one with the fewest allocations counts on either
//     side: what allocates per operation shows in every run, while a run that met the
//     first fill of a pool shows one allocation more.
//   - B/op growth is reported and never fails: buffers grow for good reasons. Nor does
//     ns/op, which depends on the machine and on its neighbours.
//
// System calls are nearly exact: counts are whole, but what a request costs is a
// fraction, since one call tells of the readiness of many sockets and timers tick.
//
//   - Growth of half a call per request or more fails, of all calls together or of one
//     kind. A call more per request is 1; on one machine the totals of repeated runs
//     differ by 0.01, and across machines and loads by up to 0.4 (looks at sockets that
//     lay idle). A kind fails by itself so that a dear call cannot hide behind a saved one;
//     to exchange two on purpose, use -update.
//   - Of several counts of a row the one with the fewest calls is taken.
//
// CPU time is compared as a ratio to the floor that was measured in the same round, the
// relay or the responder, which the machine made as slow as the row.
//
//   - The median of the rounds may grow by -ratio. It fails only if it grew more and the
//     rounds differ with a p below -significance (Mann-Whitney): a shift that chance
//     explains is reported, and calls for more rounds.
//   - Too few rounds to show any difference fail: a test that cannot fail tells nothing.
//     Rounds of several files add up, if they are of one commit and one floor.
//   - Another floor than the baseline's, or none where the baseline has one, fails.
//   - Ratios compare across machines better than microseconds do but not perfectly, so
//     other machines, kernels, Go versions and commits are noted.
//
// What was not measured has not passed: a failed benchmark, one without allocs/op, a file
// without any measurement, and results of a kind that no baseline holds fail. Rows of the
// baseline that the results lack are reported and do not fail: a part may have been run.
//
// With -update the results become the baseline: each kind is written into the file of its
// kind, in one step, and what the results lack stays. A run that failed by itself, or that
// no run like it could ever be compared with for want of rounds, is refused.
//
// The exit status is 0 when the gate is passed or the baseline written, 1 when not or
// when a file cannot be read, 64 for wrong flags.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

func main() {
	os.Exit(status(os.Args[1:], os.Stdout, os.Stderr))
}

// errUsage marks a mistake in the flags.
var errUsage = errors.New("wrong flags")

// options are the flags.
type options struct {
	baselines, results []string // paths
	limits             limits
	format             string
	update             bool
}

// status runs the gate and says with which status the program should exit.
func status(args []string, out, errs io.Writer) int {
	o, err := parseOptions(args, errs)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		_, _ = fmt.Fprintln(errs, "gate:", err)
		return 64
	}
	passed, err := run(o, out)
	if err != nil {
		_, _ = fmt.Fprintln(errs, "gate:", err)
	}
	if err != nil || !passed {
		return 1
	}
	return 0
}

func parseOptions(args []string, errs io.Writer) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("gate", flag.ContinueOnError)
	f.SetOutput(errs)
	f.Usage = func() {
		_, _ = fmt.Fprintln(errs, "usage: gate [-baseline FILE[,FILE]] [flags] RESULT...")
		f.PrintDefaults()
	}
	baselines := f.String("baseline", "bench/baseline.txt", "comma-separated `files` to compare with")
	f.Float64Var(&o.limits.ratio, "ratio", 0.05, "allowed growth of the ratio to the floor, as a `share`: 0.05 is 5 %")
	f.Float64Var(&o.limits.significance, "significance", 0.05, "a difference counts when chance makes one like it less often than this `share`")
	f.StringVar(&o.format, "format", "text", "of the output: "+strings.Join(formatNames(), ", "))
	f.BoolVar(&o.update, "update", false, "write the results into the baseline instead of failing")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	o.results = f.Args()
	o.baselines = strings.Split(*baselines, ",")
	switch {
	case len(o.results) == 0:
		f.Usage()
		return nil, fmt.Errorf("%w: no result file to judge", errUsage)
	case slices.Contains(o.baselines, ""):
		return nil, fmt.Errorf("%w: -baseline: an empty name in %q", errUsage, *baselines)
	case !(o.limits.ratio >= 0 && o.limits.ratio <= 1):
		return nil, fmt.Errorf("%w: -ratio: want a share from 0 to 1, such as 0.05, got %g", errUsage, o.limits.ratio)
	case !(o.limits.significance > 0 && o.limits.significance < 1):
		return nil, fmt.Errorf("%w: -significance: want a share between 0 and 1, such as 0.05, got %g", errUsage, o.limits.significance)
	case formats[o.format] == nil:
		return nil, fmt.Errorf("%w: -format: want %s, got %q", errUsage, strings.Join(formatNames(), ", "), o.format)
	}
	return o, nil
}

// run reads, judges, writes what it found and, if asked, the baseline.
func run(o *options, out io.Writer) (passed bool, err error) {
	baselines, err := readFiles(o.baselines, o.update)
	if err != nil {
		return false, err
	}
	files, err := readFiles(o.results, false)
	if err != nil {
		return false, err
	}
	baseline, err := merge(baselines)
	if err != nil {
		return false, fmt.Errorf("baseline: %w", err)
	}
	result, err := merge(files)
	if err != nil {
		return false, err
	}
	if err := baseline.covers(result); err != nil && !o.update {
		return false, err
	}
	j := judge(baseline, result, o.limits)
	if o.update {
		err = update(baselines, result, j)
	}
	err = errors.Join(err, formats[o.format](out, j))
	return o.update || j.failures() == 0, err
}
