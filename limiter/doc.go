// Package limiter counts: how often was something done in the current second,
// minute, hour, day, month or year, and may it be done once more?
//
// Windows is a bounded table of counters, one entry a key, that admits exactly
// a given number of events per key and calendar window. The package knows
// neither HTTP nor the gateway: a key is a number, the time is an argument, and
// nothing here reads a clock, starts a goroutine or does I/O.
//
// # Windows are fixed and follow the UTC calendar
//
// A minute begins at second 0, a month on its first day. All limits of a table
// are checked first and counted after, under one lock, so an event is counted in
// every window or in none; a refused event is not counted (Kong: local policy of
// rate-limiting). Kong counts after the check and asynchronously, so that bursts
// overshoot there; here they do not.
//
// # Memory
//
// The table is sharded, open-addressed and free of pointers: the garbage
// collector does not scan it. An entry is one word for the key and two for each
// period; with the share of empty slots that is at most 60 bytes a key and window
// once a shard has left its smallest size. Shards start empty and double as keys arrive.
//
// # Cores
//
// A decision holds the lock of one shard for its two or three cache lines. Cores
// that work on different shards do not slow each other down; those that meet in
// one pass its line to and fro, which is what a shared, exact count costs.
//
// # Expiry and the bound
//
// Entries whose last window has passed are reused when a new key comes by, and
// left behind when a shard grows; there is no sweeper. When a shard has reached
// its bound and a new key finds no room, the least used of the keys in its reach
// is forgotten, and Take says so: the newcomer is always counted, the heavy user
// is not let off, and the one forgotten may get back at most what it had used.
package limiter
