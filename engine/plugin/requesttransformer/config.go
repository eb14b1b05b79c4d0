package requesttransformer

import (
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/template"
	"github.com/sluice-gateway/sluice/engine/template/edit"
)

// Names are what to remove, by part of the request.
type Names struct {
	Headers     []string `json:"headers"`
	Querystring []string `json:"querystring"`
	Body        []string `json:"body"`
}

// Settings are "name:value" texts by part of the request.
type Settings struct {
	Headers     []edit.Setting `json:"headers" doc:"name:value, the value may hold templates."`
	Querystring []edit.Setting `json:"querystring" doc:"name:value, the value may hold templates."`
	Body        []edit.Setting `json:"body" doc:"name:value, the value may hold templates."`
}

// Typed are Settings whose body values may be other than strings.
type Typed struct {
	Settings
	JSONTypes []edit.Type `json:"json_types" doc:"Type of each body value by place: boolean, number or string."`
}

// Replacements are the settings of replace.
type Replacements struct {
	Settings
	URI edit.Text `json:"uri" doc:"Path sent to the service instead of the one derived from the route."`
}

// TypedReplacements are the settings of replace with types.
type TypedReplacements struct {
	Typed
	URI edit.Text `json:"uri" doc:"Path sent to the service instead of the one derived from the route."`
}

// Config is the configuration of request-transformer.
type Config struct {
	HTTPMethod string       `json:"http_method" doc:"Method sent to the service, upper case."`
	Remove     Names        `json:"remove"`
	Rename     Settings     `json:"rename"`
	Replace    Replacements `json:"replace"`
	Add        Settings     `json:"add"`
	Append     Settings     `json:"append"`
}

// Check implements config.Checker.
func (c *Config) Check(r *config.Reporter) { c.settings().check(r) }

func (c *Config) settings() *settings {
	return &settings{
		method: c.HTTPMethod, uri: c.Replace.URI, dotsInKeys: true,
		remove: c.Remove, rename: c.Rename,
		replace: Typed{Settings: c.Replace.Settings}, add: Typed{Settings: c.Add}, append: Typed{Settings: c.Append},
	}
}

// Allowed are the only parts of a body that pass.
type Allowed struct {
	Body []string `json:"body"`
}

// AdvancedConfig is the configuration of request-transformer-advanced.
type AdvancedConfig struct {
	HTTPMethod string            `json:"http_method" doc:"Method sent to the service, upper case."`
	Remove     Names             `json:"remove"`
	Rename     Settings          `json:"rename"`
	Replace    TypedReplacements `json:"replace"`
	Add        Typed             `json:"add"`
	Append     Typed             `json:"append"`
	Allow      Allowed           `json:"allow"`
	DotsInKeys bool              `json:"dots_in_keys" doc:"False: a.b, list[1] and list[*] are paths into JSON."`
}

// Check implements config.Checker.
func (c *AdvancedConfig) Check(r *config.Reporter) { c.settings().check(r) }

func (c *AdvancedConfig) settings() *settings {
	return &settings{
		method: c.HTTPMethod, uri: c.Replace.URI, dotsInKeys: c.DotsInKeys, allow: c.Allow.Body, jsonOnly: true,
		remove: c.Remove, rename: c.Rename, replace: c.Replace.Typed, add: c.Add, append: c.Append,
	}
}

// settings are either configuration.
type settings struct {
	method               string
	uri                  edit.Text
	dotsInKeys, jsonOnly bool
	allow                []string
	remove               Names
	rename               Settings
	replace, add, append Typed
}

func (s *settings) headers() edit.Lists {
	return edit.Lists{
		Remove: s.remove.Headers, Rename: s.rename.Headers, Replace: s.replace.Headers,
		Add: s.add.Headers, Append: s.append.Headers,
	}
}

func (s *settings) query() edit.Lists {
	return edit.Lists{
		Remove: s.remove.Querystring, Rename: s.rename.Querystring, Replace: s.replace.Querystring,
		Add: s.add.Querystring, Append: s.append.Querystring,
	}
}

func (s *settings) body() edit.Lists {
	return edit.Lists{
		Remove: s.remove.Body, Rename: s.rename.Body, Replace: s.replace.Body,
		Add: s.add.Body, Append: s.append.Body,
		ReplaceTypes: s.replace.JSONTypes, AddTypes: s.add.JSONTypes, AppendTypes: s.append.JSONTypes,
	}
}

func (s *settings) check(r *config.Reporter) {
	for i := range len(s.method) {
		if c := s.method[i]; c < 'A' || c > 'Z' {
			r.Faultf("http_method", "expected an upper-case method, got %q", s.method)
			break
		}
	}
	if t, err := template.Compile(string(s.uri)); err == nil && t.Mentions("?#") {
		r.Faultf("replace.uri", "a path cannot hold a query or fragment; use add.querystring")
	}
	headers, query, body := s.headers(), s.query(), s.body()
	headers.Check(r, "headers", edit.HeaderFault)
	headers.WarnHeaders(r, true)
	query.Check(r, "querystring", edit.NameFault)
	body.Check(r, "body", edit.PathFault(s.dotsInKeys))
}
