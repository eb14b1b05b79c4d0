package downstream

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// lateListener hands out its only connection after it has been closed: the one that the
// kernel had accepted in that very moment.
type lateListener struct {
	conn   net.Conn
	closed chan struct{}
	close  func()
	let    chan struct{} // Accept returns when it may
}

func (l *lateListener) Accept() (net.Conn, error) {
	<-l.closed
	<-l.let
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	return nil, net.ErrClosed
}
func (l *lateListener) Close() error   { l.close(); return nil }
func (l *lateListener) Addr() net.Addr { return &net.TCPAddr{} }

// A connection that is accepted as draining begins is served before Drain returns.
func TestDrainWaitsForWhatIsBeingAccepted(t *testing.T) {
	s := &Server{
		General: &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) { ctx.SetBodyString("served") }},
		Node:    &pipeline.Node{}, Log: slog.New(slog.DiscardHandler), ConnectionsMax: 10, Timeouts: Timeouts{}.Defaults(),
	}
	client, server := net.Pipe()
	l := &lateListener{conn: server, closed: make(chan struct{}), let: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.closed) })
	served := make(chan error, 1)
	go func() { served <- s.Serve(l, nil) }()
	for { // until it is one of the server's listeners
		s.mu.Lock()
		n := len(s.listeners)
		s.mu.Unlock()
		if n == 1 {
			break
		}
		runtime.Gosched()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- s.Drain(ctx) }()
	<-l.closed
	select {
	case err := <-drained:
		t.Fatalf("drained while a connection was being accepted: %v", err)
	case <-time.After(3 * drainTick):
	}
	close(l.let)
	_, _ = io.WriteString(client, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(client), nil)
	if err != nil {
		t.Fatalf("the connection was lost: %v", err)
	}
	if body, _ := io.ReadAll(resp.Body); string(body) != "served" {
		t.Errorf("%q", body)
	}
	_ = resp.Body.Close()
	_ = client.Close()
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	late := &lateListener{closed: make(chan struct{})}
	late.close = sync.OnceFunc(func() { close(late.closed) })
	if err := s.Serve(late, nil); err != nil {
		t.Error(err)
	}
	select {
	case <-late.closed:
	default:
		t.Error("a drained server leaves a listener open")
	}
}
