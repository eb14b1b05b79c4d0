package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// runTimeout bounds one process; it is for go test, so that it says what hung.
const runTimeout = "10m"

// measure runs the benchmarks of pattern once, each for benchtime, and returns what they report.
func (l *lab) measure(s *subject, pattern, benchtime string) (*report, error) {
	procs := cmp.Or(len(l.set.cpus), runtime.NumCPU())
	c := exec.CommandContext(l.ctx, s.binary, "-test.run=^$", "-test.bench="+pattern, "-test.benchtime="+benchtime,
		"-test.benchmem", "-test.cpu="+strconv.Itoa(procs), "-test.count=1", "-test.timeout="+runTimeout)
	c.Dir = s.folder
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := startPinned(c, l.set.cpus)
	if err == nil {
		err = c.Wait()
	}
	if err != nil {
		return nil, fmt.Errorf("%s -test.bench=%s: %w\n%s", s.name, pattern, err, &out)
	}
	r, err := parse(&out, procs)
	if err != nil {
		return nil, fmt.Errorf("%s -test.bench=%s: %w", s.name, pattern, err)
	}
	return r, nil
}

// discover runs every row once, which warms files and tells the names.
func (l *lab) discover(s *subject) ([]string, error) {
	_, _ = fmt.Fprintf(l.progress, "finding the benchmarks of %s\n", s.name)
	r, err := l.measure(s, l.set.bench, "1x")
	if err != nil {
		return nil, err
	}
	if len(r.order) == 0 {
		return nil, fmt.Errorf("%s: no benchmark of package %s matches -bench %s", s.name, l.set.folder, l.set.bench)
	}
	return r.order, nil
}

// comparePrograms measures both in turns and writes the table.
func (l *lab) comparePrograms(base, run *subject, out io.Writer) error {
	baseNames, err := l.discover(base)
	if err != nil {
		return err
	}
	runNames, err := l.discover(run)
	if err != nil {
		return err
	}
	var names, tops []string
	for _, name := range baseNames {
		if slices.Contains(runNames, name) {
			names = append(names, name)
			if top, _, _ := strings.Cut(name, "/"); !slices.Contains(tops, top) {
				tops = append(tops, top)
			}
		}
	}
	if len(names) == 0 {
		return fmt.Errorf("no benchmark is in both: the first of %s is %s, that of %s is %s", base.name, baseNames[0], run.name, runNames[0])
	}
	baseSeries, runSeries := series{}, series{}
	for round := range l.set.rounds {
		_, _ = fmt.Fprintf(l.progress, "round %d of %d\n", round+1, l.set.rounds)
		for _, top := range tops {
			turns := []func() error{
				func() error { return l.take(base, narrow(l.set.bench, top), baseSeries) },
				func() error { return l.take(run, narrow(l.set.bench, top), runSeries) },
			}
			if round%2 == 1 {
				slices.Reverse(turns)
			}
			if err := errors.Join(turns[0](), turns[1]()); err != nil {
				return err
			}
		}
	}
	t := newTable(l.set, out)
	t.head("base: "+base.what, "run:  "+run.what)
	t.programs(names, baseSeries, runSeries)
	t.missing("only in base", baseNames, runNames)
	t.missing("only in run", runNames, baseNames)
	return t.err()
}

// compareRows measures the rows of one program that belong together, and writes the table.
func (l *lab) compareRows(run *subject, out io.Writer) error {
	names, err := l.discover(run)
	if err != nil {
		return err
	}
	groups := groupRows(names, l.set.by)
	if len(groups) == 0 {
		return fmt.Errorf("-by %s: no benchmark has that part in its name and others beside it; the first is %s", l.set.by, names[0])
	}
	all := series{}
	for round := range l.set.rounds {
		_, _ = fmt.Fprintf(l.progress, "round %d of %d\n", round+1, l.set.rounds)
		for _, g := range groups {
			order := slices.Clone(g.names)
			if round%2 == 1 {
				slices.Reverse(order)
			}
			for _, name := range order {
				if err := l.take(run, exactly(name), all); err != nil {
					return err
				}
			}
		}
	}
	t := newTable(l.set, out)
	t.head("run: "+run.what, "by:  "+l.set.by)
	t.rows(groups, all)
	return t.err()
}

// take measures once and adds what is reported to the series.
func (l *lab) take(s *subject, pattern string, to series) error {
	r, err := l.measure(s, pattern, l.set.benchtime)
	if err != nil {
		return err
	}
	to.add(r)
	return nil
}
