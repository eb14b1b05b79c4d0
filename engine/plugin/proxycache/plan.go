package proxycache

import (
	"bytes"
	"slices"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/plugin/proxycache/rules"
)

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
	if !safe(x) {
		staleWhile = 0 // not to be sent again without its client
	}
	if v.storage > 0 && v.servesStale && h.flags&flagErrorSaid == 0 {
		staleError = max(staleError, (v.storage-h.lifetime)/1000)
	}
	h.staleWhile, h.staleError = seconds(staleWhile), seconds(staleError)
	if v.compress && !a.encoded && !a.noTransform && !v.isHead && h.status == fasthttp.StatusOK && v.compression.takes(a.contentType) {
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
	case a.cookie && (!v.directed || !rules.ListHas(a.directives.PrivateFields, setCookie) && !rules.ListHas(a.directives.NoCacheFields, setCookie)):
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
	if variesByUs(a.vary) {
		return reasonVary
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

// ours are request headers that the gateway sets on the way to the service, of what is not
// in the key: what the service chose its answer by is not in the request as it is here.
var ours = [...]string{"x-forwarded-for", "x-real-ip", "forwarded", "via", "x-kong-request-id"}

// variesByUs reports whether names, as AppendVaryNames has them, hold one of those.
func variesByUs(names []byte) bool {
	for name := range bytes.SplitSeq(names, []byte{','}) {
		for _, own := range ours {
			if string(name) == own {
				return true
			}
		}
	}
	return false
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
