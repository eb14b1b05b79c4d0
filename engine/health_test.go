package engine_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// checked is a document with one upstream and its healthchecks.
func checked(checks, settings, targets string) string {
	return "_format_version: \"3.0\"\n" + oneUpstream("healthchecks: {"+checks+"}, "+settings, targets)
}

// often probes at short intervals; two of a kind decide.
const often = "active: {healthy: {interval: 0.1, successes: 2}, unhealthy: {interval: 0.1, http_failures: 2, tcp_failures: 2, timeouts: 2}"

func TestProbesDecide(t *testing.T) {
	leavesNothing(t)
	w := newWard(t)
	g := start(t, checked(often+", http_path: /up}", "", w.targets("127.0.0.1", "127.0.0.2")), nil)
	one, two := "127.0.0.1:"+w.port, "127.0.0.2:"+w.port
	f := func(status int, state string) {
		t.Helper()
		w.set("127.0.0.2", status)
		g.await(two, state)
		want := map[string]int{"127.0.0.1": 4}
		if state == "healthy" {
			want = map[string]int{"127.0.0.1": 2, "127.0.0.2": 2}
			w.set("127.0.0.2", 0)
		}
		if got := g.answerers(4, "/traffic"); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("after %d: %v, want %v", status, got, want)
		}
	}
	f(500, "unhealthy")
	f(0, "healthy")
	f(404, "unhealthy")
	f(302, "healthy") // and nobody follows it
	f(drops, "unhealthy")
	f(0, "healthy")
	if h, _ := g.state(one); h != "healthy" {
		t.Errorf("the other is %s", h)
	}
	for _, v := range w.take() {
		if v.path == "/elsewhere" {
			t.Error("a redirect was followed")
		}
	}
	if up, down := g.counter(`sluice_target_changes_total{to="up"}`), g.counter(`sluice_target_changes_total{to="down"}`); up != 3 || down != 3 {
		t.Errorf("%d up, %d down", up, down)
	}
}

// A status in neither list says nothing.
func TestProbesIgnoreOtherStatuses(t *testing.T) {
	leavesNothing(t)
	w := newWard(t)
	w.set("127.0.0.1", 418)
	g := start(t, checked("active: {healthy: {interval: 0.1, successes: 1}, unhealthy: {interval: 0.1, http_failures: 1, http_statuses: [500]}}", "", w.targets("127.0.0.1")), nil)
	eventually(t, "ignored probes", func() bool { return g.counter(`sluice_health_probes_total{result="ignored"}`) >= 3 })
	if h, _ := g.state("127.0.0.1:" + w.port); h != "healthy" {
		t.Errorf("it is %s", h)
	}
}

func TestWhatProbesAsk(t *testing.T) {
	leavesNothing(t)
	w := newWard(t)
	n := newNameServer(t, "a.test 60 A 127.0.0.1")
	f := func(settings, target, path, host string) {
		t.Helper()
		checks := "active: {http_path: \"" + path + "\", headers: {X-Probe: [a, b], User-Agent: [check]}, healthy: {interval: 0.1}}"
		g := start(t, n.gateway("")+oneUpstream("healthchecks: {"+checks+"}, "+settings, `{target: "`+target+`:`+w.port+`"}, {target: "127.0.0.9:`+w.port+`", weight: 0}`), nil)
		w.take()
		var got []visit
		eventually(t, "probes", func() bool { got = append(got, w.take()...); return len(got) > 2 })
		for _, v := range got {
			if v.ip != "127.0.0.1" || v.path != path || v.host != host || !v.close || fmt.Sprint(v.header) != "map[User-Agent:[check] X-Probe:[a b]]" && fmt.Sprint(v.header) != "map[Connection:[close] User-Agent:[check] X-Probe:[a b]]" {
				t.Errorf("%+v, want %s of %s", v, path, host)
			}
		}
		_ = g.Shutdown(t.Context())
	}
	f("", "a.test", "/", "a.test:"+w.port)
	f("", "127.0.0.1", "/up?x=1", "127.0.0.1:"+w.port)
	f("host_header: head.test, ", "a.test", "/up", "head.test")
}

func TestSecureProbes(t *testing.T) {
	leavesNothing(t)
	ca := newAuthority(t, "ca", nil)
	var mu sync.Mutex
	var sni, client string
	config := requiring(t, ca, 0)
	config.ClientAuth = tls.VerifyClientCertIfGiven
	config.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		mu.Lock()
		defer mu.Unlock()
		sni = h.ServerName
		return nil, nil
	}
	config.VerifyPeerCertificate = func(_ [][]byte, chains [][]*x509.Certificate) error {
		mu.Lock()
		defer mu.Unlock()
		if len(chains) > 0 {
			client = chains[0][0].Subject.CommonName
		}
		return nil
	}
	o := newSecureOrigin(t, config)
	hosts := ", " + hostsFile(t, "svc.test", "other.test")
	trusted := hosts + fmt.Sprintf(", lua_ssl_trusted_certificate: [%q]", tempFile(t, ca.pem()))
	f := func(gateway, host, settings, state, name, cert string) {
		t.Helper()
		n := newNameServer(t)
		mu.Lock()
		sni, client = "-", ""
		mu.Unlock()
		checks := "healthchecks: {active: {type: https, " + settings + "healthy: {interval: 0.1, successes: 1}, unhealthy: {interval: 0.1, tcp_failures: 1}}}, "
		if cert != "" {
			checks += "client_certificate: c, "
		}
		g := start(t, n.gateway(gateway)+"certificates:\n"+certEntry(t, "c", ca.issue(t, "one"))+oneUpstream(checks, `{target: "`+host+`:`+o.port+`"}`), nil)
		eventually(t, "probes", func() bool {
			return g.counter(`sluice_health_probes_total{result="healthy"}`)+g.counter(`sluice_health_probes_total{result="unhealthy"}`) > 1
		})
		g.await(host+":"+o.port, state)
		_ = g.Shutdown(t.Context()) // or it would go on probing
		mu.Lock()
		defer mu.Unlock()
		if sni != name || client != cert {
			t.Errorf("server name %q, client %q; want %q %q", sni, client, name, cert)
		}
	}
	f(hosts, "svc.test", "", "unhealthy", "svc.test", "") // not known to the system
	f(trusted, "svc.test", "", "healthy", "svc.test", "")
	f(trusted, "other.test", "", "unhealthy", "other.test", "")
	f(trusted, "other.test", "https_sni: svc.test, ", "healthy", "svc.test", "")
	f(hosts, "other.test", "https_verify_certificate: false, ", "healthy", "other.test", "")
	f(trusted, "127.0.0.1", "https_sni: svc.test, ", "healthy", "svc.test", "one")
}

func TestTCPProbesAndTimeouts(t *testing.T) {
	leavesNothing(t)
	w := newWard(t)
	w.set("127.0.0.1", 500) // a connection is all that counts
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mute := l.Addr().String()
	tcp := start(t, checked("active: {type: tcp, healthy: {interval: 0.1, successes: 1}, unhealthy: {interval: 0.1, tcp_failures: 1}}", "", w.targets("127.0.0.1")+`, {target: "`+mute+`"}`), nil)
	slow := start(t, checked("active: {timeout: 0.1, healthy: {interval: 0.1, successes: 1}, unhealthy: {interval: 0.1, timeouts: 1}}", "", `{target: "`+mute+`"}`), nil)
	slow.await(mute, "unhealthy")
	eventually(t, "probes", func() bool { return tcp.counter(`sluice_health_probes_total{result="healthy"}`) > 4 })
	for _, target := range []string{mute, "127.0.0.1:" + w.port} {
		if h, _ := tcp.state(target); h != "healthy" {
			t.Errorf("%s is %s", target, h)
		}
	}
	_ = l.Close()
	tcp.await(mute, "unhealthy")
}

// loopbacks are n addresses of this machine.
func loopbacks(n int) (ips []string) {
	for i := range n {
		ips = append(ips, fmt.Sprintf("127.1.%d.%d", i/250, i%250+1))
	}
	return ips
}

func TestConcurrencyBoundsProbes(t *testing.T) {
	leavesNothing(t)
	w := newWard(t)
	w.hold = make(chan struct{})
	start(t, checked("active: {concurrency: 3, timeout: 60, healthy: {interval: 0.1}}", "", w.targets(loopbacks(30)...)), nil)
	probed := func(n int) func() bool {
		return func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return len(w.seen) >= n
		}
	}
	eventually(t, "three probes", probed(3))
	// Two more intervals pass; nobody comes.
	if more := w.during(300 * time.Millisecond); len(more) > 0 {
		t.Errorf("%d probes beyond the limit", len(more))
	}
	w.mu.Lock()
	close(w.hold)
	w.hold = nil
	w.mu.Unlock()
	eventually(t, "the others", probed(60))
	ips := map[string]bool{}
	for _, v := range w.take() {
		ips[v.ip] = true
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(ips) < 29 || w.peak != 3 {
		t.Errorf("%d addresses probed, at most %d at a time", len(ips), w.peak)
	}
}

// 500 targets probed every second do not beat together, and none is left out, although
// only ten may be probed at a time.
func TestProbesAreSpread(t *testing.T) {
	leavesNothing(t)
	w := newWard(t)
	const targets, bins = 500, 10
	start(t, checked("active: {healthy: {interval: 1}}", "", w.targets(loopbacks(targets)...)), nil)
	w.during(1200 * time.Millisecond) // the first ones
	began := time.Now()
	seen := w.during(2 * time.Second)
	var histogram [2 * bins]int
	by := map[string]int{}
	for _, v := range seen {
		by[v.ip]++
		histogram[min(int(v.at.Sub(began)*bins/time.Second), 2*bins-1)]++
	}
	if len(seen) < 2*targets*3/4 || len(seen) > 2*targets*5/4 || len(by) < targets {
		t.Errorf("%d probes of %d targets in 2 s", len(seen), len(by))
	}
	if most := slices.Max(histogram[:]); most > 3*targets/bins {
		t.Errorf("up to %d probes in 100 ms: %v", most, histogram)
	}
	for ip, n := range by {
		if n > 4 {
			t.Errorf("%s was probed %d times", ip, n)
		}
	}
}

// However often the document changes, one prober runs, with the newest settings; and
// none where the upstream is gone.
func TestReloadsReplaceProbers(t *testing.T) {
	leavesNothing(t)
	w := newWard(t)
	doc := func(i int) string {
		return checked(fmt.Sprintf("active: {http_path: /%d, healthy: {interval: 0.1}}", i), "", w.targets("127.0.0.1"))
	}
	g := start(t, doc(0), nil)
	for i := range 20 {
		g.apply(doc(i%3 + 1))
		if i == 10 {
			w.during(250 * time.Millisecond)
		}
	}
	w.during(200 * time.Millisecond) // what was under way
	seen := w.during(time.Second)
	if len(seen) < 5 || len(seen) > 11 {
		t.Errorf("%d probes in a second at an interval of 0.1", len(seen))
	}
	for _, v := range seen {
		if v.path != "/2" {
			t.Errorf("a probe of %s", v.path)
		}
	}
	gone := map[string]string{
		"without checks":   checked("threshold: 1", "", w.targets("127.0.0.1")),
		"without upstream": "_format_version: \"3.0\"\n",
		"weight 0":         strings.Replace(doc(5), "\"}]", "\", weight: 0}]", 1),
	}
	for what, text := range gone {
		g.apply(doc(4))
		eventually(t, "a probe", func() bool { return len(w.take()) > 0 })
		g.apply(text)
		w.during(150 * time.Millisecond)
		if seen := w.during(300 * time.Millisecond); len(seen) > 0 {
			t.Errorf("%s: %d probes", what, len(seen))
		}
	}
}

// A probe that was under way when its settings were replaced decides nothing.
func TestProbeUnderWayOverReload(t *testing.T) {
	leavesNothing(t)
	w := newWard(t)
	w.hold = make(chan struct{})
	w.set("127.0.0.1", 500)
	doc := func(interval string) string {
		return checked("active: {timeout: 60, healthy: {interval: "+interval+"}, unhealthy: {http_failures: 1}}", "", w.targets("127.0.0.1"))
	}
	g := start(t, doc("0.1"), nil)
	eventually(t, "a probe", func() bool { return len(w.take()) > 0 })
	g.apply(doc("600"))
	close(w.hold)
	eventually(t, "its answer", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.active == 0
	})
	<-time.After(50 * time.Millisecond)
	if h, _ := g.state("127.0.0.1:" + w.port); h != "healthy" {
		t.Errorf("it is %s", h)
	}
}

// Traffic puts a target out by statuses, broken connections and timeouts, each with a
// count of its own; trials bring it back where nothing probes it.
func TestPassiveChecks(t *testing.T) {
	leavesNothing(t)
	w := newWard(t)
	target := "127.0.0.1:" + w.port
	f := func(limits string, status, requests int, back bool) {
		t.Helper()
		w.set("127.0.0.1", status)
		duration := map[bool]string{true: "0.2", false: "0"}[back]
		text := checked("passive: {open_duration: "+duration+", healthy: {successes: 1}, unhealthy: {"+limits+"}}", "", w.targets("127.0.0.1"))
		text = strings.Replace(text, "retries: 2", "retries: 0, read_timeout: 50", 1)
		g := start(t, text, nil)
		for i := range requests {
			if h, _ := g.state(target); h != "healthy" {
				t.Errorf("%s: %s after %d requests", limits, h, i)
			}
			g.get("/")
		}
		if h, c := g.state(target); h != "unhealthy" {
			t.Errorf("%s: %s %s after %d requests", limits, h, c, requests)
		}
		resp, body := g.get("/")
		if after := resp.Header.Get("Retry-After"); resp.StatusCode != 503 || !strings.Contains(body, "failure to get a peer") || (after != "") != back {
			t.Errorf("%s: %d %s, Retry-After %q", limits, resp.StatusCode, body, after)
		}
		w.set("127.0.0.1", 0)
		if !back {
			return
		}
		eventually(t, "a trial", func() bool { resp, _ := g.get("/"); return resp.StatusCode == 200 })
		if h, _ := g.state(target); h != "healthy" {
			t.Errorf("%s: %s after a trial", limits, h)
		}
	}
	f("http_failures: 3", 500, 3, true)
	f("http_failures: 2, http_statuses: [418]", 418, 2, false)
	f("tcp_failures: 2", drops, 2, true)
	f("timeouts: 2, tcp_failures: 1", hangs, 2, true)

	w.set("127.0.0.1", 502) // in no list
	g := start(t, checked("passive: {unhealthy: {http_failures: 1, tcp_failures: 1, timeouts: 1}}", "", w.targets("127.0.0.1")), nil)
	for range 3 {
		g.get("/")
	}
	if h, _ := g.state(target); h != "healthy" {
		t.Errorf("%s", h)
	}
}

// What is known of a target outlives reloads, unless nothing is left that could have
// put it out.
func TestHealthOverReloads(t *testing.T) {
	leavesNothing(t)
	w := newWard(t)
	w.set("127.0.0.1", 500)
	target := "127.0.0.1:" + w.port
	doc := func(failures int, settings string) string {
		return checked(fmt.Sprintf("passive: {open_duration: 0, unhealthy: {http_failures: %d}}", failures), settings, w.targets("127.0.0.1"))
	}
	g := start(t, doc(2, ""), nil)
	g.get("/")
	g.apply(doc(2, "")) // one failure counted
	g.get("/")
	g.await(target, "unhealthy")
	for _, text := range []string{doc(2, ""), doc(3, ""), doc(3, "host_header: h.test, "), doc(3, "algorithm: least-connections, ")} {
		g.apply(text)
		if h, _ := g.state(target); h != "unhealthy" {
			t.Errorf("%s after a reload", h)
		}
		if resp, _ := g.get("/"); resp.StatusCode != 503 {
			t.Errorf("%d after a reload", resp.StatusCode)
		}
	}
	w.set("127.0.0.1", 0)
	g.apply(checked("threshold: 0", "", w.targets("127.0.0.1")))
	if resp, _ := g.get("/"); resp.StatusCode != 200 {
		t.Errorf("%d without checks", resp.StatusCode)
	}
	if h, _ := g.state(target); h != "healthchecks_off" {
		t.Errorf("%s without checks", h)
	}
}

// An upstream is down where the share of its weight that is left is not above the threshold.
func TestThreshold(t *testing.T) {
	leavesNothing(t)
	w := newWard(t)
	f := func(threshold string, down, status int) {
		t.Helper()
		ips := loopbacks(4)
		g := start(t, checked("threshold: "+threshold+", passive: {open_duration: 0, unhealthy: {http_failures: 1}}", "", w.targets(ips...)), nil)
		for _, ip := range ips[:down] {
			if !g.Fleet().SetHealth("u", ip+":"+w.port, "", false) {
				t.Fatal("no such target")
			}
		}
		resp, body := g.get("/")
		healthy, _ := g.Fleet().Healthy("u")
		if resp.StatusCode != status || healthy != (status == 200) {
			t.Errorf("threshold %s, %d of 4 down: %d %s", threshold, down, resp.StatusCode, body)
		}
	}
	f("0", 3, 200)
	f("0", 4, 503)
	f("50", 1, 200)
	f("50", 2, 503)
	f("49.9", 2, 200)
	f("75", 1, 503)
	f("100", 0, 503)
}

func TestHealthMetrics(t *testing.T) {
	leavesNothing(t)
	w := newWard(t)
	n := newNameServer(t, "two.test 60 A 127.0.0.1", "two.test 60 A 127.0.0.2")
	entities := oneUpstream("healthchecks: {passive: {open_duration: 0, unhealthy: {http_failures: 1}}}, ", `{target: "two.test:`+w.port+`"}, {target: "none.test:80"}`)
	entities = strings.Replace(entities, "upstreams:\n", "upstreams:\n- {name: \"off\", targets: ["+w.targets("127.0.0.3")+"]}\n", 1)
	g := start(t, n.gateway("")+"plugins: [{name: prometheus, config: {upstream_health_metrics: true}}]\n"+entities+
		"- {name: s2, host: \"off\", routes: [{name: r2, paths: [/off]}]}\n", nil)
	g.Fleet().SetHealth("u", "two.test:"+w.port, "127.0.0.2:"+w.port, false)
	var b bytes.Buffer
	g.WriteMetrics(&b)
	f := func(upstream, target, address, state string) {
		t.Helper()
		for _, s := range []string{"healthchecks_off", "healthy", "unhealthy", "dns_error"} {
			line := fmt.Sprintf("kong_upstream_target_health{upstream=%q,target=%q,address=%q,state=%q,subsystem=\"http\"} %d\n", upstream, target, address, s, map[bool]int{true: 1}[s == state])
			if !strings.Contains(b.String(), line) {
				t.Errorf("missing: %s", line)
			}
		}
	}
	f("u", "two.test:"+w.port, "127.0.0.1:"+w.port, "healthy")
	f("u", "two.test:"+w.port, "127.0.0.2:"+w.port, "unhealthy")
	f("u", "none.test:80", "none.test:80", "dns_error")
	f("off", "127.0.0.3:"+w.port, "127.0.0.3:"+w.port, "healthchecks_off")
}
