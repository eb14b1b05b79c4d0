package limiter

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"hash/fnv"
)

// The bytes of Quotas are batches, each complete in itself: a file may hold any
// number, one after another. Numbers are little-endian.
//
//	batch   magic "SLQ1" | kind, 's'napshot or 'j'ournal | calendars | 2 × 0 |
//	        fingerprint of the calendars, 8 | records, 4 | CRC-32C of these, 4
//	record  key, 8 | last use, 8 | first use, 8 | end of period, 8, and used, 8, for
//	        each calendar | CRC-32C, 4, that continues the batch's
//
// A record says what is, not what was added: to replay it twice, or on a snapshot
// that is newer, harms nothing as long as all that follows is replayed too.
const (
	batchMagic = "SLQ1"
	batchBytes = 24
)

// ErrQuotaDamaged reports bytes that AppendTo or Journal did not write so, or that
// end too early.
var ErrQuotaDamaged = errors.New("quota data is damaged or incomplete")

// ErrQuotaCalendars reports bytes of Quotas with other calendars.
var ErrQuotaCalendars = errors.New("quota data was counted by other calendars")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendTo appends a snapshot of all counters to dst and returns it. Counting goes
// on meanwhile; what is counted after an entry was written is in the next Journal.
func (q *Quotas) AppendTo(dst []byte) []byte {
	begin := len(dst)
	dst = q.appendBatch(dst, 's')
	q.each(func(e []uint64, last int64) {
		if e[quotaFirst] != 0 {
			dst = q.appendRecord(dst, e, last)
		}
	})
	return q.endBatch(dst, begin)
}

// Journal appends what changed since its last call to dst and returns it; nothing if
// nothing did. To lose no more than a second of counting, an owner appends to a
// file each second, and from time to time begins a new one:
//
//	begin file n+1: write AppendTo, then Journal each second
//	once AppendTo is on disk: remove file n
//	on start: Replay the files in order
func (q *Quotas) Journal(dst []byte) []byte {
	begin := len(dst)
	dst = q.appendBatch(dst, 'j')
	for i := range q.dirty {
		d := &q.dirty[i]
		d.mu.Lock()
		keys, all := d.keys, d.all
		d.keys, d.all = q.spare[:0], false
		d.mu.Unlock()
		q.spare = keys
		for _, key := range keys {
			if e, last := q.seek(key); e != nil {
				dst = q.appendDirty(dst, e, last)
				unlock(e, last)
			}
		}
		if all {
			// Slow path: a flood of newcomers replaced each other.
			q.eachOf(i, func(e []uint64, last int64) { dst = q.appendDirty(dst, e, last) })
		}
	}
	if len(dst) == begin+batchBytes {
		return dst[:begin]
	}
	return q.endBatch(dst, begin)
}

func (q *Quotas) appendDirty(dst []byte, e []uint64, last int64) []byte {
	if e[quotaFirst]&1 == 0 {
		return dst // listed twice: it was forgotten and came back
	}
	e[quotaFirst] &^= 1
	return q.appendRecord(dst, e, last)
}

func (q *Quotas) appendBatch(dst []byte, kind byte) []byte {
	dst = append(dst, batchMagic...)
	dst = append(dst, kind, byte(len(q.calendars)), 0, 0)
	dst = binary.LittleEndian.AppendUint64(dst, q.fingerprint())
	return append(dst, 0, 0, 0, 0, 0, 0, 0, 0) // endBatch fills them in
}

// appendRecord leaves the sum to endBatch, as it continues the batch's.
func (q *Quotas) appendRecord(dst []byte, e []uint64, last int64) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, e[0])
	dst = binary.LittleEndian.AppendUint64(dst, uint64(last))
	dst = binary.LittleEndian.AppendUint64(dst, e[quotaFirst]>>1)
	for _, w := range e[quotaEnds:] {
		dst = binary.LittleEndian.AppendUint64(dst, w)
	}
	return append(dst, 0, 0, 0, 0)
}

func (q *Quotas) recordBytes() int { return 28 + 16*len(q.calendars) }

// endBatch writes the number of records and all sums.
func (q *Quotas) endBatch(dst []byte, begin int) []byte {
	head, records, size := dst[begin:begin+batchBytes], dst[begin+batchBytes:], q.recordBytes()
	binary.LittleEndian.PutUint32(head[16:], uint32(len(records)/size))
	sum := crc32.Checksum(head[:20], castagnoli)
	binary.LittleEndian.PutUint32(head[20:], sum)
	for ; len(records) >= size; records = records[size:] {
		binary.LittleEndian.PutUint32(records[size-4:], crc32.Update(sum, castagnoli, records[:size-4]))
	}
	return dst
}

// fingerprint tells calendars apart.
func (q *Quotas) fingerprint() uint64 {
	h := fnv.New64a()
	for _, c := range q.calendars {
		h.Write([]byte{byte(c.Period), byte(c.ResetOn)})
		if !c.utc() {
			h.Write([]byte(c.Location.String()))
		}
		h.Write([]byte{0})
	}
	return h.Sum64()
}

// Load sets the counters that src holds, snapshots and journals one after another.
// Of bytes that are not all good it loads nothing.
func (q *Quotas) Load(src []byte) error {
	if _, err := q.read(src, false); err != nil {
		return err
	}
	_, err := q.read(src, true)
	return err
}

// Replay is Load that keeps what comes before the first fault: good is how many
// bytes of src were, up to the end of the last whole batch; the records of the next
// that come before the fault are set too. What a crash leaves is a good beginning and
// a torn end: begin a new file then, as the torn batch is in no file.
func (q *Quotas) Replay(src []byte) (good int, err error) { return q.read(src, true) }

// read checks src and sets the counters of its good beginning if apply.
func (q *Quotas) read(src []byte, apply bool) (good int, err error) {
	size := q.recordBytes()
	for len(src) > 0 {
		if len(src) < batchBytes || string(src[:4]) != batchMagic {
			return good, ErrQuotaDamaged
		}
		sum := crc32.Checksum(src[:20], castagnoli)
		if binary.LittleEndian.Uint32(src[20:]) != sum || src[4] != 's' && src[4] != 'j' {
			return good, ErrQuotaDamaged
		}
		if int(src[5]) != len(q.calendars) || binary.LittleEndian.Uint64(src[8:]) != q.fingerprint() {
			return good, ErrQuotaCalendars
		}
		count := int(binary.LittleEndian.Uint32(src[16:]))
		src = src[batchBytes:]
		for range count {
			if len(src) < size || binary.LittleEndian.Uint32(src[size-4:]) != crc32.Update(sum, castagnoli, src[:size-4]) {
				return good, ErrQuotaDamaged
			}
			if apply {
				q.set(src)
			}
			src = src[size:]
		}
		good += batchBytes + count*size
	}
	return good, nil
}

// set puts a record into the table.
func (q *Quotas) set(record []byte) {
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(record[8*i:]) }
	last := int64(word(1))
	e, _, _ := q.lock(word(0), last)
	e[quotaFirst] = word(2)<<1 | e[quotaFirst]&1
	for i := range e[quotaEnds:] {
		e[quotaEnds+i] = word(3 + i)
	}
	unlock(e, last)
}
