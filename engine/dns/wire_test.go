package dns

import (
	"context"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// deadline is how long tests over real sockets wait for what should come at once.
const deadline = 10 * time.Second

// serve runs a real DNS server on loopback, UDP and TCP on the same port, until
// the test ends or the returned function is called.
func serve(t *testing.T, addr string, h dns.HandlerFunc) (string, func()) {
	t.Helper()
	var pc net.PacketConn
	var l net.Listener
	var err error
	for range 20 { // the port that is free for UDP may be taken for TCP
		if pc, err = net.ListenPacket("udp", addr); err != nil {
			continue
		}
		if l, err = net.Listen("tcp", pc.LocalAddr().String()); err == nil {
			break
		}
		_ = pc.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan struct{}, 2)
	servers := []*dns.Server{{PacketConn: pc, Handler: h}, {Listener: l, Handler: h}}
	var wg sync.WaitGroup
	for _, s := range servers {
		s.NotifyStartedFunc = func() { ready <- struct{}{} }
		wg.Go(func() { _ = s.ActivateAndServe() })
		<-ready
	}
	var once sync.Once
	stop := func() {
		once.Do(func() {
			for _, s := range servers {
				_ = s.Shutdown()
			}
			wg.Wait()
		})
	}
	t.Cleanup(stop)
	return pc.LocalAddr().String(), stop
}

// handler answers from w over the wire.
func (w *world) handler(rw dns.ResponseWriter, q *dns.Msg) {
	w.mu.Lock()
	m := w.reply(q)
	w.asked = append(w.asked, rw.LocalAddr().Network())
	w.mu.Unlock()
	if rw.LocalAddr().Network() == "udp" {
		m.Truncate(int(q.IsEdns0().UDPSize()))
	}
	_ = rw.WriteMsg(m)
}

func realSettings(t *testing.T, servers ...string) Settings {
	s := settings(t)
	s.Servers = servers
	s.MinTTL, s.ErrorTTL, s.NotFoundTTL = 20*time.Millisecond, 20*time.Millisecond, 20*time.Millisecond
	return s
}

// until reads the news until want comes.
func (n news) until(t testing.TB, want string) {
	t.Helper()
	for {
		got := n.next(t, deadline)
		if got == want {
			return
		}
		t.Logf("told %q", got)
	}
}

// alive returns the goroutines of the package that are left after all resolvers
// were closed.
func alive() string {
	b := make([]byte, 1<<20)
	for g := range strings.SplitSeq(string(b[:runtime.Stack(b, true)]), "\n\n") {
		if strings.Contains(g, "engine/dns.(*Resolver)") || strings.Contains(g, "engine/dns.(*wire)") {
			return g
		}
	}
	return ""
}

func TestRealServer(t *testing.T) {
	w := newWorld(t, "a.test. 0 A 10.0.0.1", "a.test. 0 A 10.0.0.2", "alias.test. 0 CNAME a.test.",
		"_x._tcp.test. 0 SRV 1 5 8080 a.test.", "_x._tcp.test. 0 SRV 2 5 9090 a.test.")
	addr, stop := serve(t, "127.0.0.1:0", w.handler)
	s := realSettings(t, addr)
	s.Timeout = 100 * time.Millisecond
	r := start(t, s, nil)
	expect(t, "CNAME", resolved(t, r, "alias.test"), "10.0.0.1 10.0.0.2")
	expect(t, "SRV", resolved(t, r, "_x._tcp.test"), "10.0.0.1:8080*5 10.0.0.2:8080*5")
	expect(t, "missing", resolved(t, r, "missing.test"), "not found")

	n := make(news, 100)
	r.Watch("a.test", n.tell)
	n.until(t, "10.0.0.1 10.0.0.2")
	w.set(t, "a.test. 0 A 10.0.0.3")
	n.until(t, "10.0.0.3")

	stop()
	begun := time.Now()
	for a := resolved(t, r, "a.test"); a != "stale 10.0.0.3"; a = resolved(t, r, "a.test") {
		if time.Since(begun) > deadline {
			t.Fatalf("got %q", a)
		}
		<-time.After(time.Millisecond)
	}
	w.set(t, "a.test. 0 A 10.0.0.4")
	serve(t, addr, w.handler)
	n.until(t, "10.0.0.4")
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if g := alive(); g != "" {
		t.Errorf("left behind:\n%s", g)
	}
}

func TestTruncated(t *testing.T) {
	w := newWorld(t)
	var zone, want []string
	for i := range 200 {
		zone = append(zone, "a.test. 60 A 10.0.0."+strconv.Itoa(i+1))
		want = append(want, "10.0.0."+strconv.Itoa(i+1))
	}
	w.set(t, zone...)
	addr, _ := serve(t, "127.0.0.1:0", w.handler)
	s := realSettings(t, addr)
	s.Order = []string{"A"}
	r := start(t, s, nil)
	expect(t, "200 addresses", resolved(t, r, "a.test"), strings.Join(want, " "))
	expect(t, "asked", w.take(), "udp, tcp")
	if s := r.Stats(); s.OverTCP != 1 {
		t.Errorf("stats %+v", s)
	}
}

func TestNextServer(t *testing.T) {
	w := newWorld(t, "a.test. 60 A 10.0.0.1", "b.test. 60 A 10.0.0.2")
	good, _ := serve(t, "127.0.0.1:0", w.handler)
	failing, _ := serve(t, "127.0.0.1:0", func(rw dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetRcode(q, dns.RcodeServerFailure)
		_ = rw.WriteMsg(m)
	})
	lame, _ := serve(t, "127.0.0.1:0", func(rw dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		m.Ns = []dns.RR{&dns.NS{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeNS, Class: dns.ClassINET}, Ns: "ns.test."}}
		_ = rw.WriteMsg(m)
	})
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed, stop := serve(t, "127.0.0.1:0", w.handler)
	stop()
	for _, first := range []string{failing, lame, silent.LocalAddr().String(), closed} {
		s := realSettings(t, first, good)
		s.Order, s.Timeout = []string{"A"}, 200*time.Millisecond
		r := start(t, s, nil)
		expect(t, first, resolved(t, r, "a.test"), "10.0.0.1")
		begun := time.Now()
		expect(t, first, resolved(t, r, "b.test"), "10.0.0.2")
		if took := time.Since(begun); took > 150*time.Millisecond {
			t.Errorf("a server that was silent is asked first: %v", took)
		}
	}
}

// TestForged: what does not answer our question is not read, however much of it comes.
func TestForged(t *testing.T) {
	forge := func(q *dns.Msg, change func(*dns.Msg)) []byte {
		m := new(dns.Msg)
		m.SetReply(q)
		m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA,
			Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(10, 6, 6, 6)}}
		change(m)
		b, err := m.Pack()
		if err != nil {
			t.Error(err)
		}
		return b
	}
	forgeries := []func(*dns.Msg){
		func(m *dns.Msg) { m.Id++ },
		func(m *dns.Msg) { m.Response = false },
		func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify },
		func(m *dns.Msg) { m.Question[0].Name = "b.test."; m.Answer[0].Header().Name = "b.test." },
		func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAAAA },
		func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS },
		func(m *dns.Msg) { m.Question = nil },
		func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) },
	}
	f := func(times int, name, want string, ignored, overTCP uint64) {
		t.Helper()
		addr, _ := serve(t, "127.0.0.1:0", func(rw dns.ResponseWriter, q *dns.Msg) {
			m := new(dns.Msg)
			m.SetReply(q)
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: strings.ToUpper(q.Question[0].Name), Rrtype: dns.TypeA,
				Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(10, 0, 0, 1)}}
			if rw.LocalAddr().Network() == "udp" {
				whole := forge(q, func(*dns.Msg) {})
				for range times {
					for _, change := range forgeries {
						_, _ = rw.Write(forge(q, change))
					}
					_, _ = rw.Write([]byte("garbage"))
					_, _ = rw.Write(whole[:len(whole)-3])
				}
			}
			_ = rw.WriteMsg(m)
		})
		s := realSettings(t, addr)
		s.Order = []string{"A"}
		r := start(t, s, nil)
		expect(t, name, resolved(t, r, name), want)
		if s := r.Stats(); s.Ignored != ignored || s.OverTCP != overTCP {
			t.Errorf("stats %+v", s)
		}
	}
	f(1, "a.test", "10.0.0.1", 10, 0)
	f(7, "a.test", "10.0.0.1", ignoredMax, 1)

	// Over TCP too.
	addr, _ := serve(t, "127.0.0.1:0", func(rw dns.ResponseWriter, q *dns.Msg) {
		if rw.LocalAddr().Network() == "udp" {
			_, _ = rw.Write(forge(q, func(m *dns.Msg) { m.Truncated = true }))
			return
		}
		_, _ = rw.Write(forge(q, forgeries[0]))
	})
	s := realSettings(t, addr)
	s.Order = []string{"A"}
	expect(t, "forged TCP", resolved(t, start(t, s, nil), "a.test"), "no reply")
}

// TestOldServer: it does not know EDNS and says so without repeating the question.
func TestOldServer(t *testing.T) {
	addr, _ := serve(t, "127.0.0.1:0", func(rw dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		if q.IsEdns0() != nil {
			m.Rcode, m.Question = dns.RcodeFormatError, nil
		} else {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA,
				Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(10, 0, 0, 1)}}
		}
		_ = rw.WriteMsg(m)
	})
	s := realSettings(t, addr)
	s.Order = []string{"A"}
	expect(t, "old server", resolved(t, start(t, s, nil), "a.test"), "10.0.0.1")
}

// TestRandom: neither the id nor the port of a question follows from the last.
func TestRandom(t *testing.T) {
	var mu sync.Mutex
	ids, ports := map[uint16]bool{}, map[string]bool{}
	addr, _ := serve(t, "127.0.0.1:0", func(rw dns.ResponseWriter, q *dns.Msg) {
		mu.Lock()
		ids[q.Id], ports[rw.RemoteAddr().String()] = true, true
		mu.Unlock()
		m := new(dns.Msg)
		m.SetRcode(q, dns.RcodeNameError)
		_ = rw.WriteMsg(m)
	})
	s := realSettings(t, addr)
	s.Order = []string{"A"}
	r := start(t, s, nil)
	for i := range 50 {
		resolved(t, r, "n"+strconv.Itoa(i)+".test")
	}
	mu.Lock()
	defer mu.Unlock()
	if len(ids) < 45 || len(ports) < 40 {
		t.Errorf("%d ids, %d ports in 50 questions", len(ids), len(ports))
	}
}

// TestCloseCutsShort: Close does not wait for servers.
func TestCloseCutsShort(t *testing.T) {
	asked := make(chan struct{}, 10)
	addr, _ := serve(t, "127.0.0.1:0", func(dns.ResponseWriter, *dns.Msg) { asked <- struct{}{} })
	s := realSettings(t, addr)
	s.Timeout = time.Hour
	r := start(t, s, nil)
	got := make(chan string)
	go func() { got <- text(r.Lookup(context.Background(), "a.test")) }()
	<-asked
	_ = r.Close()
	expect(t, "lookup", <-got, "closed")
	if g := alive(); g != "" {
		t.Errorf("left behind:\n%s", g)
	}
}

// TestManyHands opens and closes watches of few names, looks them up and changes
// them, all at once. It is for the race detector.
func TestManyHands(t *testing.T) {
	w := newWorld(t)
	addr, _ := serve(t, "127.0.0.1:0", w.handler)
	s := realSettings(t, addr)
	s.MinTTL, s.CacheSize, s.Order = time.Millisecond, 5, []string{"LAST", "A", "CNAME"}
	r := start(t, s, nil)
	zone := func(last int) (records []string) {
		for i := range 20 {
			records = append(records, "n"+strconv.Itoa(i)+".test. 0 A 10.0.0."+strconv.Itoa(last))
		}
		return records
	}
	w.set(t, zone(1)...)
	var wg sync.WaitGroup
	for hand := range 8 {
		wg.Go(func() {
			for i := range 100 {
				name := "n" + strconv.Itoa((hand+i)%25) + ".test"
				var running, calls atomic.Int32
				told := make(chan struct{}, 1)
				x := r.Watch(name, func(a Answer, err error) {
					if running.Add(1) != 1 || err == nil && len(a.Records) == 0 {
						t.Errorf("told of %v, %v", a, err)
					}
					calls.Add(1)
					select {
					case told <- struct{}{}:
					default:
					}
					running.Add(-1)
				})
				resolved(t, r, name)
				if i%3 > 0 {
					<-told
				}
				x.Close()
				n := calls.Load()
				if i%10 == hand {
					w.set(t, zone(i%2+1)...)
				}
				if calls.Load() != n {
					t.Error("called after Close")
				}
			}
		})
	}
	wg.Wait()
	_ = r.Close()
	if s := r.Stats(); s.Watches != 0 || s.Names > s.Running+5 {
		t.Errorf("stats %+v", s)
	}
	if g := alive(); g != "" {
		t.Errorf("left behind:\n%s", g)
	}
}

func TestSystemFiles(t *testing.T) {
	r, err := Open(Settings{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	expect(t, "localhost", resolved(t, r, "localhost"), "127.0.0.1")
}

func TestUnreadableFile(t *testing.T) {
	s := settings(t)
	s.HostsFile = t.TempDir() // a folder
	r := start(t, s, newWorld(t).exchange)
	expect(t, "localhost", resolved(t, r, "localhost"), "127.0.0.1")
}

// FuzzReply: nothing a server sends makes the reading of it panic, and what is
// taken belongs to the question.
func FuzzReply(f *testing.F) {
	q := question("a.test", dns.TypeSRV)
	q.Id = 1
	w := newWorld(f, "a.test. 60 SRV 1 2 80 b.test.", "b.test. 60 A 10.0.0.1", "a.test. 5 CNAME c.test.")
	w.glue = true
	seed, err := w.reply(q).Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add(seed[:headBytes])
	f.Fuzz(func(t *testing.T, b []byte) {
		m, cut, ok := match(q, b)
		if !ok {
			return
		}
		if cut || m.Id != 1 || !m.Response {
			t.Fatalf("believed %v", m)
		}
		steps := 0
		p := read(m, "a.test", dns.TypeSRV, &steps)
		if steps > cnameMax+1 {
			t.Errorf("%d steps", steps)
		}
		for _, s := range best(p.rrs) {
			if _, err := canonical(s.Target); err != nil {
				t.Errorf("target %q", s.Target)
			}
			glue(m, s.Target, []uint16{dns.TypeA, dns.TypeAAAA})
		}
	})
}
