package ratelimiting

import (
	"math"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/redis"
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

	Policy        string        `json:"policy" enum:"local,cluster,redis" doc:"Where the counters are: in this process, in the Redis of gateway.redis, or in that of the redis block."`
	FaultTolerant bool          `json:"fault_tolerant" doc:"Let requests pass while the store of the counters is away, else answer 500."`
	Redis         *redis.Config `json:"redis" flat:"redis_" doc:"The Redis of policy redis; without a host that of gateway.redis."`
	SyncRate      float64       `json:"sync_rate" doc:"Seconds between pushes to Redis, -1 to ask it for every request."` // seconds

	HideClientHeaders bool   `json:"hide_client_headers" doc:"Leave out the headers that tell limits and what remains."`
	HeaderStyle       string `json:"header_style" enum:"kong,draft,both" doc:"Headers of Kong, of the IETF draft (RateLimit and RateLimit-Policy), or both. Not in Kong."`
	ErrorCode         int    `json:"error_code" min:"100" max:"599" doc:"Status of a refusal."`
	ErrorMessage      string `json:"error_message" doc:"Message of a refusal."`

	Cost    *Cost `json:"cost" doc:"How much a request counts. Not in Kong, where it is 1."`
	KeysMax int   `json:"keys_max" min:"64" max:"134217728" doc:"Callers counted at a time; beyond it the least active are forgotten. Not in Kong."`
}

var defaults = Config{
	LimitBy:       "consumer",
	Policy:        local,
	FaultTolerant: true,
	SyncRate:      -1,
	HeaderStyle:   "kong",
	ErrorCode:     429,
	ErrorMessage:  "API rate limit exceeded",
	KeysMax:       keysMaxDefault,
}

const (
	// keysMaxDefault is the default of keys_max.
	keysMaxDefault = 1 << 20

	// limitMax is the largest limit: what a float64 still counts in steps of one.
	limitMax = 1 << 53

	// syncMin is the least time between two pushes to Redis, in seconds.
	syncMin = 0.02
	syncMax = 86400
)

// Where counters are.
const (
	local     = "local"
	inRedis   = "redis"
	inCluster = "cluster"
)

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
	checkIdentity(r, []string{c.LimitBy}, c.HeaderName, c.Path)
	switch {
	case c.SyncRate == -1:
	case c.Policy == local:
		r.Faultf("sync_rate", "sync_rate can only be used with the redis policy")
	case !(c.SyncRate >= syncMin && c.SyncRate <= syncMax):
		r.Faultf("sync_rate", "value should be -1 or between %v and %v", syncMin, syncMax)
	}
	warnUnused(r, "policy", c.Policy, c.Redis)
	c.Cost.check(r)
}

// warnUnused says where a redis block is not the one that counts.
func warnUnused(r *config.Reporter, field, store string, c *redis.Config) {
	if store == inCluster && c != nil {
		r.Warnf("redis", "%s cluster counts in gateway.redis: this block is not used", field)
	}
}

// checkIdentity reports what the named identities lack.
func checkIdentity(r *config.Reporter, kinds []string, header, path string) {
	for _, k := range kinds {
		switch {
		case k == "header" && header == "":
			r.Faultf("header_name", "required field missing")
		case k == "path" && path == "":
			r.Faultf("path", "required field missing")
		}
	}
	pipeline.CheckHeaderName(r, "header_name", header)
	if path != "" && path[0] != '/' {
		r.Faultf("path", "should start with: /")
	}
}

// plan is an instance of either plugin as its settings describe it.
type plan struct {
	counters string // what the counters belong to: instances of one name share them
	windows  []window
	sliding  bool
	calendar bool
	penalty  bool // refused requests count

	identity []string
	header   string
	path     string

	storeField string // what the setting is called
	store      string
	sync       time.Duration // between pushes to Redis; 0 asks it for every request
	redis      *redis.Config
	redisHost  string // of a redis block without one
	keysMax    int

	tolerant bool // let pass what the store did not decide
	fallback bool // count here while the store is away

	hidden   bool
	style    string
	jitter   int64 // seconds
	code     int
	message  string
	cost     *Cost
	throttle *Throttling
}

// plan describes an instance of rate-limiting, whose id the counters belong to.
func (c *Config) plan(id string) plan {
	p := plan{
		counters: id, calendar: true,
		identity: []string{c.LimitBy}, header: c.HeaderName, path: c.Path,
		storeField: "policy", store: c.Policy, redis: c.Redis, keysMax: c.KeysMax, tolerant: c.FaultTolerant,
		hidden: c.HideClientHeaders, style: c.HeaderStyle, code: c.ErrorCode, message: c.ErrorMessage, cost: c.Cost,
	}
	if c.SyncRate > 0 {
		p.sync = seconds(c.SyncRate)
	}
	periods, limits := c.limits()
	for i, period := range periods {
		p.windows = append(p.windows, window{period: period, size: period.Seconds(), limit: int64(math.Ceil(limits[i]))})
	}
	return p
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
