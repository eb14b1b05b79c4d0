package main

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/sluice-gateway/sluice/engine/config"
)

// gap is one kind of thing a document may ask for and this build does not do.
type gap struct {
	what  string // a sentence about the kind, in the plural
	count int
	first string
	at    config.Pos
}

// meet counts one more of the kind.
func (g *gap) meet(name, id string, at config.Pos) {
	if g.count == 0 {
		g.first, g.at = cmp.Or(name, id), at
	}
	g.count++
}

// limits returns what d asks for and this build leaves out: a warning a kind,
// with how many there are and the first of them, at its place.
func limits(d *config.Document) config.Faults {
	var warnings config.Faults
	for _, g := range slices.Concat(routeGaps(d), serviceGaps(d), pluginGaps(d)) {
		if g.count == 0 {
			continue
		}
		warnings = append(warnings, config.Fault{
			File: g.at.File, Line: g.at.Line, Col: g.at.Col, Warning: true,
			Message: fmt.Sprintf("%s (%d, first %q)", g.what, g.count, g.first),
		})
	}
	if len(d.Gateway.StreamListen) > 0 {
		warnings = append(warnings, config.Fault{
			Path: "gateway.stream_listen", Warning: true, Message: "not opened: streams are not proxied yet",
		})
	}
	return warnings
}

// isHTTP also takes the protocols of WebSocket: they are HTTP with an Upgrade.
func isHTTP(protocol string) bool {
	return protocol == "http" || protocol == "https" || protocol == "ws" || protocol == "wss"
}

func isGRPC(protocol string) bool { return protocol == "grpc" || protocol == "grpcs" }

func routeGaps(d *config.Document) []gap {
	stream := gap{what: "routes that take only tcp, tls or udp are not served yet"}
	grpc := gap{what: "routes that take only grpc serve HTTP/1.1: gRPC is not served yet"}
	for _, r := range d.Routes {
		switch {
		case slices.ContainsFunc(r.Protocols, isHTTP):
		case slices.ContainsFunc(r.Protocols, isGRPC):
			grpc.meet(r.Name, r.ID, r.Pos)
		default:
			stream.meet(r.Name, r.ID, r.Pos)
		}
	}
	return []gap{stream, grpc}
}

func serviceGaps(d *config.Document) []gap {
	other := gap{what: "services of protocol tcp, tls or udp are spoken to by HTTP/1.1: theirs is not spoken yet"}
	grpc := gap{what: "services of protocol grpc are spoken to by HTTP/1.1: gRPC is not spoken yet"}
	for _, s := range d.Services {
		switch {
		case !s.Enabled, isHTTP(s.Protocol):
		case isGRPC(s.Protocol):
			grpc.meet(s.Name, s.ID, s.Pos)
		default:
			other.meet(s.Name, s.ID, s.Pos)
		}
	}
	return []gap{other, grpc}
}

func pluginGaps(d *config.Document) []gap {
	ordering := gap{what: "ordering of plugins is not followed yet: they run in the built-in order"}
	for _, p := range d.Plugins {
		if p.Enabled && !p.Ordering.IsNull() {
			ordering.meet(p.Name, p.ID, p.Pos)
		}
	}
	return []gap{ordering}
}
