package main

import (
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/sluice-gateway/sluice/loadtest/stats"
)

// confidence is that of the ranges, and 1 - confidence the level of significance.
const confidence = 0.95

// table writes results. Its first error is kept.
type table struct {
	set   *settings
	out   io.Writer
	tabs  *tabwriter.Writer
	first error
}

func newTable(s *settings, out io.Writer) *table {
	return &table{set: s, out: out, tabs: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
}

func (t *table) keep(err error) {
	if t.first == nil {
		t.first = err
	}
}

// err writes what is held back and returns the first error.
func (t *table) err() error {
	t.keep(t.tabs.Flush())
	return t.first
}

// head says what was measured, and how.
func (t *table) head(lines ...string) {
	pinned := "not pinned"
	if len(t.set.cpus) > 0 {
		pinned = "on CPU " + strings.Trim(fmt.Sprint(t.set.cpus), "[]")
	}
	lines = append(lines, fmt.Sprintf("%s/%s, %s, %s; package %s, -bench %s, %d rounds of %s, interleaved", runtime.GOOS, runtime.GOARCH,
		runtime.Version(), pinned, t.set.folder, t.set.bench, t.set.rounds, t.set.benchtime))
	for _, line := range lines {
		_, err := fmt.Fprintln(t.out, line)
		t.keep(err)
	}
	_, err := fmt.Fprintln(t.out)
	t.keep(err)
}

// line writes cells, without the blanks that would end it.
func (t *table) line(cells ...string) {
	_, err := fmt.Fprintln(t.tabs, strings.Join(cells, "\t"))
	t.keep(err)
}

// programs has a line for each row that both programs have.
func (t *table) programs(names []string, base, run series) {
	t.line("name", "base "+t.set.unit, "run "+t.set.unit, "delta", "p", "allocs/op")
	for _, name := range names {
		a, b := base[name], run[name]
		delta, p := t.differ(a, b)
		t.line(name, t.median(a), t.median(b), delta, p, allocs(a)+" → "+allocs(b))
	}
}

// rows has a block for each group.
func (t *table) rows(groups []group, all series) {
	for _, g := range groups {
		t.line(g.name, t.set.unit, "delta", "p", "allocs/op")
		base := all[g.names[0]]
		for i, name := range g.names {
			delta, p := "", ""
			if i > 0 {
				delta, p = t.differ(base, all[name])
			}
			t.line("  "+g.parts[i], t.median(all[name]), delta, p, allocs(all[name]))
		}
	}
}

// missing names the rows of have that others has not.
func (t *table) missing(what string, have, others []string) {
	var only []string
	for _, name := range have {
		if !slices.Contains(others, name) {
			only = append(only, name)
		}
	}
	if len(only) > 0 {
		t.keep(t.tabs.Flush())
		_, err := fmt.Fprintf(t.out, "\n%s: %s\n", what, strings.Join(only, " "))
		t.keep(err)
	}
}

// median is that of the unit, and its range.
func (t *table) median(row map[string][]float64) string {
	values := row[t.set.unit]
	if len(values) == 0 {
		return "not reported"
	}
	low, high := stats.Interval(values, confidence)
	return fmt.Sprintf("%s [%s .. %s]", number(stats.Median(values)), number(low), number(high))
}

// differ is the difference of the medians and the probability of one as large by chance.
func (t *table) differ(base, run map[string][]float64) (delta, p string) {
	a, b := base[t.set.unit], run[t.set.unit]
	if len(a) == 0 || len(b) == 0 {
		return "", ""
	}
	chance := stats.Differ(a, b)
	p = strconv.FormatFloat(chance, 'f', 3, 64)
	from, to := stats.Median(a), stats.Median(b)
	switch {
	case chance >= 1-confidence:
		return "~", p
	case from == 0:
		return "from 0", p
	}
	return fmt.Sprintf("%+.1f%%", 100*(to-from)/from), p
}

func allocs(row map[string][]float64) string {
	values := row["allocs/op"]
	if len(values) == 0 {
		return "?"
	}
	return number(stats.Median(values))
}

// number has four significant digits, and no exponent.
func number(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	digits := 3
	for size := math.Abs(v); size >= 10 && digits > 0; size /= 10 {
		digits--
	}
	return strconv.FormatFloat(v, 'f', digits, 64)
}
