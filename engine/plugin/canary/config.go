package canary

import (
	"fmt"
	"math"
	"net/netip"
	"strings"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// Config are the settings of canary.
type Config struct {
	Percentage *float64 `json:"percentage" min:"0" max:"100" doc:"Share of the requests that goes to the canary, in place of start and duration."`
	Start      *float64 `json:"start" min:"0" doc:"When the share begins to grow from 0, in seconds since 1970. Absent: when the gateway first reads it."` // seconds
	Duration   float64  `json:"duration" min:"0" doc:"Seconds from start until the canary gets everything."`                                               // seconds
	Steps      int      `json:"steps" min:"1" max:"2147483647" fraction:"true" doc:"Buckets that requests fall into: how finely the share can grow."`

	Hash       string   `json:"hash" enum:"consumer,ip,header,none,allow,deny,whitelist,blacklist" doc:"What decides about a request's bucket, or that groups decide. whitelist and blacklist are older names of allow and deny."`
	HashHeader string   `json:"hash_header" len:"1" doc:"Header whose value is hashed, with hash: header."`
	Groups     []string `json:"groups" doc:"Groups of acl and consumer groups, with hash: allow or deny."`

	UpstreamHost     string `json:"upstream_host" len:"1" doc:"Host name or address of the canary, or the name of an upstream. Absent: the service's."`
	UpstreamPort     *int   `json:"upstream_port" min:"0" max:"65535" doc:"Port of the canary. Absent: the service's."`
	UpstreamURI      string `json:"upstream_uri" len:"1" doc:"Path that requests to the canary have in place of their own. Absent: their own."`
	UpstreamFallback bool   `json:"upstream_fallback" doc:"Leave requests with the service while the canary has no healthy target."`

	CanaryByHeaderName string `json:"canary_by_header_name" len:"1" doc:"Header that sends a request to the canary if its value is always, and to the service if it is never."`

	Ramp *Ramp `json:"ramp" doc:"Let the share grow in steps as long as the canary is no worse than the service. Not in Kong."`
}

// Ramp are the settings of a share that grows by itself.
type Ramp struct {
	Steps                []float64 `json:"steps" len:"1" min:"0" max:"100" doc:"Percentages, each larger than the one before."`
	StepDuration         float64   `json:"step_duration" min:"1" max:"31536000" doc:"Seconds between two steps."` // seconds
	MinRequests          int       `json:"min_requests" min:"1" max:"1000000000" doc:"Requests to each side, within a step, before anything is judged."`
	MaxErrorRateIncrease float64   `json:"max_error_rate_increase" min:"0" max:"100" doc:"Percentage points by which the canary may fail more often than the service."`
	MaxLatencyRatio      float64   `json:"max_latency_ratio" min:"0" max:"1000" doc:"How many times the service's latency the canary's may be, 0 for no bound."`
	CheckInterval        float64   `json:"check_interval" min:"1" max:"86400" doc:"Seconds between two looks at both sides."` // seconds
}

var defaults = Config{Duration: 3600, Steps: 1000, Hash: "consumer"}

// SetDefaults implements config.Defaulter.
func (p *Ramp) SetDefaults() {
	*p = Ramp{
		Steps: []float64{5, 25, 50, 100}, StepDuration: 300, MinRequests: 100,
		MaxErrorRateIncrease: 1, MaxLatencyRatio: 1.5, CheckInterval: 10,
	}
}

// listed reports whether groups decide, and allow what being in one means.
func (c *Config) listed() (listed, allow bool) {
	switch c.Hash {
	case "allow", "whitelist":
		return true, true
	case "deny", "blacklist":
		return true, false
	}
	return false, false
}

// Check reports what the fields' own rules cannot say.
func (c *Config) Check(r *config.Reporter) {
	c.checkDestination(r)
	c.checkWho(r)
	listed, _ := c.listed()
	switch {
	case c.Ramp != nil:
		c.checkRamp(r, listed)
	case listed:
		if c.Percentage != nil {
			r.Warnf("percentage", "has no effect: with hash: %s groups decide", c.Hash)
		}
	case c.Percentage != nil:
		c.checkPercentage(r)
	default:
		c.checkStart(r)
	}
}

func (c *Config) checkDestination(r *config.Reporter) {
	if c.UpstreamHost == "" && c.UpstreamPort == nil && c.UpstreamURI == "" {
		r.Faultf("", "at least one of these fields must be non-empty: 'upstream_uri', 'upstream_host', 'upstream_port'")
	}
	if c.UpstreamHost != "" && !isHost(c.UpstreamHost) {
		r.Faultf("upstream_host", "invalid value: %s: expected a host name, an address or the name of an upstream, without protocol, port and path", c.UpstreamHost)
	}
	switch {
	case c.UpstreamURI == "":
	case c.UpstreamURI[0] != '/':
		r.Faultf("upstream_uri", "should start with: /")
	case strings.ContainsAny(c.UpstreamURI, "?# ") || strings.ContainsFunc(c.UpstreamURI, func(c rune) bool { return c < ' ' || c > '~' }):
		r.Faultf("upstream_uri", "expected a path, escaped as it goes over the wire, without query and fragment: the request's own query is kept")
	}
	if c.UpstreamFallback && c.UpstreamHost == "" {
		r.Faultf("upstream_fallback", "needs upstream_host: the name of an upstream with health checks")
	}
}

// isHost accepts addresses and what may be a host name.
func isHost(s string) bool {
	const chars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
	_, err := netip.ParseAddr(s)
	return err == nil || strings.Trim(s, chars) == "" && strings.Trim(s, "0123456789.") != ""
}

func (c *Config) checkWho(r *config.Reporter) {
	listed, _ := c.listed()
	switch {
	case c.Hash == "header" && c.HashHeader == "":
		r.Faultf("hash_header", "required field missing")
	case listed && len(c.Groups) == 0:
		r.Faultf("groups", "required field missing: hash: %s needs the groups it is about", c.Hash)
	case !listed && len(c.Groups) > 0:
		r.Warnf("groups", "has no effect unless hash is allow or deny")
	}
	if c.Hash == "whitelist" || c.Hash == "blacklist" {
		r.Warnf("hash", "%s is an older name of %s", c.Hash, map[string]string{"whitelist": "allow", "blacklist": "deny"}[c.Hash])
	}
	pipeline.CheckHeaderName(r, "hash_header", c.HashHeader)
	pipeline.CheckHeaderName(r, "canary_by_header_name", c.CanaryByHeaderName)
}

// checkPercentage warns of a share that the buckets cannot give.
func (c *Config) checkPercentage(r *config.Reporter) {
	if r.Has("start") {
		r.Warnf("start", "has no effect: percentage is set")
	}
	exact := float64(c.Steps) * *c.Percentage / 100
	if whole := math.Ceil(exact - rounding); whole-exact > rounding {
		r.Warnf("percentage", "%g%% of %d steps is no whole number of steps: %.4g%% of the callers will be led to the canary; more steps are finer",
			*c.Percentage, c.Steps, whole/float64(c.Steps)*100)
	}
}

func (c *Config) checkStart(r *config.Reporter) {
	const latest = 1e11 // seconds: the year 5138; as milliseconds, 1973
	switch {
	case c.Start == nil:
		r.Warnf("", "neither percentage nor start is set: the canary begins at 0%% when the gateway reads this, and anew after each restart; "+
			"set start (seconds since 1970) to fix it, or percentage for a share that stays")
	case *c.Start > latest:
		r.Warnf("start", "%.0f is more than three thousand years ahead: expected seconds since 1970, not milliseconds", *c.Start)
	}
}

func (c *Config) checkRamp(r *config.Reporter, listed bool) {
	if listed {
		r.Faultf("ramp", "cannot be used with hash: %s, which knows no share", c.Hash)
	}
	for _, f := range []string{"percentage", "start"} {
		if r.Has(f) {
			r.Faultf(f, "cannot be used with ramp, which sets the share itself")
		}
	}
	last := 0.0
	for i, s := range c.Ramp.Steps {
		if s <= last {
			r.Faultf(fmt.Sprintf("ramp.steps[%d]", i), "must be greater than %g: the share grows", last)
		}
		last = s
	}
}
