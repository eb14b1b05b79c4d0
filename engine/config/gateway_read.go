package config

import (
	"net/netip"
	"reflect"
)

// gateway decodes the merged `gateway:` block and lays the environment over it.
func (r *reader) gateway() {
	block := &Node{Kind: Map}
	if r.block != nil {
		block = r.block
	}
	g := &r.doc.Gateway
	if block.Kind == Map {
		block.splitLists()
		for _, e := range r.environment() {
			block.set(e.Key, e.Value)
		}
	}
	r.fault(Decode(block, g).below("gateway")...)
	r.unasked()
	if r.broken && block.hasBroken() {
		r.block = block
		return // what is missing is reported
	}
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

// splitLists reads a text as the list it is in kong.conf: comma-separated.
func (n *Node) splitLists() {
	s := shapeOf(reflect.TypeFor[Gateway]())
	for i := range n.Entries {
		e := &n.Entries[i]
		if f, _ := s.find(e.Key); f != nil && f.isTexts() && e.Value.Kind == Scalar && e.Value.Type == String && !e.Value.broken {
			e.Value = e.Value.commaList()
		}
	}
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
