package upstreamtimeout

import "github.com/sluice-gateway/sluice/engine/config"

// Config are the settings of upstream-timeout.
type Config struct {
	ConnectTimeout int `json:"connect_timeout" min:"0" max:"2147483646" doc:"Milliseconds to connect; 0 leaves the service's."`                   // milliseconds
	SendTimeout    int `json:"send_timeout" min:"0" max:"2147483646" doc:"Milliseconds between two successive sends; 0 leaves the service's."`    // milliseconds
	ReadTimeout    int `json:"read_timeout" min:"0" max:"2147483646" doc:"Milliseconds between two successive receipts; 0 leaves the service's."` // milliseconds
}

// Check reports what the fields' own rules cannot say.
func (c *Config) Check(r *config.Reporter) {
	if *c == (Config{}) {
		r.Faultf("", "at least one of these fields must be greater than 0: 'connect_timeout', 'send_timeout', 'read_timeout' (milliseconds)")
	}
}
