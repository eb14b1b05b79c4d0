package filelog

import (
	"maps"
	"slices"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/plugin/filelog/record"
)

// Config is the configuration of the plugin.
type Config struct {
	Path         string            `json:"path" required:"true" len:"1" doc:"File to append to; its directory must exist."`
	Reopen       bool              `json:"reopen" doc:"Open the file anew for each batch, for rotation without a signal."`
	CustomFields map[string]string `json:"custom_fields_by_lua" doc:"Field name to Lua; only simple return statements."`
}

// Check implements config.Checker.
func (c *Config) Check(r *config.Reporter) {
	for _, name := range slices.Sorted(maps.Keys(c.CustomFields)) {
		if err := record.CheckField(name, c.CustomFields[name]); err != nil {
			r.Faultf("custom_fields_by_lua."+name, "%v", err)
		}
	}
}
