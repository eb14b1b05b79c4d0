package engine_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/sluice-gateway/sluice/engine"
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/downstream"
	"github.com/sluice-gateway/sluice/engine/plugin"
)

// lanes is a gateway with a plain listener, whose requests take the fast lane where
// they can, and one with TLS.
type lanes struct {
	*gateway
	tls string // address of the TLS listener
}

// startLanes opens a gateway over both listeners. Without origins it dials the
// addresses that the document has.
func startLanes(t testing.TB, text string, o *origins, timeouts downstream.Timeouts) *lanes {
	t.Helper()
	d := lanesDocument(t, text)
	options := engine.Options{Plugins: plugin.All, Version: "test", Log: discardLog, Timeouts: timeouts}
	if o != nil {
		options.Dial = o.dial
	}
	e, err := engine.Open(d, options)
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := e.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := e.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	return &lanes{gateway: &gateway{Engine: e, addr: addrs[0].String(), t: t}, tls: addrs[1].String()}
}

// testCertificate is for api.example.com, as in the documents of lanesDocument.
var testCertificate = sync.OnceValue(func() tls.Certificate {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	return s.TLS.Certificates[0]
})

// lanesDocument is text with both listeners and a certificate.
func lanesDocument(t testing.TB, text string) *config.Document {
	t.Helper()
	cert, key := pemOf(t, testCertificate())
	d := document(t, text+"certificates:\n- cert: "+cert+"\n  key: "+key+"\n  snis: [{name: api.example.com}]\n")
	d.Gateway.ProxyListen = config.Listeners{{Host: "127.0.0.1"}, {Host: "127.0.0.1", SSL: true}}
	return d
}

var trusting = &tls.Config{ServerName: "api.example.com", InsecureSkipVerify: true}

// dial returns a connection to one of the listeners that is closed with the test.
func (l *lanes) dial(secure bool) net.Conn {
	l.t.Helper()
	var c net.Conn
	var err error
	if secure {
		c, err = tls.Dial("tcp", l.tls, trusting)
	} else {
		c, err = net.Dial("tcp", l.addr)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// client returns a client of one of the listeners, and what its addresses begin with.
func (l *lanes) client(secure bool) (*http.Client, string) {
	tr := &http.Transport{TLSClientConfig: trusting, DisableCompression: true}
	l.t.Cleanup(tr.CloseIdleConnections)
	if secure {
		return &http.Client{Transport: tr, Timeout: 30 * time.Second}, "https://" + l.tls
	}
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}, "http://" + l.addr
}

// metric returns the value of a metric as it is exposed, "" where it is not.
func (l *lanes) metric(name string) string {
	var b bytes.Buffer
	l.WriteMetrics(&b)
	for line := range strings.Lines(b.String()) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// served returns origins that are all one HTTP server.
func served(t testing.TB, secure bool, h http.HandlerFunc) *origins {
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return dialing(t, func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", s.Listener.Addr().String())
	})
}

// holds waits until condition holds.
func holds(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline, tick := time.After(15*time.Second), time.NewTicker(2*time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("it never came to this: %s", what)
		case <-tick.C:
		}
	}
}

// warm starts what the process keeps once it has served.
var warm = sync.OnceFunc(func() {
	t := &testing.T{}
	g := startLanes(t, everything, echoes(t), downstream.Timeouts{})
	c, err := tls.Dial("tcp", g.tls, trusting)
	if err == nil {
		_ = c.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = g.Shutdown(ctx)
})

// leavesNoGoroutine makes a test fail that has left goroutines when all it started is
// closed. To be called first.
func leavesNoGoroutine(t *testing.T) {
	warm()
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		deadline, tick := time.After(10*time.Second), time.NewTicker(5*time.Millisecond)
		defer tick.Stop()
		for runtime.NumGoroutine() > before {
			select {
			case <-deadline:
				stacks := make([]byte, 1<<20)
				t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
				return
			case <-tick.C:
			}
		}
	})
}

// chat is a WebSocket service that echoes. Some messages make it do other things; how
// each connection ended goes to ended.
func chat(ended chan<- error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{
			Subprotocols: []string{"chat.v2"}, CompressionMode: websocket.CompressionContextTakeover,
		})
		if err != nil {
			return // it has been answered
		}
		defer c.CloseNow()
		c.SetReadLimit(-1)
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		defer cancel()
		for {
			kind, message, err := c.Read(ctx)
			if err != nil {
				ended <- err
				return
			}
			switch string(message) {
			case "ping me":
				go func() { _ = c.Write(ctx, kind, fmt.Append(nil, "ponged: ", c.Ping(ctx))) }()
			case "close me":
				ended <- c.Close(4001, "as you wish")
				return
			case "leave me":
				ended <- c.CloseNow()
				return
			default:
				if err := c.Write(ctx, kind, message); err != nil {
					ended <- err
					return
				}
			}
		}
	}
}

// openChat opens a WebSocket through the gateway.
func (l *lanes) openChat(secure bool, o *websocket.DialOptions) *websocket.Conn {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	client, base := l.client(secure)
	client.Timeout = 0 // it would end the tunnel
	o.HTTPClient = client
	c, _, err := websocket.Dial(ctx, base+"/chat", o)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = c.CloseNow() })
	c.SetReadLimit(-1)
	return c
}

// Messages of all kinds and sizes, pings and the close handshake go through, over every
// pair of a listener and a service.
func TestTunnelWebSocket(t *testing.T) {
	leavesNoGoroutine(t)
	for _, url := range []string{"http://s:80", "https://s:443", "ws://s:80", "wss://s:443"} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, TLS listener %t", url, secure), func(t *testing.T) {
				ended := make(chan error, 4)
				o := served(t, strings.HasPrefix(url, "https") || strings.HasPrefix(url, "wss"), chat(ended))
				g := startLanes(t, service(url, ""), o, downstream.Timeouts{})
				talk(t, g.openChat(secure, &websocket.DialOptions{Subprotocols: []string{"chat.v1", "chat.v2"}}))

				c := g.openChat(secure, &websocket.DialOptions{CompressionMode: websocket.CompressionContextTakeover})
				talk(t, c)
				if err := c.Close(websocket.StatusNormalClosure, "bye"); err != nil {
					t.Errorf("closing: %v", err)
				}
				if err := <-ended; websocket.CloseStatus(err) != websocket.StatusNormalClosure || !strings.Contains(err.Error(), "bye") {
					t.Errorf("the service saw %v", err)
				}
				c = g.openChat(secure, &websocket.DialOptions{})
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				defer cancel()
				_ = c.Write(ctx, websocket.MessageText, []byte("close me"))
				if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != 4001 || !strings.Contains(err.Error(), "as you wish") {
					t.Errorf("the client saw %v", err)
				}
				if err := <-ended; err != nil {
					t.Errorf("closing by the service: %v", err)
				}
			})
		}
	}
}

// talk exchanges messages with chat.
func talk(t *testing.T, c *websocket.Conn) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	big := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // 1 MiB
	big[len(big)-1] = '!'
	for _, m := range []struct {
		kind websocket.MessageType
		body []byte
	}{
		{websocket.MessageText, []byte("hello")}, {websocket.MessageBinary, []byte{0, 255, 13, 10}}, {websocket.MessageText, nil},
		{websocket.MessageBinary, big}, {websocket.MessageText, []byte("after it")},
	} {
		go func() { _ = c.Write(ctx, m.kind, m.body) }() // what is missing is noticed below
		kind, body, err := c.Read(ctx)
		if err != nil || kind != m.kind || !bytes.Equal(body, m.body) {
			t.Fatalf("of a message of %d bytes came back %d: %v", len(m.body), len(body), err)
		}
	}
	pinged := make(chan error, 1)
	go func() {
		pinged <- c.Ping(ctx) // reads the pong
		_ = c.Write(ctx, websocket.MessageText, []byte("ping me"))
	}()
	_, body, err := c.Read(ctx)
	if string(body) != "ponged: <nil>" {
		t.Errorf("%q, %v", body, err)
	}
	if err := <-pinged; err != nil {
		t.Errorf("ping: %v", err)
	}
}

// The subprotocol is agreed on end to end, and no Sec-WebSocket field is changed.
func TestTunnelHandshakeFields(t *testing.T) {
	leavesNoGoroutine(t)
	got := make(chan http.Header, 1)
	o := rawOrigin(t, func(c net.Conn, _ int) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		got <- r.Header
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\n"+
			"Sec-WebSocket-Accept: abc=\r\nSec-WebSocket-Protocol: b, c\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=15\r\nX-Own: 1\r\nKeep-Alive: timeout=5\r\n\r\n")
	})
	g := startLanes(t, service("http://s:80", ""), o, downstream.Timeouts{})
	for _, secure := range []bool{false, true} {
		c := g.dial(secure)
		_, _ = io.WriteString(c, "GET /a/b?c=d HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nOrigin: http://a\r\n"+
			"Sec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: b, c\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x\r\n\r\n")
		up := <-got
		want := map[string]string{
			"Connection": "keep-alive, Upgrade", "Upgrade": "WebSocket", "Origin": "http://a", "Sec-Websocket-Key": "dGhlIHNhbXBsZQ==", "Sec-Websocket-Version": "13",
			"Sec-Websocket-Protocol": "b, c", "Sec-Websocket-Extensions": "permessage-deflate; client_max_window_bits, x", "X-Forwarded-Path": "/a/b",
		}
		for name, value := range want {
			if v := strings.Join(up[name], "|"); v != value {
				t.Errorf("the service got %s: %q, want %q", name, v, value)
			}
		}
		br := bufio.NewReader(c)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		want = map[string]string{
			"Connection": "Upgrade", "Sec-Websocket-Accept": "abc=", "Sec-Websocket-Protocol": "b, c",
			"Sec-Websocket-Extensions": "permessage-deflate; client_max_window_bits=15", "X-Own": "1", "Keep-Alive": "", "Content-Length": "", "Content-Type": "", "Transfer-Encoding": "",
		}
		for name, value := range want {
			if v := strings.Join(resp.Header[name], "|"); v != value {
				t.Errorf("the client got %s: %q, want %q", name, v, value)
			}
		}
		if resp.StatusCode != 101 || !strings.EqualFold(resp.Header.Get("Upgrade"), "websocket") {
			t.Errorf("%d %v", resp.StatusCode, resp.Header)
		}
		if rest, err := io.ReadAll(br); len(rest) > 0 || err != nil { // the service has closed
			t.Errorf("after the handshake: %q %v", rest, err)
		}
	}
}
