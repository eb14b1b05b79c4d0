package stub

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// open serves a stub for the test and returns where.
func open(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New()
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if err := s.Shutdown(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// ask sends one request, a POST if it has a body, and returns the answer with its body read.
func ask(t *testing.T, url string, body []byte) (*http.Response, []byte) {
	t.Helper()
	var resp *http.Response
	var err error
	if body == nil {
		resp, err = http.Get(url)
	} else {
		resp, err = http.Post(url, "application/octet-stream", bytes.NewReader(body))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, got
}

func TestBodies(t *testing.T) {
	base := "http://" + open(t)
	is := func(path string, n int) {
		t.Helper()
		resp, got := ask(t, base+path, nil)
		if resp.StatusCode != 200 || !bytes.Equal(got, Append(nil, n)) {
			t.Errorf("%s: status %d, %d bytes, want 200 and the first %d of the sequence", path, resp.StatusCode, len(got), n)
		}
	}
	is("/bytes/0", 0)
	is("/bytes/1", 1)
	is("/bytes/1024", 1024)
	is("/bytes/1048576", 1<<20)
	is("/bytes/3000001", 3_000_001)
	is("/cacheable/x", 1024)
	is("/cacheable/x?bytes=10", 10)
	if got, want := hex.EncodeToString(Append(nil, 4)), "3c5e81b4"; got != want {
		t.Errorf("the sequence begins with %s, want %s", got, want)
	}
}

func TestRefused(t *testing.T) {
	base := "http://" + open(t)
	is := func(path string, status int, says string) {
		t.Helper()
		resp, got := ask(t, base+path, nil)
		if resp.StatusCode != status || !strings.Contains(string(got), says) {
			t.Errorf("%s: %d %q, want %d with %q", path, resp.StatusCode, got, status, says)
		}
	}
	is("/bytes/x", 400, "want a number of bytes from 0 to 67108864")
	is("/bytes/-1", 400, "want a number")
	is("/bytes/67108865", 400, "want a number")
	is("/delay/60001", 400, "want milliseconds from 0 to 60000")
	is("/nowhere", 404, "/nowhere")
	is("/ws", 400, "handshake")
	is("/echo", 400, "want a body")
	is("/fail?status=503&n=1", 400, "want POST")
}

func TestUploads(t *testing.T) {
	base := "http://" + open(t)
	body := Append(nil, 2_000_003)
	if _, got := ask(t, base+"/echo", body); !bytes.Equal(got, body) {
		t.Errorf("/echo gave %d other bytes", len(got))
	}
	const want = "3 ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n" // FIPS 180-2, appendix B.1
	if _, got := ask(t, base+"/digest", []byte("abc")); string(got) != want {
		t.Errorf("/digest gave %q, want %q", got, want)
	}
}

func TestEventsComeOneByOne(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+open(t)+"/events?n=2&every=60000", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	first := make([]byte, len("id: 0\ndata: event 0 of 2\n\n"))
	_, err = io.ReadFull(resp.Body, first) // the second event is a minute away
	if err != nil || string(first) != "id: 0\ndata: event 0 of 2\n\n" {
		t.Errorf("first event %q, %v", first, err)
	}
	resp.Body.Close()
	_, all := ask(t, "http://"+open(t)+"/events?n=3", nil)
	if n := strings.Count(string(all), "data: event"); n != 3 {
		t.Errorf("%d events of 3: %q", n, all)
	}
}

func TestWebSocketEchoes(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws://"+open(t)+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(messageBytesMax)
	for _, n := range []int{0, 1, 125, 126, 65535, 65536, 200_000} {
		if err := c.Write(ctx, websocket.MessageBinary, Append(nil, n)); err != nil {
			t.Fatal(err)
		}
		kind, got, err := c.Read(ctx)
		if err != nil || kind != websocket.MessageBinary || !bytes.Equal(got, Append(nil, n)) {
			t.Fatalf("%d bytes: got %d of kind %v, %v", n, len(got), kind, err)
		}
	}
	if err := c.Close(websocket.StatusNormalClosure, "done"); err != nil {
		t.Error("close:", err)
	}
}

func TestCounts(t *testing.T) {
	base := "http://" + open(t)
	ask(t, base+"/bytes/1", nil)
	ask(t, base+"/bytes/1", nil)
	ask(t, base+"/bytes/2", nil)
	ask(t, base+"/health", nil)
	_, text := ask(t, base+"/counts?prefix=/bytes/", nil)
	var got Counts
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if want := (Counts{Requests: 3, Paths: 2, Most: 2}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestCountsAreBounded(t *testing.T) {
	c := counts{paths: map[string]int64{}}
	for i := range pathsMax + 5 {
		c.add("/" + strconv.Itoa(i))
	}
	if len(c.paths) != pathsMax || c.other != 5 {
		t.Errorf("%d paths and %d others, want %d and 5", len(c.paths), c.other, pathsMax)
	}
}

func TestFailsAsTold(t *testing.T) {
	base := "http://" + open(t)
	status := func(want int) {
		t.Helper()
		if resp, _ := ask(t, base+"/bytes/8", nil); resp.StatusCode != want {
			t.Errorf("status %d, want %d", resp.StatusCode, want)
		}
	}
	ask(t, base+"/fail?status=503&n=2", []byte{})
	status(503)
	status(503)
	status(200)
	ask(t, base+"/fail?status=500&n=-1", []byte{})
	status(500)
	status(500)
	status(500)
	ask(t, base+"/fail?status=500&n=0", []byte{})
	status(200)
	ask(t, base+"/fail?wrong=1&n=1", []byte{})
	if _, got := ask(t, base+"/bytes/8", nil); len(got) != 8 || bytes.Equal(got, Append(nil, 8)) {
		t.Errorf("a wrong body was ordered, got % x", got)
	}
	if _, got := ask(t, base+"/bytes/8", nil); !bytes.Equal(got, Append(nil, 8)) {
		t.Error("one wrong body was ordered, got two")
	}
}
