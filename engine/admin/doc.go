// Package admin is the gateway's control API over HTTP, on two listeners.
//
// The status listener only tells: GET /status, /status/ready, /status/upstreams,
// /status/canaries, /upstreams/x/health and /metrics. It is safe to let a load balancer
// and a metrics collector reach it.
//
// The Admin listener also acts: POST /config replaces the whole document as Kong
// does without a database, GET /status/quotas names who has used how much, POST
// /reload reads the operator's files again, PUT /upstreams/x/targets/y/unhealthy takes
// a target out by hand, POST /cache/purge takes kept answers back, and /debug/pprof
// profiles the process. It answers with secrets and has no password: it belongs on
// loopback, where guard.go keeps browsers out.
//
//	admin.go    the two servers, their routes, 404 and 405
//	guard.go    what the Admin listener refuses to hear
//	status.go   what is told: /, /status, /status/ready, /metrics
//	operate.go  what is done: /config, /reload
//	health.go   health of upstreams, told and changed
//	caches.go   kept answers, shown and purged
//	faults.go   faults of a document in Kong's shape
//	profile.go  /debug/pprof
//	priority.go priorities of plugins as GET / tells them
//	entities.go entities of a document in Kong's shape
//
// Paths, bodies and codes are Kong's where Kong has them; what is ours is said
// so. The gateway behind it is three small interfaces, so this package knows
// documents and nothing of the engine.
package admin
