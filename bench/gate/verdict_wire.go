package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/loadtest/stats"
)

// callsGrowth is by how many calls per request all calls, or those of one kind, must grow
// to fail: half of the one call that a change would add, and twice the spread seen.
const callsGrowth = 0.5

// rounding forgives what a sum of decimal fractions is off by.
const rounding = 1e-9

// judgeWire compares the rows of bench/wire.
func (j *judgement) judgeWire(baseline, result *wireResults, l limits) {
	noted := map[string]bool{}
	for _, is := range result.rows {
		if n := len(is.ratios); n > 0 && !is.isFloor() && chance(n, n) >= l.significance {
			// No later run like this one could be compared with it.
			j.unusable = append(j.unusable, fmt.Errorf("%s: %s", is.key, tooFew(n, n, l.significance)))
		}
		was := baseline.of[is.key]
		if was == nil {
			f := j.add(is.key.String(), measureRatio)
			if is.ratios != nil {
				f.Run = new(stats.Median(is.ratios))
			}
			f.say(note, "new: there is nothing to compare it with")
			continue
		}
		for _, text := range differences(&was.origin, &is.origin) {
			if !noted[text] {
				noted[text] = true
				j.Notes = append(j.Notes, text)
			}
		}
		j.judgeRatio(was, is, l)
		j.judgeCalls(was, is)
	}
	for _, was := range baseline.rows {
		if result.of[was.key] == nil {
			j.add(was.key.String(), measureRatio).say(note, "in the baseline, not in the result")
		}
	}
}

// differences says in what two measurements differ beside the row.
func differences(was, is *origin) []string {
	var all []string
	for _, d := range []struct{ what, was, is, but string }{
		{"commit", was.Commit, is.Commit, ""},
		{"machine", was.Machine, is.Machine, ": ratios compare across machines better than microseconds, but not perfectly"},
		{"kernel", was.Kernel, is.Kernel, ": system calls cost otherwise there, and ratios move with them"},
		{"Go", was.Go, is.Go, ""},
	} {
		if d.was != d.is {
			all = append(all, fmt.Sprintf("%s: the baseline's is %q, the run's %q%s", d.what, d.was, d.is, d.but))
		}
	}
	return all
}

// judgeRatio compares the CPU time over the floor's, round by round.
func (j *judgement) judgeRatio(was, is *wireRow, l limits) {
	if was.ratios == nil && is.ratios == nil {
		return // neither was measured beside a floor, such as the service asked directly
	}
	f := j.add(is.key.String(), measureRatio)
	switch {
	case is.ratios == nil:
		j.invalidate(f, "no ratio in the result: its floor %q was not measured in the same run", was.floor)
		return
	case was.ratios == nil:
		f.Run = new(stats.Median(is.ratios))
		f.say(note, "the baseline has no ratio to compare with")
		return
	case was.floor != is.floor:
		f.say(fail, "a ratio to the floor %q, the baseline's is to %q: not comparable", is.floor, was.floor)
		return
	}
	before, after := stats.Median(was.ratios), stats.Median(is.ratios)
	f.compare(before, after)
	growth := after/before - 1
	f.Change = new(growth)
	if is.isFloor() {
		return // 1 by definition
	}
	if text := tooFew(len(was.ratios), len(is.ratios), l.significance); text != "" {
		f.say(fail, "%s", text)
		return
	}
	p := stats.Differ(was.ratios, is.ratios)
	f.P = &p
	switch shifted := math.Abs(growth) > l.ratio+rounding; {
	case growth < 0 && shifted && p < l.significance:
		f.say(note, "%.1f %% cheaper: lower the baseline", -100*growth)
	case growth < 0 || !shifted:
	case p < l.significance:
		f.say(fail, "%.3f times %s's CPU time, was %.3f: %.1f %% more, %.1f %% allowed", after, is.floor, before, 100*growth, 100*l.ratio)
	default:
		f.say(note, "%.1f %% more, but chance does as much (p = %.3f): measure more rounds", 100*growth, p)
	}
}

// chance is the smallest p that series of n and m values can have: that of one order of
// all those possible, and its mirror image.
func chance(n, m int) float64 {
	orders := 1.0 // whole after every step, so exact where it matters
	for i := 1; i <= m && !math.IsInf(orders, 1); i++ {
		orders = orders * float64(n+i) / float64(i)
	}
	return min(1, 2/orders)
}

// tooFew says what is needed when was and is rounds can never differ significantly, and
// nothing when they can.
func tooFew(was, is int, significance float64) string {
	if chance(was, is) < significance {
		return ""
	}
	both := 1
	for chance(both, both) >= significance {
		both++
	}
	text := fmt.Sprintf("%d rounds against the baseline's %d can never differ with p < %g: %d in each are needed", is, was, significance, both)
	for n := is + 1; n <= roundsMax; n++ {
		if chance(was, n) < significance {
			return text + fmt.Sprintf(", or %d against this baseline", n)
		}
	}
	return text
}

func total(calls map[string]float64) float64 {
	sum := 0.0
	for _, name := range slices.Sorted(maps.Keys(calls)) { // in one order: sums are compared
		sum += calls[name]
	}
	return sum
}

// judgeCalls compares system calls per request, all and by kind.
func (j *judgement) judgeCalls(was, is *wireRow) {
	if was.calls == nil && is.calls == nil {
		return
	}
	f := j.add(is.key.String(), measureCalls)
	switch {
	case is.calls == nil:
		f.say(note, "in the baseline, not traced in the result")
		return
	case was.calls == nil:
		f.Run = new(total(is.calls))
		f.say(note, "the baseline has no count to compare with")
		return
	}
	before, after := total(was.calls), total(is.calls)
	f.compare(before, after)
	grown := grownCalls(was.calls, is.calls)
	switch {
	case len(grown) > 0:
		f.say(fail, "%.2f calls per request, were %.2f: %s", after, before, strings.Join(grown, ", "))
	case after-before >= callsGrowth-rounding:
		f.say(fail, "%.2f calls per request, were %.2f, no kind of them by %g", after, before, callsGrowth)
	case before-after >= callsGrowth-rounding:
		f.say(note, "%.2f calls per request, were %.2f: lower the baseline", after, before)
	}
}

// grownCalls names the kinds that grew by enough to fail.
func grownCalls(was, is map[string]float64) []string {
	var grown []string
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if is[name]-was[name] >= callsGrowth-rounding {
			grown = append(grown, fmt.Sprintf("%s %.2f, was %.2f", name, is[name], was[name]))
		}
	}
	return grown
}
