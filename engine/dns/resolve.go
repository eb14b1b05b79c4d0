package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// typeLast stands for the type that last worked in an order. No record has it.
const typeLast = dns.TypeNone

// parseOrder checks an order of types.
func parseOrder(names []string) ([]uint16, error) {
	if len(names) == 0 {
		return []uint16{typeLast, dns.TypeSRV, dns.TypeA, dns.TypeCNAME}, nil
	}
	var order []uint16
	var errs []error
	for i, n := range names {
		var t uint16
		switch strings.ToUpper(n) {
		case "LAST":
			t = typeLast
		case "SRV":
			t = dns.TypeSRV
		case "A":
			t = dns.TypeA
		case "AAAA":
			t = dns.TypeAAAA
		case "CNAME":
			t = dns.TypeCNAME
		default:
			errs = append(errs, fmt.Errorf("dns: order[%d]: %q is none of LAST, SRV, A, AAAA, CNAME", i, n))
			continue
		}
		if !slices.Contains(order, t) {
			order = append(order, t)
		}
	}
	if len(errs) == 0 && slices.Equal(order, []uint16{typeLast}) {
		errs = append(errs, errors.New("dns: order: LAST needs other types beside it"))
	}
	return order, errors.Join(errs...)
}

// types returns the types to ask for name in turn.
func (r *Resolver) types(name string, last uint16) []uint16 {
	if r.settings.SRVOnlyForServiceNames && isServiceName(name) {
		return []uint16{dns.TypeSRV}
	}
	var types []uint16
	for _, t := range r.order {
		if t == typeLast {
			t = last
		}
		if t == typeLast || slices.Contains(types, t) || t == dns.TypeSRV && r.settings.SRVOnlyForServiceNames {
			continue
		}
		types = append(types, t)
	}
	return types
}

// isServiceName reports whether name looks like _http._tcp.example.com.
func isServiceName(name string) bool {
	service, rest, _ := strings.Cut(name, ".")
	proto, host, _ := strings.Cut(rest, ".")
	return len(service) > 1 && service[0] == '_' && len(proto) > 1 && proto[0] == '_' && host != ""
}

// families returns the types of addresses to use, in the order to ask for them.
func (r *Resolver) families() []uint16 {
	var f []uint16
	for _, t := range r.order {
		if t == dns.TypeA || t == dns.TypeAAAA {
			f = append(f, t)
		}
	}
	if f == nil {
		return []uint16{dns.TypeA, dns.TypeAAAA}
	}
	return f
}

// resolve goes through the steps of the package comment for name. last is the
// type that last worked. If its records may still be used (sticky) and asking for
// it fails, other types are not tried: a name that has SRV and A must not lose
// its ports because a server was slow.
func (r *Resolver) resolve(ctx context.Context, name string, last uint16, sticky bool) outcome {
	if a, ok := literal(name); ok {
		return outcome{records: []Record{{Addr: a}}, forever: true}
	}
	if addrs := r.hosts.Load().find(name); addrs != nil {
		return outcome{records: plain(pick(addrs, r.families())), forever: true}
	}
	c := r.conf.Load()
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	l := &lookup{r: r, ctx: ctx, conf: c}
	out := l.run(r.types(name, last), c.names(name), last, sticky)
	if out.err != nil {
		out.err = fmt.Errorf("dns: %s: %w", name, out.err)
	}
	if out.records = tidy(out.records); r.settings.ValidTTL > 0 {
		out.ttl = r.settings.ValidTTL
	}
	return out
}

func plain(addrs []netip.Addr) []Record {
	records := make([]Record, len(addrs))
	for i, a := range addrs {
		records[i].Addr = a
	}
	return tidy(records)
}

// lookup is one walk through the types and names. It asks one question at a time.
type lookup struct {
	r     *Resolver
	ctx   context.Context
	conf  *conf
	steps int // CNAMEs followed for the current question
}

// run asks for each type, with each search domain, until one has records. A type
// that could not be asked makes it an error that nothing was found, unless a later
// type is told that the name does not exist at all: many servers refuse SRV.
func (l *lookup) run(types []uint16, names []string, last uint16, sticky bool) outcome {
	failed := map[string]error{}
	for _, t := range types {
		for _, n := range names {
			l.steps = 0
			out, exists := l.find(n, t)
			if len(out.records) > 0 {
				return out
			}
			switch {
			case out.err != nil && (sticky && t == last || l.ctx.Err() != nil):
				return out
			case out.err != nil:
				failed[n] = out.err
			case !exists:
				failed[n] = nil
			}
		}
	}
	for _, n := range names {
		if err := failed[n]; err != nil {
			return outcome{err: err}
		}
	}
	return outcome{err: ErrNotFound}
}

// find asks for one type of one full name, and reports whether the name exists.
// Without records and error there are none.
func (l *lookup) find(name string, typ uint16) (outcome, bool) {
	p, reply, err := l.follow(name, typ)
	if err != nil {
		return outcome{err: err}, true
	}
	exists := reply.Rcode != dns.RcodeNameError
	out := outcome{typ: typ, ttl: p.ttl}
	switch typ {
	case dns.TypeSRV:
		l.targets(&out, best(p.rrs), reply)
	case dns.TypeCNAME:
		l.canonicalName(&out, p.rrs)
	default:
		out.records = plain(addrs(p.rrs))
	}
	return out, exists
}

// follow asks for typ of name, and of where its CNAMEs lead if the server does
// not look there itself.
func (l *lookup) follow(name string, typ uint16) (part, *dns.Msg, error) {
	ttl := ttlMax
	for {
		reply, err := l.r.ask(l.ctx, l.conf, name, typ)
		if err != nil {
			return part{}, nil, err
		}
		p := read(reply, name, typ, &l.steps)
		p.ttl = min(p.ttl, ttl)
		if p.end {
			return p, reply, nil
		}
		name, ttl = p.name, p.ttl
	}
}

// canonicalName asks for what the name of a CNAME record has.
func (l *lookup) canonicalName(out *outcome, rrs []dns.RR) {
	if len(rrs) == 0 {
		return
	}
	target, err := canonical(rrs[0].(*dns.CNAME).Target)
	if l.steps++; err != nil || l.steps > cnameMax {
		return
	}
	target = strings.TrimSuffix(target, ".")
	for _, t := range l.r.order {
		if t != dns.TypeSRV && t != dns.TypeA && t != dns.TypeAAAA {
			continue
		}
		steps := l.steps
		got, _ := l.find(target, t)
		l.steps = steps
		if len(got.records) > 0 {
			out.records, out.err = got.records, got.err
			out.ttl = min(out.ttl, got.ttl)
			return
		}
		out.err = errors.Join(out.err, got.err)
	}
}

// targets fills in the addresses that SRV records lead to. A record's weight
// counts for each address of its target, as Kong has it.
func (l *lookup) targets(out *outcome, srvs []*dns.SRV, reply *dns.Msg) {
	known := map[string][]netip.Addr{}
	for _, s := range srvs {
		list, seen := known[s.Target]
		if !seen {
			var ttl time.Duration
			var err error
			list, ttl, err = l.target(s.Target, reply)
			known[s.Target] = list
			switch {
			case err != nil:
				out.err = err // with records of others: not all there
			case len(list) > 0:
				out.ttl = min(out.ttl, ttl)
			}
		}
		for _, a := range list {
			if len(out.records) < recordsMax*4 {
				out.records = append(out.records, Record{Addr: a, Port: s.Port, Weight: max(int(s.Weight), 1), Name: s.Target})
			}
		}
	}
}

// target returns the addresses of the target of an SRV record.
func (l *lookup) target(name string, reply *dns.Msg) ([]netip.Addr, time.Duration, error) {
	families := l.r.families()
	if a := l.r.hosts.Load().find(name); a != nil {
		return pick(a, families), ttlMax, nil
	}
	if a, ttl := glue(reply, name, families); a != nil {
		return a, ttl, nil
	}
	var errs error
	for _, t := range families {
		l.steps = 0
		p, _, err := l.follow(name, t)
		if err != nil {
			errs = err
			continue
		}
		if a := addrs(p.rrs); a != nil {
			return a, p.ttl, nil
		}
	}
	return nil, 0, errs
}
