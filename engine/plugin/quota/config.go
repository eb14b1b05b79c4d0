package quota

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // timezone must not depend on what the machine has

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/redis"
	"github.com/sluice-gateway/sluice/limiter"
)

// Config are the settings of quota.
type Config struct {
	Quota          Limits  `json:"quota" required:"true" doc:"Requests in each period."`
	ResetOn        ResetOn `json:"reset_on" doc:"When months and years begin: first_day, a day of the month from 1 to 31, or anniversary of the first request."`
	Timezone       string  `json:"timezone" len:"1" doc:"IANA name of the time zone of the calendar, such as Europe/Berlin."`
	ConsumerGroups []Group `json:"consumer_groups" doc:"Quotas of consumer groups, in place of that of the longest period."`

	WarnAt            int    `json:"warn_at" min:"0" max:"100" doc:"Percentage of a quota from which X-Quota-Warning is sent, 0 for never."`
	CountErrors       bool   `json:"count_errors" doc:"Count every request that is let in, not only those that the service answers with a status below 500."`
	HideClientHeaders bool   `json:"hide_client_headers" doc:"Leave out the headers that tell quota and what remains."`
	ErrorCode         int    `json:"error_code" min:"100" max:"599" doc:"Status of a refusal."`
	ErrorMessage      string `json:"error_message" doc:"Message of a refusal."`

	Strategy      string        `json:"strategy" enum:"local,cluster,redis" doc:"Where the counters are: in this process and its files, in the Redis of gateway.redis, or in that of the redis block."`
	StateDir      string        `json:"state_dir" len:"1" doc:"Directory of the files of strategy local. Default: $STATE_DIRECTORY, else /var/lib/sluice."`
	KeysMax       int           `json:"keys_max" min:"64" max:"134217728" doc:"Callers counted at a time with strategy local; beyond it those who used the least are forgotten."`
	FaultTolerant bool          `json:"fault_tolerant" doc:"Let requests pass while Redis is away, else answer 500."`
	Redis         *redis.Config `json:"redis" flat:"redis_" doc:"The Redis of strategy redis; without a host that of gateway.redis."`
}

// Limits are how many requests a caller has in each period.
type Limits struct {
	Second *int64 `json:"second" min:"1" max:"9007199254740992" doc:"Requests per second."`
	Minute *int64 `json:"minute" min:"1" max:"9007199254740992" doc:"Requests per minute."`
	Hour   *int64 `json:"hour" min:"1" max:"9007199254740992" doc:"Requests per hour."`
	Day    *int64 `json:"day" min:"1" max:"9007199254740992" doc:"Requests per day."`
	Month  *int64 `json:"month" min:"1" max:"9007199254740992" doc:"Requests per month."`
	Year   *int64 `json:"year" min:"1" max:"9007199254740992" doc:"Requests per year."`
}

// Group is what a consumer group has.
type Group struct {
	Name  string `json:"name" required:"true" len:"1" doc:"Name or id of the group."`
	Quota int64  `json:"quota" required:"true" min:"1" max:"9007199254740992" doc:"Requests in the longest period of quota."`
}

// Where counters are.
const (
	local     = "local"
	inCluster = "cluster"
)

var defaults = Config{
	Timezone:      "UTC",
	WarnAt:        80,
	ErrorCode:     429,
	ErrorMessage:  "API quota exceeded",
	Strategy:      local,
	KeysMax:       1 << 20,
	FaultTolerant: true,
}

// ResetOn says when months and years begin.
type ResetOn limiter.Reset

const (
	firstDay    = "first_day"
	anniversary = "anniversary"
)

// UnmarshalNode implements config.Unmarshaler.
func (r *ResetOn) UnmarshalNode(n *config.Node) error {
	if n.Kind == config.Scalar {
		switch n.Value {
		case firstDay:
			*r = ResetOn(limiter.FirstDay)
			return nil
		case anniversary:
			*r = ResetOn(limiter.Anniversary)
			return nil
		}
		if day, err := strconv.Atoi(n.Value); err == nil && day >= 1 && day <= 31 {
			*r = ResetOn(limiter.FirstDay)
			if day > 1 {
				*r = ResetOn(day)
			}
			return nil
		}
	}
	return fmt.Errorf("expected one of: %s, %s, or a day of the month from 1 to 31", firstDay, anniversary)
}

// MarshalNode is the way back.
func (r ResetOn) MarshalNode() *config.Node {
	if r > 0 {
		return &config.Node{Type: config.Int, Value: r.String()}
	}
	return &config.Node{Type: config.String, Value: r.String()}
}

// String is r as the operator writes it.
func (r ResetOn) String() string {
	switch limiter.Reset(r) {
	case limiter.FirstDay:
		return firstDay
	case limiter.Anniversary:
		return anniversary
	}
	return strconv.Itoa(int(r))
}

// limits returns the configured limits, shortest period first.
func (l *Limits) limits() (periods []limiter.Period, limits []int64) {
	for p, v := range [limiter.Periods]*int64{l.Second, l.Minute, l.Hour, l.Day, l.Month, l.Year} {
		if v != nil {
			periods, limits = append(periods, limiter.Period(p)), append(limits, *v)
		}
	}
	return periods, limits
}

// calendars say when the configured periods begin.
func (c *Config) calendars() ([]limiter.Calendar, error) {
	loc, err := time.LoadLocation(c.Timezone)
	if err != nil {
		return nil, fmt.Errorf("timezone: %w", err)
	}
	periods, _ := c.Quota.limits()
	calendars := make([]limiter.Calendar, len(periods))
	for i, p := range periods {
		calendars[i] = limiter.Calendar{Period: p, Location: loc, ResetOn: limiter.Reset(c.ResetOn)}
		if p < limiter.Month && c.ResetOn > 0 {
			calendars[i].ResetOn = limiter.FirstDay // a day of the month says nothing about shorter periods
		}
	}
	return calendars, nil
}

// Check reports what the fields' own rules cannot say.
func (c *Config) Check(r *config.Reporter) {
	if _, err := time.LoadLocation(c.Timezone); err != nil || c.Timezone == "Local" {
		r.Faultf("timezone", "unknown time zone %q: expected an IANA name such as UTC or Europe/Berlin", c.Timezone)
	}
	seen := map[string]bool{}
	for i, g := range c.ConsumerGroups {
		if seen[g.Name] {
			r.Faultf(fmt.Sprintf("consumer_groups[%d].name", i), "group '%s' has a quota already", g.Name)
		}
		seen[g.Name] = true
	}
	if periods, _ := c.Quota.limits(); c.ResetOn > 0 && len(periods) > 0 && periods[len(periods)-1] < limiter.Month {
		r.Warnf("reset_on", "a day of the month has no effect on a quota per %s", periods[len(periods)-1])
	}
	if c.Strategy == local && r.Has("redis") {
		r.Warnf("redis", "has no effect with strategy local")
	}
	if c.Strategy != local && c.StateDir != "" {
		r.Warnf("state_dir", "has no effect with strategy %s", c.Strategy)
	}
	if strings.ContainsRune(c.StateDir, 0) {
		r.Faultf("state_dir", "is not the name of a directory")
	}
}

// Check reports what the fields' own rules cannot say. The texts are those of
// rate-limiting.
func (l *Limits) Check(r *config.Reporter) {
	periods, limits := l.limits()
	if len(periods) == 0 {
		r.Faultf("", "at least one of these fields must be non-empty: 'second', 'minute', 'hour', 'day', 'month', 'year'")
	}
	for i, p := range periods {
		for j := range i {
			if limits[i] < limits[j] {
				r.Faultf(p.String(), "The limit for %s(%d) cannot be lower than the limit for %s(%d)", p, limits[i], periods[j], limits[j])
				break
			}
		}
	}
}
