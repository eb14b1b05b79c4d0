package admin

import (
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/valyala/fasthttp"
)

// refusalOf returns why a request to the Admin listener is not heard, or "".
//
// A browser on the operator's machine reaches loopback on behalf of any page it
// shows. Two rules keep such pages out: a request over loopback must name a
// loopback host, so that a name that was made to resolve to 127.0.0.1 (DNS
// rebinding) gets nothing; and what a browser marks as coming from another
// origin is refused, whatever listener it reached. Programs send neither
// Origin nor a foreign Host and notice nothing.
func refusalOf(ctx *fasthttp.RequestCtx) string {
	h := &ctx.Request.Header
	if isLoopback(ctx.LocalAddr()) && !namesLoopback(string(h.Host())) {
		return "Host must be a loopback name or address: the Admin API was reached over loopback"
	}
	if site := string(h.Peek("Sec-Fetch-Site")); site == "cross-site" || site == "same-site" {
		return "requests from other origins are refused"
	}
	if origin := h.Peek("Origin"); len(origin) > 0 && !sameOrigin(string(origin), string(h.Host())) {
		return "requests from other origins are refused"
	}
	return ""
}

func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// namesLoopback reports whether a Host field, perhaps with a port, is localhost
// or a loopback address.
func namesLoopback(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if strings.EqualFold(strings.TrimSuffix(name, "."), "localhost") {
		return true
	}
	a, err := netip.ParseAddr(name)
	return err == nil && a.Unmap().IsLoopback()
}

// sameOrigin reports whether an Origin field names the host the request was
// sent to. "null", which sandboxed pages send, is nobody's origin.
func sameOrigin(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, host)
}
