package trial

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestHead(t *testing.T) {
	f := func(text string, want head) {
		t.Helper()
		got, err := parseHead([]byte(text+"body"), true)
		want.bytes = len(text)
		if err != nil || got != want {
			t.Errorf("%q\n got %+v, %v\nwant %+v", text, got, err, want)
		}
		for i := range len(text) {
			if h, err := parseHead([]byte(text[:i]), true); h.bytes != 0 || err != nil {
				t.Errorf("%q: %+v, %v", text[:i], h, err)
			}
		}
	}
	f("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n", head{status: 200, length: 12})
	f("HTTP/1.1 200\r\ncontent-length:12\r\nConnection: Close\r\n\r\n", head{status: 200, length: 12, closing: true})
	f("HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", head{status: 503, length: chunked})
	f("HTTP/1.1 200 OK\r\nServer: x\r\n\r\n", head{status: 200, length: untilClose, closing: true})
	f("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", head{status: 200, length: 1, closing: true})
	f("HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n", head{status: 200, length: 1})
	f("HTTP/1.1 304 Not Modified\r\n\r\n", head{status: 304, length: untilClose, noBody: true})
	refused := func(text string, want error) {
		t.Helper()
		if _, err := parseHead([]byte(text), true); !errors.Is(err, want) {
			t.Errorf("%.40q: %v, want %v", text, err, want)
		}
	}
	refused("GET / HTTP/1.1\r\n\r\n", errStartLine)
	refused("HTTP/1.1 2x0 OK\r\n\r\n", errStartLine)
	refused("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", errLength)
	refused("HTTP/1.1 200 OK\r\nX: "+strings.Repeat("a", headBytesMax), errHeadTooLarge)
}

// contentOf reads a body in pieces of a size.
func contentOf(b []byte, h head, piece int) (content []byte, consumed int, complete bool, err error) {
	var s body
	s.begin(&h, false)
	for !complete && err == nil && consumed < len(b) {
		var n int
		n, complete, err = s.take(b[consumed:min(len(b), consumed+piece)], func(p []byte) { content = append(content, p...) })
		consumed += n
	}
	return content, consumed, complete, err
}

func TestBodies(t *testing.T) {
	f := func(text string, length int64, want string, left int) {
		t.Helper()
		for _, piece := range []int{1, 2, 3, 7, 1000} {
			got, n, complete, err := contentOf([]byte(text), head{length: length}, piece)
			if err != nil || !complete || string(got) != want || len(text)-n != left {
				t.Errorf("%q in pieces of %d: %q, %t, %d left, %v", text, piece, got, complete, len(text)-n, err)
			}
		}
	}
	f("hello", 5, "hello", 0)
	f("hello and more", 5, "hello", 9)
	f("5\r\nhello\r\n0\r\n\r\n", chunked, "hello", 0)
	f("5;x=y\r\nhello\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nTrailer: x\r\n\r\nnext", chunked, "helloabcdefghijklmnopqrstuvwxyz", 4)
	f("000\r\n\r\n", chunked, "", 0)
	broken := func(text string) {
		t.Helper()
		if _, _, complete, err := contentOf([]byte(text), head{length: chunked}, 3); err == nil {
			t.Errorf("%q is accepted, complete: %t", text, complete)
		}
	}
	broken("x\r\n")
	broken("\n")
	broken("5\r\nhelloX\r\n")
	broken("5\r\nhello\rX")
	broken("ffffffffffffffff\r\n")
	broken("5;" + strings.Repeat("a", chunkLineMax) + "\r\n")
	if _, n, complete, err := contentOf([]byte("any"), head{length: untilClose}, 2); n != 3 || complete || err != nil {
		t.Errorf("until the end of the connection: %d, %t, %v", n, complete, err)
	}
}

// FuzzAnswer holds the parser to net/http: where both accept an answer, they find the
// same status and body. It never panics and never takes more than it was given.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"HTTP/1.1 404 Not Found\r\n\r\nuntil the end",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHead(b, true)
		if err != nil || h.bytes == 0 || h.status < 200 {
			return
		}
		content, n, complete, err := contentOf(b[h.bytes:], h, 5)
		if n > len(b)-h.bytes {
			t.Fatalf("%d bytes taken of %d", n, len(b)-h.bytes)
		}
		if err != nil || !complete || h.noBody {
			return
		}
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil)
		if err != nil {
			return // stricter, which is its business
		}
		want, err := io.ReadAll(resp.Body)
		if err == nil && (resp.StatusCode != h.status || !bytes.Equal(want, content)) {
			t.Errorf("%q:\n got %d %q\nwant %d %q", b, h.status, content, resp.StatusCode, want)
		}
	})
}
