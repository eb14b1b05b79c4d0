package concurrencylimiting

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/limiter"
)

// shield keeps one service to what it can take: it outlives a reload. Safe for
// concurrent use.
type shield struct {
	service  string // name, else id
	settings string
	gradient *limiter.Gradient
	shed     atomic.Int64
}

// keepShields returns the shield of each service the instance applies to. Instances
// with the same settings have the same.
func keepShields(a *Adaptive, env *pipeline.Env) (map[*config.Service]*shield, error) {
	settings := fmt.Sprintf("%d-%d-%d-%g-%g-%g", a.Min, a.Max, a.Start, a.Tolerance, a.Smoothing, a.Window)
	shields := map[*config.Service]*shield{}
	for _, s := range scope(env) {
		name := s.Name
		if name == "" {
			name = s.ID
		}
		key := fmt.Sprintf("concurrency-limiting/adaptive/%s/%s/%s", s.ID, name, settings)
		kept, err := pipeline.Keep(env, key, func() (*shield, error) {
			g := limiter.NewGradient(limiter.GradientConfig{
				LimitMin: a.Min, LimitMax: a.Max, LimitStart: a.Start, Tolerance: a.Tolerance, Smoothing: a.Smoothing,
				Window: time.Duration(a.Window * float64(time.Second)),
			})
			return &shield{service: name, settings: settings, gradient: g}, nil
		})
		if err != nil {
			return nil, err
		}
		shields[s] = kept
	}
	return shields, nil
}

// scope returns the services that the instance being built applies to.
func scope(env *pipeline.Env) []*config.Service {
	d, p := env.Document, env.Plugin
	key := fmt.Sprintf("concurrency-limiting scope %s|%s", p.Service, p.Route)
	return pipeline.Shared(env, key, func() []*config.Service {
		routed := map[string]bool{}
		for _, r := range d.Routes {
			if (p.Route == "" || p.Route == r.ID) && (p.Service == "" || p.Service == r.Service) {
				routed[r.Service] = true
			}
		}
		var found []*config.Service
		for _, s := range d.Services {
			if routed[s.ID] && s.Enabled && !s.Builtin {
				found = append(found, s)
			}
		}
		return found
	})
}

func (s *shield) acquire() bool {
	if !s.gradient.Acquire() {
		s.shed.Add(1)
		return false
	}
	return true
}

// release tells how the service did for x.
func (s *shield) release(x *pipeline.Exchange) {
	now := pipeline.Now()
	if x.UpstreamStart == 0 || x.Destination != nil {
		s.gradient.Release(now, 0, false)
		return
	}
	switch x.Ctx.Response.StatusCode() {
	case http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		s.gradient.Release(now, 0, true)
		return
	}
	latency := int64(0)
	if x.UpstreamHeaders != 0 {
		begin := x.UpstreamStart
		if n := len(x.Tries); n > 0 {
			begin = x.Tries[n-1].Start
		}
		latency = x.UpstreamHeaders - begin
	}
	s.gradient.Release(now, time.Duration(latency), false)
}

// abandon releases a request that the service was never asked about.
func (s *shield) abandon() { s.gradient.Release(pipeline.Now(), 0, false) }

var eventStream = []byte("text/event-stream")

// isEventStream reports whether the answer is server-sent events.
func isEventStream(x *pipeline.Exchange) bool {
	t := x.Ctx.Response.Header.ContentType()
	return len(t) >= len(eventStream) && bytes.EqualFold(t[:len(eventStream)], eventStream)
}

// Expose implements pipeline.Exposer.
func (s *shield) Expose(w io.Writer) {
	labels := fmt.Sprintf(`service="%s",settings="%s"`, escape(s.service), s.settings)
	_, _ = fmt.Fprintf(w, "sluice_adaptive_limit_requests{%s} %d\nsluice_adaptive_requests{%s} %d\nsluice_adaptive_shed_total{%s} %d\n",
		labels, s.gradient.Limit(), labels, s.gradient.InFlight(), labels, s.shed.Load())
}

// shieldFacts are what the status listener shows.
type shieldFacts struct {
	Limit    int   `json:"limit"`
	Requests int   `json:"requests"`
	Shed     int64 `json:"shed"`
}

// Report implements pipeline.Reporter.
func (s *shield) Report() (kind, name string, report any) {
	return "adaptive", s.service, shieldFacts{s.gradient.Limit(), s.gradient.InFlight(), s.shed.Load()}
}
