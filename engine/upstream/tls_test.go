package upstream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// Depth is what OpenSSL counts: intermediates only.
func TestCheckDepth(t *testing.T) {
	f := func(depth int, ok bool, lengths ...int) {
		t.Helper()
		var chains [][]*x509.Certificate
		for _, n := range lengths {
			chains = append(chains, make([]*x509.Certificate, n))
		}
		if err := checkDepth(chains, depth); (err == nil) != ok {
			t.Errorf("depth %d, chains of %v: %v", depth, lengths, err)
		}
	}
	f(0, true, 1) // trusted itself
	f(0, true, 2) // leaf and root
	f(0, false, 3)
	f(1, true, 3)
	f(1, false, 4)
	f(2, true, 4)
	f(2, false, 5)
	f(1, true, 5, 3) // one short enough will do
	f(1, false, 5, 4)
	f(0, true) // nothing was verified anew
	f(64, true, 66)
}

// selfSigned returns a certificate authority and its key, in PEM.
func selfSigned(t *testing.T, name string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

// scene is what TLS settings are made of.
type scene struct {
	service  config.Service
	upstream *config.Upstream
	gateway  config.Gateway
	ca       config.CACertificate
	id       config.Certificate
}

// key returns what tells the settings of s apart: for the service, and for probes.
func (s *scene) key(t *testing.T) (service, probes string) {
	t.Helper()
	o := &Opener{
		env:   &pipeline.Env{Document: &config.Document{Gateway: s.gateway}},
		cas:   map[string]*config.CACertificate{"ca": &s.ca},
		certs: map[string]*config.Certificate{"id": &s.id},
	}
	var b, p strings.Builder
	if _, err := o.serviceTLS(&s.service, s.upstream, &b); err != nil {
		t.Fatal(err)
	}
	if _, err := o.probeTLS(s.upstream, &p); err != nil {
		t.Fatal(err)
	}
	return b.String(), p.String()
}

// Everything that changes how TLS is spoken changes the key under which connections are
// kept, also where a file or an entity changes behind the same name.
func TestKeysTellSettingsApart(t *testing.T) {
	one, oneKey := selfSigned(t, "one")
	two, twoKey := selfSigned(t, "two")
	file := filepath.Join(t.TempDir(), "trusted")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	yes, depth := true, 2
	checks := &config.Upstream{ClientCertificate: "id"}
	checks.Healthchecks.Active.Type = "https"
	fresh := func() *scene {
		write(one)
		return &scene{
			service: config.Service{TLSVerify: &yes}, gateway: config.Gateway{LuaSSLTrustedCertificate: []string{file}, LuaSSLVerifyDepth: 1},
			ca: config.CACertificate{ID: "ca", Cert: one}, id: config.Certificate{ID: "id", Cert: one, Key: oneKey},
		}
	}
	variants := []func(s *scene){
		func(*scene) {},
		func(s *scene) { s.service.TLSVerify = nil },
		func(s *scene) { s.service.TLSVerifyDepth = &depth },
		func(s *scene) { s.service.CACertificates = []string{"ca"} },
		func(s *scene) { s.service.CACertificates, s.ca.Cert = []string{"ca"}, two },
		func(*scene) { write(two) },
		func(s *scene) { s.gateway.LuaSSLTrustedCertificate = []string{"system", file} },
		func(s *scene) { s.gateway.LuaSSLTrustedCertificate = []string{"system"} },
		func(s *scene) { s.service.ClientCertificate = "id" },
		func(s *scene) { s.service.ClientCertificate, s.id.Cert, s.id.Key = "id", two, twoKey },
		func(s *scene) { s.service.ClientCertificate, s.id.Cert = "id", one+two }, // a longer chain
	}
	seen := map[string]int{}
	for i, change := range variants {
		s := fresh()
		change(s)
		key, _ := s.key(t)
		if again, _ := s.key(t); again != key {
			t.Errorf("variant %d: %q, then %q", i, key, again)
		}
		if other, taken := seen[key]; taken {
			t.Errorf("variants %d and %d are both %q", other, i, key)
		}
		seen[key] = i
	}
	seen = map[string]int{}
	for i, change := range []func(s *scene){
		func(*scene) {}, func(*scene) { write(two) }, func(s *scene) { s.id.Cert, s.id.Key = two, twoKey },
	} {
		s := fresh()
		s.upstream = checks
		change(s)
		_, key := s.key(t)
		if other, taken := seen[key]; taken {
			t.Errorf("probes of variants %d and %d are both %q", other, i, key)
		}
		seen[key] = i
	}
}

// Pools of one address are bounded. Those out of use give way, those in use do not.
func TestPoolsGiveWay(t *testing.T) {
	tr := newTransport(transportSettings{idleMax: 10, idleTimeout: time.Minute})
	a := newAddress(newRoster("u"), "127.0.0.1:443", "a.test:443", "a.test")
	name := func(i int) []byte { return fmt.Appendf(nil, "n%d.test", i) }
	now := pipeline.Now()
	use := func(p *pool, at int64) {
		t.Helper()
		if !p.put(&conn{}, at) || p.get(at) == nil {
			t.Error("a connection is not kept")
		}
	}
	first := a.pool(tr, name(0))
	use(first, now)
	for i := range 10 * poolsMax {
		if p := a.pool(tr, name(i)); p.shut {
			t.Fatalf("pool %d is shut although others were never used", i)
		}
	}
	if n := len(*a.pools.Load()); n != poolsMax || len(tr.all()) != poolsMax {
		t.Errorf("%d pools, %d known to the transport", n, len(tr.all()))
	}
	if a.pool(tr, name(0)) != first {
		t.Error("a pool in use gave way")
	}
	for _, p := range *a.pools.Load() {
		use(p, now)
	}
	if p := a.pool(tr, []byte("more.test")); !p.shut || len(*a.pools.Load()) != poolsMax {
		t.Error("a pool in use gave way to one more")
	}
	first.lastPut = now - int64(time.Hour)
	if p := a.pool(tr, []byte("more.test")); p.shut || !first.shut || a.pool(tr, []byte("more.test")) != p {
		t.Error("a pool that is out of use does not give way")
	}
}
