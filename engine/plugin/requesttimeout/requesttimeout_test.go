package requesttimeout

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
)

func document(settings string) string {
	return `
_format_version: "3.0"
services:
- {name: a, url: "http://a.internal"}
routes:
- {name: r, service: a, paths: [/]}
plugins:
- name: request-timeout
  config: {` + settings + "}\n"
}

func read(text string) error {
	_, err := config.Read([]config.Source{{Name: "test.yaml", Data: []byte(text)}},
		config.Options{Catalog: &pipeline.Specs{All: []pipeline.Spec{Spec}}})
	return err
}

func TestSettingsRefused(t *testing.T) {
	f := func(settings, want string) {
		t.Helper()
		if err := read(document(settings)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("{%s}:\n got %v\nwant %s", settings, err, want)
		}
	}
	const none = "at least one of these fields must be greater than 0: 'http_timeout', 'stream_timeout'"
	f("", none)
	f("http_timeout: 0", none)
	f("http_timeout: 0, stream_timeout: 0", none)
	f("http_timeout: null", none)
	f("http_timeout: -1", "http_timeout: value should be between 0 and 2147483646")
	f("http_timeout: 2147483647", "http_timeout: value should be between 0 and 2147483646")
	f("stream_timeout: -1", "stream_timeout: value should be between 0 and 2147483646")
	f("http_timeout: 5s", "http_timeout: expected an integer")
	f("http_timeout: 0.5", "http_timeout: expected an integer")
	f("timeout: 5000", "unknown field")
}

func TestSettingsMissing(t *testing.T) {
	err := read("_format_version: \"3.0\"\nplugins:\n- name: request-timeout\n")
	if err == nil || !strings.Contains(err.Error(), "'http_timeout', 'stream_timeout'") {
		t.Errorf("an instance without config: %v", err)
	}
}

func TestExampleLoads(t *testing.T) {
	example, err := os.ReadFile("example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	x := pipelinetest.Open(t, string(example), Spec).Do("GET", "/orders")
	if x.Deadline-x.Start != int64(5*time.Second) || x.StreamIdle != 30*time.Second {
		t.Errorf("deadline %v after the start, silence %v", time.Duration(x.Deadline-x.Start), x.StreamIdle)
	}
}

func TestTimeouts(t *testing.T) {
	f := func(settings string, total, silent time.Duration) {
		t.Helper()
		x := pipelinetest.Open(t, document(settings), Spec).Do("GET", "/")
		var got time.Duration
		if x.Deadline != 0 {
			got = time.Duration(x.Deadline - x.Start)
		}
		if got != total || x.StreamIdle != silent {
			t.Errorf("{%s}: total %v, silence %v; want %v, %v", settings, got, x.StreamIdle, total, silent)
		}
	}
	f("http_timeout: 5000", 5*time.Second, 0)
	f("http_timeout: 5000.0", 5*time.Second, 0)
	f("stream_timeout: 30000", 0, 30*time.Second)
	f("http_timeout: 1, stream_timeout: 2", time.Millisecond, 2*time.Millisecond)
	f("http_timeout: 2147483646", 2147483646*time.Millisecond, 0)
}

func TestNoAllocations(t *testing.T) {
	g := pipelinetest.Open(t, document("http_timeout: 5000, stream_timeout: 30000"), Spec)
	g.Allocs(g.Exchange("GET", "/"), nil)
}
