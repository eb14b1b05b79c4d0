//go:build unix

package engine_test

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/redis/redistest"
)

// purgePatience is how long a purge may take to reach the other gateways.
const purgePatience = time.Second

// cacheFleet are gateways that share a Redis, over one service.
type cacheFleet struct {
	*stage
	gates []*gateway
	doc   string
	asks  int
}

// shareCache starts gateways that share the Redis of a block, with more settings of the
// cache.
func shareCache(t testing.TB, n int, block, settings string, ports ...int) *cacheFleet {
	t.Helper()
	f := &cacheFleet{stage: newStage(t)}
	f.real = map[string]string{}
	for _, port := range ports {
		addr := "127.0.0.1:" + strconv.Itoa(port)
		f.real[addr] = addr
	}
	f.doc = keeping("strategy: redis, redis: {" + block + ", timeout: 500}, " + settings)
	f.cast("o:1", role{answer: f.numbered})
	for range n {
		f.gates = append(f.gates, f.start(f.doc))
	}
	return f
}

// shareServer is shareCache with one server.
func shareServer(t testing.TB, n int, server *redistest.Server, settings string) *cacheFleet {
	t.Helper()
	f := shareCache(t, n, fmt.Sprintf("host: 127.0.0.1, port: %d", server.Port), settings, server.Port)
	f.awaitShared()
	return f
}

// numbered answers with the path, and how often the origin has been asked for it.
func (f *cacheFleet) numbered(w http.ResponseWriter, r *http.Request) {
	n := 0
	f.look("o:1", func(a *actor) {
		for _, o := range a.requests {
			if o.RequestURI == r.RequestURI {
				n++
			}
		}
	})
	key := strings.ReplaceAll(strings.Trim(r.URL.Path, "/"), "/", "-")
	sized(fmt.Sprint(r.RequestURI, " ", n), "Surrogate-Key", key)(w, r)
}

// awaitShared waits until every gateway gets from Redis what the first has fetched.
func (f *cacheFleet) awaitShared() {
	f.t.Helper()
	eventually(f.t, "gateways to share answers", func() bool {
		f.asks++
		path := fmt.Sprint("/probe/", f.asks)
		f.gates[0].ask(path)
		f.awaitWritten()
		for _, g := range f.gates[1:] {
			if resp, _ := g.ask(path); resp.Header.Get("X-Cache-Status") != "Hit" {
				return false
			}
		}
		return true
	})
}

// awaitWritten waits until Redis has what is on its way there.
func (f *cacheFleet) awaitWritten() {
	f.t.Helper()
	for _, g := range f.gates {
		eventually(f.t, "answers to be written", func() bool { return g.cacheCount("redis_queue_bytes") == 0 })
	}
}

// spreads has the first gateway ask for paths, and the others get them from Redis.
func (f *cacheFleet) spreads(paths ...string) {
	f.t.Helper()
	for _, path := range paths {
		_, want := f.gates[0].ask(path)
		f.awaitWritten()
		for _, g := range f.gates[1:] {
			g.expects(path, "Hit", 200, want)
		}
	}
}

// What one gateway has fetched the others need not: small and large, in all variants.
func TestCacheSharedByRedis(t *testing.T) {
	server := redistest.Start(t)
	for _, settings := range []string{"cache_ttl: 300, memory: {dictionary_name: a}", "rfc: true, memory: {dictionary_name: b}"} {
		f := shareCache(t, 2, fmt.Sprintf("host: 127.0.0.1, port: %d", server.Port), settings, server.Port)
		f.gates[0].t, f.gates[1].t = t, t
		name := map[bool]string{true: "a", false: "b"}[strings.Contains(settings, "name: a")]
		written := func() {
			t.Helper()
			for _, g := range f.gates {
				eventually(t, "answers to be written", func() bool { return g.counter(`sluice_cache_redis_queue_bytes{cache="`+name+`"}`) == 0 })
			}
		}
		bodies := map[string]http.HandlerFunc{
			"/small": sized("small", "Etag", `"e"`), "/empty": sized(""), "/large": sized(pattern(300<<10, 41)),
			"/chunked": chunked(pattern(200<<10, 42)), "/404": func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/plain")
				w.Header().Set("Cache-Control", forever)
				w.WriteHeader(404)
			},
		}
		f.cast("o:1", role{answer: func(w http.ResponseWriter, r *http.Request) { bodies[r.URL.Path](w, r) }})
		for path := range bodies {
			eventually(t, path+" to be shared", func() bool {
				f.asks++
				uri := fmt.Sprint(path, "?", f.asks)
				counter := `sluice_cache_stored_total{cache="` + name + `"}`
				stored := f.gates[0].counter(counter)
				first, want := f.gates[0].ask(uri)
				// What was asked for before the first look at Redis is not stored: the next is.
				for began := time.Now(); f.gates[0].counter(counter) == stored; {
					if time.Since(began) > time.Second {
						return false
					}
				}
				written()
				before := f.hits("o:1")
				again, got := f.gates[1].ask(uri)
				if again.Header.Get("X-Cache-Status") != "Hit" || f.hits("o:1") != before {
					return false
				}
				if got != want || again.StatusCode != first.StatusCode || again.Header.Get("Etag") != first.Header.Get("Etag") || again.Header.Get("Date") != first.Header.Get("Date") {
					t.Errorf("%s: %d %v, %d bytes; from Redis %d %v, %d bytes", path, first.StatusCode, first.Header, len(want), again.StatusCode, again.Header, len(got))
				}
				return true
			})
		}
		if name == "b" {
			f.cast("o:1", role{answer: func(w http.ResponseWriter, r *http.Request) {
				sized("in "+r.Header.Get("Accept-Language"), "Vary", "Accept-Language")(w, r)
			}})
			for _, l := range []string{"de", "en"} {
				f.gates[0].expects("/v", "Miss", 200, "in "+l, "Accept-Language", l)
				written()
				f.gates[1].expects("/v", "Hit", 200, "in "+l, "Accept-Language", l)
			}
		}
	}
}

// An answer larger than what goes to Redis is kept by each gateway for itself.
func TestCacheTooLargeToShare(t *testing.T) {
	f := shareServer(t, 2, redistest.Start(t), "cache_ttl: 300")
	body := pattern(3<<20, 43)
	f.cast("o:1", role{answer: sized(body)})
	for _, g := range f.gates {
		stored := g.cacheCount("stored_total")
		g.expects("/x", "Miss", 200, body)
		eventually(t, "it is kept", func() bool { return g.cacheCount("stored_total") == stored+1 })
		g.expects("/x", "Hit", 200, body)
	}
}

// A purge on one gateway is seen on the other within a second, and what is purged does
// not come back from Redis.
func TestCachePurgeReachesAllGateways(t *testing.T) {
	x := shareServer(t, 2, redistest.Start(t), "cache_ttl: 300, serve_stale_on_error: true")
	one, two := x.gates[0], x.gates[1]
	ids := document(t, x.doc)
	f := func(name string, p *pipeline.Purge, gone, stays []string) {
		t.Run(name, func(t *testing.T) {
			x.spreads(append(gone, stays...)...)
			one.Purge(p)
			purged := time.Now()
			eventually(t, "the purge reaches the other gateway", func() bool {
				resp, _ := two.ask(gone[0])
				return resp.Header.Get("X-Cache-Status") != "Hit"
			})
			if d := time.Since(purged); d > purgePatience {
				t.Errorf("it took %s", d)
			}
			for _, path := range gone[1:] {
				if resp, _ := two.ask(path); resp.Header.Get("X-Cache-Status") == "Hit" {
					t.Errorf("%s is still there", path)
				}
			}
			for _, path := range stays {
				if resp, _ := two.ask(path); resp.Header.Get("X-Cache-Status") != "Hit" {
					t.Errorf("%s: %s", path, resp.Header.Get("X-Cache-Status"))
				}
			}
			if p.Soft {
				two.ask(gone[0])
				one.Purge(p)
				x.cast("o:1", role{refuse: true})
				eventually(t, "a stale answer", func() bool {
					a := two.send(noRedirects, "GET", gone[0], http.NoBody, "Host", cacheHost)
					if a.status() != 200 {
						t.Errorf("%d", a.status())
					}
					return a.resp.Header.Get("X-Cache-Status") == "Stale"
				})
				x.cast("o:1", role{answer: x.numbered})
			}
			one.Purge(&pipeline.Purge{})
			eventually(t, "all is gone", func() bool {
				resp, _ := two.ask(gone[0])
				return resp.Header.Get("X-Cache-Status") != "Hit"
			})
		})
	}
	f("all", &pipeline.Purge{}, []string{"/all/1", "/all/2"}, nil)
	f("path", &pipeline.Purge{Path: "/path"}, []string{"/path/1", "/path"}, []string{"/pathetic", "/other"})
	f("exact", &pipeline.Purge{Path: "/exact", Exact: true}, []string{"/exact", "/exact?a=b"}, []string{"/exact/1"})
	f("key", &pipeline.Purge{Keys: []string{"key-1"}}, []string{"/key/1"}, []string{"/key/2"})
	f("route", &pipeline.Purge{Route: ids.Routes[0].ID}, []string{"/route"}, nil)
	f("and", &pipeline.Purge{Service: ids.Services[0].ID, Path: "/and", Keys: []string{"and-1", "other"}}, []string{"/and/1"}, []string{"/and/2", "/other"})
	f("soft", &pipeline.Purge{Soft: true, Path: "/soft"}, []string{"/soft/1"}, []string{"/stays"})
}

// A purge holds at once where it was made, also for what lies in Redis.
func TestCachePurgeHoldsAtOnce(t *testing.T) {
	x := shareServer(t, 2, redistest.Start(t), "cache_ttl: 300, serve_stale_on_error: true")
	for i := range 10 {
		path := fmt.Sprint("/x/", i)
		x.spreads(path)
		x.gates[0].Purge(&pipeline.Purge{Path: path})
		x.gates[0].expects(path, "Miss", 200, path+" 2")
	}
	for i := range 10 {
		path := fmt.Sprint("/soft/", i)
		x.gates[1].expects(path, "Miss", 200, path+" 1")
		x.awaitWritten()
		x.gates[0].Purge(&pipeline.Purge{Path: path, Soft: true})
		if resp, _ := x.gates[0].ask(path); resp.Header.Get("X-Cache-Status") == "Hit" {
			t.Errorf("%s is fresh after it was purged", path)
		}
	}
}

// An answer that was asked for before a purge is kept by none of the gateways, wherever
// the purge was and however late it comes.
func TestCachePurgeWhileAnotherGatewayAsks(t *testing.T) {
	x := shareServer(t, 2, redistest.Start(t), "cache_ttl: 300")
	one, two := x.gates[0], x.gates[1]
	large := pattern(200<<10, 44)
	f := func(name, old string, knows bool) {
		t.Run(name, func(t *testing.T) {
			path := "/x/" + name
			x.cast("o:1", role{hold: true, answer: sized(old)})
			p := two.background(path, "Host", cacheHost)
			x.awaitActive("o:1", 1)
			purges := two.cacheCount("redis_purges_total")
			one.Purge(&pipeline.Purge{Path: "/x"})
			if knows {
				eventually(t, "the other knows of the purge", func() bool { return two.cacheCount("redis_purges_total") > purges })
			}
			x.cast("o:1", role{answer: sized("new")})
			allGet(t, []*pending{p}, old)
			x.awaitWritten()
			if _, body := one.ask(path); body != "new" {
				t.Errorf("the gateway that was told to purge gives what was asked for before")
			}
			eventually(t, "the other gateway has it anew", func() bool {
				_, body := two.ask(path)
				return body == "new"
			})
		})
	}
	f("known", "old", true)
	f("unknown", "old", false)
	f("large", large, true)
	f("large unknown", large, false)
}

// Sentinels that make the replica the master cost hits for a while, and nothing else.
func TestCacheSharedBySentinels(t *testing.T) {
	r := redistest.Sentinels(t)
	block, ports := "sentinel_master: main, sentinel_nodes: [", []int{r.Master.Port, r.Replica.Port}
	for _, s := range r.Sentinels {
		block += fmt.Sprintf("{host: 127.0.0.1, port: %d}, ", s.Port)
		ports = append(ports, s.Port)
	}
	x := shareCache(t, 2, strings.TrimSuffix(block, ", ")+"]", "cache_ttl: 300", ports...)
	x.awaitShared()
	x.spreads("/before")
	l := x.load()
	r.Master.Kill()
	redistest.Eventually(t, "the replica is the master", func() bool {
		says, err := r.Replica.Try("role") // it closes connections as it changes
		return err == nil && strings.HasPrefix(says, "master")
	})
	x.awaitShared()
	l.check(t)
	x.spreads("/after")
	x.gates[0].Purge(&pipeline.Purge{Path: "/after"})
	purged := time.Now()
	eventually(t, "the purge reaches the other gateway", func() bool { return x.asked(x.gates[1], "/after") })
	if d := time.Since(purged); d > purgePatience {
		t.Errorf("the purge took %s", d)
	}
}

// In a cluster answers lie on all masters; one that is gone takes its own with it.
func TestCacheSharedByCluster(t *testing.T) {
	nodes := redistest.Cluster(t, 3)
	block, ports := "cluster_nodes: [", []int{}
	for _, n := range nodes {
		block += fmt.Sprintf("{ip: 127.0.0.1, port: %d}, ", n.Port)
		ports = append(ports, n.Port)
	}
	x := shareCache(t, 2, strings.TrimSuffix(block, ", ")+"]", "cache_ttl: 300", ports...)
	x.awaitShared()
	for i := range 20 {
		x.spreads(fmt.Sprint("/x/", i))
	}
	for i, n := range nodes {
		if n.Do("dbsize") == "0" {
			t.Errorf("nothing lies on master %d", i)
		}
	}
	x.gates[0].Purge(&pipeline.Purge{Path: "/x"})
	purged := time.Now()
	eventually(t, "the purge reaches the other gateway", func() bool { return x.asked(x.gates[1], "/x/0") })
	if d := time.Since(purged); d > purgePatience {
		t.Errorf("the purge took %s", d)
	}
	purges := slices.IndexFunc(nodes, func(n *redistest.Server) bool { return n.Do("keys", "sluice:cache:*:purges") != "" })
	if purges < 0 {
		t.Fatal("no master has the purges")
	}
	l := x.load()
	nodes[(purges+1)%len(nodes)].Kill()
	x.awaitShared() // what lies elsewhere
	x.spreadsSome(t)
	nodes[purges].Kill() // nothing of Redis can be believed any more
	before := x.hits("o:1")
	eventually(t, "gateways that share nothing", func() bool { return x.hits("o:1") > before+50 })
	l.check(t)
}

// spreadsSome waits until a good part of what one gateway fetches reaches the other.
func (f *cacheFleet) spreadsSome(t *testing.T) {
	t.Helper()
	const n = 30
	eventually(t, "a good part of the answers to be shared", func() bool {
		got := 0
		for range n {
			f.asks++
			path := fmt.Sprint("/some/", f.asks)
			f.gates[0].ask(path)
			f.awaitWritten()
			// The service is asked by others meanwhile: its count says nothing here.
			if resp, _ := f.gates[1].ask(path); resp.Header.Get("X-Cache-Status") == "Hit" {
				got++
			}
		}
		return got > n/3
	})
}

// A client who wants only what is kept gets what another gateway has kept.
func TestCacheOnlyIfCachedAsksRedis(t *testing.T) {
	x := shareServer(t, 2, redistest.Start(t), "rfc: true")
	x.cast("o:1", role{answer: sized("kept")})
	one, two := x.gates[0], x.gates[1]
	one.ask("/only")
	x.awaitWritten()
	if resp, body := two.ask("/only", "Cache-Control", "only-if-cached"); resp.StatusCode != 200 || body != "kept" {
		t.Errorf("%d, %q", resp.StatusCode, body)
	}
	if resp, _ := two.ask("/never", "Cache-Control", "only-if-cached"); resp.StatusCode != 504 {
		t.Errorf("%d for what nobody has", resp.StatusCode)
	}
}
