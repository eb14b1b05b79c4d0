//go:build unix

package quota

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/pipeline/pipelinetest"
	"github.com/sluice-gateway/sluice/engine/redis/redistest"
)

func inRedis(s *redistest.Server, settings string) string {
	return fmt.Sprintf("%s, strategy: redis, redis: {host: 127.0.0.1, port: %d}", settings, s.Port)
}

func openRedis(t *testing.T, s *redistest.Server, settings string) *pipelinetest.Gateway {
	t.Helper()
	return pipelinetest.Open(t, document(inRedis(s, settings)), Spec)
}

func TestRedis(t *testing.T) {
	s := redistest.Start(t)
	settings := "quota: {day: 3, month: 5}, consumer_groups: [{name: starter, quota: 4}]"
	nodes := []*pipelinetest.Gateway{openRedis(t, s, settings), openRedis(t, s, settings)}
	f := func(node int, when string, status int, want string, groups ...int) {
		t.Helper()
		x := at(nodes[node].Exchange("GET", "/"), when)
		by(nodes[node], "bob", groups...)(x)
		nodes[node].Serve(x)
		if got := headers(x); x.Ctx.Response.StatusCode() != status || got != want {
			t.Errorf("%s on %d: %d %q, want %d %q", when, node, x.Ctx.Response.StatusCode(), got, status, want)
		}
	}
	f(0, "2031-03-01T12:00:00Z", 200, "3 2 43200  ")
	f(1, "2031-03-01T18:00:00Z", 200, "3 1 21600  ")
	f(0, "2031-03-01T23:59:59Z", 200, "3 0 1 80 ")
	f(1, "2031-03-01T23:59:59Z", 429, "3 0 1 80 1")
	f(0, "2031-03-02T00:00:00Z", 200, "4 0 2592000 80 ", 0)
	f(1, "2031-03-02T00:00:00Z", 429, "4 0 2592000 80 2592000", 0)
	f(1, "2031-03-02T00:00:00Z", 200, "5 0 2592000 80 ")
	f(1, "2031-04-01T00:00:00Z", 200, "3 2 86400  ")
}

func TestRedisExpires(t *testing.T) {
	s := redistest.Start(t)
	g := openRedis(t, s, "quota: {second: 5, day: 5, month: 5}")
	g.Serve(at(g.Exchange("GET", "/"), "2031-03-01T12:00:00Z"))
	want := map[string]int{"second": 2, "day": 43200 + 3600, "month": 31*86400 - 43200 + 3600}
	keys := strings.Fields(s.Do("keys", "*"))
	if len(keys) != len(want) {
		t.Errorf("keys %q", keys)
	}
	for _, key := range keys {
		ttl, err := strconv.Atoi(s.Do("ttl", key))
		parts := strings.Split(key, ":")
		life := want[parts[len(parts)-2]]
		if err != nil || ttl > life || ttl < life-30 && ttl != -2 {
			t.Errorf("%s lives for %d, want %d", key, ttl, life)
		}
	}
}

func TestRedisGivesBack(t *testing.T) {
	s := redistest.Start(t)
	g := openRedis(t, s, "quota: {month: 5}")
	status := 500
	g.Service = func(x *pipeline.Exchange) { x.Ctx.Response.SetStatusCode(status) }
	f := func(of int, left string) {
		t.Helper()
		status = of
		if got := header(send(g, nil), "X-Quota-Remaining"); got != left {
			t.Errorf("%d: %s left, want %s", of, got, left)
		}
	}
	f(500, "4")
	f(500, "4")
	f(200, "4")
	f(200, "3")
}

func TestRedisAnniversary(t *testing.T) {
	s := redistest.Start(t)
	settings := "quota: {month: 2}, reset_on: anniversary"
	f := func(when, want string) {
		t.Helper()
		g := openRedis(t, s, settings) // knows nothing yet
		x := at(g.Exchange("GET", "/"), when)
		g.Serve(x)
		if got := headers(x); got != want {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	f("2031-01-31T10:00:00Z", "2 1 2419200  ") // to February 28
	f("2031-02-28T09:59:59Z", "2 0 1 80 ")
	f("2031-02-28T10:00:00Z", "2 1 2678400  ") // to March 31
	ttl, err := strconv.Atoi(s.Do("ttl", strings.Fields(s.Do("keys", "*first"))[0]))
	if err != nil || ttl < firstLife-60 {
		t.Errorf("the first use is remembered for %d s, %v", ttl, err)
	}
}

func TestRedisExactUnderConcurrency(t *testing.T) {
	const limit = 100
	s := redistest.Start(t)
	settings := fmt.Sprintf("quota: {month: %d}", limit)
	nodes := []*pipelinetest.Gateway{openRedis(t, s, settings), openRedis(t, s, settings)}
	var admitted atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range limit / 4 {
				x := at(pipelinetest.NewExchange("GET", "/"), "2031-03-01T12:00:00Z")
				nodes[i%2].Chain.Begin(x)
				if nodes[i%2].Chain.Request(x) == pipeline.Next {
					admitted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := admitted.Load(); n != limit {
		t.Errorf("admitted %d, want exactly %d", n, limit)
	}
}

func TestRedisAway(t *testing.T) {
	s := redistest.Start(t)
	s.Kill()
	f := func(settings string, status int) {
		t.Helper()
		g := openRedis(t, s, "quota: {month: 5}"+settings)
		x := g.Do("GET", "/", "Accept", "text/plain")
		if got := x.Ctx.Response.StatusCode(); got != status || strings.TrimSpace(headers(x)) != "" {
			t.Errorf("{%s}: %d, headers %q", settings, got, headers(x))
		}
	}
	f("", 200)
	f(", fault_tolerant: false", 500)
}

func TestRedisCluster(t *testing.T) {
	nodes := redistest.Cluster(t, 3)
	settings := fmt.Sprintf("quota: {day: 50, month: 50}, reset_on: anniversary, strategy: redis, redis: {cluster_nodes: [{ip: 127.0.0.1, port: %d}]}", nodes[0].Port)
	g := pipelinetest.Open(t, document(settings), Spec)
	for i := range 20 {
		x := send(g, func(x *pipeline.Exchange) {
			x.Credential = &pipeline.Credential{ID: fmt.Sprintf("key}{%d", i)} // no name ends a hash tag
		})
		if got := header(x, "X-Quota-Remaining"); got != "49" {
			t.Errorf("%s left, want 49", got)
		}
	}
}

func TestNoRedis(t *testing.T) {
	f := func(settings, want string) {
		t.Helper()
		_, err := buildIn(t, pipeline.NewKeeper(), "", "quota: {month: 5}, "+settings)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("{%s}:\n got %v\nwant %s", settings, err, want)
		}
	}
	f("strategy: redis", `strategy "redis": redis.host: required field missing`)
	f("strategy: cluster, redis_host: localhost", `strategy "cluster": it counts in the Redis of the deployment, and there is none`)
}

func TestRedisReport(t *testing.T) {
	s := redistest.Start(t)
	keeper := pipeline.NewKeeper()
	one := load(t, keeper, "", inRedis(s, "quota: {month: 5}"))
	defer one.release(t)
	one.use("bob")
	one.use("bob")
	_, _, report := one.book.Report()
	if f := report.(facts); len(f.Consumers) != 1 || f.Consumers[0].Consumer != "bob" || f.Consumers[0].Used != 2 || f.Consumers[0].Reset != nextMonth() {
		t.Errorf("%+v", f)
	}
	one.book.Prune(pipeline.Now())
	if _, known := one.book.heard.usedBy(one.env.Consumers.Find("bob").ID, 4102444800); known {
		t.Error("the use of a period that is over is told")
	}
}
