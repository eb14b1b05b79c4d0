package limiter

import (
	"math"
	"sync/atomic"
)

// Concurrency counts by key what has begun and not yet ended, such as requests in
// flight. Safe for concurrent use. Must not be copied.
//
// The count is exact: a key's entry is never forgotten while it counts something,
// and is reused once it is back at 0. It needs no time.
type Concurrency struct {
	table
	refused atomic.Uint64
}

// NewConcurrency returns a table for at most keysMax keys with something in flight,
// rounded up to a multiple of 64.
func NewConcurrency(keysMax int) *Concurrency {
	c := &Concurrency{table: newTable(2, keysMax)}
	c.live = func(int64) span { return span{1, math.MaxInt64} } // the state is the count
	return c
}

// Enter reports whether fewer than limit of key are in flight, and counts one more
// if so: then Leave must follow once. A newcomer to a table full of others is
// refused as if he were at his limit, and counted by Refused.
func (c *Concurrency) Enter(key uint64, limit int64) bool {
	e, count, _ := c.lock(key, 0)
	if e == nil {
		c.refused.Add(1)
		return false
	}
	ok := count < limit && count < math.MaxInt32
	if ok {
		count++
	}
	unlock(e, count)
	return ok
}

// Leave takes back one Enter that was admitted.
func (c *Concurrency) Leave(key uint64) {
	e, count := c.seek(key)
	if e == nil || count == 0 {
		panic("BUG: limiter: Leave without Enter")
	}
	unlock(e, count-1)
}

// InFlight returns how many of key are in flight.
func (c *Concurrency) InFlight(key uint64) int64 {
	e, count := c.seek(key)
	if e != nil {
		unlock(e, count)
	}
	return count
}

// Len returns how many keys have something in flight.
func (c *Concurrency) Len() int {
	n := 0
	c.each(func(_ []uint64, count int64) {
		if count > 0 {
			n++
		}
	})
	return n
}

// Refused returns how many newcomers found the table full.
func (c *Concurrency) Refused() uint64 { return c.refused.Load() }
