//go:build !linux

package main

import "os/exec"

// startPinned starts c; only Linux is known to pin.
func startPinned(c *exec.Cmd, _ []int) error { return c.Start() }

// allowedCPUs are unknown here: nothing is pinned.
func allowedCPUs() ([]int, error) { return nil, nil }
