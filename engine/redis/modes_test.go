package redis

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/redis/redistest"
)

// certificate writes a certificate for 127.0.0.1 and redis.test that is its own
// authority, and its key.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"redis.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestTLS(t *testing.T) {
	cert, key := certificate(t)
	s := redistest.Start(t, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no")
	f := func(change func(*Settings), want string) {
		t.Helper()
		set := settings(s)
		set.TLS, set.Verify, set.Trusted = true, true, []string{cert}
		change(&set)
		t.Run(want, func(t *testing.T) {
			c := open(t, set)
			_, err := add(c, "k", 1)
			_, _, report := c.Report()
			if want == "" && err != nil || want != "" && !strings.Contains(report.(State).Error, want) {
				t.Errorf("%v, %+v; want %q", err, report, want)
			}
		})
	}
	f(func(*Settings) {}, "")
	f(func(s *Settings) { s.ServerName = "redis.test" }, "")
	f(func(s *Settings) { s.ServerName = "other.test" }, "certificate is valid for redis.test, not other.test")
	f(func(s *Settings) { s.Trusted = []string{"system"} }, "certificate signed by unknown authority")
	f(func(s *Settings) { s.Trusted, s.Verify = nil, false }, "")
	f(func(s *Settings) { s.TLS = false }, "redis: away")
	if _, err := Open(Settings{TLS: true, Verify: true, Trusted: []string{"nowhere.pem"}}, Options{}); err == nil || !strings.Contains(err.Error(), "nowhere.pem") {
		t.Errorf("error %v", err)
	}
}

func TestValuesTLS(t *testing.T) {
	cert, key := certificate(t)
	s := redistest.Start(t, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no")
	set := patient(s)
	set.TLS, set.Verify, set.Trusted = true, true, []string{cert}
	keepAll(t, open(t, set))
}

// TestValuesSentinelFailover is of a client that only keeps values.
func TestValuesSentinelFailover(t *testing.T) {
	g := redistest.Sentinels(t)
	set := Settings{SentinelMaster: "main", ReadTimeout: 2 * time.Second, ConnectTimeout: 500 * time.Millisecond}
	for _, s := range g.Sentinels {
		set.Sentinels = append(set.Sentinels, s.Addr())
	}
	c := open(t, set)
	keepAll(t, c)
	value := noise(64 << 10)
	mustKeep(t, c, "k", value)
	redistest.Eventually(t, "the replica has it", func() bool { return g.Replica.Do("exists", "k") == "1" })
	g.Master.Stop()
	redistest.Eventually(t, "the replica serves", func() bool {
		got, found, err := c.Get(context.Background(), "k", nil)
		return err == nil && found && bytes.Equal(got, value) && c.Set(context.Background(), "after", value, time.Minute) == nil
	})
	if got := g.Replica.Do("strlen", "after"); got != "65536" {
		t.Errorf("the new master has %s bytes", got)
	}
	g.Master.Continue()
}

func TestValuesCluster(t *testing.T) {
	nodes := redistest.Cluster(t, 3)
	set := Settings{Cluster: []string{nodes[0].Addr(), nodes[1].Addr()}, ReadTimeout: 2 * time.Second, ConnectTimeout: 500 * time.Millisecond}
	c := open(t, set)
	keepAll(t, c)
	ctx := context.Background()
	var keys []string
	for i := range 300 {
		keys = append(keys, fmt.Sprintf("id:{%d}", i))
		mustKeep(t, c, keys[i], noise(i))
	}
	for _, n := range nodes {
		if size, _ := strconv.Atoi(n.Do("dbsize")); size < 30 {
			t.Errorf("a node has %d keys of 300", size)
		}
	}
	if got, err := c.RunStrings(ctx, "return {redis.call('GET', KEYS[1]), ARGV[1]}", []string{keys[7]}, []string{"a"}); err != nil || got[0] != string(noise(7)) || got[1] != "a" {
		t.Errorf("%q, %v", got, err)
	}
	for _, none := range [][]string{nil, {"a", "b"}} {
		if _, err := c.RunStrings(ctx, "return {}", none, nil); !errors.Is(err, ErrAnswer) {
			t.Errorf("%q: %v", none, err)
		}
		if _, err := c.Run(ctx, "return {}", none, nil); !errors.Is(err, ErrAnswer) {
			t.Errorf("%q: %v", none, err)
		}
	}
	if err := c.Delete(ctx, keys...); err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if left := n.Do("keys", "id:*"); left != "" {
			t.Errorf("left: %s", left)
		}
	}

	// A slot moves: the client learns of it from the answer.
	moved := "moved:{7}"
	from, to := nodes[slot(moved)*3/slots], nodes[(slot(moved)*3/slots+1)%3]
	from.Do("del", keys[7])
	id := to.Do("cluster", "myid")
	for _, n := range []*redistest.Server{to, from} {
		n.Do("cluster", "setslot", strconv.Itoa(slot(moved)), "node", id)
	}
	mustKeep(t, c, moved, noise(3<<20))
	if got := to.Do("strlen", moved); got != strconv.Itoa(3<<20) {
		t.Errorf("the new node has %q", got)
	}
	mustKeep(t, c, moved, nil)
	if err := c.Delete(ctx, moved); err != nil || to.Do("exists", moved) != "0" {
		t.Errorf("delete: %v", err)
	}
}

// TestValuesClusterNodeAway has one node stand still: values that lie there fail, at
// once after the first, and all else is served.
func TestValuesClusterNodeAway(t *testing.T) {
	nodes := redistest.Cluster(t, 3)
	set := Settings{Cluster: []string{nodes[0].Addr(), nodes[1].Addr()}, ReadTimeout: 300 * time.Millisecond, ConnectTimeout: 300 * time.Millisecond}
	c := open(t, set)
	ctx := context.Background()
	bad, good := "", ""
	for i := 0; bad == "" || good == ""; i++ {
		switch key := fmt.Sprintf("x:{%d}", i); {
		case slot(key) > 5600 && slot(key) < 10900:
			bad = key
		case slot(key) < 5400:
			good = key
		}
	}
	mustKeep(t, c, bad, noise(1000))
	nodes[1].Stop()
	start := time.Now()
	if _, _, err := c.Get(ctx, bad, nil); !errors.Is(err, ErrTimeout) && !errors.Is(err, ErrAway) {
		t.Errorf("a stopped node: %v", err)
	}
	if d := time.Since(start); d > set.ReadTimeout+slack {
		t.Errorf("that took %v, the timeout is %v", d, set.ReadTimeout)
	}
	mustKeep(t, c, good, noise(1000))
	start = time.Now()
	away := 0
	for range 1000 {
		if _, _, err := c.Get(ctx, bad, nil); errors.Is(err, ErrAway) {
			away++
		}
	}
	if d := time.Since(start); d > 2*set.ReadTimeout+slack || away < 990 {
		t.Errorf("1000 calls to a stopped node took %v, %d of them failed at once", d, away)
	}
	nodes[1].Continue()
	redistest.Eventually(t, "the node serves again", func() bool {
		got, found, err := c.Get(ctx, bad, nil)
		return err == nil && found && len(got) == 1000
	})
	redistest.Eventually(t, "all parts are there", func() bool { return c.up() == 1 })
}

func TestSentinelFailover(t *testing.T) {
	g := redistest.Sentinels(t)
	set := Settings{SentinelMaster: "main", ReadTimeout: 500 * time.Millisecond, ConnectTimeout: 500 * time.Millisecond}
	for _, s := range g.Sentinels {
		set.Sentinels = append(set.Sentinels, s.Addr())
	}
	c := open(t, set)
	mustAdd(t, c, "k", 2, 2)
	redistest.Eventually(t, "the replica has it", func() bool { return g.Replica.Do("get", "k") == "2" })

	stop := make(chan struct{})
	var ok, failed, slowest atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				start := time.Now()
				if _, err := add(c, "load", 1); err == nil {
					ok.Add(1)
				} else if failed.Add(1); !errors.Is(err, ErrAway) && !errors.Is(err, ErrTimeout) {
					t.Errorf("error %v", err)
				}
				if d := int64(time.Since(start)); d > slowest.Load() {
					slowest.Store(d)
				}
			}
		})
	}
	redistest.Eventually(t, "calls succeed", func() bool { return ok.Load() > 100 })
	g.Master.Stop()
	start := time.Now()
	redistest.Eventually(t, "the client knows", func() bool { return !c.Up() })
	n := ok.Load()
	redistest.Eventually(t, "the replica serves", func() bool { return ok.Load() > n+100 })
	t.Logf("failed over in %v", time.Since(start))
	close(stop)
	wg.Wait()
	if d := time.Duration(slowest.Load()); d > 500*time.Millisecond+slack {
		t.Errorf("a call took %v, the timeout is 500 ms", d)
	}
	mustAdd(t, c, "k", 1, 3)
	if got := g.Replica.Do("get", "k"); got != "3" {
		t.Errorf("the new master has %q", got)
	}
	g.Master.Continue() // becomes a replica; the client must not go back to it
	redistest.Eventually(t, "the old master follows", func() bool {
		says, err := g.Master.Try("info", "replication") // it closes connections as it changes
		return err == nil && strings.Contains(says, "role:slave")
	})
	mustAdd(t, c, "k", 1, 4)
}

func TestSentinelAway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	c := open(t, Settings{SentinelMaster: "main", Sentinels: []string{l.Addr().String()}, ReadTimeout: 200 * time.Millisecond, ConnectTimeout: 200 * time.Millisecond})
	if _, err := add(c, "k", 1); !errors.Is(err, ErrAway) {
		t.Errorf("error %v", err)
	}
}

func TestCluster(t *testing.T) {
	nodes := redistest.Cluster(t, 3)
	set := Settings{Cluster: []string{nodes[0].Addr(), nodes[1].Addr()}, ReadTimeout: 300 * time.Millisecond, ConnectTimeout: 300 * time.Millisecond}
	c := open(t, set)
	for i := range 100 {
		mustAdd(t, c, fmt.Sprintf("id:{%d}", i), i, int64(i))
	}
	total := 0
	for _, n := range nodes {
		size, _ := strconv.Atoi(n.Do("dbsize"))
		if size < 10 {
			t.Errorf("a node has %d keys of 100", size)
		}
		total += size
	}
	if total != 100 {
		t.Errorf("%d keys", total)
	}
	if _, err := c.Run(context.Background(), increment, []string{"a", "b"}, []string{"1"}); !errors.Is(err, ErrAnswer) {
		t.Errorf("keys of two slots: %v", err)
	}
	var keys, args [][]string
	for i := range 1000 {
		keys, args = append(keys, []string{fmt.Sprintf("many:{%d}", i)}), append(args, []string{"1"})
	}
	for _, n := range nodes {
		n.Do("script", "flush")
	}
	if _, errs := c.RunMany(context.Background(), increment, keys, args); errors.Join(errs...) != nil {
		t.Fatal(errors.Join(errs...))
	}

	// One node stops answering: what lies elsewhere is served as before.
	nodes[1].Stop()
	bad, good := "", ""
	for i := 0; bad == "" || good == ""; i++ {
		key := fmt.Sprintf("x:{%d}", i)
		switch n := slot(key); {
		case n > 5600 && n < 10900:
			bad = key
		case n < 5400:
			good = key
		}
	}
	start := time.Now()
	if _, err := add(c, bad, 1); !errors.Is(err, ErrTimeout) && !errors.Is(err, ErrAway) {
		t.Errorf("a stopped node: %v", err)
	}
	if d := time.Since(start); d > 300*time.Millisecond+slack {
		t.Errorf("that took %v, the timeout is 300 ms", d)
	}
	mustAdd(t, c, good, 1, 1)
	start = time.Now()
	away := 0
	for range 1000 {
		if _, err := add(c, bad, 1); errors.Is(err, ErrAway) {
			away++
		}
	}
	if d := time.Since(start); d > 300*time.Millisecond+slack || away < 990 {
		t.Errorf("1000 calls to a stopped node took %v, %d of them failed at once", d, away)
	}
	if c.up() == 1 || c.up() < 0.5 {
		t.Errorf("up = %v", c.up())
	}
	nodes[1].Continue()
	redistest.Eventually(t, "the node serves again", func() bool {
		_, err := add(c, bad, 1)
		return err == nil
	})
	redistest.Eventually(t, "all parts are there", func() bool { return c.up() == 1 })
}

func TestSlot(t *testing.T) {
	f := func(key string, want int) {
		t.Helper()
		if got := slot(key); got != want {
			t.Errorf("slot(%q) = %d, want %d", key, got, want)
		}
	}
	f("123456789", 0x31c3) // the check value of CRC-16/XMODEM, as in the specification of Redis Cluster
	f("", 0)
	f("{123456789}x", 0x31c3)
	f("a{123456789}{b}", 0x31c3)
	f("foo{}", slot("foo{}"))
	if part([]string{"{a}1", "{a}2"}) < 0 || part([]string{"{a}1", "{b}1"}) != -1 {
		t.Error("part")
	}
}
