package dns

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// quiet fails if anything is told within d.
func (n news) quiet(t testing.TB, d time.Duration) {
	t.Helper()
	select {
	case s := <-n:
		t.Fatalf("told %q", s)
	case <-time.After(d):
	}
}

func expect(t testing.TB, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestWatchFollowsTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a.test. 30 A 10.0.0.1")
		r := start(t, settings(t), w.exchange)
		defer r.Close()
		n := make(news, 10)
		x := r.Watch("A.test", n.tell)
		expect(t, "first", n.next(t, time.Second), "10.0.0.1")
		synctest.Wait()
		w.take()
		w.set(t, "a.test. 30 A 10.0.0.2")
		n.quiet(t, 29*time.Second)
		expect(t, "asked before its time", w.take(), "")
		expect(t, "changed", n.next(t, 3*time.Second), "10.0.0.2")
		expect(t, "asked", w.take(), "A a.test")
		n.quiet(t, 95*time.Second)
		expect(t, "asked, the same", w.take(), "A a.test, A a.test, A a.test")
		second := make(news, 10)
		r.Watch("a.test", second.tell)
		expect(t, "second watch", second.next(t, time.Millisecond), "10.0.0.2")
		expect(t, "second watch asked", w.take(), "")
		w.set(t, "a.test. 30 A 10.0.0.3")
		x.Close()
		x.Close()
		expect(t, "second watch, changed", second.next(t, 40*time.Second), "10.0.0.3")
		n.quiet(t, time.Minute)
		if s := r.Stats(); s.Watches != 1 || s.Names != 1 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestTinyTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a.test. 0 A 10.0.0.1")
		r := start(t, settings(t), w.exchange)
		defer r.Close()
		n := make(news, 10)
		r.Watch("a.test", n.tell)
		n.next(t, time.Second)
		w.take()
		n.quiet(t, 100*time.Second)
		if asked := strings.Count(w.take(), "A a.test"); asked < 90 || asked > 100 {
			t.Errorf("asked %d times in 100 s", asked)
		}
	})
}

func TestStaleAndRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a.test. 30 A 10.0.0.1")
		s := settings(t)
		s.StaleTTL = 10 * time.Minute
		r := start(t, s, w.exchange)
		defer r.Close()
		n := make(news, 10)
		r.Watch("a.test", n.tell)
		n.next(t, time.Second)
		w.do(func() { w.down["192.0.2.1"] = true })
		n.quiet(t, 40*time.Second)
		expect(t, "while DNS is down", resolved(t, r, "a.test"), "stale 10.0.0.1")
		w.take()
		n.quiet(t, 5*time.Minute)
		if asked := strings.Count(w.take(), "A a.test"); asked < 30 || asked > 70 {
			t.Errorf("asked %d times in 5 min", asked)
		}
		// Back with the same: no news. Back with other records: news.
		w.do(func() { w.down["192.0.2.1"] = false })
		n.quiet(t, 15*time.Second)
		expect(t, "DNS is back", resolved(t, r, "a.test"), "10.0.0.1")
		w.do(func() { w.down["192.0.2.1"] = true })
		n.quiet(t, 3*time.Minute)
		w.set(t, "a.test. 30 A 10.0.0.2")
		w.do(func() { w.down["192.0.2.1"] = false })
		expect(t, "back with others", n.next(t, 15*time.Second), "10.0.0.2")

		w.do(func() { w.down["192.0.2.1"] = true })
		n.quiet(t, 10*time.Minute)
		expect(t, "down for too long", n.next(t, time.Minute), "no reply")
		expect(t, "down for too long", resolved(t, r, "a.test"), "no reply")
		n.quiet(t, 5*time.Minute)
		w.do(func() { w.down["192.0.2.1"] = false })
		expect(t, "recovery", n.next(t, 15*time.Second), "10.0.0.2")
		if s := r.Stats(); s.StaleServed != 1 || s.Unanswered < 50 || s.Answered < 4 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestDeniedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a.test. 30 A 10.0.0.1")
		r := start(t, settings(t), w.exchange)
		defer r.Close()
		n := make(news, 10)
		r.Watch("a.test", n.tell)
		n.next(t, time.Second)

		// Denied once: no news.
		pass(29 * time.Second)
		w.do(func() { w.rcodes["A"] = dns.RcodeNameError })
		for w.take(); !strings.Contains(w.take(), "CNAME"); {
			pass(10 * time.Millisecond)
		}
		w.do(func() { clear(w.rcodes) })
		n.quiet(t, 20*time.Second)
		expect(t, "denied once", resolved(t, r, "a.test"), "10.0.0.1")

		// Denied twice, and there again after NotFoundTTL.
		w.do(func() { w.rcodes["A"] = dns.RcodeNameError })
		expect(t, "denied twice", n.next(t, 35*time.Second), "not found")
		expect(t, "denied twice", resolved(t, r, "a.test"), "not found")
		w.take()
		n.quiet(t, 29*time.Second)
		expect(t, "asked within NotFoundTTL", w.take(), "")
		w.do(func() { clear(w.rcodes) })
		expect(t, "there again", n.next(t, 35*time.Second), "10.0.0.1")
	})
}

// TestUnwatched: a name only lookups want is asked again when one comes.
func TestUnwatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a.test. 30 A 10.0.0.1")
		s := settings(t)
		s.Order, s.StaleTTL = []string{"A"}, time.Minute
		r := start(t, s, w.exchange)
		defer r.Close()
		f := func(after time.Duration, want, wantAsked string) {
			t.Helper()
			pass(after)
			w.take()
			expect(t, "got", resolved(t, r, "a.test"), want)
			synctest.Wait()
			expect(t, "asked", w.take(), wantAsked)
		}
		f(0, "10.0.0.1", "A a.test")
		w.set(t, "a.test. 30 A 10.0.0.2")
		f(29*time.Second, "10.0.0.1", "")
		f(3*time.Second, "stale 10.0.0.1", "A a.test")
		f(0, "10.0.0.2", "")
		w.set(t, "a.test. 30 A 10.0.0.3")
		f(95*time.Second, "10.0.0.3", "A a.test") // too old to be served

		// A watch of what is stale is told so, and then what is new.
		w.set(t, "a.test. 30 A 10.0.0.4")
		pass(40 * time.Second)
		n := make(news, 10)
		x := r.Watch("a.test", n.tell)
		expect(t, "first", n.next(t, time.Millisecond), "stale 10.0.0.3")
		expect(t, "second", n.next(t, time.Millisecond), "10.0.0.4")
		x.Close()
		w.take()

		// Denied once it is kept, then dropped; each failure is kept ErrorTTL.
		w.set(t)
		f(32*time.Second, "stale 10.0.0.4", "A a.test")
		f(time.Second/2, "stale 10.0.0.4", "")
		f(time.Second, "stale 10.0.0.4", "A a.test")
		f(time.Second, "not found", "")
		w.do(func() { w.rcodes["A"] = dns.RcodeServerFailure })
		const failure = "dns: a.test: A a.test: server 192.0.2.1:53: SERVFAIL"
		f(34*time.Second, failure, "A a.test, A a.test")
		f(time.Second/2, failure, "")
		f(time.Second, failure, "A a.test, A a.test")
		f(1200*time.Millisecond, failure, "A a.test, A a.test")
	})
}

// TestPartial: some targets of SRV cannot be resolved for the moment.
func TestPartial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "s.test. 30 SRV 1 1 80 a.test.", "s.test. 30 SRV 1 1 80 b.test.", "a.test. 30 A 10.0.0.1",
			"b.test. 30 A 10.0.0.2")
		fail := ""
		x := func(ctx context.Context, server string, q *dns.Msg) (*dns.Msg, error) {
			m, err := w.exchange(ctx, server, q)
			w.do(func() {
				if q.Question[0].Name == fail {
					m.Answer, m.Rcode = nil, dns.RcodeServerFailure
				}
			})
			return m, err
		}
		r := start(t, settings(t), x)
		defer r.Close()
		w.do(func() { fail = "b.test." })
		n := make(news, 10)
		r.Watch("s.test", n.tell)
		expect(t, "what there is", n.next(t, time.Second), "10.0.0.1:80*1")
		w.do(func() { fail = "" })
		expect(t, "the rest", n.next(t, 2*time.Second), "10.0.0.1:80*1 10.0.0.2:80*1")
		w.do(func() { fail = "a.test." })
		n.quiet(t, time.Minute)
	})
}

func TestSingleFlight(t *testing.T) {
	f := func(noSync bool, want int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "a.test. 30 A 10.0.0.1")
			w.delay = time.Second / 2
			s := settings(t)
			s.NoSync, s.Order = noSync, []string{"A"}
			r := start(t, s, w.exchange)
			defer r.Close()
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() { expect(t, "lookup", resolved(t, r, "a.test"), "10.0.0.1") })
			}
			synctest.Wait() // all slots are taken
			impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			if _, err := r.Lookup(impatient, "a.test"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("impatient: %v", err)
			}
			wg.Wait()
			if got := len(strings.Split(w.take(), ", ")); got != want {
				t.Errorf("NoSync %v: asked %d times, want %d", noSync, got, want)
			}
			if noSync && w.peak != urgentMax {
				t.Errorf("peak %d", w.peak)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if len(r.entries) != 1 || r.recent.Len() != 1 {
				t.Errorf("%d entries, %d recent", len(r.entries), r.recent.Len())
			}
		})
	}
	f(false, 1)
	f(true, 100)
}

// TestGivenUp: nothing stays of lookups whose callers have left before their turn.
func TestGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.down["192.0.2.1"] = true
		r := start(t, settings(t), w.exchange)
		defer r.Close()
		var wg sync.WaitGroup
		for i := range 1000 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
				defer cancel()
				_, _ = r.Lookup(ctx, fmt.Sprintf("n%d.test", i))
			})
		}
		wg.Wait()
		if s := r.Stats(); s.Names != urgentMax || s.Queued != 0 || s.Running != urgentMax {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestCacheSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var zone []string
		for i := range 20 {
			zone = append(zone, fmt.Sprintf("n%d.test. 300 A 10.0.0.%d", i, i+1))
		}
		w := newWorld(t, zone...)
		s := settings(t)
		s.CacheSize = 10
		r := start(t, s, w.exchange)
		defer r.Close()
		n := make(news, 10)
		x := r.Watch("n0.test", n.tell)
		n.next(t, time.Second)
		for i := range 20 {
			resolved(t, r, fmt.Sprintf("n%d.test", i))
			resolved(t, r, "n1.test")
			synctest.Wait()
		}
		w.take()
		resolved(t, r, "n0.test")
		resolved(t, r, "n1.test")
		resolved(t, r, "n19.test")
		expect(t, "kept", w.take(), "")
		resolved(t, r, "n2.test")
		expect(t, "dropped", w.take(), "SRV n2.test, A n2.test")
		synctest.Wait()
		if s := r.Stats(); s.Names != 10 || s.Evictions != 11 {
			t.Errorf("stats %+v", s)
		}
		x.Close()
		for i := range 20 {
			resolved(t, r, fmt.Sprintf("n%d.test", i))
		}
		synctest.Wait()
		if s := r.Stats(); s.Names != 10 || s.Queued != 0 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestWatchClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a.test. 5 A 10.0.0.1")
		r := start(t, settings(t), w.exchange)
		defer r.Close()

		// By the watcher itself.
		closed := make(chan struct{})
		ready := make(chan struct{})
		var x *Watch
		x = r.Watch("a.test", func(Answer, error) {
			<-ready
			x.Close()
			close(closed) // a second call would panic
		})
		close(ready)
		<-closed
		w.set(t, "a.test. 5 A 10.0.0.2")

		// By another: it waits.
		begun, end := make(chan struct{}), make(chan struct{})
		ended := false
		y := r.Watch("a.test", func(Answer, error) { close(begun); <-end; ended = true })
		<-begun
		go func() { pass(time.Minute); close(end) }()
		y.Close()
		if !ended {
			t.Error("Close did not wait")
		}
		pass(time.Minute)

		// Of what is not a name, and of an address.
		n := make(news, 1)
		r.Watch("not a name", n.tell)
		expect(t, "no name", n.next(t, time.Second), `dns: "not a name": not a host name`)
		r.Watch("[2001:DB8::1]", n.tell)
		expect(t, "address", n.next(t, time.Second), "2001:db8::1")
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		r.Watch("b.test", n.tell).Close()
		expect(t, "closed", resolved(t, r, "b.test"), "closed")
	})
}

// TestCloseWithWork: synctest fails if a goroutine is left.
func TestCloseWithWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.down["192.0.2.1"] = true
		r := start(t, settings(t), w.exchange)
		var wg sync.WaitGroup
		for i := range 100 {
			r.Watch(fmt.Sprintf("w%d.test", i), func(Answer, error) { t.Error("told") })
			wg.Go(func() { expect(t, "lookup", resolved(t, r, fmt.Sprintf("l%d.test", i)), "closed") })
		}
		synctest.Wait()
		_ = r.Close()
		wg.Wait()
	})
}

func TestManyWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const names = 10000
		w := newWorld(t)
		w.delay = 10 * time.Millisecond
		x := func(ctx context.Context, server string, q *dns.Msg) (*dns.Msg, error) {
			m, err := w.exchange(ctx, server, q)
			if err == nil {
				m.Rcode = dns.RcodeSuccess
				rr := &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 30}}
				rr.A = []byte{10, 0, 0, 1}
				m.Answer = []dns.RR{rr}
			}
			return m, err
		}
		s := settings(t)
		s.Order = []string{"A"}
		s.CacheSize = 100
		r := start(t, s, x)
		var wg sync.WaitGroup
		wg.Add(names)
		begin := time.Now()
		for i := range names {
			var once sync.Once
			r.Watch(fmt.Sprintf("n%d.test", i), func(Answer, error) { once.Do(wg.Done) })
		}
		wg.Wait()
		if took, want := time.Since(begin), names/regularMax*10*time.Millisecond; took > want*2 {
			t.Errorf("first outcomes took %v", took)
		}
		w.do(func() { w.asked = nil })
		pass(5 * time.Minute)
		w.do(func() {
			if n := len(w.asked); n < 9*names || n > 11*names {
				t.Errorf("asked %d times in 5 min", n)
			}
			if w.peak > regularMax {
				t.Errorf("%d at once", w.peak)
			}
			w.down["192.0.2.1"] = true
		})
		// All are stale, a lookup of something else is still answered in its time.
		pass(time.Minute)
		w.do(func() { w.down["192.0.2.1"] = false })
		before := time.Now()
		resolved(t, r, "other.test")
		if took := time.Since(before); took > time.Second {
			t.Errorf("a lookup took %v", took)
		}
		if w.peak > urgentMax+regularMax+failingMax {
			t.Errorf("%d at once", w.peak)
		}
		_ = r.Close()
	})
}

// TestFiles: changes of the files are seen.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a.test. 3600 A 10.0.0.1", "b.one.test. 3600 A 10.0.0.2", "b.two.test. 3600 A 10.0.0.3")
		s := settings(t)
		s.Servers = nil
		s.ResolvConf, s.HostsFile = filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "hosts")
		write(t, s.ResolvConf, "nameserver 192.0.2.1\nsearch one.test\n")
		r := start(t, s, w.exchange)
		defer r.Close()
		a, b := make(news, 10), make(news, 10)
		r.Watch("a.test", a.tell)
		r.Watch("b", b.tell)
		expect(t, "a", a.next(t, time.Second), "10.0.0.1")
		expect(t, "b", b.next(t, time.Second), "10.0.0.2")
		resolved(t, r, "b.two.test")

		write(t, s.ResolvConf, "nameserver 192.0.2.2\nsearch two.test\n")
		w.take()
		expect(t, "b of another domain", b.next(t, 10*time.Second), "10.0.0.3")
		pass(time.Second)
		if asked := w.take(); !strings.Contains(asked, "@192.0.2.2") || strings.Contains(asked, "a.test,") {
			t.Errorf("asked %q", asked)
		}

		write(t, s.HostsFile, "10.9.0.1 A.test\n10.9.0.2 b.two.test\n")
		expect(t, "a in the hosts file", a.next(t, 6*time.Second), "10.9.0.1")
		expect(t, "b.two.test in the hosts file", resolved(t, r, "b.two.test"), "10.9.0.2")
		write(t, s.HostsFile, "")
		a.quiet(t, 4*time.Second) // seen empty once
		expect(t, "a is not any more", a.next(t, 20*time.Second), "10.0.0.1")

		// One without servers does not take away those that were known.
		write(t, s.ResolvConf, "search one.test\n")
		expect(t, "b", b.next(t, 10*time.Second), "10.0.0.2")
	})
}
