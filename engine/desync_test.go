package engine_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine"
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/plugin"
)

// Streamed answers go through the general lane as well as through the fast one.
func TestStreamedAnswersInTheGeneralLane(t *testing.T) {
	const size = 300 << 10
	o := newOrigins(t, func(string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/length" {
				w.Header().Set("Content-Length", fmt.Sprint(size))
			}
			for range 3 {
				_, _ = io.CopyN(w, endless{}, size/3)
				w.(http.Flusher).Flush()
			}
		})
	})
	g := start(t, service("http://s:80", ""), o)
	f := func(text string) {
		t.Helper()
		resp, body := g.raw(text)
		if resp.StatusCode != 200 || len(body) != size {
			t.Errorf("%q: %d with %d bytes, want %d", text, resp.StatusCode, len(body), size)
		}
	}
	for _, path := range []string{"/length", "/chunked"} {
		f("GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n")
		f("GET " + path + " HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n")
		f("GET " + path + " HTTP/1.0\r\nHost: a\r\n\r\n")
		f("POST " + path + " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	}
}

// HTTP/1.0 clients are not sent chunks.
func TestOldClientsGetNoChunks(t *testing.T) {
	o := newOrigins(t, func(string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "a")
			w.(http.Flusher).Flush()
			_, _ = io.WriteString(w, "b")
		})
	})
	g := start(t, service("http://s:80", ""), o)
	resp, body := g.raw("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
	if resp.ContentLength != 2 || resp.TransferEncoding != nil || body != "ab" {
		t.Errorf("length %d, coding %v, %q", resp.ContentLength, resp.TransferEncoding, body)
	}
}

// A body that breaks off is not passed on as whole, and its connection to the
// service is not used again: what follows would be read as the body's rest.
func TestTruncatedUploads(t *testing.T) {
	type arrived struct {
		target string
		err    error
	}
	seen := make(chan arrived, 16)
	o := rawOrigin(t, func(c net.Conn, _ int) {
		br := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if strings.HasPrefix(r.URL.Path, "/early") { // answers first and keeps the connection
				_, _ = io.WriteString(c, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
			}
			_, err = io.Copy(io.Discard, r.Body)
			seen <- arrived{r.URL.Path, err}
			if err != nil {
				return
			}
			if !strings.HasPrefix(r.URL.Path, "/early") {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
		}
	})
	g := start(t, service("http://s:80", "  retries: 0\n"), o)
	f := func(head, body string) {
		t.Helper()
		c, err := net.Dial("tcp", g.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = io.WriteString(c, head+"\r\nHost: a\r\n"+body)
		_ = c.(*net.TCPConn).CloseWrite()
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		answer, _ := io.ReadAll(c)
		if strings.HasPrefix(string(answer), "HTTP/1.1 200") {
			t.Errorf("%s: answered %.40q", head, answer)
		}
		if got := <-seen; got.err == nil {
			t.Errorf("%s: the service took the body for whole", head)
		}
		// The next request must arrive as itself.
		if resp, _ := g.do("POST", "/next", strings.Repeat("x", 100)); resp.StatusCode != 200 {
			t.Errorf("after %s: %d", head, resp.StatusCode)
		}
		if got := <-seen; got.target != "/next" || got.err != nil {
			t.Errorf("after %s the service saw %+v", head, got)
		}
	}
	f("POST /a HTTP/1.1", "Content-Length: 100000\r\n\r\n"+strings.Repeat("x", 90000))
	f("POST /early HTTP/1.1", "Content-Length: 100000\r\n\r\n"+strings.Repeat("x", 99000))
	f("POST /b HTTP/1.1", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
	f("POST /c HTTP/1.1", "Transfer-Encoding: chunked\r\n\r\n5\r\nhel")
}

// What a service sends without being asked answers nobody.
func TestUnaskedAnswers(t *testing.T) {
	f := func(name string, origin func(c net.Conn, r *http.Request, sent chan<- struct{})) {
		t.Run(name, func(t *testing.T) {
			sent := make(chan struct{}, 8)
			o := rawOrigin(t, func(c net.Conn, _ int) {
				br := bufio.NewReader(c)
				for {
					r, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					origin(c, r, sent)
				}
			})
			g := start(t, service("http://s:80", ""), o)
			g.do("HEAD", "/1", "")
			<-sent
			for _, method := range []string{"GET", "POST"} {
				if resp, body := g.do(method, "/2", ""); resp.StatusCode != 200 || body != "good" {
					t.Errorf("%s got %d %q", method, resp.StatusCode, body)
				}
			}
		})
	}
	good := func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood") }
	f("408 while idle", func(c net.Conn, r *http.Request, sent chan<- struct{}) {
		if r.URL.Path == "/1" {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
			time.AfterFunc(40*time.Millisecond, func() {
				_, _ = io.WriteString(c, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
				_ = c.Close()
				sent <- struct{}{}
			})
			return
		}
		good(c)
	})
	f("body after HEAD", func(c net.Conn, r *http.Request, sent chan<- struct{}) {
		if r.URL.Path == "/1" {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
			time.AfterFunc(40*time.Millisecond, func() {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
				sent <- struct{}{}
			})
			return
		}
		good(c)
	})
}

// A service that restarts leaves many dead connections behind; the next requests
// are answered all the same, whatever their method.
func TestServiceRestart(t *testing.T) {
	var mu sync.Mutex
	var conns []net.Conn
	o := rawOrigin(t, func(c net.Conn, _ int) {
		mu.Lock()
		conns = append(conns, c)
		mu.Unlock()
		br := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	g := start(t, service("http://s:80", "  retries: 0\n"), o)
	for _, body := range []string{"", "x", strings.Repeat("x", 100<<10)} {
		for _, method := range []string{"GET", "POST", "PUT"} {
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() { g.do("GET", "/", "") })
			}
			wg.Wait()
			mu.Lock()
			for _, c := range conns {
				_ = c.Close()
			}
			conns = nil
			mu.Unlock()
			if resp, _ := g.do(method, "/", body); resp.StatusCode != 200 {
				t.Errorf("%s with %d bytes: %d", method, len(body), resp.StatusCode)
			}
		}
	}
}

// The same over TLS, where the end of a connection hides below the record layer.
func TestTLSServiceRestart(t *testing.T) {
	var closed atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateClosed {
			closed.Add(1)
		}
	}
	s.StartTLS()
	defer s.Close()
	g := start(t, service("https://s:443", "  retries: 0\n"), dialing(t, func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", s.Listener.Addr().String())
	}))
	for i := range int64(3) {
		if resp, body := g.do("POST", "/", "abc"); resp.StatusCode != 200 || body != "abc" {
			t.Fatalf("%d: %d %q", i, resp.StatusCode, body)
		}
		s.CloseClientConnections()
		for deadline := time.Now().Add(10 * time.Second); closed.Load() <= i; {
			if time.Now().After(deadline) {
				t.Fatal("the connection was not closed")
			}
			time.Sleep(time.Millisecond) // polling
		}
	}
}

// Several fields of one name are one list, read from its end.
func TestForwardedListsAreReadFromTheEnd(t *testing.T) {
	f := func(gateway, headers, realIP, forwardedFor string) {
		t.Helper()
		g := start(t, gateway+everything, echoes(t))
		_, body := g.raw("GET / HTTP/1.1\r\nHost: a\r\n" + headers + "\r\n")
		h := echoed(t, body).Header
		if got := strings.Join(h["X-Real-Ip"], "|"); got != realIP {
			t.Errorf("%s %q: client is %s, want %s", gateway, headers, got, realIP)
		}
		if got := strings.Join(h["X-Forwarded-For"], "|"); got != forwardedFor {
			t.Errorf("%s %q: forwarded for %q, want %q", gateway, headers, got, forwardedFor)
		}
	}
	const two = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 8.8.8.8\r\n"
	f("", two, "127.0.0.1", "6.6.6.6, 8.8.8.8, 127.0.0.1")
	f("gateway: {trusted_ips: [127.0.0.1], real_ip_header: X-Forwarded-For}\n", two, "8.8.8.8", "6.6.6.6, 8.8.8.8, 127.0.0.1")
	f("gateway: {trusted_ips: [127.0.0.1, 8.8.8.8], real_ip_header: X-Forwarded-For, real_ip_recursive: true}\n", two, "6.6.6.6", "6.6.6.6, 8.8.8.8, 127.0.0.1")
	f("gateway: {trusted_ips: [127.0.0.1], real_ip_header: CF-Connecting-IP}\n", "CF-Connecting-IP: 9.9.9.9\r\n", "9.9.9.9", "127.0.0.1")
	f("gateway: {trusted_ips: [192.0.2.1], real_ip_header: CF-Connecting-IP}\n", "CF-Connecting-IP: 9.9.9.9\r\n", "127.0.0.1", "127.0.0.1")
}

// While the gateway drains, a kept connection of either lane gets its next
// request answered, and is told that it was the last.
func TestDrainFinishesKeptConnections(t *testing.T) {
	for _, extra := range []string{"", "Upgrade: x\r\n"} {
		d := document(t, everything)
		d.Gateway.ProxyListen = config.Listeners{{Host: "127.0.0.1"}}
		e, err := engine.Open(d, engine.Options{Plugins: plugin.All, Log: discardLog, Dial: echoes(t).dial})
		if err != nil {
			t.Fatal(err)
		}
		addrs, err := e.Listen()
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", addrs[0].String())
		if err != nil {
			t.Fatal(err)
		}
		br := bufio.NewReader(c)
		request := "GET / HTTP/1.1\r\nHost: a\r\n" + extra + "\r\n"
		_, _ = io.WriteString(c, request)
		readResponse(t, br, false)
		done := make(chan error)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			done <- e.Shutdown(ctx)
		}()
		for ok, _ := e.Ready(); ok; ok, _ = e.Ready() {
			time.Sleep(time.Millisecond) // polling
		}
		_, _ = io.WriteString(c, request)
		if resp, _ := readResponse(t, br, false); resp.StatusCode != 200 || !resp.Close {
			t.Errorf("%q: %d, close %t", extra, resp.StatusCode, resp.Close)
		}
		if err := <-done; err != nil {
			t.Errorf("shutdown: %v", err)
		}
		_ = c.Close()
	}
}

// A header of many tiny fields is refused: each would cost memory many times its
// size.
func TestFieldLimit(t *testing.T) {
	g := start(t, everything, echoes(t))
	resp, _ := g.raw("GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("a:\r\n", 1000) + "\r\n")
	if resp.StatusCode != 431 {
		t.Errorf("got %d, want 431", resp.StatusCode)
	}
}

// A TLS listener needs a certificate, and serves with it.
func TestTLSListener(t *testing.T) {
	d := document(t, everything)
	d.Gateway.ProxyListen = config.Listeners{{Host: "127.0.0.1", SSL: true}}
	e, err := engine.Open(d, engine.Options{Plugins: plugin.All, Log: discardLog, Dial: echoes(t).dial})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Listen(); err == nil || !strings.Contains(err.Error(), "no certificate") {
		t.Errorf("a TLS listener without certificate: %v", err)
	}
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	cert, key := pemOf(t, s.TLS.Certificates[0])
	text := everything + "certificates:\n- cert: " + cert + "\n  key: " + key + "\n  snis: [{name: api.example.com}]\n"
	if err := e.Apply(document(t, text)); err != nil {
		t.Fatal(err)
	}
	d = document(t, text)
	d.Gateway.ProxyListen = config.Listeners{{Host: "127.0.0.1", SSL: true}}
	if err := e.Apply(d); err != nil {
		t.Fatal(err)
	}
	addrs, err := e.Listen()
	if err != nil {
		t.Fatal(err)
	}
	c, err := tls.Dial("tcp", addrs[0].String(), &tls.Config{ServerName: "api.example.com", InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	_, body := readResponse(t, bufio.NewReader(c), false)
	if got := echoed(t, body).Header["X-Forwarded-Proto"]; len(got) != 1 || got[0] != "https" {
		t.Errorf("X-Forwarded-Proto %q", got)
	}
	_ = c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := e.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// A PROXY header counts from a trusted peer, and only from one.
func TestProxyProtocol(t *testing.T) {
	f := func(block, want string) {
		t.Helper()
		d := document(t, block+everything)
		d.Gateway.ProxyListen = config.Listeners{{Host: "127.0.0.1", ProxyProtocol: true}}
		e, err := engine.Open(d, engine.Options{Plugins: plugin.All, Log: discardLog, Dial: echoes(t).dial})
		if err != nil {
			t.Fatal(err)
		}
		addrs, err := e.Listen()
		if err != nil {
			t.Fatal(err)
		}
		g := &gateway{addr: addrs[0].String(), t: t}
		_, body := g.raw("PROXY TCP4 203.0.113.7 192.0.2.1 4711 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
		if got := echoed(t, body).Header["X-Real-Ip"]; len(got) != 1 || got[0] != want {
			t.Errorf("%q: client is %q, want %s", block, got, want)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := e.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	}
	f("gateway: {trusted_ips: [127.0.0.1]}\n", "203.0.113.7")
	f("", "127.0.0.1")
}
