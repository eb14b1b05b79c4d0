package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/sluice-gateway/sluice/loadtest/stats"
)

const (
	warmUp      = time.Second
	proofMax    = 5 * time.Second // of a closed-loop run
	proofSmoke  = 2 * time.Second
	percentFull = 100
)

// campaign is one run of a scenario with a profile.
type campaign struct {
	o       *options
	sc      *Scenario
	profile *Profile
	cpus    placement
	stdout  io.Writer

	lab    *lab
	sample sample
	r      report
}

// run is the whole journey. The report is stored whatever the verdict is; the error is
// errFailed if a threshold was not met.
func (c *campaign) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeLimit(), fmt.Errorf("not finished after %s", c.timeLimit()))
	defer cancel()
	began := time.Now().UTC()
	dir := filepath.Join(c.o.out, fmt.Sprintf("%s-%s-%s", c.sc.name, c.o.profile, began.Format("20060102T150405.000")))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	built, err := build(ctx, c.o.root, c.sc)
	if err != nil {
		return err
	}
	c.lab = &lab{sc: c.sc, dir: dir, built: built, cpus: c.cpus}
	defer func() { err = errors.Join(err, c.lab.close()) }()
	if err := openLab(ctx, c.lab); err != nil {
		return err
	}
	c.r.describe(ctx, c, began)
	if err := c.measure(ctx); err != nil {
		return err
	}
	c.judge(ctx)
	if err := c.r.store(c.o.out, dir); err != nil {
		return err
	}
	if _, err := io.WriteString(c.stdout, c.r.text()); err != nil {
		return err
	}
	if !c.r.Passed {
		return fmt.Errorf("%w: %d thresholds or checks are not met; the report is in %s", errFailed, len(c.r.Faults), dir)
	}
	return nil
}

// measure runs everything that is measured, first what the figures are held against.
func (c *campaign) measure(ctx context.Context) error {
	if err := c.warm(ctx); err != nil {
		return err
	}
	if err := c.prove(ctx); err != nil {
		return err
	}
	before, err := c.lab.gateway.memoryBytes()
	if err != nil {
		return err
	}
	slow := c.lab.openSlow(ctx)
	err = c.points(ctx)
	slow.stop()
	if err != nil {
		return err
	}
	after, err := c.lab.gateway.memoryBytes()
	if err != nil {
		return errors.Join(err, c.lab.gateway.alive())
	}
	c.sample.sendAll(ctx, c.lab)
	c.r.MemoryMiB = [2]int64{before >> 20, after >> 20}
	c.r.Reloads, c.r.ReloadSlowest = c.lab.reloads, c.lab.slowest.Microseconds()
	c.r.SlowServed, c.r.SlowFailed, c.r.slowFaults = slow.served.Load(), slow.failed, slow.faults
	return c.lab.gateway.alive()
}

// warm sends the checks and a second of load, and refuses to measure what answers wrongly.
func (c *campaign) warm(ctx context.Context) error {
	c.sample.sendAll(ctx, c.lab)
	if c.sample.wrong > 0 {
		return fmt.Errorf("%w: %d of %d checks are wrong before any load: %w", errFailed, c.sample.wrong, c.sample.sent, errors.Join(c.sample.faults...))
	}
	if c.sc.Generator == "k6" {
		return nil // scripts count what they send: warming up would spend their limits
	}
	_, err := c.lab.closed(ctx, &load{name: "warm-up", duration: warmUp, connections: c.profile.Connections})
	return err
}

// prove finds how much generator and service can do without the gateway, and, where
// the profile asks for shares of it, the capacity with the gateway.
func (c *campaign) prove(ctx context.Context) error {
	w := &load{name: "direct", duration: min(c.profile.Duration, proofMax), connections: c.profile.Connections, direct: true}
	if c.o.profile == "smoke" {
		w.duration = proofSmoke
	}
	var err error
	if c.sc.Generator == "k6" {
		var p *Point
		if p, err = c.lab.k6(ctx, w); err == nil {
			c.r.Direct = p.Achieved
		}
		return err
	}
	if c.r.Direct, err = c.lab.closed(ctx, w); err != nil {
		return fmt.Errorf("direct load: %w", err)
	}
	if len(c.profile.Percents) == 0 {
		return nil
	}
	w.name, w.direct = "capacity", false
	if c.r.Capacity, err = c.lab.closed(ctx, w); err != nil {
		return fmt.Errorf("capacity: %w", err)
	}
	return nil
}

// points runs the loads of the profile one after another.
func (c *campaign) points(ctx context.Context) error {
	loads := make([]load, 0, len(c.profile.Rates)+len(c.profile.Percents))
	for _, rate := range c.profile.Rates {
		loads = append(loads, load{name: fmt.Sprintf("%d-per-second", rate), rate: rate})
	}
	for _, percent := range c.profile.Percents {
		rate := max(int(c.r.Capacity)*percent/percentFull, 1)
		loads = append(loads, load{name: fmt.Sprintf("%d-percent", percent), rate: rate})
	}
	if c.sc.Scrape != nil {
		return c.scrapes(ctx, &loads[0])
	}
	for i := range loads {
		p, err := c.point(ctx, &loads[i])
		if err != nil {
			return fmt.Errorf("point %s: %w", loads[i].name, err)
		}
		if len(c.profile.Percents) > 0 {
			p.Percent = c.profile.Percents[i]
		}
	}
	return nil
}

// point runs one load with everything that happens beside it, and appends what came out.
func (c *campaign) point(ctx context.Context, w *load) (*Point, error) {
	w.duration, w.connections = c.profile.Duration, c.profile.Connections
	if limit := c.profile.Thresholds.over(c.sc.Thresholds).P95; limit != nil {
		w.p95 = *limit
	}
	w.name = fmt.Sprintf("%02d-%s", len(c.r.Points)+1, w.name)
	if _, err := fmt.Fprintf(c.stdout, "%s for %s\n", w.name, w.duration); err != nil {
		return nil, err
	}
	cpu, err := c.lab.gateway.cpuTime()
	if err != nil {
		return nil, err
	}
	beside, stop := context.WithCancel(ctx)
	defer stop()
	disturbed := make(chan error, 1)
	sampled := make(chan struct{})
	go func() { disturbed <- c.lab.disturb(beside, w.duration) }()
	go func() {
		defer close(sampled)
		c.sample.keepSending(beside, c.lab)
	}()
	generate := c.lab.open
	if c.sc.Generator == "k6" {
		generate = c.lab.k6
	}
	p, err := generate(ctx, w)
	stop()
	<-sampled
	if err = errors.Join(err, <-disturbed); err != nil {
		return nil, errors.Join(err, c.lab.gateway.alive())
	}
	after, err := c.lab.gateway.cpuTime()
	if err != nil {
		return nil, errors.Join(err, c.lab.gateway.alive())
	}
	p.Name = w.name
	p.CPUPerReq = float64((after - cpu).Microseconds()) / float64(max(cmp.Or(p.Requests, p.Sent), 1))
	c.r.Points = append(c.r.Points, p)
	return p, nil
}

// scrapes runs the load in rounds, each once with scrapes and once without, in an order
// that alternates, so that a machine which becomes slower or faster favours neither.
func (c *campaign) scrapes(ctx context.Context, w *load) error {
	var with, without []float64
	for round := range c.sc.Scrape.Rounds {
		for half := range 2 {
			scraped := (round+half)%2 == 1
			this := load{name: "without", rate: w.rate}
			if scraped {
				this.name = "with"
			}
			p, err := c.scrapePoint(ctx, &this, scraped)
			if err != nil {
				return err
			}
			if scraped {
				with = append(with, float64(p.FromPlan.P99))
			} else {
				without = append(without, float64(p.FromPlan.P99))
			}
		}
	}
	ratios := stats.Ratios(with, without)
	low, high := stats.Interval(ratios, 0.95)
	c.r.Scrape = &scrapeResult{
		Rounds: len(ratios), WithP99: stats.Median(with), WithoutP99: stats.Median(without),
		Ratio: stats.Median(ratios), RatioLow: low, RatioHigh: high, P: stats.Differ(with, without),
		Scrapes: c.r.scrapes, Bytes: c.r.scrapeBytes, Slowest: c.r.scrapeSlowest.Microseconds(),
	}
	return nil
}

func (c *campaign) scrapePoint(ctx context.Context, w *load, scraped bool) (*Point, error) {
	if !scraped {
		return c.point(ctx, w)
	}
	beside, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- c.keepScraping(beside) }()
	p, err := c.point(ctx, w)
	stop()
	return p, errors.Join(err, <-ended)
}

// keepScraping reads all metrics at the scenario's pace until ctx is done.
func (c *campaign) keepScraping(ctx context.Context) error {
	tick := time.NewTicker(c.sc.Scrape.Every)
	defer tick.Stop()
	for {
		if err := c.scrape(context.WithoutCancel(ctx)); err != nil {
			return fmt.Errorf("scrape of /metrics: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// scrape reads all metrics once and throws them away: the scraper shares a CPU with the
// generator, so it must cost little itself.
func (c *campaign) scrape(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.lab.status+"/metrics", http.NoBody)
	if err != nil {
		return err
	}
	began := time.Now()
	resp, err := c.lab.client.Do(req)
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d, want 200", resp.StatusCode)
	}
	c.r.scrapes++
	c.r.scrapeBytes = n
	c.r.scrapeSlowest = max(c.r.scrapeSlowest, time.Since(began))
	return nil
}
