package upstreamtimeout

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
- name: upstream-timeout
  config: {` + settings + "}\n"
}

func TestSettingsRefused(t *testing.T) {
	f := func(settings, want string) {
		t.Helper()
		_, err := config.Read([]config.Source{{Name: "test.yaml", Data: []byte(document(settings))}},
			config.Options{Catalog: &pipeline.Specs{All: []pipeline.Spec{Spec}}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("{%s}:\n got %v\nwant %s", settings, err, want)
		}
	}
	const none = "at least one of these fields must be greater than 0: 'connect_timeout', 'send_timeout', 'read_timeout'"
	f("", none)
	f("connect_timeout: 0", none)
	f("connect_timeout: 0, send_timeout: 0, read_timeout: 0", none)
	f("connect_timeout: -1", "connect_timeout: value should be between 0 and 2147483646")
	f("send_timeout: 2147483647", "send_timeout: value should be between 0 and 2147483646")
	f("read_timeout: soon", "read_timeout: expected an integer")
	f("write_timeout: 1000", "unknown field")
}

func TestExampleLoads(t *testing.T) {
	example, err := os.ReadFile("example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	x := pipelinetest.Open(t, string(example), Spec).Do("GET", "/reports")
	if x.Timeouts == nil || *x.Timeouts != (pipeline.Timeouts{Read: 2 * time.Minute}) {
		t.Errorf("timeouts %+v", x.Timeouts)
	}
}

func TestTimeouts(t *testing.T) {
	f := func(settings string, want pipeline.Timeouts) {
		t.Helper()
		g := pipelinetest.Open(t, document(settings), Spec)
		x := g.Do("GET", "/")
		if x.Timeouts == nil || *x.Timeouts != want {
			t.Errorf("{%s}: %+v, want %+v", settings, x.Timeouts, want)
		}
	}
	f("connect_timeout: 5000", pipeline.Timeouts{Connect: 5 * time.Second})
	f("send_timeout: 1", pipeline.Timeouts{Write: time.Millisecond})
	f("read_timeout: 2147483646, connect_timeout: null", pipeline.Timeouts{Read: 2147483646 * time.Millisecond})
	f("connect_timeout: 1, send_timeout: 2, read_timeout: 3",
		pipeline.Timeouts{Connect: time.Millisecond, Write: 2 * time.Millisecond, Read: 3 * time.Millisecond})
	f("connect_timeout: 0, read_timeout: 3", pipeline.Timeouts{Read: 3 * time.Millisecond})
}

func TestNoAllocations(t *testing.T) {
	g := pipelinetest.Open(t, document("read_timeout: 5000"), Spec)
	g.Allocs(g.Exchange("GET", "/"), nil)
}
