package proxycache

import (
	"bytes"
	"sync"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/cache"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/plugin/proxycache/rules"
)

// compression says what is given in other encodings than it is kept in. Immutable.
type compression struct {
	order    []rules.Codings // most preferred first
	types    []string
	min, max int64
}

func newCompression(c *Compression) *compression {
	k := &compression{types: c.Types, min: int64(c.MinLength), max: int64(c.MaxLength)}
	for _, name := range c.Encodings {
		k.order = append(k.order, rules.CodingOf([]byte(name)))
	}
	return k
}

// takes reports whether answers of a type are compressed.
func (k *compression) takes(contentType []byte) bool {
	media, _, _ := bytes.Cut(contentType, []byte{';'})
	return matchesType(k.types, bytes.TrimSpace(media))
}

// pick returns the encoding for a client: rules.Identity where none is better.
func (k *compression) pick(accept []byte, has bool, size int64) rules.Codings {
	if !has || size < k.min || size > k.max {
		return rules.Identity
	}
	accepted, preferred := rules.AcceptedCodings(accept, true)
	if preferred == rules.Identity || preferred == 0 {
		return rules.Identity
	}
	for _, c := range k.order {
		if accepted&c != 0 {
			return c
		}
	}
	return rules.Identity
}

// serveEncoded gives the answer found in the encoding that the client wants. An encoding
// is made once and kept beside the answer.
func (v *visit) serveEncoded(x *pipeline.Exchange, size int64) pipeline.Verdict {
	h := &v.head
	coding := v.compression.pick(v.accept, v.hasAccept, size)
	if coding == rules.Identity {
		return v.give(x, int(h.status), h.header(), part{0, size})
	}
	key := append(append(v.full, 0, 0), coding.String()...)
	v.full = key[:len(key)-2-len(coding.String())]
	stored, status := h.stored, int(h.status)
	switch found, worth := v.encoded(key, stored); {
	case worth:
		return v.give(x, status, v.head.header(), part{0, v.view.Size})
	case !found && v.shelf.encoding.begin(key):
		defer v.shelf.encoding.end(key)
		if fields, body := v.encode(x, key, coding); body != nil {
			v.shelf.meters.sent(x, int64(len(body)))
			return x.AnswerStored(status, pipeline.Fields{Text: fields}, body)
		}
	}
	return v.give(x, status, h.header(), part{0, size})
}

// encoded looks for the encoding of the answer that was stored at a time, and makes it
// what is found. worth is false where it would be no smaller.
func (v *visit) encoded(key []byte, stored int64) (found, worth bool) {
	var other cache.View
	other, v.spare = v.spare, cache.View{}
	defer func() { v.spare = other }()
	if !v.shelf.store.Get(key, v.begun, &other) {
		return false, false
	}
	var h head
	found = h.read(other.Head) && h.kind == kindEncoded && h.stored == stored
	if worth = found && h.flags&flagCompress != 0; worth {
		other, v.view = v.view, other
		v.head = h
	}
	other.Close()
	return found, worth
}

// encode makes an encoding of the answer found, and keeps it as long as that. body is nil
// where it is not worth while.
func (v *visit) encode(x *pipeline.Exchange, key []byte, coding rules.Codings) (fields, body []byte) {
	whole := v.view.Body
	if whole == nil {
		whole = make([]byte, v.view.Size)
		if _, err := v.view.ReadAt(whole, 0); err != nil {
			return nil, nil
		}
	}
	switch coding {
	case rules.Brotli:
		body = fasthttp.AppendBrotliBytesLevel(nil, whole, fasthttp.CompressBrotliDefaultCompression)
	case rules.Zstd:
		body = fasthttp.AppendZstdBytesLevel(nil, whole, fasthttp.CompressZstdDefault)
	default:
		body = fasthttp.AppendGzipBytesLevel(nil, whole, fasthttp.CompressDefaultCompression)
	}
	v.shelf.meters.encoded.Add(uint32(x.ConnID), 1) //nolint:gosec // G115: any number is a shard
	h := v.head
	h.kind = kindEncoded
	if len(body) >= len(whole) {
		h.flags &^= flagCompress // noted, not to be tried again
		body = nil
	}
	h.fields = encodedFields(nil, h.fields, coding)
	h.etag, h.modified, h.lens = span{}, span{}, pipeline.LensOf(h.fields)
	v.answer.labels = v.answer.labels[:0] // it goes with the answer: without that it is not looked for
	kept := v.full
	v.full = key
	p := v.put(x, &h)
	v.full = kept
	p.Expires = v.view.Expires
	p.Born = v.shelf.store.Seq()
	_ = v.shelf.store.Set(&p, body, v.begun) // else it is made again
	return h.fields, body
}

// encodedFields are the fields of an encoding: its entity tag is weak, since its bytes are
// others than those the service has tagged (RFC 9110 section 8.8.1).
func encodedFields(dst, fields []byte, coding rules.Codings) []byte {
	for rest := fields; len(rest) > 0; {
		whole := rest
		var name, value []byte
		name, value, rest = pipeline.CutField(rest)
		if string(name) == "Etag" && len(value) > 0 && value[0] == '"' {
			dst = append(append(append(dst, "Etag: W/"...), value...), '\r', '\n')
			continue
		}
		if string(name) == "Accept-Ranges" {
			continue
		}
		dst = append(dst, whole[:len(whole)-len(rest)]...)
	}
	dst = append(append(dst, "Content-Encoding: "...), coding.String()...)
	return append(dst, '\r', '\n')
}

// withoutEncoding takes accept-encoding out of names as AppendVaryNames has them, in place.
func withoutEncoding(names []byte) []byte {
	kept := names[:0]
	for len(names) > 0 {
		var name []byte
		name, names, _ = bytes.Cut(names, []byte{','})
		if string(name) == "accept-encoding" {
			continue
		}
		if len(kept) > 0 {
			kept = append(kept, ',')
		}
		kept = append(kept, name...)
	}
	return kept
}

// varyOnEncoding adds Accept-Encoding to what an answer differs by.
func varyOnEncoding(fields []byte) []byte {
	for rest := fields; len(rest) > 0; {
		var name, value []byte
		name, value, rest = pipeline.CutField(rest)
		if string(name) == "Vary" && (rules.ListHas(value, []byte("Accept-Encoding")) || rules.ListHas(value, []byte("*"))) {
			return fields
		}
	}
	return append(fields, "Vary: Accept-Encoding\r\n"...)
}

// encoders are the encodings that are being made: whoever else wants one meanwhile gets
// the answer as it is, which every client can read unless it says otherwise. Safe for
// concurrent use.
type encoders struct{ under sync.Map }

func (e *encoders) begin(key []byte) bool {
	_, taken := e.under.LoadOrStore(string(key), nil)
	return !taken
}

func (e *encoders) end(key []byte) { e.under.Delete(string(key)) }
