package main

import (
	"context"
	"fmt"
	"time"
)

// directRatioWanted is how much more generator and service must do without the gateway
// than with it, unless the scenario says otherwise: else they may be the limit.
const directRatioWanted = 2.0

// judge holds what came out against the thresholds and notes every one that is not met.
func (c *campaign) judge(ctx context.Context) {
	t := c.profile.Thresholds.over(c.sc.Thresholds)
	r := &c.r
	for _, p := range r.Points {
		r.Faults = append(r.Faults, t.faults(p)...)
	}
	r.ChecksSent, r.ChecksWrong = c.sample.sent, c.sample.wrong
	if c.sample.wrong > 0 {
		r.fault("%d of %d checks are wrong, the first: %v", c.sample.wrong, c.sample.sent, c.sample.faults[0])
	}
	if err := c.lab.checkCounts(ctx); err != nil {
		r.fault("%v", err)
	}
	if grown := r.MemoryMiB[1] - r.MemoryMiB[0]; t.MemoryGrowth != nil && grown > int64(*t.MemoryGrowth) {
		r.fault("resident memory grew by %d MiB, from %d to %d, threshold %d", grown, r.MemoryMiB[0], r.MemoryMiB[1], *t.MemoryGrowth)
	}
	if s := r.Scrape; s != nil && t.ScrapeRatio != nil && s.Ratio > *t.ScrapeRatio {
		r.fault("p99 with scrapes is %.3f times that without (95 %% interval %.3f to %.3f), threshold %g", s.Ratio, s.RatioLow, s.RatioHigh, *t.ScrapeRatio)
	}
	if slowest := time.Duration(r.ReloadSlowest) * time.Microsecond; t.ReloadTime != nil && slowest > *t.ReloadTime {
		r.fault("the slowest of %d reloads took %s, threshold %s", r.Reloads, slowest, *t.ReloadTime)
	}
	if c.sc.does("reload") && r.Reloads == 0 {
		r.fault("no reload happened in the duration")
	}
	if t.SlowFailures != nil && r.SlowFailed > *t.SlowFailures {
		r.fault("%d slow clients were not served, threshold %d; the first: %v", r.SlowFailed, *t.SlowFailures, r.slowFaults[0])
	}
	r.warn(&t)
	r.Passed = len(r.Faults) == 0
}

func (r *report) fault(format string, args ...any) {
	r.Faults = append(r.Faults, fmt.Sprintf(format, args...))
}

// warn says what makes the figures worth less than they look.
func (r *report) warn(t *Thresholds) {
	want := directRatioWanted
	if t.DirectRatio != nil {
		want = *t.DirectRatio
	}
	through, what := r.Capacity, "capacity"
	for _, p := range r.Points {
		if p.Achieved > through {
			through, what = p.Achieved, "rate of "+p.Name
		}
	}
	if r.Direct < want*through {
		r.Warnings = append(r.Warnings, fmt.Sprintf(
			"WARNING: generator and service do %.0f requests per second without the gateway, %.2f times the %s (%.0f); below %g times, figures near capacity are theirs as much as the gateway's",
			r.Direct, r.Direct/max(through, 1), what, through, want))
	}
	if len(r.Placement.gateway) == 0 {
		r.Warnings = append(r.Warnings, "WARNING: nothing is pinned: gateway, generator and services share one CPU")
	}
}

// faults says which thresholds p does not meet.
func (t *Thresholds) faults(p *Point) []string {
	var out []string
	fault := func(format string, args ...any) {
		out = append(out, p.Name+": "+fmt.Sprintf(format, args...))
	}
	if p.missed != "" {
		fault("%s", p.missed)
	}
	if share := 100 * float64(p.Failed) / float64(max(p.Requests, p.Sent, 1)); t.Failures != nil && share > *t.Failures {
		fault("%d of %d requests failed (%.3f %%), threshold %g %%: %q", p.Failed, p.Requests, share, *t.Failures, p.Errors)
	}
	if t.UpTo != nil && p.Percent > *t.UpTo {
		return out // so near to capacity, and above it, waiting is expected
	}
	for _, q := range []struct {
		name  string
		got   int64
		limit *time.Duration
	}{{"p95", p.FromPlan.P95, t.P95}, {"p99", p.FromPlan.P99, t.P99}} {
		if got := time.Duration(q.got) * time.Microsecond; q.limit != nil && got > *q.limit {
			fault("%s is %s, threshold %s", q.name, got, *q.limit)
		}
	}
	if t.Dropped != nil && p.Dropped > *t.Dropped {
		fault("%d of %d planned requests were not sent, threshold %d: the generator did not keep up", p.Dropped, p.Planned, *t.Dropped)
	}
	return out
}
