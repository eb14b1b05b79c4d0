package engine_test

import (
	"strings"
	"testing"
)

const everything = `
_format_version: "3.0"
services:
- name: echo
  url: http://echo:80
  routes:
  - name: all
    paths: [/]
    strip_path: false
`

// What a proxy must not pass on, because the service could read it differently:
// both lanes answer 400 and end the connection. Every case is sent as it is
// and, to reach the general lane, with a field that the fast lane leaves to it.
func TestMalformedRequestsAreRefused(t *testing.T) {
	g := start(t, everything, echoes(t))
	f := func(name, text string) {
		t.Helper()
		for _, lane := range []string{"fast", "general"} {
			t.Run(name+"/"+lane, func(t *testing.T) {
				sent := text
				if lane == "general" {
					line, rest, _ := strings.Cut(text, "\r\n")
					sent = line + "\r\nUpgrade: x\r\n" + rest
				}
				resp, body := (&gateway{addr: g.addr, t: t}).raw(sent)
				if resp.StatusCode != 400 || !resp.Close {
					t.Errorf("got %d, close %t, want 400 and a closed connection\n%s", resp.StatusCode, resp.Close, body)
				}
				if !strings.HasPrefix(body, "Bad request\nrequest_id: ") {
					t.Errorf("body %q", body)
				}
			})
		}
	}
	// 1. Paths that could read differently at the service.
	f("encoded NUL", "GET /a%00b HTTP/1.1\r\nHost: a\r\n\r\n")
	f("broken escape", "GET /a%zz HTTP/1.1\r\nHost: a\r\n\r\n")
	f("encoded line break", "GET /a%0d%0aX-Evil:%201 HTTP/1.1\r\nHost: a\r\n\r\n")
	f("encoded tab", "GET /a%09b HTTP/1.1\r\nHost: a\r\n\r\n")
	f("backslash", "GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n")
	f("encoded backslash", "GET /a%5cb HTTP/1.1\r\nHost: a\r\n\r\n")
	f("fragment", "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n")
	// 2. Userinfo in Host would become an Authorization field.
	f("userinfo in host", "GET / HTTP/1.1\r\nHost: user:pass@a\r\n\r\n")
	f("slash in host", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n")
	f("no host", "GET / HTTP/1.1\r\nAccept: */*\r\n\r\n")
	f("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
	// 3. Two names for one request.
	f("absolute form, other host", "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n")
	f("absolute form, userinfo", "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n")
	f("CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n")
	// 7. Framing.
	f("length and chunked", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	f("chunked and length", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n")
	f("two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd")
	f("signed length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +3\r\n\r\nabc")
	f("list of lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3, 3\r\n\r\nabc")
	f("identity", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n")
	f("gzip, chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")
	f("chunked twice", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	f("space in a name", "GET / HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n")
	f("space before the colon", "GET / HTTP/1.1\r\nHost: a\r\nX-Y : b\r\n\r\n")
	f("folded line", "GET / HTTP/1.1\r\nHost: a\r\nX-Y: b\r\n c\r\n\r\n")
	f("bare LF", "GET / HTTP/1.1\r\nHost: a\r\nX-Y: b\nX-Z: c\r\n\r\n")
	f("bare CR", "GET / HTTP/1.1\r\nHost: a\r\nX-Y: b\rX-Z: c\r\n\r\n")
	f("NUL in a value", "GET / HTTP/1.1\r\nHost: a\r\nX-Y: b\x00\r\n\r\n")
	f("no colon", "GET / HTTP/1.1\r\nHost: a\r\nX-Y\r\n\r\n")
	f("no name", "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n")
}

// The path that is matched is the path that is sent on: one canonical form.
func TestPathIsForwardedInCanonicalForm(t *testing.T) {
	g := start(t, everything, echoes(t))
	f := func(sent, want string) {
		t.Helper()
		resp, body := g.raw("GET " + sent + " HTTP/1.1\r\nHost: a\r\n\r\n")
		if resp.StatusCode != 200 {
			t.Errorf("%s: %d %s", sent, resp.StatusCode, body)
			return
		}
		if got := echoed(t, body).URI; got != want {
			t.Errorf("%s: the service got %s, want %s", sent, got, want)
		}
	}
	f("/", "/")
	f("/a/b", "/a/b")
	f("/a//b", "/a/b")
	f("/a/./b/../c", "/a/c")
	f("/%61", "/a")
	f("/a%2fb", "/a%2Fb")
	f("/a%20b", "/a%20b")
	f("/%c3%a9%22%7c", "/%C3%A9%22%7C")
	f("/a%252fb", "/a%252fb")
	f("/a?", "/a?")
	f("/a?b=c&d=%20e", "/a?b=c&d=%20e")
	f("/a?b=/../c", "/a?b=/../c")
	f("http://a/x?y", "/x?y")
	f("/../../etc/passwd", "/etc/passwd")
}

// 4, 5, 6: scheme, connection, version and hop-by-hop fields of one side are
// not the other's.
func TestHopByHopFieldsStayOnTheirConnection(t *testing.T) {
	g := start(t, everything, echoes(t))
	resp, body := g.raw("GET /x HTTP/1.1\r\nHost: a\r\nConnection: close, X-Secret, Content-Length\r\nX-Secret: 1\r\nKeep-Alive: 5\r\n" +
		"Proxy-Connection: close\r\nProxy: evil\r\nTE: gzip\r\nX-Kept: 2\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-For: 203.0.113.9\r\nX-Real-IP: 203.0.113.9\r\n\r\n")
	if resp.StatusCode != 200 || !resp.Close {
		t.Fatalf("%d, close %t\n%s", resp.StatusCode, resp.Close, body)
	}
	e := echoed(t, body)
	for _, name := range []string{"X-Secret", "Keep-Alive", "Proxy-Connection", "Proxy", "Te", "Upgrade"} {
		if v, ok := e.Header[name]; ok {
			t.Errorf("%s was passed on: %q", name, v)
		}
	}
	for name, want := range map[string]string{
		"X-Kept": "2", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "a", "X-Forwarded-For": "203.0.113.9, 127.0.0.1",
		"X-Real-Ip": "127.0.0.1", "X-Forwarded-Path": "/x", "Via": "1.1 sluice", "Connection": "keep-alive",
	} {
		if got := strings.Join(e.Header[name], "|"); got != want {
			t.Errorf("%s: the service got %q, want %q", name, got, want)
		}
	}
	if id := e.Header["X-Kong-Request-Id"]; len(id) != 1 || len(id[0]) != 32 || resp.Header.Get("X-Kong-Request-Id") != id[0] {
		t.Errorf("request id: service %q, client %q", id, resp.Header.Get("X-Kong-Request-Id"))
	}
}

// HTTP/1.0 clients are answered in their version, and the service still gets
// HTTP/1.1 over a kept connection.
func TestOldClients(t *testing.T) {
	g := start(t, everything, echoes(t))
	resp, body := g.raw("GET / HTTP/1.0\r\nHost: a\r\n\r\n")
	if resp.StatusCode != 200 || !resp.Close {
		t.Fatalf("%d, close %t", resp.StatusCode, resp.Close)
	}
	if got := echoed(t, body).Header["Connection"]; len(got) != 1 || got[0] != "keep-alive" {
		t.Errorf("the service got Connection %q", got)
	}
}

// Headers above the limit are refused by name, not by a reset.
func TestHeaderLimit(t *testing.T) {
	g := start(t, everything, echoes(t))
	resp, body := g.raw("GET / HTTP/1.1\r\nHost: a\r\nX-Big: " + strings.Repeat("x", 20<<10) + "\r\n\r\n")
	if resp.StatusCode != 431 || !strings.HasPrefix(body, "Request header or cookie too large\n") {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
}
