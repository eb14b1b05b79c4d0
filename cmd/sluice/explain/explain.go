// Package explain tells what would become of a request: which route takes it
// and why its neighbours do not, which plugins run on it and with whose
// settings, and where it would be sent.
//
// The answers are the gateway's own: the route is found by a compiled snapshot,
// and target and outgoing path are read off a request that the real forwarding
// code sends into a pipe of this package. No hook runs and no service is called.
package explain

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/VictoriaMetrics/metrics"
	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/router"
	"github.com/sluice-gateway/sluice/engine/snapshot"
)

// Request is the request to explain.
type Request struct {
	Method   string
	URL      string      // "http://api.example.com/path?query", or only a path
	Header   http.Header // as a client would send it
	ClientIP string      // "" for 127.0.0.1
	Consumer string      // username, custom id or id; "" for nobody

	// Status and Answer are what the service is assumed to answer, for what plugins say of
	// it; 0 for no assumption.
	Status int
	Answer http.Header
}

// Explanation is what would become of a request.
type Explanation struct {
	Request struct {
		Method string `json:"method"`
		Host   string `json:"host"`
		Path   string `json:"path"` // normalized, as routes see it
	} `json:"request"`
	Route    *Route    `json:"route"`    // nil: no route matches, 404
	Losers   []Route   `json:"losers"`   // the nearest, best first
	Chain    []Plugin  `json:"chain"`    // in the order of Request hooks
	Upstream *Upstream `json:"upstream"` // nil for a route without service
	Notes    []string  `json:"notes,omitempty"`
}

// Route is a route as the router saw it.
type Route struct {
	Name string   `json:"name"`
	ID   string   `json:"id"`
	At   string   `json:"at"`             // file:line
	Path string   `json:"path,omitempty"` // the one of its paths that matched, or came nearest
	Why  []string `json:"why"`
}

// losersMax is how many routes that lost are named.
const losersMax = 3

// Explain explains r under d. The error says what is wrong with the request or
// why d does not compile.
func Explain(d *config.Document, specs *pipeline.Specs, r *Request) (*Explanation, error) {
	q, err := newQuery(r)
	if err != nil {
		return nil, err
	}
	capture := newCapture()
	s, err := compile(d, specs, capture)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Release()() }() // only pools of this package's pipe
	e := &Explanation{Losers: []Route{}, Chain: []Plugin{}}
	e.Request.Method, e.Request.Host, e.Request.Path = r.Method, string(q.Request.Host), string(q.Request.Path)
	var caller *pipeline.Consumer
	if r.Consumer != "" {
		if caller = s.Consumers.Find(r.Consumer); caller == nil {
			return nil, fmt.Errorf("no consumer has the username, custom id or id %q", r.Consumer)
		}
	}
	won := s.Match(&q.Query)
	e.routes(s, q, won)
	var scope placed
	if won.Entity != nil {
		scope.route = won.Entity
		scope.service = findService(d, won.Entity.Service)
	}
	e.chain(d, specs, &scope, caller)
	e.says(specs, q.exchange(won, r, caller))
	if won.Entity == nil {
		e.Notes = append(e.Notes, "no route matches: the answer is 404 \"no Route matched with those values\"")
		return e, nil
	}
	if scope.service == nil {
		e.Notes = append(e.Notes, "the route has no service: unless a plugin answers, the answer is 503 \"no Service found with those values\"")
		return e, nil
	}
	if won.Refuses != nil && !q.Request.TLS {
		e.Notes = append(e.Notes, "the route speaks https only: a plain request is answered with "+strconv.Itoa(won.Entity.HTTPSRedirectStatusCode))
	}
	e.Upstream = upstreamOf(d, scope.service)
	if scope.service.Builtin {
		e.Notes = append(e.Notes, "the gateway itself answers for this service")
		return e, nil
	}
	if e.Upstream.Target, e.Upstream.Path, err = capture.send(won, q, caller); err != nil {
		e.Notes = append(e.Notes, err.Error())
	}
	return e, nil
}

// query is a request in the form the router takes.
type query struct {
	snapshot.Query
	header   fasthttp.RequestHeader
	raw      string // query string
	hasQuery bool
	clientIP netip.Addr
}

func newQuery(r *Request) (*query, error) {
	u, err := url.Parse(r.URL)
	if err != nil {
		return nil, fmt.Errorf("URL: %w", err)
	}
	if u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https" || u.Scheme == "" && !strings.HasPrefix(r.URL, "/") {
		return nil, fmt.Errorf("URL %q: expected http://host/path, https://host/path or /path", r.URL)
	}
	q := &query{raw: u.RawQuery, hasQuery: u.RawQuery != "" || u.ForceQuery, clientIP: netip.MustParseAddr("127.0.0.1")}
	if r.ClientIP != "" {
		if q.clientIP, err = netip.ParseAddr(r.ClientIP); err != nil {
			return nil, fmt.Errorf("client IP: %w", err)
		}
	}
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	normal, err := router.NormalizePath(nil, []byte(path))
	if err != nil {
		return nil, fmt.Errorf("path %q: %w: the answer is 400", path, err)
	}
	host := r.Header.Get("Host")
	if host == "" {
		host = u.Host
	}
	if host == "" {
		host = "localhost"
	}
	q.header.DisableNormalizing()
	for name, values := range r.Header {
		for _, value := range values {
			q.header.Add(name, value)
		}
	}
	q.header.SetMethod(r.Method)
	q.header.SetHost(host)
	q.header.SetRequestURI(u.RequestURI())
	q.Request = router.Request{
		Method: []byte(r.Method), Host: []byte(host), Path: normal, Query: []byte(u.RawQuery), Headers: &q.header,
		Protocol: "http", Src: netip.AddrPortFrom(q.clientIP, 40000), Dst: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 8000),
	}
	if u.Scheme == "https" {
		q.Request.TLS, q.Request.SNI, q.Request.Protocol = true, u.Hostname(), "https"
	}
	return q, nil
}

// compile compiles d with the capture in place of every service and without
// plugins, so that nothing is opened that a plugin would open.
func compile(d *config.Document, specs *pipeline.Specs, c *capture) (*snapshot.Snapshot, error) {
	trial := *d
	trial.Plugins = nil
	trial.Services = make([]*config.Service, len(d.Services))
	for i, s := range d.Services {
		trial.Services[i] = c.instead(s)
	}
	return snapshot.Compile(pipeline.Env{
		Document: &trial, Log: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet(), Node: &pipeline.Node{}, Dial: c.dial,
	}, pipeline.NewKeeper(), specs)
}

// routes tells who won and why the others did not.
func (e *Explanation) routes(s *snapshot.Snapshot, q *query, won *snapshot.Route) {
	for _, c := range s.Explain(&q.Query, losersMax+1) {
		entity := c.Value.Entity
		r := Route{Name: entity.Name, ID: entity.ID, At: at(entity.Pos), Path: c.Path, Why: []string{}}
		if entity == won.Entity {
			r.Why = append(r.Why, reasons(entity, c.Path)...)
			e.Route = &r
			continue
		}
		for _, f := range c.Failed {
			got := strconv.Quote(f.Got)
			if f.Got == "" {
				got = "nothing"
			}
			r.Why = append(r.Why, fmt.Sprintf("%s: wants %s, got %s", f.Field, f.Want, got))
		}
		if len(c.Failed) == 0 {
			r.Why = append(r.Why, "matches too, but is ranked lower")
		}
		if len(e.Losers) < losersMax {
			e.Losers = append(e.Losers, r)
		}
	}
}

// reasons are the attributes a winning route matched by.
func reasons(r *config.Route, path string) []string {
	if r.Expression != "" {
		return []string{"expression: " + r.Expression}
	}
	var why []string
	add := func(field string, values []string) {
		if len(values) > 0 {
			why = append(why, field+": "+strings.Join(values, " or "))
		}
	}
	if path != "" {
		add("path", []string{path})
	}
	add("methods", r.Methods)
	add("hosts", r.Hosts)
	for name, values := range r.Headers {
		add("header "+name, values)
	}
	add("snis", r.SNIs)
	return why
}

func findService(d *config.Document, id string) *config.Service {
	for _, s := range d.Services {
		if id != "" && s.ID == id {
			return s
		}
	}
	return nil
}

// at is a position as compilers write it, "" when unknown.
func at(p config.Pos) string {
	if p.Line == 0 {
		return p.File
	}
	return p.File + ":" + strconv.Itoa(p.Line)
}
