package engine_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// service returns a document with one route to host and more settings for it.
func service(url, settings string) string {
	return "_format_version: \"3.0\"\nservices:\n- name: s\n  url: " + url + "\n" + settings +
		"  routes:\n  - name: r\n    paths: [/]\n    strip_path: false\n"
}

// dialing answers every dial with f.
func dialing(t testing.TB, f func(ctx context.Context) (net.Conn, error)) *origins {
	o := newOrigins(t, nil)
	o.override = f
	return o
}

// rawOrigin runs f for every connection that is dialed.
func rawOrigin(t testing.TB, f func(c net.Conn, n int)) *origins {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for n := 1; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c, n)
			}()
		}
	}()
	return dialing(t, func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", l.Addr().String())
	})
}

func TestFaultsHaveKongsAnswers(t *testing.T) {
	refused := dialing(t, func(context.Context) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: &os.SyscallError{Syscall: "connect", Err: syscall.ECONNREFUSED}}
	})
	unknown := dialing(t, func(context.Context) (net.Conn, error) {
		return nil, &net.DNSError{Err: "no such host", Name: "s", IsNotFound: true}
	})
	hangs := dialing(t, func(ctx context.Context) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	silent := rawOrigin(t, func(c net.Conn, _ int) { _, _ = io.Copy(io.Discard, c) })
	garbage := rawOrigin(t, func(c net.Conn, _ int) { _, _ = io.WriteString(c, "SSH-2.0-OpenSSH\r\n\r\n") })
	closes := rawOrigin(t, func(c net.Conn, _ int) { _, _ = c.Read(make([]byte, 1024)) })

	const short = "  connect_timeout: 100\n  read_timeout: 100\n  write_timeout: 100\n  retries: 1\n"
	f := func(name string, o *origins, status int, message string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			g := start(t, service("http://s:80", short), o)
			for accept, want := range map[string]string{
				"application/json": "{\n  \"message\":\"" + message + "\",\n  \"request_id\":\"",
				"text/plain":       message + "\nrequest_id: ",
				"text/html":        "<!doctype html>",
			} {
				resp, body := g.get("/", "Accept", accept)
				if resp.StatusCode != status || !strings.HasPrefix(body, want) {
					t.Errorf("%s: %d %q, want %d %q", accept, resp.StatusCode, body, status, want)
				}
				if got := resp.Header.Get("Server"); got != "sluice" {
					t.Errorf("Server: %q", got)
				}
			}
		})
	}
	const bad = "An invalid response was received from the upstream server"
	f("refused", refused, 502, bad)
	f("unknown name", unknown, 503, "name resolution failed")
	f("connect timeout", hangs, 504, "The upstream server is timing out")
	f("read timeout", silent, 504, "The upstream server is timing out")
	f("not HTTP", garbage, 502, bad)
	f("closes", closes, 502, bad)
}

func TestWriteTimeout(t *testing.T) {
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	// The service accepts and never reads: the socket buffers fill up.
	o := rawOrigin(t, func(net.Conn, int) { <-stop })
	g := start(t, service("http://s:80", "  write_timeout: 200\n  retries: 0\n"), o)
	resp, _ := g.do("POST", "/", strings.Repeat("x", 32<<20))
	if resp.StatusCode != 504 {
		t.Errorf("got %d, want 504", resp.StatusCode)
	}
}

// A service that is not there is asked 1+retries times, whatever the method:
// nothing was sent.
func TestRetriesOnConnectionFailure(t *testing.T) {
	var dials atomic.Int64
	o := dialing(t, func(context.Context) (net.Conn, error) {
		dials.Add(1)
		return nil, errors.New("unreachable")
	})
	g := start(t, service("http://s:80", "  retries: 3\n"), o)
	if resp, _ := g.do("POST", "/", "x"); resp.StatusCode != 502 || dials.Load() != 4 {
		t.Errorf("%d after %d dials, want 502 after 4", resp.StatusCode, dials.Load())
	}
}

// A request that may have been acted on goes out again only if it is idempotent.
func TestSentRequestsAreRepeatedOnlyIfIdempotent(t *testing.T) {
	f := func(method string, want int64) {
		t.Helper()
		var seen atomic.Int64
		o := rawOrigin(t, func(c net.Conn, _ int) {
			_, _ = c.Read(make([]byte, 4096))
			seen.Add(1) // and closes without an answer
		})
		g := start(t, service("http://s:80", "  retries: 2\n"), o)
		if resp, _ := g.do(method, "/", ""); resp.StatusCode != 502 || seen.Load() != want {
			t.Errorf("%s: %d, sent %d times, want 502 and %d", method, resp.StatusCode, seen.Load(), want)
		}
	}
	f("GET", 3)
	f("PUT", 3)
	f("POST", 1)
	f("PATCH", 1)
}

// A kept connection that the service closed meanwhile is not the client's problem.
func TestStaleConnectionIsReplaced(t *testing.T) {
	f := func(method string) {
		t.Helper()
		closed := make(chan struct{}, 16)
		o := rawOrigin(t, func(c net.Conn, _ int) {
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
			_ = c.Close() // although it promised to keep it
			closed <- struct{}{}
		})
		g := start(t, service("http://s:80", "  retries: 0\n"), o)
		for i := range 5 {
			resp, body := g.do(method, "/", "")
			if resp.StatusCode != 200 || body != "ok" {
				t.Fatalf("%s %d: %d %q", method, i, resp.StatusCode, body)
			}
			<-closed
		}
	}
	f("GET")
	f("POST")
}

func TestAnswersWithoutBody(t *testing.T) {
	o := newOrigins(t, func(string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/204":
				w.WriteHeader(204)
			case "/304":
				w.Header().Set("ETag", `"a"`)
				w.WriteHeader(304)
			case "/empty":
			default:
				w.Header().Set("Content-Length", "1000")
				if r.Method != http.MethodHead {
					_, _ = w.Write(make([]byte, 1000))
				}
			}
		})
	})
	g := start(t, service("http://s:80", ""), o)
	f := func(method, path string, status int, length string) {
		t.Helper()
		resp, body := g.raw(method + " " + path + " HTTP/1.1\r\nHost: a\r\n\r\n")
		if resp.StatusCode != status || resp.Header.Get("Content-Length") != length {
			t.Errorf("%s %s: %d, Content-Length %q, want %d %q (body %d)", method, path, resp.StatusCode,
				resp.Header.Get("Content-Length"), status, length, len(body))
		}
		if resp.Header.Get("Content-Type") == "text/plain; charset=utf-8" && path != "/" {
			t.Errorf("%s %s: a content type was made up", method, path)
		}
	}
	f("GET", "/204", 204, "")
	f("GET", "/304", 304, "")
	f("GET", "/empty", 200, "0")
	f("GET", "/", 200, "1000")
	f("HEAD", "/", 200, "1000")
	// And on one connection, to see that no byte is left over.
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	br := bufio.NewReader(c)
	for _, r := range []string{"HEAD /", "GET /204", "GET /304", "HEAD /", "GET /"} {
		fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: a\r\n\r\n", r)
		readResponse(t, br, strings.HasPrefix(r, "HEAD"))
	}
}

// Pipelined requests are answered in order, over one connection.
func TestPipelining(t *testing.T) {
	g := start(t, everything, echoes(t))
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	var all strings.Builder
	for i := range 50 {
		fmt.Fprintf(&all, "POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", i)
	}
	go func() { _, _ = io.WriteString(c, all.String()) }()
	br := bufio.NewReader(c)
	for i := range 50 {
		_, body := readResponse(t, br, false)
		if e := echoed(t, body); e.URI != "/"+strconv.Itoa(i) || e.Body != "abc" {
			t.Fatalf("answer %d is for %s with %q", i, e.URI, e.Body)
		}
	}
}

// Requests in pieces, bodies in chunks, Expect: what the fast lane leaves to
// the general one.
func TestUnusualRequests(t *testing.T) {
	g := start(t, everything, echoes(t))
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	br := bufio.NewReader(c)
	for _, piece := range []string{"PO", "ST /a HTTP/1.1\r\nHo", "st: a\r\nContent-Length: 4\r\n\r\nab", "cd"} {
		if _, err := io.WriteString(c, piece); err != nil {
			t.Fatal(err)
		}
	}
	_, body := readResponse(t, br, false)
	if e := echoed(t, body); e.URI != "/a" || e.Body != "abcd" {
		t.Errorf("in pieces: %+v", e)
	}
	_, _ = io.WriteString(c, "POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-T: 1\r\n\r\n")
	_, body = readResponse(t, br, false)
	if e := echoed(t, body); e.URI != "/b" || e.Body != "abcde" {
		t.Errorf("chunked: %+v", e)
	}
	_, _ = io.WriteString(c, "POST /c HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
	if line, err := br.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("expect: %q %v", line, err)
	}
	_, _ = br.ReadString('\n')
	_, _ = io.WriteString(c, "ok")
	_, body = readResponse(t, br, false)
	if e := echoed(t, body); e.Body != "ok" || e.Header["Expect"] != nil {
		t.Errorf("expect: %+v", e)
	}
}

// A service that breaks off in the middle of its answer: the client must notice.
func TestBrokenAnswerCutsTheClient(t *testing.T) {
	for name, head := range map[string]string{
		"length":  "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
		"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n",
	} {
		o := rawOrigin(t, func(c net.Conn, _ int) {
			_, _ = http.ReadRequest(bufio.NewReader(c))
			_, _ = io.WriteString(c, head+strings.Repeat("x", 70000))
		})
		g := start(t, service("http://s:80", ""), o)
		resp, err := noRedirects.Get("http://" + g.addr + "/")
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err == nil {
			t.Errorf("%s: %d bytes of a broken answer looked whole", name, n)
		}
	}
}

// Server-sent events arrive as they are sent, not when the answer ends.
func TestEventsAreNotHeldBack(t *testing.T) {
	next := make(chan struct{})
	o := newOrigins(t, func(string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for range 3 {
				_, _ = io.WriteString(w, "data: x\n\n")
				w.(http.Flusher).Flush()
				<-next
			}
		})
	})
	g := start(t, service("http://s:80", ""), o)
	resp, err := noRedirects.Get("http://" + g.addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	buf := make([]byte, len("data: x\n\n"))
	for range 3 {
		if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != "data: x\n\n" {
			t.Fatalf("%q %v", buf, err)
		}
		next <- struct{}{}
	}
}

func TestWeightedTargets(t *testing.T) {
	g := start(t, `
_format_version: "3.0"
upstreams:
- name: u
  targets:
  - {target: "a:1", weight: 90}
  - {target: "b:2", weight: 10}
  - {target: "c:3", weight: 0}
services:
- {name: s, host: u, routes: [{name: r, paths: [/]}]}
`, echoes(t))
	got := map[string]int{}
	for range 100 {
		_, body := g.get("/")
		e := echoed(t, body)
		got[e.Origin]++
		if e.Host != e.Origin {
			t.Errorf("Host %q for target %q", e.Host, e.Origin)
		}
	}
	if got["a:1"] != 90 || got["b:2"] != 10 || got["c:3"] != 0 {
		t.Errorf("got %v", got)
	}
}

// What a route without service and a path without route answer.
func TestNobodyAnswers(t *testing.T) {
	g := start(t, "_format_version: \"3.0\"\nroutes:\n- {name: r, paths: [/none]}\n", nil)
	if resp, body := g.get("/other", "Accept", "application/json"); resp.StatusCode != 404 || !strings.Contains(body, `"message":"no Route matched with those values"`) {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if resp, body := g.get("/none"); resp.StatusCode != 503 || !strings.Contains(body, `"message":"no Service found with those values"`) {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

func TestHTTPSOnlyRoutes(t *testing.T) {
	g := start(t, `
_format_version: "3.0"
services:
- name: s
  url: http://s
  routes:
  - {name: upgrade, paths: [/a], protocols: [https]}
  - {name: redirect, paths: [/b], protocols: [https], https_redirect_status_code: 301}
`, echoes(t))
	resp, body := g.get("/a")
	if resp.StatusCode != 426 || !strings.Contains(body, "Please use HTTPS protocol") || resp.Header.Get("Upgrade") != "TLS/1.2, HTTP/1.1" {
		t.Errorf("%d %v %s", resp.StatusCode, resp.Header, body)
	}
	resp, _ = g.get("/b/c?d=e", "Host", "api.example.com")
	if resp.StatusCode != 301 || resp.Header.Get("Location") != "https://api.example.com/b/c?d=e" {
		t.Errorf("%d %q", resp.StatusCode, resp.Header.Get("Location"))
	}
}

func TestTrustedProxies(t *testing.T) {
	f := func(gateway, want string) {
		t.Helper()
		g := start(t, gateway+everything, echoes(t))
		_, body := g.get("/", "X-Forwarded-For", "198.51.100.7, 203.0.113.9", "X-Forwarded-Proto", "https", "X-Real-IP", "198.51.100.8", "X-Forwarded-Host", "shop.example.com")
		h := echoed(t, body).Header
		got := fmt.Sprint(h["X-Real-Ip"], h["X-Forwarded-Proto"], h["X-Forwarded-Host"])
		if got != want {
			t.Errorf("%s: got %s, want %s", gateway, got, want)
		}
	}
	own := "[127.0.0.1] [http] [127.0.0.1]"
	f("", own)
	f("gateway: {trusted_ips: [192.0.2.0/24]}\n", own)
	f("gateway: {trusted_ips: [127.0.0.0/8]}\n", "[198.51.100.8] [https] [shop.example.com]")
	f("gateway: {trusted_ips: [127.0.0.1], real_ip_header: X-Forwarded-For}\n", "[203.0.113.9] [https] [shop.example.com]")
	f("gateway: {trusted_ips: [127.0.0.1, 203.0.113.0/24], real_ip_header: X-Forwarded-For, real_ip_recursive: true}\n", "[198.51.100.7] [https] [shop.example.com]")
}

func TestBodyLimit(t *testing.T) {
	g := start(t, "gateway: {client_max_body_size: 100k}\n"+everything, echoes(t))
	if resp, _ := g.do("POST", "/", strings.Repeat("x", 100<<10)); resp.StatusCode != 200 {
		t.Errorf("at the limit: %d", resp.StatusCode)
	}
	if resp, body := g.do("POST", "/", strings.Repeat("x", 100<<10+1)); resp.StatusCode != 413 || !strings.HasPrefix(body, "Payload too large\n") {
		t.Errorf("above the limit: %d %q", resp.StatusCode, body)
	}
	// Of unknown length: counted while it is copied.
	resp, err := noRedirects.Post("http://"+g.addr+"/", "text/plain", io.LimitReader(endless{}, 200<<10))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 413 {
		t.Errorf("unknown length: %d", resp.StatusCode)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
