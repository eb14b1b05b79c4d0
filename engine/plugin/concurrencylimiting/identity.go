package concurrencylimiting

import (
	"unsafe"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// identifier returns the function that names the caller, nil to count by address.
// What it returns is valid until the exchange ends and not to be kept.
func identifier(c *Config, group string) func(*pipeline.Exchange) string {
	switch c.LimitBy {
	case "consumer":
		return consumerID
	case "credential":
		return credentialID
	case "service":
		return serviceID
	case "header":
		return headerValue(c.HeaderName)
	case "path":
		return pathOnly(c.Path)
	case "consumer-group":
		return groupID(group)
	}
	return nil
}

func consumerID(x *pipeline.Exchange) string {
	if x.Consumer != nil {
		return x.Consumer.ID
	}
	return credentialID(x)
}

func credentialID(x *pipeline.Exchange) string {
	if x.Credential != nil {
		return x.Credential.ID
	}
	return ""
}

func serviceID(x *pipeline.Exchange) string {
	if x.Service != nil {
		return x.Service.ID
	}
	return ""
}

func headerValue(name string) func(*pipeline.Exchange) string {
	return func(x *pipeline.Exchange) string {
		return view(x.Ctx.Request.Header.Peek(name))
	}
}

func pathOnly(path string) func(*pipeline.Exchange) string {
	return func(x *pipeline.Exchange) string {
		if string(x.Path) == path {
			return path
		}
		return ""
	}
}

// groupID counts by the group the instance is bound to, else by the caller's
// first group by name.
func groupID(group string) func(*pipeline.Exchange) string {
	return func(x *pipeline.Exchange) string {
		if group != "" {
			return group
		}
		if x.Consumer != nil && len(x.Consumer.Groups) > 0 {
			return x.Consumer.Groups[0].ID
		}
		return ""
	}
}

// view is b as a string without a copy: hashed at once, never kept.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
