//go:build !unix

package main

import (
	"os"
	"syscall"
)

// Signals of a running gateway: where nothing but an interrupt exists, reloads
// are asked for through the Admin listener.
var (
	signalReload os.Signal
	signalReopen os.Signal
	signals      = []os.Signal{os.Interrupt, syscall.SIGTERM}
)
