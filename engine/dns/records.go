package dns

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	// cnameMax is how many steps a name may take to its canonical one.
	cnameMax = 8
	// recordsMax bounds the records of an answer. Of more, those that sort first
	// are used, the same each time.
	recordsMax = 256
	// ttlMax bounds what servers say. It is a mistake or an attack above.
	ttlMax = 24 * time.Hour
)

// part is what one reply says about a name.
type part struct {
	name string // where its CNAMEs lead
	rrs  []dns.RR
	ttl  time.Duration
	end  bool // the server says there is no more, also of where a CNAME leads
}

// read returns the records of typ that belong to name or to where its CNAMEs
// lead. All else in the reply is left alone: nobody asked for it. steps counts the
// CNAMEs of the whole lookup.
func read(reply *dns.Msg, name string, typ uint16, steps *int) part {
	p := part{name: name, ttl: ttlMax}
	if reply.Rcode != dns.RcodeSuccess {
		p.end = true
		return p
	}
	for {
		var alias *dns.CNAME
		for _, rr := range reply.Answer {
			h := rr.Header()
			if h.Class != dns.ClassINET || !sameName(h.Name, p.name) {
				continue
			}
			if h.Rrtype == typ {
				p.rrs = append(p.rrs, rr)
				p.ttl = min(p.ttl, ttlOf(h))
			} else if c, ok := rr.(*dns.CNAME); ok && alias == nil {
				alias = c
			}
		}
		if len(p.rrs) > 0 || alias == nil {
			break
		}
		target, err := canonical(alias.Target)
		if *steps++; *steps > cnameMax || err != nil {
			p.end = true
			return p
		}
		p.name = strings.TrimSuffix(target, ".")
		p.ttl = min(p.ttl, ttlOf(alias.Header()))
	}
	p.end = len(p.rrs) > 0 || sameName(p.name, name) || hasSOA(reply)
	return p
}

func ttlOf(h *dns.RR_Header) time.Duration {
	if h.Ttl > math.MaxInt32 {
		return 0 // RFC 2181, 8
	}
	return min(time.Duration(h.Ttl)*time.Second, ttlMax)
}

// sameName compares names whatever their case and the dot at their ends.
func sameName(a, b string) bool {
	return strings.EqualFold(strings.TrimSuffix(a, "."), strings.TrimSuffix(b, "."))
}

// hasSOA reports whether the server says that this is all there is (RFC 2308).
func hasSOA(m *dns.Msg) bool {
	return slices.ContainsFunc(m.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA })
}

// addr returns the address of an A or AAAA record that one can connect to.
func addr(rr dns.RR) (netip.Addr, bool) {
	var a netip.Addr
	var ok bool
	switch rr := rr.(type) {
	case *dns.A:
		a, ok = netip.AddrFromSlice(rr.A)
	case *dns.AAAA:
		a, ok = netip.AddrFromSlice(rr.AAAA)
	}
	a = a.Unmap()
	// An unspecified address would connect to this host. It is how filters of DNS
	// say no.
	return a, ok && !a.IsUnspecified() && !a.IsMulticast()
}

func family(a netip.Addr) uint16 {
	if a.Is4() {
		return dns.TypeA
	}
	return dns.TypeAAAA
}

// best returns the SRV records with the best priority that lead somewhere.
func best(rrs []dns.RR) []*dns.SRV {
	var srvs []*dns.SRV
	for _, rr := range rrs {
		s, ok := rr.(*dns.SRV)
		if !ok {
			continue
		}
		target, err := canonical(s.Target)
		if err != nil { // the root: "decidedly not available"; or no host name
			continue
		}
		c := *s
		c.Target = strings.TrimSuffix(target, ".")
		srvs = append(srvs, &c)
	}
	slices.SortFunc(srvs, func(a, b *dns.SRV) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Target, b.Target),
			cmp.Compare(a.Port, b.Port), cmp.Compare(a.Weight, b.Weight))
	})
	srvs = slices.CompactFunc(srvs, func(a, b *dns.SRV) bool {
		return a.Priority == b.Priority && a.Target == b.Target && a.Port == b.Port && a.Weight == b.Weight
	})
	for i, s := range srvs {
		if i == recordsMax || s.Priority != srvs[0].Priority {
			return srvs[:i]
		}
	}
	return srvs
}

// glue returns the addresses of target that the server added to its reply.
func glue(reply *dns.Msg, target string, families []uint16) ([]netip.Addr, time.Duration) {
	for _, f := range families {
		var rrs []dns.RR
		ttl := ttlMax
		for _, rr := range reply.Extra {
			h := rr.Header()
			if h.Rrtype == f && h.Class == dns.ClassINET && sameName(h.Name, target) {
				rrs = append(rrs, rr)
				ttl = min(ttl, ttlOf(h))
			}
		}
		if a := addrs(rrs); a != nil {
			return a, ttl
		}
	}
	return nil, 0
}

// addrs returns the addresses of A or AAAA records, each once.
func addrs(rrs []dns.RR) []netip.Addr {
	var list []netip.Addr
	for _, rr := range rrs {
		if a, ok := addr(rr); ok {
			list = append(list, a)
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	list = slices.Compact(list)
	return list[:min(len(list), recordsMax)]
}

// tidy sorts records by address and port. Weights of the same pair add up, since
// that is the share they were given.
func tidy(records []Record) []Record {
	slices.SortFunc(records, func(a, b Record) int {
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Name, b.Name))
	})
	n := 0
	for _, c := range records {
		if n > 0 && records[n-1].Addr == c.Addr && records[n-1].Port == c.Port {
			records[n-1].Weight += c.Weight
			continue
		}
		records[n] = c
		n++
	}
	return records[:min(n, recordsMax)]
}
