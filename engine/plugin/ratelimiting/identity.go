package ratelimiting

import (
	"hash/maphash"
	"strconv"
	"strings"
	"unsafe"

	"github.com/sluice-gateway/sluice/engine/pipeline"
)

// kind is what a caller was told apart by. Values of different kinds never share a
// counter: who puts an address in a header spends only his own.
type kind uint8

const (
	byAddress kind = iota
	byConsumer
	byCredential
	byService
	byRoute
	byHeader
	byPath
	byGroup
	kinds
)

var kindNames = [kinds]string{"ip", "consumer", "credential", "service", "route", "header", "path", "consumer-group"}

// part finds one part of an identity. The value is valid until the exchange ends and
// not to be kept; an empty one stands for the client's address.
type part struct {
	kind   kind
	prefix string // of the value in a shared key
	salt   uint64 // parts of one kind that look at different headers differ in it
	value  func(x *pipeline.Exchange) (kind, string)
}

// identifier tells who calls. Immutable, safe for concurrent use.
type identifier struct {
	parts []part
	seeds *[kinds]maphash.Seed
}

func newIdentifier(p *plan, group string, seeds *[kinds]maphash.Seed) identifier {
	id := identifier{seeds: seeds}
	for _, name := range p.identity {
		t := part{}
		switch name {
		case "consumer":
			t.kind, t.value = byConsumer, consumerID
		case "credential":
			t.kind, t.value = byCredential, credentialID
		case "service":
			t.kind, t.value = byService, serviceID
		case "route":
			t.kind, t.value = byRoute, routeID
		case "header":
			header := strings.ToLower(p.header)
			t.kind, t.value, t.prefix = byHeader, headerValue(p.header), header+":"
			t.salt = maphash.String(seeds[byHeader], header)
		case "path":
			t.kind, t.value = byPath, pathOnly(p.path)
		case "consumer-group":
			t.kind, t.value = byGroup, groupID(group)
		}
		id.parts = append(id.parts, t)
	}
	return id
}

// hash is what the request is counted under in this process.
func (id *identifier) hash(x *pipeline.Exchange) uint64 {
	if len(id.parts) == 1 {
		return id.hashPart(&id.parts[0], x)
	}
	var h uint64
	for i := range id.parts {
		h = (h ^ id.hashPart(&id.parts[i], x)) * 0x9e3779b97f4a7c15
		h ^= h >> 32
	}
	return h
}

func (id *identifier) hashPart(t *part, x *pipeline.Exchange) uint64 {
	if t.value != nil {
		if k, v := t.value(x); v != "" {
			h := maphash.String(id.seeds[k], v)
			if k == t.kind {
				h ^= t.salt
			}
			return h
		}
	}
	address := x.ClientIP.As16()
	return maphash.Bytes(id.seeds[byAddress], address[:])
}

// append writes what the request is counted under where other gateways count too: a
// name that is the same on each. Values may hold anything, so that where there are
// several each tells its length, and the whole says that there are.
func (id *identifier) append(dst []byte, x *pipeline.Exchange) []byte {
	if len(id.parts) > 1 {
		dst = append(dst, '+')
	}
	for i := range id.parts {
		if i > 0 {
			dst = append(dst, '/')
		}
		dst = id.parts[i].append(dst, x, len(id.parts) > 1)
	}
	return dst
}

func (t *part) append(dst []byte, x *pipeline.Exchange, several bool) []byte {
	k, v := byAddress, ""
	if t.value != nil {
		k, v = t.value(x)
	}
	if v == "" {
		k = byAddress
		var text [64]byte
		v = view(x.AppendClientIP(text[:0]))
	}
	dst = append(append(dst, kindNames[k]...), ':')
	if k == t.kind {
		dst = append(dst, t.prefix...)
	}
	if several {
		dst = append(strconv.AppendInt(dst, int64(len(v)), 10), ':')
	}
	return append(dst, v...)
}

func consumerID(x *pipeline.Exchange) (kind, string) {
	if x.Consumer != nil {
		return byConsumer, x.Consumer.ID
	}
	return credentialID(x)
}

func credentialID(x *pipeline.Exchange) (kind, string) {
	if x.Credential != nil {
		return byCredential, x.Credential.ID
	}
	return byAddress, ""
}

func serviceID(x *pipeline.Exchange) (kind, string) {
	if x.Service != nil {
		return byService, x.Service.ID
	}
	return byAddress, ""
}

func routeID(x *pipeline.Exchange) (kind, string) {
	if x.Route != nil {
		return byRoute, x.Route.ID
	}
	return byAddress, ""
}

func headerValue(name string) func(*pipeline.Exchange) (kind, string) {
	return func(x *pipeline.Exchange) (kind, string) {
		return byHeader, view(x.Ctx.Request.Header.Peek(name))
	}
}

func pathOnly(path string) func(*pipeline.Exchange) (kind, string) {
	return func(x *pipeline.Exchange) (kind, string) {
		if string(x.Path) == path {
			return byPath, path
		}
		return byAddress, ""
	}
}

// groupID counts by the group the instance is bound to, else by the caller's
// first group by name.
func groupID(group string) func(*pipeline.Exchange) (kind, string) {
	return func(x *pipeline.Exchange) (kind, string) {
		if group != "" {
			return byGroup, group
		}
		if x.Consumer != nil && len(x.Consumer.Groups) > 0 {
			return byGroup, x.Consumer.Groups[0].ID
		}
		return byAddress, ""
	}
}

// view is b as a string without a copy: looked at at once, never kept.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
