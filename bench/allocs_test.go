//go:build !race

package bench

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
	"github.com/sluice-gateway/sluice/engine/plugin"
)

// allowances are allocations a request may cost a plugin, by name, with the
// reason. A plugin that is not here allocates nothing.
var allowances = map[string]struct {
	allocs float64
	reason string
}{}

// exampleRequests are the requests that make a plugin's example do its work;
// other plugins get a plain GET.
var exampleRequests = map[string][]string{
	"key-auth": {"Apikey", "quickstart-key"},
}

// TestPluginAllocs runs every built plugin with the settings of its example.
func TestPluginAllocs(t *testing.T) {
	for _, spec := range plugin.All.All {
		t.Run(spec.Name, func(t *testing.T) {
			document := example(t, spec.Name)
			g := pipelinetest.Open(t, document, plugin.All.All...)
			headers := append(credentials(g), exampleRequests[spec.Name]...)
			x := g.Exchange("GET", "/api/items?page=2", headers...)
			n := testing.AllocsPerRun(500, func() {
				g.Again(x)
				x.Ctx.Request.Reset()
				x.Ctx.Request.Header.SetMethod("GET")
				x.Ctx.Request.SetRequestURI("/api/items?page=2")
				x.Ctx.Request.Header.SetHost("api.example.com")
				for i := 0; i+1 < len(headers); i += 2 {
					x.Ctx.Request.Header.Set(headers[i], headers[i+1])
				}
				g.Serve(x)
			})
			if allowed := allowances[spec.Name]; n > allowed.allocs {
				t.Errorf("%v allocations a request, allowed are %v (%s)", n, allowed.allocs, allowed.reason)
			}
		})
	}
}

// example returns the example document of a plugin. Variants share a folder:
// theirs is the folder's example with the variant's name.
func example(t *testing.T, name string) string {
	t.Helper()
	folder := strings.ReplaceAll(strings.TrimSuffix(name, "-advanced"), "-", "")
	data, err := os.ReadFile(filepath.Join("..", "engine", "plugin", folder, "example.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(data), "name: "+strings.TrimSuffix(name, "-advanced")+"\n", "name: "+name+"\n")
	for _, folder := range []string{"/var/log/sluice/", "/var/lib/sluice/"} {
		text = strings.ReplaceAll(text, folder, t.TempDir()+"/")
	}
	return text
}

// credentials returns the headers that identify the document's first consumer.
func credentials(g *pipelinetest.Gateway) []string {
	d := g.Env.Document
	if len(d.KeyAuthCredentials) == 0 {
		return nil
	}
	return []string{"apikey", d.KeyAuthCredentials[0].Key}
}

// TestPipelineAllocs sends requests through a whole gateway over real sockets:
// no allocation a request, from the client's bytes to the client's bytes.
func TestPipelineAllocs(t *testing.T) {
	for name, document := range map[string]string{"plain": plainDocument, "full": fullDocument(100, 10), "cached": cachedDocument} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, loopback, document)
			for range 2000 {
				w.roundTrip(t)
			}
			const requests = 5000
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			for range requests {
				w.roundTrip(t)
			}
			runtime.ReadMemStats(&after)
			// The gateway's chores allocate once a second; requests do not.
			if perRequest := float64(after.Mallocs-before.Mallocs) / requests; perRequest > 0.05 {
				t.Errorf("%.3f allocations a request (%d for %d)", perRequest, after.Mallocs-before.Mallocs, requests)
			}
		})
	}
}
