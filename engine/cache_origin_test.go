package engine_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// What the cache's tests share: a service at o:1 that answers as told, and many clients
// at once.
//
//	cache_stampede_test.go    many miss the same answer at the same time
//	cache_stream_test.go      they read along as it comes, at their own pace
//	cache_large_test.go       sizes, ranges, slow readers
//	cache_stale_test.go       what is given while the service fails
//	cache_purge_test.go       what is taken back
//	cache_invalidator_test.go what is taken back by requests that change something
//	cache_churn_test.go       much at a time; nothing is left behind
//	cache_reload_test.go      what outlives a reload and a restart
//	cache_encoding_test.go    compression
//	cache_metrics_test.go     what is counted
//	cache_redis_test.go       gateways that share a Redis
//	cache_redis_fault_test.go and what happens to that

// keeping is a document with one service at o:1 whose answers are kept, with settings of
// the cache and more of the service.
func keeping(settings string, service ...string) string {
	return `
_format_version: "3.0"
services:
- name: s
  url: http://o:1
  retries: 0
` + indent(strings.Join(service, "\n")) + `
  routes:
  - name: r
    paths: [/]
    strip_path: false
  plugins:
  - name: proxy-cache
    config: {content_type: ["*/*"], ` + settings + `}
`
}

// cacheModes are settings under which the same things must hold.
var cacheModes = map[string]string{"kong": "cache_ttl: 300", "rfc": "rfc: true"}

// forever lets an answer be kept in every mode.
const forever = "public, max-age=3600"

// sized answers with a body of known length and headers that alternate names and values.
func sized(body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		setHeaders(w.Header(), headers)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = io.WriteString(w, body)
	}
}

// chunked is sized without a length.
func chunked(body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		setHeaders(w.Header(), headers)
		_ = http.NewResponseController(w).Flush()
		_, _ = io.WriteString(w, body)
	}
}

// failing answers with a status.
func failing(status int) role { return role{answer: coded(status)} }

func coded(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
	}
}

func setHeaders(h http.Header, headers []string) {
	h.Set("Content-Type", "text/plain")
	h.Set("Cache-Control", forever)
	for i := 0; i+1 < len(headers); i += 2 {
		h.Set(headers[i], headers[i+1])
	}
}

// tap is an answer that stops in the middle until the test lets it go on.
type tap struct {
	body    string
	first   int // bytes before it stops
	known   bool
	breaks  bool // off, instead of the rest
	headers []string
	stands  chan struct{} // gets a value each time it has stopped
	goes    chan struct{} // closed to let it go on
}

func newTap(body string, known bool, headers ...string) *tap {
	return &tap{body: body, first: len(body) / 2, known: known, headers: headers, stands: make(chan struct{}, 1024), goes: make(chan struct{})}
}

func (p *tap) answer(w http.ResponseWriter, r *http.Request) {
	setHeaders(w.Header(), p.headers)
	if p.known {
		w.Header().Set("Content-Length", strconv.Itoa(len(p.body)))
	}
	_, _ = io.WriteString(w, p.body[:p.first])
	_ = http.NewResponseController(w).Flush()
	p.stands <- struct{}{}
	select {
	case <-p.goes:
	case <-r.Context().Done():
		return
	}
	if p.breaks {
		panic(http.ErrAbortHandler)
	}
	_, _ = io.WriteString(w, p.body[p.first:])
}

// await waits until the answer has stopped.
func (p *tap) await(t testing.TB) {
	t.Helper()
	select {
	case <-p.stands:
	case <-time.After(20 * time.Second):
		t.Fatal("the origin was not asked")
	}
}

// pattern is n bytes that are all in their place: any piece that is missing, doubled or
// of another answer shows.
func pattern(n int, seed uint32) string {
	b := make([]byte, 0, n+4)
	for i := uint32(0); len(b) < n; i++ {
		b = binary.BigEndian.AppendUint32(b, (i+seed)*2654435761)
	}
	return string(b[:n])
}

// crowd sends n GETs at the same time, each over a connection of its own.
func (g *gateway) crowd(n int, path string, headers func(i int) []string) []*pending {
	var list []*pending
	for i := range n {
		var h []string
		if headers != nil {
			h = headers(i)
		}
		list = append(list, g.background(path, append([]string{"Host", cacheHost}, h...)...))
	}
	return list
}

// allGet checks that requests were all answered 200 with a body, and returns how often
// the cache said what.
func allGet(t testing.TB, list []*pending, body string) map[string]int {
	t.Helper()
	said := map[string]int{}
	bad := 0
	for i, p := range list {
		a := p.wait(t)
		if a.err == nil && a.status() == http.StatusOK && a.body == body {
			said[a.resp.Header.Get("X-Cache-Status")]++
			continue
		}
		if bad++; bad <= 3 {
			t.Errorf("request %d: %d, %d bytes of %d (the right ones: %v), %v", i, a.status(), len(a.body), len(body), strings.HasPrefix(body, a.body), a.err)
		}
	}
	if bad > 3 {
		t.Errorf("and %d more", bad-3)
	}
	return said
}

// tells compares what the cache said in answers with what it should have, as fmt prints
// a map.
func tells(t testing.TB, said map[string]int, want string) {
	t.Helper()
	if got := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(said), "map["), "]"); got != want {
		t.Errorf("X-Cache-Status: %s, want %s", got, want)
	}
}

// cacheCount returns a metric of the cache, with labels beside its name.
func (g *gateway) cacheCount(metric string, labels ...string) int {
	g.t.Helper()
	return g.counter("sluice_cache_" + metric + `{cache="kong_db_cache"` + strings.Join(append([]string{""}, labels...), ",") + "}")
}

// awaitWaiting waits until n requests have begun to wait for others.
func (g *gateway) awaitWaiting(n int) {
	g.t.Helper()
	eventually(g.t, fmt.Sprintf("%d requests to wait for another", n), func() bool { return g.cacheCount("coalesced_total") >= n })
}

// expects sends a GET and compares what the cache says, the status and the body.
func (g *gateway) expects(path, says string, status int, body string, headers ...string) *http.Response {
	g.t.Helper()
	a := g.send(noRedirects, http.MethodGet, path, http.NoBody, append([]string{"Host", cacheHost}, headers...)...)
	if a.err != nil {
		g.t.Fatalf("%s: %v", path, a.err)
	}
	if got := a.resp.Header.Get("X-Cache-Status"); got != says || a.status() != status || a.body != body {
		g.t.Errorf("%s %v: %s %d, %d bytes %.40q; want %s %d, %d bytes %.40q", path, headers, got, a.status(), len(a.body), a.body, says, status, len(body), body)
	}
	return a.resp
}

// cacheHost is what clients call every gateway: a part of the key.
const cacheHost = "c.test"

// ask sends a GET to it.
func (g *gateway) ask(path string, headers ...string) (*http.Response, string) {
	g.t.Helper()
	return g.get(path, append([]string{"Host", cacheHost}, headers...)...)
}

// fill asks for paths, which must all be missed.
func (g *gateway) fill(paths ...string) {
	g.t.Helper()
	for _, path := range paths {
		resp, _ := g.ask(path)
		if got := resp.Header.Get("X-Cache-Status"); got != "Miss" || resp.StatusCode != http.StatusOK {
			g.t.Fatalf("%s: %s %d", path, got, resp.StatusCode)
		}
	}
}

// asked reports whether the origin is asked for a path: it is not kept.
func (s *stage) asked(g *gateway, path string, headers ...string) bool {
	s.t.Helper()
	before := s.hits("o:1")
	resp, _ := g.ask(path, headers...)
	if resp.StatusCode != http.StatusOK {
		s.t.Errorf("%s: %d", path, resp.StatusCode)
	}
	return s.hits("o:1") > before
}

// slowClient is a client that reads when it is told to.
type slowClient struct {
	t    testing.TB
	c    net.Conn
	br   *bufio.Reader
	resp *http.Response
}

// slowly sends a GET and reads nothing. The system takes in little for it.
func (g *gateway) slowly(path string, headers ...string) *slowClient {
	g.t.Helper()
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = c.Close() })
	_ = c.(*net.TCPConn).SetReadBuffer(256 << 10) // less than a segment of loopback would crawl
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	text := "GET " + path + " HTTP/1.1\r\nHost: " + cacheHost + "\r\n"
	for i := 0; i+1 < len(headers); i += 2 {
		text += headers[i] + ": " + headers[i+1] + "\r\n"
	}
	if _, err := io.WriteString(c, text+"\r\n"); err != nil {
		g.t.Fatal(err)
	}
	return &slowClient{t: g.t, c: c, br: bufio.NewReader(c)}
}

// head reads the header of the answer.
func (s *slowClient) head() *http.Response {
	s.t.Helper()
	if s.resp == nil {
		resp, err := http.ReadResponse(s.br, &http.Request{Method: http.MethodGet})
		if err != nil {
			s.t.Fatal(err)
		}
		s.resp = resp
	}
	return s.resp
}

// rest reads what is left of the body.
func (s *slowClient) rest() (string, error) {
	s.t.Helper()
	body, err := io.ReadAll(s.head().Body)
	return string(body), err
}
