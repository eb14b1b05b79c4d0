package canary

import (
	"fmt"
	"net/http"
	"time"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/lb"
)

// ramp is a share that grows by itself. It outlives reloads that leave its settings
// alone. Safe for concurrent use.
type ramp struct {
	*lb.Ramp
	steps []float64
}

func keepRamp(c *Ramp, canary string, env *pipeline.Env) (*ramp, error) {
	s := lb.RampSettings{
		Steps:             c.Steps,
		StepTime:          nanoseconds(c.StepDuration),
		CheckTime:         nanoseconds(c.CheckInterval),
		MinRequests:       c.MinRequests,
		MaxErrorRateDelta: c.MaxErrorRateIncrease,
		MaxLatencyRatio:   c.MaxLatencyRatio,
	}
	return pipeline.Keep(env, fmt.Sprintf("canary/%s/ramp/%s/%+v", env.Plugin.ID, canary, s), func() (*ramp, error) {
		return &ramp{lb.NewRamp(s, pipeline.Now()), s.Steps}, nil
	})
}

func nanoseconds(seconds float64) int64 { return int64(seconds * float64(time.Second)) }

// record is hot: it tells the ramp what came of a request that was sent to one side.
func (r *ramp) record(x *pipeline.Exchange, canary bool) {
	status, until := x.UpstreamStatus, x.UpstreamHeaders
	if until == 0 { // no answer of either side: the gateway's own stands for it
		status, until = x.Ctx.Response.StatusCode(), x.End
		if status < http.StatusInternalServerError {
			return // the client's fault, or another hook's answer: it says nothing of a side
		}
	}
	r.Record(x.ConnID, canary, status >= http.StatusInternalServerError, until-x.UpstreamStart)
}

// advance takes the ramp's next step if it is time for it, and tells what happened.
func (t *traffic) advance(r *ramp, now int64) {
	event := r.Advance(now)
	if event == lb.RampStayed {
		return
	}
	s := r.Report()
	log := t.log.With("plugin", t.name, "service", t.service, "share_percent", s.Share,
		"canary_requests", s.Canary.Requests, "canary_error_percent", s.Canary.ErrorRate, "canary_latency", time.Duration(s.Canary.Latency),
		"service_requests", s.Stable.Requests, "service_error_percent", s.Stable.ErrorRate, "service_latency", time.Duration(s.Stable.Latency))
	switch event {
	case lb.RampMoved:
		log.Info("canary: the ramp took its next step")
	case lb.RampFinished:
		log.Info("canary: the ramp is through")
	case lb.RampReverted:
		t.rollbacks.Add(1)
		log.Warn("canary: the ramp went back to nothing", "reason", s.Reason.String())
	}
}

// rampFacts are what the status listener shows of a ramp.
type rampFacts struct {
	State       string    `json:"state"` // running, done or rolled_back
	Reason      string    `json:"reason,omitempty"`
	Steps       []float64 `json:"steps"`
	Step        int       `json:"step"` // from 1
	SinceMillis int64     `json:"since"`
	Waiting     bool      `json:"waiting"` // the step's time has passed, but too few requests came
	Service     sideFacts `json:"service"`
	Canary      sideFacts `json:"canary"`
}

// sideFacts are the figures of one side since the step began, or those that made the
// ramp go back.
type sideFacts struct {
	Requests     uint64  `json:"requests"`
	Failures     uint64  `json:"failures"`
	ErrorPercent float64 `json:"error_percent"`
	LatencyMS    float64 `json:"latency_ms"` // 90th percentile of what did not fail
}

func (r *ramp) report() *rampFacts {
	s := r.Report()
	return &rampFacts{
		State: s.State.String(), Reason: s.Reason.String(), Steps: r.steps, Step: s.Step + 1,
		SinceMillis: pipeline.WallMillis(s.Since), Waiting: s.Waiting,
		Service: newSideFacts(&s.Stable), Canary: newSideFacts(&s.Canary),
	}
}

func newSideFacts(s *lb.RampSide) sideFacts {
	return sideFacts{s.Requests, s.Failures, s.ErrorRate, float64(s.Latency) / float64(time.Millisecond)}
}
