package canary

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
)

func TestTimed(t *testing.T) {
	// f returns the share in the given second after the start.
	f := func(settings string, start, after, want float64) {
		t.Helper()
		g := pipelinetest.Open(t, document(fmt.Sprintf("upstream_host: a2, start: %f, %s", start, settings)), Spec)
		p, err := newPlan(settingsOf(t, g), g.Env)
		if err != nil {
			t.Fatal(err)
		}
		now := int64((start + after - float64(pipeline.WallMillis(0))/1000) * float64(time.Second))
		if got := p.share(now); math.Abs(got-want) > 0.1 {
			t.Errorf("{%s}: %g%% after %g s, want %g", settings, got, after, want)
		}
	}
	for _, start := range []float64{1700000000, 1900000000.5} {
		f("", start, -1, 0)
		f("", start, 0, 0)
		f("", start, 360, 10)
		f("", start, 1800, 50)
		f("", start, 3600, 100)
		f("", start, 1e6, 100)
		f("duration: 10", start, 1, 10)
		f("duration: 0", start, -1, 0)
		f("duration: 0", start, 1, 100)
	}
}

func TestTimedRequests(t *testing.T) {
	start := float64(pipeline.WallMillis(pipeline.Now()))/1000 + 100
	g := pipelinetest.Open(t, document(fmt.Sprintf("hash: none, upstream_host: a2, duration: 1000, start: %f", start)), Spec)
	f := func(after, want int) {
		t.Helper()
		canary := 0
		for range 1000 {
			x := g.Exchange("GET", "/")
			x.Start += int64(100+after) * int64(time.Second)
			if g.Serve(x); x.Destination != nil {
				canary++
			}
		}
		if canary < want-1 || canary > want+1 {
			t.Errorf("%d of 1000 after %d s, want %d", canary, after, want)
		}
	}
	f(-10, 0)
	f(100, 100)
	f(500, 500)
	f(990, 990)
	f(1001, 1000)
}
