// Package template compiles the $(...) templates of the transformers and renders
// them for an Exchange.
//
// A text is literal except for $(expression). In Kong an expression is Lua; here
// it is the part of Lua that such expressions are made of, compiled when the
// document is loaded:
//
//	headers["x-a"]  headers.x_a         a request header, any case, _ for -
//	query_params["b"]  query_params.b   a query argument, decoded
//	uri_captures["id"]  .id  [1]        a group of the route's regular expression
//	shared.x                            always nil: there is no plugin to fill it
//	'text'  "text"  12  3.5  nil  true  literals
//	a or b   a and b   a .. b   (a)     as in Lua: nil and false are the only untrue values
//
// Of a header or argument that occurs several times the first counts. A final nil
// or false renders as nothing, and so does nil within a concatenation: where Kong
// answers 500 because nil was indexed or joined, this gateway goes on. To write
// a dollar sign with a parenthesis: $('$(text)').
//
// Beyond Kong there are the names
//
//	uuid                     a random UUID (version 4), another one at each occurrence
//	timestamp                the time of the request, RFC 3339, UTC
//	request_id               32 hex digits, the request's
//	consumer_id, consumer_username, consumer_custom_id
//	consumer_groups          names, separated by commas
//	authenticated_credential.id, .key, .scope
//	remote_addr              the caller's address
//	upstream_addr            host:port that answered, nil before
//	latencies.request        milliseconds since the request was read
//	latencies.proxy          milliseconds until the service answered, nil before
//	latencies.kong           milliseconds spent in the gateway before the service
//	status                   status of the answer, nil before there is one
//	service.name, route.name
//
// and any other bare name means the capture of that name, else the query argument,
// else nil; a field of such a name is nil.
//
// Compile reports anything else with its column. A Template is immutable and may
// be shared between goroutines; rendering appends to the caller's buffer and
// allocates nothing, except that the first capture of a request runs the route's
// regular expression once more.
package template
