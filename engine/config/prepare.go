package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// prepare fills in what depends on other fields, before the entity gets its ID. What
// needs resolved references is in complete and in check.
func (r *reader) prepare(it *item) {
	switch e := it.entity.(type) {
	case *Service:
		if e.Host == "" && isHostName(e.Name) && it.node.Get("host") == nil && !r.options.Strict {
			e.Host = e.Name
			r.warn(it.node.fault(it.path()+": host", "missing; taken to be the name of the service"))
		}
		it.prolong(&e.CircuitBreaker)
	case *Route:
		if it.node.Get("strip_path").IsNull() && slices.ContainsFunc(e.Protocols, isGRPC) && it.layer.defaults.Lookup("route.strip_path").IsNull() {
			e.StripPath = false
		}
		if !r.options.Strict {
			r.upperMethods(it, e.Methods)
		}
	case *Upstream:
		r.coerceHashing(it, e)
		it.prolong(&e.CircuitBreaker)
		if r.options.Strict && it.node.Lookup("healthchecks.passive.open_duration") == nil {
			e.Healthchecks.Passive.OpenDuration = 0 // Kong: only a probe or the operator closes a circuit
		}
	case *Target:
		e.Target = withPort(e.Target)
	case *KeyAuthCredential:
		r.generate(it, "key", &e.Key)
	case *HMACAuthCredential:
		r.generate(it, "secret", &e.Secret)
	case *JWTSecret:
		r.generate(it, "key", &e.Key)
		if strings.HasPrefix(e.Algorithm, "HS") {
			r.generate(it, "secret", &e.Secret)
		}
	case *OAuth2Credential:
		r.generate(it, "client_id", &e.ClientID)
		r.generate(it, "client_secret", &e.ClientSecret)
	case *OAuth2Token:
		r.generate(it, "access_token", &e.AccessToken)
	case *CACertificate:
		if e.CertDigest == "" || r.doc.Transform {
			e.CertDigest = certDigest(e.Cert)
		}
	}
}

// prolong makes an open_duration above the default of max_open_duration the maximum, where
// nobody wrote one: it then does not double.
func (it *item) prolong(b *CircuitBreaker) {
	const field = "circuit_breaker.max_open_duration"
	if it.node.Lookup(field).IsNull() && it.layer.defaults.Lookup(it.kind.singular+"."+field).IsNull() {
		b.MaxOpenDuration = max(b.MaxOpenDuration, b.OpenDuration)
	}
}

func (r *reader) upperMethods(it *item, methods []string) {
	for i, m := range methods {
		upper := strings.ToUpper(m)
		if upper == m {
			continue
		}
		path := "methods[" + strconv.Itoa(i) + "]"
		r.warn(it.node.nearest(path).fault(it.path()+": "+path, "lower case; read as "+upper))
		methods[i] = upper
	}
}

func isGRPC(protocol string) bool { return protocol == "grpc" || protocol == "grpcs" }

// generate makes up a credential nobody wrote, as Kong does. It differs at each reading.
func (r *reader) generate(it *item, field string, s *string) {
	if n := it.node.Get(field); *s != "" || it.node.Kind != Map || n != nil && n.broken {
		return
	}
	*s = randomToken()
	r.warn(it.node.fault(it.path()+": "+field, "missing; a random one is made at every load"))
}

// coerceHashing follows Kong: the algorithm wins over hash_on for least-connections and
// latency, else hash_on decides about the algorithm. Only fields that are written count.
func (r *reader) coerceHashing(it *item, u *Upstream) {
	algorithm, on := it.node.Get("algorithm"), it.node.Get("hash_on")
	switch {
	case u.Algorithm == "least-connections" || u.Algorithm == "latency":
		if !on.IsNull() && u.HashOn != "none" {
			r.warn(on.fault(it.path()+": hash_on", "ignored with algorithm "+u.Algorithm))
			u.HashOn = "none"
		}
	case on.IsNull():
	case u.HashOn == "none" && u.Algorithm == "consistent-hashing":
		if !algorithm.IsNull() {
			r.warn(on.fault(it.path()+": hash_on", "none makes the algorithm round-robin"))
		}
		u.Algorithm = "round-robin"
	case u.HashOn != "none" && u.Algorithm != "consistent-hashing":
		if !algorithm.IsNull() {
			r.warn(on.fault(it.path()+": hash_on", u.HashOn+" makes the algorithm consistent-hashing"))
		}
		u.Algorithm = "consistent-hashing"
	}
}

// withPort adds Kong's port for targets, 8000, where none is written, and writes an IP
// address in its one canonical form, so that no address is twice in an upstream.
func withPort(target string) string {
	if target == "" {
		return ""
	}
	if a, err := netip.ParseAddrPort(target); err == nil {
		return a.String()
	}
	if a, err := netip.ParseAddr(strings.Trim(target, "[]")); err == nil {
		return net.JoinHostPort(a.String(), "8000")
	}
	if !strings.Contains(target, ":") {
		return target + ":8000"
	}
	return target
}

// certDigest is the hex SHA-256 of the certificate in DER, or of the text where it is not
// one.
func certDigest(text string) string {
	data := []byte(text)
	if block, _ := pem.Decode(data); block != nil {
		data = block.Bytes
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// complete does what needs all entities to be known, before references are resolved.
func (r *reader) complete() {
	for _, it := range r.items {
		e, ok := it.entity.(*MTLSAuthCredential)
		if !ok || e.CACertificate == "" {
			continue
		}
		if strings.Contains(e.CACertificate, "-----BEGIN") {
			digest := certDigest(e.CACertificate)
			for _, ca := range r.items {
				if c, is := ca.entity.(*CACertificate); is && c.CertDigest == digest {
					e.CACertificate = c.ID
				}
			}
		}
		if r.lookup("ca_certificates", e.CACertificate) == nil {
			r.fault(it.node.Get("ca_certificate").fault(it.path()+": ca_certificate",
				"invalid reference (no such entry in 'ca_certificates')"))
		}
	}
}

// finish applies the transformations of secrets that need the ID of the owner.
func (r *reader) finish(it *item) {
	if !r.doc.Transform {
		return
	}
	switch e := it.entity.(type) {
	case *BasicAuthCredential:
		e.Password = HashPassword(e.Password, e.Consumer)
	case *OAuth2Credential:
		if e.HashSecret {
			hashed, err := hashClientSecret(e.ClientSecret, e.ID)
			if err != nil {
				r.fault(it.node.fault(it.path()+": client_secret", err.Error()))
				return
			}
			e.ClientSecret = hashed
		}
	}
}
