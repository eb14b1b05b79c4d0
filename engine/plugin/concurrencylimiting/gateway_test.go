//go:build unix

package concurrencylimiting_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine"
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/plugin/concurrencylimiting"
	"github.com/sluice-gateway/sluice/engine/redis/redistest"
)

// gateway is a running engine that lets one request of a caller be in flight.
type gateway struct {
	t    *testing.T
	e    *engine.Engine
	addr string
}

func serve(t *testing.T, service http.HandlerFunc) *gateway {
	t.Helper()
	s := httptest.NewServer(service)
	t.Cleanup(s.Close)
	specs := &pipeline.Specs{All: []pipeline.Spec{concurrencylimiting.Spec}}
	d, err := config.Read([]config.Source{{Name: "test.yaml", Data: fmt.Appendf(nil, `
_format_version: "3.0"
services:
- {name: a, url: %q, routes: [{name: r, paths: [/]}]}
plugins:
- {name: concurrency-limiting, config: {max: 1, adaptive: {}}}
`, s.URL)}}, config.Options{Catalog: specs})
	if err != nil {
		t.Fatal(err)
	}
	d.Gateway.ProxyListen = config.Listeners{{Host: "127.0.0.1", Port: 0}}
	e, err := engine.Open(d, engine.Options{Plugins: specs, Version: "test", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := e.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	addrs, err := e.Listen()
	if err != nil {
		t.Fatal(err)
	}
	return &gateway{t, e, addrs[0].String()}
}

// send opens a connection and writes a request to it.
func (g *gateway) send(request string) (net.Conn, *bufio.Reader) {
	g.t.Helper()
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(c, request); err != nil {
		g.t.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

// status sends a request on a connection of its own and returns the status.
func (g *gateway) status() int {
	g.t.Helper()
	_, r := g.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// idle waits until nothing is in flight, and checks that by a request.
func (g *gateway) idle() {
	g.t.Helper()
	redistest.Eventually(g.t, "nothing is in flight", func() bool {
		var b bytes.Buffer
		g.e.WriteMetrics(&b)
		return strings.Contains(b.String(), "sluice_concurrency_callers{") && metric(b.String(), "sluice_concurrency_callers{") == "0" &&
			metric(b.String(), "sluice_adaptive_requests{") == "0"
	})
	if got := g.status(); got != 200 {
		g.t.Errorf("status %d with nothing in flight", got)
	}
}

func metric(text, name string) string {
	_, after, _ := strings.Cut(text, name)
	line, _, _ := strings.Cut(after, "\n")
	return line[strings.LastIndexByte(line, ' ')+1:]
}

func TestStreamIsInFlightToItsEnd(t *testing.T) {
	release := make(chan struct{})
	g := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/stream" {
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: 1\n\n")
		w.(http.Flusher).Flush()
		<-release
	})
	_, r := g.send("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v %v", resp, err)
	}
	if got := g.status(); got != 429 {
		t.Errorf("status %d beside a stream, want 429", got)
	}
	close(release)
	_, _ = io.Copy(io.Discard, resp.Body)
	g.idle()
}

func TestTunnelIsInFlightToItsEnd(t *testing.T) {
	g := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			return
		}
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_ = rw.Flush()
		_, _ = io.Copy(c, rw)
	})
	c, r := g.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatalf("%v %v", resp, err)
	}
	if got := g.status(); got != 429 {
		t.Errorf("status %d beside a tunnel, want 429", got)
	}
	_ = c.Close()
	g.idle()
}

// TestClientThatGoesBeforeItsBody is a request that was let in and told to send its
// body, and whose Log hooks never run.
func TestClientThatGoesBeforeItsBody(t *testing.T) {
	g := serve(t, func(http.ResponseWriter, *http.Request) {})
	c, r := g.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\nExpect: 100-continue\r\n\r\n")
	line, err := r.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") {
		t.Fatalf("%q %v", line, err)
	}
	if got := g.status(); got != 429 {
		t.Errorf("status %d beside a request that is let in, want 429", got)
	}
	_ = c.Close()
	g.idle()
}
