// Package upstream is how a Service is reached: it picks a target, finds or
// makes a connection, sends the request with the headers a proxy owes, reads
// the answer and turns what goes wrong into Kong's replies.
//
// What a snapshot opens, and what outlives it:
//
//	open.go      a service of the document becomes a Service
//	tls.go       how it is spoken to by TLS
//	group.go     an upstream with its settings: the addresses its targets have now
//	roster.go    what is known of the addresses of one upstream, over all reloads
//	address.go   one address: its state, its connections
//	pool.go      kept connections of one address and identity, newest first
//	fleet.go     all of it, for those who look at health or change it by hand
//
// One request, top down:
//
//	service.go   Forward: attempts, which target next
//	guard.go     the service's own circuit and limits; what a refusal answers
//	gate.go      limits, and the line before them
//	hash.go      what consistent hashing hashes
//	retry.go     may it be sent again, and when
//	attempt.go   one attempt: connect, send, read the header
//	request.go   the request head as it goes out: hop-by-hop and forwarding fields
//	path.go      the path as it goes out
//	stream.go    a body that is sent while the answer is read
//	conn.go      one connection: send, wait, receive
//	response.go  the answer: buffered when small, streamed otherwise
//	hop.go       fields that belong to the connection to the service
//	upgrade.go   a connection that changes its protocol
//
// Health:
//
//	health.go    what a status or a fault means for a target
//	probe.go     active checks
//	fault.go     what went wrong, whose fault it is, which reply it makes
//	meters.go    how often
package upstream
