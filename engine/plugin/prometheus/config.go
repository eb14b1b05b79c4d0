package prometheus

import "github.com/sluice-gateway/sluice/engine/config"

// Config is the configuration of the plugin: which metrics it records.
type Config struct {
	PerConsumer           bool `json:"per_consumer" doc:"Label requests and bandwidth with the consumer."`
	StatusCodeMetrics     bool `json:"status_code_metrics" doc:"Count requests by status."`
	LatencyMetrics        bool `json:"latency_metrics" doc:"Histograms of latencies."`
	BandwidthMetrics      bool `json:"bandwidth_metrics" doc:"Count bytes in and out."`
	UpstreamHealthMetrics bool `json:"upstream_health_metrics" doc:"Health of every target."`
	AIMetrics             bool `json:"ai_metrics" doc:"Accepted; there is nothing to measure."`
	WASMMetrics           bool `json:"wasm_metrics" doc:"Accepted; there is nothing to measure."`
	ConsumersMax          int  `json:"consumers_max" min:"1" max:"1000000" doc:"Consumers with series of their own on one route; the others count without a name. Not in Kong."`
}

// Check implements config.Checker.
func (c *Config) Check(r *config.Reporter) {
	if c.AIMetrics {
		r.Warnf("ai_metrics", "ignored: this gateway has no such metrics")
	}
	if c.WASMMetrics {
		r.Warnf("wasm_metrics", "ignored: this gateway has no such metrics")
	}
}
