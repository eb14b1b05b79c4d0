package proxycache

import (
	"fmt"
	"io"

	"github.com/sluice-gateway/sluice/cache"
	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// result is what became of a request.
type result uint8

const (
	resultHit     result = iota
	resultMiss           // the service was asked; the answer may be kept
	resultRefresh        // what was kept was not good enough: the service was asked
	resultStale          // answered with what was no longer fresh
	resultBypass         // the answer is not kept, or was not looked for
	results
)

// resultNames are the values of X-Cache-Status, and of metrics in lower case.
var resultNames = [results]string{"Hit", "Miss", "Refresh", "Stale", "Bypass"}

var resultLabels = [results]string{"hit", "miss", "refresh", "stale", "bypass"}

// reason says why an answer is not kept, or not looked for. The zero value says nothing.
type reason uint8

const (
	reasonNone reason = iota
	reasonMethod
	reasonRequestNoStore
	reasonRequestNoCache
	reasonAuthorization
	reasonRange
	reasonCondition
	reasonStatus
	reasonContentType
	reasonNoStore
	reasonPrivate
	reasonNoCache
	reasonNotFresh
	reasonSetCookie
	reasonVary
	reasonPartial
	reasonNotUnderstood
	reasonTooLarge
	reasonHeader
	reasonSurrogateKeys
	reasonEventStream
	reasonBusy
	reasonFull
	reasonPurged
	reasonBody
	reasons
)

var reasonNames = [reasons]string{
	"none", "method", "request-no-store", "request-no-cache", "authorization", "range", "condition", "status", "content-type",
	"no-store", "private", "no-cache", "not-fresh", "set-cookie", "vary", "partial", "must-understand", "too-large", "header",
	"surrogate-keys", "event-stream", "busy", "full", "purged", "body",
}

// String returns the reason as it appears in metrics, in Cache-Status and in explain.
func (r reason) String() string { return reasonNames[r] }

// ages are the bounds of how old answers were that were given, in seconds.
var ages = [...]int64{1, 10, 60, 600, 3600, 21600, 86400}

// meters are what a shelf counts. Safe for concurrent use.
type meters struct {
	results   [results]pipeline.ShardedCounter
	bypasses  [reasons]pipeline.ShardedCounter
	ages      [len(ages) + 1]pipeline.ShardedCounter
	ageSum    pipeline.ShardedCounter // milliseconds
	bytesOut  pipeline.ShardedCounter // of bodies from the cache
	stored    pipeline.ShardedCounter
	coalesced pipeline.ShardedCounter // requests that waited for another's answer
	late      pipeline.ShardedCounter // of those, who gave up
	behind    pipeline.ShardedCounter // stale answers asked for anew beside a request
	crowded   pipeline.ShardedCounter // of those, left out since too many were under way
	cut       pipeline.ShardedCounter // answers that broke off since what they read along did
	resumed   pipeline.ShardedCounter // of those, completed by asking again
	notModif  pipeline.ShardedCounter // answers that the service let stand (304)
	encoded   pipeline.ShardedCounter // answers compressed
}

// count counts a request's result.
func (m *meters) count(x *pipeline.Exchange, r result, why reason) {
	shard := uint32(x.ConnID) //nolint:gosec // G115: any number is a shard
	m.results[r].Add(shard, 1)
	if r == resultBypass {
		m.bypasses[why].Add(shard, 1)
	}
}

// given counts an answer from the cache, its age in milliseconds.
func (m *meters) given(x *pipeline.Exchange, age int64) {
	shard := uint32(x.ConnID) //nolint:gosec // G115: any number is a shard
	i := 0
	for i < len(ages) && age > ages[i]*1000 {
		i++
	}
	m.ages[i].Add(shard, 1)
	m.ageSum.Add(shard, age)
}

// sent counts the bytes of a body that are given from the cache.
func (m *meters) sent(x *pipeline.Exchange, bytes int64) {
	m.bytesOut.Add(uint32(x.ConnID), bytes) //nolint:gosec // G115: any number is a shard
}

// expose writes the metrics of the memory called name.
func (m *meters) expose(w io.Writer, name string) {
	line := func(metric, labels string, v int64) {
		_, _ = fmt.Fprintf(w, "sluice_cache_%s{cache=%q%s} %d\n", metric, name, labels, v) // what fails is the client who asked
	}
	for r := range results {
		line("requests_total", fmt.Sprintf(",result=%q", resultLabels[r]), m.results[r].Load())
	}
	for r := reasonNone + 1; r < reasons; r++ {
		if n := m.bypasses[r].Load(); n > 0 {
			line("bypasses_total", fmt.Sprintf(",reason=%q", r), n)
		}
	}
	total := int64(0)
	for i := range m.ages {
		total += m.ages[i].Load()
		le := "+Inf"
		if i < len(ages) {
			le = fmt.Sprint(ages[i])
		}
		line("age_seconds_bucket", fmt.Sprintf(",le=%q", le), total)
	}
	_, _ = fmt.Fprintf(w, "sluice_cache_age_seconds_sum{cache=%q} %g\n", name, float64(m.ageSum.Load())/1000)
	line("age_seconds_count", "", total)
	for _, c := range [...]struct {
		metric string
		n      *pipeline.ShardedCounter
	}{
		{"served_bytes_total", &m.bytesOut}, {"stored_total", &m.stored}, {"coalesced_total", &m.coalesced},
		{"coalesced_late_total", &m.late}, {"background_fetches_total", &m.behind}, {"background_refused_total", &m.crowded},
		{"followers_cut_total", &m.cut}, {"followers_resumed_total", &m.resumed}, {"not_modified_total", &m.notModif},
		{"encoded_total", &m.encoded},
	} {
		line(c.metric, "", c.n.Load())
	}
}

// exposeStore writes the metrics of a store.
func exposeStore(w io.Writer, name string, s *cache.Stats) {
	for _, m := range [...]struct {
		metric, labels string
		n              int64
	}{
		{"entries", "", int64(s.Entries)}, {"bytes", "", s.Bytes}, {"capacity_bytes", "", s.Capacity}, {"held_bytes", "", s.Held},
		{"resident_bytes", "", s.Resident}, {"overhead_bytes", "", s.Overhead}, {"limbo_bytes", "", s.Limbo},
		{"evictions_total", "", count(s.Evictions)}, {"expired_total", "", count(s.Expired)}, {"purged_total", "", count(s.Purged)},
		{"promoted_total", "", count(s.Promoted)}, {"ghost_hits_total", "", count(s.GhostHits)},
		{"refused_total", `,reason="too_large"`, count(s.TooLarge)}, {"refused_total", `,reason="full"`, count(s.Full)},
		{"refused_total", `,reason="purged"`, count(s.BornPurged)}, {"refused_total", `,reason="pinned"`, count(s.Pinned)},
	} {
		_, _ = fmt.Fprintf(w, "sluice_cache_%s{cache=%q%s} %d\n", m.metric, name, m.labels, m.n)
	}
}

func count(n uint64) int64 { return int64(n) } //nolint:gosec // G115: far from the end
