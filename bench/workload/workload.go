// Package workload is the work that benchmarks are given: keys as a gateway makes
// them, how often each is asked for, and the meter of what the work costs. The
// gateway's own benchmarks and those beside others (bench/rivals, a module of its
// own) take it from here, so that their figures are about the same thing. Only
// tests import it.
//
//	keys.go  keys of stored answers and of callers, Zipf's distribution
//	cpu.go   CPU time of an operation
//	once.go  every benchmark once, as a test
package workload

const (
	// Now is a Monday in 2026, in seconds since 1970.
	Now = 1795429800
	// NowMillis is Now in milliseconds.
	NowMillis = Now * 1000
)

const (
	// EntryTTL is how long an entry of a store lives, in milliseconds.
	EntryTTL = 3_600_000
	// EntryValueBytes is the size of an entry's value.
	EntryValueBytes = 1024
	// EntryBytesMax is more than any store takes for such an entry.
	EntryBytesMax = 1400
)
