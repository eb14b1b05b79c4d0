package main

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"

	"github.com/sluice-gateway/sluice/loadtest/machine"
)

// startPinned starts c on those CPUs alone, on any if there are none.
func startPinned(c *exec.Cmd, cpus []int) error {
	// A process has the CPUs of the thread that starts it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	release, err := machine.PinThread(cpus)
	if err != nil {
		return fmt.Errorf("-cpus: %w", err)
	}
	return errors.Join(c.Start(), release())
}

// allowedCPUs are those that this process may use, in order.
func allowedCPUs() ([]int, error) { return machine.AllowedCPUs() }
