package dns

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	port          = "53"
	serversMax    = 16
	searchMax     = 16
	ndotsMax      = 15 // these three as in glibc
	timeoutMax    = 30
	attemptsMax   = 5
	ndotsDefault  = 1
	attemptsUsual = 2
)

// resolvConf is what resolv.conf says.
type resolvConf struct {
	servers  []string // host:port
	search   []string // in lower case, without dots at their ends; "" is the root
	ndots    int
	timeout  time.Duration // 0: not said
	attempts int
	rotate   bool
}

// parseResolvConf reads a resolv.conf. As with other resolvers, what makes no
// sense is skipped; a missing file is an empty one.
func parseResolvConf(b []byte) resolvConf {
	c := resolvConf{ndots: ndotsDefault, attempts: attemptsUsual}
	for line := range bytes.Lines(b) {
		if i := bytes.IndexAny(line, "#;"); i >= 0 {
			line = line[:i]
		}
		fields := strings.Fields(string(line))
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			a, err := netip.ParseAddr(fields[1])
			s := net.JoinHostPort(a.Unmap().String(), port)
			if err == nil && len(c.servers) < serversMax && !slices.Contains(c.servers, s) {
				c.servers = append(c.servers, s)
			}
		case "domain":
			c.search = parseSearch(fields[1:2]) // the last of domain and search holds
		case "search":
			c.search = parseSearch(fields[1:])
		case "options":
			for _, o := range fields[1:] {
				c.option(o)
			}
		}
	}
	return c
}

func parseSearch(domains []string) []string {
	var search []string
	for _, d := range domains {
		if d != "." {
			name, err := canonical(d)
			if err != nil {
				continue
			}
			d = strings.TrimSuffix(name, ".")
		} else {
			d = ""
		}
		if len(search) < searchMax && !slices.Contains(search, d) {
			search = append(search, d)
		}
	}
	return search
}

func (c *resolvConf) option(o string) {
	if o == "rotate" {
		c.rotate = true
		return
	}
	name, value, _ := strings.Cut(o, ":")
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 {
		return
	}
	switch name {
	case "ndots":
		c.ndots = min(n, ndotsMax)
	case "timeout":
		c.timeout = time.Duration(max(1, min(n, timeoutMax))) * time.Second
	case "attempts":
		c.attempts = max(1, min(n, attemptsMax))
	}
}

// names returns the full names to ask for, the dot at their ends left out.
func (c *resolvConf) names(name string) []string {
	full, absolute := strings.CutSuffix(name, ".")
	if absolute {
		return []string{full}
	}
	names := make([]string, 0, len(c.search)+1)
	add := func(n string) {
		if len(n) <= nameBytesMax && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	first := strings.Count(full, ".") >= c.ndots
	if first {
		add(full)
	}
	for _, d := range c.search {
		if d == "" {
			add(full)
			continue
		}
		add(full + "." + d)
	}
	if !first {
		add(full)
	}
	return names
}

// parseServers checks name servers given as IP or IP:port.
func parseServers(list []string) ([]string, error) {
	var servers []string
	var errs []error
	for i, s := range list {
		ap, err := netip.ParseAddrPort(s)
		if err != nil {
			a, ok := literal(s)
			if !ok {
				errs = append(errs, fmt.Errorf("dns: servers[%d]: %q is not an IP address with an optional port", i, s))
				continue
			}
			ap = netip.AddrPortFrom(a, 53)
		}
		if ap.Port() == 0 {
			errs = append(errs, fmt.Errorf("dns: servers[%d]: %q: port 0", i, s))
			continue
		}
		servers = append(servers, netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()).String())
	}
	return servers, errors.Join(errs...)
}
