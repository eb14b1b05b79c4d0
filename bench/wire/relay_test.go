package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// isReset reports whether the peer cut the connection.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// testLimit bounds every wait of these tests.
const testLimit = 20 * time.Second

// startRelay starts the relay in front of a loopback port and returns its address.
func startRelay(t *testing.T, servicePort int) string {
	t.Helper()
	return startC(t, "relay", relaySource, strconv.Itoa(servicePort))
}

// startC compiles a C program and starts it with a port to listen on and one more
// argument. It returns its address; when the test ends it must still be there.
func startC(t *testing.T, name string, source []byte, arg string) string {
	t.Helper()
	cc, err := findTool(ccTool)
	if err != nil {
		t.Fatal(err) // names the package
	}
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), buildLimit)
	defer cancel()
	path, err := buildC(ctx, cc, dir, name, source)
	if err != nil {
		t.Fatal(err)
	}
	ports, err := freePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	p, err := start(dir, &program{name: name, args: []string{path, strconv.Itoa(ports[0]), arg}, cpus: allowedCPUs(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(p.alive(), p.stop()); err != nil {
			t.Error(err)
		}
	})
	return "127.0.0.1:" + strconv.Itoa(ports[0])
}

// listenAndHandle serves every connection with handle until the test ends and returns the port.
func listenAndHandle(t *testing.T, handle func(*net.TCPConn) error) int {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			c, err := ln.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			open.Go(func() {
				if err := errors.Join(c.SetDeadline(time.Now().Add(testLimit)), handle(c.(*net.TCPConn)), c.Close()); err != nil {
					t.Errorf("service: %v", err)
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		open.Wait()
	})
	return ln.Addr().(*net.TCPAddr).Port
}

func allowedCPUs(t *testing.T) []int {
	t.Helper()
	o, err := parseOptions(nil, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	return append(o.loadCPUs, o.subjectCPU)
}

// dial connects, waiting for the program to listen.
func dial(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	for deadline := time.Now().Add(testLimit); ; {
		c, err := net.Dial("tcp4", address)
		if err == nil {
			t.Cleanup(func() { _ = c.Close() })
			if err := c.SetDeadline(time.Now().Add(testLimit)); err != nil {
				t.Fatal(err)
			}
			return c.(*net.TCPConn)
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// echo returns what it gets until the end of input, then ends its own side.
func echo(c *net.TCPConn) error {
	if _, err := io.Copy(c, c); err != nil {
		return err
	}
	return c.CloseWrite()
}

func randomBytes(seed uint64, n int) []byte {
	var key [32]byte
	key[0] = byte(seed)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b) // documented never to fail
	return b
}

// exchange sends sent, ends its side, and checks that exactly the same comes back.
func exchange(c *net.TCPConn, sent []byte) error {
	failed := make(chan error, 1)
	go func() {
		_, err := c.Write(sent)
		failed <- errors.Join(err, c.CloseWrite())
	}()
	got, err := io.ReadAll(c)
	if err := errors.Join(err, <-failed); err != nil {
		return err
	}
	if !bytes.Equal(got, sent) {
		return errors.New("got other bytes than were sent: " + strconv.Itoa(len(got)) + " of " + strconv.Itoa(len(sent)))
	}
	return nil
}

// Far more than all socket buffers together, both ways at once and on many
// connections: short writes, full buffers, half-closed sockets.
func TestRelayPassesBytes(t *testing.T) {
	address := startRelay(t, listenAndHandle(t, echo))
	for _, size := range []int{0, 1, 16384, 16385, 4 << 20} {
		if err := exchange(dial(t, address), randomBytes(1, size)); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	var all sync.WaitGroup
	for i := range 50 {
		c := dial(t, address)
		all.Go(func() {
			if err := exchange(c, randomBytes(uint64(i), 300_000+i)); err != nil {
				t.Errorf("connection %d: %v", i, err)
			}
		})
	}
	all.Wait()
}

// One connection, a question at a time, as a keep-alive client does.
func TestRelayKeepsConnection(t *testing.T) {
	c := dial(t, startRelay(t, listenAndHandle(t, echo)))
	for i := range 1000 {
		sent := randomBytes(uint64(i), 1+i)
		got := make([]byte, len(sent))
		if _, err := c.Write(sent); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, sent) {
			t.Fatalf("exchange %d: other bytes", i)
		}
	}
}

// A reader that starts late finds everything the service had sent before it closed.
func TestRelayFlushesAfterServiceClosed(t *testing.T) {
	sent := randomBytes(7, 8<<20)
	address := startRelay(t, listenAndHandle(t, func(c *net.TCPConn) error {
		_, err := c.Write(sent)
		return err
	}))
	c := dial(t, address)
	var first [1]byte
	if _, err := io.ReadFull(c, first[:]); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	if first[0] != sent[0] || !bytes.Equal(rest, sent[1:]) {
		t.Errorf("got %d bytes of %d, or others", 1+len(rest), len(sent))
	}
}

// A client that vanishes costs its own connection only.
func TestRelaySurvivesFaults(t *testing.T) {
	address := startRelay(t, listenAndHandle(t, func(c *net.TCPConn) error {
		if _, err := io.Copy(c, c); err != nil && !isReset(err) {
			return err
		}
		return nil
	}))
	for range 20 {
		c := dial(t, address)
		if _, err := c.Write(randomBytes(1, 100_000)); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(c.SetLinger(0), c.Close()); err != nil { // a reset, not an end
			t.Fatal(err)
		}
	}
	if err := exchange(dial(t, address), randomBytes(2, 100_000)); err != nil {
		t.Error(err)
	}
}

// So does a service that refuses.
func TestRelayServiceRefuses(t *testing.T) {
	ports, err := freePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	address := startRelay(t, ports[0])
	for range 3 {
		n, err := dial(t, address).Read(make([]byte, 1))
		if n != 0 || (!errors.Is(err, io.EOF) && !isReset(err)) {
			t.Errorf("want the connection closed, got %d bytes, error %v", n, err)
		}
	}
}
