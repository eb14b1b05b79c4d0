package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// sample is one measurement.
type sample struct {
	round   int // from 1
	subject string
	load    *load

	cpu    time.Duration // used by the subject during the load
	source string        // of cpu: schedstat or ticks
	own    float64       // share of its CPU the subject used, 0 to 1
	other  float64       // share used by anything else, soft interrupts and the hypervisor included
}

// cpuMicros is the CPU time per request in microseconds.
func (s *sample) cpuMicros() float64 {
	return s.cpu.Seconds() * 1e6 / float64(s.load.requests)
}

// measureRounds measures every subject once a round, every second round backwards,
// so that a drift of the machine meets all of them alike.
func measureRounds(ctx context.Context, l *lab) ([]*sample, error) {
	order := append(slices.Clone(l.o.subjects), direct)
	samples := make([]*sample, 0, len(order)*l.o.rounds)
	for round := 1; round <= l.o.rounds; round++ {
		for _, name := range order {
			s, err := measure(ctx, l, name)
			if err != nil {
				return nil, fmt.Errorf("round %d, %s: %w", round, name, err)
			}
			s.round = round
			samples = append(samples, s)
			fmt.Fprintf(os.Stderr, "round %d/%d  %-8s %8.0f requests/s  p99 %-8s", round, l.o.rounds, name, s.load.perSecond, s.load.p99)
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
		w, err := loadAndCheck(ctx, l, l.serviceURL(), l.o.seconds)
		return &sample{subject: direct, load: w, source: "none"}, err
	}
	r, err := startSubject(ctx, l, subjectNamed(name))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.process.stop()) }()
	if err := verify(ctx, l, r); err != nil {
		return nil, err
	}
	if _, err := loadAndCheck(ctx, l, r.url, l.o.warmUpSeconds); err != nil {
		return nil, r.process.explain(err)
	}
	s, err = measureRunning(ctx, l, r)
	if err != nil {
		return nil, r.process.explain(err)
	}
	return s, nil
}

// measureRunning brackets one load between two readings of the subject's CPU time.
func measureRunning(ctx context.Context, l *lab, r *running) (*sample, error) {
	before, beforeErr := readUsage(r.process.pid)
	busyBefore, busyErr := readBusy(l.o.subjectCPU)
	began := time.Now()
	if err := errors.Join(beforeErr, busyErr); err != nil {
		return nil, err
	}
	w, err := loadAndCheck(ctx, l, r.url, l.o.seconds)
	if err != nil {
		return nil, err
	}
	after, afterErr := readUsage(r.process.pid)
	busyAfter, busyErr := readBusy(l.o.subjectCPU)
	took := time.Since(began)
	if err := errors.Join(afterErr, busyErr); err != nil {
		return nil, err
	}
	cpu, source, err := used(before, after)
	if err != nil {
		return nil, err
	}
	busy := busyAfter - busyBefore
	return &sample{
		subject: r.name, load: w, cpu: cpu, source: source,
		own:   cpu.Seconds() / took.Seconds(),
		other: max(0, (busy-cpu).Seconds()/took.Seconds()),
	}, nil
}

func loadAndCheck(ctx context.Context, l *lab, url string, seconds int) (*load, error) {
	w, err := runWrk(ctx, l, url, seconds)
	if err == nil {
		err = w.check()
	}
	return w, err
}
