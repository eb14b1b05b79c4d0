package engine_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/downstream"
)

// eachLane runs f over a plain and a TLS listener, to a plain and a TLS service.
func eachLane(t *testing.T, settings string, h http.HandlerFunc, f func(t *testing.T, g *lanes, secure bool)) {
	for _, url := range []string{"http://s:80", "https://s:443"} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, TLS listener %t", url, secure), func(t *testing.T) {
				leavesNoGoroutine(t)
				f(t, startLanes(t, service(url, settings), served(t, url[:5] == "https", h), downstream.Timeouts{}), secure)
			})
		}
	}
}

// mirror sends back what it gets as it comes.
func mirror(w http.ResponseWriter, r *http.Request) {
	c := http.NewResponseController(w)
	_ = c.EnableFullDuplex() // fails only where it is so already
	w.WriteHeader(http.StatusOK)
	_ = c.Flush()
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Body.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return
			}
			_ = c.Flush()
		}
		if err != nil {
			if err != io.EOF {
				panic(http.ErrAbortHandler) // what came is not whole, so what goes must not be
			}
			return
		}
	}
}

// Client and service take turns: each piece of the body is answered before the next one
// is sent, even over a connection that has served others and will serve more.
func TestDuplexTurns(t *testing.T) {
	eachLane(t, "  read_timeout: 5000\n", mirror, func(t *testing.T, g *lanes, secure bool) {
		c := g.dial(secure)
		br := bufio.NewReader(c)
		for range 2 {
			_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 100 {
				piece := fmt.Sprintf("piece %d", i)
				fmt.Fprintf(c, "%x\r\n%s\r\n", len(piece), piece)
				got := make([]byte, len(piece))
				if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != piece {
					t.Fatalf("%d: %q %v", i, got, err)
				}
			}
			_, _ = io.WriteString(c, "0\r\n\r\n")
			if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
				t.Fatalf("at the end: %q %v", rest, err)
			}
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			if resp, body := readResponse(t, br, false); resp.StatusCode != 200 || body != "" {
				t.Errorf("the next request: %d %q", resp.StatusCode, body)
			}
		}
	})
}

// noise is a body of size bytes that has no period a mistake could hide in; it is summed
// as it is read.
type noise struct {
	left  int64
	state uint64
	sum   hash.Hash
}

func newNoise(size int64) *noise { return &noise{left: size, state: 1, sum: sha256.New()} }

// Read implements io.Reader.
func (n *noise) Read(p []byte) (int, error) {
	if n.left == 0 {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), n.left)]
	for i := range p {
		if i%8 == 0 {
			n.state ^= n.state << 13
			n.state ^= n.state >> 7
			n.state ^= n.state << 17
		}
		p[i] = byte(n.state >> (8 * (i % 8)))
	}
	n.left -= int64(len(p))
	_, _ = n.sum.Write(p)
	return len(p), nil
}

// A large body is echoed while it is sent, in constant memory and without a wrong bit.
func TestDuplexLarge(t *testing.T) {
	for _, known := range []bool{true, false} {
		size := int64(256 << 20)
		if known || underRace {
			size = 16 << 20
		}
		eachLane(t, "", mirror, func(t *testing.T, g *lanes, secure bool) {
			body := newNoise(size)
			client, base := g.client(secure)
			client.Timeout = 2 * time.Minute
			before := residentBytes(t)
			req, err := http.NewRequest(http.MethodPost, base+"/", body)
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
			defer resp.Body.Close()
			sum := sha256.New()
			n, err := io.Copy(sum, resp.Body)
			if err != nil || n != size || string(sum.Sum(nil)) != string(body.sum.Sum(nil)) {
				t.Errorf("%d bytes came back of %d, %v", n, size, err)
			}
			if grown := residentBytes(t) - before; grown > heapGrowthMax && !underRace {
				t.Errorf("memory grew by %d MiB", grown>>20)
			}
		})
	}
}

// flood sends a body until the connection ends or size bytes are sent.
func flood(c net.Conn, size int64) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := io.CopyN(c, endless{}, size)
		done <- err
	}()
	return done
}

// A service that answers before it has the whole body is heard, whatever the client does
// then: go on sending, or wait.
func TestDuplexEarlyAnswer(t *testing.T) {
	const size = 50 << 20
	body := strings.Repeat("too much. ", 10000)
	for _, status := range []int{413, 200} {
		eachLane(t, "", func(w http.ResponseWriter, _ *http.Request) {
			_ = http.NewResponseController(w).EnableFullDuplex() // else it waits for the body itself
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}, func(t *testing.T, g *lanes, secure bool) {
			for _, framing := range []string{fmt.Sprintf("Content-Length: %d", size), "Transfer-Encoding: chunked"} {
				for _, sends := range []int64{1, 1000, size} {
					c := g.dial(secure)
					fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n", framing)
					if framing[0] == 'T' {
						fmt.Fprintf(c, "%x\r\n", size)
					}
					sent := flood(c, sends)
					br := bufio.NewReader(c)
					if resp, got := readResponse(t, br, false); resp.StatusCode != status || got != body {
						t.Errorf("%s, %d bytes sent: %d with %d bytes", framing, sends, resp.StatusCode, len(got))
					}
					if sends < size { // it waits for the end of the connection, or is asked for nothing
						_ = c.Close()
					}
					<-sent
					if rest, _ := io.ReadAll(br); len(rest) > 0 && sends == size {
						t.Errorf("after the answer came %.40q", rest)
					}
				}
			}
		})
	}
}

// A client that breaks off never makes the service take its body for whole.
func TestDuplexClientAborts(t *testing.T) {
	type arrival struct {
		n   int64
		err error
	}
	seen, began := make(chan arrival, 1), make(chan struct{}, 1)
	read := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/early" {
			_ = http.NewResponseController(w).EnableFullDuplex()
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
		}
		began <- struct{}{}
		n, err := io.Copy(io.Discard, r.Body)
		seen <- arrival{n, err}
	}
	eachLane(t, "", read, func(t *testing.T, g *lanes, secure bool) {
		for _, path := range []string{"/late", "/early"} {
			for _, framing := range []string{"Content-Length: 1000000", "Transfer-Encoding: chunked"} {
				for _, how := range []string{"close", "reset", "half"} {
					c := g.dial(secure)
					fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n", path, framing)
					if framing[0] == 'T' {
						_, _ = io.WriteString(c, "10000\r\n")
					}
					_, _ = io.CopyN(c, endless{}, 0x10000)
					if framing[0] == 'T' {
						_, _ = io.WriteString(c, "\r\n") // the end of a chunk is not the end of the body
					}
					<-began
					abort(c, how)
					if got := <-seen; got.err == nil {
						t.Errorf("%s, %s, %s: the service took %d bytes for whole", path, framing, how, got.n)
					}
				}
			}
		}
	})
}

// abort ends a connection: properly, with a reset, or only in one direction.
func abort(c net.Conn, how string) {
	under := c
	if t, ok := c.(*tls.Conn); ok {
		under = t.NetConn()
	}
	switch how {
	case "reset":
		_ = under.(*net.TCPConn).SetLinger(0)
		_ = under.Close()
	case "half":
		_ = c.(interface{ CloseWrite() error }).CloseWrite()
	default:
		_ = c.Close()
	}
}

// A service that dies while it is sent a body makes a 502, whoever notices first.
func TestDuplexServiceDies(t *testing.T) {
	leavesNoGoroutine(t)
	const size = 20 << 20
	for _, how := range []string{"close", "reset"} {
		o := rawOrigin(t, func(c net.Conn, _ int) {
			_, _ = io.CopyN(io.Discard, c, 100<<10)
			abort(c, how)
		})
		g := startLanes(t, service("http://s:80", "  retries: 3\n"), o, downstream.Timeouts{})
		for _, secure := range []bool{false, true} {
			for _, framing := range []string{fmt.Sprintf("Content-Length: %d", size), "Transfer-Encoding: chunked"} {
				for _, sends := range []int64{200 << 10, size} {
					c := g.dial(secure)
					fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n", framing)
					if framing[0] == 'T' {
						fmt.Fprintf(c, "%x\r\n", size)
					}
					sent := flood(c, sends)
					br := bufio.NewReader(c)
					if resp, body := readResponse(t, br, false); resp.StatusCode != 502 || !strings.HasPrefix(body, "An invalid response") {
						t.Errorf("%s, %s, %d bytes: %d %q", how, framing, sends, resp.StatusCode, body)
					}
					_, _ = io.Copy(io.Discard, br) // the connection has to end by itself
					_ = c.Close()
					<-sent
				}
			}
		}
	}
}

// stepped sends a body in pieces that are some time apart.
func stepped(c net.Conn, pieces int, apart time.Duration) {
	tick := time.NewTicker(apart)
	defer tick.Stop()
	for range pieces {
		<-tick.C
		_, _ = io.WriteString(c, "5\r\nabcde\r\n")
	}
	_, _ = io.WriteString(c, "0\r\n\r\n")
}

// read_timeout is for the service: it does not pass while the client takes its time, and
// begins when the whole body is sent. That holds before the answer and within it.
func TestDuplexReadTimeout(t *testing.T) {
	const readTimeout = 400 * time.Millisecond
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	h := func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		_ = c.EnableFullDuplex()
		switch r.URL.Path {
		case "/within":
			_, _ = io.WriteString(w, "begin ")
			_ = c.Flush()
		case "/length": // short enough to be held until it is whole
			w.Header().Set("Content-Length", "8")
			_ = c.Flush()
		}
		n, err := io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/silent" {
			select {
			case <-stop:
			case <-r.Context().Done():
			}
			return
		}
		fmt.Fprintf(w, "%d %v", n, err)
	}
	eachLane(t, "  read_timeout: 400\n", h, func(t *testing.T, g *lanes, secure bool) {
		uploads := map[string]net.Conn{"/before": nil, "/within": nil, "/length": nil}
		for path := range uploads {
			c := g.dial(secure)
			uploads[path] = c
			fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", path)
			go stepped(c, 6, 150*time.Millisecond)
		}
		for path, c := range uploads {
			want := "30 <nil>"
			if path == "/within" {
				want = "begin " + want
			}
			if resp, body := readResponse(t, bufio.NewReader(c), false); resp.StatusCode != 200 || body != want {
				t.Errorf("%s: %d %q", path, resp.StatusCode, body)
			}
		}
		c := g.dial(secure)
		_, _ = io.WriteString(c, "POST /silent HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
		stepped(c, 3, 150*time.Millisecond)
		began := time.Now()
		resp, _ := readResponse(t, bufio.NewReader(c), false)
		if took := time.Since(began); resp.StatusCode != 504 || resp.Header.Get("X-Upstream-Timeout") != "read_timeout" || took < readTimeout*9/10 || took > readTimeout*5/2 {
			t.Errorf("silent: %d %v after %s", resp.StatusCode, resp.Header, took)
		}
	})
}

// A client that stops in the middle of its body is given up, and so is its request.
func TestDuplexClientStalls(t *testing.T) {
	leavesNoGoroutine(t)
	seen := make(chan error, 4)
	o := served(t, false, func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		seen <- err
	})
	soon := 200 * time.Millisecond
	g := startLanes(t, service("http://s:80", ""), o, downstream.Timeouts{Body: soon})
	for _, secure := range []bool{false, true} {
		c := g.dial(secure)
		_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != 400 && resp.StatusCode != 408 || !resp.Close {
			t.Errorf("%v %v", resp, err)
		}
		if err := <-seen; err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("the service saw %v", err)
		}
	}
}

// An answer that begins while the body is on its way, but is held back for a hook that
// needs it whole, keeps nothing from reaching the service.
func TestDuplexHeldAnswer(t *testing.T) {
	leavesNoGoroutine(t)
	o := served(t, false, func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		_ = c.EnableFullDuplex()
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", "11")
		}
		w.WriteHeader(http.StatusOK)
		_ = c.Flush()
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, `{"n":%5d}`, n)
	})
	g := startLanes(t, service("http://s:80", "")+"plugins:\n- {name: response-transformer, config: {add: {json: [\"b:2\"]}}}\n", o, downstream.Timeouts{})
	for _, secure := range []bool{false, true} {
		for _, path := range []string{"/length", "/chunked"} {
			c := g.dial(secure)
			fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", path)
			go stepped(c, 4, 50*time.Millisecond)
			if resp, body := readResponse(t, bufio.NewReader(c), false); resp.StatusCode != 200 || body != `{"n":20,"b":"2"}` && body != `{"n":   20,"b":"2"}` {
				t.Errorf("%s: %d %q", path, resp.StatusCode, body)
			}
		}
	}
}
