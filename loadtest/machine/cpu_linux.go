package machine

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// AllowedCPUs are those that this process may run on, in order.
func AllowedCPUs() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("read CPU affinity: %w", err)
	}
	var cpus []int
	for cpu := range len(set) * strconv.IntSize {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}

// PinThread moves the calling thread, which must be locked to its goroutine, to cpus; none
// leave it where it is. A process that it starts meanwhile inherits that. release, called
// on the same thread, undoes it.
func PinThread(cpus []int) (release func() error, err error) {
	if len(cpus) == 0 {
		return func() error { return nil }, nil
	}
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return nil, fmt.Errorf("read CPU affinity: %w", err)
	}
	if err := pin(0, cpus); err != nil {
		return nil, err
	}
	return func() error { return unix.SchedSetaffinity(0, &before) }, nil
}

// PinProcess moves every thread of this process to cpus; threads that are created later
// inherit it.
func PinProcess(cpus []int) error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			return fmt.Errorf("/proc/self/task: %w", err)
		}
		if err := pin(tid, cpus); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// pin restricts a thread (0: the calling one) to cpus.
func pin(tid int, cpus []int) error {
	var set unix.CPUSet
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	if err := unix.SchedSetaffinity(tid, &set); err != nil {
		return fmt.Errorf("pin to CPUs %v: %w", cpus, err)
	}
	return nil
}

// BusyTime returns how long a CPU has been busy with anything, soft interrupts and what the
// hypervisor took included, in steps of 10 ms.
func BusyTime(cpu int) (time.Duration, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return parseBusy(string(text), cpu)
}

func parseBusy(text string, cpu int) (time.Duration, error) {
	const tick = 10 * time.Millisecond  // USER_HZ is 100 wherever Go runs on Linux
	const idle, ioWait, steal = 3, 4, 7 // user nice system idle iowait irq softirq steal
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "cpu"+strconv.Itoa(cpu) {
			continue
		}
		if len(fields) <= steal+1 {
			return 0, fmt.Errorf("/proc/stat: too few fields in %q", line)
		}
		var busy time.Duration
		for i, field := range fields[1 : steal+2] {
			n, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("/proc/stat: %w", err)
			}
			if i != idle && i != ioWait {
				busy += time.Duration(n) * tick
			}
		}
		return busy, nil
	}
	return 0, fmt.Errorf("/proc/stat: no CPU %d", cpu)
}
