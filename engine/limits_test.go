//go:build linux

package engine_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/redis/redistest"
)

// reload changes limits under load, by SIGHUP: counts stay as they were and the limit is
// the one of the document.
func (s *limitSuite) reload(t *testing.T) {
	server := redistest.Start(t)
	document := func(limit int) string {
		return limitsDocument(s.service.URL, redisAt(server.Port),
			limitRoute{"local", "rate-limiting", fmt.Sprintf("year: %d, policy: local", limit)},
			limitRoute{"shared", "rate-limiting", fmt.Sprintf("year: %d, policy: redis, error_message: API rate limit exceeded", limit)},
			limitRoute{"pushed", "rate-limiting", fmt.Sprintf("year: %d, policy: redis, sync_rate: 60", limit)},
			limitRoute{"window", "rate-limiting-advanced", fmt.Sprintf("limit: [%d], window_size: [31536000], strategy: local, disable_penalty: true", limit)},
		)
	}
	paths := []string{"/local", "/shared", "/pushed", "/window"}
	limit := 60
	f := s.fleet(t, 1, document(limit))
	within(t, faultPatience, "the gateway has its Redis", f.uses)
	l := (&stream{fleet: f, paths: paths, rate: 800}).start()
	reloads := 0
	change := func(to int) {
		t.Helper()
		f[0].reload(document(to))
		limit = to
		reloads++
		l.runs(t, 300*time.Millisecond)
		for _, path := range paths {
			l.awaitAll(t, path, http.StatusTooManyRequests)
		}
	}
	for _, to := range []int{80, 80, 81, 120} {
		change(to)
	}
	change(70) // lower than what is used
	change(150)
	tries := l.end()
	for _, path := range paths {
		got := at(tries, path)
		if n := with(got, http.StatusOK); n != limit || with(got, http.StatusTooManyRequests) != len(got)-n {
			t.Errorf("%s: %d of %d admitted, want %d", path, n, len(got), limit)
		}
	}
	last := l.recent("/local", 1)[0]
	if err := last.refused("Year", limit); err != nil {
		t.Error(err)
	}
	t.Logf("%d requests, %d reloads: %d admitted of each kind of counter", len(tries), reloads, limit)

	// What was to be told to Redis in a minute is told at the end.
	f[0].end(syscall.SIGTERM)
	if got := server.Do("hget", server.Do("keys", "sluice:"+limitID(2)+":*"), "sum"); got != strconv.Itoa(limit) {
		t.Errorf("Redis was told %q in the end, want %d", got, limit)
	}
}

// tiersDocument has a plan for each consumer group, and an exception for one consumer.
func tiersDocument(service string, redis, pro int, adaIn string) string {
	return fmt.Sprintf(`_format_version: "3.0"
gateway: {proxy_listen: "127.0.0.1:0", status_listen: "127.0.0.1:0", admin_listen: "off", log_level: info}
services:
- {name: api, url: %q, routes: [{name: all, paths: [/], strip_path: false}]}
plugins:
- {name: key-auth, config: {key_names: [apikey], hide_credentials: true}}
- {name: rate-limiting, consumer: anita, config: {year: 7, policy: redis, redis: %[2]s}}
consumer_groups:
- {name: free, plugins: [{name: rate-limiting, config: {year: 5, policy: redis, redis: %[2]s}}]}
- {name: pro, plugins: [{name: rate-limiting, config: {year: %[3]d, policy: redis, redis: %[2]s}}]}
- {name: enterprise}
consumers:
- {username: ada, groups: [{name: %[4]s}], keyauth_credentials: [{key: ada}]}
- {username: grace, groups: [{name: free}], keyauth_credentials: [{key: grace}, {key: grace-2}]}
- {username: barbara, groups: [{name: pro}], keyauth_credentials: [{key: barbara}]}
- {username: anita, groups: [{name: pro}], keyauth_credentials: [{key: anita}]}
- {username: radia, groups: [{name: enterprise}], keyauth_credentials: [{key: radia}]}
`, service, redisAt(redis), pro, adaIn)
}

// tiers is that each caller has what his plan says at all gateways together, whichever
// of his keys he shows, and a changed plan at once.
func (s *limitSuite) tiers(t *testing.T) {
	server := redistest.Start(t)
	f := s.fleet(t, 2, tiersDocument(s.service.URL, server.Port, 20, "free"))
	within(t, faultPatience, "the gateways have their Redis", f.uses)
	keys := []string{"ada", "grace", "grace-2", "barbara", "anita", "radia", "nobody"}
	admitted := func(enterprise string) map[string]int {
		t.Helper()
		l := (&stream{fleet: f, paths: []string{"/tiers"}, keys: keys, rate: 500}).start()
		tries := l.runs(t, time.Second).end()
		n := map[string]int{}
		for _, y := range tries {
			wrong := y.key == "nobody" && y.status != http.StatusUnauthorized
			switch y.status {
			case http.StatusOK:
				name, _, _ := strings.Cut(y.key, "-")
				n[name]++
				wrong = wrong || (y.remaining("Year") < 0) != (y.key == enterprise)
			case http.StatusTooManyRequests:
				wrong = wrong || !bodyExceeded.MatchString(y.body) || y.remaining("Year") != 0
			}
			if wrong || y.err != nil {
				t.Fatalf("%s: %d %s %v %v", y.key, y.status, y.body, y.header, y.err)
			}
		}
		if n[enterprise] != len(of(tries, func(y *try) bool { return y.key == enterprise })) {
			t.Errorf("%s: %d admitted, want all", enterprise, n[enterprise])
		}
		delete(n, enterprise)
		return n
	}
	if n := admitted("radia"); fmt.Sprint(n) != "map[ada:5 anita:7 barbara:20 grace:5]" {
		t.Errorf("admitted %v", n)
	}
	for _, g := range f {
		g.reload(tiersDocument(s.service.URL, server.Port, 30, "pro"))
	}
	if n := admitted("radia"); fmt.Sprint(n) != "map[ada:30 barbara:10]" {
		t.Errorf("admitted when pro is 30 and ada has it: %v", n)
	}
}
