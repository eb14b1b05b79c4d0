//go:build unix

package main

import (
	"os"
	"syscall"
)

// Signals of a running gateway. Kong and nginx: HUP reads the configuration
// again, USR1 opens log files again after a rotation.
var (
	signalReload os.Signal = syscall.SIGHUP
	signalReopen os.Signal = syscall.SIGUSR1
	signals                = []os.Signal{signalReload, signalReopen, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT}
)
