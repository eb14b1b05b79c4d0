package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/loadtest/machine"
)

// sample is one measurement.
type sample struct {
	round   int // from 1
	subject string
	load    *load

	cpu      time.Duration // used by the subject during the load
	source   string        // of cpu: schedstat or ticks
	own      float64       // share of its CPU the subject used, 0 to 1
	resident int64         // bytes of memory of all its processes at the end, shared pages shared out
	other    float64       // share used by anything else, soft interrupts and the hypervisor included
}

// cpuMicros is the CPU time per request in microseconds.
func (s *sample) cpuMicros() float64 {
	return s.cpu.Seconds() * 1e6 / float64(s.load.requests)
}

// measureRounds measures every subject once a round, every second round backwards,
// so that a drift of the machine meets all of them alike.
func measureRounds(ctx context.Context, l *lab) ([]*sample, error) {
	order := slices.Clone(l.o.subjects)
	if len(proxied.among(order)) > 0 {
		order = append(order, direct)
	}
	samples := make([]*sample, 0, len(order)*l.o.rounds)
	for round := 1; round <= l.o.rounds; round++ {
		for _, name := range order {
			if name != direct && round > l.o.roundsOf(mustRow(name).group) {
				continue
			}
			s, err := measure(ctx, l, name)
			if err != nil {
				return nil, fmt.Errorf("round %d, %s: %w", round, name, err)
			}
			s.round = round
			samples = append(samples, s)
			fmt.Fprintf(os.Stderr, "round %d/%d  %-16s %8.0f requests/s  p99 %-8s", round, l.o.rounds, name, s.load.perSecond, s.load.p99)
			if name != direct {
				fmt.Fprintf(os.Stderr, "  %6.2f us CPU/request", s.cpuMicros())
			}
			fmt.Fprintln(os.Stderr)
		}
		slices.Reverse(order)
	}
	return samples, nil
}

// measure starts, checks, warms, measures and stops one subject.
func measure(ctx context.Context, l *lab, name string) (s *sample, err error) {
	if name == direct {
		w, err := loadAndCheck(ctx, l, proxied, l.serviceURL(), l.o.seconds)
		return &sample{subject: direct, load: w, source: "none"}, err
	}
	r, err := startWarm(ctx, l, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.process.stop()) }()
	if r.group.fromMemory {
		s, err = measureUnasked(ctx, l, r)
	} else {
		s, err = measureRunning(ctx, l, r)
	}
	if err != nil {
		return nil, r.process.explain(err)
	}
	return s, nil
}

// measureUnasked measures, and refuses the figure if the service was asked meanwhile.
// The service says so itself: a cache's own word is not needed.
func measureUnasked(ctx context.Context, l *lab, r *running) (*sample, error) {
	before, err := l.served(ctx)
	if err != nil {
		return nil, err
	}
	s, err := measureRunning(ctx, l, r)
	if err != nil {
		return nil, err
	}
	after, err := l.served(ctx)
	if err != nil {
		return nil, err
	}
	if asked := after - before - 1; asked != 0 { // the second question counts itself
		return nil, fmt.Errorf("the service was asked %d times for %d answers that should be hits", asked, s.load.requests)
	}
	return s, nil
}

// measureRunning brackets one load between two readings of the subject's CPU time.
func measureRunning(ctx context.Context, l *lab, r *running) (*sample, error) {
	before, beforeErr := readUsage(r.process.pid)
	busyBefore, busyErr := machine.BusyTime(l.o.subjectCPU)
	began := time.Now()
	if err := errors.Join(beforeErr, busyErr); err != nil {
		return nil, err
	}
	w, err := l.loadProfiled(ctx, r)
	if err != nil {
		return nil, err
	}
	after, afterErr := readUsage(r.process.pid)
	busyAfter, busyErr := machine.BusyTime(l.o.subjectCPU)
	took := time.Since(began)
	if err := errors.Join(afterErr, busyErr); err != nil {
		return nil, err
	}
	cpu, source, err := used(before, after)
	if err != nil {
		return nil, err
	}
	busy := busyAfter - busyBefore
	resident, err := readResident(r.process.pid)
	if err != nil {
		return nil, err
	}
	return &sample{
		resident: resident,
		subject:  r.name, load: w, cpu: cpu, source: source,
		own:   cpu.Seconds() / took.Seconds(),
		other: max(0, (busy-cpu).Seconds()/took.Seconds()),
	}, nil
}

func loadAndCheck(ctx context.Context, l *lab, g *group, url string, seconds int) (*load, error) {
	w, err := runWrk(ctx, l, g, url, seconds)
	if err == nil {
		err = w.check(g.body())
	}
	return w, err
}
