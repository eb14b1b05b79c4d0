package engine_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// What is asked for behind a stale answer has the credentials of the client who got that:
// it is not kept for others.
func TestCacheKeepsNothingPersonalBehind(t *testing.T) {
	c := openCaching(t, byRFC)
	p := c.page(says{do: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Cache-Control", "max-age=5, stale-while-revalidate=600")
		w.Header().Set("Age", "10")
		_, _ = fmt.Fprintf(w, "for %q", r.Header.Get("Authorization"))
	}})
	p.get()
	if _, body := p.get("Authorization", "Bearer alice"); body != `for ""` {
		t.Errorf("the stale answer is %s", body)
	}
	eventually(t, "the answer is asked for anew", func() bool { return p.hits() >= 2 })
	for range 3 {
		if resp, body := p.get(); body != `for ""` {
			t.Errorf("a stranger got %s, %s", body, resp.Header.Get("X-Cache-Status"))
		}
	}
}

// A HEAD that is given a stale answer has the whole asked for, not a head.
func TestCacheHeadAsksForTheWholeBehind(t *testing.T) {
	c := openCaching(t, byRFC)
	var n atomic.Int64
	p := c.page(says{do: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Cache-Control", "max-age=5, stale-while-revalidate=600")
		w.Header().Set("Age", "10")
		_, _ = fmt.Fprintf(w, "whole %d", n.Add(1))
	}})
	ask := func(method string) (*http.Response, string) {
		return c.rawTo(false, method+" "+p.path+" HTTP/1.1\r\nHost: api.example.com\r\n\r\n")
	}
	ask("GET")
	if resp, _ := ask("HEAD"); resp.Header.Get("X-Cache-Status") != "Stale" {
		t.Errorf("HEAD: %s", resp.Header.Get("X-Cache-Status"))
	}
	eventually(t, "the answer that was asked for anew", func() bool {
		_, body := ask("GET")
		if !strings.HasPrefix(body, "whole ") {
			t.Fatalf("a client got %q", body)
		}
		return body != "whole 1"
	})
}

// A body that the key does not have must not decide what others get.
func TestCacheBodyOfGET(t *testing.T) {
	bothModes(t, func(c *caching) {
		p := c.page(ok("Cache-Control", "max-age=100"))
		resp, _ := c.rawTo(false, "GET "+p.path+" HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nevil")
		if status := resp.Header.Get("X-Cache-Status"); status != "Bypass" {
			c.t.Errorf("a request with a body: %s", status)
		}
		resp, _ = c.rawTo(false, "GET "+p.path+" HTTP/1.1\r\nHost: a\r\n\r\n")
		if status := resp.Header.Get("X-Cache-Status"); status != "Miss" || p.hits() != 2 {
			c.t.Errorf("a stranger after it: %s, %d requests at the origin", status, p.hits())
		}
	})
}

// A client who never sends the body it has announced holds nobody up.
func TestCacheExpectingLeader(t *testing.T) {
	c := openCaching(t, "cache_ttl: 100, coalesce_timeout: 600000")
	p := c.page(ok())
	conn := c.dial(false)
	defer conn.Close()
	_, _ = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", p.path)
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "100") {
		t.Fatalf("%q, %v", line, err)
	}
	if resp, _ := c.rawTo(false, "GET "+p.path+" HTTP/1.1\r\nHost: a\r\n\r\n"); resp.StatusCode != 200 {
		t.Errorf("%d", resp.StatusCode)
	}
}

// Two caches that a request passes have it wait for neither.
func TestCacheBehindCache(t *testing.T) {
	const settings = "cache_ttl: 100, coalesce_timeout: 600000"
	for _, second := range []string{"proxy-cache", "proxy-cache-advanced"} {
		c := openCaching(t, settings+"}}, {name: "+second+", config: {memory: {size: 4m}, "+settings)
		p := c.page(ok())
		done := make(chan string, 1)
		go func() {
			resp, _ := c.rawTo(false, "GET "+p.path+" HTTP/1.1\r\nHost: a\r\n\r\n")
			done <- resp.Header.Get("X-Cache-Status")
		}()
		select {
		case status := <-done:
			if status != "Miss" {
				t.Errorf("%s: X-Cache-Status: %s", second, status)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: the request waits for itself", second)
		}
	}
}

// What the gateway itself tells the service is not in the request as clients send it: an
// answer that differs by it is kept for nobody.
func TestCacheVaryByWhatTheGatewaySets(t *testing.T) {
	for _, name := range []string{"X-Real-IP", "x-forwarded-for", "Accept, Forwarded", "Via"} {
		c := openCaching(t, byRFC)
		p := c.page(ok("Cache-Control", "max-age=100", "Vary", name))
		p.get()
		if resp, _ := p.get(); resp.Header.Get("X-Cache-Status") != "Bypass" {
			t.Errorf("Vary: %s: %s", name, resp.Header.Get("X-Cache-Status"))
		}
	}
}

// Every line of a header that is part of the key is.
func TestCacheKeyOfTwoLines(t *testing.T) {
	c := openCaching(t, "vary_headers: [X-Lang], cache_ttl: 100")
	p := c.page(says{do: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = fmt.Fprintf(w, "%q", r.Header["X-Lang"])
	}})
	for lines, want := range map[string]string{
		"X-Lang: en\r\nX-Lang: evil\r\n": `["en" "evil"]`, "X-Lang: en\r\n": `["en"]`, "X-Lang: en=evil\r\n": `["en=evil"]`, "X-Lang: en,evil\r\n": `["en,evil"]`, "": `[]`,
	} {
		if _, body := c.rawTo(false, "GET "+p.path+" HTTP/1.1\r\nHost: a\r\n"+lines+"\r\n"); body != want {
			t.Errorf("%q got %s", lines, body)
		}
	}
}

// A request that wants it new does not read along an answer that began before it came.
func TestCacheReadAlongOnDemand(t *testing.T) {
	c := openCaching(t, byRFC)
	goes := make(chan struct{})
	p := c.page(says{do: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Cache-Control", "max-age=100")
		_, _ = io.WriteString(w, strings.Repeat("x", 1000))
		w.(http.Flusher).Flush()
		if r.Header.Get("Cache-Control") == "" {
			<-goes
		}
	}})
	leader := make(chan struct{})
	go func() {
		defer close(leader)
		p.get()
	}()
	eventually(t, "the first request", func() bool { return p.hits() == 1 })
	p.get("Cache-Control", "no-cache")
	close(goes)
	<-leader
	if p.hits() != 2 {
		t.Errorf("%d requests at the origin", p.hits())
	}
}
