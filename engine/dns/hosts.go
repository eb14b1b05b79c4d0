package dns

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
)

// hostsAddrsMax bounds the addresses of one name.
const hostsAddrsMax = 256

// hosts is a hosts file: the addresses of each name in lower case, without a
// dot at its end.
type hosts map[string][]netip.Addr

// parseHosts reads a hosts file. Lines that make no sense are skipped, as
// everywhere.
func parseHosts(b []byte) hosts {
	h := hosts{}
	for line := range bytes.Lines(b) {
		line, _, _ = bytes.Cut(line, []byte("#"))
		fields := strings.Fields(string(line))
		if len(fields) < 2 {
			continue
		}
		a, err := netip.ParseAddr(fields[0])
		if err != nil {
			continue
		}
		a = a.Unmap()
		for _, name := range fields[1:] {
			key, err := canonical(name)
			if err != nil {
				continue
			}
			key = strings.TrimSuffix(key, ".")
			if len(h[key]) < hostsAddrsMax && !slices.Contains(h[key], a) {
				h[key] = append(h[key], a)
			}
		}
	}
	return h
}

var (
	localhost4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	localhost6 = netip.IPv6Loopback()
)

// find returns the addresses of name, nil if it has none here.
func (h hosts) find(name string) []netip.Addr {
	name = strings.TrimSuffix(name, ".")
	if addrs := h[name]; addrs != nil {
		return addrs
	}
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return []netip.Addr{localhost4, localhost6} // RFC 6761: never a question to DNS
	}
	return nil
}

// changed reports whether name is different in the two.
func (h hosts) changed(other hosts, name string) bool {
	return !slices.Equal(h.find(name), other.find(name))
}

// pick returns the addresses of the first of the families that has any, of any
// other if none has: somebody wrote them down to be used.
func pick(addrs []netip.Addr, families []uint16) []netip.Addr {
	for _, f := range families {
		var of []netip.Addr
		for _, a := range addrs {
			if family(a) == f {
				of = append(of, a)
			}
		}
		if of != nil {
			return of
		}
	}
	return addrs
}
