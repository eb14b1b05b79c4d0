// Package engine is the gateway: it carries requests from sockets to services
// and back, and configuration from a Document to what the requests walk.
//
//	listen.go      sockets, PROXY protocol, TLS, SNI
//	downstream/    a connection of a client becomes requests
//	serve.go       the journey of one request, in its order
//	arrive.go      what a request is: path, client address, framing
//	snapshot/      which route? router/ finds it
//	socket/        reading and writing with few system calls; framing/ writes chunks
//	pipeline/      the contract of hooks; plugin/ has them, template/ fills their $(...)
//	upstream/      who answers?
//	depart.go      what every answer gets, and the end of a request
//	engine.go      Open, Apply, Close: the one live pointer
//	reload.go      watch files, SIGHUP → Apply
package engine
