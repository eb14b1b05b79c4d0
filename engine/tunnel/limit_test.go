package tunnel

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"
)

func TestHalfClosedIsLimited(t *testing.T) {
	each(t, func(t *testing.T, clientTLS, serviceTLS bool) {
		x := open(t, clientTLS, serviceTLS, Settings{Idle: time.Hour, HalfClosed: 100 * time.Millisecond})
		x.client.(interface{ CloseWrite() error }).CloseWrite()
		expectEnd(t, x.service)
		began := time.Now()
		expectEnd(t, x.client)
		x.over(t, ClientClosed)
		if d := time.Since(began); d > 5*time.Second {
			t.Errorf("took %v", d)
		}
	})
}

func TestIdle(t *testing.T) {
	each(t, func(t *testing.T, clientTLS, serviceTLS bool) {
		const idle = 200 * time.Millisecond
		x := open(t, clientTLS, serviceTLS, Settings{Idle: idle})
		send(t, x.client, "hello")
		expect(t, x.service, "hello")
		began := time.Now()
		expectEnd(t, x.client)
		expectEnd(t, x.service)
		x.over(t, Idle)
		if d := time.Since(began); d < idle-idle/8 || d > idle+time.Second {
			t.Errorf("ended after %v, want %v", d, idle)
		}
	})
}

// TestOneWayKeepsAlive sends one way only for several idle periods.
func TestOneWayKeepsAlive(t *testing.T) {
	each(t, func(t *testing.T, clientTLS, serviceTLS bool) {
		const idle = 200 * time.Millisecond
		x := open(t, clientTLS, serviceTLS, Settings{Idle: idle})
		tick := time.NewTicker(idle / 8)
		defer tick.Stop()
		for range 30 {
			<-tick.C
			send(t, x.service, "tick")
			expect(t, x.client, "tick")
		}
		x.over(t, Idle)
	})
}

func TestMaxDuration(t *testing.T) {
	leaks(t)
	x := open(t, false, false, Settings{Idle: time.Minute, MaxDuration: 100 * time.Millisecond})
	expectEnd(t, x.client)
	x.over(t, Expired)
}

// TestTakesNothing fills a side that does not read, while the other direction is
// lively.
func TestTakesNothing(t *testing.T) {
	each(t, func(t *testing.T, clientTLS, serviceTLS bool) {
		x := open(t, clientTLS, serviceTLS, Settings{Idle: 300 * time.Millisecond})
		go func() {
			b := make([]byte, 64<<10)
			for {
				if _, err := x.client.Write(b); err != nil {
					return
				}
			}
		}()
		failed := make(chan error)
		go func() {
			for {
				if _, err := x.service.Write([]byte("lively")); err != nil {
					failed <- err
					return
				}
			}
		}()
		go io.Copy(io.Discard, x.client)
		r := x.over(t, Idle)
		if r.Up == 0 {
			t.Error("nothing arrived")
		}
		// A connection tells of its reset only once.
		if err := <-failed; !errors.Is(err, syscall.ECONNRESET) {
			expectReset(t, x.service)
		}
	})
}

func TestClose(t *testing.T) {
	each(t, func(t *testing.T, clientTLS, serviceTLS bool) {
		// Silent.
		x := open(t, clientTLS, serviceTLS, Settings{})
		send(t, x.client, "hello")
		expect(t, x.service, "hello")
		x.t.Close()
		x.t.Close()
		expectEnd(t, x.client)
		expectEnd(t, x.service)
		x.over(t, Closed)
		x.t.Close()

		// Before Run.
		client, nearClient := link(t, clientTLS)
		_, nearService := link(t, serviceTLS)
		deadline(client)
		x = &sides{t: New(End{nearClient, []byte("pending")}, End{Conn: nearService}, Settings{})}
		x.t.Close()
		x.run()
		x.over(t, Closed)
		expectEnd(t, client)

		// Waiting for a side that takes nothing.
		x = open(t, clientTLS, serviceTLS, Settings{})
		x.stuff(t)
		x.t.Close()
		x.over(t, Closed)

		// While bytes move.
		for range 10 {
			x = open(t, clientTLS, serviceTLS, Settings{})
			go pour(x.client, 1, 1<<30)
			go pour(x.service, 2, 1<<30)
			go drain(x.client)
			if _, err := io.CopyN(io.Discard, x.service, 1<<20); err != nil {
				t.Fatal(err)
			}
			x.t.Close()
			x.over(t, Closed)
		}
	})
}

// TestDeadlineReplaced closes a tunnel over a connection that puts a write
// deadline of its own in place of the one that was to interrupt it.
func TestDeadlineReplaced(t *testing.T) {
	leaks(t)
	client, nearClient := link(t, false)
	_, nearService := link(t, false)
	deadline(client)
	s := &stubborn{Conn: nearService, full: make(chan struct{})}
	x := &sides{client: client, t: New(End{Conn: nearClient}, End{Conn: s}, Settings{})}
	s.t = x.t
	x.run()
	go pour(client, 1, 1<<30)
	<-s.full
	x.t.Close()
	x.over(t, Closed)
}

type stubborn struct {
	net.Conn
	t    *Tunnel
	full chan struct{}
}

func (s *stubborn) Write(b []byte) (int, error) {
	s.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	n, err := s.Conn.Write(b)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	close(s.full)
	for !s.t.over.Load() {
		runtime.Gosched()
	}
	s.t.mu.Lock() // Close has interrupted now
	s.SetWriteDeadline(time.Now().Add(time.Hour))
	s.t.mu.Unlock()
	m, err := s.Conn.Write(b[n:])
	return n + m, err
}
