package proxycache

import (
	"bytes"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/cache"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/plugin/proxycache/rules"
)

// answer is what an answer's header says about keeping it.
type answer struct {
	facts      rules.Facts
	directives rules.Directives

	fields         []byte // those that are kept
	etag, modified span
	contentType    []byte // in fields
	vary           []byte // names, as AppendVaryNames has them
	varyWhy        rules.Reason
	labels         []uint32 // of surrogate keys
	encoded        bool     // it has a Content-Encoding
	cookie         bool     // it has a Set-Cookie that nothing allows to leave out
	noTransform    bool
	length         int64 // announced, -1 for unknown

	lists listScratch
}

// listScratch holds fields of several lines, joined.
type listScratch struct{ targeted, surrogate, vary, other []byte }

// emptied is a with nothing in it but its buffers.
func (a *answer) emptied() answer {
	l := &a.lists
	return answer{
		fields: a.fields[:0], vary: a.vary[:0], labels: a.labels[:0],
		lists: listScratch{l.targeted[:0], l.surrogate[:0], l.vary[:0], l.other[:0]},
	}
}

// read takes the header of a response that has just come.
func (a *answer) read(resp *fasthttp.Response) {
	*a = a.emptied()
	h := &resp.Header
	a.length = int64(max(h.ContentLength(), -1))
	for name, value := range h.All() {
		if framed(name) || !rules.StoredField(name) {
			continue
		}
		a.fields = appendField(a.fields, name, value)
	}
}

// framed reports whether a field frames the body, or is the cache's own.
func framed(name []byte) bool {
	switch string(name) {
	case "Content-Length", "X-Cache-Status", "X-Cache-Key":
		return true
	}
	return false
}

func appendField(dst, name, value []byte) []byte {
	dst = append(append(dst, name...), ": "...)
	return append(append(dst, value...), '\r', '\n')
}

// examine reads the facts from a.fields, for an answer that came at now.
func (a *answer) examine(i *instance, status int, now int64) {
	a.directives.Reset()
	a.facts = rules.Facts{
		Status: status, Directives: &a.directives,
		Date: rules.Absent, Expires: rules.Absent, LastModified: rules.Absent, Age: rules.Absent,
	}
	a.vary, a.labels = a.vary[:0], a.labels[:0]
	l := &a.lists
	*l = listScratch{l.targeted[:0], l.surrogate[:0], l.vary[:0], l.other[:0]}
	a.contentType, a.encoded, a.cookie, a.varyWhy = nil, false, false, rules.MayStore
	a.etag, a.modified = span{}, span{}
	for rest := a.fields; len(rest) > 0; {
		var name, value []byte
		at := len(a.fields) - len(rest)
		name, value, rest = pipeline.CutField(rest)
		a.field(i, name, value, at+len(name)+2, now)
	}
	if a.facts.Date == rules.Absent {
		a.facts.Date = now
	}
	a.noTransform = a.directives.NoTransform
	targeted := len(l.targeted) > 0 && a.directives.AddTargeted(l.targeted)
	if !targeted && len(l.surrogate) > 0 {
		a.directives.AddSurrogate(l.surrogate)
	}
	if len(l.vary) > 0 {
		a.vary, a.varyWhy = rules.AppendVaryNames(a.vary, l.vary)
	}
}

// field takes in one field; its value stands at a place in a.fields.
func (a *answer) field(i *instance, name, value []byte, at int, now int64) {
	here := span{uint16(min(at, 1<<16-1)), uint16(min(len(value), 1<<16-1))} //nolint:gosec // G115: larger blocks are not kept
	f, l := &a.facts, &a.lists
	switch string(name) {
	case "Cache-Control":
		a.directives.Add(value)
	case "Cdn-Cache-Control":
		l.targeted = appendList(l.targeted, value)
	case "Surrogate-Control":
		l.surrogate = appendList(l.surrogate, value)
	case "Vary":
		l.vary = appendList(l.vary, value)
	case "Date":
		if ms, ok := rules.ParseDate(value, now); ok {
			f.Date = ms
		}
	case "Expires":
		ms, ok := rules.ParseDate(value, now)
		if f.Expires, f.InvalidExpires = ms, !ok; !ok {
			f.Expires = rules.Absent
		}
	case "Age":
		if f.Age == rules.Absent {
			f.Age = rules.ParseAge(value)
		}
	case "Last-Modified":
		if ms, ok := rules.ParseDate(value, now); ok {
			f.LastModified, a.modified = ms, here
		}
	case "Etag":
		if _, ok := rules.ParseTag(value); ok {
			a.etag = here
		}
	case "Content-Type":
		a.contentType = value
	case "Content-Encoding":
		a.encoded = !bytes.EqualFold(value, []byte("identity"))
	case "Set-Cookie":
		a.cookie = true
	case "Surrogate-Key":
		if i.tags {
			a.addKeys(value, ' ')
		}
	case "Cache-Tag":
		if i.tags {
			a.addKeys(value, ',')
		}
	}
}

func appendList(list, value []byte) []byte {
	if len(list) > 0 {
		list = append(list, ',')
	}
	return append(list, value...)
}

// addKeys adds the labels of surrogate keys.
func (a *answer) addKeys(list []byte, separator byte) {
	for len(list) > 0 {
		var key []byte
		key, list, _ = bytes.Cut(list, []byte{separator})
		if key = bytes.TrimSpace(key); len(key) > 0 && len(a.labels) <= cache.LabelsMax {
			a.labels = append(a.labels, label(labelKey, key))
		}
	}
}

// tidy makes a.fields what is kept: without what must not be, without what is made anew
// with every answer, and with a Date. It comes after examine, and moves what spans and
// slices point to: examine again for those.
func (a *answer) tidy(i *instance, now int64) {
	kept, dated := a.fields[:0], false
	list := a.lists.other[:0]
	// The names lie in a field that moves.
	list = append(append(append(list, a.directives.PrivateFields...), ','), a.directives.NoCacheFields...)
	a.lists.other = list
	for rest := a.fields; len(rest) > 0; {
		whole := rest
		var name []byte
		name, _, rest = pipeline.CutField(rest)
		if i.leavesOut(name) || i.directed && len(list) > 1 && rules.ListHas(list, name) {
			continue
		}
		dated = dated || string(name) == "Date"
		kept = append(kept, whole[:len(whole)-len(rest)]...)
	}
	if !dated {
		kept = rules.AppendDate(append(kept, "Date: "...), now)
		kept = append(kept, '\r', '\n')
	}
	a.fields = kept
}

// leavesOut reports whether a field is not kept. Kong: what is left of a limit is not.
func (i *instance) leavesOut(name []byte) bool {
	switch string(name) {
	case "Age":
		return true
	case "Surrogate-Control":
		return i.directed
	case "Surrogate-Key", "Cache-Tag":
		return i.hidesKeys
	case "X-Ratelimit-Remaining", "Ratelimit-Remaining":
		return true
	}
	return len(name) > len(remaining) && bytes.Contains(name, remaining)
}

var remaining = []byte("Ratelimit-Remaining")

// merge puts the fields of a 304 in place of those of the same name that were kept
// (RFC 9111 section 3.2).
func (a *answer) merge(kept []byte) {
	fresh := a.fields
	merged := a.lists.other[:0]
	for rest := kept; len(rest) > 0; {
		whole := rest
		var name []byte
		name, _, rest = pipeline.CutField(rest)
		if !rules.Updatable(name) || !hasField(fresh, name) {
			merged = append(merged, whole[:len(whole)-len(rest)]...)
		}
	}
	for rest := fresh; len(rest) > 0; {
		whole := rest
		var name []byte
		name, _, rest = pipeline.CutField(rest)
		if rules.Updatable(name) {
			merged = append(merged, whole[:len(whole)-len(rest)]...)
		}
	}
	fresh = append(fresh[:0], merged...)
	a.fields, a.lists.other = fresh, merged[:0]
}

func hasField(fields, name []byte) bool {
	for len(fields) > 0 {
		var n []byte
		if n, _, fields = pipeline.CutField(fields); bytes.Equal(n, name) {
			return true
		}
	}
	return false
}
