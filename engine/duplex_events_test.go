package engine_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/downstream"
)

// events is a service of server-sent events: each comes when next says so, and the stream
// ends with it.
func events(next <-chan string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(http.StatusOK)
		for {
			_ = http.NewResponseController(w).Flush()
			select {
			case event, ok := <-next:
				if !ok {
					return
				}
				_, _ = io.WriteString(w, "data: "+event+"\n\n")
			case <-r.Context().Done():
				return
			}
		}
	}
}

// Events arrive one by one, as soon as they are sent; the service's end is theirs.
func TestDuplexEvents(t *testing.T) {
	for _, url := range []string{"http://s:80", "https://s:443"} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, TLS listener %t", url, secure), func(t *testing.T) {
				leavesNoGoroutine(t)
				next := make(chan string)
				g := startLanes(t, service(url, ""), served(t, url[:5] == "https", events(next)), downstream.Timeouts{})
				c := g.dial(secure)
				br := bufio.NewReader(c)
				_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n")
				resp, err := http.ReadResponse(br, nil) // before the first event
				if err != nil || resp.Header.Get("Content-Type") != "text/event-stream" {
					t.Fatalf("%v %v", resp, err)
				}
				lines := bufio.NewReader(resp.Body)
				for i := range 100 {
					next <- fmt.Sprint(i)
					if line, err := lines.ReadString('\n'); err != nil || line != fmt.Sprintf("data: %d\n", i) {
						t.Fatalf("event %d: %q %v", i, line, err)
					}
					_, _ = lines.ReadString('\n')
				}
				close(next)
				if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
					t.Errorf("at the end: %q %v", rest, err)
				}
			})
		}
	}
}

// How long events may be silent is stream_timeout of request-timeout, else read_timeout;
// http_timeout does not end them.
func TestDuplexEventsSilence(t *testing.T) {
	f := func(settings, plugin string, pause time.Duration, events int, cut bool) {
		t.Helper()
		t.Run(settings+plugin, func(t *testing.T) {
			leavesNoGoroutine(t)
			o := served(t, false, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
				tick := time.NewTicker(pause)
				defer tick.Stop()
				for range events {
					_, _ = io.WriteString(w, "data: x\n\n")
					_ = http.NewResponseController(w).Flush()
					select {
					case <-tick.C:
					case <-r.Context().Done():
						return
					}
				}
			})
			if plugin != "" {
				plugin = "plugins:\n- {name: request-timeout, config: {" + plugin + "}}\n"
			}
			g := startLanes(t, service("http://s:80", settings)+plugin, o, downstream.Timeouts{})
			for _, secure := range []bool{false, true} {
				c := g.dial(secure)
				_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				if n := strings.Count(string(body), "data: x\n\n"); cut != (err != nil) || !cut && n != events || cut && n == events {
					t.Errorf("TLS %t: %d events, %v", secure, n, err)
				}
			}
		})
	}
	f("  read_timeout: 300\n", "", 1*time.Second, 2, true)
	f("  read_timeout: 300\n", "", 100*time.Millisecond, 6, false)
	f("  read_timeout: 300\n", "stream_timeout: 2000", 600*time.Millisecond, 2, false)
	f("  read_timeout: 60000\n", "stream_timeout: 300", 1*time.Second, 2, true)
	f("  read_timeout: 60000\n", "http_timeout: 300, stream_timeout: 500", 100*time.Millisecond, 8, false)
	f("  read_timeout: 2000\n", "http_timeout: 300", 100*time.Millisecond, 8, false)
}

// An answer may take its time, up to read_timeout.
func TestDuplexLongPolling(t *testing.T) {
	leavesNoGoroutine(t)
	release := make(chan struct{})
	o := served(t, false, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
			_, _ = io.WriteString(w, "news")
		case <-r.Context().Done():
		}
	})
	g := startLanes(t, service("http://s:80", ""), o, downstream.Timeouts{Idle: 300 * time.Millisecond, Head: 300 * time.Millisecond, Body: 300 * time.Millisecond, Write: 300 * time.Millisecond})
	time.AfterFunc(2*time.Second, func() { close(release) })
	c, d := g.dial(false), g.dial(true)
	for _, c := range []net.Conn{c, d} {
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	}
	for _, c := range []net.Conn{c, d} {
		if resp, body := readResponse(t, bufio.NewReader(c), false); resp.StatusCode != 200 || body != "news" {
			t.Errorf("%d %q", resp.StatusCode, body)
		}
	}
}

// When the service dies in the middle of its answer the client's connection ends there,
// and nothing follows that could make the answer look whole.
func TestDuplexAnswerBreaksOff(t *testing.T) {
	piece := strings.Repeat("x", 70000)
	for name, answer := range map[string]string{
		"length":  "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + piece,
		"chunk":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n" + piece,
		"chunks":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11170\r\n" + piece + "\r\n",
		"size":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11170\r\n" + piece + "\r\n5",
		"garbage": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11170\r\n" + piece + "\r\nzz\r\n0\r\n\r\n",
		"trailer": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11170\r\n" + piece + "\r\n0\r\nX-Sum: 1",
		"events":  "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n11170\r\n" + piece + "\r\n",
	} {
		for _, how := range []string{"close", "reset"} {
			t.Run(name+" "+how, func(t *testing.T) {
				leavesNoGoroutine(t)
				written := make(chan struct{}, 8)
				o := rawOrigin(t, func(c net.Conn, _ int) {
					_, _ = http.ReadRequest(bufio.NewReader(c))
					_, _ = io.WriteString(c, answer)
					<-written
					abort(c, how)
				})
				g := startLanes(t, service("http://s:80", ""), o, downstream.Timeouts{})
				for _, secure := range []bool{false, true} {
					for _, method := range []string{"GET / HTTP/1.1\r\n", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"} {
						c := g.dial(secure)
						_, _ = io.WriteString(c, method+"Host: a\r\n\r\n")
						raw := make([]byte, 60000) // the answer is under way
						if _, err := io.ReadFull(c, raw); err != nil {
							t.Fatal(err)
						}
						written <- struct{}{}
						rest, _ := io.ReadAll(c)
						resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(append(raw, rest...))), nil)
						if err != nil {
							t.Fatal(err)
						}
						body, err := io.ReadAll(resp.Body)
						if err == nil || !strings.HasPrefix(piece, string(body)) {
							t.Errorf("TLS %t, %s: %d bytes that end with %.60q, %v", secure, method, len(body), body[max(0, len(body)-60):], err)
						}
						_ = c.Close()
					}
				}
			})
		}
	}
}
