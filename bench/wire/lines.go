package main

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/sluice-gateway/sluice/loadtest/stats"
)

// line is what one row of one run found, as one line of JSON: what the gate reads, and
// what a history is made of.
type line struct {
	Suite   string `json:"suite"` // "wire"
	Commit  string `json:"commit"`
	Machine string `json:"machine"`
	Kernel  string `json:"kernel"`
	Go      string `json:"go"`
	Date    string `json:"date"` // RFC 3339, UTC

	Table  string      `json:"table"`
	Row    string      `json:"row"`
	Floor  string      `json:"floor"` // the row that ratios are taken of
	Rounds []lineRound `json:"rounds"`

	CPUMicros           float64            `json:"cpu_us"` // medians over the rounds
	Ratio               float64            `json:"ratio,omitempty"`
	ResidentBytes       int64              `json:"resident_bytes"`
	IdleConnectionBytes float64            `json:"idle_connection_bytes,omitempty"` // where it was measured
	SystemCalls         map[string]float64 `json:"system_calls,omitempty"`          // per request, where they were counted
}

// lineRound is one measurement.
type lineRound struct {
	CPUMicros float64 `json:"cpu_us"`          // CPU time per request
	Ratio     float64 `json:"ratio,omitempty"` // of it to the floor's in the same round; absent without a floor
	PerSecond float64 `json:"requests_per_second"`
	P99Millis float64 `json:"p99_ms"`
}

// lines returns one line for every row.
func (r *report) lines() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	for _, g := range groups {
		names := g.among(r.subjects)
		for _, name := range names {
			if err := e.Encode(r.line(g, name, slices.Contains(names, g.floor()))); err != nil {
				return nil, err
			}
		}
	}
	return b.Bytes(), nil
}

func (r *report) line(g *group, name string, floored bool) *line {
	l := &line{
		Suite: "wire", Commit: r.fact("commit"), Machine: r.fact("CPU"), Kernel: r.fact("kernel"), Go: r.fact("Go"), Date: r.fact("date"),
		Table: g.name, Row: name, Floor: g.floor(),
		CPUMicros: stats.Median(r.of(name, (*sample).cpuMicros)), ResidentBytes: int64(stats.Median(r.of(name, resident))),
	}
	var ratios []float64
	if floored {
		ratios = stats.Ratios(r.of(name, (*sample).cpuMicros), r.of(g.floor(), (*sample).cpuMicros))
		l.Ratio = stats.Median(ratios)
	}
	for _, s := range r.samples {
		if s.subject != name {
			continue
		}
		one := lineRound{CPUMicros: s.cpuMicros(), PerSecond: s.load.perSecond, P99Millis: s.load.p99.Seconds() * 1e3}
		if floored {
			one.Ratio = ratios[len(l.Rounds)]
		}
		l.Rounds = append(l.Rounds, one)
	}
	for _, t := range r.calls {
		if t.subject == name {
			l.SystemCalls = t.perRequest()
		}
	}
	for _, i := range r.idle {
		if i.row == name {
			l.IdleConnectionBytes = i.bytes
		}
	}
	return l
}

// fact returns the value of a fact, "unknown" if it was not collected.
func (r *report) fact(name string) string {
	for _, f := range r.facts {
		if f.name == name {
			return f.value
		}
	}
	return "unknown"
}

// perRequest returns the calls that are not rare.
func (t *traced) perRequest() map[string]float64 {
	calls := map[string]float64{}
	for _, c := range t.calls {
		if rate := float64(c.calls) / float64(t.requests); rate >= rareCall {
			calls[c.name] = rate
		}
	}
	return calls
}
