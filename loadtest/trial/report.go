package trial

import (
	"cmp"
	"fmt"
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/loadtest/stats"
)

// Report is what came of a trial. It is written by Run and read afterwards.
type Report struct {
	Profile  string   `json:"profile"`
	Verdict  string   `json:"verdict"` // fine, missed or failed
	Error    string   `json:"error,omitempty"`
	Judged   []Judged `json:"thresholds"`
	Figures  []Figure `json:"figures"`
	Rounds   int      `json:"rounds"`
	Duration string   `json:"duration"`
	WarmUp   string   `json:"warm_up"`
	// Connections is of the generator; Rate, in requests per second, is at which
	// latency was measured, and Asked what the profile says of it.
	Connections int       `json:"connections"`
	Rate        float64   `json:"rate_per_second"`
	Asked       string    `json:"rate_asked"`
	Requests    uint64    `json:"requests"` // that counted
	Failed      uint64    `json:"failed"`
	FailedHow   string    `json:"failed_how,omitempty"`
	Warnings    []string  `json:"warnings"`
	Notes       []string  `json:"notes"`
	LeftOut     []LeftOut `json:"routes_left_out,omitempty"`
	Build       Build     `json:"build"`
	Facts       []Fact    `json:"facts"`
}

// Verdicts of a report.
const (
	Fine   = "fine"
	Missed = "missed"
	Failed = "failed" // there are no figures
)

// Fact is one line about the machine or the settings.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Figure is one thing measured: the median of the rounds and the range in which the true
// median lies with 95% confidence, as far as so few rounds can tell.
type Figure struct {
	Name   string  `json:"name"`
	Unit   string  `json:"unit"` // us, ms, /s, x, MiB or %
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
	Values int     `json:"values"`

	largest float64
}

// Judged is one threshold and what came of it.
type Judged struct {
	Name     string  `json:"name"` // as the profile calls it
	Unit     string  `json:"unit"`
	Limit    float64 `json:"limit"`
	Measured float64 `json:"measured"`
	Low      float64 `json:"low"`
	High     float64 `json:"high"`
	Met      bool    `json:"met"`
	Close    bool    `json:"close"` // the limit lies within the range: another run may say otherwise
}

// Names of figures that thresholds are about.
const (
	figureRatio    = "CPU per request, gateway to relay"
	figureMemory   = "resident memory of the gateway"
	figureFailures = "failures"
)

// quantiles are the latencies a report has.
var quantiles = []struct {
	name  string
	share float64
}{{"p50", 0.5}, {"p95", 0.95}, {"p99", 0.99}, {"p999", 0.999}}

const confidence = 0.95

func newReport(o *Options) *Report {
	p := o.Profile
	r := &Report{
		Profile: cmp.Or(p.Name, o.ProfileName), Verdict: Failed, Rounds: p.Rounds, Connections: p.Connections,
		Duration: time.Duration(p.Duration).String(), WarmUp: time.Duration(p.WarmUp).String(), Asked: p.Rate.String(),
		Judged: []Judged{}, Figures: []Figure{}, Warnings: []string{}, Notes: []string{},
		Build: o.Build, Facts: where(),
	}
	r.fact("service", fmt.Sprintf("%d bytes with status %d after %s", p.Service.BodyBytes, p.Service.Status, time.Duration(p.Service.Latency)))
	return r
}

func (r *Report) fail(err error) { r.Verdict, r.Error = Failed, err.Error() }

func (r *Report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

func (r *Report) warn(format string, args ...any) {
	r.Warnings = append(r.Warnings, fmt.Sprintf(format, args...))
}

func (r *Report) fact(name, value string) { r.Facts = append(r.Facts, Fact{name, value}) }

func (r *Report) figure(name, unit string, values []float64) {
	low, high := stats.Interval(values, confidence)
	r.Figures = append(r.Figures, Figure{
		Name: name, Unit: unit, Median: stats.Median(values), Low: low, High: high, Values: len(values),
		largest: stats.Quantile(values, 1),
	})
}

// judge compares the figures with t. A threshold is met when the median is; memory when
// every round is.
func (r *Report) judge(t *Thresholds) {
	if t.WireRatio > 0 {
		r.hold("wire_ratio", figureRatio, t.WireRatio)
	}
	for i, limit := range []Duration{t.P50, t.P95, t.P99, t.P999} {
		if limit > 0 {
			r.hold(quantiles[i].name, quantiles[i].name, time.Duration(limit).Seconds()*1e3)
		}
	}
	r.hold("failures", figureFailures, 100*float64(t.Failures))
	if t.Memory > 0 {
		r.hold("memory", figureMemory, float64(t.Memory)/(1<<20))
	}
	r.Verdict = Fine
	if len(r.Missed()) > 0 {
		r.Verdict = Missed
	}
}

// hold judges one figure.
func (r *Report) hold(name, figure string, limit float64) {
	f := r.find(figure)
	j := Judged{Name: name, Unit: f.Unit, Limit: limit, Measured: f.Median, Low: f.Low, High: f.High}
	if figure == figureMemory {
		j.Measured = f.largest
	}
	j.Met = j.Measured <= limit
	j.Close = f.Values > 1 && f.Low <= limit && limit < f.High
	r.Judged = append(r.Judged, j)
}

func (r *Report) find(name string) *Figure {
	for i := range r.Figures {
		if r.Figures[i].Name == name {
			return &r.Figures[i]
		}
	}
	panic("BUG: no figure " + name)
}

// Missed returns the thresholds that were not met.
func (r *Report) Missed() []Judged {
	var missed []Judged
	for _, j := range r.Judged {
		if !j.Met {
			missed = append(missed, j)
		}
	}
	return missed
}

// String says in one sentence what came of the threshold.
func (j Judged) String() string {
	relation := "is met"
	if !j.Met {
		relation = "is missed"
	}
	text := fmt.Sprintf("%s %s: measured %s, limit %s", j.Name, relation, amount(j.Measured, j.Unit), amount(j.Limit, j.Unit))
	if j.Low != j.High {
		text += fmt.Sprintf(" (median of the rounds within %s to %s)", amount(j.Low, j.Unit), amount(j.High, j.Unit))
	}
	return text
}

// amount is a figure with its unit, to three digits or so.
func amount(v float64, unit string) string {
	switch unit {
	case "ms":
		return shown(time.Duration(v * 1e6))
	case "/s":
		return strconv.FormatFloat(v, 'f', 0, 64) + "/s"
	case "x":
		return strconv.FormatFloat(v, 'f', 2, 64) + "x"
	case "%":
		return strconv.FormatFloat(v, 'g', 4, 64) + "%"
	}
	return strconv.FormatFloat(v, 'f', 2, 64) + " " + unit
}

// shown is a latency to three digits.
func shown(d time.Duration) string {
	for unit := time.Duration(1); ; unit *= 10 {
		if d < 1000*unit {
			return d.Round(unit).String()
		}
	}
}
