package canary

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-json"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
)

// snapshot is one built document of a gateway that reloads.
type snapshot struct {
	env     *pipeline.Env
	hooks   pipeline.Hooks
	holder  *pipeline.Holder
	traffic *traffic
	log     *bytes.Buffer
}

func load(t *testing.T, keeper *pipeline.Keeper, text string) *snapshot {
	t.Helper()
	s := &snapshot{holder: keeper.Hold(), log: &bytes.Buffer{}}
	base := *pipelinetest.NewEnv(t, text, Spec)
	base.Log = slog.New(slog.NewTextHandler(s.log, nil))
	s.env = pipeline.NewEnv(base, s.holder)
	var err error
	if s.hooks, err = Spec.Build(s.env.Document.Plugins[0], s.env); err != nil {
		t.Fatal(err)
	}
	keeper.Each(func(_ string, value any) {
		if tr, ok := value.(*traffic); ok {
			s.traffic = tr
		}
	})
	return s
}

func (s *snapshot) release(t *testing.T) {
	t.Helper()
	s.hooks.Close()
	if err := s.holder.Release(); err != nil {
		t.Error(err)
	}
}

// send sends a request that is answered with a status after a time, 0 for a service
// that could not be reached, and returns it.
func (s *snapshot) send(status int, latency time.Duration, headers ...string) *pipeline.Exchange {
	x := pipelinetest.NewExchange("GET", "/", headers...)
	x.Service = s.env.Document.Services[0]
	s.hooks.Request(x)
	x.UpstreamStart = pipeline.Now()
	x.End = x.UpstreamStart + int64(latency)
	if status == 0 {
		x.Answer(pipeline.NewReply(502, "An invalid response was received from the upstream server"))
	} else {
		x.UpstreamHeaders, x.UpstreamStatus, x.Source = x.End, status, pipeline.SourceService
		x.Ctx.Response.SetStatusCode(200) // a Response hook may have changed it
	}
	s.hooks.Log(x)
	return x
}

func (s *snapshot) metrics(keeper *pipeline.Keeper) string {
	var b strings.Builder
	keeper.Expose(&b)
	return b.String()
}

func TestMetrics(t *testing.T) {
	keeper := pipeline.NewKeeper()
	s := load(t, keeper, scoped("service: a\n  instance_name: trial", "percentage: 12.5, hash: header, hash_header: X-User, upstream_host: a2, canary_by_header_name: X-Canary"))
	defer s.release(t)
	for range 3 {
		s.send(200, 0, "X-Canary", "always")
	}
	s.send(200, 0, "X-Canary", "never")
	// Not sent to either: not counted.
	x := pipelinetest.NewExchange("GET", "/", "X-Canary", "always")
	x.Service = s.env.Document.Services[0]
	s.hooks.Request(x)
	s.hooks.Log(x)
	// Led elsewhere by another plugin.
	x.UpstreamStart, x.Destination = 1, &pipelinetest.Destination{}
	s.hooks.Log(x)
	want := `sluice_canary_share_percent{plugin="trial",service="a"} 12.5
sluice_canary_requests_total{plugin="trial",service="a",side="service"} 1
sluice_canary_requests_total{plugin="trial",service="a",side="canary"} 3
sluice_canary_fallbacks_total{plugin="trial",service="a"} 0
sluice_canary_rollbacks_total{plugin="trial",service="a"} 0
`
	if got := s.metrics(keeper); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestLabels(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		keeper := pipeline.NewKeeper()
		s := load(t, keeper, text)
		defer s.release(t)
		want = strings.ReplaceAll(want, "ID", s.env.Document.Plugins[0].ID)
		if got := s.metrics(keeper); !strings.Contains(got, want) {
			t.Errorf("want %s in\n%s", want, got)
		}
	}
	f(document("percentage: 5, upstream_host: a2"), `sluice_canary_share_percent{plugin="ID",service=""} 5`)
	f(scoped("route: r2", "percentage: 5, upstream_host: a2"), `sluice_canary_share_percent{plugin="ID",service="a"} 5`)
	f(scoped("service: a", "hash: deny, groups: [beta], upstream_host: a2"), `sluice_canary_requests_total{plugin="ID",service="a",side="canary"} 0`)
	if got := escape("a\"b\\c\nd\xff"); got != "a\\\"b\\\\c\\nd\uFFFD" {
		t.Errorf("escaped %q", got)
	}
}

func TestGroupsHaveNoShare(t *testing.T) {
	keeper := pipeline.NewKeeper()
	s := load(t, keeper, document("hash: allow, groups: [beta], upstream_host: a2"))
	defer s.release(t)
	if got := s.metrics(keeper); strings.Contains(got, "share") {
		t.Error(got)
	}
	if _, _, r := s.traffic.Report(); r.(facts).SharePercent != nil {
		t.Errorf("%+v", r)
	}
}

func TestReload(t *testing.T) {
	keeper := pipeline.NewKeeper()
	f := func(s *snapshot, want string) {
		t.Helper()
		if got := s.metrics(keeper); strings.Count(got, want) != 1 || strings.Count(got, "sluice_canary_share_percent") != 1 {
			t.Errorf("want %s once in\n%s", want, got)
		}
	}
	const common = "upstream_host: a2, hash: none, percentage: "
	first := load(t, keeper, document(common+"100"))
	first.send(200, 0)
	f(first, "} 100\n")
	second := load(t, keeper, document(common+"40"))
	f(second, "} 40\n")
	first.send(200, 0) // requests of the old snapshot count on
	f(second, `side="canary"} 2`)
	first.release(t)
	f(second, "} 40\n")
	// One that fails elsewhere is closed though it never served.
	load(t, keeper, document(common+"70")).release(t)
	f(second, "} 40\n")
	second.release(t)
	if got := second.metrics(keeper); got != "" {
		t.Errorf("left behind:\n%s", got)
	}
}

func TestStartIsKept(t *testing.T) {
	keeper := pipeline.NewKeeper()
	first := load(t, keeper, document("upstream_host: a2, duration: 1000"))
	began := first.traffic.plan.Load().start
	if now := float64(time.Now().UnixMilli()); began > now || began < now-60_000 {
		t.Errorf("began at %f, now is %f", began, now)
	}
	keeper.Each(func(key string, _ any) {
		if strings.Contains(key, "1000") {
			t.Errorf("key %q depends on the duration", key)
		}
	})
	second := load(t, keeper, document("upstream_host: a2, duration: 5000"))
	if p := second.traffic.plan.Load(); p.start != began || p.length != 5e6 {
		t.Errorf("start %f, want %f; length %f", p.start, began, p.length)
	}
	first.release(t)
	second.release(t)
}

const ramped = "upstream_host: a2, hash: none, canary_by_header_name: X-Canary, " +
	"ramp: {steps: [10, 50, 100], step_duration: 60, min_requests: 20, max_error_rate_increase: 1, max_latency_ratio: 2, check_interval: 5}"

// sides sends requests to each side; the canary's have their own outcome.
func (s *snapshot) sides(status int, latency time.Duration) {
	for range 200 {
		s.send(200, 10*time.Millisecond, "X-Canary", "never")
		s.send(status, latency, "X-Canary", "always")
	}
}

func (s *snapshot) share() float64 { return s.traffic.plan.Load().share(pipeline.Now()) }

func TestRampGoesOn(t *testing.T) {
	keeper := pipeline.NewKeeper()
	s := load(t, keeper, document(ramped))
	now := pipeline.Now()
	f := func(seconds int, want float64, log string) {
		t.Helper()
		s.log.Reset()
		s.traffic.Prune(now + int64(seconds)*int64(time.Second))
		if got := s.share(); got != want {
			t.Errorf("%g%% after %d s, want %g", got, seconds, want)
		}
		if got := s.log.String(); log == "" && got != "" || !strings.Contains(got, log) {
			t.Errorf("log %q, want %q", got, log)
		}
	}
	f(0, 10, "")
	f(61, 10, "") // no requests yet: no verdict
	if !s.traffic.plan.Load().ramp.report().Waiting {
		t.Error("the ramp does not say that it waits")
	}
	s.sides(200, 12*time.Millisecond)
	f(70, 50, "the ramp took its next step")
	s.sides(404, 12*time.Millisecond)
	f(135, 100, "share_percent=100")
	s.sides(200, 12*time.Millisecond)

	// A reload that leaves the ramp alone finds it as it was, another does not.
	second := load(t, keeper, document(ramped+", steps: 500"))
	if got := second.share(); got != 100 {
		t.Errorf("%g%% after a reload, want 100", got)
	}
	second.release(t)
	f(200, 100, "the ramp is through")
	third := load(t, keeper, document(strings.Replace(ramped, "min_requests: 20", "min_requests: 30", 1)))
	if got := third.share(); got != 10 {
		t.Errorf("%g%% with other settings, want 10", got)
	}
	third.release(t)
	s.release(t)
}

func TestRampGoesBack(t *testing.T) {
	f := func(status int, latency time.Duration, reason string) {
		t.Helper()
		keeper := pipeline.NewKeeper()
		s := load(t, keeper, document(ramped))
		defer s.release(t)
		s.sides(status, latency)
		s.traffic.Prune(pipeline.Now() + int64(6*time.Second))
		if got := s.share(); got != 0 {
			t.Errorf("%g%%, want 0", got)
		}
		if got := s.log.String(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, "reason="+reason) {
			t.Errorf("log %q", got)
		}
		if got := s.metrics(keeper); !strings.Contains(got, "rollbacks_total{plugin=\""+s.env.Document.Plugins[0].ID+"\",service=\"\"} 1\n") {
			t.Errorf("metrics\n%s", got)
		}
		if x := s.send(200, 0); x.Destination != nil {
			t.Error("a request went to the canary")
		}
		if x := s.send(200, 0, "X-Canary", "always"); x.Destination == nil {
			t.Error("always does not lead to the canary any more")
		}
	}
	f(503, time.Millisecond, "error_rate")
	f(0, time.Millisecond, "error_rate") // not reached: the gateway's 502
	f(200, 50*time.Millisecond, "latency")
}

func TestReport(t *testing.T) {
	keeper := pipeline.NewKeeper()
	s := load(t, keeper, scoped("service: a\n  instance_name: trial", ramped))
	defer s.release(t)
	s.sides(503, time.Millisecond)
	s.traffic.Prune(pipeline.Now() + int64(6*time.Second))
	kind, name, report := s.traffic.Report()
	if kind != "canary" || name != "trial" {
		t.Errorf("kind %q, name %q", kind, name)
	}
	text, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"service":"a"`, `"share_percent":0,`, `"service_requests":200,"canary_requests":200`, `"rollbacks":1`,
		`"state":"rolled_back","reason":"error_rate","steps":[10,50,100],"step":1`,
		`"canary":{"requests":200,"failures":200,"error_percent":100,`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("want %s in %s", want, text)
		}
	}
}

func TestRampSharesRequestsOut(t *testing.T) {
	keeper := pipeline.NewKeeper()
	s := load(t, keeper, document(ramped))
	defer s.release(t)
	canary := 0
	for range 1000 {
		if x := s.send(200, 0); x.Destination != nil {
			canary++
		}
	}
	if canary != 100 {
		t.Errorf("%d of 1000 in a step of 10%%", canary)
	}
}

func TestFallbackIsWarnedOf(t *testing.T) {
	f := func(host string, want bool) {
		t.Helper()
		keeper := pipeline.NewKeeper()
		s := load(t, keeper, document(fmt.Sprintf("percentage: 5, upstream_fallback: true, upstream_host: %s", host)))
		defer s.release(t)
		if got := strings.Contains(s.log.String(), "upstream_fallback has no effect"); got != want {
			t.Errorf("%s: warned %v, want %v: %s", host, got, want, s.log)
		}
	}
	f("a2", false)
	f("a2.internal", true)
}

// TestFailedBuildLeavesNothing is that a fault of a destination releases what was kept.
func TestFailedBuildLeavesNothing(t *testing.T) {
	keeper := pipeline.NewKeeper()
	holder := keeper.Hold()
	base := *pipelinetest.NewEnv(t, document("percentage: 5, upstream_host: a2"), Spec)
	base.Destination = func(*config.Service) (pipeline.Destination, error) { return nil, os.ErrInvalid }
	env := pipeline.NewEnv(base, holder)
	if _, err := Spec.Build(env.Document.Plugins[0], env); err == nil {
		t.Fatal("built")
	}
	if err := holder.Release(); err != nil {
		t.Error(err)
	}
	keeper.Each(func(key string, _ any) { t.Errorf("%s is left", key) })
}
