package admin

import (
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/config"
)

// Gateway is what the API tells about a running gateway.
// Its methods must be safe for concurrent use.
type Gateway interface {
	// Document is the live document.
	Document() *config.Document
	// Ready reports whether the gateway should get traffic, and if not, why.
	Ready() (ok bool, reason string)
	// WriteMetrics writes all metrics in Prometheus text format.
	WriteMetrics(w io.Writer)
}

// Configurer changes the live document. On error the one before stays live.
// Its methods must be safe for concurrent use.
type Configurer interface {
	// Apply makes d the live document.
	Apply(d *config.Document) error
	// Refuse records that a document could not even be read.
	Refuse(err error)
	// Reload reads the operator's files and applies them.
	Reload() error
}

// Observer tells about the process. Its methods must be safe for concurrent use.
type Observer interface {
	// Identity is the node's id.
	Identity() string
	Traffic() Traffic
	LastReload() Reload
}

// Traffic counts clients of the proxy listeners.
type Traffic struct {
	Accepted int64 // connections since the start
	Active   int64 // connections now
	Requests int64 // since the start
}

// Reload is what became of the last document.
type Reload struct {
	Applied  time.Time // when the live document went live
	Failed   time.Time // when a later one was refused; zero if none was
	Error    string    // why
	Watching bool      // changes of the files are noticed
}

// Options are what an API needs. All but Files and BodyBytesMax must be set.
type Options struct {
	Gateway    Gateway
	Configurer Configurer
	Observer   Observer
	Fleet      Fleet
	Caches     Caches
	// Reading says how posted documents are read.
	Reading config.Options
	// Plugins are the names that have code, in the order their hooks run.
	Plugins []string
	Version string
	// Files are what Configurer.Reload reads, for its answer; they may be none.
	Files []string
	// BodyBytesMax bounds a posted document; a larger one is answered 413.
	// 0 means 256 MiB, about three million consumers.
	BodyBytesMax int
}

// API answers the requests of both listeners. Safe for concurrent use.
type API struct {
	Options
	hostname string
	started  time.Time
	changing sync.Mutex // one change of the document at a time
	admin    []route
	status   []route
}

// route is one path and what answers there, by method.
type route struct {
	path    string // a trailing * stands for anything
	methods []string
	handle  fasthttp.RequestHandler
}

// Limits of both servers.
const (
	bodyBytesMaxDefault = 256 << 20
	bodyBytesMaxStatus  = 64 << 10
	readTimeout         = time.Minute
	writeTimeout        = 5 * time.Minute // a profile may be asked for in seconds
	idleTimeout         = time.Minute
	connectionsMax      = 1024
)

var (
	reading = []string{fasthttp.MethodGet, fasthttp.MethodHead}
	writing = []string{fasthttp.MethodPost}
)

// New returns an API. It listens nowhere: see AdminServer and StatusServer.
func New(o Options) *API {
	if o.BodyBytesMax == 0 {
		o.BodyBytesMax = bodyBytesMaxDefault
	}
	if o.Files == nil {
		o.Files = []string{}
	}
	a := &API{Options: o, hostname: hostname(), started: time.Now()}
	a.status = []route{
		{"/status", reading, a.Status},
		{"/status/ready", reading, a.Ready},
		{"/metrics", reading, a.Metrics},
		{statusUpstreamsPath, reading, a.statusUpstreams},
		{statusCanariesPath, reading, a.statusCanaries},
	}
	a.admin = append([]route{
		{"/", reading, a.getRoot},
		{"/config", reading, a.getConfig},
		{"/config", writing, a.postConfig},
		{"/reload", writing, a.postReload},
		{profilePath + "*", slices.Concat(reading, writing), profiles},
		{statusQuotasPath, reading, a.statusQuotas},
		{upstreamsPath + "*", append([]string{fasthttp.MethodPut}, reading...), a.upstreams},
	}, a.status...)
	a.admin = append(a.admin, a.cacheRoutes()...)
	a.status = append(a.status, route{upstreamsPath + "*", reading, a.health})
	return a
}

// AdminServer returns the server of the Admin listeners.
func (a *API) AdminServer() *fasthttp.Server {
	s := a.server(func(ctx *fasthttp.RequestCtx) {
		if refusal := refusalOf(ctx); refusal != "" {
			message(ctx, fasthttp.StatusForbidden, refusal)
			return
		}
		dispatch(ctx, a.admin)
	})
	s.MaxRequestBodySize = a.BodyBytesMax
	return s
}

// StatusServer returns the server of the status listeners.
func (a *API) StatusServer() *fasthttp.Server {
	s := a.server(func(ctx *fasthttp.RequestCtx) { dispatch(ctx, a.status) })
	s.MaxRequestBodySize = bodyBytesMaxStatus
	return s
}

func (a *API) server(h fasthttp.RequestHandler) *fasthttp.Server {
	return &fasthttp.Server{
		Handler: h, ErrorHandler: refuseUnread, Name: "sluice/" + a.Version,
		ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		Concurrency: connectionsMax, CloseOnShutdown: true,
		NoDefaultContentType: true, DisablePreParseMultipartForm: true,
		Logger: discard{},
	}
}

type discard struct{}

// Printf implements fasthttp.Logger: what clients of the API do wrong is their
// answer, not the operator's log.
func (discard) Printf(string, ...any) {}

// refuseUnread answers what could not be read.
func refuseUnread(ctx *fasthttp.RequestCtx, err error) {
	var small *fasthttp.ErrSmallBuffer
	switch {
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		message(ctx, fasthttp.StatusRequestEntityTooLarge, "request body too large")
	case errors.As(err, &small):
		message(ctx, fasthttp.StatusRequestHeaderFieldsTooLarge, "Request header or cookie too large")
	default:
		message(ctx, fasthttp.StatusBadRequest, "Bad request")
	}
	ctx.SetConnectionClose()
}

// dispatch answers ctx by the first route with its path and method. Kong: 404
// and 405 have a message only; a slash at the end does not matter.
func dispatch(ctx *fasthttp.RequestCtx, routes []route) {
	path := string(ctx.Path())
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	var allowed []string
	for i := range routes {
		r := &routes[i]
		if !r.serves(path) {
			continue
		}
		if slices.Contains(r.methods, string(ctx.Method())) {
			r.handle(ctx)
			return
		}
		allowed = append(allowed, r.methods...)
	}
	if allowed == nil {
		message(ctx, fasthttp.StatusNotFound, "Not found")
		return
	}
	ctx.Response.Header.Set("Allow", strings.Join(append(allowed, fasthttp.MethodOptions), ", "))
	if ctx.IsOptions() {
		ctx.SetStatusCode(fasthttp.StatusNoContent)
		return
	}
	message(ctx, fasthttp.StatusMethodNotAllowed, "Method not allowed")
}

func (r *route) serves(path string) bool {
	prefix, any := strings.CutSuffix(r.path, "*")
	if any {
		return strings.HasPrefix(path+"/", prefix)
	}
	return path == r.path
}

// message answers with Kong's shortest body.
func message(ctx *fasthttp.RequestCtx, status int, text string) {
	answer(ctx, status, map[string]string{"message": text})
}

// answer writes v as JSON.
func answer(ctx *fasthttp.RequestCtx, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic("BUG: an answer does not marshal: " + err.Error())
	}
	ctx.SetStatusCode(status)
	ctx.SetContentType("application/json; charset=utf-8")
	ctx.SetBody(body)
}
