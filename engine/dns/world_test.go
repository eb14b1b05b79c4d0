package dns

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// world stands in for the network: a zone that every server knows, and what is
// wrong with some of them. Safe for concurrent use.
type world struct {
	mu     sync.Mutex
	zone   []dns.RR
	down   map[string]bool // servers that do not answer
	rcodes map[string]int  // by type, or by server: what is answered instead
	lame   bool            // CNAMEs are not followed
	glue   bool            // SRV targets are added
	delay  time.Duration

	asked   []string // "A api.test@server"
	running int
	peak    int
}

func newWorld(t testing.TB, records ...string) *world {
	t.Helper()
	w := &world{down: map[string]bool{}, rcodes: map[string]int{}}
	w.set(t, records...)
	return w
}

func (w *world) set(t testing.TB, records ...string) {
	t.Helper()
	var zone []dns.RR
	for _, s := range records {
		rr, err := dns.NewRR(s)
		if err != nil {
			t.Fatalf("record %q: %v", s, err)
		}
		zone = append(zone, rr)
	}
	w.do(func() { w.zone = zone })
}

func (w *world) do(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// take returns the questions since the last call.
func (w *world) take() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := strings.Join(w.asked, ", ")
	w.asked = nil
	return s
}

func (w *world) exchange(ctx context.Context, server string, q *dns.Msg) (*dns.Msg, error) {
	name, typ := strings.TrimSuffix(q.Question[0].Name, "."), q.Question[0].Qtype
	w.mu.Lock()
	host, _, _ := strings.Cut(server, ":")
	s := dns.TypeToString[typ] + " " + name
	if host != "192.0.2.1" {
		s += "@" + host
	}
	w.asked = append(w.asked, s)
	down, delay := w.down[host], w.delay
	w.running++
	w.peak = max(w.peak, w.running)
	w.mu.Unlock()
	defer w.do(func() { w.running-- })
	if down {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.reply(q)
	for _, k := range []string{dns.TypeToString[typ], host} {
		if code, ok := w.rcodes[k]; ok {
			m.Answer, m.Extra, m.Rcode = nil, nil, code
		}
	}
	return m, nil
}

// reply answers q from the zone. w.mu is held.
func (w *world) reply(q *dns.Msg) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	name, typ := q.Question[0].Name, q.Question[0].Qtype
	found := false
	for range 10 {
		next := ""
		for _, rr := range w.zone {
			if !sameName(rr.Header().Name, name) {
				continue
			}
			found = true
			c, isCNAME := rr.(*dns.CNAME)
			if rr.Header().Rrtype == typ || isCNAME {
				m.Answer = append(m.Answer, dns.Copy(rr))
			}
			if isCNAME && typ != dns.TypeCNAME && !w.lame {
				next = c.Target
			}
		}
		if next == "" {
			break
		}
		name = next
	}
	if !found {
		m.Rcode = dns.RcodeNameError
	}
	for _, rr := range m.Answer {
		if s, ok := rr.(*dns.SRV); ok && w.glue {
			for _, g := range w.zone {
				if sameName(g.Header().Name, s.Target) {
					m.Extra = append(m.Extra, dns.Copy(g))
				}
			}
		}
	}
	return m
}

// settings are for a world: one server, no files.
func settings(t testing.TB) Settings {
	none := filepath.Join(t.TempDir(), "none")
	return Settings{
		Servers: []string{"192.0.2.1"}, ResolvConf: none, HostsFile: none, Timeout: time.Second,
		StaleTTL: time.Hour, NotFoundTTL: 30 * time.Second, ErrorTTL: time.Second,
	}
}

func start(t testing.TB, s Settings, x exchange) *Resolver {
	t.Helper()
	r, err := open(s, x)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// text is an answer as the tests write it: "10.0.0.1 10.0.0.2:80*5", with "stale"
// before it, or the error.
func text(a Answer, err error) string {
	switch {
	case errors.Is(err, ErrNotFound):
		return "not found"
	case errors.Is(err, ErrNoReply):
		return "no reply"
	case errors.Is(err, ErrClosed):
		return "closed"
	case err != nil:
		return err.Error()
	}
	var b []byte
	if a.Stale {
		b = append(b, "stale "...)
	}
	for i, c := range a.Records {
		if i > 0 {
			b = append(b, ' ')
		}
		if c.Port == 0 {
			b = c.Addr.AppendTo(b)
			continue
		}
		b = netip.AddrPortFrom(c.Addr, c.Port).AppendTo(b)
		if c.Weight != 0 {
			b = append(b, '*')
			b = strconv.AppendInt(b, int64(c.Weight), 10)
		}
	}
	return string(b)
}

// pass lets fake time pass: only inside synctest.
func pass(d time.Duration) { <-time.After(d) }

// resolved is a lookup that should answer within two minutes.
func resolved(t testing.TB, r *Resolver, name string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	return text(r.Lookup(ctx, name))
}

// news collects what a watch is told.
type news chan string

func (n news) tell(a Answer, err error) { n <- text(a, err) }

// next returns what is told within d.
func (n news) next(t testing.TB, d time.Duration) string {
	t.Helper()
	select {
	case s := <-n:
		return s
	case <-time.After(d):
		t.Fatalf("nothing was told for %v", d)
		return ""
	}
}
