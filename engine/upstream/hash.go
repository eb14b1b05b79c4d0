package upstream

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	mathrand "math/rand/v2"
	"slices"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// hasher turns what an upstream hashes on into the bytes that are hashed (section 6 of
// Kong's contract). Where neither hash_on nor its fallback is there, Kong hashes the empty
// text, which sends all such requests to one target; here each gets a random one.
type hasher struct {
	inputs []hashInput // hash_on, then hash_fallback
	cookie string      // start of the Set-Cookie value, with its "="
	suffix string      // and its end
}

// hashInput is one thing to hash on.
type hashInput struct {
	kind string // consumer, ip, header, cookie, path, query_arg, uri_capture
	name string
}

func newHasher(u *config.Upstream) *hasher {
	h := &hasher{}
	h.add(u.HashOn, u.HashOnHeader, u.HashOnCookie, u.HashOnQueryArg, u.HashOnURICapture)
	h.add(u.HashFallback, u.HashFallbackHeader, u.HashOnCookie, u.HashFallbackQueryArg, u.HashFallbackURICapture)
	if u.HashOnCookie != "" {
		path := u.HashOnCookiePath
		if path == "" {
			path = "/"
		}
		h.cookie = u.HashOnCookie + "="
		h.suffix = "; Path=" + path + "; SameSite=Lax; HttpOnly"
	}
	return h
}

func (h *hasher) add(kind, header, cookie, arg, capture string) {
	i := hashInput{kind: kind}
	switch kind {
	case "header":
		i.name = string(fasthttp.AppendNormalizedHeaderKey(nil, header))
	case "cookie":
		i.name = cookie
	case "query_arg":
		i.name = arg
	case "uri_capture":
		i.name = capture
	case "none", "":
		return
	}
	h.inputs = append(h.inputs, i)
}

// same reports whether two hashers turn a request into the same bytes.
func (h *hasher) same(o *hasher) bool {
	return o != nil && h.cookie == o.cookie && h.suffix == o.suffix && slices.Equal(h.inputs, o.inputs)
}

// append appends what x is hashed by to dst.
func (h *hasher) append(dst []byte, x *pipeline.Exchange) []byte {
	start := len(dst)
	for i := range h.inputs {
		if dst = h.appendInput(dst, x, &h.inputs[i]); len(dst) > start {
			return dst
		}
	}
	for u, i := mathrand.Uint64(), 0; i < 8; i++ {
		dst = append(dst, byte(u>>(8*i)))
	}
	return dst
}

func (h *hasher) appendInput(dst []byte, x *pipeline.Exchange, i *hashInput) []byte {
	switch i.kind {
	case "consumer":
		switch {
		case x.Consumer != nil:
			return append(dst, x.Consumer.ID...)
		case x.Credential != nil:
			return append(dst, x.Credential.ID...)
		}
	case "ip":
		return x.AppendClientIP(dst)
	case "header":
		for n, v := range x.Ctx.Request.Header.PeekAll(i.name) {
			if n > 0 {
				dst = append(dst, ", "...)
			}
			dst = append(dst, v...)
		}
	case "cookie":
		if v := x.Ctx.Request.Header.Cookie(i.name); len(v) > 0 {
			return append(dst, v...)
		}
		return h.issue(dst, x)
	case "path":
		return append(dst, x.Path...)
	case "query_arg":
		return appendArguments(dst, x.Query, i.name)
	case "uri_capture":
		return append(dst, x.Capture(i.name)...)
	}
	return dst
}

// issue makes a cookie for a client without one, and appends its value.
func (h *hasher) issue(dst []byte, x *pipeline.Exchange) []byte {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	start := len(dst)
	for i, part := range [...][]byte{b[:4], b[4:6], b[6:8], b[8:10], b[10:]} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, part)
	}
	value := append(append(append([]byte(nil), h.cookie...), dst[start:]...), h.suffix...)
	x.StageMore("Set-Cookie", value)
	return dst
}

// appendArguments appends the values of a query argument, sorted and comma-joined as Kong
// does; one without a value counts as "true".
func appendArguments(dst, query []byte, name string) []byte {
	var values [][]byte // stays nil for one value, which needs no list
	start, count := len(dst), 0
	for more := len(query) > 0; more; {
		var arg []byte
		if arg, query, more = pipeline.CutArgument(query); !pipeline.IsArgument(arg, name) {
			continue
		}
		if count++; count == 2 {
			values = append(values, bytes.Clone(dst[start:]))
		}
		at := len(dst)
		if _, value, found := bytes.Cut(arg, []byte{'='}); found {
			dst = pipeline.AppendDecoded(dst, value)
		} else {
			dst = append(dst, "true"...)
		}
		if count > 1 {
			values = append(values, bytes.Clone(dst[at:]))
		}
	}
	if count < 2 {
		return dst // Fast path: none or one.
	}
	slices.SortFunc(values, bytes.Compare)
	return append(dst[:start], bytes.Join(values, []byte{','})...)
}
