package engine_test

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/engine/downstream"
)

// chunkedOrigin answers every request with text, which is chunked, and sends the trailer
// of the request to got.
func chunkedOrigin(t *testing.T, head, body string, got chan<- http.Header) *origins {
	return rawOrigin(t, func(c net.Conn, _ int) {
		br := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return
			}
			if got != nil {
				got <- r.Trailer
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+head+"Transfer-Encoding: chunked\r\n\r\n"+body)
		}
	})
}

// Trailer fields of an answer go to a client that takes them, and to no other. Some are
// not for trailers at all.
func TestTrailersOfAnswers(t *testing.T) {
	const head = "Trailer: X-Sum, X-Count\r\n"
	big := strings.Repeat("x", 100000)
	chunks := "5\r\nhello\r\n186a0\r\n" + big + "\r\n0\r\n"
	f := func(name, head, trailer, te string, want http.Header) {
		t.Run(name, func(t *testing.T) {
			leavesNoGoroutine(t)
			for _, chunks := range []string{"5\r\nhello\r\n0\r\n", chunks} {
				g := startLanes(t, service("http://s:80", ""), chunkedOrigin(t, head, chunks+trailer+"\r\n", nil), downstream.Timeouts{})
				for _, secure := range []bool{false, true} {
					c := g.dial(secure)
					br := bufio.NewReader(c)
					for range 2 { // the second would notice bytes left by the first
						fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", te)
						resp, body := readResponse(t, br, false)
						if resp.StatusCode != 200 || !strings.HasPrefix(body, "hello") {
							t.Fatalf("TLS %t: %d %.40q", secure, resp.StatusCode, body)
						}
						maps.DeleteFunc(resp.Trailer, func(_ string, values []string) bool { return values == nil }) // announced only
						if len(resp.Trailer)+len(want) > 0 && fmt.Sprint(resp.Trailer) != fmt.Sprint(want) {
							t.Errorf("TLS %t, %d bytes: trailer %v, want %v", secure, len(body), resp.Trailer, want)
						}
						if te == "" && resp.Header.Get("Trailer") != "" {
							t.Errorf("TLS %t: a trailer is announced", secure)
						}
						if resp.Header.Get("X-Sum") != "" {
							t.Errorf("TLS %t: a trailer field in the header", secure)
						}
					}
				}
			}
		})
	}
	const both = "X-Sum: abc\r\nX-Count: 2\r\n"
	const te = "TE: trailers\r\n"
	wanted := http.Header{"X-Sum": {"abc"}, "X-Count": {"2"}}
	f("taken", head, both, te, wanted)
	f("taken, named in Connection", head, both, "TE: trailers\r\nConnection: TE\r\n", wanted)
	f("taken among others", head, both, "TE: gzip;q=0.5, trailers\r\n", wanted)
	f("not taken", head, both, "", nil)
	f("not taken but gzip", head, both, "TE: gzip\r\n", nil)
	f("announced and absent", head, "", te, nil)
	f("unannounced", "", both, te, nil)
}

// Fields that frame or route a message are never passed as trailer fields.
func TestTrailersForbidden(t *testing.T) {
	leavesNoGoroutine(t)
	for _, name := range []string{"Content-Length", "Transfer-Encoding", "Set-Cookie", "Connection", "Host", "Trailer", "Authorization"} {
		for _, announced := range []string{"Trailer: " + name + "\r\n", "Trailer: X-Sum\r\n", "Trailer: X-Sum, " + name + "\r\n"} {
			o := chunkedOrigin(t, announced, "5\r\nhello\r\n0\r\nX-Sum: abc\r\n"+name+": 7\r\n\r\n", nil)
			g := startLanes(t, service("http://s:80", ""), o, downstream.Timeouts{})
			for _, secure := range []bool{false, true} {
				c := g.dial(secure)
				_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close\r\n\r\n")
				all, err := io.ReadAll(c)
				_, tail, whole := strings.Cut(string(all), "\r\n0\r\n")
				if err != nil || !strings.HasPrefix(string(all), "HTTP/1.1 ") || whole && strings.Contains(tail, name+":") {
					t.Errorf("%s, %q: %q %v", name, announced, all, err)
				}
				_ = c.Close()
			}
		}
	}
}

// A client of the standard library sees the trailer too.
func TestTrailersOfHTTPClient(t *testing.T) {
	leavesNoGoroutine(t)
	o := served(t, false, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Sum")
		fmt.Fprintf(w, "%s %v", body, r.Trailer)
		w.(http.Flusher).Flush()
		w.Header().Set("X-Sum", "of it")
	})
	g := startLanes(t, service("http://s:80", ""), o, downstream.Timeouts{})
	for _, secure := range []bool{false, true} {
		client, base := g.client(secure)
		for range 3 {
			req, err := http.NewRequest(http.MethodPost, base+"/", io.MultiReader(strings.NewReader("some"), strings.NewReader(" more")))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("TE", "trailers")
			req.Trailer = http.Header{"X-End": {"is near"}}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || string(body) != "some more map[X-End:[is near]]" || resp.Trailer.Get("X-Sum") != "of it" {
				t.Errorf("%q %v %v", body, resp.Trailer, err)
			}
		}
	}
}

// The trailer of a request reaches the service, but for what it must not say.
func TestTrailersOfRequests(t *testing.T) {
	leavesNoGoroutine(t)
	got := make(chan http.Header, 1)
	g := startLanes(t, service("http://s:80", ""), chunkedOrigin(t, "", "5\r\nhello\r\n0\r\n\r\n", got), downstream.Timeouts{})
	f := func(announced, trailer string, status int, want string) {
		t.Helper()
		for _, secure := range []bool{false, true} {
			c := g.dial(secure)
			fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a\r\n%sTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n%s\r\n", announced, trailer)
			if resp, _ := readResponse(t, bufio.NewReader(c), false); resp.StatusCode != status {
				t.Errorf("%q %q: %d, want %d", announced, trailer, resp.StatusCode, status)
			}
			if status == 200 {
				if h := <-got; fmt.Sprint(map[string][]string(h)) != want {
					t.Errorf("%q %q: the service got %v, want %s", announced, trailer, h, want)
				}
			}
			_ = c.Close()
		}
	}
	f("Trailer: X-A, X-B\r\n", "X-A: 1\r\nX-B: 2\r\n", 200, "map[X-A:[1] X-B:[2]]")
	f("Trailer: X-A\r\n", "", 200, "map[X-A:[]]")
	f("", "", 200, "map[]")
	f("Trailer: X-A\r\n", "X-A: 1\r\nContent-Length: 5\r\n", 400, "")
	f("Trailer: X-A\r\n", "X-A: 1\r\nX-Forwarded-For: 6.6.6.6\r\n", 400, "")
	f("Trailer: Transfer-Encoding\r\n", "X-A: 1\r\n", 400, "")
}

// A trailer that arrives with the answer under way, while hooks look at the request.
func TestTrailersWhileAnswering(t *testing.T) {
	leavesNoGoroutine(t)
	o := served(t, false, func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		_ = c.EnableFullDuplex()
		_, _ = io.WriteString(w, "begin")
		_ = c.Flush()
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, " %v", r.Trailer)
	})
	g := startLanes(t, "gateway: {allow_debug_header: true}\n"+service("http://s:80", "")+
		"plugins:\n- {name: correlation-id, config: {echo_downstream: true}}\n- {name: response-transformer, config: {add: {headers: [\"x-a:b\"]}}}\n", o, downstream.Timeouts{})
	for _, secure := range []bool{false, true} {
		c := g.dial(secure)
		br := bufio.NewReader(c)
		for i := range 200 {
			fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: X-A\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-A: %d\r\n\r\n", i)
			if resp, body := readResponse(t, br, false); resp.StatusCode != 200 || body != fmt.Sprintf("begin map[X-A:[%d]]", i) || resp.Header.Get("X-A") != "b" {
				t.Fatalf("%d %q %v", resp.StatusCode, body, resp.Header)
			}
		}
	}
}

// An answer that is held back as a whole, for a hook or an old client, has no trailer.
func TestTrailersOfHeldAnswers(t *testing.T) {
	leavesNoGoroutine(t)
	o := chunkedOrigin(t, "Content-Type: application/json\r\nTrailer: X-Sum\r\n", "7\r\n{\"a\":1}\r\n0\r\nX-Sum: abc\r\n\r\n", nil)
	g := startLanes(t, service("http://s:80", "")+"plugins:\n- {name: response-transformer, config: {add: {json: [\"b:2\"]}}}\n", o, downstream.Timeouts{})
	plain := startLanes(t, service("http://s:80", ""), o, downstream.Timeouts{})
	f := func(g *lanes, secure bool, version, want string) {
		t.Helper()
		c := g.dial(secure)
		_, _ = io.WriteString(c, "GET / HTTP/"+version+"\r\nHost: a\r\nTE: trailers\r\nConnection: close\r\n\r\n")
		resp, body := readResponse(t, bufio.NewReader(c), false)
		if body != want || resp.Header.Get("X-Sum") != "" || resp.Header.Get("Trailer") != "" || len(resp.Trailer) > 0 || resp.ContentLength != int64(len(want)) {
			t.Errorf("%d %v %q, trailer %v", resp.StatusCode, resp.Header, body, resp.Trailer)
		}
	}
	for _, secure := range []bool{false, true} {
		f(g, secure, "1.1", `{"a":1,"b":"2"}`)
		f(plain, secure, "1.0", `{"a":1}`)
	}
}
