// Package upstream is how a Service is reached: it picks a target, finds or
// makes a connection, sends the request with the headers a proxy owes, reads
// the answer and turns what goes wrong into Kong's replies.
//
//	open.go      a service of the document becomes a Service: targets, pools, TLS
//	service.go   Service and Forward: attempts, deadlines
//	request.go   the request head as it goes out: hop-by-hop and forwarding fields
//	path.go      the path as it goes out
//	conn.go      one connection: send, wait, receive
//	pool.go      idle connections of one target, newest first
//	response.go  the answer: buffered when small, streamed otherwise
//	fault.go     what went wrong, whose fault it is, which reply it makes, how often
package upstream
