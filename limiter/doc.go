// Package limiter counts: how often was something done in the current second,
// minute, hour, day, month or year, or in the last so many seconds, and may it be
// done once more?
//
//	Windows      calendar windows of UTC, for rate limits by second to year
//	Sliding      windows of any number of seconds, fixed or sliding
//	Quotas       calendar periods in any time zone or from the first use on, whose
//	             counts can be written down and read back
//	Concurrency  what is in flight now, by key
//	Gradient     how much may be in flight, found out by watching the latency
//
// All admit exactly what their limit says, also under concurrency. The package knows
// neither HTTP nor the gateway: a key is a number, the time is an argument, and
// nothing here reads a clock, starts a goroutine or does I/O; the redis files are
// handed what does.
//
// # All or nothing
//
// All limits of a table are checked first and counted after, under one lock, so an
// event is counted in every window or in none; a refused event is not counted (Kong:
// local policy of rate-limiting), but in a Sliding with a penalty. Kong counts after
// the check and asynchronously, so that bursts overshoot there; here they do not.
//
// # Memory
//
// Windows, Sliding, Quotas and Concurrency share one table: sharded, open-addressed
// and free of pointers, so that the garbage collector does not scan it. An entry is a
// word for the key, one for the time of its last use and one for each count, and
// between a half and three quarters of the slots are used: at most 48 bytes a key
// for one calendar window, 64 for one sliding window. Shards start empty and grow by
// half as keys arrive.
//
// # Cores
//
// A decision finds its entry without a lock and locks that entry alone, in the cache
// line that it counts in. Cores that work on different keys do not slow each other
// down; those that meet in one pass its line to and fro, which is what a shared,
// exact count costs.
//
// # Expiry and the bound
//
// Entries whose last window has passed are reused when a new key comes by, and
// left behind when a shard grows; there is no sweeper. When a shard has reached
// its bound and a new key finds no room, the least used of the keys in its reach
// is forgotten, and Take says so: the newcomer is always counted, the heavy user
// is not let off, and the one forgotten may get back at most what it had used.
// Concurrency never forgets what is in flight; it refuses newcomers instead.
package limiter
