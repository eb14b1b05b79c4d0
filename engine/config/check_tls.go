package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"time"
)

// elided reports whether a PEM text was shortened with dots, as in documentation.
func elided(text string) bool { return strings.Contains(text, "...") }

// unreadable reports a PEM text nothing can be made of. One that was shortened for print
// is only worth a warning in friendly reading: nothing will ever match it.
func (c checker) unreadable(field, text, message string) {
	if elided(text) && !c.r.options.Strict {
		c.warn(field, "%s; the text is cut short with dots, so nothing will match it", message)
		return
	}
	c.fault(field, "%s", message)
}

func (c checker) certificate(e *Certificate) {
	if e.Cert != "" && e.Key != "" {
		c.pair("cert", e.Cert, e.Key)
	}
	if (e.CertAlt == "") != (e.KeyAlt == "") {
		c.fault("cert_alt", "all or none of these fields must be set: 'cert_alt', 'key_alt'")
		return
	}
	if e.CertAlt == "" {
		return
	}
	c.pair("cert_alt", e.CertAlt, e.KeyAlt)
	a, b := parseLeaf(e.Cert), parseLeaf(e.CertAlt)
	if a != nil && b != nil && a.PublicKeyAlgorithm == b.PublicKeyAlgorithm {
		c.fault("cert_alt", "certificate and alternative certificate need to have different type (e.g. RSA and ECDSA), the provided certificates were both of the same type")
	}
}

func (c checker) pair(field, cert, key string) {
	if parseLeaf(cert) == nil {
		c.unreadable(field, cert, "invalid certificate")
		return
	}
	_, err := tls.X509KeyPair([]byte(cert), []byte(key))
	switch {
	case err == nil:
	case strings.Contains(err.Error(), "does not match"):
		c.fault(field, "certificate does not match key")
	default:
		c.unreadable(strings.Replace(field, "cert", "key", 1), key, "invalid key: "+strings.TrimPrefix(err.Error(), "tls: "))
	}
}

func parseLeaf(text string) *x509.Certificate {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return cert
}

func (c checker) caCertificate(e *CACertificate) {
	if e.Cert == "" {
		return // reported as missing
	}
	if strings.Count(e.Cert, "-----BEGIN CERTIFICATE-----") > 1 {
		c.fault("cert", "please submit only one certificate at a time")
		return
	}
	cert := parseLeaf(e.Cert)
	switch {
	case cert == nil:
		c.unreadable("cert", e.Cert, "invalid certificate")
	case !cert.IsCA:
		c.fault("cert", "certificate does not appear to be a CA because it is missing the \"CA\" basic constraint")
	case time.Now().After(cert.NotAfter):
		// A running gateway must be able to start again, so this refuses only strictly.
		c.strictly("cert", "certificate expired, \"Not After\" time is in the past")
	}
}

func (c checker) jwtSecret(e *JWTSecret) {
	if strings.HasPrefix(e.Algorithm, "HS") {
		return
	}
	if e.RSAPublicKey == "" {
		c.fault("rsa_public_key", "required field missing; algorithm %s needs it", e.Algorithm)
		return
	}
	block, _ := pem.Decode([]byte(e.RSAPublicKey))
	if block == nil {
		c.unreadable("rsa_public_key", e.RSAPublicKey, "invalid key")
		return
	}
	if _, err := x509.ParsePKIXPublicKey(block.Bytes); err == nil {
		return
	}
	if _, err := x509.ParsePKCS1PublicKey(block.Bytes); err == nil {
		return
	}
	if _, err := x509.ParseCertificate(block.Bytes); err == nil {
		return
	}
	c.unreadable("rsa_public_key", e.RSAPublicKey, "invalid key")
}
