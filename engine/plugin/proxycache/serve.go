package proxycache

import (
	"bytes"
	"encoding/hex"
	"io"
	"strconv"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/plugin/proxycache/rules"
)

// serve answers x with what was found. It is hot.
func (v *visit) serve(x *pipeline.Exchange) pipeline.Verdict {
	h := &v.head
	age := h.ageAt(v.begun)
	if v.result == resultStale && v.view.Size >= 0 {
		v.stale(x)
	}
	if v.shows.Age {
		x.StageInt("Age", age/1000)
	}
	v.stageStatus(x)
	v.shelf.meters.count(x, v.result, reasonNone)
	v.shelf.meters.given(x, age)
	if v.conditional() && v.answers304(h) {
		return v.answer304(x, h)
	}
	size := v.view.Size
	switch {
	case v.ranges != nil && h.status == fasthttp.StatusOK && x.Ctx.Request.Header.IsGet():
		if verdict, done := v.serveRange(x, size); done {
			return verdict
		}
	case v.isHead:
		if h.length >= 0 && size == 0 {
			size = h.length // kept of a HEAD
		}
		return x.AnswerStoredHead(int(h.status), h.header(), int(size))
	case h.flags&flagCompress != 0 && v.compress && (!v.directives || !v.demands.NoTransform):
		return v.serveEncoded(x, size)
	}
	return v.give(x, int(h.status), h.header(), part{0, size})
}

// part is some bytes of a body: from off on, n of them.
type part struct{ off, n int64 }

// give answers with a part of the body found.
func (v *visit) give(x *pipeline.Exchange, status int, fields pipeline.Fields, p part) pipeline.Verdict {
	v.shelf.meters.sent(x, p.n)
	if v.view.Body != nil || v.view.Size == 0 { // Fast path.
		return x.AnswerStored(status, fields, v.view.Body[p.off:p.off+p.n])
	}
	v.body = body{v: v, at: p.off, end: p.off + p.n}
	return x.AnswerStoredStream(status, fields, &v.body, int(p.n))
}

// body reads a large answer from the store as it is sent: the view keeps it there.
type body struct {
	v       *visit
	at, end int64
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.at >= b.end {
		return 0, io.EOF
	}
	if left := b.end - b.at; int64(len(p)) > left {
		p = p[:left]
	}
	n, err := b.v.view.ReadAt(p, b.at)
	b.at += int64(n)
	if err == io.EOF && n > 0 {
		err = nil
	}
	return n, err
}

// Close implements io.Closer. The view is closed with the visit.
func (b *body) Close() error { return nil }

// stale says that the answer is not fresh, and asks for it anew beside this request.
func (v *visit) stale(x *pipeline.Exchange) {
	x.Stage("Warning", warningStale)
	if v.fetchingOver(x) && (!v.directives || !v.demands.NoStore) {
		v.refreshBehind(x)
	}
}

var warningStale = []byte(`110 - "Response is Stale"`)

// fetchingOver reports whether the service has not been asked for this request.
func (v *visit) fetchingOver(x *pipeline.Exchange) bool { return x.UpstreamStart == 0 && !v.collapsed }

// refreshBehind asks the service for the answer found, for the next requests.
func (v *visit) refreshBehind(x *pipeline.Exchange) {
	s := v.shelf
	shard := uint32(x.ConnID) //nolint:gosec // G115: any number is a shard
	f, leads := v.join()
	if !leads {
		return // somebody is at it
	}
	b := visits.Get().(*visit)
	b.instance, b.flight = v.instance, f
	b.authorized = v.authorized // the request has the client's credentials, still
	b.key, b.full = append(b.key, v.key...), append(b.full, v.full...)
	b.begun, b.storing, b.result = v.begun, true, resultRefresh
	b.born = s.store.Seq()
	if b.tier != nil {
		b.moment, _ = b.tier.now()
	}
	c := x.Copy()
	unconditional(&c.Ctx.Request.Header)
	if b.isHead = v.isHead && !v.directed; v.isHead && v.directed {
		c.Ctx.Request.Header.SetMethod(fasthttp.MethodGet) // whose answer it is
	}
	if v.compress {
		c.Ctx.Request.Header.Del("Accept-Encoding")
	}
	if b.look(b.full) && b.directed {
		b.ask(&c.Ctx.Request.Header)
	}
	if !s.fetchBehind(func() { b.fetchBehind(c) }) {
		s.meters.crowded.Add(shard, 1)
		_ = b.Close() // never fails
		return
	}
	s.meters.behind.Add(shard, 1)
}

// fetchBehind sends c and keeps what comes.
func (v *visit) fetchBehind(c *pipeline.Exchange) {
	defer func() { _ = v.Close() }() // never fails
	c.Forward()
	v.take(c, true)
	_ = c.Ctx.Response.CloseBodyStream() // of what is not kept
}

// stageStatus tells the client what the cache did.
func (v *visit) stageStatus(x *pipeline.Exchange) {
	if v.shows.XCacheStatus {
		x.Stage("X-Cache-Status", resultBytes[v.result])
	}
	if v.shows.XCacheKey && len(v.key) > 0 {
		var text [64]byte
		x.Stage("X-Cache-Key", text[:hex.Encode(text[:], v.digest()[:v.keyHexLen/2])])
	}
	if v.shows.CacheStatus && v.directed {
		var s rules.Status
		v.status(x, &s)
		v.text = rules.AppendCacheStatus(v.text[:0], &s)
		x.StageMore("Cache-Status", v.text)
	}
}

var resultBytes = func() (b [results][]byte) {
	for i, n := range resultNames {
		b[i] = []byte(n)
	}
	return b
}()

// digest names the entry of this request.
func (v *visit) digest() *[32]byte {
	if !v.found {
		v.head.digest = digest(v.full)
	}
	return &v.head.digest
}

// status makes s what Cache-Status says (RFC 9211).
func (v *visit) status(x *pipeline.Exchange, s *rules.Status) {
	s.Forward, s.Collapsed = v.forward, v.collapsed
	switch v.result {
	case resultHit, resultStale:
		s.Hit = !v.collapsed && x.UpstreamStart == 0
		s.ForwardStatus = x.UpstreamStatus
		s.HasTTL, s.TTL = true, (v.head.lifetime-v.head.ageAt(v.begun))/1000
		if v.collapsed && s.Forward == rules.NotForwarded {
			s.Forward = rules.URIMiss
		}
	case resultBypass:
		if v.why != reasonNone && s.Forward != rules.ByMethod {
			s.Detail = v.why.String()
		}
		s.ForwardStatus = x.UpstreamStatus
	default:
		s.ForwardStatus = x.UpstreamStatus
		s.Stored = v.kept
	}
}

// answers304 reports whether the client has what h describes already.
func (v *visit) answers304(h *head) bool {
	if h.status != fasthttp.StatusOK {
		return false
	}
	c := rules.Conditions{IfNoneMatch: v.noneMatch, HasIfNoneMatch: v.hasNoneMatch, IfModifiedSince: v.since, Now: v.begun}
	return rules.NotModified(&c, h.etag.of(h.fields), v.date(h, "Last-Modified"), v.date(h, "Date"))
}

// date is the point in time of a field, rules.Absent without.
func (v *visit) date(h *head, name string) int64 {
	for rest := h.fields; len(rest) > 0; {
		var n, value []byte
		if n, value, rest = pipeline.CutField(rest); string(n) == name {
			if ms, ok := rules.ParseDate(value, v.begun); ok {
				return ms
			}
			return rules.Absent
		}
	}
	return rules.Absent
}

// answer304 answers that the client's copy stands, with the fields that RFC 9110 section
// 15.4.5 asks for and those that say nothing of the body.
func (v *visit) answer304(x *pipeline.Exchange, h *head) pipeline.Verdict {
	v.out = appendFieldsBut(v.out[:0], h.fields, describesBody)
	return x.AnswerStored(fasthttp.StatusNotModified, pipeline.Fields{Text: v.out}, nil)
}

// appendFieldsBut appends the fields whose names leavesOut does not.
func appendFieldsBut(dst, fields []byte, leavesOut func(name []byte) bool) []byte {
	for rest := fields; len(rest) > 0; {
		whole := rest
		var name []byte
		if name, _, rest = pipeline.CutField(rest); !leavesOut(name) {
			dst = append(dst, whole[:len(whole)-len(rest)]...)
		}
	}
	return dst
}

func describesWhole(name []byte) bool {
	switch string(name) {
	case "Cache-Control", "Cdn-Cache-Control", "Expires", "Etag", "Last-Modified", "Content-Type", "Content-Encoding":
		return true
	}
	return false
}

func describesBody(name []byte) bool {
	switch string(name) {
	case "Content-Type", "Content-Encoding", "Content-Language", "Content-Range", "Last-Modified":
		return true
	}
	return false
}

// serveRange answers with the part of the body that was asked for (RFC 9110 section
// 14.2). done is false where the whole is to be given.
func (v *visit) serveRange(x *pipeline.Exchange, size int64) (verdict pipeline.Verdict, done bool) {
	h := &v.head
	if v.ifRange != nil && !rules.IfRange(v.ifRange, h.etag.of(h.fields), v.date(h, "Last-Modified"), v.date(h, "Date")) {
		return pipeline.Next, false
	}
	r, kind := rules.ParseRange(v.ranges, size)
	out := v.out[:0]
	if kind == rules.RangeUnsatisfiable {
		// How long the whole is fresh is not said of this, lest somebody keep it.
		out = appendFieldsBut(out, h.fields, describesWhole)
	} else {
		out = append(out, h.fields...)
	}
	out = append(out, "Content-Range: bytes "...)
	switch kind {
	case rules.RangeOne:
		out = append(strconv.AppendInt(out, r.Start, 10), '-')
		out = append(strconv.AppendInt(out, r.End, 10), '/')
	case rules.RangeUnsatisfiable:
		out = append(out, "*/"...)
	default:
		return pipeline.Next, false
	}
	out = append(strconv.AppendInt(out, size, 10), '\r', '\n')
	v.out = out
	if kind == rules.RangeUnsatisfiable {
		return x.AnswerStored(fasthttp.StatusRequestedRangeNotSatisfiable, pipeline.Fields{Text: out}, nil), true
	}
	return v.give(x, fasthttp.StatusPartialContent, pipeline.Fields{Text: out}, part{r.Start, r.End - r.Start + 1}), true
}

// isFor reports whether a stream is of x's answer: it may differ by what x says.
func (v *visit) isFor(x *pipeline.Exchange, st *stream) bool {
	if len(st.vary) > 0 {
		v.full = appendSelecting(append(v.full[:0], v.key...), x, st.vary)
	}
	return bytes.Equal(st.full, v.full)
}

// readAlong answers x from a stream that another request has begun, and reports whether
// it could: when it is over, the store has it.
func (v *visit) readAlong(x *pipeline.Exchange, st *stream) bool {
	body := st.newReader(x, false)
	if body == nil {
		return false // it is over: look in the store
	}
	v.result = resultHit
	age := v.head.ageAt(v.begun)
	if v.shows.Age {
		x.StageInt("Age", age/1000)
	}
	v.stageStatus(x)
	v.shelf.meters.count(x, resultHit, reasonNone)
	v.shelf.meters.given(x, age)
	if v.conditional() && v.answers304(&v.head) {
		_ = body.Close() // never fails
		v.answer304(x, &v.head)
		return true
	}
	v.shelf.meters.sent(x, max(st.size, 0))
	x.AnswerStoredStream(int(v.head.status), st.head.header(), body, int(st.size))
	return true
}
