package correlationid

import (
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// Config are the settings of correlation-id.
type Config struct {
	HeaderName     string `json:"header_name" len:"1" doc:"Header that carries the id."`
	Generator      string `json:"generator" enum:"uuid,uuid#counter,tracker" doc:"How an id is made for a request without one."`
	EchoDownstream bool   `json:"echo_downstream" doc:"Send the header to the client too."`
}

var defaults = Config{HeaderName: "Kong-Request-ID", Generator: "uuid#counter"}

// Check reports what the fields' own rules cannot say.
func (c *Config) Check(r *config.Reporter) {
	pipeline.CheckHeaderName(r, "header_name", c.HeaderName)
}
