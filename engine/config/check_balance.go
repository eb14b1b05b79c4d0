package config

import (
	"net"
	"strings"
)

func (c checker) upstream(u *Upstream) {
	switch {
	case u.Name == "": // reported as missing
	case isIP(u.Name) || isNumeric(u.Name):
		c.fault("name", "Invalid name ('%s'); must be a hostname, not an IP address", u.Name)
	case strings.Contains(u.Name, ":"):
		c.fault("name", "Invalid name ('%s'); no port allowed", u.Name)
	case !isHostName(u.Name):
		c.fault("name", "Invalid name ('%s'); must be a valid hostname", u.Name)
	}
	if u.HostHeader != "" {
		c.hostPattern("host_header", u.HostHeader, !strings.Contains(u.HostHeader, "*"))
		if strings.Contains(u.HostHeader, "*") {
			c.fault("host_header", "invalid value: %s", u.HostHeader)
		}
	}
	if u.HashOnCookiePath != "" && u.HashOnCookiePath[0] != '/' {
		c.fault("hash_on_cookie_path", "should start with: /")
	}
	c.hashing(u)
	c.ring(u)
	c.healthchecks(&u.Healthchecks)
	c.breaker(&u.CircuitBreaker, false)
	c.upstreamLimits(u)
}

// ring checks the settings of consistent hashing Kong does not have.
func (c checker) ring(u *Upstream) {
	if f := u.HashBalanceFactor; f > 0 && f <= 100 {
		c.fault("hash_balance_factor", "invalid value: %d; expected 0 for no bound, or a percentage from 101 to 10000", f)
	}
	if u.Algorithm == "consistent-hashing" {
		if u.HashOn == "none" {
			c.warn("algorithm", "consistent-hashing has nothing to hash without hash_on: targets take turns")
		}
		return
	}
	if u.HashRing != "ketama" {
		c.unused("hash_ring", "ignored with algorithm %s", u.Algorithm)
	}
	if u.HashBalanceFactor != 0 {
		c.unused("hash_balance_factor", "ignored with algorithm %s", u.Algorithm)
	}
}

// companion is the field a hash input needs.
type companion struct{ input, field, value string }

func (c checker) hashing(u *Upstream) {
	primary := []companion{
		{"header", "hash_on_header", u.HashOnHeader}, {"cookie", "hash_on_cookie", u.HashOnCookie},
		{"query_arg", "hash_on_query_arg", u.HashOnQueryArg}, {"uri_capture", "hash_on_uri_capture", u.HashOnURICapture},
	}
	fallback := []companion{
		{"header", "hash_fallback_header", u.HashFallbackHeader}, {"cookie", "hash_on_cookie", u.HashOnCookie},
		{"query_arg", "hash_fallback_query_arg", u.HashFallbackQueryArg}, {"uri_capture", "hash_fallback_uri_capture", u.HashFallbackURICapture},
	}
	c.companions(u.HashOn, primary)
	c.companions(u.HashFallback, fallback)
	for _, p := range fallback {
		if p.value != "" && p.input != u.HashFallback && p.field != "hash_on_cookie" {
			c.warn(p.field, "ignored with hash_fallback: %s", u.HashFallback)
		}
	}
	if u.HashFallback == "none" || u.Algorithm == "least-connections" || u.Algorithm == "latency" {
		return
	}
	switch u.HashOn {
	case "none", "cookie":
		c.fault("hash_fallback", "expected one of: none; hash_on is %s", u.HashOn)
	case "consumer", "ip", "path":
		if u.HashFallback == u.HashOn {
			c.fault("hash_fallback", "must not be the same as hash_on")
		}
	}
	for i := range primary {
		if primary[i].input == u.HashOn && u.HashFallback == u.HashOn && primary[i].value != "" &&
			strings.EqualFold(primary[i].value, fallback[i].value) {
			c.fault(fallback[i].field, "must not be the same as %s", primary[i].field)
		}
	}
}

func (c checker) companions(input string, list []companion) {
	for _, p := range list {
		if p.input == input && p.value == "" {
			c.fault(p.field, "required field missing")
		}
	}
}

func (c checker) target(t *Target) {
	if t.Target == "" {
		return // reported as missing
	}
	host, port, err := net.SplitHostPort(t.Target)
	if err != nil || !isPort(port) || !isHostOrIP(host) {
		c.fault("target", "Invalid target ('%s'); not a valid hostname or ip address", t.Target)
	}
}
