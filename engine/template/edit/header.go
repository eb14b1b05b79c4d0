package edit

import (
	"net/textproto"
	"slices"

	"github.com/valyala/fasthttp"
)

// Header is the header of a request or response of fasthttp.
type Header interface {
	PeekAll(key string) [][]byte
	Del(key string)
	AddBytesV(key string, value []byte)
}

// framing are the fields that say where a message ends: the gateway's own.
var framing = []string{"Content-Length", "Transfer-Encoding"}

// HeaderRules puts checked rules into the form Headers works with: canonical
// names, literals without bytes that end a field, nothing on fields that frame a
// message.
func HeaderRules(rules []Rule) []Rule {
	kept := make([]Rule, 0, len(rules))
	for i := range rules {
		r := rules[i]
		r.Name = textproto.CanonicalMIMEHeaderKey(r.Name)
		if r.slot < 0 {
			r.literal = Clean(r.literal)
			r.to = textproto.CanonicalMIMEHeaderKey(string(r.literal))
		}
		if slices.Contains(framing, r.Name) || r.Op == Rename && slices.Contains(framing, r.to) {
			continue
		}
		kept = append(kept, r)
	}
	return kept
}

// Headers applies rules to h. Values from templates lose bytes that could end a
// field. It allocates nothing, unless a rule names Set-Cookie, Cookie or Trailer,
// of which fasthttp makes one value from several.
func Headers(h Header, rules []Rule, v *Values) {
	for i := range rules {
		r := &rules[i]
		switch r.Op {
		case Remove:
			h.Del(r.Name)
		case Rename:
			rename(h, r, v)
		case Replace:
			if len(h.PeekAll(r.Name)) > 0 {
				h.Del(r.Name)
				h.AddBytesV(r.Name, v.Safe(r))
			}
		case Add:
			if len(h.PeekAll(r.Name)) == 0 {
				h.AddBytesV(r.Name, v.Safe(r))
			}
		case Append:
			h.AddBytesV(r.Name, v.Safe(r))
		}
	}
}

func rename(h Header, r *Rule, v *Values) {
	if len(h.PeekAll(r.Name)) == 0 {
		return
	}
	name := r.to
	if r.slot >= 0 {
		// Slow path: a new name made from the request is one allocation.
		if name = string(v.Of(r)); !IsToken(name) {
			return
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
	}
	if name == r.Name || slices.Contains(framing, name) || name == fasthttp.HeaderHost {
		return
	}
	// The values are copied first: Del changes the order of what is left, and
	// memory of deleted fields is used for new ones.
	first := len(v.ends)
	v.B = v.B[:0]
	if rh, ok := h.(*fasthttp.ResponseHeader); ok && r.Name == fasthttp.HeaderSetCookie {
		for _, value := range rh.Cookies() {
			v.copy(value)
		}
	} else {
		for _, value := range h.PeekAll(r.Name) {
			v.copy(value)
		}
	}
	h.Del(r.Name)
	h.Del(name)
	start := 0
	for _, end := range v.ends[first:] {
		h.AddBytesV(name, v.B[start:end])
		start = end
	}
	v.ends = v.ends[:first]
}

// copy puts a value behind those in B and notes its end.
func (v *Values) copy(value []byte) {
	v.B = append(v.B, value...)
	v.ends = append(v.ends, len(v.B))
}

// Safe is Of without bytes that could end a header field, as far as they come
// from the request: a literal is what the operator wrote.
func (v *Values) Safe(r *Rule) []byte {
	if r.slot < 0 {
		return r.literal
	}
	return Clean(v.Of(r))
}

// Clean takes CR, LF and NUL out of b, in place, and returns what is left.
func Clean(b []byte) []byte {
	kept := b[:0]
	for _, c := range b {
		if c != '\r' && c != '\n' && c != 0 {
			kept = append(kept, c)
		}
	}
	return kept
}

// IsToken reports whether s can be the name of a header field (RFC 9110 section 5.6.2).
func IsToken[T string | []byte](s T) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= '0' && c <= '9', c|0x20 >= 'a' && c|0x20 <= 'z':
		case c == '!', c == '#', c == '$', c == '%', c == '&', c == '\'', c == '*', c == '+',
			c == '-', c == '.', c == '^', c == '_', c == '`', c == '|', c == '~':
		default:
			return false
		}
	}
	return len(s) > 0
}
