package responseratelimiting

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/redis"
	"github.com/sluice-gateway/sluice/limiter"
)

// Config are the settings of response-ratelimiting.
type Config struct {
	Limits     map[string]Limit `json:"limits" required:"true" len:"1" doc:"What may be used of each thing that the service counts, by its name."`
	HeaderName string           `json:"header_name" len:"1" doc:"Header in which the service says what was used."`
	LimitBy    string           `json:"limit_by" enum:"consumer,credential,ip" doc:"Who shares a counter. Where the request has no such thing, its client IP."`

	Policy        string        `json:"policy" enum:"local,cluster,redis" doc:"Where the counters are: in this process, in the Redis of gateway.redis, or in that of the redis block."`
	FaultTolerant bool          `json:"fault_tolerant" doc:"Let requests pass while the store of the counters is away, else answer 500."`
	Redis         *redis.Config `json:"redis" flat:"redis_" doc:"The Redis of policy redis; without a host that of gateway.redis."`

	BlockOnFirstViolation bool `json:"block_on_first_violation" doc:"Do not ask the service once anything has run out."`
	HideClientHeaders     bool `json:"hide_client_headers" doc:"Leave out the headers that tell limits and what remains."`

	KeysMax int `json:"keys_max" min:"64" max:"134217728" doc:"Callers counted at a time for each name; beyond it the least active are forgotten. Not in Kong."`
}

// Limit is how much may be used of one thing.
type Limit struct {
	Second *float64 `json:"second" gt:"0" doc:"Most per second."`
	Minute *float64 `json:"minute" gt:"0" doc:"Most per minute."`
	Hour   *float64 `json:"hour" gt:"0" doc:"Most per hour."`
	Day    *float64 `json:"day" gt:"0" doc:"Most per day."`
	Month  *float64 `json:"month" gt:"0" doc:"Most per calendar month."`
	Year   *float64 `json:"year" gt:"0" doc:"Most per calendar year."`
}

// Where counters are.
const (
	local     = "local"
	inCluster = "cluster"
)

var defaults = Config{
	HeaderName:    "x-kong-limit",
	LimitBy:       "consumer",
	Policy:        local,
	FaultTolerant: true,
	KeysMax:       1 << 20,
}

// limitMax is the largest limit: what a float64 still counts in steps of one.
const limitMax = 1 << 53

// limits returns the configured limits, shortest period first. A fraction admits as
// many as the next whole number.
func (l *Limit) limits() (periods []limiter.Period, limits []int64) {
	for p, v := range [limiter.Periods]*float64{l.Second, l.Minute, l.Hour, l.Day, l.Month, l.Year} {
		if v != nil {
			periods, limits = append(periods, limiter.Period(p)), append(limits, int64(math.Ceil(*v)))
		}
	}
	return periods, limits
}

// names returns the names of limits, sorted.
func (c *Config) names() []string { return slices.Sorted(maps.Keys(c.Limits)) }

// Check reports what the fields' own rules cannot say.
func (c *Config) Check(r *config.Reporter) {
	for _, name := range c.names() {
		if name == "" {
			r.Faultf("limits", "a limit has no name")
		}
		pipeline.CheckHeaderName(r, "limits."+name, name)
	}
	pipeline.CheckHeaderName(r, "header_name", c.HeaderName)
	if c.Policy == local && r.Has("redis") {
		r.Warnf("redis", "has no effect with policy local")
	}
}

// Check reports what the fields' own rules cannot say. The texts are Kong's.
func (l *Limit) Check(r *config.Reporter) {
	given := [limiter.Periods]*float64{l.Second, l.Minute, l.Hour, l.Day, l.Month, l.Year}
	some := false
	for p, v := range given {
		if v == nil {
			continue
		}
		some = true
		if *v > limitMax || math.IsNaN(*v) {
			r.Faultf(limiter.Period(p).String(), "value should be at most %d", int64(limitMax))
		}
		for shorter, s := range given[:p] {
			if s != nil && *v < *s {
				r.Faultf(limiter.Period(p).String(), "The limit for %s(%.1f) cannot be lower than the limit for %s(%.1f)",
					limiter.Period(p), *v, limiter.Period(shorter), *s)
				break
			}
		}
	}
	if !some {
		r.Faultf("", "at least one of these fields must be non-empty: 'second', 'minute', 'hour', 'day', 'month', 'year'")
	}
}

// errNoCluster refuses policy cluster where nothing joins the nodes.
var errNoCluster = errors.New(`policy: "cluster" counts in the Redis of the deployment, and there is none: set gateway.redis.default.host, or use "local"`)

// shared returns the counters in Redis, nil with policy local.
func (c *Config) shared(env *pipeline.Env) (*limiter.Shared, error) {
	block := c.Redis
	switch c.Policy {
	case local:
		return nil, nil
	case inCluster:
		block = nil
		if _, err := block.Settings(&env.Document.Gateway, ""); err != nil {
			return nil, errNoCluster
		}
	}
	client, err := redis.Use(env, block, "")
	if err != nil {
		return nil, fmt.Errorf("policy %q: %w", c.Policy, err)
	}
	return limiter.NewShared(client, env.Plugin.ID), nil
}
