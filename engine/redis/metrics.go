package redis

import (
	"fmt"
	"io"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// meters are what a client counts.
type meters struct {
	set     *metrics.Set
	calls   *metrics.Counter
	errors  [faults]*metrics.Counter
	loads   *metrics.Counter
	seconds *metrics.PrometheusHistogram

	valueSeconds  *metrics.PrometheusHistogram
	read, written *metrics.Counter // bytes of values
}

// The bounds of the round trips, in seconds.
var roundTrips = []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5}

func newMeters(c *Client) *meters {
	name := c.settings.Name()
	set := metrics.NewSet()
	m := &meters{
		set:     set,
		calls:   set.NewCounter(fmt.Sprintf("sluice_redis_calls_total{redis=%q}", name)),
		loads:   set.NewCounter(fmt.Sprintf("sluice_redis_script_loads_total{redis=%q}", name)),
		seconds: set.NewPrometheusHistogramExt(fmt.Sprintf("sluice_redis_round_trip_seconds{redis=%q}", name), roundTrips),
	}
	m.valueSeconds = set.NewPrometheusHistogramExt(fmt.Sprintf("sluice_redis_value_round_trip_seconds{redis=%q}", name), roundTrips)
	m.read = set.NewCounter(fmt.Sprintf("sluice_redis_value_bytes_total{redis=%q,direction=\"read\"}", name))
	m.written = set.NewCounter(fmt.Sprintf("sluice_redis_value_bytes_total{redis=%q,direction=\"written\"}", name))
	for kind, word := range faultNames {
		m.errors[kind] = set.NewCounter(fmt.Sprintf("sluice_redis_errors_total{redis=%q,kind=%q}", name, word))
	}
	set.NewGauge(fmt.Sprintf("sluice_redis_up{redis=%q}", name), func() float64 { return c.up() })
	return m
}

// count takes in how a call ended for its caller.
func (m *meters) count(err error) {
	m.calls.Inc()
	if err == nil {
		return
	}
	if kind, ok := kindOf(err); ok {
		m.errors[kind].Inc()
	}
}

// up is 1 while Redis is there, 0 while it is away, and the share of its slots that
// are there with a cluster.
func (c *Client) up() float64 {
	if c.live.Load() == nil {
		return 0
	}
	open := 0
	for i := range c.scripts.circuits {
		if c.scripts.circuits[i].open() || c.values.circuits[i].open() {
			open++
		}
	}
	return 1 - float64(open)/parts
}

// Expose writes the client's metrics. It implements pipeline.Exposer.
func (c *Client) Expose(w io.Writer) { c.meters.set.WritePrometheus(w) }

// State is what Report tells.
type State struct {
	Up    float64    `json:"up"`              // 1 there, 0 away, between: the share of a cluster's slots
	Error string     `json:"error,omitempty"` // why it is away
	Since *time.Time `json:"since,omitempty"` // since when
}

// Report tells how the connection is doing. It implements pipeline.Reporter.
func (c *Client) Report() (kind, name string, report any) {
	s := State{Up: c.up()}
	if r := c.why.Load(); r != nil && s.Up == 0 {
		s.Error, s.Since = r.err.Error(), &r.since
	}
	return "redis", c.settings.Name(), s
}

// Up reports whether calls are being sent.
func (c *Client) Up() bool { return c.live.Load() != nil }
