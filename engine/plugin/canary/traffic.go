package canary

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// side is who a request was sent to.
type side uint8

const (
	toService side = iota
	toCanary
	sides
)

var sideNames = [sides]string{"service", "canary"}

// traffic is what an instance has seen: what outlives a reload. Safe for concurrent
// use.
type traffic struct {
	name    string // of the instance, else its id
	service string // "" for several
	labels  string
	log     *slog.Logger

	plan      atomic.Pointer[plan] // of the newest snapshot
	turns     turns
	requests  [sides]pipeline.ShardedCounter
	fallbacks pipeline.ShardedCounter
	rollbacks atomic.Int64
}

func keepTraffic(services []*config.Service, env *pipeline.Env) (*traffic, error) {
	name, service := env.Plugin.InstanceName, ""
	if name == "" {
		name = env.Plugin.ID
	}
	if len(services) == 1 {
		if service = services[0].Name; service == "" {
			service = services[0].ID
		}
	}
	labels := fmt.Sprintf(`plugin="%s",service="%s"`, escape(name), escape(service))
	return pipeline.Keep(env, fmt.Sprintf("canary/%s/traffic/%s", env.Plugin.ID, labels), func() (*traffic, error) {
		return &traffic{name: name, service: service, labels: labels, log: env.Log}, nil
	})
}

// escape writes s as the value of a label.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(strings.ToValidUTF8(s, "\uFFFD"))
}

// Expose implements pipeline.Exposer.
func (t *traffic) Expose(w io.Writer) {
	var b strings.Builder
	if p := t.plan.Load(); p != nil && !p.listed {
		fmt.Fprintf(&b, "sluice_canary_share_percent{%s} %g\n", t.labels, p.share(pipeline.Now()))
	}
	for i, name := range sideNames {
		fmt.Fprintf(&b, "sluice_canary_requests_total{%s,side=%q} %d\n", t.labels, name, t.requests[i].Load())
	}
	fmt.Fprintf(&b, "sluice_canary_fallbacks_total{%s} %d\n", t.labels, t.fallbacks.Load())
	fmt.Fprintf(&b, "sluice_canary_rollbacks_total{%s} %d\n", t.labels, t.rollbacks.Load())
	_, _ = io.WriteString(w, b.String()) // a scraper that is gone needs nothing
}

// Prune lets the ramp take its next step. The engine calls it once a second.
func (t *traffic) Prune(now int64) {
	if p := t.plan.Load(); p != nil && p.ramp != nil {
		t.advance(p.ramp, now)
	}
}

// facts are what the status listener shows.
type facts struct {
	Service         string     `json:"service,omitempty"`
	SharePercent    *float64   `json:"share_percent,omitempty"` // absent where groups decide
	ServiceRequests int64      `json:"service_requests"`
	CanaryRequests  int64      `json:"canary_requests"`
	Fallbacks       int64      `json:"fallbacks"`
	Rollbacks       int64      `json:"rollbacks"`
	Ramp            *rampFacts `json:"ramp,omitempty"`
}

// Report tells what kind of thing this is, which one, and how it is doing, for the
// status listener.
func (t *traffic) Report() (kind, name string, report any) {
	f := facts{
		Service: t.service, ServiceRequests: t.requests[toService].Load(), CanaryRequests: t.requests[toCanary].Load(),
		Fallbacks: t.fallbacks.Load(), Rollbacks: t.rollbacks.Load(),
	}
	if p := t.plan.Load(); p != nil && !p.listed {
		share := p.share(pipeline.Now())
		f.SharePercent = &share
		if p.ramp != nil {
			f.Ramp = p.ramp.report()
		}
	}
	return "canary", t.name, f
}
