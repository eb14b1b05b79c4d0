package engine_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/sluice-gateway/sluice/engine/downstream"
)

const handshake = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"

// Bytes right behind the handshake, of either side, are not lost and come first.
func TestTunnelPendingBytes(t *testing.T) {
	leavesNoGoroutine(t)
	early := strings.Repeat("early ", 3000) // more than fits a buffer with the handshake
	for _, size := range []int{1, 100, len(early)} {
		o := rawOrigin(t, func(c net.Conn, _ int) {
			br := bufio.NewReader(c)
			if _, err := http.ReadRequest(br); err != nil {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"+early[:size])
			_, _ = io.Copy(c, br)
		})
		g := startLanes(t, service("http://s:80", ""), o, downstream.Timeouts{})
		for _, secure := range []bool{false, true} {
			c := g.dial(secure)
			_, _ = io.WriteString(c, handshake+"\r\n"+strings.ToUpper(early[:size]))
			br := bufio.NewReader(c)
			if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 101 {
				t.Fatalf("%v %v", resp, err)
			}
			_, _ = io.WriteString(c, "last")
			got := make([]byte, 2*size+len("last"))
			if _, err := io.ReadFull(br, got); err != nil || string(got) != early[:size]+strings.ToUpper(early[:size])+"last" {
				t.Errorf("%d bytes, TLS %t: got %.60q %v", size, secure, got, err)
			}
			_ = c.Close()
		}
	}
}

// A service that refuses the handshake has its answer passed on, over a connection that
// goes on.
func TestTunnelRefused(t *testing.T) {
	leavesNoGoroutine(t)
	o := served(t, false, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "" {
			w.Header().Set("X-Why", "full")
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, "not you")
			return
		}
		_, _ = io.WriteString(w, "plain")
	})
	g := startLanes(t, service("http://s:80", ""), o, downstream.Timeouts{})
	for _, secure := range []bool{false, true} {
		c := g.dial(secure)
		br := bufio.NewReader(c)
		for range 3 {
			_, _ = io.WriteString(c, handshake+"\r\n")
			if resp, body := readResponse(t, br, false); resp.StatusCode != 403 || body != "not you" || resp.Header.Get("X-Why") != "full" || resp.Header.Get("Upgrade") != "" {
				t.Errorf("%d %v %q", resp.StatusCode, resp.Header, body)
			}
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			if resp, body := readResponse(t, br, false); resp.StatusCode != 200 || body != "plain" {
				t.Errorf("%d %q", resp.StatusCode, body)
			}
		}
	}
	if n := g.metric("sluice_tunnels_opened_total"); n != "0" {
		t.Errorf("%s tunnels were opened", n)
	}
}

// A handshake is tried at another target where the first refuses connections.
func TestTunnelHandshakeIsRetried(t *testing.T) {
	leavesNoGoroutine(t)
	ended := make(chan error, 16)
	o := served(t, false, chat(ended))
	c, err := o.dial(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	live := c.RemoteAddr().String()
	_ = c.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	_ = l.Close()
	g := startLanes(t, fmt.Sprintf("_format_version: \"3.0\"\nupstreams:\n- name: u\n  targets: [{target: %q}, {target: %q}]\n"+
		"services:\n- {name: s, host: u, routes: [{name: r, paths: [/]}]}\n", dead, live), nil, downstream.Timeouts{})
	for range 6 { // half of them meet the dead one first
		g.openChat(false, &websocket.DialOptions{})
	}
	if n := g.metric("sluice_upstream_retries_total"); n == "0" {
		t.Error("no handshake was tried again")
	}
}

// Hooks see a handshake as any request: it may be refused before the service hears of
// it, and is logged when the tunnel has ended.
func TestTunnelHooks(t *testing.T) {
	leavesNoGoroutine(t)
	file := filepath.Join(t.TempDir(), "log")
	ended := make(chan error, 1)
	g := startLanes(t, service("http://s:80", "")+"plugins:\n- name: key-auth\n- {name: correlation-id, config: {echo_downstream: true}}\n- {name: file-log, config: {path: "+file+"}}\n"+
		"consumers:\n- username: c\n  keyauth_credentials: [{key: open sesame}]\n", served(t, false, chat(ended)), downstream.Timeouts{})
	for _, secure := range []bool{false, true} {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		client, base := g.client(secure)
		client.Timeout = 0
		_, resp, err := websocket.Dial(ctx, base+"/chat", &websocket.DialOptions{HTTPClient: client})
		if err == nil || resp.StatusCode != 401 {
			t.Errorf("without a key: %v", err)
		}
		c, resp, err := websocket.Dial(ctx, base+"/chat", &websocket.DialOptions{HTTPClient: client, HTTPHeader: http.Header{"Apikey": {"open sesame"}}})
		if err != nil {
			t.Fatal(err)
		}
		if resp.Header.Get("Kong-Request-Id") == "" || resp.Header.Get("X-Kong-Request-Id") == "" {
			t.Errorf("the answer has no ids: %v", resp.Header)
		}
		c.SetReadLimit(-1)
		const bytes = 100000
		if err := c.Write(ctx, websocket.MessageBinary, make([]byte, bytes)); err != nil {
			t.Error(err)
		}
		if _, body, err := c.Read(ctx); err != nil || len(body) != bytes {
			t.Errorf("%d bytes, %v", len(body), err)
		}
		if lines := logged(t, file, 1); lines[0].Response.Status != 401 {
			t.Errorf("the first line is %+v", lines[0])
		}
		if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
			t.Error(err)
		}
		<-ended
		line := logged(t, file, 2)[1]
		if line.Response.Status != 101 || line.Status != "101" || line.Consumer.Username != "c" {
			t.Errorf("logged: %+v", line)
		}
		for what, size := range map[string]int64{"request": line.Request.Size, "response": line.Response.Size} {
			if size < bytes || size > bytes+1000 {
				t.Errorf("%s of %d bytes, want %d and a handshake", what, size, bytes)
			}
		}
		cancel()
		if err := os.Truncate(file, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// logLine is what file-log says of an exchange.
type logLine struct {
	Request  struct{ Size int64 }
	Response struct {
		Status int
		Size   int64
	}
	Status   string `json:"upstream_status"`
	Consumer struct{ Username string }
}

// logged waits for n lines in file.
func logged(t *testing.T, file string, n int) []logLine {
	t.Helper()
	var lines []logLine
	holds(t, fmt.Sprintf("%d lines are logged", n), func() bool {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(text), "\n") >= n
	})
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var l logLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		lines = append(lines, l)
	}
	if len(lines) != n {
		t.Fatalf("%d lines, want %d", len(lines), n)
	}
	return lines
}

// upgrading is a service that changes to whatever protocol it is asked for and echoes;
// what asks for none gets a list of its fields.
func upgrading(t *testing.T) *origins {
	return rawOrigin(t, func(c net.Conn, _ int) {
		br := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if p := r.Header.Get("Upgrade"); p != "" {
				fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: %s\r\nConnection: Upgrade\r\n\r\n", p)
				_, _ = io.Copy(c, br)
				return
			}
			body, _ := io.ReadAll(r.Body)
			text := fmt.Sprintf("%s %s %q Connection=%q HTTP2-Settings=%q", r.Method, r.URL.Path, body, r.Header["Connection"], r.Header["Http2-Settings"])
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
		}
	})
}

// Only WebSocket, and what a route names, is let through: anything else reaches the
// service as an ordinary request, HTTP/2 above all.
func TestTunnelProtocols(t *testing.T) {
	leavesNoGoroutine(t)
	g := startLanes(t, `
_format_version: "3.0"
services:
- name: s
  url: http://s:80
  routes:
  - {name: all, paths: [/], strip_path: false}
  - {name: foo, paths: [/named], strip_path: false, headers: {upgrade: [foo, h2c, "h2", "HTTP/2.0", "TLS/1.0", "foo, websocket"]}}
`, upgrading(t), downstream.Timeouts{})
	tunnel := func(head string) {
		t.Helper()
		for _, secure := range []bool{false, true} {
			c := g.dial(secure)
			_, _ = io.WriteString(c, head+"\r\n\r\nbytes")
			br := bufio.NewReader(c)
			resp, err := http.ReadResponse(br, nil)
			if err != nil || resp.StatusCode != 101 {
				t.Errorf("%q: %v %v", head, resp, err)
				continue
			}
			if got, err := br.Peek(5); string(got) != "bytes" {
				t.Errorf("%q: %q %v", head, got, err)
			}
			_ = c.Close()
		}
	}
	plain := func(head, body string) {
		t.Helper()
		for _, secure := range []bool{false, true} {
			c := g.dial(secure)
			_, _ = io.WriteString(c, head+"\r\n\r\n"+body)
			resp, got := readResponse(t, bufio.NewReader(c), false)
			if resp.StatusCode != 200 || !strings.HasSuffix(got, `Connection=["keep-alive"] HTTP2-Settings=[]`) || resp.Header.Get("Upgrade") != "" {
				t.Errorf("%q: %d %v %q", head, resp.StatusCode, resp.Header, got)
			}
			_ = c.Close()
		}
	}
	const get, named = "GET / HTTP/1.1\r\nHost: a\r\n", "GET /named HTTP/1.1\r\nHost: a\r\n"
	tunnel(get + "Connection: Upgrade\r\nUpgrade: websocket")
	tunnel(get + "connection: keep-alive , UPGRADE\r\nupgrade: WebSocket")
	tunnel(get + "Connection: keep-alive\r\nConnection: Upgrade\r\nUpgrade: websocket")
	tunnel(get + "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0")
	tunnel(named + "Connection: Upgrade\r\nUpgrade: foo")
	tunnel(named + "Connection: Upgrade\r\nUpgrade: FOO")
	tunnel("POST /named HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: foo")

	plain(get+"Connection: Upgrade\r\nUpgrade: foo", "")
	plain(get+"Upgrade: websocket", "") // not said to be for this hop
	plain(get+"Connection: close\r\nUpgrade: websocket", "")
	plain("POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket", "")
	for _, path := range []string{get, named} {
		for _, p := range []string{"h2c", "H2C", "h2", "HTTP/2.0", "TLS/1.0", "foo, websocket", "websocket, foo", "websocket, h2c", "h2c, websocket", "websocket/13"} {
			plain(path+"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: "+p+"\r\nHTTP2-Settings: AAMAAABkAAQAAP__", "")
		}
		for _, p := range []string{"websocket\r\nUpgrade: foo", "foo\r\nUpgrade: websocket", "websocket\r\nUpgrade: websocket", "foo\r\nUpgrade: h2c", "h2c\r\nUpgrade: foo"} {
			plain(path+"Connection: Upgrade\r\nUpgrade: "+p, "")
		}
		plain(path+"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3", "abc")
		plain(path+"Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n")
		plain(strings.Replace(path, "1.1", "1.0", 1)+"Connection: Upgrade\r\nUpgrade: websocket", "")
	}
	plain(named+"Connection: Upgrade\r\nUpgrade: foo\r\nContent-Length: 3", "abc")
	plain(strings.Replace(named, "1.1", "1.0", 1)+"Connection: Upgrade\r\nUpgrade: foo", "")
}

// A service that changes the protocol unasked, or to another one, is not believed.
func TestTunnelUnasked(t *testing.T) {
	leavesNoGoroutine(t)
	o := rawOrigin(t, func(c net.Conn, _ int) {
		br := bufio.NewReader(c)
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\n%sConnection: Upgrade\r\nX-Own: 1\r\n\r\nGET /inside HTTP/1.1\r\n\r\n", r.Header.Get("X-Say"))
		_, _ = io.Copy(io.Discard, br)
	})
	g := startLanes(t, service("http://s:80", ""), o, downstream.Timeouts{})
	f := func(head string) {
		t.Helper()
		for _, secure := range []bool{false, true} {
			c := g.dial(secure)
			_, _ = io.WriteString(c, head+"\r\n\r\n")
			resp, body := readResponse(t, bufio.NewReader(c), false)
			if resp.StatusCode != 502 || resp.Header.Get("X-Own") != "" || !strings.Contains(body, "An invalid response was received") {
				t.Errorf("%q: %d %q", head, resp.StatusCode, body)
			}
			_ = c.Close()
		}
	}
	const get = "GET / HTTP/1.1\r\nHost: a\r\n"
	const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
	f(get + "X-Say: ")
	f("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0")
	f(get + upgrade + "X-Say: ")
	if n := g.metric("sluice_tunnels_opened_total"); n != "0" {
		t.Errorf("%s tunnels were opened", n)
	}
	if n := g.metric(`sluice_upstream_faults_total{kind="upgrade"}`); n != "6" {
		t.Errorf("%s faults, want 6", n)
	}
}
