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

// counts are requests and bytes of one route and consumer.
type counts struct {
	bytes [directions]atomic.Uint64
	// served counts what nearly all requests end in, a 200 of the service.
	served atomic.Uint64
	// A class of statuses gets its counters when the first of it occurs: most
	// routes see two or three.
	statuses [sources][statusClasses]atomic.Pointer[[statusesOfClass]atomic.Uint64]
}

const statusOK = 200

func (c *counts) countStatus(source, status int) {
	if source == fromService && status == statusOK { // Fast path
		c.served.Add(1)
		return
	}
	status = min(max(status, 0), statusClasses*statusesOfClass-1)
	p := &c.statuses[source][status/statusesOfClass]
	class := p.Load()
	if class == nil {
		p.CompareAndSwap(nil, new([statusesOfClass]atomic.Uint64))
		class = p.Load()
	}
	class[status%statusesOfClass].Add(1)
}

// shard is what some of the connections have counted on a route. Shards are
// allocated one by one: that keeps them on cache lines of their own.
//
// With thousands of routes in use a shard is not in the cache when its route is
// asked for, and each line of it costs about as much as the counting. So what
// nearly every request touches comes first: sums and first buckets of the
// latencies and the bytes fill one line, the count of 200s begins the next.
type shard struct {
	histograms
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
	health   bool // an instance wants upstream health; guarded by registry.mu
	holders  int  // instances; guarded by registry.mu
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
