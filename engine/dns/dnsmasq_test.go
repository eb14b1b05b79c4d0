package dns

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// dnsmasq starts the real thing on a loopback port and returns its address. It
// is stopped when the test ends.
func dnsmasq(t *testing.T, conf string) string {
	t.Helper()
	path, err := exec.LookPath("dnsmasq")
	if err != nil {
		path = "/usr/sbin/dnsmasq"
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("this test needs dnsmasq, of the package dnsmasq-base: %v", err)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "extra"), "10.5.0.1 hosted.test\n10.5.0.2 hosted.test\n")
	var log string
	for range 10 { // others may take the port that was free
		var addr string
		if addr, log = tryDnsmasq(t, path, dir, strings.ReplaceAll(conf, "$DIR", dir)); addr != "" {
			return addr
		}
	}
	t.Fatalf("dnsmasq does not start; it said:\n%s", log)
	return ""
}

// tryDnsmasq returns the address of a running dnsmasq, or what it said.
func tryDnsmasq(t *testing.T, path, dir, conf string) (addr, log string) {
	t.Helper()
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = l.LocalAddr().String()
	_ = l.Close()
	_, port, _ := net.SplitHostPort(addr)
	file := filepath.Join(dir, "dnsmasq.conf")
	write(t, file, "port="+port+"\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\npid-file=\nlog-facility=-\n"+conf)
	var said strings.Builder
	cmd := exec.Command(path, "--keep-in-foreground", "--conf-file="+file, "--user=")
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() { defer close(exited); _ = cmd.Wait() }()
	stop := func() { _ = cmd.Process.Kill(); <-exited }
	for begun := time.Now(); time.Since(begun) < deadline; {
		select {
		case <-exited:
			return "", said.String()
		case <-time.After(10 * time.Millisecond):
		}
		if c, err := net.Dial("tcp", addr); err == nil {
			_ = c.Close()
			t.Cleanup(stop)
			return addr, ""
		}
	}
	stop()
	return "", said.String()
}

func TestDnsmasq(t *testing.T) {
	var many, want []string
	for i := range 120 {
		many = append(many, fmt.Sprintf("host-record=many.test,10.4.0.%d\n", i+1))
		want = append(want, fmt.Sprintf("10.4.0.%d", i+1))
	}
	addr := dnsmasq(t, `local=/test/
addn-hosts=$DIR/extra
local-ttl=7
host-record=a.test,10.1.0.1,2001:db8::1
host-record=b.corp.test,10.1.0.2
cname=alias.test,a.test
srv-host=_web._tcp.srv.test,a.test,8080,10,5
srv-host=_web._tcp.srv.test,b.corp.test,8081,10,0
srv-host=_web._tcp.srv.test,b.corp.test,9999,20,9
`+strings.Join(many, ""))
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	write(t, conf, "search corp.test\noptions timeout:2 attempts:2\n")
	s := realSettings(t, addr)
	s.ResolvConf, s.Order = conf, []string{"LAST", "SRV", "A", "AAAA", "CNAME"}
	r := start(t, s, nil)
	f := func(name, want string) {
		t.Helper()
		if got := resolved(t, r, name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	f("a.test", "10.1.0.1")
	f("alias.test", "10.1.0.1")
	f("b", "10.1.0.2")
	f("hosted.test", "10.5.0.1 10.5.0.2")
	f("_web._tcp.srv.test", "10.1.0.1:8080*5 10.1.0.2:8081*1")
	f("missing.test", "not found")
	f("many.test", strings.Join(want, " "))
	if s := r.Stats(); s.OverTCP == 0 {
		t.Errorf("many.test fitted into a datagram: %+v", s)
	}
	a, err := r.Lookup(context.Background(), "a.test")
	if ttl := time.Until(a.Expires); err != nil || ttl < 3*time.Second || ttl > 9*time.Second {
		t.Errorf("TTL %v, %v", ttl, err)
	}
	r6 := start(t, Settings{Servers: []string{addr}, Order: []string{"AAAA"}, ResolvConf: conf, HostsFile: conf}, nil)
	expect(t, "AAAA", resolved(t, r6, "a.test"), "2001:db8::1")
}
