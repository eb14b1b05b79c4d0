package engine_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/downstream"
)

// streamBytes is the size of the bodies that are streamed up and down here.
// SLUICE_STREAM_BYTES asks for more: 10737418240 is the size the README speaks of.
func streamBytes(t *testing.T) int64 {
	text := os.Getenv("SLUICE_STREAM_BYTES")
	if text == "" {
		return 1 << 30
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatalf("SLUICE_STREAM_BYTES: %v", err)
	}
	return n
}

// heapGrowthMax bounds what streaming may add to the memory of the process that
// holds client, gateway and service.
const heapGrowthMax = 48 << 20

// Bodies of any size go through in constant memory, of known length and not.
func TestStreaming(t *testing.T) {
	size := streamBytes(t)
	o := newOrigins(t, func(string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				n, err := io.Copy(io.Discard, r.Body)
				fmt.Fprintf(w, "%d %v", n, err)
				return
			}
			if r.URL.Path == "/length" {
				w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
			}
			_, _ = io.CopyN(w, endless{}, size)
		})
	})
	g := start(t, service("http://s:80", ""), o)
	before := residentBytes(t)
	check := func(what string) {
		if grown := residentBytes(t) - before; grown > heapGrowthMax {
			t.Errorf("%s: memory grew by %d MiB", what, grown>>20)
		}
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, path := range []string{"/length", "/chunked"} {
		resp, err := client.Get("http://" + g.addr + path)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil || n != size {
			t.Errorf("down %s: %d bytes, %v", path, n, err)
		}
		check("down " + path)
	}
	for _, known := range []bool{true, false} {
		req, err := http.NewRequest(http.MethodPost, "http://"+g.addr+"/", io.LimitReader(endless{}, size))
		if err != nil {
			t.Fatal(err)
		}
		if known {
			req.ContentLength = size
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(body) != fmt.Sprintf("%d <nil>", size) {
			t.Errorf("up, known length %t: %d %s", known, resp.StatusCode, body)
		}
		check("up")
	}
}

// residentBytes is the resident set of this process.
func residentBytes(t *testing.T) int64 {
	t.Helper()
	data, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(data))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// A client that reads slowly gets everything, and the gateway does not collect
// the answer meanwhile.
func TestSlowReader(t *testing.T) {
	const size = 64 << 20
	o := newOrigins(t, func(string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.CopyN(w, endless{}, size) })
	})
	g := start(t, service("http://s:80", ""), o)
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	br := bufio.NewReaderSize(c, 4096)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	before := residentBytes(t)
	var n int64
	buf := make([]byte, 256<<10)
	for {
		m, err := resp.Body.Read(buf)
		if n += int64(m); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	resp.Body.Close()
	if n != size {
		t.Errorf("%d bytes, want %d", n, size)
	}
	if grown := residentBytes(t) - before; grown > heapGrowthMax {
		t.Errorf("memory grew by %d MiB", grown>>20)
	}
}

// Clients that take their time are cut off, wherever they stop: before a
// request, in its header, in its body, between requests, in front of an answer.
func TestSlowClientsAreCutOff(t *testing.T) {
	o := newOrigins(t, func(string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			if r.URL.Path == "/large" {
				_, _ = io.CopyN(w, endless{}, 256<<20)
			}
		})
	})
	soon := 200 * time.Millisecond
	g := startWith(t, service("http://s:80", ""), o, downstream.Timeouts{Idle: soon, Head: soon, Body: soon, Write: soon})
	f := func(name, text string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := net.Dial("tcp", g.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, _ = io.WriteString(c, text)
			if name == "answer" {
				<-time.After(3 * time.Second) // reading would be taking it
			}
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
			n, err := io.Copy(io.Discard, c)
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() || n >= 256<<20 {
				t.Errorf("still connected after %d bytes: %v", n, err)
			}
		})
	}
	t.Run("stop", func(t *testing.T) {
		f("before a request", "")
		f("header", "GET / HTTP/1.1\r\nHost: a\r\n")
		f("small body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
		f("large body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc")
		f("chunked body", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
		f("between requests", "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		f("answer", "GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
	})
}
