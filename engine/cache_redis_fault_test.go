//go:build unix

package engine_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/redis/redistest"
)

// redisWaitMax is how long a request may take that asks a Redis that does not answer: 50
// ms, and what a busy machine adds.
const redisWaitMax = 350 * time.Millisecond

// cacheLoad asks all gateways for new paths until it is checked.
type cacheLoad struct {
	stop chan struct{}
	done sync.WaitGroup

	mu      sync.Mutex
	took    []time.Duration
	failure string
}

func (f *cacheFleet) load() *cacheLoad {
	l := &cacheLoad{stop: make(chan struct{})}
	for i, g := range f.gates {
		l.done.Go(func() {
			c := kept(f.t)
			for n := 0; ; n++ {
				select {
				case <-l.stop:
					return
				case <-time.After(5 * time.Millisecond):
				}
				path := fmt.Sprintf("/load/%d/%d", i, n)
				began := time.Now()
				a := g.send(c, http.MethodGet, path, http.NoBody, "Host", cacheHost)
				l.mu.Lock()
				l.took = append(l.took, time.Since(began))
				if a.status() != http.StatusOK || !strings.HasPrefix(a.body, path+" ") {
					l.failure = fmt.Sprintf("%s: %d %q %v", path, a.status(), a.body, a.err)
				}
				l.mu.Unlock()
			}
		})
	}
	return l
}

// check ends the load: no request has failed, and hardly any was held up.
func (l *cacheLoad) check(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.done.Wait()
	if l.failure != "" {
		t.Error(l.failure)
	}
	if len(l.took) == 0 {
		t.Fatal("no requests")
	}
	if d := slices.Max(l.took); d > redisWaitMax {
		t.Errorf("a request took %s", d)
	}
}

// A Redis that stands still costs hits: nobody waits for it for long, nothing fails, and
// what others purge meanwhile is known when it goes on.
func TestCacheRedisStandsStill(t *testing.T) {
	server := redistest.Start(t)
	x := shareServer(t, 2, server, "cache_ttl: 300")
	x.spreads("/x", "/y")
	server.Stop()
	l := x.load()
	for _, g := range x.gates {
		began := time.Now()
		g.expects("/x", "Hit", 200, "/x 1")
		if d := time.Since(began); d > redisWaitMax {
			t.Errorf("a hit took %s", d)
		}
	}
	for i := range 10 {
		began := time.Now()
		list := x.gates[0].crowd(20, fmt.Sprint("/crowd/", i), nil)
		allGet(t, list, fmt.Sprintf("/crowd/%d 1", i))
		if d := time.Since(began); d > 2*redisWaitMax {
			t.Errorf("a crowd took %s", d)
		}
	}
	began := time.Now()
	x.gates[0].Purge(&pipeline.Purge{Path: "/x"})
	if d := time.Since(began); d > redisWaitMax {
		t.Errorf("a purge took %s", d)
	}
	if !x.asked(x.gates[0], "/x") {
		t.Error("it is not purged where it was purged")
	}
	server.Continue()
	eventually(t, "the purge reaches the other gateway", func() bool { return x.asked(x.gates[1], "/x") })
	x.awaitShared()
	l.check(t)
}

// A Redis that dies and comes back empty fails nothing; what is purged without it is
// purged everywhere when it is back.
func TestCacheRedisStartsAnew(t *testing.T) {
	server := redistest.Start(t)
	x := shareServer(t, 2, server, "cache_ttl: 300")
	paths := []string{"/a", "/b", "/c"}
	x.spreads(paths...)
	l := x.load()
	server.Kill()
	for _, g := range x.gates {
		g.expects("/a", "Hit", 200, "/a 1")
	}
	x.gates[0].Purge(&pipeline.Purge{Path: "/a"})
	x.gates[1].Purge(&pipeline.Purge{Keys: []string{"b"}})
	x.gates[0].expects("/b", "Hit", 200, "/b 1") // nobody can tell
	if !x.asked(x.gates[0], "/a") || !x.asked(x.gates[1], "/b") {
		t.Error("it is not purged where it was purged")
	}
	server.Restart()
	eventually(t, "the purges reach the other gateway", func() bool {
		_, a := x.gates[1].ask("/a")
		_, b := x.gates[0].ask("/b")
		return a != "/a 1" && b != "/b 1"
	})
	x.awaitShared()
	x.spreads("/d", "/e")
	l.check(t)
	if n := server.Do("dbsize"); n == "0" {
		t.Error("nothing is in the new Redis")
	}
}

// What is damaged in Redis, or is not what its name says, is not given to anybody.
func TestCacheRedisDamaged(t *testing.T) {
	server := redistest.Start(t)
	x := shareServer(t, 2, server, "cache_ttl: 300")
	one, two := x.gates[0], x.gates[1]
	f := func(name string, damage func(key string)) {
		t.Helper()
		path := "/" + name
		before := server.Do("keys", "sluice:cache:*:kong_db_cache:*")
		one.expects(path, "Miss", 200, path+" 1")
		x.awaitWritten()
		found := ""
		for key := range strings.Lines(server.Do("keys", "sluice:cache:*:kong_db_cache:*")) {
			if key = strings.TrimSpace(key); !strings.Contains(before, key) {
				found = key
			}
		}
		if found == "" {
			t.Fatalf("%s: Redis has no new entry", name)
		}
		damage(found)
		two.expects(path, "Miss", 200, path+" 2")
	}
	f("flipped", func(key string) { server.Do("setrange", key, "60", "#") })
	f("tail", func(key string) { server.Do("append", key, "more") })
	f("text", func(key string) { server.Do("set", key, "not an entry") })
	f("empty", func(key string) { server.Do("set", key, "") })
	f("type", func(key string) {
		server.Do("del", key)
		server.Do("lpush", key, "x")
	})
	f("gone", func(key string) { server.Do("del", key) })
	one.expects("/other", "Miss", 200, "/other 1")
	x.awaitWritten()
	f("another", func(key string) {
		for other := range strings.Lines(server.Do("keys", "sluice:cache:*:kong_db_cache:*")) {
			if other = strings.TrimSpace(other); other != key {
				server.Do("copy", other, key, "replace")
				return
			}
		}
	})
	if n := two.cacheCount("redis_errors_total"); n < 4 {
		t.Errorf("%d errors counted", n)
	}
	x.awaitShared()
}

// What Redis has lost of the purges costs entries, never correctness.
func TestCacheRedisLosesPurges(t *testing.T) {
	server := redistest.Start(t)
	x := shareServer(t, 2, server, "cache_ttl: 300")
	x.spreads("/x")
	x.gates[0].Purge(&pipeline.Purge{Path: "/nothing"})
	for _, key := range []string{"epoch", "seq", "purges"} {
		server.Do("del", "sluice:cache:{1:kong_db_cache}:"+key)
		x.gates[0].Purge(&pipeline.Purge{Path: "/x"})
		eventually(t, "the purge reaches the other gateway", func() bool { return x.asked(x.gates[1], "/x") })
		x.awaitShared()
		x.spreads("/x")
	}
	server.Do("flushall")
	x.awaitShared()
}

// Gateways whose Redis takes nothing, or does not let them in, do without it.
func TestCacheRedisRefuses(t *testing.T) {
	f := func(name string, server *redistest.Server, block string) {
		t.Run(name, func(t *testing.T) {
			x := shareCache(t, 2, fmt.Sprintf("host: 127.0.0.1, port: %d%s", server.Port, block), "cache_ttl: 300", server.Port)
			l := x.load()
			for i := range 30 {
				path := fmt.Sprint("/x/", i)
				for n, g := range x.gates {
					g.expects(path, "Miss", 200, fmt.Sprint(path, " ", n+1))
					g.expects(path, "Hit", 200, fmt.Sprint(path, " ", n+1))
				}
			}
			if n := x.gates[0].Purge(&pipeline.Purge{Path: "/x"}); n != 30 {
				t.Errorf("%d purged, want 30", n)
			}
			if !x.asked(x.gates[0], "/x/1") {
				t.Error("it is not purged")
			}
			l.check(t)
		})
	}
	f("password", redistest.Start(t, "--requirepass", "secret"), ", password: wrong")
	f("full", redistest.Start(t, "--maxmemory", "100kb", "--maxmemory-policy", "noeviction"), "")
	gone := redistest.Start(t)
	gone.Kill()
	f("gone", gone, "")
}

// Once there is room, or the gateways are let in, they share.
func TestCacheRedisTakesAgain(t *testing.T) {
	server := redistest.Start(t, "--maxmemory", "100kb", "--maxmemory-policy", "noeviction")
	x := shareCache(t, 2, fmt.Sprintf("host: 127.0.0.1, port: %d", server.Port), "cache_ttl: 300", server.Port)
	x.gates[0].expects("/x", "Miss", 200, "/x 1")
	x.gates[0].Purge(&pipeline.Purge{Path: "/x"})
	server.Do("config", "set", "maxmemory", "0")
	x.awaitShared()
	x.spreads("/x")
}

// A gateway that is started later, or anew, gets what the others have fetched.
func TestCacheRedisWarmsANewGateway(t *testing.T) {
	x := shareServer(t, 2, redistest.Start(t), "cache_ttl: 300")
	for i := range 10 {
		x.gates[0].expects(fmt.Sprint("/x/", i), "Miss", 200, fmt.Sprintf("/x/%d 1", i))
	}
	x.gates[0].Purge(&pipeline.Purge{Path: "/x/0"})
	x.awaitWritten()
	x.gates = append(x.gates, x.start(x.doc))
	x.awaitShared()
	for i := range 9 {
		x.gates[2].expects(fmt.Sprint("/x/", i+1), "Hit", 200, fmt.Sprintf("/x/%d 1", i+1))
	}
	x.gates[2].expects("/x/0", "Miss", 200, "/x/0 2") // purged before it was there
}

// What is kept survives that Redis comes and goes with the document, and what is purged
// without it stays purged.
func TestCacheRedisOverReloads(t *testing.T) {
	x := shareServer(t, 2, redistest.Start(t), "cache_ttl: 300")
	x.spreads("/a", "/b")
	one := x.gates[0]
	l := x.load()
	for range 3 {
		one.apply(keeping("cache_ttl: 300"))
		one.expects("/a", "Hit", 200, "/a 1")
		one.apply(x.doc)
		one.expects("/a", "Hit", 200, "/a 1")
	}
	one.Purge(&pipeline.Purge{Path: "/a"})
	eventually(t, "the purge reaches the other gateway", func() bool { return x.asked(x.gates[1], "/a") })
	x.awaitShared()
	x.spreads("/c")
	l.check(t)
}
