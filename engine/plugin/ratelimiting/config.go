package ratelimiting

import (
	"math"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/limiter"
)

// Config are the settings of rate-limiting.
type Config struct {
	Second *float64 `json:"second" gt:"0" doc:"Requests per second."`
	Minute *float64 `json:"minute" gt:"0" doc:"Requests per minute."`
	Hour   *float64 `json:"hour" gt:"0" doc:"Requests per hour."`
	Day    *float64 `json:"day" gt:"0" doc:"Requests per day."`
	Month  *float64 `json:"month" gt:"0" doc:"Requests per calendar month."`
	Year   *float64 `json:"year" gt:"0" doc:"Requests per calendar year."`

	LimitBy    string `json:"limit_by" enum:"consumer,credential,ip,service,header,path,consumer-group" doc:"Who shares a counter. Where the request has no such thing, its client IP."`
	HeaderName string `json:"header_name" len:"1" doc:"Header whose value names the caller, with limit_by: header."`
	Path       string `json:"path" len:"1" doc:"Path that has a counter of its own, with limit_by: path."`

	Policy        string  `json:"policy" enum:"local,cluster,redis" doc:"Where the counters are. Only local is built."`
	FaultTolerant bool    `json:"fault_tolerant" doc:"Let requests pass while the store of the counters is away. Nothing to do with policy: local."`
	Redis         *Redis  `json:"redis" flat:"redis_"`
	SyncRate      float64 `json:"sync_rate" doc:"Seconds between pushes to Redis, -1 for every request."` // seconds

	HideClientHeaders bool   `json:"hide_client_headers" doc:"Leave out the headers that tell limits and what remains."`
	ErrorCode         int    `json:"error_code" min:"100" max:"599" doc:"Status of a refusal."`
	ErrorMessage      string `json:"error_message" doc:"Message of a refusal."`

	KeysMax int `json:"keys_max" min:"64" max:"134217728" doc:"Callers counted at a time; beyond it the least active are forgotten. Not in Kong."`
}

// Redis is where the counters of policy redis are.
type Redis struct {
	Host       string `json:"host" len:"1"`
	Port       int    `json:"port" min:"0" max:"65535"`
	Timeout    int    `json:"timeout" min:"0" max:"2147483646" doc:"Milliseconds."` // milliseconds
	Username   string `json:"username" len:"1"`
	Password   string `json:"password" secret:"true"`
	Database   int    `json:"database"`
	SSL        bool   `json:"ssl"`
	SSLVerify  bool   `json:"ssl_verify"`
	ServerName string `json:"server_name" len:"1"`
}

// SetDefaults implements config.Defaulter.
func (r *Redis) SetDefaults() { r.Port, r.Timeout = 6379, 2000 }

var defaults = Config{
	LimitBy:       "consumer",
	Policy:        "local",
	FaultTolerant: true,
	SyncRate:      -1,
	ErrorCode:     429,
	ErrorMessage:  "API rate limit exceeded",
	KeysMax:       1 << 20,
}

// limitMax is the largest limit: what a float64 still counts in steps of one.
const limitMax = 1 << 53

// limits returns the configured limits, shortest period first.
func (c *Config) limits() (periods []limiter.Period, limits []float64) {
	for p, v := range [limiter.Periods]*float64{c.Second, c.Minute, c.Hour, c.Day, c.Month, c.Year} {
		if v != nil {
			periods, limits = append(periods, limiter.Period(p)), append(limits, *v)
		}
	}
	return periods, limits
}

// Check reports what the fields' own rules cannot say. The texts are Kong's.
func (c *Config) Check(r *config.Reporter) {
	periods, limits := c.limits()
	if len(periods) == 0 {
		r.Faultf("", "at least one of these fields must be non-empty: 'second', 'minute', 'hour', 'day', 'month', 'year'")
	}
	for i, p := range periods {
		if limits[i] > limitMax || math.IsNaN(limits[i]) {
			r.Faultf(p.String(), "value should be at most %d", int64(limitMax))
		}
		for j := range i {
			if limits[i] < limits[j] {
				r.Faultf(p.String(), "The limit for %s(%.1f) cannot be lower than the limit for %s(%.1f)", p, limits[i], periods[j], limits[j])
				break
			}
		}
	}
	c.checkIdentity(r)
	switch {
	case c.Policy != "local":
		r.Faultf("policy", "policy %q is not built yet: use \"local\", with which each node counts by itself", c.Policy)
	case c.SyncRate != -1:
		r.Faultf("sync_rate", "sync_rate can only be used with the redis policy")
	}
}

func (c *Config) checkIdentity(r *config.Reporter) {
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
