package record

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/template/edit"
)

// entity is `,"route":{...},"service":{...}` of one route.
type entity []byte

// standard are the fields a record has by itself.
var standard = []string{
	"request", "upstream_uri", "upstream_status", "response", "latencies", "tries", "authenticated_entity",
	"route", "service", "consumer", "client_ip", "started_at", "source", "workspace", "workspace_name", "correlation_id",
}

// New returns an Encoder for the document of env. fields are custom_fields_by_lua;
// see CheckFields for what is wrong with them.
func New(env *pipeline.Env, fields map[string]string) (*Encoder, error) {
	e := &Encoder{}
	e.entities = pipeline.Shared(env, "log record entities", func() []entity { return renderEntities(env.Document) })
	workspace := env.Document.Workspace
	if workspace == "" {
		workspace = "default"
	}
	e.tail = edit.AppendQuoted([]byte(`,"workspace":`), workspace)
	e.tail = edit.AppendQuoted(append(e.tail, `,"workspace_name":`...), workspace)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		source, err := compileLua(fields[name])
		if err != nil {
			return nil, &FieldError{name, err}
		}
		path := edit.DottedPath(name)
		c := custom{path: path, source: source}
		if top, ok := path.Top(); ok && !slices.Contains(standard, top) {
			c.key = append(edit.AppendQuoted([]byte{','}, top), ':')
			e.plain = append(e.plain, c)
		} else {
			e.edits = append(e.edits, c)
		}
	}
	return e, nil
}

// renderEntities renders the routes and services once for all requests.
func renderEntities(d *config.Document) []entity {
	services := make(map[string][]byte, len(d.Services))
	for _, s := range d.Services {
		services[s.ID] = renderEntity(s)
	}
	list := make([]entity, len(d.Routes))
	for i, r := range d.Routes {
		list[i] = append([]byte(`,"route":`), renderEntity(r)...)
		if s := services[r.Service]; s != nil {
			list[i] = append(append(list[i], `,"service":`...), s...)
		}
	}
	return list
}

// renderEntity is the JSON of a route or service as Kong logs it: without what is
// not set, references as objects.
func renderEntity(e any) []byte {
	text, err := json.Marshal(e)
	if err != nil {
		panic("BUG: entity that is not JSON: " + err.Error())
	}
	var members map[string]any
	if err := json.Unmarshal(text, &members); err != nil {
		panic("BUG: entity that is not an object: " + err.Error())
	}
	for name, value := range members {
		if value == nil || value == "" {
			delete(members, name)
		}
	}
	for _, name := range []string{"service", "client_certificate"} {
		if id, ok := members[name]; ok {
			members[name] = map[string]any{"id": id}
		}
	}
	// Encoded anew so that the text is ASCII, as the rest of the record.
	return appendAny(nil, members)
}

func appendAny(dst []byte, v any) []byte {
	switch v := v.(type) {
	case map[string]any:
		dst = append(dst, '{')
		for i, name := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(edit.AppendQuoted(dst, name), ':')
			dst = appendAny(dst, v[name])
		}
		return append(dst, '}')
	case []any:
		dst = append(dst, '[')
		for i := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendAny(dst, v[i])
		}
		return append(dst, ']')
	case string:
		return edit.AppendQuoted(dst, v)
	case bool:
		return strconv.AppendBool(dst, v)
	case float64:
		return strconv.AppendFloat(dst, v, 'f', -1, 64)
	}
	return append(dst, "null"...)
}

// appendIdentity writes who called and what was called.
func (e *Encoder) appendIdentity(dst []byte, x *pipeline.Exchange) []byte {
	if c := x.Credential; c != nil {
		dst = edit.AppendQuoted(append(dst, `,"authenticated_entity":{"id":`...), c.ID)
		if c.Consumer != nil {
			dst = edit.AppendQuoted(append(dst, `,"consumer_id":`...), c.Consumer.ID)
		}
		dst = append(dst, '}')
	}
	if x.RouteIndex >= 0 && x.RouteIndex < len(e.entities) {
		dst = append(dst, e.entities[x.RouteIndex]...)
	}
	if c := x.Consumer; c != nil && c.Consumer != nil {
		dst = edit.AppendQuoted(append(dst, `,"consumer":{"id":`...), c.ID)
		if c.Username != "" {
			dst = edit.AppendQuoted(append(dst, `,"username":`...), c.Username)
		}
		if c.CustomID != "" {
			dst = edit.AppendQuoted(append(dst, `,"custom_id":`...), c.CustomID)
		}
		dst = strconv.AppendInt(append(dst, `,"created_at":`...), c.CreatedAt, 10)
		dst = append(dst, '}')
	}
	return dst
}
