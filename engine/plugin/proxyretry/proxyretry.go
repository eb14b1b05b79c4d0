// Package proxyretry is the proxy-retry plugin: which failed attempts are made
// again, after what wait, and how many of them the traffic can bear. Kong has no
// such plugin; there a service has retries, which are made at once, without a bound
// on their share of the traffic, and never for a status.
//
//	plugins:
//	- name: proxy-retry
//	  config:
//	    retries: 3
//	    retry_on: [500, 502, 503, 504]
//	    backoff: {type: exponential, base: 2, max: 30}
//	    jitter: 0.5
//
// # What is tried again
//
// An attempt failed if the service could not be reached, broke off before its
// response header, took too long (unless retry_on_timeout is false), or answered
// with a status of retry_on. Up to retries further attempts follow, in place of the
// service's own retries, to other targets where there are any. The client gets the
// answer of the last one as it is, with X-Retry-Count if there was more than one
// attempt (unless count_header is false).
//
// Only requests of a method in methods are sent again (GET, HEAD, PUT, DELETE,
// OPTIONS and TRACE: their effect twice is that of once), and any that has an
// Idempotency-Key header, with which its sender says so. A request of which no byte
// was sent, because the connection failed, is always tried again. A body must be
// kept to be sent again: a request with more than max_body_size bytes has one
// attempt.
//
// # How long it waits
//
// Before attempt n, in seconds:
//
//	exponential  base^(n-1): 2, 4, 8, 16 with base 2
//	linear       base*(n-1): 2, 4, 6, 8
//	constant     base
//
// at most max, and then a random part of jitter times that on top, so that clients
// who failed together do not come back together. Fractions of seconds are allowed;
// base must be at least 1 for exponential, since powers of less shrink. A Retry-After
// header of the service is obeyed up to max. Each attempt may take per_try_timeout
// milliseconds up to its response header, 0 for no bound but the service's timeouts.
// A wait that would outlast the deadline of request-timeout is not begun.
//
// The defaults are those of the pattern and wait for 2 s first: longer than most
// clients like. backoff: {type: linear, base: 0.1, max: 1} suits a service that
// answers within milliseconds.
//
// # How many
//
// When a service fails for everyone, retries would multiply the load on it. A budget
// lets retries be budget_percent of the requests to a service, over the last 10
// seconds, plus budget_min_per_second, which a service with little traffic needs.
// What the budget has no room for is not retried. Each service has a budget of its
// own, shared by all instances of this plugin with the same budget settings, and
// kept over a reload. budget_percent: 0 takes the bound away.
package proxyretry

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/lb"
)

// Spec is the line this plugin adds to plugin.All.
var Spec = pipeline.Define("proxy-retry", defaults, build)

// retry is one configured instance.
type retry struct {
	policies policies
}

// policies are one for each service, since each has a budget of its own.
type policies map[*config.Service]*pipeline.RetryPolicy

func build(c Config, env *pipeline.Env) (pipeline.Hooks, error) {
	// Instances with the same settings, such as those of many consumers, share them.
	type made struct {
		policies
		err error
	}
	only := scope(env)
	m := pipeline.Shared(env, fmt.Sprintf("proxy-retry %s %+v", only, c), func() made {
		p, err := newPolicies(&c, only, env)
		return made{p, err}
	})
	r := &retry{m.policies}
	return pipeline.Hooks{Request: r.request}, m.err
}

// scope returns the id of the one service that the instance being built applies to,
// or "" if there may be several.
func scope(env *pipeline.Env) string {
	if env.Plugin.Route == "" {
		return env.Plugin.Service
	}
	for _, r := range env.Document.Routes {
		if r.ID == env.Plugin.Route {
			return r.Service
		}
	}
	return ""
}

// newPolicies makes the policy of every service, or of the only one.
func newPolicies(c *Config, only string, env *pipeline.Env) (policies, error) {
	all := policies{}
	common := c.policy()
	for _, s := range env.Document.Services {
		if only != "" && s.ID != only {
			continue
		}
		p := common
		if c.BudgetPercent > 0 {
			key := fmt.Sprintf("proxy-retry/%s/%g/%g", s.ID, c.BudgetPercent, c.BudgetMinPerSecond)
			b, err := pipeline.Keep(env, key, func() (*lb.Budget, error) {
				return lb.NewBudget(c.BudgetPercent, c.BudgetMinPerSecond), nil
			})
			if err != nil {
				return nil, err
			}
			p.Budget = b
		}
		all[s] = &p
	}
	return all, nil
}

// policy returns what the settings say, but for the budget.
func (c *Config) policy() pipeline.RetryPolicy {
	statuses := slices.Clone(c.RetryOn)
	slices.Sort(statuses)
	w := &waits{jitter: c.Jitter}
	for n := 2; n <= c.Retries+1; n++ {
		w.before = append(w.before, c.Backoff.before(n))
	}
	return pipeline.RetryPolicy{
		Retries:      c.Retries,
		Statuses:     slices.Compact(statuses),
		Methods:      slices.Clone(c.Methods),
		Keyed:        true,
		Timeouts:     c.RetryOnTimeout,
		PerTry:       time.Duration(c.PerTryTimeout) * time.Millisecond,
		BodyBytesMax: int64(c.MaxBodySize),
		Wait:         w.wait,
		AfterMax:     seconds(c.Backoff.Max),
		Counted:      c.CountHeader,
	}
}

// before returns the wait before attempt n without its random part.
func (b *Backoff) before(n int) time.Duration {
	s := b.Base
	switch b.Type {
	case "exponential":
		s = math.Pow(b.Base, float64(n-1)) // +Inf is more than any maximum
	case "linear":
		s = b.Base * float64(n-1)
	}
	return seconds(min(s, b.Max))
}

// waits are worked out at load. Immutable, safe for concurrent use.
type waits struct {
	before []time.Duration // attempt 2 and up
	jitter float64
}

// wait is hot: a table and a random number of the running thread's own source.
func (w *waits) wait(n int) time.Duration {
	if len(w.before) == 0 {
		return 0
	}
	d := w.before[min(max(n-2, 0), len(w.before)-1)]
	if w.jitter == 0 {
		return d
	}
	return d + time.Duration(rand.Float64()*w.jitter*float64(d))
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// request is hot: it hands over what was prepared at load.
func (r *retry) request(x *pipeline.Exchange) pipeline.Verdict {
	x.Retry = r.policies[x.Service] // nil for a route without a service, which needs none
	return pipeline.Next
}
