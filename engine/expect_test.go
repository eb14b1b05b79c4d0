package engine_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/downstream"
)

// sums is a service that tells how long a body is, and whether an Expect field came.
func sums(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	fmt.Fprintf(w, "%d %v %q", n, err, r.Header["Expect"])
}

const expectDocument = `
gateway: {client_max_body_size: 1m}
_format_version: "3.0"
services:
- name: s
  url: http://s:80
  routes:
  - {name: open, paths: [/open]}
  - name: closed
    paths: [/closed]
    plugins: [{name: key-auth}]
  - name: reads
    paths: [/reads]
    plugins: [{name: key-auth, config: {key_in_body: true}}]
  - name: logged
    paths: [/logged]
    plugins: [{name: file-log, config: {path: FILE}}]
consumers:
- username: c
  keyauth_credentials: [{key: open-sesame}]
`

func startExpect(t *testing.T) (g *lanes, log string) {
	log = filepath.Join(t.TempDir(), "log")
	return startLanes(t, strings.Replace(expectDocument, "FILE", log, 1), served(t, false, sums), downstream.Timeouts{}), log
}

// What can be refused without the body is refused before it is asked for.
func TestExpectRefused(t *testing.T) {
	leavesNoGoroutine(t)
	g, _ := startExpect(t)
	f := func(path, framing string, status int) {
		t.Helper()
		for _, secure := range []bool{false, true} {
			c := g.dial(secure)
			fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n%s\r\n\r\n", path, framing)
			all, err := io.ReadAll(c) // nothing is sent: the answer and the end come by themselves
			if err != nil || !strings.HasPrefix(string(all), fmt.Sprintf("HTTP/1.1 %d ", status)) || strings.Contains(string(all), "100 Continue") ||
				!strings.Contains(string(all), "\r\nConnection: close\r\n") || strings.Count(string(all), "HTTP/1.1 ") != 1 {
				t.Errorf("%s, %s: %q %v", path, framing, all, err)
			}
		}
	}
	for _, size := range []string{"Content-Length: 10", "Content-Length: 500000", "Transfer-Encoding: chunked"} {
		f("/closed", size, 401)
		f("/nowhere", size, 404)
	}
	f("/open", "Content-Length: 1048577", 413)
	f("/reads", "Content-Length: 1048577", 413)
	f("/closed?apikey=wrong", "Content-Length: 10", 401)
}

// A request that is let through is answered 100 once, and then by the service, which
// hears nothing of the field; the connection goes on.
func TestExpectAccepted(t *testing.T) {
	leavesNoGoroutine(t)
	g, log := startExpect(t)
	f := func(path string, size int, chunked bool) {
		t.Helper()
		for _, secure := range []bool{false, true} {
			c := g.dial(secure)
			br := bufio.NewReader(c)
			for range 2 {
				framing, body := fmt.Sprintf("Content-Length: %d", size), strings.Repeat("x", size)
				if chunked {
					framing, body = "Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", size, body)
				}
				fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: a\r\nexpect: 100-Continue\r\n%s\r\n\r\n", path, framing)
				if line, err := br.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
					t.Fatalf("%s, %d bytes: %q %v", path, size, line, err)
				}
				if line, _ := br.ReadString('\n'); line != "\r\n" {
					t.Errorf("after 100 came %q", line)
				}
				go func() { _, _ = io.WriteString(c, body) }()
				if resp, got := readResponse(t, br, false); resp.StatusCode != 200 || got != fmt.Sprintf("%d <nil> []", size) {
					t.Errorf("%s, %d bytes: %d %q", path, size, resp.StatusCode, got)
				}
				_, _ = io.WriteString(c, "GET /open HTTP/1.1\r\nHost: a\r\n\r\n")
				if resp, got := readResponse(t, br, false); resp.StatusCode != 200 || got != "0 <nil> []" {
					t.Errorf("the next request: %d %q", resp.StatusCode, got)
				}
			}
		}
	}
	for _, size := range []int{1, 1000, 64 << 10, 64<<10 + 1, 900000} {
		for _, chunked := range []bool{false, true} {
			f("/open", size, chunked)
			f("/closed?apikey=open-sesame", size, chunked)
			f("/reads?apikey=open-sesame", size, chunked)
		}
	}
	f("/logged", 100, false)
	f("/logged", 100000, true)
	lines := logged(t, log, 8)
	slices.SortFunc(lines, func(a, b logLine) int { return int(a.Request.Size - b.Request.Size) })
	for i, line := range lines {
		size := int64(100)
		if i >= 4 {
			size = 100000
		}
		if line.Response.Status != 200 || line.Request.Size < size || line.Request.Size > size+200 {
			t.Errorf("logged: %+v, want a body of %d bytes", line, size)
		}
	}
}

// A hook that needs the body decides when it is there.
func TestExpectBodyNeeded(t *testing.T) {
	leavesNoGoroutine(t)
	g, _ := startExpect(t)
	for key, status := range map[string]int{"open-sesame": 200, "wrong": 401} {
		for _, secure := range []bool{false, true} {
			c := g.dial(secure)
			br := bufio.NewReader(c)
			body := "apikey=" + key
			fmt.Fprintf(c, "POST /reads HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(body))
			if line, err := br.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
				t.Fatalf("%q %v", line, err)
			}
			_, _ = br.ReadString('\n')
			_, _ = io.WriteString(c, body)
			if resp, _ := readResponse(t, br, false); resp.StatusCode != status {
				t.Errorf("%s: %d, want %d", key, resp.StatusCode, status)
			}
		}
	}
}

// The limit holds for a body of unknown length too, and a client that goes away instead
// of sending leaves nothing.
func TestExpectBodyFails(t *testing.T) {
	leavesNoGoroutine(t)
	g, _ := startExpect(t)
	for _, secure := range []bool{false, true} {
		for _, path := range []string{"/open", "/reads"} {
			c := g.dial(secure)
			br := bufio.NewReader(c)
			fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n", path)
			_, _ = br.ReadString('\n')
			_, _ = br.ReadString('\n')
			_, _ = io.WriteString(c, "200000\r\n")
			sent := flood(c, 2<<20)
			if resp, _ := readResponse(t, br, false); resp.StatusCode != 413 {
				t.Errorf("%s: %d", path, resp.StatusCode)
			}
			_ = c.Close()
			<-sent
			for _, framing := range []string{"Content-Length: 10", "Content-Length: 100000", "Transfer-Encoding: chunked"} {
				c = g.dial(secure)
				fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n%s\r\n\r\n", path, framing)
				_, _ = bufio.NewReader(c).ReadString('\n')
				abort(c, "reset")
			}
		}
	}
}

// Old clients expect nothing, and no other expectation is known.
func TestExpectOthers(t *testing.T) {
	leavesNoGoroutine(t)
	g, _ := startExpect(t)
	resp, body := g.raw("POST /open HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")
	if resp.StatusCode != 200 || body != "5 <nil> []" {
		t.Errorf("HTTP/1.0: %d %q", resp.StatusCode, body)
	}
	// A client need not wait (RFC 9110 section 10.1.1).
	c := g.dial(false)
	_, _ = io.WriteString(c, "POST /open HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")
	br := bufio.NewReader(c)
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "\r\n" {
			break
		}
	}
	if resp, body := readResponse(t, br, false); resp.StatusCode != 200 || body != "5 <nil> []" {
		t.Errorf("not waiting: %d %q", resp.StatusCode, body)
	}
}

// curl uploads a file and is told before whether it may.
func TestExpectCurl(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatal("curl is missing: run .ci/tools, or install the package curl")
	}
	leavesNoGoroutine(t)
	g, _ := startExpect(t)
	f := func(secure bool, path string, size int, want ...string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "body")
		if err := os.WriteFile(file, bytes.Repeat([]byte("x"), size), 0o600); err != nil {
			t.Fatal(err)
		}
		base := "http://" + g.addr
		if secure {
			base = "https://" + g.tls
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		out, err := exec.CommandContext(ctx, "curl", "-skv", "--http1.1", "--noproxy", "*", "--expect100-timeout", "15", "-H", "Expect: 100-continue", "-T", file, base+path).CombinedOutput()
		if err != nil {
			t.Errorf("curl: %v\n%s", err, out)
		}
		for _, w := range want {
			text, absent := strings.CutPrefix(w, "!")
			if strings.Contains(string(out), text) == absent {
				t.Errorf("%s, %d bytes: %q is not so in\n%s", path, size, w, out)
			}
		}
		if n := strings.Count(string(out), "100 Continue"); n > 1 {
			t.Errorf("%d times 100", n)
		}
	}
	for _, secure := range []bool{false, true} {
		for _, size := range []int{10, 500000} {
			f(secure, "/open", size, "< HTTP/1.1 100 Continue", "< HTTP/1.1 200 OK", fmt.Sprintf("%d <nil> []", size))
			f(secure, "/reads?apikey=open-sesame", size, "< HTTP/1.1 100 Continue", "< HTTP/1.1 200 OK", fmt.Sprintf("%d <nil> []", size))
			f(secure, "/closed", size, "< HTTP/1.1 401", "!100 Continue")
		}
		f(secure, "/open", 2<<20, "< HTTP/1.1 413", "!100 Continue")
	}
}
