package trial

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/loadtest/machine"
	"github.com/sluice-gateway/sluice/loadtest/stats"
)

// When a trial warns.
const (
	lateShareMax  = 0.01 // of the planned requests
	busyShare     = 0.9  // of the load's CPU
	otherShareMax = 0.25 // of the gateway's CPU; soft interrupts for its sockets are part of it
	idleShare     = 0.85 // of the gateway's CPU
	directTimes   = 1.5  // how much faster the generator must be without the gateway
	roundsToTrust = 5
)

// summarise writes the rounds into the report.
func (s *stage) summarise() {
	r := s.report
	r.Rate = s.rate
	relay := s.column(func(r *round) float64 { return r.relayMicros })
	gateway := s.column(func(r *round) float64 { return r.gatewayMicros })
	r.figure(figureRatio, "x", stats.Ratios(gateway, relay))
	r.figure("gateway CPU per request", "us", gateway)
	r.figure("relay CPU per request", "us", relay)
	r.figure("capacity of the gateway", "/s", s.column(func(r *round) float64 { return r.gatewayRate }))
	r.figure("rate through the relay", "/s", s.column(func(r *round) float64 { return r.relayRate }))
	r.figure("rate without either", "/s", []float64{s.direct})
	for _, q := range quantiles {
		r.figure(q.name, "ms", s.column(func(r *round) float64 { return millis(r.open.latency.Quantile(q.share)) }))
	}
	r.figure("longest", "ms", s.column(func(r *round) float64 { return millis(r.open.latency.Max()) }))
	r.figure(figureMemory, "MiB", s.column(func(r *round) float64 { return float64(r.memory) / (1 << 20) }))
	var total outcome
	for i := range s.rounds {
		for _, o := range []*outcome{s.rounds[i].closed, s.rounds[i].open} {
			total.add(o)
		}
	}
	all := total.answered + total.failed
	r.Requests, r.Failed, r.FailedHow = all, total.failed, total.explain()
	r.figure(figureFailures, "%", []float64{100 * float64(total.failed) / float64(max(1, all))})
	s.warnings(&total)
}

// add counts what became of the requests of p, too.
func (o *outcome) add(p *outcome) {
	o.planned += p.planned
	o.answered += p.answered
	o.failed += p.failed
	o.late += p.late
	o.waited += p.waited
	o.lateMax = max(o.lateMax, p.lateMax)
	for i, n := range p.failures {
		o.failures[i] += n
	}
	if o.first == "" {
		o.first = p.first
	}
}

func (s *stage) warnings(total *outcome) {
	r := s.report
	s.latenessWarning(total)
	rate := stats.Median(s.column(func(r *round) float64 { return r.gatewayRate }))
	own := stats.Median(s.column(func(r *round) float64 { return r.gatewayShare }))
	loading := stats.Median(s.column(func(r *round) float64 { return r.loadShare }))
	slow := time.Duration(s.o.Profile.Service.Latency) > 0
	other := stats.Median(s.column(func(r *round) float64 { return r.otherShare }))
	switch {
	case other > otherShareMax:
		r.warn("the machine is not idle: other work took %.0f%% of the gateway's CPU while it had %.0f%%; latencies and the capacity are those of a busy machine", 100*other, 100*own)
	case own >= idleShare:
	case loading >= busyShare:
		r.warn("the generator is the limit: its CPU is %.0f%% busy and the gateway's %.0f%%, so the gateway can do more than %.0f requests/s", 100*loading, 100*own, rate)
	case !slow && s.subject != nil:
		r.warn("the gateway's CPU is only %.0f%% busy with all %s in use, so its capacity is above %.0f requests/s; more connections may show it", 100*own, plural(s.o.Profile.Connections, "connection"), rate)
	}
	if s.direct < directTimes*rate {
		r.warn("without the gateway there are %.0f requests/s, %.1f times as many as with it: the generator and the service may be what limits the capacity", s.direct, s.direct/rate)
	}
	if len(s.rounds) < roundsToTrust {
		r.warn("%s say little about noise: use at least %d where a threshold depends on it", plural(len(s.rounds), "round"), roundsToTrust)
	}
}

// latenessWarning says that requests were not sent when they were planned, and why.
func (s *stage) latenessWarning(total *outcome) {
	share := float64(total.late) / float64(max(1, total.planned))
	if share <= lateShareMax {
		return
	}
	why := "since the generator got its CPU late: the machine is busy"
	if 2*total.waited > total.late {
		why = fmt.Sprintf("since all %s were busy: the gateway does not manage the rate", plural(s.o.Profile.Connections, "connection"))
	}
	s.report.warn("the plan of %.0f requests/s could not be kept: %.0f%% of %d requests were sent more than %s late, up to %s, %s; latencies include that wait",
		s.rate, 100*share, total.planned, lateness, shown(total.lateMax), why)
}

func millis(d time.Duration) float64 { return d.Seconds() * 1e3 }

// machine states what every figure depends on.
func where() []Fact {
	return []Fact{
		{"date", time.Now().UTC().Format(time.RFC3339)},
		{"machine", machine.CPUModel() + ", " + plural(runtime.NumCPU(), "CPU")},
		{"kernel", machine.Kernel()},
		{"gateway's runtime", fmt.Sprintf("GOMAXPROCS=1 GOGC=%s GOMEMLIMIT=%s GODEBUG=%s", env("GOGC"), env("GOMEMLIMIT"), env("GODEBUG"))},
		{"load average at the start", loadAverage()},
	}
}

func env(name string) string {
	if v, ok := os.LookupEnv(name); ok {
		return strconv.Quote(v)
	}
	return "default"
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(text))
}
