package proxyretry

import (
	"math"
	"os"
	"reflect"
	"slices"
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
- {name: b, url: "http://b.internal"}
routes:
- {name: r, service: a, paths: [/]}
plugins:
- name: proxy-retry
  config: {` + settings + "}\n"
}

func read(settings string) (*config.Document, error) {
	return config.Read([]config.Source{{Name: "test.yaml", Data: []byte(document(settings))}},
		config.Options{Catalog: &pipeline.Specs{All: []pipeline.Spec{Spec}}})
}

func TestSettingsRefused(t *testing.T) {
	f := func(settings, want string) {
		t.Helper()
		_, err := read(settings)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("{%s}:\n got %v\nwant %s", settings, err, want)
		}
	}
	f("retries: -1", "retries: value should be between 0 and 100")
	f("retries: 101", "retries: value should be between 0 and 100")
	f("retry_on: [200]", "retry_on[0]: value should be between 300 and 999")
	f("retry_on: [5xx]", "retry_on[0]: expected an integer")
	f("methods: [get]", "methods[0]: expected a method in upper case such as GET, got 'get'")
	f(`methods: [GET, ""]`, "methods[1]: expected a method in upper case such as GET, got ''")
	f("backoff: {type: fibonacci}", "backoff.type: expected one of: exponential, linear, constant")
	f("backoff: {base: 0.5}", "backoff.base: must be at least 1 with type exponential, got 0.5")
	f("backoff: {type: exponential, base: 0}", "for shorter waits use type linear or constant")
	f("backoff: {base: -1}", "backoff.base: value should be between 0 and 3600")
	f("backoff: {max: 3601}", "backoff.max: value should be between 0 and 3600")
	f("backoff: {minimum: 1}", "unknown field")
	f("jitter: 1.5", "jitter: value should be between 0 and 1")
	f("jitter: -0.1", "jitter: value should be between 0 and 1")
	f("per_try_timeout: -1", "per_try_timeout: value should be between 0 and 2147483646")
	f("max_body_size: 16777217", "max_body_size: value should be between 0 and 16777216")
	f("budget_percent: 1001", "budget_percent: value should be between 0 and 1000")
	f("budget_min_per_second: -1", "budget_min_per_second: value should be between 0 and 1000000")
	f("retry: 3", "unknown field")
}

func TestIdleSettingIsWarnedOf(t *testing.T) {
	d, err := read("budget_percent: 0, budget_min_per_second: 5")
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Warnings) != 1 || !strings.Contains(d.Warnings[0].Message, "retries are not bounded") {
		t.Errorf("warnings %v", d.Warnings)
	}
}

func TestExampleLoads(t *testing.T) {
	example, err := os.ReadFile("example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	x := pipelinetest.Open(t, string(example), Spec).Do("GET", "/catalog")
	if x.Retry == nil || x.Retry.Retries != 3 || x.Retry.Budget == nil {
		t.Errorf("policy %+v", x.Retry)
	}
}

// policy returns what a request to the first service gets, without what differs
// from one policy to the next.
func policy(t *testing.T, settings string) *pipeline.RetryPolicy {
	t.Helper()
	x := pipelinetest.Open(t, document(settings), Spec).Do("GET", "/")
	if x.Retry == nil {
		t.Fatalf("{%s}: no policy", settings)
	}
	return x.Retry
}

func TestPolicy(t *testing.T) {
	f := func(settings string, change func(want *pipeline.RetryPolicy)) {
		t.Helper()
		want := pipeline.RetryPolicy{
			Retries: 3, Statuses: []int{500, 502, 503, 504},
			Methods: []string{"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"},
			Keyed:   true, Timeouts: true, BodyBytesMax: 1 << 20, AfterMax: 30 * time.Second, Counted: true,
		}
		change(&want)
		got := *policy(t, settings)
		got.Wait, got.Budget = nil, nil
		if !reflect.DeepEqual(got, want) {
			t.Errorf("{%s}:\n got %+v\nwant %+v", settings, got, want)
		}
	}
	f("", func(*pipeline.RetryPolicy) {})
	f("retries: 0", func(p *pipeline.RetryPolicy) { p.Retries = 0 })
	f("retry_on: [503, 429, 503]", func(p *pipeline.RetryPolicy) { p.Statuses = []int{429, 503} })
	f("retry_on: []", func(p *pipeline.RetryPolicy) { p.Statuses = []int{} })
	f("methods: [GET, POST]", func(p *pipeline.RetryPolicy) { p.Methods = []string{"GET", "POST"} })
	f("retry_on_timeout: false", func(p *pipeline.RetryPolicy) { p.Timeouts = false })
	f("per_try_timeout: 250", func(p *pipeline.RetryPolicy) { p.PerTry = 250 * time.Millisecond })
	f("max_body_size: 0", func(p *pipeline.RetryPolicy) { p.BodyBytesMax = 0 })
	f("backoff: {max: 0.5}", func(p *pipeline.RetryPolicy) { p.AfterMax = 500 * time.Millisecond })
	f("count_header: false", func(p *pipeline.RetryPolicy) { p.Counted = false })
}

func TestWaits(t *testing.T) {
	f := func(settings string, want ...float64) {
		t.Helper()
		wait := policy(t, "retries: 5, jitter: 0, "+settings).Wait
		for i, s := range want {
			if got := wait(i + 2); got != time.Duration(s*float64(time.Second)) {
				t.Errorf("{%s}: attempt %d waits %v, want %g s", settings, i+2, got, s)
			}
		}
	}
	f("", 2, 4, 8, 16, 30, 30, 30)
	f("backoff: {base: 1}", 1, 1, 1)
	f("backoff: {base: 1.5, max: 3}", 1.5, 2.25, 3)
	f("backoff: {base: 3600, max: 3600}", 3600, 3600, 3600, 3600, 3600)
	f("backoff: {type: linear}", 2, 4, 6, 8, 10)
	f("backoff: {type: linear, base: 0.1, max: 0.25}", 0.1, 0.2, 0.25, 0.25)
	f("backoff: {type: constant}", 2, 2, 2)
	f("backoff: {type: constant, base: 0.05}", 0.05, 0.05)
	f("backoff: {type: constant, base: 0}", 0, 0)
	f("backoff: {max: 0}", 0, 0)
}

func TestWaitsAreBoundedWhateverIsAsked(t *testing.T) {
	p := policy(t, "retries: 0")
	if got := p.Wait(2); got != 0 {
		t.Errorf("without retries: %v", got)
	}
	p = policy(t, "retries: 100, backoff: {base: 3600, max: 3600}, jitter: 1")
	for _, n := range []int{-1, 0, 1, 2, 101, 1 << 40} {
		if got := p.Wait(n); got < time.Hour || got > 2*time.Hour {
			t.Errorf("attempt %d waits %v", n, got)
		}
	}
}

func TestJitter(t *testing.T) {
	wait := policy(t, "jitter: 0.5").Wait
	least, most := time.Hour, time.Duration(0)
	sum := time.Duration(0)
	const draws = 10000
	for range draws {
		d := wait(3)
		least, most, sum = min(least, d), max(most, d), sum+d
	}
	if least < 4*time.Second || most > 6*time.Second {
		t.Errorf("waits from %v to %v, want 4s to 6s", least, most)
	}
	if least > 4100*time.Millisecond || most < 5900*time.Millisecond {
		t.Errorf("waits only from %v to %v", least, most)
	}
	if mean := (sum / draws).Seconds(); math.Abs(mean-5) > 0.05 {
		t.Errorf("mean %g s, want 5", mean)
	}
}

func TestBudget(t *testing.T) {
	if p := policy(t, "budget_percent: 0"); p.Budget != nil {
		t.Error("budget_percent: 0 leaves a budget")
	}
	b := policy(t, "budget_percent: 50, budget_min_per_second: 0").Budget
	now := int64(time.Hour)
	taken := 0
	for range 100 {
		b.Deposit(0, now)
		if b.Withdraw(now) {
			taken++
		}
	}
	if taken < 40 || taken > 51 {
		t.Errorf("%d retries of 100 requests, want about 50", taken)
	}
}

// load builds the plugin of a document as a snapshot of keeper's does.
func load(t *testing.T, keeper *pipeline.Keeper, settings string) (*pipeline.Env, func(s *config.Service) *pipeline.RetryPolicy) {
	t.Helper()
	holder := keeper.Hold()
	t.Cleanup(func() {
		if err := holder.Release(); err != nil {
			t.Error(err)
		}
	})
	env := pipeline.NewEnv(*pipelinetest.NewEnv(t, document(settings), Spec), holder)
	hooks, err := Spec.Build(env.Document.Plugins[0], env)
	if err != nil {
		t.Fatal(err)
	}
	return env, func(s *config.Service) *pipeline.RetryPolicy {
		x := pipelinetest.NewExchange("GET", "/")
		x.Service = s
		if hooks.Request(x) != pipeline.Next {
			t.Error("the request was answered")
		}
		return x.Retry
	}
}

func TestBudgetsAreOfAServiceAndSurviveReload(t *testing.T) {
	keeper := pipeline.NewKeeper()
	env, first := load(t, keeper, "")
	a, b := env.Document.Services[0], env.Document.Services[1]
	if first(a).Budget == first(b).Budget {
		t.Error("two services share a budget")
	}
	if first(nil) != nil {
		t.Error("a request without a service has a policy")
	}
	env, second := load(t, keeper, "retries: 5, jitter: 1")
	if second(env.Document.Services[0]).Budget != first(a).Budget {
		t.Error("a reload with the same budget settings made another budget")
	}
	if second(a) != nil {
		t.Error("a service of another snapshot has a policy")
	}
	env, third := load(t, keeper, "budget_percent: 10")
	if third(env.Document.Services[0]).Budget == first(a).Budget {
		t.Error("other settings share the budget")
	}
}

func TestScope(t *testing.T) {
	f := func(at string, want ...string) {
		t.Helper()
		text := strings.Replace(document(""), "name: proxy-retry\n", "name: proxy-retry\n  "+at+"\n", 1)
		env := pipelinetest.NewEnv(t, text, Spec)
		hooks, err := Spec.Build(env.Document.Plugins[0], env)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, s := range env.Document.Services {
			x := pipelinetest.NewExchange("GET", "/")
			x.Service = s
			if hooks.Request(x); x.Retry != nil {
				got = append(got, s.Name)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: policies for %q, want %q", at, got, want)
		}
	}
	f("enabled: true", "a", "b")
	f("service: b", "b")
	f("route: r", "a")
}

func TestNoAllocations(t *testing.T) {
	g := pipelinetest.Open(t, document(""), Spec)
	g.Allocs(g.Exchange("GET", "/"), func(x *pipeline.Exchange) {
		if p := x.Retry; p != nil { // of the run before
			p.Wait(3)
			p.Budget.Deposit(x.ConnID, x.Start)
			p.Budget.Withdraw(x.Start)
		}
		x.Retry = nil
	})
}
