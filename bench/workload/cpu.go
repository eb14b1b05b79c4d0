//go:build unix

package workload

import (
	"syscall"
	"testing"
)

// ReportCPU begins to count the process's CPU time, and what it returns reports the count
// as cpu-ns/op: what an operation costs its core. Unlike the time a parallel run takes it
// shows cores that wait for each other, and it holds on a busy machine.
func ReportCPU(b *testing.B) func() {
	before := cpuTime(b)
	return func() {
		b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
	}
}

func cpuTime(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
