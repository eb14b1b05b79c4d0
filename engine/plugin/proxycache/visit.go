package proxycache

import (
	"bytes"
	"sync"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/cache"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/plugin/proxycache/rules"
)

// visit is what one request wants of the cache, and what has become of that. It is a user
// value of the request under its instance, and given back with it.
type visit struct {
	*instance
	wants
	course

	view  cache.View
	spare cache.View // for looking beside view
	head  head       // of what view holds, while found

	key    []byte // of the URI
	full   []byte // of the answer: key, or with what Vary names
	answer answer // what has come; of another visit until it is read
	out    []byte // fields made for this answer
	text   []byte // of one header of the answer
	lists  []byte // request headers of several lines, joined
	joint  []byte // the key of a flight
	held   []byte // of request headers, put back when the service has been asked
	body   body
}

// course is how far a visit has come.
type course struct {
	begun int64 // now, in milliseconds since 1970
	deep  bool  // look in Redis too
	found bool  // view is open, and head is of it

	fetching   bool  // Receive is to see what came
	refreshing bool  // asked whether what is found still stands
	storing    bool  // what comes may be kept
	collapsed  bool  // another request's answer was waited for
	awaited    int64 // when that was asked for, in milliseconds since 1970
	kept       bool  // what came is kept, or will be when it has come
	result     result
	forward    rules.Forward
	why        reason
	flight     *flight // that this request leads

	born   uint64 // of the store's purges, when the service was asked
	moment moment // of Redis' purges
}

var visits = sync.Pool{New: func() any { return new(visit) }}

// visitBytesKept is the largest buffer of a visit that goes back to the pool.
const visitBytesKept = 96 << 10

// Close gives v back: also with a request whose Receive hook never runs.
func (v *visit) Close() error {
	if f := v.flight; f != nil {
		v.flight = nil
		v.shelf.flights.settle(f, outcomeFailed)
	}
	v.leave()
	if cap(v.answer.fields) > visitBytesKept || cap(v.out) > visitBytesKept {
		return nil
	}
	v.instance, v.wants, v.course = nil, wants{}, course{}
	v.key, v.full, v.out, v.text = v.key[:0], v.full[:0], v.out[:0], v.text[:0]
	v.lists, v.joint, v.held = v.lists[:0], v.joint[:0], v.held[:0]
	v.answer.labels = v.answer.labels[:0]
	visits.Put(v)
	return nil
}

// leave closes what was found.
func (v *visit) leave() {
	if v.found {
		v.view.Close()
		v.found = false
	}
}

// look finds the entry of a key, with deep in Redis too, and reports whether there is one.
func (v *visit) look(key []byte) bool {
	v.leave()
	s := v.shelf
	v.found = s.store.Get(key, v.begun, &v.view)
	if !v.found && v.deep && v.tier != nil && v.tier.look(key) {
		v.found = s.store.Get(key, v.begun, &v.view)
	}
	if v.found && !v.head.read(v.view.Head) {
		v.leave()
	}
	return v.found
}

// wants are what a request says about caching, taken from its header in one pass. The
// bytes lie there.
type wants struct {
	isHead       bool // its method
	authorized   bool
	precondition bool // If-Match or If-Unmodified-Since
	directives   bool // Cache-Control, or Pragma
	demands      rules.Demands
	ranges       []byte
	ifRange      []byte
	noneMatch    []byte
	hasNoneMatch bool
	since        []byte
	accept       []byte // Accept-Encoding
	hasAccept    bool
}

// read takes what h says.
func (w *wants) read(h *fasthttp.RequestHeader, text *[]byte) {
	w.isHead = h.IsHead()
	pragma := []byte(nil)
	control := false
	for name, value := range h.All() {
		switch string(name) {
		case "Authorization":
			w.authorized = true
		case "Cache-Control":
			if !control {
				w.demands.Reset()
			}
			w.demands.Add(value)
			control = true
		case "Pragma":
			pragma = value
		case "Range":
			w.ranges = value
		case "If-Range":
			w.ifRange = value
		case "If-Match", "If-Unmodified-Since":
			w.precondition = true
		case "If-None-Match":
			w.noneMatch, w.hasNoneMatch = joined(w.noneMatch, value, text), true
		case "If-Modified-Since":
			w.since = value
		case "Accept-Encoding":
			w.accept, w.hasAccept = joined(w.accept, value, text), true
		}
	}
	if !control && pragma != nil {
		w.demands.Reset()
		w.demands.AddPragma(pragma)
	}
	w.directives = control || pragma != nil
}

// joined makes one list of two lines of a field.
func joined(before, value []byte, text *[]byte) []byte {
	if before == nil {
		return value // Fast path.
	}
	start := len(*text)
	*text = append(append(append(*text, before...), ','), value...)
	return (*text)[start:]
}

// conditional reports whether the request asks to be told only of a change.
func (w *wants) conditional() bool { return w.hasNoneMatch || w.since != nil }

// withheld are the request headers that the service does not see when an answer is
// fetched that everyone may get: conditions of this client's copy, what he can decode,
// and trailers, which are not kept.
var withheld = [...]string{"If-None-Match", "If-Modified-Since", "Te", "Accept-Encoding"}

// withhold takes those headers off x's request until they are put back.
func (v *visit) withhold(x *pipeline.Exchange) {
	h := &x.Ctx.Request.Header
	for i, name := range withheld {
		if name == "Accept-Encoding" && !v.compress {
			continue
		}
		for _, value := range h.PeekAll(name) {
			v.held = append(append(append(v.held, byte(i)), value...), 0)
		}
	}
	for rest := v.held; len(rest) > 0; {
		h.Del(withheld[rest[0]])
		_, rest, _ = bytes.Cut(rest[1:], []byte{0}) // a name's number may be 0
	}
}

// putBack undoes withhold, for logs and what else looks at the request.
func (v *visit) putBack(x *pipeline.Exchange) {
	h := &x.Ctx.Request.Header
	if v.refreshing {
		h.Del("If-None-Match")
		h.Del("If-Modified-Since")
	}
	for rest := v.held; len(rest) > 0; {
		i := rest[0]
		var value []byte
		value, rest, _ = bytes.Cut(rest[1:], []byte{0})
		h.AddBytesV(withheld[i], value)
	}
	v.held = v.held[:0]
}

// unconditional takes conditions and ranges off a request.
func unconditional(h *fasthttp.RequestHeader) {
	for _, name := range [...]string{"If-None-Match", "If-Modified-Since", "Range", "If-Range", "Te"} {
		h.Del(name)
	}
}
