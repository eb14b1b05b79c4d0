package keyauth

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// table finds credentials by key. Immutable, safe for concurrent use.
//
// It is an open-addressed hash table: slots hold part of the seeded hash and the
// place of an entry, so that a wrong key almost never reaches an entry.
type table struct {
	seed    maphash.Seed
	slots   []slot // a power of two, at most half of them taken
	entries []entry
}

type slot struct {
	tag   uint32
	place uint32 // of the entry, from 1; 0: empty
}

// entry is one key.
type entry struct {
	credential pipeline.Credential
	key        string
	expires    int64 // milliseconds since 1970, 0 for never
}

func newTable(credentials []*config.KeyAuthCredential, consumers *pipeline.Consumers, loaded time.Time) *table {
	t := &table{
		seed:    maphash.MakeSeed(),
		slots:   make([]slot, 1<<bits.Len(uint(2*len(credentials)))),
		entries: make([]entry, len(credentials)),
	}
	for i, c := range credentials {
		e := &t.entries[i]
		e.key = c.Key
		e.credential = pipeline.Credential{ID: c.ID, Identifier: c.ID, Consumer: consumers.ByID(c.Consumer)}
		if c.TTL > 0 {
			since := c.CreatedAt
			if since == 0 {
				since = loaded.Unix()
			}
			e.expires = (since + int64(c.TTL)) * 1000
		}
		h := maphash.String(t.seed, c.Key)
		at := t.home(h)
		for t.slots[at].place != 0 {
			at = t.next(at)
		}
		t.slots[at] = slot{tag: uint32(h), place: uint32(i + 1)}
	}
	return t
}

// home is where the search for a hash begins: its upper half, the tag is the lower.
func (t *table) home(h uint64) int { return int(h>>32) & (len(t.slots) - 1) }

func (t *table) next(at int) int { return (at + 1) & (len(t.slots) - 1) }

// find returns the credential of a key that has not expired, or nil.
func (t *table) find(key []byte, x *pipeline.Exchange) *pipeline.Credential {
	h := maphash.Bytes(t.seed, key)
	for at := t.home(h); t.slots[at].place != 0; at = t.next(at) {
		if t.slots[at].tag != uint32(h) {
			continue
		}
		e := &t.entries[t.slots[at].place-1]
		if !equal(e.key, key) {
			continue
		}
		if e.expires != 0 && x.WallMillis() >= e.expires {
			return nil
		}
		return &e.credential
	}
	return nil
}

// equal compares in a time that depends on the lengths only. Eight bytes at a
// time: byte by byte, as crypto/subtle does it, takes most of a look-up's time.
func equal(text string, b []byte) bool {
	a := viewBytes(text)
	if len(a) != len(b) {
		return false
	}
	var diff uint64
	for len(a) >= 8 && len(b) >= 8 {
		diff |= binary.LittleEndian.Uint64(a) ^ binary.LittleEndian.Uint64(b)
		a, b = a[8:], b[8:]
	}
	for i := range min(len(a), len(b)) {
		diff |= uint64(a[i] ^ b[i])
	}
	return diff == 0
}
