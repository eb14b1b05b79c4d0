package main

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// lineBytesMax bounds a line of output; a log line may be long.
const lineBytesMax = 1 << 20

// report is what one process printed: for each row its metrics by unit.
type report struct {
	order []string
	of    map[string]map[string]float64
}

// series are the metrics of many rounds: by row, by unit.
type series map[string]map[string][]float64

func (s series) add(r *report) {
	for _, name := range r.order {
		row := s[name]
		if row == nil {
			row = map[string][]float64{}
			s[name] = row
		}
		for unit, value := range r.of[name] {
			row[unit] = append(row[unit], value)
		}
	}
}

// parse reads the output of a test binary that ran with that many processors: Go ends names
// in -N with it unless it is 1. Lines of other kinds are passed over.
func parse(from io.Reader, procs int) (*report, error) {
	r := &report{of: map[string]map[string]float64{}}
	suffix := ""
	if procs > 1 {
		suffix = "-" + strconv.Itoa(procs)
	}
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, lineBytesMax)
	for lines.Scan() {
		line := lines.Text()
		fields := strings.Fields(line)
		if !strings.HasPrefix(line, "Benchmark") || len(fields) < 4 {
			continue
		}
		if _, err := strconv.ParseInt(fields[1], 10, 64); err != nil {
			continue // prose
		}
		if len(fields)%2 != 0 {
			return nil, fmt.Errorf("cut line %q", line)
		}
		name := strings.TrimSuffix(fields[0], suffix)
		if r.of[name] != nil {
			return nil, fmt.Errorf("%s is there twice", name)
		}
		row := map[string]float64{}
		for i := 2; i < len(fields); i += 2 {
			value, err := strconv.ParseFloat(fields[i], 64)
			if err != nil || math.IsNaN(value) || math.IsInf(value, 0) {
				return nil, fmt.Errorf("%s %s in line %q is not a number", fields[i], fields[i+1], line)
			}
			row[fields[i+1]] = value
		}
		r.order = append(r.order, name)
		r.of[name] = row
	}
	return r, lines.Err()
}
