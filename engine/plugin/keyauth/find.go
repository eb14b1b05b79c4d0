package keyauth

import (
	"bytes"
	"unsafe"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// found is how often a name occurs in one place.
type found uint8

const (
	absent found = iota
	single
	several
)

// again counts one more occurrence.
func (f found) again() found { return min(f+1, several) }

// find looks for n in the places that are switched on, in Kong's order. The key
// lies in the request or in buf, which is appended to.
func (a *auth) find(x *pipeline.Exchange, n *name, buf []byte) (key []byte, f found) {
	if a.header {
		if key, f = headerKey(x, n); f != absent {
			return key, f
		}
	}
	if a.query && len(x.Query) > 0 {
		if key, f = argument(x.Query, n.text, buf); f != absent {
			return key, f
		}
	}
	if a.body {
		return bodyKey(x, n.text, buf)
	}
	return nil, absent
}

func headerKey(x *pipeline.Exchange, n *name) (key []byte, f found) {
	for _, header := range n.headers {
		values := x.Ctx.Request.Header.PeekAll(header)
		if len(values) > 1 {
			return nil, several
		}
		if len(values) == 1 {
			key, f = values[0], f.again()
		}
	}
	return key, f
}

// strip takes n out of headers and query, and out of the body if keys are looked
// for there: wherever it was found, as Kong does.
func (a *auth) strip(x *pipeline.Exchange, n *name) {
	for _, header := range n.headers {
		x.Ctx.Request.Header.DelBytes(viewBytes(header))
	}
	if pipeline.HasArgument(x.Query, n.text) {
		stripQuery(x, n.text)
	}
	if a.body {
		stripBody(x, n.text)
	}
}

// stripQuery edits a copy that lies in the parsed URI: the request line, which
// x.Query may point into, is left for the logs as it came.
func stripQuery(x *pipeline.Exchange, name string) {
	uri := x.Ctx.Request.URI()
	uri.SetQueryStringBytes(x.Query)
	uri.SetQueryStringBytes(pipeline.RemoveArgument(uri.QueryString(), name))
	x.Query = uri.QueryString()
	x.HasQuery = len(x.Query) > 0
}

// argument returns the value of a query or form argument, decoded. An argument
// without an equals sign has none and is not counted (Kong: it is true, not text),
// unless it is repeated.
func argument(args []byte, name string, buf []byte) (value []byte, f found) {
	valued := false
	for more := true; more; {
		var arg []byte
		arg, args, more = pipeline.CutArgument(args)
		if !pipeline.IsArgument(arg, name) {
			continue
		}
		if f = f.again(); f == several {
			return nil, several
		}
		_, value, valued = bytes.Cut(arg, equals)
	}
	if !valued {
		return nil, absent
	}
	if bytes.IndexByte(value, '%') < 0 && bytes.IndexByte(value, '+') < 0 {
		return value, single // Fast path: nothing to decode.
	}
	return pipeline.AppendDecoded(buf, value), single
}

var equals = []byte{'='}

// viewBytes is s as bytes that must not be written.
func viewBytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
