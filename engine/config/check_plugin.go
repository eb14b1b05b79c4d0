package config

import (
	"fmt"
	"slices"
	"strings"
)

// neverPerConsumer are the plugins that run before the consumer is known, or establish
// it, so that a consumer cannot select them (Kong: value must be null).
var neverPerConsumer = []string{
	"key-auth", "key-auth-enc", "basic-auth", "hmac-auth", "jwt", "oauth2", "oauth2-introspection", "openid-connect", "mtls-auth",
	"ldap-auth", "ldap-auth-advanced", "saml", "header-cert-auth", "acl", "cors", "bot-detection", "session",
}

func (c checker) plugin(p *Plugin) {
	if slices.Contains(neverPerConsumer, p.Name) {
		if p.Consumer != "" {
			c.fault("consumer", "value must be null")
		}
		if p.ConsumerGroup != "" {
			c.fault("consumer_group", "value must be null")
		}
	}
	if p.Consumer != "" && p.ConsumerGroup != "" {
		c.fault("consumer_group", "consumer and consumer_group exclude each other")
	}
	if !p.Config.IsNull() && p.Config.Kind != Map && !p.Config.isEmptyList() {
		c.fault("config", "expected a record")
		return
	}
	if !c.it.gone && !c.it.failed {
		c.sameScope(p)
	}
	c.settings(p)
}

// settings asks the catalog about the name and the config of a plugin.
func (c checker) settings(p *Plugin) {
	catalog := c.r.options.Catalog
	if catalog == nil || p.Name == "" {
		return
	}
	switch {
	case catalog.Built(p.Name):
		for _, f := range catalog.Check(p) {
			if f.Line == 0 {
				where := c.it.node.nearest("config")
				f.at(where.file, where.Line, where.Col)
			}
			f.Path = c.it.path() + ": " + joinPath("config", f.Path)
			c.r.fault(f)
		}
	case slices.Contains(catalog.Names(), p.Name):
		c.fault("name", "plugin %q is not built yet", p.Name)
	default:
		f := c.it.node.nearest("name").fault(c.it.path()+": name", fmt.Sprintf("unknown plugin %q", p.Name))
		f.Near = Nearest(p.Name, catalog.Names())
		c.r.fault(f)
	}
}

// sameScope finds a second instance of a plugin at one scope. Kong has one; friendly
// reading keeps all, and all apply, in the order written.
func (c checker) sameScope(p *Plugin) {
	key := strings.Join([]string{p.Name, p.Service, p.Route, p.Consumer, p.ConsumerGroup}, "\x00")
	if p.InstanceName != "" {
		c.instanceName(p)
	}
	ix := c.r.index[c.it.kind]
	first := ix.byKey[key]
	if first == nil {
		ix.byKey[key] = c.it
		return
	}
	if c.r.options.Strict {
		c.fault("name", "uniqueness violation: 'plugins' entity with name set to '%s' already declared for this scope %s", p.Name, first.where(c.it))
		return
	}
	c.warn("name", "second instance for this scope, first %s; both apply", first.where(c.it))
}

func (c checker) instanceName(p *Plugin) {
	ix := c.r.index[c.it.kind]
	key := "instance\x00" + p.InstanceName
	if first := ix.byKey[key]; first != nil {
		c.fault("instance_name", "uniqueness violation: 'plugins' entity with instance_name set to '%s' already declared %s", p.InstanceName, first.where(c.it))
		return
	}
	ix.byKey[key] = c.it
}

// answering are plugins that answer requests themselves, so that their route needs no
// service.
var answering = []string{
	"request-termination", "mocking", "aws-lambda", "azure-functions", "redirect", "forward-proxy",
	"upstream-health-check", "degraphql", "graphql-proxy-cache-advanced", "request-callout", "pre-function",
}

// checkWhole looks at what only the whole document shows.
func (r *reader) checkWhole() {
	r.failover()
	answered := map[string]bool{}
	graphQL := false
	for _, it := range r.items {
		if p, ok := it.entity.(*Plugin); ok && !it.gone && p.Enabled && slices.Contains(answering, p.Name) {
			answered[p.Route] = true // "" for all routes
		}
		if _, ok := it.entity.(*GraphQLSchema); ok {
			graphQL = true
		}
	}
	for _, it := range r.items {
		e, ok := it.entity.(*Route)
		if !ok || it.gone || e.Service != "" || answered[e.ID] || answered[""] || graphQL || !it.node.Get("service").IsNull() {
			continue
		}
		r.warn(it.node.fault(it.path()+": service", "missing, and no plugin answers instead: requests get 503"))
	}
}
