package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of utime and stime in /proc: USER_HZ is 100 on every Linux
// architecture that Go supports.
const tick = 10 * time.Millisecond

// usage is the CPU time used so far by a process and all its descendants.
type usage struct {
	tasks map[task]time.Duration // by thread, from schedstat: nanoseconds, running threads only
	ticks map[int]time.Duration  // by process, utime+stime: 10 ms steps, ended threads included
}

type task struct{ pid, tid int }

// readUsage reads the usage of the tree whose root is pid.
func readUsage(pid int) (*usage, error) {
	tree, err := processTree(pid)
	if err != nil {
		return nil, err
	}
	u := &usage{tasks: map[task]time.Duration{}, ticks: tree}
	for pid := range tree {
		dir := fmt.Sprintf("/proc/%d/task", pid)
		tids, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, t := range tids {
			tid, err := strconv.Atoi(t.Name())
			if err != nil {
				return nil, fmt.Errorf("%s: %w", dir, err)
			}
			text, err := os.ReadFile(filepath.Join(dir, t.Name(), "schedstat"))
			if errors.Is(err, fs.ErrNotExist) {
				continue // the thread ended, or the kernel has no schedstat: used falls back to ticks
			}
			if err != nil {
				return nil, err
			}
			ns, err := parseSchedstat(string(text))
			if err != nil {
				return nil, err
			}
			u.tasks[task{pid, tid}] = ns
		}
	}
	return u, nil
}

// used returns the CPU time between two readings and where it is from: "schedstat",
// or "ticks" when a thread ended in between and took its nanoseconds with it, or
// the kernel keeps none. A process that ended in between is an error.
func used(before, after *usage) (time.Duration, string, error) {
	var ticks, ns time.Duration
	for pid, t := range after.ticks {
		ticks += t - before.ticks[pid]
	}
	for pid := range before.ticks {
		if _, ok := after.ticks[pid]; !ok {
			return 0, "", fmt.Errorf("process %d ended during the measurement", pid)
		}
	}
	for t, d := range after.tasks {
		ns += d - before.tasks[t]
	}
	for t := range before.tasks {
		if _, ok := after.tasks[t]; !ok {
			return ticks, "ticks", nil
		}
	}
	if ns == 0 {
		return ticks, "ticks", nil
	}
	return ns, "schedstat", nil
}

// parseSchedstat reads the first field of a schedstat file: nanoseconds on the CPU.
func parseSchedstat(text string) (time.Duration, error) {
	fields := strings.Fields(text)
	if len(fields) != 3 {
		return 0, fmt.Errorf("schedstat: want 3 fields, got %q", text)
	}
	ns, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("schedstat: %w", err)
	}
	return time.Duration(ns), nil
}

// processTree returns utime+stime of the process root and of all its descendants.
func processTree(root int) (map[int]time.Duration, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := map[int][]int{}
	times := map[int]time.Duration{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue // not a process
		}
		text, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // ended since the listing
		}
		parent, cpu, err := parseStat(string(text))
		if err != nil {
			return nil, fmt.Errorf("process %d: %w", pid, err)
		}
		children[parent] = append(children[parent], pid)
		times[pid] = cpu
	}
	if _, ok := times[root]; !ok {
		return nil, fmt.Errorf("process %d: %w", root, errExited)
	}
	tree := map[int]time.Duration{}
	for queue := []int{root}; len(queue) > 0; queue = queue[1:] {
		tree[queue[0]] = times[queue[0]]
		queue = append(queue, children[queue[0]]...)
	}
	return tree, nil
}

// parseStat reads parent and utime+stime from a /proc/<pid>/stat line (proc(5)). The
// command's name may hold spaces and parentheses; the last ')' ends it.
func parseStat(text string) (parent int, cpu time.Duration, err error) {
	const parentField, utimeField, stimeField = 1, 11, 12 // counted after the name
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) <= stimeField {
		return 0, 0, fmt.Errorf("stat: too few fields in %q", text)
	}
	parent, err = strconv.Atoi(fields[parentField])
	if err != nil {
		return 0, 0, fmt.Errorf("stat: parent: %w", err)
	}
	for _, i := range []int{utimeField, stimeField} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("stat: time: %w", err)
		}
		cpu += time.Duration(n) * tick
	}
	return parent, cpu, nil
}
