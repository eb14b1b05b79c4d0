package config

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// protocolSets are the protocols a route may have together.
var protocolSets = [][]string{{"http", "https"}, {"grpc", "grpcs"}, {"tcp", "tls", "udp"}, {"tls_passthrough"}, {"ws", "wss"}}

func (c checker) route(e *Route) {
	c.name(e.Name)
	c.protocols(e)
	for i, m := range e.Methods {
		if m == "" || strings.ContainsFunc(m, func(r rune) bool { return r < 'A' || r > 'Z' }) {
			c.fault(fmt.Sprintf("methods[%d]", i), "invalid value: %s", m)
		}
	}
	for i, h := range e.Hosts {
		c.hostPattern(fmt.Sprintf("hosts[%d]", i), h, true)
	}
	for i, p := range e.Paths {
		c.path(fmt.Sprintf("paths[%d]", i), p)
	}
	for i, s := range e.SNIs {
		c.hostPattern(fmt.Sprintf("snis[%d]", i), s, true)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Headers)) {
		c.header(name, e.Headers[name])
	}
	c.endpoints("sources", e.Sources)
	c.endpoints("destinations", e.Destinations)
	c.expression(e)
}

func (c checker) protocols(e *Route) {
	if len(e.Protocols) == 0 {
		return // reported by the length rule
	}
	for _, set := range protocolSets {
		if !slices.Contains(set, e.Protocols[0]) {
			continue
		}
		for i, p := range e.Protocols {
			if !slices.Contains(set, p) && isProtocol(p) {
				c.fault(fmt.Sprintf("protocols[%d]", i), "%s does not go with %s", p, e.Protocols[0])
			}
		}
	}
	if e.StripPath && slices.ContainsFunc(e.Protocols, isGRPC) {
		c.fault("strip_path", "cannot set 'strip_path' when 'protocols' is 'grpc' or 'grpcs'")
	}
	if e.Expression != "" {
		return
	}
	c.attributes(e)
}

func isProtocol(p string) bool {
	return slices.ContainsFunc(protocolSets, func(set []string) bool { return slices.Contains(set, p) })
}

// attributes checks that the route says what it matches, and nothing its protocols lack.
func (c checker) attributes(e *Route) {
	has := map[string]bool{
		"methods": len(e.Methods) > 0, "hosts": len(e.Hosts) > 0, "headers": len(e.Headers) > 0, "paths": len(e.Paths) > 0,
		"snis": len(e.SNIs) > 0, "sources": len(e.Sources) > 0, "destinations": len(e.Destinations) > 0,
	}
	var needed []string
	needsTLS := false
	for _, p := range e.Protocols {
		switch p {
		case "http", "ws":
			needed = append(needed, "methods", "hosts", "headers", "paths")
		case "https", "wss":
			needed = append(needed, "methods", "hosts", "headers", "paths", "snis")
			needsTLS = true
		case "grpc":
			needed = append(needed, "hosts", "headers", "paths")
		case "grpcs":
			needed = append(needed, "hosts", "headers", "paths", "snis")
			needsTLS = true
		case "tcp", "udp":
			needed = append(needed, "sources", "destinations")
		case "tls":
			needed = append(needed, "sources", "destinations", "snis")
			needsTLS = true
		case "tls_passthrough":
			needed = append(needed, "snis")
			needsTLS = true
		}
	}
	needed = distinctTexts(needed)
	if len(needed) > 0 && !slices.ContainsFunc(needed, func(f string) bool { return has[f] }) {
		c.fault("", "must set one of '%s' when 'protocols' is '%s'", strings.Join(needed, "', '"), strings.Join(e.Protocols, "', '"))
	}
	if has["snis"] && !needsTLS {
		c.fault("snis", "'snis' can only be set when 'protocols' is 'grpcs', 'https', 'tls', 'tls_passthrough' or 'wss'")
	}
	isWebSocket := !slices.ContainsFunc(e.Protocols, func(p string) bool { return p != "ws" && p != "wss" })
	if isWebSocket && has["methods"] && !slices.Contains(e.Methods, "GET") {
		c.warn("methods", "the route takes only WebSocket handshakes, which have the method GET: no request can match")
	}
	isStream := slices.ContainsFunc(e.Protocols, func(p string) bool { return strings.HasPrefix(p, "t") || p == "udp" })
	for _, f := range []string{"methods", "hosts", "headers", "paths"} {
		if isStream && has[f] {
			c.fault(f, "cannot set '%s' when 'protocols' is '%s'", f, strings.Join(e.Protocols, "', '"))
		}
	}
	for _, f := range []string{"sources", "destinations"} {
		if !isStream && has[f] {
			c.fault(f, "cannot set '%s' when 'protocols' is '%s'", f, strings.Join(e.Protocols, "', '"))
		}
	}
}

func distinctTexts(texts []string) []string {
	var out []string
	for _, t := range texts {
		out = appendMissing(out, t)
	}
	return out
}

func (c checker) path(path, text string) {
	switch {
	case strings.HasPrefix(text, "~/"):
		if message := regexFault(text[1:]); message != "" {
			c.fault(path, "invalid regex: '%s': %s", text[1:], message)
		}
	case !strings.HasPrefix(text, "/"):
		c.fault(path, "should start with: / (fixed path) or ~/ (regex path)")
	case strings.Contains(text, "//"):
		c.fault(path, "must not have empty segments")
	default:
		c.fixedPath(path, text)
	}
}

// fixedPath asks for the form requests are compared in (RFC 3986, section 6.2.2).
func (c checker) fixedPath(path, text string) {
	const reserved = "!$&'()*+,;=:@/"
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch ch := text[i]; {
		case ch == '%':
			if i+2 >= len(text) || !isHex(text[i+1]) || !isHex(text[i+2]) {
				c.fault(path, "invalid url-encoded value: '%s'", text[i:min(len(text), i+3)])
				return
			}
			decoded := unhex(text[i+1])<<4 | unhex(text[i+2])
			if isNameRune(rune(decoded)) && decoded < 0x80 {
				b.WriteByte(decoded)
			} else {
				b.WriteString(strings.ToUpper(text[i : i+3]))
			}
			i += 2
		case ch < 0x80 && isNameRune(rune(ch)) || strings.IndexByte(reserved, ch) >= 0:
			b.WriteByte(ch)
		default:
			c.fault(path, "invalid path: '%s' (characters outside of the reserved list of RFC 3986 found)", text)
			return
		}
	}
	if normal := withoutDots(b.String()); normal != text {
		c.fault(path, "non-normalized path, consider use '%s' instead", normal)
	}
}

// withoutDots removes . and .. segments (RFC 3986, section 5.2.4).
func withoutDots(path string) string {
	if !strings.Contains(path, "/.") {
		return path
	}
	var out []string
	segments := strings.Split(path, "/")[1:]
	for i, s := range segments {
		switch s {
		case ".", "..":
			if s == ".." && len(out) > 0 {
				out = out[:len(out)-1]
			}
			if i == len(segments)-1 {
				out = append(out, "")
			}
		default:
			out = append(out, s)
		}
	}
	return "/" + strings.Join(out, "/")
}

func isHex(b byte) bool { return b >= '0' && b <= '9' || b|0x20 >= 'a' && b|0x20 <= 'f' }

func unhex(b byte) byte {
	if b <= '9' {
		return b - '0'
	}
	return b | 0x20 - 'a' + 10
}

func (c checker) header(name string, values []string) {
	path := "headers." + name
	if strings.EqualFold(name, "host") {
		c.fault(path, "cannot contain 'host' header, which must be specified in the 'hosts' attribute")
	}
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return !isTokenRune(r) }) {
		c.fault(path, "'%s' is not a valid header name", name)
	}
	if len(values) == 0 {
		c.fault(path, "length must be at least 1")
	}
	for i, v := range values {
		if pattern, is := strings.CutPrefix(v, "~*"); is {
			if message := regexFault(pattern); message != "" {
				c.fault(fmt.Sprintf("%s[%d]", path, i), "invalid regex: '%s': %s", pattern, message)
			}
		}
	}
}

// isTokenRune is a character of an HTTP field name (RFC 9110, section 5.6.2).
func isTokenRune(r rune) bool {
	return r < 0x80 && (isNameRune(r) || strings.ContainsRune("!#$%&'*+^`|", r))
}

func (c checker) endpoints(field string, list []Endpoint) {
	for i, e := range list {
		path := fmt.Sprintf("%s[%d]", field, i)
		if e.IP == "" && e.Port == 0 {
			c.fault(path, "at least one of these fields must be non-empty: 'ip', 'port'")
		}
		if e.IP == "" {
			continue
		}
		if _, err := netip.ParsePrefix(e.IP); err != nil && !isIP(e.IP) {
			c.fault(path+".ip", "invalid ip or cidr range: '%s'", e.IP)
		}
	}
}

func (c checker) expression(e *Route) {
	flavor := c.r.doc.Gateway.RouterFlavor
	if e.Expression == "" {
		if e.Priority != 0 && flavor != "expressions" {
			c.fault("priority", "needs an expression")
		}
		return
	}
	if flavor != "expressions" {
		c.fault("expression", "needs gateway.router_flavor: expressions, which is %s", flavor)
	}
	for _, f := range []struct {
		name string
		used bool
	}{
		{"methods", len(e.Methods) > 0}, {"hosts", len(e.Hosts) > 0}, {"paths", len(e.Paths) > 0},
		{"headers", len(e.Headers) > 0}, {"snis", len(e.SNIs) > 0},
	} {
		if f.used {
			c.fault(f.name, "cannot be set together with expression")
		}
	}
}
