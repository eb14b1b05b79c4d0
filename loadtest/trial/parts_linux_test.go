package trial

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// startRole runs a part in a goroutine that lives as long as the tests do, as parts end
// only with their process.
func startRole(t *testing.T, name string, run func(ready func(string)) error) string {
	t.Helper()
	ready := make(chan string, 1)
	failed := make(chan error, 1)
	go func() { failed <- run(func(address string) { ready <- address }) }()
	select {
	case address := <-ready:
		return address
	case err := <-failed:
		t.Fatalf("%s: %v", name, err)
	}
	return ""
}

func startService(t *testing.T, s *Service) string {
	t.Helper()
	return startRole(t, "service", func(ready func(string)) error { return Serve(s, ready) })
}

func TestServiceAnswers(t *testing.T) {
	const latency = 30 * time.Millisecond
	address := startService(t, &Service{BodyBytes: 100_000, Status: 203, Latency: Duration(latency)})
	f := func(method string, body io.Reader) {
		t.Helper()
		began := time.Now()
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+"/x?y", body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		want := serviceBody(100_000)
		if method == "HEAD" {
			want = nil
		}
		if err != nil || resp.StatusCode != 203 || !bytes.Equal(got, want) || resp.ContentLength != 100_000 {
			t.Errorf("%s: %d, %d bytes, %v", method, resp.StatusCode, len(got), err)
		}
		if took := time.Since(began); took < latency {
			t.Errorf("%s: answered after %s, before its time", method, took)
		}
	}
	f("GET", nil)
	f("HEAD", nil)
	f("POST", strings.NewReader(strings.Repeat("body", 50_000)))
	f("POST", struct{ io.Reader }{strings.NewReader(strings.Repeat("chunk", 50_000))}) // of unknown length
	f("GET", nil)
}

// TestServiceInPieces sends requests byte by byte, some before the first answer, and
// then nonsense. The answer to a HEAD has no body.
func TestServiceInPieces(t *testing.T) {
	c, err := net.Dial("tcp", startService(t, &Service{BodyBytes: 3, Status: 200}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const request = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
	for _, b := range []byte(request + "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + request) {
		if _, err := c.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.WriteString(c, "NONSENSE\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(c) // reset or not, the connection ends
	if n := strings.Count(string(got), "HTTP/1.1 200 OK"); n != 3 || strings.Count(string(got), "\r\n\r\n012") != 2 {
		t.Errorf("%d answers:\n%s", n, got)
	}
}

// TestRelayCopies sends much both ways at once, and an end after it.
func TestRelayCopies(t *testing.T) {
	echo := listen(t, func(c net.Conn) { _, _ = io.Copy(c, c) })
	address := startRole(t, "relay", func(ready func(string)) error { return Relay(echo, ready) })
	sent := bytes.Repeat([]byte("0123456789"), 300_000)
	for range 3 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, _ = c.Write(sent)
			_ = c.(*net.TCPConn).CloseWrite()
		}()
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d of %d bytes came back, %v", len(got), len(sent), err)
		}
		_ = c.Close()
	}
}

// TestRelayWithoutService closes the client where nobody listens.
func TestRelayWithoutService(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	c, err := net.Dial("tcp", startRole(t, "relay", func(ready func(string)) error { return Relay(l.Addr().String(), ready) }))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("%d, %v", n, err)
	}
	if err := Relay("example.com:80", nil); err == nil {
		t.Error("a name was taken for an address")
	}
}
