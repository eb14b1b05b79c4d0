package quota

import (
	"sync"

	"github.com/cespare/xxhash/v2"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/limiter"
)

// reservation is what was counted for a request until it is known whether it counts. It
// is a user value of the request under its instance, and closed with the request where
// Log hooks never run. It belongs to the request's goroutine.
type reservation struct {
	book   *book
	shared *shared
	now    int64 // when it was counted, in seconds since 1970
	kind   kind
	id     string // "" for an address
	key    uint64
	keys   []string // in Redis, of the periods; not changed once made

	limits, used, ends [limiter.Periods]int64
}

var reservations = sync.Pool{New: func() any { return new(reservation) }}

// begin finds out who calls and what he may have.
func (r *reservation) begin(l *limit, x *pipeline.Exchange) {
	// A test may be ahead of the clock.
	r.now = pipeline.WallMillis(max(x.Start, pipeline.Now())) / 1000
	r.book, r.shared = l.book, l.shared
	copy(r.limits[:], l.limits)
	r.limits[l.longest()] = l.limitOf(x.Consumer)
	r.kind, r.id = identify(x)
	if l.shared == nil {
		r.key = l.book.key(r.kind, r.id, x)
	} else if r.kind == byAddress {
		r.id = x.ClientIP.String()
	}
}

// take counts the request if every limit admits it.
func (r *reservation) take(l *limit) (ok bool, err error) {
	if r.shared != nil {
		return r.shared.take(r)
	}
	q, n := r.book.quotas, len(l.periods)
	ok, _ = q.Take(r.key, r.now, 1, r.limits[:n], r.used[:n])
	q.Ends(r.key, r.now, r.ends[:n])
	return ok, nil
}

// drop gives r back and leaves what it counted.
func (r *reservation) drop() {
	*r = reservation{}
	reservations.Put(r)
}

// Close takes back what r counted. The error is nil.
func (r *reservation) Close() error {
	if r.shared != nil {
		r.shared.refund(r)
	} else {
		r.book.quotas.Refund(r.key, r.now, 1)
	}
	r.drop()
	return nil
}

// kind is what tells a caller apart.
type kind uint8

const (
	byAddress kind = iota
	byCredential
	byConsumer
)

var kindNames = [...]string{byAddress: "ip", byCredential: "credential", byConsumer: "consumer"}

// identify names the caller; an address has no id.
func identify(x *pipeline.Exchange) (kind, string) {
	switch {
	case x.Consumer != nil:
		return byConsumer, x.Consumer.ID
	case x.Credential != nil:
		return byCredential, x.Credential.ID
	}
	return byAddress, ""
}

// key is what a caller is counted under in this process and in its files. The kinds have
// seeds of their own, and all of them are random: nobody can find an address that has
// the key of a consumer.
func (b *book) key(k kind, id string, x *pipeline.Exchange) uint64 {
	var d xxhash.Digest
	d.ResetWithSeed(b.seed + uint64(k))
	if k == byAddress {
		address := x.ClientIP.As16()
		_, _ = d.Write(address[:]) // never fails
	} else {
		_, _ = d.WriteString(id) // never fails
	}
	return d.Sum64()
}
