package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/lb"
)

// forever stands for "no limit" where a duration is needed.
const forever = 100 * 365 * 24 * time.Hour

// Opener opens the services of one snapshot.
type Opener struct {
	env       *pipeline.Env
	faults    *Faults
	upstreams map[string]*config.Upstream // by name
	targets   map[string][]*config.Target // by upstream id
	certs     map[string]*config.Certificate
	cas       map[string]*config.CACertificate
	requestID bool
}

// NewOpener returns an Opener over env.Document.
func NewOpener(env *pipeline.Env) *Opener {
	d := env.Document
	o := &Opener{
		env: env, faults: NewFaults(env.Metrics),
		upstreams: map[string]*config.Upstream{}, targets: map[string][]*config.Target{},
		certs: map[string]*config.Certificate{}, cas: map[string]*config.CACertificate{},
	}
	for _, u := range d.Upstreams {
		o.upstreams[u.Name] = u
	}
	for _, t := range d.Targets {
		o.targets[t.Upstream] = append(o.targets[t.Upstream], t)
	}
	for _, c := range d.Certificates {
		o.certs[c.ID] = c
	}
	for _, c := range d.CACertificates {
		o.cas[c.ID] = c
	}
	for _, h := range d.Gateway.HeadersUpstream {
		o.requestID = o.requestID || h == "X-Kong-Request-Id"
	}
	return o
}

// Way returns how r shapes the requests that go to e.
func (o *Opener) Way(r *config.Route, e *config.Service) Way {
	return Way{
		rule: pathRule{
			service: e.Path, strip: r.StripPath,
			// Kong honours v1 in its traditional router only.
			v1: r.PathHandling == "v1" && o.env.Document.Gateway.RouterFlavor == "traditional",
		},
		preserveHost: r.PreserveHost,
		requestID:    o.requestID,
	}
}

// Service opens e. Its connection pools are kept across snapshots as long as
// their settings stay the same.
func (o *Opener) Service(e *config.Service) (*Service, error) {
	s := &Service{
		attempts:     1 + e.Retries,
		writeTimeout: milliseconds(e.WriteTimeout),
		readTimeout:  milliseconds(e.ReadTimeout),
		bodyMax:      int64(o.env.Document.Gateway.ClientMaxBodySize),
		faults:       o.faults,

		clientTimeout: o.env.ClientBodyTimeout,
	}
	settings, err := o.poolSettings(e)
	if err != nil {
		return nil, err
	}
	var weights []int
	add := func(address, host string, weight int) error {
		settings.address = address
		t := target{address: address, host: []byte(host)}
		t.pool, err = o.pool(settings)
		s.targets = append(s.targets, t)
		weights = append(weights, weight)
		return err
	}
	u := o.upstreams[e.Host]
	if u == nil {
		address := net.JoinHostPort(e.Host, strconv.Itoa(e.Port))
		err = add(address, hostField(e.Host, strconv.Itoa(e.Port), e.Protocol), 1)
	} else {
		for _, t := range o.targets[u.ID] {
			host, port, serr := net.SplitHostPort(t.Target)
			if serr != nil {
				return nil, fmt.Errorf("target %q: %w", t.Target, serr)
			}
			field := u.HostHeader
			if field == "" {
				field = hostField(host, port, e.Protocol)
			}
			err = errors.Join(err, add(t.Target, field, t.Weight))
		}
	}
	s.balancer = lb.NewRoundRobin(weights)
	return s, err
}

// hostField returns the Host field for a target: the port only if it is not the
// protocol's own.
func hostField(host, port, protocol string) string {
	if port == "80" && !secure(protocol) || port == "443" && secure(protocol) {
		if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
			return "[" + host + "]"
		}
		return host
	}
	return net.JoinHostPort(host, port)
}

func secure(protocol string) bool {
	switch protocol {
	case "https", "grpcs", "tls", "wss":
		return true
	}
	return false
}

func (o *Opener) poolSettings(e *config.Service) (poolSettings, error) {
	g := &o.env.Document.Gateway
	p := poolSettings{
		idleMax:        g.UpstreamKeepalivePoolSize,
		idleTimeout:    time.Duration(g.UpstreamKeepaliveIdleTimeout) * time.Second,
		requestsMax:    g.UpstreamKeepaliveMaxRequests,
		connectTimeout: milliseconds(e.ConnectTimeout),
		writeTimeout:   milliseconds(e.WriteTimeout),
		dialTCP:        o.env.Dial,
	}
	if p.idleTimeout == 0 {
		p.idleTimeout = forever
	}
	if !secure(e.Protocol) {
		return p, nil
	}
	var err error
	p.tls, p.tlsKey, err = o.tlsConfig(e)
	return p, err
}

// tlsConfig returns how e is spoken to by TLS. As in Kong, its certificate is
// verified only where tls_verify or tls_certificate_verify says so.
func (o *Opener) tlsConfig(e *config.Service) (*tls.Config, string, error) {
	verify := o.env.Document.Gateway.TLSCertificateVerify
	if e.TLSVerify != nil {
		verify = *e.TLSVerify
	}
	c := &tls.Config{
		ServerName:         e.Host,
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: !verify, //nolint:gosec // Kong's default, stated in the manual.
		ClientSessionCache: tls.NewLRUClientSessionCache(0),
	}
	if net.ParseIP(e.Host) != nil && !verify {
		c.ServerName = ""
	}
	var key strings.Builder
	fmt.Fprintf(&key, "%s/%t", c.ServerName, verify)
	for _, id := range e.CACertificates {
		ca := o.cas[id]
		if ca == nil {
			return nil, "", fmt.Errorf("ca_certificates: no CA certificate with id %q", id)
		}
		if c.RootCAs == nil {
			c.RootCAs = x509.NewCertPool()
		}
		if !c.RootCAs.AppendCertsFromPEM([]byte(ca.Cert)) {
			return nil, "", fmt.Errorf("ca_certificates: %q holds no certificate", id)
		}
		key.WriteString("/ca:" + ca.ID + ca.CertDigest)
	}
	if e.ClientCertificate != "" {
		cert := o.certs[e.ClientCertificate]
		if cert == nil {
			return nil, "", fmt.Errorf("client_certificate: no certificate with id %q", e.ClientCertificate)
		}
		pair, err := tls.X509KeyPair([]byte(cert.Cert), []byte(cert.Key))
		if err != nil {
			return nil, "", fmt.Errorf("client_certificate %q: %w", e.ClientCertificate, err)
		}
		c.Certificates = []tls.Certificate{pair}
		key.WriteString("/cert:" + cert.ID + string(pair.Leaf.Signature))
	}
	return c, key.String(), nil
}

func (o *Opener) pool(s poolSettings) (*pool, error) {
	key := fmt.Sprintf("upstream pool %s tls=%q idle=%d/%s requests=%d connect=%s write=%s",
		s.address, s.tlsKey, s.idleMax, s.idleTimeout, s.requestsMax, s.connectTimeout, s.writeTimeout)
	return pipeline.Keep(o.env, key, func() (*pool, error) { return newPool(s), nil })
}

// Targets yields what is known of the targets of every upstream of d.
// No health is checked yet.
func Targets(d *config.Document) func(yield func(pipeline.TargetHealth) bool) {
	names := map[string]string{}
	for _, u := range d.Upstreams {
		names[u.ID] = u.Name
	}
	return func(yield func(pipeline.TargetHealth) bool) {
		for _, t := range d.Targets {
			h := pipeline.TargetHealth{Upstream: names[t.Upstream], Target: t.Target, Address: t.Target, State: "healthchecks_off"}
			if !yield(h) {
				return
			}
		}
	}
}

func milliseconds(n int) time.Duration { return time.Duration(n) * time.Millisecond }
