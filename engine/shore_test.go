package engine_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// nameServer is a real DNS server on the loopback whose records the test changes.
type nameServer struct {
	addr string

	mu     sync.Mutex
	zone   map[string][]dns.RR // by name in lower case
	every  func(name string) string
	silent bool
}

func newNameServer(t testing.TB, records ...string) *nameServer {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &nameServer{addr: pc.LocalAddr().String()}
	n.set(records...)
	started := make(chan struct{})
	s := &dns.Server{PacketConn: pc, Handler: n, NotifyStartedFunc: func() { close(started) }}
	go func() { _ = s.ActivateAndServe() }()
	<-started
	t.Cleanup(func() { _ = s.Shutdown() })
	return n
}

// set replaces all records: "a.test 1 A 127.0.0.1".
func (n *nameServer) set(records ...string) {
	zone := map[string][]dns.RR{}
	for _, r := range records {
		rr, err := dns.NewRR(r)
		if err != nil {
			panic(err)
		}
		zone[rr.Header().Name] = append(zone[rr.Header().Name], rr)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.zone = zone
}

// invent makes f answer for names that have no record.
func (n *nameServer) invent(f func(name string) string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.every = f
}

// hush makes the server silent or lets it speak again.
func (n *nameServer) hush(silent bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent = silent
}

// ServeDNS implements dns.Handler.
func (n *nameServer) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.silent {
		return
	}
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	question := q.Question[0]
	records, known := n.zone[strings.ToLower(question.Name)]
	if n.every != nil && !known {
		if rr, err := dns.NewRR(n.every(question.Name)); err == nil {
			records, known = []dns.RR{rr}, true
		}
	}
	if !known {
		m.Rcode = dns.RcodeNameError
	}
	for _, rr := range records {
		if rr.Header().Rrtype == question.Qtype {
			m.Answer = append(m.Answer, rr)
		}
	}
	_ = w.WriteMsg(m)
}

// gateway is a gateway block that asks n.
func (n *nameServer) gateway(settings string) string {
	return fmt.Sprintf("_format_version: \"3.0\"\ngateway: {dns_resolver: [%q], dns_timeout: 200, dns_not_found_ttl: 1%s}\n", n.addr, settings)
}

// shore is servers at several loopback addresses with one port, as many machines of
// one service have it. Each says which it is.
type shore struct {
	port string

	mu    sync.Mutex
	hits  map[string]int
	hosts map[string]int // Host fields
	roles map[string]http.HandlerFunc
}

func newShore(t testing.TB, ips ...string) *shore {
	t.Helper()
	s := &shore{roles: map[string]http.HandlerFunc{}}
	s.reset()
	var listeners []net.Listener
	for try := 0; len(listeners) < len(ips); try++ {
		l, err := net.Listen("tcp", net.JoinHostPort(ips[len(listeners)], s.port))
		switch {
		case err == nil:
			_, s.port, _ = net.SplitHostPort(l.Addr().String())
			listeners = append(listeners, l)
			continue
		case try > 50:
			t.Fatal(err)
		}
		for _, l := range listeners { // the port is taken somewhere: another
			_ = l.Close()
		}
		listeners, s.port = nil, ""
	}
	for i, ip := range ips {
		srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, ip) })}
		go func() { _ = srv.Serve(listeners[i]) }()
		t.Cleanup(func() { _ = srv.Close() })
	}
	return s
}

func (s *shore) answer(w http.ResponseWriter, r *http.Request, ip string) {
	s.mu.Lock()
	s.hits[ip]++
	s.hosts[r.Host]++
	role := s.roles[ip]
	s.mu.Unlock()
	if role != nil {
		role(w, r)
		return
	}
	_, _ = io.WriteString(w, ip)
}

// reset returns what was hit since the last call.
func (s *shore) reset() (hits, hosts map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	hits, hosts = s.hits, s.hosts
	s.hits, s.hosts = map[string]int{}, map[string]int{}
	return hits, hosts
}

// hit reports whether an address was since the last reset.
func (s *shore) hit(ip string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hits[ip] > 0
}

func (s *shore) cast(ip string, role http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.roles[ip] = role
}

// answerers sends n requests, which all must be answered well, and returns who answered.
func (g *gateway) answerers(n int, path string, headers ...string) map[string]int {
	g.t.Helper()
	got, c := map[string]int{}, kept(g.t) // one connection: turns are taken by connection
	for range n {
		a := g.send(c, http.MethodGet, path, http.NoBody, headers...)
		if a.status() != 200 {
			g.t.Errorf("%d %s %v", a.status(), a.body, a.err)
		}
		got[a.body]++
	}
	c.CloseIdleConnections()
	return got
}

// oneUpstream is an upstream u with targets, and a service for it.
func oneUpstream(settings, targets string) string {
	return fmt.Sprintf("upstreams:\n- {name: u, %stargets: [%s]}\nservices:\n- {name: s, host: u, retries: 2, connect_timeout: 1000, routes: [{name: r, paths: [/]}]}\n", settings, targets)
}

// leavesNothing checks at the end of a test that what gateways ran is gone. To be
// called first.
func leavesNothing(t testing.TB) {
	t.Helper()
	t.Cleanup(func() {
		var stacks string
		ended := false
		defer func() {
			if !ended {
				t.Log(stacks)
			}
		}()
		eventually(t, "goroutines to end", func() bool {
			b := make([]byte, 1<<20)
			stacks = string(b[:runtime.Stack(b, true)])
			return !strings.Contains(stacks, "/engine/upstream.(") && !strings.Contains(stacks, "/engine/dns.(")
		})
		ended = true
	})
}

// ward is a server at every loopback address with one port: it notes each request and
// answers as the test says.
type ward struct {
	port string
	srv  *http.Server

	mu           sync.Mutex
	seen         []visit
	status       map[string]int // by the address asked; 0 for 200
	hold         chan struct{}  // probes end when it is closed
	active, peak int
}

// visit is one request.
type visit struct {
	at       time.Time
	ip, path string
	host     string
	close    bool
	header   http.Header
}

func newWard(t testing.TB) *ward {
	t.Helper()
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &ward{status: map[string]int{}}
	_, w.port, _ = net.SplitHostPort(l.Addr().String())
	w.srv = &http.Server{Handler: w, ReadHeaderTimeout: time.Minute}
	go func() { _ = w.srv.Serve(l) }()
	t.Cleanup(func() { _ = w.srv.Close() })
	return w
}

// ServeHTTP implements http.Handler.
func (w *ward) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	addr := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	ip, _, _ := net.SplitHostPort(addr.String())
	w.mu.Lock()
	w.seen = append(w.seen, visit{at: time.Now(), ip: ip, path: r.URL.RequestURI(), host: r.Host, close: r.Close, header: r.Header})
	hold := w.hold
	w.active++
	w.peak = max(w.peak, w.active)
	w.mu.Unlock()
	if hold != nil {
		<-hold
	}
	w.mu.Lock()
	w.active--
	status := w.status[ip]
	w.mu.Unlock()
	switch status {
	case 0:
		_, _ = io.WriteString(rw, ip)
	case drops:
		panic(http.ErrAbortHandler)
	case hangs:
		<-r.Context().Done()
	default:
		rw.Header().Set("Location", "/elsewhere")
		rw.WriteHeader(status)
	}
}

// What an address may do beside answering with a status.
const (
	drops = -1 // closes the connection
	hangs = -2 // never answers
)

func (w *ward) set(ip string, status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status[ip] = status
}

// take returns the visits since the last call.
func (w *ward) take() []visit {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.seen
	w.seen = nil
	return seen
}

// during returns the visits of the next d.
func (w *ward) during(d time.Duration) []visit {
	w.take()
	<-time.After(d)
	return w.take()
}

// targets names addresses of w as targets.
func (w *ward) targets(ips ...string) string {
	var list []string
	for _, ip := range ips {
		list = append(list, fmt.Sprintf("{target: \"%s:%s\"}", ip, w.port))
	}
	return strings.Join(list, ", ")
}
