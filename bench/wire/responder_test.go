package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const testRequest = "GET /a HTTP/1.1\r\nHost: x\r\nA: \r\r\n\r\n"

// testAnswer is small enough to be told apart in a failure and large enough for
// thousands of it to fill every socket buffer.
var testAnswer = []byte("HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n" + body(usualBodyBytes))

func startResponder(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "answer.http")
	if err := os.WriteFile(path, testAnswer, 0o600); err != nil {
		t.Fatal(err)
	}
	return startC(t, "responder", responderSource, path)
}

// mustSend writes text to c.
func mustSend(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// mustAnswer reads exactly n answers.
func mustAnswer(t *testing.T, c io.Reader, n int) {
	t.Helper()
	got := make([]byte, len(testAnswer))
	for i := range n {
		if _, err := io.ReadFull(c, got); err != nil {
			t.Fatalf("answer %d of %d: %v", i+1, n, err)
		}
		if !bytes.Equal(got, testAnswer) {
			t.Fatalf("answer %d of %d: got %q", i+1, n, got)
		}
	}
}

// mustBeSilent ends the client's side and checks that nothing more had been sent.
func mustBeSilent(t *testing.T, c *net.TCPConn) {
	t.Helper()
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
		t.Errorf("want the end, got %d bytes, error %v", len(rest), err)
	}
}

// One answer for one request, wherever the request is cut.
func TestResponderPartialRequests(t *testing.T) {
	address := startResponder(t)
	for cut := 1; cut < len(testRequest); cut++ {
		c := dial(t, address)
		mustSend(t, c, testRequest[:cut])
		mustSend(t, c, testRequest[cut:])
		mustAnswer(t, c, 1)
		mustBeSilent(t, c)
	}
	c := dial(t, address)
	for _, b := range []byte(testRequest + testRequest) {
		mustSend(t, c, string(b))
	}
	mustAnswer(t, c, 2)
	mustSend(t, c, testRequest[:len(testRequest)-1])
	mustBeSilent(t, c) // an unfinished request has no answer
}

// Many requests at once: as many answers, also when the client reads none before it
// has written all, so that the answers do not fit in the socket's buffers, and when a
// read ends exactly with the responder's buffer.
func TestResponderPipelinedRequests(t *testing.T) {
	const count = 20_000
	address := startResponder(t)
	c := dial(t, address)
	failed := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c, strings.Repeat(testRequest, count))
		failed <- errors.Join(err, c.CloseWrite())
	}()
	r := bufio.NewReader(c)
	mustAnswer(t, r, count)
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(r); err != nil || len(rest) > 0 {
		t.Errorf("want the end, got %d bytes, error %v", len(rest), err)
	}

	const bufferBytes = 16384 // BUFFER_BYTES
	c = dial(t, address)
	mustSend(t, c, "GET /"+strings.Repeat("a", bufferBytes-len("GET /\r\n\r\n"))+"\r\n\r\n")
	mustAnswer(t, c, 1)
	mustBeSilent(t, c)
}

// A client that vanishes costs its own connection only.
func TestResponderSurvivesFaults(t *testing.T) {
	address := startResponder(t)
	for range 20 {
		c := dial(t, address)
		mustSend(t, c, strings.Repeat(testRequest, 1000))
		if err := errors.Join(c.SetLinger(0), c.Close()); err != nil { // a reset, not an end
			t.Fatal(err)
		}
	}
	c := dial(t, address)
	for range 1000 {
		mustSend(t, c, testRequest)
		mustAnswer(t, c, 1)
	}
	mustBeSilent(t, c)
}
