package config

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
)

// healthchecks checks how health is found out. Much of it is legal and does not do what it
// seems to: that is worth a warning.
func (c checker) healthchecks(h *Healthchecks) {
	a := &h.Active
	c.probePath(a.HTTPPath)
	c.probeSNI(a.HTTPSSNI)
	for _, name := range slices.Sorted(maps.Keys(a.Headers)) {
		c.probeHeader(name, a.Headers[name])
	}
	if c.it.failed {
		return // what else is set is not certain
	}
	c.probeType(a)
	c.comesBack(h)
	if h.Threshold == 100 {
		c.warn("healthchecks.threshold", "100: the upstream never counts as healthy; its available weight must be above the threshold")
	}
}

func (c checker) probePath(path string) {
	const field = "healthchecks.active.http_path"
	switch {
	case !strings.HasPrefix(path, "/"):
		c.fault(field, "should start with: /")
	case strings.Contains(path, "//"):
		c.fault(field, "must not have empty segments")
	case strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("\"<>\\^`{|}", r) }):
		c.fault(field, "invalid path: '%s' (characters outside of the reserved list of RFC 3986 found)", path)
	}
}

func (c checker) probeSNI(name string) {
	const field = "healthchecks.active.https_sni"
	_, _, err := net.SplitHostPort(name)
	switch {
	case name == "":
	case isIP(name):
		c.fault(field, "must not be an IP, got %s", name)
	case err == nil:
		c.fault(field, "must not have a port, got %s", name)
	case !isHostName(name):
		c.fault(field, "invalid value: %s; expected a host name", name)
	}
}

func (c checker) probeHeader(name string, values []string) {
	path := "healthchecks.active.headers." + name
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return !isTokenRune(r) }) {
		c.fault(path, "'%s' is not a valid header name", name)
		return
	}
	if len(values) == 0 {
		c.warn(path, "has no value and is not sent")
	}
	for i, v := range values {
		if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			c.fault(fmt.Sprintf("%s[%d]", path, i), "invalid value: %q; a header has no line breaks or control characters", v)
		}
	}
}

// probeType names settings the kind of probe has no use for.
func (c checker) probeType(a *ActiveHealthcheck) {
	const active = "healthchecks.active."
	asksHTTP := a.Type == "http" || a.Type == "https"
	overTLS := a.Type == "https" || a.Type == "grpcs"
	for _, f := range []struct {
		name string
		used bool
		set  bool
	}{
		{"http_path", asksHTTP, a.HTTPPath != "/"},
		{"headers", asksHTTP, len(a.Headers) > 0},
		{"unhealthy.http_failures", asksHTTP, a.Unhealthy.HTTPFailures > 0},
		{"https_sni", overTLS, a.HTTPSSNI != ""},
		{"https_verify_certificate", overTLS, !a.HTTPSVerifyCertificate},
	} {
		if f.set && !f.used {
			c.warn(active+f.name, "ignored with type %s", a.Type)
		}
	}
	if isGRPC(a.Type) && (a.Healthy.Interval > 0 || a.Unhealthy.Interval > 0) {
		c.warn(active+"type", "%s targets are checked by connecting only: their health service is not asked", a.Type)
	}
}

// comesBack looks for checks that take no target out, and for targets that stay out.
func (c checker) comesBack(h *Healthchecks) {
	const active = "healthchecks.active."
	probe, traffic := &h.Active.Unhealthy, &h.Passive.Unhealthy
	probeTakesOut := probe.HTTPFailures > 0 || probe.TCPFailures > 0 || probe.Timeouts > 0
	trafficTakesOut := traffic.HTTPFailures > 0 || traffic.TCPFailures > 0 || traffic.Timeouts > 0
	probesHealthy, probesUnhealthy := h.Active.Healthy.Interval > 0, probe.Interval > 0
	switch {
	case !probesHealthy && !probesUnhealthy:
		if probeTakesOut || h.Active.Healthy.Successes > 0 {
			c.warn("healthchecks.active", "no probe is ever sent: healthy.interval and unhealthy.interval are 0")
		}
		if trafficTakesOut && h.Passive.OpenDuration == 0 {
			c.warn("healthchecks.passive.open_duration", "0: a target that is down never comes back by itself; "+
				"set it, or healthchecks.active.unhealthy.interval")
		}
	case !trafficTakesOut && !probesHealthy:
		c.warn(active+"healthy.interval", "0: a target is probed only when it is down, and nothing finds that out")
	case !trafficTakesOut && !probeTakesOut:
		c.warn(active+"unhealthy", "no number of failures takes a target out: set http_failures, tcp_failures or timeouts")
	case !probesUnhealthy:
		c.warn(active+"unhealthy.interval", "0: a target that is down is never probed again and stays down")
	case h.Active.Healthy.Successes == 0:
		c.warn(active+"healthy.successes", "0: a target that is down is probed and never comes back")
	}
}

// takesOut reports whether anything of the upstream's own ever takes a target out.
func (u *Upstream) takesOut() bool {
	p, t := &u.Healthchecks.Active, &u.Healthchecks.Passive.Unhealthy
	return u.CircuitBreaker.Enabled() || t.HTTPFailures > 0 || t.TCPFailures > 0 || t.Timeouts > 0 ||
		p.Healthy.Interval > 0 && (p.Unhealthy.HTTPFailures > 0 || p.Unhealthy.TCPFailures > 0 || p.Unhealthy.Timeouts > 0)
}
