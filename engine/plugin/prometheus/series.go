package prometheus

import (
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// sources of an answer, as the source label says.
const (
	fromKong = iota
	fromService
	sources
)

var sourceNames = [sources]string{"kong", "service"}

const (
	ingress = iota
	egress
	directions
)

var directionNames = [directions]string{"ingress", "egress"}

// statusClasses and statusesOfClass cover every three-digit status.
const statusClasses, statusesOfClass = 10, 100

// hot is what nearly every request of a route touches: sums and first buckets of
// the latencies, bytes, and the 200s of the service. It fills two cache lines.
//
// With thousands of routes in use, a route's counters are not in the cache when
// a request comes. So the hot ones of all routes lie side by side in slabs, which
// fit the second-level cache, and the rest is touched only by what is rare.
type hot struct {
	micros [latencies]atomic.Int64   // sums of what was observed
	first  [latencies]atomic.Uint64  // counts of the first buckets
	bytes  [directions]atomic.Uint64 // of requests that count for no consumer
	served atomic.Uint64             // likewise: answered by the service with 200
	_      [128 - 72]byte
}

// hotSlab is how many are allocated at once.
const hotSlab = 256

// slab hands out hot counters that lie side by side. Guarded by registry.mu.
type slab struct {
	free  []*hot
	fresh []hot
}

func (s *slab) take() *hot {
	if n := len(s.free); n > 0 {
		h := s.free[n-1]
		s.free = s.free[:n-1]
		return h
	}
	if len(s.fresh) == 0 {
		s.fresh = make([]hot, hotSlab)
	}
	h := &s.fresh[0]
	s.fresh = s.fresh[1:]
	return h
}

// give takes h back. No request counts in it any more: its route was in no
// snapshot since before the last one was retired.
func (s *slab) give(h *hot) {
	for i := range latencies {
		h.micros[i].Store(0)
		h.first[i].Store(0)
	}
	for i := range h.bytes {
		h.bytes[i].Store(0)
	}
	h.served.Store(0)
	s.free = append(s.free, h)
}

// counts are requests and bytes of one route and consumer.
type counts struct {
	bytes [directions]atomic.Uint64
	// A class of statuses gets its counters when the first of it occurs: most
	// routes see two or three.
	statuses [sources][statusClasses]atomic.Pointer[[statusesOfClass]atomic.Uint64]
}

const statusOK = 200

func (c *counts) countStatus(source, status int) {
	status = min(max(status, 0), statusClasses*statusesOfClass-1)
	p := &c.statuses[source][status/statusesOfClass]
	class := p.Load()
	if class == nil {
		p.CompareAndSwap(nil, new([statusesOfClass]atomic.Uint64))
		class = p.Load()
	}
	class[status%statusesOfClass].Add(1)
}

// shard is what some of the connections have counted on a route beside hot.
type shard struct {
	counts
	late histogramsTail
	_    [128]byte
}

// shardsMax is a power of two; more cores than that share shards.
const shardsMax = 16

// shardMask selects among as many shards as there are cores, rounded up.
var shardMask = func() uint64 {
	n := 1
	for n < runtime.GOMAXPROCS(0) && n < shardsMax {
		n *= 2
	}
	return uint64(n - 1)
}()

// routeSeries is all that is known of one route, by its names. Kept across
// snapshots as long as one of them has the route.
type routeSeries struct {
	key     seriesKey
	labels  []byte // service="..",route=".."
	holders int    // views; guarded by registry.mu
	shards  [shardsMax]atomic.Pointer[shard]
	hot     []*hot // one a shard

	mu        sync.Mutex
	consumers map[string]*consumerSeries // by label; guarded by mu
}

type seriesKey struct{ service, route string }

// consumerSeries are not sharded: one consumer's requests rarely meet.
type consumerSeries struct {
	counts
	label string
}

// shard returns the shard of a connection, making it at its first request.
func (s *routeSeries) shard(conn uint64) *shard {
	p := &s.shards[conn&shardMask]
	if h := p.Load(); h != nil {
		return h
	}
	p.CompareAndSwap(nil, new(shard))
	return p.Load()
}

// consumer returns the series of a consumer, nil beyond the limit.
func (s *routeSeries) consumer(label string, limit int) *consumerSeries {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.consumers[label]; c != nil {
		return c
	}
	if len(s.consumers) >= limit {
		return nil
	}
	c := &consumerSeries{label: label}
	if s.consumers == nil {
		s.consumers = map[string]*consumerSeries{}
	}
	s.consumers[label] = c
	return c
}

// view is one snapshot's way into the registry: its routes by index. It lives as
// long as the instances of the snapshot, which count themselves in and out.
type view struct {
	registry *registry
	routes   []routeView
	hot      [][]*hot // by shard, then route
	health   bool     // an instance wants upstream health; guarded by registry.mu
	holders  int      // instances; guarded by registry.mu
}

// routeView adds to a route's series what is found by pointers of one snapshot.
type routeView struct {
	*routeSeries
	consumers sync.Map // *pipeline.Consumer → *consumerSeries, nil beyond the limit
	known     atomic.Int64
}

// knownMax bounds routeView.consumers, should consumers be made up on the way;
// those beyond are looked up by name.
const knownMax = 1 << 17

// consumer returns the series of c, nil beyond the limit.
func (r *routeView) consumer(c *pipeline.Consumer, limit int) *consumerSeries {
	if s, ok := r.consumers.Load(c); ok {
		return s.(*consumerSeries)
	}
	label := c.Username
	if label == "" {
		label = c.CustomID
	}
	s := r.routeSeries.consumer(label, limit)
	if r.known.Load() < knownMax {
		r.known.Add(1)
		r.consumers.Store(c, s)
	}
	return s
}
