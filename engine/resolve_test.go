package engine_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/lb"
)

func TestTargetsByName(t *testing.T) {
	leavesNothing(t)
	s := newShore(t, "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "::1")
	n := newNameServer(t, "a.test 60 A 127.0.0.1", "a.test 60 A 127.0.0.2", "a.test 60 A 127.0.0.3", "b.test 60 A 127.0.0.4",
		"six.test 60 AAAA ::1", "alias.test 60 CNAME a.test")
	hosts := ", dns_hostsfile: \"" + tempFile(t, "127.0.0.2 b.test\n") + "\""
	f := func(gateway, targets string, requests int, want map[string]int) {
		t.Helper()
		targets = strings.ReplaceAll(targets, "PORT", s.port)
		g := start(t, n.gateway(gateway)+oneUpstream("", targets), nil)
		if got := g.answerers(requests, "/"); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", targets, got, want)
		}
	}
	// The weight is that of each address.
	f("", `{target: "a.test:PORT", weight: 10}, {target: "b.test:PORT", weight: 20}`, 100,
		map[string]int{"127.0.0.1": 20, "127.0.0.2": 20, "127.0.0.3": 20, "127.0.0.4": 40})
	f("", `{target: "alias.test:PORT"}, {target: "b.test:PORT", weight: 0}, {target: "none.test:PORT"}`, 30,
		map[string]int{"127.0.0.1": 10, "127.0.0.2": 10, "127.0.0.3": 10})
	f(hosts, `{target: "b.test:PORT"}`, 3, map[string]int{"127.0.0.2": 3})
	f(", dns_order: [LAST, A, AAAA]", `{target: "six.test:PORT"}, {target: "b.test:PORT"}`, 4, map[string]int{"::1": 2, "127.0.0.4": 2})
	s.reset()
	f("", `{target: "b.test:PORT"}`, 1, map[string]int{"127.0.0.4": 1})
	if _, hosts := s.reset(); hosts["b.test:"+s.port] != 1 {
		t.Errorf("Host: %v", hosts)
	}
}

// A host that is no upstream: its addresses take turns, and a retry goes to the next.
func TestServiceHostWithSeveralAddresses(t *testing.T) {
	leavesNothing(t)
	s := newShore(t, "127.0.0.1", "127.0.0.2", "127.0.0.3")
	n := newNameServer(t, "a.test 60 A 127.0.0.1", "a.test 60 A 127.0.0.2", "a.test 60 A 127.0.0.3",
		"half.test 60 A 127.0.0.1", "half.test 60 A 127.0.0.9", "dead.test 60 A 127.0.0.9", "dead.test 60 A 127.0.0.8")
	f := func(host string, retries int) *gateway {
		return start(t, n.gateway("")+fmt.Sprintf("services:\n- {name: s, host: %s, port: %s, retries: %d, routes: [{name: r, paths: [/]}]}\n", host, s.port, retries), nil)
	}
	want := map[string]int{"127.0.0.1": 10, "127.0.0.2": 10, "127.0.0.3": 10}
	if got := f("a.test", 0).answerers(30, "/"); !maps.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if got := f("half.test", 1).answerers(10, "/"); got["127.0.0.1"] != 10 {
		t.Errorf("got %v", got)
	}
	if resp, _ := f("dead.test", 1).get("/"); resp.StatusCode != 502 {
		t.Errorf("dead: %d", resp.StatusCode)
	}
	g := f("half.test", 0)
	bad, c := 0, kept(t)
	for range 10 {
		if g.send(c, http.MethodGet, "/", http.NoBody).status() == 502 {
			bad++
		}
	}
	if bad != 5 {
		t.Errorf("without retries %d of 10 failed, want 5", bad)
	}
}

// Records change while requests run: none fails, and the new addresses are used soon
// after the TTL.
func TestRecordsAreFollowedUnderLoad(t *testing.T) {
	leavesNothing(t)
	s := newShore(t, "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")
	for _, entities := range []string{
		oneUpstream("", `{target: "a.test:PORT"}`),
		oneUpstream("algorithm: least-connections, ", `{target: "a.test:PORT"}`),
		"services:\n- {name: s, url: \"http://a.test:PORT\", routes: [{name: r, paths: [/]}]}\n",
	} {
		n := newNameServer(t, "a.test 1 A 127.0.0.1", "a.test 1 A 127.0.0.2")
		g := start(t, n.gateway("")+strings.ReplaceAll(entities, "PORT", s.port), nil)
		l := startLoad(g.addr, 4)
		eventually(t, "both addresses", func() bool { return s.hit("127.0.0.1") && s.hit("127.0.0.2") })
		n.set("a.test 1 A 127.0.0.3", "a.test 1 A 127.0.0.4")
		changed := time.Now()
		eventually(t, "the new addresses", func() bool { return s.hit("127.0.0.3") && s.hit("127.0.0.4") })
		if d := time.Since(changed); d > 3*time.Second {
			t.Errorf("followed after %v", d)
		}
		l.end(t)
		s.reset()
		g.answerers(8, "/")
		if hits, _ := s.reset(); hits["127.0.0.3"]+hits["127.0.0.4"] != 8 {
			t.Errorf("hit %v", hits)
		}
	}
}

// SRV records give ports and weights, and with use_srv_name the Host field.
func TestServiceRecords(t *testing.T) {
	leavesNothing(t)
	one, two, three := newShore(t, "127.0.0.1"), newShore(t, "127.0.0.2"), newShore(t, "127.0.0.3")
	srv := func(priority, weight int, s *shore, name string) string {
		return fmt.Sprintf("api.test 60 SRV %d %d %s %s", priority, weight, s.port, name)
	}
	n := newNameServer(t, srv(1, 3, one, "n1.test."), srv(1, 0, two, "n2.test."), srv(2, 100, three, "n3.test."),
		"n1.test 60 A 127.0.0.1", "n2.test 60 A 127.0.0.2", "n3.test 60 A 127.0.0.3")
	f := func(entities string, host func(s *shore, name string) string) {
		t.Helper()
		g := start(t, n.gateway("")+entities, nil)
		if got, want := g.answerers(40, "/"), map[string]int{"127.0.0.1": 30, "127.0.0.2": 10}; !maps.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		for name, s := range map[string]*shore{"n1.test": one, "n2.test": two} {
			if _, hosts := s.reset(); len(hosts) != 1 || hosts[host(s, name)] == 0 {
				t.Errorf("Host of %s: %v", name, hosts)
			}
		}
	}
	target := func(*shore, string) string { return "api.test" }
	f(oneUpstream("", `{target: "api.test:80", weight: 7}`), func(s *shore, _ string) string { return "api.test:" + s.port })
	f(oneUpstream("use_srv_name: true, ", `{target: "api.test:80"}`), func(s *shore, name string) string { return name + ":" + s.port })
	f(oneUpstream("use_srv_name: true, host_header: api.test, ", `{target: "api.test:80"}`), target)
	f("services:\n- {name: s, url: \"http://api.test\", routes: [{name: r, paths: [/]}]}\n", func(s *shore, _ string) string { return "api.test:" + s.port })
}

func TestStaleAnswersServeOn(t *testing.T) {
	leavesNothing(t)
	s := newShore(t, "127.0.0.1")
	n := newNameServer(t, "a.test 1 A 127.0.0.1")
	text := oneUpstream("", `{target: "a.test:`+s.port+`"}`)
	long, short := start(t, n.gateway("")+text, nil), start(t, n.gateway(", dns_stale_ttl: 1")+text, nil)
	long.answerers(1, "/")
	l := startLoad(long.addr, 2)
	n.hush(true)
	// The short one drops its answer: by then the TTL is over for both.
	eventually(t, "503", func() bool {
		resp, _ := short.get("/")
		return resp.StatusCode == 503
	})
	long.answerers(3, "/")
	if err := long.Apply(document(t, n.gateway("")+oneUpstream("host_header: b.test, ", `{target: "a.test:`+s.port+`"}`))); err != nil {
		t.Error(err)
	}
	l.end(t)
	n.hush(false)
	eventually(t, "recovery", func() bool {
		resp, _ := short.get("/")
		return resp.StatusCode == 200
	})
}

// Without DNS a gateway starts all the same, takes reloads without delay, says so to
// clients, and is well as soon as DNS is.
func TestStartWithoutDNS(t *testing.T) {
	leavesNothing(t)
	s := newShore(t, "127.0.0.1")
	n := newNameServer(t, "a.test 60 A 127.0.0.1", "b.test 60 A 127.0.0.1")
	n.hush(true)
	document1 := func(host string) string {
		return n.gateway("") + oneUpstream(host, `{target: "a.test:`+s.port+`"}`) + "- {name: plain, url: \"http://b.test:" + s.port + "\", routes: [{name: p, paths: [/plain]}]}\n"
	}
	quick := func(what string, f func()) {
		t.Helper()
		began := time.Now()
		if f(); time.Since(began) > 3*time.Second {
			t.Errorf("%s took %v", what, time.Since(began))
		}
	}
	var g *gateway
	quick("start", func() { g = start(t, document1(""), nil) })
	for i := range 3 {
		quick("reload", func() { g.apply(document1(fmt.Sprintf("host_header: h%d.test, ", i))) })
	}
	f := func(path, message string) {
		t.Helper()
		quick("answer", func() {
			if resp, body := g.get(path); resp.StatusCode != 503 || !strings.Contains(body, message) {
				t.Errorf("%s: %d %s", path, resp.StatusCode, body)
			}
		})
	}
	f("/plain", "name resolution failed")
	f("/", "failure to get a peer from the ring-balancer")
	if n := g.counter(`sluice_upstream_faults_total{kind="resolve"}`); n != 1 {
		t.Errorf("%d faults of resolving", n)
	}
	if list := g.targets(); len(list) != 1 || list[0].State != "dns_error" {
		t.Errorf("health: %+v", list)
	}
	n.hush(false)
	for _, path := range []string{"/", "/plain"} {
		eventually(t, path, func() bool {
			resp, _ := g.get(path)
			return resp.StatusCode == 200
		})
	}
}

// A gateway that ends before DNS has ever answered leaves nothing behind.
func TestShutdownWithoutDNS(t *testing.T) {
	leavesNothing(t)
	n := newNameServer(t)
	n.hush(true)
	started := time.Now()
	text := strings.Replace(n.gateway(""), "dns_timeout: 200", "dns_timeout: 60000", 1)
	g := start(t, text+oneUpstream("", `{target: "a.test:80"}`), nil)
	if resp, _ := g.get("/"); resp.StatusCode != 503 || time.Since(started) > 3*time.Second {
		t.Errorf("%d after %v", resp.StatusCode, time.Since(started))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := g.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

func TestNamesThatAreNot(t *testing.T) {
	leavesNothing(t)
	s := newShore(t, "127.0.0.1")
	n := newNameServer(t)
	began := time.Now()
	g := start(t, n.gateway("")+"services:\n- {name: s, url: \"http://a.test:"+s.port+"\", routes: [{name: r, paths: [/]}]}\n", nil)
	if resp, body := g.get("/"); resp.StatusCode != 503 || !strings.Contains(body, "name resolution failed") || time.Since(began) > time.Second {
		t.Errorf("%d %s after %v", resp.StatusCode, body, time.Since(began))
	}
	n.set("a.test 60 A 127.0.0.1")
	eventually(t, "the name", func() bool {
		resp, _ := g.get("/")
		return resp.StatusCode == 200
	})
}

// The addresses of one name are targets of their own to every algorithm and to health.
func TestAddressesOfANameAreTargets(t *testing.T) {
	leavesNothing(t)
	ips := []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"}
	s := newShore(t, ips...)
	n := newNameServer(t, "a.test 60 A 127.0.0.1", "a.test 60 A 127.0.0.2", "a.test 60 A 127.0.0.3")
	target := `{target: "a.test:` + s.port + `"}`

	g := start(t, n.gateway("")+oneUpstream("algorithm: consistent-hashing, hash_on: header, hash_on_header: X-K, ", target), nil)
	all := map[string]int{}
	for i := range 60 {
		got := g.answerers(2, "/", "X-K", fmt.Sprint(i))
		if len(got) != 1 {
			t.Errorf("key %d: %v", i, got)
		}
		maps.Copy(all, got)
	}
	if len(all) != 3 {
		t.Errorf("60 keys at %v", all)
	}

	g = start(t, n.gateway("")+oneUpstream("algorithm: least-connections, ", target), nil)
	release := make(chan struct{})
	for _, ip := range ips {
		s.cast(ip, func(w http.ResponseWriter, _ *http.Request) {
			<-release
			_, _ = io.WriteString(w, ip)
		})
	}
	var busy []*pending
	s.reset()
	for i := range 6 {
		busy = append(busy, g.background("/"))
		eventually(t, "one more request", func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.hits[ips[0]]+s.hits[ips[1]]+s.hits[ips[2]] == i+1
		})
	}
	close(release)
	statuses(t, busy)
	if hits, _ := s.reset(); hits[ips[0]] != 2 || hits[ips[1]] != 2 || hits[ips[2]] != 2 {
		t.Errorf("least connections: %v", hits)
	}
	for _, ip := range ips {
		s.cast(ip, nil)
	}

	g = start(t, n.gateway("")+oneUpstream("healthchecks: {passive: {unhealthy: {http_failures: 1}}}, ", target), nil)
	s.cast(ips[1], func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
	for c := kept(t); ; {
		if g.send(c, http.MethodGet, "/", http.NoBody).status() == 500 {
			break
		}
	}
	var states []string
	for _, h := range g.targets() {
		states = append(states, h.Address+" "+h.State)
	}
	if want := []string{"127.0.0.1:" + s.port + " healthy", "127.0.0.2:" + s.port + " unhealthy", "127.0.0.3:" + s.port + " healthy"}; !slices.Equal(states, want) {
		t.Errorf("health: %v", states)
	}
	if got := g.answerers(6, "/"); got[ips[0]] != 3 || got[ips[2]] != 3 {
		t.Errorf("after a failure: %v", got)
	}
}

func TestThousandsOfNamesLoadQuickly(t *testing.T) {
	leavesNothing(t)
	s := newShore(t, "127.0.0.1")
	n := newNameServer(t)
	n.invent(func(name string) string { return name + " 60 A 127.0.0.1" })
	var targets []string
	var ringTargets []lb.Target
	for i := range 2000 {
		targets = append(targets, fmt.Sprintf("{target: \"t%d.test:%s\"}", i, s.port))
		ringTargets = append(ringTargets, lb.Target{Name: targets[i], Weight: 100, State: lb.NewState()})
	}
	began := time.Now()
	lb.NewRing(ringTargets, lb.RingOptions{})
	ring := time.Since(began) // what this machine takes for one
	for _, settings := range []string{"", "algorithm: consistent-hashing, hash_on: ip, "} {
		text := n.gateway("") + oneUpstream(settings, strings.Join(targets, ", "))
		began := time.Now()
		g := start(t, text, nil)
		quickly := func(what string, f func()) {
			t.Helper()
			f()
			if d := time.Since(began); d > time.Second+10*ring {
				t.Errorf("%s%s: %v, one ring %v", settings, what, d, ring)
			}
			began = time.Now()
		}
		quickly("start", func() {})
		quickly("health", func() { g.targets() })
		quickly("reload", func() { g.apply(text) })
		quickly("request", func() { g.answerers(1, "/") })
		eventually(t, "all names", func() bool {
			for _, h := range g.targets() {
				if h.State == "dns_error" {
					return false
				}
			}
			return true
		})
	}
}
