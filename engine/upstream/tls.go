package upstream

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/sluice-gateway/sluice/engine/config"
)

// serviceTLS returns how e is spoken to by TLS, and writes to key what tells these
// settings apart. As in Kong, the certificate is verified only where tls_verify or
// tls_certificate_verify says so. The server name is the connection's.
func (o *Opener) serviceTLS(e *config.Service, u *config.Upstream, key *strings.Builder) (*tls.Config, error) {
	g := &o.env.Document.Gateway
	verify := g.TLSCertificateVerify
	if e.TLSVerify != nil {
		verify = *e.TLSVerify
	}
	c := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: !verify, //nolint:gosec // Kong's default, stated in the manual.
		ClientSessionCache: tls.NewLRUClientSessionCache(0),
	}
	fmt.Fprintf(key, "verify=%t", verify)
	if verify {
		depth := g.LuaSSLVerifyDepth
		if e.TLSVerifyDepth != nil {
			depth = *e.TLSVerifyDepth
		}
		fmt.Fprintf(key, "/depth=%d", depth)
		c.VerifyConnection = func(s tls.ConnectionState) error { return checkDepth(s.VerifiedChains, depth) }
		roots, err := o.roots(e.CACertificates, key)
		if err != nil {
			return nil, err
		}
		c.RootCAs = roots
	}
	id := e.ClientCertificate
	if id == "" && u != nil {
		id = u.ClientCertificate
	}
	return c, o.present(c, id, key)
}

// checkDepth applies a verify depth as OpenSSL counts it: certificates between the
// service's own and the one that is trusted.
func checkDepth(chains [][]*x509.Certificate, depth int) error {
	for _, chain := range chains {
		if len(chain)-2 <= depth {
			return nil
		}
	}
	if len(chains) == 0 {
		return nil // a resumed session: it was checked when it began
	}
	return fmt.Errorf("the certificate chain is longer than tls_verify_depth %d allows", depth)
}

// roots returns who may sign a service's certificate: its ca_certificates, else
// lua_ssl_trusted_certificate. nil stands for the system's.
func (o *Opener) roots(ids []string, key *strings.Builder) (*x509.CertPool, error) {
	if len(ids) == 0 {
		return o.trusted(key)
	}
	pool := x509.NewCertPool()
	for _, id := range ids {
		ca := o.cas[id]
		if ca == nil {
			return nil, fmt.Errorf("ca_certificates: no CA certificate with id %q", id)
		}
		if !pool.AppendCertsFromPEM([]byte(ca.Cert)) {
			return nil, fmt.Errorf("ca_certificates: %q holds no certificate", id)
		}
		fmt.Fprintf(key, "/ca:%x", digest([]byte(ca.Cert)))
	}
	return pool, nil
}

// trusted reads lua_ssl_trusted_certificate: files, or "system".
func (o *Opener) trusted(key *strings.Builder) (*x509.CertPool, error) {
	var pool *x509.CertPool
	var errs []error
	for _, file := range o.env.Document.Gateway.LuaSSLTrustedCertificate {
		if file == "system" {
			key.WriteString("/system")
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			errs = append(errs, fmt.Errorf("gateway: lua_ssl_trusted_certificate: %w", err))
			continue
		}
		if pool == nil {
			if pool, err = o.systemRoots(); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		if !pool.AppendCertsFromPEM(text) {
			errs = append(errs, fmt.Errorf("gateway: lua_ssl_trusted_certificate: %s holds no certificate", file))
		}
		fmt.Fprintf(key, "/trusted:%s:%x", file, digest(text))
	}
	return pool, errors.Join(errs...)
}

// systemRoots returns the pool that files are added to: the system's where
// lua_ssl_trusted_certificate names it, else an empty one.
func (o *Opener) systemRoots() (*x509.CertPool, error) {
	for _, file := range o.env.Document.Gateway.LuaSSLTrustedCertificate {
		if file == "system" {
			pool, err := x509.SystemCertPool()
			if err != nil {
				return nil, fmt.Errorf("gateway: lua_ssl_trusted_certificate: system: %w", err)
			}
			return pool, nil
		}
	}
	return x509.NewCertPool(), nil
}

// present adds the certificate that c shows to the service: that of the id, else
// client_ssl_cert where client_ssl is on.
func (o *Opener) present(c *tls.Config, id string, key *strings.Builder) error {
	g := &o.env.Document.Gateway
	var pair tls.Certificate
	var err error
	switch {
	case id != "":
		cert := o.certs[id]
		if cert == nil {
			return fmt.Errorf("client_certificate: no certificate with id %q", id)
		}
		if pair, err = tls.X509KeyPair([]byte(cert.Cert), []byte(cert.Key)); err != nil {
			return fmt.Errorf("client_certificate %q: %w", id, err)
		}
	case g.ClientSSL && g.ClientSSLCert != "":
		if pair, err = tls.LoadX509KeyPair(g.ClientSSLCert, g.ClientSSLCertKey); err != nil {
			return fmt.Errorf("gateway: client_ssl_cert: %w", err)
		}
	default:
		return nil
	}
	c.Certificates = []tls.Certificate{pair}
	fmt.Fprintf(key, "/cert:%x", digest(bytes.Join(pair.Certificate, nil)))
	return nil
}

// probeTLS returns how probes of u speak TLS, nil where they do not, and writes to key
// what is not spelled out in u itself.
func (o *Opener) probeTLS(u *config.Upstream, key *strings.Builder) (*tls.Config, error) {
	if u == nil {
		return nil, nil
	}
	a := &u.Healthchecks.Active
	if a.Type != "https" && a.Type != "grpcs" {
		return nil, nil
	}
	c := &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: a.HTTPSSNI,
		InsecureSkipVerify: !a.HTTPSVerifyCertificate, //nolint:gosec // https_verify_certificate says so.
	}
	roots, err := o.trusted(key)
	if err != nil {
		return nil, err
	}
	c.RootCAs = roots
	return c, o.present(c, u.ClientCertificate, key)
}
