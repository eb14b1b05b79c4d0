package dns

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseResolvConf(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		if got := fmt.Sprintf("%+v", parseResolvConf([]byte(in))); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	show := func(servers, search []string, ndots int, timeout time.Duration, attempts int, rotate bool) string {
		return fmt.Sprintf("%+v", resolvConf{servers, search, ndots, timeout, attempts, rotate})
	}
	f("", show(nil, nil, 1, 0, 2, false))
	f("nameserver 10.0.0.1\nnameserver ::1 # x\nnameserver fe80::1%eth0\r\nnameserver 10.0.0.1\nnameserver ns.test\nnameserver\n",
		show([]string{"10.0.0.1:53", "[::1]:53", "[fe80::1%eth0]:53"}, nil, 1, 0, 2, false))
	f("search a.test\ndomain b.test c.test\n", show(nil, []string{"b.test"}, 1, 0, 2, false))
	f("domain b.test\nsearch A.test. . bad/name a.test\n", show(nil, []string{"a.test", ""}, 1, 0, 2, false))
	f("options ndots:5 timeout:3 attempts:4 rotate edns0 unknown:1\n", show(nil, nil, 5, 3*time.Second, 4, true))
	f("options ndots:99 timeout:99 attempts:99\n", show(nil, nil, 15, 30*time.Second, 5, false))
	f("options ndots:-1 timeout:0 attempts:0 ndots:x\n;options rotate", show(nil, nil, 1, time.Second, 1, false))
}

func TestParseHosts(t *testing.T) {
	h := parseHosts([]byte("10.0.0.1 A.test a # b\n\n::ffff:10.0.0.2\ta.TEST.\nfe80::1%eth0 z\nx y\n10.0.0.3\n10.0.0.1 a bad/name c"))
	f := func(name, want string) {
		t.Helper()
		if got := fmt.Sprint(h.find(name)); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	f("a.test", "[10.0.0.1 10.0.0.2]")
	f("a.test.", "[10.0.0.1 10.0.0.2]")
	f("a", "[10.0.0.1]")
	f("b", "[]")
	f("c", "[10.0.0.1]")
	f("y", "[]")
	f("z", "[fe80::1%eth0]")
	f("localhost", "[127.0.0.1 ::1]")
	f("x.localhost", "[127.0.0.1 ::1]")
	f("xlocalhost", "[]")
}

func TestFileLook(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	var used []string
	f := &file{path: path, use: func(b []byte) { used = append(used, string(b)) }}
	log := slog.New(slog.DiscardHandler)
	age := func(seconds int) {
		t.Helper()
		then := time.Now().Add(-time.Duration(seconds) * time.Second)
		if err := os.Chtimes(path, then, then); err != nil {
			t.Fatal(err)
		}
	}
	look := func(want ...string) {
		t.Helper()
		f.look(log)
		if !slices.Equal(used, want) {
			t.Errorf("used %q, want %q", used, want)
		}
		used = nil
	}
	f.open(log)
	if !slices.Equal(used, []string{""}) {
		t.Errorf("a missing file: used %q", used)
	}
	used = nil
	look()
	write(t, path, "one")
	look("one")
	if f.info != nil {
		t.Error("a young file is thought to have settled")
	}
	write(t, path, "two") // the same size, perhaps the same time
	look("two")
	age(60)
	look()
	if f.info == nil {
		t.Error("an old file is read each time")
	}
	write(t, path, "six")
	age(60)
	used = nil
	f.info = nil
	look("six")
	age(30)
	look() // touched
	write(t, path, "")
	look()
	write(t, path, "ten")
	look("ten")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	look()
	look("")
	look()
}

func TestServersInTurn(t *testing.T) {
	now := time.Unix(100, 0)
	c := newConf(resolvConf{servers: []string{"a", "b", "c"}, rotate: true, attempts: 2}, nil, 0)
	f := func(turn uint32, want string) {
		t.Helper()
		var got []string
		for _, s := range c.inTurn(turn, now) {
			got = append(got, s.addr)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("turn %d: got %v, want %s", turn, got, want)
		}
	}
	f(0, "a b c")
	f(1, "b c a")
	c.servers[1].silent.Store(now.Add(1).UnixNano())
	f(1, "c a b")
	next := newConf(resolvConf{servers: []string{"b", "d"}}, c, time.Second)
	if next.servers[0] != c.servers[1] || next.timeout != time.Second || c.timeout != timeoutDefault {
		t.Errorf("%+v", next)
	}
}

func FuzzResolvConf(f *testing.F) {
	f.Add([]byte("nameserver 10.0.0.1\nsearch a.test b.test\noptions ndots:2 timeout:1 attempts:3 rotate"), "x.y")
	f.Add([]byte("domain .\nnameserver ::1%\x00"), "x.")
	f.Fuzz(func(t *testing.T, b []byte, name string) {
		c := parseResolvConf(b)
		if len(c.servers) > serversMax || len(c.search) > searchMax || c.ndots > ndotsMax || c.attempts < 1 || c.attempts > attemptsMax {
			t.Fatalf("%+v", c)
		}
		var again strings.Builder
		for _, s := range c.servers {
			ap, err := netip.ParseAddrPort(s)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&again, "nameserver %s\n", ap.Addr())
		}
		if len(c.search) > 0 {
			again.WriteString("search")
			for _, d := range c.search {
				again.WriteString(" " + d + ".")
			}
		}
		fmt.Fprintf(&again, "\noptions ndots:%d attempts:%d", c.ndots, c.attempts)
		d := parseResolvConf([]byte(again.String()))
		if !slices.Equal(c.servers, d.servers) || !slices.Equal(c.search, d.search) || c.ndots != d.ndots || c.attempts != d.attempts {
			t.Errorf("%+v became %+v", c, d)
		}
		key, err := canonical(name)
		if err != nil {
			return
		}
		if again, err := canonical(key); err != nil || again != key {
			t.Errorf("%q became %q, %v", key, again, err)
		}
		for _, n := range c.names(key) {
			if len(n) > nameBytesMax {
				t.Errorf("%q is too long", n)
			}
			if _, err := question(n, 1).Pack(); err != nil {
				t.Errorf("%q: %v", n, err)
			}
		}
	})
}

func FuzzHosts(f *testing.F) {
	f.Add([]byte("127.0.0.1 localhost\n::1 ip6-localhost # x\n10.0.0.1\ta b\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h := parseHosts(b)
		var again strings.Builder
		for name, addrs := range h {
			for _, a := range addrs {
				fmt.Fprintf(&again, "%s %s\n", a, name)
			}
		}
		other := parseHosts([]byte(again.String()))
		if len(h) != len(other) {
			t.Fatalf("%v became %v", h, other)
		}
		for name := range h {
			if h.changed(other, name) {
				t.Errorf("%s: %v became %v", name, h[name], other[name])
			}
		}
	})
}
