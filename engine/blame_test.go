package engine_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// blamed returns a document with one target that a single timeout or broken connection
// puts out, a service whose circuit a single failure opens, and a limit on the time of a
// whole request. A kind of failure whose limit is 0 does not count.
func blamed(timeouts, broken int, service string) string {
	return one(fmt.Sprintf("healthchecks: {passive: {open_duration: 60, unhealthy: {timeouts: %d, tcp_failures: %d}}}", timeouts, broken),
		"retries: 0\ncircuit_breaker: {consecutive_failures: 1, open_duration: 60}\n"+service)
}

// whole bounds the time of a request, to its last byte.
const whole = "plugins:\n- {name: request-timeout, config: {http_timeout: 200}}\n"

// connect opens a connection of a client, for a request as it is.
func (g *gateway) connect() net.Conn {
	g.t.Helper()
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// blames checks whether a:1 is out. Else another request must be answered well.
func (g *gateway) blames(what string, out bool) {
	g.t.Helper()
	health, _ := g.state("a:1")
	_, circuit := g.state("s")
	switch {
	case out && health != "unhealthy":
		g.t.Errorf("%s: the target is %s", what, health)
	case !out && (health != "healthy" || circuit != "closed"):
		g.t.Errorf("%s: the target is %s, the circuit of the service %s", what, health, circuit)
	}
}

// answersLate is a service that begins to answer at once and ends when it has read all.
func answersLate(w http.ResponseWriter, r *http.Request) {
	c := http.NewResponseController(w)
	_ = c.EnableFullDuplex()
	w.WriteHeader(http.StatusOK)
	_ = c.Flush()
	n, _ := io.Copy(io.Discard, r.Body)
	fmt.Fprint(w, n)
}

// A client that takes longer to send its body than the whole request may is late by its
// own fault: neither its target nor the service suffers for it.
func TestSlowUploadsBlameNobody(t *testing.T) {
	const retry = "- {name: proxy-retry, config: {retries: 1, jitter: 0, " + quick + "}}\n"
	f := func(name, plugins, path string) {
		t.Helper()
		o := served(t, false, answersLate)
		if path == "/late" {
			o = served(t, false, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
		}
		g := start(t, blamed(1, 1, ""), o)
		if plugins != "" {
			g.apply(blamed(1, 1, "") + plugins)
		}
		c := g.connect()
		fmt.Fprintf(c, "PUT %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", path)
		go stepped(c, 12, 50*time.Millisecond)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != 504 && (resp.StatusCode != 200 || err == nil) {
			t.Errorf("%s: %d, %v: it was in time", name, resp.StatusCode, err)
		}
		g.blames(name, false)
	}
	f("before the answer", whole, "/late")
	f("within the answer", whole, "/")
	f("kept to be sent again", whole+retry, "/late")
	f("by attempt", "plugins:\n"+strings.Replace(retry, "retries: 1", "retries: 1, max_body_size: 1, per_try_timeout: 200", 1), "/late")
}

// A service that does not read what it is sent is late by its own fault.
func TestUnreadUploadsBlameTheTarget(t *testing.T) {
	end := make(chan struct{})
	t.Cleanup(func() { close(end) })
	g := start(t, blamed(1, 0, "")+whole, rawOrigin(t, func(net.Conn, int) { <-end }))
	if resp, _ := g.do("POST", "/", strings.Repeat("x", 32<<20)); resp.StatusCode != 504 {
		t.Errorf("status %d", resp.StatusCode)
	}
	g.blames("an upload that is not read", true)
}

// A client that takes longer to read an answer than the whole request may is late by its
// own fault, however the answer is framed.
func TestSlowDownloadsBlameNobody(t *testing.T) {
	f := func(length string) {
		t.Helper()
		s := newStage(t)
		g := s.start(blamed(1, 1, "") + whole)
		s.cast("a:1", role{answer: func(w http.ResponseWriter, _ *http.Request) {
			if length != "" {
				w.Header().Set("Content-Length", length)
			}
			_, _ = io.CopyN(w, endless{}, 64<<20)
		}})
		c := g.connect()
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		br := bufio.NewReader(c)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(400 * time.Millisecond)
		if n, err := io.Copy(io.Discard, resp.Body); err == nil {
			t.Errorf("length %q: all %d bytes came", length, n)
		}
		g.blames(fmt.Sprintf("length %q", length), false)
	}
	f("67108864")
	f("")
}

// breaksOff is a role that sends what begin says, then nothing, or the end of the
// connection.
func breaksOff(begin string, ends bool) role {
	return role{answer: func(w http.ResponseWriter, r *http.Request) {
		c, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = buf.WriteString("HTTP/1.1 200 OK\r\n" + begin)
		_ = buf.Flush()
		if !ends {
			_, _ = c.Read(make([]byte, 1)) // until the gateway has had enough
		}
	}}
}

// A service that falls silent in the middle of an answer has timed out; one that ends
// the connection there has broken it. Each counts as what it is.
func TestSilenceInTheBodyIsATimeout(t *testing.T) {
	f := func(begin string, ends bool, timeouts, broken int, out bool) {
		t.Helper()
		s := newStage(t)
		g := s.start(blamed(timeouts, broken, "read_timeout: 100"))
		s.cast("a:1", breaksOff(begin, ends))
		if a := g.send(noRedirects, "GET", "/", http.NoBody); a.status() != 200 || !a.cut() {
			t.Errorf("%q: %d, %v", begin, a.status(), a.err)
		}
		g.blames(fmt.Sprintf("%.40q, end %t, limits %d and %d", begin, ends, timeouts, broken), out)
	}
	for _, begin := range []string{
		"Content-Length: 1000000\r\n\r\nabc",
		"Transfer-Encoding: chunked\r\n\r\n10\r\nabc",
		"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
		"Transfer-Encoding: chunked\r\n\r\n3\r\nabc",
		"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
	} {
		f(begin, false, 1, 0, true)
		f(begin, false, 0, 1, false)
		f(begin, true, 0, 1, true)
		f(begin, true, 1, 0, false)
	}
}

// Of a target that refuses connections no latency can be measured. It gets one as if it
// were slow: little that is sent may go there, and it is tried again when it is back.
func TestRefusalsAreSlow(t *testing.T) {
	s := newStage(t)
	g := s.start(balanced("algorithm: latency", "retries: 0"))
	c := kept(t)
	ask := func(n int) (failed int) {
		for range n {
			if a := g.send(c, "GET", "/", http.NoBody); a.status() != 200 {
				failed++
			}
		}
		return failed
	}
	s.everywhere(role{delay: 2 * time.Millisecond})
	ask(30)
	last := g.send(c, "GET", "/", http.NoBody)
	s.cast(last.origin(t), role{refuse: true})
	if failed := ask(60); failed > 3 {
		t.Errorf("%d of 60 requests went to the target that was the fastest and is down", failed)
	}
	// However long all of them are down, one that is back is found.
	s.everywhere(role{refuse: true})
	ask(300)
	s.cast("b:1", role{})
	ask(100)
	if failed := ask(60); failed > 0 {
		t.Errorf("%d of 60 requests did not find the only target that is back", failed)
	}
}
