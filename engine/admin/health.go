package admin

import (
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/sluice-gateway/sluice/engine/config"
)

// Fleet is what services lead to: the addresses of upstreams and what is known of
// them. Its methods must be safe for concurrent use.
type Fleet interface {
	// Addresses lists the addresses of an upstream and reports whether it is
	// healthy; known is false where no service uses it.
	Addresses(upstream string) (list []Address, healthy, known bool)
	// SetHealth puts the addresses of a target in or out by hand, or only one of
	// them, and reports whether there is any.
	SetHealth(upstream, target, only string, healthy bool) bool
	// Reports are what kept values tell of themselves, by name.
	Reports(kind string) map[string]any
}

// Address is one address of a target.
type Address struct {
	Target  string // host:port as in the document
	Address string // ip:port, or the target where no address is known
	State   string // healthchecks_off, healthy, unhealthy or dns_error
	Weight  int

	Circuit     string // closed, open or half_open
	InFlight    int64
	Connections int64
}

const (
	upstreamsPath       = "/upstreams/"
	statusUpstreamsPath = "/status/upstreams"
	statusCanariesPath  = "/status/canaries"
	statusQuotasPath    = "/status/quotas"
)

// targetFacts are one target of GET /upstreams/x/health.
type targetFacts struct {
	ID       string         `json:"id"`
	Target   string         `json:"target"`
	Weight   int            `json:"weight"`
	Tags     []string       `json:"tags"`
	Upstream map[string]any `json:"upstream"`
	Health   string         `json:"health"`
	Data     targetData     `json:"data"`
}

type targetData struct {
	Host       string         `json:"host"`
	Port       int            `json:"port"`
	NodeWeight int            `json:"nodeWeight"`
	Weight     weightFacts    `json:"weight"`
	Addresses  []addressFacts `json:"addresses"`
}

type weightFacts struct {
	Total       int `json:"total"`
	Available   int `json:"available"`
	Unavailable int `json:"unavailable"`
}

// addressFacts are Kong's, and three members of ours.
type addressFacts struct {
	IP     string `json:"ip"`
	Port   int    `json:"port"`
	Weight int    `json:"weight"`
	Health string `json:"health"`

	Circuit     string `json:"circuit"`
	InFlight    int64  `json:"in_flight"`
	Connections int64  `json:"connections"`
}

// upstreams answers what lies below /upstreams/: the health of one, and on the Admin
// listener the switches of its targets.
func (a *API) upstreams(ctx *fasthttp.RequestCtx) {
	parts := strings.Split(strings.Trim(strings.TrimPrefix(string(ctx.Request.URI().PathOriginal()), upstreamsPath), "/"), "/")
	for i, p := range parts {
		if text, err := url.PathUnescape(p); err == nil {
			parts[i] = text
		}
	}
	d := a.Gateway.Document()
	u := upstreamOf(d, parts[0])
	switch {
	case u != nil && len(parts) == 2 && parts[1] == "health" && ctx.IsGet():
		a.getHealth(ctx, d, u)
	case u != nil && len(parts) >= 4 && parts[1] == "targets" && ctx.IsPut():
		a.putHealth(ctx, d, u, parts[2:])
	case u != nil && (len(parts) == 2 && parts[1] == "health" || len(parts) >= 4 && parts[1] == "targets"):
		message(ctx, fasthttp.StatusMethodNotAllowed, "Method not allowed")
	default:
		message(ctx, fasthttp.StatusNotFound, "Not found")
	}
}

// health is upstreams on the status listener, which only tells.
func (a *API) health(ctx *fasthttp.RequestCtx) {
	if !ctx.IsGet() {
		message(ctx, fasthttp.StatusMethodNotAllowed, "Method not allowed")
		return
	}
	a.upstreams(ctx)
}

func upstreamOf(d *config.Document, key string) *config.Upstream {
	for _, u := range d.Upstreams {
		if u.Name == key || u.ID == key {
			return u
		}
	}
	return nil
}

// getHealth is GET /upstreams/x/health. Kong: with balancer_health=1 the upstream as a
// whole, else its targets.
func (a *API) getHealth(ctx *fasthttp.RequestCtx, d *config.Document, u *config.Upstream) {
	list, healthy, known := a.Fleet.Addresses(u.Name)
	if isTrue(ctx.QueryArgs().Peek("balancer_health")) {
		text := "HEALTHY"
		switch {
		case !checksHealth(u):
			text = "HEALTHCHECKS_OFF"
		case known && !healthy:
			text = "UNHEALTHY"
		}
		answer(ctx, fasthttp.StatusOK, map[string]any{"data": map[string]any{
			"id": u.ID, "health": text, "balancer_health": text, "details": weigh(list),
		}, "node_id": a.Observer.Identity()})
		return
	}
	targets := []targetFacts{}
	for _, t := range d.Targets {
		if t.Upstream == u.ID {
			targets = append(targets, factsOf(u, t, list))
		}
	}
	answer(ctx, fasthttp.StatusOK, map[string]any{"data": targets, "next": nil, "node_id": a.Observer.Identity()})
}

func factsOf(u *config.Upstream, t *config.Target, list []Address) targetFacts {
	f := targetFacts{
		ID: t.ID, Target: t.Target, Weight: t.Weight, Tags: t.Tags, Upstream: map[string]any{"id": u.ID},
		Health: "HEALTHCHECKS_OFF", Data: targetData{NodeWeight: t.Weight, Addresses: []addressFacts{}},
	}
	f.Data.Host, f.Data.Port = split(t.Target)
	var own []Address
	for _, x := range list {
		if x.Target == t.Target {
			own = append(own, x)
		}
	}
	f.Data.Weight = weigh(own)
	for _, x := range own {
		if x.State == "dns_error" {
			f.Health = "DNS_ERROR"
			continue
		}
		one := addressFacts{
			Weight: x.Weight, Health: strings.ToUpper(x.State), Circuit: x.Circuit, InFlight: x.InFlight, Connections: x.Connections,
		}
		one.IP, one.Port = split(x.Address)
		f.Data.Addresses = append(f.Data.Addresses, one)
		// Kong: a target is healthy if one of its addresses is.
		if f.Health == "HEALTHCHECKS_OFF" || one.Health == "HEALTHY" {
			f.Health = one.Health
		}
	}
	return f
}

func split(address string) (host string, port int) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return address, 0
	}
	port, err = strconv.Atoi(text)
	if err != nil {
		return address, 0
	}
	return host, port
}

// weigh adds up weights. What nothing checks is available.
func weigh(list []Address) weightFacts {
	var w weightFacts
	for _, x := range list {
		w.Total += x.Weight
		if x.State == "healthy" || x.State == "healthchecks_off" {
			w.Available += x.Weight
		}
	}
	w.Unavailable = w.Total - w.Available
	return w
}

// checksHealth reports whether anything decides about the targets of u.
func checksHealth(u *config.Upstream) bool {
	a, p := &u.Healthchecks.Active, &u.Healthchecks.Passive.Unhealthy
	return a.Healthy.Interval > 0 || a.Unhealthy.Interval > 0 || p.TCPFailures > 0 || p.HTTPFailures > 0 || p.Timeouts > 0 ||
		u.CircuitBreaker.Enabled()
}

// putHealth is PUT /upstreams/x/targets/{target}[/{address}]/healthy or /unhealthy.
// Kong: 204; the counters are zeroed, and active checks may change it again.
func (a *API) putHealth(ctx *fasthttp.RequestCtx, d *config.Document, u *config.Upstream, parts []string) {
	verb, target, only := parts[len(parts)-1], parts[0], ""
	if len(parts) == 3 {
		only = parts[1]
	}
	if verb != "healthy" && verb != "unhealthy" || len(parts) > 3 {
		message(ctx, fasthttp.StatusNotFound, "Not found")
		return
	}
	for _, t := range d.Targets {
		if t.Upstream == u.ID && (t.ID == target || t.Target == target) {
			target = t.Target
		}
	}
	if !a.Fleet.SetHealth(u.Name, target, only, verb == "healthy") {
		message(ctx, fasthttp.StatusNotFound, "Not found")
		return
	}
	ctx.SetStatusCode(fasthttp.StatusNoContent)
}

// upstreamFacts are one upstream of GET /status/upstreams.
type upstreamFacts struct {
	Health  string `json:"health"`
	Healthy int    `json:"healthy"` // addresses
	Total   int    `json:"total"`
}

// statusUpstreams is GET /status/upstreams, ours: all upstreams at a glance. 503 while
// one is unhealthy.
func (a *API) statusUpstreams(ctx *fasthttp.RequestCtx) {
	all, status, code := map[string]upstreamFacts{}, "healthy", fasthttp.StatusOK
	for _, u := range a.Gateway.Document().Upstreams {
		list, healthy, known := a.Fleet.Addresses(u.Name)
		if !known {
			continue // no service leads to it
		}
		f := upstreamFacts{Health: "healthy", Total: len(list)}
		for _, x := range list {
			if x.State == "healthy" || x.State == "healthchecks_off" {
				f.Healthy++
			}
		}
		if !healthy {
			f.Health, status, code = "unhealthy", "unhealthy", fasthttp.StatusServiceUnavailable
		}
		all[u.Name] = f
	}
	answer(ctx, code, map[string]any{"status": status, "upstreams": all})
}

// statusCanaries is GET /status/canaries, ours: where each canary stands.
func (a *API) statusCanaries(ctx *fasthttp.RequestCtx) {
	answer(ctx, fasthttp.StatusOK, map[string]any{"canaries": a.Fleet.Reports("canary")})
}

// statusQuotas is GET /status/quotas, ours: what callers have used of their quotas. On
// the Admin listener only, since it names consumers.
func (a *API) statusQuotas(ctx *fasthttp.RequestCtx) {
	answer(ctx, fasthttp.StatusOK, map[string]any{"quotas": a.Fleet.Reports("quota")})
}
