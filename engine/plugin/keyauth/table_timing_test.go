package keyauth

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
)

var sink *pipeline.Credential

func BenchmarkFind(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		credentials := manyCredentials(n)
		tab := newTable(credentials, pipeline.NewConsumers(&config.Document{}), time.Now())
		x := pipelinetest.NewExchange("GET", "/")
		r := rand.New(rand.NewPCG(1, 2))
		known, unknown := make([][]byte, 1<<12), make([][]byte, 1<<12)
		for i := range known {
			key := credentials[r.IntN(n)].Key
			known[i], unknown[i] = []byte(key), []byte(key+"x")
		}
		run := func(name string, keys [][]byte) {
			b.Run(fmt.Sprintf("keys=%d/%s", n, name), func(b *testing.B) {
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					i++
					sink = tab.find(keys[i&(len(keys)-1)], x)
				}
			})
		}
		run("known", known)
		run("unknown", unknown)
	}
}

// BenchmarkRequest is the whole hook: the header found, the key looked up, the
// consumer's headers set. The copy of the request's headers that makes every run
// the first is measured by itself, to be subtracted.
func BenchmarkRequest(b *testing.B) {
	g := pipelinetest.Open(b, document(""), Spec)
	x := g.Exchange("GET", "/", "Accept", "*/*", "Accept-Encoding", "gzip", "X-A", "1", "X-B", "2", "apikey", "bobs-key")
	g.Chain.Begin(x)
	h := &x.Ctx.Request.Header
	var fresh fasthttp.RequestHeader
	h.CopyTo(&fresh)
	b.Run("copy", func(b *testing.B) {
		for b.Loop() {
			fresh.CopyTo(h)
		}
	})
	b.Run("copy+request", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			fresh.CopyTo(h)
			g.Chain.Request(x)
		}
	})
}
