package ratelimiting

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/redis"
	"github.com/sluice-gateway/sluice/limiter"
)

// Advanced is the line of rate-limiting-advanced in plugin.All.
var Advanced = pipeline.Define(advancedName, advancedDefaults, buildAdvanced)

const advancedName = "rate-limiting-advanced"

// AdvancedConfig are the settings of rate-limiting-advanced.
type AdvancedConfig struct {
	Limit      []float64 `json:"limit" required:"true" len:"1" min:"0" doc:"Requests per window, one for each of window_size."`
	WindowSize []float64 `json:"window_size" required:"true" len:"1" min:"1" max:"34359738" doc:"Lengths of the windows in whole seconds."` // seconds
	WindowType string    `json:"window_type" enum:"sliding,fixed" doc:"sliding weighs in the window before the current one; fixed begins afresh at multiples of its size."`

	Identifier         string   `json:"identifier" enum:"ip,credential,consumer,service,header,path,consumer-group,route" doc:"Who shares a counter. Where the request has no such thing, its client IP."`
	CompoundIdentifier []string `json:"compound_identifier" enum:"ip,credential,consumer,service,header,path,consumer-group,route" doc:"Several identifiers that count together, in place of identifier."`
	HeaderName         string   `json:"header_name" len:"1" doc:"Header whose value names the caller, with identifier header."`
	Path               string   `json:"path" len:"1" doc:"Path that has a counter of its own, with identifier path."`

	Strategy           string        `json:"strategy" enum:"cluster,redis,local" doc:"Where the counters are: in this process, in the Redis of gateway.redis, or in that of the redis block."`
	SyncRate           *float64      `json:"sync_rate" doc:"Seconds between pushes to Redis, 0 to ask it for every request, -1 to count only here."` // seconds
	Namespace          string        `json:"namespace" len:"1" doc:"Instances of one namespace share counters. Unset: the instance has its own, also over reloads."`
	DictionaryName     string        `json:"dictionary_name" doc:"Accepted; counters need no shared dictionary here."`
	LockDictionaryName string        `json:"lock_dictionary_name" doc:"Accepted; counters need no shared dictionary here."`
	Redis              *redis.Config `json:"redis" flat:"redis_" doc:"The Redis of strategy redis."`

	DisablePenalty      bool        `json:"disable_penalty" doc:"Do not count refused requests in sliding windows."`
	RetryAfterJitterMax float64     `json:"retry_after_jitter_max" min:"0" max:"86400" doc:"Most seconds added to Retry-After at random."` // seconds
	HideClientHeaders   bool        `json:"hide_client_headers" doc:"Leave out the headers that tell limits and what remains."`
	HeaderStyle         string      `json:"header_style" enum:"kong,draft,both" doc:"Headers of Kong, of the IETF draft (RateLimit and RateLimit-Policy), or both. Not in Kong."`
	ErrorCode           int         `json:"error_code" min:"100" max:"599" doc:"Status of a refusal."`
	ErrorMessage        string      `json:"error_message" doc:"Message of a refusal."`
	Throttling          *Throttling `json:"throttling" doc:"Let requests beyond the limit wait and try again, instead of refusing them at once."`

	EnforceConsumerGroups bool     `json:"enforce_consumer_groups" doc:"Older form of group-scoped instances: see consumer_groups."`
	ConsumerGroups        []string `json:"consumer_groups" doc:"Groups whose own instances take the settings they do not have from this one."`

	Cost    *Cost `json:"cost" doc:"How much a request counts. Not in Kong, where it is 1."`
	KeysMax int   `json:"keys_max" min:"64" max:"134217728" doc:"Callers counted at a time; beyond it the least active are forgotten. Not in Kong."`
}

// Throttling says how requests beyond the limit wait.
type Throttling struct {
	Enabled    bool    `json:"enabled" doc:"Whether they wait."`
	Interval   float64 `json:"interval" gt:"0" max:"3600" doc:"Seconds between two tries."` // seconds
	RetryTimes int     `json:"retry_times" min:"1" max:"1000" doc:"How often a request tries again before it is refused."`
	QueueLimit int     `json:"queue_limit" min:"1" max:"1000000" doc:"How many requests may wait at a time, over all callers."`
}

// SetDefaults implements config.Defaulter.
func (t *Throttling) SetDefaults() { *t = Throttling{Interval: 5, RetryTimes: 3, QueueLimit: 5} }

var advancedDefaults = AdvancedConfig{
	WindowType:     "sliding",
	Identifier:     "consumer",
	Strategy:       local,
	DictionaryName: "kong_rate_limiting_counters",
	HeaderStyle:    "kong",
	ErrorCode:      429,
	ErrorMessage:   "API rate limit exceeded",
	KeysMax:        keysMaxDefault,
}

// Check reports what the fields' own rules cannot say.
func (c *AdvancedConfig) Check(r *config.Reporter) {
	if len(c.Limit) != len(c.WindowSize) {
		r.Faultf("limit", "You must provide the same number of windows and limits")
	} else if n := len(c.WindowSize); n > limiter.SpansMax {
		r.Faultf("window_size", "length must be at most %d", limiter.SpansMax)
	}
	for i, l := range c.Limit {
		if l > limitMax || math.IsNaN(l) {
			r.Faultf(fmt.Sprintf("limit[%d]", i), "value should be at most %d", int64(limitMax))
		}
	}
	for i, s := range c.WindowSize {
		path := fmt.Sprintf("window_size[%d]", i)
		if s != math.Trunc(s) {
			r.Faultf(path, "expected whole seconds, got %v", s)
		}
		if slices.Contains(c.WindowSize[:i], s) {
			r.Warnf(path, "a window of %v seconds is there already: the lower limit of the two counts", s)
		}
	}
	checkIdentity(r, c.identity(), c.HeaderName, c.Path)
	c.checkSync(r)
	if c.EnforceConsumerGroups && len(c.ConsumerGroups) == 0 {
		r.Faultf("consumer_groups", "required field missing: enforce_consumer_groups needs to know which")
	}
	warnUnused(r, "strategy", c.Strategy, c.Redis)
	c.Cost.check(r)
}

func (c *AdvancedConfig) checkSync(r *config.Reporter) {
	switch rate := c.SyncRate; {
	case rate == nil:
		if c.Strategy != local {
			r.Faultf("sync_rate", "required field missing: strategy %s needs 0 to ask for every request, the seconds between pushes, or -1", c.Strategy)
		}
	case *rate == -1:
	case c.Strategy == local:
		r.Faultf("sync_rate", "sync_rate can only be used with strategy redis or cluster")
	case *rate != 0 && !(*rate >= syncMin && *rate <= syncMax):
		r.Faultf("sync_rate", "value should be -1, 0 or between %v and %v", syncMin, syncMax)
	}
}

// identity is what counts together.
func (c *AdvancedConfig) identity() []string {
	if len(c.CompoundIdentifier) > 0 {
		return slices.Compact(slices.Sorted(slices.Values(c.CompoundIdentifier)))
	}
	return []string{c.Identifier}
}

// plan describes an instance of rate-limiting-advanced.
func (c *AdvancedConfig) plan(id string) plan {
	p := plan{
		counters: id, sliding: c.WindowType == "sliding",
		identity: c.identity(), header: c.HeaderName, path: c.Path,
		storeField: "strategy", store: c.Strategy, redis: c.Redis, redisHost: "127.0.0.1", keysMax: c.KeysMax, tolerant: true, fallback: true,
		hidden: c.HideClientHeaders, style: c.HeaderStyle, jitter: int64(math.Ceil(c.RetryAfterJitterMax)),
		code: c.ErrorCode, message: c.ErrorMessage, cost: c.Cost,
	}
	if c.Throttling != nil && c.Throttling.Enabled {
		p.throttle = c.Throttling
	}
	// A waiting request asks again and again; that must not be what keeps it waiting.
	p.penalty = p.sliding && !c.DisablePenalty && p.throttle == nil
	switch {
	case c.SyncRate == nil || *c.SyncRate < 0:
		p.store = local
	case *c.SyncRate > 0:
		p.sync = seconds(*c.SyncRate)
	}
	for i := range c.Limit {
		p.windows = append(p.windows, window{size: int64(c.WindowSize[i]), limit: int64(c.Limit[i])})
	}
	slices.SortFunc(p.windows, func(a, b window) int {
		return cmp.Or(cmp.Compare(a.size, b.size), cmp.Compare(a.limit, b.limit))
	})
	p.windows = slices.CompactFunc(p.windows, func(a, b window) bool { return a.size == b.size })
	if c.Namespace != "" {
		// Counters of other windows than ours would not be comparable.
		p.counters = fmt.Sprintf("namespace/%s/%s", c.Namespace, c.WindowType)
		for i := range p.windows {
			p.counters += fmt.Sprintf("/%d", p.windows[i].size)
		}
	}
	return p
}

func buildAdvanced(c AdvancedConfig, env *pipeline.Env) (pipeline.Hooks, error) { //nolint:gocritic // hugeParam: once a load
	if err := c.inherit(env); err != nil {
		return pipeline.Hooks{}, err
	}
	return c.plan(env.Plugin.ID).build(advancedName, env)
}

// inherit completes the settings of a group's instance from the first instance that
// names the group in consumer_groups, and checks that the groups named here exist.
func (c *AdvancedConfig) inherit(env *pipeline.Env) error {
	d := env.Document
	for i, name := range c.ConsumerGroups {
		if c.EnforceConsumerGroups && !slices.ContainsFunc(d.ConsumerGroups, func(g *config.ConsumerGroup) bool { return g.Name == name || g.ID == name }) {
			return fmt.Errorf("consumer_groups[%d]: no consumer group %q", i, name)
		}
	}
	for _, g := range d.ConsumerGroups {
		if g.ID != env.Plugin.ConsumerGroup {
			continue
		}
		for _, p := range d.Plugins {
			if base, ok := overridden(p, g); ok && p != env.Plugin {
				*c = base
				return config.Decode(env.Plugin.Config, c).Err() // over base; without it, it has passed before
			}
		}
	}
	return nil
}

// overridden returns the settings of p if it lets those of group g take their place.
func overridden(p *config.Plugin, g *config.ConsumerGroup) (AdvancedConfig, bool) {
	c := advancedDefaults
	if p.Name != advancedName || !p.Enabled || config.Decode(p.Config, &c).Err() != nil || !c.EnforceConsumerGroups {
		return c, false
	}
	if !slices.Contains(c.ConsumerGroups, g.Name) && !slices.Contains(c.ConsumerGroups, g.ID) {
		return c, false
	}
	// The group's own settings name no groups.
	c.EnforceConsumerGroups, c.ConsumerGroups = false, nil
	return c, true
}
