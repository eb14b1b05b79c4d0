package bench

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluice-gateway/sluice/bench/workload"
	"github.com/sluice-gateway/sluice/engine"
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/plugin"
)

// wire is one client connection to a whole gateway, with a service that answers
// 1 KiB. Client and service allocate nothing.
type wire struct {
	client   net.Conn
	request  []byte
	response []byte
}

// transport is what carries the bytes between client, gateway and service.
type transport struct {
	name   string
	listen func(tb testing.TB) config.Listener
	// serve starts the service and returns how to reach it.
	serve func(tb testing.TB) (dial func(context.Context, string) (net.Conn, error))
}

// loopback is TCP on both sides, as in production: the gateway's fast lane, which waits
// before it reads and sends a request in one call.
var loopback = transport{"loopback-fast-lane", func(testing.TB) config.Listener { return config.Listener{Host: "127.0.0.1"} }, serveTCP}

// memory never leaves the kernel's memory: a Unix socket to the client, socket pairs to the
// service. Those are not TCP, so the gateway serves them in its general lane, which is
// fasthttp's server: the rows say what that lane costs too, and are no faster lane's floor.
var memory = transport{"memory-general-lane", func(tb testing.TB) config.Listener {
	// TempDir's path may be too long for a socket's.
	folder, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(folder) })
	return config.Listener{Unix: filepath.Join(folder, "s")}
}, servePairs}

var answer = append([]byte("HTTP/1.1 200 OK\r\nServer: service\r\nDate: Mon, 23 Nov 2026 05:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n"),
	bytes.Repeat([]byte("x"), 1024)...)

func newWire(tb testing.TB, over transport, document string) *wire {
	tb.Helper()
	d, err := config.Read([]config.Source{{Name: "bench.yaml", Data: []byte(document)}}, config.Options{Catalog: plugin.All})
	if err != nil {
		tb.Fatal(err)
	}
	d.Gateway.ProxyListen = config.Listeners{over.listen(tb)}
	e, err := engine.Open(d, engine.Options{
		Plugins: plugin.All, Version: "bench", Log: slog.New(slog.DiscardHandler), Dial: over.serve(tb),
	})
	if err != nil {
		tb.Fatal(err)
	}
	addrs, err := e.Listen()
	if err != nil {
		tb.Fatal(err)
	}
	w := &wire{response: make([]byte, 8<<10), request: []byte("GET /r/7/items?page=2 HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: bench\r\nAccept: */*\r\napikey: key-3\r\n\r\n")}
	if w.client, err = net.Dial(addrs[0].Network(), addrs[0].String()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = w.client.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := e.Shutdown(ctx); err != nil {
			tb.Error(err)
		}
	})
	return w
}

// serveTCP serves on loopback until the test ends.
func serveTCP(tb testing.TB) func(context.Context, string) (net.Conn, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serveAnswers(c)
		}
	}()
	return func(ctx context.Context, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "tcp", l.Addr().String())
	}
}

// servePairs serves each connection over a socket pair of its own; it ends with the
// gateway's side.
func servePairs(testing.TB) func(context.Context, string) (net.Conn, error) {
	return func(context.Context, string) (net.Conn, error) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		var ends [2]net.Conn
		for i, fd := range fds {
			f := os.NewFile(uintptr(fd), "pair")
			c, cerr := net.FileConn(f)
			ends[i], err = c, errors.Join(err, cerr, f.Close())
		}
		if err != nil {
			return nil, err
		}
		go serveAnswers(ends[1])
		return ends[0], nil
	}
}

// serveAnswers answers each request of a connection until it ends.
func serveAnswers(c net.Conn) {
	defer c.Close()
	buf := make([]byte, 8<<10)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		if bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	}
}

// roundTrip sends the request and reads its whole response.
func (w *wire) roundTrip(tb testing.TB) {
	if _, err := w.client.Write(w.request); err != nil {
		tb.Fatal(err)
	}
	n := 0
	for {
		m, err := w.client.Read(w.response[n:])
		if err != nil {
			tb.Fatal(err)
		}
		n += m
		end := bytes.Index(w.response[:n], []byte("\r\n\r\n"))
		if end < 0 {
			continue
		}
		if !bytes.HasPrefix(w.response[:n], []byte("HTTP/1.1 200 ")) {
			tb.Fatalf("%s", w.response[:n])
		}
		if n >= end+4+1024 {
			return
		}
	}
}

// BenchmarkGateway is a request through everything, over TCP and in memory: system calls
// and wake-ups of client and service included. Compare within one run only.
func BenchmarkGateway(b *testing.B) {
	documents := []struct{ name, document string }{{"plain", plainDocument}, {"full", fullDocument(10000, 1000)}, {"cached", cachedDocument}}
	for _, over := range []transport{loopback, memory} {
		for _, d := range documents {
			b.Run(over.name+"/"+d.name, func(b *testing.B) {
				w := newWire(b, over, d.document)
				for range 100 {
					w.roundTrip(b)
				}
				b.ReportAllocs()
				defer workload.ReportCPU(b)()
				for b.Loop() {
					w.roundTrip(b)
				}
			})
		}
	}
}

// TestGatewayTransports makes sure that each transport carries requests, and over what.
func TestGatewayTransports(t *testing.T) {
	for over, network := range map[*transport]string{&loopback: "tcp", &memory: "unix"} {
		t.Run(over.name, func(t *testing.T) {
			w := newWire(t, *over, plainDocument)
			for range 3 { // kept alive
				w.roundTrip(t)
			}
			if got := w.client.RemoteAddr().Network(); got != network {
				t.Errorf("the client is connected by %s, want %s", got, network)
			}
		})
	}
}
