package main

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// load is what a generator is asked for.
type load struct {
	name        string // of the files it leaves
	rate        int    // per second; 0: as many as connections allow, closed-loop
	duration    time.Duration
	connections int
	p95         time.Duration // threshold of the point, which scripts may hold parts of it to; 0: none
	direct      bool          // to the service, not through the gateway
}

// Point is what one load came to. Latencies are in microseconds.
type Point struct {
	Name      string         `json:"name"`
	Percent   int            `json:"percent,omitempty"` // of capacity
	Rate      int            `json:"rate"`              // planned, per second
	Planned   int            `json:"planned"`
	Sent      int            `json:"sent"`
	Dropped   int            `json:"dropped"`  // planned and not sent
	Requests  int            `json:"requests"` // of HTTP; an iteration of k6 may make several
	Failed    int            `json:"failed"`
	Statuses  map[string]int `json:"statuses,omitempty"`
	Errors    []string       `json:"errors,omitempty"` // the first few different ones
	Achieved  float64        `json:"achieved"`         // good answers per second
	FromPlan  Quantiles      `json:"from_plan_us"`     // from when the request was due
	FromSend  Quantiles      `json:"from_send_us"`     // from when it was sent
	LateP99   int64          `json:"generator_late_p99_us"`
	CPUPerReq float64        `json:"gateway_cpu_us_per_request"`

	missed  string                  // which thresholds of the script are not met
	latency *hdrhistogram.Histogram // from the plan
}

// Quantiles are some of a distribution, in microseconds.
type Quantiles struct {
	P50  int64 `json:"p50"`
	P90  int64 `json:"p90"`
	P95  int64 `json:"p95"`
	P99  int64 `json:"p99"`
	P999 int64 `json:"p999"`
	Max  int64 `json:"max"`
}

// latencyMax is the largest latency that is told from larger ones.
const latencyMax = 10 * time.Minute

// newHistogram counts microseconds with three significant digits.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, latencyMax.Microseconds(), 3)
}

// record counts d, which is cut to what the histogram can hold.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	if err := h.RecordValue(min(max(d.Microseconds(), 0), latencyMax.Microseconds())); err != nil {
		panic("BUG: record " + d.String() + ": " + err.Error())
	}
}

func quantiles(h *hdrhistogram.Histogram) Quantiles {
	at := h.ValueAtQuantile
	return Quantiles{P50: at(50), P90: at(90), P95: at(95), P99: at(99), P999: at(99.9), Max: h.Max()}
}

// result is one request as the generator saw it.
type result struct {
	seq           uint64        // its place in the plan, from 0
	sent, latency time.Duration // sent: since any fixed moment
	failed        bool
}

var errNoResults = errors.New("the generator sent no request")

// planned turns results of a plan of rate requests per second into a point. Request n
// was due at begin + n/rate; begin is not in the results, but no request is sent before
// it is due, so it is the latest moment that makes this true of all: the least of
// sent - n/rate. What a stalled generator or gateway made late is so counted as
// waiting, which the generator's own latencies, taken from the sending, leave out.
// Requests due after the duration are left out, those due within it that were not sent
// are dropped ones.
func planned(results []result, rate int, duration time.Duration) (*Point, error) {
	if len(results) == 0 {
		return nil, errNoResults
	}
	count := uint64(math.Ceil(duration.Seconds() * float64(rate)))
	due := func(seq uint64) time.Duration {
		// Whole seconds apart: seq times a billion would overflow on a long run.
		whole, rest := seq/uint64(rate), seq%uint64(rate)
		return time.Duration(whole)*time.Second + time.Duration(rest)*time.Second/time.Duration(rate)
	}
	begin := time.Duration(math.MaxInt64)
	for i := range results {
		begin = min(begin, results[i].sent-due(results[i].seq))
	}
	p := &Point{Rate: rate, Planned: int(count), latency: newHistogram()}
	fromSend, late := newHistogram(), newHistogram()
	good := 0
	for i := range results {
		r := &results[i]
		if r.seq >= count {
			continue
		}
		p.Sent++
		lateness := r.sent - begin - due(r.seq)
		record(p.latency, lateness+r.latency)
		record(fromSend, r.latency)
		record(late, lateness)
		if r.failed {
			p.Failed++
		} else {
			good++
		}
	}
	p.Dropped, p.Requests = p.Planned-p.Sent, p.Sent
	p.FromPlan, p.FromSend = quantiles(p.latency), quantiles(fromSend)
	p.LateP99 = late.ValueAtQuantile(99)
	p.Achieved = float64(good) / duration.Seconds()
	return p, nil
}

// capacity is the rate of good answers of a closed-loop run.
func capacity(results []result) (float64, error) {
	if len(results) == 0 {
		return 0, errNoResults
	}
	first, last, good := time.Duration(math.MaxInt64), time.Duration(0), 0
	for i := range results {
		r := &results[i]
		first, last = min(first, r.sent), max(last, r.sent+r.latency)
		if !r.failed {
			good++
		}
	}
	if good == 0 {
		return 0, fmt.Errorf("none of %d requests succeeded", len(results))
	}
	return float64(good) / (last - first).Seconds(), nil
}
