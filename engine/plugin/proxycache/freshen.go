package proxycache

import (
	"bytes"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/plugin/proxycache/rules"
)

// compare drops the answer found where that to a HEAD says that it is another one by now
// (RFC 9111 section 4.3.5).
func (v *visit) compare(h *fasthttp.ResponseHeader) {
	if !v.isHead || !v.found || h.StatusCode() != fasthttp.StatusOK {
		return
	}
	f := &v.head
	differs := func(name string, s span) bool {
		now := h.Peek(name)
		return len(now) > 0 && !bytes.Equal(now, s.of(f.fields))
	}
	length := int64(h.ContentLength())
	if differs("Etag", f.etag) || differs("Last-Modified", f.modified) || length >= 0 && length != v.view.Size {
		v.remove()
	}
}

// freshen makes what was found fresh again, since the service has let it stand, and
// answers with it (RFC 9111 section 4.3.4).
func (v *visit) freshen(x *pipeline.Exchange, now int64, behind bool) {
	resp := &x.Ctx.Response
	if etag := resp.Header.Peek("Etag"); len(etag) > 0 && etag[0] == '"' && !rules.MatchStrong(etag, v.head.etag.of(v.head.fields)) {
		v.askAgain(x, behind)
		return
	}
	v.answer.read(resp)
	v.answer.merge(v.head.fields)
	v.answer.examine(v.instance, int(v.head.status), now)
	var h head
	v.answer.length = v.head.length
	if why := v.plan(x, &h, now); why != reasonNone {
		h = v.head // it is kept no more: for this request it stands, with what is new
		v.finish(&h, now)
		v.remove()
		v.settle(outcomePass)
	} else {
		h.flags |= v.head.flags & flagCompress
		h.digest = v.head.digest
		v.finish(&h, now)
		if v.directed && len(v.answer.vary) > 0 {
			_ = v.keepVarying(x, &h, now) // else it expires, and the next asks in full
		}
		p := v.put(x, &h)
		_ = v.shelf.store.SetHead(&p, v.view.Head, now) // gone meanwhile, or another: the next asks
		if v.tier != nil && v.view.Body != nil {
			v.tier.give(&p, v.moment, v.view.Body)
		}
		v.kept = true
		v.settle(outcomeKept)
	}
	v.shelf.meters.notModif.Add(uint32(x.ConnID), 1) //nolint:gosec // G115: any number is a shard
	v.head = h
	v.begun = now
	if !behind {
		v.result = resultRefresh
		v.serve(x)
	}
}

// askAgain asks for the whole answer: what the service has let stand is another one than
// what is kept (RFC 9111 section 4.3.4). The one place where a hook sends a request again.
func (v *visit) askAgain(x *pipeline.Exchange, behind bool) {
	v.remove()
	v.leave()
	v.refreshing = false
	pipeline.ClearResponse(&x.Ctx.Response)
	x.Source = pipeline.SourceNone
	h := &x.Ctx.Request.Header
	if behind {
		unconditional(h)
	} else {
		v.withhold(x)
	}
	x.Forward()
	v.putBack(x)
	v.take(x, behind)
}

// remove takes back the answer of v, also from Redis.
func (v *visit) remove() {
	v.shelf.store.Delete(v.full)
	if v.tier != nil {
		d := digest(v.full)
		v.shelf.drop(label(labelEntry, d[:entryBytes]))
	}
}

// invalidate makes what is kept of a resource go when a request has changed it (RFC 9111
// section 4.4).
func (v *visit) invalidate(x *pipeline.Exchange) {
	if x.Source != pipeline.SourceService || !rules.Invalidates(x.Method(), x.Ctx.Response.StatusCode()) {
		return
	}
	v.shelf.drop(uriLabel(x, v.appendPath(nil, x.Path)))
	for _, name := range [...]string{"Location", "Content-Location"} {
		if path := sameOriginPath(x, x.Ctx.Response.Header.Peek(name)); path != nil {
			v.shelf.drop(uriLabel(x, v.appendPath(nil, path)))
		}
	}
}

// sameOriginPath is the path that a reference in the answer to x names, nil for one of
// another scheme or host.
func sameOriginPath(x *pipeline.Exchange, reference []byte) []byte {
	if scheme, rest, absolute := bytes.Cut(reference, []byte("://")); absolute {
		end := bytes.IndexAny(rest, "/?#")
		if end < 0 {
			end = len(rest)
		}
		if bytes.EqualFold(scheme, []byte("https")) != x.Secure || !bytes.EqualFold(rest[:end], x.Ctx.Request.Header.Host()) {
			return nil
		}
		reference = rest[end:]
	}
	if len(reference) == 0 || reference[0] != '/' || bytes.HasPrefix(reference, []byte("//")) {
		return nil
	}
	if end := bytes.IndexAny(reference, "?#"); end >= 0 {
		reference = reference[:end]
	}
	return reference
}
