package keyauth

import (
	"fmt"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// Config are the settings of key-auth.
type Config struct {
	KeyNames        []string `json:"key_names" doc:"Names of the header, query argument or body field that may hold the key, tried in order."`
	KeyInHeader     bool     `json:"key_in_header" doc:"Look for the key in headers."`
	KeyInQuery      bool     `json:"key_in_query" doc:"Look for the key in the query string."`
	KeyInBody       bool     `json:"key_in_body" doc:"Look for the key in form, multipart and JSON bodies, which are then read before the request goes on."`
	HideCredentials bool     `json:"hide_credentials" doc:"Take the key out of the request before it goes on."`
	Anonymous       string   `json:"anonymous" len:"1" doc:"ID or username of the consumer that callers without a valid key become."`
	RunOnPreflight  bool     `json:"run_on_preflight" doc:"Ask OPTIONS requests for a key too."`
	Realm           string   `json:"realm" len:"1" doc:"Realm told to callers that are refused."`
}

var defaults = Config{KeyNames: []string{"apikey"}, KeyInHeader: true, KeyInQuery: true, RunOnPreflight: true}

// Check reports what the fields' own rules cannot say.
func (c *Config) Check(r *config.Reporter) {
	for i, name := range c.KeyNames {
		path := fmt.Sprintf("key_names[%d]", i)
		if name == "" {
			r.Faultf(path, "no header name provided")
		}
		pipeline.CheckHeaderName(r, path, name)
	}
	for i := range len(c.Realm) {
		if b := c.Realm[i]; b < ' ' || b == 0x7f || b == '"' || b == '\\' {
			r.Faultf("realm", "must hold no control characters, quotes or backslashes: it is sent inside quotes")
			return
		}
	}
}
