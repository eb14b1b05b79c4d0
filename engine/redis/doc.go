// Package redis is how the gateway reaches a Redis: a single one, a master found by
// Sentinels, or a Cluster. Valkey and Dragonfly speak the same protocol.
//
//	client, err := redis.Use(env, config.Redis, "127.0.0.1")
//	...
//	counts := limiter.NewShared(client, env.Plugin.ID)
//
// # One client for each Redis
//
// Use returns the same Client to every plugin instance with the same settings and
// keeps it over a reload (pipeline.Keep). The key spells the settings out, with
// passwords hashed. Opening never waits: the gateway starts without its Redis.
//
// # A call
//
// A call is put in a bounded queue and answered by one of a few lanes, each of which
// has one connection and sends everything that waits as one pipeline. The caller
// waits for no longer than the least of the settings' read_timeout and his own
// deadline, whatever happens to the connection in the meantime. A call that is still
// in the queue when its caller leaves is not sent.
//
// # Values
//
// Get, Set, Delete and RunStrings carry values of up to ValueMax bytes. They have lanes
// and a queue of their own, so that a script of Run, which decides about a request,
// never waits behind a value: two more connections to a node, and one that is idle,
// made when the first value is asked for. Values do wait for each other: a pipeline of
// them ends before its lane begins the next. What it carries is bounded: 16 calls, and
// fewer where what they store and what they ask for, by the longest of the last
// answers, comes to ValueMax. What waits to be stored is bounded as well, by 64 MiB of
// a client, beyond which Set is ErrFull.
//
// A user of Redis' access control lists needs getrange, exists, get, set, unlink and
// ping for them, and evalsha and eval for scripts.
//
// # When Redis is away
//
// The first call that fails to reach Redis makes the client away, and from then on
// calls fail at once with ErrAway, those in the queue included. A background
// goroutine tries to connect, after 50 ms and then at twice the interval up to a
// second, one try at a time, and the client is there again when a try has been
// answered. No request is used to try. A connection that breaks under a value or is too
// slow for it proves nothing: Redis is asked for a sign of life first.
//
// With a Cluster that holds for each 64th part of the slots on its own, tried by one
// call at a time, since one node may be gone while others serve; and for scripts and
// values apart, so that a value that is too slow keeps back only values.
//
// # What the operator sees
//
// The metrics start with sluice_redis_ (metrics.go), a change between there and away
// is logged with its reason, and Report tells the last one.
package redis
