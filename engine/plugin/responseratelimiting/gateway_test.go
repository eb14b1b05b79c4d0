package responseratelimiting_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/engine"
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/plugin/responseratelimiting"
)

// TestWithheldStream is that a streamed answer that comes too late is not sent, over
// real sockets, and the connection is good for another request.
func TestWithheldStream(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Kong-Limit", "videos=1")
		w.Header().Set("X-Seen", r.Header.Get("X-RateLimit-Remaining-videos"))
		piece := strings.Repeat("film ", 4096)
		for range 32 {
			if _, err := io.WriteString(w, piece); err != nil {
				return
			}
			w.(http.Flusher).Flush()
		}
	}))
	defer service.Close()
	specs := &pipeline.Specs{All: []pipeline.Spec{responseratelimiting.Spec}}
	d, err := config.Read([]config.Source{{Name: "test.yaml", Data: fmt.Appendf(nil, `
_format_version: "3.0"
services:
- {name: a, url: %q, routes: [{name: r, paths: [/]}]}
plugins:
- {name: response-ratelimiting, config: {limits: {videos: {year: 1}}}}
`, service.URL)}}, config.Options{Catalog: specs})
	if err != nil {
		t.Fatal(err)
	}
	d.Gateway.ProxyListen = config.Listeners{{Host: "127.0.0.1", Port: 0}}
	e, err := engine.Open(d, engine.Options{Plugins: specs, Version: "test", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	addrs, err := e.Listen()
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	f := func(method string, status, size int, seen string) {
		t.Helper()
		q, err := http.NewRequest(method, "http://"+addrs[0].String()+"/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != status || len(body) != size || resp.Header.Get("X-Seen") != seen || resp.Header.Get("X-Kong-Limit") != "" {
			t.Errorf("%s: %d, %d bytes, %v, headers %v", method, resp.StatusCode, len(body), err, resp.Header)
		}
		if status == 429 && method != "HEAD" && resp.ContentLength != 0 {
			t.Errorf("%s: Content-Length %d", method, resp.ContentLength)
		}
	}
	f("GET", 200, 32*5*4096, "1")
	f("GET", 429, 0, "0")
	f("POST", 429, 0, "0")
	f("HEAD", 429, 0, "0")
	f("GET", 429, 0, "0")
}
