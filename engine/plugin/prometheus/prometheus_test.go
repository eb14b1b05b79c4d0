package prometheus_test

import (
	"bytes"
	_ "embed"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
	"github.com/sluice-gateway/sluice/engine/plugin/prometheus"
)

//go:embed example.yaml
var example string

var update = flag.Bool("update", false, "write testdata/scrape.txt anew")

// node is a running gateway over several snapshots.
type node struct {
	t      testing.TB
	keeper *pipeline.Keeper
	node   *pipeline.Node
}

func newNode(t testing.TB) *node {
	return &node{t: t, keeper: pipeline.NewKeeper(), node: &pipeline.Node{ID: "node-1", Version: "1.2.3"}}
}

// snapshot is one loaded document.
type snapshot struct {
	*node
	document *config.Document
	holder   *pipeline.Holder
	hooks    []pipeline.Hooks
}

func (n *node) load(document string) *snapshot {
	n.t.Helper()
	d, err := config.Read([]config.Source{{Name: "test.yaml", Data: []byte(document)}},
		config.Options{Catalog: &pipeline.Specs{All: []pipeline.Spec{prometheus.Spec}}})
	if err != nil {
		n.t.Fatal(err)
	}
	s := &snapshot{node: n, document: d, holder: n.keeper.Hold()}
	env := pipeline.NewEnv(pipeline.Env{
		Document: d, Consumers: pipeline.NewConsumers(d), Log: slog.New(slog.DiscardHandler),
		Metrics: metrics.NewSet(), Node: n.node, Errors: pipeline.NewErrorStyle("", "", [4]string{}),
	}, s.holder)
	for _, p := range d.Plugins {
		h, err := prometheus.Spec.Build(p, env)
		if err != nil {
			n.t.Fatal(err)
		}
		s.hooks = append(s.hooks, h)
	}
	return s
}

func (s *snapshot) retire() {
	s.t.Helper()
	for _, h := range s.hooks {
		h.Close()
	}
	if err := s.holder.Release(); err != nil {
		s.t.Error(err)
	}
}

// exchange is a finished request on a route: 40 ms in all, 20 ms of them waiting.
func (s *snapshot) exchange(route, status int) *pipeline.Exchange {
	x := pipelinetest.NewExchange("GET", "/")
	x.RouteIndex = route
	x.Start, x.UpstreamStart, x.UpstreamHeaders, x.End = 1e9, 1e9+5e6, 1e9+25e6, 1e9+40e6
	x.Source = pipeline.SourceService
	x.BytesIn, x.BytesOut = 100, 2000
	x.Ctx.Response.SetStatusCode(status)
	return x
}

func (s *snapshot) log(x *pipeline.Exchange) {
	for _, h := range s.hooks {
		if h.Log != nil {
			h.Log(x)
		}
	}
}

func (n *node) scrape() string {
	n.t.Helper()
	var b bytes.Buffer
	n.keeper.Expose(&b)
	validate(n.t, b.String())
	return b.String()
}

// want fails unless the scrape has the line.
func (n *node) want(line string) {
	n.t.Helper()
	if text := n.scrape(); !strings.Contains("\n"+text, "\n"+line+"\n") {
		n.t.Errorf("no line %q in:\n%s", line, text)
	}
}

func (n *node) wantNot(part string) {
	n.t.Helper()
	if text := n.scrape(); strings.Contains(text, part) {
		n.t.Errorf("%q is in:\n%s", part, text)
	}
}

const head = "_format_version: \"3.0\"\nservices:\n- {name: s1, url: 'http://a'}\n- {host: b.example}\nroutes:\n"

const all = "{status_code_metrics: true, latency_metrics: true, bandwidth_metrics: true, upstream_health_metrics: true, per_consumer: true}"

func document(settings string, routes ...string) string {
	d := head
	for _, r := range routes {
		d += "- {name: " + r + ", service: s1, paths: [/" + r + "]}\n"
	}
	return d + "consumers:\n- {username: alice}\n- {custom_id: 'b\"ob'}\n- {username: carol}\nplugins:\n- {name: prometheus, config: " + settings + "}\n"
}

func TestExample(t *testing.T) {
	n := newNode(t)
	s := n.load(example)
	defer s.retire()
	s.log(s.exchange(0, 200))
	n.want(`kong_http_requests_total{service="orders",route="orders",code="200",source="service",workspace="default",consumer=""} 1`)
}

func TestGolden(t *testing.T) {
	n := newNode(t)
	s := n.load(document(all, "r1", "r2"))
	defer s.retire()
	n.node.Accepted.Store(7)
	n.node.Active.Store(2)
	n.node.Requests.Add(1, 5)
	list := []pipeline.TargetHealth{
		{Upstream: "u", Target: "a.example:80", Address: "10.0.0.1:80", State: "healthy"},
		{Upstream: "u", Target: "b.example:80", Address: "10.0.0.2:80", State: "unhealthy"},
	}
	targets := func(yield func(pipeline.TargetHealth) bool) {
		for _, h := range list {
			if !yield(h) {
				return
			}
		}
	}
	n.node.Targets.Store(&targets)
	s.log(s.exchange(0, 200))
	s.log(s.exchange(0, 200))
	consumers := pipeline.NewConsumers(s.document)
	x := s.exchange(0, 503)
	x.Consumer = consumers.Find("alice")
	s.log(x)
	x = s.exchange(1, 401)
	x.Consumer = consumers.Find("b\"ob")
	x.Source, x.UpstreamStart, x.UpstreamHeaders = pipeline.SourceGateway, 0, 0
	s.log(x)
	x = s.exchange(-1, 404)
	s.log(x)

	got := regexp.MustCompile(`(pid=")\d+(".*) \d+`).ReplaceAllString(n.scrape(), "${1}PID${2} BYTES")
	if *update {
		if err := os.WriteFile("testdata/scrape.txt", []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/scrape.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("scrape differs from testdata/scrape.txt (see -update):\n%s", got)
	}
}

func TestNames(t *testing.T) {
	n := newNode(t)
	s := n.load(head + `- {id: 5d0d4d0e-4c3d-4b70-8a8b-5f1a1c3f1d10, paths: [/x]}
plugins:
- {name: prometheus, config: {status_code_metrics: true}}
`)
	defer s.retire()
	s.log(s.exchange(0, 200))
	n.want(`kong_http_requests_total{service="",route="5d0d4d0e-4c3d-4b70-8a8b-5f1a1c3f1d10",code="200",source="service",workspace="default",consumer=""} 1`)
	n.wantNot("kong_bandwidth_bytes{")
	n.wantNot("kong_request_latency_ms_bucket")
	n.wantNot("kong_upstream_target_health")
}

func TestReloadKeepsCounters(t *testing.T) {
	n := newNode(t)
	line := func(route string, count int) string {
		return fmt.Sprintf(`kong_http_requests_total{service="s1",route=%q,code="200",source="service",workspace="default",consumer=""} %d`, route, count)
	}
	first := n.load(document(all, "r1", "r2"))
	first.log(first.exchange(0, 200))
	first.log(first.exchange(1, 200))

	second := n.load(document("{status_code_metrics: true}", "r0", "r2")) // r2 has the same index, r1 is gone
	first.log(first.exchange(0, 200))                                     // a request begun before the reload
	second.log(second.exchange(1, 200))
	n.want(line("r1", 2))
	n.want(line("r2", 2))
	first.retire()
	n.want(line("r2", 2))
	n.wantNot(`route="r1"`)
	second.retire()
	if text := n.scrape(); text != "" {
		t.Errorf("left after the last snapshot:\n%s", text)
	}
}

func TestConsumerLimit(t *testing.T) {
	n := newNode(t)
	s := n.load(document("{per_consumer: true, status_code_metrics: true, consumers_max: 1}", "r1"))
	defer s.retire()
	consumers := pipeline.NewConsumers(s.document)
	for _, name := range []string{"alice", "carol", "carol", "alice", ""} {
		x := s.exchange(0, 200)
		x.Consumer = consumers.Find(name)
		s.log(x)
	}
	n.want(`kong_http_requests_total{service="s1",route="r1",code="200",source="service",workspace="default",consumer="alice"} 2`)
	n.want(`kong_http_requests_total{service="s1",route="r1",code="200",source="service",workspace="default",consumer=""} 3`)
	n.want(`sluice_prometheus_consumer_overflow_total 2`)
}

func TestBuckets(t *testing.T) {
	n := newNode(t)
	s := n.load(document("{latency_metrics: true}", "r1"))
	defer s.retire()
	for _, ms := range []int64{25, 26, 70000} {
		x := s.exchange(0, 200)
		x.UpstreamStart, x.UpstreamHeaders, x.End = 0, 0, x.Start+ms*1e6
		s.log(x)
	}
	const labels = `{service="s1",route="r1",workspace="default"`
	n.want(`kong_request_latency_ms_bucket` + labels + `,le="25"} 1`)
	n.want(`kong_request_latency_ms_bucket` + labels + `,le="50"} 2`)
	n.want(`kong_request_latency_ms_bucket` + labels + `,le="60000"} 2`)
	n.want(`kong_request_latency_ms_bucket` + labels + `,le="+Inf"} 3`)
	n.want(`kong_request_latency_ms_sum` + labels + `} 70051`)
	n.want(`kong_kong_latency_ms_count` + labels + `} 3`)
	n.wantNot(`kong_upstream_latency_ms_count{`)
}

func TestStrangeStatus(t *testing.T) {
	n := newNode(t)
	s := n.load(document("{status_code_metrics: true}", "r1"))
	defer s.retire()
	for _, status := range []int{99, 999, 1234} {
		s.log(s.exchange(0, status))
	}
	n.want(`kong_http_requests_total{service="s1",route="r1",code="999",source="service",workspace="default",consumer=""} 2`)
}

// Writers, scrapes and reloads at once: no count is lost (and the race detector has nothing to say).
func TestConcurrent(t *testing.T) {
	n := newNode(t)
	base := n.load(document(all, "r1"))
	defer base.retire()
	consumers := pipeline.NewConsumers(base.document)
	const workers, each = 4, 500
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for range each {
				x := base.exchange(0, 200+w)
				x.Consumer = consumers.Find("alice")
				base.log(x)
			}
		})
	}
	for range 5 {
		s := n.load(document(all, "r1", "r2"))
		n.keeper.Expose(io.Discard)
		s.retire()
	}
	wg.Wait()
	for w := range workers {
		n.want(fmt.Sprintf(`kong_http_requests_total{service="s1",route="r1",code="%d",source="service",workspace="default",consumer="alice"} %d`, 200+w, each))
	}
	n.want(fmt.Sprintf(`kong_request_latency_ms_count{service="s1",route="r1",workspace="default"} %d`, workers*each))
}

func TestUnusedSettingsWarn(t *testing.T) {
	d, err := config.Read([]config.Source{{Name: "test.yaml", Data: []byte(document("{ai_metrics: true}", "r1"))}},
		config.Options{Catalog: &pipeline.Specs{All: []pipeline.Spec{prometheus.Spec}}})
	if err != nil {
		t.Fatal(err)
	}
	if w := d.Warnings.Error(); !strings.Contains(w, "ai_metrics") {
		t.Errorf("warnings: %q", w)
	}
}

func TestAllocs(t *testing.T) {
	g := pipelinetest.Open(t, document(all, "r1"), prometheus.Spec)
	alice := g.Env.Consumers.Find("alice")
	g.Allocs(g.Exchange("GET", "/"), func(x *pipeline.Exchange) { x.Consumer = alice })
}

func BenchmarkLog(b *testing.B) {
	n := newNode(b)
	s := n.load(document("{status_code_metrics: true, latency_metrics: true, bandwidth_metrics: true}", "r1"))
	x := s.exchange(0, 200)
	b.ReportAllocs()
	for b.Loop() {
		s.hooks[0].Log(x)
	}
}

// Reading thousands of routes, before anything is written, lets requests have their turn.
func TestExposeRests(t *testing.T) {
	names := make([]string, 1000)
	for i := range names {
		names[i] = fmt.Sprintf("route-%04d", i)
	}
	n := newNode(t)
	s := n.load(document(all, names...))
	defer s.retire()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		n.keeper.Expose(io.Discard)
		if rested, want := time.Since(began), 1000/64*50*time.Microsecond; rested != want {
			t.Errorf("rested for %s, want %s", rested, want)
		}
	})
}

// BenchmarkExpose is a scrape of 5,000 routes that all have traffic. cpu-ns/op is what it
// takes from requests; the rest of its time it sleeps.
func BenchmarkExpose(b *testing.B) {
	names := make([]string, 5000)
	for i := range names {
		names[i] = fmt.Sprintf("route-%04d", i)
	}
	s := newNode(b).load(document("{status_code_metrics: true, latency_metrics: true, bandwidth_metrics: true}", names...))
	for i := range names {
		s.log(s.exchange(i, 200))
	}
	n := &counter{}
	b.ReportAllocs()
	for b.Loop() {
		s.keeper.Expose(n)
	}
	b.ReportMetric(float64(n.bytes)/float64(b.N)/(1<<20), "MiB")
}

type counter struct{ bytes int }

func (c *counter) Write(p []byte) (int, error) {
	c.bytes += len(p)
	return len(p), nil
}

func BenchmarkLogParallel(b *testing.B) {
	n := newNode(b)
	s := n.load(document(all, "r1"))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		x := s.exchange(0, 200)
		for pb.Next() {
			s.hooks[0].Log(x)
		}
	})
}

var (
	metricName = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
	labelPair  = regexp.MustCompile(`^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)`)
)

// family is what validate knows of a metric.
type family struct {
	kind    string
	samples map[string]float64
}

// validate reads a scrape by the rules of the text format 0.0.4, more strictly
// than Prometheus does: every family once, HELP and TYPE before its samples, no
// sample twice, counters never negative, buckets cumulative and equal to count.
func validate(t testing.TB, text string) {
	t.Helper()
	families := map[string]*family{}
	help, current := "", ""
	if text != "" && !strings.HasSuffix(text, "\n") {
		t.Errorf("the last line has no end")
	}
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		switch {
		case text == "":
		case strings.HasPrefix(line, "# HELP "):
			name, rest, _ := strings.Cut(line[7:], " ")
			if families[name] != nil || rest == "" || !metricName.MatchString(name) {
				t.Errorf("line %d: HELP of %q", i+1, name)
			}
			help = name
		case strings.HasPrefix(line, "# TYPE "):
			name, kind, _ := strings.Cut(line[7:], " ")
			if name != help || !strings.Contains(" counter gauge histogram ", " "+kind+" ") {
				t.Errorf("line %d: TYPE %q of %q after HELP of %q", i+1, kind, name, help)
			}
			current = name
			families[name] = &family{kind: kind, samples: map[string]float64{}}
		default:
			sample(t, i+1, line, current, families[current])
		}
	}
	for name, f := range families {
		if f.kind == "histogram" {
			checkHistogram(t, name, f)
		}
	}
}

func sample(t testing.TB, n int, line, current string, f *family) {
	t.Helper()
	space := strings.LastIndexByte(line, ' ')
	if f == nil || space < 0 {
		t.Errorf("line %d: sample without TYPE: %q", n, line)
		return
	}
	series, text := line[:space], line[space+1:]
	name, labels, has := strings.Cut(series, "{")
	if has {
		if !strings.HasSuffix(labels, "}") {
			t.Errorf("line %d: labels of %q", n, line)
			return
		}
		seen := map[string]bool{}
		for rest := labels[:len(labels)-1]; rest != ""; {
			m := labelPair.FindStringSubmatch(rest)
			if m == nil || seen[m[1]] {
				t.Errorf("line %d: label %q", n, rest)
				return
			}
			seen[m[1]] = true
			rest = rest[len(m[0]):]
		}
	}
	base := name
	if f.kind == "histogram" {
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			base = strings.TrimSuffix(base, suffix)
		}
	}
	value, err := strconv.ParseFloat(text, 64)
	if _, twice := f.samples[series]; base != current || twice || err != nil || value < 0 {
		t.Errorf("line %d: %q in family %q (twice %v, %v)", n, line, current, twice, err)
	}
	f.samples[series] = value
}

var le = regexp.MustCompile(`_bucket\{(.*),le="([^"]*)"\}$`)

func checkHistogram(t testing.TB, name string, f *family) {
	t.Helper()
	buckets := map[string]map[float64]float64{}
	for series, value := range f.samples {
		if m := le.FindStringSubmatch(series); m != nil {
			bound, err := strconv.ParseFloat(m[2], 64)
			if err != nil {
				t.Errorf("%s: %v", series, err)
			}
			if buckets[m[1]] == nil {
				buckets[m[1]] = map[float64]float64{}
			}
			buckets[m[1]][bound] = value
		}
	}
	for labels, list := range buckets {
		top := 0.0
		for bound, value := range list {
			for other, more := range list {
				if other > bound && more < value {
					t.Errorf("%s{%s}: bucket %v has %v, %v has %v", name, labels, bound, value, other, more)
				}
			}
			top = max(top, value)
		}
		count, ok := f.samples[name+"_count{"+labels+"}"]
		if _, sum := f.samples[name+"_sum{"+labels+"}"]; !ok || !sum || count != top {
			t.Errorf("%s{%s}: count %v (%v), largest bucket %v", name, labels, count, ok, top)
		}
	}
}
