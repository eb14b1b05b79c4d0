package proxycache

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/plugin/proxycache/rules"
)

// head is what the store keeps about an answer, in front of its header fields. Times are
// milliseconds since 1970, ages milliseconds.
type head struct {
	kind   kind
	flags  flags
	status uint16

	stored   int64 // when the answer came
	lifetime int64 // how long it is fresh, from when it was made
	age      int64 // how old it was when it came
	length   int64 // of the body that was announced: of an answer to HEAD there is none

	staleWhile, staleError uint32 // seconds after it was fresh

	etag, modified span // in fields; empty without
	digest         [sha256.Size]byte
	lens           uint64 // of fields, see pipeline.Fields; 0 for others than an answer's
	fields         []byte // lines as they go over the wire; those of a varying: its names
}

// span is a part of a block of fields.
type span struct{ at, n uint16 }

func (s span) of(fields []byte) []byte { return fields[s.at : s.at+s.n] }

// kind says what an entry is.
type kind uint8

const (
	kindAnswer  kind = iota
	kindVarying      // the answers to this key differ by the request headers named in fields
	kindPass         // answers to this key are not kept: nobody waits for another's
	kindEncoded      // an answer in another encoding, of the entry that was stored at the same time
)

type flags uint16

const (
	flagValidate  flags = 1 << iota // never without asking (no-cache)
	flagNoStale                     // not stale, whatever goes on (must-revalidate)
	flagErrorSaid                   // the answer itself said for how long errors are covered
	flagStale                       // purged softly before it came here
	flagCompress                    // may be given in other encodings
)

// headSize is the length of an encoded head before its fields.
const headSize = 8 + 4*8 + 2*4 + 8 + sha256.Size + 8

// heads of another layout are not read: a file of them starts empty.
const headFormat = 2

// append appends h as bytes.
func (h *head) append(dst []byte) []byte {
	le := binary.LittleEndian
	dst = append(dst, headFormat, byte(h.kind))
	dst = le.AppendUint16(dst, uint16(h.flags))
	dst = le.AppendUint16(dst, h.status)
	dst = append(dst, 0, 0)
	for _, v := range [...]int64{h.stored, h.lifetime, h.age, h.length} {
		dst = le.AppendUint64(dst, uint64(v)) //nolint:gosec // G115: the bits
	}
	dst = le.AppendUint32(dst, h.staleWhile)
	dst = le.AppendUint32(dst, h.staleError)
	for _, v := range [...]uint16{h.etag.at, h.etag.n, h.modified.at, h.modified.n} {
		dst = le.AppendUint16(dst, v)
	}
	dst = le.AppendUint64(append(dst, h.digest[:]...), h.lens)
	return append(dst, h.fields...)
}

// read makes h what b holds and reports whether that is a head. Fields lie in b.
func (h *head) read(b []byte) bool {
	if len(b) < headSize || b[0] != headFormat {
		return false
	}
	le := binary.LittleEndian
	h.kind, h.flags, h.status = kind(b[1]), flags(le.Uint16(b[2:])), le.Uint16(b[4:])
	h.stored, h.lifetime = int64(le.Uint64(b[8:])), int64(le.Uint64(b[16:])) //nolint:gosec // G115: the bits
	h.age, h.length = int64(le.Uint64(b[24:])), int64(le.Uint64(b[32:]))     //nolint:gosec // G115: the bits
	h.staleWhile, h.staleError = le.Uint32(b[40:]), le.Uint32(b[44:])
	h.etag = span{le.Uint16(b[48:]), le.Uint16(b[50:])}
	h.modified = span{le.Uint16(b[52:]), le.Uint16(b[54:])}
	copy(h.digest[:], b[56:])
	h.lens = le.Uint64(b[88:])
	h.fields = b[headSize:]
	n := len(h.fields)
	return h.kind <= kindEncoded && int(h.etag.at)+int(h.etag.n) <= n && int(h.modified.at)+int(h.modified.n) <= n
}

// header is the answer's, as it is given.
func (h *head) header() pipeline.Fields { return pipeline.Fields{Text: h.fields, Lens: h.lens} }

// alwaysAsks reports whether the answer was never to be given without asking, so that
// waiting for another's is in vain.
func (h *head) alwaysAsks() bool { return h.flags&flagValidate != 0 || h.lifetime <= h.age }

// ageAt is how old the answer is at now.
func (h *head) ageAt(now int64) int64 { return rules.CurrentAge(h.age, h.stored, now) }
