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
// # When Redis is away
//
// The first call that fails to reach Redis makes the client away, and from then on
// calls fail at once with ErrAway, those in the queue included. A background
// goroutine tries to connect, after 50 ms and then at twice the interval up to a
// second, one try at a time, and the client is there again when a try has been
// answered. No request is used to try. With a Cluster that holds for each 64th part
// of the slots on its own, tried by one call at a time, since one node may be gone
// while others serve.
//
// # What the operator sees
//
// The metrics start with sluice_redis_ (metrics.go), a change between there and away
// is logged with its reason, and Report tells the last one.
package redis
