package canary

import (
	"fmt"
	"math"
	"time"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// plan says how many requests the canary gets, and when. Immutable but for its
// ramp; safe for concurrent use.
type plan struct {
	steps   float64
	percent float64 // unless timed or ramp
	timed   bool
	start   float64 // milliseconds since 1970
	length  float64 // milliseconds
	ramp    *ramp
	listed  bool // groups decide: there is no share
}

// rounding is the part of a bucket that is owed to the arithmetic of percentages.
const rounding = 1e-6

func newPlan(c *Config, env *pipeline.Env) (*plan, error) {
	p := &plan{steps: float64(c.Steps)}
	if p.listed, _ = c.listed(); p.listed {
		return p, nil
	}
	switch {
	case c.Ramp != nil:
		r, err := keepRamp(c.Ramp, c.canary(), env)
		p.ramp = r
		return p, err
	case c.Percentage != nil:
		p.percent = *c.Percentage
		return p, nil
	}
	p.timed, p.length = true, c.Duration*1000
	if c.Start != nil {
		p.start = *c.Start * 1000
		return p, nil
	}
	key := fmt.Sprintf("canary/%s/start/%s", env.Plugin.ID, c.canary())
	start, err := pipeline.Keep(env, key, func() (int64, error) { return time.Now().UnixMilli(), nil })
	p.start = float64(start)
	return p, err
}

// canary says where requests go: another canary begins its ramp anew.
func (c *Config) canary() string {
	port := -1
	if c.UpstreamPort != nil {
		port = *c.UpstreamPort
	}
	return fmt.Sprintf("%s:%d%s", c.UpstreamHost, port, c.UpstreamURI)
}

// share returns the percentage of requests that go to the canary at now.
func (p *plan) share(now int64) float64 {
	switch {
	case p.ramp != nil:
		return p.ramp.Share()
	case !p.timed:
		return p.percent
	}
	passed := float64(pipeline.WallMillis(now)) - p.start
	switch {
	case passed < 0:
		return 0
	case passed >= p.length:
		return 100
	}
	return passed / p.length * 100
}

// buckets returns how many buckets belong to the canary at now.
func (p *plan) buckets(now int64) uint64 {
	return uint64(max(math.Ceil(p.steps*p.share(now)/100-rounding), 0))
}
