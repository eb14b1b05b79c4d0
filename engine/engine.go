package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"reflect"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/downstream"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/snapshot"
	"github.com/sluice-gateway/sluice/engine/upstream"
)

// Options are what an Engine needs beside its Document.
type Options struct {
	Plugins *pipeline.Specs // every plugin, in order
	Version string
	Log     *slog.Logger
	// Timeouts of clients; nginx's defaults where zero.
	Timeouts downstream.Timeouts
	// Builtin answers for the gateway's own services, by name; see pipeline.Env.
	Builtin map[string]func(*fasthttp.RequestCtx)
	// Dial connects to a service, by the address that the document has; nil resolves
	// names as the document's gateway block says and dials what they resolve to.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// Engine is a running gateway. All methods are safe for concurrent use.
type Engine struct {
	live    atomic.Pointer[snapshot.Snapshot] // the one live pointer
	plugins *pipeline.Specs
	keeper  *pipeline.Keeper
	node    *pipeline.Node
	log     *slog.Logger
	set     *metrics.Set
	dial    func(ctx context.Context, address string) (net.Conn, error)
	builtin map[string]func(*fasthttp.RequestCtx)

	timeouts downstream.Timeouts
	date     atomic.Pointer[[]byte] // value of the Date field, one second fresh
	server   *downstream.Server

	tunnels     *tunnels
	panics      *metrics.Counter
	malformed   *metrics.Counter
	reloadsGood *metrics.Counter
	reloadsBad  *metrics.Counter

	mu       sync.Mutex // Apply and Close, one at a time
	retiring []*retired // oldest first
	closed   bool
	quit     chan struct{}

	statusMu sync.Mutex
	status   ReloadStatus
}

// ReloadStatus is what became of the last document that was applied.
type ReloadStatus struct {
	Hash    string    // of the live document
	Applied time.Time // when it went live
	Failed  time.Time // when a later document was refused; zero if none was
	Error   string    // why
}

// Open starts an engine with d as its first document. It listens nowhere yet:
// see Listen.
func Open(d *config.Document, o Options) (*Engine, error) {
	e := &Engine{
		plugins: o.Plugins, keeper: pipeline.NewKeeper(), log: o.Log, set: metrics.NewSet(),
		node: &pipeline.Node{ID: newNodeID(), Version: o.Version}, quit: make(chan struct{}),
	}
	e.builtin, e.timeouts = o.Builtin, o.Timeouts.Defaults()
	e.dial = o.Dial
	e.tunnels = newTunnels(e.set)
	e.panics = e.set.NewCounter("sluice_panics_total")
	e.malformed = e.set.NewCounter("sluice_requests_malformed_total")
	e.reloadsGood = e.set.NewCounter(`sluice_reloads_total{result="applied"}`)
	e.reloadsBad = e.set.NewCounter(`sluice_reloads_total{result="refused"}`)
	e.set.NewGauge("sluice_reload_applied_timestamp_seconds", func() float64 { return float64(e.Status().Applied.Unix()) })
	e.tick(time.Now())
	e.server = e.newServer()
	if err := e.Apply(d); err != nil {
		return nil, err
	}
	go e.chores()
	return e, nil
}

// newServer returns the server of the proxy listeners.
func (e *Engine) newServer() *downstream.Server {
	return &downstream.Server{
		Handler: e, General: e.generalServer(), Node: e.node, Log: e.log,
		Timeouts: e.timeouts, ConnectionsMax: connectionsMax,
		Refused: e.set.NewCounter("sluice_connections_refused_total"),
	}
}

// Limits of a client's connection.
const (
	connectionsMax = 256 << 10
	headBytesMax   = 16 << 10
)

// generalServer is fasthttp's server for what the fast lane does not take.
func (e *Engine) generalServer() *fasthttp.Server {
	return &fasthttp.Server{
		Handler:       e.serveHTTP,
		ErrorHandler:  e.refuseUnread,
		ExpectHandler: e.expect,
		// A proxy invents nothing: depart adds what an answer needs.
		NoDefaultServerHeader: true, NoDefaultDate: true, NoDefaultContentType: true,
		// Bodies are streams above MaxRequestBodySize, and so much of them is read
		// before the handler is called; the limit itself is client_max_body_size,
		// counted while copying.
		StreamRequestBody: true, MaxRequestBodySize: 1,
		DisablePreParseMultipartForm: true,
		ReadBufferSize:               headBytesMax,
		WriteBufferSize:              headBytesMax,
		// For the header and a small body; upstream sets a new deadline for every
		// piece of a streamed one. A slow download is not a fault: WriteTimeout
		// would bound the whole answer, so the connection bounds each write.
		ReadTimeout: e.timeouts.Head, IdleTimeout: e.timeouts.Idle,
		Concurrency:           connectionsMax,
		CloseOnShutdown:       true,
		LazyRequestTime:       true,
		SecureErrorLogMessage: true,
		Logger:                discard{},
	}
}

type discard struct{}

// Printf implements fasthttp.Logger: what is worth telling is counted.
func (discard) Printf(string, ...any) {}

// Apply makes d the live document: it compiles a snapshot, swaps the one
// pointer and retires the old snapshot once no request can use it any more. On
// error the old document stays live.
func (e *Engine) Apply(d *config.Document) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return errors.New("the gateway is closed")
	}
	s, err := snapshot.Compile(pipeline.Env{Document: d, Log: e.log, Metrics: e.set, Node: e.node, Dial: e.dial, Builtin: e.builtin, ClientBodyTimeout: e.timeouts.Body}, e.keeper, e.plugins)
	if err != nil {
		e.reloadsBad.Inc()
		e.note(func(st *ReloadStatus) { st.Failed, st.Error = time.Now(), err.Error() })
		return err
	}
	old := e.live.Swap(s)
	s.Fleet.Lead()
	targets := (func(func(pipeline.TargetHealth) bool))(s.Fleet.Targets())
	e.node.Targets.Store(&targets)
	if old != nil && !reflect.DeepEqual(old.Document.Gateway.ProxyListen, d.Gateway.ProxyListen) {
		e.log.Warn("proxy_listen has changed: listeners change with a restart only", "now", d.Gateway.ProxyListen)
	}
	e.reloadsGood.Inc()
	e.note(func(st *ReloadStatus) { *st = ReloadStatus{Hash: d.Hash, Applied: time.Now()} })
	if old != nil {
		e.retire(old)
	}
	if len(d.Routes)+len(d.Consumers) > largeDocument {
		// What reading it took is given back now, not bit by bit while serving.
		debug.FreeOSMemory()
	}
	return nil
}

// largeDocument is from how many routes and consumers on reading leaves memory
// that is worth a collection of its own.
const largeDocument = 1000

// Refuse records that a document could not even be read.
func (e *Engine) Refuse(err error) {
	e.reloadsBad.Inc()
	e.note(func(st *ReloadStatus) { st.Failed, st.Error = time.Now(), err.Error() })
}

func (e *Engine) note(f func(*ReloadStatus)) {
	e.statusMu.Lock()
	defer e.statusMu.Unlock()
	f(&e.status)
}

// Status returns what became of the last document.
func (e *Engine) Status() ReloadStatus {
	e.statusMu.Lock()
	defer e.statusMu.Unlock()
	return e.status
}

// retired is a snapshot that is out of use as soon as its timer says so.
type retired struct {
	timer   *time.Timer
	release func() error
}

// retiringMax bounds how many snapshots wait to be released. Should documents
// change faster, the oldest goes early: that matters only to a request which is
// still under way in it and needs something no later document has.
const retiringMax = 64

// retire closes a snapshot after the longest time it may let a request take.
// Counting its requests instead would cost every request a shared write.
func (e *Engine) retire(s *snapshot.Snapshot) {
	r := &retired{release: s.Release()}
	r.timer = time.AfterFunc(s.Longest(), func() {
		e.mu.Lock()
		i := slices.Index(e.retiring, r)
		if i >= 0 {
			e.retiring = slices.Delete(e.retiring, i, i+1)
		}
		e.mu.Unlock()
		if i >= 0 {
			e.release(r)
		}
	})
	e.retiring = append(e.retiring, r)
	if len(e.retiring) > retiringMax {
		oldest := e.retiring[0]
		e.retiring = slices.Delete(e.retiring, 0, 1)
		oldest.timer.Stop()
		e.release(oldest)
	}
}

func (e *Engine) release(r *retired) {
	if err := r.release(); err != nil {
		e.log.Warn("closing a retired configuration", "error", err)
	}
}

// Document returns the live document. It must not be changed.
func (e *Engine) Document() *config.Document { return e.live.Load().Document }

// Ready reports whether the gateway should get traffic, and if not, why, in
// Kong's words.
func (e *Engine) Ready() (ok bool, reason string) {
	switch {
	case e.live.Load() == nil:
		return false, "no configuration available (empty configuration present)"
	case e.server.Draining():
		return false, "draining"
	}
	return true, "ready"
}

// Node returns the node's identity and counters.
func (e *Engine) Node() *pipeline.Node { return e.node }

// WriteMetrics writes all metrics in Prometheus text format.
func (e *Engine) WriteMetrics(w io.Writer) {
	e.set.WritePrometheus(w)
	metrics.WriteProcessMetrics(w)
	e.keeper.Expose(w)
	e.Fleet().Expose(w)
}

// Fleet returns what the services of the live document lead to.
func (e *Engine) Fleet() *upstream.Fleet { return e.live.Load().Fleet }

// Reports returns what kept values of a kind tell of themselves, by name.
func (e *Engine) Reports(kind string) map[string]any {
	reports := map[string]any{}
	e.keeper.Each(func(_ string, value any) {
		if r, ok := value.(pipeline.Reporter); ok {
			if k, name, report := r.Report(); k == kind {
				reports[name] = report
			}
		}
	})
	return reports
}

// Purge takes kept answers back and returns how many there were in this process.
func (e *Engine) Purge(p *pipeline.Purge) int { return e.keeper.Purge(p) }

// KeptAnswer returns a kept answer by its key, of one plugin instance or of any.
func (e *Engine) KeptAnswer(key, plugin string) (a pipeline.KeptAnswer, ok bool) {
	return e.keeper.Answer(key, plugin)
}

// Reopen tells whatever writes files to open them again, after a rotation.
func (e *Engine) Reopen() {
	e.keeper.Each(func(_ string, value any) {
		if r, ok := value.(interface{ Reopen() }); ok {
			r.Reopen()
		}
	})
}

// Shutdown stops accepting, lets requests finish until ctx is done, and closes
// the engine. The error says what had to be cut.
func (e *Engine) Shutdown(ctx context.Context) error {
	until, bounded := ctx.Deadline()
	if !bounded {
		until = time.Now().Add(tunnelsDrainDefault)
	}
	draining, stop := context.WithCancel(ctx)
	defer stop()
	go e.tunnels.drain(draining, until)
	err := e.server.Drain(ctx)
	return errors.Join(err, e.close())
}

// tunnelsDrainDefault is how long tunnels are given where Shutdown is not told.
const tunnelsDrainDefault = 10 * time.Second

func (e *Engine) close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil
	}
	e.closed = true
	close(e.quit)
	releases := []func() error{e.live.Load().Release()}
	for _, r := range e.retiring {
		r.timer.Stop()
		releases = append(releases, r.release)
	}
	e.retiring = nil
	e.mu.Unlock()
	var errs []error
	for _, release := range releases {
		errs = append(errs, release())
	}
	return errors.Join(errs...)
}

// chores is what a gateway does once a second beside serving.
func (e *Engine) chores() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-e.quit:
			return
		case now := <-t.C:
			e.tick(now)
			e.keeper.Each(func(_ string, value any) {
				if p, ok := value.(interface{ Prune(now int64) }); ok {
					p.Prune(pipeline.Now())
				}
			})
		}
	}
}

func (e *Engine) tick(now time.Time) {
	date := fasthttp.AppendHTTPDate(nil, now)
	e.date.Store(&date)
	pipeline.SyncClock()
}

// newNodeID returns a random UUID (RFC 9562 version 4).
func newNodeID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
