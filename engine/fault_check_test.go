//go:build linux

package engine_test

import (
	"fmt"
	"strings"
	"time"
)

const tableHead = "fault       upstream  requests  failed before (idem.)  failed after  detected  returned  p99 before/after detection"

// phases are the requests of one upstream by when they were planned.
type phases struct {
	calm   []*shot // over before the fault
	before []*shot // planned until it was detected
	after  []*shot // until it was healed
	healed []*shot
}

func split(shots []*shot, at *span, upstream string) (p phases) {
	for _, x := range shots {
		switch {
		case x.upstream != upstream:
		case x.planned.Add(x.latency).Before(at.injected):
			p.calm = append(p.calm, x)
		case x.planned.Before(at.detected[upstream]):
			p.before = append(p.before, x)
		case x.planned.Before(at.healed):
			p.after = append(p.after, x)
		default:
			p.healed = append(p.healed, x)
		}
	}
	return p
}

func failures(shots []*shot) (list []*shot) {
	for _, x := range shots {
		if x.failed() {
			list = append(list, x)
		}
	}
	return list
}

// idempotent reports whether the gateway was to repeat x at another target, whatever
// the fault c does.
func (x *shot) idempotent(c *faultCase) bool {
	switch {
	case x.cut():
		return false // the client has half of an answer
	case x.upstream != viaRetries && c.name == modeError:
		return false // a status is not tried again without the plugin
	case x.kind == shotKeyed:
		return x.upstream == viaRetries
	}
	return x.kind != shotPost
}

// check checks what one upstream's clients saw of a fault.
func (s *faultSuite) check(c *faultCase, f *faultTarget, upstream string, at *span, shots []*shot) {
	s.t.Helper()
	p := split(shots, at, upstream)
	repeatable := 0
	for _, x := range failures(shots) {
		if x.idempotent(c) {
			repeatable++
			s.errorf("failed though it can be repeated: %s", x)
		}
	}
	s.checkAnswers(c, shots)
	for _, x := range append(failures(p.calm), failures(p.healed)...) {
		s.errorf("failed without a fault: planned %s after it began, %s after it was healed: %s", x.planned.Sub(at.injected), x.planned.Sub(at.healed), x)
	}
	// A trial is a request, one that can be repeated; but not what was answered, if only
	// with a 500 or half of a body.
	trials := 0
	if upstream == viaTrials && (c.name == modeError || c.name == modeResetBody) {
		trials = trialsMax(at.healed.Sub(at.detected[upstream]))
	}
	failed := failures(p.after)
	if allowed := trials + len(p.after)/1000; len(failed) > allowed {
		s.errorf("%s: %d of %d requests failed after detection, at most %d may; the first: %s",
			upstream, len(failed), len(p.after), allowed, failed[0])
	}
	slow, waits := 0, 0
	if upstream == viaTrials {
		waits = trialsMax(at.healed.Sub(at.detected[upstream])) // a trial that times out
	}
	for _, x := range p.after {
		if x.latency-x.late >= time.Second { // a machine that stalls is not the gateway's fault
			slow++
		}
	}
	if slow > waits+len(p.after)/100 {
		s.errorf("%s: %d of %d requests took a second or more after detection", upstream, slow, len(p.after))
	}
	for _, e := range s.gateway.changes(upstream, f.addr, at.injected) {
		if e.at.Before(at.heals) && (e.up || e.at.After(at.detected[upstream])) {
			s.errorf("%s: the target changed sides %s after detection, before it was healed; back: %v", upstream, e.at.Sub(at.detected[upstream]), e.up)
		}
	}
	early := failures(p.before)
	s.table = append(s.table, fmt.Sprintf("%-11s %-9s %8d  %6d (%d)%12s  %3d of %4d   %5d ms  %5d ms  %s/%s",
		c.name, upstream, len(shots), len(early), repeatable, "", len(failed), len(p.after),
		at.detected[upstream].Sub(at.injected).Milliseconds(), at.back[upstream].Sub(at.healed).Milliseconds(),
		quantile(p.calm, 0.99).Round(time.Millisecond), quantile(p.after, 0.99).Round(time.Millisecond)))
}

// checkAnswers checks that no answer looks whole that is not, and how others failed.
func (s *faultSuite) checkAnswers(c *faultCase, shots []*shot) {
	s.t.Helper()
	cut := 0
	for _, x := range shots {
		if x.cut() {
			cut++
		}
		switch {
		case x.status == -1:
			s.errorf("an answer that is not the service's: %s", x)
		case x.status == 0:
			s.errorf("no answer: %s", x)
		case x.cut() && x.kind != shotBig:
			s.errorf("an answer that fits into memory was cut: %s", x)
		case x.status == 500 && c.name != modeError,
			x.status != 200 && x.status != 500 && x.status != 502 && x.status != 503 && x.status != 504:
			s.errorf("unexpected status: %s", x)
		}
	}
	s.cuts += cut
}

// checkAllDown checks what clients saw while no target of an upstream was left.
func (s *faultSuite) checkAllDown(upstream string, at *span, shots []*shot) {
	s.t.Helper()
	const atOnce = 50 * time.Millisecond
	p := split(shots, at, upstream)
	trials := 0
	if upstream == viaTrials {
		trials = len(s.targets) * trialsMax(at.healed.Sub(at.detected[upstream])+openDuration)
	}
	other, later := 0, 0
	for _, x := range p.after {
		switch {
		case x.planned.After(at.heals):
		case x.status == 503 && strings.Contains(x.body, "failure to get a peer from the ring-balancer"):
			if upstream == viaTrials && x.retryAfter != "" {
				later++
			}
		default:
			if other++; other > trials || x.status != 503 && x.status != 502 {
				s.errorf("answered while every target is out: %s", x)
			}
		}
		if x.latency-x.late >= time.Second {
			s.errorf("hung while every target is out: %s", x)
		}
	}
	// One that finds a trial due, but taken by another, may come at once: no header.
	if upstream == viaTrials && later < len(p.after)*9/10 {
		s.errorf("%d of %d answers have Retry-After", later, len(p.after))
	}
	// The median: the machine is shared.
	median := quantile(p.after, 0.5)
	if median >= atOnce {
		s.errorf("%s: the median answer took %s", upstream, median)
	}
	for _, x := range failures(p.calm) {
		s.errorf("failed without a fault: %s", x)
	}
	n := 0
	for _, x := range failures(p.healed) {
		if x.planned.After(at.back[upstream]) {
			s.errorf("failed with every target back: %s", x)
		}
		n++
	}
	s.table = append(s.table, fmt.Sprintf("%-11s %-9s %8d  %6d (-)%12s  %3d of %4d   %5d ms  %5d ms  %s/%s (median %s, Retry-After %d, other answers %d, %d until back)",
		"all down", upstream, len(p.calm)+len(p.before)+len(p.after)+len(p.healed), len(failures(p.before)), "", len(failures(p.after)), len(p.after),
		at.detected[upstream].Sub(at.injected).Milliseconds(), at.back[upstream].Sub(at.healed).Milliseconds(),
		quantile(p.calm, 0.99).Round(time.Millisecond), quantile(p.after, 0.99).Round(time.Millisecond), median.Round(10*time.Microsecond), later, other, n))
}

// checkLedger compares what clients got with what services got.
func (s *faultSuite) checkLedger() {
	s.t.Helper()
	for _, f := range s.targets {
		f.order("sync now") // what it got before it has told before
	}
	twice, lost := 0, 0
	for _, x := range s.shots {
		n := s.ledger.times(x.id)
		if once := x.kind == shotPost || x.kind == shotKeyed && x.upstream != viaRetries; once && n > 1 {
			twice++
			s.errorf("services got it %d times: %s", n, x)
		}
		if !x.failed() && n == 0 {
			lost++
			s.errorf("answered, but no service got it: %s", x)
		}
	}
	for i, x := range s.shots {
		if x.id != i {
			s.t.Fatalf("request %d is not accounted for", i)
		}
	}
	s.table = append(s.table, fmt.Sprintf("services got %d requests that must not be repeated twice; %d answers came from nowhere", twice, lost))
}

// checkRest waits until the gateway, whose clients are gone, holds no more than when
// it was new. Idle connections to services end after a second.
func (s *faultSuite) checkRest(goroutines, files int) {
	s.t.Helper()
	var g, f int
	within(s.t, faultPatience, "goroutines and connections of the gateway end", func() bool {
		g, f = s.gateway.metric("go_goroutines"), s.gateway.files()
		return g <= goroutines+10 && f <= files+6
	})
	s.table = append(s.table, fmt.Sprintf("goroutines %d → %d, open files %d → %d", goroutines, g, files, f))
	if out := s.gateway.output(); strings.Contains(out, "DATA RACE") || strings.Contains(out, "panic") {
		s.errorf("the gateway is not well:\n%s", out)
	}
}
