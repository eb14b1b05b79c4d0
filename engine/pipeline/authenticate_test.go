package pipeline_test

import (
	"slices"
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
)

func TestAuthenticateTellsTheService(t *testing.T) {
	names := []string{"X-Consumer-Id", "X-Consumer-Custom-Id", "X-Consumer-Username", "X-Credential-Identifier", "X-Anonymous-Consumer"}
	f := func(c *pipeline.Consumer, credential *pipeline.Credential, want ...string) {
		t.Helper()
		var forged []string
		for _, name := range names {
			forged = append(forged, name, "forged", name, "forged twice")
		}
		x := pipelinetest.NewExchange("GET", "/", append(forged, "X-Other", "kept")...)
		x.Authenticate(c, credential)
		for i, name := range names {
			var values []string
			for _, v := range x.Ctx.Request.Header.PeekAll(name) {
				values = append(values, string(v))
			}
			var wanted []string
			if want[i] != "" {
				wanted = []string{want[i]}
			}
			if !slices.Equal(values, wanted) {
				t.Errorf("%s = %q, want %q", name, values, wanted)
			}
		}
		if got := string(x.Ctx.Request.Header.Peek("X-Other")); got != "kept" {
			t.Errorf("X-Other = %q, want it untouched", got)
		}
		if x.Consumer != c || x.Credential != credential {
			t.Error("Consumer and Credential are not recorded")
		}
	}
	bob := &pipeline.Consumer{Consumer: &config.Consumer{ID: "1", Username: "bob", CustomID: "b-1"}}
	anyone := &pipeline.Consumer{Consumer: &config.Consumer{ID: "2", CustomID: "anyone"}}
	f(bob, &pipeline.Credential{Identifier: "k", Consumer: bob}, "1", "b-1", "bob", "k", "")
	f(anyone, nil, "2", "anyone", "", "", "true")
	f(nil, &pipeline.Credential{Identifier: "k"}, "", "", "", "k", "")
}

func TestHoldSurvivesLaterHeaders(t *testing.T) {
	x := pipelinetest.NewExchange("GET", "/")
	held := x.Hold([]byte("first"))
	for range 1000 {
		x.Stage("X-Any", []byte("something long enough to grow the buffer"))
		x.Hold([]byte("another"))
	}
	if string(held) != "first" {
		t.Errorf("held bytes became %q", held)
	}
	if cap(held) != len(held) {
		t.Error("appending to held bytes would overwrite others")
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	bob := &pipeline.Consumer{Consumer: &config.Consumer{ID: "0123456789abcdef0123456789abcdef0123", Username: "bob", CustomID: "b-1"}}
	credential := &pipeline.Credential{Identifier: "0123456789abcdef0123456789abcdef0123", Consumer: bob}
	x := pipelinetest.NewExchange("GET", "/", "Accept", "*/*", "X-A", "1", "X-B", "2", "Accept-Encoding", "gzip", "X-C", "3", "X-D", "4")
	var fresh fasthttp.RequestHeader
	h := &x.Ctx.Request.Header
	h.CopyTo(&fresh)
	b.Run("copy", func(b *testing.B) { // to be subtracted from the next
		for b.Loop() {
			fresh.CopyTo(h)
		}
	})
	b.Run("copy+first", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			fresh.CopyTo(h)
			x.Authenticate(bob, credential)
		}
	})
	b.Run("again", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			x.Authenticate(bob, credential)
		}
	})
}
