package concurrencylimiting

import (
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// Config are the settings of concurrency-limiting.
type Config struct {
	Max *int `json:"max" min:"1" max:"1000000" doc:"Requests that a caller may have in flight at a time."`

	LimitBy    string `json:"limit_by" enum:"consumer,credential,ip,service,header,path,consumer-group" doc:"Who has a count of his own. Where the request has no such thing, its client IP."`
	HeaderName string `json:"header_name" len:"1" doc:"Header whose value names the caller, with limit_by: header."`
	Path       string `json:"path" len:"1" doc:"Path that has a count of its own, with limit_by: path."`

	ErrorCode    int    `json:"error_code" min:"100" max:"599" doc:"Status of a refusal because of max."`
	ErrorMessage string `json:"error_message" doc:"Message of a refusal because of max."`
	RetryAfter   int    `json:"retry_after" min:"0" max:"86400" doc:"Seconds a refused caller is asked to wait, 0 to say nothing."` // seconds

	Adaptive *Adaptive `json:"adaptive" doc:"Keep each service to as many requests in flight as it takes without queueing."`

	KeysMax int `json:"keys_max" min:"64" max:"134217728" doc:"Callers with something in flight at a time; newcomers beyond it are refused."`
}

// Adaptive are the settings of the limit that finds itself.
type Adaptive struct {
	Min       int     `json:"min" min:"1" max:"1000000" doc:"The limit is never lower."`
	Max       int     `json:"max" min:"1" max:"1000000" doc:"The limit is never higher."`
	Start     int     `json:"start" min:"1" max:"1000000" doc:"What the limit begins with."`
	Tolerance float64 `json:"tolerance" min:"1" max:"100" doc:"How many times the average latency is no queue yet."`
	Smoothing float64 `json:"smoothing" gt:"0" max:"1" doc:"Share of a new limit that is taken over at once."`
	Window    float64 `json:"window" min:"0.001" max:"60" doc:"Seconds of one sample, at least."` // seconds

	ErrorCode    int    `json:"error_code" min:"100" max:"599" doc:"Status of a refusal."`
	ErrorMessage string `json:"error_message" doc:"Message of a refusal."`
	RetryAfter   int    `json:"retry_after" min:"0" max:"86400" doc:"Seconds a refused caller is asked to wait, 0 to say nothing."` // seconds
}

var defaults = Config{
	LimitBy:      "consumer",
	ErrorCode:    429,
	ErrorMessage: "Too many concurrent requests",
	RetryAfter:   1,
	KeysMax:      1 << 16,
}

// SetDefaults implements config.Defaulter.
func (a *Adaptive) SetDefaults() {
	*a = Adaptive{
		Min: 4, Max: 1000, Start: 20, Tolerance: 1.5, Smoothing: 0.2, Window: 0.1,
		ErrorCode: 503, ErrorMessage: "The service is overloaded", RetryAfter: 1,
	}
}

// Check reports what the fields' own rules cannot say.
func (c *Config) Check(r *config.Reporter) {
	if c.Max == nil && c.Adaptive == nil {
		r.Faultf("", "at least one of these fields must be non-empty: 'max', 'adaptive'")
	}
	if c.Max == nil && r.Has("limit_by") {
		r.Warnf("limit_by", "has no effect without max: adaptive limits services, not callers")
	}
	switch {
	case c.LimitBy == "header" && c.HeaderName == "":
		r.Faultf("header_name", "required field missing")
	case c.LimitBy == "path" && c.Path == "":
		r.Faultf("path", "required field missing")
	}
	pipeline.CheckHeaderName(r, "header_name", c.HeaderName)
	if c.Path != "" && c.Path[0] != '/' {
		r.Faultf("path", "should start with: /")
	}
}

// Check reports what the fields' own rules cannot say.
func (a *Adaptive) Check(r *config.Reporter) {
	if a.Min > a.Max {
		field := "max"
		if !r.Has(field) {
			field = "min"
		}
		r.Faultf(field, "min (%d) may not be above max (%d)", a.Min, a.Max)
		return
	}
	if r.Has("start") && (a.Start < a.Min || a.Start > a.Max) {
		r.Faultf("start", "should be between min (%d) and max (%d)", a.Min, a.Max)
	}
}
