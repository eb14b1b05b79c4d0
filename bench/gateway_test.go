package bench

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine"
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/plugin"
)

// wire is one client connection to a whole gateway over loopback, with a
// service that answers 1 KiB. Client and service allocate nothing.
type wire struct {
	client   net.Conn
	request  []byte
	response []byte
}

var answer = append([]byte("HTTP/1.1 200 OK\r\nServer: service\r\nDate: Mon, 23 Nov 2026 05:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n"),
	bytes.Repeat([]byte("x"), 1024)...)

func newWire(tb testing.TB, document string) *wire {
	tb.Helper()
	service, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = service.Close() })
	go serveAnswers(service)
	d, err := config.Read([]config.Source{{Name: "bench.yaml", Data: []byte(document)}}, config.Options{Catalog: plugin.All})
	if err != nil {
		tb.Fatal(err)
	}
	d.Gateway.ProxyListen = config.Listeners{{Host: "127.0.0.1"}}
	e, err := engine.Open(d, engine.Options{
		Plugins: plugin.All, Version: "bench", Log: slog.New(slog.DiscardHandler),
		Dial: func(ctx context.Context, _ string) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "tcp", service.Addr().String())
		},
	})
	if err != nil {
		tb.Fatal(err)
	}
	addrs, err := e.Listen()
	if err != nil {
		tb.Fatal(err)
	}
	w := &wire{response: make([]byte, 8<<10), request: []byte("GET /r/7/items?page=2 HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: bench\r\nAccept: */*\r\napikey: key-3\r\n\r\n")}
	if w.client, err = net.Dial("tcp", addrs[0].String()); err != nil {
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

func serveAnswers(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			buf := make([]byte, 8<<10)
			for {
				n, err := c.Read(buf)
				if err != nil {
					_ = c.Close()
					return
				}
				if bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			}
		}()
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

// BenchmarkGateway is a request through everything, on loopback: system calls
// and wake-ups of client and service included. Compare within one run only.
func BenchmarkGateway(b *testing.B) {
	for _, c := range []struct{ name, document string }{{"plain", plainDocument}, {"full", fullDocument(10000, 1000)}, {"cached", cachedDocument}} {
		b.Run(c.name, func(b *testing.B) {
			w := newWire(b, c.document)
			for range 100 {
				w.roundTrip(b)
			}
			b.ReportAllocs()
			for b.Loop() {
				w.roundTrip(b)
			}
		})
	}
}
