// Package ratelimiting is the plugins rate-limiting and rate-limiting-advanced: at
// most so many requests in a window of time, for each caller.
//
//	plugins:
//	- name: rate-limiting             # periods of the calendar, windows begin with them
//	  config:
//	    minute: 100
//	    hour: 2000
//	    limit_by: ip
//	- name: rate-limiting-advanced    # windows of any size, sliding ones (Kong: Enterprise)
//	  config:
//	    limit: [100, 2000]
//	    window_size: [60, 3600]       # seconds
//	    identifier: ip
//
// # Who shares a counter
//
// limit_by (advanced: identifier) names what is counted: the consumer (else his
// credential), credential, ip, service, the value of the header header_name, the
// consumer-group, or path, with which the path that the setting path names has a
// counter of its own and all others are counted by IP; advanced also knows route, and
// compound_identifier counts several of these together. A request that has no such
// thing is counted by its client IP, after trusted_ips and real_ip_header. An empty
// header counts as none. Names of different kinds never share a counter, so a caller
// who puts an address in a header spends only his own.
//
// Counters belong to the configured instance: a global one counts a caller over all
// services, one on a route counts him there, and no two instances share counters,
// wherever those are. They are kept over a reload, also when only the limits or texts
// change; another set of windows or another place for the counts starts afresh: also
// where Redis is asked for every request and was told now and then before. Instances of
// rate-limiting-advanced that have the same namespace, window_type and window_size share
// theirs. Without a namespace the instance's id stands for it, so that counters outlive
// reloads and restarts of a node, where Kong draws one at random.
//
// # Tiers
//
// The most specific instance decides alone, so a tier is an instance on a consumer
// group, an exception one on a consumer, and no instance no limit:
//
//	consumer_groups:
//	- name: free
//	  plugins: [{name: rate-limiting, config: {minute: 60}}]
//	- name: pro
//	  plugins: [{name: rate-limiting, config: {minute: 600}}]
//	- name: enterprise
//
// The older form is accepted too: where an instance of rate-limiting-advanced has
// enforce_consumer_groups and names a group in consumer_groups, the group's own
// instance takes all settings it does not have from the first one that does.
//
// # What is admitted
//
// The windows of rate-limiting are fixed and follow the UTC calendar. Those of
// rate-limiting-advanced begin at multiples of their size since 1970; with window_type
// fixed they begin empty, and with sliding, the default, they hold
//
//	current + previous × (size − elapsed) / size
//
// so that a burst at the end of one and another at the beginning of the next do not
// add up. A request must fit into every window and is then counted in each; a refused
// one is not counted, except that in sliding windows it is unless disable_penalty is
// set, so that a caller who does not slow down stays out. A limit of n admits exactly n
// requests per window, also under concurrency (Kong's local policy counts later and
// overshoots in bursts, and its redis policy counts refused requests too). A fraction
// admits as many as the next whole number with rate-limiting, the whole number before
// with rate-limiting-advanced, as in Kong. Of two windows of one size the lower limit
// counts.
//
// # What a request costs
//
// cost is not in Kong. Without it a request counts 1:
//
//	cost:
//	  default: 1
//	  methods: {POST: 5, OPTIONS: 0}
//	  routes: {report: 20}            # names or ids; before methods
//	  header: X-Cost                  # a request may ask for more, never for less
//	  max: 100                        # … up to this
//
// A request is admitted if its whole cost fits. One that costs 0 is not limited, and
// told nothing.
//
// # What the client sees
//
// On every answer, unless hide_client_headers is set: X-RateLimit-Limit-<Window> and
// X-RateLimit-Remaining-<Window> for each window, and RateLimit-Limit,
// RateLimit-Remaining and RateLimit-Reset for the one with the least remaining, the
// longer one if equal. <Window> is Second, Minute, Hour, Day, Month or Year where the
// size is that, with months of 30 and years of 365 days as in Kong, else the size in
// seconds. Reset is when the window ends, in seconds; on a refusal it is when the
// request would be admitted if no other came. A refusal has error_code, error_message
// and Retry-After, which is the reset and up to retry_after_jitter_max seconds more.
//
// header_style: draft gives the headers of draft-ietf-httpapi-ratelimit-headers instead,
// and both gives both:
//
//	RateLimit-Policy: "minute";q=100;w=60, "hour";q=2000;w=3600
//	RateLimit: "minute";r=42;t=17
//
// # Where the counters are
//
//	rate-limiting                       rate-limiting-advanced
//	policy: local                       strategy: local, or any with sync_rate: -1
//	policy: redis                       strategy: redis, sync_rate: 0
//	policy: redis, sync_rate: 0.5       strategy: redis, sync_rate: 0.5
//	policy: cluster                     strategy: cluster
//
// In the first form each node counts by itself. In the second every request asks Redis
// in one round trip, and all nodes together admit exactly the limit. In the third, with
// sync_rate from 0.02 seconds on, a node decides by itself without waiting, tells Redis
// every sync_rate seconds what it has counted, and learns what others have: k nodes
// that each admit r requests of a caller a second may together admit k × r × (sync_rate
// + a round trip) too many. All three count by the same rules and give the same answers
// with the same headers, but that a refusal in sliding windows asked of Redis may name
// a time a little later, from counts that were rounded.
//
// The redis block is described in package engine/redis; the older redis_host,
// redis_timeout and so on are accepted, timeout is the older name of its three
// timeouts, and sentinel_addresses and cluster_addresses are those of the lists of
// nodes. Without a host the connection of gateway.redis called default counts, or the
// only one there is; without that policy redis is a fault, and strategy redis means
// 127.0.0.1. cluster is always that connection of gateway.redis: the gateways have no
// database for counters.
//
// # When Redis is away
//
// No request waits longer than redis.read_timeout, and only the first ones do: then
// Redis counts as away until it answers again.
//
// A request of rate-limiting that could not be decided passes without headers, or is
// answered 500 where fault_tolerant is false. rate-limiting-advanced counts in this
// node meanwhile, as Kong does, so that each node keeps the limit by itself. With
// sync_rate both do, whatever fault_tolerant says, and tell Redis when it is back.
//
//	sluice_ratelimiting_store_errors_total        decisions and pushes that failed
//	sluice_ratelimiting_uncounted_requests_total  let through undecided
//
// # Throttling
//
// With throttling.enabled (rate-limiting-advanced) a request beyond the limit is not
// refused at once: up to queue_limit of them, over all callers, wait and try again
// every interval seconds, retry_times times. Refused tries are not counted then, as
// with disable_penalty. sluice_ratelimiting_delayed_requests_total counts those that
// waited, sluice_ratelimiting_queue_overflows_total those that found no place and were
// refused at once. Who gives up waiting keeps his place until the next try.
//
// # Limits of its own
//
// At most keys_max callers are counted at a time, per instance (default 1,048,576;
// at most 60 bytes for each and period in this process, 128 for three sliding windows,
// some 400 with sync_rate). Beyond that the least active are forgotten, and
// sluice_ratelimiting_forgotten_keys_total counts them. The metrics have the label
// plugin, the id of the instance. dictionary_name and lock_dictionary_name are accepted
// and mean nothing here.
package ratelimiting

import (
	"context"
	"fmt"

	"github.com/VictoriaMetrics/metrics"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/limiter"
)

// Spec is the line of rate-limiting in plugin.All.
var Spec = pipeline.Define(plainName, defaults, build)

const plainName = "rate-limiting"

// limit is one configured instance of either plugin.
type limit struct {
	*counts
	who      identifier
	costs    *costs // nil: every request counts 1
	headers  headers
	limits   []int64 // in the order of headers.windows
	slides   bool
	penalty  bool
	fallback bool
	tolerant bool
	hidden   bool
	throttle *throttle

	forgotten *metrics.Counter
	failed    *metrics.Counter
	uncounted *metrics.Counter
	delayed   *metrics.Counter
	overflows *metrics.Counter

	exceeded *pipeline.Reply
	broken   *pipeline.Reply
}

func build(c Config, env *pipeline.Env) (pipeline.Hooks, error) {
	return c.plan(env.Plugin.ID).build(plainName, env)
}

// build makes the hooks of an instance of either plugin.
func (p plan) build(name string, env *pipeline.Env) (pipeline.Hooks, error) {
	counter := func(what string) *metrics.Counter {
		return env.Metrics.GetOrCreateCounter(fmt.Sprintf("sluice_ratelimiting_%s_total{plugin=%q}", what, env.Plugin.ID))
	}
	l := &limit{
		headers: newHeaders(&p), slides: p.sliding, penalty: p.penalty, fallback: p.fallback, tolerant: p.tolerant,
		hidden: p.hidden, throttle: newThrottle(p.throttle),
		forgotten: counter("forgotten_keys"), failed: counter("store_errors"), uncounted: counter("uncounted_requests"),
		exceeded: pipeline.NewReply(p.code, p.message), broken: pipeline.NewReply(500, "An unexpected error occurred"),
	}
	if l.throttle != nil {
		l.delayed, l.overflows = counter("delayed_requests"), counter("queue_overflows")
	}
	for i := range p.windows {
		l.limits = append(l.limits, p.windows[i].limit)
	}
	var err error
	if l.costs, err = p.cost.resolve(env.Document); err != nil {
		return pipeline.Hooks{}, err
	}
	if l.counts, err = p.open(name, env, l.failed); err != nil {
		return pipeline.Hooks{}, err
	}
	l.who = newIdentifier(&p, env.Plugin.ConsumerGroup, &l.seeds)
	hooks := pipeline.Hooks{Request: l.request}
	if f := l.flusher; f != nil {
		// The last snapshot's client may be closed before the counters are.
		hooks.Close = func() { f.flush(context.Background()) }
	}
	return hooks, nil
}

// request is hot: one decision, then headers whose names and limits were rendered at
// load.
func (l *limit) request(x *pipeline.Exchange) pipeline.Verdict {
	cost := int64(1)
	if l.costs != nil {
		if cost = l.costs.of(x); cost == 0 {
			return pipeline.Next
		}
	}
	now := x.WallMillis()
	var holds [limiter.SpansMax]int64
	used := holds[:len(l.limits)]
	d := l.take(x, now, cost, used)
	if d != admitted {
		// Slow path: refused, or the store is away.
		if l.throttle != nil && d != undecided {
			d, now = l.again(x, now, cost, used)
		}
		if d == undecided {
			return l.pass(x)
		}
	}
	if !l.hidden {
		wait := int64(0)
		if d != admitted {
			wait = l.wait(x, now, cost, used, d)
		}
		l.headers.stage(x, now/1000, wait, used)
	}
	if d != admitted {
		return x.Answer(l.exceeded)
	}
	return pipeline.Next
}

// pass is for a request that the store did not decide on.
func (l *limit) pass(x *pipeline.Exchange) pipeline.Verdict {
	if !l.tolerant {
		return x.Answer(l.broken)
	}
	l.uncounted.Inc()
	return pipeline.Next
}
