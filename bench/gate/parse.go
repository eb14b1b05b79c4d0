package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// lineBytesMax bounds a line of benchmark output; a log line may be long.
const lineBytesMax = 1 << 20

// figures are what one benchmark reported, the fewest of its runs.
type figures struct {
	allocs, bytes float64 // per operation
	counted       bool    // allocs/op was reported in every run
}

// results is one file of benchmark output.
type results struct {
	order  []string // names in order of appearance
	of     map[string]*figures
	faults []string // lines that say a benchmark or its package failed
}

// run is one result line before names are settled.
type run struct {
	pkg, name string
	figures   figures
}

// parse reads raw go test -bench output; lines of other kinds are passed over. A
// benchmark is known by package and name. The -N that Go appends for GOMAXPROCS is
// removed if every benchmark of the file ends in the same one, so machines with
// different numbers of CPUs compare; otherwise (-cpu 1,2) names stay as they are.
func parse(r io.Reader) (*results, error) {
	res := &results{of: map[string]*figures{}}
	var runs []run
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
	suffix := commonSuffix(runs)
	for i := range runs {
		res.add(runs[i].pkg+"."+strings.TrimSuffix(runs[i].name, suffix), &runs[i].figures)
	}
	return res, nil
}

func isFault(line string) bool {
	trimmed := strings.TrimSpace(line)
	return strings.HasPrefix(trimmed, "--- FAIL") || strings.HasPrefix(line, "FAIL") || strings.HasPrefix(line, "panic:")
}

// parseRun reads a result line: name, iterations, then pairs of value and unit. It
// returns nil for a line with the name alone, which go test prints before the
// output of a benchmark that logs.
func parseRun(line string) (*run, error) {
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
	one := &run{name: fields[0]}
	for i := 2; i < len(fields); i += 2 {
		value, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return nil, fmt.Errorf("bad value in line %q: %w", line, err)
		}
		unit := fields[i+1]
		if (unit == "allocs/op" || unit == "B/op") && (math.IsNaN(value) || value < 0) {
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
func commonSuffix(runs []run) string {
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

// add merges one run into what is known of its benchmark.
func (r *results) add(name string, f *figures) {
	known, ok := r.of[name]
	if !ok {
		r.order = append(r.order, name)
		r.of[name] = f
		return
	}
	known.allocs = min(known.allocs, f.allocs)
	known.bytes = min(known.bytes, f.bytes)
	known.counted = known.counted && f.counted
}
