package tunnel

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what has to happen.
const patience = 20 * time.Second

// kinds are what the two sides of a tunnel can be.
var kinds = []struct {
	name                  string
	clientTLS, serviceTLS bool
}{
	{name: "plain"},
	{name: "client tls", clientTLS: true},
	{name: "service tls", serviceTLS: true},
	{name: "both tls", clientTLS: true, serviceTLS: true},
}

// sides are a tunnel under test and the far ends of its connections.
type sides struct {
	client, service net.Conn
	t               *Tunnel
	result          chan Result
}

var certificate = sync.OnceValue(func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"test"}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
})

// link returns a connected pair over loopback, with TLS if asked to.
func link(tb testing.TB, secure bool) (far, near net.Conn) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	far, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	near, err = l.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { far.Close(); near.Close() })
	if !secure {
		return far, near
	}
	c := tls.Client(far, &tls.Config{InsecureSkipVerify: true})
	s := tls.Server(near, &tls.Config{Certificates: []tls.Certificate{certificate()}})
	done := make(chan error, 1)
	go func() { done <- s.Handshake() }()
	if err := errors.Join(c.Handshake(), <-done); err != nil {
		tb.Fatal(err)
	}
	return c, s
}

func deadline(cs ...net.Conn) {
	for _, c := range cs {
		c.SetDeadline(time.Now().Add(patience))
	}
}

// open runs a tunnel.
func open(tb testing.TB, clientTLS, serviceTLS bool, s Settings) *sides {
	tb.Helper()
	client, nearClient := link(tb, clientTLS)
	service, nearService := link(tb, serviceTLS)
	deadline(client, service)
	x := &sides{client: client, service: service, t: New(End{Conn: nearClient}, End{Conn: nearService}, s)}
	x.run()
	return x
}

func (x *sides) run() {
	x.result = make(chan Result, 1)
	go func() { x.result <- x.t.Run() }()
}

func (x *sides) over(tb testing.TB, want Cause) Result {
	tb.Helper()
	select {
	case r := <-x.result:
		if r.Cause != want {
			tb.Errorf("cause %v (%v), want %v", r.Cause, r.Err, want)
		}
		if (r.Err != nil) != (want == ClientError || want == ServiceError) {
			tb.Errorf("error %v with cause %v", r.Err, want)
		}
		return r
	case <-time.After(patience):
		buf := make([]byte, 1<<20)
		tb.Fatalf("the tunnel does not end\n%s", buf[:runtime.Stack(buf, true)])
	}
	panic("unreachable")
}

// leaks fails the test if it leaves goroutines of this package behind.
func leaks(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		buf := make([]byte, 1<<20)
		for end := time.Now().Add(patience); ; runtime.Gosched() {
			s := string(buf[:runtime.Stack(buf, true)])
			if !strings.Contains(s, "tunnel.(*Tunnel)") && !strings.Contains(s, "tunnel.(*direction)") {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("goroutines left:\n%s", s)
			}
		}
	})
}

func send(tb testing.TB, c net.Conn, s string) {
	tb.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		tb.Errorf("write: %v", err)
	}
}

func expect(tb testing.TB, c net.Conn, want string) {
	tb.Helper()
	b := make([]byte, len(want))
	if n, err := io.ReadFull(c, b); err != nil || string(b) != want {
		tb.Fatalf("read %q, %v, want %q", b[:n], err, want)
	}
}

func expectEnd(tb testing.TB, c net.Conn) {
	tb.Helper()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		tb.Errorf("read %d bytes, %v, want the end", n, err)
	}
}

func expectReset(tb testing.TB, c net.Conn) {
	tb.Helper()
	if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
		tb.Errorf("read: %v, want a reset", err)
	}
}

func each(t *testing.T, f func(t *testing.T, clientTLS, serviceTLS bool)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			leaks(t)
			f(t, k.clientTLS, k.serviceTLS)
		})
	}
}

func TestPendingGoesFirst(t *testing.T) {
	each(t, func(t *testing.T, clientTLS, serviceTLS bool) {
		client, nearClient := link(t, clientTLS)
		service, nearService := link(t, serviceTLS)
		deadline(client, service)
		send(t, client, "-arrived before")
		send(t, service, "+arrived before")
		x := &sides{t: New(End{nearClient, []byte("pending up")}, End{nearService, []byte("pending down")}, Settings{})}
		x.run()
		expect(t, service, "pending up-arrived before")
		expect(t, client, "pending down+arrived before")
		for range 100 {
			send(t, client, "question")
			expect(t, service, "question")
			send(t, service, "the answer")
			expect(t, client, "the answer")
		}
		// Bytes arrive before they are counted.
		for end := time.Now().Add(patience); ; runtime.Gosched() {
			up, down := x.t.Bytes()
			if up == 10+15+800 && down == 12+15+1000 {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("bytes so far: %d up, %d down", up, down)
			}
		}
		client.Close()
		expectEnd(t, service)
		service.Close()
		r := x.over(t, ClientClosed)
		if r.Up != 10+15+800 || r.Down != 12+15+1000 {
			t.Errorf("bytes: %d up, %d down", r.Up, r.Down)
		}
	})
}

// TestEverySize passes messages around the sizes of buffers, so that reads end
// exactly where one is full.
func TestEverySize(t *testing.T) {
	each(t, func(t *testing.T, clientTLS, serviceTLS bool) {
		x := open(t, clientTLS, serviceTLS, Settings{})
		data := make([]byte, 2*pipeSize+2)
		mathrand.NewChaCha8([32]byte{1}).Read(data)
		for _, size := range []int{1, smallBytes, bufferBytes, pipeSize} {
			for n := max(size-1, 1); n <= size+1; n++ {
				go send(t, x.client, string(data[:n]))
				expect(t, x.service, string(data[:n]))
				go send(t, x.service, string(data[n:2*n]))
				expect(t, x.client, string(data[n:2*n]))
			}
		}
		x.t.Close()
		x.over(t, Closed)
	})
}

// pipeSize is that of the pipes of Linux.
const pipeSize = 256 << 10

// pour writes n random bytes in pieces of random size and returns their digest.
func pour(c net.Conn, seed byte, n int) (string, error) {
	h := sha256.New()
	r := mathrand.NewChaCha8([32]byte{seed})
	b := make([]byte, 100<<10)
	for n > 0 {
		piece := b[:min(n, 1+int(r.Uint64()%uint64(len(b))))]
		r.Read(piece)
		h.Write(piece)
		if _, err := c.Write(piece); err != nil {
			return "", err
		}
		n -= len(piece)
	}
	return string(h.Sum(nil)), c.(interface{ CloseWrite() error }).CloseWrite()
}

func drain(c io.Reader) (string, error) {
	h := sha256.New()
	_, err := io.Copy(h, c)
	return string(h.Sum(nil)), err
}

func TestBothWaysAtOnce(t *testing.T) {
	const total = 64 << 20
	each(t, func(t *testing.T, clientTLS, serviceTLS bool) {
		x := open(t, clientTLS, serviceTLS, Settings{})
		swap(t, x, total)
		r := <-x.result
		if r.Up != total || r.Down != total || r.Cause != ClientClosed && r.Cause != ServiceClosed {
			t.Errorf("%+v", r)
		}
	})
}

// swap sends total bytes each way at once and compares digests.
func swap(t *testing.T, x *sides, total int) {
	t.Helper()
	var wg sync.WaitGroup
	var sent, got [2]string
	var errs [4]error
	for i, c := range []net.Conn{x.client, x.service} {
		wg.Go(func() { sent[i], errs[i] = pour(c, byte(i+1), total) })
		wg.Go(func() { got[1-i], errs[2+i] = drain(c) })
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	if sent != got {
		t.Error("what arrived is not what was sent")
	}
}

func TestHalfClose(t *testing.T) {
	each(t, func(t *testing.T, clientTLS, serviceTLS bool) {
		x := open(t, clientTLS, serviceTLS, Settings{})
		send(t, x.client, "all I say")
		x.client.(interface{ CloseWrite() error }).CloseWrite()
		expect(t, x.service, "all I say")
		expectEnd(t, x.service)
		for range 10 {
			send(t, x.service, "much more")
			expect(t, x.client, "much more")
		}
		x.service.Close()
		expectEnd(t, x.client)
		x.over(t, ClientClosed)

		x = open(t, clientTLS, serviceTLS, Settings{})
		x.service.(interface{ CloseWrite() error }).CloseWrite()
		expectEnd(t, x.client)
		send(t, x.client, "still here")
		expect(t, x.service, "still here")
		x.client.Close()
		expectEnd(t, x.service)
		x.over(t, ServiceClosed)
	})
}

// TestEndBehindBytes ends the stream right behind bytes, which one readiness
// reports together.
func TestEndBehindBytes(t *testing.T) {
	each(t, func(t *testing.T, clientTLS, serviceTLS bool) {
		for range 100 {
			x := open(t, clientTLS, serviceTLS, Settings{})
			send(t, x.client, "last words")
			x.client.Close()
			expect(t, x.service, "last words")
			expectEnd(t, x.service)
			x.service.Close()
			x.over(t, ClientClosed)
		}
	})
}

// reset breaks a connection off.
func reset(c net.Conn) {
	if s, ok := c.(*tls.Conn); ok {
		c = s.NetConn()
	}
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

func TestReset(t *testing.T) {
	each(t, func(t *testing.T, clientTLS, serviceTLS bool) {
		x := open(t, clientTLS, serviceTLS, Settings{})
		send(t, x.client, "x")
		expect(t, x.service, "x")
		reset(x.client)
		expectReset(t, x.service)
		x.over(t, ClientError)

		x = open(t, clientTLS, serviceTLS, Settings{})
		send(t, x.service, "x")
		expect(t, x.client, "x")
		reset(x.service)
		expectReset(t, x.client)
		x.over(t, ServiceError)
	})
}

// TestLastWords has a service answer and close while the client goes on sending:
// writing to the service fails, but what it said still arrives.
func TestLastWords(t *testing.T) {
	each(t, func(t *testing.T, clientTLS, serviceTLS bool) {
		x := open(t, clientTLS, serviceTLS, Settings{})
		send(t, x.service, "enough")
		x.service.Close()
		for { // until the tunnel no longer takes it
			if _, err := x.client.Write([]byte("more")); err != nil {
				break
			}
			if x.t.over.Load() || x.t.up.stamp.Load()&1 == 0 && x.t.half.Load() {
				break
			}
		}
		expect(t, x.client, "enough")
		x.client.Close()
		x.over(t, ServiceClosed)
	})
}

// stuff sends from the client until the tunnel waits for the service to take
// more, and returns how many bytes that were.
func (x *sides) stuff(tb testing.TB) int {
	tb.Helper()
	b := make([]byte, 64<<10)
	sent := 0
	for {
		x.client.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		n, err := x.client.Write(b)
		sent += n
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	deadline(x.client)
	if _, waits := x.t.up.last(); !waits {
		tb.Error("the tunnel does not wait for the service")
	}
	return sent
}

// TestSlowReader stops reading until everything is full, then goes on.
func TestSlowReader(t *testing.T) {
	for _, serviceTLS := range []bool{false, true} {
		leaks(t)
		x := open(t, false, serviceTLS, Settings{})
		sent := x.stuff(t)
		// The other direction does not wait.
		send(t, x.service, "hello")
		expect(t, x.client, "hello")
		x.client.(*net.TCPConn).CloseWrite()
		n, err := io.Copy(io.Discard, x.service)
		if err != nil || int(n) != sent {
			t.Fatalf("%d bytes of %d, %v", n, sent, err)
		}
		x.service.Close()
		if r := x.over(t, ClientClosed); int(r.Up) != sent || r.Down != 5 {
			t.Errorf("%+v, want %d up", r, sent)
		}
	}
}

func TestNotTCP(t *testing.T) {
	leaks(t)
	client, nearClient := net.Pipe()
	service, nearService := net.Pipe()
	x := &sides{t: New(End{nearClient, []byte("first ")}, End{Conn: nearService}, Settings{})}
	x.run()
	go client.Write(bytes.Repeat([]byte("x"), 40000))
	expect(t, service, "first "+strings.Repeat("x", 40000))
	go service.Write([]byte("back"))
	expect(t, client, "back")
	client.Close() // cannot be passed on as a half close: ends both
	expectEnd(t, service)
	x.over(t, ClientClosed)
}

func TestMany(t *testing.T) {
	leaks(t)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			k := kinds[i%len(kinds)]
			x := open(t, k.clientTLS, k.serviceTLS, Settings{Idle: patience})
			swap(t, x, 1<<20)
			if r := <-x.result; r.Up != 1<<20 || r.Down != 1<<20 {
				t.Errorf("%+v", r)
			}
		})
	}
	wg.Wait()
}

func TestCauseNames(t *testing.T) {
	seen := map[string]bool{}
	for c := ClientClosed; c <= Closed; c++ {
		seen[c.String()] = true
	}
	if len(seen) != int(Closed) || seen["unknown"] || Cause(0).String() != "unknown" {
		t.Error(seen)
	}
}
