package template

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/engine/pipeline"
	"github.com/sluice-gateway/sluice/engine/template/form"
)

// Template is a compiled text. The zero value renders nothing. Immutable, safe
// for concurrent use.
type Template struct {
	parts   []node // rendered one after the other
	literal bool
}

// node is one expression. Which fields count depends on op.
type node struct {
	op   op
	text string // literal, or the name as it is looked up
	key  []byte // header name in canonical form
	alt  []byte // header name with hyphens for underscores, nil if the same
	args []node // operands
}

type op uint8

const (
	opNil op = iota
	opText
	opOr
	opAnd
	opConcat
	opHeader
	opQuery
	opCapture
	opName // capture, else query argument
	opUUID
	opTimestamp
	opRequestID
	opConsumerID
	opConsumerUsername
	opConsumerCustomID
	opConsumerGroups
	opCredentialID
	opCredentialKey
	opCredentialScope
	opRemoteAddr
	opUpstreamAddr
	opLatencyRequest
	opLatencyProxy
	opLatencyKong
	opStatus
	opServiceName
	opRouteName
)

// Literal returns the text of t and true if t is the same for every request.
func (t *Template) Literal() (string, bool) {
	if !t.literal {
		return "", false
	}
	if len(t.parts) == 0 {
		return "", true
	}
	return t.parts[0].text, true
}

// Mentions reports whether the literal parts of t hold any of chars.
func (t *Template) Mentions(chars string) bool {
	for i := range t.parts {
		if t.parts[i].op == opText && strings.ContainsAny(t.parts[i].text, chars) {
			return true
		}
	}
	return false
}

// Append renders t for x onto dst and returns the extended slice. The result is
// not escaped: what it may hold depends on the request. It allocates nothing
// while dst has room, save for captures (see the package comment).
func (t *Template) Append(dst []byte, x *pipeline.Exchange) []byte {
	for i := range t.parts {
		dst, _ = t.parts[i].append(dst, x)
	}
	return dst
}

// append renders n and reports whether its value is true in Lua's sense. What is
// untrue appends nothing.
func (n *node) append(dst []byte, x *pipeline.Exchange) ([]byte, bool) {
	mark := len(dst)
	switch n.op {
	case opText:
		return append(dst, n.text...), true
	case opOr:
		for i := range n.args {
			var ok bool
			if dst, ok = n.args[i].append(dst[:mark], x); ok {
				return dst, true
			}
		}
		return dst[:mark], false
	case opAnd:
		for i := range n.args {
			var ok bool
			if dst, ok = n.args[i].append(dst[:mark], x); !ok {
				return dst[:mark], false
			}
		}
		return dst, true
	case opConcat:
		for i := range n.args {
			dst, _ = n.args[i].append(dst, x)
		}
		return dst, true
	case opHeader:
		v := x.Ctx.Request.Header.PeekCanonical(n.key)
		if v == nil && n.alt != nil {
			v = x.Ctx.Request.Header.PeekCanonical(n.alt)
		}
		return append(dst, v...), v != nil
	case opQuery:
		return form.AppendValue(dst, x.Query, n.text)
	case opCapture:
		v := x.Capture(n.text)
		return append(dst, v...), v != nil
	case opName:
		if v := x.Capture(n.text); v != nil {
			return append(dst, v...), true
		}
		return form.AppendValue(dst, x.Query, n.text)
	case opNil:
		return dst, false
	}
	dst = n.appendFact(dst, x)
	return dst, len(dst) > mark
}

// appendFact renders a fact of the exchange; one that is absent appends nothing.
func (n *node) appendFact(dst []byte, x *pipeline.Exchange) []byte {
	switch n.op {
	case opUUID:
		return appendUUID(dst)
	case opTimestamp:
		return time.UnixMilli(x.WallMillis()).UTC().AppendFormat(dst, time.RFC3339)
	case opRequestID:
		return append(dst, x.RequestID[:]...)
	case opRemoteAddr:
		return x.AppendClientIP(dst)
	case opUpstreamAddr:
		return append(dst, x.Target...)
	case opStatus:
		if x.Answered() {
			return strconv.AppendInt(dst, int64(x.Ctx.Response.StatusCode()), 10)
		}
	case opServiceName:
		if x.Service != nil {
			return append(dst, x.Service.Name...)
		}
	case opRouteName:
		if x.Route != nil {
			return append(dst, x.Route.Name...)
		}
	case opLatencyRequest, opLatencyProxy, opLatencyKong:
		return n.appendLatency(dst, x)
	default:
		return n.appendCaller(dst, x)
	}
	return dst
}

func (n *node) appendCaller(dst []byte, x *pipeline.Exchange) []byte {
	if c := x.Consumer; c != nil {
		switch n.op {
		case opConsumerID:
			return append(dst, c.ID...)
		case opConsumerUsername:
			return append(dst, c.Username...)
		case opConsumerCustomID:
			return append(dst, c.CustomID...)
		case opConsumerGroups:
			for i, g := range c.Groups {
				if i > 0 {
					dst = append(dst, ',')
				}
				dst = append(dst, g.Name...)
			}
			return dst
		}
	}
	if c := x.Credential; c != nil {
		switch n.op {
		case opCredentialID:
			return append(dst, c.ID...)
		case opCredentialKey:
			return append(dst, c.Identifier...)
		case opCredentialScope:
			return append(dst, c.Scope...)
		}
	}
	return dst
}

// appendLatency follows Kong's log record: what the gateway took is the time
// until the service was called, or the whole time if it never was.
func (n *node) appendLatency(dst []byte, x *pipeline.Exchange) []byte {
	end := x.End
	if end == 0 {
		end = pipeline.Now()
	}
	var ns int64
	switch {
	case n.op == opLatencyProxy:
		if x.UpstreamStart == 0 || x.UpstreamHeaders == 0 {
			return dst
		}
		ns = x.UpstreamHeaders - x.UpstreamStart
	case n.op == opLatencyKong && x.UpstreamStart > 0:
		ns = x.UpstreamStart - x.Start
	default:
		ns = end - x.Start
	}
	return strconv.AppendInt(dst, max(ns, 0)/int64(time.Millisecond), 10)
}

const hexDigits = "0123456789abcdef"

// appendUUID appends a random UUID (RFC 9562, version 4). The generator is the
// runtime's ChaCha8, one state a thread: no lock, no system call.
func appendUUID(dst []byte) []byte {
	hi, lo := rand.Uint64(), rand.Uint64()
	hi = hi&^0xf000 | 0x4000
	lo = lo&^(0xc<<60) | 0x8<<60
	for i := range 32 {
		if i == 8 || i == 12 || i == 16 || i == 20 {
			dst = append(dst, '-')
		}
		half := hi
		if i >= 16 {
			half = lo
		}
		dst = append(dst, hexDigits[half>>(60-4*(i%16))&0xf])
	}
	return dst
}
