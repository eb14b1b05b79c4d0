package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// found are the faults of a document, then its warnings, one a line.
func found(t *testing.T, text string, o Options) string {
	t.Helper()
	o.Env = noEnv
	var fs Faults
	d, err := Read([]Source{{Name: "t.yaml", Data: []byte(text + "\n_format_version: \"3.0\"")}}, o)
	if err == nil {
		fs = d.Warnings
	} else if !errors.As(err, &fs) {
		t.Fatal(err)
	}
	faults, warnings := FaultsOf(fs)
	lines := make([]string, 0, len(fs))
	for _, f := range faults {
		lines = append(lines, strings.TrimPrefix(f.Error(), "t.yaml:"))
	}
	for _, f := range warnings {
		lines = append(lines, "warning "+strings.TrimPrefix(f.Error(), "t.yaml:"))
	}
	return strings.Join(lines, "\n")
}

// about makes a table over the fields of one entity; want holds `col: path: message`.
func about(t *testing.T, list, entity string) func(fields string, want ...string) {
	return func(fields string, want ...string) {
		t.Helper()
		got := found(t, list+":\n- {"+entity+", "+fields+"}", Options{})
		got = strings.ReplaceAll(got, list+`[0] "e": `, "")
		got = strings.ReplaceAll(strings.ReplaceAll("\n"+got, "\n2:", "\n"), "warning 2:", "warning ")[1:]
		if got != strings.Join(want, "\n") {
			t.Errorf("%s\ngot:\n%s\nwant:\n%s", fields, got, strings.Join(want, "\n"))
		}
	}
}

func TestRingFields(t *testing.T) {
	f := about(t, "upstreams", "name: e")
	f("hash_on: ip, hash_ring: nginx, hash_balance_factor: 101")
	f("hash_on: ip, hash_balance_factor: 10000")
	f("hash_balance_factor: 0, hash_ring: ketama")
	f("hash_on: ip, hash_balance_factor: 100", "47: hash_balance_factor: invalid value: 100; expected 0 for no bound, or a percentage from 101 to 10000")
	f("hash_on: ip, hash_balance_factor: 1", "47: hash_balance_factor: invalid value: 1; expected 0 for no bound, or a percentage from 101 to 10000")
	f("hash_on: ip, hash_balance_factor: 10001", "47: hash_balance_factor: value should be between 0 and 10000")
	f("hash_on: ip, hash_balance_factor: 1.25", "47: hash_balance_factor: expected an integer, got the number 1.25")
	f("hash_on: ip, hash_ring: ngnix", `37: hash_ring: expected one of: ketama, nginx; did you mean "nginx"?`)
	f("hash_ring: nginx, hash_balance_factor: 125",
		"warning 24: hash_ring: ignored with algorithm round-robin", "warning 52: hash_balance_factor: ignored with algorithm round-robin")
	f("algorithm: latency, hash_ring: nginx", "warning 44: hash_ring: ignored with algorithm latency")
	f("algorithm: consistent-hashing", "warning 24: algorithm: consistent-hashing has nothing to hash without hash_on: targets take turns")
}

// TestHashingIsTold: what Kong does in silence, algorithm and hash_on changing each other,
// draws a warning in both ways of reading.
func TestHashingIsTold(t *testing.T) {
	f := func(fields, algorithm, hashOn, want string) {
		t.Helper()
		for _, strict := range []bool{false, true} {
			text := "upstreams:\n- {name: e, " + fields + "}"
			if got := found(t, text, Options{Strict: strict}); got != want {
				t.Errorf("%s, strict %v:\ngot  %s\nwant %s", fields, strict, got, want)
			}
			d, fs := readText(t, text+"\n_format_version: \"3.0\"", Options{Strict: strict})
			if fs != nil || d.Upstreams[0].Algorithm != algorithm || d.Upstreams[0].HashOn != hashOn {
				t.Errorf("%s, strict %v: %v %+v", fields, strict, fs, d)
			}
		}
	}
	const at = `warning 2:%d: upstreams[0] "e": hash_on: %s`
	f("hash_on: header, hash_on_header: X", "consistent-hashing", "header", "")
	f("hash_on: none", "round-robin", "none", "")
	f("algorithm: round-robin, hash_on: ip", "consistent-hashing", "ip", fmt.Sprintf(at, 46, "ip makes the algorithm consistent-hashing"))
	f("algorithm: consistent-hashing, hash_on: none", "round-robin", "none", fmt.Sprintf(at, 53, "none makes the algorithm round-robin"))
	f("algorithm: least-connections, hash_on: ip", "least-connections", "none", fmt.Sprintf(at, 52, "ignored with algorithm least-connections"))
	f("hash_on: path, algorithm: latency", "latency", "none", fmt.Sprintf(at, 22, "ignored with algorithm latency"))
	f("algorithm: latency, hash_on: none", "latency", "none", "")
	f("algorithm: consistent-hashing, hash_on: null, hash_fallback: none", "consistent-hashing", "none",
		`warning 2:24: upstreams[0] "e": algorithm: consistent-hashing has nothing to hash without hash_on: targets take turns`)
}

func TestLimitFields(t *testing.T) {
	f := about(t, "upstreams", "name: e")
	f("limits: {requests: 10, target_requests: 5, connections: 10, target_connections: 5, queue: 3, queue_timeout: 9}")
	f("max_connections: 5, limits: {target_connections: 5, queue: 1}")
	f("max_connections: 5, limits: {target_connections: 6}",
		"62: limits.target_connections: both max_connections and limits.target_connections are set, to different values: 5 and 6")
	f("max_connections: 0, limits: {target_connections: 6}")
	f("limits: {requests: -1, queue: 1000001, queue_timeout: 0}", "32: limits.requests: value should be between 0 and 2147483647",
		"43: limits.queue: value should be between 0 and 1000000", "67: limits.queue_timeout: value should be between 1 and 2147483646")
	f("limits: {queue: 5}", "warning 29: limits.queue: ignored without a limit: nothing ever waits")
	f("limits: {requests: 1, queue_timeout: 5}", "warning 50: limits.queue_timeout: ignored without limits.queue")
	f("limits: {requests: 5, target_requests: 6}", "warning 52: limits.target_requests: never reached: limits.requests is 5")
	f("limits: {connections: 5, target_connections: 6}", "warning 58: limits.target_connections: never reached: limits.connections is 5")
	f("max_connections: 6, limits: {connections: 5}", "warning 30: max_connections: never reached: limits.connections is 5")
	f("limits: {request: 5}", `22: limits.request: unknown field; did you mean "requests"?`)

	f = about(t, "services", "name: e, host: h")
	f("limits: {requests: 10, queue: 3, queue_timeout: 9}")
	f("limits: {queue: 5}", "warning 38: limits.queue: ignored without a limit: nothing ever waits")
	f("limits: {requests: 5, queue_timeout: 5}", "warning 59: limits.queue_timeout: ignored without limits.queue")
	f("limits: {connections: 5}", "31: limits.connections: unknown field")
	f("limits: 5", "30: limits: expected a record, got the number 5")
}

func TestBreakerFields(t *testing.T) {
	const ignored = "ignored on upstreams: only the circuit_breaker of a service answers"
	f := about(t, "upstreams", "name: e")
	f("circuit_breaker: {consecutive_failures: 5, open_duration: 10, max_open_duration: 10, half_open_requests: 2, successes: 2}")
	f("circuit_breaker: {error_rate: 50, window: 5, min_requests: 1, statuses: [429, 500]}")
	f("circuit_breaker: {error_rate: 50, open_duration: 600}")
	f("circuit_breaker: {}")
	f("circuit_breaker: null")
	f("circuit_breaker: {error_rate: 50, open_duration: 20, max_open_duration: 10}",
		"85: circuit_breaker.max_open_duration: must be at least open_duration, which is 20; got 10")
	f("circuit_breaker: {error_rate: 101, window: 0, min_requests: 0, half_open_requests: 0, successes: 0, statuses: [99]}",
		"43: circuit_breaker.error_rate: value should be between 0 and 100", "56: circuit_breaker.window: value should be between 0.1 and 3600",
		"73: circuit_breaker.min_requests: value should be between 1 and 1000000", "96: circuit_breaker.half_open_requests: value should be between 1 and 10000",
		"110: circuit_breaker.successes: value should be between 1 and 10000", "124: circuit_breaker.statuses[0]: value should be between 100 and 999")
	f("circuit_breaker: {open_duration: 5}", "warning 30: circuit_breaker: never opens: set consecutive_failures or error_rate")
	f("circuit_breaker: {consecutive_failures: 1, window: 5, min_requests: 5}",
		"warning 64: circuit_breaker.window: ignored without error_rate", "warning 81: circuit_breaker.min_requests: ignored without error_rate")
	f("circuit_breaker: {error_rate: 0.5}", "warning 43: circuit_breaker.error_rate: is a percentage: 0.5 is 5 failures in 1000 requests")
	f("circuit_breaker: {error_rate: 5, status_code: 500, message: m, content_type: c, body: b}",
		"warning 59: circuit_breaker.status_code: "+ignored, "warning 73: circuit_breaker.message: "+ignored,
		"warning 90: circuit_breaker.content_type: "+ignored, "warning 99: circuit_breaker.body: "+ignored)

	f = about(t, "services", "name: e, host: h")
	f("circuit_breaker: {error_rate: 5, status_code: 599, message: m}")
	f("circuit_breaker: {error_rate: 5, content_type: c, body: b}")
	f("circuit_breaker: {error_rate: 5, body: b}")
	f("circuit_breaker: {error_rate: 5, status_code: 199}", "68: circuit_breaker.status_code: value should be between 200 and 599")
	f("circuit_breaker: {error_rate: 5, message: m, body: b}", "64: circuit_breaker.message: message cannot be used with content_type or body")
	f("circuit_breaker: {error_rate: 5, message: m, content_type: c}", "64: circuit_breaker.message: message cannot be used with content_type or body")
	f("circuit_breaker: {error_rate: 5, content_type: c}", "69: circuit_breaker.content_type: content_type requires a body")
	f(`circuit_breaker: {error_rate: 5, content_type: "a\nb", body: b}`,
		`69: circuit_breaker.content_type: invalid value: "a\nb"; expected a media type such as text/plain`)
	f("circuit_breaker: {message: m}", "warning 39: circuit_breaker: never opens: set consecutive_failures or error_rate")
}

// TestProlong: an open_duration above the default maximum is its own maximum, unless a
// maximum was written.
func TestProlong(t *testing.T) {
	f := func(defaults, block string, want float64) {
		t.Helper()
		d, fs := readText(t, "_format_version: \"3.0\"\n_info: {defaults: {upstream: {circuit_breaker: "+defaults+"}}}\nupstreams: [{name: u, circuit_breaker: "+block+"}]", Options{})
		if fs != nil || d.Upstreams[0].CircuitBreaker.MaxOpenDuration != want {
			t.Errorf("%s over %s: %v", block, defaults, fs)
		}
	}
	f("{}", "{error_rate: 5}", 300)
	f("{}", "{error_rate: 5, open_duration: 600}", 600)
	f("{open_duration: 700}", "{error_rate: 5}", 700)
	f("{max_open_duration: 700}", "{error_rate: 5, open_duration: 600}", 700)
	_, fs := readText(t, "_format_version: \"3.0\"\n_info: {defaults: {service: {circuit_breaker: {max_open_duration: 70}}}}\n"+
		"services: [{name: s, host: h, circuit_breaker: {open_duration: 600}}]", Options{})
	if got, want := messages(fs), `3:48: services[0] "s": circuit_breaker.max_open_duration: must be at least open_duration, which is 600; got 70`; got != want {
		t.Errorf("got %s", got)
	}
}

func TestHealthFields(t *testing.T) {
	probe := func(t *testing.T) func(active string, want ...string) {
		f := about(t, "upstreams", "name: e")
		return func(active string, want ...string) {
			t.Helper()
			for i := range want {
				want[i] = strings.Replace(want[i], "…", "healthchecks.active.", 1)
			}
			f("healthchecks: {active: {"+active+"}}", want...)
		}
	}
	f := probe(t)
	const both = "healthy: {interval: 5, successes: 1}, unhealthy: {interval: 5, http_failures: 1}"
	f(both)
	f("http_path: '/a//b'", "48: …http_path: must not have empty segments")
	f("http_path: a", "48: …http_path: should start with: /")
	f("http_path: '/a b'", "48: …http_path: invalid path: '/a b' (characters outside of the reserved list of RFC 3986 found)")
	f(`http_path: "/a\r\nX: y"`, "48: …http_path: invalid path: '/a\r\nX: y' (characters outside of the reserved list of RFC 3986 found)")
	f("http_path: '/a?b=c&d'")
	f("type: https, https_sni: a.example")
	f("type: https, https_sni: 1.2.3.4", "61: …https_sni: must not be an IP, got 1.2.3.4")
	f("type: https, https_sni: 'a:443'", "61: …https_sni: must not have a port, got a:443")
	f("type: https, https_sni: a b", "61: …https_sni: invalid value: a b; expected a host name")
	f("headers: {X-A: [b, c]}")
	f("headers: {}")
	f("headers: {'a b': [c]}", "54: …headers.a b: 'a b' is not a valid header name")
	f("headers: {X-A: []}", "warning 52: …headers.X-A: has no value and is not sent")
	f(`headers: {X-A: ["a\nb"]}`, `53: …headers.X-A[0]: invalid value: "a\nb"; a header has no line breaks or control characters`)
	f("healthy: {http_statuses: [99]}", "63: …healthy.http_statuses[0]: value should be between 100 and 999")
	f("unhealthy: {http_statuses: [1000]}", "65: …unhealthy.http_statuses[0]: value should be between 100 and 999")
	f("concurrency: 0, timeout: -1", "50: …concurrency: value should be between 1 and 2147483648", "62: …timeout: value should be between 0 and 65535")
	f("type: udp", "43: …type: expected one of: http, https, tcp, grpc, grpcs")
	f("type: tcp, http_path: /x, headers: {A: [b]}, https_sni: a", "warning 59: …http_path: ignored with type tcp",
		"warning 72: …headers: ignored with type tcp", "warning 93: …https_sni: ignored with type tcp")
	f("https_sni: a, https_verify_certificate: false", "warning 48: …https_sni: ignored with type http",
		"warning 77: …https_verify_certificate: ignored with type http")
	f("type: grpc, "+both, "warning 43: …type: grpc targets are checked by connecting only: their health service is not asked",
		"warning 127: …unhealthy.http_failures: ignored with type grpc")
	f("type: grpcs, https_sni: a")

	u := about(t, "upstreams", "name: e")
	u("healthchecks: {threshold: 101}", "39: healthchecks.threshold: value should be between 0 and 100")
	u("healthchecks: {threshold: 99.5}")
	u("healthchecks: {threshold: 100}", "warning 39: healthchecks.threshold: 100: the upstream never counts as healthy; its available weight must be above the threshold")
}

// TestComesBack: what takes no target out, or never lets one in again, is told.
func TestComesBack(t *testing.T) {
	f := func(active, passive, want string) {
		t.Helper()
		text := "upstreams:\n- {name: e, healthchecks: {active: " + active + ", passive: " + passive + "}}"
		got := found(t, text, Options{})
		if want != "" {
			want = `upstreams[0] "e": healthchecks.` + want
		}
		if _, after, _ := strings.Cut(got, ": "); after != want || strings.Contains(got, "\n") {
			t.Errorf("active %s passive %s\ngot  %s\nwant %s", active, passive, got, want)
		}
	}
	const (
		off     = "active: no probe is ever sent: healthy.interval and unhealthy.interval are 0"
		stays   = "active.unhealthy.interval: 0: a target that is down is never probed again and stays down"
		harm    = "active.unhealthy: no number of failures takes a target out: set http_failures, tcp_failures or timeouts"
		nothing = "active.healthy.interval: 0: a target is probed only when it is down, and nothing finds that out"
		zero    = "active.healthy.successes: 0: a target that is down is probed and never comes back"
		shut    = "passive.open_duration: 0: a target that is down never comes back by itself; set it, or healthchecks.active.unhealthy.interval"
	)
	f("{}", "{}", "")
	f("{}", "{unhealthy: {tcp_failures: 2}}", "")
	f("{}", "{unhealthy: {tcp_failures: 2}, open_duration: 0}", shut)
	f("{}", "{open_duration: 0}", "")
	f("{unhealthy: {timeouts: 2}}", "{}", off)
	f("{healthy: {successes: 2}}", "{}", off)
	f("{healthy: {interval: 5}}", "{}", harm)
	f("{healthy: {interval: 5}, unhealthy: {interval: 5}}", "{}", harm)
	f("{unhealthy: {interval: 5}}", "{}", nothing)
	f("{unhealthy: {interval: 5, tcp_failures: 1}}", "{}", nothing)
	f("{healthy: {interval: 5}, unhealthy: {tcp_failures: 1}}", "{}", stays)
	f("{healthy: {interval: 5}}", "{unhealthy: {timeouts: 1}}", stays)
	f("{unhealthy: {interval: 5}}", "{unhealthy: {timeouts: 1}}", zero)
	f("{healthy: {interval: 5}, unhealthy: {interval: 5, http_failures: 1}}", "{healthy: {successes: 5}}", zero)
	f("{healthy: {successes: 1}, unhealthy: {interval: 5}}", "{unhealthy: {timeouts: 1}, open_duration: 0}", "")
	f("{healthy: {interval: 5, successes: 1}, unhealthy: {interval: 5}}", "{unhealthy: {http_failures: 1}}", "")

	// Kong has no open_duration, so strict reading has none by default.
	got := found(t, "upstreams:\n- {name: e, healthchecks: {passive: {unhealthy: {tcp_failures: 2}}}}", Options{Strict: true})
	if want := `warning 2:37: upstreams[0] "e": healthchecks.` + shut; got != want {
		t.Errorf("strict: got %s", got)
	}
}

func TestFailover(t *testing.T) {
	f := func(text string, want ...string) {
		t.Helper()
		for _, strict := range []bool{false, true} {
			var got []string
			for line := range strings.Lines(found(t, "upstreams:\n"+text, Options{Strict: strict})) {
				if !strings.Contains(line, "no health check and no circuit_breaker") {
					got = append(got, strings.TrimSpace(line))
				}
			}
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("strict %v\n%s\ngot:\n%s\nwant:\n%s", strict, text, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
	}
	f("- {name: a, failover: b}\n- {name: b}")
	f("- {name: a, failover: {name: b}}\n- {name: b}")
	f("- {name: a, failover: {id: 11111111-1111-4111-8111-111111111111}}\n- {name: b, id: 11111111-1111-4111-8111-111111111111}")
	f("- {name: a, failover: c}\n- {name: b, failover: c}\n- {name: c}")
	f("- {name: a, failover: null}")
	f("- {name: a, failover: a}", `2:23: upstreams[0] "a": failover: names the upstream itself; expected another one`)
	f("- {name: a, failover: b}\n- {name: b, failover: a}")
	f("- {name: a, failover: b}\n- {name: b, failover: c}\n- {name: c, failover: a}")
	f("- {name: alpha}\n- {name: b, failover: alpa}", `3:23: upstreams[1] "b": failover: invalid reference 'failover: alpa' (no such entry in 'upstreams'); did you mean "alpha"?`)
	f("- {name: a, failover: elsewhere}", `2:23: upstreams[0] "a": failover: invalid reference 'failover: elsewhere' (no such entry in 'upstreams')`)
	f("- {name: a, failover: 5}", `2:23: upstreams[0] "a": failover: expected a string; write "5" in quotes`)

	chain := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "- {name: u%d, failover: u%d}\n", i, i+1)
		}
		fmt.Fprintf(&b, "- {name: u%d}", n)
		return b.String()
	}
	f(chain(7))
	const long = "failover: goes through 9 upstreams, at most 8 may follow each other: "
	f(chain(8), `2:24: upstreams[0] "u0": `+long+"u0 -> u1 -> u2 -> u3 -> u4 -> u5 -> u6 -> u7 -> u8")
	f(chain(10), `4:24: upstreams[2] "u2": `+long+"u2 -> u3 -> u4 -> u5 -> u6 -> u7 -> u8 -> u9 -> u10")

	got := found(t, "upstreams:\n- {name: a, failover: b}\n- {name: b, failover: c, circuit_breaker: {error_rate: 5}}\n- {name: c}", Options{})
	if want := `warning 2:23: upstreams[0] "a": failover: no health check and no circuit_breaker takes a target out: taken only when no target has an address`; got != want {
		t.Errorf("got %s", got)
	}
	d, fs := readText(t, "_format_version: \"3.0\"\nupstream: {name: a, failover: b}\nupstream: {name: b, targets: [{target: t}]}", Options{})
	if fs != nil || d.Upstreams[0].Failover != EntityID("upstreams", "b") || d.Upstreams[1].Failover != "" {
		t.Errorf("singular keys: %v", fs)
	}
}

// TestTargets checks addresses: Kong's port, IPv6, and what is the same address.
func TestTargets(t *testing.T) {
	f := func(target, want string) {
		t.Helper()
		d, fs := readText(t, "_format_version: \"3.0\"\nupstreams: [{name: u, targets: [{target: '"+target+"'}]}]", Options{Strict: true})
		got := messages(fs)
		if fs == nil {
			got = d.Targets[0].Target
			if d.Targets[0].Weight != 100 || d.Targets[0].Upstream != d.Upstreams[0].ID {
				t.Errorf("%s: %+v", target, d.Targets[0])
			}
		} else if _, message, is := strings.Cut(got, "target: "); is {
			got = message
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", target, got, want)
		}
	}
	f("a.example", "a.example:8000")
	f("a.example:80", "a.example:80")
	f("_http._tcp.a.example", "_http._tcp.a.example:8000")
	f("10.0.0.1", "10.0.0.1:8000")
	f("10.0.0.1:80", "10.0.0.1:80")
	f("::1", "[::1]:8000")
	f("[::1]", "[::1]:8000")
	f("[::1]:8000", "[::1]:8000")
	f("[0:0:0::1]:80", "[::1]:80")
	f("[fe80::1%eth0]:80", "[fe80::1%eth0]:80")
	f("10.0.0.256:80", "Invalid target ('10.0.0.256:80'); not a valid hostname or ip address")
	f("10.0.0:80", "Invalid target ('10.0.0:80'); not a valid hostname or ip address")
	f("[::g]:80", "Invalid target ('[::g]:80'); not a valid hostname or ip address")
	f("::1:z", "Invalid target ('::1:z'); not a valid hostname or ip address")
	f("a:0", "Invalid target ('a:0'); not a valid hostname or ip address")
	f("10.0.0.1:0", "Invalid target ('10.0.0.1:0'); not a valid hostname or ip address")
	f("a:65536", "Invalid target ('a:65536'); not a valid hostname or ip address")
	f(":80", "Invalid target (':80'); not a valid hostname or ip address")
	f("http://a:80", "Invalid target ('http://a:80'); not a valid hostname or ip address")

	same := func(targets, want string) {
		t.Helper()
		if got := found(t, "upstreams:\n- {name: u, targets: ["+targets+"]}\n- {name: v, targets: [{target: a}]}", Options{}); got != want {
			t.Errorf("%s: got %s", targets, got)
		}
	}
	same("{target: a}, {target: 'a:8001'}, {target: b, weight: 0}, {target: c, weight: 65535}", "")
	same("{target: '[::1]:8000'}, {target: '::1'}",
		`2:56: upstreams[0] "u": targets[1] "::1": uniqueness violation: 'targets' entity with target set to '[::1]:8000' already declared on line 2`)
	same("{target: '[0::1]:80'}, {target: '[::1]:80'}",
		`2:55: upstreams[0] "u": targets[1] "[::1]:80": uniqueness violation: 'targets' entity with target set to '[::1]:80' already declared on line 2`)
}

// TestWebSocketProtocols: ws and wss are spoken and served.
func TestWebSocketProtocols(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		if got := found(t, text, Options{}); got != want {
			t.Errorf("%s\ngot:\n%s\nwant:\n%s", text, got, want)
		}
	}
	f("services:\n- {name: s, url: 'ws://h:80/chat', routes: [{name: r, paths: [/], protocols: [ws, wss], snis: [x.y], methods: [GET]}]}", "")
	f("services:\n- {name: s, url: 'wss://h:443/chat', tls_verify: true}", "")
	f("services:\n- {name: s, url: 'wss://h/chat'}", `warning 2:18: services[0] "s": url: no port: read as 80, as in Kong, also for wss; write the port`)
	f("services:\n- {name: s, url: 'wss://h/chat', port: 443}", `warning 2:40: services[0] "s": port: differs from url, which says 80`)
	f("services:\n- {name: s, host: h, protocol: ws, tls_verify: true}", `2:48: services[0] "s": tls_verify: value must be null when protocol is ws`)
	const s = "services:\n- {name: s, host: h}\nroutes:\n"
	f(s+"- {name: r, service: s, paths: [/], protocols: [ws], snis: [a.b]}",
		`4:60: routes[0] "r": snis: 'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls', 'tls_passthrough' or 'wss'`)
	f(s+"- {name: r, service: s, paths: [/], protocols: [http, ws]}", `4:55: routes[0] "r": protocols[1]: ws does not go with http`)
	f(s+"- {name: r, service: s, paths: [/], protocols: [wss], methods: [POST]}",
		`warning 4:64: routes[0] "r": methods: the route takes only WebSocket handshakes, which have the method GET: no request can match`)
	f(s+"- {name: r, service: s, protocols: [wss]}",
		`4:3: routes[0] "r": must set one of 'methods', 'hosts', 'headers', 'paths', 'snis' when 'protocols' is 'wss'`)
}

// TestBalanceBlocks: the blocks Kong does not have are merged by overlays, described by
// the schema and left out of dumps where they hold defaults.
func TestBalanceBlocks(t *testing.T) {
	const base = `_format_version: "3.0"
services: [{name: s, host: u, circuit_breaker: {error_rate: 50, window: 5}, limits: {requests: 9, queue: 5}}]
upstreams: [{name: u, failover: v, limits: {requests: 4}, circuit_breaker: {consecutive_failures: 3}}, {name: v}, {name: w}]
`
	const over = `services: [{name: s, circuit_breaker: {window: null, message: busy}, limits: {queue: 6}}]
upstreams: [{name: u, failover: w, limits: null, circuit_breaker: {successes: 2}, hash_on: ip, hash_ring: nginx}, {name: v, failover: w}]
`
	d, err := Read([]Source{{Name: "base.yaml", Data: []byte(base)}}, Options{Env: noEnv, Overlays: []Source{{Name: "over.yaml", Data: []byte(over)}}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := d.Dump(DumpOptions{Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"_format_version":"3.0","_transform":false,"services":[{"name":"s","host":"u","circuit_breaker":{"error_rate":50.0,"message":"busy"},"limits":{"requests":9,"queue":6}}],` +
		`"upstreams":[{"name":"u","algorithm":"consistent-hashing","hash_on":"ip","hash_ring":"nginx","failover":"w","circuit_breaker":{"consecutive_failures":3,"successes":2}},{"name":"v","failover":"w"},{"name":"w"}]}`
	if got := strings.TrimSpace(string(out)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	_, err = Read([]Source{{Name: "base.yaml", Data: []byte(base)}}, Options{Env: noEnv, Overlays: []Source{{Name: "over.yaml", Data: []byte("upstreams: [{name: v, failover: v}]")}}})
	if err == nil || !strings.Contains(err.Error(), `failover: names the upstream itself`) {
		t.Errorf("a circle through an overlay: %v", err)
	}

	doc, err := json.Marshal(DocumentSchema(nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		`"hash_ring":{"default":"ketama","description":"`, `"enum":["ketama","nginx"]`, `"type":["string","object","null"]`,
		`"hash_balance_factor":{"description":"`, `"max_open_duration":{"default":300,`, `"statuses":{"default":[500,502,503,504],`,
		`"queue_timeout":{"default":1000,"description":"Milliseconds one may wait.","maximum":2147483646,"minimum":1,"type":"integer"}`,
		`"target_connections":{"description":"`, `"status_code":{"default":503,"description":"Status answered while it is open. Services only.","maximum":599,"minimum":200,"type":"integer"}`,
	} {
		if !strings.Contains(string(doc), part) {
			t.Errorf("schema lacks %s", part)
		}
	}
}
