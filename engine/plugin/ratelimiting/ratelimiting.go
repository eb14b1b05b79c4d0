// Package ratelimiting is the rate-limiting plugin: at most so many requests per
// second, minute, hour, day, month or year, for each caller.
//
//	plugins:
//	- name: rate-limiting
//	  config:
//	    minute: 100
//	    hour: 2000
//	    limit_by: ip
//
// # Who shares a counter
//
// limit_by names what is counted: the consumer (else his credential), credential,
// ip, service, the value of the header header_name, the consumer-group, or path,
// with which one path has a counter of its own and all others are counted by IP.
// A request that has no such thing is counted by its client IP, after trusted_ips
// and real_ip_header. An empty header counts as none. A name and an address never
// share a counter, so a caller who puts an address in a header spends only his own.
//
// Counters belong to the configured instance: a global one counts a caller over
// all services, one on a route counts him there. They are kept over a reload,
// also when only the limits or texts change; another limit_by, header_name, path
// or set of periods starts afresh.
//
// # What is admitted
//
// Windows are fixed and follow the UTC calendar. A request must fit into the
// window of every period and is then counted in each; a refused one is not
// counted. A limit of n admits exactly n requests per window, also under
// concurrency (Kong's local policy counts later and overshoots in bursts). A
// fraction admits as many as the next whole number.
//
// # What the client sees
//
// On every answer, unless hide_client_headers is set: X-RateLimit-Limit-<Period>
// and X-RateLimit-Remaining-<Period> for each period, and RateLimit-Limit,
// RateLimit-Remaining and RateLimit-Reset for the one with the least remaining,
// the longer one if equal. Reset is in seconds, with months of 30 and years of
// 365 days, as in Kong. A refusal has error_code, error_message and Retry-After.
//
// # Policy
//
// local: each node counts by itself. redis and cluster are refused at load.
//
// # Limits of its own
//
// At most keys_max callers are counted at a time, per instance (default
// 1,048,576, at most 60 bytes for each and period). Beyond that the least active
// are forgotten, and sluice_ratelimiting_forgotten_keys_total counts them.
package ratelimiting

import (
	"fmt"
	"hash/maphash"
	"math"
	"strconv"

	"github.com/VictoriaMetrics/metrics"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/limiter"
)

// Spec is the line this plugin adds to plugin.All.
var Spec = pipeline.Define("rate-limiting", defaults, build)

// limit is one configured instance.
type limit struct {
	*counters
	identify  func(x *pipeline.Exchange) string // "" counts by client IP
	periods   []period
	limits    []int64
	forgotten *metrics.Counter
	hidden    bool
	exceeded  *pipeline.Reply
}

// period is a configured period with its headers rendered.
type period struct {
	limiter.Period
	limitHeader     string
	remainingHeader string
	limit           []byte // decimal
}

// counters are what outlives a snapshot.
type counters struct {
	windows   *limiter.Windows
	names     maphash.Seed
	addresses maphash.Seed
}

func build(c Config, env *pipeline.Env) (pipeline.Hooks, error) {
	periods, limits := c.limits()
	key := fmt.Sprintf("rate-limiting/%s/%v/%s/%s/%s/%d", env.Plugin.ID, periods, c.LimitBy, c.HeaderName, c.Path, c.KeysMax)
	kept, err := pipeline.Keep(env, key, func() (*counters, error) {
		return &counters{limiter.NewWindows(periods, c.KeysMax), maphash.MakeSeed(), maphash.MakeSeed()}, nil
	})
	if err != nil {
		return pipeline.Hooks{}, err
	}
	l := &limit{
		counters:  kept,
		identify:  identifier(&c, env.Plugin.ConsumerGroup),
		forgotten: env.Metrics.GetOrCreateCounter(fmt.Sprintf("sluice_ratelimiting_forgotten_keys_total{plugin=%q}", env.Plugin.ID)),
		hidden:    c.HideClientHeaders,
		exceeded:  pipeline.NewReply(c.ErrorCode, c.ErrorMessage),
	}
	for i, p := range periods {
		n := int64(math.Ceil(limits[i]))
		l.limits = append(l.limits, n)
		l.periods = append(l.periods, period{
			Period:          p,
			limitHeader:     limitHeaders[p],
			remainingHeader: remainingHeaders[p],
			limit:           strconv.AppendInt(nil, n, 10),
		})
	}
	return pipeline.Hooks{Request: l.request}, nil
}

// request is hot: one decision of the table, then headers whose names and limits
// were rendered at load.
func (l *limit) request(x *pipeline.Exchange) pipeline.Verdict {
	now := x.WallMillis() / 1000
	var used [limiter.Periods]int64
	ok, forgot := l.windows.Take(l.key(x), now, l.limits, used[:])
	if forgot {
		l.forgotten.Inc()
	}
	if !l.hidden {
		l.stage(x, now, used[:], !ok)
	}
	if !ok {
		return x.Answer(l.exceeded)
	}
	return pipeline.Next
}

// key is what the request is counted under. Addresses have a hash of their own,
// so that no name a client may choose equals one.
func (l *limit) key(x *pipeline.Exchange) uint64 {
	if l.identify != nil {
		if id := l.identify(x); id != "" {
			return maphash.String(l.names, id)
		}
	}
	address := x.ClientIP.As16()
	return maphash.Bytes(l.addresses, address[:])
}

// The headers in canonical form, by period.
var (
	limitHeaders = [limiter.Periods]string{
		"X-Ratelimit-Limit-Second", "X-Ratelimit-Limit-Minute", "X-Ratelimit-Limit-Hour",
		"X-Ratelimit-Limit-Day", "X-Ratelimit-Limit-Month", "X-Ratelimit-Limit-Year",
	}
	remainingHeaders = [limiter.Periods]string{
		"X-Ratelimit-Remaining-Second", "X-Ratelimit-Remaining-Minute", "X-Ratelimit-Remaining-Hour",
		"X-Ratelimit-Remaining-Day", "X-Ratelimit-Remaining-Month", "X-Ratelimit-Remaining-Year",
	}
)

func (l *limit) stage(x *pipeline.Exchange, now int64, used []int64, refused bool) {
	tightest, least := 0, int64(math.MaxInt64)
	for i := range l.periods {
		p := &l.periods[i]
		remaining := max(l.limits[i]-used[i], 0)
		if remaining <= least {
			tightest, least = i, remaining
		}
		x.Stage(p.limitHeader, p.limit)
		x.StageInt(p.remainingHeader, remaining)
	}
	p := &l.periods[tightest]
	reset := max(1, p.Seconds()-(now-p.Start(now)))
	x.Stage("Ratelimit-Limit", p.limit)
	x.StageInt("Ratelimit-Remaining", least)
	x.StageInt("Ratelimit-Reset", reset)
	if refused {
		x.StageInt("Retry-After", reset)
	}
}
