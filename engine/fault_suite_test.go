//go:build linux

package engine_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The fault suite: three service processes, a gateway process, a load of a fixed rate,
// and one fault after the other at one of the services. The gateway has the services
// behind three upstreams with different means, which all see the same fault:
//
//	trials   what traffic says (passive checks); half-open trials bring back
//	probes   passive and active checks
//	retried  the same, and proxy-retry
//
// A target counts as detected when the gateway logs that it is taken out.
//
//	fault_service_test.go  the service process
//	fault_process_test.go  processes as the suite handles them
//	fault_load_test.go     the load
//	fault_check_test.go    what must hold

const (
	viaTrials  = "trials"
	viaProbes  = "probes"
	viaRetries = "retried"
)

var faultUpstreams = []string{viaTrials, viaProbes, viaRetries}

// openDuration of the upstream that has trials.
const openDuration = 300 * time.Millisecond

// faultDocument returns the document of the suite. timeouts, a limit, differs between
// reloads: another limit makes another group of the same addresses.
func faultDocument(targets []*faultTarget, timeouts int) string {
	var b strings.Builder
	b.WriteString(`_format_version: "3.0"
gateway:
  proxy_listen: 127.0.0.1:0
  status_listen: 127.0.0.1:0
  admin_listen: "off"
  log_level: info
  upstream_keepalive_idle_timeout: 1
plugins:
- name: proxy-retry
  service: retried
  config: {retries: 2, retry_on: [500, 502, 503, 504], backoff: {type: constant, base: 0.02, max: 1}, jitter: 0, budget_percent: 50}
services:
`)
	for _, u := range faultUpstreams {
		fmt.Fprintf(&b, `- name: %s
  host: %s
  connect_timeout: 500
  read_timeout: 1000
  write_timeout: 1000
  routes:
  - name: %s
    paths: [/%s]
`, u, u, u, u)
	}
	b.WriteString("upstreams:\n")
	for _, u := range faultUpstreams {
		fmt.Fprintf(&b, "- name: %s\n  targets:\n", u)
		for _, f := range targets {
			fmt.Fprintf(&b, "  - target: %s\n", f.addr)
		}
		fmt.Fprintf(&b, `  healthchecks:
    passive:
      open_duration: %g
      healthy: {successes: 1}
      unhealthy: {tcp_failures: 3, http_failures: 3, timeouts: %d}
`, openDuration.Seconds(), timeouts)
		if u != viaTrials {
			b.WriteString(`    active:
      http_path: /health
      timeout: 0.5
      healthy: {interval: 0.5, successes: 2}
      unhealthy: {interval: 0.5, tcp_failures: 2, http_failures: 2, timeouts: 2}
`)
		}
	}
	return b.String()
}

// faultCase is one fault.
type faultCase struct {
	name         string
	inject, heal func(*faultTarget)
	reloads      bool // the gateway reloads meanwhile
	load         shotMix
}

func behaves(mode string) *faultCase {
	return &faultCase{
		name: mode, load: mixed,
		inject: func(f *faultTarget) { f.order("mode " + mode) },
		heal:   func(f *faultTarget) { f.order("mode " + modeOK) },
	}
}

func (c *faultCase) withLoad(m shotMix) *faultCase {
	c.load = m
	return c
}

func (c *faultCase) withReload() *faultCase {
	c.reloads = true
	return c
}

var faultCases = []*faultCase{
	{name: "killed", load: mixed, inject: (*faultTarget).kill, heal: (*faultTarget).run},
	{
		name: "stopped", load: mixed,
		inject: func(f *faultTarget) { f.signal(syscall.SIGSTOP) },
		heal:   func(f *faultTarget) { f.signal(syscall.SIGCONT) },
	},
	behaves(modeRefuse).withReload(),
	behaves(modeResetBody).withLoad(mostlyBig),
	behaves(modeResetHead),
	behaves(modeError).withReload(),
	behaves(modeSlow),
	behaves(modeSilent),
	behaves(modeBlackHole),
}

// faultSuite is what the faults share.
type faultSuite struct {
	t        *testing.T // of the fault under way
	gateway  *faultGateway
	targets  []*faultTarget
	ledger   *ledger
	timeouts int // of the document that is live
	shots    []*shot
	table    []string
	told     map[string]int
	cuts     int // answers that were cut in this fault
}

// errorf is t.Errorf, but says the same only a few times.
func (s *faultSuite) errorf(format string, args ...any) {
	s.t.Helper()
	const toldMax = 4
	key := s.t.Name() + format
	if s.told[key]++; s.told[key] <= toldMax {
		s.t.Errorf(format, args...)
	}
}

// use makes t the test that fails from now on.
func (s *faultSuite) use(t *testing.T) {
	s.t, s.gateway.t = t, t
	for _, f := range s.targets {
		f.t = t
	}
}

func TestFaults(t *testing.T) {
	s := &faultSuite{t: t, ledger: &ledger{got: map[int]int{}}, timeouts: 3, told: map[string]int{}}
	for range 3 {
		f := &faultTarget{t: t, addr: freeAddr(t), ledger: s.ledger}
		s.targets = append(s.targets, f)
		f.run()
		t.Cleanup(f.kill)
	}
	s.gateway = runGateway(t, faultDocument(s.targets, s.timeouts))
	goroutines, files := s.gateway.metric("go_goroutines"), s.gateway.files()
	s.table = append(s.table, tableHead)
	for i, c := range faultCases {
		ok := t.Run(c.name, func(t *testing.T) {
			s.use(t)
			s.fault(c, s.targets[i%len(s.targets)])
		})
		if !ok && s.broken() {
			break // what follows would only say so again
		}
	}
	t.Run("all down", func(t *testing.T) {
		s.use(t)
		s.allDown()
	})
	s.use(t)
	s.checkLedger()
	s.checkRest(goroutines, files)
	t.Logf("%d requests, %d a second\n%s", len(s.shots), loadRate, strings.Join(s.table, "\n"))
}

// broken reports whether a target is out although no fault is under way.
func (s *faultSuite) broken() bool {
	for _, u := range faultUpstreams {
		for _, f := range s.targets {
			if c := s.gateway.changes(u, f.addr, time.Time{}); len(c) > 0 && !c[len(c)-1].up {
				return true
			}
		}
	}
	return false
}

// load starts the load and waits until it has run for a while.
func (s *faultSuite) load(m shotMix) *faultLoad {
	l := &faultLoad{addr: s.gateway.proxy, upstreams: faultUpstreams, first: len(s.shots), mix: m, rate: loadRate}
	if m == mostlyBig {
		l.rate /= 2 // 10 MB a second are enough
	}
	l.start()
	s.runs(l, 500*time.Millisecond)
	return l
}

// runs waits until l has sent what it sends in d.
func (s *faultSuite) runs(l *faultLoad, d time.Duration) {
	s.t.Helper()
	n := l.fired.Load() + d.Nanoseconds()*l.rate/int64(time.Second)
	within(s.t, d+faultPatience, "the load goes on", func() bool { return l.fired.Load() >= n })
}

// span is when a fault was where.
type span struct {
	injected time.Time
	detected map[string]time.Time // by upstream
	heals    time.Time            // healing begins
	healed   time.Time
	back     map[string]time.Time
}

// fault injects one fault at a target and checks what the load saw of it.
func (s *faultSuite) fault(c *faultCase, f *faultTarget) {
	s.cuts = 0
	l := s.load(c.load)
	ended, healed := false, false
	defer func() { // what a test that gives up leaves
		if !healed {
			c.heal(f)
		}
		if !ended {
			s.shots = append(s.shots, l.end()...)
		}
	}()
	at := &span{injected: time.Now()}
	c.inject(f)
	at.detected = s.all(false, f, at.injected)
	s.runs(l, 800*time.Millisecond)
	if c.reloads {
		s.timeouts ^= 1
		s.gateway.reload(faultDocument(s.targets, s.timeouts))
	}
	s.runs(l, 800*time.Millisecond)
	at.heals = time.Now()
	healed = true
	c.heal(f)
	at.healed = time.Now()
	at.back = s.all(true, f, at.heals)
	s.runs(l, 300*time.Millisecond)
	shots := l.end()
	ended = true
	s.shots = append(s.shots, shots...)
	for _, u := range faultUpstreams {
		s.check(c, f, u, at, slices.DeleteFunc(slices.Clone(shots), func(x *shot) bool { return x.upstream != u }))
	}
	if c.name == modeResetBody && s.cuts == 0 {
		s.t.Error("no large answer was cut, though its service broke it off")
	}
}

// all waits until a target is in, or out, for every upstream and returns since when.
func (s *faultSuite) all(up bool, f *faultTarget, since time.Time) map[string]time.Time {
	s.t.Helper()
	when := map[string]time.Time{}
	for _, u := range faultUpstreams {
		within(s.t, faultPatience, fmt.Sprintf("%s of %s is in rotation: %v", f.addr, u, up), func() bool {
			when[u] = s.gateway.first(up, u, f.addr, since)
			return !when[u].IsZero()
		})
	}
	return when
}

// allDown makes every target refuse: answers are Kong's, at once, and all targets
// come back.
func (s *faultSuite) allDown() {
	l := s.load(mixed)
	at := &span{injected: time.Now(), detected: map[string]time.Time{}}
	for _, f := range s.targets {
		f.order("mode " + modeRefuse)
	}
	for _, f := range s.targets {
		for u, t := range s.all(false, f, at.injected) {
			if t.After(at.detected[u]) {
				at.detected[u] = t
			}
		}
	}
	s.runs(l, 1500*time.Millisecond)
	at.heals = time.Now()
	for _, f := range s.targets {
		f.order("mode " + modeOK)
	}
	at.healed = time.Now()
	back := map[string]time.Time{}
	for _, f := range s.targets {
		for u, t := range s.all(true, f, at.heals) {
			if t.After(back[u]) {
				back[u] = t
			}
		}
	}
	at.back = back
	s.runs(l, 300*time.Millisecond)
	shots := l.end()
	s.shots = append(s.shots, shots...)
	for _, u := range faultUpstreams {
		s.checkAllDown(u, at, shots)
	}
}

// trialsMax returns how many trials a target may have had that was out for d: each
// failed one doubles the wait.
func trialsMax(d time.Duration) int {
	return int(math.Log2(float64(d)/float64(openDuration) + 1))
}
