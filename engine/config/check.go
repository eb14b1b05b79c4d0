package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// check is every rule about one entity that its tags do not state. References hold IDs.
func (r *reader) check(it *item) {
	c := checker{r: r, it: it}
	c.tags(it.meta().Tags)
	switch e := it.entity.(type) {
	case *Service:
		c.service(e)
	case *Route:
		c.route(e)
	case *Upstream:
		c.upstream(e)
	case *Target:
		c.target(e)
	case *Consumer:
		if e.Username == "" && e.CustomID == "" {
			c.fault("", "at least one of these fields must be non-empty: 'username', 'custom_id'")
		}
	case *ConsumerGroup:
		c.name(e.Name)
	case *Plugin:
		c.plugin(e)
	case *JWTSecret:
		c.jwtSecret(e)
	case *OAuth2Credential:
		for i, u := range e.RedirectURIs {
			c.redirectURI(fmt.Sprintf("redirect_uris[%d]", i), u)
		}
	case *Certificate:
		c.certificate(e)
	case *CACertificate:
		c.caCertificate(e)
	case *SNI:
		c.hostPattern("name", e.Name, e.Name != "*")
	case *Vault:
		c.vault(e)
	case *Key:
		if e.JWK == "" && e.PEM == nil {
			c.fault("", "at least one of these fields must be non-empty: 'jwk', 'pem'")
		}
	case *GraphQLSchema:
		c.name(e.Name)
	}
	r.finish(it)
}

// checker reports faults of one entity.
type checker struct {
	r  *reader
	it *item
}

// fault reports a fault at a field, or at the whole entity unless a field of it is at
// fault already: that may well be the cause.
func (c checker) fault(path, format string, args ...any) {
	if path == "" && c.it.failed || slices.Contains(c.it.wrong, path) {
		return
	}
	if at := c.it.node.nearest(path); at != nil && at.broken {
		return // its value is not known
	}
	c.r.fault(c.it.node.nearest(path).fault("", "").with(c.it.path(), path, fmt.Sprintf(format, args...)))
}

func (c checker) warn(path, format string, args ...any) {
	c.r.warn(c.it.node.nearest(path).fault("", "").with(c.it.path(), path, fmt.Sprintf(format, args...)))
}

// strictly is a fault in strict reading, else a warning.
func (c checker) strictly(path, format string, args ...any) {
	if c.r.options.Strict {
		c.fault(path, format, args...)
	} else {
		c.warn(path, format, args...)
	}
}

func (f Fault) with(entity, path, message string) Fault {
	f.Path, f.Message = entity, message
	if path != "" {
		f.Path += ": " + path
	}
	return f
}

func (c checker) tags(tags []string) {
	for i, t := range tags {
		if t == "" || strings.ContainsAny(t, ",/") || strings.ContainsFunc(t, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
			c.fault(fmt.Sprintf("tags[%d]", i), "invalid tag '%s': expected printable characters except `,` and `/`", t)
		}
	}
}

// name checks what Kong lets a name consist of.
func (c checker) name(name string) {
	if !utf8.ValidString(name) {
		c.fault("name", "invalid value: not UTF-8")
		return
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r < 0x80 && !isNameRune(r) }) {
		c.fault("name", "invalid value '%s': the only accepted ascii characters are alphanumerics or ., -, _, and ~", name)
	}
}

func isNameRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(".-_~", r)
}

var (
	protocolsWithoutPath = []string{"grpc", "grpcs", "tcp", "tls", "tls_passthrough", "udp"}
	protocolsOverTLS     = []string{"https", "tls", "wss", "grpcs"}
)

func (c checker) service(s *Service) {
	c.name(s.Name)
	if s.Host == "" {
		c.fault("host", "required field missing")
	} else if !isHostOrIP(s.Host) {
		c.fault("host", "invalid value: %s", s.Host)
	}
	if s.Path != "" {
		switch {
		case slices.Contains(protocolsWithoutPath, s.Protocol):
			c.fault("path", "value must be null when protocol is %s", s.Protocol)
		case s.Path[0] != '/':
			c.fault("path", "should start with: /")
		case strings.Contains(s.Path, "//"):
			c.fault("path", "must not have empty segments")
		}
	}
	c.breaker(&s.CircuitBreaker, true)
	c.serviceLimits(&s.Limits)
	if slices.Contains(protocolsOverTLS, s.Protocol) {
		return
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"client_certificate", s.ClientCertificate != ""}, {"tls_verify", s.TLSVerify != nil},
		{"tls_verify_depth", s.TLSVerifyDepth != nil}, {"ca_certificates", len(s.CACertificates) > 0},
	} {
		if f.set {
			c.fault(f.name, "value must be null when protocol is %s", s.Protocol)
		}
	}
}

// isHostName accepts DNS names, and _ as many use it inside.
func isHostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if b := label[i]; b != '-' && b != '_' && (b < '0' || b > '9') && (b|0x20 < 'a' || b|0x20 > 'z') {
				return false
			}
		}
	}
	return true
}

func isIP(s string) bool {
	_, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return err == nil
}

// isNumeric follows Kong: what is only digits and dots is an IPv4 address or nothing.
func isNumeric(s string) bool { return s != "" && strings.Trim(s, "0123456789.") == "" }

func isHostOrIP(s string) bool { return isIP(s) || isHostName(s) && !isNumeric(s) }

// hostPattern checks a host that may have one asterisk as its first or last label.
func (c checker) hostPattern(path, host string, checked bool) {
	if !checked {
		return
	}
	name := host
	if h, port, err := net.SplitHostPort(host); err == nil {
		name = h
		if !isPort(port) {
			c.fault(path, "invalid value: %s: port should be between 1 and 65535", host)
			return
		}
	}
	switch strings.Count(name, "*") {
	case 0:
		if !isHostOrIP(name) {
			c.fault(path, "invalid value: %s", host)
		}
	case 1:
		rest, first := strings.CutPrefix(name, "*.")
		if !first {
			var last bool
			if rest, last = strings.CutSuffix(name, ".*"); !last {
				c.fault(path, "invalid wildcard '%s': must be placed at leftmost or rightmost label", host)
				return
			}
		}
		if !isHostName(rest) {
			c.fault(path, "invalid value: %s", host)
		}
	default:
		c.fault(path, "invalid wildcard '%s': only one wildcard must be specified", host)
	}
}

func isPort(text string) bool {
	n, ok := (&Node{Type: Int, Value: text}).Int()
	return isDigits(text) && ok && n >= 1 && n <= 65535
}

func (c checker) redirectURI(path, text string) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme == "" || u.Host == "" && u.Opaque == "" && u.Path == "":
		c.fault(path, "cannot parse '%s': expected an absolute URI", text)
	case u.Fragment != "" || strings.HasSuffix(text, "#"):
		c.fault(path, "fragment not allowed in '%s'", text)
	}
}

var vaultKinds = []string{"env", "aws", "gcp", "azure", "hcv", "conjur"}

func (c checker) vault(v *Vault) {
	if !slices.Contains(vaultKinds, v.Name) {
		c.fault("name", "expected one of: %s", strings.Join(vaultKinds, ", "))
	} else if v.Name != "env" {
		c.warn("name", "references to a vault of this kind cannot be resolved; only env is available")
	}
	if slices.Contains(vaultKinds, v.Prefix) {
		c.fault("prefix", "must not be the name of a kind of vault")
	}
	if strings.ContainsFunc(v.Prefix, func(r rune) bool { return r != '-' && (r < 'a' || r > 'z') && (r < '0' || r > '9') }) {
		c.fault("prefix", "invalid value: %s: expected lower-case letters, digits and -", v.Prefix)
	}
}

// lookAround finds constructs of Perl regular expressions a linear-time engine cannot have.
var lookAround = []struct {
	name    string
	pattern *regexp.Regexp
}{
	{"look-ahead", regexp.MustCompile(`\(\?[=!]`)},
	{"look-behind", regexp.MustCompile(`\(\?<[=!]`)},
	{"an atomic group", regexp.MustCompile(`\(\?>`)},
	{"a possessive quantifier", regexp.MustCompile(`(?:^|[^\\])[*+?}]\+`)},
	{"a back-reference", regexp.MustCompile(`(?:^|[^\\])\\[1-9]`)},
}

// regexFault is what is wrong with a regular expression, "" for nothing.
func regexFault(pattern string) string {
	_, err := regexp.Compile(pattern)
	if err == nil {
		return ""
	}
	for _, l := range lookAround {
		if l.pattern.MatchString(pattern) {
			return "uses " + l.name + ", which is not supported"
		}
	}
	return strings.TrimPrefix(err.Error(), "error parsing regexp: ")
}
