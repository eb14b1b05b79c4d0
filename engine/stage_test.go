package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine"
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/plugin"
)

// stage plays every address that a gateway dials, each by an actor with a role that
// the test changes as it goes. Actors count what reaches them.
type stage struct {
	t testing.TB
	// counts lets connections of the gateway be counted. The gateway then does not know
	// them for plain TCP, which costs it its short cuts.
	counts bool
	// real are addresses that are not played, with where they are. Set before start.
	real map[string]string

	mu     sync.Mutex
	actors map[string]*actor
	total  int // requests under way to all actors
	peak   int // the most there were at a time
	open   int // connections of the gateway to all actors
	most   int // the most there were at a time
}

// role is what an actor does with a request. The zero value describes it.
type role struct {
	refuse bool          // connections, those that are open too
	mute   bool          // neither accept nor refuse connections
	drop   bool          // close the connection instead of an answer
	status int           // 0 for 200
	after  string        // Retry-After
	delay  time.Duration // before the answer
	hold   bool          // do not answer before another role is cast
	answer func(w http.ResponseWriter, r *http.Request)
}

// actor is one address.
type actor struct {
	name  string
	stage *stage
	// Of the stage, under its lock.
	role         role
	held         chan struct{} // closed by another role
	server       *http.Server
	listener     net.Listener
	dials        int
	requests     []*http.Request // without bodies
	bodies       []string
	arrivals     []time.Time
	active, peak int // requests under way, and the most there were
	conns        int // connections that the server has
	open, most   int // those that the gateway has, and the most there were
}

func newStage(t testing.TB) *stage {
	s := &stage{t: t, actors: map[string]*actor{}}
	t.Cleanup(s.close)
	return s
}

func (s *stage) close() {
	s.mu.Lock()
	var names []string
	for name := range s.actors {
		names = append(names, name)
	}
	s.mu.Unlock()
	for _, name := range names {
		s.cast(name, role{refuse: true})
	}
}

// actor returns who plays an address. The stage is locked.
func (s *stage) actor(name string) *actor {
	a := s.actors[name]
	if a == nil {
		a = &actor{name: name, stage: s}
		s.actors[name] = a
	}
	return a
}

// cast gives an address another role. What the old one held is let go.
func (s *stage) cast(name string, r role) {
	s.mu.Lock()
	a := s.actor(name)
	if a.held != nil {
		close(a.held)
		a.held = nil
	}
	if r.hold {
		a.held = make(chan struct{})
	}
	a.role = r
	var old *http.Server
	if r.refuse {
		old, a.server, a.listener = a.server, nil, nil
	}
	s.mu.Unlock()
	if old != nil {
		_ = old.Close() // calls connState
	}
}

// look runs f on the actor of an address, undisturbed.
func (s *stage) look(name string, f func(a *actor)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s.actor(name))
}

// hits returns how many requests have reached an address.
func (s *stage) hits(name string) (n int) {
	s.look(name, func(a *actor) { n = len(a.requests) })
	return n
}

// dials returns how many connections were asked for at an address.
func (s *stage) dials(name string) (n int) {
	s.look(name, func(a *actor) { n = a.dials })
	return n
}

// awaitActive waits until n requests are under way at an address, or at all for "".
func (s *stage) awaitActive(name string, n int) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("%d requests at %q", n, name), func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if name == "" {
			return s.total == n
		}
		return s.actor(name).active == n
	})
}

func (s *stage) dial(ctx context.Context, address string) (net.Conn, error) {
	if at, ok := s.real[address]; ok {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", at)
	}
	s.mu.Lock()
	a := s.actor(address)
	a.dials++
	r := a.role
	if r.refuse {
		s.mu.Unlock()
		return nil, &net.OpError{Op: "dial", Err: &os.SyscallError{Syscall: "connect", Err: syscall.ECONNREFUSED}}
	}
	err := a.listen()
	l := a.listener
	s.mu.Unlock()
	switch {
	case err != nil:
		return nil, err
	case r.mute:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	var d net.Dialer
	if !s.counts {
		return d.DialContext(ctx, "tcp", l.Addr().String())
	}
	a.opens(1)
	c, err := d.DialContext(ctx, "tcp", l.Addr().String())
	if err != nil {
		a.opens(-1)
		return nil, err
	}
	return &line{TCPConn: c.(*net.TCPConn), actor: a}, nil
}

// line is a connection of the gateway that is counted until it is closed.
type line struct {
	*net.TCPConn
	actor *actor
	once  sync.Once
}

// Close implements net.Conn.
func (l *line) Close() error {
	err := l.TCPConn.Close()
	l.once.Do(func() { l.actor.opens(-1) })
	return err
}

// opens counts connections of the gateway.
func (a *actor) opens(n int) {
	s := a.stage
	s.mu.Lock()
	defer s.mu.Unlock()
	a.open += n
	s.open += n
	a.most, s.most = max(a.most, a.open), max(s.most, s.open)
}

// listen listens if the actor does not yet. The stage is locked.
func (a *actor) listen() error {
	if a.server != nil {
		return nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	a.listener = l
	a.server = &http.Server{Handler: a, ConnState: a.connState, ReadHeaderTimeout: time.Minute}
	go func(srv *http.Server) { _ = srv.Serve(l) }(a.server)
	return nil
}

func (a *actor) connState(_ net.Conn, state http.ConnState) {
	s := a.stage
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		a.conns++
	case http.StateClosed, http.StateHijacked:
		a.conns--
	}
}

// ServeHTTP implements http.Handler.
func (a *actor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at := time.Now()
	body, err := io.ReadAll(r.Body)
	role, held := a.enter(r, string(body), at)
	defer a.leave()
	if err != nil || role.drop {
		panic(http.ErrAbortHandler) // closes the connection
	}
	if held != nil {
		select {
		case <-held:
		case <-r.Context().Done():
		}
	}
	if role.delay > 0 {
		timer := time.NewTimer(role.delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
		}
	}
	if role.answer != nil {
		role.answer(w, r)
		return
	}
	if role.after != "" {
		w.Header().Set("Retry-After", role.after)
	}
	w.Header().Set("Content-Type", "application/json")
	if role.status != 0 {
		w.WriteHeader(role.status)
	}
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	writeEcho(w, r, a.name)
}

func (a *actor) enter(r *http.Request, body string, at time.Time) (role, chan struct{}) {
	s := a.stage
	s.mu.Lock()
	defer s.mu.Unlock()
	a.requests, a.bodies, a.arrivals = append(a.requests, r), append(a.bodies, body), append(a.arrivals, at)
	a.active++
	s.total++
	a.peak, s.peak = max(a.peak, a.active), max(s.peak, s.total)
	return a.role, a.held
}

func (a *actor) leave() {
	s := a.stage
	s.mu.Lock()
	defer s.mu.Unlock()
	a.active--
	s.total--
}

// start opens a gateway over a document whose services are played on s.
func (s *stage) start(text string) *gateway {
	s.t.Helper()
	d := document(s.t, text)
	d.Gateway.ProxyListen = config.Listeners{{Host: "127.0.0.1", Port: 0}}
	e, err := engine.Open(d, engine.Options{Plugins: plugin.All, Version: "test", Log: discardLog, Dial: s.dial})
	if err != nil {
		s.t.Fatal(err)
	}
	addrs, err := e.Listen()
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := e.Shutdown(ctx); err != nil {
			s.t.Errorf("shutdown: %v", err)
		}
	})
	return &gateway{Engine: e, addr: addrs[0].String(), t: s.t}
}

// apply reloads a gateway with another document.
func (g *gateway) apply(text string) {
	g.t.Helper()
	if err := g.Apply(document(g.t, text)); err != nil {
		g.t.Fatal(err)
	}
}

// metric reports whether the metrics have this line.
func (g *gateway) metric(line string) bool {
	var b strings.Builder
	g.WriteMetrics(&b)
	return strings.Contains("\n"+b.String(), "\n"+line+"\n")
}

// state returns what is known of a target, or of the circuit of a service.
func (g *gateway) state(name string) (health, circuit string) {
	for t := range g.Fleet().Targets() {
		if t.Target == name {
			return t.State, t.Circuit
		}
	}
	for service, state := range g.Fleet().Circuits() {
		if service == name {
			return "", state
		}
	}
	g.t.Fatalf("neither a target nor a service with a circuit: %s", name)
	return "", ""
}

// await waits until a target's health or circuit, or a service's circuit, is in a state.
func (g *gateway) await(name, state string) {
	g.t.Helper()
	eventually(g.t, name+" to be "+state, func() bool {
		health, circuit := g.state(name)
		return health == state || circuit == state
	})
}

// answer is what came back for a request.
type answer struct {
	resp *http.Response
	body string
	err  error
}

func (a *answer) status() int {
	if a.resp == nil {
		return 0
	}
	return a.resp.StatusCode
}

// origin returns which address answered, "" for the gateway.
func (a *answer) origin(t testing.TB) string {
	t.Helper()
	if !strings.HasPrefix(a.body, `{"origin"`) {
		return ""
	}
	return echoed(t, a.body).Origin
}

// send sends one request. Unlike do it may run in any goroutine and fails no test.
func (g *gateway) send(c *http.Client, method, path string, body io.Reader, headers ...string) *answer {
	req, err := http.NewRequest(method, "http://"+g.addr+path, body)
	if err != nil {
		return &answer{err: err}
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if strings.EqualFold(headers[i], "Host") {
			req.Host = headers[i+1]
			continue
		}
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		return &answer{err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return &answer{resp: resp, body: string(b), err: err}
}

// background sends a GET that the test does not wait for; see wait.
func (g *gateway) background(path string, headers ...string) *pending {
	p := &pending{done: make(chan struct{})}
	go func() {
		defer close(p.done)
		p.answer = *g.send(noRedirects, http.MethodGet, path, http.NoBody, headers...)
	}()
	return p
}

// pending is a request under way.
type pending struct {
	answer answer
	done   chan struct{}
}

func (p *pending) wait(t testing.TB) *answer {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		t.Fatal("no answer")
	}
	return &p.answer
}

// statuses waits for requests and returns what they were answered, sorted.
func statuses(t testing.TB, list []*pending) []int {
	t.Helper()
	var got []int
	for _, p := range list {
		got = append(got, p.wait(t).status())
	}
	slices.Sort(got)
	return got
}

// kept returns a client that sends one request after the other over one connection.
func kept(t testing.TB) *http.Client {
	tr := &http.Transport{DisableCompression: true, MaxConnsPerHost: 1}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Timeout: 30 * time.Second, Transport: tr, CheckRedirect: noRedirects.CheckRedirect}
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// cut reports whether an answer broke off.
func (a *answer) cut() bool {
	return a.err != nil && (errors.Is(a.err, io.ErrUnexpectedEOF) || errors.Is(a.err, io.EOF) || errors.Is(a.err, syscall.ECONNRESET))
}
