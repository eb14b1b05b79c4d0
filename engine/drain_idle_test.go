package engine_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"testing"
	"time"
)

// An idle kept connection of the fast lane does not hold a shutdown up.
func TestDrainClosesIdle(t *testing.T) {
	g := start(t, service("http://s:80", ""), echoes(t))
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	br := bufio.NewReader(c)
	for range 3 { // from the second on the lane waits without looking again
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if resp, _ := readResponse(t, br, false); resp.StatusCode != 200 {
			t.Fatalf("status %d", resp.StatusCode)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	began := time.Now()
	if err := g.Shutdown(ctx); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("shutdown took %v", took)
	}
	if _, err := br.ReadByte(); err != io.EOF {
		t.Errorf("the idle connection: %v, want its end", err)
	}
}
