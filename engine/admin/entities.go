package admin

import (
	"maps"
	"reflect"
	"strings"

	"github.com/sluice-gateway/sluice/engine/config"
)

// listNames are the lists of a document in Kong's spelling, by field of
// config.Document.
var listNames = map[string]string{
	"Services": "services", "Routes": "routes", "Upstreams": "upstreams", "Targets": "targets",
	"Consumers": "consumers", "ConsumerGroups": "consumer_groups", "ConsumerGroupMembers": "consumer_group_consumers",
	"Plugins": "plugins", "KeyAuthCredentials": "keyauth_credentials", "BasicAuthCredentials": "basicauth_credentials",
	"HMACAuthCredentials": "hmacauth_credentials", "JWTSecrets": "jwt_secrets", "OAuth2Credentials": "oauth2_credentials",
	"OAuth2Tokens": "oauth2_tokens", "ACLs": "acls", "MTLSAuthCredentials": "mtls_auth_credentials",
	"Certificates": "certificates", "SNIs": "snis", "CACertificates": "ca_certificates", "Vaults": "vaults",
	"Keys": "keys", "KeySets": "key_sets", "GraphQLSchemas": "graphql_schemas",
}

// singularOf is the name of one entity of a list, "" for what is no list of
// entities. Kong: entity_type in flattened errors.
func singularOf(list string) string {
	switch list {
	case "consumer_group_consumers", "groups":
		return "consumer_group_consumer"
	}
	for _, name := range listNames {
		if name == list {
			return strings.TrimSuffix(list, "s")
		}
	}
	return ""
}

// entities are all entities of d, by list and id. Kong: the answer to
// POST /config. Lists without entries are left out.
func entities(d *config.Document) map[string]map[string]any {
	all := map[string]map[string]any{}
	v := reflect.ValueOf(d).Elem()
	for i := range v.NumField() {
		name, ok := listNames[v.Type().Field(i).Name]
		if !ok {
			continue
		}
		byID := make(map[string]any, v.Field(i).Len())
		for j := range v.Field(i).Len() {
			e := v.Field(i).Index(j).Elem()
			if s, ok := reflect.TypeAssert[config.Service](e); ok && s.Builtin {
				continue // in no file: made for the routes that name it
			}
			byID[e.FieldByName("ID").String()] = record(e)
		}
		if len(byID) > 0 {
			all[name] = byID
		}
	}
	return all
}

// record is a struct of the document by the names of its tags. Kong: what is
// not set is null, and a reference is an object with the id.
func record(v reflect.Value) map[string]any {
	out := map[string]any{}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous {
			maps.Copy(out, record(v.Field(i)))
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		out[name] = plain(v.Field(i))
		if id, ok := out[name].(string); ok && f.Tag.Get("ref") != "" {
			out[name] = map[string]string{"id": id}
		}
		if (name == "created_at" || name == "updated_at") && v.Field(i).IsZero() {
			out[name] = nil
		}
	}
	return out
}

// plain is a value as encoding/json takes it.
func plain(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer:
		if n, ok := reflect.TypeAssert[*config.Node](v); ok {
			return n.Any()
		}
		if v.IsNil() {
			return nil
		}
		return plain(v.Elem())
	case reflect.Struct:
		return record(v)
	case reflect.String:
		if v.Len() == 0 {
			return nil
		}
		return v.String()
	case reflect.Slice:
		if v.Len() == 0 {
			return nil
		}
		list := make([]any, v.Len())
		for i := range list {
			list[i] = plain(v.Index(i))
		}
		return list
	case reflect.Map:
		if v.Len() == 0 {
			return nil
		}
	}
	return v.Interface()
}
