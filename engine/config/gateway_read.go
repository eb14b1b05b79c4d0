package config

import (
	"net/netip"
	"reflect"
	"strings"
)

// gateway decodes the merged `gateway:` block and lays the environment over it.
func (r *reader) gateway() {
	block := &Node{Kind: Map}
	if r.block != nil {
		block = r.block
	}
	g := &r.doc.Gateway
	if block.Kind == Map {
		for _, e := range r.environment() {
			block.set(e.Key, e.Value)
		}
	}
	r.fault(Decode(block, g).below("gateway")...)
	for i, ip := range g.TrustedIPs {
		if _, err := netip.ParsePrefix(ip); err != nil && !isIP(ip) && ip != "unix:" {
			r.fault(block.nearest("trusted_ips").fault("gateway.trusted_ips", "invalid ip or cidr range: '"+g.TrustedIPs[i]+"'"))
		}
	}
	if len(g.SSLCert) != len(g.SSLCertKey) {
		r.fault(block.nearest("ssl_cert").fault("gateway.ssl_cert", "ssl_cert and ssl_cert_key need the same number of files"))
	}
	r.block = block
}

// environment are the properties given as SLUICE_<NAME>, as the nodes they stand for:
// lists are comma-separated, on and off are booleans.
func (r *reader) environment() []Entry {
	var entries []Entry
	t := reflect.TypeFor[Gateway]()
	s := shapeOf(t)
	for i := range s.fields {
		f := &s.fields[i]
		if f.typ.Kind() == reflect.Map {
			continue // named connections have no single text
		}
		name := "SLUICE_" + strings.ToUpper(f.name)
		text, ok := r.options.Env(name)
		if !ok {
			continue
		}
		_, _ = r.sum.Write([]byte(name + "=" + text)) // a hash does not fail
		from := &file{name: "environment variable " + name}
		v := &Node{Type: String, Value: text, plain: true, loose: true, file: from}
		if f.typ.Kind() == reflect.Slice && f.typ != reflect.TypeFor[Listeners]() {
			v = &Node{Kind: List, file: from}
			for part := range strings.SplitSeq(text, ",") {
				if part = strings.TrimSpace(part); part != "" {
					v.Items = append(v.Items, &Node{Type: String, Value: part, loose: true, file: from})
				}
			}
		}
		entries = append(entries, Entry{Key: f.name, Value: v})
	}
	return entries
}

// listeners gives proxy_listen its default, which depends on whether there is a
// certificate to present.
func (r *reader) listeners() {
	g := &r.doc.Gateway
	if g.ProxyListen != nil {
		return
	}
	g.ProxyListen = Listeners{{Host: "0.0.0.0", Port: 8000}}
	hasTLS := len(g.SSLCert) > 0
	for _, it := range r.items {
		if _, ok := it.entity.(*Certificate); ok {
			hasTLS = true
			break
		}
	}
	if hasTLS {
		g.ProxyListen = append(g.ProxyListen, Listener{Host: "0.0.0.0", Port: 8443, SSL: true, HTTP2: true})
	}
}
