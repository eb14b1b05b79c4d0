package requesttimeout

import "github.com/sluice-gateway/sluice/engine/config"

// Config are the settings of request-timeout.
type Config struct {
	HTTPTimeout   int `json:"http_timeout" min:"0" max:"2147483646" doc:"Milliseconds from the end of the request's header to the last byte of the answer, over all attempts; 0 for no bound."`     // milliseconds
	StreamTimeout int `json:"stream_timeout" min:"0" max:"2147483646" doc:"Milliseconds a tunnel or an event stream may be silent, in place of http_timeout; 0 leaves the service's read_timeout."` // milliseconds
}

// Check reports what the fields' own rules cannot say.
func (c *Config) Check(r *config.Reporter) {
	if c.HTTPTimeout == 0 && c.StreamTimeout == 0 {
		r.Faultf("", "at least one of these fields must be greater than 0: 'http_timeout', 'stream_timeout' (milliseconds)")
	}
}
