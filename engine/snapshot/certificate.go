package snapshot

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	"github.com/sluice-gateway/sluice/engine/config"
)

// Certificates finds the certificate for a server name. Immutable, safe for
// concurrent use.
type Certificates struct {
	byName   map[string]*tls.Certificate // lower case; "*.a.com", "a.*", "*"
	fallback *tls.Certificate            // gateway.ssl_cert, or the first of the document
}

func newCertificates(d *config.Document) (*Certificates, error) {
	c := &Certificates{byName: map[string]*tls.Certificate{}}
	var errs []error
	byID := map[string]*tls.Certificate{}
	for _, e := range d.Certificates {
		pair, err := tls.X509KeyPair([]byte(e.Cert), []byte(e.Key))
		if err != nil {
			errs = append(errs, fmt.Errorf("certificate %q: %w", e.ID, err))
			continue
		}
		byID[e.ID] = &pair
		if c.fallback == nil {
			c.fallback = &pair
		}
	}
	for _, s := range d.SNIs {
		if pair := byID[s.Certificate]; pair != nil {
			c.byName[strings.ToLower(s.Name)] = pair
		}
	}
	g := &d.Gateway
	for i := range min(len(g.SSLCert), len(g.SSLCertKey)) {
		pair, err := tls.LoadX509KeyPair(g.SSLCert[i], g.SSLCertKey[i])
		if err != nil {
			errs = append(errs, fmt.Errorf("gateway: ssl_cert[%d]: %w", i, err))
			continue
		}
		if i == 0 {
			c.fallback = &pair
		}
	}
	return c, errors.Join(errs...)
}

// Any reports whether there is a certificate at all.
func (c *Certificates) Any() bool { return c.fallback != nil }

// ErrNoCertificate says that a TLS listener has nothing to present.
var ErrNoCertificate = errors.New("no certificate: set gateway.ssl_cert and gateway.ssl_cert_key, or add one under certificates")

// Get returns the certificate for a handshake: the exact name, then
// "*.rest", then "first.*", then "*", then the default.
func (c *Certificates) Get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.TrimSuffix(strings.ToLower(hello.ServerName), ".")
	if pair := c.byName[name]; pair != nil {
		return pair, nil
	}
	if i := strings.IndexByte(name, '.'); i > 0 {
		if pair := c.byName["*"+name[i:]]; pair != nil {
			return pair, nil
		}
	}
	if i := strings.LastIndexByte(name, '.'); i > 0 {
		if pair := c.byName[name[:i]+".*"]; pair != nil {
			return pair, nil
		}
	}
	if pair := c.byName["*"]; pair != nil {
		return pair, nil
	}
	if c.fallback == nil {
		return nil, ErrNoCertificate
	}
	return c.fallback, nil
}
