// Package downstream turns the connections of clients into requests.
//
// There are two lanes into the same pipeline. The fast lane serves what nearly
// all traffic is: HTTP/1.1 over plain TCP, keep-alive, a request that arrives
// whole. It waits before it reads, so a request costs one receive and one send.
// Whatever it does not handle (TLS, HTTP/1.0, chunked or large request bodies,
// Expect, Upgrade, requests that arrive in pieces) it hands over, with the bytes
// it has read, to fasthttp's server, for the rest of the connection.
//
//	server.go    listeners, both lanes, idle connections, drain
//	lane.go      the fast lane
//	response.go  how the fast lane writes an answer
//	framing.go   what a header block must look like to be passed on
//	peer.go      who is at the other end
package downstream
