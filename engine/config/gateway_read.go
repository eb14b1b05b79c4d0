package config

import (
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
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
	r.resolving(block)
	if len(g.SSLCert) != len(g.SSLCertKey) {
		r.fault(block.nearest("ssl_cert").fault("gateway.ssl_cert", "ssl_cert and ssl_cert_key need the same number of files"))
	}
	r.block = block
}

// resolving checks how names are looked up.
func (r *reader) resolving(block *Node) {
	g := &r.doc.Gateway
	for i, server := range g.DNSResolver {
		if isServer(server) {
			continue
		}
		field := "dns_resolver[" + strconv.Itoa(i) + "]"
		r.fault(block.nearest(field).fault("gateway."+field, "invalid value: "+server+
			"; expected an IP address, with or without a port, such as 10.0.0.1, 10.0.0.1:53 or [::1]:53"))
	}
	if slices.ContainsFunc(g.DNSOrder, func(kind string) bool { return kind != "LAST" }) {
		return
	}
	g.DNSOrder = NewGateway().DNSOrder
	at := block.nearest("dns_order")
	if !at.IsNull() && at.broken {
		return
	}
	r.warn(at.fault("gateway.dns_order", "names no kind of record; read as "+strings.Join(g.DNSOrder, ", ")))
}

// isServer reports whether text is the IP address of a server, with or without a port.
func isServer(text string) bool {
	if _, err := netip.ParseAddrPort(text); err == nil {
		_, port, err := net.SplitHostPort(text)
		return err == nil && isPort(port)
	}
	if inner, bracketed := strings.CutPrefix(text, "["); bracketed {
		text, bracketed = strings.CutSuffix(inner, "]")
		return bracketed && isIP(text)
	}
	_, err := netip.ParseAddr(text)
	return err == nil
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
