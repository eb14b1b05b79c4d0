package proxycache

import (
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
)

func read(name, settings string) (*config.Document, error) {
	return config.Read([]config.Source{{Name: "test.yaml", Data: []byte(document(name, settings))}},
		config.Options{Catalog: &pipeline.Specs{All: []pipeline.Spec{Advanced, Spec}}})
}

func document(name, settings string) string {
	return `_format_version: "3.0"
services: [{name: a, url: "http://a", routes: [{name: r, paths: [/]}]}]
plugins:
- {name: ` + name + `, config: {` + settings + `}}
`
}

func TestSettingsRefused(t *testing.T) {
	f := func(settings, want string) {
		t.Helper()
		for _, plugin := range []string{name, nameAdvanced} {
			if _, err := read(plugin, settings); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s {%s}:\n got %v\nwant %s", plugin, settings, err, want)
			}
		}
	}
	f("strategy: disk", "strategy: expected one of: memory, redis")
	f("cache_ttl: 0", "cache_ttl: value must be greater than 0")
	f("cache_ttl: -1", "cache_ttl: value must be greater than 0")
	f("storage_ttl: 0", "storage_ttl: value must be greater than 0")
	f("response_code: []", "response_code: length must be at least 1")
	f("response_code: [99]", "response_code[0]: value should be between 100 and 900")
	f("request_method: [DELETE]", "request_method[0]: expected one of: HEAD, GET, POST, PATCH, PUT")
	f("content_type: []", "content_type: length must be at least 1")
	f("vary_headers: ['a b']", "bad header name 'a b'")
	f("memory: {dictionary_name: ''}", "memory.dictionary_name: length must be at least 1")
	f("memory: {size: 12}", "memory.size: value should be at least 1m")
	f("memory: {size: 8m, max_object_size: 4m}", "memory.max_object_size: value should be at most a quarter of memory.size")
	f("memory: {sise: 8m}", "unknown field")
	f("compression: {encodings: [deflate]}", "compression.encodings[0]: expected one of: br, zstd, gzip")
	f("coalesce_timeout: 0", "coalesce_timeout: value should be")
	f("response_headers: {x-cache-status: true}", "unknown field")
	f("redis: {host: a, sentinel_addresses: [a]}", `sentinel_addresses[0]: expected host:port, got "a"`)
}

func TestSettingsWarned(t *testing.T) {
	f := func(settings, want string) {
		t.Helper()
		d, err := read(name, settings)
		if err != nil {
			t.Fatalf("{%s}: %v", settings, err)
		}
		var all strings.Builder
		for _, w := range d.Warnings {
			all.WriteString(w.Error() + "\n")
		}
		if !strings.Contains(all.String(), want) || want == "" && all.Len() > 0 {
			t.Errorf("{%s}:\n got %s\nwant %s", settings, all.String(), want)
		}
	}
	f("cache_ttl: 300, storage_ttl: 60", "storage_ttl: is shorter than cache_ttl: answers are gone after 60 s")
	f("redis: {host: a}", "redis: has no effect with strategy memory")
	f("bypass_on_err: true", "bypass_on_err: is always so")
	f("rfc: true, request_method: [GET, POST]", "request_method: with rfc only GET and HEAD are kept")
	f("content_type: text/html", "content_type: expected a") // one value where a list is meant
	f("strategy: memory, cache_ttl: 60, memory: {dictionary_name: kong_cache}, response_headers: {age: false, X-Cache-Key: false}", "")
}
