//go:build unix

package quota_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine"
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/plugin/quota"
	"github.com/sluice-gateway/sluice/engine/plugin/requesttermination"
	"github.com/sluice-gateway/sluice/engine/redis/redistest"
)

// serve opens a gateway over a document like block 11 of the patterns, and returns its
// address.
func serve(t *testing.T, service, dir string) (*engine.Engine, string) {
	t.Helper()
	specs := &pipeline.Specs{All: []pipeline.Spec{quota.Spec, requesttermination.Spec}}
	d, err := config.Read([]config.Source{{Name: "test.yaml", Data: fmt.Appendf(nil, `
_format_version: "3.0"
services:
- {name: a, url: %q, routes: [{name: r, paths: [/]}]}
plugins:
  - name: request-termination
    enabled: false  # Will be enabled when quota exceeded
    config: {status_code: 402, message: Pay}
plugins:
  - name: acme  # Custom quota tracking plugin
    config:
      quota:
        month: 3
      reset_on: first_day
      state_dir: %q
`, service, dir)}}, config.Options{Catalog: specs})
	if err != nil {
		t.Fatal(err)
	}
	d.Gateway.ProxyListen = config.Listeners{{Host: "127.0.0.1", Port: 0}}
	e, err := engine.Open(d, engine.Options{Plugins: specs, Version: "test", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := e.Listen()
	if err != nil {
		t.Fatal(err)
	}
	return e, "http://" + addrs[0].String()
}

// TestGateway counts over real sockets: a service that fails costs nothing, one that is
// away neither, counts are written while the gateway runs and are there after a restart.
func TestGateway(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/fails" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer service.Close()
	dir := t.TempDir()
	client := &http.Client{Transport: &http.Transport{}, Timeout: time.Minute}
	e, base := serve(t, service.URL, dir)
	f := func(path string, status int, left string) {
		t.Helper()
		resp, err := client.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if got := resp.Header.Get("X-Quota-Remaining"); resp.StatusCode != status || got != left {
			t.Errorf("%s: %d, %s left, want %d, %s", path, resp.StatusCode, got, status, left)
		}
	}
	f("/", 200, "2")
	f("/fails", 500, "1")
	f("/", 200, "1")
	files := func() []string {
		found, err := filepath.Glob(filepath.Join(dir, "quota", "*", "month-first_day-UTC", "counts-*"))
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	redistest.Eventually(t, "counts are written", func() bool {
		info, err := os.Stat(files()[0])
		return err == nil && info.Size() > 100
	})
	if r := e.Reports("quota"); len(r) != 1 {
		t.Errorf("reports %v", r)
	}
	stop := func() {
		t.Helper()
		client.CloseIdleConnections()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := e.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	}
	stop()
	e, base = serve(t, service.URL, dir)
	f("/", 200, "0")
	f("/", 402, "0")
	f("/fails", 402, "0")
	stop()
}
