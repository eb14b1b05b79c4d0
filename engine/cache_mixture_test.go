package engine_test

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// What the service lets stand is what was asked about, not what has taken its place
// meanwhile: no answer has the header of one and the body of another.
func TestCacheLateValidation(t *testing.T) {
	c := openCaching(t, "rfc: true, coalesce: false")
	late := make(chan struct{})
	var n atomic.Int64
	p := c.page(says{do: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Cache-Control", "max-age=100")
		switch n.Add(1) {
		case 1:
			w.Header().Set("Etag", `"A"`)
			_, _ = io.WriteString(w, "body A")
		case 2:
			<-late
			w.Header().Set("Etag", `"A"`)
			w.WriteHeader(http.StatusNotModified)
		default:
			w.Header().Set("Etag", `"B"`)
			_, _ = io.WriteString(w, "body B is newer")
		}
	}})
	p.get()
	slow := make(chan string)
	go func() {
		_, body := p.get("Cache-Control", "no-cache")
		slow <- body
	}()
	eventually(t, "the first validation", func() bool { return p.hits() == 2 })
	p.get("Cache-Control", "no-cache")
	close(late)
	if body := <-slow; body != "body A" {
		t.Errorf("what stood is %q", body)
	}
	if resp, body := p.get(); resp.Header.Get("Etag") != `"B"` || body != "body B is newer" {
		t.Errorf("%s with %q", resp.Header.Get("Etag"), body)
	}
}

// A request that does not read along a stream asks for the whole of it: it does not have
// what it could ask about.
func TestCacheStreamIsNotWhatWasFound(t *testing.T) {
	c := openCaching(t, byRFC)
	goes := make(chan struct{})
	var n atomic.Int64
	p := c.page(says{do: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Cache-Control", "max-age=10")
		w.Header().Set("Age", "20") // stale from the beginning
		if n.Add(1) == 1 {
			w.Header().Set("Etag", `"A"`)
			_, _ = io.WriteString(w, "body A")
			return
		}
		w.Header().Set("Etag", `"B"`)
		if r.Header.Get("If-None-Match") == `"B"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = io.WriteString(w, strings.Repeat("B", 1000))
		if n.Load() == 2 {
			w.(http.Flusher).Flush()
			<-goes
		}
	}})
	p.get()
	leader := make(chan struct{})
	go func() {
		defer close(leader)
		p.get()
	}()
	eventually(t, "the stream", func() bool { return p.hits() == 2 })
	if resp, body := p.get(); resp.Header.Get("Etag") != `"B"` || body != strings.Repeat("B", 1000) {
		t.Errorf("%s with %.10q", resp.Header.Get("Etag"), body)
	}
	close(goes)
	<-leader
}

// A method that changes something does so also where its answers are kept (RFC 9111 4.4).
func TestCacheKeptMethodInvalidates(t *testing.T) {
	c := openCaching(t, "cache_control: true, request_method: [GET, POST]")
	p := c.page(ok("Cache-Control", "max-age=100"))
	ask := func(method string) string {
		resp, _ := c.rawTo(false, method+" "+p.path+" HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 0\r\n\r\n")
		return resp.Header.Get("X-Cache-Status")
	}
	for i, want := range []string{"Miss", "Hit"} {
		if got := ask("GET"); got != want {
			t.Errorf("GET %d: %s", i, got)
		}
	}
	ask("POST")
	if got := ask("GET"); got == "Hit" {
		t.Error("what a POST has changed is given as it was")
	}
}
