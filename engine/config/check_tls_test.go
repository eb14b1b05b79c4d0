package config

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"testing"
	"time"
)

// makeCertificate is a self-signed CA certificate and its key, valid for so long.
func makeCertificate(t *testing.T, valid time.Duration, kind string) (cert, key string) {
	t.Helper()
	var (
		signer crypto.Signer
		err    error
	)
	if kind == "rsa" {
		signer, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: kind != "leaf", BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(valid),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

// TestTLSFaults checks certificates, CAs and public keys.
func TestTLSFaults(t *testing.T) {
	cert, key := makeCertificate(t, time.Hour, "ecdsa")
	otherCert, otherKey := makeCertificate(t, time.Hour, "ecdsa")
	rsaCert, rsaKey := makeCertificate(t, time.Hour, "rsa")
	leaf, _ := makeCertificate(t, time.Hour, "leaf")
	old, _ := makeCertificate(t, -time.Hour, "ecdsa")
	f := func(list string, entity map[string]any, o Options, want string) {
		t.Helper()
		data, err := json.Marshal(map[string]any{"_format_version": "3.0", list: []any{entity}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = Read([]Source{{Name: "t.json", Data: data}}, Options{Env: noEnv, Strict: o.Strict})
		got := ""
		if err != nil {
			fs, _ := FaultsOf(err)
			got = fs[0].Path + ": " + fs[0].Message
		}
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	f("certificates", map[string]any{"cert": cert, "key": key}, Options{}, "")
	f("certificates", map[string]any{"cert": cert, "key": otherKey}, Options{}, "certificates[0]: cert: certificate does not match key")
	f("certificates", map[string]any{"cert": cert, "key": "x"}, Options{}, "certificates[0]: key: invalid key: failed to find any PEM data in key input")
	f("certificates", map[string]any{"cert": cert, "key": key, "cert_alt": rsaCert, "key_alt": rsaKey}, Options{}, "")
	f("certificates", map[string]any{"cert": cert, "key": key, "cert_alt": rsaCert}, Options{}, "certificates[0]: cert_alt: all or none of these fields must be set: 'cert_alt', 'key_alt'")
	f("certificates", map[string]any{"cert": cert, "key": key, "cert_alt": otherCert, "key_alt": otherKey}, Options{},
		"certificates[0]: cert_alt: certificate and alternative certificate need to have different type (e.g. RSA and ECDSA), the provided certificates were both of the same type")
	f("ca_certificates", map[string]any{"cert": cert}, Options{Strict: true}, "")
	f("ca_certificates", map[string]any{"cert": cert + otherCert}, Options{}, "ca_certificates[0]: cert: please submit only one certificate at a time")
	f("ca_certificates", map[string]any{"cert": leaf}, Options{}, `ca_certificates[0]: cert: certificate does not appear to be a CA because it is missing the "CA" basic constraint`)
	f("ca_certificates", map[string]any{"cert": old}, Options{Strict: true}, `ca_certificates[0]: cert: certificate expired, "Not After" time is in the past`)
	f("ca_certificates", map[string]any{"cert": old}, Options{}, "")
	jwt := func(pem string) map[string]any {
		return map[string]any{"username": "u", "jwt_secrets": []any{map[string]any{"key": "k", "algorithm": "ES256", "rsa_public_key": pem}}}
	}
	f("consumers", jwt(cert), Options{}, "")
	f("consumers", jwt("x"), Options{}, `consumers[0] "u": jwt_secrets[0]: rsa_public_key: invalid key`)
	f("consumers", jwt(key), Options{}, `consumers[0] "u": jwt_secrets[0]: rsa_public_key: invalid key`)
}
