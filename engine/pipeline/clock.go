package pipeline

import (
	"sync/atomic"
	"time"
	"unsafe"
)

// process start: the zero of Now.
var epoch = time.Now()

// wallOffset is the wall clock of epoch in nanoseconds since 1970. SyncClock
// follows adjustments of the system's clock.
var wallOffset atomic.Int64

func init() { wallOffset.Store(epoch.UnixNano()) }

// Now returns monotonic nanoseconds since the process started: one read of the
// vDSO clock, about half the price of time.Now.
func Now() int64 { return int64(time.Since(epoch)) }

// WallMillis turns a Now value into milliseconds since 1970.
func WallMillis(now int64) int64 { return (wallOffset.Load() + now) / int64(time.Millisecond) }

// WallNanos turns a Now value into nanoseconds since 1970.
func WallNanos(now int64) int64 { return wallOffset.Load() + now }

// SyncClock takes over adjustments of the wall clock. The engine calls it about
// once a second; without it WallMillis only drifts with the monotonic clock.
func SyncClock() {
	now := time.Now()
	wallOffset.Store(now.UnixNano() - int64(now.Sub(epoch)))
}

// stringBytes views s as bytes that must not be written.
func stringBytes(s string) []byte {
	return unsafe.Slice(unsafe.StringData(s), len(s))
}
