package requesttermination

import (
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// Config are the settings of request-termination.
type Config struct {
	StatusCode  int    `json:"status_code" min:"100" max:"599" doc:"Status of the answer."`
	Message     string `json:"message" len:"1" doc:"Text of a JSON answer."`
	Body        string `json:"body" len:"1" doc:"Answer as it is, instead of message."`
	ContentType string `json:"content_type" len:"1" doc:"Media type of body."`
	Echo        bool   `json:"echo" doc:"Answer with a dump of the request."`
	Trigger     string `json:"trigger" len:"1" doc:"Answer only requests with a header or query argument of this name."`
}

var defaults = Config{StatusCode: 503}

// Check reports what the fields' own rules cannot say. The texts are Kong's.
func (c *Config) Check(r *config.Reporter) {
	raw := c.ContentType != "" || c.Body != ""
	switch {
	case c.Message != "" && raw:
		r.Faultf("message", "message cannot be used with content_type or body")
	case c.ContentType != "" && c.Body == "":
		r.Faultf("content_type", "content_type requires a body")
	case c.Echo && raw:
		r.Faultf("echo", "echo cannot be used with content_type and body")
	}
	pipeline.CheckHeaderName(r, "trigger", c.Trigger)
}
