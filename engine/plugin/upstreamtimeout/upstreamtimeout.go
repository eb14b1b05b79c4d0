// Package upstreamtimeout is the upstream-timeout plugin (Kong: Enterprise): other
// timeouts than the service's own, for some of its routes or callers.
//
//	plugins:
//	- name: upstream-timeout
//	  route: reports
//	  config:
//	    read_timeout: 120000
//
// connect_timeout, send_timeout and read_timeout take the place of the service's
// connect_timeout, write_timeout and read_timeout, in milliseconds. One that is
// absent or 0 leaves the service's; one at least must be given.
//
// Each bounds one step of one attempt: to connect, between two sends, between two
// receipts. The whole of a request is bounded by request-timeout.
package upstreamtimeout

import (
	"time"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// Spec is the line this plugin adds to plugin.All.
var Spec = pipeline.Define("upstream-timeout", Config{}, build)

// override is one configured instance.
type override struct {
	timeouts pipeline.Timeouts
}

func build(c Config, _ *pipeline.Env) (pipeline.Hooks, error) {
	o := &override{pipeline.Timeouts{
		Connect: time.Duration(c.ConnectTimeout) * time.Millisecond,
		Write:   time.Duration(c.SendTimeout) * time.Millisecond,
		Read:    time.Duration(c.ReadTimeout) * time.Millisecond,
	}}
	return pipeline.Hooks{Request: o.request}, nil
}

// request is hot: it hands over what was prepared at load.
func (o *override) request(x *pipeline.Exchange) pipeline.Verdict {
	x.Timeouts = &o.timeouts
	return pipeline.Next
}
