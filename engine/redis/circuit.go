package redis

import (
	"sync"
	"time"
)

const (
	// waitMin and waitMax bound the time between two tries to reach a Redis that
	// is away; it doubles from one to the other.
	waitMin = 50 * time.Millisecond
	waitMax = time.Second
)

// longer returns the wait after one more try in vain.
func longer(wait time.Duration) time.Duration { return min(max(2*wait, waitMin), waitMax) }

// circuit keeps calls from a part of a cluster that does not answer. After a failure
// none is let through for a while, then one at a time to try. Safe for concurrent use.
type circuit struct {
	mu    sync.Mutex
	until time.Time // zero: closed, all calls pass
	wait  time.Duration
	tried bool // one is under way
}

// allow reports whether a call may pass, and whether it is the one that tries. Who
// tries must settle.
func (c *circuit) allow(now time.Time) (ok, trial bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.until.IsZero():
		return true, false
	case c.tried || now.Before(c.until):
		return false, false
	}
	c.tried = true
	return true, true
}

// settle takes in how a call went: whether it was answered, or failed to reach Redis.
// One that was never sent is neither.
func (c *circuit) settle(now time.Time, trial, answered, gone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if trial {
		c.tried = false
	}
	switch {
	case gone && (trial || c.until.IsZero()):
		c.wait = longer(c.wait)
		c.until = now.Add(c.wait)
	case answered:
		c.until, c.wait = time.Time{}, 0
	}
}

// open reports whether calls are being kept back.
func (c *circuit) open() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.until.IsZero()
}
