package config

import (
	"encoding"
	"maps"
	"reflect"
	"slices"
)

// schemaDialect is the JSON Schema version of what Schema and DocumentSchema return.
const schemaDialect = "http://json-schema.org/draft-07/schema#"

// Schema is the JSON Schema (draft-07) of a settings struct, made from the tags Decode
// obeys. Defaults is the struct, or a pointer to it, holding its defaults. The result is
// plain data for any JSON encoder and belongs to the caller.
func Schema(defaults any) map[string]any {
	v := reflect.ValueOf(defaults)
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	s := schemer{}.structure(v, nil)
	s["$schema"] = schemaDialect
	return s
}

// DocumentSchema is the JSON Schema of a whole document in friendly reading. A catalog
// that has Defaults also describes the settings of its plugins.
func DocumentSchema(c Catalog) map[string]any {
	definitions := map[string]any{}
	properties := map[string]any{}
	for _, k := range kinds {
		definitions[k.list] = entitySchema(k)
		list := map[string]any{"type": "array", "items": map[string]any{"$ref": "#/definitions/" + k.list}}
		properties[k.list] = list
	}
	properties["gateway"] = schemer{}.structure(reflect.ValueOf(NewGateway()), nil)
	properties["_format_version"] = map[string]any{"type": "string", "enum": []string{"1.1", "2.1", "3.0"}}
	properties["_transform"] = map[string]any{"type": "boolean", "default": true}
	properties["_comment"] = map[string]any{"type": "string"}
	properties["_workspace"] = map[string]any{"type": "string"}
	for _, name := range []string{"_info", "_konnect", "_plugin_configs"} {
		properties[name] = map[string]any{"type": "object"}
	}
	properties["_ignore"] = map[string]any{}
	properties["consumer_group_plugins"] = properties["plugins"]
	if c != nil {
		plugin := definitions["plugins"].(map[string]any)
		plugin["allOf"] = pluginSchemas(c)
		names := slices.Sorted(slices.Values(c.Names()))
		plugin["properties"].(map[string]any)["name"] = map[string]any{"type": "string", "enum": names}
	}
	return map[string]any{
		"$schema": schemaDialect, "title": "Sluice document", "type": "object",
		"additionalProperties": false, "properties": properties, "definitions": definitions,
	}
}

// pluginSchemas tie a plugin's name to the schema of its settings.
func pluginSchemas(c Catalog) []any {
	provider, ok := c.(Defaults)
	if !ok {
		return []any{}
	}
	rules := []any{}
	for _, name := range slices.Sorted(slices.Values(c.Names())) {
		settings := provider.Defaults(name)
		if settings == nil {
			continue
		}
		s := Schema(settings)
		delete(s, "$schema")
		rules = append(rules, map[string]any{
			"if":   map[string]any{"properties": map[string]any{"name": map[string]any{"const": name}}, "required": []string{"name"}},
			"then": map[string]any{"properties": map[string]any{"config": s}},
		})
	}
	return rules
}

func entitySchema(k *kind) map[string]any {
	s := schemer{}.structure(reflect.ValueOf(k.make()).Elem(), k)
	properties := s["properties"].(map[string]any)
	for _, c := range k.children {
		list := map[string]any{"type": "array"}
		switch c.list {
		case "snis", "consumer_group_consumers":
			list["items"] = map[string]any{"type": []string{"string", "object"}}
		default:
			list["items"] = map[string]any{"$ref": "#/definitions/" + c.list}
		}
		properties[c.key] = list
	}
	switch k.list {
	case "services":
		properties["url"] = map[string]any{"type": "string", "description": "Shorthand for protocol, host, port and path."}
	case "plugins":
		properties["_config"] = map[string]any{"type": "string", "description": "Name of an entry in _plugin_configs."}
	}
	properties["_comment"] = map[string]any{"type": "string"}
	properties["_ignore"] = map[string]any{}
	return s
}

// schemer makes schemas. It holds the struct types being described, so that one which
// contains itself ends in a plain object.
type schemer map[reflect.Type]bool

// structure describes a struct. Of an entity, references are not required, since nesting
// and friendly reading can supply them.
func (w schemer) structure(v reflect.Value, k *kind) map[string]any {
	properties := map[string]any{}
	required := []string{}
	if w[v.Type()] {
		return map[string]any{"type": "object"}
	}
	w[v.Type()] = true
	defer delete(w, v.Type())
	s := shapeOf(v.Type())
	for i := range s.fields {
		f := &s.fields[i]
		fv := v.FieldByIndex(f.index)
		property := w.field(f, fv)
		properties[f.name] = property
		for _, a := range f.aliases {
			older := maps.Clone(property)
			older["deprecated"] = true
			delete(older, "default")
			properties[a] = older
		}
		if f.required && fv.IsZero() && (k == nil || f.ref == "") {
			required = append(required, f.name)
		}
	}
	out := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	for i := range s.fields {
		if s.fields[i].flat != "" {
			out["patternProperties"] = map[string]any{"^" + s.fields[i].flat: map[string]any{"deprecated": true}}
		}
	}
	if len(required) > 0 {
		out["required"] = required
	}
	return out
}

func (w schemer) field(f *field, v reflect.Value) map[string]any {
	s := w.typ(f, f.typ, v)
	if f.ref != "" {
		s = map[string]any{"type": []string{"string", "object", "null"}}
	}
	if f.doc != "" {
		s["description"] = f.doc
	}
	if f.secret {
		s["writeOnly"] = true
	}
	if d := (&dumper{options: DumpOptions{Secrets: true}}).value(v, v, f); d != nil && !v.IsZero() && f.ref == "" && f.typ.Kind() != reflect.Struct {
		s["default"] = d.Any()
	}
	return s
}

var (
	textType = reflect.TypeFor[encoding.TextUnmarshaler]()
	selfType = reflect.TypeFor[Unmarshaler]()
)

// typ describes a field's type; v may be invalid below lists and maps.
func (w schemer) typ(f *field, t reflect.Type, v reflect.Value) map[string]any {
	switch {
	case t == nodeType:
		return map[string]any{}
	case reflect.PointerTo(t).Implements(selfType):
		return map[string]any{"type": []string{"string", "integer", "boolean", "array", "null"}}
	case reflect.PointerTo(t).Implements(textType):
		return map[string]any{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		s := w.typ(f, t.Elem(), reflect.Value{})
		if name, ok := s["type"].(string); ok {
			s["type"] = []string{name, "null"}
		}
		return s
	case reflect.Struct:
		if !v.IsValid() {
			v = elementDefault(t)
		}
		return w.structure(v, nil)
	case reflect.Slice:
		element := *f
		element.lenMin = 0
		s := map[string]any{"type": "array", "items": w.typ(&element, t.Elem(), reflect.Value{})}
		if f.lenMin > 0 {
			s["minItems"] = f.lenMin
		}
		return s
	case reflect.Map:
		element := *f
		element.lenMin = 0
		s := map[string]any{"type": "object", "additionalProperties": w.typ(&element, t.Elem(), reflect.Value{})}
		if f.lenMin > 0 {
			s["minProperties"] = f.lenMin
		}
		return s
	case reflect.Interface:
		return map[string]any{}
	default:
		return scalarSchema(f, t)
	}
}

func scalarSchema(f *field, t reflect.Type) map[string]any {
	s := map[string]any{}
	switch t.Kind() {
	case reflect.String:
		s["type"] = "string"
		if f.lenMin > 0 {
			s["minLength"] = f.lenMin
		}
	case reflect.Bool:
		s["type"] = "boolean"
		return s
	case reflect.Float32, reflect.Float64:
		s["type"] = "number"
	default:
		s["type"] = "integer"
		if f.fraction {
			s["type"] = "number"
		}
	}
	if f.enum != nil {
		if t.Kind() == reflect.String {
			s["enum"] = f.enum
		} else {
			values := make([]any, len(f.enum))
			for i, e := range f.enum {
				values[i] = (&Node{Type: Int, Value: e}).Any()
			}
			s["enum"] = values
		}
	}
	for key, bound := range map[string]*float64{"minimum": f.min, "maximum": f.max, "exclusiveMinimum": f.gt} {
		if bound != nil {
			s[key] = *bound
		}
	}
	return s
}
