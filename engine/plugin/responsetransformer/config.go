package responsetransformer

import (
	"errors"
	"strconv"
	"strings"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/template/edit"
)

// Names are what to remove.
type Names struct {
	Headers []string `json:"headers"`
	JSON    []string `json:"json"`
}

// Renames are old:new.
type Renames struct {
	Headers []edit.Setting `json:"headers" doc:"old:new."`
	JSON    []edit.Setting `json:"json" doc:"old:new."`
}

// Settings are "name:value" texts.
type Settings struct {
	Headers   []edit.Setting `json:"headers" doc:"name:value, the value may hold templates."`
	JSON      []edit.Setting `json:"json" doc:"name:value, the value may hold templates."`
	JSONTypes []edit.Type    `json:"json_types" doc:"Type of each JSON value by place: boolean, number or string."`
}

// Config is the configuration of response-transformer.
type Config struct {
	Remove  Names    `json:"remove"`
	Rename  Renames  `json:"rename"`
	Replace Settings `json:"replace"`
	Add     Settings `json:"add"`
	Append  Settings `json:"append"`
}

// Check implements config.Checker.
func (c *Config) Check(r *config.Reporter) { c.settings().check(r) }

func (c *Config) settings() *settings {
	return &settings{
		remove: c.Remove, rename: c.Rename, replace: c.Replace, add: c.Add, append: c.Append, dotsInKeys: true,
	}
}

// When limits an operation to answers of some status.
type When struct {
	IfStatus []Statuses `json:"if_status" doc:"Status codes and ranges: 200, 500-599. Empty: every status."`
}

// NamesWhen are Names for some answers.
type NamesWhen struct {
	Names
	When
}

// RenamesWhen are Renames for some answers.
type RenamesWhen struct {
	Renames
	When
}

// SettingsWhen are Settings for some answers.
type SettingsWhen struct {
	Settings
	When
}

// Replacements are the settings of replace.
type Replacements struct {
	SettingsWhen
	Body edit.Text `json:"body" doc:"The whole body."`
}

// Transform is what Kong does by Lua functions; there are none here.
type Transform struct {
	When
	Functions []string `json:"functions" doc:"Lua; refused."`
	JSON      []string `json:"json"`
}

// Allowed are the only parts of a body that pass.
type Allowed struct {
	JSON []string `json:"json"`
}

// AdvancedConfig is the configuration of response-transformer-advanced.
type AdvancedConfig struct {
	Remove     NamesWhen    `json:"remove"`
	Rename     RenamesWhen  `json:"rename"`
	Replace    Replacements `json:"replace"`
	Add        SettingsWhen `json:"add"`
	Append     SettingsWhen `json:"append"`
	Allow      Allowed      `json:"allow"`
	Transform  Transform    `json:"transform"`
	DotsInKeys bool         `json:"dots_in_keys" doc:"False: a.b, list[1] and list[*] are paths into JSON."`
}

// Check implements config.Checker.
func (c *AdvancedConfig) Check(r *config.Reporter) {
	if len(c.Transform.Functions) > 0 {
		r.Faultf("transform.functions", "Lua functions are not supported; use remove, rename, replace, add and append")
	}
	if len(c.Transform.JSON) > 0 {
		r.Warnf("transform.json", "ignored: it names members for transform.functions")
	}
	c.settings().check(r)
}

func (c *AdvancedConfig) settings() *settings {
	return &settings{
		remove: c.Remove.Names, rename: c.Rename.Renames, replace: c.Replace.Settings, add: c.Add.Settings,
		append: c.Append.Settings, allow: c.Allow.JSON, body: c.Replace.Body, dotsInKeys: c.DotsInKeys,
		when: [5][]Statuses{
			c.Remove.IfStatus, c.Rename.IfStatus, c.Replace.IfStatus, c.Add.IfStatus, c.Append.IfStatus,
		},
	}
}

// settings are either configuration.
type settings struct {
	remove               Names
	rename               Renames
	replace, add, append Settings
	allow                []string
	body                 edit.Text
	dotsInKeys           bool
	when                 [5][]Statuses // by operation, in their order
}

func (s *settings) headers() edit.Lists {
	return edit.Lists{
		Remove: s.remove.Headers, Rename: s.rename.Headers, Replace: s.replace.Headers,
		Add: s.add.Headers, Append: s.append.Headers,
	}
}

func (s *settings) json() edit.Lists {
	return edit.Lists{
		Remove: s.remove.JSON, Rename: s.rename.JSON, Replace: s.replace.JSON, Add: s.add.JSON, Append: s.append.JSON,
		ReplaceTypes: s.replace.JSONTypes, AddTypes: s.add.JSONTypes, AppendTypes: s.append.JSONTypes,
	}
}

func (s *settings) check(r *config.Reporter) {
	headers, json := s.headers(), s.json()
	headers.Check(r, "headers", edit.HeaderFault)
	headers.WarnHeaders(r, false)
	json.Check(r, "json", edit.PathFault(s.dotsInKeys))
}

// Statuses is a status code or an inclusive range of them.
type Statuses struct{ First, Last int }

// UnmarshalNode implements config.Unmarshaler: 404, "404" or "400-499".
func (s *Statuses) UnmarshalNode(n *config.Node) error {
	first, last, isRange := strings.Cut(n.Value, "-")
	if !isRange {
		last = first
	}
	var errFirst, errLast error
	s.First, errFirst = strconv.Atoi(strings.TrimSpace(first))
	s.Last, errLast = strconv.Atoi(strings.TrimSpace(last))
	if n.Kind != config.Scalar || errFirst != nil || errLast != nil || s.First < 100 || s.Last > 999 || s.First > s.Last {
		return errors.New("invalid value: " + strconv.Quote(n.Value) + ": expected a status code or a range such as 500-599")
	}
	return nil
}
