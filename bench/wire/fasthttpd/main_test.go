package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/valyala/fasthttp/fasthttputil"
)

const answer = "HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n" +
	"Content-Type: text/plain\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello"

// lines returns an answer's head, sorted and with the date left empty, and its body.
func lines(t *testing.T, raw []byte) (head []string, body string) {
	t.Helper()
	text, body, ok := strings.Cut(string(raw), "\r\n\r\n")
	if !ok {
		t.Fatalf("no head in %q", raw)
	}
	head = strings.Split(text, "\r\n")
	for i, line := range head {
		if strings.HasPrefix(line, "Date: ") {
			head[i] = "Date: "
		}
	}
	slices.Sort(head)
	return head, body
}

// The bytes are the file's, but for the date and the order of the headers.
func TestServer(t *testing.T) {
	s, err := newServer([]byte(answer))
	if err != nil {
		t.Fatal(err)
	}
	ln := fasthttputil.NewInmemoryListener()
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ln) }()
	c, err := ln.Dial()
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // keep-alive
		if _, err := io.WriteString(c, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		var raw bytes.Buffer
		resp, err := http.ReadResponse(bufio.NewReader(io.TeeReader(c, &raw)), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		head, body := lines(t, raw.Bytes())
		wantHead, wantBody := lines(t, []byte(answer))
		if !slices.Equal(head, wantHead) || body != wantBody {
			t.Errorf("got %q and %q, want %q and %q", head, body, wantHead, wantBody)
		}
	}
	if err := errors.Join(c.Close(), s.Shutdown(), <-ended); err != nil {
		t.Error(err)
	}
}

func TestServerRefuses(t *testing.T) {
	for _, bad := range []string{"", "hello", answer[:len(answer)-1]} {
		if _, err := newServer([]byte(bad)); err == nil {
			t.Errorf("accepted %q", bad)
		}
	}
}
