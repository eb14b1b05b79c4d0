package proxycache

import (
	"bytes"
	"encoding/hex"
	"io"
	"slices"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/cache"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/plugin/proxycache/rules"
)

// receive takes in what the service has answered.
func (i *instance) receive(x *pipeline.Exchange) {
	v, _ := x.Ctx.UserValue(i).(*visit)
	if v == nil || !v.fetching {
		return
	}
	v.fetching = false
	if len(v.held) > 0 || v.refreshing {
		v.putBack(x)
	}
	if v.why == reasonMethod && i.directed {
		v.invalidate(x)
	}
	if (v.storing || v.found) && x.Tunnel == nil {
		v.take(x, false)
	} else {
		v.decline(x, v.why, outcomeFailed)
	}
	if x.Source == pipeline.SourceService {
		v.clean(&x.Ctx.Response.Header)
	}
}

// take keeps the answer of x if it may be kept, or answers with what was kept before.
// behind says that no client waits for it.
func (v *visit) take(x *pipeline.Exchange, behind bool) {
	resp := &x.Ctx.Response
	now := v.shelf.now()
	status := resp.StatusCode()
	fromService := x.Source == pipeline.SourceService
	switch {
	case (!fromService && status >= 500 || coversStatus(status)) && v.found && v.coversError():
		_ = resp.CloseBodyStream()
		v.settle(outcomeFailed)
		if !behind {
			v.result, v.begun = resultStale, now
			v.serve(x)
		}
		return
	case !fromService || !v.storing:
		v.compare(&resp.Header)
		v.decline(x, v.why, outcomeFailed)
		return
	case v.refreshing && status == fasthttp.StatusNotModified:
		v.freshen(x, now, behind)
		return
	}
	v.answer.read(resp)
	v.answer.examine(v.instance, status, now)
	var h head
	why := v.plan(x, &h, now)
	if why == reasonNone {
		why = v.keep(x, &h, now, behind)
	}
	if why != reasonNone {
		outcome := outcomePass
		if status >= 500 || why == reasonPurged {
			outcome = outcomeFailed
		}
		v.result, v.why = resultBypass, why
		v.decline(x, why, outcome)
	}
}

// compare drops the answer found where that to a HEAD says that it is another one by now
// (RFC 9111 section 4.3.5).
func (v *visit) compare(h *fasthttp.ResponseHeader) {
	if !v.wants.head || !v.found || h.StatusCode() != fasthttp.StatusOK {
		return
	}
	f := &v.head
	differs := func(name string, s span) bool {
		now := h.Peek(name)
		return len(now) > 0 && !bytes.Equal(now, s.of(f.fields))
	}
	length := int64(h.ContentLength())
	if differs("Etag", f.etag) || differs("Last-Modified", f.modified) || length >= 0 && length != v.view.Size {
		v.shelf.store.Delete(v.full)
	}
}

// coversStatus reports whether a status of the service is an error that a stale answer
// may cover (RFC 5861 section 4).
func coversStatus(status int) bool {
	switch status {
	case 500, 502, 503, 504:
		return true
	}
	return false
}

// coversError reports whether the answer found may be given since the service fails.
func (v *visit) coversError() bool {
	h := &v.head
	d := h.directives(v.instance)
	var demands *rules.Demands
	if v.directives && v.directed {
		demands = &v.demands
	}
	age, lifetime := h.ageAt(v.shelf.now()), h.lifetime
	if !v.directed {
		lifetime = v.ttl
	}
	return v.servesStale && rules.MayServeStale(&d, demands) && age-lifetime <= 1000*int64(h.staleError) ||
		rules.MayServeOnError(&d, demands, age, lifetime)
}

// decline passes an answer on that is not kept.
func (v *visit) decline(x *pipeline.Exchange, why reason, o outcome) {
	waited := v.settle(o)
	switch {
	case o == outcomePass && waited:
		v.pass() // so that others need not wait in vain
	case o == outcomePass && v.found:
		v.shelf.store.Delete(v.full) // what is kept is out of date
	}
	v.shelf.meters.count(x, v.result, why)
	v.stageStatus(x)
}

// passTime is for how long nobody waits for an answer that was not kept, in milliseconds.
const passTime = 10_000

// pass notes that answers to this key are not kept at present.
func (v *visit) pass() {
	h := head{kind: kindPass}
	now := v.shelf.now()
	v.out = h.append(v.out[:0])
	_ = v.shelf.store.Set(&cache.Put{Key: v.full, Head: v.out, Expires: now + passTime, Born: v.born}, nil, now) // else others wait
}

// settle ends the flight that v leads, if it does, and reports whether anybody waited.
func (v *visit) settle(o outcome) (waited bool) {
	if f := v.flight; f != nil {
		v.flight = nil
		return v.shelf.flights.settle(f, o)
	}
	return false
}

// clean takes those fields off an answer that are not for clients.
func (v *visit) clean(h *fasthttp.ResponseHeader) {
	if v.hidesKeys {
		h.Del("Surrogate-Key")
		h.Del("Cache-Tag")
	}
	if v.directed {
		h.Del("Surrogate-Control")
	}
}

// plan makes the head of what is kept of an answer that came at now, or says why it is
// not kept.
func (v *visit) plan(x *pipeline.Exchange, h *head, now int64) reason {
	a := &v.answer
	*h = head{status: uint16(a.facts.Status), stored: now, lifetime: v.ttl, length: a.length} //nolint:gosec // G115: three digits
	if why := v.admits(a); why != reasonNone {
		return why
	}
	staleWhile, staleError := v.staleWhile, v.staleError
	if !v.servesStale {
		staleError = 0
	}
	if v.directed {
		if why := v.direct(x, h, now); why != reasonNone {
			return why
		}
		d := &a.directives
		if d.StaleWhileRevalidate != rules.Absent {
			staleWhile = d.StaleWhileRevalidate
		}
		if d.StaleIfError != rules.Absent {
			staleError, h.flags = d.StaleIfError, h.flags|flagErrorSaid
		}
	}
	if v.storage > 0 && v.servesStale && h.flags&flagErrorSaid == 0 {
		staleError = max(staleError, (v.storage-h.lifetime)/1000)
	}
	h.staleWhile, h.staleError = seconds(staleWhile), seconds(staleError)
	if v.compress && !a.encoded && !a.noTransform && !v.wants.head && h.status == fasthttp.StatusOK && v.compression.takes(a.contentType) {
		h.flags |= flagCompress
	}
	return reasonNone
}

func seconds(n int64) uint32 { return uint32(min(max(n, 0), 1<<31)) } //nolint:gosec // G115: bounded

// admits says why an instance does not keep such an answer.
func (v *visit) admits(a *answer) reason {
	const fieldsMax = 48 << 10
	status := a.facts.Status
	switch {
	case status == fasthttp.StatusPartialContent:
		return reasonPartial
	case v.statuses != nil && !slices.Contains(v.statuses, status):
		return reasonStatus
	case v.types != nil && !matchesType(v.types, a.contentType):
		return reasonContentType
	case bytes.HasPrefix(a.contentType, eventStream):
		return reasonEventStream
	case a.trailer:
		return reasonTrailer
	case a.cookie && !(v.directed && (rules.ListHas(a.directives.PrivateFields, setCookie) || rules.ListHas(a.directives.NoCacheFields, setCookie))):
		return reasonSetCookie
	case len(a.fields) > fieldsMax:
		return reasonHeader
	case len(a.labels) > keysMax:
		return reasonSurrogateKeys
	case a.length > v.objectMax-int64(headSize+len(a.fields)):
		return reasonTooLarge
	}
	return reasonNone
}

var eventStream, setCookie = []byte("text/event-stream"), []byte("Set-Cookie")

// reasonOf are the reasons of the rules in our words.
var reasonOf = map[rules.Reason]reason{
	rules.NoStore: reasonNoStore, rules.RequestNoStore: reasonRequestNoStore, rules.Private: reasonPrivate,
	rules.Authorization: reasonAuthorization, rules.NotUnderstood: reasonNotUnderstood, rules.InterimStatus: reasonStatus,
	rules.PartialStatus: reasonPartial, rules.ValidatingStatus: reasonStatus, rules.UncacheableStatus: reasonStatus,
	rules.NoFreshness: reasonNotFresh, rules.VaryStar: reasonVary, rules.TooManyVary: reasonVary,
}

// direct applies RFC 9111 to an answer that came at now.
func (v *visit) direct(x *pipeline.Exchange, h *head, now int64) reason {
	a := &v.answer
	if r := rules.Storable(&a.facts, v.authorized); r != rules.MayStore {
		return reasonOf[r]
	}
	if a.varyWhy != rules.MayStore {
		return reasonOf[a.varyWhy]
	}
	d := &a.directives
	h.lifetime, _ = rules.Lifetime(&a.facts, v.heuristic)
	h.age = rules.CorrectedInitialAge(&a.facts, pipeline.WallMillis(x.UpstreamStart), now)
	validates := v.rfc && (a.etag.n > 0 || a.modified.n > 0)
	if d.NoCache {
		if h.flags |= flagValidate; !validates {
			return reasonNoCache
		}
	}
	if d.MustRevalidate || d.ProxyRevalidate || d.SMaxAge != rules.Absent {
		h.flags |= flagNoStale
	}
	if h.lifetime <= h.age && !validates && d.StaleWhileRevalidate <= 0 && d.StaleIfError <= 0 {
		return reasonNotFresh
	}
	return reasonNone
}

// validatedLife is for how long an answer is kept after it was fresh that can be asked
// about, where nothing else says: asking is cheaper than fetching. Milliseconds.
const validatedLife = 600_000

// life is how long an answer is kept from when it came, in milliseconds.
func (v *visit) life(h *head) int64 {
	if v.storage > 0 {
		return v.storage
	}
	fresh := max(h.lifetime-h.age, 0)
	life := fresh + 1000*int64(max(h.staleWhile, h.staleError))
	if v.directed && (h.etag.n > 0 || h.modified.n > 0) {
		life = max(life, fresh+validatedLife)
	}
	return max(life, 1000)
}

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
}

// put is the store's description of an answer with head h.
func (v *visit) put(x *pipeline.Exchange, h *head) cache.Put {
	service := ""
	if x.Service != nil {
		service = x.Service.ID
	}
	labels := append(v.answer.labels, label(labelService, []byte(service)), label(labelPlugin, []byte(v.id)), label(labelEntry, h.digest[:entryBytes]))
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
	p := v.put(x, h)
	resp := &x.Ctx.Response
	if resp.IsBodyStream() {
		return v.keepStream(x, h, &p, behind)
	}
	body := resp.Body()
	if v.wants.head {
		body = nil
	} else {
		h.length = int64(len(body))
	}
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
	st.head, st.max = *h, v.objectMax-int64(len(p.Head))
	if st.alone = v.patience * int64(time.Millisecond); size >= 0 {
		st.alone *= 10 // it has an end
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
	if d, ok := stream.(interface{ Detach() io.Reader }); ok {
		return d.Detach()
	}
	return stream
}

// freshen makes what was found fresh again, since the service has let it stand, and
// answers with it (RFC 9111 section 4.3.4).
func (v *visit) freshen(x *pipeline.Exchange, now int64, behind bool) {
	resp := &x.Ctx.Response
	if etag := resp.Header.Peek("Etag"); len(etag) > 0 && etag[0] == '"' && string(etag) != string(v.head.etag.of(v.head.fields)) {
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
		v.shelf.store.Delete(v.full)
		v.settle(outcomePass)
	} else {
		h.flags |= v.head.flags & flagCompress
		h.digest = v.head.digest
		v.finish(&h, now)
		p := v.put(x, &h)
		_ = v.shelf.store.SetHead(&p, now) // gone meanwhile: the next asks in full
		if v.tier != nil && v.view.Body != nil {
			v.tier.give(&p, v.moment, v.view.Body)
		}
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

// log adds the surrogate keys that hooks have put on an answer after it was kept, such as
// response-transformer's: the header is final only now. Where no hook can have, it is not
// looked at.
func (i *instance) log(x *pipeline.Exchange) {
	if x.Raw || !i.tags {
		return // Fast path.
	}
	v, _ := x.Ctx.UserValue(i).(*visit)
	if v == nil || !v.kept {
		return
	}
	before := len(v.answer.labels)
	for name, value := range x.Ctx.Response.Header.All() {
		switch string(name) {
		case "Surrogate-Key":
			v.answer.addKeys(value, ' ')
		case "Cache-Tag":
			v.answer.addKeys(value, ',')
		}
	}
	if v.answer.dropKnown(before) {
		v.relabel(x)
	}
}

// dropKnown takes those of the labels from a place on away that stand before it, and
// reports whether any is left.
func (a *answer) dropKnown(from int) bool {
	left := a.labels[:from]
	for _, l := range a.labels[from:] {
		if !slices.Contains(left, l) {
			left = append(left, l)
		}
	}
	a.labels = left
	return len(left) > from
}

// relabel gives what was kept for x the labels of v's answer; where that is not possible
// it goes, since it could not be purged as its keys promise.
func (v *visit) relabel(x *pipeline.Exchange) {
	var old cache.View
	s := v.shelf
	if len(v.answer.labels) <= cache.LabelsMax && s.store.Peek(v.full, s.now(), &old) {
		defer old.Close()
		p := cache.Put{Key: v.full, Head: old.Head, Labels: v.answer.labels, Expires: old.Expires, Born: v.born}
		if s.store.SetHead(&p, s.now()) == nil {
			if v.tier != nil && old.Body != nil {
				v.tier.give(&p, v.moment, old.Body)
			}
			return
		}
	}
	d := digest(v.full)
	s.PurgeSoon(&pipeline.Purge{Entry: hex.EncodeToString(d[:])})
}

// askAgain asks for the whole answer: what the service has let stand is another one than
// what is kept (RFC 9111 section 4.3.4). The one place where a hook sends a request again.
func (v *visit) askAgain(x *pipeline.Exchange, behind bool) {
	v.shelf.store.Delete(v.full)
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

func millis(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
