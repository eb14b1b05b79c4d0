package pipeline

import (
	"strings"

	"github.com/sluice-gateway/sluice/engine/config"
)

// headerNameChars are what Kong allows in the header names of a plugin's settings.
const headerNameChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"

// CheckHeaderName reports a header name in a plugin's settings that holds other
// characters than Kong allows there. An empty name is no fault.
func CheckHeaderName(r *config.Reporter, path, name string) {
	// Trim stops at the first foreign character from either side.
	if strings.Trim(name, headerNameChars) != "" {
		r.Faultf(path, "bad header name '%s', allowed characters are A-Z, a-z, 0-9, '_', and '-'", name)
	}
}
