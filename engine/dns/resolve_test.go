package dns

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestQuestions checks what is asked and what comes of it.
func TestQuestions(t *testing.T) {
	zone := []string{
		"a.test. 30 A 10.0.0.2", "a.test. 30 A 10.0.0.1", "a.test. 30 A 10.0.0.2",
		"six.test. 30 AAAA 2001:db8::1", "both.test. 30 AAAA 2001:db8::2", "both.test. 30 A 10.0.0.3",
		"mapped.test. 30 AAAA ::ffff:10.0.0.9",
		"alias.test. 30 CNAME mid.test.", "mid.test. 30 CNAME a.test.",
		"loop.test. 30 CNAME pool.test.", "pool.test. 30 CNAME loop.test.",
		"zero.test. 30 A 0.0.0.0", "zero.test. 30 A 224.0.0.1",
		"mixed.test. 30 A 10.0.0.7", "mixed.test. 30 SRV 1 1 8080 a.test.",
		"_web._tcp.srv.test. 30 SRV 10 0 8080 a.test.", "_web._tcp.srv.test. 30 SRV 10 3 8081 both.test.",
		"_web._tcp.srv.test. 30 SRV 20 9 9999 a.test.",
		"same.test. 30 SRV 1 2 80 a.test.", "same.test. 30 SRV 1 3 80 alias.test.",
		"dot.test. 30 SRV 1 1 80 .", "nowhere.test. 30 SRV 1 1 80 gone.test.",
		"hostsrv.test. 30 SRV 1 1 80 inhosts.test.", "port0.test. 30 SRV 1 7 0 mixed.test.",
		"host.corp. 30 A 10.1.0.1", "host.sub.corp. 30 A 10.1.0.2", "x.y.corp. 30 A 10.1.0.3", "x.y. 30 A 10.1.0.4",
	}
	f := func(s Settings, change func(*world), name, want, wantAsked string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, zone...)
			if change != nil {
				change(w)
			}
			base := settings(t)
			base.Order, base.SRVOnlyForServiceNames = s.Order, s.SRVOnlyForServiceNames
			base.ResolvConf, base.HostsFile = s.ResolvConf, s.HostsFile
			r := start(t, base, w.exchange)
			if got := resolved(t, r, name); got != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
			if got := w.take(); got != wantAsked {
				t.Errorf("%s: asked %q, want %q", name, got, wantAsked)
			}
			_ = r.Close()
		})
	}
	dir := t.TempDir()
	conf, hostsFile := filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "hosts")
	write(t, conf, "search sub.corp CORP.\noptions ndots:2\n")
	write(t, hostsFile, "10.9.0.1 InHosts.test other # no\n10.9.0.2\tinhosts.test\n2001:db8::9 inhosts.test six\n#10.9.0.3 inhosts.test\n")
	none := filepath.Join(dir, "none")
	s := Settings{ResolvConf: none, HostsFile: hostsFile}
	order := func(types ...string) Settings { c := s; c.Order = types; return c }

	// Addresses, without a question.
	f(s, nil, "10.1.2.3", "10.1.2.3", "")
	f(s, nil, "[2001:db8::1]", "2001:db8::1", "")
	f(s, nil, "::ffff:10.0.0.1", "10.0.0.1", "")
	f(s, nil, "localhost", "127.0.0.1", "")
	f(order("AAAA", "A"), nil, "api.localhost.", "::1", "")

	// The hosts file.
	f(s, nil, "INHOSTS.test", "10.9.0.1 10.9.0.2", "")
	f(order("AAAA", "A"), nil, "inhosts.test.", "2001:db8::9", "")
	f(s, nil, "six", "2001:db8::9", "")
	f(s, nil, "hostsrv.test", "10.9.0.1:80*1 10.9.0.2:80*1", "SRV hostsrv.test")

	// Types.
	f(s, nil, "A.test", "10.0.0.1 10.0.0.2", "SRV a.test, A a.test")
	f(order("A"), nil, "a.test", "10.0.0.1 10.0.0.2", "A a.test")
	f(s, nil, "six.test", "not found", "SRV six.test, A six.test, CNAME six.test")
	f(order("A", "AAAA"), nil, "six.test", "2001:db8::1", "A six.test, AAAA six.test")
	f(order("A", "AAAA"), nil, "both.test", "10.0.0.3", "A both.test")
	f(order("AAAA"), nil, "mapped.test", "10.0.0.9", "AAAA mapped.test")
	f(order("A"), nil, "zero.test", "not found", "A zero.test")
	f(order("A"), nil, "missing.test", "not found", "A missing.test")
	f(s, nil, "mixed.test", "10.0.0.1:8080*1 10.0.0.2:8080*1", "SRV mixed.test, A a.test")

	// CNAME.
	lame := func(w *world) { w.lame = true }
	f(order("A"), nil, "alias.test", "10.0.0.1 10.0.0.2", "A alias.test")
	f(order("A"), lame, "alias.test", "10.0.0.1 10.0.0.2", "A alias.test, A mid.test, A a.test")
	f(order("CNAME", "A"), lame, "mid.test", "10.0.0.1 10.0.0.2", "CNAME mid.test, A a.test")
	f(order("A"), nil, "loop.test", "not found", "A loop.test")
	loops := strings.TrimSuffix(strings.Repeat("A loop.test, A pool.test, ", 5), ", A pool.test, ")
	f(order("A"), lame, "loop.test", "not found", loops)

	// SRV: best priority only, weights and ports, 0 counts as 1, of equal pairs the sum.
	glue := func(w *world) { w.glue = true }
	f(s, nil, "_web._tcp.srv.test", "10.0.0.1:8080*1 10.0.0.2:8080*1 10.0.0.3:8081*3",
		"SRV _web._tcp.srv.test, A a.test, A both.test")
	f(s, glue, "_web._tcp.srv.test", "10.0.0.1:8080*1 10.0.0.2:8080*1 10.0.0.3:8081*3", "SRV _web._tcp.srv.test")
	f(order("SRV"), glue, "_web._tcp.srv.test", "10.0.0.1:8080*1 10.0.0.2:8080*1 10.0.0.3:8081*3", "SRV _web._tcp.srv.test")
	f(s, nil, "same.test", "10.0.0.1:80*5 10.0.0.2:80*5", "SRV same.test, A a.test, A alias.test")
	f(order("SRV"), nil, "dot.test", "not found", "SRV dot.test")
	f(order("SRV", "A"), nil, "nowhere.test", "not found", "SRV nowhere.test, A gone.test, A nowhere.test")
	f(order("SRV"), nil, "port0.test", "10.0.0.7", "SRV port0.test, A mixed.test")
	service := s
	service.SRVOnlyForServiceNames = true
	f(service, nil, "mixed.test", "10.0.0.7", "A mixed.test")
	f(service, nil, "_web._tcp.none.test", "not found", "SRV _web._tcp.none.test")

	// Search domains.
	search := order("A")
	search.ResolvConf = conf
	f(search, nil, "host", "10.1.0.2", "A host.sub.corp")
	f(search, nil, "host.", "not found", "A host")
	f(search, nil, "x.y", "10.1.0.3", "A x.y.sub.corp, A x.y.corp")
	f(search, nil, "x.y.", "10.1.0.4", "A x.y")
	f(search, nil, "not.a.host", "not found", "A not.a.host, A not.a.host.sub.corp, A not.a.host.corp")

	// Errors of one type do not keep others from being tried, and decide if nothing is found.
	refused := func(w *world) { w.rcodes["SRV"] = dns.RcodeRefused }
	f(order("SRV", "A"), refused, "a.test", "10.0.0.1 10.0.0.2", "SRV a.test, SRV a.test, A a.test")
	f(order("SRV", "A"), refused, "missing.test", "not found", "SRV missing.test, SRV missing.test, A missing.test")
	f(order("SRV", "A"), refused, "six.test", "dns: six.test: SRV six.test: server 192.0.2.1:53: REFUSED",
		"SRV six.test, SRV six.test, A six.test")

	// Not names.
	long := strings.Repeat("a", 64)
	for _, name := range []string{"", ".", "a..b", "a b", "a/b", "ä.test", long, strings.Repeat("abc.", 64) + "a"} {
		f(s, nil, name, fmt.Sprintf("dns: %.300q: not a host name", name), "")
	}
}

func TestLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a.test. 5 A 10.0.0.1")
		r := start(t, settings(t), w.exchange)
		defer r.Close()
		f := func(want, wantAsked string) {
			t.Helper()
			resolved(t, r, "a.test")
			pass(7 * time.Second)
			synctest.Wait()
			w.take()
			resolved(t, r, "a.test")
			synctest.Wait()
			if got := resolved(t, r, "a.test"); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if got := w.take(); got != wantAsked {
				t.Errorf("asked %q, want %q", got, wantAsked)
			}
		}
		f("10.0.0.1", "A a.test")
		w.set(t, "a.test. 5 SRV 1 1 80 b.test.", "b.test. 5 A 10.0.0.2")
		f("10.0.0.2:80*1", "A a.test, SRV a.test, A b.test")
		// It has both now; a failure of what worked last does not cost it its port.
		w.set(t, "a.test. 5 SRV 1 1 80 b.test.", "b.test. 5 A 10.0.0.2", "a.test. 5 A 10.0.0.9")
		w.rcodes["SRV"] = dns.RcodeServerFailure
		f("stale 10.0.0.2:80*1", "SRV a.test, SRV a.test")
	})
}

func TestManyRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var zone []string
		for i := range 600 {
			zone = append(zone, fmt.Sprintf("a.test. 5 A 10.0.%d.%d", i/250, i%250+1))
		}
		w := newWorld(t, zone...)
		r := start(t, settings(t), w.exchange)
		defer r.Close()
		a, err := r.Lookup(t.Context(), "a.test")
		if err != nil || len(a.Records) != recordsMax {
			t.Fatalf("got %d records, %v", len(a.Records), err)
		}
		if got := a.Records[recordsMax-1].Addr.String(); got != "10.0.1.6" {
			t.Errorf("the last is %s", got)
		}
	})
}

// TestBelieved checks that records nobody asked for are left alone.
func TestBelieved(t *testing.T) {
	m := new(dns.Msg)
	for _, s := range []string{
		"evil.test. 5 A 10.6.6.6", "a.test. 9 CNAME b.test.", "a.test. 5 CH A 10.6.6.6",
		"b.test. 2147483649 A 10.0.0.1", "c.test. 5 A 10.6.6.6", "b.test. 9 AAAA 2001:db8::1", "b.test. 9 TXT x",
	} {
		rr, err := dns.NewRR(s)
		if err != nil {
			t.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	steps := 0
	p := read(m, "A.test", dns.TypeA, &steps)
	if len(p.rrs) != 1 || p.rrs[0].(*dns.A).A.String() != "10.0.0.1" || p.name != "b.test" || !p.end || steps != 1 {
		t.Errorf("got %+v", p)
	}
	if p.ttl != 0 {
		t.Errorf("a TTL with its highest bit set counts as 0, got %v", p.ttl)
	}
}

func TestOpenRefuses(t *testing.T) {
	f := func(s Settings, want string) {
		t.Helper()
		_, err := Open(s)
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	f(Settings{Order: []string{"LAST"}}, "dns: order: LAST needs other types beside it")
	f(Settings{Order: []string{"A", "MX"}, Servers: []string{"1.1.1.1", "ns.test", "1.1.1.1:0"}},
		`dns: order[1]: "MX" is none of LAST, SRV, A, AAAA, CNAME`+"\n"+
			`dns: servers[1]: "ns.test" is not an IP address with an optional port`+"\n"+
			`dns: servers[2]: "1.1.1.1:0": port 0`)
}
