package redis

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Settings are everything a connection depends on. The zero value of a field is its
// default.
type Settings struct {
	// Host and Port are of a single Redis, unused with Sentinels or Cluster.
	// Defaults: 127.0.0.1 and 6379.
	Host string
	Port int
	// Username is of Redis' access control lists, empty for the default user.
	Username, Password string
	Database           int
	// ConnectTimeout is how long connecting may take, with TLS and login;
	// SendTimeout how long a write may; ReadTimeout how long a caller waits for an
	// answer, whatever it is that takes so long. Defaults: 2 s.
	ConnectTimeout, SendTimeout, ReadTimeout time.Duration
	// ConnectionsMax is the most connections to a node for scripts, of which no more
	// than lanesMax are used. 0 stands for that. Where values are kept they have as
	// many of their own, up to valueLanesMax. One more of each kind may be idle.
	ConnectionsMax int
	// TLS encrypts; Verify checks the certificate, for ServerName or else the host,
	// against Trusted: files of certificates and "system", which is also the default.
	TLS, Verify bool
	ServerName  string
	Trusted     []string
	// SentinelMaster is the name under which the Sentinels know the master.
	SentinelMaster                     string
	SentinelUsername, SentinelPassword string
	// Sentinels and Cluster are the nodes to ask first, host:port. At most one of
	// the two is set.
	Sentinels, Cluster []string
	// RedirectsMax is how often a Cluster may send a call elsewhere. Default: 5.
	RedirectsMax int
}

const (
	timeoutDefault   = 2 * time.Second
	redirectsDefault = 5
)

// completed returns s with defaults in place.
func (s Settings) completed() Settings {
	orDefault := func(d *time.Duration) {
		if *d <= 0 {
			*d = timeoutDefault
		}
	}
	orDefault(&s.ConnectTimeout)
	orDefault(&s.SendTimeout)
	orDefault(&s.ReadTimeout)
	if s.Host == "" {
		s.Host = "127.0.0.1"
	}
	if s.Port == 0 {
		s.Port = 6379
	}
	if s.RedirectsMax <= 0 {
		s.RedirectsMax = redirectsDefault
	}
	if s.ConnectionsMax <= 0 || s.ConnectionsMax > lanesMax {
		s.ConnectionsMax = lanesMax
	}
	return s
}

// valueLanes is how many connections to a node are for values.
func (s *Settings) valueLanes() int { return min(s.ConnectionsMax, valueLanesMax) }

// addresses are the nodes to connect to first.
func (s *Settings) addresses() []string {
	switch {
	case len(s.Sentinels) > 0:
		return slices.Clone(s.Sentinels)
	case len(s.Cluster) > 0:
		return slices.Clone(s.Cluster)
	}
	return []string{net.JoinHostPort(s.Host, strconv.Itoa(s.Port))}
}

// Name is what metrics and the log call the connection: where it is, without secrets.
func (s *Settings) Name() string {
	name := strings.Join(s.addresses(), ",")
	if len(s.Sentinels) > 0 {
		name = s.SentinelMaster + "@" + name
	}
	if s.Database != 0 && len(s.Cluster) == 0 {
		name += "/" + strconv.Itoa(s.Database)
	}
	return name
}

// Key tells settings apart, files of certificates by what is in them now. Passwords
// are hashed in it.
func (s *Settings) Key() string {
	c := s.completed()
	c.Password, c.SentinelPassword = hidden(c.Password), hidden(c.SentinelPassword)
	key := fmt.Appendf(nil, "%s %+v", c.Name(), c)
	for _, file := range c.Trusted {
		if text, err := os.ReadFile(file); err == nil && c.TLS && c.Verify { // Open tells what is wrong with one
			key = fmt.Appendf(key, " %x", sha256.Sum256(text))
		}
	}
	return string(key)
}

func hidden(secret string) string {
	if secret == "" {
		return ""
	}
	return fmt.Sprintf("%x", sha256.Sum256([]byte(secret)))
}

// tlsConfig is nil without TLS.
func (s *Settings) tlsConfig() (*tls.Config, error) {
	if !s.TLS {
		return nil, nil
	}
	c := &tls.Config{ServerName: s.ServerName, MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(2 * lanesMax)}
	if !s.Verify {
		c.InsecureSkipVerify = true // as in Kong: ssl_verify is off until asked for
		return c, nil
	}
	var err error
	c.RootCAs, err = s.roots()
	return c, err
}

// roots is nil for those of the system alone.
func (s *Settings) roots() (*x509.CertPool, error) {
	files := slices.DeleteFunc(slices.Clone(s.Trusted), func(f string) bool { return f == "system" })
	if len(files) == 0 {
		return nil, nil
	}
	pool := x509.NewCertPool()
	if slices.Contains(s.Trusted, "system") {
		var err error
		if pool, err = x509.SystemCertPool(); err != nil {
			return nil, fmt.Errorf("lua_ssl_trusted_certificate: system: %w", err)
		}
	}
	var errs []error
	for _, file := range files {
		text, err := os.ReadFile(file)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("lua_ssl_trusted_certificate: %w", err))
		case !pool.AppendCertsFromPEM(text):
			errs = append(errs, fmt.Errorf("lua_ssl_trusted_certificate: %s holds no certificate", file))
		}
	}
	return pool, errors.Join(errs...)
}
