package proxycache

import (
	"encoding/binary"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/sluice-gateway/sluice/cache"
)

// share is an entry on its way to Redis.
type share struct {
	key   string
	value []byte
	life  time.Duration
}

// shared is an entry as Redis has it.
type shared struct {
	put    cache.Put
	moment moment
	body   []byte
}

const shareFormat = 1

// writeShare returns an entry as bytes, the checksum first.
func writeShare(p *cache.Put, m moment, body []byte) []byte {
	le := binary.LittleEndian
	dst := make([]byte, 8, 64+len(p.Head)+len(p.Key)+len(body)+4*len(p.Labels))
	dst = append(dst, shareFormat, byte(len(m.epoch)), byte(len(p.Labels)), 0)
	dst = le.AppendUint32(dst, uint32(len(p.Head))) //nolint:gosec // G115: bounded by the store
	dst = le.AppendUint32(dst, uint32(len(p.Key)))  //nolint:gosec // G115: bounded by the store
	dst = le.AppendUint64(dst, uint64(m.seq))       //nolint:gosec // G115: counts up from 0
	dst = le.AppendUint64(dst, uint64(p.Expires))   //nolint:gosec // G115: after 1970
	dst = append(dst, m.epoch...)
	for _, l := range p.Labels {
		dst = le.AppendUint32(dst, l)
	}
	dst = append(append(append(dst, p.Key...), p.Head...), body...)
	le.PutUint64(dst, xxhash.Sum64(dst[8:]))
	return dst
}

// readShare reads what writeShare wrote; head and body lie in b.
func readShare(b []byte) (e shared, ok bool) {
	const fixed = 8 + 4 + 2*4 + 2*8
	le := binary.LittleEndian
	if len(b) < fixed || b[8] != shareFormat || le.Uint64(b) != xxhash.Sum64(b[8:]) {
		return e, false
	}
	epochLen, labels, headLen, keyLen := int(b[9]), int(b[10]), int64(le.Uint32(b[12:])), int64(le.Uint32(b[16:]))
	e.moment.seq, e.put.Expires = int64(le.Uint64(b[20:])), int64(le.Uint64(b[28:])) //nolint:gosec // G115: as written
	rest := b[fixed:]
	if int64(epochLen+4*labels)+headLen+keyLen > int64(len(rest)) {
		return e, false
	}
	e.moment.epoch, rest = string(rest[:epochLen]), rest[epochLen:]
	for range labels {
		e.put.Labels, rest = append(e.put.Labels, le.Uint32(rest)), rest[4:]
	}
	e.put.Key, rest = rest[:keyLen], rest[keyLen:]
	e.put.Head, e.body = rest[:headLen], rest[headLen:]
	return e, true
}
