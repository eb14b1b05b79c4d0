// Command gate compares benchmark results with the baseline and fails when a
// benchmark allocates more than it did.
//
//	go test -run '^$' -bench . -benchmem ./bench > result.txt
//	go run ./bench/gate -baseline bench/baseline.txt result.txt
//
// Both files are raw `go test -bench` output. The rules:
//
//   - allocs/op above the baseline's fails.
//   - A benchmark the baseline does not know may allocate nothing. One that must
//     allocate is admitted by adding its lines to the baseline, so the baseline is
//     also the reviewed list of allowances.
//   - A result without allocs/op, a failed benchmark, or a result file without any
//     benchmark fails: what was not measured has not passed.
//   - B/op growth and baseline benchmarks missing from the result are reported and
//     never fail: buffers grow for good reasons, and -bench may have selected a part.
//   - Time is not compared. It depends on the machine and on its neighbours; the
//     comparison of CPU time is bench/wire, which measures both sides in one run.
//
// Of several runs (-count) the one with the fewest allocations counts on either
// side: what allocates per operation shows in every run, while a run that met the
// first fill of a pool shows one allocation more.
//
// The exit status is 0 when the gate is passed, 1 when not or when a file cannot be
// read, 64 for wrong flags.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	os.Exit(status(os.Args[1:], os.Stdout, os.Stderr))
}

// status runs the gate and says with which status the program should exit.
func status(args []string, out, errs io.Writer) int {
	f := flag.NewFlagSet("gate", flag.ContinueOnError)
	f.SetOutput(errs)
	f.Usage = func() {
		_, _ = fmt.Fprintln(errs, "usage: gate -baseline FILE RESULT")
		f.PrintDefaults()
	}
	baselinePath := f.String("baseline", "bench/baseline.txt", "raw go test -bench output to compare with (`file`)")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 64
	}
	if f.NArg() != 1 {
		f.Usage()
		return 64
	}
	baseline, baselineErr := parseFile(*baselinePath)
	result, resultErr := parseFile(f.Arg(0))
	if err := errors.Join(baselineErr, resultErr); err != nil {
		_, _ = fmt.Fprintln(errs, "gate:", err)
		return 1
	}
	v := judge(baseline, result)
	if _, err := v.WriteTo(out); err != nil {
		_, _ = fmt.Fprintln(errs, "gate:", err)
		return 1
	}
	if len(v.failures) > 0 {
		return 1
	}
	return 0
}

func parseFile(path string) (*results, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r, err := parse(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}
