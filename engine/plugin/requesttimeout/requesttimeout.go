// Package requesttimeout is the request-timeout plugin: how long a whole request
// may take, whatever it is that takes so long. Kong has no such plugin.
//
//	plugins:
//	- name: request-timeout
//	  config:
//	    http_timeout: 5000
//	    stream_timeout: 30000
//
// Times are in milliseconds; 0 is off, and one of the two must be on.
//
// http_timeout counts from the end of the request's header to the last byte of the
// answer, over all attempts and the waits between them. When it is over before the
// service's response header came, the client gets 504 "The upstream server is
// timing out", and the target's health is told of a timeout. When it is over later,
// the client already has a status, so the connection is cut.
//
// stream_timeout holds instead of it for what has no natural end: WebSocket and
// other tunnels, server-sent events, streams of gRPC. It is the longest silence
// between two pieces, not a total. Without it the service's read_timeout says how
// long a stream may be silent.
//
// The timeouts of the service (connect_timeout, write_timeout, read_timeout, or those
// of upstream-timeout) go on bounding each step of each attempt; whichever is over
// first decides.
package requesttimeout

import (
	"time"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// Spec is the line this plugin adds to plugin.All.
var Spec = pipeline.Define("request-timeout", Config{}, build)

// timeout is one configured instance.
type timeout struct {
	total  int64 // nanoseconds, 0 for none
	silent time.Duration
}

func build(c Config, _ *pipeline.Env) (pipeline.Hooks, error) {
	t := &timeout{
		total:  int64(time.Duration(c.HTTPTimeout) * time.Millisecond),
		silent: time.Duration(c.StreamTimeout) * time.Millisecond,
	}
	return pipeline.Hooks{Request: t.request}, nil
}

// request is hot: it notes two numbers.
func (t *timeout) request(x *pipeline.Exchange) pipeline.Verdict {
	if t.total > 0 {
		x.Deadline = x.Start + t.total
	}
	x.StreamIdle = t.silent
	return pipeline.Next
}
