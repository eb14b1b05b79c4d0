// Package proxycache is the proxy-cache plugin, and proxy-cache-advanced (Kong:
// Enterprise): answers of services are kept and given again.
//
//	plugins:
//	- name: proxy-cache
//	  config:
//	    strategy: memory
//	    cache_ttl: 300
//	    content_type: [application/json]
//	    vary_headers: [Accept-Language]
//
// # What is kept, in three modes
//
// Without cache_control and rfc, as in Kong: the answers to request_method with a status
// of response_code and a type of content_type, for cache_ttl, whatever they say about
// caching. A type matches to the letter, parameters included; * stands for any type or
// subtype. Vary does not count, vary_headers do.
//
// With cache_control: of those, the ones that RFC 9111 lets a shared cache keep, for as
// long as they say: s-maxage, max-age, Expires, else a tenth of the time since
// Last-Modified (heuristic_ttl at most). CDN-Cache-Control (RFC 9213) and
// Surrogate-Control go before Cache-Control. Vary chooses among the answers to one URI. A
// request with no-store or no-cache passes by, as in Kong.
//
// With rfc: as with cache_control, but that response_code and content_type restrict
// nothing unless they differ from the default, and that answers which must be asked about
// are kept and asked about (If-None-Match, If-Modified-Since): no-cache, max-age=0 with an
// ETag, a request's no-cache.
//
// In none of them is an answer kept that sets a cookie, or that is in parts, or one to a
// request with Authorization: unless RFC 9111 section 3.5 allows it, or, in Kong's mode,
// the gateway itself knows whose it is, since the key has the consumer. An event stream
// passes by, and of an answer that may be kept the trailers are not asked for.
//
// # What the key is
//
// Consumer and route, method, scheme and host, path (ignore_uri_case), arguments in any
// order or those of vary_query_params, vary_headers. X-Cache-Key tells a digest of it.
// Kong's has no scheme and host.
//
// # What the client sees
//
// X-Cache-Status: Hit; Miss; Refresh, where what is kept was too old or the request wanted
// it anew; Stale; Bypass, where nothing is kept or looked for. Age, X-Cache-Key, and in the
// last two modes Cache-Status (RFC 9211), which also says why. response_headers turns each
// off. A kept answer serves conditional requests (304) and one range of bytes (206), and in
// the last two modes HEAD from GET.
//
// # Stale answers
//
// serve_stale_on_error (on in proxy-cache-advanced) answers with what is kept when the
// service fails: it cannot be reached, its circuit is open, or it answers 500, 502, 503 or
// 504; for storage_ttl, else for stale_if_error seconds after the answer was fresh.
// stale_while_revalidate gives a stale answer at once and asks for a new one beside it. An
// answer's own stale-if-error and stale-while-revalidate go before both, must-revalidate
// and its like forbid both. Such answers have Warning: 110.
//
// # Many at once
//
// Requests that miss the same answer at the same time wait for the first one's (coalesce).
// If it comes piece by piece, all read along, each at his own pace. If the first one fails,
// the next asks; if what comes is not kept, everyone asks. Nobody waits for longer than
// coalesce_timeout. An answer that outgrows max_object_size goes on to the client who asked
// first; for the others it is asked for again from where they are, if its ETag is strong,
// else cut.
//
// # Where it is kept
//
// In memory of its own off the heap (package cache), memory.size bytes of it for all
// instances that name the same dictionary; what is wanted least makes room. memory.file
// keeps it over restarts. With strategy redis also in a Redis that gateways share (tier.go):
// the memory is asked first, then Redis for at most 50 ms a look (with Vary there are two), then the service; entries up to
// 1 MiB are written to it beside the request. A Redis that is slow or gone costs hits and
// fails no request. Without a host in the redis block it is the connection default of
// gateway.redis.
//
// # Purging
//
// POST /cache/purge on the Admin listener takes answers back: all, by path, by surrogate
// key, route and service; DELETE /proxy-cache does as in Kong. Gateways that share a Redis
// follow within a tenth of a second. An answer that was asked for before a purge is not
// kept after it. Surrogate keys are those of the answer's Surrogate-Key (separated by
// spaces) and Cache-Tag (by commas), at most 18.
//
// # Compression
//
// compression.enabled keeps an answer once, as the service gives it without
// Accept-Encoding, and gives it in br, zstd or gzip to who accepts that. Each encoding is
// made at its first use and kept beside the answer. Entity tags of encoded answers are
// weak, Vary names Accept-Encoding. Who asked first gets an answer whose body is still
// coming as it comes, unencoded.
//
// # Files
//
//	proxycache.go  the Request hook: look, wait, or lead to the service
//	visit.go       what one request wants and has found
//	key.go         keys and labels
//	serve.go       an answer from what is kept
//	receive.go     the Receive hook: what has come?
//	answer.go      what an answer's header says
//	plan.go        is it kept, and for how long?
//	keep.go        keeping it
//	freshen.go     what the service lets stand, and what a change takes back
//	tag.go         surrogate keys that other hooks have put on it
//	flight.go      requests that wait for another's answer
//	stream.go      an answer that is read by many while it comes
//	head.go        how an answer is laid out in the store
//	shelf.go       one memory, and what belongs to it
//	tier.go        the Redis behind it; tierpurge.go its purges, share.go its entries
//	purge.go       what is taken back
//	compress.go    encodings
//	meters.go      what is counted
//	explain.go     what an operator is told
//	rules/         the rules of RFC 9111 and its kin, as pure functions
package proxycache
