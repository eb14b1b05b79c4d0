package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/sluice-gateway/sluice/loadtest/stats"
)

// capacityMargin is how many times the fastest subject's throughput generator (and
// service) must reach on their own; below it they, not the subject, set the pace.
const capacityMargin = 1.5

// rareCall is the number of calls per request below which a system call is not listed.
const rareCall = 0.005

// report is everything one run found.
type report struct {
	facts    []fact
	samples  []*sample
	calls    []*traced
	idle     []*idleCost
	subjects []string // names of rows
}

// of returns one figure of a subject, round by round.
func (r *report) of(subject string, figure func(*sample) float64) []float64 {
	var values []float64
	for _, s := range r.samples {
		if s.subject == subject {
			values = append(values, figure(s))
		}
	}
	return values
}

func perSecond(s *sample) float64 { return s.load.perSecond }
func resident(s *sample) float64  { return float64(s.resident) }

// writeTable writes a comparison for every group, the system calls and the facts.
func (r *report) writeTable(w io.Writer) error {
	var b bytes.Buffer
	for _, g := range groups {
		if names := g.among(r.subjects); len(names) > 0 {
			if err := r.writeGroup(&b, g, names); err != nil {
				return err
			}
		}
	}
	if tick := r.ticked(); tick > 0 {
		fmt.Fprintf(&b, "WARNING: %d measurements used utime+stime (10 ms steps) because schedstat was not complete\n\n", tick)
	}
	r.writeCalls(&b)
	r.writeIdle(&b)
	for _, f := range r.facts {
		fmt.Fprintf(&b, "%-12s %s\n", f.name, f.value)
	}
	_, err := b.WriteTo(w)
	return err
}

// writeGroup writes one table: heading, a row for each subject, the generator's share.
func (r *report) writeGroup(b *bytes.Buffer, g *group, names []string) error {
	fmt.Fprintf(b, "%s: %s\n", g.name, g.about)
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintf(t, "subject\tCPU us/request\t[min .. max]\tx %s\trequests/s\tp99 ms\town CPU %%\tother CPU %%\tMiB\t\n", g.subjects[0].name)
	for _, name := range names {
		cpu := r.of(name, (*sample).cpuMicros)
		ratio := "-"
		if slices.Contains(names, g.floor()) {
			ratio = fmt.Sprintf("%.3f", stats.Median(stats.Ratios(cpu, r.of(g.floor(), (*sample).cpuMicros))))
		}
		_, _ = fmt.Fprintf(t, "%s\t%.2f\t[%.2f .. %.2f]\t%s\t%.0f\t%.2f\t%.0f\t%.0f\t%.1f\t\n",
			mustRow(name).subject.name, stats.Median(cpu), slices.Min(cpu), slices.Max(cpu), ratio,
			stats.Median(r.of(name, perSecond)),
			stats.Median(r.of(name, func(s *sample) float64 { return s.load.p99.Seconds() * 1e3 })),
			stats.Median(r.of(name, func(s *sample) float64 { return s.own * 100 })),
			stats.Median(r.of(name, func(s *sample) float64 { return s.other * 100 })),
			stats.Median(r.of(name, resident))/(1<<20))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if !g.brief {
		r.writeCapacity(b, g, names)
	}
	b.WriteByte('\n')
	return nil
}

// writeCapacity compares what sets the pace beside the subjects with the fastest of
// them. For proxies that is generator and service without a subject, measured; where
// no service takes part it is the generator's own CPU time, made into a rate.
func (r *report) writeCapacity(b *bytes.Buffer, g *group, names []string) {
	fastest := slices.MaxFunc(names, func(a, b string) int {
		return cmp.Compare(stats.Median(r.of(a, perSecond)), stats.Median(r.of(b, perSecond)))
	})
	what, who, capacity := "generator -> service directly", "generator and service", 0.0
	if g.fromMemory {
		what, who = "generator by its own CPU time", "the generator"
		capacity = stats.Median(r.of(fastest, func(s *sample) float64 { return float64(s.load.requests) / s.load.cpu.Seconds() }))
	} else {
		capacity = stats.Median(r.of(direct, perSecond))
	}
	times := capacity / stats.Median(r.of(fastest, perSecond))
	fmt.Fprintf(b, "\n%s: %.0f requests/s median, %.2f times the fastest subject\n", what, capacity, times)
	if times < capacityMargin {
		fmt.Fprintf(b, "WARNING: below %.1f times: %s, not the subjects, set the pace: read CPU us/request, not requests/s and p99\n", capacityMargin, who)
	}
}

// ticked counts the measurements that fell back to the coarse clock.
func (r *report) ticked() int {
	n := 0
	for _, s := range r.samples {
		if s.source == "ticks" {
			n++
		}
	}
	return n
}

func (r *report) writeCalls(b *bytes.Buffer) {
	if len(r.calls) == 0 {
		return
	}
	fmt.Fprintf(b, "system calls per request (strace -c, separate runs of %d s; rarer than %g left out)\n", tracedSeconds, rareCall)
	for _, t := range r.calls {
		total := int64(0)
		var listed []string
		for _, c := range t.calls {
			total += c.calls
			if rate := float64(c.calls) / float64(t.requests); rate >= rareCall {
				listed = append(listed, fmt.Sprintf("%s %.2f", c.name, rate))
			}
		}
		fmt.Fprintf(b, "%-12s %.2f: %s\n", t.subject, float64(total)/float64(t.requests), strings.Join(listed, ", "))
	}
	b.WriteByte('\n')
}

// writeRaw writes one line per measurement.
func (r *report) writeRaw(b *bytes.Buffer) {
	b.WriteString("round\tsubject\trequests\twrk_seconds\trequests_per_s\tp50_us\tp99_us\tcpu_ns\tcpu_us_per_request\tcpu_source\town_cpu\tother_cpu\tresident_bytes\n")
	for _, s := range r.samples {
		fmt.Fprintf(b, "%d\t%s\t%d\t%.2f\t%.2f\t%d\t%d\t%d\t%.4f\t%s\t%.3f\t%.3f\t%d\n",
			s.round, s.subject, s.load.requests, s.load.duration.Seconds(), s.load.perSecond,
			s.load.p50.Microseconds(), s.load.p99.Microseconds(), s.cpu.Nanoseconds(), s.cpuMicros(), s.source, s.own, s.other, s.resident)
	}
}

// writeIdle writes what connections cost that nobody uses.
func (r *report) writeIdle(b *bytes.Buffer) {
	if len(r.idle) == 0 {
		return
	}
	fmt.Fprintf(b, "memory of a connection that is kept and idle, each having had one answer (kernel memory not included)\n")
	for _, i := range r.idle {
		fmt.Fprintf(b, "%-12s %6.1f KiB, of %d connections\n", i.row, i.bytes/1024, i.connections)
	}
	b.WriteByte('\n')
}

// save writes table and raw rounds to path, and beside it, by the same name, the JSON
// lines and a chart of every table; "" saves nothing.
func (r *report) save(path string) error {
	if path == "" {
		return nil
	}
	var b bytes.Buffer
	if err := r.writeTable(&b); err != nil {
		return err
	}
	b.WriteByte('\n')
	r.writeRaw(&b)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	name := strings.TrimSuffix(path, ".txt")
	lines, err := r.lines()
	err = errors.Join(err, os.WriteFile(path, b.Bytes(), 0o644), os.WriteFile(name+".jsonl", lines, 0o644))
	for _, g := range groups {
		if names := g.among(r.subjects); len(names) > 0 && slices.Contains(names, g.floor()) {
			err = errors.Join(err, os.WriteFile(name+"-"+g.name+".svg", r.chart(g, names), 0o644))
		}
	}
	return err
}
