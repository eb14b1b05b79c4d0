package prometheus

import (
	"cmp"
	"io"
	"maps"
	"os"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// exposition writes the Prometheus text format 0.0.4, in pieces, so that a
// gateway of many routes needs no buffer for all of it. Cold: once a scrape.
type exposition struct {
	w      io.Writer
	buf    []byte
	labels []byte // of one sample
	err    error  // of the first failed write; the scraper is gone
}

const (
	// pieceBytes is how much is written at a time.
	pieceBytes = 32 << 10
	// readRoutes is how many routes are read before requests have their turn: a
	// goroutine that does not sleep keeps a processor for ten milliseconds.
	readRoutes = 64
	readRest   = 50 * time.Microsecond
)

func (e *exposition) flush() {
	if e.err == nil && len(e.buf) > 0 {
		_, e.err = e.w.Write(e.buf)
	}
	e.buf = e.buf[:0]
}

func (e *exposition) family(name, kind, help string) {
	e.buf = append(append(append(append(append(e.buf, "# HELP "...), name...), ' '), help...), '\n')
	e.buf = append(append(append(append(append(e.buf, "# TYPE "...), name...), ' '), kind...), '\n')
}

// sample writes one line. labels are without braces.
func (e *exposition) sample(name string, labels []byte, value uint64) {
	e.buf = append(e.buf, name...)
	if len(labels) > 0 {
		e.buf = append(append(append(e.buf, '{'), labels...), '}')
	}
	e.buf = append(strconv.AppendUint(append(e.buf, ' '), value, 10), '\n')
	if len(e.buf) > pieceBytes {
		e.flush()
	}
}

// appendLabels appends name="value" pairs separated by commas, escaped.
func appendLabels(dst []byte, pairs ...string) []byte {
	for i := 0; i+1 < len(pairs); i += 2 {
		if len(dst) > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(dst, pairs[i]...), '=', '"')
		for _, r := range strings.ToValidUTF8(pairs[i+1], "\uFFFD") {
			switch r {
			case '\\', '"':
				dst = append(dst, '\\', byte(r))
			case '\n':
				dst = append(dst, '\\', 'n')
			default:
				dst = append(dst, string(r)...)
			}
		}
		dst = append(dst, '"')
	}
	return dst
}

// with returns labels and more of them. The result is valid until the next call.
func (e *exposition) with(labels []byte, pairs ...string) []byte {
	e.labels = appendLabels(append(e.labels[:0], labels...), pairs...)
	return e.labels
}

// sum is counts read from several shards.
type sum struct {
	statuses []statusCount
	bytes    [directions]uint64
}

// statusCount is how many answers had a status.
type statusCount struct {
	source, status int
	n              uint64
}

// addStatus adds to the count of a status: a route has few.
func (s *sum) addStatus(source, status int, n uint64) {
	for i := range s.statuses {
		if c := &s.statuses[i]; c.source == source && c.status == status {
			c.n += n
			return
		}
	}
	s.statuses = append(s.statuses, statusCount{source, status, n})
}

func (s *sum) add(c *counts) {
	for source := range c.statuses {
		for class := range c.statuses[source] {
			list := c.statuses[source][class].Load()
			if list == nil {
				continue
			}
			for i := range list {
				if n := list[i].Load(); n > 0 {
					s.addStatus(source, class*statusesOfClass+i, n)
				}
			}
		}
	}
	for i := range c.bytes {
		s.bytes[i] += c.bytes[i].Load()
	}
}

func (s *sum) addHot(h *hot) {
	if n := h.served.Load(); n > 0 {
		s.addStatus(fromService, statusOK, n)
	}
	for i := range h.bytes {
		s.bytes[i] += h.bytes[i].Load()
	}
}

// reading is everything about one route at the moment of the scrape.
type reading struct {
	labels                  []byte
	consumers               []string
	counts                  []sum // by consumer
	first                   [1]sum
	request, upstream, kong totals
}

// nobody is the label of requests without a consumer.
var nobody = []string{""}

// read fills r, which must be zero.
func (r *reading) read(s *routeSeries) {
	r.labels, r.consumers, r.counts = s.labels, nobody, r.first[:]
	for _, h := range s.hot {
		r.counts[0].addHot(h)
		r.request.addHot(h, latencyRequest)
		r.upstream.addHot(h, latencyUpstream)
		r.kong.addHot(h, latencyKong)
	}
	for i := range s.shards {
		if h := s.shards[i].Load(); h != nil {
			r.counts[0].add(&h.counts)
			r.request.add(h, latencyRequest)
			r.upstream.add(h, latencyUpstream)
			r.kong.add(h, latencyKong)
		}
	}
	s.mu.Lock()
	own := slices.SortedFunc(maps.Values(s.consumers), func(a, b *consumerSeries) int { return strings.Compare(a.label, b.label) })
	s.mu.Unlock()
	for _, c := range own {
		n := sum{}
		n.add(&c.counts)
		r.consumers = append(slices.Clip(r.consumers), c.label)
		r.counts = append(r.counts, n)
	}
}

// traffic writes what is counted by request. A family's samples must stand
// together, so the routes are read first; one without traffic has no samples.
func (e *exposition) traffic(list []*routeSeries, overflow *atomic.Uint64) {
	readings := make([]reading, len(list))
	for i, s := range list {
		readings[i].read(s)
		if i%readRoutes == readRoutes-1 {
			time.Sleep(readRest)
		}
	}
	e.family("kong_http_requests_total", "counter", "Requests by status and by who answered")
	for i := range readings {
		e.requests(&readings[i])
	}
	e.family("kong_bandwidth_bytes", "counter", "Bytes on the wire, headers included")
	for at := range readings {
		r := &readings[at]
		for i := range r.counts {
			for d, n := range r.counts[i].bytes {
				if n > 0 {
					e.sample("kong_bandwidth_bytes", e.with(r.labels, "direction", directionNames[d],
						"workspace", "default", "consumer", r.consumers[i]), n)
				}
			}
		}
	}
	e.histograms("kong_kong_latency_ms", "Latency added by the gateway before the service was called, in ms",
		readings, kongBounds, func(r *reading) *totals { return &r.kong })
	e.histograms("kong_request_latency_ms", "Total latency of requests, in ms",
		readings, latencyBounds, func(r *reading) *totals { return &r.request })
	e.histograms("kong_upstream_latency_ms", "Latency until the service answered, in ms",
		readings, latencyBounds, func(r *reading) *totals { return &r.upstream })
	e.family("sluice_prometheus_consumer_overflow_total", "counter",
		"Requests counted without their consumer because the route has consumers_max already")
	e.sample("sluice_prometheus_consumer_overflow_total", nil, overflow.Load())
}

func (e *exposition) requests(r *reading) {
	for i := range r.counts {
		statuses := r.counts[i].statuses
		slices.SortFunc(statuses, func(a, b statusCount) int { return cmp.Or(a.source-b.source, a.status-b.status) })
		for _, s := range statuses {
			e.sample("kong_http_requests_total", e.with(r.labels, "code", strconv.Itoa(s.status), "source", sourceNames[s.source],
				"workspace", "default", "consumer", r.consumers[i]), s.n)
		}
	}
}

func (e *exposition) histograms(name, help string, readings []reading, b *bounds, of func(*reading) *totals) {
	e.family(name, "histogram", help)
	for i := range readings {
		r := &readings[i]
		if t := of(r); *t != (totals{}) {
			e.buf = t.append(e.buf, name, e.with(r.labels, "workspace", "default"), b)
			if len(e.buf) > pieceBytes {
				e.flush()
			}
		}
	}
}

// node writes what is known of the whole gateway, under nginx's names. What nginx
// alone has (reading, writing and waiting connections, timers, shared
// dictionaries) is left out rather than made up.
func (e *exposition) node(n *pipeline.Node) {
	id := appendLabels(nil, "node_id", n.ID)
	e.family("kong_node_info", "gauge", "The running gateway; always 1")
	e.sample("kong_node_info", e.with(id, "version", n.Version), 1)
	e.family("kong_datastore_reachable", "gauge", "1: configuration comes from files")
	e.sample("kong_datastore_reachable", nil, 1)
	requests := unsigned(n.Requests.Load())
	e.family("kong_nginx_connections_total", "gauge", "Client connections: accepted and handled since the start, active now; total is requests")
	for _, c := range []struct {
		state string
		n     uint64
	}{
		{"accepted", unsigned(n.Accepted.Load())},
		{"active", unsigned(n.Active.Load())},
		{"handled", unsigned(n.Accepted.Load())},
		{"total", requests},
	} {
		e.sample("kong_nginx_connections_total", e.with(id, "subsystem", "http", "state", c.state), c.n)
	}
	e.family("kong_nginx_requests_total", "gauge", "Requests of clients since the start")
	e.sample("kong_nginx_requests_total", e.with(id, "subsystem", "http"), requests)
	e.family("kong_nginx_metric_errors_total", "counter", "Always 0: metrics cannot fail here")
	e.sample("kong_nginx_metric_errors_total", nil, 0)
	e.family("kong_memory_workers_lua_vms_bytes", "gauge", "Bytes of Go heap in use (this gateway has no Lua VM)")
	e.sample("kong_memory_workers_lua_vms_bytes", e.with(id, "pid", strconv.Itoa(os.Getpid()), "kong_subsystem", "http"), heapBytes())
}

func unsigned(n int64) uint64 { return uint64(max(n, 0)) }

func heapBytes() uint64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return s[0].Value.Uint64()
}

// healthStates are the values of the state label; the one that is true is 1.
var healthStates = []string{"healthchecks_off", "healthy", "unhealthy", "dns_error"}

func (e *exposition) health(n *pipeline.Node) {
	targets := n.Targets.Load()
	if targets == nil {
		return
	}
	e.family("kong_upstream_target_health", "gauge",
		"Health of each target: 1 at the state it is in, 0 at the others")
	(*targets)(func(t pipeline.TargetHealth) bool {
		labels := appendLabels(nil, "upstream", t.Upstream, "target", t.Target, "address", t.Address)
		for _, state := range healthStates {
			value := uint64(0)
			if state == t.State {
				value = 1
			}
			e.sample("kong_upstream_target_health", e.with(labels, "state", state, "subsystem", "http"), value)
		}
		return e.err == nil
	})
}
