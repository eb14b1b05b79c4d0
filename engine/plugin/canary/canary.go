// Package canary is the canary plugin (Kong: Enterprise): a share of the requests
// goes to another host than the service's, so that a new version is tried by few.
//
//	plugins:
//	- name: canary
//	  service: users
//	  config:
//	    percentage: 10
//	    upstream_host: users-v2
//
// # Where the canary is
//
// upstream_host, a host or the name of an upstream, and upstream_port take the place
// of the service's host and port; one that is absent stays as it is. upstream_uri
// takes the place of the whole path a request would be sent to, as in Kong: every
// path of the route leads to that one, with the request's own query. Protocol,
// timeouts, retries, limits and certificates are those of the service; its circuit
// breaker and limits count the canary apart.
//
// # How many go there
//
//	percentage           always that share
//	start and duration   none at start (seconds since 1970), all duration seconds later,
//	                     linear in between; without start, from when the gateway first
//	                     read it: reloads do not change that, restarts do
//	ramp                 a share that grows by itself, and goes back if it hurts; below
//
// # Who goes there
//
// Requests fall into buckets numbered from 0 to steps-1, and those in the first
// steps*share go to the canary. So whoever is there stays as the share grows. The
// bucket is a hash of the consumer, of the ip (after trusted_ips and real_ip_header)
// or of the value of the header hash_header; with hash: none requests take turns,
// whoever sends them, at equal distances. A request without what is hashed falls back
// to the consumer, then to the ip, then to taking turns. The hash is XXH64 of the
// consumer's id, the 16 bytes of the address, or the header's value: the same on every
// node and after a restart, and the same for every instance. Kong's own is not public:
// a client may be on the other side there.
//
// hash: allow sends exactly the consumers there that are in one of groups, and hash:
// deny exactly those callers that are not, unknown ones among them. Groups are those
// of acl credentials and consumer groups, by name. No share is looked at.
//
// A request whose header canary_by_header_name is always goes to the canary, and with
// never it does not, whatever else is said here.
//
// With upstream_fallback the service gets what would go to a canary that has no
// healthy target (but for always). That takes an upstream with health checks as
// upstream_host.
//
// # Ramp
//
// ramp is not in Kong. It compares what the canary answers with what the service
// answers, takes the next step while it is no worse, and goes back to nothing when it
// is:
//
//	ramp:
//	  steps: [5, 25, 50, 100]      # percentages
//	  step_duration: 300           # seconds
//	  min_requests: 100            # of each side, before anything is judged
//	  max_error_rate_increase: 1   # percentage points
//	  max_latency_ratio: 1.5
//	  check_interval: 10           # seconds
//
// A request failed if its answer has a status of 500 or above, the gateway's own for
// a service it cannot reach among them. Failures that gRPC tells in trailers are not
// seen. Latency is the 90th percentile, up to the response header, of what did not
// fail. A canary that is plainly worse is gone at the next look; one that is a little
// worse, when its step is over. A step with fewer than min_requests on either side
// waits for them. max_error_rate_increase: 100 and max_latency_ratio: 0 compare
// nothing.
//
// A ramp that went back stays there: it begins anew after a restart, when one of its
// settings changes, or with another upstream_host, upstream_port or upstream_uri, which
// is another canary. A reload that changes none of them does not touch it. Each node of
// several judges for itself.
//
// # What can be seen
//
//	sluice_canary_share_percent{plugin,service}
//	sluice_canary_requests_total{plugin,service,side}      side: canary or service
//	sluice_canary_fallbacks_total{plugin,service}          of upstream_fallback
//	sluice_canary_rollbacks_total{plugin,service}          of ramp
//
// plugin is the instance's name or id; service is empty for an instance that applies
// to several. Steps and rollbacks of a ramp are logged.
//
// It applies to every service it is in scope of: one, that of its route, or with
// consumer or global scope each that has routes.
package canary

import (
	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// Spec is the line this plugin adds to plugin.All.
var Spec = pipeline.Define("canary", defaults, build)

// release is one configured instance.
type release struct {
	*crowd
	plan         *plan
	destinations destinations
	uri          []byte // takes the place of the path; nil to leave it
	override     []byte // canary_by_header_name in canonical form; nil without
	fallback     bool
	traffic      *traffic
}

// Values of the header canary_by_header_name.
const (
	always = "always"
	never  = "never"
)

func build(c Config, env *pipeline.Env) (pipeline.Hooks, error) {
	found := scope(env)
	d, err := open(&c, found, env)
	if err != nil {
		return pipeline.Hooks{}, err
	}
	t, err := keepTraffic(found, env)
	if err != nil {
		return pipeline.Hooks{}, err
	}
	p, err := newPlan(&c, env)
	if err != nil {
		return pipeline.Hooks{}, err
	}
	r := &release{crowd: newCrowd(&c, t, env), plan: p, destinations: d, fallback: c.UpstreamFallback, traffic: t}
	if c.UpstreamURI != "" {
		r.uri = []byte(c.UpstreamURI)
	}
	if c.CanaryByHeaderName != "" {
		r.override = fasthttp.AppendNormalizedHeaderKey(nil, c.CanaryByHeaderName)
	}
	// A snapshot that fails elsewhere is closed before it served: then what the
	// metrics show is again what it was.
	was := t.plan.Swap(p)
	return pipeline.Hooks{
		Request: r.request, Log: r.log, LogIgnoresHeaders: true,
		Close: func() { t.plan.CompareAndSwap(p, was) },
	}, nil
}

// request is hot: it hashes who calls and compares two numbers.
func (r *release) request(x *pipeline.Exchange) pipeline.Verdict {
	d := r.destinations[x.Service]
	if d == nil || !r.takes(x, d) {
		return pipeline.Next
	}
	x.Destination = d
	if r.uri != nil {
		x.UpstreamPath = r.uri // nobody writes into it: it is copied into the request
	}
	return pipeline.Next
}

// takes reports whether the canary gets x.
func (r *release) takes(x *pipeline.Exchange, d pipeline.Destination) bool {
	if r.override != nil {
		switch v := x.Ctx.Request.Header.PeekCanonical(r.override); {
		case string(v) == always:
			return true
		case string(v) == never:
			return false
		}
	}
	if r.listed {
		if r.member(x.Consumer) != r.allow {
			return false
		}
	} else if !r.below(x, r.plan.buckets(x.Start)) {
		return false
	}
	if r.fallback && !d.Healthy() {
		r.traffic.fallbacks.Add(uint32(x.ConnID), 1)
		return false
	}
	return true
}

// log is hot: it counts which side took the request and tells the ramp how it went.
func (r *release) log(x *pipeline.Exchange) {
	d := r.destinations[x.Service]
	if x.UpstreamStart == 0 || d == nil {
		return // answered before it was sent to either
	}
	side := toService
	switch x.Destination {
	case d:
		side = toCanary
	case nil:
	default:
		return // led elsewhere by somebody else
	}
	r.traffic.requests[side].Add(uint32(x.ConnID), 1)
	if r.plan.ramp != nil {
		r.plan.ramp.record(x, side == toCanary)
	}
}
