package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Durations around a traced load.
const (
	tracedSeconds = 2
	attachLimit   = 10 * time.Second
	detachLimit   = 10 * time.Second
)

// callCount is how often one system call was made.
type callCount struct {
	name  string
	calls int64
}

// traced is one subject's system calls under load.
type traced struct {
	subject  string
	requests int64
	calls    []callCount // most frequent first
}

// countSyscalls traces every subject in a run of its own if the flags ask for it:
// tracing slows the subject many times, so none of this is timed.
func countSyscalls(ctx context.Context, l *lab) ([]*traced, error) {
	if !l.o.syscalls {
		return nil, nil
	}
	all := make([]*traced, 0, len(l.o.subjects))
	for _, name := range l.o.subjects {
		if mustRow(name).group.brief {
			continue // the calls are those of the same subject above
		}
		t, err := trace(ctx, l, name)
		if err != nil {
			return nil, fmt.Errorf("system calls of %s: %w", name, err)
		}
		all = append(all, t)
	}
	return all, nil
}

// trace starts a subject, warms it up, and counts its calls during one load.
func trace(ctx context.Context, l *lab, name string) (t *traced, err error) {
	r, err := startWarm(ctx, l, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.process.stop()) }()
	summary := filepath.Join(l.dir, strings.ReplaceAll(name, "/", "-")+".strace")
	tracer, err := attach(ctx, l, r.process.pid, summary)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tracer.stop()) }()
	w, err := loadAndCheck(ctx, l, r.group, r.url, tracedSeconds)
	if err != nil {
		return nil, r.process.explain(err)
	}
	// strace ends itself with the signal it got, so only the summary tells success.
	if err := syscall.Kill(tracer.pid, syscall.SIGINT); err != nil {
		return nil, tracer.fault(err)
	}
	select {
	case <-tracer.exited:
	case <-time.After(detachLimit):
		return nil, fmt.Errorf("strace did not detach within %s", detachLimit)
	}
	text, err := os.ReadFile(summary)
	if err != nil {
		return nil, tracer.fault(err)
	}
	calls, err := parseStrace(string(text))
	return &traced{subject: name, requests: w.requests, calls: calls}, err
}

// attach starts strace on a process and its descendants and waits until it holds all of them.
func attach(ctx context.Context, l *lab, pid int, summary string) (*process, error) {
	tree, err := processTree(pid)
	if err != nil {
		return nil, err
	}
	args := []string{l.found[straceTool], "-c", "-f", "-o", summary}
	for p := range tree {
		args = append(args, "-p", strconv.Itoa(p))
	}
	tracer, err := start(l.dir, &program{name: "strace", args: args, cpus: l.o.loadCPUs})
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(attachLimit)
	for {
		log, err := os.ReadFile(tracer.logPath)
		switch {
		case err == nil && strings.Count(string(log), " attached") >= len(tree):
			return tracer, nil
		case err == nil:
			err = tracer.alive()
		}
		if err == nil && time.Now().After(deadline) {
			err = tracer.fault(fmt.Errorf("not attached after %s", attachLimit))
		}
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return nil, errors.Join(err, tracer.stop())
		}
		time.Sleep(pollPeriod)
	}
}

// parseStrace reads the summary table of strace -c: share, seconds, usecs/call,
// calls, errors (left blank when none), name.
func parseStrace(text string) ([]callCount, error) {
	const callsColumn = 3
	var calls []callCount
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 5 || len(fields) > 6 || fields[0] == "%" || strings.HasPrefix(fields[0], "--") {
			continue
		}
		n, err := strconv.ParseInt(fields[callsColumn], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("strace: bad line %q", line)
		}
		name := fields[len(fields)-1]
		if name != "total" {
			calls = append(calls, callCount{name, n})
			continue
		}
		slices.SortStableFunc(calls, func(a, b callCount) int { return cmp.Compare(b.calls, a.calls) })
		return calls, nil
	}
	return nil, fmt.Errorf("strace: no total in its summary:\n%s", text)
}
