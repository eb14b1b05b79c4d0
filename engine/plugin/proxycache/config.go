package proxycache

import (
	"slices"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/redis"
)

// Config are the settings of proxy-cache and proxy-cache-advanced.
type Config struct {
	Strategy        string   `json:"strategy" enum:"memory,redis" doc:"Where answers are kept: in this process, or also in a Redis that gateways share."`
	CacheTTL        int64    `json:"cache_ttl" gt:"0" max:"3153600000" doc:"Seconds for which an answer is fresh that does not say so itself, or is not asked."`
	StorageTTL      *int64   `json:"storage_ttl" gt:"0" max:"3153600000" doc:"Seconds for which an answer is kept; without it as long as it is fresh, and what stale answers need."`
	ResponseCode    []int    `json:"response_code" len:"1" min:"100" max:"900" doc:"Statuses that are kept. With rfc the default means those that RFC 9111 lets be kept."`
	RequestMethod   []string `json:"request_method" len:"1" enum:"HEAD,GET,POST,PATCH,PUT" doc:"Methods whose answers are kept. A body is not part of the key."`
	ContentType     []string `json:"content_type" len:"1" doc:"Types that are kept, parameters included; * stands for any part. With rfc the default means every type."`
	CacheControl    bool     `json:"cache_control" doc:"Do as Cache-Control, Expires, Vary and their like say (RFC 9111)."`
	IgnoreURICase   bool     `json:"ignore_uri_case" doc:"Paths that differ in case only are one."`
	VaryQueryParams []string `json:"vary_query_params" doc:"Arguments that are part of the key; without it all are, in any order."`
	VaryHeaders     []string `json:"vary_headers" doc:"Request headers that are part of the key."`
	Memory          Memory   `json:"memory"`
	ResponseHeaders Headers  `json:"response_headers"`

	BypassOnErr bool          `json:"bypass_on_err" doc:"Accepted: a Redis that fails never fails a request."`
	Redis       *redis.Config `json:"redis" flat:"redis_" doc:"The Redis of strategy redis; without a host that of gateway.redis."`

	RFC                  bool        `json:"rfc" doc:"RFC 9111 alone decides: answers that must be asked about are kept and asked about, GET serves HEAD. Not in Kong."`
	HeuristicTTL         int64       `json:"heuristic_ttl" min:"0" max:"31536000" doc:"Most seconds for which an answer is fresh that says only when it was modified. Not in Kong."`
	ServeStaleOnError    bool        `json:"serve_stale_on_error" doc:"Answer with what is kept while the service fails. Not in Kong."`
	StaleIfError         int64       `json:"stale_if_error" min:"0" max:"31536000" doc:"Seconds after it was fresh for which an answer is kept for that, where neither storage_ttl nor the answer says. Not in Kong."`
	StaleWhileRevalidate int64       `json:"stale_while_revalidate" min:"0" max:"31536000" doc:"Seconds for which a stale answer is given while it is asked for anew. Not in Kong."`
	Coalesce             bool        `json:"coalesce" doc:"Ask the service once for requests that miss the same answer at the same time. Not in Kong."`
	CoalesceTimeout      int64       `json:"coalesce_timeout" min:"1" max:"600000" doc:"Milliseconds for which a request waits for another one's answer before it asks itself. Not in Kong."`
	SurrogateKeys        bool        `json:"surrogate_keys" doc:"Read Surrogate-Key and Cache-Tag of answers, by which they can be purged. Not in Kong."`
	HideSurrogateKeys    bool        `json:"hide_surrogate_keys" doc:"Leave out those headers for clients. Not in Kong."`
	Compression          Compression `json:"compression"`
}

// Memory says which memory keeps the answers.
type Memory struct {
	DictionaryName string      `json:"dictionary_name" len:"1" doc:"Name of the memory: instances that name the same one share it."`
	Size           config.Size `json:"size" min:"0" doc:"Bytes of the memory; 0 for gateway.mem_cache_size. Not in Kong."`
	MaxObjectSize  config.Size `json:"max_object_size" min:"0" doc:"Most bytes of one answer; 0 for a 16th of the size, at most 16 MiB. Not in Kong."`
	File           string      `json:"file" len:"1" doc:"File that keeps the memory over restarts. Not in Kong."`
}

// Headers says which headers of the cache an answer gets.
type Headers struct {
	Age          bool `json:"age" doc:"Age."`
	XCacheStatus bool `json:"X-Cache-Status" doc:"X-Cache-Status."`
	XCacheKey    bool `json:"X-Cache-Key" doc:"X-Cache-Key."`
	CacheStatus  bool `json:"Cache-Status" doc:"Cache-Status (RFC 9211), with cache_control or rfc. Not in Kong."`
}

// Compression says what is compressed for clients.
type Compression struct {
	Enabled   bool        `json:"enabled" doc:"Keep answers once, uncompressed, and give them in the encoding that the client accepts. Not in Kong."`
	Encodings []string    `json:"encodings" len:"1" enum:"br,zstd,gzip" doc:"Encodings in the order of preference."`
	Types     []string    `json:"types" len:"1" doc:"Content types that are compressed; * stands for any part."`
	MinLength config.Size `json:"min_length" min:"0" doc:"Least bytes of a body that is compressed."`
	MaxLength config.Size `json:"max_length" min:"0" doc:"Most bytes of a body that is compressed."`
}

const (
	inMemory = "memory"
	inRedis  = "redis"
)

// Kong's default lists, which with rfc stand for no restriction of ours.
var (
	codesDefault = []int{200, 301, 404}
	typesDefault = []string{"text/plain", "application/json"}
)

var defaults = Config{
	Strategy:      inMemory,
	CacheTTL:      300,
	ResponseCode:  codesDefault,
	RequestMethod: []string{"GET", "HEAD"},
	ContentType:   typesDefault,
	Memory:        Memory{DictionaryName: "kong_db_cache"},
	ResponseHeaders: Headers{
		Age: true, XCacheStatus: true, XCacheKey: true, CacheStatus: true,
	},
	HeuristicTTL:    86400,
	StaleIfError:    3600,
	Coalesce:        true,
	CoalesceTimeout: 5000,
	SurrogateKeys:   true,
	Compression: Compression{
		Encodings: []string{"br", "zstd", "gzip"},
		Types:     []string{"text/*", "application/json", "application/javascript", "application/xml", "image/svg+xml"},
		MinLength: 1 << 10, MaxLength: 1 << 20,
	},
}

// defaultsAdvanced differ in one thing: a stale answer serves while the service fails.
func defaultsAdvanced() Config {
	c := defaults
	c.ServeStaleOnError = true
	return c
}

// Check reports what the fields' own rules cannot say.
func (c *Config) Check(r *config.Reporter) {
	for _, name := range c.VaryHeaders {
		pipeline.CheckHeaderName(r, "vary_headers", name)
	}
	if c.StorageTTL != nil && *c.StorageTTL < c.CacheTTL {
		r.Warnf("storage_ttl", "is shorter than cache_ttl: answers are gone after %d s", *c.StorageTTL)
	}
	if c.Strategy == inMemory && r.Has("redis") {
		r.Warnf("redis", "has no effect with strategy memory")
	}
	if c.BypassOnErr {
		r.Warnf("bypass_on_err", "is always so: a Redis that fails never fails a request")
	}
	if slices.ContainsFunc(c.RequestMethod, func(m string) bool { return m != "GET" && m != "HEAD" }) && c.RFC {
		r.Warnf("request_method", "with rfc only GET and HEAD are kept")
	}
	if size := c.Memory.Size; size > 0 && size < 1<<20 {
		r.Faultf("memory.size", "value should be at least 1m, got %d bytes", size)
	}
	if c.Memory.MaxObjectSize > 0 && c.Memory.Size > 0 && c.Memory.MaxObjectSize > c.Memory.Size/4 {
		r.Faultf("memory.max_object_size", "value should be at most a quarter of memory.size")
	}
}
