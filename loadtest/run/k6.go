package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	k6Slack      = time.Minute // beyond the duration, for starting, winding down and teardown
	k6Thresholds = 99          // exit status when a threshold of the script is not met
)

// k6 runs the scenario's script and turns its samples into a point. An arrival-rate
// executor begins an iteration when it is due or drops it, so the time from the plan is
// the time from the sending as long as none is dropped. A threshold of the script that
// is not met becomes one of the point's errors and fails it.
func (l *lab) k6(ctx context.Context, w *load) (*Point, error) {
	in, out, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	log := newK6Log(l.sc.Metric)
	if w.direct {
		log = newK6Log(metricDefault)
	}
	read := make(chan error, 1)
	go func() {
		err := log.read(in)
		_, _ = io.Copy(io.Discard, in) // k6 must never wait for a reader that has given up
		read <- errors.Join(err, in.Close())
	}()
	p := l.k6Program(w)
	p.pipe = out
	runErr := l.runPiped(ctx, p, w.duration+k6Slack)
	if err := <-read; err != nil {
		return nil, errors.Join(err, runErr)
	}
	exit, ok := errors.AsType[*exec.ExitError](runErr)
	if runErr != nil && (!ok || exit.ExitCode() != k6Thresholds) {
		return nil, runErr
	}
	point, err := log.point(w)
	if err == nil && runErr != nil {
		point.missed = "script.js: thresholds not met: " + missedThresholds(filepath.Join(l.dir, p.name+".log"))
	}
	return point, err
}

var crossed = regexp.MustCompile(`thresholds on metrics '([^']*)' have been crossed`)

// missedThresholds finds in k6's log which thresholds were not met.
func missedThresholds(log string) string {
	text, err := os.ReadFile(log)
	if err != nil {
		return "unknown: " + err.Error()
	}
	if m := crossed.FindSubmatch(text); m != nil {
		return string(m[1]) + "; " + log + " has the figures"
	}
	return "unknown; see " + log
}

// runPiped is runTool; it closes the driver's end of the pipe once the child has its own.
func (l *lab) runPiped(ctx context.Context, p *program, limit time.Duration) error {
	defer func() { _ = p.pipe.Close() }()
	return l.runTool(ctx, p, limit)
}

func (l *lab) k6Program(w *load) *program {
	script := filepath.Join(l.sc.dir, "script.js")
	gateway := "http://" + l.proxy
	if w.direct {
		script = filepath.Join(filepath.Dir(l.sc.dir), "k6", "direct.js")
		gateway = "http://" + l.stubs[0]
	}
	return &program{name: "k6-" + w.name, cpus: l.cpus.rest, args: []string{
		l.built.k6, "run", "--quiet", "--no-color", "--no-usage-report", "--address", "", "--out", "csv=/dev/fd/3", script,
	}, env: []string{
		"GATEWAY=" + gateway,
		"P95_MS=" + strconv.FormatInt(w.p95.Milliseconds(), 10),
		"RATE=" + strconv.Itoa(w.rate), "CONNECTIONS=" + strconv.Itoa(w.connections),
		"DURATION=" + strconv.Itoa(int(w.duration.Seconds())), "K6_CSV_TIME_FORMAT=unix_micro", "K6_NO_USAGE_REPORT=true",
	}}
}

// k6Log gathers the samples of one run.
type k6Log struct {
	metric     string // the trend that is judged
	latency    *hdrhistogram.Histogram
	samples    int
	iterations int
	dropped    int
	requests   int
	checks     int
	failed     int // requests with an unexpected status, and failed checks
	statuses   map[string]int
	errors     []string
}

func newK6Log(metric string) *k6Log {
	return &k6Log{metric: metric, latency: newHistogram(), statuses: map[string]int{}}
}

// read reads k6's CSV, whose first line names the columns.
func (k *k6Log) read(in io.Reader) error {
	r := csv.NewReader(in)
	r.ReuseRecord = true
	r.FieldsPerRecord = -1
	columns := map[string]int{}
	for line := 1; ; line++ {
		fields, err := r.Read()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("samples of k6: %w", err)
		}
		if line == 1 {
			for i, name := range fields {
				columns[strings.Clone(name)] = i
			}
			for _, name := range []string{"metric_name", "metric_value", "check", "expected_response", "status"} {
				if _, ok := columns[name]; !ok {
					return fmt.Errorf("samples of k6: no column %q in %q", name, fields)
				}
			}
			continue
		}
		if len(fields) < len(columns) {
			return fmt.Errorf("samples of k6, line %d: want %d fields, got %d", line, len(columns), len(fields))
		}
		if err := k.sample(func(name string) string { return fields[columns[name]] }); err != nil {
			return fmt.Errorf("samples of k6, line %d: %w", line, err)
		}
	}
}

// sample takes in one line. Trends are in milliseconds.
func (k *k6Log) sample(field func(string) string) error {
	metric := field("metric_name")
	value, err := strconv.ParseFloat(field("metric_value"), 64)
	if err != nil {
		return fmt.Errorf("%s: %w", metric, err)
	}
	switch metric {
	case "iterations":
		k.iterations += int(value)
	case "dropped_iterations":
		k.dropped += int(value)
	case "checks":
		k.checks++
		if value == 0 {
			k.fail("check: " + field("check"))
		}
	case "http_reqs":
		k.requests++
		k.statuses[field("status")]++
		if field("expected_response") == "false" {
			k.fail("status " + field("status"))
		}
	}
	if metric == k.metric {
		k.samples++
		record(k.latency, time.Duration(value*float64(time.Millisecond)))
	}
	return nil
}

func (k *k6Log) fail(text string) {
	k.failed++
	if len(k.errors) < faultsMax && !slices.Contains(k.errors, text) {
		k.errors = append(k.errors, strings.Clone(text))
	}
}

// point sums up. What counts as sent are the samples of the metric that is judged.
func (k *k6Log) point(w *load) (*Point, error) {
	if k.samples == 0 {
		return nil, fmt.Errorf("k6 left no sample of %s: %w", k.metric, errNoResults)
	}
	if k.checks == 0 && !w.direct {
		return nil, errors.New("script.js made no check: a fast wrong answer is not throughput")
	}
	q := quantiles(k.latency)
	return &Point{
		Rate: w.rate, Planned: k.iterations + k.dropped, Sent: k.iterations, Dropped: k.dropped,
		Requests: k.requests, Failed: k.failed, Statuses: k.statuses, Errors: k.errors,
		Achieved: float64(max(k.samples-k.failed, 0)) / w.duration.Seconds(),
		FromPlan: q, FromSend: q, latency: k.latency,
	}, nil
}
