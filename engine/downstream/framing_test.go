package downstream

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"
)

func TestInspect(t *testing.T) {
	f := func(block string, want Head) {
		t.Helper()
		if got := Inspect([]byte(block)); got != want {
			t.Errorf("%q:\n got %+v\nwant %+v", block, got, want)
		}
	}
	f("\r\n", Head{})
	f("Host: a\r\n\r\n", Head{})
	f("Host: a\r\nX-Real-IP: b\r\n\r\n", Head{Forwarding: true})
	f("x-forwarded-for: b\r\n\r\n", Head{Forwarding: true})
	f("X-Forwarded: b\r\n\r\n", Head{})
	f("Connection: close\r\n\r\n", Head{Connection: true})
	f("Content-Length: 5\r\n\r\n", Head{Length: true})
	f("Transfer-Encoding: Chunked\r\n\r\n", Head{Chunked: true, Unusual: true})
	f("Expect: 100-continue\r\n\r\n", Head{Unusual: true})
	f("UPGRADE: h2c\r\n\r\n", Head{Unusual: true, Upgrade: true})
	malformed := func(block string) {
		t.Helper()
		if !Inspect([]byte(block)).Malformed {
			t.Errorf("%q passes", block)
		}
	}
	malformed("Host: a\n\r\n")
	malformed("Host: a\rb\r\n\r\n")
	malformed(" Host: a\r\n\r\n")
	malformed("Host : a\r\n\r\n")
	malformed("Host: a\r\n b\r\n\r\n")
	malformed("Ho\x00st: a\r\n\r\n")
	malformed("Host\r\n\r\n")
	malformed(": a\r\n\r\n")
	malformed("Content-Length: 1\r\nContent-Length: 1\r\n\r\n")
	malformed("Content-Length: \r\n\r\n")
	malformed("Content-Length: 0x1\r\n\r\n")
	malformed("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n")
	malformed("Transfer-Encoding: chunked, chunked\r\n\r\n")
	malformed("Transfer-Encoding: gzip\r\n\r\n")
	malformed("Host: a\r\n\r\nGET / HTTP/1.1\r\n\r\n")
}

// FuzzInspect: a block that passes means to the standard library's parser what
// it means to us, and nothing panics.
func FuzzInspect(f *testing.F) {
	for _, block := range []string{"Host: a\r\n\r\n", "Content-Length: 3\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n", "A:\tb \r\nC: d\r\n\r\n"} {
		f.Add([]byte(block))
	}
	f.Fuzz(func(t *testing.T, block []byte) {
		h := Inspect(block)
		if h.Malformed || !bytes.HasSuffix(block, []byte("\r\n\r\n")) {
			return
		}
		if h.Chunked && h.Length {
			t.Fatalf("%q: both framings pass", block)
		}
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("POST / HTTP/1.1\r\n" + string(block))))
		if err != nil {
			return // the standard library may be stricter still: on Host, on values
		}
		if chunked := len(r.TransferEncoding) > 0; chunked != h.Chunked {
			t.Errorf("%q: chunked is %t to us, %t to others", block, h.Chunked, chunked)
		}
		if !h.Chunked && h.Length != (r.Header.Get("Content-Length") != "" || r.ContentLength > 0) {
			t.Errorf("%q: length is %t to us, %d to others", block, h.Length, r.ContentLength)
		}
	})
}

func TestInspectAllocatesNothing(t *testing.T) {
	block := []byte("Host: a\r\nUser-Agent: b\r\nAccept: */*\r\nX-Forwarded-For: c\r\nContent-Length: 3\r\n\r\n")
	if n := testing.AllocsPerRun(1000, func() { Inspect(block) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkInspect(b *testing.B) {
	block := []byte("Host: api.example.com\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\napikey: key-0000000000000000000000\r\n\r\n")
	b.ReportAllocs()
	for b.Loop() {
		sink = Inspect(block)
	}
}

var sink Head
