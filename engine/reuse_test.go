package engine_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// corked is a connection of a service that can hold back what is written to it, so that
// several records of TLS leave in one piece.
type corked struct {
	net.Conn
	held bytes.Buffer
	cork bool
}

// Write implements io.Writer.
func (c *corked) Write(p []byte) (int, error) {
	if c.cork {
		return c.held.Write(p)
	}
	return c.Conn.Write(p)
}

// together sends the records that f writes in one piece.
func (c *corked) together(f func()) {
	c.cork = true
	f()
	c.cork = false
	_, _ = c.Conn.Write(c.held.Bytes())
	c.held.Reset()
}

// straying is a service over TLS that sends another answer, which nobody asked for,
// together with each one for /stray.
func straying(t testing.TB) *origins {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	serve := func(nc net.Conn) {
		defer nc.Close()
		raw := &corked{Conn: nc}
		c := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{testCertificate()}})
		br := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			raw.together(func() {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"+map[bool]string{false: "good"}[r.Method == http.MethodHead])
				if r.URL.Path == "/stray" {
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
				}
			})
		}
	}
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			go serve(nc)
		}
	}()
	return dialing(t, func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", l.Addr().String())
	})
}

// A body that a service sends after HEAD all the same, or another answer after any,
// answers nobody, over TLS neither, whose reader takes it off the socket together with
// what was asked for. Other connections are used again.
func TestStrayAnswersOverTLS(t *testing.T) {
	for _, stray := range []string{"HEAD", "GET", "POST"} {
		for _, method := range []string{"GET", "POST", "HEAD"} {
			o := straying(t)
			var dials atomic.Int64
			dial := o.override
			o.override = func(ctx context.Context) (net.Conn, error) {
				dials.Add(1)
				return dial(ctx)
			}
			g := start(t, service("https://s:443", "  retries: 0\n"), o)
			for range 3 {
				g.do(stray, "/stray", "")
				want := map[bool]string{false: "good"}[method == "HEAD"]
				for range 2 {
					if resp, body := g.do(method, "/", ""); resp.StatusCode != 200 || body != want {
						t.Errorf("%s after %s: %d %q", method, stray, resp.StatusCode, body)
					}
				}
			}
			if n := dials.Load(); n != 4 {
				t.Errorf("%s after %s: %d connections, want 4", method, stray, n)
			}
		}
	}
}

// A connection that has taken a whole body is kept, however soon the answer comes.
func TestUploadsKeepTheConnection(t *testing.T) {
	f := func(size int, chunked bool) {
		t.Helper()
		s := newStage(t)
		g := s.start(one("", "retries: 0"))
		s.cast("a:1", role{answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }})
		c := kept(t)
		for range 50 {
			var body io.Reader = strings.NewReader(strings.Repeat("x", size))
			if chunked {
				body = io.MultiReader(body) // hides the length
			}
			if a := g.send(c, "POST", "/", body); a.status() != 200 || a.body != "ok" {
				t.Fatalf("%d bytes, chunked %t: %d %v", size, chunked, a.status(), a.err)
			}
		}
		if n := s.dials("a:1"); n != 1 {
			t.Errorf("%d bytes, chunked %t: %d connections for 50 uploads", size, chunked, n)
		}
	}
	f(10<<10, false)
	f(100<<10, false)
	f(1<<20, false)
	f(10, true)
	f(100<<10, true)
}

// The time of an attempt begins when the body that was kept for it is there.
func TestKeptBodiesLeaveAttemptsTheirTime(t *testing.T) {
	f := func(head, piece string, settings string) {
		t.Helper()
		s := newStage(t)
		g := s.start(retrying("retries: 1, per_try_timeout: 250, " + quick + settings))
		for range 2 { // the second over a kept connection
			c := g.connect()
			_, _ = io.WriteString(c, "PUT / HTTP/1.1\r\nHost: a\r\n"+head+"\r\n\r\n"+piece)
			<-time.After(400 * time.Millisecond)
			_, _ = io.WriteString(c, map[bool]string{true: "0\r\n\r\n", false: "def"}[strings.HasPrefix(head, "T")])
			resp, body := readResponse(t, bufio.NewReader(c), false)
			if resp.StatusCode != 200 || resp.Header.Get("X-Retry-Count") != "" {
				t.Errorf("%s: %d %v %s", head, resp.StatusCode, resp.Header, body)
			}
		}
		for _, kind := range []string{"read_timeout", "connect_timeout", "closed"} {
			if n := g.counter(fmt.Sprintf("sluice_upstream_faults_total{kind=%q}", kind)); n != 0 {
				t.Errorf("%s: %d of kind %s", head, n, kind)
			}
		}
	}
	f("Transfer-Encoding: chunked", "3\r\nabc\r\n", "")
	f("Content-Length: 6", "abc", "")
}

// A retry after an answer that was held, to be read whole, and broke off counts against
// the limits as the first attempt did.
func TestRetryAfterAHeldBodyKeepsItsPlace(t *testing.T) {
	f := func(upstream, service string) {
		t.Helper()
		s := newStage(t)
		g := s.start(one(upstream, service) + "plugins:\n- {name: response-transformer, config: {add: {json: [\"b:2\"]}}}\n")
		var answers atomic.Int64
		again := make(chan struct{})
		s.cast("a:1", role{answer: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			if answers.Add(1) == 1 {
				_, _ = io.WriteString(w, `{"a":`)
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			}
			select {
			case <-again:
			case <-r.Context().Done():
			}
			_, _ = io.WriteString(w, `{"a":"1"}`)
		}})
		first := g.background("/")
		eventually(t, "the second attempt", func() bool { return answers.Load() == 2 })
		second := g.background("/")
		eventually(t, "the second request", func() bool {
			select {
			case <-second.done:
				return true
			default:
				return answers.Load() > 2
			}
		})
		close(again)
		turnedAway(t, second.wait(t))
		if a := first.wait(t); a.status() != 200 || a.body != `{"a":"1","b":"2"}` || answers.Load() != 2 {
			t.Errorf("%s %s: %d %q after %d attempts", upstream, service, a.status(), a.body, answers.Load())
		}
		if a := g.send(noRedirects, "GET", "/", http.NoBody); a.status() != 200 {
			t.Errorf("%s %s: then %d", upstream, service, a.status())
		}
	}
	f("limits: {requests: 1}", "")
	f("limits: {connections: 1}", "")
	f("", "limits: {requests: 1}")
}
