package canary

import (
	"strings"
	"testing"
)

func TestSettingsRefused(t *testing.T) {
	f := func(settings, want string) {
		t.Helper()
		_, err := read(document(settings))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("{%s}:\n got %v\nwant %s", settings, err, want)
		}
	}
	f("percentage: 10", "at least one of these fields must be non-empty: 'upstream_uri', 'upstream_host', 'upstream_port'")
	f("upstream_host: a2, percentage: 101", "percentage: value should be between 0 and 100")
	f("upstream_host: a2, percentage: -1", "percentage: value should be between 0 and 100")
	f("upstream_host: a2, percentage: half", "percentage: expected a number")
	f("upstream_host: a2, percentage: 5, steps: 0", "steps: value should be between 1 and 2147483647")
	f("upstream_host: a2, duration: -1, start: 5", "duration: value should be at least 0")
	f("upstream_host: a2, percentage: 5, hash: cookie", "hash: expected one of: consumer, ip, header, none, allow, deny")
	f("upstream_host: a2, percentage: 5, hash: header", "hash_header: required field missing")
	f("upstream_host: a2, percentage: 5, hash: header, hash_header: X User", "hash_header: bad header name 'X User'")
	f("upstream_host: a2, hash: allow", "groups: required field missing: hash: allow needs the groups it is about")
	f("upstream_host: a2, hash: deny, groups: []", "groups: required field missing")
	f("upstream_host: a2, percentage: 5, canary_by_header_name: X Canary", "canary_by_header_name: bad header name 'X Canary'")
	for _, host := range []string{"http://a2", "a2:8080", "a2/v2", `"a b"`, "999.1.1.1"} {
		f("percentage: 5, upstream_host: "+`"`+strings.Trim(host, `"`)+`"`, "upstream_host: invalid value: "+strings.Trim(host, `"`))
	}
	f("percentage: 5, upstream_port: 65536", "upstream_port: value should be between 0 and 65535")
	f("percentage: 5, upstream_uri: v2", "upstream_uri: should start with: /")
	f(`percentage: 5, upstream_uri: "/v2?x=1"`, "upstream_uri: expected a path")
	f(`percentage: 5, upstream_uri: "/größe"`, "upstream_uri: expected a path, escaped")
	f("percentage: 5, upstream_port: 81, upstream_fallback: true", "upstream_fallback: needs upstream_host")
	f("percentage: 5, host: a2", "unknown field")
}

func TestRampRefused(t *testing.T) {
	f := func(settings, want string) {
		t.Helper()
		_, err := read(document("upstream_host: a2, " + settings))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("{%s}:\n got %v\nwant %s", settings, err, want)
		}
	}
	f("ramp: {}, percentage: 5", "percentage: cannot be used with ramp, which sets the share itself")
	f("ramp: {}, start: 5", "start: cannot be used with ramp")
	f("ramp: {}, hash: allow, groups: [x]", "ramp: cannot be used with hash: allow, which knows no share")
	f("ramp: {steps: []}", "ramp.steps: length must be at least 1")
	f("ramp: {steps: [5, 5]}", "ramp.steps[1]: must be greater than 5: the share grows")
	f("ramp: {steps: [0, 5]}", "ramp.steps[0]: must be greater than 0")
	f("ramp: {steps: [50, 101]}", "ramp.steps[1]: value should be between 0 and 100")
	f("ramp: {step_duration: 0}", "ramp.step_duration: value should be between 1 and 31536000")
	f("ramp: {min_requests: 0}", "ramp.min_requests: value should be between 1 and")
	f("ramp: {max_error_rate_increase: 101}", "ramp.max_error_rate_increase: value should be between 0 and 100")
	f("ramp: {max_latency_ratio: -1}", "ramp.max_latency_ratio: value should be between 0 and 1000")
	f("ramp: {check_interval: 0}", "ramp.check_interval: value should be between 1 and 86400")
	f("ramp: {steps: [5], pause: 5}", "unknown field")
}

func TestWarnings(t *testing.T) {
	f := func(settings string, want ...string) {
		t.Helper()
		d, err := read(document(settings))
		if err != nil {
			t.Fatalf("{%s}: %v", settings, err)
		}
		var got []string
		for _, w := range d.Warnings {
			if strings.Contains(w.Path, "canary") {
				got = append(got, w.Path+": "+w.Message)
			}
		}
		if len(got) != len(want) {
			t.Errorf("{%s}: warnings %q, want %q", settings, got, want)
			return
		}
		for i := range want {
			if !strings.Contains(got[i], want[i]) {
				t.Errorf("{%s}: %s\nwant %s", settings, got[i], want[i])
			}
		}
	}
	f("upstream_host: a2, percentage: 10")
	f("upstream_host: a2, percentage: 12.3, duration: 3600, steps: 1000.0")
	f("upstream_host: a2, percentage: 100, steps: 1")
	f("upstream_host: a2, percentage: 0, canary_by_header_name: X-Canary")
	f("upstream_host: a2, start: 1700000000")
	f("upstream_host: a2, ramp: {}")
	f("upstream_host: a2, hash: allow, groups: [beta]")
	f("upstream_host: a2, percentage: 5, steps: 10", "5% of 10 steps is no whole number of steps: 10% of the callers")
	f("upstream_host: a2, percentage: 5, start: 5", "start: has no effect")
	f("upstream_host: a2, percentage: 5, groups: [beta]", "groups: has no effect unless hash is allow or deny")
	f("upstream_host: a2, percentage: 5, hash: deny, groups: [beta]", "percentage: has no effect")
	f("upstream_host: a2, hash: whitelist, groups: [beta]", "whitelist is an older name of allow")
	f("upstream_host: a2", "neither percentage nor start is set")
	f("upstream_host: a2, start: 1700000000000", "expected seconds since 1970, not milliseconds")
}
