package upstream

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

func TestTakeChunks(t *testing.T) {
	f := func(in, want string, ok bool) {
		t.Helper()
		br := bufio.NewReader(strings.NewReader(in))
		if _, err := br.Peek(1); err != nil && in != "" {
			t.Fatal(err)
		}
		var resp fasthttp.Response
		got := takeChunks(br, &resp)
		if got != ok || string(resp.Body()) != want {
			t.Errorf("%q: %t %q, want %t %q", in, got, resp.Body(), ok, want)
		}
		if left, _ := io.ReadAll(br); ok != (len(left) == 0) {
			t.Errorf("%q: %q is left", in, left)
		}
	}
	f("0\r\n\r\n", "", true)
	f("3\r\nabc\r\n0\r\n\r\n", "abc", true)
	f("3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", "abc0123456789", true)
	f("5\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n", true)
	f("3\r\nabc\r\n", "", false)
	f("3\r\nabc\r\n0\r\nX: y\r\n\r\n", "", false)
	f("3\nabc\r\n0\r\n\r\n", "", false)
	f("4\r\nabc\r\n0\r\n\r\n", "", false)
	f("g\r\nabc\r\n0\r\n\r\n", "", false)
	f("ffffffffffffffffff\r\nabc\r\n0\r\n\r\n", "", false)
	f("0\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "", false)
}

// FuzzChunks holds the two readers of chunked bodies equal, and both to what
// they may accept.
func FuzzChunks(f *testing.F) {
	f.Add([]byte("3\r\nabc\r\n0\r\n\r\n"))
	f.Add([]byte("3;x\r\nabc\r\n0\r\nA: b\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		br := bufio.NewReader(bytes.NewReader(in))
		_, _ = br.Peek(1)
		var resp fasthttp.Response
		taken := takeChunks(br, &resp)
		b := newDetachedBody(t, in)
		streamed, err := io.ReadAll(b)
		if taken && (err != nil || !bytes.Equal(streamed, resp.Body())) {
			t.Errorf("taken %q, streamed %q, %v", resp.Body(), streamed, err)
		}
	})
}

// newDetachedBody returns a chunked body whose connection goes nowhere.
func newDetachedBody(t *testing.T, in []byte) *body {
	client, server := net.Pipe()
	t.Cleanup(func() { _ = server.Close() })
	c := newConn(client, newPool(newAddress(newRoster("s"), "s:80", "s:80", "s"), newTransport(transportSettings{}), ""))
	c.br = bufio.NewReader(bytes.NewReader(in))
	return &body{c: c, br: c.br, timeout: time.Hour, chunked: true}
}
