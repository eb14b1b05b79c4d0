package proxycache

import (
	"bytes"
	"io"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/cache"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/plugin/proxycache/rules"
)

// finish completes a head whose fields are now the answer's.
func (v *visit) finish(h *head, now int64) {
	a := &v.answer
	length := a.length
	if h.flags&flagCompress != 0 {
		a.fields = varyOnEncoding(a.fields)
	}
	a.tidy(v.instance, now)
	a.examine(v.instance, int(h.status), now)
	a.length = length
	if h.flags&flagCompress != 0 {
		a.vary = withoutEncoding(a.vary) // the service was not told, and encodings are made here
	}
	h.fields, h.etag, h.modified = a.fields, a.etag, a.modified
	h.lens = pipeline.LensOf(h.fields)
}

// put is the store's description of an answer with head h.
func (v *visit) put(x *pipeline.Exchange, h *head) cache.Put {
	service := ""
	if x.Service != nil {
		service = x.Service.ID
	}
	labels := v.answer.labels
	labels = append(labels, label(labelService, []byte(service)), label(labelPlugin, []byte(v.id)), label(labelEntry, h.digest[:entryBytes]))
	if x.Route != nil {
		labels = append(labels, label(labelRoute, []byte(x.Route.ID)))
	}
	path := v.out[:0]
	path = v.appendPath(path, x.Path)
	labels = append(appendPathLabels(labels, service, path), uriLabel(x, path))
	v.answer.labels = labels
	v.out = h.append(path[:0])
	return cache.Put{Key: v.full, Head: v.out, Labels: labels, Expires: h.stored + v.life(h), Born: v.born}
}

// keep stores the answer of x, or begins to. It says why where the store does not take it.
func (v *visit) keep(x *pipeline.Exchange, h *head, now int64, behind bool) reason {
	v.finish(h, now)
	if v.directed && len(v.answer.vary) > 0 {
		v.full = appendSelecting(append(v.full[:0], v.key...), x, v.answer.vary)
	} else if v.directed {
		v.full = append(v.full[:0], v.key...)
	}
	h.digest = digest(v.full)
	if len(v.answer.vary) > 0 && v.directed {
		if why := v.keepVarying(x, h, now); why != reasonNone {
			return why
		}
	}
	resp := &x.Ctx.Response
	if resp.IsBodyStream() {
		p := v.put(x, h)
		return v.keepStream(x, h, &p, behind)
	}
	var body []byte
	if !v.isHead {
		body = resp.Body()
		h.length = int64(len(body))
	}
	p := v.put(x, h)
	if err := v.shelf.store.Set(&p, body, now); err != nil {
		return reasonOfStore(err)
	}
	v.shelf.meters.stored.Add(uint32(x.ConnID), 1) //nolint:gosec // G115: any number is a shard
	if v.tier != nil {
		v.tier.give(&p, v.moment, body)
	}
	v.settle(outcomeKept)
	v.kept = true
	v.hand(x, h, behind)
	return reasonNone
}

// keepVarying stores, under the key of the URI, by what the answers to it differ.
func (v *visit) keepVarying(x *pipeline.Exchange, h *head, now int64) reason {
	index := head{kind: kindVarying, stored: now, digest: digest(v.key), fields: v.answer.vary, staleWhile: h.staleWhile, staleError: h.staleError, lifetime: h.lifetime}
	keys := len(v.answer.labels)
	p := v.put(x, &index)
	p.Key, p.Expires = v.key, h.stored+v.life(h)
	err := v.shelf.store.Set(&p, nil, now)
	if err == nil && v.tier != nil {
		v.tier.give(&p, v.moment, nil)
	}
	v.answer.labels = v.answer.labels[:keys]
	return reasonOfStore(err)
}

func reasonOfStore(err error) reason {
	switch err {
	case nil:
		return reasonNone
	case cache.ErrTooLarge:
		return reasonTooLarge
	case cache.ErrPurged:
		return reasonPurged
	}
	return reasonFull
}

// hand gives the client of x what was stored just now: as it came, or what his request
// makes of it.
func (v *visit) hand(x *pipeline.Exchange, h *head, behind bool) {
	if behind {
		return
	}
	switch {
	case v.conditional() && v.answers304(h):
		v.shelf.meters.count(x, v.result, reasonNone)
		v.stageStatus(x)
		v.answer304(x, h)
		return
	case h.flags&flagCompress != 0 && v.hasAccept:
		result, forward := v.result, v.forward
		use := v.find(x)
		v.result, v.forward = result, forward
		if use == useAnswer {
			v.serve(x)
			return
		}
	}
	v.tellVary(&x.Ctx.Response, h)
	v.shelf.meters.count(x, v.result, reasonNone)
	v.stageStatus(x)
}

// tellVary has an answer that others get in other encodings say so.
func (v *visit) tellVary(resp *fasthttp.Response, h *head) {
	if h.flags&flagCompress != 0 && !rules.ListHas(resp.Header.Peek("Vary"), []byte("Accept-Encoding")) {
		resp.Header.Add("Vary", "Accept-Encoding")
	}
}

// keepStream stores an answer whose body is still coming. Its client, and those who wait
// for it, read it from the store from now on.
func (v *visit) keepStream(x *pipeline.Exchange, h *head, p *cache.Put, behind bool) reason {
	s := v.shelf
	if s.pumps.Add(1) > pumpsMax {
		s.pumps.Add(-1)
		return reasonBusy
	}
	resp := &x.Ctx.Response
	size := int64(resp.Header.ContentLength())
	w, err := s.store.Create(p, max(size, -1), h.stored)
	if err != nil {
		s.pumps.Add(-1)
		return reasonOfStore(err)
	}
	st := newStream(s, w, max(size, -1))
	st.plain = v.compress
	st.head, st.max = *h, v.objectMax-int64(len(p.Head))
	if st.alone = v.patience * int64(time.Millisecond); size >= 0 || behind {
		st.alone *= 10 // it has an end, or nobody was to read it
	}
	st.head.fields = bytes.Clone(h.fields)
	st.full = bytes.Clone(v.full)
	if v.directed {
		st.vary = bytes.Clone(v.answer.vary)
	}
	body := detached(resp)
	f := v.flight
	v.flight = nil
	if f != nil {
		s.flights.announce(f, st)
	}
	put := *p
	put.Key, put.Head, put.Labels = st.full, bytes.Clone(p.Head), append([]uint32(nil), p.Labels...)
	tier, moment := v.tier, v.moment
	run := func() {
		defer s.pumps.Add(-1)
		defer s.settle()
		outcome := outcomeFailed
		defer func() {
			if f != nil {
				s.flights.settle(f, outcome)
			}
		}()
		if st.pump(body) {
			outcome = outcomeKept
			s.meters.stored.Add(0, 1)
			if tier != nil {
				tier.giveStored(&put, moment)
			}
		}
	}
	if behind {
		run()
		return reasonNone
	}
	v.kept = true
	v.shelf.meters.count(x, v.result, reasonNone)
	v.stageStatus(x)
	v.tellVary(resp, h)
	if v.conditional() && v.answers304(&st.head) {
		v.answer304(x, &st.head)
		go run()
		return reasonNone
	}
	resp.SetBodyStream(st.newReader(x, true), int(max(size, -1)))
	go run()
	return reasonNone
}

// detached takes the body stream of a response, so that it is not closed when it is
// replaced.
func detached(resp *fasthttp.Response) io.Reader {
	stream := resp.BodyStream()
	d, ok := stream.(interface{ Detach() io.Reader })
	if !ok {
		return stream
	}
	body := d.Detach()
	if r, ok := body.(*reader); ok {
		r.x = nil // it will be read beyond the exchange
	}
	return body
}
