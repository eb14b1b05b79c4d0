package trial

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/sluice-gateway/sluice/engine/config"
)

// Redirection is what a trial changes of a document so that it runs on loopback, with
// one service in place of all. Notes say so in words, for the report.
type Redirection struct {
	Notes     []string
	addresses map[string]bool // of services, host:port as the gateway dials them
	service   string
}

// Redirect changes d, which nobody else may be using: its listeners become one plain
// listener on a free loopback port, Admin and status go, services are spoken to without
// TLS, routes for https alone take http too, and health checks take nothing out. What
// d's services and targets are called stays, so balancing does what it would. The
// service is the address that Dial connects to in place of theirs.
func Redirect(d *config.Document, service string) *Redirection {
	r := &Redirection{addresses: map[string]bool{}, service: service}
	g := &d.Gateway
	if slices.ContainsFunc(g.ProxyListen, func(l config.Listener) bool { return l.SSL || l.ProxyProtocol }) {
		r.note("clients connect without TLS and PROXY protocol, whatever proxy_listen says")
	}
	g.ProxyListen = config.Listeners{{Host: "127.0.0.1"}}
	g.AdminListen, g.StatusListen = config.Listeners{}, config.Listeners{}
	r.services(d)
	r.upstreams(d)
	r.routes(d)
	r.canaries(d)
	return r
}

func (r *Redirection) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

// insecure are the protocols of services that are spoken to without TLS instead.
var insecure = map[string]string{"https": "http", "wss": "ws", "grpcs": "grpc", "tls": "tcp"}

func (r *Redirection) services(d *config.Document) {
	secure := 0
	for i, old := range d.Services {
		s := *old
		if p, ok := insecure[s.Protocol]; ok {
			s.Protocol, s.ClientCertificate = p, ""
			secure++
		}
		d.Services[i] = &s
		r.addresses[net.JoinHostPort(s.Host, strconv.Itoa(s.Port))] = true
	}
	if secure > 0 {
		r.note("%s with TLS are spoken to without it", plural(secure, "service"))
	}
}

// neverOut is a number of failures in a row that no trial reaches. The checks go on, as
// they cost what they cost.
const neverOut = 1 << 24

func (r *Redirection) upstreams(d *config.Document) {
	probed, watched := 0, 0
	for i, old := range d.Upstreams {
		u := *old
		a, p := &u.Healthchecks.Active, &u.Healthchecks.Passive.Unhealthy
		if a.Healthy.Interval > 0 || a.Unhealthy.Interval > 0 {
			a.Healthy.Interval, a.Unhealthy.Interval = 0, 0
			probed++
		}
		for _, n := range []*int{&p.HTTPFailures, &p.TCPFailures, &p.Timeouts} {
			if *n > 0 {
				*n = neverOut
			}
		}
		if p.HTTPFailures+p.TCPFailures+p.Timeouts > 0 {
			watched++
		}
		d.Upstreams[i] = &u
	}
	for _, t := range d.Targets {
		r.addresses[t.Target] = true
	}
	if probed > 0 {
		r.note("active health checks of %s are off", plural(probed, "upstream"))
	}
	if watched > 0 {
		r.note("passive health checks of %s take nothing out", plural(watched, "upstream"))
	}
}

func (r *Redirection) routes(d *config.Document) {
	changed := 0
	for i, old := range d.Routes {
		if slices.Contains(old.Protocols, "http") || !slices.Contains(old.Protocols, "https") {
			continue
		}
		route := *old
		route.Protocols = append(slices.Clone(old.Protocols), "http")
		d.Routes[i] = &route
		changed++
	}
	if changed > 0 {
		r.note("%s for https alone take http too", plural(changed, "route"))
	}
}

// canaries adds the hosts and ports that plugins lead requests to, each with those of
// every service, since either is the service's where the plugin does not say.
func (r *Redirection) canaries(d *config.Document) {
	for _, p := range d.Plugins {
		host, port := p.Config.Get("upstream_host"), p.Config.Get("upstream_port")
		if host.IsNull() && port.IsNull() {
			continue
		}
		for _, s := range d.Services {
			h, n := s.Host, strconv.Itoa(s.Port)
			if !host.IsNull() {
				h = host.Value
			}
			if v, ok := port.Int(); ok {
				n = strconv.FormatInt(v, 10)
			}
			r.addresses[net.JoinHostPort(h, n)] = true
		}
	}
}

// Dial connects to the trial's service where address is one of the document's, without
// resolving it, and to address itself elsewhere: Redis stays what the document says. It
// is safe for concurrent use.
func (r *Redirection) Dial(ctx context.Context, address string) (net.Conn, error) {
	if r.addresses[address] {
		address = r.service
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", address)
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
