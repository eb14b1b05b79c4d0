package engine_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// authority signs certificates. Its chain is itself and what signed it, without
// the root.
type authority struct {
	cert  *x509.Certificate
	key   crypto.Signer
	chain [][]byte
}

// newAuthority returns a root, or an intermediate of parent.
func newAuthority(t testing.TB, name string, parent *authority) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if parent == nil {
		parent = &authority{cert: template, key: a.key}
	} else {
		defer func() { a.chain = append([][]byte{a.cert.Raw}, parent.chain...) }()
	}
	a.cert = signed(t, template, a.key, parent)
	return a
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func signed(t testing.TB, template *x509.Certificate, key crypto.Signer, by *authority) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// issue signs a certificate for names or IP addresses; the first is its subject.
func (a *authority) issue(t testing.TB, names ...string) tls.Certificate {
	t.Helper()
	return a.issueUntil(t, time.Now().Add(time.Hour), names...)
}

func (a *authority) issueUntil(t testing.TB, until time.Time, names ...string) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: names[0]},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	key := newKey(t)
	leaf := signed(t, template, key, a)
	return tls.Certificate{Certificate: append([][]byte{leaf.Raw}, a.chain...), PrivateKey: key, Leaf: leaf}
}

func (a *authority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

// entry is a as an item of ca_certificates.
func (a *authority) entry(id string) string {
	return fmt.Sprintf("- {id: %s, cert: %q}\n", id, a.pem())
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// certEntry is c as an item of certificates.
func certEntry(t testing.TB, id string, c tls.Certificate) string {
	cert, key := pemOf(t, c)
	return fmt.Sprintf("- {id: %s, cert: %s, key: %s}\n", id, cert, key)
}

// pemFiles writes c and its key and returns where.
func pemFiles(t testing.TB, c tls.Certificate) (cert, key string) {
	t.Helper()
	quoted := [2]string{}
	quoted[0], quoted[1] = pemOf(t, c)
	for i, q := range quoted {
		text, err := strconv.Unquote(q)
		if err != nil {
			t.Fatal(err)
		}
		quoted[i] = tempFile(t, text)
	}
	return quoted[0], quoted[1]
}

func tempFile(t testing.TB, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
