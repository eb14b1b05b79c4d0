package trial

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/engine/config"
)

// LeftOut is a route that no request was derived from, and why.
type LeftOut struct {
	Route  string `json:"route"`
	Reason string `json:"reason"`
}

// Derive returns one request for each route of d that needs nothing but a method, a host
// and a path, and says which it left out. At most as many as a profile may have; the
// status expected of each is the service's.
func Derive(d *config.Document) (requests []Request, left []LeftOut) {
	services := map[string]*config.Service{}
	for _, s := range d.Services {
		services[s.ID] = s
	}
	for _, r := range d.Routes {
		request, reason := requestOf(r)
		if reason == "" {
			reason = withoutService(services[r.Service])
		}
		if reason == "" {
			reason = inTheWay(d, r)
		}
		if reason == "" && len(requests) == requestsMax {
			reason = fmt.Sprintf("a profile may have %d requests", requestsMax)
		}
		if reason != "" {
			left = append(left, LeftOut{nameOf(r), reason})
			continue
		}
		requests = append(requests, request)
	}
	return requests, left
}

func nameOf(r *config.Route) string {
	if r.Name != "" {
		return r.Name
	}
	return r.ID
}

// requestOf returns the request that r's own conditions ask for, or why none can be told.
func requestOf(r *config.Route) (request Request, reason string) {
	request.SetDefaults()
	request.Name = nameOf(r)
	switch {
	case r.Expression != "":
		return request, "it matches by an expression"
	case len(r.Headers) > 0:
		return request, "it needs the header " + sortedHeaders(r.Headers)[0]
	case len(r.SNIs) > 0:
		return request, "it needs a TLS server name"
	case len(r.Sources)+len(r.Destinations) > 0:
		return request, "it matches by address"
	case !slices.Contains(r.Protocols, "http") && !slices.Contains(r.Protocols, "https"):
		return request, "it takes " + strings.Join(r.Protocols, ", ") + ", not http"
	}
	if len(r.Methods) > 0 && !slices.Contains(r.Methods, http.MethodGet) {
		request.Method = r.Methods[0]
	}
	if len(r.Hosts) > 0 {
		request.Host = strings.ReplaceAll(r.Hosts[0], "*", "example")
	}
	request.Path = "/"
	if len(r.Paths) > 0 {
		i := slices.IndexFunc(r.Paths, func(p string) bool { return !strings.HasPrefix(p, "~") })
		if i < 0 {
			return request, "its paths are regular expressions"
		}
		request.Path = r.Paths[i]
	}
	if request.Method == http.MethodConnect {
		return request, "its method is CONNECT"
	}
	return request, ""
}

func sortedHeaders(m map[string][]string) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func withoutService(s *config.Service) string {
	switch {
	case s == nil:
		return "it leads to no service"
	case s.Builtin:
		return "the gateway answers it itself"
	case !s.Enabled:
		return "its service is disabled"
	case !slices.Contains([]string{"http", "https"}, s.Protocol):
		return "its service speaks " + s.Protocol
	}
	return ""
}

// asking are the plugins that want something a route does not tell, or that refuse what
// is too much, and what to do about it.
var asking = map[string]string{
	"key-auth": credential, "key-auth-enc": credential, "basic-auth": credential, "hmac-auth": credential,
	"jwt": credential, "jwt-signer": credential, "oauth2": credential, "oauth2-introspection": credential,
	"openid-connect": credential, "ldap-auth": credential, "ldap-auth-advanced": credential,
	"mtls-auth": credential, "session": credential, "vault-auth": credential, "acl": credential,
	"rate-limiting": limited, "rate-limiting-advanced": limited, "response-ratelimiting": limited,
	"quota": limited, "concurrency-limiting": limited, "graphql-rate-limiting-advanced": limited,
	"request-termination": "answers instead of the service",
	"request-validator":   "wants a request that it finds valid",
	"ip-restriction":      "may refuse the generator's address",
}

const (
	credential = "asks for a credential"
	limited    = "refuses what is above its limit"
)

// inTheWay returns which plugin keeps a plain request to r from its service, "" for none.
func inTheWay(d *config.Document, r *config.Route) string {
	for _, p := range d.Plugins {
		why := asking[p.Name]
		if why == "" || !p.Enabled || p.Consumer != "" || p.ConsumerGroup != "" {
			continue
		}
		if (p.Route == "" || p.Route == r.ID) && (p.Service == "" || p.Service == r.Service) {
			return "plugin " + p.Name + " " + why
		}
	}
	return ""
}
