package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// figures are what one benchmark reported, the fewest of its runs.
type figures struct {
	allocs, bytes float64 // per operation
	counted       bool    // allocs/op was reported in every run
}

// benchResults are the benchmarks of one or several files.
type benchResults struct {
	order  []string // names in order of appearance
	of     map[string]*figures
	faults []string // lines that say a benchmark or its package failed

	facts  []string // goos, goarch and cpu lines, each once
	suffix string   // "-N" that was removed from every name
	runs   []benchRun
}

// benchRun is one result line.
type benchRun struct {
	pkg, name string
	rest      string // of the line, after the name
	figures   figures
}

// id is how the benchmark of r is known.
func (r *benchRun) id() string { return r.pkg + "." + r.name }

func newBenchResults() *benchResults { return &benchResults{of: map[string]*figures{}} }

// parseBench reads raw go test -bench output; lines of other kinds are passed over. A
// benchmark is known by package and name. The -N that Go appends for GOMAXPROCS is
// removed if every benchmark of the file ends in the same one, so machines with
// different numbers of CPUs compare; otherwise (-cpu 1,2) names stay as they are.
func parseBench(r io.Reader) (*benchResults, error) {
	res := newBenchResults()
	var runs []benchRun
	pkg := ""
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, lineBytesMax)
	for lines.Scan() {
		line := lines.Text()
		switch name, ok := strings.CutPrefix(line, "pkg: "); {
		case ok:
			pkg = name
		case isFault(line):
			res.faults = append(res.faults, line)
		case isFact(line):
			res.addFact(line)
		case strings.HasPrefix(line, "Benchmark"):
			one, err := parseRun(line)
			if err != nil {
				return nil, err
			}
			if one != nil {
				one.pkg = pkg
				runs = append(runs, *one)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if len(runs) == 0 && len(res.faults) == 0 {
		return nil, errors.New("no benchmark in it")
	}
	res.suffix = commonSuffix(runs)
	for i := range runs {
		runs[i].name = strings.TrimSuffix(runs[i].name, res.suffix)
		res.add(&runs[i])
	}
	return res, nil
}

func isFault(line string) bool {
	trimmed := strings.TrimSpace(line)
	return strings.HasPrefix(trimmed, "--- FAIL") || strings.HasPrefix(line, "FAIL") || strings.HasPrefix(line, "panic:")
}

func isFact(line string) bool {
	return strings.HasPrefix(line, "goos: ") || strings.HasPrefix(line, "goarch: ") || strings.HasPrefix(line, "cpu: ")
}

// parseRun reads a result line: name, iterations, then pairs of value and unit. It
// returns nil for a line with the name alone, which go test prints before the
// output of a benchmark that logs.
func parseRun(line string) (*benchRun, error) {
	fields := strings.Fields(line)
	if len(fields) < 4 {
		return nil, nil
	}
	if _, err := strconv.ParseInt(fields[1], 10, 64); err != nil {
		return nil, nil // prose that begins with the word Benchmark
	}
	if len(fields)%2 != 0 {
		return nil, fmt.Errorf("cut line %q", line)
	}
	one := &benchRun{name: fields[0], rest: strings.TrimPrefix(line, fields[0])}
	for i := 2; i < len(fields); i += 2 {
		value, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return nil, fmt.Errorf("bad value in line %q: %w", line, err)
		}
		unit := fields[i+1]
		if (unit == "allocs/op" || unit == "B/op") && (math.IsNaN(value) || math.IsInf(value, 0) || value < 0) {
			return nil, fmt.Errorf("bad value in line %q", line)
		}
		switch unit {
		case "allocs/op":
			one.figures.allocs, one.figures.counted = value, true
		case "B/op":
			one.figures.bytes = value
		}
	}
	return one, nil
}

// commonSuffix returns the "-N" that ends every name, or "".
func commonSuffix(runs []benchRun) string {
	common := ""
	for i := range runs {
		dash := strings.LastIndexByte(runs[i].name, '-')
		if dash < 0 {
			return ""
		}
		suffix := runs[i].name[dash:]
		if _, err := strconv.ParseUint(suffix[1:], 10, 32); err != nil || (i > 0 && suffix != common) {
			return ""
		}
		common = suffix
	}
	return common
}

// add takes one run into what is known of its benchmark.
func (r *benchResults) add(one *benchRun) {
	r.runs = append(r.runs, *one)
	known, ok := r.of[one.id()]
	if !ok {
		r.order = append(r.order, one.id())
		f := one.figures
		r.of[one.id()] = &f
		return
	}
	known.allocs = min(known.allocs, one.figures.allocs)
	known.bytes = min(known.bytes, one.figures.bytes)
	known.counted = known.counted && one.figures.counted
}

func (r *benchResults) addFact(line string) {
	if !slices.Contains(r.facts, line) {
		r.facts = append(r.facts, line)
	}
}

// merge adds what another file holds.
func (r *benchResults) merge(other *benchResults) {
	for _, fact := range other.facts {
		r.addFact(fact)
	}
	r.faults = append(r.faults, other.faults...)
	r.suffix = other.suffix
	for i := range other.runs {
		r.add(&other.runs[i])
	}
}
