package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sluice-gateway/sluice/loadtest/machine"
)

// resultsFile has one line of JSON a run, the newest last.
const resultsFile = "results.jsonl"

// report is what a run leaves, as a line of JSON and as text.
type report struct {
	Scenario  string `json:"scenario"`
	Profile   string `json:"profile"`
	Date      string `json:"date"`
	Commit    string `json:"commit"`
	Machine   string `json:"machine"`
	Kernel    string `json:"kernel"`
	Clock     string `json:"clock"`
	Go        string `json:"go"`
	Generator string `json:"generator"`
	Pinning   string `json:"pinning"`
	Settings  string `json:"settings"`

	Direct        float64       `json:"direct_per_second"`
	Capacity      float64       `json:"capacity_per_second,omitempty"`
	Points        []*Point      `json:"points"`
	Scrape        *scrapeResult `json:"scrape,omitempty"`
	ChecksSent    int           `json:"checks_sent"`
	ChecksWrong   int           `json:"checks_wrong"`
	MemoryMiB     [2]int64      `json:"gateway_memory_mib"` // after the warm-up, at the end
	Reloads       int           `json:"reloads,omitempty"`
	ReloadSlowest int64         `json:"reload_slowest_us,omitempty"`
	SlowServed    int64         `json:"slow_clients_served,omitempty"`
	SlowFailed    int           `json:"slow_clients_failed,omitempty"`
	Passed        bool          `json:"passed"`
	Faults        []string      `json:"faults,omitempty"`
	Warnings      []string      `json:"warnings,omitempty"`

	Placement     placement `json:"-"`
	about         string
	slowFaults    []error
	scrapes       int
	scrapeBytes   int64
	scrapeSlowest time.Duration
}

// scrapeResult compares the points with scrapes to those without. Times are in
// microseconds, the ratio is the median over the rounds.
type scrapeResult struct {
	Rounds     int     `json:"rounds"`
	WithP99    float64 `json:"with_p99_us"`
	WithoutP99 float64 `json:"without_p99_us"`
	Ratio      float64 `json:"ratio"`
	RatioLow   float64 `json:"ratio_low"`
	RatioHigh  float64 `json:"ratio_high"`
	P          float64 `json:"p"` // that such different series have one distribution
	Scrapes    int     `json:"scrapes"`
	Bytes      int64   `json:"bytes"` // of the last scrape
	Slowest    int64   `json:"slowest_us"`
}

// describe fills in what must be known to read the figures.
func (r *report) describe(ctx context.Context, c *campaign, began time.Time) {
	t := toolVegeta
	if c.sc.Generator == "k6" {
		t = toolK6
	}
	setting := func(name string) string {
		if v, ok := os.LookupEnv(name); ok {
			return name + "=" + v
		}
		return name + " default"
	}
	gomaxprocs := runtime.NumCPU()
	if len(c.cpus.gateway) > 0 {
		gomaxprocs = len(c.cpus.gateway)
	}
	r.Scenario, r.Profile, r.about = c.sc.name, c.o.profile, c.sc.About
	r.Date = began.Format(time.RFC3339)
	r.Commit = machine.Commit(ctx, c.o.root)
	r.Machine = fmt.Sprintf("%s, %d CPUs", machine.CPUModel(), runtime.NumCPU())
	r.Kernel = machine.Kernel()
	r.Clock = firstLine("/sys/devices/system/clocksource/clocksource0/current_clocksource")
	r.Go = runtime.Version()
	r.Generator = t.name + " " + t.version
	r.Placement, r.Pinning = c.cpus, c.cpus.String()
	r.Settings = fmt.Sprintf("gateway GOMAXPROCS=%d, %s, %s, profile-guided by cmd/sluice/default.pgo; %d connections, %s a point",
		gomaxprocs, setting("GOGC"), setting("GOMEMLIMIT"), c.profile.Connections, c.profile.Duration)
}

func firstLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "unknown: " + err.Error()
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	return line
}

// store writes the text, the plots and the percentile texts into dir, and appends the
// line of JSON to out/results.jsonl.
func (r *report) store(out, dir string) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	curves := make([]series, 0, len(r.Points))
	errs := []error{
		os.WriteFile(filepath.Join(dir, "report.txt"), []byte(r.text()), 0o644),
		os.WriteFile(filepath.Join(dir, "report.json"), line, 0o644),
	}
	for _, p := range r.Points {
		var text bytes.Buffer
		errs = append(errs, hgrm(&text, p.latency),
			os.WriteFile(filepath.Join(dir, p.Name+".hgrm"), text.Bytes(), 0o644))
		curves = append(curves, series{name: p.Name, h: p.latency})
	}
	title := fmt.Sprintf("%s, profile %s, %s, commit %s", r.Scenario, r.Profile, r.Date, r.Commit)
	errs = append(errs, os.WriteFile(filepath.Join(dir, "latency.svg"), plot(title, curves), 0o644))
	f, err := os.OpenFile(filepath.Join(out, resultsFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	_, err = f.Write(line)
	return errors.Join(append(errs, err, f.Close())...)
}

// text is the report for people.
func (r *report) text() string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s, profile %s: %s\n", r.Scenario, r.Profile, r.about)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { _, _ = fmt.Fprintf(w, name+"\t"+format+"\n", args...) }
	row("date", "%s, commit %s", r.Date, r.Commit)
	row("machine", "%s, %s, clock %s, %s", r.Machine, r.Kernel, r.Clock, r.Go)
	row("pinning", "%s", r.Pinning)
	row("settings", "%s; %s", r.Settings, r.Generator)
	row("direct", "%.0f per second without the gateway, closed-loop", r.Direct)
	if r.Capacity > 0 {
		row("capacity", "%.0f per second through the gateway, closed-loop", r.Capacity)
	}
	row("checks", "%d sent, %d wrong", r.ChecksSent, r.ChecksWrong)
	row("memory", "gateway %d MiB after the warm-up, %d MiB at the end", r.MemoryMiB[0], r.MemoryMiB[1])
	if r.Reloads > 0 {
		row("reloads", "%d, the slowest %s", r.Reloads, microseconds(r.ReloadSlowest))
	}
	if r.SlowServed > 0 || r.SlowFailed > 0 {
		row("slow clients", "%d answers read to the end, %d broken off", r.SlowServed, r.SlowFailed)
	}
	if s := r.Scrape; s != nil {
		row("scrapes", "p99 %s with and %s without (medians of %d rounds): ratio %.3f, 95 %% interval %.3f to %.3f, p = %.3f; %d scrapes of %d bytes, the slowest %s",
			microseconds(int64(s.WithP99)), microseconds(int64(s.WithoutP99)), s.Rounds, s.Ratio, s.RatioLow, s.RatioHigh, s.P, s.Scrapes, s.Bytes, microseconds(s.Slowest))
	}
	_ = w.Flush() // of a buffer in memory
	for _, p := range r.Points {
		fmt.Fprintln(&b, p)
	}
	for _, text := range r.Warnings {
		fmt.Fprintln(&b, text)
	}
	for _, text := range r.Faults {
		fmt.Fprintln(&b, "FAULT:", text)
	}
	if r.Passed {
		b.WriteString("passed\n")
	} else {
		fmt.Fprintf(&b, "FAILED: %d faults\n", len(r.Faults))
	}
	return b.String()
}

func microseconds(n int64) string { return (time.Duration(n) * time.Microsecond).String() }

// String is one line of the report.
func (p *Point) String() string {
	q := &p.FromPlan
	return fmt.Sprintf("%s: %d per second planned, %.0f achieved, %d dropped, %d of %d failed; from plan p50 %s p90 %s p95 %s p99 %s p99.9 %s max %s; from send p99 %s; generator late p99 %s; gateway CPU %.1f µs a request, statuses (of all that was sent) %v",
		p.Name, p.Rate, p.Achieved, p.Dropped, p.Failed, p.Requests,
		microseconds(q.P50), microseconds(q.P90), microseconds(q.P95), microseconds(q.P99), microseconds(q.P999), microseconds(q.Max),
		microseconds(p.FromSend.P99), microseconds(p.LateP99), p.CPUPerReq, p.Statuses)
}
