package filelog_test

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
	"github.com/sluice-gateway/sluice/engine/plugin/filelog"
)

//go:embed example.yaml
var example string

func document(path, more string) string {
	return "_format_version: \"3.0\"\nplugins:\n- {name: file-log, config: {path: '" + path + "'" + more + "}}\n"
}

// lines reads the records of a log; every line must be one.
func lines(t *testing.T, path string) []map[string]any {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		t.Errorf("the last line has no end: %q", text)
	}
	var list []map[string]any
	for line := range bytes.Lines(text) {
		var r map[string]any
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		list = append(list, r)
	}
	return list
}

func metricsText(g *pipelinetest.Gateway) string {
	var b bytes.Buffer
	g.Env.Metrics.WritePrometheus(&b)
	return b.String()
}

func TestExample(t *testing.T) {
	path := filepath.Join(t.TempDir(), "requests.log")
	document := strings.Replace(example, "/tmp/requests.log", path, 1)
	t.Run("log", func(t *testing.T) {
		pipelinetest.Open(t, document, filelog.Spec).Do("GET", "/orders?a=1")
	}) // the document is released here
	list := lines(t, path)
	if len(list) != 1 {
		t.Fatalf("%d lines", len(list))
	}
	if r := list[0]["request"].(map[string]any); r["uri"] != "/orders?a=1" || r["method"] != "GET" {
		t.Errorf("request %v", r)
	}
	if r := list[0]["route"].(map[string]any); r["name"] != "orders" {
		t.Errorf("route %v", r)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&^0o644 != 0 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// Nothing accepted is lost, whatever the goroutines that write it.
func TestNothingIsLost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	const workers, each = 4, 300
	t.Run("log", func(t *testing.T) {
		g := pipelinetest.Open(t, document(path, ""), filelog.Spec)
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				for i := range each {
					x := pipelinetest.NewExchange("GET", "/")
					x.RequestID[0], x.RequestID[31] = byte('a'+w), "0123456789abcdef"[i%16]
					g.Chain.Log(x)
				}
			})
		}
		wg.Wait()
	})
	if n := len(lines(t, path)); n != workers*each {
		t.Errorf("%d lines, want %d", n, workers*each)
	}
}

// A line is in the file a tenth of a second after it was accepted.
func TestDelay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	synctest.Test(t, func(t *testing.T) {
		g := pipelinetest.Open(t, document(path, ""), filelog.Spec)
		g.Do("GET", "/1")
		g.Do("GET", "/2")
		synctest.Wait()
		if n := len(lines(t, path)); n != 0 {
			t.Errorf("%d lines at once: not batched", n)
		}
		time.Sleep(100 * time.Millisecond) // of the bubble's clock
		synctest.Wait()
		if n := len(lines(t, path)); n != 2 {
			t.Errorf("%d lines after the delay", n)
		}
	})
}

func TestReopen(t *testing.T) {
	f := func(name, more string, rotate func(g *pipelinetest.Gateway, path string)) {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			synctest.Test(t, func(t *testing.T) {
				g := pipelinetest.Open(t, document(path, more), filelog.Spec)
				flush := func() {
					time.Sleep(time.Second)
					synctest.Wait()
				}
				g.Do("GET", "/1")
				flush()
				if err := os.Rename(path, path+".1"); err != nil {
					t.Fatal(err)
				}
				rotate(g, path)
				g.Do("GET", "/2")
				flush()
				if a, b := len(lines(t, path+".1")), len(lines(t, path)); a != 1 || b != 1 {
					t.Errorf("%d and %d lines", a, b)
				}
			})
		})
	}
	f("setting", ", reopen: true", func(*pipelinetest.Gateway, string) {})
	f("signal", "", func(g *pipelinetest.Gateway, path string) {
		kept, err := pipeline.Keep(g.Env, "file-log false "+path, func() (filelog.Reopener, error) { return nil, os.ErrNotExist })
		if err != nil {
			t.Fatal(err)
		}
		kept.Reopen()
	})
}

// A reader that stands still fills the queue. Requests do not wait for it: lines
// are dropped and counted, and what was accepted is written when it goes on.
func TestFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	var g *pipelinetest.Gateway
	const requests = 400
	written := make(chan int)
	t.Run("log", func(t *testing.T) {
		g = pipelinetest.Open(t, document(path, ""), filelog.Spec)
		big := strings.Repeat("x", 10<<10)
		for range requests { // 4 MiB into a shard of 1 MiB
			g.Do("GET", "/", "X-Big", big)
		}
		go func() {
			text, err := io.ReadAll(reader)
			if err != nil {
				t.Error(err)
			}
			written <- bytes.Count(text, []byte{'\n'})
		}()
	})
	n, dropped := <-written, 0
	for line := range strings.Lines(metricsText(g)) {
		if after, ok := strings.CutPrefix(line, `sluice_filelog_dropped_total{path="`+path+`"} `); ok {
			if err := json.Unmarshal([]byte(after), &dropped); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n+dropped != requests || n < 100 || dropped < 100 {
		t.Errorf("%d written, %d dropped", n, dropped)
	}
	if err := reader.Close(); err != nil {
		t.Error(err)
	}
}

func TestWriteErrors(t *testing.T) {
	var g *pipelinetest.Gateway
	t.Run("log", func(t *testing.T) {
		g = pipelinetest.Open(t, document("/dev/full", ""), filelog.Spec)
		g.Do("GET", "/")
	})
	text := metricsText(g)
	for _, want := range []string{`sluice_filelog_dropped_total{path="/dev/full"} 1`, `sluice_filelog_write_errors_total{path="/dev/full"} 1`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

func TestMissingDirectory(t *testing.T) {
	env := pipelinetest.NewEnv(t, document("/nonexistent/dir/log", ""), filelog.Spec)
	_, err := filelog.Spec.Build(env.Document.Plugins[0], env)
	if err == nil || !strings.Contains(err.Error(), "/nonexistent/dir/log") {
		t.Errorf("error %v", err)
	}
}

func TestFaults(t *testing.T) {
	f := func(settings, path, message string) {
		t.Helper()
		doc := "_format_version: \"3.0\"\nplugins:\n- name: file-log\n  config: " + settings + "\n"
		_, err := config.Read([]config.Source{{Name: "test.yaml", Data: []byte(doc)}},
			config.Options{Catalog: &pipeline.Specs{All: []pipeline.Spec{filelog.Spec}}})
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), message) {
			t.Errorf("%s: %v\nwant %q, %q", settings, err, path, message)
		}
	}
	f("{}", "path", "required field missing")
	f(`{path: ""}`, "path", "length")
	f(`{path: /tmp/x, custom_fields_by_lua: {a: "return os.time()"}}`, "custom_fields_by_lua.a", "not built yet")
	f(`{path: /tmp/x, custom_fields_by_lua: {a..b: "return 1"}}`, "custom_fields_by_lua", "empty name")
}

func TestAllocs(t *testing.T) {
	g := pipelinetest.Open(t, document("/dev/null", ", custom_fields_by_lua: {id: \"return kong.request.get_header('X-Request-ID')\"}"), filelog.Spec)
	g.Allocs(g.Exchange("GET", "/a?b=c&b=d", "X-Request-ID", "7", "Cookie", "a=b", "X-A", "1"), nil)
}

func BenchmarkLog(b *testing.B) {
	g := pipelinetest.Open(b, document("/dev/null", ""), filelog.Spec)
	x := g.Exchange("GET", "/orders/7?a=b", "User-Agent", "curl/8", "Accept", "*/*", "X-Request-ID", "7")
	x.Ctx.Response.Header.SetContentType("application/json")
	x.End = x.Start + 1e6
	b.ReportAllocs()
	for b.Loop() {
		g.Chain.Log(x)
	}
}
