package config

import (
	"reflect"
	"strings"
)

// breaker checks a circuit breaker. That of a service answers while it is open; that of
// an upstream takes targets out and answers nothing.
func (c checker) breaker(b *CircuitBreaker, answers bool) {
	const block = "circuit_breaker"
	if b.MaxOpenDuration < b.OpenDuration {
		c.fault(block+".max_open_duration", "must be at least open_duration, which is %s; got %s", number(b.OpenDuration), number(b.MaxOpenDuration))
	}
	def := newCircuitBreaker()
	asksRate := b.Window != def.Window || b.MinRequests != def.MinRequests
	switch {
	case !b.Enabled():
		if !reflect.DeepEqual(*b, def) && !c.it.node.Get(block).IsNull() {
			c.warn(block, "never opens: set consecutive_failures or error_rate")
		}
	case b.ErrorRate == 0 && asksRate:
		if b.Window != def.Window {
			c.unused(block+".window", "ignored without error_rate")
		}
		if b.MinRequests != def.MinRequests {
			c.unused(block+".min_requests", "ignored without error_rate")
		}
	case b.ErrorRate > 0 && b.ErrorRate < 1:
		c.warn(block+".error_rate", "is a percentage: %s is %s failures in 1000 requests", number(b.ErrorRate), number(b.ErrorRate*10))
	}
	if answers {
		c.openAnswer(b)
		return
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"status_code", b.StatusCode != def.StatusCode}, {"message", b.Message != ""},
		{"content_type", b.ContentType != ""}, {"body", b.Body != ""},
	} {
		if f.set {
			c.unused(block+"."+f.name, "ignored on upstreams: only the circuit_breaker of a service answers")
		}
	}
}

// unused warns about a field the entity itself sets: a default for all entities of a kind
// may have no use in some. Faults of the entity come first.
func (c checker) unused(path, format string, args ...any) {
	if !c.it.failed && !c.it.node.Lookup(path).IsNull() {
		c.warn(path, format, args...)
	}
}

// openAnswer is the rule of request-termination.
func (c checker) openAnswer(b *CircuitBreaker) {
	switch {
	case b.Message != "" && (b.ContentType != "" || b.Body != ""):
		c.fault("circuit_breaker.message", "message cannot be used with content_type or body")
	case b.ContentType != "" && b.Body == "":
		c.fault("circuit_breaker.content_type", "content_type requires a body")
	}
	if strings.ContainsFunc(b.ContentType, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		c.fault("circuit_breaker.content_type", "invalid value: %q; expected a media type such as text/plain", b.ContentType)
	}
}

func (c checker) serviceLimits(l *ServiceLimits) {
	c.queue(l.Queue, l.QueueTimeout, l.Requests > 0)
}

func (c checker) upstreamLimits(u *Upstream) {
	l := &u.Limits
	if u.MaxConnections > 0 && l.TargetConnections > 0 && u.MaxConnections != l.TargetConnections {
		c.fault("limits.target_connections", "both max_connections and limits.target_connections are set, to different values: %d and %d",
			u.MaxConnections, l.TargetConnections)
	}
	if l.Requests > 0 && l.TargetRequests > l.Requests {
		c.unused("limits.target_requests", "never reached: limits.requests is %d", l.Requests)
	}
	perTarget := max(u.MaxConnections, l.TargetConnections)
	if l.Connections > 0 && perTarget > l.Connections {
		field := "limits.target_connections"
		if l.TargetConnections == 0 {
			field = "max_connections"
		}
		c.unused(field, "never reached: limits.connections is %d", l.Connections)
	}
	c.queue(l.Queue, l.QueueTimeout, l.Requests > 0 || l.Connections > 0 || l.TargetRequests > 0 || perTarget > 0)
}

func (c checker) queue(queue, timeout int, limited bool) {
	switch {
	case queue > 0 && !limited:
		c.unused("limits.queue", "ignored without a limit: nothing ever waits")
	case queue == 0 && timeout != queueTimeoutDefault:
		c.unused("limits.queue_timeout", "ignored without limits.queue")
	}
}

// failoverMax is how many upstreams may stand in for each other, the first included.
const failoverMax = 8

// failover checks where upstreams fail over to. Two may stand in for each other: a chain
// ends where it comes back to an upstream that it has.
func (r *reader) failover() {
	for _, it := range r.items {
		u, ok := it.entity.(*Upstream)
		if !ok || u.Failover == "" {
			continue
		}
		c := checker{r, it}
		if r.lookup("upstreams", u.Failover) == it {
			c.fault("failover", "names the upstream itself; expected another one")
		}
		if chain := r.failoverChain(it); len(chain) == failoverMax+1 { // a longer one holds one of these
			c.fault("failover", "goes through %d upstreams, at most %d may follow each other: %s", len(chain), failoverMax, strings.Join(chain, " -> "))
		}
		if !u.takesOut() {
			c.warn("failover", "no health check and no circuit_breaker takes a target out: taken only when no target has an address")
		}
	}
}

// failoverChain returns the names of the upstreams that requests for it may go to.
func (r *reader) failoverChain(it *item) []string {
	var names []string
	seen := map[*item]bool{}
	for ; it != nil && !seen[it] && len(names) <= failoverMax+1; it = r.lookup("upstreams", it.entity.(*Upstream).Failover) {
		seen[it] = true
		names = append(names, it.entity.(*Upstream).Name)
		if it.entity.(*Upstream).Failover == "" {
			break
		}
	}
	return names
}
