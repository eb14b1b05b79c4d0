// Package rivals sets parts of the gateway beside others that do the same work: routers,
// rings, limiters and stores of responses. It is a module of its own, so that who builds
// the gateway never downloads them.
//
//	router_rivals_test.go   engine/router beside fasthttp/router, httprouter and chi
//	ring_rivals_test.go     lb's consistent hashing beside two rings
//	limiter_rivals_test.go  limiter beside token buckets and windows, one of them in Redis
//	store_rivals_test.go    cache beside four stores
//
// Each file says what is the same for all and what one of them does beside. A test makes
// sure that all of them give the same answers before anything is timed.
//
// A benchmark's name has the implementation as one of its parts, and ours begins with
// "ours", so that bench/compare finds the rows that belong together:
//
//	go run ./bench/compare -run . -package ./bench/rivals -by ours -bench RouterRivals
package rivals
